//! What measuring takes, counted beforehand: arithmetic that nearly all the time goes into, and the largest memory.

use super::WINDOW;
use super::sensitivity::MOST_WINDOWS;
use super::trial::{TRIED_ROWS, Trial};
use crate::model::Model;
use crate::remap::{Role, Target};

/// A step of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Multiplications and additions.
    pub operations: f64,
    /// Bytes that are in use at the same time, beside the program's own.
    pub memory_bytes: u64,
}

/// Factors of each matrix's moments: one a damping, and again for those that were better without the last.
const FACTORS: f64 = 5.0;
/// Passes over rows times squared columns: half of one for the feedback, one for the gradient, and those of the sweeps.
const PASSES: f64 = 3.0;
/// The windows that [`refine`](super::refine) runs together.
const BATCH: usize = 4 * WINDOW;

/// Rows and columns of the matrices that are multiplied with.
fn matrices(model: &Model) -> impl Iterator<Item = (&Target, f64, f64)> {
    let tied = model.config.tie_word_embeddings;
    let multiplies = move |target: &&Target| match target.role() {
        Role::Vector => false,
        Role::TokenEmbedding => tied,
        _ => true,
    };
    let sized = |target: &'_ Target| (target.rows as f64, target.columns as f64);
    model.plan.tensors.iter().filter(multiplies).map(move |target| {
        let (rows, columns) = sized(target);
        (target, rows, columns)
    })
}

/// One run on so many tokens.
fn forward(model: &Model, tokens: usize) -> f64 {
    let layers = matrices(model).filter(|(target, ..)| target.slot.layer().is_some());
    layers.map(|(_, rows, columns)| 2.0 * rows * columns * tokens as f64).sum()
}

/// The largest activations of a layer: three as wide as its network, and those between layers.
fn activations(model: &Model, tokens: usize) -> u64 {
    let (hidden, ffn) = (model.config.hidden_size as u64, model.config.ffn_hidden_size as u64);
    4 * tokens as u64 * (3 * ffn + 4 * hidden)
}

/// Of [`importance`](super::importance).
pub fn of_importance(model: &Model, tokens: usize) -> Cost {
    Cost { operations: forward(model, tokens), memory_bytes: activations(model, tokens) }
}

/// Of [`divergences`](super::divergences).
pub fn of_divergences(model: &Model, trials: &[Trial], tokens: usize) -> Cost {
    let tokens = tokens.min(MOST_WINDOWS * WINDOW);
    let tried = |trial: &Trial| (TRIED_ROWS * trial.columns * trial.formats.len()) as f64;
    let errors: f64 = trials.iter().map(tried).sum();
    let outside = matrices(model).filter(|(target, ..)| target.slot.layer().is_none());
    let head: f64 = outside.map(|(_, rows, columns)| 2.0 * rows * columns * tokens as f64).sum();
    let config = &model.config;
    let waiting = 2 * (config.num_layers * config.hidden_size * tokens) as u64;
    let layer = 4.0 * errors / config.num_layers.max(1) as f64;
    Cost {
        operations: 3.0 * (forward(model, tokens) + head) + 2.0 * errors * tokens as f64,
        memory_bytes: waiting + activations(model, tokens).max(2 * activations(model, WINDOW) + layer as u64),
    }
}

/// Of [`refine`](super::refine).
pub fn of_refinement(model: &Model, tokens: usize) -> Cost {
    let mut operations = forward(model, tokens);
    for (target, rows, columns) in matrices(model) {
        let square = columns * columns;
        operations += 2.0 * PASSES * rows * square;
        // Of the matrices of the same inputs, the first.
        let first = !["attn_k", "attn_v", "ffn_up"].iter().any(|part| target.name.contains(part));
        operations += if first { square * tokens as f64 + FACTORS * square * columns / 3.0 } else { 0.0 };
    }
    let config = &model.config;
    let [hidden, ffn, mixed] =
        [config.hidden_size, config.ffn_hidden_size, config.num_attention_heads * config.head_dim]
            .map(|width| width as u64);
    let moments = 4 * (2 * hidden * hidden + ffn * ffn + mixed * mixed);
    let between = 4 * tokens as u64 * hidden;
    Cost { operations, memory_bytes: moments + between + activations(model, tokens.min(BATCH)) }
}
