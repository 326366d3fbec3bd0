//! The table ChatGLM -> Llama: one line a tensor.

use std::collections::BTreeSet;

use super::{Role, Rope, Source, Span, Target};
use crate::checkpoint::Checkpoint;
use crate::config::GlmConfig;
use crate::error::Result;

/// The table, filled in for one model.
pub(super) struct Table<'a> {
    config: &'a GlmConfig,
    /// What stands before the names: `transformer.`, or nothing in a checkpoint of the bare model.
    prefix: &'static str,
    /// The checkpoint tensors that the mapping uses, with their shapes.
    sources: Vec<(String, Vec<usize>)>,
}

impl<'a> Table<'a> {
    pub(super) fn new(config: &'a GlmConfig, checkpoint: &Checkpoint) -> Result<Table<'a>> {
        let bare = checkpoint.tensors().contains_key("embedding.word_embeddings.weight");
        let prefix = if bare { "" } else { "transformer." };
        let mut table = Table { config, prefix, sources: Vec::new() };
        table.sources = table.list_sources();
        Ok(table)
    }

    pub(super) fn sources(&self) -> &[(String, Vec<usize>)] {
        &self.sources
    }

    /// Tensors that hold nothing but what the config says already.
    pub(super) fn dropped(&self) -> BTreeSet<String> {
        BTreeSet::from([self.top("rotary_pos_emb.inv_freq")])
    }

    fn list_sources(&self) -> Vec<(String, Vec<usize>)> {
        let c = self.config;
        let (h, f, heads) = (c.hidden_size, c.ffn_hidden_size, c.num_attention_heads * c.head_dim);
        let qkv = heads + 2 * c.num_kv_heads * c.head_dim;
        let mut sources = vec![(self.top("embedding.word_embeddings.weight"), vec![c.padded_vocab_size, h])];
        for layer in 0..c.num_layers {
            let mut add = |name, shape| sources.push((self.block(layer, name), shape));
            add("input_layernorm.weight", vec![h]);
            add("self_attention.query_key_value.weight", vec![qkv, h]);
            if c.qkv_bias {
                add("self_attention.query_key_value.bias", vec![qkv]);
            }
            add("self_attention.dense.weight", vec![h, heads]);
            add("post_attention_layernorm.weight", vec![h]);
            add("mlp.dense_h_to_4h.weight", vec![2 * f, h]);
            add("mlp.dense_4h_to_h.weight", vec![h, f]);
        }
        sources.push((self.top("encoder.final_layernorm.weight"), vec![h]));
        if !c.tie_word_embeddings {
            sources.push((self.top("output_layer.weight"), vec![c.padded_vocab_size, h]));
        }
        sources
    }

    /// The GGUF's tensors, in the order of the file.
    pub(super) fn targets(&self, rope: &Rope) -> Vec<Target> {
        let c = self.config;
        let (h, v) = (c.hidden_size, c.padded_vocab_size);
        let mut targets = vec![
            target(
                "token_embd.weight",
                Role::TokenEmbedding,
                h,
                whole(self.top("embedding.word_embeddings.weight"), v),
            ),
            Target {
                name: "rope_freqs.weight".to_owned(),
                role: Role::Vector,
                layer: None,
                rows: rope.factors.len(),
                columns: 1,
                source: Source::Values(rope.factors.clone()),
            },
        ];
        for layer in 0..c.num_layers {
            let block = self.block_targets(layer).into_iter();
            targets.extend(block.map(|t| Target {
                layer: Some(layer),
                name: format!("blk.{layer}.{}", t.name),
                ..t
            }));
        }
        targets.push(target(
            "output_norm.weight",
            Role::Vector,
            1,
            whole(self.top("encoder.final_layernorm.weight"), h),
        ));
        if !c.tie_word_embeddings {
            targets.push(target("output.weight", Role::Output, h, whole(self.top("output_layer.weight"), v)));
        }
        targets
    }

    fn block_targets(&self, layer: usize) -> Vec<Target> {
        let c = self.config;
        let (h, f) = (c.hidden_size, c.ffn_hidden_size);
        let source = |name| self.block(layer, name);
        let (qkv, bias) =
            (source("self_attention.query_key_value.weight"), source("self_attention.query_key_value.bias"));
        let gate_up = source("mlp.dense_h_to_4h.weight");
        let mut targets =
            vec![target("attn_norm.weight", Role::Vector, 1, whole(source("input_layernorm.weight"), h))];
        for part in Part::ALL {
            targets.push(target(
                &format!("attn_{}.weight", part.letter()),
                part.role(),
                h,
                self.qkv_rows(&qkv, part),
            ));
            if c.qkv_bias {
                targets.push(target(
                    &format!("attn_{}.bias", part.letter()),
                    Role::Vector,
                    1,
                    self.qkv_rows(&bias, part),
                ));
            }
        }
        targets.extend([
            target(
                "attn_output.weight",
                Role::AttnOutput,
                c.num_attention_heads * c.head_dim,
                whole(source("self_attention.dense.weight"), h),
            ),
            target("ffn_norm.weight", Role::Vector, 1, whole(source("post_attention_layernorm.weight"), h)),
            target("ffn_gate.weight", Role::FfnGateUp, h, vec![Span { tensor: gate_up.clone(), rows: 0..f }]),
            target("ffn_up.weight", Role::FfnGateUp, h, vec![Span { tensor: gate_up, rows: f..2 * f }]),
            target("ffn_down.weight", Role::FfnDown, f, whole(source("mlp.dense_4h_to_h.weight"), h)),
        ]);
        targets
    }

    /// The rows of the fused projection that are query, key or value.
    fn qkv_rows(&self, fused: &str, part: Part) -> Vec<Span> {
        let c = self.config;
        let (n, g, d) = (c.num_attention_heads, c.num_kv_heads, c.head_dim);
        let span = |rows| Span { tensor: fused.to_owned(), rows };
        if c.qkv_by_head {
            // [n, 3, d]: each head's query, key and value rows stand together.
            let start = |head: usize| (3 * head + part as usize) * d;
            return (0..n).map(|head| span(start(head)..start(head) + d)).collect();
        }
        vec![match part {
            Part::Query => span(0..n * d),
            Part::Key => span(n * d..(n + g) * d),
            Part::Value => span((n + g) * d..(n + 2 * g) * d),
        }]
    }

    fn top(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn block(&self, layer: usize, name: &str) -> String {
        format!("{}encoder.layers.{layer}.{name}", self.prefix)
    }
}

#[derive(Clone, Copy)]
enum Part {
    Query,
    Key,
    Value,
}

impl Part {
    const ALL: [Part; 3] = [Part::Query, Part::Key, Part::Value];

    fn letter(self) -> char {
        ['q', 'k', 'v'][self as usize]
    }

    fn role(self) -> Role {
        match self {
            Part::Query | Part::Key => Role::AttnQK,
            Part::Value => Role::AttnV,
        }
    }
}

fn whole(tensor: String, rows: usize) -> Vec<Span> {
    vec![Span { tensor, rows: 0..rows }]
}

fn target(name: &str, role: Role, columns: usize, spans: Vec<Span>) -> Target {
    let rows = spans.iter().map(|span| span.rows.len()).sum();
    Target { name: name.to_owned(), role, layer: None, rows, columns, source: Source::Rows(spans) }
}
