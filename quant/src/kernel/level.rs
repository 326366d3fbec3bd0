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
    /// The stored levels of `(x + min) / scale` in all sub-blocks of `LEN` weights, and zeros in those
    /// with a bit in `zero`. False when one is out of the range of the rounding: it needs the scalar code.
    #[inline(always)]
    pub(super) fn levels<L: Lanes, const LEN: usize, const COUNT: usize>(
        self,
        lanes: L,
        x: &[f32; 256],
        mins: &[f32; COUNT],
        scales: &mut [f32; COUNT],
        zero: u64,
        out: &mut [u8; 256],
    ) -> bool {
        if zero != 0 {
            for (_, scale) in scales.iter_mut().enumerate().filter(|(j, _)| zero >> j & 1 == 1) {
                *scale = f32::INFINITY; // only to stay out of the others' way
            }
        }
        let done = self.by_inverse::<L, LEN, COUNT>(lanes, x, mins, scales, out)
            || self.by_division::<L, LEN, COUNT>(lanes, x, mins, scales, out);
        if zero != 0 {
            for (j, out) in out.as_chunks_mut::<LEN>().0.iter_mut().enumerate() {
                if zero >> j & 1 == 1 {
                    out.fill(0);
                }
            }
        }
        done
    }

    /// Multiplies by the inverse instead of dividing, which is many times as fast. The product and the
    /// quotient differ by less than 2^-22 of themselves: below 4096 by less than 0.001. So they have the
    /// same nearest number unless one lies that close to a half. False when one does, or is large.
    #[inline(always)]
    fn by_inverse<L: Lanes, const LEN: usize, const COUNT: usize>(
        self,
        lanes: L,
        x: &[f32; 256],
        mins: &[f32; COUNT],
        scales: &[f32; COUNT],
        out: &mut [u8; 256],
    ) -> bool {
        let mut inverses = [0.0; COUNT];
        for (inverse, scale) in inverses.iter_mut().zip(scales) {
            *inverse = 1.0 / scale;
        }
        let (limit, half) = (lanes.splat(4096.0), lanes.splat(0.499));
        let mut certain = limit.eq(limit);
        for j in 0..COUNT {
            let (min, inverse) = (lanes.splat(mins[j]), lanes.splat(inverses[j]));
            for i in (j * LEN..(j + 1) * LEN).step_by(L::N) {
                let quotient = (lanes.load(&x[i..]) + min) * inverse;
                let level = nearest(lanes, quotient);
                certain = certain & quotient.abs().lt(limit) & (quotient - level).abs().lt(half);
                self.store(lanes, level, &mut out[i..]);
            }
        }
        !(!certain).any()
    }

    #[inline(always)]
    fn by_division<L: Lanes, const LEN: usize, const COUNT: usize>(
        self,
        lanes: L,
        x: &[f32; 256],
        mins: &[f32; COUNT],
        scales: &[f32; COUNT],
        out: &mut [u8; 256],
    ) -> bool {
        let mut strange = false;
        for j in 0..COUNT {
            let (min, scale) = (lanes.splat(mins[j]), lanes.splat(scales[j]));
            for i in (j * LEN..(j + 1) * LEN).step_by(L::N) {
                let quotient = (lanes.load(&x[i..]) + min) / scale;
                strange |= out_of_range(lanes, quotient).any();
                self.store(lanes, nearest(lanes, quotient), &mut out[i..]);
            }
        }
        !strange
    }

    #[inline(always)]
    fn store<L: Lanes>(self, lanes: L, level: L::V, out: &mut [u8]) {
        let (low, high) = (lanes.splat(self.low), lanes.splat(self.high));
        lanes.store_bytes(level.max(low).min(high) - low, out);
    }
}
