//! How far a stored weight may be from its source: what each format allows, and why.
//!
//! Two bounds, each sound on its own, hold every single weight:
//!
//! * **Near**: a block stores a scale, and each of its weights as the level nearest to the source. So a stored
//!   weight is at most half a level from its source, or from the end of the levels where the source lies beyond.
//!   The levels' ends are found by dequantizing the block with all its level bits cleared and set: no block
//!   layout is restated here but which bytes hold levels. One flipped bit of a level breaks this bound.
//! * **Far**: the scale itself fits the block, so the error is at most a part of the block's largest weight.
//!   A scale that was lost or damaged breaks this one.
//!
//! `docs/verify.md` derives the numbers; the tests hold them against awkward rows of every kind.

use quant::Format;

/// What a format of whole floats or of blocks allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tolerance {
    /// Nothing: every source value is exact in it.
    Exact,
    /// A part of the weight itself, and an absolute part for numbers below the format's normal range.
    Rounding { relative: f32, absolute: f32 },
    /// The two bounds of a block format.
    Levels(Levels),
}

/// The two bounds, and what is needed to find the ends of the levels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Levels {
    /// Near: part of the distance between the lowest and the highest level.
    pub near: f32,
    /// Near: part of the block's largest weight, for formats whose levels were chosen before the scale was
    /// rounded to half precision.
    pub near_rounding: f32,
    /// Far: part of the block's largest weight.
    pub far: f32,
    /// A quantizer never leaves nothing of a block that has something.
    pub keeps_something: bool,
    /// Both: scales are halfs, and below 2^-24 a half is nothing; times the largest factor of a scale.
    pub absolute: f32,
    /// The bytes of a block that hold levels.
    pub bytes: (usize, usize),
    /// A byte whose levels are lowest, and one whose levels are highest.
    pub ends: (u8, u8),
}

/// Half the smallest half-precision number.
const TINY: f32 = 1.0 / (1u32 << 25) as f32;
/// The relative error of a number rounded to half precision.
const HALF_ULP: f32 = 1.0 / 2048.0;
/// Half a level, and what the quantizer's own f32 arithmetic may add.
const NEAREST: f32 = 0.51;

impl Tolerance {
    /// What is left to hold where levels were chosen for the outputs of a matrix, not weight by weight: a weight may be
    /// levels away on purpose, but inside its block's range, and not far beyond what the block held.
    pub(super) fn any_level(self) -> Tolerance {
        match self {
            Tolerance::Levels(levels) => Tolerance::Levels(Levels {
                near: 1.0,
                far: levels.far.max(4.0),
                keeps_something: false,
                ..levels
            }),
            whole => whole,
        }
    }

    /// What `format` allows; `importance`: the file says that an importance matrix was used, which lets a
    /// quantizer trade weights that matter little for others.
    pub(super) fn of(format: Format, importance: bool) -> Tolerance {
        let levels = |steps: f32, far: f32, largest_factor: f32, bytes: (usize, usize)| Levels {
            near: NEAREST / steps,
            near_rounding: 1e-6,
            far: if importance { 1.0 } else { far },
            keeps_something: true,
            absolute: TINY * largest_factor,
            bytes,
            ends: (0x00, 0xff),
        };
        // The simple formats choose levels by the scale before it is rounded; with importance weights by one
        // of several trial scales, of which a fit makes the final one: some levels away from nearest.
        let simple = |steps: f32, far: f32, largest_factor: f32, bytes: (usize, usize)| Levels {
            near: if importance { 0.3 } else { NEAREST / steps },
            near_rounding: 2.0 * HALF_ULP,
            // Where the largest weight has no importance, all others may round to nothing beside it.
            keeps_something: !importance,
            ..levels(steps, far, largest_factor, bytes)
        };
        Tolerance::Levels(match format {
            Format::F32 => return Tolerance::Exact,
            Format::F16 => return Tolerance::Rounding { relative: HALF_ULP, absolute: TINY },
            // Seven stored bits; its smallest numbers are f32's.
            Format::BF16 => {
                return Tolerance::Rounding { relative: 1.0 / 256.0, absolute: f32::MIN_POSITIVE };
            }
            // Takes no notice of importance weights.
            Format::Q8_0 => Levels {
                near: (NEAREST + 127.0 * HALF_ULP) / 255.0,
                far: 0.57 / 127.0,
                keeps_something: true,
                ends: (0x80, 0x7f),
                ..simple(255.0, 0.57 / 127.0, 127.0, (2, 34))
            },
            Format::Q4_0 => simple(15.0, 1.02 / 8.0, 8.0, (2, 18)),
            Format::Q4_1 => simple(15.0, 1.03 / 15.0, 16.0, (4, 20)),
            Format::Q5_0 => simple(31.0, 1.02 / 16.0, 16.0, (2, 22)),
            Format::Q5_1 => simple(31.0, 1.05 / 31.0, 32.0, (4, 24)),
            // Levels of unequal distance: the widest gap is 24 of 240. Without importance weights they are
            // chosen by the trial scale, from which the fitted one differs by a few percent.
            Format::IQ4_NL => Levels { near: 0.12, ..simple(240.0, 0.25, 127.0, (2, 18)) },
            Format::IQ4_XS => Levels { near: 12.1 / 240.0, ..levels(240.0, 0.30, 32.0 * 127.0, (8, 136)) },
            Format::Q2_K => levels(3.0, 0.85, 15.0 * 4.0, (16, 80)),
            Format::Q3_K => levels(7.0, 0.60, 32.0 * 4.0, (0, 96)),
            Format::Q4_K => levels(15.0, 0.30, 63.0 * 16.0, (16, 144)),
            Format::Q5_K => levels(31.0, 0.15, 63.0 * 32.0, (16, 176)),
            Format::Q6_K => levels(63.0, 0.10, 128.0 * 32.0, (0, 192)),
        })
    }
}
