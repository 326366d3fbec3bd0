//! `glm2llama imatrix`.

use std::time::Instant;

use super::args::Imatrix;
use super::progress::{Counts, Progress, Stop};
use super::report::{Measured, Report};
use super::threads;
use glm2llama::calibrate::{self, Sample, WINDOW};
use glm2llama::error::Result;
use glm2llama::input;
use glm2llama::model::Model;
use glm2llama::output;
use glm2llama::recipe::{FfnPad, padded_ffn};

pub(super) fn run(args: &Imatrix) -> Result<()> {
    let started = Instant::now();
    let located = args.model.local()?;
    let threads = threads::chosen(args.running.threads)?;
    let source = args.model.request(&located)?;
    let (read, guests) = input::noted(|| {
        let model = Model::open(&source).map_err(|error| located.explain(error))?;
        let tokens =
            args.tokens.map_or_else(|| calibrate::importance_tokens(model.plan.parameters()), |n| n as usize);
        let sample = Sample::new(&model.tokenizer, &args.calibration, tokens)?;
        Ok((model, sample))
    });
    let (model, sample) = read?;
    output::check(&args.output, args.force)?;
    guests.refuse_target(&args.output)?;
    let stop = Stop::on_signals()?;
    let report = Report::new(args.running.json, args.running.quiet);
    let total =
        model.checkpoint.tensors().values().map(|tensor| (tensor.rows() * tensor.row_bytes()) as u64).sum();
    let warnings: Vec<String> = model.warnings().into_iter().chain(sample.doubt()).collect();
    report.start(&model, total, vec![args.output.clone()], &located, &warnings);
    let progress = Progress::new(report, 1, &stop);
    progress.phase("measuring", Counts::Layers);
    let mut matrix = calibrate::importance(&model, &sample, threads, &progress)?;
    if args.ffn_pad == FfnPad::On {
        matrix.pad(&model.plan, padded_ffn(&model.config));
    }
    progress.finish();
    matrix.write(&args.output, WINDOW as u32, args.force)?;
    report.measured(&Measured::new(&args.output, matrix.entries.len(), &sample, started.elapsed()));
    Ok(())
}
