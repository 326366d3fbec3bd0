//! The names of a run's files: all of them are given, or none.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use super::{Pending, folder_of};
use crate::error::Result;

/// Syncs the complete files, then gives each its name. When one cannot have it, those before it lose theirs, and
/// what they replaced is there again.
///
/// Two things cannot be undone: a process that is killed between two names leaves the first ones, and where the
/// file system cannot exchange two names, what was replaced is gone and its replacement stays.
///
/// # Errors
/// When the system cannot sync or rename.
pub fn publish(mut files: Vec<Pending>) -> Result<()> {
    files.iter().try_for_each(Pending::sync)?;
    for number in 0..files.len() {
        if let Err(error) = files[number].name() {
            files[..number].iter_mut().rev().for_each(Pending::take_back);
            return Err(error);
        }
    }
    // The names themselves must survive a power cut.
    files
        .iter()
        .map(|file| folder_of(file.target()))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .for_each(sync_folder);
    Ok(())
}

/// A folder that cannot be synced is no reason to fail.
pub(crate) fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a`, which replaces an older one, `b` and `c`; the name of `c` is taken meanwhile.
    #[test]
    fn when_one_cannot_be_named_none_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), "old a").unwrap();
        let pending = |name: &str, replace| {
            let mut file = Pending::create(&path(name), replace).unwrap();
            file.write_all(b"new").unwrap();
            file
        };
        let files = || vec![pending("a", true), pending("b", true), pending("c", false)];
        let waiting = files();
        std::fs::write(path("c"), "another's").unwrap();
        let error = publish(waiting).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{}: exists already: choose another name, or give --force to replace it",
                path("c").display()
            )
        );
        let names = || {
            let entries = std::fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["a", "c"]);
        // Where two names cannot be exchanged, what was replaced is gone, and its replacement is whole.
        let kept: &[u8] = if cfg!(windows) { b"new" } else { b"old a" };
        assert_eq!(std::fs::read(path("a")).unwrap(), kept);

        std::fs::remove_file(path("c")).unwrap();
        publish(files()).unwrap();
        assert_eq!(names(), ["a", "b", "c"]);
        assert_eq!(std::fs::read(path("a")).unwrap(), b"new");
    }
}
