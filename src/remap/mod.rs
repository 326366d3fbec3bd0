//! The mapping from a checkpoint to Llama, as data: which rows of which source tensors make up each GGUF tensor.
//!
//! Pure: it sees names and shapes, never weights. Shapes are `[out, in]`, row-major, as in the checkpoint;
//! a vector is a matrix of one column.

mod chatglm;
mod glm;
mod missing;
mod rope;
mod slot;
mod tensors;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use crate::checkpoint::{Checkpoint, Dtype, Tensor};
use crate::config::GlmConfig;
use crate::error::{Error, Result};
pub use rope::Rope;
use slot::Rows;
pub use slot::{InBlock, Part, Slot};
use tensors::Draft;

/// Every tensor of the GGUF, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The tensors.
    pub tensors: Vec<Target>,
    /// The files of the checkpoint that it was made for, and that alone it fits.
    pub files: Vec<PathBuf>,
}

/// One tensor of the GGUF.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its name in the output.
    pub name: String,
    /// Which tensor of a Llama model it is.
    pub slot: Slot,
    /// Rows, before any padding; for a vector, its length.
    pub rows: usize,
    /// Values in a row, before any padding; 1 for a vector.
    pub columns: usize,
    /// Where its values come from.
    pub source: Source,
}

/// Where a target's rows come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Rows of checkpoint tensors, one span after the other.
    Rows(Vec<Span>),
    /// Values that the mapping itself computes.
    Values(Vec<f32>),
}

/// Some consecutive rows of a checkpoint tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The tensor's name in the checkpoint.
    pub tensor: String,
    /// The tensor, as it was found when the plan was made.
    pub stored: Tensor,
    /// Which of its rows.
    pub rows: Range<usize>,
}

/// What a tensor is for: formats are chosen, and the FFN is padded, by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `token_embd.weight`
    TokenEmbedding,
    /// `output.weight`
    Output,
    /// `attn_q.weight` and `attn_k.weight`
    AttnQK,
    /// `attn_v.weight`
    AttnV,
    /// `attn_output.weight`
    AttnOutput,
    /// `ffn_gate.weight` and `ffn_up.weight`: padding adds rows
    FfnGateUp,
    /// `ffn_down.weight`: padding adds columns
    FfnDown,
    /// Norms, biases and rope factors: always F32
    Vector,
}

impl Plan {
    /// Whether activations are multiplied with it: no norm, no bias, and no embedding that is nothing else.
    pub fn multiplies(&self, target: &Target) -> bool {
        match target.role() {
            Role::Vector => false,
            Role::TokenEmbedding => self.tensors.iter().all(|other| other.role() != Role::Output),
            _ => true,
        }
    }
}

impl Target {
    /// What it is for, which decides its format.
    pub fn role(&self) -> Role {
        self.slot.role()
    }

    /// How its values are stored in the checkpoint; computed ones are F32.
    pub fn dtype(&self) -> Dtype {
        match &self.source {
            Source::Rows(spans) => spans.first().map_or(Dtype::F32, |span| span.stored.dtype),
            Source::Values(_) => Dtype::F32,
        }
    }

    /// Where some of its rows come from: the spans, each with those of the stored tensor's rows that are wanted. None
    /// where its values are computed.
    pub fn parts(&self, rows: Range<usize>) -> impl Iterator<Item = (&Span, Range<usize>)> {
        let spans = match &self.source {
            Source::Rows(spans) => spans.as_slice(),
            Source::Values(_) => &[],
        };
        let mut start = 0; // in rows of the target
        spans.iter().filter_map(move |span| {
            let wanted = rows.start.max(start)..rows.end.min(start + span.rows.len());
            let first = span.rows.start + (wanted.start - start);
            start += span.rows.len();
            (!wanted.is_empty()).then(|| (span, first..first + wanted.len()))
        })
    }

    /// Rows and columns in the file, with the feed-forward width padded to `ffn`.
    pub fn padded_shape(&self, ffn: usize) -> (usize, usize) {
        match self.role() {
            Role::FfnGateUp => (self.rows.max(ffn), self.columns),
            Role::FfnDown => (self.rows, self.columns.max(ffn)),
            _ => (self.rows, self.columns),
        }
    }
}

