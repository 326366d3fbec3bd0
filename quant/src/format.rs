//! The formats, as rows of one table.

use std::fmt;
use std::str::FromStr;

/// How the weights of a tensor are stored: a GGUF block format.
#[allow(non_camel_case_types)] // the field's own names
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// The upper half of single precision.
    BF16,
    /// 4 bits, blocks of 32 with a scale.
    Q4_0,
    /// 4 bits, blocks of 32 with a scale and a min.
    Q4_1,
    /// 5 bits, blocks of 32 with a scale.
    Q5_0,
    /// 5 bits, blocks of 32 with a scale and a min.
    Q5_1,
    /// 8 bits, blocks of 32 with a scale.
    Q8_0,
    /// 2 bits, super-blocks of 256 with 16 sub-blocks, each with a scale and a min.
    Q2_K,
    /// 3 bits, super-blocks of 256 with 16 sub-blocks, each with a scale.
    Q3_K,
    /// 4 bits, super-blocks of 256 with 8 sub-blocks, each with a scale and a min.
    Q4_K,
    /// 5 bits, super-blocks of 256 with 8 sub-blocks, each with a scale and a min.
    Q5_K,
    /// 6 bits, super-blocks of 256 with 16 sub-blocks, each with a scale.
    Q6_K,
    /// 4 bits that look a value up, blocks of 32 with a scale.
    IQ4_NL,
    /// 4 bits that look a value up, super-blocks of 256 with 8 sub-blocks, each with a scale.
    IQ4_XS,
}

/// One row of the table: what the GGUF file needs to know of a format.
struct Row {
    format: Format,
    name: &'static str,
    /// The number that stands for the format in a GGUF file (ggml's `ggml_type`).
    ggml_type: u32,
    /// Weights in a block.
    block_len: usize,
    /// Bytes of a block.
    block_bytes: usize,
    /// What ggml's quantize tool takes when a row is no multiple of `block_len`.
    fallback: Format,
}

#[rustfmt::skip]
const TABLE: [Row; 15] = {
    use Format::*;
    const fn row(format: Format, name: &'static str, ggml_type: u32, block_len: usize, block_bytes: usize, fallback: Format) -> Row {
        Row { format, name, ggml_type, block_len, block_bytes, fallback }
    }
    [
        row(F32,    "F32",     0,   1,   4, F32),
        row(F16,    "F16",     1,   1,   2, F16),
        row(BF16,   "BF16",   30,   1,   2, BF16),
        row(Q4_0,   "Q4_0",    2,  32,  18, F16),
        row(Q4_1,   "Q4_1",    3,  32,  20, F16),
        row(Q5_0,   "Q5_0",    6,  32,  22, F16),
        row(Q5_1,   "Q5_1",    7,  32,  24, F16),
        row(Q8_0,   "Q8_0",    8,  32,  34, F16),
        row(Q2_K,   "Q2_K",   10, 256,  84, Q4_0),
        row(Q3_K,   "Q3_K",   11, 256, 110, Q4_0),
        row(Q4_K,   "Q4_K",   12, 256, 144, Q5_0),
        row(Q5_K,   "Q5_K",   13, 256, 176, Q5_1),
        row(Q6_K,   "Q6_K",   14, 256, 210, Q8_0),
        row(IQ4_NL, "IQ4_NL", 20,  32,  18, F16),
        row(IQ4_XS, "IQ4_XS", 23, 256, 136, IQ4_NL),
    ]
};

impl Format {
    /// Every format, in the order of the table.
    pub const ALL: [Format; TABLE.len()] = {
        let mut all = [Format::F32; TABLE.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].format;
            i += 1;
        }
        all
    };

    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The name as ggml writes it, `Q4_K` for instance.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The format's number in a GGUF file.
    pub const fn ggml_type(self) -> u32 {
        self.row().ggml_type
    }

    /// The format that a GGUF file means by a number, if this crate knows it.
    pub fn from_ggml_type(number: u32) -> Option<Format> {
        TABLE.iter().find(|row| row.ggml_type == number).map(|row| row.format)
    }

    /// Weights in one block; a row must be a multiple of it.
    pub const fn block_len(self) -> usize {
        self.row().block_len
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        self.row().block_bytes
    }

    /// True for all but the plain float formats.
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// What takes the format's place in a tensor whose rows are no multiple of `block_len`.
    pub const fn fallback(self) -> Format {
        self.row().fallback
    }

    /// Bytes of a row of `columns` weights; `None` when no whole blocks fit or the product overflows.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        if !columns.is_multiple_of(self.block_len()) {
            return None;
        }
        (columns / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name is none of the formats'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{0}`")]
pub struct ParseFormatError(pub String);

impl FromStr for Format {
    type Err = ParseFormatError;

    /// Reads a name in any case.
    fn from_str(name: &str) -> Result<Format, ParseFormatError> {
        let found = TABLE.iter().find(|row| row.name.eq_ignore_ascii_case(name));
        found.map(|row| row.format).ok_or_else(|| ParseFormatError(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.format as usize, i, "{}", row.name);
            assert_eq!(row.name.to_lowercase().parse(), Ok(row.format));
            assert_eq!(Format::from_ggml_type(row.ggml_type), Some(row.format));
        }
    }

    #[test]
    fn a_row_must_be_whole_blocks() {
        assert_eq!(Format::Q4_K.row_bytes(4096), Some(2304));
        assert_eq!(Format::Q4_K.row_bytes(13696), None);
        assert_eq!(Format::Q8_0.row_bytes(13696), Some(14552));
    }
}
