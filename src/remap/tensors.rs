//! The GGUF's side of the mapping: the tensors of a Llama model, in the order of the file.
//!
//! Where the values of each are found is the checkpoint layout's affair, see `chatglm.rs` and `glm.rs`.

use super::{Role, Rope, Source, Span, Target, chatglm, glm};
use crate::checkpoint::Checkpoint;
use crate::config::{GlmConfig, Layout};

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
    fn spans(&self, layer: usize, slot: Slot) -> Vec<Span> {
        match self {
            Names::ChatGlm(names) => names.spans(layer, slot),
            Names::Glm(names) => names.spans(layer, slot),
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
    pub(super) fn targets(&self, config: &GlmConfig, rope: &Rope) -> Vec<Target> {
        let h = config.hidden_size;
        let whole = |slot, name: &str, role, columns| target(name, role, columns, self.spans(0, slot));
        let mut targets = vec![
            whole(Slot::Embedding, "token_embd.weight", Role::TokenEmbedding, h),
            Target {
                name: "rope_freqs.weight".to_owned(),
                role: Role::Vector,
                layer: None,
                rows: rope.factors.len(),
                columns: 1,
                source: Source::Values(rope.factors.clone()),
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
                let name = format!("blk.{layer}.{name}");
                let block = target(&name, role, columns, self.spans(layer, slot));
                targets.push(Target { layer: Some(layer), ..block });
            }
        }
        targets.push(whole(Slot::FinalNorm, "output_norm.weight", Role::Vector, 1));
        if !config.tie_word_embeddings {
            targets.push(whole(Slot::Output, "output.weight", Role::Output, h));
        }
        targets
    }
}

pub(super) fn whole(tensor: String, rows: usize) -> Vec<Span> {
    vec![Span { tensor, rows: 0..rows }]
}

fn target(name: &str, role: Role, columns: usize, spans: Vec<Span>) -> Target {
    let rows = spans.iter().map(|span| span.rows.len()).sum();
    Target { name: name.to_owned(), role, layer: None, rows, columns, source: Source::Rows(spans) }
}
