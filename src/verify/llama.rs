//! A GGUF file to be run by the Llama rules: everything from the file's own metadata and tensors.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use quant::Format;

use super::mapping::{ROPE_FACTORS, most_ffn};
use crate::config::GlmConfig;
use crate::error::{Error, Result};
use crate::forward::{Llama, Matrix, Sizes, Tensors, vector};
use crate::gguf::{GgufFile, StoredTensor};

/// Larger sizes are damage: products of two of them must not overflow.
const MAX_SIZE: u64 = 1 << 24;

/// The tensors of a file.
pub(super) struct Stock<'a> {
    file: &'a GgufFile,
    by_name: BTreeMap<&'a str, &'a StoredTensor>,
}

/// The model of a file; all tokens that it is run on are one text.
pub(super) fn open(file: &GgufFile) -> Result<Llama<Stock<'_>>> {
    let size = |name: &str, absent: Option<usize>| size(file, name, absent);
    let (hidden, heads) = (size("embedding_length", None)?, size("attention.head_count", None)?);
    let kv_heads = size("attention.head_count_kv", Some(heads))?;
    let head_dim = size("attention.key_length", Some(hidden / heads))?;
    // llama.cpp refuses these too.
    if !heads.is_multiple_of(kv_heads) {
        return Err(wrong(file, "attention.head_count_kv", kv_heads, format!("a divisor of {heads}")));
    }
    for name in ["attention.value_length", "rope.dimension_count"] {
        let found = size(name, Some(head_dim))?;
        if found != head_dim || !found.is_multiple_of(2) {
            return Err(wrong(file, name, found, format!("{head_dim}, as the keys, and even")));
        }
    }
    let epsilon = file
        .float("llama.attention.layer_norm_rms_epsilon")
        .ok_or_else(|| wrong(file, "attention.layer_norm_rms_epsilon", "nothing", "a number"))?;
    let base = file.float("llama.rope.freq_base").unwrap_or(10_000.0);
    let factors = rope_factors(file)?.unwrap_or_else(|| vec![1.0; head_dim / 2]);
    let speed =
        |(i, factor): (usize, &f32)| base.powf(-2.0 * i as f64 / head_dim as f64) / f64::from(*factor);
    let tensors =
        Stock { file, by_name: file.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect() };
    let sizes = Sizes {
        layers: size("block_count", None)?,
        hidden,
        heads,
        kv_heads,
        head_dim,
        ffn: tensors.stored("blk.0.ffn_gate.weight", hidden)?.rows, // every layer must have the first one's width
        vocabulary: 0,
        epsilon: epsilon as f32,
        speeds: factors.iter().enumerate().map(speed).collect(),
    };
    let mut model = Llama { tensors, sizes, window: usize::MAX };
    model.sizes.vocabulary = model.tensors.stored(model.output_name(), hidden)?.rows;
    Ok(model)
}

impl<'a> Stock<'a> {
    /// A matrix that must be there, with so many columns; a vector has one.
    fn stored(&self, name: &str, columns: usize) -> Result<Stored<'a>> {
        let at_fault = |problem: String| self.file.refused(name, problem);
        let tensor = self.by_name.get(name).ok_or_else(|| at_fault("is missing from the file".to_owned()))?;
        let format = tensor
            .format()
            .ok_or_else(|| at_fault(format!("found {}, expected a known format", tensor.format_name())))?;
        let (rows, found) = match *tensor.shape.as_slice() {
            [rows] => (rows, 1),
            [rows, columns] => (rows, columns),
            _ => (0, 0),
        };
        if found != columns as u64 || rows == 0 || rows > MAX_SIZE {
            return Err(at_fault(format!("found shape {:?}, expected rows of {columns}", tensor.shape)));
        }
        Ok(Stored { file: self.file, tensor, format, rows: rows as usize, columns })
    }
}

