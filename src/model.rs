//! An opened model: everything that a command knows of it before a weight is read.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::config::GlmConfig;
use crate::error::Result;
use crate::modelling::Modelling;
use crate::naming::Name;
use crate::remap::{Plan, Rope, RopeRatio};
use crate::tokenizer::{self, ChatFormat, Tokenizer};

/// A checkpoint's folder, read and checked.
#[derive(Debug)]
pub struct Model {
    /// The model's config.
    pub config: GlmConfig,
    /// The opened weights.
    pub checkpoint: Checkpoint,
    /// What the modelling file told.
    pub modelling: Modelling,
    /// The rotation, in Llama's terms.
    pub rope: Rope,
    /// The mapping.
    pub plan: Plan,
    /// The vocabulary and where it is from.
    pub tokenizer: Tokenizer,
    /// The model's name.
    pub name: Name,
}

impl Model {
    /// Reads everything but the weights.
    ///
    /// # Errors
    /// When anything in the folder does not fit.
    pub fn open(folder: &Path) -> Result<Model> {
        let config = GlmConfig::load(folder)?;
        let checkpoint = Checkpoint::open(folder)?;
        let modelling = Modelling::load(folder, &config)?;
        let rope = Rope::new(&config, modelling.rope_ratio);
        let plan = Plan::new(&config, &rope, &checkpoint)?;
        let tokenizer = tokenizer::load(folder, &config)?;
        let name = Name::new(family(tokenizer.chat), &config, plan.parameters());
        Ok(Model { config, checkpoint, modelling, rope, plan, tokenizer, name })
    }

    /// What a user should know before trusting anything made of it.
    pub fn warnings(&self) -> Vec<String> {
        let log_scaled = self.modelling.log_scaled_from.map(|position| {
            format!(
                "the checkpoint's modelling file scales queries by their position from {position} on, \
                 which the Llama layout cannot express: longer contexts will differ"
            )
        });
        log_scaled.into_iter().collect()
    }

    /// What no single field of the checkpoint tells, and what each choice rests on.
    pub fn decisions(&self) -> Vec<String> {
        let mut decisions: Vec<String> = self.tokenizer.evidence.iter().map(ToString::to_string).collect();
        let Modelling { rope_ratio, reason, .. } = &self.modelling;
        let effect = match rope_ratio {
            RopeRatio::Base => "multiplies the frequency base",
            RopeRatio::Positions => "divides the positions",
        };
        if self.config.rope_ratio != 1.0 {
            decisions.push(format!("rope: rope_ratio {} {effect}: {reason}", self.config.rope_ratio));
        }
        decisions
    }
}

/// The family's own spelling of its name.
fn family(chat: ChatFormat) -> &'static str {
    match chat {
        ChatFormat::Roles => "ChatGLM3",
        ChatFormat::Rounds => "ChatGLM2",
        ChatFormat::Glm4 => "GLM-4",
        ChatFormat::Completion | ChatFormat::Own => "ChatGLM",
    }
}
