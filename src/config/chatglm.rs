//! The config of the authors' own format: ChatGLM2, ChatGLM3, CodeGeeX2, and GLM-4 as first published.

use serde_json::Value;

use super::fields::{Fields, MAX_CONTEXT, MAX_HEAD_DIM, MAX_HEADS, MAX_LAYERS, MAX_VOCABULARY, MAX_WIDTH};
use super::{GlmConfig, QUANTIZED, TensorNaming};
use crate::error::{Problem, Result};

/// Each head of each layer has a span of rows of its own; a model of 128 heads and 100 layers stays below.
const MAX_HEADS_OF_ALL_LAYERS: usize = 1 << 14;

pub(super) fn parse(fields: &Fields) -> Result<GlmConfig, Problem> {
    for (key, why) in OTHER_MODELS {
        if fields.get(key).is_some_and(|value| value != &Value::Bool(false)) {
            return Err(fields.wrong(key, format_args!("a ChatGLM2, ChatGLM3 or GLM-4: {why}")));
        }
    }
    for (key, default, expected, why) in EXPRESSIBLE {
        if fields.flag(key, default)? != expected {
            let found = !expected;
            return Err(Problem::mismatch(key, found, format_args!("{expected}: {why}")));
        }
    }
    for key in ["pre_seq_len", "quantization_bit"] {
        if fields.count_or(key, 0)? > 0 {
            return Err(fields.wrong(key, refusal(key)));
        }
    }
    let rotary_percent = fields.number_or("rotary_percent", 0.5)?;
    if rotary_percent != 0.5 {
        let expected = "0.5: ChatGLM rotates half of each head";
        return Err(Problem::mismatch("rotary_percent", rotary_percent, expected));
    }

    let num_attention_heads = fields.size("num_attention_heads", MAX_HEADS)?;
    let qkv_by_head = !fields.flag("multi_query_attention", false)?;
    let num_kv_heads = if qkv_by_head {
        num_attention_heads
    } else {
        fields.kv_heads("multi_query_group_num", num_attention_heads, None)?
    };
    let num_layers = fields.size("num_layers", MAX_LAYERS)?;
    if qkv_by_head && num_attention_heads * num_layers > MAX_HEADS_OF_ALL_LAYERS {
        let found = format!("{num_attention_heads} in each of {num_layers} layers");
        let expected = format!("at most {MAX_HEADS_OF_ALL_LAYERS} in all of them");
        return Err(Problem::mismatch("num_attention_heads", found, expected));
    }
    let head_dim = fields.size("kv_channels", MAX_HEAD_DIM)?;
    if !head_dim.is_multiple_of(4) {
        let expected = "a multiple of 4: half of a head is rotated, in pairs";
        return Err(Problem::mismatch("kv_channels", head_dim, expected));
    }
    let rope_ratio = fields.number_or("rope_ratio", 1.0)?;
    if !(1e-3..=1e9).contains(&rope_ratio) {
        return Err(Problem::mismatch("rope_ratio", rope_ratio, "a number from 0.001 to 1e9"));
    }
    Ok(GlmConfig {
        naming: TensorNaming::ChatGlm,
        name_or_path: fields.map.get("_name_or_path").and_then(Value::as_str).unwrap_or("").to_owned(),
        num_layers,
        hidden_size: fields.size("hidden_size", MAX_WIDTH)?,
        ffn_hidden_size: fields.size("ffn_hidden_size", MAX_WIDTH)?,
        num_attention_heads,
        num_kv_heads,
        qkv_by_head,
        head_dim,
        qkv_bias: fields.flag("add_qkv_bias", false)?,
        padded_vocab_size: fields.size("padded_vocab_size", MAX_VOCABULARY)?,
        seq_length: fields.size("seq_length", MAX_CONTEXT)?,
        layernorm_epsilon: fields.epsilon("layernorm_epsilon", 1e-5)?,
        rotary_dim: head_dim / 2,
        rope_base: ROPE_BASE,
        rope_ratio,
        rope_unread: rope_unread(fields, ROPE_BASE * rope_ratio),
        // The authors' model class never ties them, whatever the field says.
        tie_word_embeddings: false,
    })
}

/// The authors' own, which no field changes.
const ROPE_BASE: f64 = 10_000.0;

/// Other models keep their rotation in these fields. A fine-tune whose own code reads them has to say so in the field
/// that is read here.
fn rope_unread(fields: &Fields, taken: f64) -> Vec<String> {
    let warning = |key: &&str| {
        let value = fields.get(key)?;
        let number = value.as_f64().filter(|number| *number > 0.0);
        let kind = value.get("rope_type").or_else(|| value.get("type")).and_then(Value::as_str);
        if number == Some(taken) || kind == Some("default") {
            return None;
        }
        let way_out = match number {
            Some(base) if *key != "rope_scaling" => {
                format!("set \"rope_ratio\": {} in config.json", base / ROPE_BASE)
            }
            _ => "the conversion is of another model, unless \"rope_ratio\" in config.json can say the same"
                .to_owned(),
        };
        let found = fields.text(key);
        Some(format!(
            "config.json has {key} {found}, which the authors' code never reads: base {taken} was taken; if your \
             model's own code reads it, {way_out}"
        ))
    };
    ["rope_theta", "rotary_emb_base", "rope_base", "rope_scaling", "rope_parameters"]
        .iter()
        .filter_map(warning)
        .collect()
}

/// Fields of models that share the name but not the architecture.
const OTHER_MODELS: [(&str, &str); 3] = [
    ("vision_config", "the image encoder of a GLM-4V has no place in the Llama layout"),
    ("position_encoding_2d", "the first ChatGLM-6B numbers positions twice and has layer norms with biases"),
    ("inner_hidden_size", "the first ChatGLM-6B has another network, without a gate"),
];

/// Fields with one value that the Llama layout expresses: key, the authors' default, that value, why.
const EXPRESSIBLE: [(&str, bool, bool, &str); 6] = [
    ("add_bias_linear", false, false, "the Llama layout has no bias on the linear layers"),
    ("rmsnorm", true, true, "the Llama layout has RMS norms only"),
    ("post_layer_norm", true, true, "the Llama layout always has a final norm"),
    ("apply_residual_connection_post_layernorm", false, false, "Llama's residual starts before the norm"),
    ("interleaved_qkv", false, false, "another order of the fused projection's rows"),
    ("original_rope", true, true, "another rotation"),
];

fn refusal(key: &str) -> &'static str {
    match key {
        "pre_seq_len" => {
            "none: P-Tuning v2 adds a trained prefix to every layer's keys and values, \
             which the Llama layout has no place for"
        }
        _ => QUANTIZED,
    }
}
