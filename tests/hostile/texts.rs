//! `config.json` and the tokenizer's JSON.

use serde_json::{Value, json};

use super::{refuse, refuse_because_of, repeated};
use crate::support::Checkpoint;

/// A good config with one field changed.
fn config(key: &str, value: Value) -> Vec<u8> {
    let mut config = Checkpoint::tiny().config();
    config[key] = value;
    config.to_string().into_bytes()
}

/// Query, key and value rows grouped by head.
fn by_head(heads: usize, layers: usize) -> Vec<u8> {
    let mut config = Checkpoint { qkv_by_head: true, ..Checkpoint::tiny() }.config();
    config["num_attention_heads"] = json!(heads);
    config["num_layers"] = json!(layers);
    config.to_string().into_bytes()
}

#[test]
fn configs() {
    let cases = vec![
        (vec![], "found 0 bytes, expected JSON: is the file complete?"),
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "found a Git LFS pointer, expected the file itself (fetch it with `git lfs pull`)",
        ),
        (b"\xff\xfe{\0}\0".to_vec(), "is not valid JSON: expected value at line 1 column 1"),
        (b"[]".to_vec(), "found a list, expected a JSON object"),
        (b"{\"model_type\": NaN}".to_vec(), "is not valid JSON: expected value at line 1 column 16"),
        (
            repeated("", "[", 1_000_000, ""),
            "is not valid JSON: recursion limit exceeded at line 1 column 128",
        ),
        (
            repeated("", "{\"a\":", 100_000, ""),
            "is not valid JSON: recursion limit exceeded at line 1 column 636",
        ),
        (repeated("[0", ",0", 524_000, "]"), "found a list, expected a JSON object"),
        (repeated("\"", " ", 1 << 20, "\""), "found over 1048576 bytes, expected no more of such a file"),
        (
            config("num_layers", json!(u64::MAX)),
            "num_layers: found 18446744073709551615, expected a whole number from 1 to 512",
        ),
        (config("num_layers", json!(0)), "num_layers: found 0, expected a whole number from 1 to 512"),
        (config("num_layers", json!(-1)), "num_layers: found -1, expected a whole number from 1 to 512"),
        (config("num_layers", json!(1.5)), "num_layers: found 1.5, expected a whole number from 1 to 512"),
        (
            config("hidden_size", json!(1u64 << 32)),
            "hidden_size: found 4294967296, expected a whole number from 1 to 16777216",
        ),
        (config("num_layers", Value::Null), "num_layers: is missing, expected a whole number from 1 to 512"),
        (
            config("kv_channels", json!(65536)),
            "kv_channels: found 65536, expected a whole number from 1 to 4096",
        ),
        (
            by_head(512, 512),
            "num_attention_heads: found 512 in each of 512 layers, expected at most 16384 in all of them",
        ),
        (by_head(65536, 1), "num_attention_heads: found 65536, expected a whole number from 1 to 512"),
        (
            config("num_attention_heads", json!(7)),
            "multi_query_group_num: found 2, expected a divisor of num_attention_heads, 7",
        ),
        (
            config("padded_vocab_size", json!(1u64 << 24)),
            "padded_vocab_size: found 16777216, expected a whole number from 1 to 262144",
        ),
        (
            config("layernorm_epsilon", json!(1e300)),
            "layernorm_epsilon: found inf, expected a small positive number",
        ),
        (config("rope_ratio", json!(0)), "rope_ratio: found 0, expected a number from 0.001 to 1e9"),
        (
            config("rope_ratio", json!("a".repeat(100_000))),
            "rope_ratio: found \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..., expected a number",
        ),
    ];
    refuse("config.json", cases);
    let at_odds = vec![
        (
            config("num_layers", json!(512)),
            "transformer.encoder.layers.2.input_layernorm.weight: found no such tensor, expected it with shape [256]",
        ),
        (
            config("kv_channels", json!(4096)),
            "transformer.encoder.layers.0.self_attention.query_key_value.weight: found shape [384, 256], expected [49152, 256]",
        ),
        // As many as there may be.
        (
            by_head(32, 512),
            "transformer.encoder.layers.0.self_attention.query_key_value.weight: found shape [384, 256], expected [3072, 256]",
        ),
    ];
    refuse_because_of("config.json", "model.safetensors", at_odds);
}

