//! What a hub says a repository holds: asked once, and from then on the measure of every byte.

use std::collections::BTreeMap;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::{Error, Problem, Result};
use crate::hash::hex;
use crate::system;

/// A real repository of the family has thirty files.
pub(super) const MOST_FILES: usize = 20_000;
/// Bytes of one list: a file takes some 300.
pub(super) const LARGEST_LIST: u64 = 16 << 20;

/// A repository at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    /// `ORG/NAME`, as the hub has it now: a renamed repository answers to its old name.
    pub(super) repository: String,
    pub(super) commit: String,
    /// The revision to ask for files by.
    pub(super) revision: String,
    /// By path.
    pub(super) files: BTreeMap<String, Entry>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) bytes: u64,
    pub(super) hash: Hash,
}

/// What a hub knows of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// SHA-256 of the bytes alone: large files, and all of ModelScope's.
    Sha256(String),
    /// Git's own, a SHA-1 of the bytes behind a header: small files on Hugging Face.
    Git(String),
}

impl Hash {
    /// The hash's text, by which caches call a file.
    pub(super) fn text(&self) -> &str {
        match self {
            Hash::Sha256(text) | Hash::Git(text) => text,
        }
    }

    pub(super) fn sha256(text: &str) -> Option<Hash> {
        is_hex(text, 64).then(|| Hash::Sha256(text.to_ascii_lowercase()))
    }

    pub(super) fn git(text: &str) -> Option<Hash> {
        is_hex(text, 40).then(|| Hash::Git(text.to_ascii_lowercase()))
    }
}

/// What to do when what came from a hub is not what it listed.
pub(super) const RUN_AGAIN: &str = "what came is damaged, run again";

/// A commit or a hash: nothing else is joined to a path.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Takes a file's bytes in, and judges them at their end.
#[derive(Debug)]
pub(super) struct Judge {
    expected: Hash,
    sha256: Sha256,
    git: Option<Sha1>,
}

impl Judge {
    pub(super) fn new(entry: &Entry) -> Judge {
        let git = || Sha1::new_with_prefix(format!("blob {}\0", entry.bytes));
        let git = matches!(entry.hash, Hash::Git(_)).then(git);
        Judge { expected: entry.hash.clone(), sha256: Sha256::new(), git }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    /// The SHA-256 of bytes that are right.
    ///
    /// # Errors
    /// When the bytes have another hash than the hub says; `remedy` is what to do then.
    pub(super) fn end(self, file: &Path, remedy: &str) -> Result<String> {
        let sha256 = hex(&self.sha256.finalize());
        let (kind, found) = match self.git {
            None => ("SHA-256", sha256.clone()),
            Some(git) => ("git hash", hex(&git.finalize())),
        };
        let expected = self.expected.text();
        if found == expected {
            return Ok(sha256);
        }
        let expected = format!("{expected} by the hub's own list: {remedy}");
        Err(Error::file_mismatch(file, format!("bytes of {kind} {found}"), expected))
    }
}

/// The files of a list that a stranger has made, by their paths.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<String, Entry>);

impl Files {
    /// Adds a file. One that some system could not have in a folder is passed over; nothing here reads such.
    ///
    /// # Errors
    /// When there are too many, the path leads out of the repository, or has something else already.
    pub(super) fn add(&mut self, path: String, entry: Entry) -> Result<(), Problem> {
        let wrong = |found: &str, expected: &str| Err(Problem::mismatch(&path, found, expected));
        if leads_out(&path) {
            return wrong("a path that leads out of the repository in the hub's list", "one of its files");
        }
        if path.len() >= 1024 || !path.split('/').all(system::is_plain_name) {
            return Ok(());
        }
        if self.0.get(&path).is_some_and(|known| *known != entry) {
            return wrong("the file twice in the hub's list, each time another one", "one of each name");
        }
        if self.0.len() >= MOST_FILES {
            let found = format!("over {MOST_FILES} files");
            return Err(Problem::mismatch("", found, "a model's few dozen"));
        }
        self.0.insert(path, entry);
        Ok(())
    }

    pub(super) fn done(self) -> BTreeMap<String, Entry> {
        self.0
    }
}

/// The hub's list does not say something of a file that it says of each.
pub(super) fn missing(path: &str, what: &str) -> Problem {
    Problem::mismatch(path, format!("no {what} in the hub's list"), "one of each file")
}

fn leads_out(path: &str) -> bool {
    path.contains('\0') || path.split('/').any(|part| part.is_empty() || part == "." || part == "..")
}

/// A path or a revision in an address.
pub(super) fn escaped(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(text, KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::InFile;

    #[test]
    fn bytes_are_judged_by_either_hash() {
        let outcome = |hash: Hash| {
            let mut judge = Judge::new(&Entry { bytes: 6, hash });
            judge.add(b"hel");
            judge.add(b"lo\n");
            judge.end(Path::new("f"), RUN_AGAIN)
        };
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"; // sha256sum
        let git = "ce013625030ba8dba906f756967f9e9ca394464a"; // git hash-object
        assert_eq!(outcome(Hash::sha256(&sha256.to_uppercase()).unwrap()).unwrap(), sha256);
        assert_eq!(outcome(Hash::git(git).unwrap()).unwrap(), sha256);
        for (hash, kind) in
            [(Hash::sha256(&"0".repeat(64)), "SHA-256 5891"), (Hash::git(&"0".repeat(40)), "git hash ce01")]
        {
            let error = outcome(hash.unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("f: found bytes of {kind}")), "{error}");
        }
        assert_eq!((Hash::sha256("abc"), Hash::git("../x")), (None, None));
    }

    #[test]
    fn paths_stay_in_their_folder_and_addresses_whole() {
        let entry = |bytes| Entry { bytes, hash: Hash::Git("0".repeat(40)) };
        let mut files = Files::default();
        let mut add =
            |path: &str, bytes| files.add(path.to_owned(), entry(bytes)).in_file(Path::new("hf://a/b"));
        for path in ["config.json", "Config.json", "a/b.gguf", "a\\b", "config.json"] {
            add(path, 1).unwrap();
        }
        for path in ["", "/etc/passwd", "../a", "a/../b", "a//b", ".", "a\0b", "a/"] {
            let error = add(path, 1).unwrap_err().to_string();
            assert!(error.contains("leads out of the repository"), "{path}: {error}");
        }
        let error = add("config.json", 2).unwrap_err().to_string();
        assert!(error.starts_with("hf://a/b: config.json: found the file twice"), "{error}");
        let names: Vec<String> = files.done().into_keys().collect();
        assert_eq!(names, ["Config.json", "a/b.gguf", "config.json"]);
        assert_eq!(escaped("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(escaped("a b?#模.json"), "a%20b%3F%23%E6%A8%A1.json");
    }
}
