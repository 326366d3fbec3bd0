//! The commands. Only this module prints.

mod args;
mod convert;
mod inspect;
mod plan;
mod print;
mod progress;
mod report;
mod verify;
mod verify_report;

use std::process::ExitCode;

pub use args::Args;
use args::Command;

use crate::error::Result;

/// Runs the command that the user named; the code is not 0 when it ran and its answer is no.
///
/// # Errors
/// Whatever the command refuses; nothing was printed of it yet.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Convert(args) => convert::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Plan(args) => convert::plan(&args).map(|()| ExitCode::SUCCESS),
        Command::Inspect(args) => inspect::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Verify(args) => verify::run(&args),
    }
}