#[test]
fn tokenizer_configs() {
    let text = |json: Value| json.to_string().into_bytes();
    let token = |id: &str| json!({"added_tokens_decoder": {id: {"content": "x"}}}).to_string().into_bytes();
    let cases = vec![
        (b"{".to_vec(), "is not valid JSON: EOF while parsing an object at line 1 column 1"),
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "found a Git LFS pointer, expected the file itself (fetch it with `git lfs pull`)",
        ),
        (
            repeated("", "[", 1_000_000, ""),
            "is not valid JSON: recursion limit exceeded at line 1 column 128",
        ),
        (
            repeated("{\"chat_template\": \"", " ", 4 << 20, "\"}"),
            "found over 4194304 bytes, expected no more of such a file",
        ),
        (
            text(json!({"chat_template": 1})),
            "chat_template: found a number, expected a text, or a list with one named \"default\"",
        ),
        (text(json!({"added_tokens_decoder": []})), "added_tokens_decoder: found a list, expected an object"),
        (token("-1"), "added_tokens_decoder.-1: found an object, expected a token id with its `content`"),
        (
            token("4294967296"),
            "added_tokens_decoder.4294967296: found an object, expected a token id with its `content`",
        ),
        (
            token("900"),
            "added_tokens_decoder.900: found \"x\", expected [MASK], the token of this id: remove the entry, then the chat works as in training",
        ),
        (
            token("1024"),
            "added_tokens_decoder.1024: found \"x\", expected an id below 1024, the rows of the embedding: remove the entry, which the model cannot read",
        ),
        (
            many_tokens(150_000),
            "added_tokens_decoder: is not what it should be: invalid length 65537, expected an object of at most 65536 different keys at line 1 column 1496241",
        ),
    ];
    refuse("tokenizer_config.json", cases);
}

#[test]
fn other_texts() {
    let text = |text: &str| text.as_bytes().to_vec();
    let cases = vec![
        (
            text("[]"),
            "is no object of texts and their ids: invalid type: sequence, expected an object of at most 65536 different keys at line 1 column 0",
        ),
        (
            text(r#"{"<a>": 920, "<b>": 920}"#),
            "\"<b>\": found id 920, expected an id of its own: \"<a>\" has it too: remove one",
        ),
        (
            text(r#"{"<a>": 907}"#),
            "\"<a>\": found id 907, expected <|assistant|>, the token of this id: remove the entry, then the chat works as in training",
        ),
    ];
    refuse("added_tokens.json", cases);
    refuse(
        "special_tokens_map.json",
        vec![(repeated("[", "0,", 2_000_000, "0]"), "found a list, expected a JSON object")],
    );
    let cases = vec![
        (
            text(r#"{"eos_token_id": [2, 909]}"#),
            "eos_token_id: found 909, which no token has, expected a token's id: name the token in added_tokens_decoder of tokenizer_config.json, or take the id from the list",
        ),
        (text(r#"{"temperature": 1e400}"#), "is not valid JSON: number out of range at line 1 column 21"),
        (
            text(r#"{"eos_token_id": [2, -1]}"#),
            "eos_token_id: found -1, expected a token id or a list of them",
        ),
        (text(r#"{"top_p": "NaN"}"#), "top_p: found \"NaN\", expected a number from 0 to 1"),
    ];
    refuse("generation_config.json", cases);
    refuse("chat_template.jinja", vec![(b"\xff".to_vec(), "is not UTF-8 text")]);
}

/// `added_tokens_decoder` of so many short entries.
fn many_tokens(count: usize) -> Vec<u8> {
    let entries: Vec<String> = (0..count).map(|id| format!("\"{id}\":{{\"content\":\"\"}}")).collect();
    format!("{{\"added_tokens_decoder\":{{{}}}}}", entries.join(",")).into_bytes()
}
