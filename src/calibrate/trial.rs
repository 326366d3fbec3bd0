//! Some rows of a matrix, rounded to each of the formats that it might take.

use ndarray::{Array2, ArrayView2};
use quant::{Backend, Format};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::forward::Matrix;
use crate::hash::scattered;

/// How a tensor might be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Values in a row of the file, padding included.
    pub columns: usize,
    /// The formats; none for a tensor that has no choice.
    pub formats: Vec<Format>,
}

/// What each of a tensor's formats costs, in the order of [`Trial::formats`].
pub type Costs = Vec<f64>;

/// Rows of a matrix that stand for all.
pub(super) const TRIED_ROWS: usize = 128;

/// About `most` of the rows, spread evenly but at no regular distance, for heads are regular.
pub(super) fn spread(rows: usize, most: usize) -> Vec<usize> {
    let count = most.min(rows);
    let start = |i: usize| i * rows / count.max(1);
    let row = |i: usize| {
        let room = (start(i + 1) - start(i)).max(1) as u64;
        start(i) + (scattered(i as u64) % room) as usize
    };
    (0..count).map(row).collect()
}

/// Reads some rows, padded with zeros to `columns`: `[rows, columns]`.
pub(super) fn read(matrix: &dyn Matrix, rows: &[usize], columns: usize) -> Result<Vec<f32>> {
    let mut out = vec![0.0; rows.len() * columns];
    out.par_chunks_mut(columns.max(1))
        .zip(rows)
        .try_for_each(|(out, &row)| matrix.read(row..row + 1, &mut out[..matrix.columns()]))?;
    Ok(out)
}

/// What rounding takes away from rows of `columns` values, for each format: `[rows, columns]`.
pub(super) fn errors(
    backend: Backend,
    trial: &Trial,
    rows: &[f32],
    importance: Option<&[f32]>,
) -> Result<Vec<Array2<f32>>> {
    let columns = trial.columns;
    let padded: Option<Vec<f32>> = importance.map(|importance| {
        let mut padded = importance.to_vec();
        padded.resize(columns, 0.0);
        padded
    });
    let error = |&format: &Format| {
        let misfit = quant::Error::Columns { format, columns };
        let bytes = format.row_bytes(columns).ok_or(misfit).map_err(fault)?;
        let mut blocks = vec![0; rows.len() / columns.max(1) * bytes];
        quant::quantize(backend, format, columns, rows, padded.as_deref(), &mut blocks).map_err(fault)?;
        let mut off = vec![0.0; rows.len()];
        quant::dequantize(format, &blocks, &mut off).map_err(fault)?;
        off.iter_mut().zip(rows).for_each(|(off, weight)| *off -= weight);
        Array2::from_shape_vec((rows.len() / columns.max(1), columns), off)
            .map_err(|e| Error::Internal(e.to_string()))
    };
    trial.formats.par_iter().map(error).collect()
}

pub(super) fn fault(problem: quant::Error) -> Error {
    Error::Internal(problem.to_string())
}

/// The sum of the products' squares, each product's own factor being of the same place.
pub(super) fn squares_of_products(a: ArrayView2<f32>, b: ArrayView2<f32>) -> f64 {
    let of_row = |(a, b): (ndarray::ArrayView1<f32>, ndarray::ArrayView1<f32>)| {
        a.iter().zip(b).map(|(a, b)| f64::from(a * b) * f64::from(a * b)).sum::<f64>()
    };
    a.outer_iter().zip(b.outer_iter()).map(of_row).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_spread_without_a_beat() {
        let rows = spread(4096, 128);
        assert!(rows.is_sorted() && rows.len() == 128 && rows[127] < 4096 && rows[127] >= 4064);
        let places: std::collections::BTreeSet<usize> = rows.iter().map(|row| row % 128).collect();
        assert!(places.len() > 60, "{places:?}");
        assert_eq!(spread(5, 128), [0, 1, 2, 3, 4]);
        assert_eq!(spread(0, 128), Vec::<usize>::new());
    }
}
