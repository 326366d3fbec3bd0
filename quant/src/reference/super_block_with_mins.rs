//! What Q2_K, Q4_K and Q5_K share: `COUNT` sub-blocks of `LEN` weights, each with a scale and a min.
//!
//! First every sub-block finds its own scale and min. These are then quantized themselves, and the
//! levels are taken anew for the scales and mins that a reader will see.

use super::search::{Affine, AffineSearch, fit_positive, proportional, search_weights, sum};
use crate::round::{from_half, nearest_even, to_half};

/// A super-block before it is packed.
pub(crate) struct SuperBlock<const COUNT: usize> {
    /// The unit of the scales, in half precision.
    pub(crate) d: [u8; 2],
    /// The unit of the mins, in half precision.
    pub(crate) dmin: [u8; 2],
    /// The sub-blocks' scales, in units of `d`.
    pub(crate) scales: [u8; COUNT],
    /// The sub-blocks' mins, in units of `dmin`.
    pub(crate) mins: [u8; COUNT],
    /// The levels as the search found them.
    pub(crate) levels: [u8; 256],
}

/// Without importance weights: `weights` makes a sub-block's own.
pub(crate) fn fit<const LEN: usize, const COUNT: usize>(
    x: &[f32; 256],
    search: &AffineSearch,
    max_scale: i32,
    weights: impl Fn(&[f32; LEN]) -> [f32; LEN],
) -> SuperBlock<COUNT> {
    let sub_blocks = SubBlocks::fit(x, search, |_, x: &[f32; LEN]| weights(x));
    let (d, scales) = proportional(&sub_blocks.scales, max_scale);
    let (dmin, mins) = proportional(&sub_blocks.mins, max_scale);
    SuperBlock { d: to_half(d), dmin: to_half(dmin), scales, mins, levels: sub_blocks.levels }
}

/// With importance weights; a sub-block counts by the sum of its weights.
pub(crate) fn fit_weighted<const LEN: usize, const COUNT: usize>(
    x: &[f32; 256],
    importance: &[f32; 256],
    variance: f32,
    search: &AffineSearch,
    max_scale: i32,
) -> SuperBlock<COUNT> {
    let importance = importance.as_chunks().0;
    let sub_blocks =
        SubBlocks::fit(x, search, |j, x: &[f32; LEN]| search_weights(x, &importance[j], variance));
    let (d, scales) = fit_positive(&sub_blocks.scales, &sub_blocks.weights, max_scale);
    let (dmin, mins) = fit_positive(&sub_blocks.mins, &sub_blocks.weights, max_scale);
    SuperBlock { d: to_half(d), dmin: to_half(dmin), scales, mins, levels: sub_blocks.levels }
}

struct SubBlocks<const COUNT: usize> {
    scales: [f32; COUNT],
    mins: [f32; COUNT],
    /// Sums of the sub-blocks' weights.
    weights: [f32; COUNT],
    levels: [u8; 256],
}

impl<const COUNT: usize> SubBlocks<COUNT> {
    fn fit<const LEN: usize>(
        x: &[f32; 256],
        search: &AffineSearch,
        weights_of: impl Fn(usize, &[f32; LEN]) -> [f32; LEN],
    ) -> SubBlocks<COUNT> {
        const { assert!(LEN * COUNT == 256) };
        let (mut scales, mut mins, mut weights) = ([0.0; COUNT], [0.0; COUNT], [0.0; COUNT]);
        let mut levels = [0; 256];
        for (j, (x, out)) in x.as_chunks().0.iter().zip(levels.as_chunks_mut().0).enumerate() {
            let own = weights_of(j, x);
            weights[j] = sum(own);
            Affine { scale: scales[j], min: mins[j], levels: *out } = search.fit(x, &own);
        }
        SubBlocks { scales, mins, weights, levels }
    }
}

impl<const COUNT: usize> SuperBlock<COUNT> {
    /// The levels for the scales and mins as they are stored (`scales`, `mins`: read back from the
    /// packed ones). A sub-block whose scale has become 0 keeps the levels of the search.
    pub(crate) fn final_levels<const LEN: usize>(
        &self,
        x: &[f32; 256],
        scales: &[u8; COUNT],
        mins: &[u8; COUNT],
        max_level: i32,
    ) -> [u8; 256] {
        const { assert!(LEN * COUNT == 256) };
        let mut levels = self.levels;
        for (j, (x, levels)) in x.as_chunks::<LEN>().0.iter().zip(levels.as_chunks_mut::<LEN>().0).enumerate()
        {
            let scale = from_half(self.d) * f32::from(scales[j]);
            let min = from_half(self.dmin) * f32::from(mins[j]);
            if scale != 0.0 {
                *levels = x.map(|x| nearest_even((x + min) / scale).clamp(0, max_level) as u8);
            }
        }
        levels
    }
}
