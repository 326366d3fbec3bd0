//! The error of every tensor, a cell each: kinds of tensors down, layers across.

use std::collections::BTreeMap;
use std::fmt::Write;

use quant::Format;

use super::words::{decibels, escape, relative};
use glm2llama::verify::TensorError;

const ROW: f64 = 20.0;
const LABELS: f64 = 132.0;
const WIDTH: f64 = 920.0;
/// Kinds from top to bottom; any other follows.
const KINDS: [&str; 12] = [
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
    "ffn_gate.weight",
    "ffn_up.weight",
    "ffn_down.weight",
    "attn_q.bias",
    "attn_k.bias",
    "attn_v.bias",
    "attn_norm.weight",
    "ffn_norm.weight",
];

/// The least and the largest error of each format, as far as there is one: the ends of its colours.
type Scales = BTreeMap<Format, (f64, f64)>;

fn scales(tensors: &[TensorError]) -> Scales {
    let mut scales = Scales::new();
    for tensor in
        tensors.iter().filter(|tensor| tensor.relative_rmse > 0.0 && tensor.relative_rmse.is_finite())
    {
        let error = tensor.relative_rmse;
        let (low, high) = scales.entry(tensor.format).or_insert((error, error));
        (*low, *high) = (low.min(error), high.max(error));
    }
    scales
}

/// Where an error stands in its format's colours; alike ones have the same, in the middle.
fn heat(scales: &Scales, tensor: &TensorError) -> f64 {
    match scales.get(&tensor.format) {
        Some(&(low, high)) if high > 1.02 * low => {
            ((tensor.relative_rmse - low) / (high - low)).clamp(0.0, 1.0)
        }
        _ => 0.5,
    }
}

pub(super) fn section(tensors: &[TensorError]) -> String {
    let scales = scales(tensors);
    let layers = tensors.iter().filter_map(|tensor| tensor.layer).max().map_or(0, |last| last + 1);
    let mut kinds: BTreeMap<(usize, &str), Vec<&TensorError>> = BTreeMap::new();
    let mut outer = Vec::new();
    for tensor in tensors {
        match tensor.layer {
            Some(_) => {
                let kind = tensor.name.splitn(3, '.').nth(2).unwrap_or(&tensor.name);
                let place = KINDS.iter().position(|&known| known == kind).unwrap_or(KINDS.len());
                kinds.entry((place, kind)).or_default().push(tensor);
            }
            None => outer.push(tensor),
        }
    }
    let cell = ((WIDTH - LABELS) / layers.max(1) as f64).clamp(4.0, 64.0);
    let mut svg = String::new();
    let mut y = 0.0;
    for ((_, kind), tensors) in &kinds {
        label(&mut svg, y, kind);
        for tensor in tensors {
            draw(
                &mut svg,
                (LABELS + tensor.layer.unwrap_or(0) as f64 * cell, y),
                cell,
                tensor,
                heat(&scales, tensor),
            );
        }
        y += ROW;
    }
    axis(&mut svg, y, layers, cell);
    y += 30.0;
    for tensor in outer {
        label(&mut svg, y, &tensor.name);
        draw(&mut svg, (LABELS, y), cell.max(24.0), tensor, heat(&scales, tensor));
        y += ROW;
    }
    let key: String = scales
        .iter()
        .map(|(format, (low, high))| {
            format!("<li>{format}: {}<span class=\"ramp\"></span>{}</li>", relative(*low), relative(*high))
        })
        .collect();
    let width = (LABELS + layers as f64 * cell).max(LABELS + 60.0) + 8.0;
    format!(
        "<section><h2>Error of every tensor</h2>\n<p class=\"soft small\">Root mean square error as a part of the \
         tensor’s own size. A hollow cell has no error at all; a cell with a cross is further from the checkpoint \
         than its format allows. The colours go, for each format, from its least error to its largest.</p>\n<div class=\"scroll\"><svg width=\"{width:.0}\" height=\"{y:.0}\" \
         viewBox=\"0 0 {width:.0} {y:.0}\" role=\"img\" aria-label=\"Error of every tensor by layer\">\n{svg}</svg></div>\n\
         <ul class=\"key\">{key}</ul></section>\n"
    )
}

fn label(svg: &mut String, y: f64, text: &str) {
    let text = text.strip_suffix(".weight").unwrap_or(text);
    let _ = writeln!(svg, "<text class=\"strong\" x=\"0\" y=\"{:.1}\">{}</text>", y + 14.0, escape(text));
}

fn draw(svg: &mut String, (x, y): (f64, f64), width: f64, tensor: &TensorError, heat: f64) {
    let gap = if width > 10.0 { 2.0 } else { 1.0 };
    let (w, h) = (width - gap, ROW - 3.0);
    let (class, style) = if !tensor.fits() {
        ("outside", String::new())
    } else if tensor.snr_db.is_none() {
        ("exact", String::new())
    } else {
        ("cell", format!(" style=\"--t:{:.0}%\"", 100.0 * heat))
    };
    let snr = match tensor.snr_db {
        None => "no error at all".to_owned(),
        snr => format!("error {}, {}", relative(tensor.relative_rmse), decibels(snr)),
    };
    let _ = write!(
        svg,
        "<g><title>{}: {}, {snr}</title><rect class=\"{class}\"{style} x=\"{x:.1}\" y=\"{:.1}\" \
         width=\"{w:.1}\" height=\"{h}\" rx=\"2\"/>",
        escape(&tensor.name),
        tensor.format,
        y + 1.5,
    );
    if !tensor.fits() {
        let (cx, cy, r) = (x + w / 2.0, y + 1.5 + h / 2.0, (w / 2.0 - 1.0).clamp(1.5, 4.5));
        let _ = write!(
            svg,
            "<path class=\"cross\" d=\"M{:.1} {:.1}l{s:.1} {s:.1}m0 -{s:.1}l-{s:.1} {s:.1}\"/>",
            cx - r,
            cy - r,
            s = 2.0 * r
        );
    }
    svg.push_str("</g>\n");
}

fn axis(svg: &mut String, y: f64, layers: usize, cell: f64) {
    let step = [1, 2, 5, 10, 20, 50, 100].into_iter().find(|&step| step as f64 * cell >= 18.0).unwrap_or(500);
    for layer in (0..layers).step_by(step) {
        let x = LABELS + (layer as f64 + 0.5) * cell - 1.0;
        let _ =
            writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{layer}</text>", y + 13.0);
    }
    let _ = writeln!(svg, "<text x=\"0\" y=\"{:.1}\">layer</text>", y + 13.0);
}
