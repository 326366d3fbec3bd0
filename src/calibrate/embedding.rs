//! How much each column of the embedding counts: by what the first feed-forward layer makes of it.
//!
//! The embedding multiplies nothing, so it has no inputs to measure. What is off in one of its columns goes into all that
//! is computed afterwards; the first layer's weights tell how strongly.

use std::num::NonZero;

use rayon::prelude::*;

use super::WINDOW;
use super::weights::{Planned, sizes};
use crate::error::{Error, Result};
use crate::forward::{Llama, Matrix, Tensors, vector};
use crate::model::Model;
use crate::threads;

/// Rows that are summed together, so that threads change no bit of a sum.
const ROWS: usize = 64;
/// Is added to each column, as a part of their mean: later layers may read what the first does not.
const SHARE_OF_ALL: f64 = 0.01;

/// The importance of the embedding's columns; none where the embedding is the output layer too, whose inputs are measured.
///
/// # Errors
/// When the checkpoint cannot be read, or a weight is no finite number.
pub fn embedding_importance(model: &Model, threads: NonZero<usize>) -> Result<Option<Vec<f32>>> {
    let llama = Llama { tensors: Planned::new(model, &|_, _| Ok(())), sizes: sizes(model), window: WINDOW };
    threads::workers(threads)?.install(|| importance(&llama))
}

/// The square of ffn_norm's weight, times the sum of the squares of the column in ffn_gate and ffn_up, over the mean of all
/// columns; none where all are zero. Its logarithm goes with that of the squared gradient at the embedding:
/// docs/quality.md has the figures.
pub(super) fn importance<T: Tensors>(llama: &Llama<T>) -> Result<Option<Vec<f32>>> {
    if !llama.tensors.holds("output.weight") {
        return Ok(None);
    }
    let (hidden, ffn) = (llama.sizes.hidden, llama.sizes.ffn);
    let norm = vector(llama.tensors.matrix("blk.0.ffn_norm.weight", Some(hidden), 1)?.as_ref())?;
    let mut sums = vec![0.0; hidden];
    for name in ["blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"] {
        let matrix = llama.tensors.matrix(name, Some(ffn), hidden)?;
        let squares = squares_of_columns(matrix.as_ref())?;
        for ((sum, square), norm) in sums.iter_mut().zip(squares).zip(&norm) {
            *sum += f64::from(*norm) * f64::from(*norm) * square;
        }
        if let Some(at) = sums.iter().position(|sum| !sum.is_finite()) {
            let found = format!("column {at} that is no finite number with ffn_norm's weight");
            let (file, name) = matrix.name();
            return Err(Error::mismatch(file, name, found, "finite weights"));
        }
    }
    let mean = sums.iter().sum::<f64>() / hidden as f64;
    let of_mean = |sum: f64| (sum / mean + SHARE_OF_ALL) as f32;
    Ok((mean > 0.0).then(|| sums.into_iter().map(of_mean).collect()))
}

/// The sum of the squares of each column.
fn squares_of_columns(matrix: &dyn Matrix) -> Result<Vec<f64>> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let starts: Vec<usize> = (0..rows).step_by(ROWS).collect();
    let of_rows = |start: usize| {
        let end = rows.min(start + ROWS);
        let mut weights = vec![0.0; (end - start) * columns];
        matrix.read(start..end, &mut weights)?;
        Ok(added(columns, weights.chunks(columns).map(|row| row.iter().map(|x| f64::from(*x).powi(2)))))
    };
    let parts = starts.into_par_iter().map(of_rows).collect::<Result<Vec<Vec<f64>>>>()?;
    Ok(added(columns, parts.into_iter().map(Vec::into_iter)))
}

/// The sums of the values in the same place.
fn added(length: usize, lists: impl Iterator<Item = impl Iterator<Item = f64>>) -> Vec<f64> {
    lists.fold(vec![0.0; length], |mut sums, list| {
        sums.iter_mut().zip(list).for_each(|(sum, value)| *sum += value);
        sums
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ndarray::{Array2, arr2};

    use super::*;
    use crate::forward::InMemory;
    use crate::model::ModelSource;

    /// A first layer of two columns, the second of which the norm may take away, and an output layer or none.
    struct First {
        norm: [f32; 2],
        rows: usize,
        gate: fn(usize) -> f32,
        has_output: bool,
    }

    impl Tensors for First {
        fn holds(&self, name: &str) -> bool {
            name == "output.weight" && self.has_output
        }

        fn matrix(&self, name: &str, _: Option<usize>, _: usize) -> Result<Box<dyn Matrix + '_>> {
            Ok(Box::new(match name {
                "blk.0.ffn_norm.weight" => InMemory("norm", arr2(&self.norm.map(|weight| [weight]))),
                "blk.0.ffn_gate.weight" => {
                    let gate = |(row, column)| (self.gate)(2 * row + column);
                    InMemory("gate", Array2::from_shape_fn((self.rows, 2), gate))
                }
                "blk.0.ffn_up.weight" => InMemory("up", Array2::ones((self.rows, 2))),
                other => return Err(Error::Internal(other.to_owned())),
            }))
        }
    }

    fn of(first: First) -> Result<Option<Vec<f32>>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/models/tiny-chatglm3");
        let model = Model::open(&ModelSource { folder, ..ModelSource::default() })?;
        let sizes = crate::forward::Sizes { hidden: 2, ffn: first.rows, ..sizes(&model) };
        importance(&Llama { tensors: first, sizes, window: WINDOW })
    }

    const ROWS_BEYOND_A_PART: usize = 2 * ROWS + 3;

    #[test]
    fn a_column_counts_by_what_reads_it() {
        // Column 0 is read with 3 and 1 a row, column 1 with 0 and 1, and counts twice as much: 10 to 4.
        let gate = |i: usize| if i.is_multiple_of(2) { 3.0 } else { 0.0 };
        let first = |norm| First { norm, rows: ROWS_BEYOND_A_PART, gate, has_output: true };
        let near = |found: Vec<f32>, expected: [f32; 2]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        };
        near(of(first([1.0, -2.0])).unwrap().unwrap(), [10.0 / 7.0 + 0.01, 4.0 / 7.0 + 0.01]);
        near(of(first([1.0, 0.0])).unwrap().unwrap(), [2.01, 0.01]);
        near(of(first([1e-30, 1e-30])).unwrap().unwrap(), [20.0 / 11.0 + 0.01, 2.0 / 11.0 + 0.01]);
        assert_eq!(of(first([0.0, 0.0])).unwrap(), None, "nothing is known");
        assert_eq!(of(First { has_output: false, ..first([1.0, 1.0]) }).unwrap(), None, "tied");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let gate = |i: usize| if i == 2 * ROWS + 1 { f32::INFINITY } else { 1.0 };
        let first = |norm| First { norm, rows: ROWS_BEYOND_A_PART, gate, has_output: true };
        for norm in [[1.0, 1.0], [1.0, 0.0], [1.0, f32::NAN]] {
            let problem = of(first(norm)).unwrap_err().to_string();
            let expected =
                "model.safetensors: gate: found column 1 that is no finite number with ffn_norm's weight";
            assert!(problem.starts_with(expected), "{problem}");
        }
    }
}
