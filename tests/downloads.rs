//! Downloads that have not ended or went wrong, though every file has its full length.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use crate::support::{Checkpoint, Cmd, Dir, copy_files, testdata};
use glm2llama::{Pair, Step, Watch};
use sha2::{Digest, Sha256};

const WEIGHTS: &str = "model.safetensors";
const DENSE: &str = "transformer.encoder.layers.1.self_attention.dense.weight";
const QKV: &str = "transformer.encoder.layers.0.self_attention.query_key_value.weight";

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
    let model = Checkpoint::tiny().folder();
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
fn the_small_files_downloads_count_too() {
    let model = Checkpoint::tiny().folder();
    for (name, end) in [
        ("config.json", ".aria2"),
        ("tokenizer.model", ".incomplete"),
        ("tokenizer.model", "_0_1048575"),
        ("tokenizer_config.json", ".crdownload"),
    ] {
        let trace = model.join(format!("{name}{end}"));
        fs::write(&trace, "").unwrap();
        refused(
            model.path(),
            &[],
            &[name, &format!("found {name}{end} beside it, expected a finished download")],
        );
        fs::remove_file(trace).unwrap();
    }
    fs::write(model.join("README.md.aria2"), "").unwrap(); // decides nothing
    converted(model.path(), &[]);
}

#[test]
fn an_adapters_download_counts_too() {
    let (model, adapter) = (Checkpoint::tiny().folder(), Dir::new());
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
    let model = Checkpoint::tiny().folder();
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
    let export = || Cmd::new("export-hf").arg(model.path()).arg(out.join("hf"));
    let strict = export().arg("--strict").exit_with(2);
    assert!(
        strict.stderr.contains(&format!("{both} the download complete? (--strict)")),
        "{}",
        strict.stderr
    );
    assert_eq!(out.names(), [""; 0], "left behind");
    let said = export().succeed().stderr;
    assert!(said.contains(&both), "{said}");
}

/// A file of zeros is the same as a model of zeros: what is odd is the model.
#[test]
fn verify_tells_zeros_of_the_checkpoint() {
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let file = out.join("m.gguf");
    let judged = |name: &str, rows: usize, bytes: std::ops::Range<usize>| {
        let whole = fs::read(model.join(WEIGHTS)).expect("read");
        hole(&model.join(WEIGHTS), name, bytes);
        Cmd::new("convert").arg(model.path()).args(&["-q", "-f", "--output"]).arg(&file).succeed();
        let judged = Cmd::new("verify").arg(model.path()).arg(&file).arg("--weights-only").succeed();
        fs::write(model.join(WEIGHTS), whole).expect("written");
        assert!(judged.stdout.contains("verdict: "), "{}", judged.stdout);
        (judged.stderr.contains("are zero: is the download complete?"), judged.stderr, rows)
    };
    let row = 2 * 256;
    let (warned, said, rows) = judged(DENSE, 3, 5 * row..8 * row);
    assert!(
        warned && said.contains(&format!("warning: the checkpoint: {rows} of 256 rows of {DENSE} are")),
        "{said}"
    );
    let norm = "transformer.encoder.layers.1.input_layernorm.weight";
    let (warned, said, _) = judged(norm, 1, 0..row);
    assert!(warned && said.contains(&format!("all 256 values of {norm} are zero")), "{said}");
    let (warned, said, _) = judged(norm, 1, 0..10);
    assert!(!warned, "{said}");
}

#[test]
fn vectors_and_the_vocabulary_are_judged_too() {
    let row = 2 * 256;
    let embedding = "transformer.embedding.word_embeddings.weight";
    let bias = QKV.replace("weight", "bias");
    let norm = "transformer.encoder.final_layernorm.weight";
    // 900 pieces and nine tokens; the last has id 908.
    for (name, bytes, expected) in [
        (norm, 0..row, Some(format!("all 256 values of {norm} are zero"))),
        (norm, 0..row - 2, None),
        (&bias, 0..2 * 384, Some(format!("all 384 values of {bias} are zero"))),
        (embedding, 908 * row..1024 * row, None),
        (embedding, 907 * row..1024 * row, Some(format!("1 of 1024 rows of {embedding} are zero"))),
        (embedding, 20 * row..21 * row, Some(format!("1 of 1024 rows of {embedding} are zero"))),
    ] {
        let model = Checkpoint::tiny().folder();
        hole(&model.join(WEIGHTS), name, bytes.clone());
        match expected {
            Some(expected) => refused(model.path(), &["--strict"], &[&expected, "(--strict)"]),
            None => assert!(!converted(model.path(), &["--strict"]).contains("are zero"), "{name} {bytes:?}"),
        }
    }
}

