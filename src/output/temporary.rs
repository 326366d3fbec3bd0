//! The temporary that an output is made in: `.glm2llama-NAME.tmp`, beside the NAME that it is to take.
//!
//! The name says whose it is, so that what a killed run left behind is found by the next run to the same target,
//! and deleted before it takes its disk space a second time. A run holds a lock on its temporary, which the
//! system drops with the process: what is locked belongs to a run that is at work, and is left alone.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::target::{folder_of, no_folder};
use crate::error::{Error, Result};
use crate::hash::sha256;
use crate::system::{self, lock};

/// A temporary file or folder of our own, locked. Dropping it deletes it.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    /// Open for its lock; a file is also written through it.
    file: File,
    kind: Kind,
    state: State,
}

/// What has become of a temporary.
#[derive(Debug)]
enum State {
    /// Nothing yet: it is to be deleted.
    Unnamed,
    /// It has got its own name, which nothing had.
    Named,
    /// It has exchanged names with the old target, which is to be deleted. It is open for its lock, or else the next
    /// run would take it for dead.
    Exchanged(Option<File>),
    /// There is no way back any more, and nothing to delete.
    Done,
}

/// What a temporary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
}

impl Temporary {
    /// Makes the temporary of `target`, in place of what a killed run may have left.
    ///
    /// # Errors
    /// When the folder is not writable, or another run is at work on the same target.
    pub(crate) fn create(target: &Path, kind: Kind) -> Result<Temporary> {
        let path = folder_of(target).join(name(target));
        // Another run may delete between any two steps; more than a few times in a row it will not.
        for _ in 0..100 {
            match kind.make(&path) {
                Ok(file) => {
                    // Whoever found it before it was locked may have taken it for dead. Where the file system
                    // knows no locks, nobody takes it.
                    if !matches!(lock(&file), Ok(false)) && is_at(&file, &path) {
                        return Ok(Temporary { path, file, kind, state: State::Unnamed });
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => remove_dead(&path, target)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(no_folder(target)),
                Err(e) => return Err(Error::io(target, "write")(e)),
            }
        }
        Err(in_use(target, &path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it the target's name; where `replace` is false, only if nothing has that name.
    pub(crate) fn rename(&mut self, target: &Path, replace: bool) -> io::Result<()> {
        system::allow_rename(&mut self.file, &self.path, self.kind == Kind::Folder)?;
        if replace && target.symlink_metadata().is_ok() {
            if self.exchange(target).is_err() {
                system::check_replaceable(target)?;
                fs::rename(&self.path, target)?; // says itself why not
                self.state = State::Done;
            }
            return Ok(());
        }
        system::rename_new(&self.path, target)?;
        self.state = State::Named;
        Ok(())
    }

    /// Exchanges its name with that of a target that exists, which is then deleted.
    pub(crate) fn exchange(&mut self, target: &Path) -> io::Result<()> {
        let old = File::open(target).ok().filter(|old| lock(old).is_ok());
        system::exchange(&self.path, target)?;
        self.state = State::Exchanged(old);
        Ok(())
    }

    /// Undoes [`Temporary::rename`], where there is a way back.
    pub(crate) fn take_back(&mut self, target: &Path) {
        let undone = match self.state {
            State::Named => fs::rename(target, &self.path),
            State::Exchanged(_) => system::exchange(&self.path, target),
            State::Unnamed | State::Done => return,
        };
        // A file that cannot be put back is kept under the name that it has.
        self.state = if undone.is_ok() { State::Unnamed } else { State::Done };
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let delete = match &self.state {
            State::Unnamed => is_at(&self.file, &self.path),
            State::Exchanged(old) => old.as_ref().is_none_or(|old| is_at(old, &self.path)),
            State::Named | State::Done => false,
        };
        if delete {
            let _ = system::allow_rename(&mut self.file, &self.path, self.kind == Kind::Folder);
            let _ = self.kind.remove(&self.path);
        }
    }
}

impl Kind {
    fn make(self, path: &Path) -> io::Result<File> {
        match self {
            Kind::File => system::make_file(path),
            Kind::Folder => system::make_folder(path),
        }
    }

    fn remove(self, path: &Path) -> io::Result<()> {
        match self {
            Kind::File => fs::remove_file(path),
            Kind::Folder => fs::remove_dir_all(path),
        }
    }
}

/// Deletes what lies at `path` if no run holds it.
fn remove_dead(path: &Path, target: &Path) -> Result<()> {
    let kind = match path.symlink_metadata() {
        Ok(found) if found.is_file() => Kind::File,
        Ok(found) if found.is_dir() => Kind::Folder,
        Ok(_) => return Err(Error::file_mismatch(path, "neither file nor folder", "nothing: remove it")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(path, "read")(e)),
    };
    let file = match system::open_to_lock(path, kind == Kind::Folder) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(in_use(target, path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(path, "open")(e)),
    };
    match lock(&file) {
        Ok(true) if is_at(&file, path) => {
            kind.remove(path).map_err(Error::io(path, "remove what a killed run left here"))
        }
        Ok(true) => Ok(()), // gone meanwhile: try again
        Ok(false) => Err(in_use(target, path)),
        Err(_) => {
            let expected = "none: remove it if no run is writing it";
            Err(Error::file_mismatch(path, "a temporary that this file system cannot lock", expected))
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let open = system::identity_of(file);
    open.is_some() && !path.is_symlink() && open == system::identity(path)
}

fn in_use(target: &Path, path: &Path) -> Error {
    let problem = format!(
        "another run is writing it: wait for that, or choose another name (its temporary is {})",
        path.display()
    );
    Error::file(target, problem)
}

/// A temporary's name may be no longer than 255 bytes either: long ones are cut, and what tells two of them apart
/// then is a hash.
fn name(target: &Path) -> String {
    const MOST: usize = 200;
    let whole = target.file_name().unwrap_or_default();
    match whole.to_str() {
        Some(name) if name.len() <= MOST => format!(".glm2llama-{name}.tmp"),
        _ => {
            let name = whole.to_string_lossy();
            let start = &name[..name.floor_char_boundary(MOST)];
            format!(".glm2llama-{start}-{}.tmp", &sha256(whole.as_encoded_bytes())[..16])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    #[cfg(unix)]
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn no_two_names_share_a_temporary_and_none_is_too_long() {
        assert_eq!(name(Path::new("folder/m.gguf")), ".glm2llama-m.gguf.tmp");
        let (same, other) = ("x".repeat(249), "\u{65e5}".repeat(83));
        let long = [format!("{same}.gguf"), format!("{same}.json"), format!("{other}.gguf"), other];
        #[cfg(unix)]
        let odd = [OsStr::from_bytes(b"m\xfe"), OsStr::from_bytes(b"m\xff")];
        #[cfg(not(unix))]
        let odd = [OsStr::new("m1"), OsStr::new("m2")];
        let mut names: Vec<String> =
            long.iter().map(OsStr::new).chain(odd).map(|target| name(Path::new(target))).collect();
        assert!(names.iter().all(|name| name.len() <= 255), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 6);
    }
}
