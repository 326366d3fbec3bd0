//! Reads the header of a GGUF file, which a stranger may have made: every count is held against the bytes that are
//! left before anything is allocated.
//!
//! Our own, and not the library's reader: that one refuses version 2 and keys with hyphens, and lets gaps
//! between tensors and alignments that ggml refuses pass.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufReader, Read};

use byteorder::{LittleEndian, ReadBytesExt};
use gguf_rs_lib::format::GGUFTensorType;
use quant::Format;

use super::{StoredTensor, Value};
use crate::error::{Fault, Problem};

type Result<T, E = Fault> = crate::error::Result<T, E>;

/// ggml's most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;
/// No known file nests arrays at all.
const MAX_NESTING: u32 = 2;
/// ggml takes powers of two; more than this only wastes the file.
const MAX_ALIGNMENT: u32 = 1 << 20;
/// The most memory that a header may take: in memory a value has up to 32 times its bytes in the file. The
/// largest vocabularies of all, 262,144 tokens and 514,906 merges, take 46 MB.
pub(super) const MAX_MEMORY: u64 = 48 << 20;
/// These are rough sizes in memory: of a short string's own allocation, a key or a tensor with all that belongs to it.
const LEAST_STRING: u64 = 32;
const KEY_MEMORY: u64 = 128;
pub(super) const TENSOR_MEMORY: u64 = 256;

/// Everything before the first tensor.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: Vec<StoredTensor>,
}

impl Header {
    /// Reads the header of a file of `total_bytes`, in at most `memory` bytes of memory; subtracts what it used.
    pub(super) fn read(reader: impl Read, total_bytes: u64, memory: &mut u64) -> Result<Header> {
        let mut rest = Unread {
            reader: BufReader::new(reader),
            left: total_bytes,
            memory: *memory,
            item: String::new(),
        };
        let version = rest.version()?;
        let tensor_count = rest.count(8 + 4 + 8 + 4 + 8, TENSOR_MEMORY, "tensor count")?;
        let key_count = rest.count(8 + 4 + 1, KEY_MEMORY, "metadata count")?;
        let metadata = rest.metadata(key_count)?;
        let alignment = alignment(&metadata)?;
        let infos = (0..tensor_count).map(|_| rest.tensor_info()).collect::<Result<Vec<_>>>()?;
        let data_start = (total_bytes - rest.left).next_multiple_of(alignment);
        *memory = rest.memory;
        let tensors = place(infos, data_start, alignment, total_bytes)?;
        Ok(Header { version, metadata, tensors })
    }
}

/// Lays the tensors out; they must stand densely and in order, as ggml demands.
fn place(
    mut tensors: Vec<StoredTensor>,
    data_start: u64,
    alignment: u64,
    total_bytes: u64,
) -> Result<Vec<StoredTensor>, Problem> {
    let mut names = HashSet::with_capacity(tensors.len());
    if let Some(tensor) = tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
        return Err(Problem::mismatch(&tensor.name, "it twice", "each tensor once"));
    }
    let mut expected = 0u64;
    for tensor in &mut tensors {
        if tensor.offset != expected {
            let found = format!("offset {}", tensor.offset);
            return Err(Problem::mismatch(&tensor.name, found, format!("{expected}: tensors stand densely")));
        }
        let padded =
            tensor.bytes.checked_next_multiple_of(alignment).and_then(|bytes| expected.checked_add(bytes));
        expected = padded.ok_or_else(|| Problem::new(&tensor.name, "its size overflows"))?;
        let end = data_start.checked_add(tensor.offset).and_then(|offset| {
            tensor.offset = offset;
            offset.checked_add(tensor.bytes)
        });
        if end.is_none_or(|end| end > total_bytes) {
            let end = end.map_or("far more".to_owned(), |end| end.to_string());
            let found = format!("a file of {total_bytes} bytes");
            return Err(Problem::mismatch(&tensor.name, found, format!("{end}: is the file complete?")));
        }
    }
    Ok(tensors)
}

/// The part of the header that is not read yet; every read takes its bytes from it.
struct Unread<R> {
    reader: BufReader<R>,
    left: u64,
    /// The bytes of memory that the header may still take.
    memory: u64,
    /// The key or tensor that is being read, for messages.
    item: String,
}

impl<R: Read> Unread<R> {
    fn wrong(&self, found: impl std::fmt::Display, expected: impl std::fmt::Display) -> Fault {
        Problem::mismatch(&self.item, found, expected).into()
    }

