//! A model that can be run, layer by layer, so that one layer's block of weights is in memory at a time.

use std::ops::Range;

use super::math::Activations;
use crate::error::Result;
use crate::watch::Watch;

/// One of the two models.
pub(super) trait Decoder {
    /// Transformer blocks.
    fn layers(&self) -> usize;
    /// Rows of the embedding and of the output layer.
    fn vocabulary(&self) -> usize;
    /// The rows of the embedding for the tokens.
    fn embed(&self, tokens: &[u32]) -> Result<Activations>;
    /// One block.
    fn layer(&self, number: usize, x: Activations) -> Result<Activations>;
    /// The last norm.
    fn last_norm(&self, x: &Activations) -> Result<Activations>;
    /// The logits of some tokens of the vocabulary, `[rows, tokens]`.
    fn logits(&self, rows: Range<usize>, x: &Activations) -> Result<Activations>;
}

/// Rows of the output layer at a time.
pub(super) const HEAD_ROWS: usize = 2048;

/// All logits, token by token: `[tokens, vocabulary]`.
pub(super) fn all_logits(decoder: &dyn Decoder, tokens: &[u32], watch: &dyn Watch) -> Result<Vec<f32>> {
    let mut x = decoder.embed(tokens)?;
    for layer in 0..decoder.layers() {
        x = decoder.layer(layer, x)?;
        watch.step("layers", layer as u64 + 1, decoder.layers() as u64)?;
    }
    let x = decoder.last_norm(&x)?;
    let vocabulary = decoder.vocabulary();
    let mut all = vec![0.0; tokens.len() * vocabulary];
    for start in (0..vocabulary).step_by(HEAD_ROWS) {
        let block = decoder.logits(start..vocabulary.min(start + HEAD_ROWS), &x)?;
        for ((row, token), logit) in block.indexed_iter() {
            all[token * vocabulary + start + row] = *logit;
        }
    }
    Ok(all)
}
