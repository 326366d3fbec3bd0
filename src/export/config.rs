//! `config.json` and `generation_config.json` for stock transformers.

use serde::Serialize;

use crate::model::Model;

/// The key that tells an export from any other Llama's folder; transformers passes over it.
pub(super) const MARK: &str = "glm2llama";

/// `LlamaConfig`.
#[derive(Serialize)]
pub(super) struct Config {
    /// [`MARK`]: the version that wrote it.
    glm2llama: &'static str,
    architectures: [&'static str; 1],
    model_type: &'static str,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    hidden_act: &'static str,
    max_position_embeddings: usize,
    rms_norm_eps: f32,
    rope_theta: f32,
    rope_scaling: RopeScaling,
    attention_bias: bool,
    attention_dropout: f32,
    mlp_bias: bool,
    tie_word_embeddings: bool,
    use_cache: bool,
    bos_token_id: Option<u32>,
    eos_token_id: Vec<u32>,
    pad_token_id: Option<u32>,
    torch_dtype: &'static str,
}

/// LongRoPE divides the angle of each pair by a factor: the one way of stock transformers to rotate half a head.
#[derive(Serialize)]
struct RopeScaling {
    rope_type: &'static str,
    short_factor: Vec<f32>,
    long_factor: Vec<f32>,
    factor: f32,
    attention_factor: f32,
    original_max_position_embeddings: usize,
}

impl Config {
    pub(super) fn new(model: &Model, torch_dtype: &'static str) -> Config {
        let (c, vocabulary) = (&model.config, &model.tokenizer.vocabulary);
        let rope_scaling = RopeScaling {
            rope_type: "longrope",
            short_factor: model.rope.factors.clone(),
            long_factor: model.rope.factors.clone(),
            factor: 1.0,
            attention_factor: 1.0,
            original_max_position_embeddings: c.seq_length,
        };
        Config {
            glm2llama: env!("CARGO_PKG_VERSION"),
            architectures: ["LlamaForCausalLM"],
            model_type: "llama",
            vocab_size: c.padded_vocab_size,
            hidden_size: c.hidden_size,
            intermediate_size: c.ffn_hidden_size,
            num_hidden_layers: c.num_layers,
            num_attention_heads: c.num_attention_heads,
            num_key_value_heads: c.num_kv_heads,
            head_dim: c.head_dim,
            hidden_act: "silu",
            max_position_embeddings: c.seq_length,
            rms_norm_eps: c.layernorm_epsilon,
            rope_theta: model.rope.freq_base,
            rope_scaling,
            attention_bias: c.qkv_bias,
            attention_dropout: 0.0,
            mlp_bias: false,
            tie_word_embeddings: c.tie_word_embeddings,
            use_cache: true,
            bos_token_id: vocabulary.bos,
            eos_token_id: vocabulary.ends.clone(),
            pad_token_id: vocabulary.pad,
            torch_dtype,
        }
    }
}

/// `GenerationConfig`: where to stop, and how the authors sample.
#[derive(Serialize)]
pub(super) struct GenerationConfig {
    bos_token_id: Option<u32>,
    eos_token_id: Vec<u32>,
    pad_token_id: Option<u32>,
    do_sample: bool,
    temperature: f64,
    top_p: f64,
    max_length: usize,
}

impl GenerationConfig {
    pub(super) fn new(model: &Model) -> GenerationConfig {
        let (vocabulary, sampling) = (&model.tokenizer.vocabulary, model.tokenizer.sampling);
        GenerationConfig {
            bos_token_id: vocabulary.bos,
            eos_token_id: vocabulary.ends.clone(),
            pad_token_id: vocabulary.pad,
            // transformers refuses to sample at temperature 0, and warns of one that goes unused.
            do_sample: sampling.temperature > 0.0,
            temperature: if sampling.temperature > 0.0 { sampling.temperature } else { 1.0 },
            top_p: sampling.top_p,
            max_length: model.config.seq_length,
        }
    }
}
