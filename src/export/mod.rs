//! The export for transformers: safetensors, config and tokenizer of a stock `LlamaForCausalLM`.
//!
//! It goes the way of the conversion, with other names (`plan`) and another file format (`writer`).

mod config;
mod folder;
mod layout;
mod plan;
mod tokenizer;
mod writer;

use std::path::PathBuf;

use quant::Format;
use serde::Serialize;

use crate::checkpoint::Dtype;
use crate::error::{Error, Result};
use crate::input::{self, GuestBook};
use crate::model::{self, Model};
use crate::pipeline;
use crate::remap::{Plan, Source, Target};
use crate::watch::Watch;
use config::{Config, GenerationConfig};
use folder::Folder;
pub use layout::{Shard, ShardLayout};
use plan::ExportPlan;
use writer::Writer;

/// What the user asks for.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// What to export.
    pub model: model::ModelSource,
    /// The folder to write.
    pub output: PathBuf,
    /// How to store the weights; as the checkpoint does when `None`.
    pub dtype: Option<Dtype>,
    /// The most bytes of tensors in a file.
    pub max_shard_bytes: u64,
    /// An earlier export may be replaced.
    pub force: bool,
}

/// An export that has passed every check that needs no weights.
#[derive(Debug)]
pub struct Export {
    /// What to export.
    pub model: Model,
    /// The mapping, with transformers' names.
    pub plan: Plan,
    /// The files of the weights.
    pub layout: ShardLayout,
    /// How most weights are stored.
    pub dtype: Dtype,
    /// The folder to write.
    pub output: PathBuf,
    /// The files of the model and its adapters.
    guests: GuestBook,
    /// The small files: name and content.
    texts: Vec<(&'static str, Vec<u8>)>,
    force: bool,
}

/// The folder under its temporary name. Dropping it deletes it.
#[derive(Debug)]
pub struct Outputs {
    /// Before the folder, to be dropped before it: Windows deletes no folder with an open file in it.
    writers: Vec<Writer>,
    folder: Folder,
    /// What the weights themselves have to be warned of, once they were read.
    doubt: Option<String>,
}

impl Export {
    /// Reads everything but the weights and plans every file.
    ///
    /// # Errors
    /// When anything in the folder does not fit, or the request contradicts itself.
    pub fn prepare(request: &ExportRequest) -> Result<Export> {
        let (model, guests) = input::noted(|| Model::open(&request.model));
        let model = model?;
        let plan = ExportPlan::new(&model.plan, &model.config);
        let stored = plan.plan.tensors.iter().map(Target::dtype);
        let own = stored.clone().next().unwrap_or(Dtype::F32); // the embedding's
        let dtype = request.dtype.unwrap_or(own);
        let format = |(target, stored): (&Target, Dtype)| match target.source {
            Source::Rows(_) => request.dtype.unwrap_or(stored).format(),
            Source::Values(_) => dtype.format(),
        };
        let formats: Vec<Format> = plan.plan.tensors.iter().zip(stored).map(format).collect();
        let layout = ShardLayout::new(&plan, &formats, request.max_shard_bytes)?;
        let mut texts = vec![
            ("config.json", json(&Config::new(&model, torch_name(dtype)))?),
            ("generation_config.json", json(&GenerationConfig::new(&model))?),
            ("tokenizer.json", tokenizer::tokenizer_json(&model.tokenizer.vocabulary)?),
            (
                "tokenizer_config.json",
                tokenizer::tokenizer_config(&model.tokenizer, model.config.seq_length)?,
            ),
        ];
        if let Some(index) = layout.index() {
            texts.push(("model.safetensors.index.json", json(&index)?));
        }
        Ok(Export {
            guests,
            plan: plan.plan,
            model,
            layout,
            dtype,
            output: request.output.clone(),
            texts,
            force: request.force,
        })
    }

    /// Creates the folder under a temporary name, with all its disk space reserved.
    ///
    /// # Errors
    /// When the folder exists, cannot be written, or does not fit its disk.
    pub fn create_outputs(&self) -> Result<Outputs> {
        self.guests.refuse_changed()?;
        let folder = Folder::create_beside(&self.output, self.force)?;
        let writer = Writer::create(&folder, &self.layout)?;
        for (name, text) in &self.texts {
            let mut file = folder.create(name)?;
            file.write_all(text)?;
            file.publish()?;
        }
        Ok(Outputs { folder, writers: vec![writer], doubt: None })
    }

    /// Fills the files, in a folder that keeps its temporary name; nothing is left of it on failure.
    ///
    /// # Errors
    /// When a file cannot be written, a weight is damaged, or the user stops the run.
    pub fn fill(&self, outputs: Outputs, options: pipeline::Options, watch: &dyn Watch) -> Result<Outputs> {
        let Outputs { folder, writers, .. } = outputs;
        let (writers, zero_rows) = pipeline::run(&self.work(), writers, options, watch)?;
        self.model.checkpoint.refuse_changed()?;
        self.model.lora.refuse_changed()?;
        Ok(Outputs {
            folder,
            writers,
            doubt: zero_rows.warning(&self.plan, self.model.tokenizer.vocabulary.last()),
        })
    }

    /// What the pipeline works on.
    pub fn work(&self) -> pipeline::Work<'_> {
        pipeline::Work {
            ready: None,
            plan: &self.plan,
            checkpoint: &self.model.checkpoint,
            importance: None,
            lora: &self.model.lora,
        }
    }

    /// Every file of the folder with its length.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        let shards = self.layout.shards.iter().map(|shard| (shard.name.as_str(), shard.bytes));
        shards.chain(self.texts.iter().map(|(name, text)| (*name, text.len() as u64)))
    }
}

impl Outputs {
    /// What a user should know of the weights before trusting the folder.
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// When the folder is not full, or the system cannot sync or rename.
    pub fn publish(self) -> Result<()> {
        self.writers.into_iter().try_for_each(Writer::finish)?;
        self.folder.publish()
    }
}

fn torch_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text =
        serde_json::to_vec_pretty(value).map_err(|e| Error::Internal(format!("a JSON file: {e}")))?;
    text.push(b'\n');
    Ok(text)
}
