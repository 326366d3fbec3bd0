//! Q3_K.

use super::search::{fit_signed, fit_signed_by_exchange, largest, search_weights, sum, sum_of_squares};
use super::signed_super_block::{fit_sub_blocks, set_final_levels};
use crate::block::Q3_K;
use crate::pack;
use crate::round::{from_half, nearest_even, to_half};

/// Levels lie between -4 and 3.
pub(crate) const LIMIT: i32 = 4;
/// Scales lie between -32 and 31.
pub(crate) const SCALE_LIMIT: i32 = 32;

/// Quantizes one super-block.
pub(crate) fn super_block(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Q3_K {
    let (d, scales, mut levels) = match importance {
        None => {
            let (scales, levels) = fit_sub_blocks(x, |_, x| fit_signed_by_exchange(x, LIMIT));
            let (d, scales) = quantize_scales(&scales);
            (d, scales, levels)
        }
        Some(importance) => fit_weighted(x, importance),
    };
    let d = to_half(d);
    let final_scales = scales.map(|scale| from_half(d) * (i32::from(scale) - SCALE_LIMIT) as f32);
    set_final_levels(&mut levels, x, &final_scales, LIMIT);
    Q3_K {
        high_bits: pack::bit_plane(&levels, 2),
        levels: pack::bit_pairs(&levels),
        scales: pack::sixteen_scales(&scales),
        d,
    }
}

/// The unit of the scales, and the scales in that unit with `SCALE_LIMIT` added.
pub(crate) fn quantize_scales(scales: &[f32; 16]) -> (f32, [u8; 16]) {
    let largest = largest(scales);
    if largest == 0.0 {
        return (0.0, [0; 16]);
    }
    let inverse = -32.0 / largest;
    let numbers = scales.map(|scale| {
        let number = i32::from(nearest_even(inverse * scale) as i8);
        (number.clamp(-SCALE_LIMIT, SCALE_LIMIT - 1) + SCALE_LIMIT) as u8
    });
    (1.0 / inverse, numbers)
}

/// With importance weights the scales are searched for just as the levels are.
fn fit_weighted(x: &[f32; 256], importance: &[f32; 256]) -> (f32, [u8; 16], [u8; 256]) {
    let variance = 2.0 * sum_of_squares(x) / 256.0;
    let importance = importance.as_chunks().0;
    let weights_of = |j: usize, x: &[f32; 16]| search_weights(x, &importance[j], variance);
    let (scales, levels) = fit_sub_blocks(x, |j, x| fit_signed(x, &weights_of(j, x), LIMIT));

    let x = x.as_chunks().0;
    let weights = std::array::from_fn(|j| sum(weights_of(j, &x[j])));
    let scales = fit_signed(&scales, &weights, SCALE_LIMIT);
    (scales.scale, scales.levels, levels)
}
