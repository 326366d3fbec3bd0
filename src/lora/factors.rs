//! One pair of factors, and their product added to rows of a weight matrix.

use crate::checkpoint::{Checkpoint, Tensor};
use crate::error::{Error, Result};

/// Columns that are summed at a time: their part of the right factor stays in a core's own cache.
const BLOCK: usize = 1024;

/// The factors of one matrix, `[rows, rank]` and `[rank, columns]`, in f32.
#[derive(Debug)]
pub(super) struct Factors {
    left: Vec<f32>,
    right: Vec<f32>,
    rank: usize,
    columns: usize,
    scale: f32,
}

/// Where the factors of one matrix are.
#[derive(Clone, Debug)]
pub(super) struct FactorPair {
    /// `[rank, in]`.
    pub(super) a: Tensor,
    /// `[out, rank]`.
    pub(super) b: Tensor,
    /// An embedding's weight is `[in, out]`, so (B·A) is transposed.
    pub(super) embedding: bool,
    /// What the product is multiplied with.
    pub(super) scale: f32,
}

impl FactorPair {
    pub(super) fn rank(&self) -> usize {
        self.a.rows()
    }

    /// The shape of the matrix that they add to.
    pub(super) fn shape(&self) -> [usize; 2] {
        let (input, output) = (self.a.columns(), self.b.rows());
        if self.embedding { [input, output] } else { [output, input] }
    }

    pub(super) fn read(&self, adapter: &Checkpoint) -> Result<Factors> {
        let (a, b) = (read(adapter, &self.a)?, read(adapter, &self.b)?);
        let rank = self.rank();
        let (left, right) =
            if self.embedding { (transposed(&a, rank), transposed(&b, self.b.rows())) } else { (b, a) };
        let [_, columns] = self.shape();
        Ok(Factors { left, right, rank, columns, scale: self.scale })
    }
}

fn read(adapter: &Checkpoint, tensor: &Tensor) -> Result<Vec<f32>> {
    let mut bytes = vec![0; tensor.rows() * tensor.row_bytes()];
    adapter.read_rows(tensor, 0, &mut bytes)?;
    let mut values = vec![0.0; tensor.rows() * tensor.columns()];
    tensor.dtype.decode(&bytes, &mut values);
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(at) => {
            let name = adapter.tensors().iter().find(|(_, other)| *other == tensor);
            let name = name.map_or("", |(name, _)| name.as_str());
            let item = format!("{name} row {}", at / tensor.columns());
            let expected = "finite values: the adapter is damaged";
            Err(Error::mismatch(adapter.path(tensor), item, values[at], expected))
        }
    }
}

/// `values` has `rows` rows.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

impl Factors {
    /// `weights += scale * (left * right)`, for whole rows of the matrix from `first_row` on.
    ///
    /// The sum of a weight runs over the rank in ascending order, from 0, in f32, without fused operations; the
    /// scaled sum is then added to the weight. Neither threads nor the number of rows change a bit of it.
    pub(super) fn add(&self, first_row: usize, weights: &mut [f32]) {
        let mut sums = [0f32; BLOCK];
        for start in (0..self.columns).step_by(BLOCK) {
            let width = BLOCK.min(self.columns - start);
            let sums = &mut sums[..width];
            let left = self.left.chunks_exact(self.rank).skip(first_row);
            for (weights, left) in weights.chunks_exact_mut(self.columns).zip(left) {
                sums.fill(0.0);
                // Four ranks at a time, so that a sum is loaded and stored a quarter as often.
                let (fours, rest) = left.as_chunks::<4>();
                let (right_fours, right_rest) = self.right.split_at(4 * fours.len() * self.columns);
                for (b, right) in fours.iter().zip(right_fours.chunks_exact(4 * self.columns)) {
                    let row = |k: usize| &right[k * self.columns + start..][..width];
                    let pairs = row(0).iter().zip(row(1)).zip(row(2).iter().zip(row(3)));
                    for (sum, ((a0, a1), (a2, a3))) in sums.iter_mut().zip(pairs) {
                        *sum = (((*sum + b[0] * a0) + b[1] * a1) + b[2] * a2) + b[3] * a3;
                    }
                }
                for (b, right) in rest.iter().zip(right_rest.chunks_exact(self.columns)) {
                    for (sum, a) in sums.iter_mut().zip(&right[start..]) {
                        *sum += b * a;
                    }
                }
                for (weight, sum) in weights[start..].iter_mut().zip(&*sums) {
                    *weight += self.scale * sum;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, weight by weight.
    fn plain(factors: &Factors, row: usize, column: usize, weight: f32) -> f32 {
        let mut sum = 0f32;
        for k in 0..factors.rank {
            sum += factors.left[row * factors.rank + k] * factors.right[k * factors.columns + column];
        }
        weight + factors.scale * sum
    }

    #[test]
    fn blocks_and_rows_give_the_definitions_bits() {
        let value = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 331.0 - 1.5;
        let (rows, rank, columns) = (7, 5, 2 * BLOCK + 3);
        let left = (0..rows * rank).map(value).collect();
        let right = (0..rank * columns).map(|i| value(i + 31)).collect();
        let factors = Factors { left, right, rank, columns, scale: 0.3 };
        let weights: Vec<f32> = (0..rows * columns).map(|i| value(i + 5)).collect();
        let expected: Vec<f32> =
            (0..rows * columns).map(|i| plain(&factors, i / columns, i % columns, weights[i])).collect();
        for step in [1, 3, rows] {
            let mut merged = weights.clone();
            for (group, rows) in merged.chunks_mut(step * columns).enumerate() {
                factors.add(group * step, rows);
            }
            assert!(merged.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{step}");
        }
    }

    #[test]
    fn transposing_turns_rows_into_columns() {
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
