//! Downloads in the hubs' own layouts: what earlier ones have left there, and what is to be stored for the next.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::address::Hub;
use super::listing::{Entry, Hash};
use super::repository::Repository;
use crate::error::{Error, Result};
use crate::system::{self, identity, identity_of};

/// How many runs may store a file at the same time.
const MOST_RUNS: u32 = 16;
/// Bytes that are read at a time.
const BLOCK: u64 = 1 << 20;

/// A folder of downloads, laid out as the hub's own programs do it.
#[derive(Clone, Debug)]
pub struct Keep {
    /// What `HF_HUB_CACHE` or `MODELSCOPE_CACHE` would name.
    pub root: PathBuf,
}

/// The place of one repository's commit in it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    hub: Hub,
    /// The repository's folder.
    folder: PathBuf,
    /// The folder of the commit's files.
    snapshot: PathBuf,
    revision: String,
    commit: String,
}

impl Keep {
    pub(super) fn place(&self, repository: &Repository) -> Kept {
        let name = repository.listing.repository.replace('/', "--");
        let commit = repository.listing.commit.clone();
        let revision = repository.revision().to_owned();
        let hub = repository.hub();
        let folder = match hub {
            Hub::HuggingFace => self.root.join(format!("models--{name}")),
            Hub::ModelScope => self.root.join("models").join(name),
        };
        // ModelScope's folders are called by the revision that was asked for.
        let snapshot = folder.join("snapshots").join(match hub {
            Hub::HuggingFace => commit.clone(),
            Hub::ModelScope => revision.replace('/', "--"),
        });
        Kept { hub, folder, snapshot, revision, commit }
    }
}

impl Kept {
    /// The file, if it is there with its whole length; its bytes are still to be judged.
    pub(super) fn find(&self, path: &str, entry: &Entry) -> Option<PathBuf> {
        let file = match self.hub {
            Hub::HuggingFace => self.blob(&entry.hash),
            Hub::ModelScope => self.snapshot.join(path),
        };
        file.metadata().is_ok_and(|found| found.is_file() && found.len() == entry.bytes).then_some(file)
    }

    fn blob(&self, hash: &Hash) -> PathBuf {
        self.folder.join("blobs").join(hash.text())
    }

    /// Begins to store a file, under a name that says that it is not whole, behind what an earlier run has left there.
    pub(super) fn begin(&self, path: &str, entry: &Entry) -> Result<KeptFile> {
        let link = self.snapshot.join(path);
        let target = match self.hub {
            Hub::HuggingFace => self.blob(&entry.hash),
            Hub::ModelScope => link.clone(),
        };
        for folder in [link.parent(), target.parent()].into_iter().flatten() {
            fs::create_dir_all(folder).map_err(Error::io(folder, "make"))?;
        }
        let (temporary, file) = open_unfinished(&target)?;
        let there = file.metadata().map_err(Error::io(&temporary, "read"))?.len();
        // From the snapshot's folder, or a deeper one, back to the repository's.
        let up = "../".repeat(2 + path.matches('/').count());
        let link =
            (link != target).then(|| (link, PathBuf::from(format!("{up}blobs/{}", entry.hash.text()))));
        let mut kept = KeptFile { file, there, temporary, target, link };
        if there > entry.bytes {
            kept.restart()?;
        }
        Ok(kept)
    }

    /// Stores a small file.
    pub(super) fn store(&self, path: &str, entry: &Entry, bytes: &[u8]) -> Result<()> {
        let mut file = self.begin(path, entry)?;
        file.restart()?;
        file.write(bytes)?;
        file.finish().map(|_| ())
    }

    /// Notes which commit the revision is: to be called when all files are there.
    pub(super) fn name_commit(&self) -> Result<()> {
        if self.hub == Hub::ModelScope || self.revision == self.commit {
            return Ok(());
        }
        let reference = self.folder.join("refs").join(&self.revision);
        let folder = reference.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(Error::io(folder, "make"))?;
        fs::write(&reference, &self.commit).map_err(Error::io(&reference, "write"))
    }
}

/// The name of a file that is not whole, as the hubs' own programs have it: several where several runs store it.
fn unfinished(target: &Path, number: u32) -> PathBuf {
    let end = match number {
        0 => ".incomplete".to_owned(),
        _ => format!(".{number:08x}.incomplete"),
    };
    let mut name = target.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Opens the first unfinished file that no run is at work on, or makes it.
fn open_unfinished(target: &Path) -> Result<(PathBuf, File)> {
    for number in 0..MOST_RUNS {
        let path = unfinished(target, number);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Error::io(&path, "write"))?;
        // Where the file system knows no locks, nobody can tell. Another run may just have given it its name.
        let taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        if !taken && identity_of(&file) == identity(&path) {
            return Ok((path, file));
        }
    }
    let expected = "fewer: wait until they end";
    Err(Error::file_mismatch(target, format!("{MOST_RUNS} runs that store it"), expected))
}

/// A file that is being stored, locked. What it has when it is dropped is there for the next run.
#[derive(Debug)]
pub(super) struct KeptFile {
    file: File,
    /// Bytes that an earlier run has left.
    there: u64,
    temporary: PathBuf,
    target: PathBuf,
    /// A link to it, and what it leads to.
    link: Option<(PathBuf, PathBuf)>,
}

impl KeptFile {
    /// How many bytes an earlier run has left: nobody has judged them.
    pub(super) fn there(&self) -> u64 {
        self.there
    }

    /// Reads what an earlier run has left, in blocks, and goes behind it.
    pub(super) fn read_there(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut block = Vec::new();
        let mut left = self.there;
        while left > 0 {
            block.clear();
            let read = (&self.file).take(left.min(BLOCK)).read_to_end(&mut block);
            let read = read.map_err(Error::io(&self.temporary, "read"))?;
            if read == 0 {
                return Err(Error::file(&self.temporary, "it became shorter while it was read: run again"));
            }
            left -= read as u64;
            each(&block)?;
        }
        Ok(())
    }

    /// Begins anew.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.there = 0;
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(Error::io(&self.temporary, "write"))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io(&self.target, "write"))
    }

    /// Gives the whole file its name, and tells it.
    pub(super) fn finish(self) -> Result<PathBuf> {
        self.file.sync_all().map_err(Error::io(&self.target, "sync"))?;
        fs::rename(&self.temporary, &self.target)
            .map_err(Error::io(&self.target, "give the file its name"))?;
        // What other runs had begun, and did not end.
        for left in (0..MOST_RUNS).map(|number| unfinished(&self.target, number)) {
            if File::open(&left).is_ok_and(|left| left.try_lock().is_ok()) {
                let _ = fs::remove_file(&left); // whoever has just opened it looks whether it is there
            }
        }
        if let Some((link, to)) = &self.link {
            set_link(link, to).map_err(Error::io(link, "make the link"))?;
        }
        Ok(self.target.clone())
    }
}

/// Makes a link in the place of an older one.
fn set_link(link: &Path, to: &Path) -> std::io::Result<()> {
    match system::link(to, link) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            fs::remove_file(link)?;
            system::link(to, link)
        }
        outcome => outcome,
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        let empty = self.file.metadata().is_ok_and(|found| found.len() == 0);
        if empty && identity_of(&self.file) == identity(&self.temporary) {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
