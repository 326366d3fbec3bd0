//! How fast this machine does what measuring mostly does, found out in a fraction of a second.

use std::time::{Duration, Instant};

use ndarray::Array2;
use ndarray::linalg::general_mat_mul;
use quant::Curvature;
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

use super::cost::{Cost, Rounded};
use super::refine::How;
use super::rounding::{fault, feedback};
use crate::error::{Error, Result};
use crate::hash::fraction;

/// How long each kind of work is tried, on all threads.
const TRIED: Duration = Duration::from_millis(60);
/// A product of the shape that rounding with feedback has most: a panel of columns, what is behind it, and rows.
const PRODUCT: [usize; 3] = [256, 1024, 128];
/// Rows and columns that are rounded.
const BLOCK: [usize; 2] = [32, 256];

/// About how long the work will take.
///
/// # Errors
/// When there are more threads than the system gives.
pub fn time(cost: &Cost, how: How) -> Result<Duration> {
    let threads = how.threads;
    let pool = ThreadPoolBuilder::new().num_threads(threads.get()).build().map_err(|e| {
        Error::Usage(format!("cannot start {threads} threads: {e}: give fewer with --threads"))
    })?;
    pool.install(|| {
        let [panel, behind, rows] = PRODUCT;
        let (factor, errors) = (numbers(panel, behind), numbers(panel, rows));
        let products = rate(threads.get(), || {
            let mut x = Array2::zeros((behind, rows));
            general_mat_mul(1.0, &factor.t(), &errors, 1.0, &mut x);
            std::hint::black_box(x);
            Ok(2.0 * (panel * behind * rows) as f64)
        })?;
        let mut seconds = cost.operations / products;
        for rounded in &cost.rounded {
            seconds += rounded.weights / rounding(rounded, how)?;
        }
        Ok(Duration::from_secs_f64(seconds))
    })
}

/// Weights a second.
fn rounding(&Rounded { format, feedback: with, .. }: &Rounded, how: How) -> Result<f64> {
    let [rows, columns] = BLOCK;
    let weights: Vec<f32> = numbers(rows, columns).into_iter().collect();
    let curvature = curvature(columns)?;
    let bytes = format.row_bytes(columns).unwrap_or_default() * rows;
    let importance = vec![1.0; columns];
    rate(how.threads.get(), || {
        let mut out = vec![0; bytes];
        match with {
            true => feedback(how.backend, format, &curvature, &weights, &mut out)?,
            false => quant::quantize(how.backend, format, columns, &weights, Some(&importance), &mut out)
                .map_err(fault)?,
        }
        Ok(weights.len() as f64)
    })
}

/// What all threads together come to in a second.
fn rate(threads: usize, work: impl Fn() -> Result<f64> + Sync) -> Result<f64> {
    work()?; // buffers and caches
    let started = Instant::now();
    let one = |_| {
        let mut done = 0.0;
        while started.elapsed() < TRIED {
            done += work()?;
        }
        Ok(done)
    };
    let done: Vec<f64> = (0..threads).into_par_iter().with_max_len(1).map(one).collect::<Result<_>>()?;
    Ok(done.iter().sum::<f64>() / started.elapsed().as_secs_f64())
}

fn numbers(rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(i, k)| fraction((i * columns + k) as u64) as f32 - 0.5)
}

/// Columns that have a little to do with one another.
fn curvature(columns: usize) -> Result<Curvature> {
    let near = numbers(columns, columns).mapv(|x| 0.1 * x);
    let packed = near.indexed_iter().map(|((i, k), near)| if i == k { 1.0 } else { *near }).collect();
    Curvature::new(packed, vec![1.0; columns]).map_err(fault)
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::*;
    use quant::{Backend, Format};

    /// Against the same work done whole; wide bounds, for other programs run beside it.
    #[test]
    fn the_time_of_known_work_is_foretold() {
        let how = How { threads: NonZero::<usize>::MIN, backend: Backend::detect() };
        let (rows, columns) = (2048, 256);
        let rounded = Rounded { format: Format::Q4_K, feedback: true, weights: (rows * columns) as f64 };
        let cost = Cost { operations: 4e9, rounded: vec![rounded] };
        let foretold = time(&cost, how).unwrap().as_secs_f64();
        let weights: Vec<f32> = numbers(rows, columns).into_iter().collect();
        let started = Instant::now();
        let mut out = vec![0; rows * Format::Q4_K.row_bytes(columns).unwrap()];
        feedback(how.backend, Format::Q4_K, &curvature(columns).unwrap(), &weights, &mut out).unwrap();
        let (a, b) = (numbers(1000, 1000), numbers(1000, 1000));
        std::hint::black_box((a.dot(&b), b.dot(&a)));
        let took = started.elapsed().as_secs_f64();
        assert!((0.2..5.0).contains(&(foretold / took)), "{foretold} {took}");
        let twice = Cost { operations: 2.0 * cost.operations, ..cost.clone() };
        assert!(twice.clone().and(cost.clone()).operations == 3.0 * cost.operations);
    }
}
