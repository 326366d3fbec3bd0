//! Q2_K.

use super::q5_k;
use super::search::{AffineSearch, sum_of_squares};
use super::super_block_with_mins::{fit, fit_weighted};
use crate::block::Q2_K;
use crate::pack;

pub(crate) const MAX_LEVEL: i32 = 3;
pub(crate) const MAX_SCALE: i32 = 15;

/// Absolute errors: with four levels, squares would let outliers decide.
pub(crate) const SEARCH: AffineSearch = AffineSearch { max_level: MAX_LEVEL, absolute: true, ..q5_k::SEARCH };

/// Quantizes one super-block.
pub(crate) fn super_block(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Q2_K {
    let found = match importance {
        None => fit::<16, 16>(x, &SEARCH, MAX_SCALE, |x| x.map(f32::abs)),
        Some(importance) => {
            let variance = sum_of_squares(x) / 256.0;
            fit_weighted::<16, 16>(x, importance, variance, &AffineSearch::weighted(MAX_LEVEL), MAX_SCALE)
        }
    };
    let packed = std::array::from_fn(|j| found.scales[j] | found.mins[j] << 4);
    let (scales, mins) = (packed.map(|byte| byte & 15), packed.map(|byte| byte >> 4));
    let levels = found.final_levels::<16>(x, &scales, &mins, MAX_LEVEL);
    Q2_K { scales: packed, levels: pack::bit_pairs(&levels), d: found.d, dmin: found.dmin }
}
