//! The program: see `cli`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    glm2llama::cli::main()
}
