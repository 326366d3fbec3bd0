//! The checkpoint's files: which tensors there are, and their bytes, row by row.
//!
//! Knows nothing of Llama or GGUF. Headers are read and checked at once; weights are read with
//! positioned reads, never mapped, so a file that shrinks meanwhile is an error and not a crash.

mod blocks;
mod dtype;
mod foreign;
mod index;
mod known;
mod names;
mod pytorch;
mod records;
mod safetensors;
mod source;
mod tensor;
mod unfinished;
mod words;
mod wrappers;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, InFile, Result};
use crate::input::{self, ReadAt, State};
use crate::watch::Watch;
use blocks::Blocks;
pub use dtype::Dtype;
use index::Kind;
#[cfg(fuzzing)]
pub(crate) use index::parse as parse_index;
pub use names::{is_tensors, is_weights};
use records::Records;
pub use source::{Origin, Published, Remote};
use tensor::Entry;
pub use tensor::Tensor;
pub use unfinished::FINISHED;

/// A model of 40 layers has 286.
const MAX_TENSORS: usize = 1 << 14;

/// Blocks of 64 KiB that wait for their other bytes, of all shards: 16 MB.
const MOST_PARTIAL: usize = 256;

/// An opened checkpoint folder.
#[derive(Debug, Default)]
pub struct Checkpoint {
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Tensor>,
    /// What has been hashed of each shard, when hashes were asked for.
    hashes: Option<Vec<Mutex<Blocks>>>,
    /// The shard index, if the weights are in several files.
    index: Option<PathBuf>,
    /// Other weights in the folder, which are not read.
    beside: Vec<String>,
    /// What trainers had put into the tensors' names.
    taken_off: Vec<&'static str>,
    /// What has the files' bytes, where the folder does not.
    remote: Option<Arc<dyn Remote>>,
    /// The folder's small files, which a download may have damaged as well.
    small: Vec<PathBuf>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: Box<dyn ReadAt>,
    length: u64,
    /// When it was opened; none where it is elsewhere, and cannot change.
    state: Option<State>,
    /// What the file says of its own bytes, if it does.
    records: Records,
}

impl Shard {
    fn state(path: &Path, file: &dyn ReadAt) -> Result<Option<State>> {
        Ok(file.metadata().map_err(Error::io(path, "read"))?.as_ref().map(State::of))
    }

    fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// Each name in quotes of its own.
fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
}

/// A thread that panicked while it held the lock has ended the run, so what it left behind is not read.
fn lock(blocks: &Mutex<Blocks>) -> MutexGuard<'_, Blocks> {
    blocks.lock().unwrap_or_else(PoisonError::into_inner)
}

fn changed(path: &Path, found: &str) -> Error {
    Error::file_mismatch(
        path,
        found,
        "the file as it was at the start: run again when the download is complete",
    )
}

fn ends_before(path: &Path, byte: u64) -> Error {
    changed(path, &format!("it ends before byte {byte}"))
}

impl Checkpoint {
    /// Opens the folder's weights, one file or the shards that an index names, and reads their headers.
    /// Safetensors are preferred where a folder has PyTorch's files too.
    ///
    /// # Errors
    /// When a shard is missing, shorter than its header says or damaged, or index and shards disagree.
    pub fn open(folder: &Path) -> Result<Checkpoint> {
        Checkpoint::open_from(folder, None)
    }

    /// The same, where the folder may have only the names of weights that another place has.
    ///
    /// # Errors
    /// As for [`Checkpoint::open`], and when that place cannot be read.
    pub fn open_from(folder: &Path, remote: Option<Arc<dyn Remote>>) -> Result<Checkpoint> {
        let small = unfinished::refuse_small(folder)?;
        let weights = index::find(folder)?;
        let mut checkpoint = Checkpoint { beside: weights.beside, remote, small, ..Checkpoint::default() };
        for file in weights.files {
            checkpoint.add_shard(file, weights.kind)?;
        }
        if let Some(index) = weights.index {
            checkpoint.agree_with(&index)?;
            checkpoint.index = Some(index.file);
        }
        foreign::refuse_adapted(checkpoint.tensors.keys().map(String::as_str))
            .in_file(checkpoint.main_file())?;
        checkpoint.unwrap_names(false)?;
        Ok(checkpoint)
    }

