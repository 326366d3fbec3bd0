//! What the user may type. Only parsed here: whatever touches the disk comes after.

mod compare;
mod export_hf;
mod files;
mod imatrix;
mod llama_cpp;
mod model;
mod target;
mod values;
mod verify;

use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args as ClapArgs, ColorChoice, Parser, Subcommand};

pub(super) use compare::Compare;
pub(super) use export_hf::ExportHf;
pub(super) use files::{Ask, Diff, Inspect, Ollama};
use glm2llama::error::Result;
use glm2llama::recipe::{FfnPad, FileType};
use glm2llama::request::Quality;
pub(super) use imatrix::Imatrix;
use llama_cpp::{Contents, TensorTypes};
pub(super) use model::ModelArgs;
use target::Target;
use values::Names;
pub(super) use verify::Verify;

/// Converts ChatGLM checkpoints into GGUF files that every llama.cpp program loads as a Llama model.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Args {
    /// The command.
    #[command(subcommand)]
    pub(super) command: Command,

    /// When to colour what is printed; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value = "auto", display_order = 100)]
    pub(super) color: ColorChoice,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Converts and quantizes a checkpoint, in one pass
    #[command(after_help = EXAMPLES)]
    Convert(Convert),
    /// Writes a checkpoint as a Llama model for Hugging Face transformers, with its tokenizer
    #[command(after_help = export_hf::EXAMPLES)]
    ExportHf(ExportHf),
    /// Measures an importance matrix on the checkpoint itself, for convert --imatrix
    #[command(after_help = imatrix::EXAMPLES)]
    Imatrix(Imatrix),
    /// Helps to choose a type; with --type, shows what convert would do; reads weights for --target-size alone
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(Plan),
    /// Shows what a GGUF file holds: the model at a glance, metadata, formats and sizes
    #[command(
        after_help = "Examples:\n  glm2llama inspect ChatGLM3-6B-Q4_K_M.gguf\n  glm2llama inspect ChatGLM3-6B-Q4_K_M.gguf --template"
    )]
    Inspect(Inspect),
    /// Shows how two GGUF files differ: metadata, formats, shapes and bytes of tensors
    #[command(
        after_help = "Example:\n  glm2llama diff old.gguf new.gguf\n\nExit codes: 0 no difference; 1 they differ; 2 one could not be read."
    )]
    Diff(Diff),
    /// Shows whether GGUF files are the same model as a checkpoint, and how good they are
    #[command(after_help = verify::EXAMPLES)]
    Verify(Verify),
    /// Shows which of several GGUF files predicts more like their checkpoint, and how certain that is
    #[command(after_help = compare::EXAMPLES)]
    Compare(Compare),
    /// Asks a GGUF file a question, without any other program; slow
    #[command(
        after_help = "Example:\n  glm2llama ask ChatGLM3-6B-Q4_K_M.gguf \"What is the capital of France?\""
    )]
    Ask(Ask),
    /// Runs ollama create for a GGUF file, or prints the command if Ollama is not installed
    #[command(after_help = files::OLLAMA_EXAMPLES)]
    Ollama(Ollama),
    /// Prints completions for a shell
    #[command(
        after_help = "Example:\n  mkdir -p ~/.local/share/bash-completion/completions\n  glm2llama completions bash > ~/.local/share/bash-completion/completions/glm2llama"
    )]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Prints the manual, with all commands
    #[command(after_help = "Example:\n  glm2llama man > glm2llama.1 && man ./glm2llama.1")]
    Man,
}

const EXAMPLES: &str = "Examples:
  glm2llama convert chatglm3-6b
  glm2llama convert chatglm3-6b --type Q4_K_M --type Q8_0
  glm2llama convert my-finetune --type Q5_K_M --output my-finetune.gguf
  glm2llama convert hf://zai-org/chatglm3-6b

