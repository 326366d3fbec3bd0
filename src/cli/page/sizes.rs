//! The file's bytes by format: one bar, and a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use quant::Format;

use crate::cli::print::gigabytes;
use glm2llama::verify::TensorError;

const WIDTH: f64 = 940.0;
const COLOURS: usize = 6;

#[derive(Default)]
struct Size {
    tensors: usize,
    bytes: u64,
    worst_error: f64,
}

pub(super) fn section(tensors: &[TensorError]) -> String {
    let mut formats: BTreeMap<Format, Size> = BTreeMap::new();
    for tensor in tensors {
        let size = formats.entry(tensor.format).or_default();
        size.tensors += 1;
        size.bytes += tensor.bytes;
        size.worst_error = size.worst_error.max(tensor.relative_rmse);
    }
    let total: u64 = formats.values().map(|size| size.bytes).sum();
    let mut sorted: Vec<_> = formats.into_iter().collect();
    sorted.sort_by_key(|(_, size)| std::cmp::Reverse(size.bytes));
    let (mut svg, mut rows, mut x) = (String::new(), String::new(), 0.0);
    for (i, (format, size)) in sorted.iter().enumerate() {
        let colour = i.min(COLOURS - 1);
        let part = size.bytes as f64 / total.max(1) as f64;
        let width = part * WIDTH;
        let _ = writeln!(
            svg,
            "<rect class=\"s{colour}\" x=\"{x:.1}\" y=\"0\" width=\"{:.1}\" height=\"34\">\
             <title>{format}: {}, {:.1} %</title></rect>",
            (width - 2.0).max(0.8),
            gigabytes(size.bytes),
            100.0 * part
        );
        x += width;
        let _ = writeln!(
            rows,
            "<tr><td><i class=\"s{colour}\"></i>{format}</td><td>{}</td><td>{}</td><td>{:.1} %</td><td>{:.3}</td>\
             <td>{}</td></tr>",
            size.tensors,
            gigabytes(size.bytes),
            100.0 * part,
            format.block_bytes() as f64 * 8.0 / format.block_len() as f64,
            super::words::relative(size.worst_error),
        );
    }
    format!(
        "<section><h2>Size by format</h2>\n<svg width=\"{WIDTH}\" height=\"34\" viewBox=\"0 0 {WIDTH} 34\" \
         preserveAspectRatio=\"none\" style=\"border-radius:8px;width:100%;height:34px;margin:.7rem 0 1rem\" \
         role=\"img\" aria-label=\"Size by format\">\n{svg}</svg>\n<div class=\"scroll\"><table class=\"sizes\">\n\
         <tr><th>format</th><th>tensors</th><th>size</th><th>of the file</th><th>bits per weight</th>\
         <th>error at most</th></tr>\n{rows}</table></div></section>\n"
    )
}
