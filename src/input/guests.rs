//! The guest book of the door: which files were asked for while it lay open, and what passed.
//!
//! It lies open for one thread and one piece of work, and not in the hands of those who open files: a reader that had
//! to be handed it could be forgotten, and with it what it reads.

use std::cell::RefCell;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::held::{self, HeldPath};
use crate::error::{Error, Result};
use crate::hash::sha256;
use crate::system::{self, identity};

/// What tells two versions of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Its length.
    pub(crate) length: u64,
    /// The time of the last change, where the file system keeps one.
    changed: Option<SystemTime>,
    number: u64,
}

impl State {
    pub(crate) fn of(metadata: &Metadata) -> State {
        let (changed, number) = (metadata.modified().ok(), system::number(metadata));
        State { length: metadata.len(), changed, number }
    }

    /// None when the file is not there.
    pub(super) fn now(path: &Path) -> Option<State> {
        match held::find(path) {
            None => path.metadata().ok().map(|metadata| State::of(&metadata)),
            Some(HeldPath::File(file)) => {
                Some(State { length: file.length().unwrap_or_default(), changed: None, number: 0 })
            }
            Some(_) => None,
        }
    }
}

/// A file that was asked for.
#[derive(Debug)]
struct Guest {
    path: PathBuf,
    /// None when it was not there.
    state: Option<State>,
    /// It was opened, and not only asked after.
    opened: bool,
    /// Its length and SHA-256, when all of it passed.
    hash: Option<(u64, String)>,
}

/// The files that were asked for, in the order of the first time.
#[derive(Debug, Default)]
pub struct GuestBook(Vec<Guest>);

thread_local! {
    static BOOK: RefCell<Option<GuestBook>> = const { RefCell::new(None) };
}

/// Does some work, and notes every file that it asks for.
pub fn noted<T>(work: impl FnOnce() -> T) -> (T, GuestBook) {
    let outer = BOOK.replace(Some(GuestBook::default()));
    let result = work();
    (result, BOOK.replace(outer).unwrap_or_default())
}

/// Notes that a file was asked for: whether it is there, or to be `opened`.
pub(super) fn note(path: &Path, state: Option<State>, opened: bool) {
    BOOK.with_borrow_mut(|book| {
        let Some(GuestBook(guests)) = book else { return };
        match guests.iter_mut().find(|guest| guest.path == path) {
            Some(guest) => guest.opened |= opened, // the first state counts
            None => guests.push(Guest { path: path.to_owned(), state, opened, hash: None }),
        }
    });
}

/// Notes all bytes of a file that was opened.
pub(super) fn note_bytes(path: &Path, bytes: &[u8]) {
    BOOK.with_borrow_mut(|book| {
        let guest = book.iter_mut().flat_map(|book| &mut book.0).find(|guest| guest.path == path);
        if let Some(guest) = guest.filter(|guest| guest.hash.is_none()) {
            guest.hash = Some((bytes.len() as u64, sha256(bytes)));
        }
    });
}

impl GuestBook {
    /// All files that were asked for, be they there or not.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|guest| guest.path.as_path())
    }

    /// Those that were read.
    pub(crate) fn opened(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter(|guest| guest.opened).map(|guest| guest.path.as_path())
    }

    /// Each file that was asked for, and its state then; none where there was no such file.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&Path, Option<State>)> {
        self.0.iter().map(|guest| (guest.path.as_path(), guest.state))
    }

    /// Adds what another book has noted.
    pub(crate) fn extend(&mut self, other: GuestBook) {
        let new = |guest: &Guest| self.0.iter().all(|known| known.path != guest.path);
        let new: Vec<Guest> = other.0.into_iter().filter(new).collect();
        self.0.extend(new);
    }

    /// Refuses to replace a file that was read, by whatever name.
    ///
    /// # Errors
    /// When `target` is one of them.
    pub fn refuse_target(&self, target: &Path) -> Result<()> {
        let file = identity(target);
        if file.is_none() || self.opened().all(|read| identity(read) != file) {
            return Ok(());
        }
        let expected = "another name: --force does not replace it";
        Err(Error::file_mismatch(target, "a file that this run reads", expected))
    }

    /// A file's length and SHA-256: of what passed where all of it did, or else of what is read now.
    pub(crate) fn hash(&self, path: &Path) -> Result<(u64, String)> {
        let guest = self.0.iter().find(|guest| guest.path == path);
        guest.and_then(|guest| guest.hash.clone()).map_or_else(|| super::sha256_of(path), Ok)
    }

    /// Refuses files that were written to since: several readers may have had several versions.
    ///
    /// # Errors
    /// When a file has another length, time of its last change or inode than at first.
    pub(crate) fn refuse_changed(&self) -> Result<()> {
        match self.0.iter().find(|guest| State::now(&guest.path) != guest.state) {
            None => Ok(()),
            Some(Guest { path, .. }) => {
                let expected = "the file as it was at the start: run again";
                Err(Error::file_mismatch(path, "it was changed while it was read", expected))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{is_there, open, read_beginning, read_capped};

    #[test]
    fn what_passes_is_noted_once_with_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["whole", "beginning", "asked", "opened", "unseen"] {
            std::fs::write(path(name), name).unwrap();
        }
        let ((), book) = noted(|| {
            assert!(is_there(&path("asked")) && !is_there(&path("absent")));
            for _ in 0..2 {
                assert_eq!(read_capped(&path("whole"), 100).unwrap().unwrap(), b"whole");
            }
            assert_eq!(read_beginning(&path("beginning"), 2).unwrap().unwrap(), b"be");
            open(&path("opened")).unwrap();
        });
        read_capped(&path("unseen"), 100).unwrap();
        let names = ["asked", "absent", "whole", "beginning", "opened"].map(path);
        assert!(book.asked().eq(&names), "{book:?}");
        assert!(book.opened().eq(&names[2..]), "{book:?}");
        book.refuse_changed().unwrap();
        // What passed counts, not what is there now.
        std::fs::write(path("whole"), "other").unwrap();
        assert_eq!(book.hash(&path("whole")).unwrap(), (5, sha256(b"whole")));
        assert_eq!(book.hash(&path("beginning")).unwrap(), (9, sha256(b"beginning")));
        assert!(book.refuse_changed().unwrap_err().to_string().contains("whole: found it was changed"));
    }

    #[test]
    fn a_file_that_appears_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("late");
        let (read, book) = noted(|| read_capped(&path, 100).unwrap());
        assert_eq!(read, None);
        std::fs::write(&path, "x").unwrap();
        assert!(book.refuse_changed().unwrap_err().to_string().contains("changed while it was read"));
    }
}
