//! The command line: parse, run, print the error once.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use glm2llama::cli;

fn main() -> ExitCode {
    match cli::parse().and_then(cli::run) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("glm2llama: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
