//! What the integration tests share: folders, the built program, data, made-up checkpoints.

pub mod checkpoint;
pub mod command;
pub mod damage;
pub mod forward;
pub mod gguf;
pub mod logits;
pub mod program;
#[cfg(all(unix, feature = "hub"))]
pub mod pytorch;
#[cfg(unix)]
pub mod terminal;
pub mod tokenizers;

use std::fs;
use std::path::{Path, PathBuf};

pub use checkpoint::Checkpoint;
pub use command::Cmd;
use glm2llama::config::GlmConfig;
pub use llama_runtime::shared;

/// A folder that goes away with its value.
pub struct Dir(tempfile::TempDir);

impl Dir {
    pub fn new() -> Dir {
        Dir(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of a file in it, there or not.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// The names of what lies in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = self.path().read_dir().expect("a readable folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

impl Checkpoint {
    /// A folder with the checkpoint and the small tokenizer.
    pub fn folder(&self) -> Dir {
        let folder = Dir::new();
        self.write(folder.path(), &tiny_tokenizer()).expect("written");
        folder
    }

    /// Its `config.json` as the library reads it.
    pub fn glm_config(&self) -> GlmConfig {
        GlmConfig::parse(self.config().to_string().as_bytes()).expect("a config")
    }
}

/// Copies the files of a folder, such as a checkpoint that a test wants to change.
pub fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable folder");
    for entry in from.read_dir().expect("a readable folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// Something in `testdata/`.
pub fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// The tokenizer of 900 pieces for small checkpoints.
pub fn tiny_tokenizer() -> PathBuf {
    testdata("models/tiny-chatglm3/tokenizer.model")
}

/// A file of little-endian 32-bit numbers.
pub fn read_words<T>(file: &Path, from: fn([u8; 4]) -> T) -> Vec<T> {
    let bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    bytes.as_chunks().0.iter().map(|word| from(*word)).collect()
}
