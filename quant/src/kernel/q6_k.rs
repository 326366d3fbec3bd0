//! Q6_K.

use super::batch::{BATCH, Batch, SUPER};
use super::signed;
use super::signed_super_block::{Scales, SubBlocks, WithoutMins, columns};
use crate::block::Q6_K;
use crate::lanes::Lanes;
use crate::pack;
use crate::reference::q6_k;

impl WithoutMins for Q6_K {
    const LIMIT: i32 = q6_k::LIMIT;

    #[inline(always)]
    fn fit<L: Lanes>(lanes: L, batch: &Batch, found: &mut SubBlocks) {
        for first in batch.groups(L::N, 16) {
            let x = columns(lanes, batch.x, first);
            let weights = match batch.importance {
                Some(importance) => columns(lanes, importance, first),
                None => {
                    let mut squares = x;
                    for square in &mut squares {
                        *square = *square * *square;
                    }
                    squares
                }
            };
            found.set(lanes, first, &signed::fit(lanes, &x, &weights, Self::LIMIT as f32));
        }
    }

    #[inline(always)]
    fn quantize_scales<L: Lanes>(_: L, batch: &Batch, found: &mut SubBlocks) -> [Scales; BATCH] {
        let mut all = [Scales::default(); BATCH];
        for (scales, out) in found.scales.as_chunks().0.iter().zip(&mut all).take(batch.count) {
            // Where all are next to nothing the block is zeros, which the scalar code sees to.
            if let Some((d, numbers)) = q6_k::quantize_scales(scales) {
                *out = Scales { d, numbers };
            }
        }
        all
    }

    #[inline(always)]
    fn pack(scales: &Scales, levels: &[u8; SUPER]) -> Self {
        let (low, high_bits) = pack::six_bits(levels);
        Q6_K { levels: low, high_bits, scales: scales.numbers.map(|scale| scale as u8), d: scales.d }
    }

    fn reference(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>) -> Self {
        q6_k::super_block(x, importance)
    }
}
