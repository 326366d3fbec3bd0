//! Where the pipeline's bytes go: what an output has to tell about itself, and to take.

use quant::Format;

use crate::error::Result;

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
pub trait Place: Sink {
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
