//! The SHA-256 that a download cache knows of a file: whoever reads all of it anyway can compare.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hash::hex;
use crate::input;

/// Three short lines.
const MAX_METADATA: u64 = 4096;
/// What is known of a file.
struct Known {
    /// Its SHA-256, in hexadecimal.
    hash: String,
    /// The file that it is known from.
    source: PathBuf,
    /// What to do where the hash is another.
    remedy: String,
}

/// Holds a file against what the Hugging Face cache that it lies in knows, if it lies in one. `read` is told the bytes of
/// each piece, and may stop it.
///
/// The client itself believes no note that is older than its file. Here a copy that was damaged and written anew must
/// not pass, and who changed the file on purpose is told how to say so.
pub(super) fn check(path: &Path, read: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    let Some(Known { hash, source, remedy }) = known(path) else { return Ok(()) };
    let found = sha256(path, read)?;
    if found.eq_ignore_ascii_case(&hash) {
        return Ok(());
    }
    let expected = format!("{hash} by {}: {remedy}", source.display());
    Err(Error::file_mismatch(path, format!("SHA-256 {found}"), expected))
}

/// Whether there is anything to hold a file against.
pub(super) fn is_known(path: &Path) -> bool {
    known(path).is_some()
}

fn known(path: &Path) -> Option<Known> {
    const DAMAGED: &str = "the download is damaged, delete the file and download it again";
    let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // In the cache itself, a large file's name is its hash, and the model's folder has a link to it.
    let real = path.canonicalize().ok()?;
    if real.parent().is_some_and(|folder| folder.ends_with("blobs"))
        && let Some(name) = real.file_name().and_then(|name| name.to_str()).filter(|name| is_hash(name))
    {
        return Some(Known { hash: name.to_owned(), source: real.clone(), remedy: DAMAGED.to_owned() });
    }
    // In a folder of the user's own, the client notes it in the second of three lines.
    let name = path.file_name()?.to_str()?;
    let notes = path.with_file_name(".cache").join("huggingface").join("download");
    let source = notes.join(format!("{name}.metadata"));
    let text = input::read_capped(&source, MAX_METADATA).ok()??;
    let second = std::str::from_utf8(&text).ok()?.lines().nth(1)?.trim();
    let remedy = format!("{DAMAGED}; if you changed it yourself, delete that note");
    is_hash(second).then(|| Known { hash: second.to_owned(), source, remedy })
}

fn sha256(path: &Path, read: &mut dyn FnMut(u64) -> Result<()>) -> Result<String> {
    let mut file = BufReader::with_capacity(1 << 20, input::open(path)?);
    let mut hash = Sha256::new();
    loop {
        let bytes = file.fill_buf().map_err(Error::io(path, "read"))?;
        if bytes.is_empty() {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(bytes);
        let length = bytes.len();
        file.consume(length);
        read(length as u64)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    const WEIGHTS: &[u8] = b"weights";

    fn outcome(path: &Path) -> String {
        check(path, &mut |_| Ok(())).map_or_else(|error| error.to_string(), |()| "right".to_owned())
    }

    #[test]
    fn a_blob_has_the_hash_that_it_is_named_by() {
        let folder = tempfile::tempdir().unwrap();
        let (blobs, link) = (folder.path().join("blobs"), folder.path().join("model.safetensors"));
        create_dir_all(&blobs).unwrap();
        for (name, expected) in [
            (crate::hash::sha256(WEIGHTS), "right".to_owned()),
            ("0".repeat(40), "right".to_owned()), // a small file's, which is no SHA-256
            ("ab".repeat(32), format!("expected {} by ", "ab".repeat(32))),
        ] {
            let blob = blobs.join(&name);
            write(&blob, WEIGHTS).unwrap();
            assert!(outcome(&blob).contains(&expected), "{}", outcome(&blob));
            crate::system::link(&blob, &link).unwrap();
            // A second name of the file, which stands for a link on Windows, does not tell of the first.
            let expected = if link.is_symlink() { &expected } else { "right" };
            assert!(outcome(&link).contains(expected), "{}", outcome(&link));
            std::fs::remove_file(&link).unwrap();
        }
    }

    #[test]
    fn the_clients_own_note_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        let notes = folder.path().join(".cache/huggingface/download");
        create_dir_all(&notes).unwrap();
        write(&file, WEIGHTS).unwrap();
        assert_eq!(outcome(&file), "right");
        let right = crate::hash::sha256(WEIGHTS);
        for (second, good) in [(right.as_str(), true), ("short", true), (&"0".repeat(64), false)] {
            let note = format!("e46a\n{second}\n1.5\n"); // older than the file

            write(notes.join("model.safetensors.metadata"), note).unwrap();
            assert_eq!(outcome(&file) == "right", good, "{}", outcome(&file));
        }
        assert!(outcome(&file).contains(&right) && outcome(&file).contains("delete that note"));
    }
}
