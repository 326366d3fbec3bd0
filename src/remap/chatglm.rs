//! The authors' own layout: fused projections, `transformer.encoder.layers.L.` before a block's names.

use std::ops::Range;

use super::slot::{InBlock, Part, Rows, Slot, whole};
use crate::checkpoint::Checkpoint;
use crate::config::GlmConfig;

pub(super) struct Names<'a> {
    config: &'a GlmConfig,
    /// What stands before all names: `transformer.`, or nothing in a checkpoint of the bare model.
    prefix: &'static str,
}

impl<'a> Names<'a> {
    pub(super) fn new(config: &'a GlmConfig, checkpoint: &Checkpoint) -> Names<'a> {
        let bare = checkpoint.tensors().contains_key("embedding.word_embeddings.weight");
        Names { config, prefix: if bare { "" } else { "transformer." } }
    }

    /// The rope's frequencies, which the config tells already.
    pub(super) fn dropped(&self) -> String {
        self.top("rotary_pos_emb.inv_freq")
    }

    pub(super) fn rows(&self, slot: Slot) -> Vec<Rows> {
        let c = self.config;
        let (h, f, v) = (c.hidden_size, c.ffn_hidden_size, c.padded_vocab_size);
        let (layer, tensor) = match slot {
            Slot::TokenEmbedding => return whole(self.top("embedding.word_embeddings.weight"), v),
            Slot::FinalNorm => return whole(self.top("encoder.final_layernorm.weight"), h),
            Slot::Output => return whole(self.top("output_layer.weight"), v),
            Slot::RopeFactors => return Vec::new(), // computed
            Slot::Block(layer, tensor) => (layer, tensor),
        };
        let block = |name: &str| format!("{}encoder.layers.{layer}.{name}", self.prefix);
        let gate_up = |rows: Range<usize>| vec![Rows { tensor: block("mlp.dense_h_to_4h.weight"), rows }];
        match tensor {
            InBlock::AttnNorm => whole(block("input_layernorm.weight"), h),
            InBlock::Weight(part) => self.qkv(block("self_attention.query_key_value.weight"), part),
            InBlock::Bias(part) => self.qkv(block("self_attention.query_key_value.bias"), part),
            InBlock::AttnOutput => whole(block("self_attention.dense.weight"), h),
            InBlock::FfnNorm => whole(block("post_attention_layernorm.weight"), h),
            InBlock::Gate => gate_up(0..f),
            InBlock::Up => gate_up(f..2 * f),
            InBlock::Down => whole(block("mlp.dense_4h_to_h.weight"), h),
            InBlock::AttnOutputBias => Vec::new(), // there is none
        }
    }

    /// The rows of the fused projection that are query, key or value.
    fn qkv(&self, fused: String, part: Part) -> Vec<Rows> {
        let c = self.config;
        let (n, g, d) = (c.num_attention_heads, c.num_kv_heads, c.head_dim);
        if c.qkv_by_head {
            // [n, 3, d]: each head's query, key and value rows stand together.
            let start = |head: usize| (3 * head + part as usize) * d;
            let rows = |head| Rows { tensor: fused.clone(), rows: start(head)..start(head) + d };
            return (0..n).map(rows).collect();
        }
        let rows = match part {
            Part::Query => 0..n * d,
            Part::Key => n * d..(n + g) * d,
            Part::Value => (n + g) * d..(n + 2 * g) * d,
        };
        vec![Rows { tensor: fused, rows }]
    }

    fn top(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}
