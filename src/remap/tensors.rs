//! The GGUF's side of the mapping: the tensors of a Llama model, in the order of the file.
//!
//! Where the values of each are found is the checkpoint layout's affair, see `chatglm.rs` and `glm.rs`.

use std::ops::Range;

use super::{Role, Rope, Source, Span, Target, chatglm, glm};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::config::{GlmConfig, Layout};
use crate::error::Result;

/// A tensor of a Llama model, or of one of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Embedding,
    FinalNorm,
    Output,
    AttnNorm,
    Weight(Part),
    Bias(Part),
    AttnOutput,
    FfnNorm,
    Gate,
    Up,
    Down,
}

/// What a row of the attention's projections is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Query,
    Key,
    Value,
}

/// Some consecutive rows of a checkpoint tensor that was not looked for yet.
pub(super) struct Rows {
    pub(super) tensor: String,
    pub(super) rows: Range<usize>,
}

/// A target whose sources are names.
pub(super) struct Draft {
    name: String,
    role: Role,
    layer: Option<usize>,
    columns: usize,
    source: DraftSource,
}

enum DraftSource {
    Rows(Vec<Rows>),
    Values(Vec<f32>),
}

impl Draft {
    /// The rows that it takes from the checkpoint.
    pub(super) fn rows(&self) -> &[Rows] {
        match &self.source {
            DraftSource::Rows(rows) => rows,
            DraftSource::Values(_) => &[],
        }
    }

    /// The target itself, with each source tensor found by its name and the shape but for the rows.
    pub(super) fn resolve(self, find: impl Fn(&str, Option<usize>) -> Result<Tensor>) -> Result<Target> {
        let Draft { name, role, layer, columns, source } = self;
        let width = (role != Role::Vector).then_some(columns);
        let (rows, source) = match source {
            DraftSource::Values(values) => (values.len(), Source::Values(values)),
            DraftSource::Rows(rows) => {
                let span = |Rows { tensor, rows }| Ok(Span { stored: find(&tensor, width)?, tensor, rows });
                let spans: Vec<Span> = rows.into_iter().map(span).collect::<Result<_>>()?;
                (spans.iter().map(|span| span.rows.len()).sum(), Source::Rows(spans))
            }
        };
        Ok(Target { name, role, layer, rows, columns, source })
    }
}

/// A block's tensors.
const BLOCK: [(Slot, &str, Role); 12] = [
    (Slot::AttnNorm, "attn_norm.weight", Role::Vector),
    (Slot::Weight(Part::Query), "attn_q.weight", Role::AttnQK),
    (Slot::Bias(Part::Query), "attn_q.bias", Role::Vector),
    (Slot::Weight(Part::Key), "attn_k.weight", Role::AttnQK),
    (Slot::Bias(Part::Key), "attn_k.bias", Role::Vector),
    (Slot::Weight(Part::Value), "attn_v.weight", Role::AttnV),
    (Slot::Bias(Part::Value), "attn_v.bias", Role::Vector),
    (Slot::AttnOutput, "attn_output.weight", Role::AttnOutput),
    (Slot::FfnNorm, "ffn_norm.weight", Role::Vector),
    (Slot::Gate, "ffn_gate.weight", Role::FfnGateUp),
    (Slot::Up, "ffn_up.weight", Role::FfnGateUp),
    (Slot::Down, "ffn_down.weight", Role::FfnDown),
];

/// How a checkpoint names its tensors, for one model.
pub(super) enum Names<'a> {
    ChatGlm(chatglm::Names<'a>),
    Glm(glm::Names<'a>),
}

impl<'a> Names<'a> {
    pub(super) fn new(config: &'a GlmConfig, checkpoint: &Checkpoint) -> Names<'a> {
        match config.layout {
            Layout::ChatGlm => Names::ChatGlm(chatglm::Names::new(config, checkpoint)),
            Layout::Glm => Names::Glm(glm::Names::new(config)),
        }
    }

    /// The rows of the checkpoint that make up a tensor.
    fn rows(&self, layer: usize, slot: Slot) -> Vec<Rows> {
        match self {
            Names::ChatGlm(names) => names.rows(layer, slot),
            Names::Glm(names) => names.rows(layer, slot),
        }
    }

    /// A tensor that the Llama model does without, since it holds nothing new.
    pub(super) fn dropped(&self) -> Option<String> {
        match self {
            Names::ChatGlm(names) => Some(names.dropped()),
            Names::Glm(names) => names.dropped(),
        }
    }

    /// The GGUF's tensors.
    pub(super) fn drafts(&self, config: &GlmConfig, rope: &Rope) -> Vec<Draft> {
        let h = config.hidden_size;
        let top = |slot, name: &str, role, columns| Draft {
            name: name.to_owned(),
            role,
            layer: None,
            columns,
            source: DraftSource::Rows(self.rows(0, slot)),
        };
        let mut drafts = vec![
            top(Slot::Embedding, "token_embd.weight", Role::TokenEmbedding, h),
            Draft {
                name: "rope_freqs.weight".to_owned(),
                role: Role::Vector,
                layer: None,
                columns: 1,
                source: DraftSource::Values(rope.factors.clone()),
            },
        ];
        for layer in 0..config.num_layers {
            for (slot, name, role) in BLOCK {
                if matches!(slot, Slot::Bias(_)) && !config.qkv_bias {
                    continue;
                }
                let columns = match slot {
                    _ if role == Role::Vector => 1,
                    Slot::AttnOutput => config.num_attention_heads * config.head_dim,
                    Slot::Down => config.ffn_hidden_size,
                    _ => h,
                };
                drafts.push(Draft {
                    name: format!("blk.{layer}.{name}"),
                    role,
                    layer: Some(layer),
                    columns,
                    source: DraftSource::Rows(self.rows(layer, slot)),
                });
            }
        }
        drafts.push(top(Slot::FinalNorm, "output_norm.weight", Role::Vector, 1));
        if !config.tie_word_embeddings {
            drafts.push(top(Slot::Output, "output.weight", Role::Output, h));
        }
        drafts
    }
}

pub(super) fn whole(tensor: String, rows: usize) -> Vec<Rows> {
    vec![Rows { tensor, rows: 0..rows }]
}
