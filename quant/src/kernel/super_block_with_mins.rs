//! What Q2_K, Q4_K and Q5_K share: `COUNT` sub-blocks of `LEN` weights, each with a scale and a min. ggml's
//! `quantize_row_q4_K_ref` and, with importance weights, `quantize_row_q4_K_impl`, and their kin for the other two.
//!
//! It goes in three steps. First, every sub-block gets the scale and the min that fit its weights best (`affine.rs`,
//! one sub-block a lane). Second, the super-block's scales are themselves stored as numbers of 4 or 6 bits times one
//! half-float, and so are its mins: without importance weights the largest decides, with them there is a search
//! (`positive.rs`, one super-block a lane). Third, what is stored differs a little from what was found, so the levels
//! of all weights are made once more, for the scales and mins as they will be read.
//!
//! Rows run together in batches of as many super-blocks as the widest group has lanes, so that the second step too
//! fills its lanes. Whatever a kernel cannot do as the scalar program does it (a scale of 0, numbers that leave the
//! range of its rounding) it leaves to the reference, for the whole super-block.

use std::marker::PhantomData;

use super::batch::{
    BATCH, Batch, Buffer, Flags, SUB_BLOCKS, SUPER, by_sub_block, by_super_block, search_weights, spread,
    sums_of_squares,
};
use super::level::Range;
use super::{affine, positive};
use crate::Rows;
use crate::block::Block;
use crate::lanes::{Kernel, Lanes};
use crate::reference::search::{AffineSearch, proportional};
use crate::reference::super_block_with_mins::SuperBlock;
use crate::round::{from_half, to_half};

/// What tells the formats apart.
pub(super) trait WithMins<const LEN: usize, const COUNT: usize>: Block {
    const SEARCH: AffineSearch;
    const MAX_SCALE: i32;
    /// The variance of the search weights is this times the mean square of the super-block.
    const VARIANCE_FACTOR: f32;

    /// The weights of the search without importance weights.
    fn plain_weights<L: Lanes>(lanes: L, x: &[L::V; LEN]) -> [L::V; LEN];
    /// Packs a block whose scales and mins are at most `MAX_SCALE`.
    fn pack(block: &SuperBlock<COUNT>) -> Self;
    /// The scalar code, for the few super-blocks that leave the kernel's way.
    fn reference(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>) -> Self;
}

/// Quantizes rows to one of the formats.
pub(super) struct Quantize<'a, F, const LEN: usize, const COUNT: usize> {
    pub(super) rows: Rows<'a>,
    pub(super) out: &'a mut [u8],
    pub(super) format: PhantomData<F>,
}

impl<const LEN: usize, const COUNT: usize, F: WithMins<LEN, COUNT>> Kernel for Quantize<'_, F, LEN, COUNT> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let mut buffer = Buffer::new(&self.rows);
        for (i, out) in self.out.chunks_mut(BATCH * F::BYTES).enumerate() {
            let batch = buffer.weights(&self.rows, i * BATCH, out.len() / F::BYTES);
            let mut found = SubBlocks::new();
            found.fit::<_, LEN, COUNT, F>(lanes.group(), &batch);
            let (scales, mins) = if batch.importance.is_some() {
                found.search_scales::<_, COUNT>(lanes.group(), batch.count, F::MAX_SCALE)
            } else {
                found.proportional_scales::<COUNT>(batch.count, F::MAX_SCALE)
            };
            for (i, out) in out.chunks_exact_mut(F::BYTES).enumerate() {
                let (x, importance) = batch.super_block(i);
                let mut block = SuperBlock {
                    d: to_half(scales.unit[i]),
                    dmin: to_half(mins.unit[i]),
                    scales: scales.numbers.as_chunks().0[i],
                    mins: mins.numbers.as_chunks().0[i],
                    levels: [0; SUPER],
                };
                if found.levels::<_, LEN, COUNT, F>(lanes, i, x, &mut block) {
                    F::pack(&block).write(out);
                } else {
                    F::reference(x, importance).write(out);
                }
            }
        }
    }
}

/// What the search finds for the sub-blocks of a batch.
struct SubBlocks {
    scales: [f32; SUB_BLOCKS],
    mins: [f32; SUB_BLOCKS],
    /// Sums of the sub-blocks' weights, where there are importance weights.
    weights: [f32; SUB_BLOCKS],
    flat: Flags,
    strange: Flags,
}

/// The scales, or the mins, of the super-blocks of a batch.
struct Numbers {
    unit: [f32; BATCH],
    /// In that unit.
    numbers: [u8; SUB_BLOCKS],
}

impl Numbers {
    const NONE: Numbers = Numbers { unit: [0.0; BATCH], numbers: [0; SUB_BLOCKS] };
}

