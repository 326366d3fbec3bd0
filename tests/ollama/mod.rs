//! The Modelfile's TEMPLATE gives the text of the GGUF's Jinja template: in the model that the program checks itself
//! by, and in Go itself, where `go` is there.

mod given;
mod go;

use glm2llama::config::{GlmConfig, TensorNaming};
use glm2llama::ollama::{Modelfile, Shape, modelfile, shape};
use glm2llama::tokenizer::{ChatFormat, Sampling, TokenType, Tokenizer, Vocabulary};

/// ChatGLM3-6B's.
fn config() -> GlmConfig {
    GlmConfig {
        layout: TensorNaming::ChatGlm,
        name_or_path: String::new(),
        num_layers: 28,
        hidden_size: 4096,
        ffn_hidden_size: 13696,
        num_attention_heads: 32,
        num_kv_heads: 2,
        qkv_by_head: false,
        head_dim: 128,
        qkv_bias: true,
        padded_vocab_size: 65024,
        seq_length: 8192,
        layernorm_epsilon: 1e-5,
        rotary_dim: 64,
        rope_base: 10_000.0,
        rope_ratio: 1.0,
        rope_unread: Vec::new(),
        tie_word_embeddings: false,
    }
}

/// A tokenizer with tokens that control, of which the first ends a text.
fn tokenizer(control: &[&str]) -> Tokenizer {
    let vocabulary = Vocabulary {
        tokens: control.iter().map(|text| (*text).to_owned()).collect(),
        types: vec![TokenType::Control; control.len()],
        eos: Some(0),
        ..Vocabulary::default()
    };
    Tokenizer {
        vocabulary,
        chat: ChatFormat::Own,
        sampling: Sampling { temperature: 0.8, top_p: 0.8 },
        evidence: Vec::new(),
        lost_ends: None,
        other_template: false,
    }
}

const TOKENS: [&str; 8] = [
    "<|endoftext|>",
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|im_end|>",
];

fn written(jinja: &str) -> Modelfile {
    modelfile("m.gguf", Some(jinja), &tokenizer(&TOKENS), &config()).unwrap()
}

fn shape_of(jinja: &str) -> Result<Shape, String> {
    shape(jinja, "", "<|endoftext|>")
}

/// The formats of the family, as the program writes them into its files.
fn families() -> Vec<(&'static str, String, &'static str)> {
    let joined = |text: &str| text.lines().map(str::trim_start).collect::<String>();
    vec![
        ("ChatGLM3", joined(include_str!("../../src/tokenizer/chat/chatglm3.jinja")), "\n"),
        ("ChatGLM2", joined(include_str!("../../src/tokenizer/chat/chatglm2.jinja")), ""),
        ("GLM-4", joined(include_str!("../../src/tokenizer/chat/glm4.jinja")), "\n"),
    ]
}
