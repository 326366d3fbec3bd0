//! The mapping ChatGLM -> transformers' Llama: the GGUF's, under other names.
//!
//! llama.cpp rotates the values of a head in adjacent pairs, as ChatGLM does; transformers rotates value `i` with
//! value `i + d/2`. So the rows of each query and key head change places, which the writer does.

use crate::config::GlmConfig;
use crate::error::{Error, Result};
use crate::remap::{Plan, Role, Source, Target};

/// The projections whose rows are rotated.
const ROTATED: [&str; 2] = ["attn_q", "attn_k"];

/// GGUF names within a block, and transformers' names within a layer.
const BLOCK: [(&str, &str); 12] = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_q.bias", "self_attn.q_proj.bias"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_k.bias", "self_attn.k_proj.bias"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_v.bias", "self_attn.v_proj.bias"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_gate.weight", "mlp.gate_proj.weight"),
    ("ffn_up.weight", "mlp.up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
];

/// Those of the whole model. `rope_freqs.weight` is not among them: config.json holds what it says.
const TOP: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// The tensors for transformers.
#[derive(Debug)]
pub(super) struct HfPlan {
    pub(super) plan: Plan,
    /// By tensor: rows of a head, where a head's rows change places.
    pub(super) head_rows: Vec<Option<usize>>,
}

impl HfPlan {
    pub(super) fn new(gguf: &Plan, config: &GlmConfig) -> Result<HfPlan> {
        let plan = Plan { tensors: Vec::new(), files: gguf.files.clone() };
        let mut plan = HfPlan { plan, head_rows: Vec::new() };
        for target in &gguf.tensors {
            if target.name == "rope_freqs.weight" {
                continue;
            }
            let name = hf_name(&target.name).ok_or_else(|| {
                Error::Usage(format!("{}: has no name in transformers: a fault of glm2llama", target.name))
            })?;
            let rotated = ROTATED.iter().any(|part| in_block(&target.name).starts_with(part));
            plan.push(Target { name, ..target.clone() }, rotated.then_some(config.head_dim));
            // transformers has one switch for all four biases, and ChatGLM has no fourth.
            if config.qkv_bias && in_block(&target.name) == "attn_output.weight" {
                plan.push(zero_output_bias(target), None);
            }
        }
        Ok(plan)
    }

    fn push(&mut self, target: Target, head_rows: Option<usize>) {
        self.plan.tensors.push(target);
        self.head_rows.push(head_rows);
    }
}

fn zero_output_bias(weight: &Target) -> Target {
    let layer = weight.layer.unwrap_or(0);
    Target {
        name: format!("model.layers.{layer}.self_attn.o_proj.bias"),
        role: Role::Vector,
        columns: 1,
        source: Source::Values(vec![0.0; weight.rows]),
        ..weight.clone()
    }
}

fn hf_name(gguf: &str) -> Option<String> {
    let find = |table: &[(&str, &str)], name: &str| {
        table.iter().find(|row| row.0 == name).map(|row| row.1.to_owned())
    };
    let Some((layer, name)) = gguf.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
        return find(&TOP, gguf);
    };
    Some(format!("model.layers.{layer}.{}", find(&BLOCK, name)?))
}

/// The name without its block.
fn in_block(gguf: &str) -> &str {
    let rest = gguf.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    rest.map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::chatglm3_config;

    fn target(name: &str, layer: Option<usize>) -> Target {
        let source = Source::Values(vec![]);
        Target { name: name.to_owned(), role: Role::Output, layer, rows: 3, columns: 2, source }
    }

    #[test]
    fn tensors_take_transformers_names_and_heads_are_marked() {
        let tensors = vec![
            target("token_embd.weight", None),
            target("rope_freqs.weight", None),
            target("blk.1.attn_q.bias", Some(1)),
            target("blk.1.attn_v.weight", Some(1)),
            target("blk.1.attn_output.weight", Some(1)),
        ];
        let hf = HfPlan::new(&Plan { tensors, files: vec![] }, &chatglm3_config()).unwrap();
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
