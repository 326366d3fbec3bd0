//! Q3_K.

use super::batch::{
    BATCH, Batch, SUPER, by_sub_block, by_super_block, search_weights, spread, sums_of_squares,
};
use super::signed;
use super::signed_super_block::{Scales, SubBlocks, WithoutMins, columns};
use crate::block::Q3_K;
use crate::lanes::{Lanes, Pair, Vector};
use crate::pack;
use crate::reference::q3_k;
use crate::round::to_half;

impl WithoutMins for Q3_K {
    const LIMIT: i32 = q3_k::LIMIT;

    #[inline(always)]
    fn fit<L: Lanes>(lanes: L, batch: &Batch, found: &mut SubBlocks) {
        let limit = Self::LIMIT as f32;
        let Some(importance) = batch.importance else {
            // Every exchange waits for the one before: more groups side by side fill the time.
            let lanes = Pair(lanes, lanes);
            for first in batch.groups(2 * L::N, 16) {
                let x = columns(lanes, batch.x, first);
                found.set(lanes, first, &signed::fit_by_exchange(lanes, &x, limit));
            }
            return;
        };
        let squares = sums_of_squares(lanes, batch);
        for first in batch.groups(L::N, 16) {
            let x = columns(lanes, batch.x, first);
            let squares = spread(lanes, &squares, first, 16);
            let variance = lanes.splat(2.0) * squares * lanes.splat(1.0 / SUPER as f32);
            let weights = search_weights::<L, 16>(&x, &columns(lanes, importance, first), variance);
            let mut sum = lanes.splat(0.0);
            for weight in weights {
                sum = sum + weight;
            }
            lanes.store(sum, &mut found.weights[first..]);
            found.set(lanes, first, &signed::fit(lanes, &x, &weights, limit));
        }
    }

    #[inline(always)]
    fn quantize_scales<L: Lanes>(lanes: L, batch: &Batch, found: &mut SubBlocks) -> [Scales; BATCH] {
        let limit = q3_k::SCALE_LIMIT as f32;
        let mut units = [0.0; BATCH];
        let mut numbers = [[0; 16]; BATCH];
        if batch.importance.is_none() {
            for i in 0..batch.count {
                (units[i], numbers[i]) = q3_k::quantize_scales(&found.scales.as_chunks().0[i]);
            }
        } else {
            for first in (0..batch.count).step_by(L::N) {
                let scales = by_super_block::<L, 16>(lanes, &found.scales[first * 16..]);
                let weights = by_super_block::<L, 16>(lanes, &found.weights[first * 16..]);
                let fitted = signed::fit(lanes, &scales, &weights, limit);
                lanes.store(fitted.scale, &mut units[first..]);
                let mut strange = fitted.strange;
                let mut levels = scales;
                for level in &mut levels {
                    strange = strange | !level.abs().lt(lanes.splat(f32::INFINITY));
                    let stored = signed::level(lanes, fitted.inverse * *level, limit) + lanes.splat(limit);
                    *level = L::V::select(fitted.negligible, lanes.splat(0.0), stored);
                }
                by_sub_block(lanes, &levels, numbers[first..].as_flattened_mut());
                found.strange.set_super_blocks::<16>(first * 16, L::N, strange);
            }
        }
        let mut all = [Scales::default(); BATCH];
        for ((out, unit), numbers) in all.iter_mut().zip(units).zip(numbers) {
            *out = Scales {
                d: to_half(unit),
                numbers: numbers.map(|number| (i32::from(number) - q3_k::SCALE_LIMIT) as i8),
            };
        }
        all
    }

    #[inline(always)]
    fn pack(scales: &Scales, levels: &[u8; SUPER]) -> Self {
        let stored = scales.numbers.map(|number| (i32::from(number) + q3_k::SCALE_LIMIT) as u8);
        Q3_K {
            high_bits: pack::bit_plane(levels, 2),
            levels: pack::bit_pairs(levels),
            scales: pack::sixteen_scales(&stored),
            d: scales.d,
        }
    }

    fn reference(x: &[f32; SUPER], importance: Option<&[f32; SUPER]>) -> Self {
        q3_k::super_block(x, importance)
    }
}
