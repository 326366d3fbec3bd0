//! The rotary embedding in Llama's terms.
//!
//! The models of this family rotate the first r values of each head by `p * B^(-2i/r)`, r being half of the head's d
//! in most of them; Llama rotates the whole head by `p * base^(-2i/d) / factor[i]`. With `base = B^(d/r)` the angles
//! of the first r values are the same, and a factor of 1e30 makes those of the rest vanish: cos = 1, sin = 0.

use crate::config::{GlmConfig, RopeRatio};

/// Divides an angle down to nothing.
const NO_ROTATION: f32 = 1e30;

/// The rotary metadata and factors of the GGUF.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// `llama.rope.freq_base`, B squared where half of a head is rotated.
    pub freq_base: f32,
    /// `rope_freqs.weight`, one divisor a pair of the head: `[d/2]`.
    pub factors: Vec<f32>,
}

impl Rope {
    /// The rotation of a model whose `rope_ratio` has the given meaning.
    pub fn new(config: &GlmConfig, applies_to: RopeRatio) -> Rope {
        let (base, rotated) = match applies_to {
            RopeRatio::Base => (config.rope_base * config.rope_ratio, 1.0),
            RopeRatio::Positions => (config.rope_base, config.rope_ratio as f32),
        };
        let mut factors = vec![NO_ROTATION; config.head_dim / 2];
        factors[..config.rotary_dim / 2].fill(rotated);
        let freq_base = match config.head_dim / config.rotary_dim {
            2 if config.head_dim.is_multiple_of(config.rotary_dim) => base * base, // exact, unlike powf
            _ => base.powf(config.head_dim as f64 / config.rotary_dim as f64),
        };
        Rope { freq_base: freq_base as f32, factors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::chatglm3_config;

    /// The angle of each pair at position 1, as llama.cpp computes it.
    fn angles(rope: &Rope, head_dim: usize) -> Vec<f64> {
        let pairs = rope.factors.iter().enumerate();
        let angle = |(i, &factor): (usize, &f32)| {
            f64::from(rope.freq_base).powf(-2.0 * i as f64 / head_dim as f64) / f64::from(factor)
        };
        pairs.map(angle).collect()
    }

    #[test]
    fn rotated_pairs_have_the_authors_angles_and_the_others_none() {
        for (rotary_dim, rope_base, rope_ratio) in [
            (64, 1e4, 1.0),
            (64, 1e4, 500.0),
            (64, 1e4, 10_000.0),
            (64, 5e6, 1.0),
            (128, 1e4, 1.0),
            (48, 1e4, 1.0),
        ] {
            let config = GlmConfig { rotary_dim, rope_base, rope_ratio, ..chatglm3_config() };
            for (meaning, base, divisor) in [
                (RopeRatio::Base, rope_base * rope_ratio, 1.0),
                (RopeRatio::Positions, rope_base, rope_ratio),
            ] {
                for (i, angle) in angles(&Rope::new(&config, meaning), 128).into_iter().enumerate() {
                    let expected = match 2 * i < rotary_dim {
                        true => base.powf(-2.0 * i as f64 / rotary_dim as f64) / divisor,
                        false => 0.0,
                    };
                    assert!(
                        (angle - expected).abs() <= 1e-7 * expected + 1e-29,
                        "{rotary_dim} {i}: {angle} {expected}"
                    );
                }
            }
        }
    }
}
