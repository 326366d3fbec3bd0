//! A GGUF file by the Llama rules, as llama.cpp runs it: everything from the file's own metadata and tensors.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use quant::Format;

use super::decoder::Decoder;
use super::mapping::{ROPE_FACTORS, most_ffn};
use super::math::{
    Activations, Matrix, add_bias, attention, embed, gated, linear, multiply, rms_norm, rotate_pairs, vector,
};
use crate::config::GlmConfig;
use crate::error::{Error, Result};
use crate::gguf::{GgufFile, StoredTensor};

/// Larger sizes are damage: products of two of them must not overflow.
const MAX_SIZE: u64 = 1 << 24;

/// The model of a file.
pub(super) struct Llama<'a> {
    file: &'a GgufFile,
    tensors: BTreeMap<&'a str, &'a StoredTensor>,
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    epsilon: f32,
    /// How fast the pairs of a head turn.
    speeds: Vec<f64>,
}

impl<'a> Llama<'a> {
    pub(super) fn new(file: &'a GgufFile) -> Result<Llama<'a>> {
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
        Ok(Llama {
            file,
            tensors: file.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
            layers: size("block_count", None)?,
            hidden,
            heads,
            kv_heads,
            head_dim,
            epsilon: epsilon as f32,
            speeds: factors.iter().enumerate().map(speed).collect(),
        })
    }

    /// A matrix that must be there, with so many columns; a vector has one.
    fn matrix(&self, name: &str, columns: usize) -> Result<Stored<'a>> {
        let at_fault = |problem: String| Error::input(self.file.path(), name, problem);
        let tensor = self.tensors.get(name).ok_or_else(|| at_fault("is missing from the file".to_owned()))?;
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

    fn sized(&self, name: &str, rows: usize, columns: usize) -> Result<Stored<'a>> {
        let matrix = self.matrix(name, columns)?;
        if matrix.rows == rows {
            return Ok(matrix);
        }
        Err(Error::mismatch(self.file.path(), name, format!("{} rows", matrix.rows), rows))
    }

    fn norm(&self, name: &str, x: &Activations) -> Result<Activations> {
        Ok(rms_norm(x, &vector(&self.sized(name, self.hidden, 1)?)?, self.epsilon))
    }

    /// One of the three projections, with its bias where the file has one.
    fn project(&self, block: &str, letter: char, heads: usize, x: &Activations) -> Result<Activations> {
        let rows = heads * self.head_dim;
        let mut out = linear(&self.sized(&format!("{block}.attn_{letter}.weight"), rows, self.hidden)?, x)?;
        let bias = format!("{block}.attn_{letter}.bias");
        if self.tensors.contains_key(bias.as_str()) {
            add_bias(&mut out, &vector(&self.sized(&bias, rows, 1)?)?);
        }
        Ok(out)
    }

    fn attend(&self, block: &str, x: &Activations) -> Result<Activations> {
        let mut q = self.project(block, 'q', self.heads, x)?;
        let mut k = self.project(block, 'k', self.kv_heads, x)?;
        let v = self.project(block, 'v', self.kv_heads, x)?;
        rotate_pairs(&mut q, self.head_dim, &self.speeds);
        rotate_pairs(&mut k, self.head_dim, &self.speeds);
        let mixed = attention(&q, &k, &v, self.heads, self.kv_heads);
        linear(&self.sized(&format!("{block}.attn_output.weight"), self.hidden, mixed.nrows())?, &mixed)
    }

    fn feed_forward(&self, block: &str, x: &Activations) -> Result<Activations> {
        let ffn = self.ffn()?;
        let gate = self.sized(&format!("{block}.ffn_gate.weight"), ffn, self.hidden)?;
        let up = self.sized(&format!("{block}.ffn_up.weight"), ffn, self.hidden)?;
        let down = self.sized(&format!("{block}.ffn_down.weight"), self.hidden, ffn)?;
        let mut mixed = linear(&gate, x)?;
        gated(&mut mixed, linear(&up, x)?.view());
        linear(&down, &mixed)
    }

    /// The first layer's width, which every layer must have.
    fn ffn(&self) -> Result<usize> {
        self.matrix("blk.0.ffn_gate.weight", self.hidden).map(|gate| gate.rows)
    }

    fn output(&self) -> Result<Stored<'a>> {
        let name =
            if self.tensors.contains_key("output.weight") { "output.weight" } else { "token_embd.weight" };
        self.matrix(name, self.hidden)
    }

    /// Refuses a file that has another size than the source: its predictions could not be compared, and a
    /// stranger's file decides on the memory that running it takes.
    pub(super) fn comparable(&self, config: &GlmConfig) -> Result<()> {
        let ffn = self.ffn()?;
        let sizes = [
            ("block_count", self.layers, config.num_layers),
            ("embedding_length", self.hidden, config.hidden_size),
            ("attention.head_count", self.heads, config.num_attention_heads),
            ("attention.key_length", self.head_dim, config.head_dim),
            ("vocab_size", self.output()?.rows, config.padded_vocab_size),
        ];
        if let Some((name, found, expected)) =
            sizes.into_iter().find(|(_, found, expected)| found != expected)
        {
            return Err(wrong(self.file, name, found, expected));
        }
        let most = most_ffn(config);
        if ffn > most {
            return Err(wrong(self.file, "feed_forward_length", ffn, format!("at most {most}")));
        }
        Ok(())
    }
}

impl Decoder for Llama<'_> {
    fn layers(&self) -> usize {
        self.layers
    }

    fn vocabulary(&self) -> usize {
        self.output().map_or(0, |output| output.rows)
    }

    fn embed(&self, tokens: &[u32]) -> Result<Activations> {
        embed(&self.matrix("token_embd.weight", self.hidden)?, tokens)
    }

    fn layer(&self, number: usize, mut x: Activations) -> Result<Activations> {
        let block = format!("blk.{number}");
        x += &self.attend(&block, &self.norm(&format!("{block}.attn_norm.weight"), &x)?)?;
        x += &self.feed_forward(&block, &self.norm(&format!("{block}.ffn_norm.weight"), &x)?)?;
        Ok(x)
    }

    fn last_norm(&self, x: &Activations) -> Result<Activations> {
        self.norm("output_norm.weight", x)
    }

    fn logits(&self, rows: Range<usize>, x: &Activations) -> Result<Activations> {
        multiply(&self.output()?, rows, x)
    }
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
        let at_fault = |e: quant::Error| Error::input(self.file.path(), &self.tensor.name, e.to_string());
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
