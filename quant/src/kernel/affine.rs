//! The search for a scale and a min, one group of weights a lane: `reference::search::AffineSearch`.

use super::level::{limited, out_of_range};
use crate::lanes::{Lanes, Mask, Vector};
use crate::reference::search::AffineSearch;

pub(super) struct Found<V: Vector> {
    pub(super) scale: V,
    /// With its sign, that is, not above zero.
    pub(super) min: V,
    /// The guess that was best: `limited((x - base) * inverse)` are the levels of the search.
    pub(super) inverse: V,
    pub(super) base: V,
    /// All weights are equal: the scale and all levels are 0.
    pub(super) flat: V::Mask,
    /// The guesses left the range of the rounding: only the scalar code knows.
    pub(super) strange: V::Mask,
}

#[inline(always)]
pub(super) fn fit<L: Lanes, const N: usize>(
    lanes: L,
    search: &AffineSearch,
    x: &[L::V; N],
    weights: &[L::V; N],
) -> Found<L::V> {
    let zero = lanes.splat(0.0);
    let top = lanes.splat(search.max_level as f32);

    let (mut lowest, mut max) = (x[0], x[0]);
    let mut sum_w = weights[0];
    let mut sum_x = weights[0] * x[0];
    for (&x, &w) in x.iter().zip(weights).skip(1) {
        lowest = x.min(lowest);
        max = x.max(max);
        sum_w = sum_w + w;
        sum_x = sum_x + w * x;
    }
    let mut min = zero.min(lowest);
    let flat = max.eq(min);

    let mut levels = [zero; N];
    let inverse = top / (max - min);
    let mut strange = strays(lanes, inverse, lowest - min, max - min);
    for (level, &x) in levels.iter_mut().zip(x) {
        *level = limited(lanes, inverse * (x - min), top);
    }
    let mut scale = lanes.splat(1.0) / inverse;
    let (mut best, mut base) = (inverse, min);
    let mut least = error(lanes, search.absolute, x, weights, &levels, scale, min);

    for step in 0..=search.steps {
        let spread = search.first + search.step * f32::from(step) + search.max_level as f32;
        let inverse = lanes.splat(spread) / (max - min);
        if !search.limit_first {
            strange = strange | strays(lanes, inverse, lowest - min, max - min);
        }
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        for i in 0..N {
            let level = limited(lanes, inverse * (x[i] - min), top);
            levels[i] = level;
            let wl = weights[i] * level;
            sum_l = sum_l + wl;
            sum_l2 = sum_l2 + wl * level;
            sum_xl = sum_xl + wl * x[i];
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        let mut fit_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        let mut fit_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        let above = fit_min.gt(zero);
        if above.any() {
            fit_scale = L::V::select(above, sum_xl / sum_l2, fit_scale);
            fit_min = L::V::select(above, zero, fit_min);
        }
        let error = error(lanes, search.absolute, x, weights, &levels, fit_scale, fit_min);
        let better = determinant.gt(zero) & error.lt(least);
        least = L::V::select(better, error, least);
        scale = L::V::select(better, fit_scale, scale);
        best = L::V::select(better, inverse, best);
        base = L::V::select(better, min, base);
        min = L::V::select(better, fit_min, min);
    }
    Found { scale, min, inverse: best, base, flat, strange: strange & !flat }
}

/// Between these two lie all guesses, for rounding keeps the order.
#[inline(always)]
fn strays<L: Lanes>(lanes: L, inverse: L::V, least: L::V, most: L::V) -> <L::V as Vector>::Mask {
    out_of_range(lanes, inverse * least) | out_of_range(lanes, inverse * most)
}

#[inline(always)]
fn error<L: Lanes, const N: usize>(
    lanes: L,
    absolute: bool,
    x: &[L::V; N],
    weights: &[L::V; N],
    levels: &[L::V; N],
    scale: L::V,
    min: L::V,
) -> L::V {
    let mut error = lanes.splat(0.0);
    for i in 0..N {
        let difference = scale * levels[i] + min - x[i];
        error = error + weights[i] * if absolute { difference.abs() } else { difference * difference };
    }
    error
}
