//! Downloads in the hubs' own layouts: what earlier ones have left there, and what is to be stored for the next.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::address::Hub;
use super::listing::{Entry, Hash};
use super::repository::Repository;
use crate::error::{Error, Result};
use crate::system;

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

    /// Begins to store a file, under a name that says that it is not whole.
    pub(super) fn begin(&self, path: &str, entry: &Entry) -> Result<KeptFile> {
        let link = self.snapshot.join(path);
        let target = match self.hub {
            Hub::HuggingFace => self.blob(&entry.hash),
            Hub::ModelScope => link.clone(),
        };
        for folder in [link.parent(), target.parent()].into_iter().flatten() {
            fs::create_dir_all(folder).map_err(Error::io(folder, "make"))?;
        }
        let mut name = target.clone().into_os_string();
        name.push(format!(".{:08x}.incomplete", std::process::id()));
        let temporary = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary);
        let file = file.map_err(Error::io(&temporary, "write"))?;
        // From the snapshot's folder, or a deeper one, back to the repository's.
        let up = "../".repeat(2 + path.matches('/').count());
        let link =
            (link != target).then(|| (link, PathBuf::from(format!("{up}blobs/{}", entry.hash.text()))));
        Ok(KeptFile { file, temporary, target, link })
    }

    /// Stores a small file.
    pub(super) fn store(&self, path: &str, entry: &Entry, bytes: &[u8]) -> Result<()> {
        let mut file = self.begin(path, entry)?;
        file.write(bytes)?;
        file.finish()
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

/// A file that is being stored. Dropping it deletes it.
#[derive(Debug)]
pub(super) struct KeptFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    /// A link to it, and what it leads to.
    link: Option<(PathBuf, PathBuf)>,
}

impl KeptFile {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io(&self.target, "write"))
    }

    /// Gives the whole file its name.
    pub(super) fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(Error::io(&self.target, "sync"))?;
        fs::rename(&self.temporary, &self.target)
            .map_err(Error::io(&self.target, "give the file its name"))?;
        let Some((link, to)) = &self.link else { return Ok(()) };
        set_link(link, to).map_err(Error::io(link, "make the link"))
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
        let _ = fs::remove_file(&self.temporary); // after `finish` nothing has this name
    }
}
