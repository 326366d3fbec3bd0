//! The several files that llama.cpp takes for one model, read as one: `NAME-00001-of-00003.gguf` and so on.

use std::path::{Path, PathBuf};

use super::GgufFile;
use crate::error::{Error, Result};

/// More files than this are no model.
const MOST_FILES: u64 = 1000;

impl GgufFile {
    /// Opens a model: one file, or all of which this is one.
    ///
    /// # Errors
    /// As for [`GgufFile::open`], and when a file is missing or of another model.
    pub fn open_model(path: &Path) -> Result<GgufFile> {
        let first = GgufFile::open(path)?;
        match first.unsigned("split.count") {
            None | Some(1) => Ok(first),
            Some(count @ 2..=MOST_FILES) => GgufFile::open_parts(&siblings(path, count)?),
            Some(count) => Err(Error::mismatch(path, "split.count", count, format!("at most {MOST_FILES}"))),
        }
    }

    /// Opens the files of one model, in their order: its metadata is in the first.
    ///
    /// # Errors
    /// When one cannot be read, or they do not belong together.
    pub fn open_parts(paths: &[PathBuf]) -> Result<GgufFile> {
        let mut opened =
            paths.iter().map(|path| GgufFile::open(path)).collect::<Result<Vec<_>>>()?.into_iter();
        let mut model = opened.next().ok_or_else(|| Error::Usage("no GGUF file was given".to_owned()))?;
        for mut file in opened {
            let number = model.parts.len();
            if file.unsigned("split.no") != Some(number as u64) {
                let expected = format!("it to be file {number} of the model, counted from 0");
                return Err(Error::mismatch(file.path(), "split.no", "another", expected));
            }
            if let Some(twice) = file.tensors.iter().find(|tensor| model.tensor(&tensor.name).is_some()) {
                return Err(Error::mismatch(file.path(), &twice.name, "it again", "each tensor in one file"));
            }
            file.tensors.iter_mut().for_each(|tensor| tensor.part = number);
            model.tensors.append(&mut file.tensors);
            model.parts.append(&mut file.parts);
            model.total_bytes += file.total_bytes;
        }
        let total = model.unsigned("split.tensors.count");
        match total {
            Some(total) if total != model.tensors.len() as u64 => {
                let found = format!("{} tensors", model.tensors.len());
                Err(Error::mismatch(model.path(), "split.tensors.count", found, total))
            }
            _ => Ok(model),
        }
    }

    /// Its files, in their order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|(path, _)| path.as_path())
    }
}

/// The names of all files of which `path` is one.
fn siblings(path: &Path, count: u64) -> Result<Vec<PathBuf>> {
    let end = format!("-of-{count:05}.gguf");
    let stem = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(&end));
    // The number before it has five digits, and a hyphen before them.
    let stem = stem.and_then(|stem| stem.get(..stem.len().checked_sub(6)?)).ok_or_else(|| {
        Error::mismatch(path, "split.count", "a name that is not a part's", format!("NAME-00001{end}"))
    })?;
    Ok((1..=count).map(|number| path.with_file_name(format!("{stem}-{number:05}{end}"))).collect())
}