    /// Opens the tensors of a PEFT adapter.
    ///
    /// # Errors
    /// When there are none, or their file is damaged.
    pub fn open_adapter(folder: &Path) -> Result<Checkpoint> {
        let small = unfinished::refuse_small(folder)?;
        let (file, kind) = index::adapter(folder)?;
        let mut checkpoint = Checkpoint { small, ..Checkpoint::default() };
        checkpoint.add_shard(file, kind)?;
        checkpoint.unwrap_names(true)?;
        Ok(checkpoint)
    }

    fn add_shard(&mut self, path: PathBuf, kind: Kind) -> Result<()> {
        let file: Box<dyn ReadAt> = match (&self.remote, path.file_name().and_then(|name| name.to_str())) {
            (Some(remote), Some(name)) => remote.open(name)?,
            _ => Box::new(input::open(&path)?),
        };
        unfinished::refuse(&path)?;
        self.add(path, file, kind)
    }

    fn add(&mut self, path: PathBuf, file: Box<dyn ReadAt>, kind: Kind) -> Result<()> {
        let (length, state) =
            (file.length().map_err(Error::io(&path, "read"))?, Shard::state(&path, &*file)?);
        let (entries, records) = match kind {
            Kind::Safetensors => (safetensors::read_header(&*file).in_file(&path)?, Records::default()),
            Kind::PyTorch => pytorch::read_header(&*file).in_file(&path)?,
        };
        for entry in entries {
            let tensor = Tensor {
                dtype: entry.dtype,
                shape: entry.shape,
                shard: self.shards.len(),
                offset: entry.offset,
            };
            if let Some(earlier) = self.tensors.get(&entry.name) {
                let earlier = self.shards.get(earlier.shard).map_or(path.as_path(), |shard| &shard.path);
                let expected = format!("it only in {}", earlier.display());
                return Err(Error::mismatch(&path, entry.name, "it again", expected));
            }
            if self.tensors.len() == MAX_TENSORS {
                let found = format!("more than {MAX_TENSORS} tensors");
                return Err(Error::file_mismatch(&path, found, "the few hundred of a ChatGLM model"));
            }
            self.tensors.insert(entry.name, tensor);
        }
        self.shards.push(Shard { path, file, length, state, records });
        Ok(())
    }

    /// A checkpoint of one file, in memory.
    #[cfg(fuzzing)]
    pub(crate) fn in_memory(file: &str, bytes: &[u8]) -> Result<Checkpoint> {
        let kind = if file.ends_with(".bin") { Kind::PyTorch } else { Kind::Safetensors };
        let mut checkpoint = Checkpoint::default();
        checkpoint.add(file.into(), Box::new(bytes.to_vec()), kind)?;
        checkpoint.unwrap_names(false)?;
        Ok(checkpoint)
    }

    /// Every tensor is where the index says, and the shards hold no others.
    fn agree_with(&self, index: &index::Index) -> Result<()> {
        for (name, shard) in &index.weight_map {
            let tensor = self.tensors.get(name).ok_or_else(|| {
                Error::mismatch(&index.file, name, "no such tensor", format!("it in {shard}"))
            })?;
            let path = self.path(tensor);
            if path.file_name().is_none_or(|found| found != shard.as_str()) {
                let (found, holds) = (format!("it listed in {shard}"), path.file_name().unwrap_or_default());
                let expected = format!("{}, which holds it", holds.display());
                return Err(Error::mismatch(&index.file, name, found, expected));
            }
        }
        match self.tensors.iter().find(|(name, _)| !index.weight_map.contains_key(*name)) {
            None => Ok(()),
            Some((name, tensor)) => Err(Error::mismatch(
                self.path(tensor),
                name,
                "a tensor that is not in the index",
                "every tensor in it: the index is of another version, download it again",
            )),
        }
    }

    /// Takes what trainers' wrappers have put there off the tensors' names.
    fn unwrap_names(&mut self, adapter: bool) -> Result<()> {
        let names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        let Some((own, taken)) = wrappers::take_off(&names, adapter) else { return Ok(()) };
        let mut tensors = BTreeMap::new();
        for ((wrapped, tensor), name) in std::mem::take(&mut self.tensors).into_iter().zip(own) {
            if tensors.contains_key(&name) {
                let found = format!("another tensor of this name without {}", quoted(&taken));
                let path = &self.shards[tensor.shard].path;
                return Err(Error::mismatch(path, wrapped, found, "each tensor once"));
            }
            tensors.insert(name, tensor);
        }
        (self.tensors, self.taken_off) = (tensors, taken);
        Ok(())
    }

