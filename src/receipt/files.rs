//! What a conversion reads besides weights.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::request::Request;

/// What a conversion reads of a model's folder besides weights, where it is there.
pub const MODEL_FILES: [&str; 13] = [
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "tokenizer.json",
    "chat_template.jinja",
    "tokenization_chatglm.py",
    "modeling_chatglm.py",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "README.md",
];

/// All files besides the checkpoint's shards that the request may have read, whether they are there or not.
pub fn may_read(request: &Request) -> Vec<PathBuf> {
    let of_model = MODEL_FILES.iter().map(|name| request.model.folder.join(name));
    let options = [&request.imatrix, &request.given.chat_template, &request.given.metadata];
    let given = options.into_iter().flatten().cloned();
    let adapters = request.model.lora.iter().flat_map(|lora| {
        ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"]
            .map(|name| lora.folder.join(name))
    });
    of_model.chain(given).chain(adapters).collect()
}

/// The files of [`MODEL_FILES`] that a conversion of the folder reads.
pub(super) fn files_read(folder: &Path, checkpoint: &Checkpoint) -> Vec<PathBuf> {
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

/// The state of every small file before a conversion reads it. The hashes are taken later, and must be of the same
/// versions.
#[derive(Debug)]
pub struct Before(Vec<(PathBuf, State)>);

/// A file's length, time of the last change, and inode; `None` where there is no file.
type State = Option<(u64, SystemTime, u64)>;

impl Before {
    /// Notes the state of all files that the request may have read.
    pub fn reading(request: &Request) -> Before {
        let files = may_read(request).into_iter();
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
    Some((metadata.len(), metadata.modified().ok()?, metadata.ino()))
}
