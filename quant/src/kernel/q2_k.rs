//! Q2_K.

use super::batch::SUPER;
use super::super_block_with_mins::WithMins;
use crate::block::Q2_K;
use crate::lanes::{Lanes, Vector};
use crate::pack;
use crate::reference::q2_k;
use crate::reference::search::AffineSearch;
use crate::reference::super_block_with_mins::SuperBlock;

impl WithMins<16, 16> for Q2_K {
    const SEARCH: AffineSearch = q2_k::SEARCH;
    const MAX_SCALE: i32 = q2_k::MAX_SCALE;
    const VARIANCE_FACTOR: f32 = 1.0;

    #[inline(always)]
    fn plain_weights<L: Lanes>(_: L, x: &[L::V; 16]) -> [L::V; 16] {
        let mut weights = *x;
        for weight in &mut weights {
            *weight = weight.abs();
        }
        weights
    }

    #[inline(always)]
    fn pack(block: &SuperBlock<16>) -> Self {
        let mut scales = block.scales;
        for (scale, min) in scales.iter_mut().zip(&block.mins) {
            *scale |= min << 4;
        }
        Q2_K { scales, levels: pack::bit_pairs(&block.levels), d: block.d, dmin: block.dmin }
    }

    fn reference(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>) -> Self {
        q2_k::super_block(x, importance)
    }
}
