//! The work of comparing, cut up: rows of the checkpoint with their places in the file.

use std::collections::BTreeMap;
use std::ops::Range;

use quant::Format;

use super::mapping::{self, PlacedIn, ROPE_FACTORS, Run};
use super::{Finding, Pair};
use crate::checkpoint::Tensor;
use crate::config::GlmConfig;
use crate::error::{Error, Result};
use crate::gguf::StoredTensor;

/// Source weights that are compared at a time by one thread.
const CHUNK_WEIGHTS: usize = 1 << 20;

/// A piece of work: rows of the checkpoint, or, without a source, rows of padding.
pub(super) struct Chunk<'a> {
    pub source: Option<(&'a str, &'a Tensor, Range<usize>)>,
    pub target: usize,
    pub target_rows: Range<usize>,
}

/// Rows as the file stores them; of a vector all values are one row.
pub(super) struct StoredRows {
    pub format: Format,
    pub columns: usize,
    pub row_bytes: usize,
    pub bytes: Vec<u8>,
}

/// The work of all tensors of a file that can be compared and have so many dimensions.
pub(super) fn chunks_of(pair: &Pair, dimensions: usize) -> Vec<Chunk<'_>> {
    let shapes = mapping::file_shapes(&pair.config, pair.ffn());
    let wanted = usable(pair, &shapes).into_iter();
    let wanted = wanted.filter(|&(_, i)| pair.file.tensors[i].shape.len() == dimensions);
    chunks(pair, &wanted.collect(), &mut Vec::new())
}

/// The tensors of a file that can be compared, with their places in it.
pub(super) fn usable<'a>(pair: &'a Pair, shapes: &BTreeMap<String, Vec<u64>>) -> BTreeMap<&'a str, usize> {
    let tensors = pair.file.tensors.iter().enumerate();
    tensors
        .filter(|(_, tensor)| tensor.format().is_some() && shapes.get(&tensor.name) == Some(&tensor.shape))
        .map(|(i, tensor)| (tensor.name.as_str(), i))
        .collect()
}

/// Cuts the work up, and checks on the way that every row of both sides is used exactly once.
pub(super) fn chunks<'a>(
    pair: &'a Pair,
    usable: &BTreeMap<&str, usize>,
    findings: &mut Vec<Finding>,
) -> Vec<Chunk<'a>> {
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
pub(super) fn file_columns(tensor: &StoredTensor) -> usize {
    tensor.shape.get(1).map_or(1, |&columns| usize::try_from(columns).unwrap_or(usize::MAX))
}

fn rows_at_a_time(columns: usize) -> usize {
    (CHUNK_WEIGHTS / columns.max(1)).max(1)
}

impl<'a> Chunk<'a> {
    pub(super) fn weights(&self) -> u64 {
        self.source.as_ref().map_or(0, |(_, tensor, rows)| (rows.len() * tensor.columns()) as u64)
    }

    /// The file's part.
    pub(super) fn stored(&self, pair: &Pair) -> Result<StoredRows> {
        let stored = &pair.file.tensors[self.target];
        let at_fault = |e: quant::Error| pair.file.refused(&stored.name, e);
        let format = stored
            .format()
            .ok_or_else(|| Error::input(pair.file.path(), &stored.name, "is of no known format"))?;
        // A vector's values are rows of one: taken together, for block formats need whole blocks.
        let (count, columns, before) = match file_columns(stored) {
            1 => (1, self.target_rows.len(), self.target_rows.start),
            columns => (self.target_rows.len(), columns, self.target_rows.start.saturating_mul(columns)),
        };
        let bytes_of = |columns| {
            format.row_bytes(columns).ok_or_else(|| at_fault(quant::Error::Columns { format, columns }))
        };
        let row_bytes = bytes_of(columns)?;
        let mut bytes = vec![0; row_bytes * count];
        pair.file.read(stored, bytes_of(before)? as u64, &mut bytes)?;
        Ok(StoredRows { format, columns, row_bytes, bytes })
    }

    /// The checkpoint's part, as it stores it; none for padding.
    pub(super) fn raw(&self, pair: &Pair) -> Result<Option<(&'a Tensor, Vec<u8>)>> {
        let Some((_, tensor, rows)) = &self.source else { return Ok(None) };
        let mut raw = vec![0; rows.len() * tensor.row_bytes()];
        pair.checkpoint.read_rows(tensor, rows.start, &mut raw)?;
        Ok(Some((tensor, raw)))
    }

    /// The checkpoint's weights, each row as wide as the file's, with zeros for padding.
    pub(super) fn weights_as_wide(&self, pair: &Pair, columns: usize) -> Result<Vec<f32>> {
        let mut weights = vec![0.0; self.target_rows.len() * columns];
        if let Some((tensor, raw)) = self.raw(pair)? {
            for (row, raw) in weights.chunks_exact_mut(columns).zip(raw.chunks_exact(tensor.row_bytes())) {
                tensor.dtype.decode(raw, &mut row[..tensor.columns()]);
            }
        }
        Ok(weights)
    }
}
