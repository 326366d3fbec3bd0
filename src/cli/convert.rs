//! `glm2llama convert`.

use std::num::NonZero;
use std::time::Instant;

use super::args::Convert;
use super::progress::Progress;
use super::report::{Report, Summary};
use crate::convert::{Job, Request};
use crate::error::{Error, Result};
use crate::pipeline::Options;
use crate::recipe::FileType;

pub(super) fn run(args: &Convert) -> Result<()> {
    let started = Instant::now();
    let types = args.types.iter().map(|name| name.parse::<FileType>()).collect::<Result<Vec<_>>>()?;
    let request = Request {
        folder: args.folder.clone(),
        types,
        output: args.output.clone(),
        force: args.force,
        pad: args.ffn_pad,
        modelfile: !args.no_modelfile,
        imatrix: args.imatrix.clone(),
    };
    let job = Job::prepare(&request)?;
    let options = options(args)?;
    let outputs = job.create_outputs()?;
    let report = Report::new(args.json, args.quiet);
    report.start(&job);
    for warning in job.warnings() {
        report.warning(&warning);
    }

    let total = job.work().source_bytes();
    let progress = Progress::new(total, &job.plan, &report)?;
    job.run(outputs, options, &progress)?;
    progress.finish();
    report.summary(&Summary::new(&job, started.elapsed()));
    Ok(())
}

fn options(args: &Convert) -> Result<Options> {
    let threads = match args.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN),
    };
    if threads.get() > 1024 {
        return Err(Error::Usage(format!("--threads: found {threads}, expected at most 1024")));
    }
    let backend = match &args.backend {
        Some(name) => name.parse().map_err(|e: quant::NoBackend| Error::Usage(format!("--backend: {e}")))?,
        None => quant::Backend::detect(),
    };
    let memory_bytes = args.buffer_memory.get() as usize * (1 << 20);
    Ok(Options { threads, memory_bytes, backend })
}
