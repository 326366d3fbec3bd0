//! The authors' model, written down plainly in f64: logits of a checkpoint without any converter.
//!
//! `tests/synthetic.rs` holds it against logits that the authors' own code computed; with that it
//! vouches for shapes of which no such logits exist.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

type Vector = Vec<f64>;

/// A checkpoint in memory.
pub struct Model {
    config: Value,
    tensors: HashMap<String, Vector>,
}

impl Model {
    /// Reads a folder's `config.json` and safetensors files.
    pub fn read(folder: &Path) -> Model {
        let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let config = serde_json::from_slice(&read(&folder.join("config.json"))).expect("JSON");
        let mut tensors = HashMap::new();
        for entry in folder.read_dir().expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                let bytes = read(&path);
                for (name, tensor) in SafeTensors::deserialize(&bytes).expect("safetensors").iter() {
                    let name = name.strip_prefix("transformer.").expect("the prefix").to_owned();
                    tensors.insert(name, decode(tensor.dtype(), tensor.data()));
                }
            }
        }
        Model { config, tensors }
    }

    /// The logits after every token.
    pub fn logits(&self, tokens: &[i32]) -> Vec<Vec<f32>> {
        let hidden = self.size("hidden_size");
        let embedding = self.tensor("embedding.word_embeddings.weight");
        let row = |token: &i32| embedding[*token as usize * hidden..][..hidden].to_vec();
        let mut states: Vec<Vector> = tokens.iter().map(row).collect();
        for layer in 0..self.size("num_layers") {
            let name = |part: &str| format!("encoder.layers.{layer}.{part}");
            let normed = self.norm(&states, &name("input_layernorm.weight"));
            let attended = self.attention(&normed, &name("self_attention."));
            add(&mut states, &attended);
            let normed = self.norm(&states, &name("post_attention_layernorm.weight"));
            add(&mut states, &self.feed_forward(&normed, &name("mlp.")));
        }
        let output = self.tensor("output_layer.weight");
        let normed = self.norm(&states, "encoder.final_layernorm.weight");
        normed.iter().map(|x| times(output, x).into_iter().map(|logit| logit as f32).collect()).collect()
    }

    fn attention(&self, states: &[Vector], prefix: &str) -> Vec<Vector> {
        let (heads, d) = (self.size("num_attention_heads"), self.size("kv_channels"));
        let grouped = self.config["multi_query_attention"] == true;
        let kv_heads = if grouped { self.size("multi_query_group_num") } else { heads };
        let weight = self.tensor(&format!("{prefix}query_key_value.weight"));
        let bias = self.tensors.get(&format!("{prefix}query_key_value.bias"));
        // Where head `i` of query, key and value starts in a row of the fused projection.
        let query = |i: usize| if grouped { i * d } else { 3 * i * d };
        let key = |i: usize| if grouped { (heads + i) * d } else { (3 * i + 1) * d };
        let value = |i: usize| if grouped { (heads + kv_heads + i) * d } else { (3 * i + 2) * d };

        let mut rows = Vec::new();
        for (position, state) in states.iter().enumerate() {
            let mut row = times(weight, state);
            if let Some(bias) = bias {
                row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
            }
            (0..heads).for_each(|i| self.rotate(&mut row[query(i)..][..d], position));
            (0..kv_heads).for_each(|i| self.rotate(&mut row[key(i)..][..d], position));
            rows.push(row);
        }

        let dense = self.tensor(&format!("{prefix}dense.weight"));
        let attend = |position: usize| {
            let mut context = Vec::with_capacity(heads * d);
            for head in 0..heads {
                let shared = head * kv_heads / heads;
                let past = &rows[..=position];
                let query = &rows[position][query(head)..][..d];
                let scores = past.iter().map(|row| dot(query, &row[key(shared)..][..d]) / (d as f64).sqrt());
                let weights: Vector = scores.map(f64::exp).collect();
                let total: f64 = weights.iter().sum();
                let summed = |i: usize| {
                    let products =
                        past.iter().zip(&weights).map(|(row, weight)| row[value(shared) + i] * weight);
                    products.sum::<f64>() / total
                };
                context.extend((0..d).map(summed));
            }
            times(dense, &context)
        };
        (0..rows.len()).map(attend).collect()
    }

    /// Rotates the first half of a head's values, as adjacent pairs.
    fn rotate(&self, head: &mut [f64], position: usize) {
        let rotated = head.len() / 2;
        let base = 10000.0 * self.config["rope_ratio"].as_f64().unwrap_or(1.0);
        for (i, pair) in head[..rotated].as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let angle = position as f64 * base.powf(-2.0 * i as f64 / rotated as f64);
            let (sin, cos) = angle.sin_cos();
            *pair = [pair[0] * cos - pair[1] * sin, pair[1] * cos + pair[0] * sin];
        }
    }

    fn feed_forward(&self, states: &[Vector], prefix: &str) -> Vec<Vector> {
        let (widen, narrow) = (
            self.tensor(&format!("{prefix}dense_h_to_4h.weight")),
            self.tensor(&format!("{prefix}dense_4h_to_h.weight")),
        );
        let one = |state: &Vector| {
            let both = times(widen, state);
            let (gate, up) = both.split_at(both.len() / 2);
            let gated: Vector = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            times(narrow, &gated)
        };
        states.iter().map(one).collect()
    }

    fn norm(&self, states: &[Vector], weight: &str) -> Vec<Vector> {
        let weight = self.tensor(weight);
        let epsilon = self.config["layernorm_epsilon"].as_f64().expect("a number");
        let one = |state: &Vector| {
            let scale = (dot(state, state) / state.len() as f64 + epsilon).sqrt().recip();
            state.iter().zip(weight).map(|(x, weight)| x * scale * weight).collect()
        };
        states.iter().map(one).collect()
    }

    fn size(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap_or_else(|| panic!("{key} in config.json")) as usize
    }

    fn tensor(&self, name: &str) -> &Vector {
        self.tensors.get(name).unwrap_or_else(|| panic!("{name} in the checkpoint"))
    }
}

fn decode(dtype: Dtype, bytes: &[u8]) -> Vector {
    match dtype {
        Dtype::F16 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f64()).collect(),
        Dtype::F32 => bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
        other => panic!("no checkpoint holds {other:?}"),
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A matrix, `[out, in]`, times a vector.
fn times(matrix: &[f64], vector: &[f64]) -> Vector {
    matrix.chunks_exact(vector.len()).map(|row| dot(row, vector)).collect()
}

fn add(states: &mut [Vector], more: &[Vector]) {
    for (state, more) in states.iter_mut().zip(more) {
        state.iter_mut().zip(more).for_each(|(x, more)| *x += more);
    }
}
