//! What `verify` found, as text or JSON lines.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::memory::peak_memory_bytes;
use super::print::{json, out};
use crate::error::one_line;
use crate::verify::{Facts, Finding, Function, Pair, TensorError, Verdict, Weights};

/// Everything there is to tell.
pub(super) struct Outcome<'a> {
    pub folder: &'a Path,
    pub file: &'a Path,
    pub pair: &'a Pair,
    pub facts: &'a Facts,
    /// How many files have their hash in the receipt, where there is one.
    pub unchanged: Option<usize>,
    pub weights: &'a Weights,
    pub function: Option<&'a Function>,
    pub verdict: &'a Verdict,
    pub weights_took: Duration,
    pub took: Duration,
}

/// One JSON line: `{"type": ..., "data": ...}`.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Event<'a> {
    Tensor(TensorEvent<'a>),
    Finding { subject: &'a str, problem: &'a str },
    Metadata { facts: usize, tokens: Option<usize> },
    Receipt { files: usize },
    Position(PositionEvent<'a>),
    Function(FunctionEvent),
    Verdict(VerdictEvent<'a>),
}

#[derive(Serialize)]
struct TensorEvent<'a> {
    name: &'a str,
    layer: Option<usize>,
    format: &'static str,
    bytes: u64,
    weights: u64,
    weights_outside: u64,
    largest_error: f32,
    /// Largest error as a part of the allowed one.
    largest_use: f32,
    relative_rmse: f64,
    /// Absent when there is no error at all.
    snr_db: Option<f64>,
}

#[derive(Serialize)]
struct PositionEvent<'a> {
    position: usize,
    token: &'a str,
    kl: f64,
    same_top: bool,
    source_surprise: Option<f64>,
    file_surprise: Option<f64>,
    largest_logit_difference: f32,
}

#[derive(Serialize)]
struct FunctionEvent {
    tokens: usize,
    mean_kl: f64,
    median_kl: f64,
    kl_99_percent: f64,
    largest_kl: f64,
    top_1_agreement: f64,
    source_perplexity: f64,
    file_perplexity: f64,
    largest_logit_difference: f32,
}

#[derive(Serialize)]
struct VerdictEvent<'a> {
    same: bool,
    verdict: &'a str,
    max_kl: f64,
    weights_compared: u64,
    weights_seconds: f64,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

pub(super) fn print(outcome: &Outcome, as_json: bool) {
    if as_json { print_json(outcome) } else { print_text(outcome) }
}

fn print_json(outcome: &Outcome) {
    for tensor in &outcome.weights.tensors {
        json(&Event::Tensor(TensorEvent::new(tensor)));
    }
    json(&Event::Metadata { facts: outcome.facts.checked, tokens: outcome.facts.tokens });
    if let Some(files) = outcome.unchanged {
        json(&Event::Receipt { files });
    }
    if let Some(function) = outcome.function {
        for (position, (at, token)) in function.positions.iter().zip(&function.texts).enumerate() {
            json(&Event::Position(PositionEvent {
                position,
                token,
                kl: at.kl,
                same_top: at.same_top,
                source_surprise: at.source_surprise,
                file_surprise: at.file_surprise,
                largest_logit_difference: at.largest_difference,
            }));
        }
        json(&Event::Function(FunctionEvent::new(function)));
    }
    for Finding { subject, problem } in &outcome.verdict.blame {
        json(&Event::Finding { subject, problem });
    }
    json(&Event::Verdict(VerdictEvent {
        same: outcome.verdict.same,
        verdict: &outcome.verdict.line,
        max_kl: outcome.verdict.max_kl,
        weights_compared: outcome.weights.compared,
        weights_seconds: outcome.weights_took.as_secs_f64(),
        seconds: outcome.took.as_secs_f64(),
        peak_memory_bytes: peak_memory_bytes(),
    }));
}

