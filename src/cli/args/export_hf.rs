//! What `export-hf` takes.

use std::num::NonZero;
use std::path::PathBuf;

use clap::Args;

use super::ModelArgs;

pub(in crate::cli) const EXAMPLES: &str = "Example:
  glm2llama export-hf chatglm3-6b chatglm3-6b-llama
  python -c 'from transformers import AutoModelForCausalLM as M; M.from_pretrained(\"chatglm3-6b-llama\")'

Exit codes: as for convert.";

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportHf {
    #[command(flatten)]
    pub(in crate::cli) model: ModelArgs,

    /// The folder to write
    #[arg(value_name = "OUT_DIR")]
    pub(in crate::cli) output: PathBuf,

    /// How to store the weights: F32, F16 or BF16 [default: as the checkpoint]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) dtype: Option<String>,

    /// The most weights in a file, as transformers counts: 5GB, 500MB, 2GiB or plain bytes
    #[arg(long, value_name = "SIZE", default_value = "5GB")]
    pub(in crate::cli) max_shard_size: String,

    /// Replace an earlier export
    #[arg(short, long)]
    pub(in crate::cli) force: bool,

    /// Workers that convert [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) threads: Option<NonZero<usize>>,

    /// Print JSON lines on stdout instead of text
    #[arg(long)]
    pub(in crate::cli) json: bool,

    /// Print errors only
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}
