//! The roundings. Each format has its own, and another one makes other bytes.

use half::f16;

/// To the nearest whole number, a half to the even one: the K-quants and IQ4.
///
/// Adding 1.5 * 2^23 leaves no bits for a fraction, so the sum's mantissa is the answer. The trick
/// holds up to 2^22; beyond, the result is what the mantissa says. Sub-blocks of denormal weights get
/// there (the inverse of their range is infinite), so their bytes depend on this very formula.
pub(crate) fn nearest_even(x: f32) -> i32 {
    let mantissa = (x + 12_582_912.0).to_bits() & 0x007f_ffff;
    mantissa as i32 - 0x0040_0000
}

/// To the nearest whole number, a half away from zero: Q8_0, which C's `roundf` rounds.
///
/// `f32::round` is the system's `roundf`, and that of mingw-w64 adds a half and cuts: 0.49999997 becomes 1. What is cut
/// off here is exact.
pub(crate) fn half_away(x: f32) -> u8 {
    if x.abs() < 2_147_483_648.0 {
        let cut = x as i32;
        let away = i32::from((x - cut as f32).abs() >= 0.5);
        (if x < 0.0 { cut - away } else { cut + away }) as u8
    } else {
        0 // as `toward_zero` says
    }
}

/// Cut off toward zero, then cut to a byte: Q4_0 to Q5_1, which have added a half before.
///
/// What fits no `i32` (a denormal scale has an infinite inverse) becomes 0, for that is the low byte
/// of the `i32::MIN` that x86-64 converts it to; `as u8` alone would make 255 of it.
pub(crate) fn toward_zero(x: f32) -> u8 {
    if x.abs() < 2_147_483_648.0 { x as i32 as u8 } else { 0 }
}

/// A scale as a block stores it: half precision, a half to the even one, too large to infinity.
pub(crate) fn to_half(x: f32) -> [u8; 2] {
    // Finite weights near f32::MAX overflow in the searches; ggml keeps only the sign of a NaN.
    let half = if x.is_nan() { f16::NAN.copysign(f16::from_f32(x)) } else { f16::from_f32(x) };
    half.to_le_bytes()
}

/// A stored scale as a number.
pub(crate) fn from_half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_number() {
        let rounded = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997].map(nearest_even);
        assert_eq!(rounded, [-2, -2, 0, 0, 2, 2, 0]);
    }

    #[test]
    fn halves_go_away_from_zero() {
        let rounded = [-2.5, -1.5, -0.5, 0.5, 1.5, 126.5, 0.49999997].map(|x| half_away(x) as i8);
        assert_eq!(rounded, [-3, -2, -1, 1, 2, 127, 0]);
        let rounded = [-0.49999997, 0.99999994, 8_388_607.5, -1e9, 3e9, f32::NAN].map(half_away);
        assert_eq!(rounded, [0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn beyond_the_range_the_bits_decide() {
        assert_eq!(nearest_even(f32::INFINITY), -0x0040_0000);
        assert_eq!(nearest_even(f32::NAN), 0);
        assert_eq!(nearest_even(4_194_303.0), 4_194_303);
        assert_eq!([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 3e9].map(toward_zero), [0; 4]);
        assert_eq!([15.99, -0.99, 300.0].map(toward_zero), [15, 0, 44]);
    }

    #[test]
    fn a_scale_is_rounded_to_even_and_overflows_to_infinity() {
        let bits = |x| u16::from_le_bytes(to_half(x));
        assert_eq!(bits(1.0 + 1.0 / 2048.0), 0x3c00);
        assert_eq!(bits(1.0 + 3.0 / 2048.0), 0x3c02);
        assert_eq!([65519.0, 65520.0, -1e9].map(bits), [0x7bff, 0x7c00, 0xfc00]);
        assert_eq!([2f32.powi(-25), 1.0001 * 2f32.powi(-25), -0.0].map(bits), [0, 1, 0x8000]);
        assert_eq!([f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)].map(bits), [0x7e00, 0xfe00]);
    }
}