#[test]
fn a_hash_that_a_cache_knows_is_compared_when_all_is_read() {
    let model = Checkpoint::tiny().folder();
    let notes = model.join(".cache/huggingface/download");
    fs::create_dir_all(&notes).unwrap();
    // Older than the file, as in a copy that took no times along: the client would ignore it.
    let note = |hash: &str| {
        fs::write(notes.join(format!("{WEIGHTS}.metadata")), format!("main\n{hash}\n1.5\n")).unwrap();
    };
    let wrong = "ab".repeat(32);
    note(&wrong);
    for way in [&["--verify"][..], &["--receipt", "receipt.json"]] {
        refused(model.path(), way, &[WEIGHTS, "found SHA-256 ", &wrong, "download it again"]);
    }
    converted(model.path(), &[]); // reads no more than it needs
    note("0123456789abcdef"); // a small file's
    converted(model.path(), &["--verify", "--receipt", "receipt.json"]);

    // Small files are held against what is known of them, too.
    let vocabulary = notes.join("tokenizer.model.metadata");
    fs::write(&vocabulary, format!("main\n{wrong}\n1.5\n")).unwrap();
    refused(model.path(), &["--verify"], &["tokenizer.model: found SHA-256 ", &wrong]);
    fs::remove_file(vocabulary).unwrap();

    // The cache's own layout: the name of the blob.
    let cache = Dir::new();
    let (snapshot, blobs) = (cache.join("snapshots/main"), cache.join("blobs"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    fs::remove_dir_all(model.join(".cache")).unwrap();
    copy_files(model.path(), &snapshot);
    fs::rename(snapshot.join(WEIGHTS), blobs.join(&wrong)).unwrap();
    // On Windows a snapshot has real files, of whose names nothing can be known.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(format!("../../blobs/{wrong}"), snapshot.join(WEIGHTS)).unwrap();
        refused(&snapshot, &["--verify"], &["found SHA-256 ", &wrong]);
    }
}

/// Minutes pass in which a large checkpoint is hashed: they count.
#[test]
fn the_hash_check_counts_in_the_progress() {
    struct Steps(Mutex<Vec<(String, u64, u64)>>);
    impl Watch for Steps {
        fn advanced(&self, step: &Step) {
            self.0.lock().expect("no panic").push((step.at.to_owned(), step.done, step.total));
        }
    }
    let model = Checkpoint::tiny().folder();
    let file = model.join("m.gguf");
    Cmd::new("convert").arg(model.path()).args(&["--quiet", "--output"]).arg(&file).succeed();
    let weigh = || {
        let steps = Steps(Mutex::default());
        Pair::open(model.path(), &file, None).expect("a pair").weights(&steps).expect("compared");
        steps.0.into_inner().expect("no panic")
    };
    let without = weigh();
    assert!(without.iter().all(|(at, ..)| at != WEIGHTS), "{without:?}");
    note_hash(&model, WEIGHTS);
    let with = weigh();
    let hashing: Vec<_> = with.iter().filter(|(at, ..)| at == WEIGHTS).collect();
    let end = hashing.last().map(|(_, done, total)| (*done, *total)).expect("it was hashed");
    assert!(0 < end.0 && end.0 < end.1, "{end:?}");
    assert_eq!(with.iter().map(|(_, done, _)| *done).max(), Some(end.1));
    assert_eq!(end.1 - end.0, without[0].2);
}

/// What Hugging Face's client notes of a file that it has downloaded.
fn note_hash(model: &Dir, name: &str) {
    let notes = model.join(".cache/huggingface/download");
    let hash = Sha256::digest(fs::read(model.join(name)).expect("read"));
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::create_dir_all(&notes).expect("a folder");
    fs::write(notes.join(format!("{name}.metadata")), format!("main\n{hash}\n1.5\n")).expect("written");
}
