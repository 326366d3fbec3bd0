//! Where a GGUF comes from: its keys, the receipt, and that neither tells of folders or threads.

use std::fs;
use std::path::Path;

use crate::support::command::convert;
use crate::support::{Checkpoint, Cmd, Dir};
use glm2llama::Watch;
use glm2llama::convert::Job;
use glm2llama::error::Error;
use glm2llama::gguf::{GgufFile, Value};
use glm2llama::model;
use glm2llama::pipeline::{DEFAULT_MEMORY_BYTES, Options};
use glm2llama::receipt::{Check, Receipt};
use glm2llama::request::Request;
use sha2::{Digest, Sha256};

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

fn check(receipt: &Receipt, folder: &Path, outputs: &[&Path]) -> Result<Check, Error> {
    receipt.check(folder, outputs, &())
}

fn sharded() -> Dir {
    Checkpoint { shard_bytes: Some(500_000), ..Checkpoint::tiny() }.folder()
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
    let run = Cmd::new("convert").arg(model.path()).args(&["--type", "Q8_0", "--buffer-memory", "1"]);
    run.arg("--receipt").arg(&receipt).arg("--output").arg(&file).succeed();
    let plain = out.join("plain.gguf");
    convert(model.path(), "Q8_0", &plain, &[]);
    assert!(fs::read(&file).unwrap() == fs::read(&plain).unwrap(), "a receipt changes the bytes");

    let found = Receipt::load(&receipt).unwrap();
    let mut shards = 0;
    for source in &found.model {
        let path = model.join(&source.file);
        assert_eq!(source.bytes, path.metadata().unwrap().len(), "{}", source.file);
        match &source.sha256_of_64k_blocks {
            Some(hash) => assert_eq!(*hash, sha256_of_64k_blocks(&path), "{}", source.file),
            None => assert_eq!(source.sha256, Some(sha256(&path)), "{}", source.file),
        }
        shards += usize::from(source.file.ends_with(".safetensors"));
    }
    let others = ["config.json", "tokenizer_config.json", "tokenizer.model", "model.safetensors.index.json"];
    assert!(shards >= 4 && found.model.len() == shards + others.len(), "{found:?}");
    assert!(others.iter().all(|name| found.model.iter().any(|entry| entry.file == *name)), "{found:?}");
    let outputs: Vec<_> = found.outputs.iter().map(|entry| (entry.file.as_str(), &entry.sha256)).collect();
    let modelfile = out.join("m.Modelfile");
    let expected = [("m.gguf", &Some(sha256(&file))), ("m.Modelfile", &Some(sha256(&modelfile)))];
    assert_eq!(outputs, expected);
    let check = check(&found, model.path(), &[&file, &plain]).unwrap();
    assert_eq!((check.same, check.differing), (found.model.len() + 2, vec![]));
}

#[test]
fn what_options_name_is_in_the_receipt_and_leaves_no_trace_in_the_keys() {
    let (model, out) = (sharded(), Dir::new());
    let template = out.join("my.jinja");
    fs::write(&template, "{{ messages[0]['content'] }}").expect("written");
    let (file, receipt) = (out.join("m.gguf"), out.join("receipt.json"));
    let options = ["--receipt", receipt.to_str().unwrap(), "--chat-template", template.to_str().unwrap()];
    convert(model.path(), "Q8_0", &file, &options);
    let found = Receipt::load(&receipt).unwrap();
    let given: Vec<_> = found.given.iter().map(|entry| (entry.file.as_str(), &entry.sha256)).collect();
    assert_eq!(given, [("my.jinja", &Some(sha256(&template)))]);
    assert_eq!(check(&found, model.path(), &[&file]).unwrap().differing, [""; 0]);
}

#[test]
fn verify_holds_both_against_the_receipt() {
    let (model, out) = (sharded(), Dir::new());
    let receipt = out.join("receipt.json");
    let options = ["--receipt", receipt.to_str().unwrap(), "--split-max-size", "500K"];
    convert(model.path(), "F16", &out.join("m.gguf"), &options);
    let outputs = Receipt::load(&receipt).unwrap().outputs;
    let parts: Vec<_> = outputs.iter().filter(|entry| entry.file.ends_with(".gguf")).collect();
    assert!(parts.len() > 2, "{outputs:?}");
    let first = out.join(&parts[0].file);
    let verify = || {
        let run = Cmd::new("verify").arg(model.path()).arg(&first).arg("--weights-only");
        run.arg("--receipt").arg(&receipt)
    };
    let run = verify().succeed();
    let shards = fs::read_dir(model.path()).unwrap().count();
    let line = format!("receipt: {} files have the hash that it names\n", shards + parts.len());
    assert!(run.stdout.contains(&line), "{}", run.stdout);

    // Changes that mean nothing, which only a hash shows: in the folder, then in the last part of the model.
    let config = model.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen(": ", ":  ", 1)).unwrap();
    let expected = format!(
        "receipt: config.json: {} bytes, and {} in the receipt\n",
        config.metadata().unwrap().len(),
        text.len()
    );
    let run = verify().exit_with(1);
    assert!(run.stdout.contains(&expected), "{}", run.stdout);
    fs::write(&config, text).unwrap();
    verify().succeed();

    let json = fs::read_to_string(&receipt).unwrap();
    let last = parts[parts.len() - 1];
    let hash = last.sha256.as_ref().unwrap();
    fs::write(&receipt, json.replace(hash.as_str(), &"0".repeat(64))).unwrap();
    let run = verify().exit_with(1);
    let expected = format!("receipt: {}: other bytes than the receipt's\n", last.file);
    assert!(run.stdout.contains(&expected), "{}", run.stdout);

    // A receipt is a stranger's file too.
    fs::write(&receipt, json.replace("\"config.json\"", "\"../config.json\"")).unwrap();
    let run = verify().exit_with(1);
    assert!(run.stdout.contains("receipt: ../config.json: not in the folder\n"), "{}", run.stdout);
    fs::write(&receipt, json.replace("\"given\"", "\"taken\"")).unwrap();
    let run = verify().exit_with(2);
    assert!(run.stderr.contains("receipt.json: is no receipt: unknown field `taken`"), "{}", run.stderr);
}

