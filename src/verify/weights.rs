//! Every weight of the checkpoint is looked up in the file, and every weight of the file is accounted for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use quant::Format;
use rayon::prelude::*;

use super::compare::{Comparer, Tally, WILD};
use super::mapping::{self, PlacedIn, ROPE_FACTORS, Run};
use super::zeros::{Zeros, zero_rows};
use super::{Finding, Pair};
use crate::checkpoint::Tensor;
use crate::config::GlmConfig;
use crate::error::{Error, Result};
use crate::gguf::StoredTensor;
use crate::units::grouped;
use crate::watch::Watch;

/// Source weights that are compared at a time by one thread.
const CHUNK_WEIGHTS: usize = 1 << 20;

/// One tensor of the file against its source.
#[derive(Clone, Debug)]
pub struct TensorError {
    /// Its name in the file.
    pub name: String,
    /// The block it belongs to.
    pub layer: Option<usize>,
    /// Its format.
    pub format: Format,
    /// Its bytes in the file.
    pub bytes: u64,
    /// Weights compared.
    pub weights: u64,
    /// Weights further from their source than the format allows.
    pub outside: u64,
    /// Largest absolute error.
    pub largest: f32,
    /// Largest error as a part of what the format allows: 1 is just allowed.
    pub largest_use: f32,
    /// Row and column of that weight.
    pub worst: (usize, usize),
    /// Root of the mean square error, as a part of the tensor's own root mean square.
    pub relative_rmse: f64,
    /// Signal to noise in dB; none when there is no error at all, and no number when the error is none.
    pub snr_db: Option<f64>,
}

/// The weights part of the verdict.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorError>,
    /// Source weights compared.
    pub compared: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// A warning of the checkpoint's rows that are all zero.
    pub zeros: Option<String>,
}

/// A piece of work: rows of the checkpoint, or, without a source, rows of padding.
struct Chunk<'a> {
    source: Option<(&'a str, &'a Tensor, Range<usize>)>,
    target: usize,
    target_rows: Range<usize>,
}

/// What one piece of work comes to.
struct Compared {
    tally: Tally,
    /// Rows of the source, and whether they are zero.
    zeros: Vec<(usize, bool)>,
}

/// Bytes that are hashed in about the time that it takes to compare a weight, for the progress alone.
const HASHED_PER_WEIGHT: u64 = 8;

/// Compares all weights, in parallel; memory is a chunk for each thread.
pub(super) fn check(pair: &Pair, watch: &dyn Watch) -> Result<Weights> {
    let mut weights = Weights::default();
    let shapes = mapping::file_shapes(&pair.config, pair.ffn());
    check_tensors(pair, &shapes, &mut weights.findings);
    let chunks = chunks(pair, &usable(pair, &shapes), &mut weights.findings);
    let to_hash = pair.checkpoint.known_bytes() / HASHED_PER_WEIGHT;
    let total = to_hash + chunks.iter().map(Chunk::weights).sum::<u64>();
    watch.step("", 0, total)?;
    let mut hashed = 0;
    pair.checkpoint.check_known_hashes(&mut |file, bytes| {
        hashed += bytes;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        watch.step(&name, (hashed / HASHED_PER_WEIGHT).min(to_hash), total)
    })?;
    let done = AtomicU64::new(to_hash);
    let compared = chunks
        .par_iter()
        .map(|chunk| {
            let compared = chunk.compare(pair)?;
            let done = done.fetch_add(chunk.weights(), Ordering::Relaxed) + chunk.weights();
            watch.step(&pair.file.tensors[chunk.target].name, done, total)?;
            Ok(compared)
        })
        .collect::<Result<Vec<Compared>>>()?;

    let mut by_tensor = vec![Tally::default(); pair.file.tensors.len()];
    let mut zeros = Zeros::default();
    for (chunk, Compared { tally, zeros: rows }) in chunks.iter().zip(&compared) {
        by_tensor[chunk.target].add(tally);
        if let Some((name, tensor, _)) = chunk.source {
            zeros.add(name, tensor, &pair.file.tensors[chunk.target].name, rows);
        }
    }
    weights.zeros = zeros.warning();
    for (tensor, tally) in pair.file.tensors.iter().zip(&by_tensor).filter(|(_, tally)| tally.weights > 0) {
        weights.compared += tally.weights;
        let error = TensorError::new(tensor, tally);
        weights.findings.extend(error.finding());
        weights.tensors.push(error);
    }
    weights.findings.extend(padding_with_effect(pair, &by_tensor));
    Ok(weights)
}

