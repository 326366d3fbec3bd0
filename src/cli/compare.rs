//! `glm2llama compare`: which of two files is closer to their checkpoint.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::args::Compare;
use super::pairs;
use super::print::{cost, gigabytes, json, out, warn};
use super::progress::{Counts, Progress, Stop};
use super::report::Report;
use super::table::cut_front;
use glm2llama::error::{Error, Result, one_line};
use glm2llama::system::peak_memory_bytes;
use glm2llama::units::grouped;
use glm2llama::verify::{Closer, Function, Pair, Quality, Ratio};

/// Columns that the table has for a file's name.
const FILE: usize = 36;

/// One JSON line: `{"type": ..., "data": ...}`.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Event<'a> {
    File(FileEvent<'a>),
    Window { window: usize, kl: &'a [f64] },
    Comparison(Comparison<'a>),
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
struct Comparison<'a> {
    a: &'a Path,
    b: &'a Path,
    /// One of them; absent when they cannot be told apart.
    closer: Option<&'a Path>,
    verdict: String,
    /// A's divergence as a part of B's.
    ratio: f64,
    ratio_low: f64,
    ratio_high: f64,
}

#[derive(Serialize)]
struct Summary<'a> {
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
    let (located, pairs) = pairs::open(&args.folder, &args.files, args.rope_ratio_applies_to)?;
    let ([first, rest @ ..], [name, names @ ..]) = (pairs.as_slice(), args.files.as_slice()) else {
        return Ok(()); // there are two files at least
    };
    let stop = Stop::on_signals()?;
    pairs::tell(&located);
    let report = if args.json { Report::Quiet } else { Report::Text };
    let progress = Progress::new(report, 1, &stop);
    progress.phase("comparing", Counts::Other);
    let others: Vec<&Pair> = rest.iter().collect();
    let named = |error| match error {
        Error::Usage(problem) => Error::Usage(format!("{text_name}: {problem}")),
        other => other,
    };
    let paired = first.paired(&others, &text, args.tokens as usize, &progress).map_err(named)?;
    progress.finish();
    let Some(function) = paired.functions.first() else { return Ok(()) }; // one for each file
    if Quality::of(function) == Quality::Chance {
        let warning = "the checkpoint itself predicts this text no better than chance: which file is closer to it says \
                       nothing of a trained model's";
        warn(warning);
    }
    let comparisons =
        names.iter().zip(&paired.ratios).map(|(other, ratio)| Comparison::new(name, other, ratio));
    let summary = Summary {
        text: &text_name,
        windows: paired.windows.len(),
        window_tokens: paired.window,
        predictions: function.positions.len(),
        source_perplexity: function.source_perplexity,
        seconds: started.elapsed().as_secs_f64(),
        peak_memory_bytes: peak_memory_bytes(),
    };
    let files = args.files.iter().zip(&pairs).zip(&paired.functions);
    let files = files.map(|((file, pair), function)| FileEvent::new(file, pair, function));
    if args.json {
        files.for_each(|file| json(&Event::File(file)));
        for (window, kl) in paired.windows.iter().enumerate() {
            json(&Event::Window { window, kl });
        }
        comparisons.for_each(|comparison| json(&Event::Comparison(comparison)));
        json(&Event::Summary(summary));
        return Ok(());
    }
    out(&format!("{:>9} {:>10} {:>8} {:>10}  file", "size", "KL", "top-1", "perplexity"));
    files.for_each(|file| file.print());
    summary.print();
    comparisons.for_each(|comparison| out(&one_line(&comparison.verdict)));
    Ok(())
}

impl<'a> FileEvent<'a> {
    fn new(file: &'a Path, pair: &Pair, function: &Function) -> FileEvent<'a> {
        FileEvent {
            file,
            bytes: pair.file.total_bytes,
            mean_kl: function.mean_kl,
            median_kl: function.median_kl,
            kl_99_percent: function.p99_kl,
            largest_kl: function.largest_kl,
            top_1_agreement: function.top_agreement,
            perplexity: function.file_perplexity,
        }
    }

    fn print(&self) {
        out(&format!(
            "{:>9} {:>10.6} {:>6.1} % {:>10.2}  {}",
            gigabytes(self.bytes),
            self.mean_kl,
            100.0 * self.top_1_agreement,
            self.perplexity,
            cut_front(&one_line(self.file.display()), FILE)
        ));
    }
}

impl<'a> Comparison<'a> {
    fn new(a: &'a Path, b: &'a Path, ratio: &Ratio) -> Comparison<'a> {
        let &Ratio { value, low, high } = ratio;
        let (closer, other, [part, least, most]) = match ratio.closer() {
            Closer::Second => (Some(b), a, [value, high, low].map(f64::recip)),
            Closer::First => (Some(a), b, [value, low, high]),
            Closer::Neither => (None, b, [value, low, high]),
        };
        let figures =
            format!("{part:.3} times the divergence of {} (95 %: {least:.3} to {most:.3})", other.display());
        let verdict = match closer {
            Some(closer) => format!("closer: {}, with {figures}", closer.display()),
            None => format!("cannot be told apart: {} has {figures}", a.display()),
        };
        Comparison { a, b, closer, verdict, ratio: value, ratio_low: low, ratio_high: high }
    }
}

impl Summary<'_> {
    fn print(&self) {
        out(&format!(
            "{} windows of {} tokens, {} predictions, of {}; the checkpoint's perplexity {:.2}",
            self.windows,
            self.window_tokens,
            grouped(self.predictions as u64),
            one_line(self.text),
            self.source_perplexity
        ));
        out(&cost(self.seconds, self.peak_memory_bytes));
    }
}
