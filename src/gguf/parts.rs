//! The several files that llama.cpp takes for one model, read as one: `NAME-00001-of-00003.gguf` and so on.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::header::MAX_MEMORY;
use super::{GgufFile, StoredTensor};
use crate::error::{Error, Result};
use crate::input::sha256_of;

/// More files than this are no model.
const MOST_FILES: u64 = 1000;

impl GgufFile {
    /// Opens a model from its only file, or from any of its split files.
    ///
    /// # Errors
    /// As for [`GgufFile::open`], and when a file is missing or of another model.
    pub fn open_model(path: &Path) -> Result<GgufFile> {
        if path.is_dir() {
            return Err(Error::file_mismatch(path, "a folder", "a GGUF file"));
        }
        let first = GgufFile::open(path)?;
        let count = match first.unsigned("split.count") {
            None | Some(1) => return Ok(first),
            Some(count @ 2..=MOST_FILES) => count,
            Some(count) => {
                return Err(Error::mismatch(path, "split.count", count, format!("at most {MOST_FILES}")));
            }
        };
        let number = first.unsigned("split.no").unwrap_or(0).saturating_add(1);
        drop(first); // two headers at a time could take more memory than one may
        GgufFile::open_parts(&siblings(path, number, count)?)
    }

    /// How many files it is in.
    pub fn files(&self) -> usize {
        self.parts.len()
    }

    /// Opens the files of one model, in their order: its metadata is in the first.
    ///
    /// # Errors
    /// When one cannot be read, they do not belong together, or their headers take more memory than one file's may.
    pub fn open_parts(paths: &[PathBuf]) -> Result<GgufFile> {
        let [first, others @ ..] = paths else {
            return Err(Error::Usage("no GGUF file was given".to_owned()));
        };
        let mut memory = MAX_MEMORY;
        let mut model = GgufFile::open_within(first, &mut memory)?;
        let count = paths.len() as u64;
        if count > 1 {
            model.expect_part(0, count)?;
        }
        for (number, path) in (1..).zip(others) {
            // Its metadata is dropped, so only its tensors count for the next ones.
            let mut its_memory = memory;
            let mut file = GgufFile::open_within(path, &mut its_memory)?;
            file.expect_part(number, count)?;
            memory = memory.saturating_sub(file.tensors.iter().map(StoredTensor::memory).sum());
            file.tensors.iter_mut().for_each(|tensor| tensor.part = model.parts.len());
            model.tensors.append(&mut file.tensors);
            model.parts.append(&mut file.parts);
            model.total_bytes += file.total_bytes;
        }
        let mut names = HashSet::with_capacity(model.tensors.len());
        if let Some(twice) = model.tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
            let path = model.parts.get(twice.part).map_or(first.as_path(), |(path, _)| path);
            return Err(Error::mismatch(path, &twice.name, "it again", "each tensor in one file"));
        }
        drop(names);
        match model.unsigned("split.tensors.count") {
            Some(total) if total != model.tensors.len() as u64 => {
                let found = format!("{} tensors", model.tensors.len());
                Err(Error::mismatch(model.path(), "split.tensors.count", found, total))
            }
            _ => Ok(model),
        }
    }

    /// Refuses a file that does not call itself number `number` of `count`.
    fn expect_part(&self, number: u64, count: u64) -> Result<()> {
        let shown = |found: Option<u64>| found.map_or("nothing".to_owned(), |found| found.to_string());
        let wrong = |key: &str, found, expected: String| {
            Err(Error::mismatch(self.path(), key, shown(found), expected))
        };
        match (self.unsigned("split.no"), self.unsigned("split.count")) {
            (no, _) if no != Some(number) => {
                wrong("split.no", no, format!("{number}: this is another part under this name"))
            }
            (_, found) if found != Some(count) => {
                wrong("split.count", found, format!("{count}: this is another model's part"))
            }
            _ => Ok(()),
        }
    }

    /// Each file, its bytes, and their SHA-256: reads all of them.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn hashes(&self) -> Result<Vec<(&Path, u64, String)>> {
        let hashed = |path| sha256_of(path).map(|(bytes, hash)| (path, bytes, hash));
        self.paths().map(hashed).collect()
    }

    /// Its files, in their order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|(path, _)| path.as_path())
    }
}

/// The names of all files of which `path` is one, the one with this number, counted from 1.
fn siblings(path: &Path, number: u64, count: u64) -> Result<Vec<PathBuf>> {
    let end = format!("-of-{count:05}.gguf");
    let stem = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(&end));
    // The number before it has five digits, and a hyphen before them.
    let stem = stem.and_then(|stem| stem.get(..stem.len().checked_sub(6)?)).ok_or_else(|| {
        let found = format!("part {number} of {count} under another name");
        let expected = format!("NAME-{number:05}{end}: give all parts their names back");
        Error::file_mismatch(path, found, expected)
    })?;
    Ok((1..=count).map(|number| path.with_file_name(format!("{stem}-{number:05}{end}"))).collect())
}