impl SubBlocks {
    #[inline(always)]
    fn new() -> SubBlocks {
        let none = [0.0; SUB_BLOCKS];
        SubBlocks { scales: none, mins: none, weights: none, flat: Flags::NONE, strange: Flags::NONE }
    }

    /// Fits a scale and a min to every sub-block, one a lane.
    #[inline(always)]
    fn fit<L: Lanes, const LEN: usize, const COUNT: usize, F: WithMins<LEN, COUNT>>(
        &mut self,
        lanes: L,
        batch: &Batch,
    ) {
        let zero = lanes.splat(0.0);
        let squares = if batch.importance.is_some() { sums_of_squares(lanes, batch) } else { [0.0; BATCH] };
        for first in batch.groups(L::N, COUNT) {
            let mut x = [zero; LEN];
            lanes.columns(&batch.x[first * LEN..], LEN, &mut x);
            let found = if let Some(importance) = batch.importance {
                let mut columns = [zero; LEN];
                lanes.columns(&importance[first * LEN..], LEN, &mut columns);
                let squares = spread(lanes, &squares, first, COUNT);
                let variance = lanes.splat(F::VARIANCE_FACTOR) * squares * lanes.splat(1.0 / SUPER as f32);
                let weights = search_weights::<L, LEN>(&x, &columns, variance);
                let mut sum = zero;
                for weight in weights {
                    sum = sum + weight;
                }
                lanes.store(sum, &mut self.weights[first..]);
                affine::fit(lanes, &const { AffineSearch::weighted(F::SEARCH.max_level) }, &x, &weights)
            } else {
                affine::fit(lanes, &F::SEARCH, &x, &F::plain_weights(lanes, &x))
            };
            lanes.store(found.scale, &mut self.scales[first..]);
            lanes.store(zero - found.min, &mut self.mins[first..]);
            self.flat.set(first, found.flat);
            self.strange.set(first, found.strange);
        }
    }

    /// Without importance weights the largest scale of a super-block decides.
    #[inline(always)]
    fn proportional_scales<const COUNT: usize>(&self, count: usize, max: i32) -> (Numbers, Numbers) {
        let (mut scales, mut mins) = (Numbers::NONE, Numbers::NONE);
        for i in 0..count {
            for (from, to) in [(&self.scales, &mut scales), (&self.mins, &mut mins)] {
                (to.unit[i], to.numbers.as_chunks_mut::<COUNT>().0[i]) =
                    proportional(&from.as_chunks().0[i], max);
            }
        }
        (scales, mins)
    }

    /// With importance weights there is a search, which takes one super-block a lane.
    #[inline(always)]
    fn search_scales<L: Lanes, const COUNT: usize>(
        &mut self,
        lanes: L,
        count: usize,
        max: i32,
    ) -> (Numbers, Numbers) {
        let (mut scales, mut mins) = (Numbers::NONE, Numbers::NONE);
        for first in (0..count).step_by(L::N) {
            let start = first * COUNT;
            let weights = by_super_block::<L, COUNT>(lanes, &self.weights[start..]);
            for (from, to) in [(&self.scales, &mut scales), (&self.mins, &mut mins)] {
                let x = by_super_block::<L, COUNT>(lanes, &from[start..]);
                let found = positive::fit(lanes, &x, &weights, max as f32);
                lanes.store(found.scale, &mut to.unit[first..]);
                by_sub_block(lanes, &found.levels, &mut to.numbers[start..]);
                self.strange.set_super_blocks::<COUNT>(start, L::N, found.strange);
            }
        }
        (scales, mins)
    }

    /// The levels for the scales and mins as they are stored. False when only the scalar code knows:
    /// a search gone astray, or a sub-block with a scale of 0, which keeps the levels of the search.
    #[inline(always)]
    fn levels<L: Lanes, const LEN: usize, const COUNT: usize, F: WithMins<LEN, COUNT>>(
        &self,
        lanes: L,
        i: usize,
        x: &[f32; SUPER],
        block: &mut SuperBlock<COUNT>,
    ) -> bool {
        let (d, dmin) = (from_half(block.d), from_half(block.dmin));
        let (mut scales, mut mins) = ([0.0; COUNT], [0.0; COUNT]);
        let (mut zero, mut fits) = (0, true);
        for j in 0..COUNT {
            scales[j] = d * f32::from(block.scales[j]);
            mins[j] = dmin * f32::from(block.mins[j]);
            zero |= u64::from(scales[j] == 0.0) << j;
            fits &= i32::from(block.scales[j].max(block.mins[j])) <= F::MAX_SCALE;
        }
        let strange = self.strange.of_super_block::<COUNT>(i) != 0;
        if strange || !fits || zero & !self.flat.of_super_block::<COUNT>(i) != 0 {
            return false;
        }
        let range = Range { low: 0.0, high: F::SEARCH.max_level as f32 };
        range.levels::<L, LEN, COUNT>(lanes, x, &mins, &mut scales, zero, &mut block.levels)
    }
}
