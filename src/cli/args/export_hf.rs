//! What `export-hf` takes.

use std::path::PathBuf;

use clap::Args;

use super::values::{self, Names};
use super::{ModelArgs, Running};

pub(in crate::cli) const EXAMPLES: &str = "Example:
  glm2llama export-hf chatglm3-6b --output chatglm3-6b-llama
  python -c 'from transformers import AutoModelForCausalLM as M; M.from_pretrained(\"chatglm3-6b-llama\")'

Exit codes: as for convert.";

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportHf {
    /// The folder to write
    #[arg(short, long, value_name = "OUT_DIR", value_parser = values::written())]
    #[arg(required_unless_present = "place")]
    output: Option<PathBuf>,

    /// The same, by its place
    #[arg(value_name = "OUT_DIR", index = 2, value_parser = values::written(), conflicts_with = "output", hide = true)]
    place: Option<PathBuf>,

    /// How to store the weights [default: as in the checkpoint]
    #[arg(long, alias = "outtype", value_name = "NAME", ignore_case = true)]
    #[arg(value_parser = Names(vec!["F32", "F16", "BF16"]))]
    pub(in crate::cli) dtype: Option<String>,

    /// The largest size of a file: 5GB or 500M (powers of 1000), 2GiB (of 1024), or bytes
    #[arg(long, value_name = "SIZE", default_value = "5GB", allow_negative_numbers = true)]
    pub(in crate::cli) max_shard_size: String,

    /// Replace an earlier export
    #[arg(short, long)]
    pub(in crate::cli) force: bool,

    /// Stop with an error if rows of the weights are all zero, as an unfinished download leaves them
    #[arg(long)]
    pub(in crate::cli) strict: bool,

    #[command(flatten)]
    pub(in crate::cli) running: Running,

    #[command(flatten)]
    pub(in crate::cli) model: ModelArgs,
}

impl ExportHf {
    /// The folder to write.
    pub(in crate::cli) fn output(&self) -> PathBuf {
        self.output.as_ref().or(self.place.as_ref()).cloned().unwrap_or_default() // the parser wants one of them
    }
}
