//! Reads a GGUF file, v3, into maps. Shares no code with the converter, and panics on anything odd.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A file's content; the order of keys and tensors does not matter.
#[derive(Debug)]
pub struct Gguf {
    pub meta: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, Tensor>,
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
}

/// A tensor's type, shape as the file has it (columns first) and bytes.
#[derive(Debug, PartialEq)]
pub struct Tensor {
    pub ggml_type: u32,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// ggml's types: number, weights in a block, bytes of a block.
const TYPES: [(u32, usize, usize); 15] = [
    (0, 1, 4),
    (1, 1, 2),
    (2, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (7, 32, 24),
    (8, 32, 34),
    (10, 256, 84),
    (11, 256, 110),
    (12, 256, 144),
    (13, 256, 176),
    (14, 256, 210),
    (20, 32, 18),
    (23, 256, 136),
    (30, 1, 2),
];

impl Gguf {
    /// The metadata without what says how this program made the file.
    pub fn model_meta(&self) -> BTreeMap<&str, &Value> {
        let own = |key: &&String| !key.starts_with("glm2llama.");
        self.meta.keys().filter(own).map(|key| (key.as_str(), &self.meta[key])).collect()
    }

    pub fn read(file: &Path) -> Gguf {
        let bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut reader = Reader { bytes: &bytes, at: 0 };
        assert_eq!(reader.take(4), b"GGUF");
        assert_eq!(reader.u32(), 3, "version");
        let (tensor_count, meta_count) = (reader.size(), reader.size());
        let mut meta = BTreeMap::new();
        for _ in 0..meta_count {
            let key = reader.text();
            let kind = reader.u32();
            let value = reader.value(kind);
            assert!(meta.insert(key.clone(), value).is_none(), "{key} stands twice");
        }
        let mut infos = Vec::new();
        for _ in 0..tensor_count {
            let name = reader.text();
            let dimensions = reader.u32();
            let shape: Vec<usize> = (0..dimensions).map(|_| reader.size()).collect();
            infos.push((name, shape, reader.u32(), reader.size()));
        }

        let data = reader.at.next_multiple_of(32);
        let mut end = data;
        let mut tensors = BTreeMap::new();
        for (name, shape, ggml_type, offset) in infos {
            let start = data + offset;
            assert_eq!(start, end, "{name}: tensors lie one after the other");
            let row = TYPES.iter().find(|row| row.0 == ggml_type);
            let (_, block_len, block_bytes) = row.unwrap_or_else(|| panic!("{name}: type {ggml_type}"));
            assert!(shape[0].is_multiple_of(*block_len), "{name}: whole blocks in a row");
            let len = shape.iter().product::<usize>() / block_len * block_bytes;
            end = (start + len).next_multiple_of(32);
            let tensor = Tensor { ggml_type, shape, bytes: bytes[start..start + len].to_vec() };
            assert!(tensors.insert(name.clone(), tensor).is_none(), "{name} stands twice");
        }
        assert_eq!(end, bytes.len(), "the file ends with the last tensor's padding");
        Gguf { meta, tensors }
    }

    /// A metadata value that must be there.
    #[track_caller]
    pub fn value(&self, key: &str) -> &Value {
        self.meta.get(key).unwrap_or_else(|| panic!("no {key}"))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        self.at += len;
        &self.bytes[self.at - len..self.at]
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("the length asked for")
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn size(&mut self) -> usize {
        u64::from_le_bytes(self.array()).try_into().expect("a size of this machine")
    }

    fn text(&mut self) -> String {
        let len = self.size();
        String::from_utf8(self.take(len).to_vec()).expect("UTF-8")
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            0 => Value::Int(u8::from_le_bytes(self.array()).into()),
            1 => Value::Int(i8::from_le_bytes(self.array()).into()),
            2 => Value::Int(u16::from_le_bytes(self.array()).into()),
            3 => Value::Int(i16::from_le_bytes(self.array()).into()),
            4 => Value::Int(self.u32().into()),
            5 => Value::Int(i32::from_le_bytes(self.array()).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()).into()),
            7 => Value::Bool(self.take(1) != [0]),
            8 => Value::Text(self.text()),
            9 => {
                let (kind, len) = (self.u32(), self.size());
                Value::List((0..len).map(|_| self.value(kind)).collect())
            }
            10 => Value::Int(u64::from_le_bytes(self.array()).into()),
            11 => Value::Int(i64::from_le_bytes(self.array()).into()),
            12 => Value::Float(f64::from_le_bytes(self.array())),
            other => panic!("metadata of type {other}"),
        }
    }
}
