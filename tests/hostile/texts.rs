//! `config.json` and the tokenizer's JSON.

use serde_json::{Value, json};

use super::{Case, refuse, repeated};
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
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "config.json: found 0 bytes, expected JSON: is the file complete?"),
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "config.json: found a Git LFS pointer, expected the file itself (fetch it with `git lfs pull`)",
        ),
        (b"\xff\xfe{\0}\0".to_vec(), "config.json: is not valid JSON: expected value at line 1 column 1"),
        (b"[]".to_vec(), "config.json: found a list, expected a JSON object"),
        (
            b"{\"model_type\": NaN}".to_vec(),
            "config.json: is not valid JSON: expected value at line 1 column 16",
        ),
        (
            repeated("", "[", 1_000_000, ""),
            "config.json: is not valid JSON: recursion limit exceeded at line 1 column 128",
        ),
        (
            repeated("", "{\"a\":", 100_000, ""),
            "config.json: is not valid JSON: recursion limit exceeded at line 1 column 636",
        ),
        (repeated("[0", ",0", 524_000, "]"), "config.json: found a list, expected a JSON object"),
        (
            repeated("\"", " ", 1 << 20, "\""),
            "config.json: found over 1048576 bytes, expected no more of such a file",
        ),
        (
            config("num_layers", json!(u64::MAX)),
            "config.json: num_layers: found 18446744073709551615, expected a whole number from 1 to 512",
        ),
        (
            config("num_layers", json!(0)),
            "config.json: num_layers: found 0, expected a whole number from 1 to 512",
        ),
        (
            config("num_layers", json!(-1)),
            "config.json: num_layers: found -1, expected a whole number from 1 to 512",
        ),
        (
            config("num_layers", json!(1.5)),
            "config.json: num_layers: found 1.5, expected a whole number from 1 to 512",
        ),
        (
            config("num_layers", json!(512)),
            "model.safetensors: transformer.encoder.layers.2.input_layernorm.weight: found no such tensor, expected it with shape [256]",
        ),
        (
            config("hidden_size", json!(1u64 << 32)),
            "config.json: hidden_size: found 4294967296, expected a whole number from 1 to 16777216",
        ),
        (
            config("num_layers", Value::Null),
            "config.json: num_layers: is missing, expected a whole number from 1 to 512",
        ),
        (
            config("kv_channels", json!(4096)),
            "model.safetensors: transformer.encoder.layers.0.self_attention.query_key_value.weight: found shape [384, 256], expected [49152, 256]",
        ),
        (
            config("kv_channels", json!(65536)),
            "config.json: kv_channels: found 65536, expected a whole number from 1 to 4096",
        ),
        (
            by_head(512, 512),
            "config.json: num_attention_heads: found 512 in each of 512 layers, expected at most 16384 in all of them",
        ),
        (
            by_head(65536, 1),
            "config.json: num_attention_heads: found 65536, expected a whole number from 1 to 512",
        ),
        // As many as there may be.
        (
            by_head(32, 512),
            "model.safetensors: transformer.encoder.layers.0.self_attention.query_key_value.weight: found shape [384, 256], expected [3072, 256]",
        ),
        (
            config("num_attention_heads", json!(7)),
            "config.json: multi_query_group_num: found 2, expected a divisor of num_attention_heads, 7",
        ),
        (
            config("padded_vocab_size", json!(1u64 << 24)),
            "config.json: padded_vocab_size: found 16777216, expected a whole number from 1 to 262144",
        ),
        (
            config("layernorm_epsilon", json!(1e300)),
            "config.json: layernorm_epsilon: found inf, expected a small positive number",
        ),
        (
            config("rope_ratio", json!(0)),
            "config.json: rope_ratio: found 0, expected a number from 0.001 to 1e9",
        ),
        (
            config("rope_ratio", json!("a".repeat(100_000))),
            "config.json: rope_ratio: found \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..., expected a number",
        ),
    ];
    refuse(cases.into_iter().map(|(bytes, line)| -> Case { ("config.json", bytes, line) }).collect());
}

