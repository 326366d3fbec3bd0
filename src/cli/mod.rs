//! The commands. Only this module prints.

mod args;
mod convert;
mod export;
mod imatrix;
mod inspect;
mod next;
mod options;
mod output;
mod page;
mod plan;
mod print;
mod progress;
mod report;
mod shell;
mod size;
mod usage;
mod verify;
mod verify_report;

use std::process::ExitCode;

pub use args::Args;
use args::Command;
pub use usage::parse;

use crate::error::Result;

/// Runs the command that the user named; the code is not 0 when it ran and its answer is no.
///
/// # Errors
/// Whatever the command refuses, the error itself not printed; and when stdout cannot be written.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    match args.command {
        Command::Convert(args) => convert::run(&args)?,
        Command::Plan(args) => convert::plan(&args)?,
        Command::Inspect(args) => inspect::run(&args)?,
        Command::ExportHf(args) => export::run(&args)?,
        Command::Imatrix(args) => imatrix::run(&args)?,
        Command::Verify(args) => code = verify::run(&args)?,
        Command::Completions { shell } => shell::completions(shell),
        Command::Man => shell::man(),
    }
    print::end()?;
    Ok(code)
}