Exit codes: 0 done; 1 --verify found a file wrong; 2 bad usage, bad input, or a failed read or write; \
130 interrupted; with --ollama, that of ollama create, or 127 if Ollama is not installed. With 1, 2 and 130 no new \
file is left, and those that --force would have replaced are as they were.";

const PLAN_EXAMPLES: &str = "Examples:
  glm2llama plan chatglm3-6b
  glm2llama plan chatglm3-6b --fit 6GB
  glm2llama plan chatglm3-6b --type Q4_K_M --all

Takes the options of convert. Of those about running it, --verify and --receipt change nothing, and --threads \
only the time that is foretold.";

/// `plan`.
#[derive(Debug, ClapArgs)]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) convert: Convert,

    /// Name the best type that runs in this much memory, for instance 6GB or 5500MB
    #[arg(long, value_name = "SIZE", help_heading = None, display_order = 0)]
    #[arg(conflicts_with_all = ["types", "target_size", "target_bpw", "all", "strict", "output", "vocab_only"])]
    pub(super) fit: Option<String>,
}

/// Options behind a flattened group would stand under that group's heading in the help: these have one of their own.
const RUNNING: &str = "Running";

#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Convert {
    /// The type to write, in upper or lower case; for several, as in Q4_K_M,Q8_0, the model is read only once [default:
    /// Q4_K_M]
    #[arg(short, long = "type", alias = "outtype", value_name = "NAME")]
    #[arg(ignore_case = true, value_delimiter = ',', value_parser = Names(FileType::names().collect()))]
    pub(super) types: Vec<String>,

    #[command(flatten)]
    pub(super) target: Target,

    /// The file to write; {type} in it stands for the type's name [default: NAME-TYPE.gguf in the current folder]
    #[arg(short, long, alias = "outfile", value_name = "FILE", value_parser = values::output())]
    pub(super) output: Option<PathBuf>,

    /// How much work to put into the weights
    #[arg(long, value_name = "HOW", value_parser = values::quality(), default_value = "fast")]
    pub(super) quality: Quality,

    /// Replace output files that exist
    #[arg(short, long)]
    pub(super) force: bool,

    /// Pad the feed-forward network with zeros to a multiple of 256: always, never, or only where a type would fall
    /// back to another format otherwise (auto); the model computes the same
    #[arg(long, value_name = "WHEN", value_parser = values::ffn_pad(), default_value = "auto")]
    pub(super) ffn_pad: FfnPad,

    /// Write no Modelfile for Ollama beside the output
    #[arg(long)]
    pub(super) no_modelfile: bool,

    /// Hand the file to Ollama under this name when it is written, as glm2llama ollama does; with one type only
    #[arg(long, value_name = "NAME")]
    #[arg(conflicts_with_all = ["no_modelfile", "vocab_only", "split_max_size", "json"])]
    pub(super) ollama: Option<String>,

    /// Quantize with an importance matrix, from glm2llama imatrix or from llama-imatrix (GGUF or .dat)
    #[arg(long, value_name = "FILE", value_parser = values::read())]
    pub(super) imatrix: Option<PathBuf>,

    /// With --quality good or best: the text to measure on, UTF-8; of several files, an equal part of each [default:
    /// English, Chinese, code and chats]
    #[arg(long, value_name = "FILE", value_parser = values::read())]
    pub(super) calibration: Vec<PathBuf>,

    /// With --quality good or best: about how many tokens to measure on, 1 to 1048576 [default: 2048 for
    /// good of a model of 6B, up to 8192 of a smaller one; 8192 for best]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1048576))]
    pub(super) calibration_tokens: Option<u32>,

    /// With --quality best: the most memory that the run may take, for instance 700MB; second moments of wide matrices
    /// are split for it, which costs a little quality
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    pub(super) memory: Option<String>,

    #[command(flatten)]
    pub(super) tensor_types: TensorTypes,

    #[command(flatten)]
    pub(super) contents: Contents,

    /// Compare every weight that was written with the checkpoint before the file gets its name; a wrong file is
    /// deleted, and the exit code is 1; not with --lora or --vocab-only
    #[arg(long, help_heading = RUNNING, conflicts_with_all = ["vocab_only", "lora"])]
    pub(super) verify: bool,

    /// Stop with an error if a tensor cannot have the format that its type asks for
    #[arg(long, help_heading = RUNNING)]
    pub(super) strict: bool,

    /// Write nothing, only show what would be done: glm2llama plan for a command that is typed already
    #[arg(long, help_heading = RUNNING)]
    pub(super) dry_run: bool,

    /// With plan --type or --dry-run: one row for each tensor instead of one for each kind of tensor
    #[arg(long, help_heading = RUNNING)]
    pub(super) all: bool,

    /// With hf:// or ms://: also keep the checkpoint in this folder, laid out like the hub's own cache; later runs find
    /// it there if HF_HUB_CACHE or MODELSCOPE_CACHE names the folder
    #[cfg(feature = "hub")]
    #[arg(long, help_heading = RUNNING, value_name = "DIR", value_parser = values::written())]
    #[arg(conflicts_with = "vocab_only")] // which fetches no weights
    pub(super) keep: Option<PathBuf>,

    /// Number of threads [default: one for each core]
    #[arg(long, help_heading = RUNNING, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(super) threads: Option<NonZero<usize>>,

    /// The instruction set to quantize with; the bytes are the same [default: the fastest that the machine has]
    #[arg(long, help_heading = RUNNING, value_name = "NAME", env = "GLM2LLAMA_BACKEND", hide_env_values = true)]
    #[arg(value_parser = ["scalar", "avx2", "avx512", "neon"])]
    pub(super) backend: Option<String>,

    /// Memory for buffers, in MiB; more than the default rarely helps
    #[arg(long, help_heading = RUNNING, value_name = "MIB", default_value = "96", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) buffer_memory: u32,

    /// Write a receipt: a JSON file with the hash of every file that was read or written (docs/receipt.md)
    #[arg(long, help_heading = RUNNING, value_name = "FILE.json", value_parser = values::written())]
    pub(super) receipt: Option<PathBuf>,

    /// Write a model card, for an upload to a hub: base model and licence if they are known, the files with SHA-256,
    /// how to run them, the prompt format; with --verify also the quality of each file, for which both models are run
    #[arg(long, help_heading = RUNNING, value_name = "README.md", value_parser = values::written())]
    #[arg(conflicts_with = "vocab_only")]
    pub(super) card: Option<PathBuf>,

    /// Print one JSON object a line on stdout instead of text (docs/json.md)
    #[arg(long, help_heading = RUNNING)]
    pub(super) json: bool,

    /// Print errors only
    #[arg(short, long, help_heading = RUNNING)]
    pub(super) quiet: bool,

    /// Last, for the heading that it brings along.
    #[command(flatten)]
    pub(super) model: ModelArgs,
}

impl Convert {
    /// Where to store what comes from a hub.
    pub(super) fn keep(&self) -> Option<&PathBuf> {
        #[cfg(feature = "hub")]
        return self.keep.as_ref();
        #[cfg(not(feature = "hub"))]
        None
    }

    /// What `--type` names; without it the most usual one, or none where formats are chosen for a size.
    pub(super) fn types(&self) -> Result<Vec<FileType>> {
        match self.types.as_slice() {
            [] if self.target.is_given() => Ok(Vec::new()),
            [] => Ok(vec![FileType::Q4_K_M]),
            names => names.iter().map(|name| name.parse()).collect(),
        }
    }
}

/// How a command runs that has no other options about it, and what it prints.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Running {
    /// Number of threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(super) threads: Option<NonZero<usize>>,

    /// Print one JSON object a line on stdout instead of text (docs/json.md)
    #[arg(long)]
    pub(super) json: bool,

    /// Print errors only
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// How many workers there are, as typed.
fn at_least_one(text: &str) -> std::result::Result<NonZero<usize>, &'static str> {
    text.parse().map_err(|_| "expected a whole number from 1 on")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
