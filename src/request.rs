//! What a conversion is asked for.

use std::path::PathBuf;

use crate::metadata::Override;
use crate::model;
use crate::recipe::{Budget, FfnPad, FileType, Overrides};

/// How much work goes into the weights' levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quality {
    /// ggml's bytes: what llama-quantize makes of the same weights.
    #[default]
    Fast,
    /// ggml's bytes with an importance matrix that is measured first.
    Good,
    /// Levels chosen for what each matrix makes of its inputs: rounding with feedback, and descent.
    Best,
}

impl Quality {
    /// As it is given and stands in the file.
    pub fn name(self) -> &'static str {
        match self {
            Quality::Fast => "fast",
            Quality::Good => "good",
            Quality::Best => "best",
        }
    }
}

/// What the user asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What to convert.
    pub model: model::ModelSource,
    /// One output file each.
    pub types: Vec<FileType>,
    /// In the place of types: one file of at most this size, each tensor in a format chosen for it.
    pub target: Option<Budget>,
    /// The output's name; `{type}` in it stands for the type's name, or for the size.
    pub output: Option<PathBuf>,
    /// Existing files may be replaced.
    pub force: bool,
    /// Whether to pad the feed-forward network.
    pub pad: FfnPad,
    /// Write a Modelfile beside each output.
    pub modelfile: bool,
    /// An importance matrix to quantize with.
    pub imatrix: Option<PathBuf>,
    /// How much work goes into the weights' levels.
    pub quality: Quality,
    /// Text to measure the model on, where the quality asks for it; the built-in one where there is none.
    pub calibration: Vec<PathBuf>,
    /// About how many tokens of it.
    pub calibration_tokens: Option<usize>,
    /// The most bytes of memory that `best` may take; its second moments are split for it.
    pub memory: Option<u64>,
    /// Formats in the place of the mix's.
    pub overrides: Overrides,
    /// What the files are to say otherwise than the checkpoint does.
    pub given: Given,
    /// Only metadata and vocabulary, in one file.
    pub vocab_only: bool,
    /// The most bytes of tensors in a file.
    pub split_max_bytes: Option<u64>,
    /// A JSON file to write, with the hash of every file read and written.
    pub receipt: Option<PathBuf>,
    /// A model card to write, for the hub that the files are uploaded to.
    pub card: Option<PathBuf>,
}

impl Request {
    /// A conversion of a folder to one file, named after the model.
    pub fn new(folder: impl Into<PathBuf>, file_type: FileType) -> Request {
        let model = model::ModelSource { folder: folder.into(), ..model::ModelSource::default() };
        Request { model, types: vec![file_type], ..Request::default() }
    }
}

/// What the user puts in the place of the model's own words.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// `general.name`.
    pub model_name: Option<String>,
    /// A JSON file of `general.` keys.
    pub metadata: Option<PathBuf>,
    /// Keys that go over all others.
    pub overrides: Vec<Override>,
    /// A file with a chat template in Jinja.
    pub chat_template: Option<PathBuf>,
}
