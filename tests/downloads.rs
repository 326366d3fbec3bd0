//! Downloads that have not ended or went wrong, though every file has its full length.

mod support;

use std::fs;
use std::path::Path;

use support::{Checkpoint, Cmd, Dir, copy_files, testdata, tiny_tokenizer};

const WEIGHTS: &str = "model.safetensors";
const DENSE: &str = "transformer.encoder.layers.1.self_attention.dense.weight";
const QKV: &str = "transformer.encoder.layers.0.self_attention.query_key_value.weight";

fn tiny() -> Dir {
    let model = Dir::new();
    Checkpoint::tiny().write(model.path(), &tiny_tokenizer()).expect("written");
    model
}

/// Exit code 2, one line with all of `expected`, and nothing written.
#[track_caller]
fn refused(model: &Path, arguments: &[&str], expected: &[&str]) {
    let out = Dir::new();
    let run = Cmd::new("convert").arg(model).args(arguments).current_dir(out.path()).exit_with(2);
    let last = run.stderr.lines().last().unwrap_or_default();
    for part in expected {
        assert!(last.contains(part), "{}\nwithout: {part}", run.stderr);
    }
    assert_eq!(out.names(), [""; 0], "left behind");
}

fn converted(model: &Path, arguments: &[&str]) -> String {
    let out = Dir::new();
    Cmd::new("convert").arg(model).args(arguments).current_dir(out.path()).succeed().stderr
}

/// Zeros in the place of some bytes of a tensor, as a download that has holes leaves them.
fn hole(file: &Path, tensor: &str, bytes: std::ops::Range<usize>) {
    let mut content = fs::read(file).expect("read");
    let length = u64::from_le_bytes(content[..8].try_into().expect("8 bytes")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&content[8..8 + length]).expect("JSON");
    let start = 8 + length + header[tensor]["data_offsets"][0].as_u64().expect("a number") as usize;
    content[start + bytes.start..start + bytes.end].fill(0);
    fs::write(file, content).expect("written");
}

#[test]
fn a_file_with_a_download_of_it_beside_is_refused() {
    let model = tiny();
    for end in [".aria2", ".incomplete", "_0_1048575", ".baiduyun.p.downloading"] {
        let trace = model.join(format!("{WEIGHTS}{end}"));
        fs::write(&trace, "").unwrap();
        let found = format!("found {WEIGHTS}{end} beside it, expected a finished download");
        refused(model.path(), &[], &[WEIGHTS, &found, "run the same download again"]);
        fs::remove_file(trace).unwrap();
    }
    // One shard, of which nothing else is there yet.
    let sharded = Dir::new();
    copy_files(&testdata("models/tiny-chatglm3"), sharded.path());
    let shard = "model-00002-of-00002.safetensors";
    fs::rename(sharded.join(shard), sharded.join(format!("{shard}.incomplete"))).unwrap();
    refused(sharded.path(), &[], &[&format!("{shard}: found {shard}.incomplete beside it")]);
    converted(model.path(), &["--strict", "--verify"]);
}

#[test]
fn an_adapters_download_counts_too() {
    let (model, adapter) = (tiny(), Dir::new());
    fs::write(adapter.join("adapter_config.json"), r#"{"peft_type": "LORA", "r": 1}"#).unwrap();
    fs::write(adapter.join("adapter_model.safetensors"), "").unwrap();
    let lora = adapter.path().to_str().unwrap();
    fs::write(adapter.join("adapter_model.safetensors.crdownload"), "").unwrap();
    refused(model.path(), &["--lora", lora], &["found adapter_model.safetensors.crdownload beside it"]);
}

/// The archive's own directory is whole, and so is the pickle; only a storage has other bytes.
#[test]
fn damaged_records_of_a_bin_are_refused() {
    let (source, name) = (testdata("models/tiny-chatglm2-32k"), "pytorch_model-00001-of-00002.bin");
    let good = fs::read(source.join(name)).unwrap();
    let places: Vec<usize> = (0..good.len() - 4).filter(|&i| good[i..].starts_with(b"PK\x03\x04")).collect();
    let mut damaged = 0;
    for pair in places.windows(2).filter(|pair| pair[1] - pair[0] > 4000).take(3) {
        let model = Dir::new();
        copy_files(&source, model.path());
        let mut bytes = good.clone();
        bytes[pair[1] - 1500..pair[1] - 1400].fill(0);
        fs::write(model.join(name), bytes).unwrap();
        refused(
            model.path(),
            &["--type", "Q8_0"],
            &[name, "transformer.", "(data/", "found bytes of CRC-32", "download it again"],
        );
        damaged += 1;
    }
    assert!(damaged > 0);
    converted(&source, &["--type", "Q8_0"]);
}

#[test]
fn rows_of_zeros_are_warned_of_and_refused_if_strict() {
    let model = tiny();
    let row = 2 * 256;
    hole(&model.join(WEIGHTS), DENSE, 10 * row + 7..20 * row);
    let warning = format!("9 of 256 rows of {DENSE} are zero: is the download complete?");
    assert!(converted(model.path(), &[]).contains(&format!("warning: {warning}")));
    refused(model.path(), &["--strict"], &[&warning, "(--strict)"]);
    // In every path through the pipeline: the rows pass as they are.
    assert!(converted(model.path(), &["--type", "F16"]).contains(&warning));
    hole(&model.join(WEIGHTS), QKV, 0..300 * row);
    let both = format!("300 of 384 rows of {QKV} are zero, and some of another tensor: is");
    assert!(converted(model.path(), &[]).contains(&both));
    let out = Dir::new();
    let export = Cmd::new("export-hf").arg(model.path()).arg(out.join("hf")).succeed();
    assert!(export.stderr.contains(&both), "{}", export.stderr);
}

#[test]
fn a_hash_that_a_cache_knows_is_compared_when_all_is_read() {
    let model = tiny();
    let notes = model.join(".cache/huggingface/download");
    fs::create_dir_all(&notes).unwrap();
    let note_of = |hash: &str, noted: u64| {
        fs::write(notes.join(format!("{WEIGHTS}.metadata")), format!("main\n{hash}\n{noted}.5\n")).unwrap();
    };
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let note = |hash: &str| note_of(hash, now);
    let wrong = "ab".repeat(32);
    note(&wrong);
    for way in [&["--verify"][..], &["--receipt", "receipt.json"]] {
        refused(model.path(), way, &[WEIGHTS, "found SHA-256 ", &wrong, "download it again"]);
    }
    converted(model.path(), &[]); // reads no more than it needs
    // The file is another one by now: the client ignores its note then.
    note_of(&wrong, now - 3600);
    for way in [&["--verify"][..], &["--receipt", "receipt.json"]] {
        let said = converted(model.path(), way);
        assert!(said.contains("was written to after its download: its SHA-256 in"), "{said}");
    }
    assert!(!converted(model.path(), &[]).contains("after its download"));
    note("0123456789abcdef"); // a small file's
    converted(model.path(), &["--verify", "--receipt", "receipt.json"]);

    // The cache's own layout: the name of the blob.
    let cache = Dir::new();
    let (snapshot, blobs) = (cache.join("snapshots/main"), cache.join("blobs"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    fs::remove_dir_all(model.join(".cache")).unwrap();
    copy_files(model.path(), &snapshot);
    fs::rename(snapshot.join(WEIGHTS), blobs.join(&wrong)).unwrap();
    std::os::unix::fs::symlink(format!("../../blobs/{wrong}"), snapshot.join(WEIGHTS)).unwrap();
    refused(&snapshot, &["--verify"], &["found SHA-256 ", &wrong]);
}
