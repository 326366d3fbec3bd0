//! The receipt of a conversion: every file that was read and written, with its hash.

mod check;
mod files;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result, shortened};
use crate::hash::sha256_of;
use crate::input::read_capped;
use crate::provenance::VERSION;
use crate::request::Request;
pub use check::Check;
use files::files_read;
pub use files::{Before, may_read};

/// A thousand shards have 200 kB.
const MAX_BYTES: u64 = 1 << 20;

/// What a conversion read and wrote, as a JSON file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The program's version.
    pub glm2llama: String,
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
    /// Begins a receipt with every small file that is read. `checkpoint` and `adapters` (the files of their weights) tell
    /// which they are; their weights are added when they have been read.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn begin<'a>(
        request: &Request,
        checkpoint: &Checkpoint,
        adapters: impl Iterator<Item = &'a Path>,
    ) -> Result<Receipt> {
        let files = files_read(&request.model.folder, checkpoint);
        let model = files.iter().map(|file| Entry::of(file, 1)).collect::<Result<_>>()?;

        let options = [&request.imatrix, &request.given.chat_template, &request.given.metadata];
        let mut given: Vec<Entry> =
            options.into_iter().flatten().map(|file| Entry::of(file, 1)).collect::<Result<_>>()?;
        for weights in adapters {
            given.push(Entry::of(&weights.with_file_name("adapter_config.json"), 2)?);
            given.push(Entry::of(weights, 2)?);
        }
        Ok(Receipt { glm2llama: VERSION.to_owned(), model, given, outputs: Vec::new() })
    }

    /// Adds a shard of the checkpoint, with the hash of its blocks.
    pub fn add_shard(&mut self, file: &Path, bytes: u64, hash: String) {
        self.model.push(Entry { sha256_of_64k_blocks: Some(hash), ..Entry::new(file, 1, bytes) });
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
        let text = read_capped(file, MAX_BYTES)?.ok_or_else(|| Error::input(file, "", "no such file"))?;
        let receipt: Receipt = serde_json::from_slice(&text)
            .map_err(|e| Error::input(file, "", format!("is no receipt: {e}")))?;
        let lists = [("model", &receipt.model), ("given", &receipt.given), ("outputs", &receipt.outputs)];
        for (list, entries) in lists {
            for (i, entry) in entries.iter().enumerate() {
                if let Some((key, hash)) = entry.bad_hash() {
                    let (item, found) = (format!("{list}[{i}].{key}"), format!("{:?}", shortened(hash, 80)));
                    return Err(Error::mismatch(file, item, found, "64 hexadecimal digits"));
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
        Entry { file: file.to_string_lossy().into_owned(), bytes, sha256: None, sha256_of_64k_blocks: None }
    }

    fn of(file: &Path, parts: usize) -> Result<Entry> {
        let (bytes, hash) = sha256_of(file)?;
        Ok(Entry { sha256: Some(hash), ..Entry::new(file, parts, bytes) })
    }

    fn bad_hash(&self) -> Option<(&'static str, &str)> {
        let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|c| c.is_ascii_hexdigit());
        let hashes = [("sha256", &self.sha256), ("sha256_of_64k_blocks", &self.sha256_of_64k_blocks)];
        hashes.into_iter().find_map(|(key, hash)| Some((key, hash.as_deref().filter(|hash| !is_hash(hash))?)))
    }
}
