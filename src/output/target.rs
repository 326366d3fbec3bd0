//! Whether a file can be written under a name: asked before the work, so that it is not done in vain.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, is_separator};

use crate::error::{Error, Result};
use crate::system;

/// Refuses a name that no file can have, and one that is taken by anything but a file that may be replaced.
///
/// # Errors
/// When it is a folder's or too long, its folder is not there, or something has it already.
pub fn check(target: &Path, replace: bool) -> Result<()> {
    if target.is_dir() {
        return Err(Error::file_mismatch(target, "a folder", "the name of the file to write"));
    }
    let bytes = target.as_os_str().as_encoded_bytes();
    let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
    let folder = bytes.last().is_some_and(|&byte| is_separator(byte.into()));
    let Some(name) = target.file_name().filter(|_| !folder) else {
        return Err(Error::file_mismatch(target, "the name of a folder", "that of a file"));
    };
    let length = system::name_length(name);
    if length > system::LONGEST_NAME {
        let found = format!("a name of {length} bytes");
        return Err(Error::file_mismatch(target, found, format!("at most {}", system::LONGEST_NAME)));
    }
    check_name(target)?;
    check_kind(target)?;
    check_mount(target)?;
    match target.symlink_metadata() {
        Ok(_) if !replace => Err(exists(target)),
        Ok(_) => {
            system::check_replaceable(target).map_err(|_| in_use_elsewhere(target))?;
            check_folder(target)
        }
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(target, "write")(e)),
        Err(_) => match fs::metadata(folder_of(target)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Err(no_folder(target)),
            _ => check_folder(target),
        },
    }
}

/// A file is made beside its target before it takes the name.
fn check_folder(target: &Path) -> Result<()> {
    match system::may_write(folder_of(target)).err() {
        Some(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            Err(Error::io(target, "write")(e))
        }
        _ => Ok(()), // whatever else there is shows when it is made
    }
}

/// A device or a pipe, or a link to one, is not for replacing by a file. Other links are: what they lead to stays.
pub(super) fn check_kind(target: &Path) -> Result<()> {
    let Ok(found) = target.symlink_metadata() else { return Ok(()) };
    let to_file = || !target.metadata().is_ok_and(|found| !found.is_file());
    // /dev/stdout is a link to whatever that is, and a file in most batch jobs.
    if found.is_file() || (found.is_symlink() && to_file() && !target.starts_with("/dev")) {
        return Ok(());
    }
    Err(Error::file_mismatch(target, "no regular file", "a file or nothing there"))
}

/// What is mounted under a name keeps it: no rename can take it away.
pub(crate) fn check_mount(target: &Path) -> Result<()> {
    if system::is_mount_point(target) {
        return Err(Error::file_mismatch(
            target,
            "a mount point",
            "a name that can be replaced: choose one in it",
        ));
    }
    Ok(())
}

/// Refuses a name that the system has for something else.
pub(crate) fn check_name(target: &Path) -> Result<()> {
    match target.file_name().and_then(system::check_name) {
        Some(problem) => Err(Error::file_mismatch(target, problem, "another")),
        None => Ok(()),
    }
}

pub(super) fn in_use_elsewhere(target: &Path) -> Error {
    let expected = "one that can be replaced: close it there, or choose another name";
    Error::file_mismatch(target, "a file that another program has open", expected)
}

pub(crate) fn exists(target: &Path) -> Error {
    Error::file(target, "exists already: choose another name, or give --force to replace it")
}

pub(super) fn no_folder(target: &Path) -> Error {
    let folder = folder_of(target);
    match folder.is_dir() {
        true => Error::file(target, "cannot be made: its folder takes no new files"), // /proc is one
        false => Error::file(folder, "does not exist: make this folder, or write elsewhere"),
    }
}

/// The folder that a file of this name lies in.
pub(crate) fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(target: &Path) -> String {
        let text = check(target, true).unwrap_err().to_string();
        text.strip_prefix(&format!("{}: ", target.display())).unwrap_or(&text).to_owned()
    }

    #[test]
    fn names_that_no_file_can_have() {
        let folder = tempfile::tempdir().unwrap();
        // Windows takes `new/..` for the folder that it is in, be there a `new` or not.
        let up = if cfg!(windows) { "new/" } else { "new/.." };
        for name in ["new/", "new/.", up] {
            let expected = "found the name of a folder, expected that of a file";
            assert_eq!(refusal(&folder.path().join(name)), expected, "{name}");
        }
        for name in [".", "..", "/"] {
            let expected = "found a folder, expected the name of the file to write";
            assert_eq!(refusal(Path::new(name)), expected, "{name}");
        }
        let long = folder.path().join("x".repeat(256));
        assert_eq!(refusal(&long), "found a name of 256 bytes, expected at most 255");
        assert!(check(&folder.path().join("x".repeat(255)), false).is_ok());
        let error = check(Path::new("no/such/m.gguf"), false).unwrap_err().to_string();
        assert_eq!(error, "no/such: does not exist: make this folder, or write elsewhere");
    }

    #[cfg(unix)] // Windows has neither, nor links for everyone
    #[test]
    fn devices_and_pipes_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let expected = "found no regular file, expected a file or nothing there";
        let link = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for device in [Path::new("/dev/null"), &link, Path::new("/dev/stdout")] {
            assert_eq!(refusal(device), expected, "{}", device.display());
        }
        fs::write(folder.path().join("file"), "").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("file", &link).unwrap();
        assert!(check(&link, true).is_ok());
        assert_eq!(
            refusal(&folder.path().join("file/m.gguf")),
            "cannot write: Not a directory (os error 20)"
        );
    }
}
