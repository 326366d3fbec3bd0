//! The receipt of a conversion: every file that was read and written, with its hash.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hash::{hex, sha256_of};
use crate::input::{self, read_capped};
use crate::provenance::VERSION;
use crate::request::Request;

/// What a conversion reads of a model's folder besides weights, where it is there.
pub(crate) const MODEL_FILES: [&str; 11] = [
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tokenizer.json",
    "chat_template.jinja",
    "tokenization_chatglm.py",
    "modeling_chatglm.py",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "README.md",
];
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

/// What became of the files of a receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// How many are as they were.
    pub same: usize,
    /// What differs, in words.
    pub differing: Vec<String>,
}

impl Receipt {
    /// A receipt of what is read besides weights; `adapters`: the files of their weights.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn begin<'a>(request: &Request, adapters: impl Iterator<Item = &'a Path>) -> Result<Receipt> {
        let folder = &request.model.folder;
        let there = MODEL_FILES.iter().map(|name| folder.join(name)).filter(|file| file.is_file());
        let model = there.map(|file| Entry::of(&file, 1)).collect::<Result<_>>()?;

        let options = [&request.imatrix, &request.given.chat_template, &request.given.metadata];
        let mut given: Vec<Entry> =
            options.into_iter().flatten().map(|file| Entry::of(file, 1)).collect::<Result<_>>()?;
        for (lora, weights) in request.model.lora.iter().zip(adapters) {
            given.push(Entry::of(&lora.folder.join("adapter_config.json"), 2)?);
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
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n" // strings and numbers: it cannot fail
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// When the file is none.
    pub fn load(file: &Path) -> Result<Receipt> {
        let text = read_capped(file, MAX_BYTES)?.ok_or_else(|| Error::input(file, "", "no such file"))?;
        serde_json::from_slice(&text).map_err(|e| Error::input(file, "", format!("is no receipt: {e}")))
    }

    /// Hashes the files of the model's folder again, and these outputs, which may have other names by now.
    /// `go_on` is asked all along.
    ///
    /// # Errors
    /// When a file cannot be read, and as `go_on` does.
    pub fn check(&self, folder: &Path, outputs: &[&Path], go_on: &dyn Fn() -> Result<()>) -> Result<Check> {
        let mut check = Check::default();
        for entry in &self.model {
            // A name out of the folder would let a receipt ask after any file.
            let file = (!entry.file.contains('/')).then(|| folder.join(&entry.file));
            match file.filter(|file| file.is_file()) {
                Some(file) => check.add(entry.difference(&file, go_on)?),
                None => check.add(Some(format!("{}: not in the folder", entry.file))),
            }
        }
        for output in outputs {
            let name = base_name(output);
            check.add(match self.outputs.iter().find(|entry| entry.file == name) {
                Some(entry) => entry.difference(output, go_on)?,
                None => self.renamed(output, go_on)?,
            });
        }
        Ok(check)
    }

    /// One output that agrees is enough.
    fn renamed(&self, output: &Path, go_on: &dyn Fn() -> Result<()>) -> Result<Option<String>> {
        for entry in &self.outputs {
            if entry.difference(output, go_on)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(format!("{}: the receipt has no such output", base_name(output))))
    }
}

impl Check {
    fn add(&mut self, difference: Option<String>) {
        self.same += usize::from(difference.is_none());
        self.differing.extend(difference);
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

    /// What differs in the file, in words.
    fn difference(&self, path: &Path, go_on: &dyn Fn() -> Result<()>) -> Result<Option<String>> {
        let mut file = input::open(path)?;
        let length = file.metadata().map_err(Error::io(path, "read"))?.len();
        let differs = |what: String| Ok(Some(format!("{}: {what}", base_name(path))));
        if length != self.bytes {
            return differs(format!("{length} bytes, and {} in the receipt", self.bytes));
        }
        let (mut whole, mut blocks) = (Sha256::new(), Sha256::new());
        let mut block = Vec::new();
        loop {
            go_on()?;
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
        if self.sha256.is_none() && self.sha256_of_64k_blocks.is_none() {
            return differs("no hash in the receipt".to_owned());
        }
        if !same(&self.sha256, whole) || !same(&self.sha256_of_64k_blocks, blocks) {
            return differs("other bytes than the receipt's".to_owned());
        }
        Ok(None)
    }
}

fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
