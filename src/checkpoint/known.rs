//! The SHA-256 that a download cache knows of a file: whoever reads all of it anyway can compare.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hash::hex;
use crate::input;
use crate::watch::Watch;

/// Three short lines.
const MAX_METADATA: u64 = 4096;
/// Seconds that a file may be younger than the note of it, as in huggingface_hub, which ignores older notes too.
const SLACK: f64 = 1.0;

/// What is known of a file's hash.
enum Known {
    /// The hash, and the file that it is known from.
    Hash(String, PathBuf),
    /// The file was written to after the client's note: an own one may have its name.
    Stale(PathBuf),
}

/// Holds a file against what the Hugging Face cache that it lies in knows, if it lies in one. `watch` may stop it.
pub(super) fn check(path: &Path, watch: &dyn Watch) -> Result<()> {
    let Some(Known::Hash(expected, source)) = known(path) else { return Ok(()) };
    let found = sha256(path, watch)?;
    if found.eq_ignore_ascii_case(&expected) {
        return Ok(());
    }
    let expected = format!(
        "{expected} by {}: the download is damaged, delete the file and download it again",
        source.display()
    );
    Err(Error::mismatch(path, "", format!("SHA-256 {found}"), expected))
}

/// Says that what is known of a file is of an earlier version, so that [`check`] has nothing to compare.
pub(super) fn stale(path: &Path) -> Option<String> {
    let Some(Known::Stale(note)) = known(path) else { return None };
    let (path, note) = (path.display(), note.display());
    Some(format!("{path} was written to after its download: its SHA-256 in {note} is not compared"))
}

fn known(path: &Path) -> Option<Known> {
    let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // In the cache itself, a large file's name is its hash, and the model's folder has a link to it.
    let real = path.canonicalize().ok()?;
    if real.parent().is_some_and(|folder| folder.ends_with("blobs"))
        && let Some(name) = real.file_name().and_then(|name| name.to_str()).filter(|name| is_hash(name))
    {
        return Some(Known::Hash(name.to_owned(), real.clone()));
    }
    // In a folder of the user's own, the client notes it in the second of three lines; in the third, when.
    let name = path.file_name()?.to_str()?;
    let metadata = path.with_file_name(".cache/huggingface/download").join(format!("{name}.metadata"));
    let text = input::read_capped(&metadata, MAX_METADATA).ok()??;
    let mut lines = std::str::from_utf8(&text).ok()?.lines().skip(1).map(str::trim);
    let hash = lines.next().filter(|hash| is_hash(hash))?.to_owned();
    let noted: f64 = lines.next()?.parse().ok()?;
    let written = path.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let stale = written.as_secs_f64() - SLACK > noted;
    Some(if stale { Known::Stale(metadata) } else { Known::Hash(hash, metadata) })
}

fn sha256(path: &Path, watch: &dyn Watch) -> Result<String> {
    let mut file: BufReader<File> = BufReader::with_capacity(1 << 20, input::open(path)?);
    let mut hash = Sha256::new();
    loop {
        watch.go_on()?;
        let bytes = file.fill_buf().map_err(Error::io(path, "read"))?;
        if bytes.is_empty() {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(bytes);
        let read = bytes.len();
        file.consume(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    const WEIGHTS: &[u8] = b"weights";

    fn outcome(path: &Path) -> String {
        check(path, &()).map_or_else(|error| error.to_string(), |()| "right".to_owned())
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
            write(blobs.join(&name), WEIGHTS).unwrap();
            std::os::unix::fs::symlink(blobs.join(&name), &link).unwrap();
            assert!(outcome(&link).contains(&expected), "{}", outcome(&link));
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
            let note = format!("e46a\n{second}\n{}\n", now());
            write(notes.join("model.safetensors.metadata"), note).unwrap();
            assert_eq!(outcome(&file) == "right", good, "{}", outcome(&file));
        }
        assert!(outcome(&file).contains(&right));
    }

    fn now() -> f64 {
        std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
    }

    #[test]
    fn a_note_of_an_earlier_version_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        let notes = folder.path().join(".cache/huggingface/download");
        create_dir_all(&notes).unwrap();
        write(&file, WEIGHTS).unwrap();
        for (noted, old) in [(now() + 5.0, false), (now() - 60.0, true), (1.5, true)] {
            let note = format!("e46a\n{}\n{noted}\n", "0".repeat(64));
            write(notes.join("model.safetensors.metadata"), note).unwrap();
            assert_eq!(stale(&file).is_some(), old, "{noted}");
            assert_eq!(outcome(&file).contains("found SHA-256"), !old, "{noted}");
        }
        // What huggingface_hub cannot read it takes for none.
        write(notes.join("model.safetensors.metadata"), format!("e46a\n{}\n", "0".repeat(64))).unwrap();
        assert_eq!((outcome(&file), stale(&file)), ("right".to_owned(), None));
    }
}
