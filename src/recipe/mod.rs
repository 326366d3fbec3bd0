//! (tensor, layer) -> format: the mixes that users mean by `Q4_K_M` and the like, and the fallbacks.
//!
//! The rules are llama.cpp's for a dense model, with the real layer index.

mod budget;
mod overrides;
mod spelling;

use std::fmt;
use std::str::FromStr;

use quant::Format;

use crate::config::GlmConfig;
use crate::error::Error;
use crate::remap::{Plan, Role, Target};
pub use budget::{Budget, budgeted_ffn, candidates};
pub use overrides::{Overrides, parse_format, parse_tensor_type};
pub use spelling::meant;

/// A named mix: what `--type` names.
#[allow(non_camel_case_types, missing_docs)] // the field's own names
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q5_K_M,
    Q5_K_S,
    Q5_0,
    Q5_1,
    Q4_K_M,
    Q4_K_S,
    Q4_0,
    Q4_1,
    Q3_K_L,
    Q3_K_M,
    Q3_K_S,
    Q2_K,
    IQ4_NL,
    IQ4_XS,
}

/// The format's name, `general.file_type`, and the format of every matrix without a rule of its own.
#[rustfmt::skip]
const TABLE: [(FileType, &str, u32, Format); 19] = [
    (FileType::F32,    "F32",    0,  Format::F32),
    (FileType::F16,    "F16",    1,  Format::F16),
    (FileType::BF16,   "BF16",   32, Format::BF16),
    (FileType::Q8_0,   "Q8_0",   7,  Format::Q8_0),
    (FileType::Q6_K,   "Q6_K",   18, Format::Q6_K),
    (FileType::Q5_K_M, "Q5_K_M", 17, Format::Q5_K),
    (FileType::Q5_K_S, "Q5_K_S", 16, Format::Q5_K),
    (FileType::Q5_0,   "Q5_0",   8,  Format::Q5_0),
    (FileType::Q5_1,   "Q5_1",   9,  Format::Q5_1),
    (FileType::Q4_K_M, "Q4_K_M", 15, Format::Q4_K),
    (FileType::Q4_K_S, "Q4_K_S", 14, Format::Q4_K),
    (FileType::Q4_0,   "Q4_0",   2,  Format::Q4_0),
    (FileType::Q4_1,   "Q4_1",   3,  Format::Q4_1),
    (FileType::Q3_K_L, "Q3_K_L", 13, Format::Q3_K),
    (FileType::Q3_K_M, "Q3_K_M", 12, Format::Q3_K),
    (FileType::Q3_K_S, "Q3_K_S", 11, Format::Q3_K),
    (FileType::Q2_K,   "Q2_K",   10, Format::Q2_K),
    (FileType::IQ4_NL, "IQ4_NL", 25, Format::IQ4_NL),
    (FileType::IQ4_XS, "IQ4_XS", 30, Format::IQ4_XS),
];

/// Names that stand for another.
const ALIASES: [(&str, FileType); 3] =
    [("Q5_K", FileType::Q5_K_M), ("Q4_K", FileType::Q4_K_M), ("Q3_K", FileType::Q3_K_M)];

impl FileType {
    fn row(self) -> &'static (FileType, &'static str, u32, Format) {
        &TABLE[self as usize]
    }

    /// `general.file_type`.
    pub fn number(self) -> u32 {
        self.row().2
    }

    /// The mix of a `general.file_type`.
    pub fn numbered(number: u64) -> Option<FileType> {
        TABLE.iter().find(|row| u64::from(row.2) == number).map(|row| row.0)
    }

    /// Every mix once.
    pub fn all() -> impl Iterator<Item = FileType> {
        TABLE.iter().map(|row| row.0)
    }

    /// Every name that `--type` takes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|row| row.1).chain(ALIASES.iter().map(|alias| alias.0))
    }

    /// The format that the mix names for a tensor, before any fallback.
    ///
    /// `importance`: an importance matrix is given.
    pub fn format(self, target: &Target, config: &GlmConfig, importance: bool) -> Format {
        use FileType::*;
        let base = self.row().3;
        let n = config.num_layers;
        let layer = target.slot.layer().unwrap_or(0);
        let many_queries_share = config.num_attention_heads / config.num_kv_heads >= 4;
        match (self, target.role()) {
            (_, Role::Vector) => Format::F32,
            (F32 | F16 | BF16 | Q8_0, _) => base,
            (_, Role::Output) => Format::Q6_K,
            (_, Role::TokenEmbedding) if config.tie_word_embeddings => Format::Q6_K,

            (Q5_K_M | Q4_K_M, Role::AttnV | Role::FfnDown) if more_bits(layer, n) => Format::Q6_K,
            (Q4_K_S, Role::AttnV) if layer < 4 => Format::Q5_K,
            (Q4_K_S, Role::FfnDown) if layer < n / 8 => Format::Q5_K,
            (Q3_K_L, Role::AttnV | Role::AttnOutput | Role::FfnDown) => Format::Q5_K,
            (Q3_K_M, Role::AttnV) => if_then(layer < 2, Format::Q5_K, Format::Q4_K),
            (Q3_K_M, Role::FfnDown) => if_then(layer < n / 16, Format::Q5_K, Format::Q4_K),
            (Q3_K_M, Role::AttnOutput) => Format::Q4_K,
            (Q2_K, Role::AttnV) => if_then(many_queries_share, Format::Q4_K, Format::Q3_K),
            (Q2_K, Role::AttnOutput | Role::FfnDown) => Format::Q3_K,
            // llama.cpp: even with importance weights these go astray in the first layers.
            (Q4_0, Role::FfnDown) if layer < n / 8 && importance => Format::Q4_1,
            (Q5_0, Role::FfnDown) if layer < n / 8 && importance => Format::Q5_1,
            (IQ4_NL | IQ4_XS, Role::AttnV) if many_queries_share => Format::Q5_K,
            (IQ4_NL | IQ4_XS, Role::FfnDown) if layer < n / 8 && !importance => Format::Q5_K,
            _ => base,
        }
    }
}