    /// The file to blame for what is in none of them: the index, or the only one.
    pub fn main_file(&self) -> &Path {
        let first = self.shards.first().map_or(Path::new(""), |shard| &shard.path);
        self.index.as_deref().unwrap_or(first)
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The file that holds a tensor, for messages.
    pub fn path(&self, tensor: &Tensor) -> &Path {
        &self.shards[tensor.shard].path
    }

    /// The checkpoint's files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// Reads `out.len() / row_bytes` whole rows from `first_row` on, as they are stored.
    ///
    /// # Errors
    /// When the tensor has no such rows, or the file cannot be read that far, because it shrank since it was opened
    /// for instance.
    pub fn read_rows(&self, tensor: &Tensor, first_row: usize, out: &mut [u8]) -> Result<()> {
        let shard = &self.shards[tensor.shard];
        if self.remote.is_some() {
            return Err(Error::Internal(format!("{}: is read front to back only", shard.path.display())));
        }
        let (rows, end) = (tensor.rows(), first_row.saturating_add(out.len() / tensor.row_bytes().max(1)));
        if end > rows {
            return Err(Error::file_mismatch(
                &shard.path,
                format!("a tensor of {rows} rows"),
                format!("{end}"),
            ));
        }
        let offset = tensor.offset + first_row as u64 * tensor.row_bytes() as u64;
        shard.file.read_exact_at(out, offset).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => ends_before(&shard.path, offset + out.len() as u64),
            _ => Error::io(&shard.path, "read")(e),
        })?;
        shard.records.see(offset, out).in_file(&shard.path)?;
        if let Some(blocks) = self.hashes.as_ref().and_then(|hashes| hashes.get(tensor.shard)) {
            lock(blocks).add(offset, out);
        }
        Ok(())
    }

    /// Hashes every file from now on, while it is read.
    pub fn record_hashes(&mut self) {
        let most = MOST_PARTIAL / self.shards.len().max(1);
        let blocks = |shard: &Shard| Mutex::new(Blocks::new(shard.length, most));
        self.hashes = Some(self.shards.iter().map(blocks).collect());
    }

    /// Each file with its length and its hash: SHA-256 of the SHA-256 of each 64 KiB. What nobody has read yet is
    /// read now; without [`Checkpoint::record_hashes`] there are none.
    ///
    /// # Errors
    /// When a file cannot be read, or `watch` stops the run.
    pub fn hashes(&self, watch: &dyn Watch) -> impl Iterator<Item = Result<(&Path, u64, String)>> {
        self.shards.iter().zip(self.hashes.iter().flatten()).map(
            move |(Shard { path, file, length, .. }, blocks)| {
                Ok((path.as_path(), *length, lock(blocks).finish(path, &**file, watch)?))
            },
        )
    }

    /// Hashes every file of which a download cache knows the SHA-256, and refuses it when it has another; the
    /// folder's small files too. `read` is told the file and the bytes of each piece that was read.
    ///
    /// # Errors
    /// When a file is not what was to be downloaded or cannot be read, and those of `read`.
    pub fn check_known_hashes(&self, read: &mut dyn FnMut(&Path, u64) -> Result<()>) -> Result<()> {
        self.downloaded().try_for_each(|file| known::check(file, &mut |bytes| read(file, bytes)))
    }

    /// How many bytes [`Checkpoint::check_known_hashes`] reads.
    pub fn known_bytes(&self) -> u64 {
        let known = self.downloaded().filter(|file| known::is_known(file));
        known.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }

    fn downloaded(&self) -> impl Iterator<Item = &Path> {
        self.files().chain(self.small.iter().map(PathBuf::as_path))
    }

    /// Refuses files that were written to since they were opened: what was read may be of two versions. Records of
    /// which only a part was used are read to their end, for the CRC that they have.
    ///
    /// # Errors
    /// When a file has another length or time of its last change than at first, or a record other bytes than its CRC
    /// is of.
    pub fn refuse_changed(&self) -> Result<()> {
        for Shard { path, file, state, records, .. } in &self.shards {
            records.finish(&**file).in_file(path)?;
            if Shard::state(path, &**file)? != *state {
                return Err(changed(path, "it was changed while it was read"));
            }
        }
        Ok(())
    }
}
