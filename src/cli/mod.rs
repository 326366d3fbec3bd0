//! The commands. Only this module prints.

mod args;
mod ask;
mod choose;
mod chosen;
mod colour;
mod compare;
mod convert;
mod diff;
mod export;
#[cfg(feature = "hub")]
mod hub;
mod imatrix;
mod inspect;
mod memory;
mod next;
mod ollama;
mod page;
mod pairs;
mod plan;
mod print;
mod progress;
mod report;
mod shell;
mod size;
mod source;
mod table;
mod threads;
mod titles;
mod usage;
mod verify;
mod verify_json;
mod verify_report;

use std::io::Write;
use std::process::ExitCode;

use args::{Args, Command};

use glm2llama::error::{Error, Result};

/// Parses the command line, runs the command, and prints what it refuses. The code is not 0 either when the command ran
/// and its answer is no.
pub fn main() -> ExitCode {
    let (error, undone) = match usage::parse() {
        Err(error) => (error, ""),
        Ok(Args { color, command }) => {
            colour::choose(color);
            let undone = if matches!(command, Command::Verify(_) | Command::Compare(_)) {
                "judged"
            } else {
                "written"
            };
            match run(command) {
                Ok(code) => return code,
                Err(error) => (error, undone),
            }
        }
    };
    let (code, what) = match error {
        Error::Interrupted => (130, format!("{error}, nothing was {undone}")), // 128 + SIGINT, as shells report it
        Error::Refuted { .. } => (1, error.to_string()),
        _ => (2, error.to_string()),
    };
    let name = colour::Tone::Bad.note("glm2llama:");
    let _ = writeln!(std::io::stderr(), "{name} {what}"); // the code tells it too
    ExitCode::from(code)
}

fn run(command: Command) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    match command {
        Command::Convert(args) => code = convert::run(&args)?,
        Command::Plan(args) => convert::plan(&args)?,
        Command::Inspect(args) => inspect::run(&args)?,
        Command::Diff(args) => code = diff::run(&args)?,
        Command::ExportHf(args) => export::run(&args)?,
        Command::Imatrix(args) => imatrix::run(&args)?,
        Command::Verify(args) => code = verify::run(&args)?,
        Command::Compare(args) => compare::run(&args)?,
        Command::Ask(args) => ask::run(&args)?,
        Command::Ollama(args) => code = ollama::run(&args)?,
        Command::Completions { shell } => shell::completions(shell),
        Command::Man => shell::man(),
    }
    print::end()?;
    Ok(code)
}