fn if_then(condition: bool, then: Format, otherwise: Format) -> Format {
    if condition { then } else { otherwise }
}

/// llama.cpp's `use_more_bits`: the first and the last eighth of the layers, and every third between.
fn more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

/// Where the feed-forward network is padded to whole super-blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FfnPad {
    /// Where a format would fall back otherwise.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Columns in a super-block, the widest block there is.
const SUPER_BLOCK: usize = 256;

/// The feed-forward width, padded to whole super-blocks.
pub fn padded_ffn(config: &GlmConfig) -> usize {
    config.ffn_hidden_size.next_multiple_of(SUPER_BLOCK)
}

/// The formats of one output file.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The mix.
    pub file_type: FileType,
    /// The feed-forward width in the file, padded or not.
    pub ffn: usize,
    /// One choice a tensor, in the plan's order.
    pub choices: Vec<Choice>,
}

/// The format of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What is written.
    pub format: Format,
    /// What the mix names, when its blocks do not fit the rows.
    pub instead_of: Option<Format>,
}

/// What names a tensor's format.
#[derive(Clone, Copy, Debug)]
pub struct Mix<'a> {
    /// The named mix.
    pub file_type: FileType,
    /// What the user puts in its place.
    pub overrides: &'a Overrides,
    /// An importance matrix is given.
    pub importance: bool,
}

impl Mix<'_> {
    fn format(&self, target: &Target, config: &GlmConfig) -> Format {
        let by_hand = self.overrides.format(target, self.file_type.row().3, config.tie_word_embeddings);
        by_hand.unwrap_or_else(|| self.file_type.format(target, config, self.importance))
    }
}

impl Recipe {
    /// Each tensor's name, shape in the file, row-major, and format.
    pub fn shapes(&self, plan: &Plan) -> Vec<(String, Vec<usize>, Format)> {
        let shaped = plan.tensors.iter().zip(&self.choices).map(|(target, choice)| {
            let (rows, columns) = target.padded_shape(self.ffn);
            let shape = if target.role() == Role::Vector { vec![rows] } else { vec![rows, columns] };
            (target.name.clone(), shape, choice.format)
        });
        shaped.collect()
    }

    /// Chooses the format of every tensor, and whether to pad.
    pub fn new(mix: Mix, pad: FfnPad, plan: &Plan, config: &GlmConfig) -> Recipe {
        let unpadded = Recipe::with_ffn(mix, config.ffn_hidden_size, plan, config);
        let falls_back = |(target, choice): (&Target, &Choice)| {
            target.role() == Role::FfnDown && choice.instead_of.is_some()
        };
        let pads = match pad {
            FfnPad::Auto => plan.tensors.iter().zip(&unpadded.choices).any(falls_back),
            FfnPad::On => true,
            FfnPad::Off => false,
        };
        if pads { Recipe::with_ffn(mix, padded_ffn(config), plan, config) } else { unpadded }
    }

    fn with_ffn(mix: Mix, ffn: usize, plan: &Plan, config: &GlmConfig) -> Recipe {
        let choose = |target: &Target| {
            let named = mix.format(target, config);
            let (_, columns) = target.padded_shape(ffn);
            let mut format = named;
            while target.role() != Role::Vector && !columns.is_multiple_of(format.block_len()) {
                format = format.fallback();
            }
            Choice { format, instead_of: (format != named).then_some(named) }
        };
        Recipe { file_type: mix.file_type, ffn, choices: plan.tensors.iter().map(choose).collect() }
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().1)
    }
}

impl FromStr for FileType {
    type Err = Error;

    /// Reads a name in any case.
    fn from_str(name: &str) -> Result<FileType, Error> {
        let rows = TABLE.iter().map(|row| (row.1, row.0)).chain(ALIASES);
        let found = rows.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, file_type)| file_type).ok_or_else(|| {
            let names = FileType::names().collect::<Vec<_>>().join(", ");
            Error::Usage(format!("unknown type `{name}`, expected one of {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i, "{}", row.1);
            assert_eq!(row.1.to_lowercase().parse::<FileType>().unwrap(), row.0);
        }
    }

    #[test]
    fn the_layers_with_more_bits_are_llama_cpps() {
        let layers: Vec<usize> = (0..28).filter(|&layer| more_bits(layer, 28)).collect();
        assert_eq!(layers, [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]);
    }

    #[test]
    fn an_unknown_type_lists_the_names() {
        let error = "Q4_K_XL".parse::<FileType>().unwrap_err().to_string();
        assert!(error.starts_with("unknown type `Q4_K_XL`, expected one of F32, F16"), "{error}");
    }
}
