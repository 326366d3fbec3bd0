//! The plan cut into pieces of bounded size, each some rows of one tensor, and how a piece is read.

use std::ops::Range;

use super::Work;
use crate::error::Result;
use crate::remap::Source;

/// Some rows of one target tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The target's number in the plan.
    pub(super) tensor: usize,
    /// Which of its rows, padding not counted.
    pub(super) rows: Range<usize>,
}

/// All chunks of a plan, in the order in which they are written.
pub(super) struct Chunks {
    /// Rows of each target, and how many of them make up a chunk.
    sizes: Vec<(usize, usize)>,
    total_bytes: u64,
    next: Chunk,
}

impl Chunks {
    /// Chunks of at most `max_bytes` of the checkpoint, but of one row at least.
    pub(super) fn new(&Work { plan, .. }: &Work, max_bytes: usize) -> Chunks {
        let row_bytes: Vec<usize> =
            plan.tensors.iter().map(|target| target.columns * target.dtype().bytes()).collect();
        let sizes = plan
            .tensors
            .iter()
            .zip(&row_bytes)
            .map(|(target, bytes)| (target.rows, (max_bytes / bytes).max(1)));
        let total_bytes =
            plan.tensors.iter().zip(&row_bytes).map(|(target, bytes)| (target.rows * bytes) as u64).sum();
        Chunks { sizes: sizes.collect(), total_bytes, next: Chunk { tensor: 0, rows: 0..0 } }
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

impl Iterator for Chunks {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        let Chunk { mut tensor, rows } = self.next.clone();
        let mut start = rows.end;
        if self.sizes.get(tensor).is_some_and(|&(rows, _)| start == rows) {
            (tensor, start) = (tensor + 1, 0);
        }
        let &(rows, step) = self.sizes.get(tensor)?;
        self.next = Chunk { tensor, rows: start..(start + step).min(rows) };
        Some(self.next.clone())
    }
}

impl Chunk {
    /// Reads the rows, as they are stored, into `input`.
    pub(super) fn read(&self, &Work { plan, checkpoint, .. }: &Work, input: &mut Vec<u8>) -> Result<()> {
        let target = &plan.tensors[self.tensor];
        if let Source::Values(values) = &target.source {
            input.clear();
            input.extend(values[self.rows.clone()].iter().flat_map(|value| value.to_le_bytes()));
            return Ok(());
        }
        set_length(input, self.rows.len() * target.columns * target.dtype().bytes());
        let mut rest = input.as_mut_slice();
        for (span, rows) in target.parts(self.rows.clone()) {
            let bytes;
            (bytes, rest) = rest.split_at_mut(rows.len() * span.stored.row_bytes());
            checkpoint.read_rows(&span.stored, rows.start, bytes)?;
        }
        Ok(())
    }
}

/// Makes a buffer longer or shorter; what is in it does not matter. `Vec::resize` goes byte by byte in code that is
/// compiled to be small.
pub(super) fn set_length(buffer: &mut Vec<u8>, length: usize) {
    buffer.truncate(length);
    buffer.reserve(length - buffer.len());
    while buffer.len() < length {
        buffer.extend_from_slice(&[0; 4096][..(length - buffer.len()).min(4096)]);
    }
}
