//! What every command takes that opens a model.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use super::values::{self, at_home};
use glm2llama::config::RopeRatio;
use glm2llama::error::Result;
use glm2llama::locate::{self, Caches, Located};
use glm2llama::lora;
use glm2llama::model::ModelSource;

/// The heading in the help of an option that hardly anybody needs.
pub(super) const ROPE: &str = "Models of long contexts";

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ModelArgs {
    /// The model: a folder with config.json, the tokenizer and the weights (safetensors or PyTorch's .bin); or ORG/NAME
    /// or ORG/NAME@REVISION of one in the download cache of Hugging Face or ModelScope; convert and plan also read
    /// hf://ORG/NAME[@REVISION] and ms://ORG/NAME[@REVISION] from the hub
    #[arg(value_name = "MODEL_DIR", index = 1, help_heading = None)]
    pub(in crate::cli) folder: PathBuf,

    /// Only if the line `rope:` is wrong: what rope_ratio in config.json changes
    #[arg(long, value_name = "WHAT", value_parser = values::rope_ratio(), help_heading = ROPE)]
    pub(in crate::cli) rope_ratio_applies_to: Option<RopeRatio>,

    /// Merge a LoRA adapter (PEFT's format) into the weights, scaled by SCALE if that is given, for instance
    /// my-adapter=0.5; several are added in order; convert and plan also take one from a hub, hf://ORG/NAME=0.5
    #[arg(long, value_name = "ADAPTER_DIR[=SCALE]", help_heading = None, display_order = 5)]
    pub(in crate::cli) lora: Vec<OsString>,
}

impl ModelArgs {
    /// For a command that reads no hub.
    pub(in crate::cli) fn local(&self) -> Result<Located> {
        self.lora.iter().try_for_each(|text| locate::refuse_remote_adapter(Path::new(text)))?;
        self.locate()
    }

    pub(in crate::cli) fn locate(&self) -> Result<Located> {
        locate::find(&self.folder, &Caches::of_user())
    }

    pub(in crate::cli) fn request(&self, located: &Located) -> Result<ModelSource> {
        Ok(ModelSource {
            folder: located.folder.clone(),
            published: located.published.clone(),
            rope_ratio: self.rope_ratio_applies_to,
            lora: self
                .lora
                .iter()
                .map(|text| lora::AdapterSource::parse(&at_home(text)))
                .collect::<Result<_>>()?,
            ..ModelSource::default()
        })
    }
}
