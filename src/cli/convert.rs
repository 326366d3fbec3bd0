//! `glm2llama convert`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use super::args::{Convert, Plan};
use super::chosen::Chosen;
use super::progress::{Counts, Progress, Stop};
use super::report::{Report, Summary};
use super::source::{self, FoundModel};
use super::{choose, ollama, plan, size, threads, verify};
use glm2llama::convert::{Job, Output};
use glm2llama::error::{Error, Result};
use glm2llama::locate::Located;
use glm2llama::ollama::check_name;
use glm2llama::output;
use glm2llama::pipeline::Options;
use glm2llama::recipe::FileType;
use glm2llama::request::{Quality, Request};
use glm2llama::watch::Watch;

pub(super) fn run(args: &Convert) -> Result<ExitCode> {
    args.ollama.as_deref().map_or(Ok(()), check_name)?;
    if args.dry_run {
        return show(args).map(|()| ExitCode::SUCCESS);
    }
    let started = Instant::now();
    let options = pipeline_options(args)?;
    let (found, mut job) = prepare(args, args.types()?, args.keep())?;
    if args.ollama.is_some() && job.outputs.len() > 1 {
        return Err(Error::Usage(
            "--ollama: goes with one --type, for a name stands for one file".to_owned(),
        ));
    }
    let located = &found.located;
    let stop = Stop::on_signals()?;
    // Before anything is printed: a refusal is one line.
    let report = Report::new(args.json, args.quiet);
    let graded = args.verify && args.card.is_some();
    let checks = if args.verify { job.outputs.len() + usize::from(graded) } else { 0 };
    let chooses = job.chooses();
    let phases = usize::from(chooses) + usize::from(job.measures()) + 1 + checks;
    let progress = Progress::new(report, phases, &stop);
    if chooses {
        job.targets().iter().try_for_each(|target| output::check(target, args.force))?;
        announce(report, located, &job);
        choose_formats(&mut job, options, report, &progress).map_err(|error| located.explain(error))?;
    }
    let outputs = job.create_outputs()?;
    if !chooses {
        announce(report, located, &job);
    }
    if job.measures() {
        progress.phase("measuring", Counts::Layers);
        let measured = job.measure(options, &progress);
        if let (Err(Error::Interrupted), Some(folder)) = (&measured, job.unfinished()) {
            report.warning(&format!(
                "{}: has what is finished; the same command goes on from there",
                folder.display()
            ));
        }
        measured.map_err(|error| located.explain(error))?;
    }
    progress.phase("quantizing", Counts::Bytes);
    let mut filled = job.fill(outputs, options, &progress).map_err(|error| located.explain(error))?;
    progress.finish();
    report.doubt(filled.doubt(), args.strict, located)?;
    let mut pairs = Vec::new();
    if args.verify {
        for (output, files) in job.outputs.iter().zip(filled.files()) {
            progress.phase("verifying", Counts::Other);
            let (facts, ratio) = (!args.contents.changes_metadata(), args.model.rope_ratio_applies_to);
            let (pair, line) = verify::check_written(&located.folder, ratio, &files, facts, &progress)?;
            progress.finish();
            report.verified(&output.path, &line);
            pairs.push(pair);
        }
    }
    let mut qualities = Vec::new();
    if graded {
        progress.phase("predictions", Counts::Other);
        qualities = verify::qualities(&pairs, &progress)?;
        progress.finish();
    }
    drop(pairs); // whose files are about to be renamed
    job.write_card(&mut filled, &qualities, args.verify)?;
    stop.go_on()?;
    found.done()?;
    filled.publish()?;
    report.summary(&Summary::new(&job, started.elapsed(), args.ollama.is_some()));
    let modelfile = job.outputs.first().and_then(|output| output.modelfile.clone());
    if let Err(error) = job.clean_up() {
        report.warning(&error.to_string()); // the file is whole, and has its name
    }
    match (&args.ollama, modelfile) {
        (Some(name), Some((modelfile, _))) => ollama::create(name, &modelfile),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// `glm2llama plan`.
pub(super) fn plan(args: &Plan) -> Result<()> {
    let convert = &args.convert;
    let measured = convert.quality != Quality::Fast && args.fit.is_none();
    let of_one =
        measured || convert.all || convert.strict || convert.output.is_some() || convert.contents.vocab_only;
    match convert.types.is_empty() && !convert.target.is_given() && !of_one {
        true => choose(convert, args.fit.as_deref()),
        false => show(convert),
    }
}

/// What each type comes to, and which fits.
fn choose(args: &Convert, fit: Option<&str>) -> Result<()> {
    let fit = fit.map(|size| size::parse("--fit", size)).transpose()?;
    if args.quality != Quality::Fast {
        return Err(Error::Usage(format!(
            "--fit: found it with --quality {}, expected one of the two: its table has the quality of plain rounding",
            args.quality.name()
        )));
    }
    // Nothing would be written by these names: the table is of types.
    let unnamed = Convert { receipt: None, card: None, no_modelfile: true, ..args.clone() };
    let (found, job) = prepare(&unnamed, FileType::all().collect(), None)?;
    let report = Report::new(args.json, args.quiet);
    let total = job.work().source_bytes();
    report.start(&job.model, total, Vec::new(), &found.located, &job.model.warnings());
    choose::print(&job, fit, args.json)
}

/// What a conversion to the chosen types would do.
fn show(args: &Convert) -> Result<()> {
    let options = pipeline_options(args)?;
    let (found, mut job) = prepare(args, args.types()?, None)?;
    let report = Report::new(args.json, args.quiet);
    announce(report, &found.located, &job);
    if job.chooses() {
        let stop = Stop::on_signals()?;
        let progress = Progress::new(report, 1, &stop);
        let chosen = choose_formats(&mut job, options, report, &progress);
        chosen.map_err(|error| found.located.explain(error))?;
    }
    for obstacle in obstacles(&job, args.force) {
        report.warning(&format!("convert would refuse this: {obstacle}"));
    }
    if !report.is_quiet() {
        plan::print(&job, options, args.all, args.json)?;
    }
    Ok(())
}

/// Why a conversion could not be written, each reason once.
fn obstacles(job: &Job, force: bool) -> Vec<String> {
    let refused = |target: PathBuf| output::check(&target, force).err();
    let mut found: Vec<String> =
        job.targets().into_iter().filter_map(refused).map(|error| error.to_string()).collect();
    found.dedup(); // a folder that is missing is missing for all
    let bytes = job.disk_bytes();
    let first = job.outputs.first().map(|output| &output.path);
    if let Some((target, free)) = first.and_then(|target| Some((target, output::free_bytes(target)?)))
        && bytes > free
    {
        found.push(output::no_space(target, bytes, free).to_string());
    }
    found
}

/// Everything that is done before the first weight is read. `keep`: where what comes from a hub is stored, unless nothing
/// is to be written.
fn prepare(args: &Convert, types: Vec<FileType>, keep: Option<&PathBuf>) -> Result<(FoundModel, Job)> {
    let split = args.contents.split_max_size.as_deref();
    #[cfg(feature = "hub")]
    if super::hub::is_address(&args.model.folder) {
        let target = args.target.budget()?.map(|budget| format!("--{}", budget.option().0));
        let twice = [
            (args.verify, "--verify"),
            (args.quality != Quality::Fast, "--quality"),
            (target.is_some(), target.as_deref().unwrap_or_default()),
        ];
        if let Some((_, option)) = twice.into_iter().find(|(given, _)| *given) {
            return Err(Error::Usage(format!(
                "{option}: reads the weights a second time, which a hub does not send twice: give --keep DIR without \
                 it, and {option} with the stored model afterwards"
            )));
        }
    }
    let found = source::find(&args.model, keep, args.quiet)?;
    let request = Request {
        model: found.request.clone(),
        types,
        target: args.target.budget()?,
        output: args.output.clone(),
        force: args.force,
        pad: args.ffn_pad,
        modelfile: !args.no_modelfile,
        imatrix: args.imatrix.clone(),
        quality: args.quality,
        calibration: args.calibration.clone(),
        calibration_tokens: args.calibration_tokens.map(|tokens| tokens as usize),
        memory: args.memory.as_deref().map(|size| size::parse("--memory", size)).transpose()?,
        overrides: args.tensor_types.parse()?,
        given: args.contents.given()?,
        vocab_only: args.contents.vocab_only,
        split_max_bytes: split.map(|size| size::parse("--split-max-size", size)).transpose()?,
        receipt: args.receipt.clone(),
        card: args.card.clone(),
    };
    let job = Job::prepare(&request).map_err(|error| found.located.explain(error))?;
    if args.strict {
        job.refuse_fallbacks()?;
    }
    Ok((found, job))
}

/// Chooses the formats for a size, and says what it came to.
fn choose_formats(job: &mut Job, options: Options, report: Report, progress: &Progress) -> Result<()> {
    progress.phase("choosing formats", Counts::Layers);
    job.choose(options, progress)?;
    progress.finish();
    Chosen::of(job, options)?.iter().for_each(|chosen| report.chosen(chosen));
    Ok(())
}

/// Says what was found and decided, and what to beware of.
fn announce(report: Report, located: &Located, job: &Job) {
    let files = job.outputs.iter().flat_map(Output::paths).collect();
    report.start(&job.model, job.work().source_bytes(), files, located, &job.warnings());
}

fn pipeline_options(args: &Convert) -> Result<Options> {
    let threads = threads::chosen(args.threads)?;
    let backend = match &args.backend {
        Some(name) => {
            name.parse().map_err(|e: quant::ParseBackendError| Error::Usage(format!("--backend: {e}")))?
        }
        None => quant::Backend::detect(),
    };
    let memory_bytes = args.buffer_memory as usize * (1 << 20);
    Ok(Options { threads, memory_bytes, backend })
}
