//! The GGUF's side of the mapping: the tensors of a Llama model, in the order of the file.
//!
//! Where the values of each are found is the checkpoint layout's affair, see `chatglm.rs` and `glm.rs`.

use super::slot::{InBlock, Part, Rows, Slot};
use super::{Role, Rope, Source, Span, Target, chatglm, glm};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::config::{GlmConfig, TensorNaming};
use crate::error::Result;

/// A target whose sources are names.
pub(super) struct Draft {
    slot: Slot,
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
        let Draft { slot, columns, source } = self;
        let width = (slot.role() != Role::Vector).then_some(columns);
        let (rows, source) = match source {
            DraftSource::Values(values) => (values.len(), Source::Values(values)),
            DraftSource::Rows(rows) => {
                let span = |Rows { tensor, rows }| Ok(Span { stored: find(&tensor, width)?, tensor, rows });
                let spans: Vec<Span> = rows.into_iter().map(span).collect::<Result<_>>()?;
                (spans.iter().map(|span| span.rows.len()).sum(), Source::Rows(spans))
            }
        };
        Ok(Target { name: slot.gguf_name(), slot, rows, columns, source })
    }
}

/// A block's tensors, in the order of the file.
const BLOCK: [InBlock; 12] = [
    InBlock::AttnNorm,
    InBlock::Weight(Part::Query),
    InBlock::Bias(Part::Query),
    InBlock::Weight(Part::Key),
    InBlock::Bias(Part::Key),
    InBlock::Weight(Part::Value),
    InBlock::Bias(Part::Value),
    InBlock::AttnOutput,
    InBlock::FfnNorm,
    InBlock::Gate,
    InBlock::Up,
    InBlock::Down,
];

/// How a checkpoint names its tensors, for one model.
pub(super) enum Names<'a> {
    ChatGlm(chatglm::Names<'a>),
    Glm(glm::Names<'a>),
}

impl<'a> Names<'a> {
    pub(super) fn new(config: &'a GlmConfig, checkpoint: &Checkpoint) -> Names<'a> {
        match config.naming {
            TensorNaming::ChatGlm => Names::ChatGlm(chatglm::Names::new(config, checkpoint)),
            TensorNaming::Glm => Names::Glm(glm::Names::new(config)),
        }
    }

    /// The rows of the checkpoint that make up a tensor.
    fn rows(&self, slot: Slot) -> Vec<Rows> {
        match self {
            Names::ChatGlm(names) => names.rows(slot),
            Names::Glm(names) => names.rows(slot),
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
        let stored = |slot: Slot| Draft {
            slot,
            columns: match slot {
                _ if slot.role() == Role::Vector => 1,
                Slot::Block(_, InBlock::AttnOutput) => config.num_attention_heads * config.head_dim,
                Slot::Block(_, InBlock::Down) => config.ffn_hidden_size,
                _ => config.hidden_size,
            },
            source: DraftSource::Rows(self.rows(slot)),
        };
        let factors = DraftSource::Values(rope.factors.clone());
        let mut drafts = vec![
            stored(Slot::TokenEmbedding),
            Draft { slot: Slot::RopeFactors, columns: 1, source: factors },
        ];
        for layer in 0..config.num_layers {
            let has = |tensor: &InBlock| config.qkv_bias || !matches!(tensor, InBlock::Bias(_));
            drafts.extend(BLOCK.into_iter().filter(has).map(|tensor| stored(Slot::Block(layer, tensor))));
        }
        drafts.push(stored(Slot::FinalNorm));
        if !config.tie_word_embeddings {
            drafts.push(stored(Slot::Output));
        }
        drafts
    }
}
