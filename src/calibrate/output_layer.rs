//! The output layer backwards: tokens are drawn from the prediction, and what its rows' errors do to it.

use ndarray::{Array2, Axis};
use quant::Backend;
use rayon::prelude::*;

use super::trial::{Costs, Trial, errors, read};
use crate::error::Result;
use crate::forward::{Activations, Matrix, OUTPUT_ROWS, multiply, multiply_back};
use crate::hash::fraction;

/// Rows of the output layer that stand for all, the likelier tokens more often.
const TRIED_ROWS: usize = 512;

/// The predictions of some tokens.
pub(super) struct OutputLayer<'a> {
    output: &'a dyn Matrix,
    /// What the output layer gets.
    x: &'a Activations,
    /// The logarithm of the sum of exp(logit), for each token.
    log_sums: Vec<f32>,
    /// The mean of p (1 - p) for each row.
    uncertainty: Vec<f64>,
    gradient: Activations,
}

impl<'a> OutputLayer<'a> {
    /// Reads the output layer twice.
    pub(super) fn new(output: &'a dyn Matrix, x: &'a Activations) -> Result<OutputLayer<'a>> {
        let (rows, tokens) = (output.rows(), x.ncols());
        let mut sums = vec![(f32::NEG_INFINITY, 0f64); tokens]; // the largest so far, and the sum relative to it
        for start in (0..rows).step_by(OUTPUT_ROWS) {
            let logits = multiply(output, start..rows.min(start + OUTPUT_ROWS), x)?;
            sums.par_iter_mut().zip(logits.axis_iter(Axis(1)).collect::<Vec<_>>()).for_each(
                |((largest, sum), logits)| {
                    let most = logits.iter().fold(*largest, |a, &b| a.max(b));
                    let part: f64 = logits.iter().map(|logit| f64::from((logit - most).exp())).sum();
                    *sum = *sum * f64::from(*largest - most).exp() + part;
                    *largest = most;
                },
            );
        }
        let log_sums: Vec<f32> =
            sums.iter().map(|(largest, sum)| (f64::from(*largest) + sum.ln()) as f32).collect();
        let mut layer = OutputLayer {
            output,
            x,
            log_sums,
            uncertainty: vec![0.0; rows],
            gradient: Activations::zeros(x.dim()),
        };
        // Each token's place between 0 and 1, and how much probability was before.
        let mut drawn: Vec<(f64, f64)> = (0..tokens as u64).map(|i| (fraction(i), 0.0)).collect();
        for start in (0..rows).step_by(OUTPUT_ROWS) {
            let end = rows.min(start + OUTPUT_ROWS);
            let mut block = multiply(output, start..end, x)?;
            for (row, mut values) in block.outer_iter_mut().enumerate() {
                let tokens = values.iter_mut().zip(&layer.log_sums).zip(&mut drawn);
                let mut uncertainty = 0.0;
                for ((value, log_sum), (place, before)) in tokens {
                    let likely = f64::from((*value - log_sum).exp());
                    uncertainty += likely * (1.0 - likely);
                    let here = (*before..*before + likely).contains(place);
                    *before += likely;
                    *value = if here { likely - 1.0 } else { likely } as f32;
                }
                layer.uncertainty[start + row] = uncertainty / x.ncols().max(1) as f64;
            }
            multiply_back(output, start..end, &block, &mut layer.gradient)?;
        }
        Ok(layer)
    }

    /// The gradient of minus the log-probability of the drawn tokens, by what the output layer gets.
    pub(super) fn into_gradient(self) -> Activations {
        self.gradient
    }

    /// What each format of the output layer brings: half the variance of the logits' errors under the prediction.
    pub(super) fn divergences(
        &self,
        backend: Backend,
        trial: &Trial,
        importance: Option<&[f32]>,
    ) -> Result<Costs> {
        let all: f64 = self.uncertainty.iter().sum();
        let rows = self.drawn_rows(all);
        let weights = read(self.output, &rows, trial.columns)?;
        let weights_view = Array2::from_shape_vec((rows.len(), trial.columns), weights.clone())
            .map_err(|e| crate::error::Error::Internal(e.to_string()))?;
        // How uncertain each row's token is, as a part of what it is on average.
        let mut parts = weights_view.dot(self.x);
        for (mut row, number) in parts.outer_iter_mut().zip(&rows) {
            let mean = self.uncertainty[*number];
            for (value, log_sum) in row.iter_mut().zip(&self.log_sums) {
                let likely = f64::from((*value - log_sum).exp());
                *value = (likely * (1.0 - likely) / mean) as f32;
            }
        }
        let errors = errors(backend, trial, &weights, importance)?;
        let cost = |errors: &Array2<f32>| {
            let off = errors.dot(self.x);
            let sum: f64 = off.iter().zip(&parts).map(|(e, part)| f64::from(e * e * part)).sum();
            all * sum / off.len().max(1) as f64 / 2.0
        };
        Ok(errors.par_iter().map(cost).collect())
    }

    /// Rows at even distances along the sum of the uncertainty: a row may come twice.
    fn drawn_rows(&self, all: f64) -> Vec<usize> {
        let count = TRIED_ROWS.min(self.output.rows());
        let mut rows = Vec::with_capacity(count);
        let mut sum = 0.0;
        for (row, uncertainty) in self.uncertainty.iter().enumerate() {
            sum += uncertainty;
            while rows.len() < count && (rows.len() as f64 + 0.5) / (count as f64) * all < sum {
                rows.push(row);
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::InMemory;
    use quant::Format;

    fn numbers(rows: usize, columns: usize, seed: usize, scale: f32) -> Array2<f32> {
        let number = |(i, k): (usize, usize)| {
            (2.0 * fraction(((seed * 1000 + i) * 5000 + k) as u64) - 1.0) as f32 * scale
        };
        Array2::from_shape_fn((rows, columns), number)
    }

    /// More rows than one block has, against the definition over whole columns.
    #[test]
    fn the_gradient_and_the_divergence_are_those_of_the_softmax() {
        let (rows, columns, tokens) = (OUTPUT_ROWS + 500, 64, 40);
        let (weights, x) =
            (InMemory("output", numbers(rows, columns, 1, 0.5)), numbers(columns, tokens, 2, 1.5));
        let layer = OutputLayer::new(&weights, &x).unwrap();
        let logits = weights.1.dot(&x).mapv(f64::from);
        let softmax = |logits: &Array2<f64>, t: usize| {
            let all: f64 = logits.column(t).iter().map(|x| x.exp()).sum();
            logits.column(t).mapv(|x| x.exp() / all)
        };
        let trial = Trial { columns, formats: vec![Format::Q4_0, Format::Q8_0] };
        let found = layer.divergences(Backend::detect(), &trial, None).unwrap();
        for (format, found) in trial.formats.iter().zip(found) {
            let one = Trial { columns, formats: vec![*format] };
            let all: Vec<f32> = weights.1.iter().copied().collect();
            let off = errors(Backend::detect(), &one, &all, None).unwrap();
            let moved = (&weights.1 + &off[0]).dot(&x).mapv(f64::from);
            let kl = |t: usize| {
                let (p, q) = (softmax(&logits, t), softmax(&moved, t));
                p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>()
            };
            let mean = (0..tokens).map(kl).sum::<f64>() / tokens as f64;
            assert!((found / mean - 1.0).abs() < 0.2, "{format}: {found} {mean}");
        }
        let gradient = layer.into_gradient();
        for t in 0..tokens {
            let mut p = softmax(&logits, t);
            let place = fraction(t as u64);
            let mut before = 0.0;
            let drawn = p.iter().position(|p| {
                before += p;
                place < before
            });
            p[drawn.unwrap()] -= 1.0;
            let expected = weights.1.mapv(f64::from).t().dot(&p);
            for (found, expected) in gradient.column(t).iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-3, "{t}: {found} {expected}");
            }
        }
    }
}
