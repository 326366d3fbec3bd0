//! Levels as floats: rounded, limited, and for a scale that is stored.

use crate::lanes::{Lanes, Mask, Vector};

/// Where adding and taking away 1.5 * 2^23 rounds to the nearest whole number, a half to the even
/// one: `round::nearest_even` without leaving the floats.
pub(super) const ROUNDS_BELOW: f32 = 4_194_304.0;

#[inline(always)]
pub(super) fn nearest<L: Lanes>(lanes: L, x: L::V) -> L::V {
    let magic = lanes.splat(12_582_912.0);
    x + magic - magic
}

/// The lanes where [`nearest`] is not `round::nearest_even`, which then returns stray bits.
#[inline(always)]
pub(super) fn out_of_range<L: Lanes>(lanes: L, x: L::V) -> <L::V as Vector>::Mask {
    !x.abs().lt(lanes.splat(ROUNDS_BELOW))
}

/// The level nearest to `x` from 0 to `top`; 0 for a NaN. The same as limiting after rounding.
#[inline(always)]
pub(super) fn limited<L: Lanes>(lanes: L, x: L::V, top: L::V) -> L::V {
    nearest(lanes, x.max(lanes.splat(0.0)).min(top))
}

/// Levels from `low` to `high`, which are stored with `low` taken away.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) low: f32,
    pub(super) high: f32,
}

impl Range {
    /// The stored levels of `(x + min) / scale`. False when rounding that needs the scalar code.
    #[inline(always)]
    pub(super) fn levels<L: Lanes>(self, lanes: L, x: &[f32], min: f32, scale: f32, out: &mut [u8]) -> bool {
        self.levels_by_inverse(lanes, x, min, scale, out)
            || self.levels_by_division(lanes, x, min, scale, out)
    }

    /// Multiplies by the inverse instead of dividing, which is many times as fast. The two products
    /// differ by less than 2^-22 of themselves: below 4096 by less than 0.001. So they have the same
    /// nearest number unless one lies that close to a half. False when one does, or is large.
    #[inline(always)]
    fn levels_by_inverse<L: Lanes>(self, lanes: L, x: &[f32], min: f32, scale: f32, out: &mut [u8]) -> bool {
        let (min, inverse) = (lanes.splat(min), lanes.splat(1.0 / scale));
        let (limit, half) = (lanes.splat(4096.0), lanes.splat(0.499));
        let mut certain = inverse.eq(inverse);
        for (x, out) in x.chunks_exact(L::N).zip(out.chunks_exact_mut(L::N)) {
            let quotient = (lanes.load(x) + min) * inverse;
            let level = nearest(lanes, quotient);
            certain = certain & quotient.abs().lt(limit) & (quotient - level).abs().lt(half);
            self.store(lanes, level, out);
        }
        !(!certain).any()
    }

    #[cold]
    #[inline(always)]
    fn levels_by_division<L: Lanes>(self, lanes: L, x: &[f32], min: f32, scale: f32, out: &mut [u8]) -> bool {
        let (min, scale) = (lanes.splat(min), lanes.splat(scale));
        let mut strange = false;
        for (x, out) in x.chunks_exact(L::N).zip(out.chunks_exact_mut(L::N)) {
            let quotient = (lanes.load(x) + min) / scale;
            strange |= out_of_range(lanes, quotient).any();
            self.store(lanes, nearest(lanes, quotient), out);
        }
        !strange
    }

    #[inline(always)]
    fn store<L: Lanes>(self, lanes: L, level: L::V, out: &mut [u8]) {
        let (low, high) = (lanes.splat(self.low), lanes.splat(self.high));
        lanes.store_bytes(level.max(low).min(high) - low, out);
    }
}
