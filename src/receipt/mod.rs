//! The receipt of a conversion: every file that was read and written, with its hash.

mod check;

use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, Origin};
use crate::error::{Error, InFile, Problem, Result, shortened};
use crate::input::{self, GuestBook};
use crate::model;
use crate::provenance::VERSION;
pub use check::Check;

/// A thousand shards have 200 kB.
const MAX_BYTES: u64 = 1 << 20;

/// What a conversion read and wrote, as a JSON file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The program's version.
    pub glm2llama: String,
    /// The repository on a hub that the model's files are from, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Origin>,
    /// The files of the model's folder.
    pub model: Vec<Entry>,
    /// The files that options name: importance matrix, chat template, metadata, adapters.
    pub given: Vec<Entry>,
    /// The files that it wrote.
    pub outputs: Vec<Entry>,
}

/// One file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name, without the folders above; an adapter's with that of its folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// For files that are read out of order: SHA-256 of the SHA-256 of each 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256_of_64k_blocks: Option<String>,
}

impl Receipt {
    /// Begins a receipt with every small file that is read: the `guests` of a model's folder but for its weights, which
    /// are added when they have been read, and those that options `given` name.
    pub(crate) fn begin(
        request: &model::ModelSource,
        guests: &GuestBook,
        given: &GuestBook,
        checkpoint: &Checkpoint,
    ) -> Result<Receipt> {
        let small = guests.opened().filter(|file| checkpoint.files().all(|shard| shard != *file));
        let (own, adapters): (Vec<_>, Vec<_>) =
            small.partition(|file| file.parent() == Some(&*request.folder));
        let entry = |file: &Path, parts, book: &GuestBook| {
            let (bytes, hash) = book.hash(file)?;
            Ok(Entry { sha256: Some(hash), ..Entry::new(file, parts, bytes) })
        };
        let model = own.into_iter().map(|file| entry(file, 1, guests)).collect::<Result<_>>()?;
        let given = given.opened().map(|file| entry(file, 1, given));
        let adapters = adapters.into_iter().map(|file| entry(file, 2, guests));
        let given = given.chain(adapters).collect::<Result<_>>()?;
        let source = request.origin.clone();
        Ok(Receipt { glm2llama: VERSION.to_owned(), source, model, given, outputs: Vec::new() })
    }

    /// Adds a shard of the checkpoint, with the hash of its blocks.
    pub fn add_shard(&mut self, file: &Path, bytes: u64, hash: String) {
        self.model.push(Entry { sha256_of_64k_blocks: Some(hash), ..Entry::new(file, 1, bytes) });
    }

    /// Adds a shard of the checkpoint that was held against a hub's hash.
    pub fn add_known_shard(&mut self, file: &Path, bytes: u64, sha256: String) {
        self.model.push(Entry { sha256: Some(sha256), ..Entry::new(file, 1, bytes) });
    }

    /// Adds a file that was written.
    pub fn add_output(&mut self, file: &Path, bytes: u64, sha256: Option<String>) {
        self.outputs.push(Entry { sha256, ..Entry::new(file, 1, bytes) });
    }

    /// The text of the file.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self);
        Ok(json.map_err(|e| Error::Internal(format!("a receipt: {e}")))? + "\n")
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// When the file is none.
    pub fn load(file: &Path) -> Result<Receipt> {
        Receipt::parse(&input::read(file, MAX_BYTES)?).in_file(file)
    }

    fn parse(text: &[u8]) -> Result<Receipt, Problem> {
        let receipt: Receipt =
            serde_json::from_slice(text).map_err(|e| Problem::new("", format!("is no receipt: {e}")))?;
        let lists = [("model", &receipt.model), ("given", &receipt.given), ("outputs", &receipt.outputs)];
        for (list, entries) in lists {
            for (i, entry) in entries.iter().enumerate() {
                if let Some((key, hash)) = entry.bad_hash() {
                    let (item, found) = (format!("{list}[{i}].{key}"), format!("{:?}", shortened(hash, 80)));
                    return Err(Problem::mismatch(item, found, "64 hexadecimal digits"));
                }
            }
        }
        Ok(receipt)
    }
}

impl Entry {
    /// A file without its hash, by the last `parts` of its path.
    fn new(file: &Path, parts: usize, bytes: u64) -> Entry {
        let names: Vec<_> = file.components().rev().take(parts).collect();
        let file: PathBuf = names.into_iter().rev().collect();
        // The same sign between names on every system: the receipt of one is read on another.
        let file = file.to_string_lossy().replace(MAIN_SEPARATOR, "/");
        Entry { file, bytes, sha256: None, sha256_of_64k_blocks: None }
    }

    fn bad_hash(&self) -> Option<(&'static str, &str)> {
        let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|c| c.is_ascii_hexdigit());
        let hashes = [("sha256", &self.sha256), ("sha256_of_64k_blocks", &self.sha256_of_64k_blocks)];
        hashes.into_iter().find_map(|(key, hash)| Some((key, hash.as_deref().filter(|hash| !is_hash(hash))?)))
    }
}
