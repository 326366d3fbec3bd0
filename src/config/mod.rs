//! `config.json` -> the validated facts of one model of the ChatGLM family.
//!
//! Every field that changes what the model computes is read here, and refused here when the Llama
//! layout has no place for it. Nothing is decided by the folder's name.

mod chatglm;
mod fields;
mod glm;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, InFile, Problem, Result};
use crate::input::{self, read_capped};
pub(crate) use fields::Fields;

/// Which names a checkpoint gives its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorNaming {
    /// The authors' own: `transformer.encoder.layers.0...`, one fused projection.
    ChatGlm,
    /// That of `GlmForCausalLM` in the transformers library: `model.layers.0...`, three projections.
    Glm,
}

/// What `rope_ratio` multiplies; no field of the config tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeRatio {
    /// The frequency base: all models but one.
    Base,
    /// It divides the positions: ChatGLM2-6B-32k.
    Positions,
}

impl fmt::Display for RopeRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RopeRatio::Base => "base",
            RopeRatio::Positions => "positions",
        })
    }
}

/// What the rest of the program needs to know of a model. Field names follow the authors' own format.
#[derive(Clone, Debug, PartialEq)]
pub struct GlmConfig {
    /// The names of its tensors.
    pub naming: TensorNaming,
    /// `_name_or_path`, or empty: users rename models, so it is a hint at most.
    pub name_or_path: String,
    /// Number of transformer blocks.
    pub num_layers: usize,
    /// Width of the residual stream, h.
    pub hidden_size: usize,
    /// Width of the feed-forward network, f, unpadded.
    pub ffn_hidden_size: usize,
    /// Query heads, n.
    pub num_attention_heads: usize,
    /// Key and value heads, g.
    pub num_kv_heads: usize,
    /// Query, key and value rows are grouped by head, `[n, 3, d]` (`multi_query_attention: false`).
    pub qkv_by_head: bool,
    /// Values of one head, d (`kv_channels`).
    pub head_dim: usize,
    /// The fused projection has a bias (`add_qkv_bias`).
    pub qkv_bias: bool,
    /// Rows of the embedding and of the output layer (`padded_vocab_size`).
    pub padded_vocab_size: usize,
    /// Longest context, in tokens (`seq_length`).
    pub seq_length: usize,
    /// The epsilon of every RMS norm.
    pub layernorm_epsilon: f32,
    /// How many of a head's values are rotated, as adjacent pairs; the first ones.
    pub rotary_dim: usize,
    /// The base of the rotation's frequencies, before any `rope_ratio`.
    pub rope_base: f64,
    /// `rope_ratio`, 1 when absent.
    pub rope_ratio: f64,
    /// Warnings of fields that say something else of the rotation, which the authors' code never reads.
    pub rope_unread: Vec<String>,
    /// The embedding serves as the output layer too.
    pub tie_word_embeddings: bool,
}

/// A ChatGLM config has 2 kB: far more is not one, and is not read. Parsed, JSON takes up to 16 times its bytes.
const MAX_BYTES: u64 = 1 << 20;

impl GlmConfig {
    /// Reads `config.json` in the checkpoint's folder.
    ///
    /// # Errors
    /// When it is absent, not a ChatGLM config, or has a field that the Llama layout cannot express.
    pub fn load(folder: &Path) -> Result<GlmConfig> {
        let file = folder.join("config.json");
        let text = match read_capped(&file, MAX_BYTES)? {
            Some(text) => text,
            None => return Err(missing(folder, &file)),
        };
        GlmConfig::parse(&text).in_file(&file)
    }

    /// Reads the bytes of a `config.json`.
    ///
    /// # Errors
    /// When they are no ChatGLM config, or it has a field that the Llama layout cannot express.
    pub fn parse(bytes: &[u8]) -> Result<GlmConfig, Problem> {
        parse(&Fields { map: &input::object(bytes)? })
    }

    /// Whether it is a GLM-Edge: GLM-4 in the transformers layout, but smaller, and without its prefix.
    pub fn is_edge(&self) -> bool {
        self.naming == TensorNaming::Glm && self.hidden_size < 4096
    }
}

fn missing(folder: &Path, file: &Path) -> Error {
    if !input::exists(folder) {
        Error::file(folder, "no such folder, expected one with a ChatGLM checkpoint")
    } else if !input::is_folder(folder) {
        Error::file(folder, "found a file, expected the folder of a ChatGLM checkpoint")
    } else {
        Error::file(file, "not found, expected the folder of a ChatGLM checkpoint")
    }
}

/// Tells the formats apart by what the config says of itself.
fn parse(fields: &Fields) -> Result<GlmConfig, Problem> {
    let model_type = fields.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let classes = fields.classes();
    let any = |is: IsKind| is(model_type) || classes.iter().any(|class| is(class));
    for (other, why) in OTHERS {
        if any(other) {
            let key = if model_type.is_empty() { "architectures" } else { "model_type" };
            return Err(fields.wrong(key, format_args!("a model that Llama can express: {why}")));
        }
    }
    if fields.get("quantization_config").is_some() {
        return Err(Problem::mismatch("quantization_config", "one", QUANTIZED));
    }
    match model_type {
        "chatglm" => chatglm::parse(fields),
        "" if classes.iter().any(|class| class.starts_with("ChatGLM")) => chatglm::parse(fields),
        "glm" | "" if classes.contains(&"GlmForCausalLM") => glm::parse(fields),
        "glm" => Err(fields.wrong("architectures", "GlmForCausalLM")),
        _ => {
            let hint = match model_type {
                "" => "",
                "llama" => ": it may be an export of this program already",
                _ => ": llama.cpp's convert_hf_to_gguf.py converts other models",
            };
            let expected = format!("\"chatglm\" or \"glm\"{hint}");
            Err(fields.wrong("model_type", expected))
        }
    }
}

/// Whether a type or class of this name belongs to a kind.
type IsKind = fn(&str) -> bool;

/// Relatives that are told by the name of their type or class, and what of them Llama has no place for.
const OTHERS: [(IsKind, &str); 3] = [
    (is_moe, "its layers choose between several networks (mixture of experts)"),
    (is_vision, "its image encoder has no place in the Llama layout"),
    (is_glm4, "its layers have two more norms (post_self_attn_layernorm, post_mlp_layernorm)"),
];

fn is_moe(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("glm") && name.contains("moe")
}

/// `glm4v` and `Glm4vForConditionalGeneration`, `glm46v` and the like.
fn is_vision(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let version = name.strip_prefix("glm").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    version.is_some_and(|rest| rest.starts_with('v'))
}

fn is_glm4(name: &str) -> bool {
    name == "glm4" || name.starts_with("Glm4")
}

/// What is expected instead of a checkpoint of integers.
const QUANTIZED: &str =
    "none: the weights were quantized already; convert the original float checkpoint instead";
