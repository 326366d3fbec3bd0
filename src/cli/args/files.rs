//! What the commands take that know nothing but GGUF files.

use std::path::PathBuf;

use clap::Args;

use super::values;

#[derive(Debug, Args)]
pub(in crate::cli) struct Diff {
    /// A GGUF file; of a split model any part
    #[arg(value_name = "A", value_parser = values::read())]
    pub(in crate::cli) a: PathBuf,

    /// Another one
    #[arg(value_name = "B", value_parser = values::read())]
    pub(in crate::cli) b: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Ask {
    /// A GGUF file of the Llama architecture; of a split model any part
    #[arg(value_name = "FILE", value_parser = values::read())]
    pub(in crate::cli) file: PathBuf,

    /// The question
    #[arg(value_name = "QUESTION")]
    pub(in crate::cli) question: String,

    /// The longest answer, in tokens
    #[arg(long, value_name = "N", default_value = "128", value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub(in crate::cli) tokens: u32,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Inspect {
    /// A GGUF file of any architecture; of a split model any part; or hf://ORG/NAME/FILE or ms://ORG/NAME/FILE on a
    /// hub, of which only the header is fetched
    #[arg(value_name = "FILE", value_parser = values::read())]
    pub(in crate::cli) file: PathBuf,

    /// Print the chat template, and nothing else
    #[arg(long, conflicts_with_all = ["all", "json", "tensors"])]
    pub(in crate::cli) template: bool,

    /// List every tensor: offset, size, format and shape
    #[arg(long)]
    pub(in crate::cli) tensors: bool,

    /// With --json: leave out the tensors
    #[arg(long, conflicts_with_all = ["tensors", "all"])]
    pub(in crate::cli) no_tensors: bool,

    /// Show long texts and arrays in full, and every tensor
    #[arg(long)]
    pub(in crate::cli) all: bool,

    /// Print one JSON object a line instead of text (docs/json.md)
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

pub(in crate::cli) const OLLAMA_EXAMPLES: &str = "Example:
  glm2llama ollama chatglm3 ChatGLM3-6B-Q4_K_M.gguf

Exit codes: 0 Ollama has the model; 2 bad usage or a bad file; 127 Ollama is not installed: the line to run is printed; \
any other is that of `ollama create`.";

#[derive(Debug, Args)]
pub(in crate::cli) struct Ollama {
    /// What Ollama is to call the model: NAME, NAME:TAG or USER/NAME
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,

    /// The GGUF file; its Modelfile is the one beside it, and is written there if there is none
    #[arg(value_name = "FILE", value_parser = values::read())]
    pub(in crate::cli) file: PathBuf,
}
