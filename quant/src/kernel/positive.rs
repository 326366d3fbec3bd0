//! The scales of a super-block's sub-blocks, stored as small numbers in turn, and so its mins:
//! `reference::search::fit_positive`, which is ggml's `make_qp_quants`. Only importance weights ask for this search.
//!
//! Values x >= 0 are stored as levels l from 0 to `max_level` and one scale; the least `sum(w * (scale * l - x)^2)` is
//! wanted. Nine scales around `largest / max_level` are tried, and the one with the least error rounds the values to
//! levels. Then single levels are exchanged: without value i, the others have a best scale of their own,
//! `sum(w x l) / sum(w l l)`; x divided by it names the level that i should have, which is taken if the whole gains by
//! it. With the best scale for its levels, a choice of levels gains `sum(w x l)^2 / sum(w l l)` over zeros, so two of
//! them are compared by products, without a division. At most five passes do this, or until one changes nothing.
//!
//! Each lane holds a super-block, and its 8 or 16 values lie in as many vectors, so that all sums run in the scalar
//! order. Lanes that are done go on beside the others, where nothing changes in them any more.

use super::level::{nearest, out_of_range};
use crate::lanes::{Lanes, Mask, Vector};
use crate::reference::search::NEGLIGIBLE;

pub(super) struct PositiveFit<V: Vector, const N: usize> {
    pub(super) scale: V,
    pub(super) levels: [V; N],
    /// Values below zero or beyond the range of the rounding: only the scalar code knows.
    pub(super) strange: V::Mask,
}

#[inline(always)]
pub(super) fn fit<L: Lanes, const N: usize>(
    lanes: L,
    x: &[L::V; N],
    weights: &[L::V; N],
    max_level: f32,
) -> PositiveFit<L::V, N> {
    let zero = lanes.splat(0.0);
    let top = lanes.splat(max_level);
    let mut largest = zero;
    let mut strange = zero.lt(zero);
    for &x in x {
        largest = largest.max(x);
        strange = strange | x.lt(zero) | !x.lt(lanes.splat(f32::INFINITY));
    }
    let negligible = largest.lt(lanes.splat(NEGLIGIBLE));

    let mut best = top / largest;
    let mut least = zero;
    let scale = lanes.splat(1.0) / best;
    for i in 0..N {
        let difference = x[i] - scale * nearest(lanes, best * x[i]);
        least = least + weights[i] * difference * difference;
    }
    for step in (-4..=4).filter(|&step| step != 0) {
        let guess = lanes.splat(0.1 * step as f32 + max_level) / largest;
        let scale = lanes.splat(1.0) / guess;
        let mut error = zero;
        for i in 0..N {
            let difference = x[i] - scale * nearest(lanes, guess * x[i]).min(top);
            error = error + weights[i] * difference * difference;
        }
        let better = error.lt(least);
        least = L::V::select(better, error, least);
        best = L::V::select(better, guess, best);
    }

    let mut levels = [zero; N];
    let (mut xl, mut ll) = (zero, zero);
    for i in 0..N {
        let level = nearest(lanes, best * x[i]).min(top);
        levels[i] = level;
        xl = xl + weights[i] * x[i] * level;
        ll = ll + weights[i] * level * level;
    }
    // A lane without a change has none in the next pass either, so all may go on until all are done.
    for _ in 0..5 {
        let mut changed = zero.lt(zero);
        for i in 0..N {
            let (x, w, l) = (x[i], weights[i], levels[i]);
            let other_xl = xl - w * x * l;
            let other_ll = ll - w * l * l;
            let possible = other_xl.gt(zero) & other_ll.gt(zero);
            let quotient = x * other_ll / other_xl;
            strange = strange | (possible & out_of_range(lanes, quotient));
            let candidate = nearest(lanes, quotient).min(top);
            let new_xl = other_xl + w * x * candidate;
            let new_ll = other_ll + w * candidate * candidate;
            let gains = (new_xl * new_xl * ll).gt(xl * xl * new_ll);
            let take = possible & gains & !candidate.eq(l);
            levels[i] = L::V::select(take, candidate, l);
            xl = L::V::select(take, new_xl, xl);
            ll = L::V::select(take, new_ll, ll);
            changed = changed | take;
        }
        if !changed.any() {
            break;
        }
    }
    let scale = L::V::select(ll.gt(zero), xl / ll, zero);
    for level in &mut levels {
        *level = L::V::select(negligible, zero, *level);
    }
    PositiveFit { scale: L::V::select(negligible, zero, scale), levels, strange: strange & !negligible }
}
