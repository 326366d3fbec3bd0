use super::*;
use crate::{dequantize, quantize};

/// All that store blocks.
fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| format.block_len() > 1)
}

/// Numbers between -1 and 1 without a pattern.
fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Weights as a trained matrix has them: most small, some large.
fn weights(count: usize, seed: u64) -> Vec<f32> {
    let mut next = noise(seed);
    (0..count).map(|_| (next() + next() + next()) * (1.0 + 3.0 * next().powi(8)) * 0.05).collect()
}

/// Second moments of inputs that move together, some columns much stronger than others, damped by a fifth of their mean.
fn moments(columns: usize, tokens: usize, seed: u64) -> Vec<f64> {
    let mut next = noise(seed);
    let strength: Vec<f32> = (0..columns).map(|_| 0.3 + 3.0 * next().powi(6)).collect();
    let mut h = vec![0.0; columns * columns];
    for _ in 0..tokens {
        let shared = next();
        let x: Vec<f64> = strength.iter().map(|s| f64::from(s * (next() + shared))).collect();
        for i in 0..columns {
            for k in 0..columns {
                h[i * columns + k] += x[i] * x[k] / tokens as f64;
            }
        }
    }
    damp(&mut h, columns);
    h
}

fn damp(h: &mut [f64], columns: usize) {
    let mean: f64 = (0..columns).map(|i| h[i * columns + i]).sum::<f64>() / columns as f64;
    (0..columns).for_each(|i| h[i * columns + i] += 0.2 * mean);
}

/// The plainest way to the factor: from the last column to the first.
fn curvature(h: &[f64], columns: usize) -> Curvature {
    let mut rest = h.to_vec();
    let mut packed: Vec<f32> = h.iter().map(|x| *x as f32).collect();
    for k in (0..columns).rev() {
        let pivot = rest[k * columns + k];
        let column: Vec<f64> = (0..k).map(|i| rest[i * columns + k] / pivot).collect();
        for i in 0..k {
            packed[i * columns + k] = column[i] as f32;
            for j in 0..k {
                rest[i * columns + j] -= column[i] * column[j] * pivot;
            }
        }
    }
    let weights = (0..columns).map(|i| h[i * columns + i] as f32).collect();
    Curvature::new(packed, weights).unwrap()
}

/// The cost that feedback is to make small: the sum over the rows of e H e'.
fn cost(rows: &[f32], blocks: &[u8], format: Format, h: &[f64], columns: usize) -> f64 {
    let mut back = vec![0.0; rows.len()];
    dequantize(format, blocks, &mut back).unwrap();
    let errors: Vec<f64> = rows.iter().zip(&back).map(|(x, y)| f64::from(x - y)).collect();
    let of_row = |e: &[f64]| -> f64 {
        (0..columns).map(|i| (0..columns).map(|k| e[i] * h[i * columns + k] * e[k]).sum::<f64>()).sum()
    };
    errors.chunks(columns).map(of_row).sum()
}

fn made(backend: Backend, format: Format, curvature: &Curvature, rows: &[f32], sweeps: usize) -> Vec<u8> {
    let count = rows.len() / curvature.columns;
    let mut out = vec![0; count * format.row_bytes(curvature.columns).unwrap()];
    quantize_with_feedback(backend, format, curvature, rows, sweeps, &mut out).unwrap();
    out
}

#[test]
fn feedback_costs_less_than_rounding_and_descent_less_than_feedback() {
    for columns in [256, 512] {
        let h = moments(columns, 2 * columns, 7);
        let curvature = curvature(&h, columns);
        let rows = weights(19 * columns, 3);
        let importance: Vec<f32> = curvature.weights.clone();
        for format in formats() {
            let mut rounded = vec![0; 19 * format.row_bytes(columns).unwrap()];
            quantize(Backend::detect(), format, columns, &rows, Some(&importance), &mut rounded).unwrap();
            let costs = [0, 1, 3].map(|sweeps| {
                cost(&rows, &made(Backend::detect(), format, &curvature, &rows, sweeps), format, &h, columns)
            });
            let rounded = cost(&rows, &rounded, format, &h, columns);
            assert!(costs[0] < 0.95 * rounded, "{format} {columns}: {costs:?}, rounded {rounded}");
            assert!(costs[1] < costs[0] && costs[2] <= costs[1] * 1.0001, "{format} {columns}: {costs:?}");
        }
    }
}

