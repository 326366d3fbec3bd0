//! Q4_0, Q4_1, Q5_0 and Q5_1: blocks of 32 with a scale, and a min in the `_1` formats. ggml's `quantize_row_q4_0_ref`
//! and its kin; with importance weights `quantize_row_q4_0_impl`.
//!
//! Without importance weights nothing is searched for: the largest weight, or the range, decides. With them the searches
//! are those of `signed.rs` and `affine.rs`, one block a lane.

use super::batch::search_weights;
use super::blocks::{BLOCK, columns, importance_columns};
use super::level::limited;
use super::{affine, signed};
use crate::Rows;
use crate::block::Block;
use crate::lanes::{Kernel, Lanes, MAX_LANES, Mask, Vector};
use crate::reference::legacy;
use crate::reference::search::{self, AffineSearch};

/// Quantizes to one of the formats.
pub(super) struct Quantize<'a, const FIVE_BITS: bool, const MIN: bool, const WEIGHTED: bool> {
    pub(super) rows: Rows<'a>,
    pub(super) out: &'a mut [u8],
}

/// What the blocks of a group need to be written, one a lane.
struct BlockScales<V: Vector> {
    /// What is stored.
    scale: V,
    min: V,
    /// What the levels follow: [`Quantize::level`].
    inverse: V,
    base: V,
    /// Only the scalar code knows.
    strange: V::Mask,
}

impl<const FIVE_BITS: bool, const MIN: bool, const WEIGHTED: bool> Kernel
    for Quantize<'_, FIVE_BITS, MIN, WEIGHTED>
{
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        if WEIGHTED { self.run_groups(lanes, lanes.group()) } else { self.run_groups(lanes, lanes) }
    }
}

