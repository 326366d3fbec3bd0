//! The program: the library's command line.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it prints

mod cli;

use std::process::ExitCode;

// The command line calls the library's modules by the paths by which they call each other.
use glm2llama::*;

fn main() -> ExitCode {
    cli::main()
}
