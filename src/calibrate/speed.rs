//! How fast this machine does what measuring mostly does, found out in a fraction of a second.

use std::time::{Duration, Instant};

use ndarray::Array2;
use ndarray::linalg::general_mat_mul;
use quant::Curvature;
use rayon::prelude::*;

use super::How;
use super::cost::{Cost, Rounded};
use super::rounding::feedback;
use super::trial::fault;
use crate::error::Result;
use crate::hash::fraction;
use crate::threads;

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
    threads::workers(how.threads)?.install(|| {
        let [panel, behind, rows] = PRODUCT;
        let (factor, errors) = (numbers(panel, behind), numbers(panel, rows));
        let products = rate(how.threads.get(), || {
            let mut x = Array2::zeros((behind, rows));
            general_mat_mul(1.0, &factor.t(), &errors, 1.0, &mut x);
            std::hint::black_box(x);
            Ok(2.0 * (panel * behind * rows) as f64)
        })?;
        let mut seconds = cost.operations / products;
        for rounded in &cost.rounded {
            seconds += rounded.weights / rounding(rounded, how)?;
        }
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    })
}

/// Weights a second.
fn rounding(&Rounded { format, feedback: with, .. }: &Rounded, how: How) -> Result<f64> {
    let [rows, columns] = BLOCK;
    let weights: Vec<f32> = numbers(rows, columns).into_iter().collect();
    let curvature = curvature(columns)?;
    let bytes = format.row_bytes(columns).expect("its columns are whole blocks of every format") * rows;
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
        loop {
            done += work()?; // once at least, however late a busy machine lets it begin
            if started.elapsed() >= TRIED {
                return Ok(done);
            }
        }
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

    use super::super::moments::Moments;
    use super::*;
    use crate::forward::{InMemory, linear};
    use quant::{Backend, Format};

    #[test]
    fn work_takes_time_and_no_work_takes_none() {
        let how = How { threads: NonZero::<usize>::MIN, backend: Backend::detect() };
        let rounded = Rounded { format: Format::Q4_K, feedback: true, weights: 1e9 };
        let cost = Cost { operations: 4e12, rounded: vec![rounded] };
        assert!(time(&cost, how).unwrap() > Duration::from_secs(1)); // which no machine does in a second
        assert_eq!(time(&Cost::default(), how).unwrap(), Duration::ZERO);
    }

    /// Prints billions of operations a second, and which part of the peak they are.
    fn speed<T>(what: &str, peak: Option<f64>, operations: f64, work: impl FnOnce() -> T) -> (f64, T) {
        let started = Instant::now();
        let done = work();
        let speed = operations / started.elapsed().as_secs_f64() / 1e9;
        let share =
            peak.map_or_else(String::new, |peak| format!(", {:.0} % of the peak", 100.0 * speed / peak));
        println!("{what}: {speed:.0} GFLOP a second{share}");
        (speed, done)
    }

    /// What each step of measuring and of `best` reaches of the speed of one large product of matrices, on one thread.
    #[test]
    #[ignore = "a measurement: cargo test --lib share_of_the_peak -- --ignored --nocapture"]
    fn share_of_the_peak() {
        const TOKENS: usize = 512;
        const ROWS: usize = 128;
        let backend = Backend::detect();
        let run = || {
            let (a, b) = (numbers(2048, 2048), numbers(2048, 2048));
            let (peak, _) = speed("a product of 2,048 x 2,048", None, 2.0 * 2048f64.powi(3), || a.dot(&b));
            let peak = Some(peak);
            for columns in [4096, 13_824] {
                let n = columns as f64;
                let x = numbers(columns, TOKENS);
                let layer = InMemory("weights", numbers(2048, columns));
                speed(&format!("forward of {columns}"), peak, 2.0 * 2048.0 * n * TOKENS as f64, || {
                    linear(&layer, &x).unwrap()
                });
                let mut moments = Moments::new(std::iter::once(0..columns).collect());
                speed(&format!("moments of {columns}"), peak, n * n * TOKENS as f64, || moments.add(&x));
                let means = moments.finish();
                let factor = || moments.damped(&means, 0.25);
                let (_, damped) = speed(&format!("factor of {columns}"), peak, n.powi(3) / 3.0, factor);
                let Ok(curvatures) = damped else { panic!("no factor") };
                let weights: Vec<f32> = numbers(ROWS, columns).into_iter().collect();
                let mut out = vec![0; ROWS * Format::Q4_K.row_bytes(columns).unwrap()];
                let shape = n * n * ROWS as f64;
                speed(&format!("feedback and two sweeps of {columns}"), peak, 6.0 * shape, || {
                    feedback(backend, Format::Q4_K, &curvatures[0].1, &weights, &mut out).unwrap();
                });
            }
        };
        threads::workers(NonZero::<usize>::MIN).unwrap().install(run);
    }
}
