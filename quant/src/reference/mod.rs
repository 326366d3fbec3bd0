//! The plain quantizers: what every kernel must equal, bit for bit.
//!
//! Scalar, safe, one file a format or family, and never tuned: a change here is a change of the
//! crate's bytes. Ported from ggml; see NOTICE.

mod floats;
pub(crate) mod iq4;
pub(crate) mod legacy;
pub(crate) mod q2_k;
pub(crate) mod q3_k;
pub(crate) mod q4_k;
pub(crate) mod q5_k;
pub(crate) mod q6_k;
pub(crate) mod q8_0;
pub(crate) mod search;
mod signed_super_block;
pub(crate) mod super_block_with_mins;

use crate::block::Block;
use crate::{Format, Rows};

/// Quantizes row after row.
pub(crate) fn quantize_rows(format: Format, rows: Rows, out: &mut [u8]) {
    let row_bytes = rows.columns / format.block_len() * format.block_bytes();
    for (row, out) in rows.x.chunks_exact(rows.columns).zip(out.chunks_exact_mut(row_bytes)) {
        quantize_row(format, row, rows.importance, out);
    }
}

/// Quantizes one row.
///
/// Only Q4_0, Q4_1, Q5_0 and Q5_1 with importance weights look at the row as a whole; for the other
/// formats any run of blocks may be passed as a row, with the weights of its columns.
///
/// # Panics
/// When a length does not fit: [`crate::quantize`] has checked them.
pub(crate) fn quantize_row(format: Format, row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    assert_eq!(format.row_bytes(row.len()), Some(out.len()), "{format}");
    assert!(importance.is_none_or(|importance| importance.len() == row.len()), "{format}");
    match format {
        Format::F32 => floats::to_f32(row, out),
        Format::F16 => floats::to_f16(row, out),
        Format::BF16 => floats::to_bf16(row, out),
        Format::Q4_0 => legacy::quantize_row(row, importance, out, legacy::q4_0),
        Format::Q4_1 => legacy::quantize_row(row, importance, out, legacy::q4_1),
        Format::Q5_0 => legacy::quantize_row(row, importance, out, legacy::q5_0),
        Format::Q5_1 => legacy::quantize_row(row, importance, out, legacy::q5_1),
        Format::Q8_0 => quantize_blocks(row, None, out, |x, _| q8_0::block(x)),
        Format::Q2_K => quantize_blocks(row, importance, out, q2_k::super_block),
        Format::Q3_K => quantize_blocks(row, importance, out, q3_k::super_block),
        Format::Q4_K => quantize_blocks(row, importance, out, q4_k::super_block),
        Format::Q5_K => quantize_blocks(row, importance, out, q5_k::super_block),
        Format::Q6_K => quantize_blocks(row, importance, out, q6_k::super_block),
        Format::IQ4_NL => quantize_blocks(row, importance, out, iq4::nl_block),
        Format::IQ4_XS => quantize_blocks(row, importance, out, iq4::xs_super_block),
    }
}

/// Quantizes block after block, each with the importance weights of its columns.
fn quantize_blocks<const LEN: usize, B: Block>(
    row: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    quantize: impl Fn(&[f32; LEN], Option<&[f32; LEN]>) -> B,
) {
    let importance = importance.map(|importance| importance.as_chunks().0);
    for (i, (x, out)) in row.as_chunks().0.iter().zip(out.chunks_exact_mut(B::BYTES)).enumerate() {
        quantize(x, importance.map(|importance| &importance[i])).write(out);
    }
}
