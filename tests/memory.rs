//! What each command takes in memory, beside a checkpoint of 237 MB: under a hard limit of its address space, which
//! counts all that is mapped, and by its own peak of what it has touched.
#![cfg(unix)] // limits of a shell on a process's addresses

use std::path::Path;

#[cfg(feature = "hub")]
use super::hub::server;
#[cfg(feature = "hub")]
use crate::support::pytorch;
use crate::support::{Checkpoint, Dir, command, tiny_tokenizer};

/// Runs a command under a limit in MiB, and returns the peak that it reports, in MB.
#[track_caller]
fn limited(limit_mib: u32, folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Option<u64> {
    let output = command::limited(limit_mib * 1024)
        .args(arguments)
        .current_dir(folder)
        .envs(variables.iter().copied())
        .output()
        .expect("a shell");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} in {limit_mib} MiB: {stderr}");
    let (_, after) = stdout.rsplit_once("\"peak_memory_bytes\":")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    let peak: u64 = digits.parse().ok()?;
    println!("{:10} {} MB touched, at most {limit_mib} MiB mapped", arguments[0], peak / 1_000_000);
    Some(peak / 1_000_000)
}

#[test]
fn every_command_keeps_its_limit() {
    if command::skipped_in_emulator("its own memory counts") {
        return;
    }
    let folder = Dir::new();
    let shape = Checkpoint { hidden: 1024, ffn: 8192, vocab: 4096, layers: 4, ..Checkpoint::tiny() };
    shape.write(&folder.join("model"), &tiny_tokenizer()).expect("written");
    let run = |limit, arguments: &[&str]| limited(limit, folder.path(), &[], arguments);

    run(64, &["plan", "model"]);
    // Each thread reserves, and does not touch, some 70 MB of addresses for its stack and its allocator.
    let threads = ["--threads", "2", "--json"];
    let convert = ["convert", "model", "--type", "Q8_0", "--no-modelfile", "--output", "m.gguf"];
    let peak = run(512, &[&convert[..], &threads, &["--receipt", "r.json"]].concat()).expect("a peak");
    assert!(peak < 100, "{peak} MB");
    run(64, &["inspect", "m.gguf", "--all", "--json"]);
    let peak = run(512, &[&["export-hf", "model", "hf"][..], &threads].concat()).expect("a peak");
    assert!(peak < 100, "{peak} MB");
    let verify = ["verify", "model", "m.gguf", "--json"];
    let peak = run(512, &[&verify[..], &["--weights-only", "--receipt", "r.json"]].concat()).expect("a peak");
    assert!(peak < 100, "{peak} MB");
    let peak = run(512, &[&verify[..], &["--tokens", "64", "--report", "r.html"]].concat()).expect("a peak");
    assert!(peak < 100, "{peak} MB");
    for command in [&["completions", "bash"][..], &["man"], &["--help"]] {
        run(64, command);
    }
}

/// As much as from a folder, whatever comes at the same time: blocks wait for buffers, and the hub waits for both.
#[cfg(feature = "hub")]
#[test]
fn a_model_on_a_hub_needs_no_more() {
    if command::skipped_in_emulator("its own memory counts") {
        return;
    }
    for is_pytorchs in [false, true] {
        let folder = Dir::new();
        let shape = Checkpoint { hidden: 1024, ffn: 8192, vocab: 4096, layers: 4, ..Checkpoint::tiny() };
        let shape = Checkpoint { shard_bytes: Some(60_000_000), ..shape };
        shape.write(&folder.join("model"), &tiny_tokenizer()).expect("written");
        if is_pytorchs {
            pytorch::rewrite(&folder.join("model"));
        }
        let url = server::Server::start(&folder.join("model")).url();
        let cache = folder.join("none").to_str().expect("UTF-8").to_owned();
        let variables =
            [("HF_ENDPOINT", url.as_str()), ("HF_HUB_CACHE", &cache), ("NO_PROXY", "127.0.0.1,localhost")];
        let convert = ["convert", "hf://a/b", "--type", "Q8_0", "--threads", "2", "--json", "--no-modelfile"];
        for more in
            [&["--output", "m.gguf", "--receipt", "r.json"][..], &["--output", "n.gguf", "--keep", "kept"]]
        {
            // Four files come at once, each with two threads, which reserve addresses as the workers do.
            let run = [&convert[..], more].concat();
            let peak = limited(1280, folder.path(), &variables, &run).expect("a peak");
            assert!(peak < 110, "{peak} MB");
        }
        let kept =
            |end: &str| folder.join("kept/models--a--b/snapshots").join(server::COMMIT).join(end).exists();
        assert_eq!(kept("pytorch_model.bin.index.json"), is_pytorchs);
        limited(512, folder.path(), &variables, &["plan", "hf://a/b"]);
    }
}
