//! What Q3_K and Q6_K share: 16 sub-blocks of 16 weights, each with a scale and no min. ggml's `quantize_row_q3_K_ref`
//! and `quantize_row_q6_K_ref`, or `_impl` with importance weights.
//!
//! Every sub-block gets its best scale (`signed.rs`, one sub-block a lane); the scales are stored as numbers times one
//! half-float; and the levels are made once more, for the scales as they will be read.

use std::marker::PhantomData;

use super::batch::{BATCH, Batch, Buffer, Flags, SUB_BLOCKS, SUPER};
use super::level::Range;
use super::signed;
use crate::Rows;
use crate::block::Block;
use crate::lanes::{Kernel, Lanes};

/// What tells the formats apart.
pub(super) trait WithoutMins: Block {
    /// Levels lie from `-LIMIT` to `LIMIT - 1`.
    const LIMIT: i32;

    /// Fits a scale to every sub-block of a batch.
    fn fit<L: Lanes>(lanes: L, batch: &Batch, found: &mut SubBlocks);
    /// The scales of every super-block as they are stored; for the scalar code where they are `strange`.
    fn quantize_scales<L: Lanes>(lanes: L, batch: &Batch, found: &mut SubBlocks) -> [Scales; BATCH];
    /// Packs a block.
    fn pack(scales: &Scales, levels: &[u8; SUPER]) -> Self;
    /// The scalar code, for the few super-blocks that leave the kernel's way.
    fn reference(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>) -> Self;
}

/// The scales of a super-block as they are stored.
#[derive(Clone, Copy, Default)]
pub(super) struct Scales {
    /// The unit, in half precision.
    pub(super) d: [u8; 2],
    /// In that unit, with their signs.
    pub(super) numbers: [i8; 16],
}

/// What the search finds for the sub-blocks of a batch.
pub(super) struct SubBlocks {
    pub(super) scales: [f32; SUB_BLOCKS],
    /// Sums of the sub-blocks' weights, where they matter.
    pub(super) weights: [f32; SUB_BLOCKS],
    /// Sub-blocks next to nothing, whose levels are stored as 0.
    pub(super) negligible: Flags,
    pub(super) strange: Flags,
}

/// Quantizes rows to one of the formats.
pub(super) struct Quantize<'a, F> {
    pub(super) rows: Rows<'a>,
    pub(super) out: &'a mut [u8],
    pub(super) format: PhantomData<F>,
}

impl<F: WithoutMins> Kernel for Quantize<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let mut buffer = Buffer::new(&self.rows);
        for (i, out) in self.out.chunks_mut(BATCH * F::BYTES).enumerate() {
            let batch = buffer.weights(&self.rows, i * BATCH, out.len() / F::BYTES);
            let mut found = SubBlocks {
                scales: [0.0; SUB_BLOCKS],
                weights: [0.0; SUB_BLOCKS],
                negligible: Flags::NONE,
                strange: Flags::NONE,
            };
            F::fit(lanes.group(), &batch, &mut found);
            let scales = F::quantize_scales(lanes.group(), &batch, &mut found);
            for (i, out) in out.chunks_exact_mut(F::BYTES).enumerate() {
                let (x, importance) = batch.super_block(i);
                let mut levels = [0; SUPER];
                if found.levels::<L, F>(lanes, i, x, &scales[i], &mut levels) {
                    F::pack(&scales[i], &levels).write(out);
                } else {
                    F::reference(x, importance).write(out);
                }
            }
        }
    }
}

impl SubBlocks {
    /// Keeps what the search found for a group of sub-blocks from `first` on.
    #[inline(always)]
    pub(super) fn set<L: Lanes>(&mut self, lanes: L, first: usize, found: &signed::SignedFit<L::V>) {
        lanes.store(found.scale, &mut self.scales[first..]);
        self.negligible.set(first, found.negligible);
        self.strange.set(first, found.strange);
    }

    /// The levels for the scales as they are stored. False when only the scalar code knows: a search
    /// gone astray, or a sub-block with a scale of 0, which keeps the levels of the search.
    #[inline(always)]
    fn levels<L: Lanes, F: WithoutMins>(
        &self,
        lanes: L,
        i: usize,
        x: &[f32; SUPER],
        scales: &Scales,
        levels: &mut [u8; SUPER],
    ) -> bool {
        let d = crate::round::from_half(scales.d);
        let mut zero = 0;
        let mut products = [0.0; 16];
        for (j, (product, &number)) in products.iter_mut().zip(&scales.numbers).enumerate() {
            *product = d * f32::from(number);
            zero |= u64::from(*product == 0.0) << j;
        }
        let strange = self.strange.of_super_block::<16>(i) != 0;
        if strange || zero & !self.negligible.of_super_block::<16>(i) != 0 {
            return false;
        }
        let range = Range { low: -F::LIMIT as f32, high: (F::LIMIT - 1) as f32 };
        range.levels::<L, 16, 16>(lanes, x, &[0.0; 16], &mut products, zero, levels)
    }
}

/// The 16 weights of the sub-blocks from `first` on, one a lane.
#[inline(always)]
pub(super) fn columns<L: Lanes>(lanes: L, x: &[f32], first: usize) -> [L::V; 16] {
    let mut columns = [lanes.splat(0.0); 16];
    lanes.columns(&x[first * 16..], 16, &mut columns);
    columns
}
