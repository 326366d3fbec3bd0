//! Files that a stranger may have made: opened only when they are regular ones, and read whole only up to a cap.
//! What they hold instead of what they should is said here, where any of them may hold it.

mod guests;
mod held;
mod source;

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{Error, InFile, Problem, Result};
use crate::hash::hex;
use crate::system;
pub(crate) use guests::State;
pub use guests::{GuestBook, noted};
use held::HeldPath;
pub use held::{Files, Held};
pub use source::{ReadAt, Source};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Opens a regular file.
///
/// # Errors
/// When it cannot be opened, or is a folder, a pipe or a device.
pub fn open(path: &Path) -> Result<Source> {
    open_if_there(path)?.ok_or_else(|| Error::file(path, "no such file"))
}

/// Reads a whole small file; `None` when there is none. A byte order mark is left out.
///
/// # Errors
/// When it is over `max` bytes or a Git LFS pointer, and as for [`open`].
pub fn read_capped(path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    let Some(file) = open_if_there(path)? else { return Ok(None) };
    let over = || Err(Error::file_mismatch(path, format!("over {max} bytes"), "no more of such a file"));
    if file.length().map_err(Error::io(path, "read"))? > max {
        return over();
    }
    let mut bytes = read_first(path, file, max + 1)?; // one more to see the end
    if bytes.len() as u64 > max {
        return over();
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(lfs_pointer()).in_file(path);
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(Some(bytes))
}

/// The same of a file that has to be there.
///
/// # Errors
/// When there is none, and as for [`read_capped`].
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>> {
    read_capped(path, max)?.ok_or_else(|| Error::file(path, "no such file"))
}

/// The text of such a file.
///
/// # Errors
/// When it is no UTF-8, and as for [`read`].
pub fn text(path: &Path, max: u64) -> Result<String> {
    String::from_utf8(read(path, max)?).map_err(|_| Error::file(path, "is not UTF-8 text"))
}

/// Reads a file's first `max` bytes, or all of it when it is smaller; `None` when there is none.
///
/// # Errors
/// As for [`open`].
pub(crate) fn read_beginning(path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    open_if_there(path)?.map(|file| read_first(path, file, max)).transpose()
}

fn read_first(path: &Path, file: Source, max: u64) -> Result<Vec<u8>> {
    let length = file.length().map_err(Error::io(path, "read"))?;
    let mut bytes = Vec::with_capacity(length.min(max) as usize); // at most the cap
    file.take(max).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    if (bytes.len() as u64) < max {
        guests::note_bytes(path, &bytes);
    }
    Ok(bytes)
}

/// Whether anything has this name, be it a link to nothing.
pub(crate) fn is_there(path: &Path) -> bool {
    guests::note(path, State::now(path), false);
    held::find(path).map_or_else(|| path.symlink_metadata().is_ok(), is_something)
}

/// Whether anything is there, be it something that must not be read; nobody is told that it was asked for.
pub(crate) fn exists(path: &Path) -> bool {
    held::find(path).map_or_else(|| !matches!(path.try_exists(), Ok(false)), is_something)
}

fn is_something(place: HeldPath) -> bool {
    !matches!(place, HeldPath::Nothing)
}

/// Whether it is a regular file.
pub(crate) fn is_file(path: &Path) -> bool {
    held::find(path).map_or_else(|| path.is_file(), |place| matches!(place, HeldPath::File(_)))
}

/// Whether it is a folder.
pub(crate) fn is_folder(path: &Path) -> bool {
    held::find(path).map_or_else(|| path.is_dir(), |place| matches!(place, HeldPath::Folder(_)))
}

/// The names in a folder, sorted; none when it cannot be read.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = match held::find(folder) {
        Some(HeldPath::Folder(names)) => names,
        Some(_) => Vec::new(),
        None => {
            let entries = folder.read_dir().into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        }
    };
    names.sort();
    names
}

/// A file's length and the SHA-256 of its bytes.
///
/// # Errors
/// When it cannot be read, and as for [`open`].
pub fn sha256_of(path: &Path) -> Result<(u64, String)> {
    let mut file = open(path)?;
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut file, &mut hash).map_err(Error::io(path, "read"))?;
    Ok((bytes, hex(&hash.finalize())))
}