#[test]
fn tokenizer_configs() {
    let text = |json: Value| json.to_string().into_bytes();
    let token = |id: &str| json!({"added_tokens_decoder": {id: {"content": "x"}}}).to_string().into_bytes();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            b"{".to_vec(),
            "tokenizer_config.json: is not valid JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "tokenizer_config.json: found a Git LFS pointer, expected the file itself (fetch it with `git lfs pull`)",
        ),
        (
            repeated("", "[", 1_000_000, ""),
            "tokenizer_config.json: is not valid JSON: recursion limit exceeded at line 1 column 128",
        ),
        (
            repeated("{\"chat_template\": \"", " ", 4 << 20, "\"}"),
            "tokenizer_config.json: found over 4194304 bytes, expected no more of such a file",
        ),
        (
            text(json!({"chat_template": 1})),
            "tokenizer_config.json: chat_template: found a number, expected a text, or a list with one named \"default\"",
        ),
        (
            text(json!({"added_tokens_decoder": []})),
            "tokenizer_config.json: added_tokens_decoder: found a list, expected an object",
        ),
        (
            token("-1"),
            "tokenizer_config.json: added_tokens_decoder.-1: found an object, expected a token id with its `content`",
        ),
        (
            token("4294967296"),
            "tokenizer_config.json: added_tokens_decoder.4294967296: found an object, expected a token id with its `content`",
        ),
        (
            token("900"),
            "tokenizer_config.json: added_tokens_decoder.900: found \"x\", expected [MASK], the token of this id: remove the entry, then the chat works as in training",
        ),
        (
            token("1024"),
            "tokenizer_config.json: added_tokens_decoder.1024: found \"x\", expected an id below 1024, the rows of the embedding: remove the entry, which the model cannot read",
        ),
        (
            many_tokens(150_000),
            "tokenizer_config.json: added_tokens_decoder: is not what it should be: invalid length 65537, expected an object of at most 65536 different keys at line 1 column 1496241",
        ),
    ];
    refuse(
        cases.into_iter().map(|(bytes, line)| -> Case { ("tokenizer_config.json", bytes, line) }).collect(),
    );
    let generation = |text: &str| text.as_bytes().to_vec();
    refuse(vec![
        (
            "added_tokens.json",
            b"[]".to_vec(),
            "added_tokens.json: is no object of texts and their ids: invalid type: sequence, expected an object of at most 65536 different keys at line 1 column 0",
        ),
        (
            "added_tokens.json",
            br#"{"<a>": 920, "<b>": 920}"#.to_vec(),
            "added_tokens.json: \"<b>\": found id 920, expected an id of its own: \"<a>\" has it too: remove one",
        ),
        (
            "added_tokens.json",
            br#"{"<a>": 907}"#.to_vec(),
            "added_tokens.json: \"<a>\": found id 907, expected <|assistant|>, the token of this id: remove the entry, then the chat works as in training",
        ),
        (
            "special_tokens_map.json",
            repeated("[", "0,", 2_000_000, "0]"),
            "special_tokens_map.json: found a list, expected a JSON object",
        ),
        (
            "generation_config.json",
            generation(r#"{"eos_token_id": [2, 909]}"#),
            "generation_config.json: eos_token_id: found 909, which no token has, expected a token's id: name the token in added_tokens_decoder of tokenizer_config.json, or take the id from the list",
        ),
        (
            "generation_config.json",
            generation(r#"{"temperature": 1e400}"#),
            "generation_config.json: is not valid JSON: number out of range at line 1 column 21",
        ),
        (
            "generation_config.json",
            generation(r#"{"eos_token_id": [2, -1]}"#),
            "generation_config.json: eos_token_id: found -1, expected a token id or a list of them",
        ),
        (
            "generation_config.json",
            generation(r#"{"top_p": "NaN"}"#),
            "generation_config.json: top_p: found \"NaN\", expected a number from 0 to 1",
        ),
        ("chat_template.jinja", b"\xff".to_vec(), "chat_template.jinja: is not UTF-8 text"),
    ]);
}

/// `added_tokens_decoder` of so many short entries.
fn many_tokens(count: usize) -> Vec<u8> {
    let entries: Vec<String> = (0..count).map(|id| format!("\"{id}\":{{\"content\":\"\"}}")).collect();
    format!("{{\"added_tokens_decoder\":{{{}}}}}", entries.join(",")).into_bytes()
}
