//! Q5_K: Q4_K with another bit a level.

use super::q4_k::{self, fit_sub_blocks};
use super::search::AffineSearch;
use crate::block::Q5_K;
use crate::pack;

pub(crate) const MAX_LEVEL: i32 = 31;

pub(crate) const SEARCH: AffineSearch =
    AffineSearch { max_level: MAX_LEVEL, first: -0.5, steps: 15, ..q4_k::SEARCH };

/// Quantizes one super-block.
pub(crate) fn super_block(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Q5_K {
    let found = fit_sub_blocks(x, importance, &SEARCH);
    // ggml limits these here, and in Q4_K only without importance weights.
    let limited = |numbers: [u8; 8]| numbers.map(|number| number.min(63));
    let packed = pack::scales_and_mins(&limited(found.scales), &limited(found.mins));
    let (scales, mins) = pack::from_scales_and_mins(&packed);
    let levels = found.final_levels::<32>(x, &scales, &mins, MAX_LEVEL);
    Q5_K {
        d: found.d,
        dmin: found.dmin,
        scales: packed,
        high_bits: pack::bit_plane(&levels, 4),
        levels: pack::nibbles::<32, 256, 128>(&levels),
    }
}