impl Tensors for Stock<'_> {
    fn holds(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    fn matrix(&self, name: &str, rows: Option<usize>, columns: usize) -> Result<Box<dyn Matrix + '_>> {
        let matrix = self.stored(name, columns)?;
        match rows {
            Some(rows) if rows != matrix.rows => {
                Err(Error::mismatch(self.file.path(), name, format!("{} rows", matrix.rows), rows))
            }
            _ => Ok(Box::new(matrix)),
        }
    }
}

/// Refuses a file that has another size than the source: its predictions could not be compared, and a
/// stranger's file decides on the memory that running it takes.
pub(super) fn refuse_other_sizes(model: &Llama<Stock>, config: &GlmConfig) -> Result<()> {
    let (Sizes { layers, hidden, heads, head_dim, ffn, vocabulary, .. }, file) =
        (model.sizes.clone(), model.tensors.file);
    let sizes = [
        ("block_count", layers, config.num_layers),
        ("embedding_length", hidden, config.hidden_size),
        ("attention.head_count", heads, config.num_attention_heads),
        ("attention.key_length", head_dim, config.head_dim),
        ("vocab_size", vocabulary, config.padded_vocab_size),
    ];
    if let Some((name, found, expected)) = sizes.into_iter().find(|(_, found, expected)| found != expected) {
        return Err(wrong(file, name, found, expected));
    }
    let most = most_ffn(config);
    if ffn > most {
        return Err(wrong(file, "feed_forward_length", ffn, format!("at most {most}")));
    }
    Ok(())
}

/// The divisors of the rotation, one a pair of a head; none when the file has none, or not one a pair.
pub(super) fn rope_factors(file: &GgufFile) -> Result<Option<Vec<f32>>> {
    let Some(tensor) = file.tensor(ROPE_FACTORS) else { return Ok(None) };
    let heads = file.unsigned("llama.attention.head_count").filter(|&heads| heads > 0);
    let default = heads.and_then(|heads| Some(file.unsigned("llama.embedding_length")? / heads));
    let d = file.unsigned("llama.attention.key_length").or(default);
    let Some(format) = tensor.format().filter(|_| d.is_some_and(|d| tensor.shape == [d / 2] && d < MAX_SIZE))
    else {
        return Ok(None);
    };
    let rows = tensor.weights() as usize; // below MAX_SIZE
    vector(&Stored { file, tensor, format, rows, columns: 1 }).map(Some)
}

fn size(file: &GgufFile, name: &str, absent: Option<usize>) -> Result<usize> {
    match file.unsigned(&format!("llama.{name}")) {
        Some(found @ 1..=MAX_SIZE) => Ok(found as usize),
        Some(found) => Err(wrong(file, name, found, format!("1 to {MAX_SIZE}"))),
        None => absent.filter(|&n| n > 0).ok_or_else(|| wrong(file, name, "nothing", "a whole number")),
    }
}

fn wrong(
    file: &GgufFile,
    name: &str,
    found: impl std::fmt::Display,
    expected: impl std::fmt::Display,
) -> Error {
    Error::mismatch(file.path(), format!("llama.{name}"), found, expected)
}

/// A tensor of the file, dequantized as it is read.
struct Stored<'a> {
    file: &'a GgufFile,
    tensor: &'a StoredTensor,
    format: Format,
    rows: usize,
    columns: usize,
}

impl Matrix for Stored<'_> {
    fn name(&self) -> (&Path, &str) {
        (self.file.path(), &self.tensor.name)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let at_fault = |e: quant::Error| self.file.refused(&self.tensor.name, e);
        // Counted in weights, for a vector's blocks lie across its rows of one.
        let bytes_of = |weights: usize| {
            let misfit = quant::Error::Columns { format: self.format, columns: weights };
            self.format.row_bytes(weights).ok_or(misfit).map_err(at_fault)
        };
        let mut bytes = vec![0; bytes_of(rows.len() * self.columns)?];
        self.file.read(self.tensor, bytes_of(rows.start * self.columns)? as u64, &mut bytes)?;
        quant::dequantize(self.format, &bytes, out).map_err(at_fault)
    }
}
