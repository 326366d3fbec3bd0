//! Where a GGUF comes from: its keys, the receipt, and that neither tells of folders or threads.

mod support;

use std::fs;
use std::path::Path;

use glm2llama::gguf::{GgufFile, Value};
use glm2llama::receipt::Receipt;
use sha2::{Digest, Sha256};
use support::command::convert;
use support::{Checkpoint, Cmd, Dir, tiny_tokenizer};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(file: &Path) -> String {
    hex(&Sha256::digest(fs::read(file).expect("read")))
}

/// As docs/receipt.md defines it.
fn sha256_of_64k_blocks(file: &Path) -> String {
    let bytes = fs::read(file).expect("read");
    let blocks: Vec<u8> = bytes.chunks(64 << 10).flat_map(|block| Sha256::digest(block).to_vec()).collect();
    hex(&Sha256::digest(blocks))
}

fn sharded() -> Dir {
    let model = Dir::new();
    let shape = Checkpoint { shard_bytes: Some(500_000), ..Checkpoint::tiny() };
    shape.write(model.path(), &tiny_tokenizer()).expect("written");
    model
}

#[test]
fn a_gguf_says_what_made_it() {
    let (model, out) = (sharded(), Dir::new());
    let file = out.join("m.gguf");
    convert(model.path(), "Q4_K_M", &file, &["--pure", "--ffn-pad", "on", "--threads", "2"]);
    let keys = GgufFile::open(&file).unwrap().metadata;
    let text = |key: &str| match keys.get(key) {
        Some(Value::String(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!(text("glm2llama.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(text("glm2llama.options"), "--type Q4_K_M --ffn-pad on --pure");
    assert_eq!(text("glm2llama.sha256.config"), sha256(&model.join("config.json")));
    assert_eq!(text("glm2llama.sha256.tokenizer"), sha256(&model.join("tokenizer.model")));
}

#[test]
fn a_receipt_has_the_hash_of_every_file() {
    let (model, out) = (sharded(), Dir::new());
    let (file, receipt) = (out.join("m.gguf"), out.join("receipt.json"));
    let arguments = ["--receipt", receipt.to_str().unwrap(), "--buffer-memory", "1"];
    convert(model.path(), "Q8_0", &file, &arguments);
    let plain = out.join("plain.gguf");
    convert(model.path(), "Q8_0", &plain, &[]);
    assert!(fs::read(&file).unwrap() == fs::read(&plain).unwrap(), "a receipt changes the bytes");

    let found = Receipt::load(&receipt).unwrap();
    let mut shards = 0;
    for source in &found.sources {
        let path = model.join(&source.file);
        assert_eq!(source.bytes, path.metadata().unwrap().len(), "{}", source.file);
        match &source.sha256_of_64k_blocks {
            Some(hash) => assert_eq!(*hash, sha256_of_64k_blocks(&path), "{}", source.file),
            None => assert_eq!(source.sha256, Some(sha256(&path)), "{}", source.file),
        }
        shards += usize::from(source.file.ends_with(".safetensors"));
    }
    assert!(shards >= 4 && found.sources.len() == shards + 2, "{found:?}");
    assert_eq!(found.outputs.len(), 1);
    assert_eq!(found.outputs[0].sha256, Some(sha256(&file)));
    assert_eq!(found.check(model.path(), &[&file, &plain]).unwrap(), [""; 0]);
}

#[test]
fn verify_holds_both_against_the_receipt() {
    let (model, out) = (sharded(), Dir::new());
    let (file, receipt) = (out.join("m.gguf"), out.join("receipt.json"));
    convert(model.path(), "F16", &file, &["--receipt", receipt.to_str().unwrap()]);
    let verify = || {
        let run = Cmd::new("verify").arg(model.path()).arg(&file).arg("--weights-only");
        run.arg("--receipt").arg(&receipt)
    };
    verify().succeed();
    // A change that means nothing, which only a hash shows.
    let config = model.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("4.30.2", "4.30.3")).unwrap();
    let run = verify().exit_with(1);
    assert!(run.stdout.contains("receipt"), "{}", run.stdout);
    fs::write(&config, text + " ").unwrap();
    let run = verify().exit_with(1);
    assert!(run.stdout.contains("receipt"), "{}", run.stdout);
}