    fn take(&mut self, bytes: u64) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            self.wrong(format!("{} bytes left", self.left), format!("{bytes} more: is the file complete?"))
        })?;
        Ok(())
    }

    fn u32(&mut self) -> Result<u32> {
        self.take(4)?;
        Ok(self.reader.read_u32::<LittleEndian>()?)
    }

    fn u64(&mut self) -> Result<u64> {
        self.take(8)?;
        Ok(self.reader.read_u64::<LittleEndian>()?)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A number of things that take at least `least` bytes each in the file, so that it cannot exceed what is
    /// left, and `memory` bytes in memory, which are counted at once.
    fn count(&mut self, least: u64, memory: u64, what: &str) -> Result<u64> {
        let count = self.u64()?;
        let most = self.left / least;
        if count > most {
            return Err(self.wrong(
                format!("{what} {count}"),
                format!("at most {most} in what is left: is the file complete?"),
            ));
        }
        self.charge(count.saturating_mul(memory))?;
        Ok(count)
    }

    fn charge(&mut self, bytes: u64) -> Result<()> {
        self.memory = self.memory.checked_sub(bytes).ok_or_else(|| {
            self.wrong(format!("a header that takes over {MAX_MEMORY} bytes of memory"), "a model's")
        })?;
        Ok(())
    }

    fn string(&mut self) -> Result<String> {
        let length = self.count(1, 1, "string length")?;
        self.charge(LEAST_STRING.saturating_sub(length))?;
        self.take(length)?;
        let mut bytes = vec![0; length as usize]; // no more than what is left
        self.reader.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.wrong("a string that is no UTF-8", "UTF-8"))
    }

    fn version(&mut self) -> Result<u32> {
        let magic = self.bytes::<4>()?;
        if magic != *b"GGUF" {
            return Err(Problem::new("", "is no GGUF file: it does not start with GGUF").into());
        }
        match self.u32()? {
            version @ (2 | 3) => Ok(version),
            version => Err(self.wrong(format!("version {version:#x}"), "version 2 or 3, little-endian")),
        }
    }

    fn metadata(&mut self, count: u64) -> Result<BTreeMap<String, Value>> {
        let mut metadata = BTreeMap::new();
        for _ in 0..count {
            let key = self.string()?;
            self.item.clone_from(&key);
            if key.is_empty() || metadata.contains_key(&key) {
                return Err(self.wrong("an empty or repeated key", "each key once"));
            }
            let kind = self.u32()?;
            let value = self.value(kind, 0)?;
            metadata.insert(key, value);
        }
        self.item.clear();
        Ok(metadata)
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<Value> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.bytes()?)),
            1 => Value::I8(i8::from_le_bytes(self.bytes()?)),
            2 => Value::U16(u16::from_le_bytes(self.bytes()?)),
            3 => Value::I16(i16::from_le_bytes(self.bytes()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.bytes()?)),
            6 => Value::F32(f32::from_le_bytes(self.bytes()?)),
            7 => match self.bytes()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(self.wrong(format!("bool {other}"), "0 or 1")),
            },
            8 => Value::String(self.string()?),
            9 if depth < MAX_NESTING => self.array(depth + 1)?,
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.bytes()?)),
            12 => Value::F64(f64::from_le_bytes(self.bytes()?)),
            other => return Err(self.wrong(format!("value type {other}"), "a known one")),
        })
    }

    fn array(&mut self, depth: u32) -> Result<Value> {
        let kind = self.u32()?;
        let (least, memory) = match kind {
            0 | 1 | 7 => (1, size_of::<Value>()),
            2 | 3 => (2, size_of::<Value>()),
            4 => (4, size_of::<Value>()),
            5 | 6 => (4, 4),
            8 => (8, size_of::<String>()),
            9 => (12, size_of::<Value>()),
            _ => (8, size_of::<Value>()),
        };
        let count = self.count(least, memory as u64, "array length")?;
        match kind {
            5 => self.values(count, |rest| Ok(i32::from_le_bytes(rest.bytes()?))).map(Value::I32s),
            6 => self.values(count, |rest| Ok(f32::from_le_bytes(rest.bytes()?))).map(Value::F32s),
            8 => self.values(count, Unread::string).map(Value::Strings),
            _ => self.values(count, |rest| rest.value(kind, depth)).map(Value::Array),
        }
    }

    /// The vector is allocated at once, as its count has been charged: growing it would take up to twice as much.
    fn values<T>(&mut self, count: u64, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut values = Vec::with_capacity(count as usize); // MAX_MEMORY at most
        for _ in 0..count {
            values.push(read(self)?);
        }
        Ok(values)
    }

    /// Reads a row of the tensor table. Its `offset` is still counted from the first tensor.
    fn tensor_info(&mut self) -> Result<StoredTensor> {
        let name = self.string()?;
        self.item.clone_from(&name);
        let dimensions = self.u32()?;
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(self.wrong(format!("{dimensions} dimensions"), format!("1 to {MAX_DIMENSIONS}")));
        }
        let mut shape = (0..dimensions).map(|_| self.u64()).collect::<Result<Vec<_>>>()?;
        let ggml_type = self.u32()?;
        let offset = self.u64()?;
        let bytes = stored_bytes(&shape, ggml_type).ok_or_else(|| {
            self.wrong(format!("shape {shape:?} of type {ggml_type}"), "whole blocks of a known type")
        })?;
        shape.reverse(); // GGUF counts dimensions from the innermost
        Ok(StoredTensor { name, shape, ggml_type, offset, bytes, part: 0 })
    }
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, Problem> {
    let key = "general.alignment";
    match metadata.get(key) {
        None => Ok(super::ALIGNMENT),
        Some(Value::U32(n)) if n.is_power_of_two() && *n <= MAX_ALIGNMENT => Ok(u64::from(*n)),
        Some(other) => Err(Problem::mismatch(key, format!("{other:?}"), "a power of two")),
    }
}

/// The bytes of a tensor whose dimensions are given innermost first; `None` when there is no such tensor.
fn stored_bytes(dimensions: &[u64], ggml_type: u32) -> Option<u64> {
    let (block_len, block_bytes) = match Format::from_ggml_type(ggml_type) {
        Some(format) => (format.block_len() as u64, format.block_bytes() as u64),
        None => {
            let known = GGUFTensorType::from_u32(ggml_type).ok()?;
            (known.block_size() as u64, known.block_size_bytes()? as u64)
        }
    };
    let weights = dimensions.iter().try_fold(1u64, |n, &dimension| n.checked_mul(dimension))?;
    let fits = weights > 0 && block_len > 0 && dimensions.first()?.is_multiple_of(block_len);
    if fits { (weights / block_len).checked_mul(block_bytes) } else { None }
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
