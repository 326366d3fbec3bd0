//! Fills the safetensors files, one after the other, and puts the rows of each head in transformers' order.

use quant::Format;

use super::folder::Folder;
use super::layout::{ShardLayout, Tensor};
use crate::error::{Error, Result};
use crate::output::Pending;
use crate::sink::{Shape, Sink};

/// Writes the tensors of a layout in their order.
#[derive(Debug)]
pub(super) struct Writer {
    layout: ShardLayout,
    /// One file a shard.
    files: Vec<Pending>,
    /// The tensor that is being written, and its shard.
    current: usize,
    shard: usize,
    /// Its bytes so far.
    written: u64,
    /// The rows of a head that is not complete yet.
    head: Vec<u8>,
}

impl Writer {
    /// Creates every file, so that a full disk is found before the work, and writes the headers.
    pub(super) fn create(folder: &Folder, layout: &ShardLayout) -> Result<Writer> {
        let mut files = Vec::new();
        for shard in &layout.shards {
            let mut file = folder.create(&shard.name)?;
            file.reserve(shard.bytes)?;
            file.write_all(&shard.header)?;
            files.push(file);
        }
        let layout = layout.clone();
        Ok(Writer { layout, files, current: 0, shard: 0, written: 0, head: Vec::new() })
    }

    /// Syncs the complete files and gives them their names.
    pub(super) fn finish(self) -> Result<()> {
        if self.current != self.layout.tensors.len() {
            return Err(self.out_of_step());
        }
        self.files.into_iter().try_for_each(Pending::publish)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        while self.layout.shards.get(self.shard).is_some_and(|shard| shard.tensors.end <= self.current) {
            self.shard += 1;
        }
        match self.files.get_mut(self.shard) {
            Some(file) => file.write_all(bytes),
            None => Err(self.out_of_step()),
        }
    }

    /// Takes rows that come in llama.cpp's order, and writes each head as soon as it is complete.
    fn append_heads(&mut self, mut bytes: &[u8], row_bytes: usize, head_rows: usize) -> Result<()> {
        let head_bytes = head_rows * row_bytes;
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(head_bytes - self.head.len()));
            self.head.extend_from_slice(part);
            bytes = rest;
            if self.head.len() == head_bytes {
                let head = in_halves(&self.head, row_bytes);
                self.append(&head)?;
                self.head.clear();
            }
        }
        Ok(())
    }

    fn out_of_step(&self) -> Error {
        let name = self.layout.tensors.get(self.current).map_or("", |tensor| &tensor.name);
        let file = self.files.get(self.shard).or(self.files.last()).map_or("".as_ref(), |file| file.target());
        Error::Internal(format!("{}: {name}: was written out of step", file.display()))
    }
}

impl Sink for Writer {
    fn shapes(&self) -> Vec<Shape> {
        self.layout.tensors.iter().map(|tensor| tensor.shape).collect()
    }

    fn write(&mut self, tensor: usize, bytes: &[u8]) -> Result<()> {
        let Some(&Tensor { bytes: expected, head_rows, shape, .. }) = self.layout.tensors.get(self.current)
        else {
            return Err(self.out_of_step());
        };
        let written = self.written + bytes.len() as u64;
        if tensor != self.current || written > expected {
            return Err(self.out_of_step());
        }
        match head_rows {
            Some(head_rows) => {
                self.append_heads(bytes, value_bytes(shape.format) * shape.columns, head_rows)?
            }
            None => self.append(bytes)?,
        }
        self.written = written;
        if written == expected {
            if !self.head.is_empty() {
                return Err(self.out_of_step());
            }
            (self.current, self.written) = (self.current + 1, 0);
        }
        Ok(())
    }
}

/// Rows 0, 2, 4, ... and then 1, 3, 5, ...: pair `i` of adjacent rows becomes the rows `i` and `i + d/2`.
fn in_halves(head: &[u8], row_bytes: usize) -> Vec<u8> {
    let rows = |first: usize| head.chunks(row_bytes).skip(first).step_by(2).flatten().copied();
    rows(0).chain(rows(1)).collect()
}

fn value_bytes(format: Format) -> usize {
    format.row_bytes(1).expect("an export has floats only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_pairs_are_drawn_apart_into_halves() {
        let head: Vec<u8> = (0..16).collect(); // 8 rows of 2 bytes
        let expected = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];
        assert_eq!(in_halves(&head, 2), expected);
    }
}
