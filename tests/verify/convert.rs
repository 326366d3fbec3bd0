//! `convert --verify`: the file is judged before it has its name.
#![cfg(unix)] // a test damages a file in the making, which nobody else can write to on Windows

use std::num::NonZero;

use glm2llama::convert::Job;
use glm2llama::request::Request;
use glm2llama::{model, pipeline};

use super::{judge, tiny};
use crate::support::damage::Damaged;
use crate::support::{Cmd, Dir};

#[test]
fn a_conversion_checks_itself_before_the_file_has_its_name() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    let run = Cmd::new("convert")
        .arg(tiny())
        .args(&["--verify", "--no-modelfile", "--output"])
        .arg(&gguf)
        .succeed();
    assert!(run.stdout.contains("the same model, within what F32, Q4_K and Q6_K allow"), "{}", run.stdout);
    std::fs::remove_file(&gguf).expect("deleted");

    let request = Request {
        model: model::ModelSource { folder: tiny(), ..model::ModelSource::default() },
        types: vec!["Q4_K_M".parse().expect("a type")],
        output: Some(gguf.clone()),
        ..Request::default()
    };
    let job = Job::prepare(&request).expect("a job");
    let options = pipeline::Options {
        threads: NonZero::<usize>::MIN,
        memory_bytes: pipeline::DEFAULT_MEMORY_BYTES,
        backend: quant::Backend::detect(),
    };
    let outputs = job.create_outputs().expect("created");
    let filled = job.fill(outputs, options, &()).expect("filled");
    let temporary = filled.files().next().expect("an output")[0].1.to_owned();
    let mut file = Damaged::read(&temporary);
    file.exchange("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight");
    file.write();
    let (verdict, _) = judge(&tiny(), &temporary);
    assert!(!verdict.same && !gguf.exists());
    drop(filled);
    assert_eq!(folder.names(), Vec::<String>::new());
}
