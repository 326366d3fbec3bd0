//! The command line: parse, run, print the error once.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use glm2llama::cli::{self, Args};

fn main() -> ExitCode {
    match cli::run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "glm2llama: {error}"); // the code tells it too
            ExitCode::from(error.exit_code())
        }
    }
}