/// Without weights to convert all the time goes into hashing them.
#[test]
fn a_run_is_stopped_while_it_hashes() {
    struct Stopped;
    impl Watch for Stopped {
        fn stopped(&self) -> bool {
            true
        }
    }
    let (model, out) = (sharded(), Dir::new());
    let job = Job::prepare(&Request {
        model: model::ModelSource { folder: model.path().to_owned(), ..Default::default() },
        output: Some(out.join("m.gguf")),
        receipt: Some(out.join("receipt.json")),
        vocab_only: true,
        ..Default::default()
    });
    let job = job.expect("a good model");
    let options = Options {
        threads: 1.try_into().unwrap(),
        memory_bytes: DEFAULT_MEMORY_BYTES,
        backend: quant::Backend::detect(),
    };
    let stopped = job.fill(job.create_outputs().expect("created"), options, &Stopped).unwrap_err();
    assert!(matches!(stopped, Error::Interrupted), "{stopped}");
    assert_eq!(out.names(), [""; 0]);
}

#[test]
fn a_receipt_lists_what_is_read_and_nothing_may_be_left_out() {
    let (model, out) = (sharded(), Dir::new());
    for unused in ["tokenizer.json", "pytorch_model.bin.index.json"] {
        fs::write(model.join(unused), "{}").unwrap();
    }
    let (file, receipt) = (out.join("m.gguf"), out.join("receipt.json"));
    convert(model.path(), "F16", &file, &["--receipt", receipt.to_str().unwrap()]);
    let mut found = Receipt::load(&receipt).unwrap();
    assert!(
        !found.model.iter().any(|entry| entry.file == "tokenizer.json" || entry.file.starts_with("pytorch"))
    );
    // Written by others, in capitals.
    for entry in &mut found.model {
        entry.sha256 = entry.sha256.as_ref().map(|hash| hash.to_uppercase());
    }
    assert_eq!(check(&found, model.path(), &[&file]).unwrap().differing, [""; 0]);

    let entry = found.outputs[0].clone();
    found.outputs = vec![entry.clone(); 3000];
    found.outputs.iter_mut().for_each(|entry| entry.file = "other.gguf".to_owned());
    assert_eq!(check(&found, model.path(), &[&file]).unwrap().differing, [""; 0]);
    found.outputs.iter_mut().for_each(|entry| entry.sha256 = None);
    assert_eq!(
        check(&found, model.path(), &[&file]).unwrap().differing,
        ["m.gguf: the receipt has no such output"]
    );
    found.outputs = vec![entry];

    let all = std::mem::take(&mut found.model);
    let differing = check(&found, model.path(), &[&file]).unwrap().differing;
    assert_eq!(differing.len(), all.len());
    assert!(
        ["config.json: not in the receipt", "model-00001-of-00005.safetensors: not in the receipt"]
            .iter()
            .all(|line| differing.iter().any(|found| found == line)),
        "{differing:?}"
    );
    found.model.clone_from(&all);
    found.model[0].sha256 = None;
    let differing = check(&found, model.path(), &[&file]).unwrap().differing;
    assert_eq!(differing, ["config.json: no hash in the receipt"]);

    found.model.extend(vec![glm2llama::receipt::Entry { file: "n".repeat(1000), ..all[0].clone() }; 50]);
    let differing = check(&found, model.path(), &[&file]).unwrap().differing;
    assert_eq!((differing.len(), differing[20].as_str()), (21, "and 31 more"));
    assert_eq!(differing[1], format!("{}...: not in the folder", "n".repeat(160)));
}

#[test]
fn what_is_no_hash_is_refused() {
    let folder = Dir::new();
    let file = folder.join("receipt.json");
    let hash = |hash: &str| format!(r#"{{"file": "m.gguf", "bytes": 1, "sha256": "{hash}"}}"#);
    for (bad, found) in [("", "\"\""), ("xyz", "\"xyz\"")] {
        let text = format!(r#"{{"glm2llama": "1", "model": [], "given": [], "outputs": [{}]}}"#, hash(bad));
        fs::write(&file, text).unwrap();
        let error = Receipt::load(&file).unwrap_err().to_string();
        let expected =
            format!("receipt.json: outputs[0].sha256: found {found}, expected 64 hexadecimal digits");
        assert!(error.ends_with(&expected), "{error}");
    }
}

/// Also what only a hash stands for in the file.
#[test]
fn a_small_file_that_changes_meanwhile_ends_the_run() {
    let (model, out) = (sharded(), Dir::new());
    let request = Request {
        model: model::ModelSource { folder: model.path().to_owned(), ..Default::default() },
        types: vec!["F16".parse().unwrap()],
        output: Some(out.join("m.gguf")),
        ..Default::default()
    };
    let job = Job::prepare(&request).unwrap();
    drop(job.create_outputs().unwrap());
    fs::write(model.join("tokenizer_config.json"), "{}").unwrap();
    let error = job.create_outputs().unwrap_err().to_string();
    let expected = "tokenizer_config.json: found it was changed while it was read, expected the file as it was at \
                    the start: run again";
    assert!(error.ends_with(expected), "{error}");
}
