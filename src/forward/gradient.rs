//! The same arithmetic backwards: from the gradient of what comes out to that of what goes in. Weights have none.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Axis, Slice};
use rayon::prelude::*;

use super::math::{Activations, Matrix, attention_scale, from_vec, probabilities, rows_of, view, view_mut};
use crate::error::Result;

/// Weights in memory at a time.
const BLOCK_WEIGHTS: usize = 8 << 20;
/// Columns of a matrix for each task.
const COLUMNS: usize = 256;

/// Adds the transpose of some rows of a matrix times the gradients of what these rows made, `[rows, tokens]`, to those
/// of the inputs, `[columns, tokens]`. The order of the sums does not depend on threads.
pub(crate) fn multiply_back(
    matrix: &dyn Matrix,
    rows: Range<usize>,
    gradient: &Activations,
    out: &mut Activations,
) -> Result<()> {
    let (columns, tokens) = (matrix.columns(), gradient.ncols());
    let block = (BLOCK_WEIGHTS / columns.max(1)).max(1);
    let mut weights = Vec::new();
    for start in rows.clone().step_by(block) {
        let count = block.min(rows.end - start);
        weights.resize(count * columns, 0.0);
        let lines = count.div_ceil(2 * rayon::current_num_threads()).max(1);
        weights.par_chunks_mut(lines * columns).enumerate().try_for_each(|(i, part)| {
            let first = start + i * lines;
            matrix.read(first..first + part.len() / columns, part)
        })?;
        let own = rows_of(gradient, start - rows.start..start - rows.start + count);
        let weights = view(count, columns, &weights);
        let parts: Vec<_> = out.axis_chunks_iter_mut(Axis(0), COLUMNS).enumerate().collect();
        parts.into_par_iter().for_each(|(i, mut out)| {
            let first = i * COLUMNS;
            let part = weights.slice_axis(Axis(1), Slice::from(first..first + out.nrows()));
            general_mat_mul(1.0, &part.t(), &own, 1.0, &mut out);
        });
    }
    debug_assert_eq!(out.dim(), (columns, tokens));
    Ok(())
}

/// Through [`rms_norm`](super::math::rms_norm) of `x`.
pub(super) fn rms_norm_back(
    x: &Activations,
    weights: &[f32],
    epsilon: f32,
    gradient: &Activations,
) -> Activations {
    let mut sums = vec![(0f64, 0f64); x.ncols()]; // squares, and the gradient along x
    for ((x, gradient), weight) in x.outer_iter().zip(gradient.outer_iter()).zip(weights) {
        for ((sums, x), gradient) in sums.iter_mut().zip(x).zip(gradient) {
            sums.0 += f64::from(*x) * f64::from(*x);
            sums.1 += f64::from(*x) * f64::from(gradient * weight);
        }
    }
    let features = x.nrows() as f64;
    let factors: Vec<(f32, f32)> = sums
        .iter()
        .map(|(squares, along)| {
            let scale = 1.0 / (squares / features + f64::from(epsilon)).sqrt();
            (scale as f32, (along * scale * scale * scale / features) as f32)
        })
        .collect();
    let mut out = gradient.clone();
    for ((mut row, x), weight) in out.outer_iter_mut().zip(x.outer_iter()).zip(weights) {
        for ((value, x), (scale, along)) in row.iter_mut().zip(x).zip(&factors) {
            *value = *value * weight * scale - x * along;
        }
    }
    out
}

/// Through silu(gate) * up: the gradients of both.
pub(super) fn gated_back(
    gate: &Activations,
    up: &Activations,
    gradient: Activations,
) -> (Activations, Activations) {
    let (mut of_gate, mut of_up) = (gradient.clone(), gradient);
    of_gate.zip_mut_with(gate, |value, gate| {
        let open = 1.0 / (1.0 + (-gate).exp());
        *value *= open * (1.0 + gate * (1.0 - open));
    });
    of_gate.zip_mut_with(up, |value, up| *value *= up);
    of_up.zip_mut_with(gate, |value, gate| *value *= gate / (1.0 + (-gate).exp()));
    (of_gate, of_up)
}

/// Through [`attention`](super::math::attention) over all tokens of it: the gradients of queries, keys and values.
pub(super) fn attention_back(
    [q, k, v]: [&Activations; 3],
    (heads, kv_heads): (usize, usize),
    window: usize,
    gradient: &Activations,
) -> [Activations; 3] {
    let (d, tokens, shared) = (q.nrows() / heads, q.ncols(), heads / kv_heads);
    let scale = attention_scale(d);
    let mut of_q = vec![0.0; heads * d * tokens];
    let mut of_k = vec![0.0; kv_heads * d * tokens];
    let mut of_v = of_k.clone();
    let groups = of_q.par_chunks_mut(shared * d * tokens).zip(of_k.par_chunks_mut(d * tokens));
    groups.zip(of_v.par_chunks_mut(d * tokens)).enumerate().for_each(|(group, ((of_q, of_k), of_v))| {
        let (mut of_k, mut of_v) = (view_mut(d, tokens, of_k), view_mut(d, tokens, of_v));
        for (head, of_q) in of_q.chunks_mut(d * tokens).enumerate() {
            let mut of_q = view_mut(d, tokens, of_q);
            let head = group * shared + head;
            for start in (0..tokens).step_by(window) {
                let text = Slice::from(start..start.saturating_add(window).min(tokens));
                let of_head =
                    |x, head: usize| rows_of(x, head * d..(head + 1) * d).slice_axis_move(Axis(1), text);
                let (q, k, v) = (of_head(q, head), of_head(k, group), of_head(v, group));
                let gradient = of_head(gradient, head);
                let looks = probabilities(q, k, scale);
                general_mat_mul(1.0, &gradient, &looks, 1.0, &mut of_v.slice_axis_mut(Axis(1), text));
                let mut of_scores: Array2<f32> = gradient.t().dot(&v);
                for (mut row, looks) in of_scores.outer_iter_mut().zip(looks.outer_iter()) {
                    let mean = row.iter().zip(looks).map(|(x, look)| x * look).sum::<f32>();
                    row.zip_mut_with(&looks, |x, look| *x = look * (*x - mean));
                }
                general_mat_mul(scale, &k, &of_scores.t(), 1.0, &mut of_q.slice_axis_mut(Axis(1), text));
                general_mat_mul(scale, &q, &of_scores, 1.0, &mut of_k.slice_axis_mut(Axis(1), text));
            }
        }
    });
    [(heads, of_q), (kv_heads, of_k), (kv_heads, of_v)]
        .map(|(heads, values)| from_vec(heads * d, tokens, values))
}
