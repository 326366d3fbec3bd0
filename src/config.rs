//! `config.json` -> the validated facts of one ChatGLM model.

use std::path::PathBuf;

/// What the rest of the program needs to know of a ChatGLM model. Field names follow the checkpoint's.
#[derive(Clone, Debug, PartialEq)]
pub struct GlmConfig {
    /// Where it was read from, for error messages.
    pub file: PathBuf,
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
    /// `rope_ratio`, 1 when absent.
    pub rope_ratio: f64,
    /// The embedding serves as the output layer too.
    pub tie_word_embeddings: bool,
}
