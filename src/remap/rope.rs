//! ChatGLM's rotary embedding in Llama's terms.
//!
//! ChatGLM rotates the first half of each head by `p * B^(-2i/(d/2))`; Llama rotates the whole head by
//! `p * base^(-2i/d) / factor[i]`. With `base = B^2` the angles of the first half are the same, and a factor of
//! 1e30 makes those of the second half vanish: cos = 1, sin = 0.

use std::fmt;

use crate::config::GlmConfig;

/// ChatGLM's own base.
const BASE: f64 = 10_000.0;
/// Divides an angle down to nothing.
const NO_ROTATION: f32 = 1e30;

/// What `rope_ratio` multiplies; no field of the config tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeRatio {
    /// The frequency base: all models but one.
    Base,
    /// It divides the positions: ChatGLM2-6B-32k.
    Positions,
}

/// The rotary metadata and factors of the GGUF.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// `llama.rope.freq_base`, B squared.
    pub freq_base: f32,
    /// `rope_freqs.weight`, one divisor a pair of the head: `[d/2]`.
    pub factors: Vec<f32>,
}

impl Rope {
    /// The rotation of a model whose `rope_ratio` has the given meaning.
    pub fn new(config: &GlmConfig, applies_to: RopeRatio) -> Rope {
        let (base, rotated) = match applies_to {
            RopeRatio::Base => (BASE * config.rope_ratio, 1.0),
            RopeRatio::Positions => (BASE, config.rope_ratio as f32),
        };
        let mut factors = vec![NO_ROTATION; config.head_dim / 2];
        factors[..config.head_dim / 4].fill(rotated);
        Rope { freq_base: (base * base) as f32, factors }
    }
}

impl fmt::Display for RopeRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RopeRatio::Base => "base",
            RopeRatio::Positions => "positions",
        })
    }
}
