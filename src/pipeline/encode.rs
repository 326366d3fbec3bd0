//! The work on one chunk: decode to f32, check, pad, quantize for every output file.

use std::cell::RefCell;

use half::{bf16, f16};
use quant::{Backend, Format};

use super::Work;
use super::chunk::Chunk;
use super::zeros::Rows;
use crate::error::{Error, Result};
use crate::remap::{Source, Target};
use crate::sink::Shape;

/// Weights that are decoded and quantized at a time: 256 kB as f32, which a core's own cache holds.
const GROUP: usize = 1 << 16;

/// What the workers need to know; shared, never changed.
pub(super) struct Encoder<'a> {
    pub(super) work: &'a Work<'a>,
    backend: Backend,
    /// By output file, then by tensor.
    outputs: Vec<Vec<Shape>>,
}

thread_local! {
    /// Each worker's decoded weights: as stored, and with padded columns.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

impl<'a> Encoder<'a> {
    pub(super) fn new(work: &'a Work<'a>, outputs: Vec<Vec<Shape>>, backend: Backend) -> Encoder<'a> {
        Encoder { work, backend, outputs }
    }

    /// How many times the bytes read the bytes written may be, over all outputs.
    pub(super) fn growth(&self) -> usize {
        2 * self.outputs.len() // F16 in, F32 out
    }

    /// The output holds the tensor's rows just as the checkpoint does: they are copied, not encoded.
    pub(super) fn copies(&self, tensor: usize, output: usize) -> bool {
        let target = &self.work.plan.tensors[tensor];
        let shape = self.outputs[output][tensor];
        !self.merges(target) && shape.columns == target.columns && shape.format == target.dtype().format()
    }

    /// An adapter changes the tensor's weights.
    fn merges(&self, target: &Target) -> bool {
        match &target.source {
            Source::Rows(spans) => spans.iter().any(|span| self.work.lora.changes(&span.tensor)),
            Source::Values(_) => false,
        }
    }

    /// Adds the adapters to decoded rows of a target, from `first_row` on.
    fn merge(&self, target: &Target, first_row: usize, weights: &mut [f32]) -> Result<()> {
        let mut rest = weights;
        for (span, rows) in target.parts(first_row..first_row + rest.len() / target.columns) {
            let part;
            (part, rest) = rest.split_at_mut(rows.len() * target.columns);
            self.work.lora.add(&span.tensor, rows.start, part)?;
        }
        Ok(())
    }

    /// Quantizes a chunk, and the rows of padding behind a tensor's last, for every output: into `outputs`,
    /// where nothing stands for the rows that pass. Returns which of the tensor's rows are all zero.
    pub(super) fn encode(&self, chunk: &Chunk, input: &[u8], outputs: &mut Vec<Vec<u8>>) -> Result<Rows> {
        let target = &self.work.plan.tensors[chunk.tensor];
        let dtype = target.dtype();
        outputs.resize_with(self.outputs.len(), Vec::new);
        outputs.iter_mut().for_each(Vec::clear);
        let mut encoded = Vec::new();
        for (i, out) in outputs.iter_mut().enumerate() {
            if !self.ready(chunk, i, out)? && !self.copies(chunk.tensor, i) {
                encoded.push(i);
            }
        }
        let merges = self.merges(target);
        let group_rows = (GROUP / target.columns).max(1);
        let row_bytes = target.columns * dtype.bytes();
        let mut zero_rows = Rows::default();
        SCRATCH.with_borrow_mut(|[decoded, padded]| {
            for (group, bytes) in input.chunks(group_rows * row_bytes).enumerate() {
                let first_row = chunk.rows.start + group * group_rows;
                // A row with a weight in it is left at its first bytes.
                let zero = |row: &[u8]| {
                    let (words, rest) = row.as_chunks();
                    words.iter().all(|word| u128::from_ne_bytes(*word) == 0)
                        && rest.iter().all(|&byte| byte == 0)
                };
                let rows = bytes.chunks(row_bytes).enumerate().filter(|(_, row)| zero(row));
                rows.for_each(|(row, _)| zero_rows.push(first_row + row..first_row + row + 1));
                let finite = dtype.all_finite(bytes);
                if finite && encoded.is_empty() {
                    continue;
                }
                decoded.resize(bytes.len() / dtype.bytes(), 0.0);
                dtype.decode(bytes, decoded);
                if merges && finite {
                    self.merge(target, first_row, decoded)?;
                }
                if !finite || (merges && decoded.iter().any(|weight| !weight.is_finite())) {
                    return Err(self.not_finite(chunk.tensor, first_row, decoded, finite));
                }
                for &output in &encoded {
                    let shape = self.outputs[output][chunk.tensor];
                    let rows = pad_columns(decoded, target.columns, shape.columns, padded);
                    self.require_range(chunk.tensor, shape.format, first_row, rows, shape.columns)?;
                    self.quantize(chunk.tensor, shape, rows, &mut outputs[output])?;
                }
            }
            if chunk.rows.end == target.rows {
                for (shapes, out) in self.outputs.iter().zip(outputs) {
                    let shape = shapes[chunk.tensor];
                    padded.clear();
                    padded.resize((shape.rows - target.rows) * shape.columns, 0.0);
                    self.quantize(chunk.tensor, shape, padded, out)?;
                }
            }
            Ok(zero_rows)
        })
    }

    /// Takes the chunk's rows from where they were made before, if they were.
    fn ready(&self, chunk: &Chunk, output: usize, out: &mut Vec<u8>) -> Result<bool> {
        let shape = self.outputs[output][chunk.tensor];
        let (Some(ready), Some(row_bytes)) = (self.work.ready, shape.format.row_bytes(shape.columns)) else {
            return Ok(false);
        };
        let name = &self.work.plan.tensors[chunk.tensor].name;
        ready.read(name, shape, chunk.rows.start * row_bytes..chunk.rows.end * row_bytes, out)
    }

    fn quantize(&self, tensor: usize, shape: Shape, rows: &[f32], out: &mut Vec<u8>) -> Result<()> {
        let fault =
            |problem: String| Error::Internal(format!("{}: {problem}", self.work.plan.tensors[tensor].name));
        let row_bytes =
            shape.format.row_bytes(shape.columns).ok_or_else(|| fault("rows of part blocks".to_owned()))?;
        let mut blocks = vec![0; rows.len() / shape.columns * row_bytes];
        let importance =
            self.work.importance_of(tensor).map(|importance| &importance.of(shape.format)[..shape.columns]);
        quant::quantize(self.backend, shape.format, shape.columns, rows, importance, &mut blocks)
            .map_err(|e| fault(e.to_string()))?;
        out.extend_from_slice(&blocks);
        Ok(())
    }

    /// A model with NaN or infinity in a weight was damaged before, if not by what was merged: no format can hold it.
    fn not_finite(&self, tensor: usize, first_row: usize, weights: &[f32], merged: bool) -> Error {
        let target = &self.work.plan.tensors[tensor];
        let at = weights.iter().position(|weight| !weight.is_finite()).unwrap_or(0);
        let (with, expected) = match merged {
            true => (" with the adapter merged", "a finite weight: give a smaller --lora DIR=SCALE"),
            false => ("", "a finite weight"),
        };
        self.at_row(tensor, first_row + at / target.columns, with, weights[at], expected)
    }

    /// Halves end at 65504: a larger weight would turn into infinity.
    fn require_range(
        &self,
        tensor: usize,
        format: Format,
        first_row: usize,
        rows: &[f32],
        columns: usize,
    ) -> Result<()> {
        let overflows: fn(f32) -> bool = match format {
            Format::F16 => |weight| f16::from_f32(weight).is_infinite(),
            Format::BF16 => |weight| bf16::from_f32(weight).is_infinite(),
            _ => return Ok(()),
        };
        match rows.iter().position(|&weight| weight.abs() > 65504.0 && overflows(weight)) {
            None => Ok(()),
            Some(at) => {
                let expected = format!("weights that fit {format}: choose another type");
                Err(self.at_row(tensor, first_row + at / columns, "", rows[at], &expected))
            }
        }
    }

    /// Names the row of the checkpoint's own tensor, and what was done `with` it.
    fn at_row(&self, tensor: usize, row: usize, with: &str, found: f32, expected: &str) -> Error {
        let target = &self.work.plan.tensors[tensor];
        match target.parts(row..row + 1).next() {
            Some((span, rows)) => {
                let item = format!("{} row {}{with}", span.tensor, rows.start);
                Error::mismatch(self.work.checkpoint.path(&span.stored), item, found, expected)
            }
            None => Error::Internal(format!("{} row {row}: computed to be {found}", target.name)),
        }
    }
}

/// Rows of `columns` values with zeros behind each, up to `wanted`.
fn pad_columns<'a>(rows: &'a [f32], columns: usize, wanted: usize, padded: &'a mut Vec<f32>) -> &'a [f32] {
    if columns == wanted {
        return rows;
    }
    padded.clear();
    for row in rows.chunks(columns) {
        padded.extend_from_slice(row);
        padded.resize(padded.len() + wanted - columns, 0.0);
    }
    padded
}
