//! How far the outputs of a file's matrices are from the checkpoint's, on the checkpoint's own inputs.
//!
//! Where levels were chosen for what a matrix makes of its inputs, a weight may be levels away from its source on
//! purpose, and the near bound of `bounds` cannot hold it. What holds instead: on text that it was not calibrated on,
//! an output may not be much further off than if every weight had been rounded by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use ndarray::{ArrayView1, ArrayView2, Axis};
use quant::{Backend, Format};
use rayon::prelude::*;

use super::chunk::{Chunk, StoredRows, chunks_of};
use super::{Finding, Pair};
use crate::error::{Error, Result};
use crate::forward::{Activations, rows_of};

/// What a matrix's mean square may be, as a part of what rounding leaves. 0.69 was the most on a trained model with the
/// built-in calibration text, 1.25 with 1,100 tokens of code alone: more than this is no choice of levels, but damage.
const MOST: f64 = 3.0;
/// The same for one row, whose figures scatter more: 2.3 and 11.9 were seen.
const MOST_OF_ROW: f64 = 50.0;
/// A row that rounding leaves nearly exact, as one of equal weights, is held to this part of the matrix's mean instead.
const LEAST_OF_ROW: f64 = 0.1;
/// Of fewer different tokens a row's errors may cancel out by chance: there it may have what they come to one by one.
const FEWEST_TOKENS: usize = 32;

/// The outputs of one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputError {
    /// Its name in the file.
    pub name: String,
    /// The mean square of what its outputs are off, as a part of what rounding each weight by itself leaves.
    pub ratio: f64,
    /// The largest of a row, and which.
    pub worst_row: (usize, f64),
}

/// Mean squares of what an output is off: in the file, after rounding, and what a row of it may have.
#[derive(Clone, Copy, Debug)]
struct Off {
    file: f64,
    rounded: f64,
    for_row: f64,
}

/// The matrices of a file, on their way through the layers.
pub(super) struct Outputs<'a> {
    pair: &'a Pair,
    /// The text has too few different tokens.
    few: bool,
    /// By the checkpoint's tensor that they come from.
    chunks: BTreeMap<&'a str, Vec<Chunk<'a>>>,
    /// By tensor of the file: rows, and what they are off.
    found: Mutex<BTreeMap<usize, Vec<(usize, Off)>>>,
}

