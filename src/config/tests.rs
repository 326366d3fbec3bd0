//! Configs of every published kind, and of those that must be refused.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::*;

/// ChatGLM3-6B's, for tests elsewhere.
pub(crate) fn chatglm3_config() -> GlmConfig {
    parse_with("rope_ratio", 1.into()).unwrap()
}

fn chatglm3() -> Map<String, Value> {
    let text = r#"{"_name_or_path": "THUDM/chatglm3-6b", "model_type": "chatglm",
        "add_bias_linear": false, "add_qkv_bias": true, "apply_residual_connection_post_layernorm": false,
        "ffn_hidden_size": 13696, "hidden_size": 4096, "kv_channels": 128, "layernorm_epsilon": 1e-05,
        "multi_query_attention": true, "multi_query_group_num": 2, "num_attention_heads": 32,
        "num_layers": 28, "original_rope": true, "padded_vocab_size": 65024, "post_layer_norm": true,
        "rmsnorm": true, "seq_length": 8192, "tie_word_embeddings": false}"#;
    serde_json::from_str(text).unwrap()
}

fn parse_with(key: &str, value: Value) -> Result<GlmConfig> {
    let mut map = chatglm3();
    map.insert(key.to_owned(), value);
    parse(&Fields { map: &map }).in_file(Path::new("m/config.json"))
}

#[test]
fn chatglm3_is_read() {
    let config = parse_with("rope_ratio", 50.into()).unwrap();
    assert_eq!((config.num_layers, config.num_kv_heads, config.head_dim), (28, 2, 128));
    assert!(config.qkv_bias && !config.qkv_by_head);
    assert_eq!(config.rope_ratio, 50.0);
}

#[test]
fn what_llama_cannot_express_is_refused_by_name() {
    let cases: [(&str, Value); 21] = [
        ("model_type", "llama".into()),
        ("add_bias_linear", true.into()),
        ("rmsnorm", false.into()),
        ("post_layer_norm", false.into()),
        ("apply_residual_connection_post_layernorm", true.into()),
        ("interleaved_qkv", true.into()),
        ("original_rope", false.into()),
        ("rotary_percent", 1.into()),
        ("pre_seq_len", 128.into()),
        ("quantization_bit", 4.into()),
        ("multi_query_group_num", 3.into()),
        ("kv_channels", 126.into()),
        ("num_layers", (-1).into()),
        ("hidden_size", u64::MAX.into()),
        ("rope_ratio", "50".into()),
        ("layernorm_epsilon", 0.into()),
        ("vision_config", json!({"hidden_size": 1792})),
        ("position_encoding_2d", true.into()),
        ("inner_hidden_size", 16384.into()),
        ("quantization_config", json!({"quant_method": "awq"})),
        ("architectures", json!(["Glm4ForCausalLM"])),
    ];
    for (key, value) in cases {
        let error = parse_with(key, value).unwrap_err().to_string();
        let key = if key == "architectures" { "model_type" } else { key };
        assert!(error.starts_with(&format!("m/config.json: {key}: found ")), "{error}");
        assert!(error.contains(", expected "), "{error}");
    }
}

#[test]
fn null_means_the_default() {
    assert_eq!(
        parse_with("pre_seq_len", Value::Null).unwrap(),
        parse_with("quantization_bit", 0.into()).unwrap()
    );
}

fn parse_text(value: Value) -> Result<GlmConfig> {
    let Value::Object(map) = value else { panic!("an object") };
    parse(&Fields { map: &map }).in_file(Path::new("m/config.json"))
}

