//! `--keep`: a checkpoint stored while it streams, as the hubs' own programs store it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::server::{COMMIT, Fault, Server, sha256};
use super::{Hub, command, faults, same_model};
use crate::support::command::convert;
use crate::support::{Checkpoint, Dir, tiny_tokenizer};

const SHARDS: [&str; 3] = [
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
];
const ARGUMENTS: [&str; 6] = ["--type", "Q4_K_M", "--quiet", "--keep", "kept", "--output"];

#[test]
fn what_is_kept_is_found_by_its_name_and_has_the_hubs_layout() {
    let hub = Hub::new();
    for (address, cache, snapshot) in [
        (
            "hf://zai-org/chatglm3-6b",
            "HF_HUB_CACHE",
            format!("models--zai-org--chatglm3-6b/snapshots/{COMMIT}"),
        ),
        (
            "ms://ZhipuAI/chatglm3-6b",
            "MODELSCOPE_CACHE",
            "models/ZhipuAI--chatglm3-6b/snapshots/master".to_owned(),
        ),
    ] {
        let here = Dir::new();
        let run = || command("convert", &hub.server.url(), here.path());
        run().arg(address).args(&ARGUMENTS).arg("m.gguf").succeed();
        let kept = here.join("kept").join(&snapshot);
        for entry in hub.model().read_dir().unwrap().flatten() {
            let stored = kept.join(entry.file_name());
            assert_eq!(fs::read(&stored).unwrap(), fs::read(entry.path()).unwrap(), "{}", stored.display());
        }
        if cache == "HF_HUB_CACHE" {
            let repository = here.join("kept/models--zai-org--chatglm3-6b");
            assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
            let hash = sha256(&fs::read(hub.model().join(SHARDS[0])).unwrap());
            assert!(repository.join("blobs").join(&hash).is_file());
            assert_eq!(
                kept.join(SHARDS[0]).read_link().unwrap(),
                std::path::Path::new("../../blobs").join(hash)
            );
        }
        // By its name alone, without the network; the receipt there holds every file against its own name.
        let name = address.split_once("://").unwrap().1;
        let offline = run().env("HF_HUB_OFFLINE", "1").env(cache, here.join("kept")).arg(name);
        let offline =
            offline.args(&["--type", "Q4_K_M", "--quiet", "--output", "n.gguf", "--receipt", "r.json"]);
        offline.succeed();
        same_model(&here.join("m.gguf"), &here.join("n.gguf"));
        // By its address: the small files and the shards are there, and only the list is asked for.
        hub.server.state.seen.lock().unwrap().clear();
        run().arg(address).args(&ARGUMENTS).arg("o.gguf").succeed();
        same_model(&here.join("m.gguf"), &here.join("o.gguf"));
        let asked = hub.server.seen();
        assert!(
            asked.iter().all(|seen| seen.path.starts_with("/api/") && !seen.path.contains("FilePath")),
            "{asked:?}"
        );
        // And so does a run without --keep, whose cache it is.
        run()
            .env(cache, here.join("kept"))
            .arg(address)
            .args(&["--type", "F16", "--quiet", "--output", "p.gguf"])
            .succeed();
        assert!(hub.server.seen().iter().all(|seen| !seen.path.contains("signed")));
    }
}

#[test]
fn what_has_come_before_a_failure_is_not_fetched_again() {
    let hub = Hub::new();
    let here = Dir::new();
    let run =
        || command("convert", &hub.server.url(), here.path()).arg("hf://a/b").args(&ARGUMENTS).arg("m.gguf");
    // The header, and then the whole with a wrong bit.
    hub.server.fault(SHARDS[2], Fault::Part200, 1).fault(SHARDS[2], Fault::Flip(100_000), 1);
    let error = run().exit_with(2).stderr;
    assert!(error.contains(SHARDS[2]) && error.contains("SHA-256"), "{error}");
    let blobs = here.join("kept/models--a--b/blobs");
    let names: Vec<String> =
        blobs.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let last = sha256(&fs::read(hub.model().join(SHARDS[2])).unwrap());
    assert!(names.iter().all(|name| !name.contains(&last)), "{names:?}");
    assert!(!here.join("kept/models--a--b/refs").exists() && !here.join("m.gguf").exists());
    hub.server.state.seen.lock().unwrap().clear();
    run().succeed();
    let kept = |shard: &str| names.contains(&sha256(&fs::read(hub.model().join(shard)).unwrap()));
    for shard in SHARDS {
        let asked = hub.server.seen().iter().any(|seen| seen.path.contains(shard));
        assert_eq!(asked, !kept(shard), "{shard}");
    }
}

