//! What rounding each matrix does to the model's predictions: one run forwards and backwards.
//!
//! A small error e of a matrix's outputs moves the prediction by a Kullback-Leibler divergence of half the mean of
//! (g . e)^2, g being the gradient of the log-probability of a token that is drawn from the prediction itself (the Fisher
//! information). Errors of different rows are taken to be independent, so that (g . e)^2 is the sum of g^2 e^2 over the
//! rows, and some rows stand for all.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use half::bf16;
use ndarray::{Array2, Axis, Slice};
use quant::Backend;
use rayon::prelude::*;

use super::How;
use super::output_layer::OutputLayer;
use super::squares::{mean_squares, parts_done};
use super::trial::{Costs, TRIED_ROWS, Trial, errors, read, spread, squares_of_products};
use super::weights::{Planned, sizes};
use super::{Sample, WINDOW, embedding};
use crate::error::{Error, Result};
use crate::forward::{Activations, Decoder, Llama, Tensors};
use crate::model::Model;
use crate::remap::{Role, Target};
use crate::threads;
use crate::watch::Watch;

/// Windows that are run: for the sums over them, more hardly move the order of the matrices.
pub(super) const MOST_WINDOWS: usize = 4;

/// The divergence in nats a token that each format of each of the plan's tensors brings: runs a model on a part of the
/// sample, forwards and backwards. Threads change no bit of it.
///
/// # Errors
/// When the checkpoint cannot be read, a value is no number on the way, or `watch` stops the run.
pub fn divergences(
    model: &Model,
    sample: &Sample,
    trials: &[Trial],
    how: How,
    watch: &dyn Watch,
) -> Result<Vec<Costs>> {
    let pool = threads::workers(how.threads)?;
    pool.install(|| Run { model, trials, backend: how.backend, watch }.run(sample))
}

/// The windows that are run, evenly spread over the sample; a sample without a whole one is run as it is.
fn windows(sample: &Sample) -> (Vec<u32>, usize) {
    let whole: Vec<&[u32]> = sample.tokens.chunks_exact(WINDOW).collect();
    let count = whole.len().min(MOST_WINDOWS);
    if count == 0 {
        return (sample.tokens.clone(), sample.tokens.len().max(1));
    }
    let spread = (0..count).map(|i| whole[(2 * i + 1) * whole.len() / (2 * count)]);
    (spread.flatten().copied().collect(), WINDOW)
}

struct Run<'a> {
    model: &'a Model,
    trials: &'a [Trial],
    backend: Backend,
    watch: &'a dyn Watch,
}

