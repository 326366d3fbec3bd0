//! One tensor: where it lies, and what it is.

use std::ops::Range;

use super::dtype::Dtype;
use crate::error::{Problem, Result};

/// Where a tensor lies and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// How its values are stored.
    pub dtype: Dtype,
    /// Row-major shape, `[out, in]` or `[len]`.
    pub shape: Vec<usize>,
    /// Which of the checkpoint's shards holds it.
    pub(super) shard: usize,
    /// Its first byte in that shard.
    pub(super) offset: u64,
}

impl Tensor {
    /// Rows: the first dimension.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Values in a row: the product of the other dimensions, so 1 for a vector.
    pub fn columns(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Bytes in a row.
    pub fn row_bytes(&self) -> usize {
        self.columns() * self.dtype.bytes()
    }

    /// The number of the checkpoint's file that holds some of its rows, and their bytes in it.
    pub(crate) fn place(&self, rows: &Range<usize>) -> (usize, Range<u64>) {
        let byte = |row: usize| self.offset + row as u64 * self.row_bytes() as u64;
        (self.shard, byte(rows.start)..byte(rows.end))
    }
}

/// One tensor, as a file's header tells of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub(super) offset: u64,
}

impl Entry {
    /// Refuses what is neither a vector nor a matrix: a ChatGLM model has nothing else.
    pub(super) fn check_shape(name: &str, shape: &[usize]) -> Result<(), Problem> {
        if shape.is_empty() || shape.len() > 2 || shape.contains(&0) {
            let found = if shape.len() > 8 {
                format!("{} dimensions", shape.len())
            } else {
                format!("shape {shape:?}")
            };
            let hint = if shape.contains(&0) { ", none of its sizes 0" } else { "" };
            return Err(Problem::mismatch(name, found, format!("a vector or a matrix{hint}")));
        }
        Ok(())
    }
}
