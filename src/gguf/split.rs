//! One GGUF file, or the several that llama.cpp takes for one: `NAME-00001-of-00003.gguf` and so on.

use std::path::{Path, PathBuf};

use super::{FileLayout, Metadata, TensorInfo, Value, Writer};
use crate::error::{Error, Result};
use crate::output::Pending;
use crate::sink::{PlacedSink, Shape, Sink, groups};
use crate::system::too_many_open;
use quant::Format;

/// The files that hold one model. All metadata is in the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// One layout a file.
    pub files: Vec<FileLayout>,
}

impl Split {
    /// Lays everything out in one file or, when a size is given, starts a new file before one has more than
    /// `most_bytes` of tensors; a larger tensor has its own.
    ///
    /// # Errors
    /// As for [`FileLayout::new`], and when that makes too many files.
    pub fn new(
        metadata: Metadata,
        tensors: Vec<(String, Vec<usize>, Format)>,
        most_bytes: Option<u64>,
    ) -> Result<Split> {
        let whole = FileLayout::new(metadata.clone(), tensors.clone())?;
        let bytes = whole.tensors.iter().map(|tensor| tensor.bytes);
        let groups = groups(bytes, most_bytes.unwrap_or(u64::MAX), "--split-max-size")?;
        if groups.len() <= 1 {
            return Ok(Split { files: vec![whole] });
        }
        let count = groups.len() as u16; // a few hundred at most
        let total = tensors.len() as i32; // a model's few thousand tensors
        let mut rest = tensors;
        let mut files = Vec::new();
        for (number, group) in (0..count).zip(groups).rev() {
            let mut keys = if number == 0 { metadata.clone() } else { Metadata::new() };
            keys.push(("split.no".to_owned(), Value::U16(number)));
            keys.push(("split.count".to_owned(), Value::U16(count)));
            keys.push(("split.tensors.count".to_owned(), Value::I32(total)));
            files.push(FileLayout::new(keys, rest.split_off(group.start))?);
        }
        files.reverse();
        Ok(Split { files })
    }

    /// All tensors, in their order.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.files.iter().flat_map(|file| &file.tensors)
    }

    /// All tensors, each with its first byte in its file.
    pub fn placed(&self) -> impl Iterator<Item = (&TensorInfo, u64)> {
        let placed = |file: &FileLayout| file.header.len() as u64;
        self.files.iter().flat_map(move |file| file.tensors.iter().map(move |t| (t, placed(file) + t.offset)))
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.total_bytes).sum()
    }

    /// Bytes before the tensors, in all files.
    pub fn header_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.header.len() as u64).sum()
    }

    /// Weights in all files, padding of the feed-forward network included.
    pub fn weights(&self) -> u64 {
        self.files.iter().map(FileLayout::weights).sum()
    }

    /// The files' names when the model as a whole is called `path`.
    pub fn paths(&self, path: &Path) -> Vec<PathBuf> {
        let count = self.files.len();
        if count == 1 {
            return vec![path.to_owned()];
        }
        let mut prefix = path.to_owned();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            prefix.set_extension("");
        }
        let name = |number: usize| {
            let mut name = prefix.clone().into_os_string();
            name.push(format!("-{number:05}-of-{count:05}.gguf"));
            PathBuf::from(name)
        };
        (1..=count).map(name).collect()
    }
}

/// Writes the files of a [`Split`]. Dropping it unfinished deletes what was written.
#[derive(Debug)]
pub struct SplitWriter {
    writers: Vec<Writer>,
    /// The file that is being written, and the number of its first tensor.
    current: usize,
    start: usize,
}

impl SplitWriter {
    /// Creates all files, each with its whole size reserved.
    ///
    /// # Errors
    /// When a file cannot be written or the disk is too full.
    pub fn create(path: &Path, split: &Split, replace: bool) -> Result<SplitWriter> {
        let files = split.paths(path).into_iter().zip(&split.files);
        let writers = files.map(|(path, layout)| {
            Writer::create(&path, layout.clone(), replace).map_err(|error| match &error {
                Error::Io { source, .. } if split.files.len() > 1 && too_many_open(source) => {
                    Error::Usage(format!("{error}: give a larger --split-max-size, or raise ulimit -n"))
                }
                _ => error,
            })
        });
        Ok(SplitWriter { writers: writers.collect::<Result<_>>()?, current: 0, start: 0 })
    }

