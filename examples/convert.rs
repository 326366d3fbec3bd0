//! The library in one page: converts a folder, shows how far it is, and checks the file against the checkpoint.
//!
//!     cargo run --release --example convert -- MODEL_DIR TYPE OUT.gguf

use std::error::Error;
use std::path::Path;

use glm2llama::{Job, Options, Pair, Request, Step, Watch};

/// Prints how much of the checkpoint is done.
struct Percent;

impl Watch for Percent {
    fn advanced(&self, step: &Step) {
        print!("\r{:3} %", step.done * 100 / step.total.max(1));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, file_type, output] = arguments.as_slice() else {
        return Err("usage: convert MODEL_DIR TYPE OUT.gguf".into());
    };
    let mut request = Request::new(folder, file_type.parse()?);
    request.output = Some(output.into());

    let job = Job::prepare(&request)?;
    for warning in job.warnings() {
        println!("warning: {warning}");
    }
    job.fill(job.create_outputs()?, Options::default(), &Percent)?.publish()?;

    let pair = Pair::open(Path::new(folder), Path::new(output), None)?;
    let facts = pair.facts()?;
    let same = facts.findings.is_empty() && pair.weights(&())?.findings.is_empty();
    println!("\r{output}: {} the model in {folder}", if same { "is" } else { "is not" });
    Ok(())
}
