//! Blocks back into weights, with ggml's operations in ggml's order.

use crate::Format;
use crate::block::{Block, IQ4_NL, IQ4_XS, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
use crate::pack;
use crate::reference::iq4::VALUES;
use crate::round::from_half;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Dequantizes whole blocks; [`crate::dequantize`] has checked the lengths.
pub(crate) fn dequantize(format: Format, blocks: &[u8], out: &mut [f32]) {
    match format {
        Format::F32 => each(blocks, out, f32::from_le_bytes),
        Format::F16 => halves(blocks, out),
        Format::BF16 => each(blocks, out, from_bf16),
        Format::Q4_0 => each_block(blocks, out, q4_0),
        Format::Q4_1 => each_block(blocks, out, q4_1),
        Format::Q5_0 => each_block(blocks, out, q5_0),
        Format::Q5_1 => each_block(blocks, out, q5_1),
        Format::Q8_0 => each_block(blocks, out, q8_0),
        Format::Q2_K => each_block(blocks, out, q2_k),
        Format::Q3_K => each_block(blocks, out, q3_k),
        Format::Q4_K => each_block(blocks, out, q4_k),
        Format::Q5_K => each_block(blocks, out, q5_k),
        Format::Q6_K => each_block(blocks, out, q6_k),
        Format::IQ4_NL => each_block(blocks, out, iq4_nl),
        Format::IQ4_XS => each_block(blocks, out, iq4_xs),
    }
}

/// No number has all exponent bits set; [`crate::all_finite`] says of which formats.
#[inline(never)] // into callers that are compiled to be small, for whom it would go number by number
pub(crate) fn all_finite(format: Format, numbers: &[u8]) -> Option<bool> {
    let halves = |mask: u16| {
        let bits = numbers.as_chunks().0.iter().map(|bits| u16::from_le_bytes(*bits));
        bits.fold(true, |all, bits| all & (bits & mask != mask))
    };
    match format {
        Format::F16 => Some(halves(0x7c00)),
        Format::BF16 => Some(halves(0x7f80)),
        Format::F32 => {
            let mask = 0x7f80_0000;
            let bits = numbers.as_chunks().0.iter().map(|bits| u32::from_le_bytes(*bits));
            Some(bits.fold(true, |all, bits| all & (bits & mask != mask)))
        }
        _ => None,
    }
}

/// Only shifts: `half` would also make a signalling NaN quiet, which ggml does not.
fn from_bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// `half` converts whole slices several times as fast as single values; a fixed block keeps the copy small.
fn halves(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.chunks(128).zip(out.chunks_mut(64)) {
        let mut block = [f16::ZERO; 64];
        for (half, bytes) in block.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        let mut decoded = [0.0; 64];
        block.as_slice().convert_to_f32_slice(&mut decoded);
        out.copy_from_slice(&decoded[..out.len()]);
    }
}

fn each<const BYTES: usize>(bytes: &[u8], out: &mut [f32], number: impl Fn([u8; BYTES]) -> f32) {
    for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = number(bytes);
    }
}

fn each_block<const LEN: usize, B: Block>(bytes: &[u8], out: &mut [f32], weights: impl Fn(&B) -> [f32; LEN]) {
    for (out, bytes) in out.as_chunks_mut().0.iter_mut().zip(bytes.chunks_exact(B::BYTES)) {
        *out = weights(&B::read(bytes));
    }
}

fn q4_0(block: &Q4_0) -> [f32; 32] {
    let d = from_half(block.d);
    let levels: [u8; 32] = pack::from_nibbles::<16, 32, 16>(&block.levels);
    levels.map(|level| (i32::from(level) - 8) as f32 * d)
}

fn q4_1(block: &Q4_1) -> [f32; 32] {
    let (d, min) = (from_half(block.d), from_half(block.min));
    let levels: [u8; 32] = pack::from_nibbles::<16, 32, 16>(&block.levels);
    levels.map(|level| f32::from(level) * d + min)
}

fn q5_0(block: &Q5_0) -> [f32; 32] {
    let d = from_half(block.d);
    five_bits(&block.levels, &block.high_bits).map(|level| (i32::from(level) - 16) as f32 * d)
}

