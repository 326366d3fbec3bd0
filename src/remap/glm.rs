//! The layout of `GlmForCausalLM` in the transformers library: three projections, gate and up in one tensor.
//!
//! Heads are rotated in the same adjacent pairs as in the authors' own layout, so rows keep their order.

use std::ops::Range;

use super::slot::{InBlock, Part, Rows, Slot, whole};
use crate::config::GlmConfig;

pub(super) struct Names<'a> {
    config: &'a GlmConfig,
}

impl<'a> Names<'a> {
    pub(super) fn new(config: &'a GlmConfig) -> Names<'a> {
        Names { config }
    }

    /// Where the embedding serves as output layer, a stored output layer is the same tensor once more, and
    /// transformers ignores it.
    pub(super) fn dropped(&self) -> Option<String> {
        self.config.tie_word_embeddings.then(|| "lm_head.weight".to_owned())
    }

    pub(super) fn rows(&self, slot: Slot) -> Vec<Rows> {
        let c = self.config;
        let (h, f, v) = (c.hidden_size, c.ffn_hidden_size, c.padded_vocab_size);
        let (layer, tensor) = match slot {
            Slot::TokenEmbedding => return whole("model.embed_tokens.weight".to_owned(), v),
            Slot::FinalNorm => return whole("model.norm.weight".to_owned(), h),
            Slot::Output => return whole("lm_head.weight".to_owned(), v),
            Slot::RopeFactors => return Vec::new(), // computed
            Slot::Block(layer, tensor) => (layer, tensor),
        };
        let block = |name: &str| format!("model.layers.{layer}.{name}");
        let projection = |part: Part, kind: &str| match part {
            Part::Query => {
                whole(block(&format!("self_attn.q_proj.{kind}")), c.num_attention_heads * c.head_dim)
            }
            Part::Key => whole(block(&format!("self_attn.k_proj.{kind}")), c.num_kv_heads * c.head_dim),
            Part::Value => whole(block(&format!("self_attn.v_proj.{kind}")), c.num_kv_heads * c.head_dim),
        };
        let gate_up = |rows: Range<usize>| vec![Rows { tensor: block("mlp.gate_up_proj.weight"), rows }];
        match tensor {
            InBlock::AttnNorm => whole(block("input_layernorm.weight"), h),
            InBlock::Weight(part) => projection(part, "weight"),
            InBlock::Bias(part) => projection(part, "bias"),
            InBlock::AttnOutput => whole(block("self_attn.o_proj.weight"), h),
            InBlock::FfnNorm => whole(block("post_attention_layernorm.weight"), h),
            InBlock::Gate => gate_up(0..f),
            InBlock::Up => gate_up(f..2 * f),
            InBlock::Down => whole(block("mlp.down_proj.weight"), h),
            InBlock::AttnOutputBias => Vec::new(), // there is none
        }
    }
}
