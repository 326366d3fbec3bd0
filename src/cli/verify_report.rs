//! What `verify` found, as text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::colour::Tone;
use super::print::{cost, gigabytes, out};
use super::table;
use glm2llama::error::one_line;
use glm2llama::system::peak_memory_bytes;
use glm2llama::units::grouped;
use glm2llama::verify::{
    Facts, Finding, Function, OutputError, Pair, Quality, TensorError, Verdict, Weights,
};

/// What was run.
pub(super) struct Session<'a> {
    pub folder: &'a Path,
    /// The text that both models were run on.
    pub text: String,
    pub took: Duration,
}

/// Everything there is to tell of a file.
pub(super) struct Outcome {
    pub file: PathBuf,
    pub pair: Pair,
    pub facts: Facts,
    /// How many files have their hash in the receipt, where there is one.
    pub unchanged: Option<usize>,
    pub weights: Weights,
    pub function: Option<Function>,
    pub verdict: Verdict,
    pub weights_took: Duration,
}

/// Columns that the table of several files has for a name.
const FILE_NAME: usize = 18;

/// More findings are counted, for a file of another model has one in each tensor.
pub(super) const MOST_FINDINGS: usize = 10;

impl Outcome {
    /// The bits of the file for each weight of the checkpoint, where any was found in it.
    pub(super) fn bits(&self) -> Option<f64> {
        let (bytes, weights) = (self.pair.file.total_bytes, self.weights.compared);
        (weights > 0).then(|| bytes as f64 * 8.0 / weights as f64)
    }

    /// What of the vocabulary was judged.
    pub(super) fn vocabulary(&self) -> String {
        match self.facts.tokens {
            Some(tokens) => format!("{} tokens and the chat template compared", grouped(tokens as u64)),
            None => "the vocabulary is of a kind that is not judged".to_owned(),
        }
    }
}

/// One file; the verdict last. `alone`: with what the run took.
pub(super) fn print(session: &Session, outcome: &Outcome, alone: bool) {
    let Outcome { weights, facts, verdict, .. } = outcome;
    out(&format!(
        "weights: {} compared, in {} tensors ({:.1} s)",
        grouped(weights.compared),
        weights.tensors.len(),
        outcome.weights_took.as_secs_f64()
    ));
    format_lines(weights).iter().for_each(|line| out(line));
    out(&format!("metadata: {} facts checked, {}", facts.checked, outcome.vocabulary()));
    if let Some(files) = outcome.unchanged {
        out(&format!("receipt: {files} files have the hash that it names"));
    }
    if let Some(function) = &outcome.function {
        output_line(&function.outputs).iter().for_each(|line| out(line));
        function_lines(function).iter().for_each(|line| out(line));
    } else if weights.by_outputs {
        out(
            "  levels were chosen for the outputs: held to their blocks' ranges only, as the models were not run",
        );
    }
    for Finding { subject, problem } in verdict.blame.iter().take(MOST_FINDINGS) {
        out(&format!("  {}: {}", one_line(subject), one_line(problem)));
    }
    if let Some(more @ 1..) = verdict.blame.len().checked_sub(MOST_FINDINGS) {
        out(&format!("  and {} more (--json names them all)", grouped(more as u64)));
    }
    if alone {
        took(session);
    }
    if let (Some(quality), Some(function)) = (verdict.quality, &outcome.function) {
        out(&format!("quality: {}{}", Tone::of(quality).out(quality.words()), measures(quality, function)));
    }
    let tone = if verdict.same { Tone::Good } else { Tone::Bad };
    out(&format!("verdict: {}", tone.out(&one_line(&verdict.line))));
}

/// What a grade rests on.
fn measures(quality: Quality, function: &Function) -> String {
    match quality.grade() {
        Some(_) => format!(
            " (mean KL {:.4}, top-1 {:.1} %, perplexity {:.2} -> {:.2})",
            function.mean_kl,
            100.0 * function.top_agreement,
            function.source_perplexity,
            function.file_perplexity
        ),
        None => String::new(),
    }
}

/// Several files, one after the other and in a table.
pub(super) fn print_all(session: &Session, outcomes: &[Outcome]) {
    for outcome in outcomes {
        out(&format!("{}:", one_line(outcome.file.display())));
        print(session, outcome, false);
    }
    took(session);
    comparison(outcomes).iter().for_each(|line| out(line));
}

