//! IQ4_NL and IQ4_XS: levels of 4 bits that look a value up. ggml's `quantize_row_iq4_nl_impl`.
//!
//! A weight is read as `scale * VALUES[l]`: sixteen values that stand closer together near zero, as weights do. The
//! least `sum(w * (scale * value - x)^2)` is wanted. As in `signed.rs`, the best scale for given values q is
//! `sum(w x q) / sum(w q q)`, and the gain over zeros tells which choice is better; 16 scales are tried, which put the
//! largest weight on one of the numbers around the outermost value. IQ4_XS stores the scales of its eight blocks as
//! numbers of 6 bits times one half-float, the largest of which gets the largest number.
//!
//! Each lane searches for a block of its own. The nearest value is found by comparing with the 15 middles between
//! values, which is exact. Writing the levels takes the lanes
//! the other way, along one block, as no sums are left in it.

use super::batch::{BATCH, Buffer, SUPER, search_weights, spread, sums_of_squares};
use super::blocks::{BLOCK, columns, importance_columns};
use super::signed::largest;
use crate::Rows;
use crate::block::{Block, IQ4_NL, IQ4_XS};
use crate::lanes::{Kernel, Lanes, MAX_LANES, Vector};
use crate::pack;
use crate::reference::iq4::{self, VALUES};
use crate::reference::search::{self, NEGLIGIBLE};
use crate::round::{nearest_even, to_half};

/// Quantizes to IQ4_NL.
pub(super) struct QuantizeNl<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) out: &'a mut [u8],
}

impl Kernel for QuantizeNl<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        const BYTES: usize = <IQ4_NL as Block>::BYTES;
        let QuantizeNl { rows, out } = self;
        let group = lanes.group();
        for (i, out) in out.chunks_mut(L::Group::N * BYTES).enumerate() {
            let first = i * L::Group::N;
            let x = columns(group, rows.x, first);
            let mut weights = x;
            let mut sum = group.splat(0.0);
            for weight in &mut weights {
                *weight = *weight * *weight;
                sum = sum + *weight;
            }
            if rows.importance.is_some() {
                let importance = importance_columns(group, &rows, first);
                weights = search_weights::<L::Group, BLOCK>(&x, &importance, sum * group.splat(2.0 / 32.0));
            }
            let mut scales = [0.0; MAX_LANES];
            group.store(fit_scale(group, &x, &weights), &mut scales);
            for (lane, out) in out.as_chunks_mut::<BYTES>().0.iter_mut().enumerate() {
                let x = &rows.x.as_chunks::<BLOCK>().0[first + lane];
                let (d, levels) = out.split_at_mut(2);
                d.copy_from_slice(&to_half(scales[lane]));
                if !write_levels(lanes, x, scales[lane], levels) {
                    let importance = rows.importance_of(first + lane, BLOCK);
                    iq4::nl_block(x, importance.map(|importance| &importance.as_chunks().0[0])).write(out);
                }
            }
        }
    }
}

/// Quantizes to IQ4_XS.
pub(super) struct QuantizeXs<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) out: &'a mut [u8],
}

impl Kernel for QuantizeXs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        const BYTES: usize = <IQ4_XS as Block>::BYTES;
        let group = lanes.group();
        let mut buffer = Buffer::new(&self.rows);
        for (i, out) in self.out.chunks_mut(BATCH * BYTES).enumerate() {
            let batch = buffer.weights(&self.rows, i * BATCH, out.len() / BYTES);
            let squares =
                if batch.importance.is_some() { sums_of_squares(group, &batch) } else { [0.0; BATCH] };
            let mut scales = [0.0; BATCH * 8];
            for first in batch.groups(L::Group::N, 8) {
                let x = columns(group, batch.x, first);
                let weights = if let Some(importance) = batch.importance {
                    let variance = spread(group, &squares, first, 8) * group.splat(2.0 / SUPER as f32);
                    search_weights::<L::Group, BLOCK>(&x, &columns(group, importance, first), variance)
                } else {
                    let mut squares = x;
                    for square in &mut squares {
                        *square = *square * *square;
                    }
                    squares
                };
                group.store(fit_scale(group, &x, &weights), &mut scales[first..]);
            }
            for (i, out) in out.as_chunks_mut::<BYTES>().0.iter_mut().enumerate() {
                let (x, importance) = batch.super_block(i);
                if !write_super_block(lanes, x, scales.as_chunks().0[i], out) {
                    iq4::xs_super_block(x, importance).write(out);
                }
            }
        }
    }
}

