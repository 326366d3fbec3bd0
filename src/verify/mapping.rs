//! Where every row of the checkpoint has to stand in the file: verify's own statement of the mapping.
//!
//! It goes the other way than the converter does, from the checkpoint to the file, and row by row by
//! arithmetic: a slip in one of the two statements cannot hide in the other.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::config::{GlmConfig, TensorNaming};

/// Consecutive rows of a checkpoint tensor that stand together in one tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Rows of the checkpoint's tensor.
    pub rows: Range<usize>,
    /// The file's tensor.
    pub target: String,
    /// The first of its rows.
    pub target_row: usize,
}

/// What has to become of a checkpoint tensor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PlacedIn {
    /// Its rows stand in the file.
    Rows(Vec<Run>),
    /// It holds nothing that the config does not say.
    Nowhere,
    /// ChatGLM has no such tensor.
    Unknown,
}

/// The tensors that a file has beside the checkpoint's weights.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// A head that gives one number for a text, as reward models and classifiers have: it generates nothing.
fn is_value_head(name: &str) -> bool {
    let name = name.strip_prefix("transformer.").or(name.strip_prefix("model.")).unwrap_or(name);
    let module = name.split_once('.').map_or(name, |(module, _)| module);
    matches!(module, "v_head" | "value_head" | "reward_head" | "score" | "classifier" | "classifier_head")
}

/// The place of a tensor with so many rows.
pub(super) fn place(config: &GlmConfig, name: &str, rows: usize) -> PlacedIn {
    if is_value_head(name) {
        return PlacedIn::Nowhere;
    }
    match config.naming {
        TensorNaming::ChatGlm => authors_place(config, name, rows),
        TensorNaming::Glm => transformers_place(config, name, rows),
    }
}

/// In the authors' own format.
fn authors_place(config: &GlmConfig, name: &str, rows: usize) -> PlacedIn {
    let name = name.strip_prefix("transformer.").unwrap_or(name);
    let whole = |target: &str| whole(rows, target);
    match name {
        "embedding.word_embeddings.weight" => return whole("token_embd.weight"),
        "encoder.final_layernorm.weight" => return whole("output_norm.weight"),
        "output_layer.weight" => return whole("output.weight"),
        "rotary_pos_emb.inv_freq" => return PlacedIn::Nowhere,
        _ => {}
    }
    let Some((layer, part)) = name.strip_prefix("encoder.layers.").and_then(|rest| rest.split_once('.'))
    else {
        return PlacedIn::Unknown;
    };
    let block = |part: &str| format!("blk.{layer}.{part}");
    match part {
        "input_layernorm.weight" => whole(&block("attn_norm.weight")),
        "post_attention_layernorm.weight" => whole(&block("ffn_norm.weight")),
        "self_attention.dense.weight" => whole(&block("attn_output.weight")),
        "mlp.dense_4h_to_h.weight" => whole(&block("ffn_down.weight")),
        "mlp.dense_h_to_4h.weight" => gate_and_up(config, layer, rows),
        "self_attention.query_key_value.weight" | "self_attention.query_key_value.bias" => {
            let kind = part.rsplit('.').next().unwrap_or_default();
            row_by_row(rows, |row| {
                let (letter, row) = query_key_value(config, row);
                (block(&format!("attn_{letter}.{kind}")), row)
            })
        }
        _ => PlacedIn::Unknown,
    }
}

/// In the format of transformers' `GlmForCausalLM`.
fn transformers_place(config: &GlmConfig, name: &str, rows: usize) -> PlacedIn {
    match name {
        "model.embed_tokens.weight" => return whole(rows, "token_embd.weight"),
        "model.norm.weight" => return whole(rows, "output_norm.weight"),
        "lm_head.weight" if config.tie_word_embeddings => return PlacedIn::Nowhere,
        "lm_head.weight" => return whole(rows, "output.weight"),
        _ => {}
    }
    let Some((layer, part)) = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) else {
        return PlacedIn::Unknown;
    };
    let target = match part {
        "mlp.gate_up_proj.weight" => return gate_and_up(config, layer, rows),
        "input_layernorm.weight" => "attn_norm.weight",
        "post_attention_layernorm.weight" => "ffn_norm.weight",
        "self_attn.q_proj.weight" => "attn_q.weight",
        "self_attn.q_proj.bias" => "attn_q.bias",
        "self_attn.k_proj.weight" => "attn_k.weight",
        "self_attn.k_proj.bias" => "attn_k.bias",
        "self_attn.v_proj.weight" => "attn_v.weight",
        "self_attn.v_proj.bias" => "attn_v.bias",
        "self_attn.o_proj.weight" => "attn_output.weight",
        "mlp.down_proj.weight" => "ffn_down.weight",
        _ => return PlacedIn::Unknown,
    };
    whole(rows, &format!("blk.{layer}.{target}"))
}

fn whole(rows: usize, target: &str) -> PlacedIn {
    PlacedIn::Rows(vec![Run { rows: 0..rows, target: target.to_owned(), target_row: 0 }])
}