#[test]
fn a_damaged_cache_is_found_out() {
    let hub = Hub::new();
    let here = Dir::new();
    let run = || {
        command("convert", &hub.server.url(), here.path())
            .arg("hf://a/b")
            .args(&ARGUMENTS)
            .arg("m.gguf")
            .arg("--force")
    };
    run().succeed();
    let blob =
        here.join("kept/models--a--b/blobs").join(sha256(&fs::read(hub.model().join(SHARDS[1])).unwrap()));
    let mut bytes = fs::read(&blob).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let error = run().exit_with(2).stderr;
    assert!(
        error.contains("kept/models--a--b/blobs/") && error.contains("found bytes of SHA-256"),
        "{error}"
    );
    assert!(error.contains("delete the file and run again"), "{error}");
    fs::remove_file(&blob).unwrap();
    run().succeed();
}

/// All files below a folder, without links.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in folder.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.extend((!path.is_symlink()).then_some(path)),
        }
    }
    files
}

fn begun(folder: &Path) -> Vec<PathBuf> {
    let mut files = files(folder);
    files.retain(|path| path.extension().is_some_and(|end| end == "incomplete"));
    files
}

fn bytes(files: &[PathBuf]) -> usize {
    files.iter().map(|path| path.metadata().map_or(0, |found| found.len() as usize)).sum()
}

