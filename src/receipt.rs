//! The receipt of a conversion: every file that was read and written, with its hash.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result, shortened};
use crate::hash::{hex, sha256_of};
use crate::input::{self, read_capped};
use crate::provenance::VERSION;
use crate::request::Request;

/// What a conversion reads of a model's folder besides weights, where it is there.
const MODEL_FILES: [&str; 11] = [
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
/// Differences that are named; a stranger's receipt may have thousands.
const MOST_LINES: usize = 20;
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
    /// A receipt of what is read besides weights; `checkpoint` and `adapters`: whose weights.
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
        for (lora, weights) in request.model.lora.iter().zip(adapters) {
            given.push(Entry::of(&lora.folder.join("adapter_config.json"), 2)?);
            given.push(Entry::of(weights, 2)?);
        }
        Ok(Receipt { glm2llama: VERSION.to_owned(), model, given, outputs: Vec::new() })
    }

    /// Adds the checkpoint's shards, when their weights have been read.
    ///
    /// # Errors
    /// When what is left of a shard cannot be read.
    pub fn add_shards(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        for (file, bytes, hash) in checkpoint.hashes()? {
            self.model.push(Entry { sha256_of_64k_blocks: Some(hash), ..Entry::new(file, 1, bytes) });
        }
        Ok(())
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
        let receipt: Receipt = serde_json::from_slice(&text)
            .map_err(|e| Error::input(file, "", format!("is no receipt: {e}")))?;
        let lists = [("model", &receipt.model), ("given", &receipt.given), ("outputs", &receipt.outputs)];
        for (list, entries) in lists {
            for (i, entry) in entries.iter().enumerate() {
                let hashes =
                    [("sha256", &entry.sha256), ("sha256_of_64k_blocks", &entry.sha256_of_64k_blocks)];
                let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|c| c.is_ascii_hexdigit());
                for (key, hash) in hashes {
                    if let Some(hash) = hash.as_deref().filter(|hash| !is_hash(hash)) {
                        let (item, found) =
                            (format!("{list}[{i}].{key}"), format!("{:?}", shortened(hash, 80)));
                        return Err(Error::mismatch(file, item, found, "64 hexadecimal digits"));
                    }
                }
            }
        }
        Ok(receipt)
    }

    /// Hashes the files of the model's folder again, and these outputs, which may have other names by now. Every
    /// file that a conversion of the folder would read has to be listed.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn check(&self, folder: &Path, checkpoint: &Checkpoint, outputs: &[&Path]) -> Result<Check> {
        let mut check = Check::default();
        let listed: HashSet<&str> = self.model.iter().map(|entry| entry.file.as_str()).collect();
        let read = files_read(folder, checkpoint);
        for name in read.iter().map(PathBuf::as_path).chain(checkpoint.files()).map(base_name) {
            if !listed.contains(name.as_str()) {
                check.differing.push(format!("{name}: not in the receipt"));
            }
        }
        for entry in &self.model {
            // A name out of the folder would let a receipt ask after any file.
            let file = (!entry.file.contains('/')).then(|| folder.join(&entry.file));
            match file.filter(|file| file.is_file()) {
                Some(file) => check.add(entry.difference(&file)?),
                None => check.add(Some(format!("{}: not in the folder", shortened(&entry.file, 160)))),
            }
        }
        for output in outputs {
            let name = output.file_name().unwrap_or_default().to_string_lossy();
            check.add(match self.outputs.iter().find(|entry| entry.file == name) {
                Some(entry) => entry.difference(output)?,
                None => self.renamed(output)?,
            });
        }
        if check.differing.len() > MOST_LINES {
            let more = check.differing.len() - MOST_LINES;
            check.differing.truncate(MOST_LINES);
            check.differing.push(format!("and {more} more"));
        }
        Ok(check)
    }

    /// One output that agrees is enough.
    fn renamed(&self, output: &Path) -> Result<Option<String>> {
        let bytes = output.metadata().map_err(Error::io(output, "read"))?.len();
        let mut alike = self.outputs.iter().filter(|entry| entry.bytes == bytes).peekable();
        if alike.peek().is_some() {
            let hashes = Hashes::of(output, &self.outputs)?;
            if alike.any(|entry| entry.has_hash() && entry.agrees(&hashes)) {
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

    fn has_hash(&self) -> bool {
        self.sha256.is_some() || self.sha256_of_64k_blocks.is_some()
    }

    fn agrees(&self, found: &Hashes) -> bool {
        let same = |expected: &Option<String>, found: &str| {
            expected.as_ref().is_none_or(|expected| expected.eq_ignore_ascii_case(found))
        };
        same(&self.sha256, &found.whole) && same(&self.sha256_of_64k_blocks, &found.blocks)
    }

    /// What differs in the file, in words.
    fn difference(&self, path: &Path) -> Result<Option<String>> {
        let differs = |what: String| Ok(Some(format!("{}: {what}", base_name(path))));
        if !self.has_hash() {
            return differs("no hash in the receipt".to_owned());
        }
        let length = path.metadata().map_err(Error::io(path, "read"))?.len();
        if length != self.bytes {
            return differs(format!("{length} bytes, and {} in the receipt", self.bytes));
        }
        if !self.agrees(&Hashes::of(path, std::slice::from_ref(self))?) {
            return differs("other bytes than the receipt's".to_owned());
        }
        Ok(None)
    }
}

/// A file's hashes, as far as entries have them.
struct Hashes {
    whole: String,
    blocks: String,
}

impl Hashes {
    fn of(path: &Path, entries: &[Entry]) -> Result<Hashes> {
        let want_whole = entries.iter().any(|entry| entry.sha256.is_some());
        let want_blocks = entries.iter().any(|entry| entry.sha256_of_64k_blocks.is_some());
        let mut file = input::open(path)?;
        let (mut whole, mut blocks) = (Sha256::new(), Sha256::new());
        let mut block = Vec::new();
        loop {
            block.clear();
            let read =
                file.by_ref().take(64 << 10).read_to_end(&mut block).map_err(Error::io(path, "read"))?;
            if read == 0 {
                return Ok(Hashes { whole: hex(&whole.finalize()), blocks: hex(&blocks.finalize()) });
            }
            if want_whole {
                whole.update(&block);
            }
            if want_blocks {
                blocks.update(Sha256::digest(&block));
            }
        }
    }
}

/// The files of [`MODEL_FILES`] that a conversion of the folder reads.
fn files_read(folder: &Path, checkpoint: &Checkpoint) -> Vec<PathBuf> {
    let there = |name: &str| folder.join(name).is_file();
    let safetensors =
        checkpoint.files().any(|file| file.extension().is_some_and(|kind| kind == "safetensors"));
    let idle = |name: &str| match name {
        "tokenizer.json" => there("tokenizer.model"),
        "pytorch_model.bin.index.json" => safetensors,
        _ => false,
    };
    let read = MODEL_FILES.iter().filter(|name| there(name) && !idle(name));
    read.map(|name| folder.join(name)).collect()
}

/// What the files that a conversion reads besides weights are like, before it reads them: their hashes are taken
/// later.
#[derive(Debug)]
pub struct Before(Vec<(PathBuf, State)>);

/// Length and time of the last change; none where there is no file.
type State = Option<(u64, SystemTime)>;

impl Before {
    /// Of all files that the request may have read.
    pub fn reading(request: &Request) -> Before {
        let of_model = MODEL_FILES.iter().map(|name| request.model.folder.join(name));
        let options = [&request.imatrix, &request.given.chat_template, &request.given.metadata];
        let given = options.into_iter().flatten().cloned();
        let adapters = request.model.lora.iter().flat_map(|lora| {
            ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"]
                .map(|name| lora.folder.join(name))
        });
        let files = of_model.chain(given).chain(adapters);
        Before(files.map(|file| (file.clone(), state(&file))).collect())
    }

    /// Refuses files that were written to since: what was read and what was hashed may be two versions.
    ///
    /// # Errors
    /// When a file has another length or time of its last change than at first.
    pub fn refuse_changed(&self) -> Result<()> {
        match self.0.iter().find(|(file, before)| state(file) != *before) {
            None => Ok(()),
            Some((file, _)) => {
                let expected = "the file as it was at the start: run again";
                Err(Error::mismatch(file, "", "it was changed while it was read", expected))
            }
        }
    }
}

fn state(file: &Path) -> State {
    let metadata = file.metadata().ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

fn base_name(path: &Path) -> String {
    shortened(&path.file_name().unwrap_or_default().to_string_lossy(), 160)
}