/// transformers leaves out what its class has by default, which is GLM-4-9B-Chat but for the rope.
#[test]
fn the_transformers_format_is_read_with_its_defaults() {
    let glm4 = parse_text(json!({"model_type": "glm", "architectures": ["GlmForCausalLM"]})).unwrap();
    let sizes = (glm4.num_layers, glm4.hidden_size, glm4.ffn_hidden_size, glm4.padded_vocab_size);
    assert_eq!(sizes, (40, 4096, 13696, 151552));
    assert_eq!((glm4.num_attention_heads, glm4.num_kv_heads, glm4.head_dim), (32, 2, 128));
    assert_eq!((glm4.rotary_dim, glm4.rope_base, glm4.layernorm_epsilon), (64, 10000.0, 1.5625e-7));
    assert!(glm4.qkv_bias && !glm4.tie_word_embeddings);

    let edge = parse_text(json!({
        "architectures": ["GlmForCausalLM"], "attention_bias": false, "tie_word_embeddings": true,
        "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0, "partial_rotary_factor": 1.0},
    }));
    let edge = edge.unwrap();
    assert_eq!((edge.rotary_dim, edge.rope_base), (128, 50000.0));
    assert!(!edge.qkv_bias && edge.tie_word_embeddings);
}

#[test]
fn what_llama_cannot_express_of_the_transformers_format_is_refused_by_name() {
    for (key, value, expected) in [
        ("hidden_act", json!("gelu"), "found \"gelu\", expected \"silu\", which Llama has"),
        (
            "vision_config",
            json!({}),
            "found {}, expected a text model: the image encoder has no place in the Llama layout",
        ),
        (
            "partial_rotary_factor",
            json!(0.305),
            "found 0.305, expected from 0 to 1, for an even number of a head's values",
        ),
        ("partial_rotary_factor", json!(0.03125), "found 0.03125, expected one whose base Llama can hold"),
        ("rope_scaling", json!({"rope_type": "yarn"}), "found {\"rope_type\":\"yarn\"}, expected none"),
        ("rope_theta", json!(0), "found 0, expected a number from 1 to 1e12"),
        ("num_key_value_heads", json!(5), "found 5, expected a divisor of num_attention_heads, 32"),
        ("head_dim", json!(65), "found 65, expected an even number: a head is rotated in pairs"),
        ("vocab_size", json!(1 << 24), "found 16777216, expected a whole number from 1 to 262144"),
        ("quantization_config", json!({}), &format!("found one, expected {QUANTIZED}")),
    ] {
        let mut config = json!({"model_type": "glm", "architectures": ["GlmForCausalLM"]});
        config[key] = value;
        assert_eq!(parse_text(config).unwrap_err().to_string(), format!("m/config.json: {key}: {expected}"));
    }
}

#[test]
fn relatives_are_refused_with_the_reason() {
    for (model_type, class, reason) in [
        ("glm4", "Glm4ForCausalLM", "two more norms"),
        ("glm4_moe", "Glm4MoeForCausalLM", "mixture of experts"),
        ("glm4v", "Glm4vForConditionalGeneration", "image encoder"),
        ("glm4v_moe", "Glm4vMoeForConditionalGeneration", "mixture of experts"),
        ("glm46v", "Glm46VForConditionalGeneration", "image encoder"),
        ("glm_moe_dsa", "GlmMoeDsaForCausalLM", "mixture of experts"),
        ("glm", "GLMForConditionalGeneration", "GlmForCausalLM"),
        ("glm", "GlmForSequenceClassification", "GlmForCausalLM"),
        ("llama", "LlamaForCausalLM", "\"chatglm\" or \"glm\": it may be an export of this program already"),
        ("qwen2", "Qwen2ForCausalLM", "\"glm\": llama.cpp's convert_hf_to_gguf.py converts other models"),
    ] {
        let error =
            parse_text(json!({"model_type": model_type, "architectures": [class]})).unwrap_err().to_string();
        assert!(error.starts_with("m/config.json: ") && error.contains(reason), "{model_type}: {error}");
        if reason != "GlmForCausalLM" && !["llama", "qwen2"].contains(&model_type) {
            let error = parse_text(json!({"architectures": [class]})).unwrap_err().to_string();
            assert!(error.contains(reason), "{class}: {error}");
        }
    }
}