fn q5_1(block: &Q5_1) -> [f32; 32] {
    let (d, min) = (from_half(block.d), from_half(block.min));
    five_bits(&block.levels, &block.high_bits).map(|level| f32::from(level) * d + min)
}

fn five_bits(levels: &[u8; 16], high_bits: &[u8; 4]) -> [u8; 32] {
    let (low, high) = (pack::from_nibbles::<16, 32, 16>(levels), pack::from_fifth_bits(high_bits));
    std::array::from_fn(|i| low[i] | high[i] << 4)
}

fn q8_0(block: &Q8_0) -> [f32; 32] {
    let d = from_half(block.d);
    block.levels.map(|level| f32::from(level as i8) * d)
}

fn q2_k(block: &Q2_K) -> [f32; 256] {
    let (scales, mins) = (block.scales.map(|byte| byte & 15), block.scales.map(|byte| byte >> 4));
    let levels = pack::from_bit_pairs(&block.levels);
    with_mins::<16, 16>(&levels, from_half(block.d), &scales, from_half(block.dmin), &mins)
}

fn q3_k(block: &Q3_K) -> [f32; 256] {
    let (low, high) = (pack::from_bit_pairs(&block.levels), pack::from_bit_plane(&block.high_bits));
    let d = from_half(block.d);
    let scales = pack::from_sixteen_scales(&block.scales).map(|scale| d * (i32::from(scale) - 32) as f32);
    std::array::from_fn(|i| scales[i / 16] * (i32::from(low[i] | high[i] << 2) - 4) as f32)
}

fn q4_k(block: &Q4_K) -> [f32; 256] {
    let (scales, mins) = pack::from_scales_and_mins(&block.scales);
    let levels = pack::from_nibbles::<32, 256, 128>(&block.levels);
    with_mins::<32, 8>(&levels, from_half(block.d), &scales, from_half(block.dmin), &mins)
}

fn q5_k(block: &Q5_K) -> [f32; 256] {
    let (scales, mins) = pack::from_scales_and_mins(&block.scales);
    let low = pack::from_nibbles::<32, 256, 128>(&block.levels);
    let high = pack::from_bit_plane(&block.high_bits);
    let levels = std::array::from_fn(|i| low[i] | high[i] << 4);
    with_mins::<32, 8>(&levels, from_half(block.d), &scales, from_half(block.dmin), &mins)
}

fn with_mins<const LEN: usize, const COUNT: usize>(
    levels: &[u8; 256],
    d: f32,
    scales: &[u8; COUNT],
    dmin: f32,
    mins: &[u8; COUNT],
) -> [f32; 256] {
    const { assert!(LEN * COUNT == 256) };
    let scales = scales.map(|scale| d * f32::from(scale));
    let mins = mins.map(|min| dmin * f32::from(min));
    std::array::from_fn(|i| scales[i / LEN] * f32::from(levels[i]) - mins[i / LEN])
}

fn q6_k(block: &Q6_K) -> [f32; 256] {
    let levels = pack::from_six_bits(&block.levels, &block.high_bits);
    let d = from_half(block.d);
    let scales = block.scales.map(|scale| d * f32::from(scale as i8));
    std::array::from_fn(|i| scales[i / 16] * (i32::from(levels[i]) - 32) as f32)
}

fn iq4_nl(block: &IQ4_NL) -> [f32; 32] {
    let d = from_half(block.d);
    let levels: [u8; 32] = pack::from_nibbles::<16, 32, 16>(&block.levels);
    levels.map(|level| d * f32::from(VALUES[usize::from(level)]))
}

fn iq4_xs(block: &IQ4_XS) -> [f32; 256] {
    let d = from_half(block.d);
    let scales = pack::from_eight_scales(&block.scales, &block.high_scales)
        .map(|scale| d * (i32::from(scale) - 32) as f32);
    let levels: [u8; 256] = pack::from_nibbles::<16, 256, 128>(&block.levels);
    std::array::from_fn(|i| scales[i / 32] * f32::from(VALUES[usize::from(levels[i])]))
}
