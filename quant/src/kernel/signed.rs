//! The searches for a scale alone: `reference::search::fit_signed`, which is ggml's `make_qx_quants`, and
//! `fit_signed_by_exchange`, its `make_q3_quants`.
//!
//! A weight x is stored as a level l from `-limit` to `limit - 1` and read as `scale * l`; the least
//! `sum(w * (scale * l - x)^2)` is wanted. For given levels the best scale is `sum(w x l) / sum(w l l)`, and it takes
//! `sum(w x l)^2 / sum(w l l)` off the error of all zeros: the more, the better. There is one level more below zero
//! than above it, so the scale has the sign that puts the largest weight on `-limit`. The first search tries 19 scales
//! around this one. The second takes this one alone, and then exchanges single levels as `positive.rs` does; without
//! importance weights Q3_K counts each weight by its square.
//!
//! Each lane holds a group of its own and runs the scalar program, every sum in the scalar order. Products that all
//! guesses need, w x for instance, are made once, where that rounds as the scalar program does.

use super::level::{nearest, out_of_range};
use crate::lanes::{Lanes, Mask, Vector};
use crate::reference::search::NEGLIGIBLE;

pub(super) struct SignedFit<V: Vector> {
    pub(super) scale: V,
    /// The inverse of the guess that was best: it makes the levels of the search.
    pub(super) inverse: V,
    /// All weights are next to nothing: the scale is 0, and so are the levels as they are stored.
    pub(super) negligible: V::Mask,
    /// A quotient left the range of the rounding: only the scalar code knows.
    pub(super) strange: V::Mask,
}

/// Tries 19 inverse scales. Levels lie from `-limit` to `limit - 1`.
#[inline(always)]
pub(super) fn fit<L: Lanes, const N: usize>(
    lanes: L,
    x: &[L::V; N],
    weights: &[L::V; N],
    limit: f32,
) -> SignedFit<L::V> {
    let zero = lanes.splat(0.0);
    let largest = largest(lanes, x);
    let negligible = largest.abs().lt(lanes.splat(NEGLIGIBLE));
    let mut wx = *weights;
    for i in 0..N {
        wx[i] = weights[i] * x[i];
    }

    let mut inverse = lanes.splat(-limit) / largest;
    let (xl, ll) = sums::<L, N, false>(lanes, inverse, x, weights, &wx, limit);
    let mut scale = L::V::select(ll.eq(zero), zero, xl / ll);
    let mut gain = scale * xl;
    for step in (-9..=9).filter(|&step| step != 0) {
        let guess = lanes.splat(-(limit + 0.1 * step as f32)) / largest;
        // Up to a step of 4, the largest weight is still rounded to `-limit`.
        let (xl, ll) = if step > 4 {
            sums::<L, N, true>(lanes, guess, x, weights, &wx, limit)
        } else {
            sums::<L, N, false>(lanes, guess, x, weights, &wx, limit)
        };
        let better = ll.gt(zero) & (xl * xl).gt(gain * ll);
        scale = L::V::select(better, xl / ll, scale);
        gain = L::V::select(better, scale * xl, gain);
        inverse = L::V::select(better, guess, inverse);
    }
    SignedFit { scale: L::V::select(negligible, zero, scale), inverse, negligible, strange: zero.lt(zero) }
}

/// The sums of w x l and of w l l over the levels of a guess, limited below only if `LOW`.
#[inline(always)]
fn sums<L: Lanes, const N: usize, const LOW: bool>(
    lanes: L,
    inverse: L::V,
    x: &[L::V; N],
    weights: &[L::V; N],
    wx: &[L::V; N],
    limit: f32,
) -> (L::V, L::V) {
    let (mut xl, mut ll) = (lanes.splat(0.0), lanes.splat(0.0));
    for i in 0..N {
        let mut level = inverse * x[i];
        if LOW {
            level = level.max(lanes.splat(-limit));
        }
        level = nearest(lanes, level.min(lanes.splat(limit - 1.0)));
        xl = xl + wx[i] * level;
        ll = ll + weights[i] * level * level;
    }
    (xl, ll)
}

/// One guess, then single levels are exchanged for others as long as that gains.
#[inline(always)]
pub(super) fn fit_by_exchange<L: Lanes, const N: usize>(
    lanes: L,
    x: &[L::V; N],
    limit: f32,
) -> SignedFit<L::V> {
    let zero = lanes.splat(0.0);
    let largest = largest(lanes, x);
    let negligible = largest.abs().lt(lanes.splat(NEGLIGIBLE));
    let inverse = lanes.splat(-limit) / largest;
    let (mut levels, mut squares, mut cubes) = (*x, *x, *x);
    let (mut xl, mut ll) = (zero, zero);
    for i in 0..N {
        levels[i] = level(lanes, inverse * x[i], limit);
        squares[i] = x[i] * x[i];
        cubes[i] = squares[i] * x[i];
        xl = xl + cubes[i] * levels[i];
        ll = ll + squares[i] * levels[i] * levels[i];
    }
    // A lane without a change has none in the next pass either, so all may go on until all are done.
    let mut strange = zero.lt(zero);
    for _ in 0..5 {
        let mut changed = zero.lt(zero);
        for i in 0..N {
            let l = levels[i];
            let other_xl = xl - cubes[i] * l;
            let other_ll = ll - squares[i] * l * l;
            let possible = other_xl.gt(zero);
            let quotient = x[i] * other_ll / other_xl;
            strange = strange | (possible & out_of_range(lanes, quotient));
            let candidate = level(lanes, quotient, limit);
            let new_xl = other_xl + cubes[i] * candidate;
            let new_ll = other_ll + squares[i] * candidate * candidate;
            let gains = (new_xl * new_xl * ll).gt(xl * xl * new_ll);
            let take = possible & new_ll.gt(zero) & gains & !candidate.eq(l);
            levels[i] = L::V::select(take, candidate, l);
            xl = L::V::select(take, new_xl, xl);
            ll = L::V::select(take, new_ll, ll);
            changed = changed | take;
        }
        if !changed.any() {
            break;
        }
    }
    let scale = L::V::select(ll.gt(zero) & !negligible, xl / ll, zero);
    SignedFit { scale, inverse, negligible, strange: strange & !negligible }
}

/// The value of the largest magnitude, with its sign; of equals the first.
#[inline(always)]
pub(super) fn largest<L: Lanes, const N: usize>(lanes: L, x: &[L::V; N]) -> L::V {
    let mut largest = lanes.splat(0.0);
    for &x in x {
        largest = L::V::select(x.abs().gt(largest.abs()), x, largest);
    }
    largest
}

/// The nearest level, as it counts in the sums. The same as limiting after rounding.
#[inline(always)]
pub(super) fn level<L: Lanes>(lanes: L, x: L::V, limit: f32) -> L::V {
    nearest(lanes, x.max(lanes.splat(-limit)).min(lanes.splat(limit - 1.0)))
}
