//! What `imatrix` takes, and what `convert` takes of it.

use std::path::PathBuf;

use clap::Args;

use super::values;
use super::{ModelArgs, Running};
use glm2llama::recipe::FfnPad;

pub(in crate::cli) const EXAMPLES: &str = "Examples:
  glm2llama imatrix chatglm3-6b --output chatglm3-6b.imatrix.gguf
  glm2llama imatrix chatglm3-6b --calibration mine.txt --tokens 8192 -o mine.imatrix.gguf
  glm2llama convert chatglm3-6b --imatrix mine.imatrix.gguf

Exit codes: 0 done; 2 bad usage, bad input, or a failed read or write; 130 interrupted.";

#[derive(Debug, Args)]
pub(in crate::cli) struct Imatrix {
    /// The file to write, in llama.cpp's GGUF format
    #[arg(short, long, value_name = "FILE", value_parser = values::written())]
    pub(in crate::cli) output: PathBuf,

    /// The text to measure on, UTF-8; of several files, an equal part of each [default: English, Chinese, code and
    /// chats]
    #[arg(long, value_name = "FILE", value_parser = values::read())]
    pub(in crate::cli) calibration: Vec<PathBuf>,

    /// About how many tokens to measure on, 1 to 1048576 [default: 2048 of a model of 6B, up to 8192 of a smaller one]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1048576))]
    pub(in crate::cli) tokens: Option<u32>,

    /// `on`: for llama-quantize and an F16 file that was made with --ffn-pad on; convert takes either
    #[arg(long, value_name = "WHEN", value_parser = values::ffn_pad(), default_value = "auto")]
    pub(in crate::cli) ffn_pad: FfnPad,

    /// Replace the file if it exists
    #[arg(short, long)]
    pub(in crate::cli) force: bool,

    #[command(flatten)]
    pub(in crate::cli) running: Running,

    #[command(flatten)]
    pub(in crate::cli) model: ModelArgs,
}
