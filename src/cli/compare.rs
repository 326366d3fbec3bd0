//! `glm2llama compare`: which of two files is closer to their checkpoint.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::args::Compare;
use super::colour::Tone;
use super::memory::peak_memory_bytes;
use super::pairs;
use super::print::{gigabytes, grouped, json, note, out};
use super::progress::{Progress, Stop};
use glm2llama::error::{Result, one_line};
use glm2llama::verify::{Closer, Function, Pair, Paired, Quality, Ratio};

/// One JSON line: `{"type": ..., "data": ...}`.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Event<'a> {
    File(FileEvent<'a>),
    Window { window: usize, a_kl: f64, b_kl: f64 },
    Summary(Summary<'a>),
}

#[derive(Serialize)]
struct FileEvent<'a> {
    file: &'a Path,
    bytes: u64,
    mean_kl: f64,
    median_kl: f64,
    kl_99_percent: f64,
    largest_kl: f64,
    top_1_agreement: f64,
    perplexity: f64,
}

#[derive(Serialize)]
struct Summary<'a> {
    closer: Option<&'a Path>,
    verdict: &'a str,
    ratio: f64,
    ratio_low: f64,
    ratio_high: f64,
    text: &'a str,
    windows: usize,
    window_tokens: usize,
    predictions: usize,
    source_perplexity: f64,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

pub(super) fn run(args: &Compare) -> Result<()> {
    let started = Instant::now();
    let (text, text_name) = pairs::text(args.text.as_deref())?;
    let files = [args.a.clone(), args.b.clone()];
    let (located, pairs) = pairs::open(&args.folder, &files, args.rope_ratio_applies_to)?;
    let [a, b] = pairs.as_slice() else { return Ok(()) }; // two files, two pairs
    let stop = Stop::on_signals()?;
    pairs::tell(&located);
    let progress = Progress::of_parts(!args.json, &stop);
    let paired = a.paired(b, &text, args.tokens as usize, &progress)?;
    progress.finish();
    if paired.functions.iter().any(|function| Quality::of(function) == Quality::Chance) {
        let warning = "the checkpoint itself predicts this text no better than chance: which file is closer to it says \
                       nothing of a trained model's";
        note(&format!("{} {warning}", Tone::Doubtful.note("warning:")));
    }
    let closer = match paired.ratio.closer() {
        Closer::First => Some(args.a.as_path()),
        Closer::Second => Some(args.b.as_path()),
        Closer::Neither => None,
    };
    let verdict = verdict(&paired.ratio, closer);
    let [first, second] = &paired.functions;
    let sides = [(args.a.as_path(), a, first), (args.b.as_path(), b, second)];
    if !args.json {
        print(&sides, &paired, &text_name, started);
        out(&one_line(&verdict));
        return Ok(());
    }
    for (file, pair, function) in sides {
        json(&Event::File(FileEvent {
            file,
            bytes: pair.file.total_bytes,
            mean_kl: function.mean_kl,
            median_kl: function.median_kl,
            kl_99_percent: function.p99_kl,
            largest_kl: function.largest_kl,
            top_1_agreement: function.top_agreement,
            perplexity: function.file_perplexity,
        }));
    }
    for (window, &[a_kl, b_kl]) in paired.windows.iter().enumerate() {
        json(&Event::Window { window, a_kl, b_kl });
    }
    json(&Event::Summary(Summary {
        closer,
        verdict: &verdict,
        ratio: paired.ratio.value,
        ratio_low: paired.ratio.low,
        ratio_high: paired.ratio.high,
        text: &text_name,
        windows: paired.windows.len(),
        window_tokens: paired.window,
        predictions: first.positions.len(),
        source_perplexity: first.source_perplexity,
        seconds: started.elapsed().as_secs_f64(),
        peak_memory_bytes: peak_memory_bytes(),
    }));
    Ok(())
}

/// The answer in a line: what is said of the closer file is said as a part of the other's divergence.
fn verdict(ratio: &Ratio, closer: Option<&Path>) -> String {
    let Some(closer) = closer else {
        return format!(
            "cannot be told apart: A has {:.3} times the divergence of B (95 %: {:.3} to {:.3})",
            ratio.value, ratio.low, ratio.high
        );
    };
    let [value, low, high] = match ratio.closer() {
        Closer::Second => [ratio.value, ratio.high, ratio.low].map(f64::recip),
        Closer::First | Closer::Neither => [ratio.value, ratio.low, ratio.high],
    };
    format!(
        "closer: {}, with {value:.3} times the other's divergence (95 %: {low:.3} to {high:.3})",
        closer.display()
    )
}

fn print(sides: &[(&Path, &Pair, &Function); 2], paired: &Paired, text: &str, started: Instant) {
    let [(_, _, function), _] = sides;
    out(&format!(
        "{} windows of {} tokens, {} predictions, of {}; the checkpoint's perplexity {:.2}",
        paired.windows.len(),
        paired.window,
        grouped(function.positions.len() as u64),
        one_line(text),
        function.source_perplexity
    ));
    out(&format!("  {:>9} {:>10} {:>8} {:>10}  file", "size", "KL", "top-1", "perplexity"));
    for (letter, (file, pair, function)) in ["A", "B"].iter().zip(sides) {
        out(&format!(
            "{letter} {:>9} {:>10.6} {:>6.1} % {:>10.2}  {}",
            gigabytes(pair.file.total_bytes),
            function.mean_kl,
            100.0 * function.top_agreement,
            function.file_perplexity,
            one_line(file.display())
        ));
    }
    let memory = peak_memory_bytes().map(|bytes| format!(", peak memory {}", gigabytes(bytes)));
    out(&format!("{:.1} s{}", started.elapsed().as_secs_f64(), memory.unwrap_or_default()));
}
