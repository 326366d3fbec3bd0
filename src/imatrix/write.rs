//! Writes llama.cpp's newer format.

use std::path::Path;

use quant::Format;

use super::ImportanceMatrix;
use crate::error::Result;
use crate::gguf::{FileLayout, Value, Writer};
use crate::sink::Sink;

/// Writes the matrix as `llama-imatrix` does, measured in chunks of so many tokens.
///
/// # Errors
/// When the file exists and may not be replaced, or cannot be written.
pub(super) fn write(matrix: &ImportanceMatrix, file: &Path, chunk_size: u32, replace: bool) -> Result<()> {
    let datasets = matrix.dataset.iter().cloned().collect();
    let keys = [
        ("general.type", Value::String("imatrix".to_owned())),
        ("imatrix.datasets", Value::Strings(datasets)),
        ("imatrix.chunk_count", Value::U32(matrix.chunks)),
        ("imatrix.chunk_size", Value::U32(chunk_size)),
    ];
    let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let tokens = matrix.chunks.max(1) as f32 * chunk_size as f32;
    let sums = |means: &Vec<f32>| means.iter().map(|&mean| sum_of(mean, tokens)).collect();
    let tensors: Vec<(String, Vec<f32>)> = matrix
        .entries
        .iter()
        .flat_map(|(name, means)| {
            [(format!("{name}.in_sum2"), sums(means)), (format!("{name}.counts"), vec![tokens])]
        })
        .collect();
    let shapes = tensors.iter().map(|(name, values)| (name.clone(), vec![1, values.len()], Format::F32));
    let mut writer = Writer::create(file, FileLayout::new(keys, shapes)?, replace)?;
    for (number, (_, values)) in tensors.iter().enumerate() {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write(number, &bytes)?;
    }
    writer.finish()
}

/// The sum that gives the mean back when a reader divides it: mostly the product, sometimes a neighbour of it.
fn sum_of(mean: f32, tokens: f32) -> f32 {
    let sum = mean * tokens;
    [sum, sum.next_up(), sum.next_down()].into_iter().find(|sum| sum / tokens == mean).unwrap_or(sum)
}
