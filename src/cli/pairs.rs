//! What commands share that hold GGUF files against their checkpoint: both sides opened, and the text to run them on.

use std::path::{Path, PathBuf};

use super::print::{note, warn};
use glm2llama::config::RopeRatio;
use glm2llama::error::{Error, Result, one_line};
use glm2llama::gguf::GgufFile;
use glm2llama::input;
use glm2llama::locate::{self, Caches, Located};
use glm2llama::verify::{DEFAULT_TEXT, Pair};

/// A page has 3 kB; only its first tokens are used.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Finds the checkpoint and opens each file beside it.
pub(super) fn open(
    folder: &Path,
    files: &[PathBuf],
    ratio: Option<RopeRatio>,
) -> Result<(Located, Vec<Pair>)> {
    // The files first: one that cannot be read is at fault, whatever it is held against.
    if let Some(swapped) = files.iter().find(|file| file.is_dir()) {
        return Err(Error::file_mismatch(swapped, "a folder", "a GGUF file: MODEL_DIR comes first"));
    }
    let files = files.iter().map(|file| GgufFile::open_model(file)).collect::<Result<Vec<_>>>()?;
    let located = locate::find(folder, &Caches::of_user())?;
    let pairs = files
        .into_iter()
        .map(|file| Pair::of(&located.folder, file, ratio))
        .collect::<Result<Vec<_>>>()
        .map_err(|error| located.explain(error))?;
    Ok((located, pairs))
}

/// Says where the checkpoint was found, and what it lacks.
pub(super) fn tell(located: &Located) {
    if let Some(how) = &located.how {
        note(&format!("folder: {}", one_line(how)));
    }
    if let Some(unfinished) = &located.unfinished {
        warn(unfinished);
    }
}

/// A text and its name: the user's, or the built-in page.
pub(super) fn text(file: Option<&Path>) -> Result<(String, String)> {
    let Some(file) = file else {
        return Ok((DEFAULT_TEXT.to_owned(), "the built-in page of English, Chinese and code".to_owned()));
    };
    Ok((input::text(file, MAX_TEXT_BYTES)?, file.display().to_string()))
}
