//! What Q3_K and Q6_K share: 16 sub-blocks of 16 weights, each with a scale and no min.

use super::search::Signed;
use crate::round::nearest_even;

/// Every sub-block's own scale and levels; `fit` gets the number of the sub-block.
pub(super) fn fit_sub_blocks(
    x: &[f32; 256],
    fit: impl Fn(usize, &[f32; 16]) -> Signed<16>,
) -> ([f32; 16], [u8; 256]) {
    let mut scales = [0.0; 16];
    let mut levels = [0; 256];
    for (j, (x, levels)) in x.as_chunks().0.iter().zip(levels.as_chunks_mut().0).enumerate() {
        Signed { scale: scales[j], levels: *levels } = fit(j, x);
    }
    (scales, levels)
}

/// Takes the levels anew for the scales that a reader will see. A sub-block whose scale has become 0
/// keeps the levels of the search.
pub(super) fn set_final_levels(levels: &mut [u8; 256], x: &[f32; 256], scales: &[f32; 16], limit: i32) {
    for ((x, levels), &scale) in x.as_chunks::<16>().0.iter().zip(levels.as_chunks_mut().0).zip(scales) {
        if scale != 0.0 {
            *levels = x.map(|x| (nearest_even(x / scale).clamp(-limit, limit - 1) + limit) as u8);
        }
    }
}
