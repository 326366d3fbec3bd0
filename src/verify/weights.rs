//! Every weight of the checkpoint is looked up in the file, and every weight of the file is accounted for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use quant::Format;
use rayon::prelude::*;

use super::chunk::{Chunk, StoredRows, chunks, chunks_of, file_columns, usable};
use super::compare::{Comparer, Counts, LARGEST_F16};
use super::mapping;
use super::zeros::{Zeros, zero_rows};
use super::{Finding, Pair};
use crate::error::Result;
use crate::gguf::StoredTensor;
use crate::units::grouped;
use crate::watch::Watch;

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
    /// Signal to noise in dB; none when there is no error at all, and no number when the error is no number.
    pub snr_db: Option<f64>,
}

/// The weights part of the verdict.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorError>,
    /// Source weights compared.
    pub compared: u64,
    /// Some tensors' levels were chosen for their outputs: what holds them closely is running the models.
    pub by_outputs: bool,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// A warning of the checkpoint's rows that are all zero.
    pub zeros: Option<String>,
}

/// What one piece of work comes to.
struct Compared {
    counts: Counts,
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
            let compared = compare(chunk, pair)?;
            let done = done.fetch_add(chunk.weights(), Ordering::Relaxed) + chunk.weights();
            watch.step(&pair.file.tensors[chunk.target].name, done, total)?;
            Ok(compared)
        })
        .collect::<Result<Vec<Compared>>>()?;

    let mut by_tensor = vec![Counts::default(); pair.file.tensors.len()];
    let mut zeros = Zeros::default();
    for (chunk, Compared { counts, zeros: rows }) in chunks.iter().zip(&compared) {
        by_tensor[chunk.target].add(counts);
        if let Some((name, tensor, _)) = chunk.source {
            zeros.add(name, tensor, &pair.file.tensors[chunk.target].name, rows);
        }
    }
    weights.zeros = zeros.warning();
    weights.by_outputs = pair.file.tensors.iter().any(|tensor| pair.chosen_by_outputs(tensor));
    for (tensor, counts) in pair.file.tensors.iter().zip(&by_tensor).filter(|(_, counts)| counts.weights > 0)
    {
        weights.compared += counts.weights;
        let error = TensorError::new(tensor, counts);
        weights.findings.extend(error.finding());
        weights.tensors.push(error);
    }
    weights.findings.extend(padding_with_effect(pair, &by_tensor));
    Ok(weights)
}

/// A norm or a bias that is not the checkpoint's: such vectors are in no blocks, so that they are exact in every file.
pub(super) fn other_vector(pair: &Pair) -> Result<Option<Finding>> {
    let mut by_tensor: BTreeMap<usize, Counts> = BTreeMap::new();
    for chunk in chunks_of(pair, 1) {
        by_tensor.entry(chunk.target).or_default().add(&compare(&chunk, pair)?.counts);
    }
    Ok(by_tensor
        .into_iter()
        .find_map(|(i, counts)| TensorError::new(&pair.file.tensors[i], &counts).finding()))
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

fn compare(chunk: &Chunk, pair: &Pair) -> Result<Compared> {
    let stored = &pair.file.tensors[chunk.target];
    let at_fault = |e: quant::Error| pair.file.refused(&stored.name, e);
    let StoredRows { format, columns, row_bytes, bytes } = chunk.stored(pair)?;
    let mut counts = Counts::default();
    let Some((tensor, raw)) = chunk.raw(pair)? else {
        let mut weights = vec![0.0; columns];
        for bytes in bytes.chunks_exact(row_bytes) {
            quant::dequantize(format, bytes, &mut weights).map_err(at_fault)?;
            counts.add_padding(&weights);
        }
        return Ok(Compared { counts, zeros: Vec::new() });
    };
    let vector = file_columns(stored) == 1;
    let (first, source_columns) =
        if vector { (0, columns) } else { (chunk.target_rows.start, tensor.columns()) };
    let mut source = vec![0.0; source_columns];
    let mut comparer = Comparer::new(format, pair.importance(), columns);
    if pair.chosen_by_outputs(stored) {
        comparer = comparer.any_level();
    }
    let source_rows = raw.chunks_exact(source_columns * tensor.dtype.bytes());
    for (row, (raw, bytes)) in (first..).zip(source_rows.zip(bytes.chunks_exact(row_bytes))) {
        tensor.dtype.decode(raw, &mut source);
        comparer.add(row, bytes, &source, &mut counts).map_err(at_fault)?;
    }
    let start = chunk.source.as_ref().map_or(0, |(_, _, rows)| rows.start);
    Ok(Compared { counts, zeros: zero_rows(start, &raw, tensor.row_bytes()) })
}

/// Padding does nothing when, in each layer, what multiplies it is zero on one side, and the others are such that
/// zero times them is zero.
fn padding_with_effect(pair: &Pair, by_tensor: &[Counts]) -> Vec<Finding> {
    let padding = |layer: usize, part: &str| {
        let name = format!("blk.{layer}.{part}.weight");
        let index = pair.file.tensors.iter().position(|tensor| tensor.name == name)?;
        let counts = by_tensor.get(index)?;
        (counts.padding > 0).then_some((name, counts))
    };
    let mut findings = Vec::new();
    for layer in 0..pair.config.num_layers {
        let parts: Vec<_> =
            ["ffn_gate", "ffn_up", "ffn_down"].iter().filter_map(|p| padding(layer, p)).collect();
        let acts = !parts.is_empty() && parts.iter().all(|(_, counts)| counts.padding_nonzero > 0);
        for (name, counts) in parts {
            let too_large = counts.padding_too_large;
            if too_large > 0 {
                let problem = format!(
                    "has {} weights of padding that are no numbers or over {LARGEST_F16}",
                    grouped(too_large)
                );
                findings.push(Finding::new(name, problem));
            } else if acts {
                let nonzero = counts.padding_nonzero;
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
    fn new(tensor: &StoredTensor, counts: &Counts) -> TensorError {
        let relative = counts.error_squares / counts.source_squares;
        TensorError {
            name: tensor.name.clone(),
            layer: layer_of(&tensor.name),
            format: tensor.format().unwrap_or(Format::F32), // only tensors of known formats are compared
            bytes: tensor.bytes,
            weights: counts.weights,
            outside: counts.outside,
            largest: counts.largest,
            largest_use: counts.largest_use,
            worst: counts.worst,
            relative_rmse: if counts.error_squares == 0.0 { 0.0 } else { relative.sqrt() },
            snr_db: (counts.error_squares != 0.0).then(|| -10.0 * relative.log10()), // no number: an error too
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
