//! The arithmetic that all models share. Activations are `[features, tokens]`, so that a matrix `[out, in]`
//! multiplies them as it is stored.

use std::ops::Range;
use std::path::Path;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Values, one row a feature, one column a token.
pub(crate) type Activations = Array2<f32>;

/// A weight matrix that is read row by row, and so may be larger than memory.
pub(crate) trait Matrix: Send + Sync {
    /// Its file and its name in it, for messages.
    fn name(&self) -> (&Path, &str);
    /// Outputs.
    fn rows(&self) -> usize;
    /// Inputs.
    fn columns(&self) -> usize;
    /// Reads whole rows into `out`.
    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()>;
}

/// Weights in memory at a time, for each thread.
const BLOCK_WEIGHTS: usize = 2 << 20;
/// Blocks that a small matrix is cut into, for as many threads to share.
const PARTS: usize = 16;
/// Rows of such a block at least: smaller products are slow.
const FEWEST_ROWS: usize = 64;

/// Some rows of a matrix times the activations: `[rows, tokens]`.
pub(crate) fn multiply(matrix: &dyn Matrix, rows: Range<usize>, x: &Activations) -> Result<Activations> {
    let (columns, tokens) = (matrix.columns(), x.ncols());
    let shared = rows.len().div_ceil(PARTS).max(FEWEST_ROWS);
    let block = (BLOCK_WEIGHTS / columns.max(1)).clamp(1, shared);
    let mut out = vec![0.0; rows.len() * tokens];
    out.par_chunks_mut((block * tokens).max(1)).enumerate().try_for_each_init(
        Vec::new,
        |weights, (i, out)| {
            let start = rows.start + i * block;
            let count = out.len() / tokens;
            weights.resize(count * columns, 0.0);
            matrix.read(start..start + count, weights)?;
            general_mat_mul(1.0, &view(count, columns, weights), x, 0.0, &mut view_mut(count, tokens, out));
            Ok(())
        },
    )?;
    Ok(from_vec(rows.len(), tokens, out))
}

/// The whole matrix times the activations.
pub(crate) fn linear(matrix: &dyn Matrix, x: &Activations) -> Result<Activations> {
    multiply(matrix, 0..matrix.rows(), x)
}

/// The one column of a matrix that is a vector.
pub(crate) fn vector(matrix: &dyn Matrix) -> Result<Vec<f32>> {
    let mut values = vec![0.0; matrix.rows()];
    matrix.read(0..matrix.rows(), &mut values)?;
    Ok(values)
}

/// The rows of an embedding for some tokens, as columns.
pub(crate) fn embed(embedding: &dyn Matrix, tokens: &[u32]) -> Result<Activations> {
    if let Some(token) = tokens.iter().find(|&&token| token as usize >= embedding.rows()) {
        let (file, name) = embedding.name();
        let found = format!("{} rows", embedding.rows());
        return Err(Error::mismatch(file, name, found, format!("one for token {token}")));
    }
    let mut x = Array2::zeros((embedding.columns(), tokens.len()));
    let mut row = vec![0.0; embedding.columns()];
    for (mut column, &token) in x.axis_iter_mut(Axis(1)).zip(tokens) {
        let token = token as usize;
        embedding.read(token..token + 1, &mut row)?;
        column.assign(&ArrayView1::from(&row));
    }
    Ok(x)
}

/// Adds a bias, one value a feature.
pub(crate) fn add_bias(x: &mut Activations, bias: &[f32]) {
    for (mut row, bias) in x.axis_iter_mut(Axis(0)).zip(bias) {
        row += *bias;
    }
}

/// Every token divided by its root mean square, times the weights.
pub(crate) fn rms_norm(x: &Activations, weights: &[f32], epsilon: f32) -> Activations {
    let mut squares = vec![0f64; x.ncols()];
    for row in x.axis_iter(Axis(0)) {
        for (sum, x) in squares.iter_mut().zip(row) {
            *sum += f64::from(*x) * f64::from(*x);
        }
    }
    let features = x.nrows() as f64;
    let scales: Vec<f32> =
        squares.iter().map(|sum| (1.0 / (sum / features + f64::from(epsilon)).sqrt()) as f32).collect();
    let mut out = x.clone();
    for (mut row, weight) in out.axis_iter_mut(Axis(0)).zip(weights) {
        for (x, scale) in row.iter_mut().zip(&scales) {
            *x *= scale * weight;
        }
    }
    out
}

