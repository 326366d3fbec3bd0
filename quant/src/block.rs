//! The blocks' fields, in the order in which they are stored.
//!
//! A field is its bytes. Scales in half precision are little-endian; how levels lie in `levels`
//! and `high_bits` is described in `pack`.

use crate::Format;

/// A block that can be read from and written to its bytes.
pub(crate) trait Block {
    /// Bytes of a block.
    const BYTES: usize;

    /// Takes a block apart; `bytes` are `BYTES` many.
    fn read(bytes: &[u8]) -> Self;

    /// Puts a block together in `bytes`, `BYTES` many.
    fn write(&self, bytes: &mut [u8]);
}

macro_rules! blocks {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $bytes:literal,)+ })+) => {$(
        $(#[$doc])*
        #[allow(non_camel_case_types)] // the field's own names
        pub(crate) struct $name { $(pub(crate) $field: [u8; $bytes],)+ }

        const _: () = assert!(size_of::<$name>() == Format::$name.block_bytes());

        impl Block for $name {
            const BYTES: usize = size_of::<$name>();

            fn read(bytes: &[u8]) -> $name {
                assert_eq!(bytes.len(), Self::BYTES);
                let rest = bytes;
                $(
                    let (head, rest) = rest.split_at($bytes);
                    let mut $field = [0; $bytes];
                    $field.copy_from_slice(head);
                )+
                let _ = rest;
                $name { $($field,)+ }
            }

            fn write(&self, bytes: &mut [u8]) {
                assert_eq!(bytes.len(), Self::BYTES);
                let rest = bytes;
                $(
                    let (head, rest) = rest.split_at_mut($bytes);
                    head.copy_from_slice(&self.$field);
                )+
                let _ = rest;
            }
        }
    )+};
}

blocks! {
    /// x = d * (q - 8), q of 4 bits.
    /// One scale for 32 weights.
    /// 4.5 bits a weight.
    Q4_0 { d: 2, levels: 16, }

    /// x = d * q + min, q of 4 bits.
    /// One scale and one min for 32 weights.
    /// 5 bits a weight.
    Q4_1 { d: 2, min: 2, levels: 16, }

    /// x = d * (q - 16), q of 5 bits.
    /// One scale for 32 weights; bit j of `high_bits` belongs to weight j.
    /// 5.5 bits a weight.
    Q5_0 { d: 2, high_bits: 4, levels: 16, }

    /// x = d * q + min, q of 5 bits.
    /// One scale and one min for 32 weights; bit j of `high_bits` belongs to weight j.
    /// 6 bits a weight.
    Q5_1 { d: 2, min: 2, high_bits: 4, levels: 16, }

    /// x = d * q, q of 8 bits with a sign.
    /// One scale for 32 weights.
    /// 8.5 bits a weight.
    Q8_0 { d: 2, levels: 32, }

    /// x = d * scale * q - dmin * min, q of 2 bits, scale and min of 4.
    /// 16 sub-blocks of 16 weights; a byte of `scales` is scale + 16 * min.
    /// 2.625 bits a weight.
    Q2_K { scales: 16, levels: 64, d: 2, dmin: 2, }

    /// x = d * (scale - 32) * (q - 4), q of 3 bits, scale of 6.
    /// 16 sub-blocks of 16 weights; `high_bits` hold bit 2 of the levels.
    /// 3.4375 bits a weight.
    Q3_K { high_bits: 32, levels: 64, scales: 12, d: 2, }

    /// x = d * scale * q - dmin * min, q of 4 bits, scale and min of 6.
    /// 8 sub-blocks of 32 weights.
    /// 4.5 bits a weight.
    Q4_K { d: 2, dmin: 2, scales: 12, levels: 128, }

    /// x = d * scale * q - dmin * min, q of 5 bits, scale and min of 6.
    /// 8 sub-blocks of 32 weights; `high_bits` hold bit 4 of the levels.
    /// 5.5 bits a weight.
    Q5_K { d: 2, dmin: 2, scales: 12, high_bits: 32, levels: 128, }

    /// x = d * scale * (q - 32), q of 6 bits, scale of 8 with a sign.
    /// 16 sub-blocks of 16 weights; `high_bits` hold bits 4 and 5 of the levels.
    /// 6.5625 bits a weight.
    Q6_K { levels: 128, high_bits: 64, scales: 16, d: 2, }

    /// x = d * `v[q]`, q of 4 bits, v a table that is finer near zero.
    /// One scale for 32 weights.
    /// 4.5 bits a weight.
    IQ4_NL { d: 2, levels: 16, }

    /// x = d * (scale - 32) * `v[q]`, q of 4 bits, v as in IQ4_NL, scale of 6.
    /// 8 sub-blocks of 32 weights; the scales' 4 low bits lie in `scales`, the 2 high ones in `high_scales`.
    /// 4.25 bits a weight.
    IQ4_XS { d: 2, high_scales: 2, scales: 4, levels: 128, }
}
