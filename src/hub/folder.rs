//! A model's folder made of a repository: its small files, and empty ones of the names of its weights.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tempfile::TempDir;

use super::keep::{Keep, Kept};
use super::listing::{Judge, RUN_AGAIN};
use super::pump::Pump;
use super::repository::Repository;
use super::shards::Shards;
use crate::checkpoint::{Origin, Remote};
use crate::error::{Error, Result};

/// Small files that a model may be told by, as their names end: whoever reads them knows which, and this is no list.
const ENDS: [&str; 4] = [".json", ".jinja", ".model", ".py"];
const CARD: &str = "README.md";
/// The largest tokenizer.json has 20 MB.
const LARGEST: u64 = 64 << 20;
/// Of all small files together, which take room for temporary files; a model has some 30 MB.
const LARGEST_SUM: u64 = 512 << 20;
/// Of an adapter, which is fetched whole: one of rank 64 with a whole embedding and head has 3 GB.
const LARGEST_ADAPTER: u64 = 16 << 30;
/// What else is stored with a model that is kept: code and texts.
const LARGEST_OTHER: u64 = 1 << 20;

/// A model's folder, whose weights are on a hub. It is deleted with the last copy of `remote`.
#[derive(Debug)]
pub struct Fetched {
    /// The folder.
    pub folder: PathBuf,
    /// What has the weights.
    pub remote: Arc<dyn Remote>,
    /// Where the model is from.
    pub origin: Origin,
    /// What to call the folder in messages.
    pub shown: PathBuf,
    keep: Option<Kept>,
}

impl Fetched {
    /// All files that were to be kept are there: the next run may find them by their name.
    ///
    /// # Errors
    /// When the system cannot write.
    pub fn all_kept(&self) -> Result<()> {
        self.keep.as_ref().map_or(Ok(()), Kept::name_commit)
    }
}

/// Fetches a model's small files, each held against its hash.
///
/// `caches` may have some of its files already. With `keep`, all that is fetched is stored there too.
///
/// # Errors
/// When a file cannot be fetched or is damaged, or there is no room for it.
pub fn fetch(repository: &Repository, caches: &[Keep], keep: Option<&Keep>) -> Result<Fetched> {
    let temporary = temporary_folder()?;
    let folder = temporary.path().join(repository.listing.repository.rsplit('/').next().unwrap_or("model"));
    fs::create_dir(&folder).map_err(Error::io(&folder, "make"))?;
    let caches: Vec<Kept> = caches.iter().map(|cache| cache.place(repository)).collect();
    let keep = keep.map(|keep| keep.place(repository));
    let mut weights = Vec::new();
    // A model's folder has no files below it that are read.
    let files = || repository.files().filter(|(path, _)| !path.contains('/'));
    let small = files().filter(|&(path, bytes)| is_needed(path) && bytes <= LARGEST).map(|(_, bytes)| bytes);
    refuse_over(repository, small.sum(), LARGEST_SUM, "in small files")?;
    for (path, bytes) in files() {
        let file = folder.join(path);
        if [".safetensors", ".bin"].iter().any(|end| path.ends_with(end)) {
            make(&file, &repository.shown().join(path))?;
            weights.push(path.to_owned());
            continue;
        }
        let needed = is_needed(path);
        if needed && bytes > LARGEST {
            // A log or a data set, as a rule. Whoever does read it refuses its length.
            let made = make(&file, &repository.shown().join(path))?;
            made.set_len(bytes).map_err(Error::io(&file, "write"))?;
            continue;
        }
        if needed || (keep.is_some() && bytes <= LARGEST_OTHER) {
            let read = read_small(repository, path, caches.iter().chain(&keep))?;
            if needed {
                let mut made = make(&file, &repository.shown().join(path))?;
                made.write_all(&read).map_err(Error::io(&file, "write"))?;
            }
            if let (Some(keep), Some((_, entry))) = (&keep, repository.wanted(path)) {
                keep.store(path, entry, &read)?;
            }
        }
    }
    let shards = Shards::new(repository, &weights, caches, keep.clone(), temporary);
    Ok(Fetched {
        folder,
        remote: Arc::new(shards),
        origin: repository.origin(),
        shown: repository.shown(),
        keep,
    })
}

/// Makes a file. On a system that does not tell `a` from `A`, a repository that has both cannot be one folder.
fn make(file: &Path, shown: &Path) -> Result<fs::File> {
    fs::File::create_new(file).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            let expected =
                "one of each name, whatever its letters' case: this system does not tell them apart";
            Error::mismatch(shown, "", "two files of this name", expected)
        }
        _ => Error::io(file, "write")(error),
    })
}