impl Plan {
    /// Lays out the whole model and checks that every row of the checkpoint is used exactly once.
    ///
    /// # Errors
    /// When a tensor is missing, unknown or has another shape than the config says.
    pub fn new(config: &GlmConfig, rope: &Rope, checkpoint: &Checkpoint) -> Result<Plan> {
        refuse_prefix_encoder(checkpoint)?;
        let names = tensors::Names::new(config, checkpoint);
        let drafts = names.drafts(config, rope);
        let mut heights: BTreeMap<String, usize> = BTreeMap::new();
        for Rows { tensor, rows } in drafts.iter().flat_map(Draft::rows) {
            let height = heights.entry(tensor.clone()).or_default();
            *height = rows.end.max(*height);
        }
        let find = |name: &str, width: Option<usize>| {
            let shape: Vec<usize> = heights.get(name).copied().into_iter().chain(width).collect();
            let tensor = checkpoint
                .tensors()
                .get(name)
                .ok_or_else(|| missing::error(&heights, checkpoint, name, &shape))?;
            if tensor.shape != shape {
                let found = format!("shape {:?}", tensor.shape);
                return Err(Error::mismatch(checkpoint.path(tensor), name, found, format!("{shape:?}")));
            }
            Ok(tensor.clone())
        };
        let tensors = drafts.into_iter().map(|draft| draft.resolve(find)).collect::<Result<_>>()?;
        let plan = Plan { tensors, files: checkpoint.files().map(PathBuf::from).collect() };
        plan.check_coverage(checkpoint, names.dropped().as_deref())?;
        Ok(plan)
    }

    /// Weights in the model, padding not counted.
    pub fn parameters(&self) -> u64 {
        let own = |target: &&Target| matches!(target.source, Source::Rows(_));
        self.tensors.iter().filter(own).map(|target| target.rows as u64 * target.columns as u64).sum()
    }

    fn check_coverage(&self, checkpoint: &Checkpoint, dropped: Option<&str>) -> Result<()> {
        let mut used: BTreeMap<&str, Vec<&Range<usize>>> = BTreeMap::new();
        for target in &self.tensors {
            if let Source::Rows(spans) = &target.source {
                for span in spans {
                    used.entry(&span.tensor).or_default().push(&span.rows);
                }
            }
        }
        for (name, tensor) in checkpoint.tensors() {
            let at = |found: String, expected: &str| {
                Error::mismatch(checkpoint.path(tensor), name, found, expected)
            };
            match used.get_mut(name.as_str()) {
                Some(ranges) => {
                    if !covers_once(ranges, tensor) {
                        return Err(at(format!("rows {ranges:?} used"), "each of its rows used once"));
                    }
                }
                None if dropped == Some(name) || is_head(name) => {}
                None => {
                    let shape = format!("an unknown tensor of shape {:?}", tensor.shape);
                    return Err(at(shape, "only tensors that the Llama layout has a place for"));
                }
            }
        }
        Ok(())
    }
}

/// Modules that trainers of rewards and classifiers put beside a model's own; they have no part in generating text.
const HEADS: [&str; 6] = ["v_head", "value_head", "score", "reward_head", "classifier_head", "classifier"];

fn is_head(tensor: &str) -> bool {
    let own =
        ["transformer.", "model."].iter().find_map(|outer| tensor.strip_prefix(outer)).unwrap_or(tensor);
    own.split('.').next().is_some_and(|module| HEADS.contains(&module))
}

/// A warning of tensors that are a head's.
pub fn left_out(checkpoint: &Checkpoint) -> Option<String> {
    let heads: Vec<&String> = checkpoint.tensors().keys().filter(|name| is_head(name)).collect();
    let more = if heads.len() > 1 { format!(" and {} more", heads.len() - 1) } else { String::new() };
    let first = heads.first()?;
    Some(format!("{first}{more} left out: a value or classifier head, which has no part in generating text"))
}

/// P-Tuning v2 saves its prefix with the model's weights, or alone.
fn refuse_prefix_encoder(checkpoint: &Checkpoint) -> Result<()> {
    match checkpoint.tensors().iter().find(|(name, _)| name.contains("prefix_encoder.")) {
        None => Ok(()),
        Some((name, tensor)) => Err(Error::mismatch(
            checkpoint.path(tensor),
            name,
            "a trained prefix (P-Tuning v2)",
            "none: it adds to every layer's keys and values, which the Llama layout has no place for",
        )),
    }
}

fn covers_once(ranges: &mut [&Range<usize>], tensor: &Tensor) -> bool {
    ranges.sort_by_key(|range| range.start);
    let end = ranges.iter().try_fold(0, |next, range| (range.start == next).then_some(range.end));
    end == Some(tensor.rows())
}
