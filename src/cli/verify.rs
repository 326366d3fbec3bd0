//! `glm2llama verify`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use super::args::Verify;
use super::page;
use super::print::note;
use super::progress::{Progress, Stop};
use super::verify_report::{Outcome, print};
use crate::error::{Error, Result, one_line};
use crate::gguf::GgufFile;
use crate::input::{self, read_capped};
use crate::locate::{self, Caches};
use crate::output::Pending;
use crate::receipt::Receipt;
use crate::remap::RopeRatio;
use crate::verify::{DEFAULT_TEXT, Facts, Finding, Function, Pair, RopeScale, Verdict};
use crate::watch::Watch;

/// A page has 3 kB; only its first tokens are used.
const MAX_TEXT_BYTES: u64 = 64 << 20;

pub(super) fn run(args: &Verify) -> Result<ExitCode> {
    let started = Instant::now();
    let text = match &args.text {
        Some(file) => read_text(file)?,
        None => DEFAULT_TEXT.to_owned(),
    };
    if args.max_kld.is_some_and(|bar| bar.is_nan() || bar < 0.0) {
        return Err(Error::Usage("--max-kld: expected a number from 0 on".to_owned()));
    }
    // The file first: one that cannot be read is at fault, whatever it is held against.
    let file = GgufFile::open_model(&args.file)?;
    let located = locate::find(&args.folder, &Caches::of_user())?;
    let pair = Pair::of(&located.folder, file, scale(args.rope_ratio_applies_to))
        .map_err(|error| located.explain(error))?;
    let stop = Stop::on_signals()?;
    // Before the work: what is to be done with its result must be possible.
    let page = args.report.as_ref().map(|file| Pending::create(file, true)).transpose()?;
    args.report.as_deref().map_or(Ok(()), keep_others)?;
    if let Some(how) = &located.how {
        note(&format!("folder: {}", one_line(how)));
    }
    for warning in located.unfinished.iter().cloned().chain(pair.checkpoint.stale_hashes()) {
        note(&format!("warning: {}", one_line(&warning)));
    }
    let progress = Progress::of_parts(!args.json, &stop);
    let mut facts = pair.facts()?;
    let mut unchanged = None;
    if let Some(receipt) = &args.receipt {
        let files: Vec<&Path> = pair.file.paths().collect();
        let receipt = Receipt::load(receipt)?;
        let check = receipt.check(&located.folder, &files, &progress)?;
        let finding = |problem| Finding { subject: "receipt".to_owned(), problem };
        facts.findings.extend(check.differing.into_iter().map(finding));
        unchanged = Some(check.same);
    }
    let weights = pair.weights(&progress)?;
    let weights_took = started.elapsed();
    let wrong = !(weights.findings.is_empty() && facts.findings.is_empty());
    let function = if args.weights_only { None } else { function(&pair, &text, args, wrong, &progress)? };
    progress.finish();
    let verdict = Verdict::new(&weights, &facts, function.as_ref(), args.max_kld);
    let outcome = Outcome {
        folder: &args.folder,
        file: &args.file,
        pair: &pair,
        facts: &facts,
        unchanged,
        weights: &weights,
        function: function.as_ref(),
        verdict: &verdict,
        weights_took,
        took: started.elapsed(),
    };
    print(&outcome, args.json);
    if let Some(mut file) = page {
        file.write_all(page::render(&outcome).as_bytes())?;
        file.publish()?;
    }
    Ok(ExitCode::from(u8::from(!verdict.same)))
}

/// `convert --verify`: the files of an output against their checkpoint, all but running them; returns the
/// verdict. `facts`: the metadata is the model's own, and no words of the user stand in it.
pub(super) fn check_written(
    model: &Path,
    ratio: Option<RopeRatio>,
    files: &[(&Path, &Path)],
    facts: bool,
    stop: &Stop,
) -> Result<String> {
    let temporaries: Vec<PathBuf> = files.iter().map(|(_, temporary)| temporary.to_path_buf()).collect();
    let pair = Pair::of(model, GgufFile::open_parts(&temporaries)?, scale(ratio))?;
    let facts = if facts { pair.facts()? } else { Facts::default() };
    let weights = pair.weights(stop)?;
    let verdict = Verdict::new(&weights, &facts, None, None);
    if verdict.same {
        return Ok(verdict.line);
    }
    let file = files.first().map_or(model, |(target, _)| target).to_owned();
    Err(Error::Refuted { file, problem: verdict.line })
}

/// How a page begins.
const PAGE: &[u8] = b"<!doctype html>";

/// Only what an earlier run wrote is replaced, or an empty file.
fn keep_others(report: &Path) -> Result<()> {
    if report.symlink_metadata().is_err() {
        return Ok(());
    }
    let mut start = Vec::new();
    let head = input::open(report)?.take(PAGE.len() as u64);
    { head }.read_to_end(&mut start).map_err(Error::io(report, "read"))?;
    if start.is_empty() || start == PAGE {
        return Ok(());
    }
    Err(Error::mismatch(
        report,
        "",
        "another file",
        "a page of verify, or nothing there: choose another name",
    ))
}

fn scale(flag: Option<RopeRatio>) -> Option<RopeScale> {
    flag.map(|flag| match flag {
        RopeRatio::Base => RopeScale::Base,
        RopeRatio::Positions => RopeScale::Positions,
    })
}

/// Runs both models; a file that cannot be run is no obstacle when it is known to be wrong already.
fn function(
    pair: &Pair,
    text: &str,
    args: &Verify,
    wrong: bool,
    watch: &dyn Watch,
) -> Result<Option<Function>> {
    let most = args.tokens as usize;
    match pair.function(text, most, watch) {
        Ok(function) => Ok(Some(function)),
        Err(error) if wrong && !matches!(error, Error::Interrupted) => {
            note(&format!("the models were not run: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn read_text(file: &Path) -> Result<String> {
    let bytes = read_capped(file, MAX_TEXT_BYTES)?
        .ok_or_else(|| Error::input(file, "", "no such file, expected a text"))?;
    String::from_utf8(bytes).map_err(|_| Error::input(file, "", "is not UTF-8 text"))
}