/// A norm or a bias that is not the checkpoint's: such vectors are in no blocks, so that they are exact in every file.
pub(super) fn other_vector(pair: &Pair) -> Result<Option<Finding>> {
    let shapes = mapping::file_shapes(&pair.config, pair.ffn());
    let vectors = usable(pair, &shapes).into_iter().filter(|&(_, i)| pair.file.tensors[i].shape.len() == 1);
    let mut tallies: BTreeMap<usize, Tally> = BTreeMap::new();
    for chunk in chunks(pair, &vectors.collect(), &mut Vec::new()) {
        tallies.entry(chunk.target).or_default().add(&chunk.compare(pair)?.tally);
    }
    let mut tallies = tallies.into_iter();
    Ok(tallies.find_map(|(i, tally)| TensorError::new(&pair.file.tensors[i], &tally).finding()))
}

/// The tensors of a file that can be compared, with their places in it.
fn usable<'a>(pair: &'a Pair, shapes: &BTreeMap<String, Vec<u64>>) -> BTreeMap<&'a str, usize> {
    let tensors = pair.file.tensors.iter().enumerate();
    tensors
        .filter(|(_, tensor)| tensor.format().is_some() && shapes.get(&tensor.name) == Some(&tensor.shape))
        .map(|(i, tensor)| (tensor.name.as_str(), i))
        .collect()
}

/// The file has exactly the tensors that this model has, each with its shape.
fn check_tensors(pair: &Pair, shapes: &BTreeMap<String, Vec<u64>>, findings: &mut Vec<Finding>) {
    for (name, shape) in shapes {
        match pair.file.tensor(name) {
            None => findings.push(Finding::new(name, "is missing from the file")),
            Some(tensor) if tensor.shape != *shape => {
                findings
                    .push(Finding::new(name, format!("has shape {:?}, expected {shape:?}", tensor.shape)));
            }
            Some(tensor) if tensor.format().is_none() => {
                let problem = format!("is stored as {}, which cannot be read here", tensor.format_name());
                findings.push(Finding::new(name, problem));
            }
            Some(_) => {}
        }
    }
    for tensor in pair.file.tensors.iter().filter(|tensor| !shapes.contains_key(&tensor.name)) {
        findings.push(Finding::new(&tensor.name, "is in the file, but this model has no such tensor"));
    }
}

