//! Fills one GGUF file: tensor after tensor in the layout's order, or each piece at its place.

use std::path::Path;

use super::{ALIGNMENT, FileLayout, TensorInfo};
use crate::error::{Error, Result};
use crate::output::Pending;
use crate::sink::{PlacedSink, Shape, Sink};

/// Writes the tensors of a layout. Dropping it unfinished deletes what was written.
#[derive(Debug)]
pub struct Writer {
    file: Pending,
    layout: FileLayout,
    /// The tensor that is being written.
    current: usize,
    /// Its bytes so far.
    written: u64,
    /// Bytes so far of each tensor, where they come in any order.
    placed: Option<Vec<u64>>,
}

impl Writer {
    /// Creates the file, reserves its whole size and writes the header.
    ///
    /// # Errors
    /// When the target cannot be written or the disk is too full.
    pub fn create(target: &Path, layout: FileLayout, replace: bool) -> Result<Writer> {
        let mut file = Pending::create(target, replace)?;
        file.reserve(layout.total_bytes)?;
        file.write_all(&layout.header)?;
        Ok(Writer { file, layout, current: 0, written: 0, placed: None })
    }

    /// Hashes the file while it is written: to be called before the first tensor.
    pub fn record_hash(&mut self) {
        self.file.record_hash(&self.layout.header);
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
        let missing = match &self.placed {
            None => (self.current < self.layout.tensors.len()).then_some(self.current),
            Some(placed) => {
                let tensors = self.layout.tensors.iter().zip(placed);
                tensors.into_iter().position(|(info, &placed)| placed != info.bytes)
            }
        };
        missing.map_or(Ok(()), |tensor| Err(self.out_of_step(tensor)))
    }

    pub(super) fn tensor_count(&self) -> usize {
        self.layout.tensors.len()
    }

    fn out_of_step(&self, tensor: usize) -> Error {
        let name = self.layout.tensors.get(tensor).map_or("", |info| &info.name);
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
        if tensor != self.current || written > expected || self.placed.is_some() {
            return Err(self.out_of_step(self.current));
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

impl PlacedSink for Writer {
    /// What lies between the tensors is zero from the start.
    fn write_at(&mut self, tensor: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let fits =
            |info: &&TensorInfo| offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= info.bytes);
        let Some(info) = self.layout.tensors.get(tensor).filter(fits) else {
            return Err(self.out_of_step(tensor));
        };
        if self.placed.is_none() {
            self.file.set_length(self.layout.total_bytes)?;
        }
        self.file.write_all_at(bytes, self.layout.header.len() as u64 + info.offset + offset)?;
        let placed = self.placed.get_or_insert_with(|| vec![0; self.layout.tensors.len()]);
        placed[tensor] += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quant::Format;

    fn layout() -> FileLayout {
        let tensors = [("a".to_owned(), vec![3], Format::F32), ("b".to_owned(), vec![8], Format::F32)];
        FileLayout::new(vec![], tensors).unwrap()
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
    fn places_in_any_order_make_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let mut in_order = Writer::create(&file("a"), layout(), false).unwrap();
        in_order.write(0, &[1; 12]).unwrap();
        in_order.write(1, &[2; 32]).unwrap();
        in_order.finish().unwrap();
        let mut placed = Writer::create(&file("b"), layout(), false).unwrap();
        placed.write_at(1, 8, &[2; 24]).unwrap();
        placed.write_at(0, 0, &[1; 12]).unwrap();
        assert!(placed.write_at(0, 8, &[1; 5]).is_err());
        assert!(placed.require_whole().unwrap_err().to_string().contains("b: was written out of step"));
        placed.write_at(1, 0, &[2; 8]).unwrap();
        placed.finish().unwrap();
        assert_eq!(std::fs::read(file("a")).unwrap(), std::fs::read(file("b")).unwrap());
    }

    #[test]
    fn wrong_order_and_surplus_bytes_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&folder.path().join("m.gguf"), layout(), false).unwrap();
        assert!(writer.write(1, &[0; 4]).is_err());
        assert!(writer.write(0, &[0; 16]).is_err());
    }
}
