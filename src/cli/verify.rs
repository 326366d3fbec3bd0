//! `glm2llama verify`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use super::args::Verify;
use super::print::{note, warn};
use super::progress::{Counts, Progress, Stop};
use super::report::Report;
use super::verify_report::{self, Outcome, Session};
use super::{page, pairs, verify_json};
use glm2llama::config::RopeRatio;
use glm2llama::error::{Error, Result};
use glm2llama::gguf::GgufFile;
use glm2llama::input;
use glm2llama::output::Pending;
use glm2llama::receipt::Receipt;
use glm2llama::verify::{DEFAULT_TEXT, Facts, Finding, Function, Pair, Quality, Verdict};
use glm2llama::watch::Watch;

pub(super) fn run(args: &Verify) -> Result<ExitCode> {
    let started = Instant::now();
    let (text, text_name) = pairs::text(args.text.as_deref())?;
    if args.max_kld.is_some_and(|bar| bar.is_nan() || bar < 0.0) {
        return Err(Error::Usage("--max-kld: expected a number from 0 on".to_owned()));
    }
    if args.receipt.is_some() && args.files.len() > 1 {
        return Err(Error::Usage("--receipt: goes with one FILE, for a receipt is of one run".to_owned()));
    }
    let (located, pairs) = pairs::open(&args.folder, &args.files, args.rope_ratio_applies_to)?;
    let stop = Stop::on_signals()?;
    // The page's file is created before the work, so that an hour of it is not lost on one that cannot be written.
    let page = args.report.as_ref().map(|file| Pending::create(file, true)).transpose()?;
    args.report.as_deref().map_or(Ok(()), keep_others)?;
    pairs::tell(&located);
    let report = if args.json { Report::Quiet } else { Report::Text };
    let of_files = usize::from(args.receipt.is_some()) + 1;
    let phases = of_files * pairs.len() + usize::from(!args.weights_only) + usize::from(page.is_some());
    let progress = Progress::new(report, phases, &stop);
    let mut judged = Vec::new();
    for (pair, file) in pairs.into_iter().zip(&args.files) {
        judged.push(weigh(pair, file, &located.folder, args, &progress)?);
    }
    if !args.weights_only {
        run_models(&mut judged, &text, args.tokens as usize, &progress)?;
    }
    for outcome in &mut judged {
        let Outcome { weights, facts, function, .. } = outcome;
        outcome.verdict = Verdict::new(weights, facts, function.as_ref(), args.max_kld);
    }
    if page.is_some() {
        progress.phase("answers", Counts::Other);
        judged.iter_mut().try_for_each(|outcome| converse(outcome, args.answer_tokens, &progress))?;
    }
    progress.finish();
    // The checkpoint is one, whatever files are held against it.
    if let Some(zeros) = judged.first().and_then(|outcome| outcome.weights.zeros.as_deref()) {
        warn(zeros);
    }
    let session = Session { folder: &args.folder, text: text_name, took: started.elapsed() };
    match judged.as_slice() {
        all if args.json => all.iter().for_each(|outcome| verify_json::print(&session, outcome)),
        [alone] => verify_report::print(&session, alone, true),
        several => verify_report::print_all(&session, several),
    }
    if let Some(mut file) = page {
        file.write_all(page::render(&session, &judged)?.as_bytes())?;
        file.publish()?;
    }
    Ok(ExitCode::from(u8::from(!judged.iter().all(|outcome| outcome.verdict.same))))
}

/// All about a file but its predictions.
fn weigh(pair: Pair, file: &Path, folder: &Path, args: &Verify, progress: &Progress) -> Result<Outcome> {
    let started = Instant::now();
    let mut facts = pair.facts()?;
    let mut unchanged = None;
    if let Some(receipt) = &args.receipt {
        progress.phase("hashes", Counts::Other);
        let files: Vec<&Path> = pair.file.paths().collect();
        let check = Receipt::load(receipt)?.check(folder, &files, progress)?;
        let finding = |problem| Finding { subject: "receipt".to_owned(), problem };
        facts.findings.extend(check.differing.into_iter().map(finding));
        unchanged = Some(check.same);
    }
    progress.phase("weights", Counts::Other);
    let weights = pair.weights(progress)?;
    let verdict = Verdict::new(&weights, &facts, None, None);
    let (file, weights_took) = (file.to_owned(), started.elapsed());
    Ok(Outcome { file, pair, facts, unchanged, weights, function: None, verdict, weights_took })
}

