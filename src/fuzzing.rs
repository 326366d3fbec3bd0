//! Doors for the fuzz targets in `fuzz/`: bytes in, any outcome but a panic. No part of the public interface.
//!
//! All of them work in memory.

use std::path::Path;

use quant::Format;

use crate::checkpoint::Checkpoint;
use crate::config::{GlmConfig, RopeRatio};
use crate::gguf::{FileLayout, GgufFile, Value};
use crate::imatrix::ImportanceMatrix;
use crate::remap::Rope;
use crate::tokenizer;

/// `model.safetensors`.
pub fn safetensors(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::in_memory("model.safetensors", bytes) {
        // Whatever the header promises can be read.
        for tensor in checkpoint.tensors().values() {
            let mut row = vec![0; tensor.row_bytes()];
            assert!(checkpoint.read_rows(tensor, tensor.rows() - 1, &mut row).is_ok());
        }
    }
}

/// `pytorch_model.bin`.
pub fn pytorch(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::in_memory("pytorch_model.bin", bytes) {
        for tensor in checkpoint.tensors().values() {
            let mut row = vec![0; tensor.row_bytes()];
            // Other bytes than a record's CRC is of are the one thing that only reading shows.
            if let Err(error) = checkpoint.read_rows(tensor, tensor.rows() - 1, &mut row) {
                assert!(error.to_string().contains("found bytes of CRC-32"), "{error}");
            }
        }
    }
}

/// `model.safetensors.index.json`.
pub fn shard_index(bytes: &[u8]) {
    let _ = crate::checkpoint::parse_index(bytes);
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
    let _ = tokenizer::of_bytes(bytes, &config);
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
    let file = Path::new("imatrix");
    if !bytes.starts_with(b"GGUF") {
        let _ = ImportanceMatrix::of_dat(file, bytes);
    } else if let Ok(gguf) = GgufFile::in_memory(file, bytes) {
        let _ = ImportanceMatrix::of_gguf(&gguf);
    }
}

/// A GGUF file.
pub fn gguf(bytes: &[u8]) {
    if let Ok(gguf) = GgufFile::in_memory(Path::new("m.gguf"), bytes) {
        for tensor in &gguf.tensors {
            // Whatever the header promises can be read.
            assert!(gguf.read(tensor, tensor.bytes - 1, &mut [0]).is_ok());
        }
    }
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
    let Ok(layout) = FileLayout::new(keys.clone(), tensors) else { return };
    let mut file = layout.header.clone();
    file.resize(layout.total_bytes as usize, 0);
    let read = GgufFile::in_memory(Path::new("m.gguf"), &file);
    let Ok(read) = read else { panic!("refused: {read:?}") };
    assert!(keys.iter().all(|(key, value)| read.metadata.get(key) == Some(value)), "{keys:?}");
    assert_eq!(read.tensors.len(), layout.tensors.len());
    for (read, laid) in read.tensors.iter().zip(&layout.tensors) {
        let shape: Vec<usize> = read.shape.iter().map(|&size| size as usize).collect();
        assert_eq!((&read.name, &shape, read.bytes), (&laid.name, &laid.shape, laid.bytes));
        assert_eq!(read.offset, layout.header.len() as u64 + laid.offset);
    }
}