impl<const FIVE_BITS: bool, const MIN: bool, const WEIGHTED: bool> Quantize<'_, FIVE_BITS, MIN, WEIGHTED> {
    const BYTES: usize = 2 + 2 * MIN as usize + 4 * FIVE_BITS as usize + BLOCK / 2;
    /// The largest level.
    const TOP: f32 = if FIVE_BITS { 31.0 } else { 15.0 };
    /// In the formats without a min, levels lie from `-LIMIT` to `LIMIT - 1`.
    const LIMIT: f32 = (Self::TOP + 1.0) / 2.0;

    #[inline(always)]
    fn run_groups<L: Lanes, G: Lanes>(self, lanes: L, group: G) {
        let Quantize { rows, out } = self;
        let variances = if WEIGHTED { mean_squares(lanes, &rows) } else { Vec::new() };
        for (i, out) in out.chunks_mut(G::N * Self::BYTES).enumerate() {
            let first = i * G::N;
            let x = columns(group, rows.x, first);
            let found = if WEIGHTED {
                let mut variance = [0.0; MAX_LANES];
                for (lane, variance) in variance.iter_mut().enumerate() {
                    let row = (first + lane) * BLOCK / rows.columns;
                    *variance = variances[row.min(variances.len() - 1)];
                }
                let importance = importance_columns(group, &rows, first);
                let weights = search_weights::<G, BLOCK>(&x, &importance, group.load(&variance));
                Self::fit_weighted(group, &x, &weights)
            } else {
                Self::fit(group, &x)
            };
            let (mut scales, mut mins) = ([0; MAX_LANES], [0; MAX_LANES]);
            group.store_f16(found.scale, &mut scales);
            group.store_f16(found.min, &mut mins);
            let (mut inverses, mut bases) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
            group.store(found.inverse, &mut inverses);
            group.store(found.base, &mut bases);
            let strange = found.strange.bits();
            for (lane, out) in out.chunks_exact_mut(Self::BYTES).enumerate() {
                let x = &rows.x.as_chunks::<BLOCK>().0[first + lane];
                if strange >> lane & 1 == 1 {
                    let importance = rows.importance_of(first + lane, BLOCK);
                    let row = (first + lane) * BLOCK / rows.columns;
                    Self::reference(x, importance.map(|importance| (importance, variances[row])), out);
                    continue;
                }
                out[..2].copy_from_slice(&scales[lane].to_le_bytes());
                if MIN {
                    out[2..4].copy_from_slice(&mins[lane].to_le_bytes());
                }
                let (inverse, base) = (lanes.splat(inverses[lane]), lanes.splat(bases[lane]));
                Self::write_levels(lanes, x, inverse, base, &mut out[2 + 2 * MIN as usize..]);
            }
        }
    }

    /// Without importance weights the extremes decide.
    #[inline(always)]
    fn fit<L: Lanes>(lanes: L, x: &[L::V; BLOCK]) -> BlockScales<L::V> {
        let zero = lanes.splat(0.0);
        let (mut min, mut max) = (lanes.splat(f32::MAX), lanes.splat(-f32::MAX));
        let scale = if MIN {
            for &x in x {
                min = x.min(min);
                max = x.max(max);
            }
            (max - min) / lanes.splat(Self::TOP)
        } else {
            signed::largest(lanes, x) / lanes.splat(-Self::LIMIT)
        };
        let inverse = L::V::select(scale.eq(zero), zero, lanes.splat(1.0) / scale);
        let infinity = lanes.splat(f32::INFINITY);
        let strange = !(inverse.abs().lt(infinity) & scale.abs().lt(infinity));
        BlockScales { scale, min, inverse, base: min, strange }
    }

    /// With them there is a search.
    #[inline(always)]
    fn fit_weighted<L: Lanes>(lanes: L, x: &[L::V; BLOCK], weights: &[L::V; BLOCK]) -> BlockScales<L::V> {
        if MIN {
            let search = &const { AffineSearch::weighted(Self::TOP as i32) };
            let affine::ScaleAndMin { scale, min, inverse, base, strange, .. } =
                affine::fit(lanes, search, x, weights);
            return BlockScales { scale, min, inverse, base, strange };
        }
        let found = signed::fit(lanes, x, weights, Self::LIMIT);
        // A NaN makes every level 0 as it is stored.
        let inverse = L::V::select(found.negligible, lanes.splat(f32::NAN), found.inverse);
        BlockScales { scale: found.scale, min: inverse, inverse, base: inverse, strange: found.strange }
    }

    /// The level as it is stored.
    #[inline(always)]
    fn level<L: Lanes>(lanes: L, x: L::V, inverse: L::V, base: L::V) -> L::V {
        let top = lanes.splat(Self::TOP);
        match (MIN, WEIGHTED) {
            (false, false) => (x * inverse + lanes.splat(Self::LIMIT + 0.5)).min(top).trunc(),
            (false, true) => signed::level(lanes, x * inverse, Self::LIMIT) + lanes.splat(Self::LIMIT),
            (true, false) => ((x - base) * inverse + lanes.splat(0.5)).min(top).trunc(),
            (true, true) => limited(lanes, (x - base) * inverse, top),
        }
    }

    /// Two levels a byte, from both halves of the block; the fifth bits before them.
    #[inline(always)]
    fn write_levels<L: Lanes>(lanes: L, x: &[f32; BLOCK], inverse: L::V, base: L::V, out: &mut [u8]) {
        let sixteen = lanes.splat(16.0);
        let (fifth, levels) = out.split_at_mut(4 * FIVE_BITS as usize);
        let mut fifth_bits = 0u64;
        for start in (0..BLOCK / 2).step_by(L::N) {
            let mut low = Self::level(lanes, lanes.load(&x[start..]), inverse, base);
            let mut high = Self::level(lanes, lanes.load(&x[start + BLOCK / 2..]), inverse, base);
            if FIVE_BITS {
                let (low_fifth, high_fifth) = (!low.lt(sixteen), !high.lt(sixteen));
                fifth_bits |= low_fifth.bits() << start | high_fifth.bits() << (start + BLOCK / 2);
                low = L::V::select(low_fifth, low - sixteen, low);
                high = L::V::select(high_fifth, high - sixteen, high);
            }
            lanes.store_bytes(low + high * sixteen, &mut levels[start..]);
        }
        fifth.copy_from_slice(&fifth_bits.to_le_bytes()[..fifth.len()]);
    }

    /// One block in scalar code; with importance weights, and the mean square of the row.
    fn reference(x: &[f32; BLOCK], importance: Option<(&[f32], f32)>, out: &mut [u8]) {
        let weights = importance
            .map(|(importance, variance)| search::search_weights(x, &importance.as_chunks().0[0], variance));
        match (FIVE_BITS, MIN) {
            (false, false) => legacy::q4_0(x, weights.as_ref()).write(out),
            (false, true) => legacy::q4_1(x, weights.as_ref()).write(out),
            (true, false) => legacy::q5_0(x, weights.as_ref()).write(out),
            (true, true) => legacy::q5_1(x, weights.as_ref()).write(out),
        }
    }
}

/// The mean square of every row, a row a lane.
#[inline(always)]
fn mean_squares<L: Lanes>(lanes: L, rows: &Rows) -> Vec<f32> {
    let mut means = Vec::new();
    for group in rows.x.chunks(L::N * rows.columns) {
        let count = group.len() / rows.columns;
        let mut sum = lanes.splat(0.0);
        let mut columns = [sum; BLOCK];
        let mut room = [0.0; MAX_LANES * BLOCK];
        for start in (0..rows.columns).step_by(BLOCK) {
            for (row, out) in group.chunks_exact(rows.columns).zip(room.chunks_exact_mut(BLOCK)) {
                out.copy_from_slice(&row[start..start + BLOCK]);
            }
            lanes.columns(&room, BLOCK, &mut columns);
            for x in columns {
                sum = sum + x * x;
            }
        }
        let mut out = [0.0; MAX_LANES];
        lanes.store(sum / lanes.splat(rows.columns as f32), &mut out);
        means.extend_from_slice(&out[..count]);
    }
    means
}
