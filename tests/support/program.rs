//! Real llama.cpp programs, where a machine has them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::shared;

/// A program by its name, `llama-server` for instance: what the variable of its name says (`LLAMA_SERVER`), or what
/// `PATH` has, or the developers' script unpacks. Where there is none, says so, unless the developers' files are
/// required.
pub fn find(name: &str) -> Option<PathBuf> {
    if let Some(named) = env::var_os(name.to_uppercase().replace('-', "_")) {
        return Some(named.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_some() {
        return found;
    }
    if cfg!(windows) {
        eprintln!("skipped: no {name} on PATH, and the developers' are for Linux");
        return None;
    }
    let script = shared("tools/llama_tools.sh")?;
    let output = Command::new(&script).stderr(Stdio::inherit()).output().expect("the script runs");
    assert!(output.status.success(), "{} failed", script.display());
    let folder = String::from_utf8(output.stdout).expect("a path");
    Some(Path::new(folder.trim()).join(name))
}
