//! The fast quantizers: every algorithm of `reference` once more, generic over the vector lanes.
//!
//! A lane runs the scalar program on its own sub-block, so all float operations happen in the order
//! of the reference and the bytes are equal by construction. What a kernel cannot do that way it
//! leaves to the reference: a group that leaves the range of the rounding, for instance.

mod affine;
mod batch;
mod blocks;
pub(crate) mod iq4;
mod legacy;
mod level;
mod positive;
mod q2_k;
mod q3_k;
mod q4_k;
mod q6_k;
mod q8_0;
mod signed;
mod signed_super_block;
mod super_block_with_mins;

use std::marker::PhantomData;

use crate::block::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
use crate::lanes::Lanes;
use crate::{Format, Rows, reference};

/// Quantizes rows, whose lengths have been checked.
pub(crate) fn quantize<L: Lanes>(lanes: L, format: Format, rows: Rows, out: &mut [u8]) {
    macro_rules! with_mins {
        ($format:ident) => {
            lanes.run(super_block_with_mins::Quantize { rows, out, format: PhantomData::<$format> })
        };
    }
    macro_rules! signed {
        ($format:ident) => {
            lanes.run(signed_super_block::Quantize { rows, out, format: PhantomData::<$format> })
        };
    }
    macro_rules! legacy {
        ($five_bits:literal, $min:literal) => {
            match rows.importance {
                None => lanes.run(legacy::Quantize::<$five_bits, $min, false> { rows, out }),
                Some(_) => lanes.run(legacy::Quantize::<$five_bits, $min, true> { rows, out }),
            }
        };
    }
    match format {
        Format::Q4_0 => legacy!(false, false),
        Format::Q4_1 => legacy!(false, true),
        Format::Q5_0 => legacy!(true, false),
        Format::Q5_1 => legacy!(true, true),
        Format::Q8_0 => lanes.run(q8_0::Quantize { rows, out }),
        Format::Q2_K => with_mins!(Q2_K),
        Format::Q3_K => signed!(Q3_K),
        Format::Q4_K => with_mins!(Q4_K),
        Format::Q5_K => with_mins!(Q5_K),
        Format::Q6_K => signed!(Q6_K),
        Format::IQ4_NL => lanes.run(iq4::QuantizeNl { rows, out }),
        Format::IQ4_XS => lanes.run(iq4::QuantizeXs { rows, out }),
        Format::F32 | Format::F16 | Format::BF16 => reference::quantize_rows(format, rows, out),
    }
}
