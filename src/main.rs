//! The program: the library's command line.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it prints

mod cli;

use std::process::ExitCode;

// The command line calls the library's modules as they call each other.
use glm2llama::{
    checkpoint, convert, error, gguf, hf, input, locate, lora, model, output, pipeline, receipt, recipe,
    remap, request, verify, watch,
};

fn main() -> ExitCode {
    cli::main()
}
