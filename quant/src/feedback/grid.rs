//! What all block formats have in common: a unit, sub-blocks with small scales in that unit, perhaps mins, and levels.

use super::wide::{WIDE, Wide};
use crate::Format;
use crate::block::{Block, IQ4_NL, IQ4_XS, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
use crate::pack;
use crate::round::to_half;

/// Most sub-blocks of a block.
pub(super) const MOST_SUBS: usize = 16;

/// The values that a format's block can hold: x = d * scale * number - dmin * min.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// Weights in a block.
    pub block: usize,
    /// Weights that share a scale.
    pub sub: usize,
    /// The lowest and the highest number.
    pub numbers: (f32, f32),
    /// Numbers are looked up in IQ4's table.
    pub table: bool,
    /// The smallest and the largest scale; 1 and 1 where a block has one scale only, which is `d`.
    pub scales: (f32, f32),
    /// The smallest and the largest min, where the format has any; 1 and 1 where a block has one only, `dmin`.
    pub mins: Option<(f32, f32)>,
}

impl Grid {
    /// None for formats without blocks.
    pub(super) fn of(format: Format) -> Option<Grid> {
        let grid = |sub, numbers, scales, mins| {
            Some(Grid { block: format.block_len(), sub, numbers, table: false, scales, mins })
        };
        let table = |scales| Some(Grid { table: true, ..grid(32, (0.0, 15.0), scales, None)? });
        let one = (1.0, 1.0);
        match format {
            Format::F32 | Format::F16 | Format::BF16 => None,
            Format::Q4_0 => grid(32, (-8.0, 7.0), one, None),
            Format::Q5_0 => grid(32, (-16.0, 15.0), one, None),
            Format::Q8_0 => grid(32, (-127.0, 127.0), one, None),
            Format::Q4_1 => grid(32, (0.0, 15.0), one, Some(one)),
            Format::Q5_1 => grid(32, (0.0, 31.0), one, Some(one)),
            Format::Q2_K => grid(16, (0.0, 3.0), (0.0, 15.0), Some((0.0, 15.0))),
            Format::Q4_K => grid(32, (0.0, 15.0), (0.0, 63.0), Some((0.0, 63.0))),
            Format::Q5_K => grid(32, (0.0, 31.0), (0.0, 63.0), Some((0.0, 63.0))),
            Format::Q3_K => grid(16, (-4.0, 3.0), (-32.0, 31.0), None),
            Format::Q6_K => grid(16, (-32.0, 31.0), (-128.0, 127.0), None),
            Format::IQ4_NL => table(one),
            Format::IQ4_XS => table((-32.0, 31.0)),
        }
    }
}

/// The scales of one block of some rows, a lane a row, all whole numbers but the units, which are halves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales {
    pub d: Wide,
    pub dmin: Wide,
    pub scales: [Wide; MOST_SUBS],
    pub mins: [Wide; MOST_SUBS],
}

impl Scales {
    pub(super) const ZERO: Scales = Scales {
        d: [0.0; WIDE],
        dmin: [0.0; WIDE],
        scales: [[0.0; WIDE]; MOST_SUBS],
        mins: [[0.0; WIDE]; MOST_SUBS],
    };
}

/// Writes the block of one lane; `codes` are numbers counted from the lowest.
pub(super) fn write(format: Format, scales: &Scales, lane: usize, codes: &[u8], out: &mut [u8]) {
    let (d, dmin) = (to_half(scales.d[lane]), to_half(scales.dmin[lane]));
    let whole = |numbers: &[Wide; MOST_SUBS], i: usize| numbers[i][lane] as i32; // whole, and small
    let scale = |i: usize| whole(&scales.scales, i);
    let min = |i: usize| whole(&scales.mins, i) as u8;
    let small = || -> [u8; 32] { std::array::from_fn(|i| codes[i]) };
    let large = || -> [u8; 256] { std::array::from_fn(|i| codes[i]) };
    let nibbles = |levels: &[u8; 32]| pack::nibbles::<16, 32, 16>(levels);
    match format {
        Format::F32 | Format::F16 | Format::BF16 => {} // no blocks
        Format::Q4_0 => Q4_0 { d, levels: nibbles(&small()) }.write(out),
        Format::IQ4_NL => IQ4_NL { d, levels: nibbles(&small()) }.write(out),
        Format::Q4_1 => {
            let min = to_half(-scales.dmin[lane]);
            Q4_1 { d, min, levels: nibbles(&small()) }.write(out)
        }
        Format::Q5_0 => {
            let levels = small();
            Q5_0 { d, high_bits: pack::fifth_bits(&levels), levels: nibbles(&levels) }.write(out)
        }
        Format::Q5_1 => {
            let (levels, min) = (small(), to_half(-scales.dmin[lane]));
            Q5_1 { d, min, high_bits: pack::fifth_bits(&levels), levels: nibbles(&levels) }.write(out)
        }
        Format::Q8_0 => Q8_0 { d, levels: small().map(|code| code.wrapping_sub(127)) }.write(out),
        Format::Q2_K => {
            let packed = std::array::from_fn(|i| scale(i) as u8 | min(i) << 4);
            Q2_K { scales: packed, levels: pack::bit_pairs(&large()), d, dmin }.write(out)
        }
        Format::Q4_K => {
            let scales =
                pack::scales_and_mins(&std::array::from_fn(|i| scale(i) as u8), &std::array::from_fn(min));
            Q4_K { d, dmin, scales, levels: pack::nibbles::<32, 256, 128>(&large()) }.write(out)
        }
        Format::Q5_K => {
            let levels = large();
            let scales =
                pack::scales_and_mins(&std::array::from_fn(|i| scale(i) as u8), &std::array::from_fn(min));
            let (high_bits, levels) = (pack::bit_plane(&levels, 4), pack::nibbles::<32, 256, 128>(&levels));
            Q5_K { d, dmin, scales, high_bits, levels }.write(out)
        }
        Format::Q3_K => {
            let levels = large();
            let scales = pack::sixteen_scales(&std::array::from_fn(|i| (scale(i) + 32) as u8));
            let (high_bits, levels) = (pack::bit_plane(&levels, 2), pack::bit_pairs(&levels));
            Q3_K { high_bits, levels, scales, d }.write(out)
        }
        Format::Q6_K => {
            let (levels, high_bits) = pack::six_bits(&large());
            Q6_K { levels, high_bits, scales: std::array::from_fn(|i| scale(i) as i8 as u8), d }.write(out)
        }
        Format::IQ4_XS => {
            let (scales, high_scales) = pack::eight_scales(&std::array::from_fn(|i| (scale(i) + 32) as u8));
            IQ4_XS { d, high_scales, scales, levels: pack::nibbles::<16, 256, 128>(&large()) }.write(out)
        }
    }
}
