//! Checkpoints whose bytes are elsewhere, read over a network.

use std::fmt::Debug;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::Checkpoint;
use crate::error::{Error, Result};
use crate::input::ReadAt;

/// A place that has the files of weights, where the folder has only their names.
///
/// Headers are read from any place on. The weights are then read front to back, once, and judged as a whole.
pub trait Remote: Debug + Send + Sync {
    /// Opens a file of weights by its name.
    ///
    /// # Errors
    /// When there is none.
    fn open(&self, name: &str) -> Result<Box<dyn ReadAt>>;

    /// Reads a file from its first byte to its last. The read behind the last one fails when the bytes were not
    /// those of the file's hash, or not those that its header was read from. It ends early, with an error, when
    /// `ended` is set.
    ///
    /// # Errors
    /// When there is no such file.
    fn stream(&self, name: &str, ended: Arc<AtomicBool>) -> Result<Box<dyn Read + Send>>;

    /// A file's length and the SHA-256 that its bytes are held against, in hexadecimal.
    fn known(&self, name: &str) -> Option<(u64, String)>;
}

/// The repository on a hub that a model is from.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The hub's name, `Hugging Face` for instance.
    pub hub: String,
    /// `ORG/NAME`.
    pub repository: String,
    /// The commit, in hexadecimal.
    pub commit: String,
}

/// The repository that a model's folder was downloaded from, as its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The hub's address, `https://huggingface.co` for instance.
    pub hub: &'static str,
    /// `ORG/NAME`.
    pub repository: String,
}

impl Published {
    /// The address of the hub whose cache or name it is.
    pub const HUGGING_FACE: &'static str = "https://huggingface.co";
    /// The same.
    pub const MODEL_SCOPE: &'static str = "https://modelscope.cn/models";

    /// Its name as a link in Markdown.
    pub(crate) fn link(&self) -> String {
        let Published { hub, repository } = self;
        format!("[{repository}]({hub}/{repository})")
    }

    /// The address of one of its files, where that is known.
    pub(crate) fn file(&self, name: &str) -> Option<String> {
        let Published { hub, repository } = self;
        (*hub == Published::HUGGING_FACE).then(|| format!("{hub}/{repository}/blob/main/{name}"))
    }
}

impl Checkpoint {
    /// The files' bytes are elsewhere, and come front to back: see `Checkpoint::stream`.
    pub fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// How many files there are.
    pub(crate) fn file_count(&self) -> usize {
        self.shards.len()
    }

    /// Reads the file of this number front to back, as [`Remote::stream`] does.
    pub(crate) fn stream(
        &self,
        file: usize,
        ended: Arc<AtomicBool>,
    ) -> Result<(&Path, Box<dyn Read + Send>)> {
        let shard = &self.shards[file];
        let remote = self
            .remote
            .as_ref()
            .ok_or_else(|| Error::Internal(format!("{}: is in a folder", shard.path.display())))?;
        Ok((&shard.path, remote.stream(shard.name(), ended)?))
    }

    /// Each file with its length and the SHA-256 that its bytes are held against, where they come from elsewhere.
    pub fn known_hashes(&self) -> impl Iterator<Item = (&Path, u64, String)> {
        self.shards.iter().filter_map(|shard| {
            let (bytes, hash) = self.remote.as_ref()?.known(shard.name())?;
            Some((shard.path.as_path(), bytes, hash))
        })
    }
}
