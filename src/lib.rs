//! Converts ChatGLM checkpoints into llama-architecture GGUF files, exactly.
//!
//! ```
//! use glm2llama::{Job, Options, Request};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let output = folder.path().join("tiny.gguf");
//! let mut request = Request::new("testdata/models/tiny-chatglm3", "Q4_K_M".parse()?);
//! request.output = Some(output); // or a name made of the model's
//! let job = Job::prepare(&request)?; // checks everything, and reads no weights
//! let outputs = job.create_outputs()?; // reserves the space, under temporary names
//! job.fill(outputs, Options::default(), &())?.publish()?; // `()` watches nothing; see `Watch`
//! # Ok::<(), glm2llama::Error>(())
//! ```
//!
//! Data flows one way:
//!
//! ```text
//! config.json, *.safetensors -> checkpoint -> remap -> pipeline (quant) -> gguf -> output -> one .gguf file
//! adapters -------------------> lora -----------------^                     ^
//! tokenizer.model ------------> tokenizer -> metadata ----------------------+
//! ```
//!
//! [`Job`] is the conversion, [`Export`] writes safetensors for transformers instead, and a [`Pair`] of checkpoint and
//! file says whether both are the same model. [`Model`] and [`GgufFile`] open the one and the other to look inside.
//! [`quant`] makes the bytes of the block formats.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used))]

mod allocate;
mod bounded;
mod bpe;
pub mod calibrate;
pub mod checkpoint;
pub mod config;
pub mod convert;
pub mod error;
pub mod export;
mod forward;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod gguf;
mod hash;
#[cfg(feature = "hub")]
pub mod hub;
pub mod imatrix;
pub mod importance;
#[doc(hidden)] // for the program and the tests
pub mod input;
#[doc(hidden)] // for the program and the tests
pub mod jinja;
#[doc(hidden)] // for the program and the tests
pub mod locate;
pub mod lora;
pub mod metadata;
pub mod model;
mod model_card;
pub mod model_name;
pub mod ollama;
pub mod output;
pub mod pipeline;
pub mod provenance;
pub mod receipt;
pub mod recipe;
pub mod remap;
pub mod request;
pub mod rope_ratio;
pub mod sink;
#[doc(hidden)] // for the program and the tests
pub mod system;
mod threads;
pub mod tokenizer;
#[doc(hidden)] // for the program and the tests
pub mod units;
pub mod verify;
pub mod watch;

pub use ::quant;
pub use checkpoint::Checkpoint;
pub use convert::{Job, Outputs};
pub use error::{Error, Result};
pub use export::Export;
pub use gguf::GgufFile;
pub use model::Model;
pub use pipeline::Options;
pub use recipe::FileType;
pub use request::Request;
pub use verify::Pair;
pub use watch::{Step, Watch};
