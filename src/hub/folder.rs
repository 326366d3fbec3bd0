//! A model's folder made of a repository: its small files, in memory, and the names of its weights.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::keep::{Keep, Kept};
use super::listing::{Entry, Judge, RUN_AGAIN};
use super::pump::Pump;
use super::repository::Repository;
use super::shards::Shards;
use super::transfer::Wanted;
use crate::checkpoint::{Origin, Remote};
use crate::error::{Error, Result};
use crate::input::{Files, Held, ReadAt};

/// How the names of small files end that a model may need: whoever reads them knows which, and this is no list.
const ENDS: [&str; 4] = [".json", ".jinja", ".model", ".py"];
const CARD: &str = "README.md";
/// The largest tokenizer.json has 20 MB.
const LARGEST: u64 = 64 << 20;
/// The most bytes of all small files together; a model has some 30 MB.
const LARGEST_SUM: u64 = 512 << 20;
/// The largest adapter, which is fetched whole: one of rank 64 with a whole embedding and output layer has 3 GB.
const LARGEST_ADAPTER: u64 = 16 << 30;
/// What else is stored with a model that is kept: code and texts.
const LARGEST_OTHER: u64 = 1 << 20;

/// A model's folder, in memory, whose weights are on a hub. It ends with the last copy of `remote`.
#[derive(Debug)]
pub struct Fetched {
    /// The folder's name: the repository's address, as a rule.
    pub folder: PathBuf,
    /// What has the weights.
    pub remote: Arc<dyn Remote>,
    /// Where the model is from.
    pub origin: Origin,
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
/// When a file cannot be fetched or is damaged.
pub fn fetch(repository: &Repository, caches: &[Keep], keep: Option<&Keep>) -> Result<Fetched> {
    let caches: Vec<Kept> = caches.iter().map(|cache| cache.place(repository)).collect();
    let keep = keep.map(|keep| keep.place(repository));
    // A model's folder has no files below it that are read.
    let all = || repository.files().filter(|(path, _)| !path.contains('/'));
    let small = all().filter(|&(path, bytes)| is_needed(path) && bytes <= LARGEST).map(|(_, bytes)| bytes);
    refuse_over(repository, small.sum(), LARGEST_SUM, "in small files")?;
    let (mut files, mut weights) = (Files::new(), Vec::new());
    for (path, bytes) in all() {
        let is_weights = [".safetensors", ".bin"].iter().any(|end| path.ends_with(end));
        let needed = is_needed(path);
        if is_weights {
            weights.push(path.to_owned());
        }
        if is_weights || (needed && bytes > LARGEST) {
            // What is so large and no weights is a log or a data set, as a rule. Whoever does read it refuses its length.
            files.insert(path.to_owned(), Arc::new(Left(bytes)));
        } else if needed || (keep.is_some() && bytes <= LARGEST_OTHER) {
            let read = read_small(repository, path, caches.iter().chain(&keep))?;
            if let (Some(keep), Some((_, entry))) = (&keep, repository.wanted(path)) {
                keep.store(path, entry, &read)?;
            }
            if needed {
                files.insert(path.to_owned(), Arc::new(read));
            }
        }
    }
    let held = Held::new(&repository.shown(), files);
    Ok(Fetched {
        folder: held.folder().to_owned(),
        remote: Arc::new(Shards::new(repository, &weights, caches, keep.clone(), held)),
        origin: repository.origin(),
        keep,
    })
}

/// A file of so many bytes that was left on the hub.
#[derive(Debug)]
struct Left(u64);

impl ReadAt for Left {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0)
    }

    fn metadata(&self) -> io::Result<Option<Metadata>> {
        Ok(None) // a commit's file does not change
    }

    fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        let why = format!("it has {} bytes, and was left on the hub", self.0);
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }
}

/// Whether it is a small file that a model may need.
fn is_needed(path: &str) -> bool {
    path == CARD || ENDS.iter().any(|end| path.ends_with(end))
}

/// Refuses more than anybody means to have fetched before the weights.
fn refuse_over(repository: &Repository, sum: u64, most: u64, what: &str) -> Result<()> {
    if sum <= most {
        return Ok(());
    }
    let expected = format!("at most {most}: download it, and give its folder");
    Err(Error::file_mismatch(&repository.shown(), format!("over {most} bytes {what}"), expected))
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

/// Fetches an adapter, weights and all.
///
/// # Errors
/// As for [`fetch`], and when there are several to choose from.
pub fn adapter(repository: &Repository) -> Result<Held> {
    const CONFIG: &str = "adapter_config.json";
    const NAMES: [&str; 3] = [CONFIG, "adapter_model.safetensors", "adapter_model.bin"];
    // A trainer's steps lie in folders below; the adapter itself is the one that is not in any.
    let configs = repository.files().filter_map(|(path, _)| path.strip_suffix(CONFIG));
    let folders: Vec<&str> = configs.filter(|folder| folder.is_empty() || folder.ends_with('/')).collect();
    let folder = match folders.as_slice() {
        [only] => only,
        [first, second, ..] if !folders.contains(&"") => {
            let found = format!("{} adapters in it ({first}, {second}, ...)", folders.len());
            let expected = "one: download that which is meant, and give its folder";
            return Err(Error::file_mismatch(&repository.shown(), found, expected));
        }
        _ => "", // whoever reads the config says what is missing
    };
    let wanted = |name: &&str| Some(((*name).to_owned(), repository.wanted(&format!("{folder}{name}"))?));
    let parts: Vec<_> = NAMES.iter().filter_map(wanted).collect();
    let sum = parts.iter().fold(0u64, |sum, (_, (_, entry))| sum.saturating_add(entry.bytes));
    refuse_over(repository, sum, LARGEST_ADAPTER, "of an adapter")?;
    let mut files = Files::new();
    for (name, (wanted, entry)) in parts {
        let file: Arc<dyn ReadAt> = match entry.bytes <= LARGEST {
            true => {
                Arc::new(repository.read(&format!("{folder}{name}"), LARGEST)?.ok_or_else(|| fault(&name))?)
            }
            false => Arc::new(on_disk(repository, &wanted, entry)?),
        };
        files.insert(name, file);
    }
    let name = format!("{}/{folder}", repository.shown().display());
    Ok(Held::new(Path::new(name.trim_end_matches('/')), files))
}

/// A file that is too large for the memory, on the disk without a name: the system deletes it with the program's end,
/// whatever ends it.
fn on_disk(repository: &Repository, wanted: &Wanted, entry: &Entry) -> Result<File> {
    let folder = std::env::temp_dir();
    let mut file = tempfile::tempfile().map_err(Error::io(&folder, "make a file"))?;
    let mut judge = Judge::new(entry);
    let pump = Pump::start(&repository.client, wanted, 0..entry.bytes);
    while let Some(block) = pump.next(&AtomicBool::new(false))? {
        judge.add(&block);
        file.write_all(&block).map_err(Error::io(&folder, "write a file"))?;
    }
    judge.end(&wanted.file, RUN_AGAIN)?;
    Ok(file)
}

impl Repository {
    /// The first bytes of a file and those behind them, as far as they are read: for a header, which no hash covers.
    pub fn beginning(&self, path: &str) -> Option<(impl Read + use<>, u64)> {
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
