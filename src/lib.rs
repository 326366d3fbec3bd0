//! Converts ChatGLM checkpoints into llama-architecture GGUF files.
#![forbid(unsafe_code)]

pub mod config;
pub mod error;
pub mod ollama;
pub mod tokenizer;
