//! Q4_K and Q5_K.

use super::batch::SUPER;
use super::super_block_with_mins::WithMins;
use crate::block::{Q4_K, Q5_K};
use crate::lanes::{Lanes, Vector};
use crate::pack;
use crate::reference::search::AffineSearch;
use crate::reference::super_block_with_mins::SuperBlock;
use crate::reference::{q4_k, q5_k};

impl WithMins<32, 8> for Q4_K {
    const SEARCH: AffineSearch = q4_k::SEARCH;
    const MAX_SCALE: i32 = q4_k::MAX_SCALE;
    const VARIANCE_FACTOR: f32 = 2.0;

    #[inline(always)]
    fn plain_weights<L: Lanes>(lanes: L, x: &[L::V; 32]) -> [L::V; 32] {
        weights(lanes, x)
    }

    #[inline(always)]
    fn pack(block: &SuperBlock<8>) -> Self {
        let scales = pack::scales_and_mins(&block.scales, &block.mins);
        let levels = pack::nibbles::<32, 256, 128>(&block.levels);
        Q4_K { d: block.d, dmin: block.dmin, scales, levels }
    }

    fn reference(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>) -> Self {
        q4_k::super_block(x, importance)
    }
}

impl WithMins<32, 8> for Q5_K {
    const SEARCH: AffineSearch = q5_k::SEARCH;
    const MAX_SCALE: i32 = q4_k::MAX_SCALE;
    const VARIANCE_FACTOR: f32 = 2.0;

    #[inline(always)]
    fn plain_weights<L: Lanes>(lanes: L, x: &[L::V; 32]) -> [L::V; 32] {
        weights(lanes, x)
    }

    #[inline(always)]
    fn pack(block: &SuperBlock<8>) -> Self {
        let scales = pack::scales_and_mins(&block.scales, &block.mins);
        let high_bits = pack::bit_plane(&block.levels, 4);
        let levels = pack::nibbles::<32, 256, 128>(&block.levels);
        Q5_K { d: block.d, dmin: block.dmin, scales, high_bits, levels }
    }

    fn reference(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>) -> Self {
        q5_k::super_block(x, importance)
    }
}

/// Large weights count more, small ones do not count for nothing.
#[inline(always)]
fn weights<L: Lanes>(lanes: L, x: &[L::V; 32]) -> [L::V; 32] {
    let mut sum = lanes.splat(0.0);
    for &x in x {
        sum = sum + x * x;
    }
    let root_mean_square = (sum * lanes.splat(1.0 / 32.0)).sqrt();
    let mut weights = *x;
    for weight in &mut weights {
        *weight = root_mean_square + weight.abs();
    }
    weights
}
