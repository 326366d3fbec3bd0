//! An opened model: everything that a command knows of it before a weight is read.

use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, Origin, Published, Remote};
use crate::config::{GlmConfig, RopeRatio};
use crate::error::Result;
use crate::lora::{self, Lora};
use crate::model_name::ModelName;
use crate::remap::{self, Plan, Rope};
use crate::rope_ratio::RopeReading;
use crate::tokenizer::{self, ChatFormat, Tokenizer};

/// Which model, and what the user decides about it.
#[derive(Clone, Debug, Default)]
pub struct ModelSource {
    /// The checkpoint's folder.
    pub folder: PathBuf,
    /// What `rope_ratio` multiplies, where the user knows better.
    pub rope_ratio: Option<RopeRatio>,
    /// Adapters to merge, in this order.
    pub lora: Vec<lora::AdapterSource>,
    /// The repository on a hub that the folder's files are from, where it is known.
    pub origin: Option<Origin>,
    /// The repository that the folder was downloaded from, where its name tells.
    pub published: Option<Published>,
    /// What has the weights, when the folder holds only empty files of their names.
    pub remote: Option<Arc<dyn Remote>>,
}

/// A checkpoint's folder, read and checked.
#[derive(Debug)]
pub struct Model {
    /// The model's config.
    pub config: GlmConfig,
    /// The opened weights.
    pub checkpoint: Checkpoint,
    /// What `rope_ratio` multiplies, and why.
    pub rope_reading: RopeReading,
    /// The rotation, in Llama's terms.
    pub rope: Rope,
    /// The mapping.
    pub plan: Plan,
    /// The vocabulary and where it is from.
    pub tokenizer: Tokenizer,
    /// What is added to the weights.
    pub lora: Lora,
    /// The model's name.
    pub name: ModelName,
}

impl Model {
    /// Reads everything but the weights.
    ///
    /// # Errors
    /// When anything in the folder does not fit.
    pub fn open(request: &ModelSource) -> Result<Model> {
        let folder = &request.folder;
        let config = GlmConfig::load(folder)?;
        let checkpoint = Checkpoint::open_from(folder, request.remote.clone())?;
        let tokenizer = tokenizer::load(folder, &config)?;
        let rope_reading = RopeReading::load(folder, &config, tokenizer.chat, request.rope_ratio)?;
        let rope = Rope::new(&config, rope_reading.rope_ratio);
        let plan = Plan::new(&config, &rope, &checkpoint)?;
        let lora = Lora::open(&request.lora, &checkpoint, &plan)?;
        let name = ModelName::new(&config, tokenizer.chat, plan.parameters());
        Ok(Model { config, checkpoint, rope_reading, rope, plan, tokenizer, lora, name })
    }

    /// What a user should know before trusting anything made of it.
    pub fn warnings(&self) -> Vec<String> {
        let log_scaled = self.rope_reading.log_scaled_from.map(|position| {
            format!(
                "the checkpoint's modelling file scales queries by their position from {position} on, \
                 which the Llama layout cannot express: longer contexts will differ"
            )
        });
        let other_template = self.tokenizer.other_template.then(|| {
            let authors = match self.tokenizer.chat {
                ChatFormat::Rounds => "chatglm2",
                _ => "chatglm3",
            };
            format!(
                "the folder's chat template is not the published one, and is kept; if the model was trained in the \
                 authors' own chat format, give --chat-template {authors}"
            )
        });
        let heads = remap::left_out(&self.checkpoint);
        let beside = self.checkpoint.left_alone();
        let rope = self.config.rope_unread.iter().chain(&self.rope_reading.doubts).cloned();
        let mut warnings: Vec<String> = beside.into_iter().chain(heads).chain(rope).collect();
        warnings.extend(log_scaled.into_iter().chain(other_template));
        warnings.extend(self.tokenizer.lost_ends.clone());
        warnings
    }

    /// What no single field of the checkpoint tells, and what each choice rests on.
    pub fn decisions(&self) -> Vec<String> {
        let mut decisions = self.checkpoint.decisions();
        decisions.extend(self.tokenizer.decisions.iter().map(ToString::to_string));
        let RopeReading { rope_ratio, reason, .. } = &self.rope_reading;
        let effect = match rope_ratio {
            RopeRatio::Base => "multiplies the frequency base",
            RopeRatio::Positions => "divides the positions",
        };
        if self.config.rope_ratio != 1.0 {
            decisions.push(format!("rope: rope_ratio {} {effect}: {reason}", self.config.rope_ratio));
        }
        decisions.extend(self.lora.decisions());
        decisions
    }
}