/// The gate's rows stand before those that it gates.
fn gate_and_up(config: &GlmConfig, layer: &str, rows: usize) -> PlacedIn {
    let half = config.ffn_hidden_size;
    row_by_row(rows, |row| match row < half {
        true => (format!("blk.{layer}.ffn_gate.weight"), row),
        false => (format!("blk.{layer}.ffn_up.weight"), row - half),
    })
}

/// Row `row` of the fused projection is which row of q, k or v.
pub(super) fn query_key_value(config: &GlmConfig, row: usize) -> (char, usize) {
    let d = config.head_dim;
    if config.qkv_by_head {
        // [head, 3, d]
        let letter = ['q', 'k', 'v'][row / d % 3];
        return (letter, row / (3 * d) * d + row % d);
    }
    let keys_from = config.num_attention_heads * d;
    let values_from = keys_from + config.num_kv_heads * d;
    match row {
        _ if row < keys_from => ('q', row),
        _ if row < values_from => ('k', row - keys_from),
        _ => ('v', row - values_from),
    }
}

/// Joins the places of single rows to runs.
fn row_by_row(rows: usize, place: impl Fn(usize) -> (String, usize)) -> PlacedIn {
    let mut runs: Vec<Run> = Vec::new();
    for row in 0..rows {
        let (target, target_row) = place(row);
        match runs.last_mut() {
            Some(run) if run.target == target && run.target_row + run.rows.len() == target_row => {
                run.rows.end += 1
            }
            _ => runs.push(Run { rows: row..row + 1, target, target_row }),
        }
    }
    PlacedIn::Rows(runs)
}

/// The widest feed-forward network that a file may have: padding adds less than a block's width.
pub(super) fn most_ffn(config: &GlmConfig) -> usize {
    config.ffn_hidden_size.saturating_add(4096)
}

/// The shape that every tensor of the file has to have, `[out, in]` or `[len]`; `ffn` is the file's own
/// feed-forward width, which may be padded.
pub(super) fn file_shapes(config: &GlmConfig, ffn: u64) -> BTreeMap<String, Vec<u64>> {
    let (h, d) = (config.hidden_size as u64, config.head_dim as u64);
    let (q, kv) = (config.num_attention_heads as u64 * d, config.num_kv_heads as u64 * d);
    let vocabulary = config.padded_vocab_size as u64;
    let mut shapes = BTreeMap::from([
        ("token_embd.weight".to_owned(), vec![vocabulary, h]),
        ("output_norm.weight".to_owned(), vec![h]),
        (ROPE_FACTORS.to_owned(), vec![d / 2]),
    ]);
    if !config.tie_word_embeddings {
        shapes.insert("output.weight".to_owned(), vec![vocabulary, h]);
    }
    for layer in 0..config.num_layers {
        let mut add =
            |part: &str, shape: &[u64]| shapes.insert(format!("blk.{layer}.{part}"), shape.to_vec());
        for (letter, rows) in [('q', q), ('k', kv), ('v', kv)] {
            add(&format!("attn_{letter}.weight"), &[rows, h]);
            if config.qkv_bias {
                add(&format!("attn_{letter}.bias"), &[rows]);
            }
        }
        add("attn_norm.weight", &[h]);
        add("attn_output.weight", &[h, q]);
        add("ffn_norm.weight", &[h]);
        add("ffn_gate.weight", &[ffn, h]);
        add("ffn_up.weight", &[ffn, h]);
        add("ffn_down.weight", &[h, ffn]);
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::chatglm3_config;

    fn runs(config: &GlmConfig, name: &str, rows: usize) -> Vec<(Range<usize>, String, usize)> {
        match place(config, name, rows) {
            PlacedIn::Rows(runs) => {
                runs.into_iter().map(|run| (run.rows, run.target, run.target_row)).collect()
            }
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn fused_rows_are_taken_apart() {
        let config = chatglm3_config();
        let qkv = "transformer.encoder.layers.3.self_attention.query_key_value.bias";
        let expected = [
            (0..4096, "blk.3.attn_q.bias".to_owned(), 0),
            (4096..4352, "blk.3.attn_k.bias".to_owned(), 0),
            (4352..4608, "blk.3.attn_v.bias".to_owned(), 0),
        ];
        assert_eq!(runs(&config, qkv, 4608), expected);
        let gate_up = runs(&config, "encoder.layers.0.mlp.dense_h_to_4h.weight", 27392);
        assert_eq!(gate_up[1], (13696..27392, "blk.0.ffn_up.weight".to_owned(), 0));
        assert_eq!(place(&config, "encoder.layers.0.mlp.dense_h_to_4h.bias", 9), PlacedIn::Unknown);
    }

    #[test]
    fn rows_grouped_by_head_are_gathered() {
        let config = GlmConfig {
            num_attention_heads: 2,
            num_kv_heads: 2,
            head_dim: 4,
            qkv_by_head: true,
            ..chatglm3_config()
        };
        let runs = runs(&config, "encoder.layers.0.self_attention.query_key_value.weight", 24);
        let starts: Vec<_> =
            runs.iter().map(|(rows, target, to)| (rows.start, &target[11..12], *to)).collect();
        assert_eq!(starts, [(0, "q", 0), (4, "k", 0), (8, "v", 0), (12, "q", 4), (16, "k", 4), (20, "v", 4)]);
    }
}
