//! The commands. Only this module prints.

mod args;
mod convert;
mod export;
mod options;
mod progress;
mod report;
mod size;

pub use args::Args;
use args::Command;

use crate::error::Result;

/// Runs the command that the user named.
///
/// # Errors
/// Whatever the command refuses; nothing was printed of it yet.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Convert(args) => convert::run(&args),
        Command::ExportHf(args) => export::run(&args),
    }
}
