//! `glm2llama export-hf`.

use std::time::Instant;

use super::args::ExportHf;
use super::progress::{Counts, Progress, Stop};
use super::report::{Exported, Report};
use super::size;
use super::threads;
use glm2llama::checkpoint::Dtype;
use glm2llama::error::{Error, Result};
use glm2llama::export::{Export, ExportRequest};
use glm2llama::pipeline::{DEFAULT_MEMORY_BYTES, Options};
use glm2llama::watch::Watch;

pub(super) fn run(args: &ExportHf) -> Result<()> {
    let started = Instant::now();
    let located = args.model.local()?;
    let request = ExportRequest {
        model: args.model.request(&located)?,
        output: args.output(),
        dtype: args.dtype.as_deref().map(dtype).transpose()?,
        max_shard_bytes: size::parse("--max-shard-size", &args.max_shard_size)?,
        force: args.force,
    };
    let options = Options {
        threads: threads::chosen(args.running.threads)?,
        memory_bytes: DEFAULT_MEMORY_BYTES,
        backend: quant::Backend::detect(),
    };
    let export = Export::prepare(&request).map_err(|error| located.explain(error))?;
    let stop = Stop::on_signals()?;
    let outputs = export.create_outputs()?;
    let report = Report::new(args.running.json, args.running.quiet);
    let total = export.work().source_bytes();
    report.start(&export.model, total, vec![export.output.clone()], &located, &export.model.warnings());
    let progress = Progress::new(report, 1, &stop);
    progress.phase("writing", Counts::Bytes);
    let filled = export.fill(outputs, options, &progress)?;
    progress.finish();
    report.doubt(filled.doubt(), args.strict, &located)?;
    stop.go_on()?;
    filled.publish()?;
    report.exported(&Exported::new(&export, started.elapsed()));
    Ok(())
}

fn dtype(name: &str) -> Result<Dtype> {
    let known = [Dtype::F32, Dtype::F16, Dtype::BF16];
    let found = known.into_iter().find(|dtype| dtype.to_string().eq_ignore_ascii_case(name));
    found.ok_or_else(|| Error::Usage(format!("--dtype: found `{name}`, expected F32, F16 or BF16")))
}
