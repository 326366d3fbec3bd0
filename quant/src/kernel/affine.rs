//! The search for a scale and a min of a group of weights: `reference::search::AffineSearch`, which is ggml's
//! `make_qkx2_quants`, and `make_qkx3_quants` where there are importance weights.
//!
//! A weight x is stored as a level l, a whole number from 0 to 15 for instance, and read as `scale * l + min`. Wanted
//! are the scale and the min with the least `sum(w * (scale * l + min - x)^2)`, w being how much a weight matters.
//! For given levels that is a linear regression, solved exactly by two lines of sums. The levels are the hard part:
//! they depend on the scale in turn. So 16 to 37 scales around the obvious one, range divided by `max_level`, are
//! tried: each rounds the weights to levels, the regression gives the best scale and min for these, and the guess with
//! the least error is kept. A min above zero cannot be stored, so it is 0 then and the scale fitted alone.
//!
//! Each lane holds a group of its own, its weights in as many vectors, and runs the scalar program on it, sum for sum in the
//! scalar order. To spread one sum over the lanes would be as fast and would round otherwise. Levels stay floats, and
//! are limited to 0..=`max_level` only for guesses whose extremes leave that range.

use super::level::{limited, nearest, out_of_range};
use crate::lanes::{Lanes, Mask, Vector};
use crate::reference::search::AffineSearch;

pub(super) struct ScaleAndMin<V: Vector> {
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
) -> ScaleAndMin<L::V> {
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
    let extremes = Extremes { lowest, max };
    let mut strange = extremes.stray(lanes, inverse, min);
    for (level, &x) in levels.iter_mut().zip(x) {
        *level = limited(lanes, inverse * (x - min), top);
    }
    let mut scale = lanes.splat(1.0) / inverse;
    let (mut best, mut base) = (inverse, min);
    let mut least = error(lanes, search.absolute, x, weights, &levels, scale, min);

    for step in 0..=search.steps {
        let inverse = lanes.splat(search.spread(step)) / (max - min);
        if !search.limit_first {
            strange = strange | extremes.stray(lanes, inverse, min);
        }
        let guess = Guess { inverse, min, top };
        let sums = match guess.needs_limits(lanes, &extremes) {
            (false, false) => guess.sums::<L, N, false, false>(lanes, x, weights, &mut levels),
            (false, true) => guess.sums::<L, N, false, true>(lanes, x, weights, &mut levels),
            (true, false) => guess.sums::<L, N, true, false>(lanes, x, weights, &mut levels),
            (true, true) => guess.sums::<L, N, true, true>(lanes, x, weights, &mut levels),
        };
        let Sums { l: sum_l, l2: sum_l2, xl: sum_xl } = sums;
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
    ScaleAndMin { scale, min, inverse: best, base, flat, strange: strange & !flat }
}

/// Between the guesses for these two weights lie all others, for rounding keeps the order.
struct Extremes<V: Vector> {
    lowest: V,
    max: V,
}

impl<V: Vector> Extremes<V> {
    /// The lanes where a guess leaves the range of the rounding.
    #[inline(always)]
    fn stray<L: Lanes<V = V>>(&self, lanes: L, inverse: V, min: V) -> V::Mask {
        out_of_range(lanes, inverse * (self.lowest - min)) | out_of_range(lanes, inverse * (self.max - min))
    }
}

/// Levels are what `inverse * (x - min)` is rounded to, from 0 to `top`.
struct Guess<V: Vector> {
    inverse: V,
    min: V,
    top: V,
}

/// Sums over the levels of a guess, each times its weight.
struct Sums<V: Vector> {
    l: V,
    l2: V,
    xl: V,
}

impl<V: Vector> Guess<V> {
    /// Whether any lane has levels that must be limited, to 0 and to `top`. Most guesses have none, and
    /// looking for them takes less time than limiting all.
    #[inline(always)]
    fn needs_limits<L: Lanes<V = V>>(&self, lanes: L, extremes: &Extremes<V>) -> (bool, bool) {
        let half = lanes.splat(0.5);
        let (one, other) =
            (self.inverse * (extremes.lowest - self.min), self.inverse * (extremes.max - self.min));
        let rounds_to_0 = lanes.splat(-0.5);
        let rounds_to_top = self.top + half;
        let low = !(one.gt(rounds_to_0) & other.gt(rounds_to_0));
        let high = !(one.lt(rounds_to_top) & other.lt(rounds_to_top));
        (low.any(), high.any())
    }

    #[inline(always)]
    fn sums<L: Lanes<V = V>, const N: usize, const LOW: bool, const HIGH: bool>(
        &self,
        lanes: L,
        x: &[V; N],
        weights: &[V; N],
        levels: &mut [V; N],
    ) -> Sums<V> {
        let zero = lanes.splat(0.0);
        let mut sums = Sums { l: zero, l2: zero, xl: zero };
        for i in 0..N {
            let mut level = self.inverse * (x[i] - self.min);
            if LOW {
                level = level.max(zero);
            }
            if HIGH {
                level = level.min(self.top);
            }
            level = nearest(lanes, level);
            levels[i] = level;
            let wl = weights[i] * level;
            sums.l = sums.l + wl;
            sums.l2 = sums.l2 + wl * level;
            sums.xl = sums.xl + wl * x[i];
        }
        sums
    }
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
