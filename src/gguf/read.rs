//! An opened GGUF file: its keys, its tensors, and their bytes where they are asked for.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::header::{Header, MAX_MEMORY};
use super::{StoredTensor, Value};
use crate::error::{Error, InFile, Result};
use crate::input::{self, ReadAt};

/// An opened GGUF file: its header in memory, its tensors on disk.
#[derive(Debug)]
pub struct GgufFile {
    /// The files, one as a rule; see [`super::parts`]. One that is elsewhere is not open.
    pub(super) parts: Vec<(PathBuf, Option<Box<dyn ReadAt>>)>,
    /// The format's version, 2 or 3.
    pub version: u32,
    /// The metadata, by key.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<StoredTensor>,
    /// The file's length.
    pub total_bytes: u64,
}

impl GgufFile {
    /// Opens the file and reads everything before its first tensor.
    ///
    /// # Errors
    /// When it is no GGUF file, or damaged, or shorter than its header says.
    pub fn open(path: &Path) -> Result<GgufFile> {
        let mut memory = MAX_MEMORY;
        GgufFile::open_within(path, &mut memory)
    }

    /// Opens a file whose header may use at most `memory` bytes of memory, and subtracts what it used.
    pub(super) fn open_within(path: &Path, memory: &mut u64) -> Result<GgufFile> {
        let mut file = input::open(path)?;
        let total_bytes = file.length().map_err(Error::io(path, "read"))?;
        let header = Header::read(&mut file, total_bytes, memory).in_file(path)?;
        Ok(GgufFile::new(path, Some(Box::new(file)), header, total_bytes))
    }

    /// Reads the header of a file that is elsewhere; of its tensors nothing can be read then.
    ///
    /// # Errors
    /// As for [`GgufFile::open`].
    pub fn read_from(path: &Path, reader: impl Read, total_bytes: u64) -> Result<GgufFile> {
        let mut memory = MAX_MEMORY;
        let header = Header::read(reader, total_bytes, &mut memory).in_file(path)?;
        Ok(GgufFile::new(path, None, header, total_bytes))
    }

    /// A file in memory.
    #[cfg(fuzzing)]
    pub(crate) fn in_memory(path: &Path, bytes: &[u8]) -> Result<GgufFile> {
        let (total_bytes, mut memory) = (bytes.len() as u64, MAX_MEMORY);
        let header = Header::read(bytes, total_bytes, &mut memory).in_file(path)?;
        Ok(GgufFile::new(path, Some(Box::new(bytes.to_vec())), header, total_bytes))
    }

    fn new(path: &Path, file: Option<Box<dyn ReadAt>>, header: Header, total_bytes: u64) -> GgufFile {
        let Header { version, metadata, tensors } = header;
        GgufFile { parts: vec![(path.to_owned(), file)], version, metadata, tensors, total_bytes }
    }

    /// The file's name; of several, the first one's.
    pub fn path(&self) -> &Path {
        self.parts.first().map_or(Path::new(""), |(path, _)| path)
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The error on a tensor of the file that is not what it should be.
    pub(crate) fn refused(&self, tensor: &str, problem: impl ToString) -> Error {
        Error::input(self.path(), tensor, problem.to_string())
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.metadata.get(key)? {
            Value::Strings(texts) => Some(texts),
            _ => None,
        }
    }

    /// A whole number that is not negative, of whatever width.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::U8(x) => Some((*x).into()),
            Value::U16(x) => Some((*x).into()),
            Value::U32(x) => Some((*x).into()),
            Value::U64(x) => Some(*x),
            Value::I8(x) => u64::try_from(*x).ok(),
            Value::I16(x) => u64::try_from(*x).ok(),
            Value::I32(x) => u64::try_from(*x).ok(),
            Value::I64(x) => u64::try_from(*x).ok(),
            _ => None,
        }
    }

    /// A number with a fraction.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key)? {
            Value::F32(x) => Some((*x).into()),
            Value::F64(x) => Some(*x),
            _ => None,
        }
    }

    /// Reads a part of a tensor's bytes, from `start` on.
    ///
    /// # Errors
    /// When the tensor or the file does not reach that far.
    pub fn read(&self, tensor: &StoredTensor, start: u64, out: &mut [u8]) -> Result<()> {
        let (path, file) = self
            .parts
            .get(tensor.part)
            .ok_or_else(|| Error::input(self.path(), &tensor.name, "is of another model"))?;
        let end = start.saturating_add(out.len() as u64);
        if end > tensor.bytes {
            return Err(Error::mismatch(path, &tensor.name, format!("{} bytes", tensor.bytes), end));
        }
        let Some(file) = file else {
            return Err(Error::Internal(format!("{}: only its header was fetched", path.display())));
        };
        file.read_exact_at(out, tensor.offset + start).map_err(Error::io(path, "read"))
    }
}
