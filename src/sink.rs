//! Where the pipeline's bytes go: what an output has to tell about itself, and to take.

use std::ops::Range;

use quant::Format;

use crate::error::{Error, Result};

/// All files of an output are open at the same time, and a system allows a process about a thousand.
const MOST_FILES: usize = 500;

/// An output that is filled tensor after tensor, in the plan's order.
pub trait Sink {
    /// How each of the plan's tensors stands in it.
    fn shapes(&self) -> Vec<Shape>;

    /// Appends bytes of the tensor with this number in the plan.
    ///
    /// # Errors
    /// When it is another tensor's turn or the bytes are too many (both are faults of the caller), or the
    /// system cannot write.
    fn write(&mut self, tensor: usize, bytes: &[u8]) -> Result<()>;
}

/// An output that takes a tensor's bytes in any order.
pub trait PlacedSink: Sink {
    /// Puts bytes of the tensor with this number in the plan to their place, `offset` bytes behind its first.
    ///
    /// # Errors
    /// When the tensor ends before (a fault of the caller), or the system cannot write.
    fn write_at(&mut self, tensor: usize, offset: u64, bytes: &[u8]) -> Result<()>;
}

/// How a tensor stands in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How its values are stored.
    pub format: Format,
    /// Rows, with padding; for a vector, its length.
    pub rows: usize,
    /// Values in a row, with padding; 1 for a vector.
    pub columns: usize,
}

/// Which of an output's tensors, given by their bytes, go into each of its files, in their order: as many as have at
/// most so many bytes together, or one that has more.
///
/// # Errors
/// When those are too many files; `option` is what asks for them.
pub fn groups(tensors: impl Iterator<Item = u64>, most: u64, option: &str) -> Result<Vec<Range<usize>>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut sum = 0u64;
    for (i, bytes) in tensors.enumerate() {
        sum = sum.saturating_add(bytes);
        match groups.last_mut() {
            Some(group) if sum <= most => group.end = i + 1,
            _ => {
                groups.push(i..i + 1);
                sum = bytes;
            }
        }
    }
    if groups.len() > MOST_FILES {
        return Err(Error::Usage(format!(
            "{option}: found one that makes {} files, expected a size that makes at most {MOST_FILES}",
            groups.len()
        )));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_whole_tensors_and_at_least_one() {
        let of = |bytes: &[u64], most| groups(bytes.iter().copied(), most, "--size");
        assert_eq!(of(&[4, 4, 4, 40, 4], 8).unwrap(), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(of(&[4, 4], 8).unwrap(), [0..2; 1]);
        assert_eq!(of(&[u64::MAX, 4], u64::MAX).unwrap(), [0..2; 1]);
        assert!(of(&[], 8).unwrap().is_empty());
        let error = of(&[1; 501], 1).unwrap_err().to_string();
        assert!(error.starts_with("--size: found one that makes 501 files"), "{error}");
    }
}
