//! The command line: parse, run, print the error once.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use glm2llama::cli::{self, Args};

fn main() -> ExitCode {
    match cli::run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("glm2llama: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
