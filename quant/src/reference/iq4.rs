//! IQ4_NL and IQ4_XS: levels of 4 bits that look a value up.

use super::search::{NEGLIGIBLE, largest, search_weights, sum_of_squares};
use crate::block::{IQ4_NL, IQ4_XS};
use crate::pack;
use crate::round::{nearest_even, to_half};

/// What the sixteen levels stand for: finer near zero, where most weights are.
pub(crate) const VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Quantizes one block.
pub(crate) fn nl_block(x: &[f32; 32], importance: Option<&[f32; 32]>) -> IQ4_NL {
    let variance = sum_of_squares(x) * (2.0 / 32.0);
    let scale = fit_scale(x, importance, variance);
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
    let levels = x.map(|x| nearest_level(inverse * x));
    IQ4_NL { d: to_half(scale), levels: pack::nibbles::<16, 32, 16>(&levels) }
}

/// Quantizes one super-block.
pub(crate) fn xs_super_block(x: &[f32; 256], importance: Option<&[f32; 256]>) -> IQ4_XS {
    let variance = sum_of_squares(x) * (2.0 / 256.0);
    let importance = importance.map(|importance| importance.as_chunks().0);
    let sub_blocks = x.as_chunks().0;
    let scales: [f32; 8] =
        std::array::from_fn(|j| fit_scale(&sub_blocks[j], importance.map(|w| &w[j]), variance));

    let d = -largest(&scales) / 32.0;
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    let numbers = scales.map(|scale| nearest_even(inverse * scale).clamp(-32, 31));
    let mut levels = [0; 256];
    for ((x, levels), &number) in sub_blocks.iter().zip(levels.as_chunks_mut().0).zip(&numbers) {
        // Unlike the K-quants, the levels follow `d` in full precision, not the stored one.
        let scale = d * number as f32;
        let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
        *levels = x.map(|x| nearest_level(inverse * x));
    }
    let (scales, high_scales) = pack::eight_scales(&numbers.map(|number| (number + 32) as u8));
    IQ4_XS { d: to_half(d), high_scales, scales, levels: pack::nibbles::<16, 256, 128>(&levels) }
}

/// Tries inverse scales that put the largest weight on one of the values around the outermost.
fn fit_scale(x: &[f32; 32], importance: Option<&[f32; 32]>, variance: f32) -> f32 {
    let largest = largest(x);
    if largest.abs() < NEGLIGIBLE {
        return 0.0;
    }
    let weights = match importance {
        None => x.map(|x| x * x),
        Some(importance) => search_weights(x, importance, variance),
    };
    // As in `fit_signed`: the best scale for given values q, and what it gains over zeros.
    let sums = |inverse: f32| {
        let (mut xq, mut qq) = (0.0, 0.0);
        for (&x, &w) in x.iter().zip(&weights) {
            let q = f32::from(VALUES[usize::from(nearest_level(inverse * x))]);
            xq += w * q * x;
            qq += w * q * q;
        }
        (xq, qq)
    };

    let outermost = f32::from(VALUES[0]);
    let (xq, qq) = sums(1.0 / (-largest / outermost));
    let mut scale = if qq > 0.0 { xq / qq } else { 0.0 };
    let mut gain = scale * xq;
    for step in -7i8..=7 {
        let (xq, qq) = sums((f32::from(step) + outermost) / largest);
        if qq > 0.0 && xq * xq > gain * qq {
            scale = xq / qq;
            gain = scale * xq;
        }
    }
    scale
}

/// The level whose value lies nearest; the higher one when two are as near.
pub(crate) fn nearest_level(x: f32) -> u8 {
    let value = |level: usize| f32::from(VALUES[level]);
    if x <= value(0) {
        return 0;
    }
    if x >= value(15) {
        return 15;
    }
    let (mut below, mut above) = (0, 15);
    while above - below > 1 {
        let middle = (below + above) / 2;
        if x < value(middle) { above = middle } else { below = middle }
    }
    (if x - value(below) < value(above) - x { below } else { above }) as u8
}
