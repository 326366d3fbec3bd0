//! The mapping ChatGLM -> transformers' Llama: the GGUF's, under other names.
//!
//! llama.cpp rotates the values of a head in adjacent pairs, as ChatGLM does; transformers rotates value `i` with
//! value `i + d/2`. So the rows of each query and key head change places, which the writer does.

use crate::config::GlmConfig;
use crate::remap::{InBlock, Plan, Slot, Source, Target};

/// The tensors for transformers.
#[derive(Debug)]
pub(super) struct ExportPlan {
    pub(super) plan: Plan,
    /// By tensor: rows of a head, where a head's rows change places.
    pub(super) head_rows: Vec<Option<usize>>,
}

impl ExportPlan {
    pub(super) fn new(gguf: &Plan, config: &GlmConfig) -> ExportPlan {
        let plan = Plan { tensors: Vec::new(), files: gguf.files.clone() };
        let mut plan = ExportPlan { plan, head_rows: Vec::new() };
        for target in &gguf.tensors {
            let Some(name) = target.slot.hf_name() else { continue };
            let head_rows = target.slot.is_rotated().then_some(config.head_dim);
            plan.push(Target { name, ..target.clone() }, head_rows);
            // transformers has one switch for all four biases, and ChatGLM has no fourth.
            if let (true, Slot::Block(layer, InBlock::AttnOutput)) = (config.qkv_bias, target.slot) {
                plan.push(zeros(Slot::Block(layer, InBlock::AttnOutputBias), target.rows), None);
            }
        }
        plan
    }

    fn push(&mut self, target: Target, head_rows: Option<usize>) {
        self.plan.tensors.push(target);
        self.head_rows.push(head_rows);
    }
}

fn zeros(slot: Slot, rows: usize) -> Target {
    let source = Source::Values(vec![0.0; rows]);
    Target { name: slot.hf_name().expect("a tensor of transformers"), slot, rows, columns: 1, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::chatglm3_config;
    use crate::remap::Part;

    fn target(slot: Slot) -> Target {
        Target { name: slot.gguf_name(), slot, rows: 3, columns: 2, source: Source::Values(vec![]) }
    }

    #[test]
    fn tensors_take_transformers_names_and_heads_are_marked() {
        let block = |tensor| target(Slot::Block(1, tensor));
        let tensors = vec![
            target(Slot::TokenEmbedding),
            target(Slot::RopeFactors),
            block(InBlock::Bias(Part::Query)),
            block(InBlock::Weight(Part::Value)),
            block(InBlock::AttnOutput),
        ];
        let hf = ExportPlan::new(&Plan { tensors, files: vec![] }, &chatglm3_config());
        let names: Vec<&str> = hf.plan.tensors.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "model.embed_tokens.weight",
                "model.layers.1.self_attn.q_proj.bias",
                "model.layers.1.self_attn.v_proj.weight",
                "model.layers.1.self_attn.o_proj.weight",
                "model.layers.1.self_attn.o_proj.bias",
            ]
        );
        assert_eq!(hf.head_rows, [None, Some(128), None, None, None]);
        assert_eq!(hf.plan.tensors[4].source, Source::Values(vec![0.0; 3]));
    }
}
