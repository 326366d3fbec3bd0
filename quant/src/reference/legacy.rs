//! Q4_0, Q4_1, Q5_0 and Q5_1: blocks of 32 with a scale, and a min in the `_1` formats.
//!
//! Without weights the extremes decide; with weights there is a search. The levels follow the scale
//! in full precision, not the stored one.

use super::search::{Affine, AffineSearch, Signed, fit_signed, largest, search_weights, sum_of_squares};
use crate::block::{Block, Q4_0, Q4_1, Q5_0, Q5_1};
use crate::pack;
use crate::round::{to_half, toward_zero};

/// Quantizes a row; `block` takes the weights of the search, which also depend on the whole row.
pub(super) fn quantize_row<B: Block>(
    row: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    block: impl Fn(&[f32; 32], Option<&[f32; 32]>) -> B,
) {
    let mean_square = mean_square(row);
    super::quantize_blocks(row, importance, out, |x, importance| {
        let weights = importance.map(|importance| search_weights(x, importance, mean_square));
        block(x, weights.as_ref())
    })
}

/// What the search weights need to know of the row.
pub(crate) fn mean_square(row: &[f32]) -> f32 {
    sum_of_squares(row) / row.len() as f32
}

/// Quantizes one block.
pub(crate) fn q4_0(x: &[f32; 32], weights: Option<&[f32; 32]>) -> Q4_0 {
    let Signed { scale, levels } = symmetric(x, weights, 8);
    Q4_0 { d: to_half(scale), levels: pack::nibbles::<16, 32, 16>(&levels) }
}

/// Quantizes one block.
pub(crate) fn q5_0(x: &[f32; 32], weights: Option<&[f32; 32]>) -> Q5_0 {
    let Signed { scale, levels } = symmetric(x, weights, 16);
    Q5_0 {
        d: to_half(scale),
        high_bits: pack::fifth_bits(&levels),
        levels: pack::nibbles::<16, 32, 16>(&levels),
    }
}

/// Quantizes one block.
pub(crate) fn q4_1(x: &[f32; 32], weights: Option<&[f32; 32]>) -> Q4_1 {
    let Affine { scale, min, levels } = with_min(x, weights, 15);
    Q4_1 { d: to_half(scale), min: to_half(-min), levels: pack::nibbles::<16, 32, 16>(&levels) }
}

/// Quantizes one block.
pub(crate) fn q5_1(x: &[f32; 32], weights: Option<&[f32; 32]>) -> Q5_1 {
    let Affine { scale, min, levels } = with_min(x, weights, 31);
    Q5_1 {
        d: to_half(scale),
        min: to_half(-min),
        high_bits: pack::fifth_bits(&levels),
        levels: pack::nibbles::<16, 32, 16>(&levels),
    }
}

/// x = scale * (level - limit); the largest weight gets level 0.
fn symmetric(x: &[f32; 32], weights: Option<&[f32; 32]>, limit: u8) -> Signed<32> {
    if let Some(weights) = weights {
        return fit_signed(x, weights, i32::from(limit));
    }
    let limit_f = f32::from(limit);
    let scale = largest(x) / -limit_f;
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
    let levels = x.map(|x| toward_zero(x * inverse + (limit_f + 0.5)).min(2 * limit - 1));
    Signed { scale, levels }
}

/// x = scale * level - min; without weights `min` has either sign.
fn with_min(x: &[f32; 32], weights: Option<&[f32; 32]>, max_level: u8) -> Affine<32> {
    if let Some(weights) = weights {
        return AffineSearch::weighted(max_level.into()).fit(x, weights);
    }
    let (mut min, mut max) = (f32::MAX, -f32::MAX);
    for &x in x {
        if x < min {
            min = x;
        }
        if x > max {
            max = x;
        }
    }
    let scale = (max - min) / f32::from(max_level);
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
    let levels = x.map(|x| toward_zero((x - min) * inverse + 0.5).min(max_level));
    Affine { scale, min: -min, levels }
}