/// Cuts the work up, and checks on the way that every row of both sides is used exactly once.
fn chunks<'a>(pair: &'a Pair, usable: &BTreeMap<&str, usize>, findings: &mut Vec<Finding>) -> Vec<Chunk<'a>> {
    let mut chunks = Vec::new();
    let mut filled: BTreeMap<usize, Vec<Range<usize>>> = BTreeMap::new();
    // Fused rows go to three tensors at most: of far more, no place is asked for, row by row.
    let largest = usable.values().map(|&index| file_rows(&pair.file.tensors[index])).max().unwrap_or(0);
    for (name, tensor) in pair.checkpoint.tensors() {
        if tensor.rows() > largest.saturating_mul(3) {
            let problem = format!("has shape {:?}, which does not fit any tensor", tensor.shape);
            findings.push(Finding::new(name, problem));
            continue;
        }
        let runs = match mapping::place(&pair.config, name, tensor.rows()) {
            PlacedIn::Rows(runs) => runs,
            PlacedIn::Nowhere => continue,
            PlacedIn::Unknown => {
                findings.push(Finding::new(name, "is in the checkpoint, but has no place in a Llama file"));
                continue;
            }
        };
        for Run { rows, target, target_row } in runs {
            let Some(&index) = usable.get(target.as_str()) else {
                if pair.file.tensor(&target).is_none() {
                    findings
                        .push(Finding::new(&target, format!("is missing: rows {rows:?} of {name} are lost")));
                }
                continue;
            };
            let stored = &pair.file.tensors[index];
            if !fits(&pair.config, tensor, stored, target_row + rows.len()) {
                let problem = format!("has shape {:?}, which does not fit {target}", tensor.shape);
                findings.push(Finding::new(name, problem));
                break;
            }
            filled.entry(index).or_default().push(target_row..target_row + rows.len());
            let each = rows_at_a_time(tensor.columns().max(file_columns(stored)));
            for start in rows.clone().step_by(each) {
                let source = start..rows.end.min(start + each);
                let first = target_row + start - rows.start;
                let target_rows = first..first + source.len();
                chunks.push(Chunk { source: Some((name, tensor, source)), target: index, target_rows });
            }
        }
    }
    for (&name, &index) in usable.iter().filter(|(name, _)| **name != ROPE_FACTORS) {
        let rows = file_rows(&pair.file.tensors[index]);
        let mut ranges = filled.remove(&index).unwrap_or_default();
        ranges.sort_by_key(|range| range.start);
        let end = ranges.iter().try_fold(0, |next, range| (range.start == next).then_some(range.end));
        let padded = name.ends_with("ffn_gate.weight") || name.ends_with("ffn_up.weight");
        match end {
            Some(end) if end == rows => {}
            Some(end) if padded && end == pair.config.ffn_hidden_size && end < rows => {
                let each = rows_at_a_time(file_columns(&pair.file.tensors[index]));
                let cut = |start: usize| start..rows.min(start + each);
                chunks.extend((end..rows).step_by(each).map(|start| Chunk {
                    source: None,
                    target: index,
                    target_rows: cut(start),
                }));
            }
            _ => findings.push(Finding::new(name, "is not filled by the checkpoint, each row once")),
        }
    }
    chunks
}

/// Rows as the file's tensor needs them, the last of them before `end`. Only `ffn_down` has padded columns.
fn fits(config: &GlmConfig, tensor: &Tensor, stored: &StoredTensor, end: usize) -> bool {
    let (columns, file_columns) = (tensor.columns(), file_columns(stored));
    let padded = stored.name.ends_with("ffn_down.weight") && columns == config.ffn_hidden_size;
    tensor.shape.len() == stored.shape.len()
        && (columns == file_columns || padded && columns < file_columns)
        && end <= file_rows(stored)
}

fn file_rows(tensor: &StoredTensor) -> usize {
    tensor.shape.first().map_or(0, |&rows| usize::try_from(rows).unwrap_or(usize::MAX))
}

/// 1 for a vector; only tensors of a shape in `file_shapes` are asked.
fn file_columns(tensor: &StoredTensor) -> usize {
    tensor.shape.get(1).map_or(1, |&columns| usize::try_from(columns).unwrap_or(usize::MAX))
}

fn rows_at_a_time(columns: usize) -> usize {
    (CHUNK_WEIGHTS / columns.max(1)).max(1)
}