    /// Hashes the files while they are written: to be called before the first tensor.
    pub fn record_hashes(&mut self) {
        self.writers.iter_mut().for_each(Writer::record_hash);
    }

    /// Each file's name and length and, where it was recorded, its SHA-256.
    pub fn hashes(&self) -> impl Iterator<Item = (&Path, u64, Option<String>)> {
        self.writers.iter().map(|writer| {
            let (bytes, hash) = writer.hash();
            (writer.target(), bytes, hash)
        })
    }

    /// The names that the files will have, and where they are until then.
    pub fn files(&self) -> Vec<(&Path, &Path)> {
        self.writers.iter().map(|writer| (writer.target(), writer.temporary())).collect()
    }

    /// The complete files, for [`publish`](crate::output::publish).
    ///
    /// # Errors
    /// When tensors are missing.
    pub fn into_files(self) -> Result<Vec<Pending>> {
        self.writers.into_iter().map(Writer::into_file).collect()
    }
}

impl Sink for SplitWriter {
    fn shapes(&self) -> Vec<Shape> {
        self.writers.iter().flat_map(Sink::shapes).collect()
    }

    fn write(&mut self, tensor: usize, bytes: &[u8]) -> Result<()> {
        while let Some(writer) = self.writers.get(self.current)
            && writer.require_whole().is_ok()
            && self.current + 1 < self.writers.len()
        {
            (self.current, self.start) = (self.current + 1, self.start + writer.tensor_count());
        }
        match self.writers.get_mut(self.current) {
            Some(writer) if tensor >= self.start => writer.write(tensor - self.start, bytes),
            _ => Err(Error::Internal(format!("tensor {tensor}: was written out of step"))),
        }
    }
}

impl PlacedSink for SplitWriter {
    fn write_at(&mut self, mut tensor: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        for writer in &mut self.writers {
            match tensor.checked_sub(writer.tensor_count()) {
                None => return writer.write_at(tensor, offset, bytes),
                Some(rest) => tensor = rest,
            }
        }
        Err(Error::Internal("no file to write to".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgufFile;

    fn split(most_bytes: u64) -> Split {
        let tensor = |name: &str, len| (name.to_owned(), vec![len], Format::F32);
        let tensors = vec![tensor("a", 4), tensor("b", 4), tensor("c", 100), tensor("d", 2)];
        let metadata = vec![("general.name".to_owned(), Value::String("x".to_owned()))];
        Split::new(metadata, tensors, Some(most_bytes)).unwrap()
    }

    #[test]
    fn files_are_named_filled_and_numbered_as_llama_cpp_expects() {
        let folder = tempfile::tempdir().unwrap();
        let split = split(32);
        let path = folder.path().join("m.Q4_K.gguf");
        let mut writer = SplitWriter::create(&path, &split, false).unwrap();
        for (tensor, len) in [4, 4, 100, 2].into_iter().enumerate() {
            assert!(writer.write(tensor + 1, &[0; 4]).is_err());
            writer.write(tensor, &vec![tensor as u8; 4 * len]).unwrap();
        }
        assert_eq!(
            std::fs::read_dir(&folder)
                .unwrap()
                .filter(|e| e.as_ref().unwrap().path().extension().unwrap() == "gguf")
                .count(),
            0
        );
        crate::output::publish(writer.into_files().unwrap()).unwrap();
        let expected = [&["a", "b"] as &[&str], &["c"], &["d"]];
        for (i, names) in expected.into_iter().enumerate() {
            let file =
                GgufFile::open(&folder.path().join(format!("m.Q4_K-0000{}-of-00003.gguf", i + 1))).unwrap();
            assert_eq!(file.tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), names);
            assert_eq!(file.metadata["split.no"], Value::U16(i as u16));
            assert_eq!(file.metadata["split.count"], Value::U16(3));
            assert_eq!(file.metadata["split.tensors.count"], Value::I32(4));
            assert_eq!(file.metadata.contains_key("general.name"), i == 0);
        }
    }

    #[test]
    fn what_fits_one_file_is_not_split() {
        let split = split(1 << 20);
        assert_eq!(split.paths(Path::new("m.gguf")), [Path::new("m.gguf")]);
        assert_eq!(split.files.len(), 1);
    }

    #[test]
    fn an_unfinished_split_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SplitWriter::create(&folder.path().join("m.gguf"), &split(32), false).unwrap();
        writer.write(0, &[0; 16]).unwrap();
        assert!(writer.into_files().unwrap_err().to_string().contains("b: was written out of step"));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}
