//! A model that can be run, layer by layer, so that one layer's block of weights is in memory at a time.

use std::ops::Range;

use super::math::Activations;
use super::past::Past;
use crate::error::Result;

/// A model of either layout.
pub(crate) trait Decoder {
    /// Transformer blocks.
    fn layers(&self) -> usize;
    /// Rows of the embedding and of the output layer.
    fn vocabulary(&self) -> usize;
    /// The rows of the embedding for the tokens.
    fn embed(&self, tokens: &[u32]) -> Result<Activations>;
    /// One block, on tokens that follow those of `past`, which then has them too.
    fn layer_after(&self, number: usize, x: Activations, past: &mut Past) -> Result<Activations>;
    /// One block, on tokens that follow none. Blocks keep nothing of each other.
    fn layer(&self, number: usize, x: Activations) -> Result<Activations> {
        self.layer_after(number, x, &mut Past::default())
    }
    /// The last norm.
    fn last_norm(&self, x: &Activations) -> Result<Activations>;
    /// The logits of some tokens of the vocabulary, `[rows, tokens]`.
    fn logits(&self, rows: Range<usize>, x: &Activations) -> Result<Activations>;
}

/// Rows of the output layer at a time.
pub(crate) const OUTPUT_ROWS: usize = 2048;
