//! What `compare` takes.

use std::path::PathBuf;

use clap::Args;

use super::model::ROPE;
use super::values;
use glm2llama::config::RopeRatio;

pub(in crate::cli) const EXAMPLES: &str = "Examples:
  glm2llama compare chatglm3-6b ChatGLM3-6B-Q4_K_M.gguf ChatGLM3-6B-Q4_K_M-imatrix.gguf
  glm2llama compare chatglm3-6b ours.gguf theirs.gguf --text mine.txt --tokens 16384

Exit codes: 0 it could be judged, whatever the answer; 2 it could not; 130 interrupted.";

#[derive(Debug, Args)]
pub(in crate::cli) struct Compare {
    /// The folder of the ChatGLM checkpoint, or ORG/NAME or ORG/NAME@REVISION of one in a download cache
    #[arg(value_name = "MODEL_DIR")]
    pub(in crate::cli) folder: PathBuf,

    /// Two GGUF files of it, or more: the first is compared with each of the others; of a split model any part
    #[arg(value_name = "FILE", num_args = 2.., required = true, value_parser = values::read())]
    pub(in crate::cli) files: Vec<PathBuf>,

    /// The text to run all of them on, UTF-8; not one that a file was calibrated on [default: a page of English,
    /// Chinese and code, too short to show small differences]
    #[arg(long, value_name = "FILE", value_parser = values::read())]
    pub(in crate::cli) text: Option<PathBuf>,

    /// Run at most this many tokens of the text, 1 to 1048576; with more, the answer is more certain
    #[arg(long, value_name = "N", default_value = "4096", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1048576))]
    pub(in crate::cli) tokens: u32,

    /// Print one JSON object a line instead of text (docs/json.md)
    #[arg(long)]
    pub(in crate::cli) json: bool,

    /// As given to convert: what rope_ratio in config.json changes
    #[arg(long, value_name = "WHAT", value_parser = values::rope_ratio(), help_heading = ROPE)]
    pub(in crate::cli) rope_ratio_applies_to: Option<RopeRatio>,
}
