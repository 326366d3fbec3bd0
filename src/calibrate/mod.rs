//! Runs a model on a text and measures what its matrices are fed with, before anything is quantized.
//!
//! The model is run as the mapping says, in f32 and layer by layer, adapters merged, so that only one layer's
//! activations and a few blocks of rows are in memory.

pub mod cost;
mod embedding;
mod encode;
mod layout;
mod moments;
mod output_layer;
mod refine;
mod rounding;
mod runs;
mod sample;
mod sensitivity;
mod speed;
mod squares;
mod store;
mod trial;
mod weight_errors;
mod weights;

use std::num::NonZero;

use quant::Backend;

pub use embedding::embedding_importance;
pub use layout::MomentLayout;
pub use refine::{refine, refuse_short};
pub use sample::{Sample, WINDOW};
pub use sensitivity::divergences;
pub use speed::time;
pub use squares::importance;
pub use store::Store;
pub use trial::{Costs, Trial};
pub use weight_errors::guesses;

/// Tokens of an importance matrix: on more of them its rounding gains nothing.
pub const IMPORTANCE_TOKENS: usize = 2048;

/// Tokens that the best levels are chosen on: more still gain, in proportion to their time.
pub const REFINEMENT_TOKENS: usize = 8192;

/// How the work is done; only the backend's kind can change a bit of it.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Workers.
    pub threads: NonZero<usize>,
    /// Instructions.
    pub backend: Backend,
}