impl<'a> Outputs<'a> {
    /// For a run on these tokens; none for a file whose weights are all held one by one.
    pub(super) fn of(pair: &'a Pair, tokens: &[u32]) -> Option<Outputs<'a>> {
        let few = tokens.iter().collect::<BTreeSet<_>>().len() < FEWEST_TOKENS;
        let mut chunks: BTreeMap<&str, Vec<Chunk>> = BTreeMap::new();
        for chunk in chunks_of(pair, 2) {
            let stored = &pair.file.tensors[chunk.target];
            let held = pair.chosen_by_outputs(stored) && stored.format().is_some_and(Format::is_quantized);
            if let (true, Some((name, ..))) = (held, chunk.source.as_ref()) {
                chunks.entry(*name).or_default().push(chunk);
            }
        }
        (!chunks.is_empty()).then(|| Outputs { pair, few, chunks, found: Mutex::default() })
    }

    /// Takes notice of the inputs `[features, tokens]` that a tensor of the checkpoint is multiplied with.
    pub(super) fn multiplied(&self, name: &str, x: &Activations) -> Result<()> {
        let Some(chunks) = self.chunks.get(name) else { return Ok(()) };
        let rows = chunks.par_iter().map(|chunk| self.off(chunk, x)).collect::<Result<Vec<_>>>()?;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for (chunk, off) in chunks.iter().zip(rows) {
            found.entry(chunk.target).or_default().extend(chunk.target_rows.clone().zip(off));
        }
        Ok(())
    }

    fn off(&self, chunk: &Chunk, x: &Activations) -> Result<Vec<Off>> {
        let file = &self.pair.file;
        let stored = &file.tensors[chunk.target];
        let at_fault = |e: quant::Error| file.refused(&stored.name, e);
        let StoredRows { format, columns, bytes, .. } = chunk.stored(self.pair)?;
        let source = chunk.weights_as_wide(self.pair, columns)?;
        let mut rounded = vec![0; bytes.len()];
        quant::quantize(Backend::detect(), format, columns, &source, None, &mut rounded).map_err(at_fault)?;
        // What lies beyond the inputs is padding, which `weights` holds.
        let seen = x.nrows().min(columns);
        let inputs = rows_of(x, 0..seen);
        let few = self.few.then(|| inputs.axis_iter(Axis(0)).map(mean_square).collect());
        let powers: Vec<f64> = few.unwrap_or_default();
        // Of each row: of its outputs, and, of few tokens, what its errors come to one by one.
        let squares = |bytes: &[u8]| -> Result<Vec<(f64, f64)>> {
            let mut off = vec![0.0; source.len()];
            quant::dequantize(format, bytes, &mut off).map_err(at_fault)?;
            off.iter_mut().zip(&source).for_each(|(off, source)| *off -= source);
            let off = ArrayView2::from_shape((source.len() / columns, columns), &off)
                .map_err(|e| Error::input(file.path(), &stored.name, e.to_string()))?;
            let off = off.slice_axis(Axis(1), (0..seen).into());
            let one_by_one = |row: ArrayView1<f32>| -> f64 {
                row.iter().zip(&powers).map(|(off, power)| f64::from(*off) * f64::from(*off) * power).sum()
            };
            let outputs = off.dot(&inputs);
            let rows = outputs.axis_iter(Axis(0)).zip(off.axis_iter(Axis(0)));
            Ok(rows.map(|(outputs, off)| (mean_square(outputs), one_by_one(off))).collect())
        };
        let pairs = squares(&bytes)?.into_iter().zip(squares(&rounded)?);
        let off = |((file, _), (rounded, one_by_one)): ((f64, f64), (f64, f64))| Off {
            file,
            rounded,
            for_row: rounded.max(one_by_one),
        };
        Ok(pairs.map(off).collect())
    }

    /// What was found, in the order of the file.
    pub(super) fn finish(self) -> Vec<OutputError> {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let error = |(tensor, rows): (usize, Vec<(usize, Off)>)| {
            let sum = |part: fn(&Off) -> f64| rows.iter().map(|(_, off)| part(off)).sum::<f64>();
            let (file, rounded) = (sum(|off| off.file), sum(|off| off.rounded));
            let least = LEAST_OF_ROW * rounded / rows.len().max(1) as f64;
            let of_row = |&(row, off): &(usize, Off)| (row, part(off.file, off.for_row.max(least)));
            let worst = |a: (usize, f64), b: (usize, f64)| if b.1 > a.1 { b } else { a };
            OutputError {
                name: self.pair.file.tensors[tensor].name.clone(),
                ratio: part(file, rounded),
                worst_row: rows.iter().map(of_row).fold((0, 0.0), worst),
            }
        };
        found.into_iter().map(error).collect()
    }
}

fn mean_square(values: ArrayView1<f32>) -> f64 {
    values.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / values.len().max(1) as f64
}

/// No error is no part of anything; one where rounding makes none, or that is no number, is beyond every bound.
fn part(file: f64, rounded: f64) -> f64 {
    if file == 0.0 {
        0.0
    } else if file / rounded < f64::INFINITY {
        file / rounded
    } else {
        f64::INFINITY
    }
}

impl OutputError {
    /// What is wrong, if anything.
    pub(super) fn finding(&self) -> Option<Finding> {
        let (row, of_row) = self.worst_row;
        let problem = if self.ratio > MOST {
            format!(
                "its outputs are {:.2} times as far off as rounding leaves them (mean squares), over {MOST}",
                self.ratio
            )
        } else if of_row > MOST_OF_ROW {
            format!(
                "the outputs of row {row} are {of_row:.2} times as far off as rounding leaves them (mean squares), \
                 over {MOST_OF_ROW}"
            )
        } else {
            return None;
        };
        Some(Finding::new(&self.name, problem))
    }
}
