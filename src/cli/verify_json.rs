//! What `verify` found, as JSON lines.

use serde::Serialize;

use super::print::json;
use super::verify_report::{Outcome, Session};
use glm2llama::system::peak_memory_bytes;
use glm2llama::verify::{Finding, Function, OutputError, Quality, TensorError};

/// One JSON line: `{"type": ..., "data": ...}`.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Event<'a> {
    Tensor {
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
    },
    Finding {
        subject: &'a str,
        problem: &'a str,
    },
    Metadata {
        facts: usize,
        tokens: Option<usize>,
    },
    Receipt {
        files: usize,
    },
    /// Mean squares of what outputs are off, as a part of what rounding each weight leaves.
    Outputs {
        name: &'a str,
        ratio: f64,
        worst_row: usize,
        worst_row_ratio: f64,
    },
    Position {
        position: usize,
        token: &'a str,
        kl: f64,
        same_top: bool,
        /// What each thinks likeliest.
        source_likeliest: &'a str,
        file_likeliest: &'a str,
        source_surprise: Option<f64>,
        file_surprise: Option<f64>,
        largest_logit_difference: f32,
    },
    Function {
        tokens: usize,
        mean_kl: f64,
        median_kl: f64,
        kl_99_percent: f64,
        largest_kl: f64,
        top_1_agreement: f64,
        source_perplexity: f64,
        file_perplexity: f64,
        largest_logit_difference: f32,
    },
    Verdict {
        file: String,
        same: bool,
        verdict: &'a str,
        /// The grade, or why there is none; absent when the models were not run.
        quality: Option<&'static str>,
        /// The user's bar.
        max_kl: Option<f64>,
        weights_compared: u64,
        weights_seconds: f64,
        seconds: f64,
        peak_memory_bytes: Option<u64>,
    },
}

pub(super) fn print(session: &Session, outcome: &Outcome) {
    outcome.weights.tensors.iter().for_each(|error| json(&of_tensor(error)));
    json(&Event::Metadata { facts: outcome.facts.checked, tokens: outcome.facts.tokens });
    if let Some(files) = outcome.unchanged {
        json(&Event::Receipt { files });
    }
    if let Some(function) = &outcome.function {
        for OutputError { name, ratio, worst_row: (worst_row, worst_row_ratio) } in &function.outputs {
            let (ratio, worst_row, worst_row_ratio) = (*ratio, *worst_row, *worst_row_ratio);
            json(&Event::Outputs { name, ratio, worst_row, worst_row_ratio });
        }
        let texts = function.texts.iter().zip(&function.likeliest);
        for (position, (at, (token, [source, file]))) in function.positions.iter().zip(texts).enumerate() {
            json(&Event::Position {
                position,
                token,
                kl: at.kl,
                same_top: at.same_top,
                source_likeliest: source,
                file_likeliest: file,
                source_surprise: at.source_surprise,
                file_surprise: at.file_surprise,
                largest_logit_difference: at.largest_difference,
            });
        }
        json(&of_function(function));
    }
    for Finding { subject, problem } in &outcome.verdict.blame {
        json(&Event::Finding { subject, problem });
    }
    json(&Event::Verdict {
        file: outcome.file.display().to_string(),
        same: outcome.verdict.same,
        verdict: &outcome.verdict.line,
        quality: outcome.verdict.quality.map(Quality::words),
        max_kl: outcome.verdict.max_kl,
        weights_compared: outcome.weights.compared,
        weights_seconds: outcome.weights_took.as_secs_f64(),
        seconds: session.took.as_secs_f64(),
        peak_memory_bytes: peak_memory_bytes(),
    });
}

fn of_tensor(tensor: &TensorError) -> Event<'_> {
    Event::Tensor {
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

fn of_function(function: &Function) -> Event<'static> {
    Event::Function {
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
