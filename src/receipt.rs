//! The receipt of a conversion: every file that was read and written, with its hash.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::Checkpoint;
use crate::config::read_capped;
use crate::error::{Error, Result};
use crate::hash::hex;
use crate::provenance::{Inputs, VERSION};

/// What a conversion read and wrote, as a JSON file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The program's version.
    pub glm2llama: String,
    /// The files that it read.
    pub sources: Vec<Entry>,
    /// The files that it wrote.
    pub outputs: Vec<Entry>,
}

/// One file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name, without its folder.
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
    /// A receipt of what was read, the outputs to follow.
    ///
    /// # Errors
    /// When a shard cannot be read to its end.
    pub fn of(inputs: &Inputs, checkpoint: &Checkpoint) -> Result<Receipt> {
        let mut sources = Vec::new();
        for (file, hash) in inputs.files() {
            let bytes = file.metadata().map_err(Error::io(file, "read"))?.len();
            sources.push(Entry::new(file, bytes, Some(hash.to_owned()), None));
        }
        for (file, bytes, hash) in checkpoint.hashes()? {
            sources.push(Entry::new(file, bytes, None, Some(hash)));
        }
        Ok(Receipt { glm2llama: VERSION.to_owned(), sources, outputs: Vec::new() })
    }

    /// Adds a file that was written.
    pub fn add_output(&mut self, file: &Path, bytes: u64, sha256: Option<String>) {
        self.outputs.push(Entry::new(file, bytes, sha256, None));
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n" // strings and numbers: it cannot fail
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// When the file is none.
    pub fn load(file: &Path) -> Result<Receipt> {
        let text = read_capped(file, 1 << 20)?.ok_or_else(|| Error::input(file, "", "no such file"))?;
        serde_json::from_slice(&text).map_err(|e| Error::input(file, "", format!("is no receipt: {e}")))
    }

    /// Hashes the named files again, and returns in words what differs. Of the outputs, only those given count.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn check(&self, folder: &Path, outputs: &[&Path]) -> Result<Vec<String>> {
        let mut differing = Vec::new();
        for entry in &self.sources {
            let plain = !entry.file.is_empty() && !entry.file.contains('/') && entry.file != "..";
            let file = folder.join(if plain { &entry.file } else { "" });
            if !file.is_file() {
                differing.push(format!("{}: not in the folder", entry.file));
                continue;
            }
            differing.extend(entry.difference(&file)?);
        }
        for output in outputs {
            let name = output.file_name().unwrap_or_default().to_string_lossy();
            match self.outputs.iter().find(|entry| entry.file == name) {
                Some(entry) => differing.extend(entry.difference(output)?),
                None => {
                    // It may have been renamed since: one that agrees is enough.
                    let mut agrees = false;
                    for entry in &self.outputs {
                        agrees = agrees || entry.difference(output)?.is_none();
                    }
                    if !agrees {
                        differing.push(format!("{name}: the receipt has no such output"));
                    }
                }
            }
        }
        Ok(differing)
    }
}

impl Entry {
    fn new(file: &Path, bytes: u64, sha256: Option<String>, blocks: Option<String>) -> Entry {
        let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Entry { file, bytes, sha256, sha256_of_64k_blocks: blocks }
    }

    /// What differs in the file, in words.
    fn difference(&self, path: &Path) -> Result<Option<String>> {
        let mut file = File::open(path).map_err(Error::io(path, "open"))?;
        let length = file.metadata().map_err(Error::io(path, "read"))?.len();
        let differs = |what: String| Ok(Some(format!("{}: {what}", self.file)));
        if length != self.bytes {
            return differs(format!("{length} bytes, and {} in the receipt", self.bytes));
        }
        let (mut whole, mut blocks) = (Sha256::new(), Sha256::new());
        let mut block = Vec::new();
        loop {
            block.clear();
            let read =
                file.by_ref().take(64 << 10).read_to_end(&mut block).map_err(Error::io(path, "read"))?;
            if read == 0 {
                break;
            }
            if self.sha256.is_some() {
                whole.update(&block);
            }
            if self.sha256_of_64k_blocks.is_some() {
                blocks.update(Sha256::digest(&block));
            }
        }
        let same = |expected: &Option<String>, found: Sha256| {
            expected.as_ref().is_none_or(|expected| *expected == hex(&found.finalize()))
        };
        if !same(&self.sha256, whole) || !same(&self.sha256_of_64k_blocks, blocks) {
            return differs("other bytes than the receipt's".to_owned());
        }
        Ok(None)
    }
}
