//! Rows of a matrix rounded in one of two ways, and what comes out wrong.

use ndarray::{Array2, ArrayView2};
use quant::{Backend, Curvature, Format};

use super::moments::{Curvatures, Means, part};
use super::trial::fault;
use crate::error::{Error, Result};
use crate::sink::Shape;

/// Sweeps of descent: the second gains a little, more gain next to nothing.
const SWEEPS: usize = 2;

fn space(shape: Shape, rows: &[f32]) -> Result<Vec<u8>> {
    let misfit = quant::Error::Columns { format: shape.format, columns: shape.columns };
    let bytes = shape.format.row_bytes(shape.columns).ok_or(misfit).map_err(fault)?;
    Ok(vec![0; rows.len() / shape.columns * bytes])
}

/// ggml's rounding, the mean squares being the importance.
pub(super) fn plain(backend: Backend, shape: Shape, means: &Means, rows: &[f32]) -> Result<Vec<u8>> {
    let mut out = space(shape, rows)?;
    let Shape { format, columns, .. } = shape;
    let importance = Some(means.squares.get(..columns).unwrap_or(&means.squares));
    quant::quantize(backend, format, columns, rows, importance, &mut out).map_err(fault)?;
    Ok(out)
}

/// Rounding with feedback, and descent: in all columns together, or in each part alone.
pub(super) fn with_feedback(
    backend: Backend,
    shape: Shape,
    curvatures: &Curvatures,
    rows: &[f32],
) -> Result<Vec<u8>> {
    let mut out = space(shape, rows)?;
    let Shape { format, columns, .. } = shape;
    if let [(_, curvature)] = curvatures.as_slice() {
        feedback(backend, format, curvature, rows, &mut out)?;
        return Ok(out);
    }
    let bytes = |columns: usize| columns / format.block_len() * format.block_bytes();
    for (part, curvature) in curvatures {
        let own: Vec<f32> = rows.chunks(columns).flat_map(|row| &row[part.clone()]).copied().collect();
        let mut blocks = vec![0; rows.len() / columns * bytes(part.len())];
        feedback(backend, format, curvature, &own, &mut blocks)?;
        let places = out.chunks_mut(bytes(columns)).zip(blocks.chunks(bytes(part.len())));
        places.for_each(|(row, blocks)| row[bytes(part.start)..bytes(part.end)].copy_from_slice(blocks));
    }
    Ok(out)
}

/// The same of columns that are all together.
pub(super) fn feedback(
    backend: Backend,
    format: Format,
    curvature: &Curvature,
    rows: &[f32],
    out: &mut [u8],
) -> Result<()> {
    quant::quantize_with_feedback(backend, format, curvature, rows, SWEEPS, out).map_err(fault)
}

/// The mean square of what the rows' outputs are off, on some inputs.
pub(super) fn error(shape: Shape, rows: &[f32], blocks: &[u8], inputs: &Array2<f32>) -> Result<f64> {
    let mut off = vec![0.0; rows.len()];
    let format: Format = shape.format;
    quant::dequantize(format, blocks, &mut off).map_err(fault)?;
    off.iter_mut().zip(rows).for_each(|(off, weight)| *off -= weight);
    let off = ArrayView2::from_shape((rows.len() / shape.columns, shape.columns), &off)
        .map_err(|e| Error::Internal(e.to_string()))?;
    let out = part(off, 0..off.nrows(), 0..inputs.nrows()).dot(inputs);
    Ok(out.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / out.len().max(1) as f64)
}
