//! The tensors of a Llama model: what each is for, and its names in a GGUF and in transformers.

use std::ops::Range;

use super::Role;

/// A tensor of a Llama model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A row for each token.
    TokenEmbedding,
    /// What divides the angle of each pair of a head.
    RopeFactors,
    /// A tensor of the block with this number.
    Block(usize, InBlock),
    /// The norm behind the last block.
    FinalNorm,
    /// The output layer, where the embedding does not serve as one.
    Output,
}

/// A tensor of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InBlock {
    /// The norm before attention.
    AttnNorm,
    /// The weight of a projection.
    Weight(Part),
    /// Its bias.
    Bias(Part),
    /// The projection behind attention.
    AttnOutput,
    /// Its bias, which no ChatGLM has.
    AttnOutputBias,
    /// The norm before the feed-forward network.
    FfnNorm,
    /// The half of the network that goes through silu.
    Gate,
    /// The other half.
    Up,
    /// Back to the hidden size.
    Down,
}

/// What a row of the attention's projections is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A query.
    Query,
    /// A key.
    Key,
    /// A value.
    Value,
}

impl Slot {
    /// The block that it belongs to.
    pub fn layer(self) -> Option<usize> {
        match self {
            Slot::Block(layer, _) => Some(layer),
            _ => None,
        }
    }

    /// What decides its format and padding.
    pub fn role(self) -> Role {
        use InBlock::{AttnNorm, AttnOutput, AttnOutputBias, Bias, Down, FfnNorm, Gate, Up, Weight};
        match self {
            Slot::TokenEmbedding => Role::TokenEmbedding,
            Slot::Output => Role::Output,
            Slot::RopeFactors | Slot::FinalNorm => Role::Vector,
            Slot::Block(_, AttnNorm | Bias(_) | AttnOutputBias | FfnNorm) => Role::Vector,
            Slot::Block(_, Weight(Part::Query | Part::Key)) => Role::AttnQK,
            Slot::Block(_, Weight(Part::Value)) => Role::AttnV,
            Slot::Block(_, AttnOutput) => Role::AttnOutput,
            Slot::Block(_, Gate | Up) => Role::FfnGateUp,
            Slot::Block(_, Down) => Role::FfnDown,
        }
    }

    /// Its rows are those of heads, and positions rotate what they make.
    pub fn is_rotated(self) -> bool {
        use InBlock::{Bias, Weight};
        matches!(self, Slot::Block(_, Weight(Part::Query | Part::Key) | Bias(Part::Query | Part::Key)))
    }

    /// Its name in a GGUF.
    pub fn gguf_name(self) -> String {
        let name = match self {
            Slot::TokenEmbedding => "token_embd.weight",
            Slot::RopeFactors => "rope_freqs.weight",
            Slot::FinalNorm => "output_norm.weight",
            Slot::Output => "output.weight",
            Slot::Block(layer, tensor) => return format!("blk.{layer}.{}", tensor.names().0),
        };
        name.to_owned()
    }

    /// Its name in transformers' Llama, which has the rope's factors in `config.json`.
    pub fn hf_name(self) -> Option<String> {
        let name = match self {
            Slot::TokenEmbedding => "model.embed_tokens.weight",
            Slot::RopeFactors => return None,
            Slot::FinalNorm => "model.norm.weight",
            Slot::Output => "lm_head.weight",
            Slot::Block(layer, tensor) => return Some(format!("model.layers.{layer}.{}", tensor.names().1)),
        };
        Some(name.to_owned())
    }
}

impl InBlock {
    /// In a GGUF's block, and in a layer of transformers.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            InBlock::AttnNorm => ("attn_norm.weight", "input_layernorm.weight"),
            InBlock::Weight(Part::Query) => ("attn_q.weight", "self_attn.q_proj.weight"),
            InBlock::Bias(Part::Query) => ("attn_q.bias", "self_attn.q_proj.bias"),
            InBlock::Weight(Part::Key) => ("attn_k.weight", "self_attn.k_proj.weight"),
            InBlock::Bias(Part::Key) => ("attn_k.bias", "self_attn.k_proj.bias"),
            InBlock::Weight(Part::Value) => ("attn_v.weight", "self_attn.v_proj.weight"),
            InBlock::Bias(Part::Value) => ("attn_v.bias", "self_attn.v_proj.bias"),
            InBlock::AttnOutput => ("attn_output.weight", "self_attn.o_proj.weight"),
            InBlock::AttnOutputBias => ("attn_output.bias", "self_attn.o_proj.bias"),
            InBlock::FfnNorm => ("ffn_norm.weight", "post_attention_layernorm.weight"),
            InBlock::Gate => ("ffn_gate.weight", "mlp.gate_proj.weight"),
            InBlock::Up => ("ffn_up.weight", "mlp.up_proj.weight"),
            InBlock::Down => ("ffn_down.weight", "mlp.down_proj.weight"),
        }
    }
}

/// Some consecutive rows of a checkpoint tensor that was not looked for yet.
pub(super) struct Rows {
    pub(super) tensor: String,
    pub(super) rows: Range<usize>,
}

pub(super) fn whole(tensor: String, rows: usize) -> Vec<Rows> {
    vec![Rows { tensor, rows: 0..rows }]
}
