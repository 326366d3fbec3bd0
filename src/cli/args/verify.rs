//! What `verify` takes.

use std::path::PathBuf;

use clap::Args;

use super::model::ROPE;
use super::values;
use glm2llama::config::RopeRatio;

pub(in crate::cli) const EXAMPLES: &str = "Examples:
  glm2llama verify chatglm3-6b ChatGLM3-6B-Q4_K_M.gguf
  glm2llama verify chatglm3-6b ChatGLM3-6B-*.gguf --report report.html
  glm2llama verify chatglm3-6b ChatGLM3-6B-Q4_K_M.gguf --weights-only --receipt receipt.json

Exit codes: 0 faithful: the same model, within what the file's formats allow; 1 not the same (or over --max-kld), \
and what fails is named; 2 it could not be judged; 130 interrupted.";

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// The folder of the ChatGLM checkpoint, or ORG/NAME or ORG/NAME@REVISION of one in a download cache
    #[arg(value_name = "MODEL_DIR")]
    pub(in crate::cli) folder: PathBuf,

    /// The GGUF files to judge; of a split model any part
    #[arg(value_name = "FILE", required = true, value_parser = values::read())]
    pub(in crate::cli) files: Vec<PathBuf>,

    /// Compare weights and metadata only; run neither model
    #[arg(long)]
    pub(in crate::cli) weights_only: bool,

    /// The text to run both models on, UTF-8 [default: a page of English, Chinese and code]
    #[arg(long, value_name = "FILE", value_parser = values::read())]
    pub(in crate::cli) text: Option<PathBuf>,

    /// Run at most this many tokens of the text, 1 to 8192
    #[arg(long, value_name = "N", default_value = "256", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub(in crate::cli) tokens: u32,

    /// The highest mean KL divergence that passes, in nats; without it, quality is only reported
    #[arg(long, value_name = "X", allow_negative_numbers = true, conflicts_with = "weights_only")]
    pub(in crate::cli) max_kld: Option<f64>,

    /// Write a page for a browser, in one file; an earlier page is replaced. If the checkpoint is a trained one, both
    /// models answer two questions on it
    #[arg(long, value_name = "FILE.html", value_parser = values::written())]
    pub(in crate::cli) report: Option<PathBuf>,

    /// Length of the answers on the page, in tokens; 0 for no answers [default: 30; 0 for models of more than a billion
    /// weights, where each token takes seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(in crate::cli) answer_tokens: Option<u32>,

    /// Also hash the checkpoint and the file, and compare with the receipt that convert wrote
    #[arg(long, value_name = "FILE.json", value_parser = values::read())]
    pub(in crate::cli) receipt: Option<PathBuf>,

    /// Print one JSON object a line instead of text (docs/json.md)
    #[arg(long)]
    pub(in crate::cli) json: bool,

    /// As given to convert: what rope_ratio in config.json changes
    #[arg(long, value_name = "WHAT", value_parser = values::rope_ratio(), help_heading = ROPE)]
    pub(in crate::cli) rope_ratio_applies_to: Option<RopeRatio>,
}
