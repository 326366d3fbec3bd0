//! F32, F16 and BF16: no blocks, one number a weight, little-endian.

use half::{bf16, f16, slice::HalfFloatSliceExt};

/// Converted at a time: enough for `half` to use what the CPU has.
const CHUNK: usize = 256;

pub(super) fn to_f32(row: &[f32], out: &mut [u8]) {
    for (x, out) in row.iter().zip(out.as_chunks_mut().0) {
        *out = x.to_le_bytes();
    }
}

/// To nearest, a half to even; beyond 65504 to infinity.
pub(super) fn to_f16(row: &[f32], out: &mut [u8]) {
    let mut halves = [f16::ZERO; CHUNK];
    for (row, out) in row.chunks(CHUNK).zip(out.chunks_mut(2 * CHUNK)) {
        let halves = &mut halves[..row.len()];
        halves.convert_from_f32_slice(row);
        for (half, out) in halves.iter().zip(out.as_chunks_mut().0) {
            *out = half.to_le_bytes();
        }
    }
}

/// To nearest, a half to even.
pub(super) fn to_bf16(row: &[f32], out: &mut [u8]) {
    for (&x, out) in row.iter().zip(out.as_chunks_mut().0) {
        *out = bf16::from_f32(x).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ggml's conversion, which works on the bits (`ggml_compute_fp32_to_bf16`).
    fn ggml_bf16(x: f32) -> u16 {
        let bits = x.to_bits();
        if bits & 0x7fff_ffff > 0x7f80_0000 {
            return (bits >> 16) as u16 | 64;
        }
        ((bits + (0x7fff + (bits >> 16 & 1))) >> 16) as u16
    }

    /// ggml's conversion, which lets the addition of a suitable power of two round
    /// (`ggml_compute_fp32_to_fp16`).
    fn ggml_f16(x: f32) -> u16 {
        let base = x.abs() * 2f32.powi(112) * 2f32.powi(-110);
        let twice = x.to_bits() << 1;
        let bias = (twice & 0xff00_0000).max(0x7100_0000);
        let bits = (f32::from_bits((bias >> 1) + 0x0780_0000) + base).to_bits();
        let magnitude = (bits >> 13 & 0x7c00) + (bits & 0x0fff);
        (x.to_bits() >> 16 & 0x8000) as u16 | if twice > 0xff00_0000 { 0x7e00 } else { magnitude as u16 }
    }

    /// Every 257th bit pattern (257 because prime, so the low bits take all values), without NaN.
    #[test]
    fn conversions_round_as_ggml_does() {
        let rows: Vec<f32> =
            (0..=u32::MAX / 257).map(|i| f32::from_bits(i * 257)).filter(|x| !x.is_nan()).collect();
        let mut out = vec![0; rows.len() * 2];
        for (convert, expected) in
            [(to_f16 as fn(&[f32], &mut [u8]), ggml_f16 as fn(f32) -> u16), (to_bf16, ggml_bf16)]
        {
            convert(&rows, &mut out);
            for (&x, &out) in rows.iter().zip(out.as_chunks().0) {
                assert_eq!(u16::from_le_bytes(out), expected(x), "{x:e}");
            }
        }
    }
}
