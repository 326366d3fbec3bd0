//! The tensors in tables: the ten worst, and all.

use std::fmt::Write;

use super::words::{decibels, escape, relative, small, used};
use crate::cli::print::gigabytes;
use glm2llama::verify::TensorError;

const WORST: usize = 10;

/// Those that use most of what their format allows.
pub(super) fn worst(tensors: &[TensorError]) -> String {
    let mut sorted: Vec<&TensorError> = tensors.iter().filter(|tensor| tensor.snr_db.is_some()).collect();
    if sorted.is_empty() {
        return String::new();
    }
    // What is no number is worst of all.
    let rank = |tensor: &TensorError| {
        let error = tensor.relative_rmse;
        (!tensor.fits(), if error.is_nan() { f64::INFINITY } else { error })
    };
    sorted.sort_by(|a, b| {
        let (a, b) = (rank(a), rank(b));
        b.0.cmp(&a.0).then(b.1.total_cmp(&a.1))
    });
    sorted.truncate(WORST);
    format!("<section><h2>The worst tensors</h2>\n{}</section>\n", table(&sorted))
}

pub(super) fn all(tensors: &[TensorError]) -> String {
    let rows: Vec<&TensorError> = tensors.iter().collect();
    format!(
        "<section><details><summary>All {} tensors</summary>{}</details></section>\n",
        tensors.len(),
        table(&rows)
    )
}

fn table(tensors: &[&TensorError]) -> String {
    let mut out = "<div class=\"scroll\"><table>\n<tr><th>tensor</th><th class=\"word\">format</th><th>size</th>\
                   <th>error</th><th>signal to noise</th><th>largest error</th><th>of what is allowed</th></tr>\n"
        .to_owned();
    for tensor in tensors {
        let class = if tensor.fits() { "" } else { " class=\"no\"" };
        let _ = writeln!(
            out,
            "<tr{class}><td><code>{}</code></td><td class=\"word\">{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td></tr>",
            escape(&tensor.name),
            tensor.format,
            gigabytes(tensor.bytes),
            relative(tensor.relative_rmse),
            decibels(tensor.snr_db),
            small(f64::from(tensor.largest)),
            used(tensor.largest_use),
        );
    }
    out + "</table></div>"
}
