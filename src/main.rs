//! The command line: parse, run, print the error once.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it prints the error

use std::io::Write;
use std::process::ExitCode;

use glm2llama::cli;

fn main() -> ExitCode {
    match cli::parse().and_then(cli::run) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "glm2llama: {error}"); // the code tells it too
            ExitCode::from(error.exit_code())
        }
    }
}
