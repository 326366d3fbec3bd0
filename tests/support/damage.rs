//! Damage to GGUF files, byte by byte: nothing of the converter writes them.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use glm2llama::gguf::GgufFile;

/// A file in memory that is about to be damaged.
pub struct Damaged {
    path: PathBuf,
    pub bytes: Vec<u8>,
}

impl Damaged {
    pub fn read(path: &Path) -> Damaged {
        Damaged { path: path.to_owned(), bytes: fs::read(path).expect("a file") }
    }

    pub fn write(&self) {
        fs::write(&self.path, &self.bytes).expect("written");
    }

    /// Where a tensor's bytes are.
    pub fn tensor(&self, name: &str) -> Range<usize> {
        let file = GgufFile::open(&self.path).expect("a GGUF file");
        let tensor = file.tensor(name).unwrap_or_else(|| panic!("no tensor {name}"));
        let start = tensor.offset as usize;
        start..start + tensor.bytes as usize
    }

    /// Changes some bytes of a tensor.
    pub fn change(&mut self, name: &str, within: Range<usize>, change: impl Fn(u8) -> u8) {
        let tensor = self.tensor(name);
        self.bytes[tensor][within].iter_mut().for_each(|byte| *byte = change(*byte));
    }

    /// Overwrites one F32 of a tensor.
    pub fn set_f32(&mut self, name: &str, index: usize, value: f32) {
        let start = self.tensor(name).start + 4 * index;
        self.bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Exchanges the bytes of two tensors of the same size.
    pub fn exchange(&mut self, a: &str, b: &str) {
        let (a, b) = (self.tensor(a), self.tensor(b));
        assert_eq!(a.len(), b.len());
        let of_a = self.bytes[a.clone()].to_vec();
        self.bytes.copy_within(b.clone(), a.start);
        self.bytes[b].copy_from_slice(&of_a);
    }

    /// Overwrites text with other text of the same length, at its first place after some other.
    pub fn replace(&mut self, after: &str, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let find = |start: usize, text: &str| {
            let found = self.bytes[start..].windows(text.len()).position(|window| window == text.as_bytes());
            start + found.unwrap_or_else(|| panic!("no {text:?}"))
        };
        let place = find(find(0, after), from);
        self.bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    }

    /// Overwrites the four bytes of a metadata value.
    pub fn set_value(&mut self, key: &str, value: [u8; 4]) {
        let found = self.bytes.windows(key.len()).position(|window| window == key.as_bytes());
        let place = found.unwrap_or_else(|| panic!("no {key}")) + key.len() + 4; // the value's type
        self.bytes[place..place + 4].copy_from_slice(&value);
    }
}
