//! How a checkpoint stores its values.

use std::fmt;

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

    /// No value is NaN or infinite.
    pub fn all_finite(self, bytes: &[u8]) -> bool {
        quant::all_finite(self.format(), bytes).expect("a format of numbers")
    }

    /// Decodes little-endian values; every one is exact in f32. `bytes` holds `out.len()` values.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        quant::dequantize(self.format(), bytes, out).expect("as many values as bytes of them");
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
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn every_half_decodes_exactly() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        let mut out = vec![0.0; bits.len()];
        Dtype::F16.decode(&bytes, &mut out);
        let exact = |wanted: f32, found: f32| {
            wanted.to_bits() == found.to_bits() || wanted.is_nan() && found.is_nan()
        };
        assert!(bits.iter().zip(&out).all(|(b, x)| exact(f16::from_bits(*b).to_f32(), *x)));
        Dtype::BF16.decode(&bytes, &mut out);
        assert!(bits.iter().zip(&out).all(|(b, x)| exact(bf16::from_bits(*b).to_f32(), *x)));
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