/// A small file that a model may be told by.
fn is_needed(path: &str) -> bool {
    path == CARD || ENDS.iter().any(|end| path.ends_with(end))
}

/// Refuses more than anybody means to have fetched into a temporary folder.
fn refuse_over(repository: &Repository, sum: u64, most: u64, what: &str) -> Result<()> {
    if sum <= most {
        return Ok(());
    }
    let expected = format!("at most {most}: download it, and give its folder");
    Err(Error::mismatch(&repository.shown(), "", format!("over {most} bytes {what}"), expected))
}

/// From a cache where one has the right bytes, else from the hub.
fn read_small<'a>(
    repository: &Repository,
    path: &str,
    mut caches: impl Iterator<Item = &'a Kept>,
) -> Result<Vec<u8>> {
    let (_, entry) = repository.wanted(path).ok_or_else(|| fault(path))?;
    let cached = caches.find_map(|cache| {
        let bytes = fs::read(cache.find(path, entry)?).ok()?;
        let mut judge = Judge::new(entry);
        judge.add(&bytes);
        judge.end(Path::new(path), RUN_AGAIN).is_ok().then_some(bytes)
    });
    match cached {
        Some(bytes) => Ok(bytes),
        None => repository.read(path, LARGEST)?.ok_or_else(|| fault(path)),
    }
}

fn fault(path: &str) -> Error {
    Error::Internal(format!("{path}: is not in the list any more"))
}

/// Fetches an adapter, weights and all, into a temporary folder.
///
/// # Errors
/// As for [`fetch`].
pub fn adapter(repository: &Repository) -> Result<(PathBuf, TempDir)> {
    const NAMES: [&str; 3] = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"];
    let temporary = temporary_folder()?;
    let folder = temporary.path().join(repository.listing.repository.rsplit('/').next().unwrap_or("adapter"));
    fs::create_dir(&folder).map_err(Error::io(&folder, "make"))?;
    let is_part = |path: &str| path.rsplit('/').next().is_some_and(|name| NAMES.contains(&name));
    let parts: Vec<&str> = repository.files().map(|(path, _)| path).filter(|path| is_part(path)).collect();
    // A trainer's steps lie in folders below; the adapter itself is the one that is not in any.
    let outer = parts.iter().any(|path| **path == *NAMES[0]);
    let parts = parts.into_iter().filter(|path| path.matches('/').count() <= usize::from(!outer));
    let parts: Vec<_> = parts.filter_map(|path| Some((path, repository.wanted(path)?))).collect();
    let sum = parts.iter().fold(0u64, |sum, (_, (_, entry))| sum.saturating_add(entry.bytes));
    refuse_over(repository, sum, LARGEST_ADAPTER, "of an adapter")?;
    for (path, (wanted, entry)) in parts {
        let file = folder.join(path);
        if let Some(below) = file.parent() {
            fs::create_dir_all(below).map_err(Error::io(below, "make"))?;
        }
        let mut judge = Judge::new(entry);
        let mut out = make(&file, &wanted.file)?;
        let pump = Pump::start(&repository.client, &wanted, 0..entry.bytes);
        while let Some(block) = pump.next(&AtomicBool::new(false))? {
            judge.add(&block);
            out.write_all(&block).map_err(Error::io(&file, "write"))?;
        }
        judge.end(&wanted.file, RUN_AGAIN)?;
    }
    Ok((folder, temporary))
}

fn temporary_folder() -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix("glm2llama-").tempdir();
    made.map_err(Error::io(&std::env::temp_dir(), "make a folder"))
}

impl Repository {
    /// The first bytes of a file and those behind them, as far as they are read: for a header, which no hash covers.
    pub fn head(&self, path: &str) -> Option<(impl Read + use<>, u64)> {
        let (wanted, entry) = self.wanted(path)?;
        let pump = Pump::start(&self.client, &wanted, 0..entry.bytes);
        Some((Beginning { pump, block: Vec::new(), taken: 0 }, entry.bytes))
    }
}

struct Beginning {
    pump: Pump,
    block: Vec<u8>,
    taken: usize,
}

impl Read for Beginning {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.taken == self.block.len() {
            let next = self.pump.next(&AtomicBool::new(false)).map_err(std::io::Error::other)?;
            (self.block, self.taken) = (next.unwrap_or_default(), 0);
        }
        let rest = &self.block[self.taken..];
        let size = rest.len().min(out.len());
        out[..size].copy_from_slice(&rest[..size]);
        self.taken += size;
        Ok(size)
    }
}