/// Starts a run that keeps what it reads.
fn spawn(hub: &Hub, here: &Dir, address: &str, output: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_glm2llama"))
        .args(["convert", address])
        .args(ARGUMENTS)
        .arg(output)
        .envs([("HF_ENDPOINT", hub.server.url()), ("MODELSCOPE_ENDPOINT", hub.server.url())])
        .envs(["HF_HUB_CACHE", "MODELSCOPE_CACHE"].map(|name| (name, here.join("none"))))
        .env("TMPDIR", here.join("no-tmp"))
        .current_dir(here.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Each has unfinished files of its own.
#[test]
fn two_runs_keep_the_same_files_at_once() {
    let hub = Hub::new();
    convert(&hub.model(), "Q4_K_M", &hub.dir.join("local.gguf"), &[]);
    hub.server.rate(400_000);
    for (address, snapshot) in [
        ("hf://a/b", format!("models--a--b/snapshots/{COMMIT}")),
        ("ms://a/b", "models/a--b/snapshots/master".to_owned()),
    ] {
        let here = Dir::new();
        let mut runs = ["m.gguf", "n.gguf"].map(|output| spawn(&hub, &here, address, output));
        let start = Instant::now();
        let both =
            || begun(&here.join("kept")).iter().any(|path| path.to_str().unwrap().contains(".00000001."));
        while !both() && start.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(both(), "{:?}", begun(&here.join("kept")));
        for (run, output) in runs.iter_mut().zip(["m.gguf", "n.gguf"]) {
            assert!(run.wait().unwrap().success(), "{address} {output}");
            same_model(&here.join(output), &hub.dir.join("local.gguf"));
        }
        assert!(begun(&here.join("kept")).is_empty(), "{:?}", begun(&here.join("kept")));
        for shard in SHARDS {
            let kept = here.join("kept").join(&snapshot).join(shard);
            assert!(fs::read(kept).unwrap() == fs::read(hub.model().join(shard)).unwrap(), "{shard}");
        }
    }
}

/// Whatever ended the first run, even `kill -9`.
#[test]
fn a_run_that_was_ended_is_gone_on_with() {
    for (address, signal) in [("hf://a/b", "-KILL"), ("ms://a/b", "-KILL"), ("hf://a/b", "-INT")] {
        let hub = Hub::new();
        let here = Dir::new();
        let kept = here.join("kept");
        hub.server.rate(300_000);
        let mut run = spawn(&hub, &here, address, "m.gguf");
        let start = Instant::now();
        while bytes(&begun(&kept)) < 400_000 && start.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Command::new("kill").args([signal, &run.id().to_string()]).status().unwrap();
        run.wait().unwrap();
        let (there, all) = (bytes(&begun(&kept)), bytes(&files(&hub.model())));
        assert!(there >= 400_000 && !here.join("m.gguf").exists(), "{address} {signal}: {there} bytes");
        hub.server.sent();
        hub.server.rate(1 << 30);
        let run = command("convert", &hub.server.url(), here.path()).arg(address).args(&ARGUMENTS[..2]);
        let told = run.args(&ARGUMENTS[3..]).arg("m.gguf").succeed().stderr;
        assert!(told.contains("bytes are kept already: getting the rest"), "{told}");
        // The small files are there, and the headers and the lists come again.
        let sent = hub.server.sent();
        assert!(sent < all - there + 3 * 65_536, "{address} {signal}: {sent} of {all}, {there} were there");
        assert!(begun(&kept).is_empty(), "{:?}", begun(&kept));
        let local = here.join("local.gguf");
        convert(&hub.model(), "Q4_K_M", &local, &[]);
        same_model(&here.join("m.gguf"), &local);
        assert_eq!(bytes(&files(&kept)), all + if address == "hf://a/b" { COMMIT.len() } else { 0 });
    }
}

/// A hub that gives up in the middle, and one that knows no ranges when it is asked for the rest of a large file.
#[test]
fn a_run_that_failed_is_gone_on_with() {
    let dir = Dir::new();
    let shape = Checkpoint { ffn: 2048, vocab: 8192, ..Checkpoint::tiny() };
    shape.write(&dir.join("model"), &tiny_tokenizer()).unwrap();
    let hub = Hub { server: Server::start(&dir.join("model")), dir, authority: None };
    let whole = hub.model().join("model.safetensors").metadata().unwrap().len() as usize;
    let (cut, kept) = (whole - 100_000, hub.dir.join("kept"));
    assert!(cut > 8 << 20, "{cut}: more than is ever dropped for a header");
    let run = || {
        let repository = faults::open(&hub, "hf://a/b").unwrap();
        faults::convert_kept(&repository, Some(&kept), &["Q4_K_M"], &hub.dir.join("m.gguf"), &())
    };
    let header = || hub.server.fault("model.safetensors", Fault::Part200, 1);
    header().fault("model.safetensors", Fault::Cut(cut), 1).fault("model.safetensors", Fault::Cut(0), 9);
    let error = run().unwrap_err().to_string();
    assert!(error.contains(&format!("gave up at byte {cut}")), "{error}");
    assert_eq!(bytes(&begun(&kept)), cut);
    hub.server.forget_faults();
    header().fault("model.safetensors", Fault::Whole, 9);
    run().unwrap();
    convert(&hub.model(), "Q4_K_M", &hub.dir.join("local.gguf"), &[]);
    same_model(&hub.dir.join("m.gguf"), &hub.dir.join("local.gguf"));
    assert!(begun(&kept).is_empty());
}

/// Whatever lies in the place of an earlier run's beginning: the file is right, or there is none.
#[test]
fn what_was_kept_in_part_is_judged_with_the_rest() {
    let hub = Hub::new();
    convert(&hub.model(), "Q4_K_M", &hub.dir.join("local.gguf"), &[]);
    let right = fs::read(hub.model().join(SHARDS[1])).unwrap();
    let flipped = |length: usize| {
        let mut wrong = right[..length].to_vec();
        wrong[length / 2] ^= 1;
        wrong
    };
    let all = right.len();
    for (left, told) in [
        (flipped(300_000), "is damaged: getting all of it"),
        (vec![0; all], "is damaged: getting all of it"), // as downloads in parallel leave it
        (flipped(all), "is damaged: getting all of it"),
        (right[..all - 1].to_vec(), "getting the rest"),
        (right.clone(), "getting the rest"),
        (vec![7; all + 1], ""),
        (Vec::new(), ""),
    ] {
        for address in ["hf://a/b", "ms://a/b"] {
            let here = Dir::new();
            let target = match address {
                "hf://a/b" => here.join("kept/models--a--b/blobs").join(sha256(&right)),
                _ => here.join("kept/models/a--b/snapshots/master").join(SHARDS[1]),
            };
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            let mut name = target.clone().into_os_string();
            name.push(".incomplete");
            fs::write(name, &left).unwrap();
            let run = command("convert", &hub.server.url(), here.path()).arg(address).args(&ARGUMENTS[..2]);
            let stderr = run.args(&ARGUMENTS[3..]).arg("m.gguf").succeed().stderr;
            assert!(
                stderr.contains(told) && (told.is_empty() != stderr.contains("kept already")),
                "{stderr}"
            );
            same_model(&here.join("m.gguf"), &hub.dir.join("local.gguf"));
            assert!(fs::read(&target).unwrap() == right && begun(&here.join("kept")).is_empty());
        }
    }
    // Damaged on its way too, after what was kept: nothing is written, and the next run begins anew.
    let here = Dir::new();
    let blobs = here.join("kept/models--a--b/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", sha256(&right))), flipped(300_000)).unwrap();
    let fault = |fault, times| hub.server.fault(SHARDS[1], fault, times);
    fault(Fault::Part200, 2); // the header, and the rest
    fault(Fault::Flip(400_000), 1);
    let run =
        || command("convert", &hub.server.url(), here.path()).arg("hf://a/b").args(&ARGUMENTS).arg("m.gguf");
    let error = run().exit_with(2).stderr;
    assert!(error.contains("found bytes of SHA-256") && !here.join("m.gguf").exists(), "{error}");
    assert!(begun(&blobs).iter().all(|path| !path.to_str().unwrap().contains(&sha256(&right))));
    run().succeed();
    same_model(&here.join("m.gguf"), &hub.dir.join("local.gguf"));
}
