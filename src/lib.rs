//! Converts ChatGLM checkpoints into llama-architecture GGUF files, exactly.
//!
//! Data flows one way:
//!
//! ```text
//! config.json, *.safetensors -> checkpoint -> remap -> pipeline (quant) -> gguf -> one .gguf file
//! tokenizer.model ------------> tokenizer -> metadata ----------------------^
//! ```
//!
//! [`convert::Job`] is the whole of it; everything before [`convert::Job::fill`] reads no weights.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used))]

pub mod checkpoint;
#[allow(clippy::disallowed_methods)] // it prints
pub mod cli;
pub mod config;
pub mod convert;
pub mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod gguf;
mod hash;
pub mod hf;
pub mod imatrix;
mod input;
pub mod lora;
pub mod metadata;
pub mod model;
pub mod modelling;
pub mod naming;
pub mod ollama;
pub mod output;
pub mod pipeline;
pub mod provenance;
pub mod receipt;
pub mod recipe;
pub mod remap;
pub mod request;
pub mod sink;
pub mod tokenizer;
pub mod verify;
