#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used))]

#[allow(unsafe_code)] // vector instructions: the only place
mod arch;
mod backend;
mod block;
mod dequant;
mod feedback;
mod format;
mod kernel;
mod lanes;
mod pack;
mod reference;
mod round;

pub use backend::{Backend, ParseBackendError};
pub use feedback::{Curvature, quantize_with_feedback};
pub use format::{Format, ParseFormatError};

/// Arguments whose sizes do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A row of this length is no whole number of blocks.
    #[error("{format} needs rows of a multiple of {}, found {columns}", format.block_len())]
    Columns {
        /// The format asked for.
        format: Format,
        /// Weights in a row.
        columns: usize,
    },
    /// The rows, the weights or the output have another length than the rest implies.
    #[error("{what}: expected a length of {expected}, found {found}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// The length that the other arguments imply.
        expected: usize,
        /// The length given.
        found: usize,
    },
}

/// Quantizes whole rows.
///
/// * `rows`: the weights, `[rows, columns]`, row-major, finite.
/// * `importance`: one importance weight a column, the same for every row.
/// * `out`: `rows * format.row_bytes(columns)` bytes.
///
/// ```
/// use quant::{Backend, Format, dequantize, quantize};
///
/// let weights: Vec<f32> = (0..256).map(|i| (i as f32 / 40.0).sin()).collect();
/// let mut blocks = vec![0; Format::Q4_K.row_bytes(256).unwrap()];
/// quantize(Backend::detect(), Format::Q4_K, 256, &weights, None, &mut blocks)?;
/// assert_eq!(blocks.len(), 144); // 4.5 bits a weight
///
/// let mut back = vec![0.0; 256];
/// dequantize(Format::Q4_K, &blocks, &mut back)?;
/// assert!(weights.iter().zip(&back).all(|(x, y)| (x - y).abs() < 0.1));
/// # Ok::<(), quant::Error>(())
/// ```
///
/// # Errors
/// When a length does not fit.
pub fn quantize(
    backend: Backend,
    format: Format,
    columns: usize,
    rows: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), Error> {
    let row_bytes = match format.row_bytes(columns) {
        Some(row_bytes) if columns > 0 => row_bytes,
        _ => return Err(Error::Columns { format, columns }),
    };
    let count = rows.len() / columns;
    check_length("rows", count * columns, rows.len())?;
    check_length("out", count * row_bytes, out.len())?;
    if let Some(importance) = importance {
        check_length("importance", columns, importance.len())?;
    }
    backend.quantize(format, Rows { columns, x: rows, importance }, out);
    Ok(())
}

/// Rows to be quantized, whole, and all lengths checked.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) columns: usize,
    pub(crate) x: &'a [f32],
    /// One weight a column.
    pub(crate) importance: Option<&'a [f32]>,
}

impl Rows<'_> {
    /// The importance weights of block `i` of all rows run together.
    pub(crate) fn importance_of(&self, i: usize, block_len: usize) -> Option<&[f32]> {
        let column = i * block_len % self.columns;
        self.importance.map(|importance| &importance[column..column + block_len])
    }
}

/// Turns blocks back into weights: `out.len()` of them.
///
/// ```
/// // Two weights of BF16, which is the upper half of an f32.
/// let mut out = [0.0; 2];
/// quant::dequantize(quant::Format::BF16, &[0x80, 0x3f, 0x00, 0xc0], &mut out)?;
/// assert_eq!(out, [1.0, -2.0]);
/// # Ok::<(), quant::Error>(())
/// ```
///
/// # Errors
/// When `out` is no whole number of blocks, or `blocks` has another length than those blocks.
pub fn dequantize(format: Format, blocks: &[u8], out: &mut [f32]) -> Result<(), Error> {
    let Some(bytes) = format.row_bytes(out.len()) else {
        return Err(Error::Columns { format, columns: out.len() });
    };
    check_length("blocks", bytes, blocks.len())?;
    dequant::dequantize(format, blocks, out);
    Ok(())
}

/// Whether no number is NaN or infinite, in the formats that are numbers without scales; `None` for those with blocks.
///
/// ```
/// assert_eq!(quant::all_finite(quant::Format::BF16, &[0x80, 0x3f, 0x80, 0x7f]), Some(false)); // 1 and infinity
/// ```
pub fn all_finite(format: Format, numbers: &[u8]) -> Option<bool> {
    dequant::all_finite(format, numbers)
}

fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::Length { what, expected, found }) }
}
