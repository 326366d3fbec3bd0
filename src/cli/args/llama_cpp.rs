//! Options of `convert` that users of llama.cpp's converter and llama-quantize know by these names.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::values;
use glm2llama::error::Result;
use glm2llama::recipe::{Overrides, parse_format, parse_tensor_type};
use glm2llama::request::Given;

/// Which matrix takes which type.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Types of tensors")]
pub(in crate::cli) struct TensorTypes {
    /// Set the format of the matrices whose GGUF name matches, for instance ffn_down=Q6_K (a format, not a mix such as
    /// Q4_K_M); can be given several times, the first match counts
    #[arg(long = "tensor-type", value_name = "REGEX=FORMAT")]
    tensor_types: Vec<String>,

    /// The format of output.weight
    #[arg(long, value_name = "FORMAT")]
    output_tensor_type: Option<String>,

    /// The format of token_embd.weight
    #[arg(long, value_name = "FORMAT")]
    token_embedding_type: Option<String>,

    /// Give every matrix the type's base format, without the mix of formats
    #[arg(long, conflicts_with_all = ["target_size", "target_bpw"])]
    pure: bool,
}

/// What else the file says, and how it is cut.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Metadata and files")]
pub(in crate::cli) struct Contents {
    /// The model's name: general.name, and the name of the file if there is no --output
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    model_name: Option<String>,

    /// Author, licence, tags and so on from a JSON file of general. keys, which replace those of the model card
    #[arg(long, value_name = "FILE", value_parser = values::read())]
    metadata: Option<PathBuf>,

    /// Set any metadata key, with the type int, float, bool or str, for instance general.author=str:me; can be given
    /// several times
    #[arg(long, value_name = "KEY=TYPE:VALUE")]
    override_kv: Vec<String>,

    /// The chat template: a Jinja file, or chatglm2, chatglm3, glm4 or glm-edge for a built-in one; without it the
    /// model gets the authors' own chat format, or keeps the template in its folder if that does something else
    #[arg(long, value_name = "FILE", value_parser = values::read())]
    chat_template: Option<PathBuf>,

    /// Write only metadata and vocabulary, no tensors; not with --type, --imatrix or --split-max-size
    #[arg(long, conflicts_with_all = ["types", "target_size", "target_bpw", "split_max_size", "imatrix"])]
    pub(in crate::cli) vocab_only: bool,

    /// Split the file into parts, NAME-00001-of-00003.gguf and so on, each with at most this size of tensors: 2G, 500M
    /// or 5GB (powers of 1000), 2GiB (of 1024), or bytes
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    pub(in crate::cli) split_max_size: Option<String>,
}

impl TensorTypes {
    pub(in crate::cli) fn parse(&self) -> Result<Overrides> {
        let format =
            |option, name: &Option<String>| name.as_deref().map(|n| parse_format(option, n)).transpose();
        Ok(Overrides {
            pure: self.pure,
            output: format("--output-tensor-type", &self.output_tensor_type)?,
            token_embedding: format("--token-embedding-type", &self.token_embedding_type)?,
            tensors: self.tensor_types.iter().map(|text| parse_tensor_type(text)).collect::<Result<_>>()?,
        })
    }
}

impl Contents {
    /// What the model computes, or how it is talked to, may be said otherwise than by the checkpoint.
    pub(in crate::cli) fn changes_metadata(&self) -> bool {
        !self.override_kv.is_empty() || self.chat_template.is_some()
    }

    pub(in crate::cli) fn given(&self) -> Result<Given> {
        Ok(Given {
            model_name: self.model_name.clone(),
            metadata: self.metadata.clone(),
            overrides: self.override_kv.iter().map(|text| text.parse()).collect::<Result<_>>()?,
            chat_template: self.chat_template.clone(),
        })
    }
}