/// False when only the scalar code knows.
#[inline(always)]
fn write_super_block<L: Lanes>(lanes: L, x: &[f32; SUPER], scales: [f32; 8], out: &mut [u8]) -> bool {
    let d = -search::largest(&scales) / 32.0;
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    let (head, levels) = out.split_at_mut(8);
    let mut numbers = [0; 8];
    for (j, number) in numbers.iter_mut().enumerate() {
        let nearest = nearest_even(inverse * scales[j]).clamp(-32, 31);
        *number = (nearest + 32) as u8;
        // Unlike the K-quants, the levels follow `d` in full precision, not the stored one.
        let scale = d * nearest as f32;
        if !write_levels(lanes, &x.as_chunks().0[j], scale, &mut levels[16 * j..16 * j + 16]) {
            return false;
        }
    }
    let (scales, high_scales) = pack::eight_scales(&numbers);
    head[..2].copy_from_slice(&to_half(d));
    head[2..4].copy_from_slice(&high_scales);
    head[4..].copy_from_slice(&scales);
    true
}

/// Tries inverse scales that put the largest weight on one of the values around the outermost.
#[inline(always)]
fn fit_scale<L: Lanes>(lanes: L, x: &[L::V; BLOCK], weights: &[L::V; BLOCK]) -> L::V {
    let zero = lanes.splat(0.0);
    let outermost = f32::from(VALUES[0]);
    let largest = largest(lanes, x);
    let negligible = largest.abs().lt(lanes.splat(NEGLIGIBLE));

    let inverse = lanes.splat(1.0) / ((zero - largest) / lanes.splat(outermost));
    let (xq, qq) = sums(lanes, inverse, x, weights);
    let mut scale = L::V::select(qq.gt(zero), xq / qq, zero);
    let mut gain = scale * xq;
    for step in -7i8..=7 {
        let (xq, qq) = sums(lanes, lanes.splat(f32::from(step) + outermost) / largest, x, weights);
        let better = qq.gt(zero) & (xq * xq).gt(gain * qq);
        scale = L::V::select(better, xq / qq, scale);
        gain = L::V::select(better, scale * xq, gain);
    }
    L::V::select(negligible, zero, scale)
}

/// The sums of w x q and of w q q over the values of a guess.
#[inline(always)]
fn sums<L: Lanes>(lanes: L, inverse: L::V, x: &[L::V; BLOCK], weights: &[L::V; BLOCK]) -> (L::V, L::V) {
    let (mut xq, mut qq) = (lanes.splat(0.0), lanes.splat(0.0));
    for i in 0..BLOCK {
        let value = nearest_value(lanes, inverse * x[i]);
        let wq = weights[i] * value;
        xq = xq + wq * x[i];
        qq = qq + wq * value;
    }
    (xq, qq)
}

/// Where a value's range ends and the next one's begins. The middles are multiples of a half and the
/// differences to them exact, so comparing with them is comparing the distances to both values.
pub(crate) const MIDDLES: [f32; 15] = {
    let mut middles = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        middles[i] = (VALUES[i] as f32 + VALUES[i + 1] as f32) / 2.0;
        i += 1;
    }
    middles
};

#[inline(always)]
fn nearest_value<L: Lanes>(lanes: L, x: L::V) -> L::V {
    let mut value = lanes.splat(f32::from(VALUES[0]));
    for (&middle, &above) in MIDDLES.iter().zip(&VALUES[1..]) {
        value = L::V::select(x.lt(lanes.splat(middle)), value, lanes.splat(f32::from(above)));
    }
    value
}

#[inline(always)]
fn nearest_level<L: Lanes>(lanes: L, x: L::V) -> L::V {
    let mut level = lanes.splat(0.0);
    for (i, &middle) in MIDDLES.iter().enumerate() {
        level = L::V::select(x.lt(lanes.splat(middle)), level, lanes.splat(i as f32 + 1.0));
    }
    level
}

/// Two levels a byte, from both halves of the block. False when the inverse is not finite, which only
/// the scalar code knows.
#[inline(always)]
fn write_levels<L: Lanes>(lanes: L, x: &[f32; BLOCK], scale: f32, out: &mut [u8]) -> bool {
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
    for start in (0..BLOCK / 2).step_by(L::N) {
        let low = nearest_level(lanes, lanes.load(&x[start..]) * lanes.splat(inverse));
        let high = nearest_level(lanes, lanes.load(&x[start + BLOCK / 2..]) * lanes.splat(inverse));
        lanes.store_bytes(low + high * lanes.splat(16.0), &mut out[start..]);
    }
    inverse.is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparing_with_the_middle_is_comparing_the_distances() {
        for middle in MIDDLES {
            for x in [middle.next_down().next_down(), middle.next_down(), middle, middle.next_up()] {
                let level = MIDDLES.iter().filter(|&&middle| x >= middle).count();
                assert_eq!(level, usize::from(iq4::nearest_level(x)), "{x}");
            }
        }
    }
}
