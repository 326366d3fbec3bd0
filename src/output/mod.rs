//! A file in the making: a temporary beside its target, which takes the name only when it is whole.

mod publish;
mod target;
mod temporary;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::system;
use crate::units::gigabytes;
pub use publish::publish;
pub(crate) use publish::sync_folder;
pub use target::check;
use target::{check_kind, in_use_elsewhere};
pub(crate) use target::{check_mount, check_name, exists, folder_of};
pub(crate) use temporary::{Kind, Temporary};

/// An unfinished file. Dropping it deletes what was written; [`publish`] gives it its name.
#[derive(Debug)]
pub struct Pending {
    target: PathBuf,
    temporary: Temporary,
    replace: bool,
    /// The hash of the bytes so far, if somebody asked for it.
    hash: Option<Sha256>,
}

impl Pending {
    /// Creates the temporary file beside `target`, which stays as it is until [`publish`].
    ///
    /// # Errors
    /// As for [`check`], and when the target is being written by another run, or its folder is not writable.
    pub fn create(target: &Path, replace: bool) -> Result<Pending> {
        check(target, replace)?;
        let temporary = Temporary::create(target, Kind::File)?;
        Ok(Pending { target: target.to_owned(), temporary, replace, hash: None })
    }

    /// Takes the disk space now, so that a full disk is found before the work and not after it.
    ///
    /// # Errors
    /// When there is not enough of it.
    pub fn reserve(&self, bytes: u64) -> Result<()> {
        let target = &self.target;
        let free = free_bytes(target).unwrap_or(0); // asked first: a failed reservation may have taken a part
        system::reserve(self.temporary.file(), bytes).map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull => no_space(target, bytes, free),
            _ => self.no_room(e, &gigabytes(bytes)),
        })
    }

    /// The name it will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where its bytes are until then.
    pub fn temporary(&self) -> &Path {
        self.temporary.path()
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When the system cannot write.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.temporary.file().write_all(bytes).map_err(|e| self.no_room(e, "more bytes"))?;
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        Ok(())
    }

    /// Writes bytes to a place; nothing can be appended any more. What is written so is in no recorded hash.
    ///
    /// # Errors
    /// When the system cannot write.
    pub(crate) fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let written = system::write_all_at(self.temporary.file(), bytes, offset);
        written.map_err(|e| self.no_room(e, "more bytes"))
    }

    /// Makes it that long; what nobody has written is zero.
    ///
    /// # Errors
    /// When the system cannot.
    pub(crate) fn set_length(&self, bytes: u64) -> Result<()> {
        self.temporary.file().set_len(bytes).map_err(|e| self.no_room(e, &gigabytes(bytes)))
    }

    /// Hashes what is written from now on, after `written`.
    pub(crate) fn record_hash(&mut self, written: &[u8]) {
        self.hash = Some(Sha256::new_with_prefix(written));
    }

    /// SHA-256 of all bytes so far, in hexadecimal, where it is recorded.
    pub(crate) fn hash(&self) -> Option<String> {
        self.hash.clone().map(|hash| crate::hash::hex(&hash.finalize()))
    }

    /// Waits until the complete file is on the disk.
    ///
    /// # Errors
    /// When the system cannot sync.
    pub fn sync(&self) -> Result<()> {
        self.temporary.file().sync_all().map_err(Error::io(&self.target, "sync"))
    }

    /// Syncs the complete file and gives it its name.
    ///
    /// # Errors
    /// When the system cannot sync or rename; the target is then as it was.
    pub fn publish(self) -> Result<()> {
        publish(vec![self])
    }

    /// Gives the file its name.
    fn name(&mut self) -> Result<()> {
        check_kind(&self.target)?; // it may have changed since
        self.temporary.rename(&self.target, self.replace).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => exists(&self.target),
            io::ErrorKind::ResourceBusy => in_use_elsewhere(&self.target),
            _ => Error::io(&self.target, "give the file its name")(e),
        })
    }

    /// Undoes [`Pending::name`]: the file has its temporary name again.
    fn take_back(&mut self) {
        self.temporary.take_back(&self.target);
    }

    /// The error of a write or a reservation; where a limit is the reason, it names the limit.
    fn no_room(&self, error: io::Error, room: &str) -> Error {
        let (found, remedy) = match error.kind() {
            io::ErrorKind::FileTooLarge => (
                "a limit on the size of a file",
                ": raise ulimit -f, or give --split-max-size (export-hf: --max-shard-size)",
            ),
            io::ErrorKind::QuotaExceeded => ("a disk quota that is used up", ""),
            _ => return Error::io(&self.target, "write")(error),
        };
        Error::file_mismatch(&self.target, found, format!("room for {room}{remedy}"))
    }
}

/// The disk has less room than a file takes.
pub fn no_space(target: &Path, bytes: u64, free: u64) -> Error {
    let (needed, free) = (gigabytes(bytes), gigabytes(free));
    Error::file(
        target,
        format!("needs {needed} of disk, {free} are free there: free some, or write elsewhere"),
    )
}

/// What is free on the disk of a file to be, where the system tells.
pub fn free_bytes(target: &Path) -> Option<u64> {
    system::free_bytes(folder_of(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_kept_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("m.gguf");
        std::fs::write(&target, "precious").unwrap();
        assert!(Pending::create(&target, false).unwrap_err().to_string().contains("--force"));

        let mut pending = Pending::create(&target, true).unwrap();
        pending.write_all(b"new").unwrap();
        drop(pending);
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");

        let mut pending = Pending::create(&target, true).unwrap();
        pending.write_all(b"new").unwrap();
        pending.publish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