/// Runs the checkpoint and all files; one that cannot be run is no obstacle when it is known to be wrong already.
fn run_models(judged: &mut [Outcome], text: &str, most: usize, progress: &Progress) -> Result<()> {
    let pairs: Vec<&Pair> = judged.iter().map(|outcome| &outcome.pair).collect();
    let Some(first) = pairs.first() else { return Ok(()) };
    progress.phase("predictions", Counts::Other);
    let functions = first.functions(&pairs, text, most, progress)?;
    for (outcome, function) in judged.iter_mut().zip(functions) {
        match function {
            Ok(function) => outcome.function = Some(function),
            Err(error) if !outcome.verdict.same && !matches!(error, Error::Interrupted) => {
                note(&format!("the models were not run: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Two questions of which everyone knows the answer.
const QUESTIONS: [&str; 2] = ["What is the capital of France?", "用一句话介绍北京。"];

/// Tokens of an answer.
const ANSWER: u32 = 30;

/// A model of more weights than this takes seconds for each token of an answer, so only who asks gets answers.
const QUICK: u64 = 1_000_000_000;

/// Lets both models answer, where the checkpoint is one that could. `most`: so many tokens each, if that was said.
fn converse(outcome: &mut Outcome, most: Option<u32>, progress: &Progress) -> Result<()> {
    let most = most.unwrap_or(if outcome.weights.compared > QUICK { 0 } else { ANSWER }) as usize;
    // A file that is not the same model may have any template.
    let trained =
        outcome.verdict.same && outcome.verdict.quality.is_some_and(|quality| quality.grade().is_some());
    let Some(function) = outcome.function.as_mut().filter(|_| trained && most > 0) else { return Ok(()) };
    match outcome.pair.answers(&QUESTIONS, most, progress) {
        Ok(answers) => function.answers = answers,
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => note(&format!("the models were asked nothing: {error}")),
    }
    Ok(())
}

/// `convert --verify`: the files of an output against their checkpoint, all but running them; returns both
/// and the verdict. `facts`: the metadata is the model's own, and no words of the user stand in it.
pub(super) fn check_written(
    model: &Path,
    ratio: Option<RopeRatio>,
    files: &[(&Path, &Path)],
    facts: bool,
    watch: &dyn Watch,
) -> Result<(Pair, String)> {
    let temporaries: Vec<PathBuf> = files.iter().map(|(_, temporary)| temporary.to_path_buf()).collect();
    let pair = Pair::of(model, GgufFile::open_parts(&temporaries)?, ratio)?;
    let facts = if facts { pair.facts()? } else { Facts::default() };
    let weights = pair.weights(watch)?;
    let verdict = Verdict::new(&weights, &facts, None, None);
    if verdict.same {
        return Ok((pair, verdict.line));
    }
    let file = files.first().map_or(model, |(target, _)| target).to_owned();
    Err(Error::Refuted { file, problem: verdict.line })
}

/// How near each file's predictions are to the checkpoint's, for its model card.
pub(super) fn qualities(pairs: &[Pair], watch: &dyn Watch) -> Result<Vec<String>> {
    let all: Vec<&Pair> = pairs.iter().collect();
    let Some(first) = pairs.first() else { return Ok(Vec::new()) };
    let functions = first.functions(&all, DEFAULT_TEXT, TOKENS, watch)?;
    let words = |function: Function| match Quality::of(&function).grade() {
        None => Quality::of(&function).words().to_owned(),
        Some(grade) => format!(
            "{}: KL divergence {:.4}, same first choice {:.1} %",
            grade.name(),
            function.mean_kl,
            100.0 * function.top_agreement
        ),
    };
    functions.into_iter().map(|function| function.map(words)).collect()
}

/// How many tokens of the built-in text are run: `verify`'s default.
const TOKENS: usize = 256;

/// Only what an earlier run wrote is replaced, or an empty file.
fn keep_others(report: &Path) -> Result<()> {
    if report.symlink_metadata().is_err() {
        return Ok(());
    }
    let mut start = Vec::new();
    let mut beginning = input::open(report)?.take(page::BEGINNING.len() as u64);
    beginning.read_to_end(&mut start).map_err(Error::io(report, "read"))?;
    if start.is_empty() || start == page::BEGINNING.as_bytes() {
        return Ok(());
    }
    Err(Error::file_mismatch(
        report,
        "another file",
        "a page of verify, or nothing there: choose another name",
    ))
}
