//! Formats chosen for a size, and not by a named mix.

use std::fmt;

use quant::Format;

use super::{Choice, FfnPad, FileType, Overrides, Recipe, padded_ffn};
use crate::config::GlmConfig;
use crate::remap::{Plan, Role, Target};

/// How large a file may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// So many bytes.
    Bytes(u64),
    /// So many bits of the file for each weight of the model.
    BitsPerWeight(f64),
}

impl Budget {
    /// The most bytes that all files of a model of so many weights may have.
    pub fn bytes(self, parameters: u64) -> u64 {
        match self {
            Budget::Bytes(bytes) => bytes,
            Budget::BitsPerWeight(bits) => (bits * parameters as f64 / 8.0) as u64,
        }
    }

    /// The option that says so, without its dashes, and its value.
    pub fn option(self) -> (&'static str, String) {
        match self {
            Budget::Bytes(bytes) => ("target-size", bytes.to_string()),
            Budget::BitsPerWeight(bits) => ("target-bpw", bits.to_string()),
        }
    }
}

impl fmt::Display for Budget {
    /// What stands for a type in a file's name: `4GB`, `3900MB`, `4.5bpw`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match *self {
            Budget::Bytes(bytes) => bytes,
            Budget::BitsPerWeight(bits) => return write!(f, "{bits}bpw"),
        };
        let units = [(1_000_000_000, "GB"), (1 << 30, "GiB"), (1_000_000, "MB"), (1 << 20, "MiB")];
        match units.into_iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", bytes / unit),
            None => write!(f, "{bytes}B"),
        }
    }
}

/// Super-blocks, from the least bits a weight to the most.
const WIDE: [Format; 6] =
    [Format::Q2_K, Format::Q3_K, Format::IQ4_XS, Format::Q4_K, Format::Q5_K, Format::Q6_K];
/// For rows that are no whole super-blocks.
const NARROW: [Format; 5] = [Format::Q4_0, Format::IQ4_NL, Format::Q4_1, Format::Q5_0, Format::Q5_1];

/// The feed-forward width of a file whose formats are chosen.
pub fn budgeted_ffn(pad: FfnPad, config: &GlmConfig) -> usize {
    if pad == FfnPad::Off { config.ffn_hidden_size } else { padded_ffn(config) }
}

/// The formats that a tensor may take in a file with this feed-forward width: those whose blocks fit its rows, the
/// smallest first, and at last the checkpoint's own; what the user says by hand alone; none for a vector, which is F32.
pub fn candidates(target: &Target, ffn: usize, overrides: &Overrides, config: &GlmConfig) -> Vec<Format> {
    if target.role() == Role::Vector {
        return Vec::new();
    }
    let (_, columns) = target.padded_shape(ffn);
    let fits = |format: &Format| columns.is_multiple_of(format.block_len());
    if let Some(mut format) = overrides.format(target, Format::Q8_0, config.tie_word_embeddings) {
        while !fits(&format) {
            format = format.fallback();
        }
        return vec![format];
    }
    let blocks: &[Format] = if fits(&Format::Q4_K) { &WIDE } else { &NARROW };
    let blocks = blocks.iter().copied().chain([Format::Q8_0]).filter(fits);
    blocks.chain([target.dtype().format()]).collect()
}

impl Recipe {
    /// Every tensor in the largest format that it may take, which is mostly the checkpoint's; none where such a file has to
    /// be padded, or would not be anyway.
    pub fn whole_without_padding(
        pad: FfnPad,
        overrides: &Overrides,
        plan: &Plan,
        config: &GlmConfig,
    ) -> Option<Recipe> {
        let formats = |ffn: usize| -> Vec<Format> {
            let largest = |target: &Target| candidates(target, ffn, overrides, config).last().copied();
            plan.tensors.iter().map(|target| largest(target).unwrap_or(Format::F32)).collect()
        };
        let (own, padded) = (config.ffn_hidden_size, budgeted_ffn(pad, config));
        let needs_none = pad == FfnPad::Auto && own != padded && formats(own) == formats(padded);
        needs_none.then(|| Recipe::of_formats(formats(own), own, plan))
    }

    /// A recipe of chosen formats, one for each of the plan's tensors; its type is the mix of the format that most
    /// weights have, which is all that `general.file_type` can say.
    pub fn of_formats(formats: Vec<Format>, ffn: usize, plan: &Plan) -> Recipe {
        let weights = |wanted: Format| -> usize {
            let tensors = plan.tensors.iter().zip(&formats);
            let of_format = tensors.filter(|(target, format)| {
                target.role() != Role::Vector && **format == wanted && target.slot.layer().is_some()
            });
            of_format.map(|(target, _)| target.rows * target.columns).sum()
        };
        let most = FileType::all().max_by_key(|file_type| (weights(file_type.row().3), file_type.is_usual()));
        Recipe {
            file_type: most.unwrap_or(FileType::F16),
            ffn,
            choices: formats.into_iter().map(|format| Choice { format, instead_of: None }).collect(),
        }
    }
}

impl FileType {
    /// Of the mixes of one format, the one that most files have.
    fn is_usual(self) -> bool {
        !matches!(self, FileType::Q5_K_S | FileType::Q4_K_S | FileType::Q3_K_L | FileType::Q3_K_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bytes_of_budgets() {
        let name = |budget: Budget| budget.to_string();
        assert_eq!(name(Budget::Bytes(4_000_000_000)), "4GB");
        assert_eq!(name(Budget::Bytes(3 << 30)), "3GiB");
        assert_eq!(name(Budget::Bytes(3_900_000_000)), "3900MB");
        assert_eq!(name(Budget::Bytes(77)), "77B");
        assert_eq!(name(Budget::BitsPerWeight(4.5)), "4.5bpw");
        assert_eq!(Budget::BitsPerWeight(4.5).bytes(1000), 562);
        assert_eq!(Budget::Bytes(5).bytes(1000), 5);
    }
}