impl Run<'_> {
    fn run(&self, sample: &Sample) -> Result<Vec<Costs>> {
        let (tokens, window) = windows(sample);
        let squares: Mutex<BTreeMap<String, Vec<f32>>> = Mutex::new(BTreeMap::new());
        let observe = |names: &[&str], x: &Activations| {
            let means = mean_squares(x);
            self.finite(names[0], means.iter())?;
            let mut squares = squares.lock().unwrap_or_else(PoisonError::into_inner);
            squares.extend(names.iter().map(|name| ((*name).to_owned(), means.clone())));
            Ok(())
        };
        let llama = Llama { tensors: Planned::new(self.model, &observe), sizes: sizes(self.model), window };
        let mut inputs = Vec::new();
        let mut x = llama.embed(&tokens)?;
        for layer in 0..llama.layers() {
            inputs.push(Stored::new(&x));
            x = llama.layer(layer, x)?;
            self.step(layer + 1)?;
        }
        let normed = llama.last_norm(&x)?;
        observe(&[llama.output_name()], &normed)?;
        let squares = squares.lock().unwrap_or_else(PoisonError::into_inner).clone();

        let mut costs: Vec<Costs> = self.trials.iter().map(|trial| vec![0.0; trial.formats.len()]).collect();
        let name = llama.output_name();
        let output = llama.tensors.matrix(name, Some(llama.vocabulary()), llama.sizes.hidden)?;
        let output_layer = OutputLayer::new(output.as_ref(), &normed)?;
        if let Some((at, _)) = self.tried(name) {
            let importance = squares.get(name).map(Vec::as_slice);
            let added = output_layer.divergences(self.backend, &self.trials[at], importance)?;
            costs[at].iter_mut().zip(added).for_each(|(cost, added)| *cost += added);
        }
        let mut gradient = llama.last_norm_back(&x, &output_layer.into_gradient())?;
        for layer in (0..llama.layers()).rev() {
            let x = inputs.pop().expect("a layer has its inputs").values();
            let mut tried: BTreeMap<String, Tried> = BTreeMap::new();
            let mut tell = |name: &str, x: &Activations, gradient: &Activations| {
                if !tried.contains_key(name) {
                    tried.insert(name.to_owned(), self.rounded(&llama.tensors, name, &squares)?);
                }
                tried.get_mut(name).map_or(Ok(()), |tried| {
                    tried.add(x, gradient);
                    Ok(())
                })
            };
            for start in (0..tokens.len()).step_by(window) {
                let text = Slice::from(start..start + window);
                let of = gradient.slice_axis(Axis(1), text).to_owned();
                let x = x.slice_axis(Axis(1), text).to_owned();
                let of = llama.layer_back(layer, &x, of, &mut tell)?;
                gradient.slice_axis_mut(Axis(1), text).assign(&of);
            }
            for (name, tried) in tried {
                self.finite(&name, gradient.iter())?;
                if let Some((at, _)) = self.tried(&name) {
                    costs[at] = tried.divergences(tokens.len());
                }
            }
            self.step(llama.layers() + 3 * (llama.layers() - layer))?;
        }
        let importance = match squares.get("token_embd.weight") {
            Some(squares) => Some(squares.clone()), // it is the output layer, too
            None => embedding::importance(&llama)?,
        };
        self.embedding(&llama.tensors, &tokens, &gradient, importance.as_deref(), &mut costs)?;
        Ok(costs)
    }

    /// The number of a tensor that has a choice.
    fn tried(&self, name: &str) -> Option<(usize, &Target)> {
        let mut targets = self.model.plan.tensors.iter().enumerate();
        targets.find(|(at, target)| target.name == name && !self.trials[*at].formats.is_empty())
    }

    fn step(&self, parts: usize) -> Result<()> {
        let all = 4 * self.model.config.num_layers;
        parts_done(self.model, (parts, all), "measuring what rounding does", self.watch)
    }

    fn finite<'a>(&self, name: &str, mut values: impl Iterator<Item = &'a f32>) -> Result<()> {
        match values.all(|value| value.is_finite()) {
            true => Ok(()),
            false => {
                let found = "activations or gradients that are no finite numbers";
                let file = self.model.checkpoint.main_file();
                Err(Error::mismatch(file, name, found, "a model that computes"))
            }
        }
    }

    fn rounded(&self, tensors: &Planned, name: &str, squares: &BTreeMap<String, Vec<f32>>) -> Result<Tried> {
        let Some((at, target)) = self.tried(name) else {
            return Ok(Tried { rows: Vec::new(), of: 0, errors: Vec::new(), sums: Vec::new() });
        };
        let matrix = tensors.matrix(name, Some(target.rows), target.columns)?;
        let rows = spread(target.rows, TRIED_ROWS);
        let trial = &self.trials[at];
        let weights = read(matrix.as_ref(), &rows, trial.columns)?;
        let errors = errors(self.backend, trial, &weights, squares.get(name).map(Vec::as_slice))?;
        Ok(Tried { rows, of: target.rows, sums: vec![0.0; errors.len()], errors })
    }

    /// A token's row is what the first layer gets: its error is an error of that.
    fn embedding(
        &self,
        tensors: &Planned,
        tokens: &[u32],
        gradient: &Activations,
        importance: Option<&[f32]>,
        costs: &mut [Costs],
    ) -> Result<()> {
        let mut targets = self.model.plan.tensors.iter();
        let Some(target) = targets.find(|target| target.role() == Role::TokenEmbedding) else {
            return Ok(());
        };
        let Some((at, _)) = self.tried(&target.name) else { return Ok(()) };
        let matrix = tensors.matrix(&target.name, Some(target.rows), target.columns)?;
        let mut known: Vec<usize> = tokens.iter().map(|&token| token as usize).collect();
        known.sort_unstable();
        known.dedup();
        let trial = &self.trials[at];
        let weights = read(matrix.as_ref(), &known, trial.columns)?;
        let errors = errors(self.backend, trial, &weights, importance)?;
        for (cost, errors) in costs[at].iter_mut().zip(errors) {
            let of_token = |(token, gradient): (&u32, ndarray::ArrayView1<f32>)| {
                let row = known.binary_search(&(*token as usize)).expect("each token is known");
                let products = errors.row(row).into_iter().zip(gradient).map(|(e, g)| f64::from(e * g));
                products.map(|product| product * product).sum::<f64>()
            };
            let sum: f64 = tokens.iter().zip(gradient.axis_iter(Axis(1))).map(of_token).sum();
            *cost += sum / 2.0 / tokens.len() as f64;
        }
        Ok(())
    }
}

/// Some rows of a matrix, and what the errors of each format add up to.
struct Tried {
    rows: Vec<usize>,
    /// All rows there are.
    of: usize,
    errors: Vec<Array2<f32>>,
    sums: Vec<f64>,
}

impl Tried {
    fn add(&mut self, x: &Activations, gradient: &Activations) {
        let gradient = gradient.select(Axis(0), &self.rows);
        let sum = |errors: &Array2<f32>| {
            let errors = errors.slice_axis(Axis(1), Slice::from(..x.nrows()));
            squares_of_products(errors.dot(x).view(), gradient.view())
        };
        let sums: Vec<f64> = self.errors.par_iter().map(sum).collect();
        self.sums.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
    }

    fn divergences(&self, tokens: usize) -> Costs {
        let share = self.of as f64 / self.rows.len().max(1) as f64;
        self.sums.iter().map(|sum| sum * share / 2.0 / tokens as f64).collect()
    }
}

/// Activations that wait for their turn, at half the bytes: for gradients their first 8 bits are enough.
struct Stored {
    features: usize,
    values: Vec<bf16>,
}

impl Stored {
    fn new(x: &Activations) -> Stored {
        Stored { features: x.nrows(), values: x.iter().map(|x| bf16::from_f32(*x)).collect() }
    }

    fn values(self) -> Activations {
        let tokens = self.values.len() / self.features.max(1);
        let values = self.values.into_iter().map(bf16::to_f32).collect();
        Array2::from_shape_vec((self.features, tokens), values).expect("whole columns")
    }
}

#[cfg(test)]
#[path = "sensitivity_tests.rs"]
mod tests;