fn took(session: &Session) {
    out(&cost(session.took.as_secs_f64(), peak_memory_bytes()));
}

fn comparison(outcomes: &[Outcome]) -> Vec<String> {
    let heading = format!(
        "{:>9} {:>6} {:>8} {:>7} {:>10}  {:<15} file",
        "size", "bits", "KL", "top-1", "perplexity", "quality"
    );
    let row = |outcome: &Outcome| {
        let figure = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let function = outcome.function.as_ref();
        let quality = match (outcome.verdict.same, outcome.verdict.quality) {
            (false, _) if outcome.verdict.is_over_bar_only() => (Tone::Bad, "over the bar"),
            (false, _) => (Tone::Bad, "not the same"),
            (true, None) => (Tone::Plain, "-"),
            (true, Some(quality)) => {
                (Tone::of(quality), quality.grade().map_or("no judgement", |grade| grade.name()))
            }
        };
        format!(
            "{:>9} {:>6} {:>8} {:>7} {:>10}  {} {}",
            gigabytes(outcome.pair.file.total_bytes),
            figure(outcome.bits().map(|bits| format!("{bits:.2}"))),
            figure(function.map(|f| format!("{:.4}", f.mean_kl))),
            figure(function.map(|f| format!("{:.1} %", 100.0 * f.top_agreement))),
            figure(function.map(|f| format!("{:.2}", f.file_perplexity))),
            quality.0.out(&format!("{:<15}", quality.1)),
            file_name(&outcome.file),
        )
    };
    std::iter::once(heading).chain(outcomes.iter().map(row)).collect()
}

/// A file in a table, under whose heading the whole path was told before.
fn file_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    table::cut_front(&one_line(name), FILE_NAME)
}

/// One line a format: how many tensors, the worst of them, and how much of the bound is used.
fn format_lines(weights: &Weights) -> Vec<String> {
    let mut formats: BTreeMap<_, Vec<&TensorError>> = BTreeMap::new();
    for tensor in &weights.tensors {
        formats.entry(tensor.format).or_default().push(tensor);
    }
    let line = |(format, tensors): (quant::Format, Vec<&TensorError>)| {
        let outside = tensors.iter().filter(|tensor| !tensor.fits()).count();
        let error = if outside > 0 {
            format!("{outside} with weights out of bounds")
        } else if tensors.iter().all(|tensor| tensor.snr_db.is_none()) {
            "no error at all".to_owned()
        } else {
            let relative = tensors.iter().map(|tensor| tensor.relative_rmse).fold(0.0, f64::max);
            let snr = tensors.iter().filter_map(|tensor| tensor.snr_db).fold(f64::INFINITY, f64::min);
            let used = tensors.iter().map(|tensor| tensor.largest_use).fold(0.0, f32::max);
            format!(
                "worst error {:.4} % (SNR {snr:.1} dB), {:.1} % of the bound",
                100.0 * relative,
                100.0 * used
            )
        };
        format!("  {format:6} {:4} tensors: {error}", tensors.len())
    };
    formats.into_iter().map(line).collect()
}

/// What the matrices' outputs are off, where levels were chosen for them.
fn output_line(outputs: &[OutputError]) -> Option<String> {
    let worst = outputs.iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio))?;
    Some(format!(
        "outputs of {} matrices: {:.2} of the error that rounding leaves at most ({})",
        grouped(outputs.len() as u64),
        worst.ratio,
        one_line(&worst.name)
    ))
}

fn function_lines(function: &Function) -> [String; 3] {
    [
        format!(
            "predictions: {} tokens through both models, top-1 the same for {:.1} %",
            grouped(function.positions.len() as u64),
            100.0 * function.top_agreement
        ),
        format!(
            "  KL divergence: mean {:.5}, median {:.4}, 99 % below {:.4}, largest {:.4}",
            function.mean_kl, function.median_kl, function.p99_kl, function.largest_kl
        ),
        format!(
            "  perplexity {:.4} -> {:.4}; logits differ by {:.4} at most",
            function.source_perplexity, function.file_perplexity, function.largest_difference
        ),
    ]
}