impl Chunk<'_> {
    fn weights(&self) -> u64 {
        self.source.as_ref().map_or(0, |(_, tensor, rows)| (rows.len() * tensor.columns()) as u64)
    }

    fn compare(&self, pair: &Pair) -> Result<Compared> {
        let stored = &pair.file.tensors[self.target];
        let at_fault = |e: quant::Error| Error::input(pair.file.path(), &stored.name, e.to_string());
        let format = stored
            .format()
            .ok_or_else(|| Error::input(pair.file.path(), &stored.name, "is of no known format"))?;
        let columns = file_columns(stored);
        let mut tally = Tally::default();
        // A vector's values are rows of one: taken together, for block formats need whole blocks.
        let vector = columns == 1;
        let (count, columns) =
            if vector { (1, self.target_rows.len()) } else { (self.target_rows.len(), columns) };
        let start = if vector { 0 } else { self.target_rows.start };
        let row_bytes =
            format.row_bytes(columns).ok_or_else(|| at_fault(quant::Error::Columns { format, columns }))?;
        let mut bytes = vec![0; row_bytes * count];
        let offset = if vector {
            format.row_bytes(self.target_rows.start).unwrap_or_default()
        } else {
            row_bytes * start
        };
        pair.file.read(stored, offset as u64, &mut bytes)?;

        let Some((_, tensor, rows)) = &self.source else {
            let mut weights = vec![0.0; columns];
            for bytes in bytes.chunks_exact(row_bytes) {
                quant::dequantize(format, bytes, &mut weights).map_err(at_fault)?;
                tally.add_padding(&weights);
            }
            return Ok(Compared { tally, zeros: Vec::new() });
        };
        let mut raw = vec![0; rows.len() * tensor.row_bytes()];
        pair.checkpoint.read_rows(tensor, rows.start, &mut raw)?;
        let source_columns = if vector { rows.len() } else { tensor.columns() };
        let mut source = vec![0.0; source_columns];
        let mut comparer = Comparer::new(format, pair.importance(), columns);
        if pair.chosen_by_outputs() {
            comparer = comparer.any_level();
        }
        let source_rows = raw.chunks_exact(source_columns * tensor.dtype.bytes());
        for (row, (raw, bytes)) in source_rows.zip(bytes.chunks_exact(row_bytes)).enumerate() {
            tensor.dtype.decode(raw, &mut source);
            comparer.add(start + row, bytes, &source, &mut tally).map_err(at_fault)?;
        }
        Ok(Compared { tally, zeros: zero_rows(rows.start, &raw, tensor.row_bytes()) })
    }
}

/// Padding does nothing when, in each layer, what multiplies it is zero on one side, and the others are such that
/// zero times them is zero.
fn padding_with_effect(pair: &Pair, tallies: &[Tally]) -> Vec<Finding> {
    let padding = |layer: usize, part: &str| {
        let name = format!("blk.{layer}.{part}.weight");
        let index = pair.file.tensors.iter().position(|tensor| tensor.name == name)?;
        let tally = tallies.get(index)?;
        (tally.padding > 0).then_some((name, tally))
    };
    let mut findings = Vec::new();
    for layer in 0..pair.config.num_layers {
        let parts: Vec<_> =
            ["ffn_gate", "ffn_up", "ffn_down"].iter().filter_map(|p| padding(layer, p)).collect();
        let acts = !parts.is_empty() && parts.iter().all(|(_, tally)| tally.padding_nonzero > 0);
        for (name, tally) in parts {
            let wild = tally.padding_wild;
            if wild > 0 {
                let problem =
                    format!("has {} weights of padding that are no numbers or over {WILD}", grouped(wild));
                findings.push(Finding::new(name, problem));
            } else if acts {
                let nonzero = tally.padding_nonzero;
                findings.push(Finding::new(
                    name,
                    format!("has {} weights of padding that are not zero", grouped(nonzero)),
                ));
            }
        }
    }
    findings
}

impl TensorError {
    fn new(tensor: &StoredTensor, tally: &Tally) -> TensorError {
        let relative = tally.error_squares / tally.source_squares;
        TensorError {
            name: tensor.name.clone(),
            layer: layer_of(&tensor.name),
            format: tensor.format().unwrap_or(Format::F32), // only tensors of known formats are compared
            bytes: tensor.bytes,
            weights: tally.weights,
            outside: tally.outside,
            largest: tally.largest,
            largest_use: tally.largest_use,
            worst: tally.worst,
            relative_rmse: if tally.error_squares == 0.0 { 0.0 } else { relative.sqrt() },
            snr_db: (tally.error_squares != 0.0).then(|| -10.0 * relative.log10()), // no number: an error too
        }
    }

    /// True when every weight is as near to its source as the format allows.
    pub fn fits(&self) -> bool {
        self.outside == 0
    }

    fn finding(&self) -> Option<Finding> {
        if self.fits() {
            return None;
        }
        let (row, column) = self.worst;
        let problem = format!(
            "{} of {} weights are further from their source than {} allows, the worst at row {row}, column {column}",
            grouped(self.outside),
            grouped(self.weights),
            self.format
        );
        Some(Finding::new(&self.name, problem))
    }
}

fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}