impl<'a> TensorEvent<'a> {
    fn new(tensor: &'a TensorError) -> TensorEvent<'a> {
        TensorEvent {
            name: &tensor.name,
            layer: tensor.layer,
            format: tensor.format.name(),
            bytes: tensor.bytes,
            weights: tensor.weights,
            weights_outside: tensor.outside,
            largest_error: tensor.largest,
            largest_use: tensor.largest_use,
            relative_rmse: tensor.relative_rmse,
            snr_db: tensor.snr_db,
        }
    }
}

impl FunctionEvent {
    fn new(function: &Function) -> FunctionEvent {
        FunctionEvent {
            tokens: function.positions.len(),
            mean_kl: function.mean_kl,
            median_kl: function.median_kl,
            kl_99_percent: function.p99_kl,
            largest_kl: function.largest_kl,
            top_1_agreement: function.top_agreement,
            source_perplexity: function.source_perplexity,
            file_perplexity: function.file_perplexity,
            largest_logit_difference: function.largest_difference,
        }
    }
}

fn print_text(outcome: &Outcome) {
    let Outcome { weights, facts, .. } = outcome;
    out(&format!(
        "weights: {} of the checkpoint, each found once, in {} tensors ({:.1} s)",
        weights.compared,
        weights.tensors.len(),
        outcome.weights_took.as_secs_f64()
    ));
    format_lines(weights).iter().for_each(|line| out(line));
    let tokens = match facts.tokens {
        Some(tokens) => format!("{tokens} tokens and the chat template compared"),
        None => "the vocabulary is of a kind that is not judged".to_owned(),
    };
    out(&format!("metadata: {} facts checked, {tokens}", facts.checked));
    if let Some(files) = outcome.unchanged {
        out(&format!("receipt: {files} files have the hash that it names"));
    }
    if let Some(function) = outcome.function {
        function_lines(function).iter().for_each(|line| out(line));
    }
    for Finding { subject, problem } in &outcome.verdict.blame {
        out(&format!("  {}: {}", one_line(subject), one_line(problem)));
    }
    let memory = peak_memory_bytes().map(|bytes| format!(", {} MB of memory at most", bytes / 1_000_000));
    out(&format!("{:.1} s{}", outcome.took.as_secs_f64(), memory.unwrap_or_default()));
    out(&format!("verdict: {}", one_line(&outcome.verdict.line)));
}

/// One line a format: how many tensors, the worst of them, and how much of the allowance is used.
fn format_lines(weights: &Weights) -> Vec<String> {
    let mut formats: BTreeMap<_, Vec<&TensorError>> = BTreeMap::new();
    for tensor in &weights.tensors {
        formats.entry(tensor.format).or_default().push(tensor);
    }
    let line = |(format, tensors): (quant::Format, Vec<&TensorError>)| {
        let relative = tensors.iter().map(|tensor| tensor.relative_rmse).fold(0.0, f64::max);
        let snr = tensors.iter().filter_map(|tensor| tensor.snr_db).fold(f64::INFINITY, f64::min);
        let used = tensors.iter().map(|tensor| tensor.largest_use).fold(0.0, f32::max);
        let error = if snr.is_finite() {
            format!(
                "error {:7.4} % of the tensor's own size at most, {snr:5.1} dB at least; \
                 {:.1} % of what it allows",
                100.0 * relative,
                100.0 * used
            )
        } else {
            "no error at all".to_owned()
        };
        format!("  {format:6} {:4} tensors: {error}", tensors.len())
    };
    formats.into_iter().map(line).collect()
}

fn function_lines(function: &Function) -> [String; 3] {
    [
        format!(
            "function: {} tokens through both models, top-1 the same for {:.1} %",
            function.positions.len(),
            100.0 * function.top_agreement
        ),
        format!(
            "  KL divergence: mean {:.6}, median {:.6}, 99 % {:.6}, largest {:.6}",
            function.mean_kl, function.median_kl, function.p99_kl, function.largest_kl
        ),
        format!(
            "  perplexity {:.4} of the source, {:.4} of the file; logits differ by {:.4} at most",
            function.source_perplexity, function.file_perplexity, function.largest_difference
        ),
    ]
}
