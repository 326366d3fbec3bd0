//! The config of `GlmForCausalLM` in the transformers library: GLM-4-9B as converted for it, and GLM-Edge.

use serde_json::Value;

use super::fields::{Fields, MAX_CONTEXT, MAX_HEAD_DIM, MAX_HEADS, MAX_LAYERS, MAX_VOCABULARY, MAX_WIDTH};
use super::{GlmConfig, TensorNaming};
use crate::error::{Problem, Result};

/// Defaults are the class's own: transformers leaves out of the file what equals them.
pub(super) fn parse(fields: &Fields) -> Result<GlmConfig, Problem> {
    if fields.get("vision_config").is_some() {
        let expected = "a text model: the image encoder has no place in the Llama layout";
        return Err(fields.wrong("vision_config", expected));
    }
    let act = fields.get("hidden_act").and_then(Value::as_str).unwrap_or("silu");
    if !["silu", "swish"].contains(&act) {
        return Err(fields.wrong("hidden_act", "\"silu\", which Llama has"));
    }

    let num_attention_heads = fields.size_or("num_attention_heads", MAX_HEADS, Some(32))?;
    let num_kv_heads = fields.kv_heads("num_key_value_heads", num_attention_heads, Some(2))?;
    let head_dim = fields.size_or("head_dim", MAX_HEAD_DIM, Some(128))?;
    if !head_dim.is_multiple_of(2) {
        return Err(Problem::mismatch("head_dim", head_dim, "an even number: a head is rotated in pairs"));
    }
    let (rotary_dim, rope_base) = rope(fields, head_dim)?;
    Ok(GlmConfig {
        naming: TensorNaming::Glm,
        name_or_path: fields.get("_name_or_path").and_then(Value::as_str).unwrap_or("").to_owned(),
        num_layers: fields.size_or("num_hidden_layers", MAX_LAYERS, Some(40))?,
        hidden_size: fields.size_or("hidden_size", MAX_WIDTH, Some(4096))?,
        ffn_hidden_size: fields.size_or("intermediate_size", MAX_WIDTH, Some(13696))?,
        num_attention_heads,
        num_kv_heads,
        qkv_by_head: false,
        head_dim,
        qkv_bias: fields.flag("attention_bias", true)?,
        padded_vocab_size: fields.size_or("vocab_size", MAX_VOCABULARY, Some(151_552))?,
        seq_length: fields.size_or("max_position_embeddings", MAX_CONTEXT, Some(131_072))?,
        layernorm_epsilon: fields.epsilon("rms_norm_eps", 1.5625e-7)?,
        rotary_dim,
        rope_base,
        rope_ratio: 1.0,
        rope_unread: Vec::new(),
        tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
    })
}

/// How many values of a head are rotated, and the base; from version 5 on both stand in `rope_parameters`.
fn rope(fields: &Fields, head_dim: usize) -> Result<(usize, f64), Problem> {
    for key in ["rope_scaling", "rope_parameters"] {
        if let Some(value) = fields.get(key) {
            let kind = value.get("rope_type").or_else(|| value.get("type")).and_then(Value::as_str);
            if !value.is_object() || kind.is_some_and(|kind| kind != "default") {
                return Err(fields.wrong(key, "none"));
            }
        }
    }
    let nested = fields.get("rope_parameters").and_then(Value::as_object);
    let nested = nested.map(|map| Fields { map });
    let number = |key, default| match &nested {
        Some(nested) if nested.get(key).is_some() => nested.number_or(key, default),
        _ => fields.number_or(key, default),
    };
    let base = number("rope_theta", 10_000.0)?;
    if !(1.0..=1e12).contains(&base) {
        return Err(Problem::mismatch("rope_theta", base, "a number from 1 to 1e12"));
    }
    let factor = number("partial_rotary_factor", 0.5)?;
    let rotated = head_dim as f64 * factor;
    let pairs = (1..=head_dim / 2).find(|&pairs| 2.0 * pairs as f64 == rotated.trunc());
    let Some(pairs) = pairs.filter(|_| factor <= 1.0) else {
        let expected = "from 0 to 1, for an even number of a head's values";
        return Err(Problem::mismatch("partial_rotary_factor", factor, expected));
    };
    // Llama's base is this one to the power of head_dim / rotary_dim, as a 32-bit float.
    let power = head_dim as f64 / (2 * pairs) as f64;
    if base.powf(power) > 1e37 {
        return Err(Problem::mismatch("partial_rotary_factor", factor, "one whose base Llama can hold"));
    }
    Ok((2 * pairs, base))
}