#[test]
fn every_backend_and_every_division_of_the_rows_makes_the_same_bytes() {
    let columns = 256;
    let curvature = curvature(&moments(columns, 300, 5), columns);
    let rows = weights(35 * columns, 9);
    for format in formats() {
        let whole = made(Backend::SCALAR, format, &curvature, &rows, 2);
        for backend in Backend::available() {
            let parts: Vec<u8> = rows
                .chunks(20 * columns)
                .flat_map(|rows| made(backend, format, &curvature, rows, 2))
                .collect();
            assert!(parts == whole, "{format} {backend}");
        }
    }
}

/// Without correlations there is nothing to feed back, and nothing for descent to find but units.
#[test]
fn independent_columns_are_rounded_one_by_one() {
    let columns = 256;
    let mut h = vec![0.0; columns * columns];
    (0..columns).for_each(|i| h[i * columns + i] = 1.0);
    let curvature = curvature(&h, columns);
    let rows = weights(16 * columns, 1);
    for format in formats() {
        let mut back = vec![0.0; rows.len()];
        dequantize(format, &made(Backend::detect(), format, &curvature, &rows, 0), &mut back).unwrap();
        let mut rounded = vec![0; 16 * format.row_bytes(columns).unwrap()];
        quantize(Backend::detect(), format, columns, &rows, Some(&vec![1.0; columns]), &mut rounded).unwrap();
        let (ours, ggml) = (
            rows.iter().zip(&back).map(|(x, y)| f64::from((x - y) * (x - y))).sum::<f64>(),
            cost(&rows, &rounded, format, &h, columns),
        );
        assert!(ours <= ggml * 1.01, "{format}: {ours} against ggml's {ggml}");
    }
}

/// More columns than tokens, one token, and columns that no input reaches.
#[test]
fn few_tokens_and_dead_columns_are_fine() {
    let columns = 512;
    for tokens in [1, 40] {
        let mut h = moments(columns, tokens, 11);
        let mut rows = weights(3 * columns, 2);
        let dead = columns - 60..columns;
        for i in dead.clone() {
            for k in 0..columns {
                (h[i * columns + k], h[k * columns + i]) = (0.0, 0.0);
            }
            h[i * columns + i] = 0.1;
        }
        for row in rows.chunks_mut(columns) {
            row[dead.clone()].fill(0.0);
        }
        let (packed, mut importance) = curvature(&h, columns).into_parts();
        importance[dead.clone()].fill(0.0);
        let curvature = Curvature::new(packed, importance).unwrap();
        for format in formats() {
            let blocks = made(Backend::detect(), format, &curvature, &rows, 2);
            let mut back = vec![0.0; rows.len()];
            dequantize(format, &blocks, &mut back).unwrap();
            assert!(back.iter().all(|x| x.is_finite()), "{format}");
            let zeros = vec![0; blocks.len()];
            let nothing = cost(&rows, &zeros, format, &h, columns);
            assert!(cost(&rows, &blocks, format, &h, columns) < 0.3 * nothing, "{format}");
        }
    }
}

#[test]
fn zeros_stay_zeros_and_misfits_are_refused() {
    let columns = 256;
    let curvature = curvature(&moments(columns, 300, 5), columns);
    for format in formats() {
        let mut back = vec![1.0; columns];
        dequantize(format, &made(Backend::detect(), format, &curvature, &vec![0.0; columns], 1), &mut back)
            .unwrap();
        assert!(back.iter().all(|x| *x == 0.0), "{format}");
    }
    let refused = |format, rows: usize, out: usize| {
        let (rows, mut out) = (vec![0.0; rows], vec![0; out]);
        quantize_with_feedback(Backend::SCALAR, format, &curvature, &rows, 0, &mut out).unwrap_err()
    };
    assert_eq!(refused(Format::F16, 256, 512), Error::Columns { format: Format::F16, columns });
    assert!(matches!(refused(Format::Q4_K, 300, 144), Error::Length { what: "rows", .. }));
    assert!(matches!(refused(Format::Q4_K, 256, 143), Error::Length { what: "out", .. }));
    assert!(Curvature::new(vec![0.0; 5], vec![1.0; 2]).is_err());
}
