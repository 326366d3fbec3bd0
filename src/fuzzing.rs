//! Doors for the fuzz targets in `fuzz/`: bytes in, any outcome but a panic. No part of the public interface.
//!
//! Most readers take files, as their checks of lengths and offsets are against a file. Each thread has one of its
//! own that is written again and again.

use std::cell::RefCell;
use std::path::Path;

use quant::Format;

use crate::checkpoint::Checkpoint;
use crate::config::GlmConfig;
use crate::gguf::{GgufFile, Layout, Value};
use crate::imatrix::ImportanceMatrix;
use crate::remap::{Rope, RopeRatio};
use crate::tokenizer;

thread_local! {
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// Writes the bytes under a name in the thread's folder, and does something with the folder and the file.
fn with_file<T>(name: &str, bytes: &[u8], act: impl FnOnce(&Path, &Path) -> T) -> Option<T> {
    FOLDER.with_borrow_mut(|folder| {
        if folder.is_none() {
            *folder = tempfile::tempdir().ok();
        }
        let folder = folder.as_ref()?.path();
        let file = folder.join(name);
        std::fs::write(&file, bytes).ok()?;
        Some(act(folder, &file))
    })
}

/// `model.safetensors`.
pub fn safetensors(bytes: &[u8]) {
    with_file("model.safetensors", bytes, |folder, _| {
        if let Ok(checkpoint) = Checkpoint::open(folder) {
            // Whatever the header promises can be read.
            for tensor in checkpoint.tensors().values() {
                let mut row = vec![0; tensor.row_bytes()];
                assert!(checkpoint.read_rows(tensor, tensor.rows() - 1, &mut row).is_ok());
            }
        }
    });
}

/// `pytorch_model.bin`.
pub fn pytorch(bytes: &[u8]) {
    with_file("pytorch_model.bin", bytes, |folder, _| {
        if let Ok(checkpoint) = Checkpoint::open(folder) {
            for tensor in checkpoint.tensors().values() {
                let mut row = vec![0; tensor.row_bytes()];
                assert!(checkpoint.read_rows(tensor, tensor.rows() - 1, &mut row).is_ok());
            }
        }
    });
}

/// `model.safetensors.index.json`.
pub fn shard_index(bytes: &[u8]) {
    with_file("model.safetensors.index.json", bytes, |folder, _| drop(Checkpoint::open(folder)));
}

/// `config.json`.
pub fn config(bytes: &[u8]) {
    if let Ok(config) = GlmConfig::parse(bytes) {
        let _ = Rope::new(&config, RopeRatio::Base);
        let _ = Rope::new(&config, RopeRatio::Positions);
    }
}

/// `tokenizer.model`, for an embedding of 4096 rows.
pub fn tokenizer(bytes: &[u8]) {
    const CONFIG: &[u8] = br#"{"model_type": "chatglm", "num_layers": 1, "hidden_size": 64, "ffn_hidden_size": 64,
        "num_attention_heads": 1, "multi_query_attention": true, "multi_query_group_num": 1, "kv_channels": 64,
        "padded_vocab_size": 4096, "seq_length": 8192}"#;
    let Ok(config) = GlmConfig::parse(CONFIG) else { panic!("a good config was refused") };
    with_file("tokenizer.model", bytes, |folder, _| drop(tokenizer::load(folder, &config)));
}

/// tiktoken's lines: what every vocabulary starts with, and then the bytes.
pub fn tiktoken(bytes: &[u8]) {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut lines = Vec::new();
    for byte in 0..=u8::MAX {
        lines.extend([DIGITS[usize::from(byte >> 2)], DIGITS[usize::from(byte << 4 & 63)]]);
        lines.extend(format!("== {byte}\n").bytes());
    }
    lines.extend(bytes);
    tokenizer(&lines);
}

/// An importance matrix of either kind.
pub fn imatrix(bytes: &[u8]) {
    with_file("imatrix", bytes, |_, file| drop(ImportanceMatrix::load(file)));
}

/// A GGUF file.
pub fn gguf(bytes: &[u8]) {
    with_file("m.gguf", bytes, |_, file| {
        if let Ok(gguf) = GgufFile::open(file) {
            for tensor in &gguf.tensors {
                // Whatever the head promises can be read.
                assert!(gguf.read(tensor, tensor.bytes - 1, &mut [0]).is_ok());
            }
        }
    });
}

/// Keys and tensors made from the bytes: laid out, written and read back, they are the same.
pub fn gguf_round_trip(bytes: &[u8]) {
    let mut keys: Vec<(String, Value)> = Vec::new();
    let mut tensors: Vec<(String, Vec<usize>, Format)> = Vec::new();
    for part in bytes.chunks(12) {
        let [kind, a, b, text @ ..] = part else { break };
        let name = format!("k{}", keys.len() + tensors.len());
        let text = String::from_utf8_lossy(text).into_owned();
        match kind % 8 {
            0 => keys.push((name, Value::String(text))),
            1 => keys.push((name, Value::U32(u32::from(*a) << 8 | u32::from(*b)))),
            2 => keys.push((name, Value::Strings(vec![text; usize::from(*a)]))),
            3 => keys.push((name, Value::F32s(vec![f32::from(*a); usize::from(*b)]))),
            4 => keys.push((name, Value::Bool(a & 1 == 1))),
            5 => keys.push((name, Value::I32s(vec![-i32::from(*a); usize::from(*b)]))),
            _ => {
                let format = Format::ALL[usize::from(*a) % Format::ALL.len()];
                tensors.push((name, vec![usize::from(*b) + 1, format.block_len()], format));
            }
        }
    }
    let Ok(layout) = Layout::new(keys.clone(), tensors) else { return };
    let mut file = layout.head.clone();
    file.resize(layout.total_bytes as usize, 0);
    let read = with_file("m.gguf", &file, |_, file| GgufFile::open(file));
    let Some(Ok(read)) = read else { panic!("refused: {read:?}") };
    assert!(keys.iter().all(|(key, value)| read.metadata.get(key) == Some(value)), "{keys:?}");
    assert_eq!(read.tensors.len(), layout.tensors.len());
    for (read, laid) in read.tensors.iter().zip(&layout.tensors) {
        let shape: Vec<usize> = read.shape.iter().map(|&size| size as usize).collect();
        assert_eq!((&read.name, &shape, read.bytes), (&laid.name, &laid.shape, laid.bytes));
        assert_eq!(read.offset, layout.head.len() as u64 + laid.offset);
    }
}
