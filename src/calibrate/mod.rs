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

/// Tokens of an importance matrix: 2,048 of a model as large as ChatGLM3-6B, for which they take minutes, and of a smaller
/// one as many as take that long, up to 8,192. A small model gains 2 to 4 % of its divergence at Q4_K_M by them.
pub fn importance_tokens(parameters: u64) -> usize {
    const WEIGHTS_TIMES_TOKENS: u64 = 2048 * 6_000_000_000;
    (WEIGHTS_TIMES_TOKENS / parameters.max(1)).clamp(2048, 8192) as usize
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_models_run_more_tokens() {
        let of = [9_400_000_000, 6_243_584_000, 3_000_000_000, 1_500_000_000, 270_000_000, 0]
            .map(importance_tokens);
        assert_eq!(of, [2048, 2048, 4096, 8192, 8192, 8192]);
    }
}
