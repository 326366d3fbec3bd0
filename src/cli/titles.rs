//! What `plan` and `convert` tell of an output in the same words.

use std::path::{Path, PathBuf};

use serde::Serialize;

use glm2llama::convert::{Job, Output};

/// Widths of the feed-forward network, where they differ.
#[derive(Serialize)]
pub(super) struct Padding {
    from: usize,
    to: usize,
}

impl Padding {
    pub(super) fn of(job: &Job, output: &Output) -> Option<Padding> {
        let (from, to) = (job.model.config.ffn_hidden_size, output.recipe.ffn);
        (from != to).then_some(Padding { from, to })
    }

    pub(super) fn line(padding: Option<&Padding>) -> String {
        match padding {
            Some(Padding { from, to }) => format!("\n  feed-forward network padded from {from} to {to}"),
            None => String::new(),
        }
    }
}

/// The files that stand for an output that is split; none when it is one.
pub(super) fn parts(output: &Output) -> Vec<PathBuf> {
    let parts = output.paths();
    if parts.len() > 1 { parts } else { Vec::new() }
}

/// What to call an output: its file, or those that stand for it.
pub(super) fn title(file: &Path, parts: &[PathBuf]) -> String {
    match parts {
        [first, .., last] => format!("{} to {}", first.display(), last.display()),
        _ => file.display().to_string(),
    }
}
