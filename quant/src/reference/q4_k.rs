//! Q4_K, and what Q5_K has in common with it.

use super::search::{AffineSearch, sum_of_squares};
use super::super_block_with_mins::{SuperBlock, fit, fit_weighted};
use crate::block::Q4_K;
use crate::pack;

pub(crate) const MAX_LEVEL: i32 = 15;
pub(crate) const MAX_SCALE: i32 = 63;

pub(crate) const SEARCH: AffineSearch = AffineSearch {
    max_level: MAX_LEVEL,
    first: -1.0,
    step: 0.1,
    steps: 20,
    absolute: false,
    limit_first: false,
};

/// Quantizes one super-block.
pub(crate) fn super_block(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Q4_K {
    let found = fit_sub_blocks(x, importance, &SEARCH);
    let packed = pack::scales_and_mins(&found.scales, &found.mins);
    let (scales, mins) = pack::from_scales_and_mins(&packed);
    let levels = found.final_levels::<32>(x, &scales, &mins, MAX_LEVEL);
    Q4_K { d: found.d, dmin: found.dmin, scales: packed, levels: pack::nibbles::<32, 256, 128>(&levels) }
}

/// Eight sub-blocks with scales and mins of 6 bits.
pub(super) fn fit_sub_blocks(
    x: &[f32; 256],
    importance: Option<&[f32; 256]>,
    search: &AffineSearch,
) -> SuperBlock<8> {
    match importance {
        None => {
            let mut found = fit(x, search, MAX_SCALE, plain_weights);
            found.scales = found.scales.map(|scale| scale.min(MAX_SCALE as u8));
            found.mins = found.mins.map(|min| min.min(MAX_SCALE as u8));
            found
        }
        Some(importance) => {
            let variance = 2.0 * sum_of_squares(x) / 256.0;
            let search = AffineSearch::weighted(search.max_level);
            fit_weighted::<32, 8>(x, importance, variance, &search, MAX_SCALE)
        }
    }
}

/// Large weights count more, small ones do not count for nothing.
fn plain_weights(x: &[f32; 32]) -> [f32; 32] {
    let root_mean_square = (sum_of_squares(x) / 32.0).sqrt();
    x.map(|x| root_mean_square + x.abs())
}
