//! Every single call that reads, writes, syncs or names fails once, in a run of its own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::undisturbed;
use crate::support::{Checkpoint, Dir};

/// The library that makes calls fail, for the system that the tests run on (`.ci/cross` names the compiler of another
/// one); none where it is not Linux.
fn injector(folder: &Dir) -> Option<PathBuf> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let library = folder.join("inject.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/inject.c");
    let built = Command::new(env::var_os("TARGET_CC").unwrap_or_else(|| "cc".into()))
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .args([source, "-ldl"])
        .status();
    if built.is_ok_and(|status| status.success()) {
        return Some(library);
    }
    assert!(env::var_os("CI").is_none(), "there is no C compiler");
    eprintln!("skipped: no C compiler");
    None
}

/// A convert of one thread into `out`; `fault` is what `FAULT` says.
fn convert(library: &Path, model: &Dir, out: &Dir, fault: &str, options: &[&str]) -> (Option<i32>, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_glm2llama"))
        .arg("convert")
        .arg(model.path())
        .args(["--quiet", "--threads", "1", "--output", "m.gguf"])
        .args(options)
        .current_dir(out.path())
        .env("LD_PRELOAD", library)
        .env("FAULT", fault)
        .output()
        .expect("the program starts");
    (run.status.code(), String::from_utf8(run.stderr).expect("UTF-8"))
}

#[test]
fn every_call_may_fail() {
    let tools = Dir::new();
    let Some(library) = injector(&tools) else { return };
    let model = Checkpoint::tiny().folder();
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
            let (code, stderr) =
                convert(&library, &model, &out, &format!("{call}:{nth}:{error}"), &["--no-modelfile"]);
            if code == Some(0) {
                // All calls were made, or the fault hit where it does no harm: the folder's own sync.
                assert!(fs::read(out.join("m.gguf")).expect("read") == good, "{call} {nth}: other bytes");
                break;
            }
            failed += 1;
            assert_eq!(code, Some(2), "{call} {nth}: {stderr}");
            assert!(stderr.contains(text) && stderr.contains(file), "{call} {nth}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert_eq!(out.names(), [""; 0], "{call} {nth}");
        }
        assert!(failed >= if call == "fsync" { 1 } else { 20 }, "{call} failed only {failed} times");
        println!("{call} with error {error}: {failed} runs failed, none left a file");
    }
}

/// Every file of a run is there as it was when one cannot be brought to the disk; and when a signal comes with any
/// write, the last one too.
#[test]
fn all_files_of_a_run_are_named_or_none() {
    let tools = Dir::new();
    let Some(library) = injector(&tools) else { return };
    let model = Checkpoint::tiny().folder();
    for (call, error, code, text) in [
        ("fsync", 5, 2, "cannot sync: Input/output error"),
        ("write", -2, 130, "interrupted, nothing was written"), // SIGINT
    ] {
        let mut failed = 0;
        for nth in 1.. {
            let out = Dir::new();
            for name in ["m.gguf", "m.Modelfile", "receipt.json"] {
                fs::write(out.join(name), "precious").expect("written");
            }
            let options = ["--force", "--receipt", "receipt.json"];
            let (found, stderr) = convert(&library, &model, &out, &format!("{call}:{nth}:{error}"), &options);
            assert_eq!(out.names(), ["m.Modelfile", "m.gguf", "receipt.json"], "{call} {nth}: {stderr}");
            let kept = |name: &str| fs::read(out.join(name)).expect("read") == b"precious";
            let kept = ["m.gguf", "m.Modelfile", "receipt.json"].map(kept);
            if found == Some(0) {
                assert_eq!(kept, [false; 3], "{call} {nth}");
                break;
            }
            failed += 1;
            assert_eq!(found, Some(code), "{call} {nth}: {stderr}");
            assert!(stderr.contains(text), "{call} {nth}: {stderr}");
            assert_eq!(kept, [true; 3], "{call} {nth}: {stderr}");
        }
        assert!(failed >= 3, "{call} failed only {failed} times");
    }
}
