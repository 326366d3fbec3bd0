//! Fills one GGUF file, tensor after tensor, in the layout's order.

use std::path::Path;

use super::{ALIGNMENT, Layout, TensorInfo};
use crate::error::{Error, Result};
use crate::output::Pending;
use crate::sink::{Shape, Sink};

/// Writes the tensors of a layout in their order. Dropping it unfinished deletes what was written.
#[derive(Debug)]
pub struct Writer {
    file: Pending,
    layout: Layout,
    /// The tensor that is being written.
    current: usize,
    /// Its bytes so far.
    written: u64,
}

impl Writer {
    /// Creates the file, reserves its whole size and writes the head.
    ///
    /// # Errors
    /// When the target cannot be written or the disk is too full.
    pub fn create(target: &Path, layout: Layout, replace: bool) -> Result<Writer> {
        let mut file = Pending::create(target, replace)?;
        file.reserve(layout.total_bytes)?;
        file.write_all(&layout.head)?;
        Ok(Writer { file, layout, current: 0, written: 0 })
    }

    /// Hashes the file while it is written: to be called before the first tensor.
    pub fn record_hash(&mut self) {
        self.file.record_hash(&self.layout.head);
    }

    /// The finished file's length and, where it was recorded, its SHA-256 in hexadecimal.
    pub fn hash(&self) -> (u64, Option<String>) {
        (self.layout.total_bytes, self.file.hash())
    }

    /// The name it will have.
    pub fn target(&self) -> &Path {
        self.file.target()
    }

    /// Where its bytes are until then.
    pub fn temporary(&self) -> &Path {
        self.file.temporary()
    }

    /// Syncs the complete file and gives it its name.
    ///
    /// # Errors
    /// When tensors are missing, or the system cannot sync or rename.
    pub fn finish(self) -> Result<()> {
        self.into_file()?.publish()
    }

    /// The complete file, without its name yet.
    ///
    /// # Errors
    /// When tensors are missing.
    pub(super) fn into_file(self) -> Result<Pending> {
        self.require_whole()?;
        Ok(self.file)
    }

    /// Every tensor was written.
    pub(super) fn require_whole(&self) -> Result<()> {
        if self.current == self.layout.tensors.len() { Ok(()) } else { Err(self.out_of_step()) }
    }

    pub(super) fn tensor_count(&self) -> usize {
        self.layout.tensors.len()
    }

    fn out_of_step(&self) -> Error {
        let name = self.layout.tensors.get(self.current).map_or("", |info| &info.name);
        Error::Internal(format!("{}: {name}: was written out of step", self.file.target().display()))
    }
}

impl Sink for Writer {
    fn shapes(&self) -> Vec<Shape> {
        let shape = |info: &TensorInfo| match info.shape[..] {
            [rows, columns] => Shape { format: info.format, rows, columns },
            _ => Shape { format: info.format, rows: info.shape.iter().product(), columns: 1 },
        };
        self.layout.tensors.iter().map(shape).collect()
    }

    /// A full tensor is padded and the next begins.
    fn write(&mut self, tensor: usize, bytes: &[u8]) -> Result<()> {
        let expected = self.layout.tensors.get(self.current).map_or(0, |info| info.bytes);
        let written = self.written + bytes.len() as u64;
        if tensor != self.current || written > expected {
            return Err(self.out_of_step());
        }
        self.file.write_all(bytes)?;
        self.written = written;
        if written == expected {
            let padding = written.next_multiple_of(ALIGNMENT) - written;
            self.file.write_all(&[0; ALIGNMENT as usize][..padding as usize])?;
            (self.current, self.written) = (self.current + 1, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quant::Format;

    fn layout() -> Layout {
        let tensors = [("a".to_owned(), vec![3], Format::F32), ("b".to_owned(), vec![8], Format::F32)];
        Layout::new(vec![], tensors).unwrap()
    }

    #[test]
    fn a_finished_file_has_the_layouts_size_and_an_unfinished_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("m.gguf");
        let mut writer = Writer::create(&target, layout(), false).unwrap();
        writer.write(0, &[1; 12]).unwrap();
        assert!(writer.finish().unwrap_err().to_string().contains("b: was written out of step"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        let mut writer = Writer::create(&target, layout(), false).unwrap();
        writer.write(0, &[1; 12]).unwrap();
        writer.write(1, &[2; 30]).unwrap();
        writer.write(1, &[2; 2]).unwrap();
        writer.finish().unwrap();
        assert_eq!(std::fs::metadata(&target).unwrap().len(), layout().total_bytes);
    }

    #[test]
    fn wrong_order_and_surplus_bytes_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&folder.path().join("m.gguf"), layout(), false).unwrap();
        assert!(writer.write(1, &[0; 4]).is_err());
        assert!(writer.write(0, &[0; 16]).is_err());
    }
}