/// silu(gate) * up, in place of `gate`.
pub(crate) fn gated(gate: &mut Activations, up: ArrayView2<f32>) {
    gate.zip_mut_with(&up, |gate, up| *gate = *gate / (1.0 + (-*gate).exp()) * up);
}

/// Rotates the adjacent pairs of every head of `d` values: pair i by the token's position in its window times
/// `speeds[i]`. Pairs beyond the speeds stay as they are. The first token has the position `first`.
pub(crate) fn rotate_pairs(x: &mut Activations, d: usize, speeds: &[f64], first: usize, window: usize) {
    let tokens = x.ncols();
    let turns: Vec<Vec<(f32, f32)>> = speeds
        .iter()
        .map(|speed| {
            let turn = |token| (((first + token) % window) as f64 * speed).sin_cos();
            (0..tokens).map(turn).map(|(s, c)| (s as f32, c as f32)).collect()
        })
        .collect();
    for head in 0..x.nrows() / d {
        for (i, turns) in turns.iter().enumerate() {
            let first = head * d + 2 * i;
            for (token, (sin, cos)) in turns.iter().enumerate() {
                let (a, b) = (x[[first, token]], x[[first + 1, token]]);
                x[[first, token]] = a * cos - b * sin;
                x[[first + 1, token]] = b * cos + a * sin;
            }
        }
    }
}

/// Causal attention of `heads` query heads over `kv_heads` shared ones. Every `window` tokens are a text of their own.
/// Keys and values that are more than the queries are those of tokens before them, of one text.
pub(crate) fn attention(
    q: &Activations,
    k: &Activations,
    v: &Activations,
    (heads, kv_heads): (usize, usize),
    window: usize,
) -> Activations {
    let (d, tokens) = (q.nrows() / heads, q.ncols());
    let past = k.ncols() - tokens;
    let scale = attention_scale(d);
    let mut out = vec![0.0; heads * d * tokens];
    out.par_chunks_mut(d * tokens).enumerate().for_each(|(head, out)| {
        let group = head / (heads / kv_heads);
        let of_head = |x, head: usize| rows_of(x, head * d..(head + 1) * d);
        let (q, k, v) = (of_head(q, head), of_head(k, group), of_head(v, group));
        let mut out = view_mut(d, tokens, out);
        for start in (0..tokens).step_by(window) {
            let end = start.saturating_add(window).min(tokens);
            let (text, all) = (Slice::from(start..end), Slice::from(start..past + end));
            let q = q.slice_axis(Axis(1), text);
            let [k, v] = [k, v].map(|x| x.slice_axis_move(Axis(1), all));
            let scores = probabilities(q, k, scale);
            general_mat_mul(1.0, &v, &scores.t(), 0.0, &mut out.slice_axis_mut(Axis(1), text));
        }
    });
    from_vec(heads * d, tokens, out)
}

/// What the products of queries and keys are multiplied by.
pub(super) fn attention_scale(d: usize) -> f32 {
    1.0 / (d as f32).sqrt()
}

/// How much each token that asks looks at each that is asked, `[those, these]`: of the latter the last ones ask.
pub(super) fn probabilities(q: ArrayView2<f32>, k: ArrayView2<f32>, scale: f32) -> Array2<f32> {
    let past = k.ncols() - q.ncols();
    let mut scores = q.t().dot(&k);
    for (token, mut row) in scores.axis_iter_mut(Axis(0)).enumerate() {
        let (mut seen, mut unseen) = row.view_mut().split_at(Axis(0), past + token + 1);
        let largest = seen.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        seen.mapv_inplace(|x| ((x - largest) * scale).exp());
        let sum: f32 = seen.sum();
        seen /= sum;
        unseen.fill(0.0);
    }
    scores
}

/// Some of the features.
pub(crate) fn rows_of(x: &Activations, rows: Range<usize>) -> ArrayView2<'_, f32> {
    x.slice_axis(Axis(0), Slice::from(rows))
}

pub(super) fn view(rows: usize, columns: usize, values: &[f32]) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), values).expect("rows * columns values")
}

pub(super) fn view_mut(rows: usize, columns: usize, values: &mut [f32]) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows, columns), values).expect("rows * columns values")
}

pub(super) fn from_vec(rows: usize, columns: usize, values: Vec<f32>) -> Activations {
    Array2::from_shape_vec((rows, columns), values).expect("rows * columns values")
}
