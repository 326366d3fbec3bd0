//! The program: the library's command line.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used))]
#![allow(clippy::disallowed_methods)] // it prints

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
