//! Every single call that reads, writes, syncs or names fails once, in a run of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::Dir;
use crate::{tiny, undisturbed};

/// The library that makes calls fail, built with the linker's own C compiler.
fn injector(folder: &Dir) -> Option<PathBuf> {
    let library = folder.join("inject.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/inject.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .args([source, "-ldl"])
        .status();
    built.is_ok_and(|status| status.success()).then_some(library)
}

#[test]
fn every_call_may_fail() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let tools = Dir::new();
    let Some(library) = injector(&tools) else {
        eprintln!("skipped: no C compiler");
        return;
    };
    let model = tiny();
    let good = undisturbed(model.path());
    // The call, the system's error, its text, and the file at fault.
    let faults = [
        ("write", 28, "No space left on device", "m.gguf: cannot write"),
        ("write", 5, "Input/output error", "m.gguf: cannot write"),
        ("pread64", 5, "Input/output error", "model.safetensors: cannot read"),
        ("pread64", 0, "", "model.safetensors: "),
        ("fsync", 5, "Input/output error", "m.gguf: cannot sync"),
    ];
    for (call, error, text, file) in faults {
        let mut failed = 0;
        for nth in 1.. {
            let out = Dir::new();
            let target = out.join("m.gguf");
            let run = Command::new(env!("CARGO_BIN_EXE_glm2llama"))
                .arg("convert")
                .arg(model.path())
                .args(["--quiet", "--threads", "1", "--no-modelfile", "--output"])
                .arg(&target)
                .env("LD_PRELOAD", &library)
                .env("FAULT", format!("{call}:{nth}:{error}"))
                .output()
                .expect("the program starts");
            let stderr = String::from_utf8(run.stderr).expect("UTF-8");
            if run.status.success() {
                // All calls were made, or the fault hit where it does no harm: the folder's own sync.
                assert!(fs::read(&target).expect("read") == good, "{call} {nth}: other bytes");
                break;
            }
            failed += 1;
            assert_eq!(run.status.code(), Some(2), "{call} {nth}: {stderr}");
            assert!(stderr.contains(text) && stderr.contains(file), "{call} {nth}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert_eq!(out.names(), [""; 0], "{call} {nth}");
        }
        assert!(failed >= if call == "fsync" { 1 } else { 20 }, "{call} failed only {failed} times");
        println!("{call} with error {error}: {failed} runs failed, none left a file");
    }
}
