//! How a checkpoint stores its values.

use std::fmt;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use quant::Format;

use crate::error::Problem;

/// The float types that ChatGLM checkpoints come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// Brain float.
    BF16,
}

impl Dtype {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
        }
    }

    /// The format that stores values just so.
    pub fn format(self) -> Format {
        match self {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::BF16,
        }
    }

    /// The error on a tensor whose values are of another type, by the file's own name of it.
    pub(super) fn refuse(tensor: &str, found: &str) -> Problem {
        let hint = match found {
            "I8" | "U8" | "I32" | "U32" | "Char" | "Byte" | "Int" | "UInt32" => {
                ": it was quantized already, convert the original checkpoint"
            }
            _ if found.starts_with("F8") || found.starts_with("F4") || found.starts_with("Float8") => {
                ": it was quantized already, convert the original checkpoint"
            }
            _ => ": convert it to F16 first",
        };
        Problem::mismatch(tensor, format!("{found} values"), format!("F16, BF16 or F32{hint}"))
    }

    /// No value is NaN or infinite: none has all exponent bits set.
    pub fn all_finite(self, bytes: &[u8]) -> bool {
        let halves = |mask: u16| {
            bytes
                .as_chunks()
                .0
                .iter()
                .fold(true, |all, bits| all & (u16::from_le_bytes(*bits) & mask != mask))
        };
        match self {
            Dtype::F16 => halves(0x7c00),
            Dtype::BF16 => halves(0x7f80),
            Dtype::F32 => {
                let mask = 0x7f80_0000;
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .fold(true, |all, bits| all & (u32::from_le_bytes(*bits) & mask != mask))
            }
        }
    }

    /// Decodes little-endian values; every one is exact in f32. `bytes` holds `out.len()` values.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Dtype::F32 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *x = f32::from_le_bytes(*b);
                }
            }
            Dtype::F16 => decode_in_blocks(bytes, out, |block, out| {
                block.map(f16::from_bits).as_slice().convert_to_f32_slice(out);
            }),
            Dtype::BF16 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *x = bf16::from_le_bytes(*b).to_f32();
                }
            }
        }
    }
}

/// `half` converts whole slices several times as fast as single values; a fixed block keeps the copy small.
fn decode_in_blocks(bytes: &[u8], out: &mut [f32], convert: impl Fn([u16; 64], &mut [f32])) {
    for (bytes, out) in bytes.chunks(128).zip(out.chunks_mut(64)) {
        let mut block = [0u16; 64];
        for (x, b) in block.iter_mut().zip(bytes.as_chunks().0) {
            *x = u16::from_le_bytes(*b);
        }
        let mut decoded = [0f32; 64];
        convert(block, &mut decoded);
        out.copy_from_slice(&decoded[..out.len()]);
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_decodes_exactly() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        let mut out = vec![0.0; bits.len()];
        Dtype::F16.decode(&bytes, &mut out);
        assert!(bits.iter().zip(&out).all(|(b, x)| f16::from_bits(*b).to_f32().to_bits() == x.to_bits()));
        Dtype::BF16.decode(&bytes, &mut out);
        assert!(bits.iter().zip(&out).all(|(b, x)| bf16::from_bits(*b).to_f32().to_bits() == x.to_bits()));
    }

    #[test]
    fn what_is_not_finite_is_found_in_every_type() {
        for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32] {
            for (value, finite) in [(1e30, true), (f32::INFINITY, false), (f32::NAN, false), (-0.0, true)] {
                let value = if dtype == Dtype::F16 && finite { -65504.0 } else { value };
                let encoded = match dtype {
                    Dtype::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
                    Dtype::BF16 => bf16::from_f32(value).to_le_bytes().to_vec(),
                    Dtype::F32 => value.to_le_bytes().to_vec(),
                };
                let bytes = [vec![0; 33 * dtype.bytes()], encoded].concat();
                assert_eq!(dtype.all_finite(&bytes), finite, "{dtype} {value}");
            }
        }
    }

    #[test]
    fn a_short_last_block_decodes() {
        let mut out = [0.0; 67];
        Dtype::F16.decode(&[0x00, 0x3c].repeat(67), &mut out);
        assert_eq!(out, [1.0; 67]);
    }
}
