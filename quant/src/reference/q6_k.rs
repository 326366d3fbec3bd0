//! Q6_K.

use super::search::{NEGLIGIBLE, fit_signed, largest};
use super::signed_super_block::{fit_sub_blocks, set_final_levels};
use crate::block::Q6_K;
use crate::pack;
use crate::round::{from_half, nearest_even, to_half};

/// Levels lie between -32 and 31.
pub(crate) const LIMIT: i32 = 32;

/// Quantizes one super-block. The importance weights are the search's weights as they are.
pub(crate) fn super_block(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Q6_K {
    let importance = importance.map(|importance| importance.as_chunks().0);
    let (scales, mut levels) = fit_sub_blocks(x, |j, x| {
        let weights = importance.map_or_else(|| x.map(|x| x * x), |importance| importance[j]);
        fit_signed(x, &weights, LIMIT)
    });
    let Some((d, scales)) = quantize_scales(&scales) else {
        return Q6_K { levels: [0; 128], high_bits: [0; 64], scales: [0; 16], d: [0; 2] };
    };
    let final_scales = scales.map(|scale| from_half(d) * f32::from(scale));
    set_final_levels(&mut levels, x, &final_scales, LIMIT);
    let (low, high_bits) = pack::six_bits(&levels);
    Q6_K { levels: low, high_bits, scales: scales.map(|scale| scale as u8), d }
}

/// The unit of the scales, and the scales in that unit. `None`: all are next to nothing.
pub(crate) fn quantize_scales(scales: &[f32; 16]) -> Option<([u8; 2], [i8; 16])> {
    let largest = largest(scales);
    if largest.abs() < NEGLIGIBLE {
        return None;
    }
    let inverse = -128.0 / largest;
    Some((to_half(1.0 / inverse), scales.map(|scale| nearest_even(inverse * scale).min(127) as i8)))
}
