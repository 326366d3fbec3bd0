//! The Modelfile's TEMPLATE gives the text of the GGUF's Jinja template: in the model that the program checks itself
//! by, and in Go itself, where `go` is there.

mod given;
mod go;

use crate::support::Checkpoint;
use glm2llama::config::GlmConfig;
use glm2llama::ollama::{Modelfile, Shape, modelfile, shape};
use glm2llama::tokenizer::template::{GLM4, ROLES, ROUNDS};
use glm2llama::tokenizer::{ChatFormat, Sampling, TokenType, Tokenizer, Vocabulary};

/// ChatGLM3-6B's.
fn config() -> GlmConfig {
    Checkpoint::chatglm3_6b().glm_config()
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
        decisions: Vec::new(),
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
    vec![("ChatGLM3", ROLES.clone(), "\n"), ("ChatGLM2", ROUNDS.clone(), ""), ("GLM-4", GLM4.clone(), "\n")]
}
