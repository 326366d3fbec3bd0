//! Runs a model on a text and measures what its matrices are fed with, before anything is quantized.
//!
//! The model is run as the mapping says, in f32 and layer by layer, adapters merged, so that only one layer's
//! activations and a few blocks of rows are in memory.

mod encode;
mod sample;
mod squares;
mod weights;

pub use sample::{Sample, WINDOW};
pub use squares::{Step, importance};

/// Tokens of an importance matrix: on more of them its rounding gains nothing.
pub const IMPORTANCE_TOKENS: usize = 2048;