/// Parses JSON.
///
/// # Errors
/// When there are no bytes, or they are something else: `refusal` says what they are not.
pub(crate) fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8], refusal: &str) -> Result<T, Problem> {
    if bytes.is_empty() {
        return Err(Problem::mismatch("", "0 bytes", "JSON: is the file complete?"));
    }
    serde_json::from_slice(bytes).map_err(|e| Problem::new("", format!("{refusal}: {e}")))
}

/// Parses one JSON object.
///
/// # Errors
/// When the bytes are no JSON, or another value.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    match json(bytes, "is not valid JSON")? {
        Value::Object(map) => Ok(map),
        other => Err(Problem::mismatch("", kind(&other), "a JSON object")),
    }
}

/// What a JSON value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What a clone without Git LFS leaves in the place of a large file.
pub(crate) fn lfs_pointer() -> Problem {
    Problem::mismatch("", "a Git LFS pointer", "the file itself (fetch it with `git lfs pull`)")
}

/// The error on a link to nothing, which a download cache without its blobs is full of.
pub(crate) fn dangling(path: &Path) -> Option<Error> {
    let target = path.read_link().ok().filter(|_| matches!(path.try_exists(), Ok(false)))?;
    let found = format!("found a link to {}, which is not there: download it again", target.display());
    Some(Error::file(path, found))
}

fn open_if_there(path: &Path) -> Result<Option<Source>> {
    let folder = || Error::file_mismatch(path, "a folder", "a file");
    match held::find(path) {
        None => {}
        Some(HeldPath::File(file)) => {
            guests::note(path, State::now(path), true);
            return Ok(Some(Source::Held(file, 0)));
        }
        Some(HeldPath::Folder(_)) => return Err(folder()),
        Some(HeldPath::Nothing) => {
            guests::note(path, None, false);
            return Ok(None);
        }
    }
    let file = match system::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            guests::note(path, None, false);
            return dangling(path).map_or(Ok(None), Err);
        }
        Err(e) => return Err(Error::io(path, "open")(e)),
    };
    let metadata = file.metadata().map_err(Error::io(path, "read"))?;
    if metadata.is_dir() {
        return Err(folder());
    }
    if !metadata.is_file() {
        return Err(Error::file_mismatch(path, "no regular file", "one"));
    }
    guests::note(path, Some(State::of(&metadata)), true);
    Ok(Some(Source::Disk(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_only_small_ones_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read_capped(&path, 5).unwrap(), None);
        assert_eq!(open(&path).unwrap_err().to_string(), format!("{}: no such file", path.display()));
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_capped(&path, 5).unwrap().unwrap(), b"12345");
        assert!(read_capped(&path, 4).unwrap_err().to_string().contains("found over 4 bytes"));
        assert!(open(folder.path()).unwrap_err().to_string().ends_with(": found a folder, expected a file"));
        if cfg!(unix) {
            let error = open(Path::new("/dev/zero")).unwrap_err().to_string();
            assert_eq!(error, "/dev/zero: found no regular file, expected one");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_text_and_a_pointer_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "\u{feff}{}").unwrap();
        assert_eq!(read_capped(&path, 5).unwrap().unwrap(), b"{}");
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n").unwrap();
        assert!(read_capped(&path, 100).unwrap_err().to_string().contains("found a Git LFS pointer"));
    }

    #[cfg(unix)] // Windows has links only for some
    #[test]
    fn a_link_to_nothing_is_told_from_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::os::unix::fs::symlink("blobs/1", &path).unwrap();
        let problem = "found a link to blobs/1, which is not there: download it again";
        for error in [read_capped(&path, 5).unwrap_err(), open(&path).unwrap_err()] {
            assert_eq!(error.to_string(), format!("{}: {problem}", path.display()));
        }
    }

    #[test]
    fn what_is_no_object_is_said() {
        for (text, problem) in [
            ("", "found 0 bytes, expected JSON: is the file complete?"),
            ("{", "is not valid JSON: EOF while parsing an object at line 1 column 1"),
            ("[]", "found a list, expected a JSON object"),
        ] {
            assert_eq!(object(text.as_bytes()).unwrap_err(), Problem::new("", problem));
        }
    }
}
