//! Loads a prebuilt llama.cpp at run time, so that tests can compare with the real thing.
//!
//! The build needs nothing of llama.cpp: where its libraries are absent, [`require_runtime!`] ends a
//! test with a message. `make runtime` fetches the one version that this crate knows; any other is
//! refused at load, because parameter structs are written by offset.

mod ffi;
mod find;
mod shared;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

pub use ffi::Model;
pub use find::{Absent, DIR_VARIABLE, workspace};
pub use shared::{shared, shared_path};

/// The loaded library. It is loaded once a process and stays: llama.cpp cannot start twice.
#[derive(Clone, Copy)]
pub struct Runtime {
    api: &'static ffi::Api,
}

impl Runtime {
    /// Loads llama.cpp, the first time, from where `make runtime` puts it or `GLM2LLAMA_LLAMA_DIR` says.
    ///
    /// # Errors
    /// When there is none, or it is not the version known here.
    pub fn find() -> Result<Runtime, Absent> {
        static LOADED: OnceLock<Result<ffi::Api, Absent>> = OnceLock::new();
        let loaded = LOADED.get_or_init(|| {
            let folder = find::folder()?;
            ffi::Api::load(&folder).map_err(|problem| Absent::Unusable { folder, problem })
        });
        loaded.as_ref().map(|api| Runtime { api }).map_err(Absent::clone)
    }

    /// What [`require_runtime!`] expands to: the library, or nothing after saying so.
    ///
    /// # Panics
    /// When the library is there but unusable; and in CI, where nothing may be skipped, when it is absent.
    pub fn require() -> Option<Runtime> {
        match Runtime::find() {
            Ok(runtime) => Some(runtime),
            Err(absent @ Absent::NotFound { .. }) if !in_ci() => {
                eprintln!("skipped: {absent}");
                None
            }
            Err(absent) => panic!("{absent}"),
        }
    }

    /// llama.cpp's own name of its version.
    pub fn version(self) -> String {
        self.api.version()
    }

    /// Loads a GGUF model.
    ///
    /// # Errors
    /// llama.cpp's own messages.
    pub fn load(self, path: &Path) -> Result<Model, String> {
        Model::load(self.api, path, false)
    }

    /// Loads the vocabulary of a GGUF model and nothing else.
    ///
    /// # Errors
    /// llama.cpp's own messages.
    pub fn load_vocabulary(self, path: &Path) -> Result<Model, String> {
        Model::load(self.api, path, true)
    }

    /// `llama-quantize`: writes `output` from `input`.
    ///
    /// # Errors
    /// llama.cpp's own messages.
    pub fn quantize_model(self, input: &Path, output: &Path, how: &Quantize<'_>) -> Result<(), String> {
        self.api.quantize_model(input, output, how)
    }

    /// Quantizes whole rows with `ggml_quantize_chunk`. Arguments as for `quant::quantize`.
    ///
    /// # Panics
    /// When ggml does not quantize to the type or a length does not fit.
    pub fn quantize_chunk(
        self,
        ggml_type: u32,
        columns: usize,
        rows: &[f32],
        importance: Option<&[f32]>,
    ) -> Vec<u8> {
        let mut out = vec![0; self.row_bytes(ggml_type, columns) * (rows.len() / columns.max(1))];
        self.quantize_chunk_into(ggml_type, columns, rows, importance, &mut out);
        out
    }

    /// The same into a given buffer, aligned to 4 bytes: nothing is allocated, for benchmarks.
    ///
    /// # Panics
    /// When ggml does not quantize to the type, or a length or the alignment does not fit.
    pub fn quantize_chunk_into(
        self,
        ggml_type: u32,
        columns: usize,
        rows: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) {
        self.api.quantize_chunk(ggml_type, columns, rows, importance, out);
    }

    /// Turns blocks back into weights with ggml's own function.
    ///
    /// # Panics
    /// When ggml cannot read the type or `blocks` is no whole number of blocks.
    pub fn dequantize(self, ggml_type: u32, blocks: &[u8]) -> Vec<f32> {
        self.api.dequantize(ggml_type, blocks)
    }

    /// Bytes of a row of `columns` weights.
    ///
    /// # Panics
    /// When ggml has no such type or the columns are no whole number of its blocks.
    pub fn row_bytes(self, ggml_type: u32, columns: usize) -> usize {
        self.api.row_bytes(ggml_type, columns)
    }

    /// The prompt that llama.cpp makes of a chat by one of its built-in templates, the way of the
    /// runtimes that have no Jinja: `template` only helps it guess which. `None`: it knows none.
    pub fn builtin_template(self, template: &str, chat: &[(&str, &str)], open_turn: bool) -> Option<String> {
        self.api.builtin_template(template, chat, open_turn)
    }
}

/// How [`Runtime::quantize_model`] quantizes.
#[derive(Clone, Copy, Debug)]
pub struct Quantize<'a> {
    /// llama.cpp's `llama_ftype`, as in `general.file_type`.
    pub file_type: u32,
    /// Worker threads.
    pub threads: u32,
    /// `--pure`: the base format everywhere.
    pub pure: bool,
    /// Importance weights by tensor name (GGUF's names), one a column.
    pub importance: &'a [(&'a str, &'a [f32])],
    /// `--output-tensor-type`, ggml's number.
    pub output: Option<u32>,
    /// `--token-embedding-type`, ggml's number.
    pub token_embedding: Option<u32>,
    /// `--tensor-type`: patterns of GGUF's names, in small letters, and ggml's numbers.
    pub tensors: &'a [(&'a str, u32)],
}

impl Quantize<'_> {
    /// What `llama-quantize` does without options.
    pub const fn to(file_type: u32) -> Self {
        Quantize {
            file_type,
            threads: 1,
            pure: false,
            importance: &[],
            output: None,
            token_embedding: None,
            tensors: &[],
        }
    }
}

/// How attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// As llama.cpp's users get it: flash attention, keys and values kept in F16. This alone moves the
    /// logits of a tiny model by 2e-3.
    Default,
    /// In F32 throughout, as the models' authors compute it. An F32 cache alone does not do it: flash
    /// attention turns it into F16 again.
    F32,
}

impl Model {
    /// The tokens that end generation.
    pub fn end_of_generation(&self) -> BTreeSet<i32> {
        (0..self.vocabulary_len()).filter(|&token| self.is_end_of_generation(token)).collect()
    }
}

/// True on a machine that tests the project for everyone: nothing may be skipped there.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// The llama.cpp library; where it is absent, the test ends here with a message.
#[macro_export]
macro_rules! require_runtime {
    () => {
        match $crate::Runtime::require() {
            Some(runtime) => runtime,
            None => return,
        }
    };
}
