//! What cannot be converted is refused before a weight is read: one line, exit code 2, nothing written.

use std::fs;
use std::path::Path;

use crate::support::{Checkpoint, Cmd, Dir, tiny_tokenizer};
use serde_json::{Value, json};

/// A good checkpoint, changed by `damage`, is refused with a line that holds each of `expected`.
#[track_caller]
fn refused(damage: impl Fn(&Path), expected: &[&str]) {
    refused_with(Checkpoint::tiny(), damage, &[], expected);
}

#[track_caller]
fn refused_with(checkpoint: Checkpoint, damage: impl Fn(&Path), arguments: &[&str], expected: &[&str]) {
    let (model, out) = (checkpoint.folder(), Dir::new());
    damage(model.path());
    let run = Cmd::new("convert").arg(model.path()).args(arguments).current_dir(out.path()).exit_with(2);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(run.stderr.starts_with("glm2llama: "), "{}", run.stderr);
    for part in expected {
        assert!(run.stderr.contains(part), "{}\nwithout: {part}", run.stderr);
    }
    assert_eq!(out.names(), [""; 0], "left behind");
}

fn edit_json(file: &Path, edit: impl Fn(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(file).expect("read")).expect("JSON");
    edit(&mut value);
    fs::write(file, value.to_string()).expect("written");
}

/// Rewrites the header of a safetensors file, padded with spaces to the length that it had.
fn edit_header(file: &Path, edit: impl Fn(String) -> String) {
    let mut bytes = fs::read(file).expect("read");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let header = edit(String::from_utf8(bytes[8..8 + length].to_vec()).expect("UTF-8"));
    let padded = format!("{:length$}", header.trim_end());
    assert_eq!(padded.len(), length, "the edit must not lengthen the header");
    bytes[8..8 + length].copy_from_slice(padded.as_bytes());
    fs::write(file, bytes).expect("written");
}

const WEIGHTS: &str = "model.safetensors";
const QKV: &str = "transformer.encoder.layers.1.self_attention.query_key_value.weight";

#[test]
fn folders_without_a_chatglm_checkpoint() {
    refused(|m| fs::remove_file(m.join("config.json")).unwrap(), &["config.json: not found"]);
    refused(|m| fs::write(m.join("config.json"), "{").unwrap(), &["config.json: is not valid JSON"]);
    refused(|m| fs::remove_file(m.join(WEIGHTS)).unwrap(), &["found no weights", WEIGHTS]);
    refused(|m| fs::remove_file(m.join("tokenizer.model")).unwrap(), &["tokenizer.model"]);
    refused(|m| fs::remove_dir_all(m).unwrap(), &["no such folder"]);
}

#[test]
fn fields_that_llama_cannot_express() {
    let cases = [
        ("model_type", json!("llama"), "\"chatglm\""),
        ("add_bias_linear", json!(true), "bias"),
        ("rmsnorm", json!(false), "RMS"),
        ("post_layer_norm", json!(false), "final norm"),
        ("apply_residual_connection_post_layernorm", json!(true), "residual"),
        ("pre_seq_len", json!(128), "P-Tuning"),
        ("quantization_bit", json!(4), "original"),
        ("num_layers", json!("two"), "whole number"),
    ];
    for (key, value, reason) in cases {
        let damage = |m: &Path| edit_json(&m.join("config.json"), |config| config[key] = value.clone());
        refused(damage, &["config.json", key, "found", "expected", reason]);
    }
}

#[test]
fn tensors_that_do_not_fit_the_config() {
    let edit =
        |m: &Path, from: &str, to: &str| edit_header(&m.join(WEIGHTS), |header| header.replace(from, to));
    refused(|m| edit(m, QKV, "another"), &[QKV, "no such tensor"]);
    let layers =
        |n: u64| move |m: &Path| edit_json(&m.join("config.json"), |config| config["num_layers"] = n.into());
    refused(layers(3), &["transformer.encoder.layers.2.input_layernorm.weight", "no such tensor"]);
    refused(layers(1), &["layers.1.", "unknown tensor"]);
    let hidden =
        |m: &Path| edit_json(&m.join("config.json"), |config| config["ffn_hidden_size"] = 161.into());
    refused(hidden, &["dense_h_to_4h.weight", "found shape [320, 256]", "expected [322, 256]"]);
    refused(|m| edit(m, "F16", "I16"), &["I16 values", "F16, BF16 or F32"]);
    refused(
        |m| edit(m, "rotary_pos_emb.inv_freq", "prefix_encoder.weight"),
        &["prefix_encoder.weight: found a trained prefix (P-Tuning v2)", "the Llama layout has no place for"],
    );
    // The second layer's tensor, named like the first's.
    refused(|m| edit(m, QKV, &QKV.replace('1', "0")), &["stands in it twice"]);
}

#[test]
fn shards_that_are_not_whole() {
    let sharded = || Checkpoint { shard_bytes: Some(1_300_000), ..Checkpoint::tiny() };
    let (first, index) = ("model-00001-of-00002.safetensors", "model.safetensors.index.json");
    refused_with(
        sharded(),
        |m| fs::remove_file(m.join(first)).unwrap(),
        &[],
        &[index, first, "no such file"],
    );
    let cut = |m: &Path| {
        let file = fs::File::options().write(true).open(m.join(first)).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    };
    refused_with(sharded(), cut, &[], &[first, "is the download complete?"]);
    let outside =
        |m: &Path| edit_json(&m.join(index), |index| index["weight_map"][QKV] = "../x.safetensors".into());
    refused_with(sharded(), outside, &[], &[index, QKV, "`../x.safetensors`", "same folder"]);
    let unlisted = |m: &Path| {
        edit_json(&m.join(index), |index| {
            index["weight_map"].as_object_mut().unwrap().remove(QKV);
        });
    };
    refused_with(sharded(), unlisted, &[], &[QKV, "not in the index", "download it again"]);
    let second = "model-00002-of-00002.safetensors";
    let elsewhere = |m: &Path| edit_json(&m.join(index), |index| index["weight_map"][QKV] = second.into());
    let line = format!("{index}: {QKV}: found it listed in {second}, expected {first}, which holds it\n");
    refused_with(sharded(), elsewhere, &[], &[&line]);
    let listed = |m: &Path| edit_json(&m.join(index), |index| index["weight_map"]["more"] = first.into());
    refused_with(sharded(), listed, &[], &[index, "more", "no such tensor"]);
}

#[test]
fn tokenizers_that_are_broken() {
    let write = |bytes: &'static [u8]| move |m: &Path| fs::write(m.join("tokenizer.model"), bytes).unwrap();
    refused(write(b""), &["tokenizer.model"]);
    refused(write(b"\xff\xff\xff\xff\xff\xff\xff\xff"), &["tokenizer.model"]);
    refused(write(b"version https://git-lfs.github.com/spec/v1\n"), &["tokenizer.model"]);
    let vocab = Checkpoint { vocab: 512, ..Checkpoint::tiny() };
    refused_with(
        vocab,
        |_| (),
        &[],
        &["tokenizer.model: found 900 tokens, expected at most 512 by config.json"],
    );
}

#[test]
fn weights_that_are_not_finite_are_named_with_their_row() {
    let damage = |value: [u8; 2]| {
        move |m: &Path| {
            let file = m.join(WEIGHTS);
            let mut bytes = fs::read(&file).unwrap();
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let json: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
            let start = json[QKV]["data_offsets"][0].as_u64().unwrap() as usize;
            let at = 8 + header + start + 2 * (300 * 256 + 17); // row 300 is a key's
            bytes[at..at + 2].copy_from_slice(&value);
            fs::write(file, bytes).unwrap();
        }
    };
    let row = format!("{QKV} row 300: found ");
    for kind in ["Q4_K_M", "F16", "F32"] {
        let arguments = ["--type", kind, "--quiet"];
        refused_with(Checkpoint::tiny(), damage([0x00, 0x7c]), &arguments, &[WEIGHTS, &row, "inf"]);
        refused_with(Checkpoint::tiny(), damage([0x01, 0xfe]), &arguments, &[WEIGHTS, &row, "NaN"]);
    }
    let huge = Checkpoint { dtype: safetensors::Dtype::BF16, ..Checkpoint::tiny() };
    let arguments = ["--type", "F16", "--quiet"];
    refused_with(huge, damage([0x80, 0x7b]), &arguments, &[WEIGHTS, &row, "fit F16: choose another type"]);
}

#[test]
fn requests_that_cannot_be() {
    let ok = |_: &Path| ();
    let tiny = Checkpoint::tiny;
    refused_with(
        tiny(),
        ok,
        &["--type", "Q4_K_XL"],
        &["invalid value 'Q4_K_XL' for '--type <NAME>'", "F32, F16", "IQ4_XS"],
    );
    refused_with(tiny(), ok, &["--output", "/usr"], &["/usr: found a folder"]);
    refused_with(
        tiny(),
        ok,
        &["--output", "no/such/folder.gguf"],
        &["no/such: does not exist: make this folder, or write elsewhere"],
    );
    let twice = ["--type", "F16", "--type", "Q8_0", "--output", "one.gguf"];
    refused_with(tiny(), ok, &twice, &["one.gguf: would be written twice", "{type}"]);
    refused_with(
        tiny(),
        ok,
        &["--backend", "mmx"],
        &["invalid value 'mmx' for '--backend <NAME>'", "avx512"],
    );
    refused_with(tiny(), ok, &["--imatrix", "none.dat"], &["none.dat"]);
}

#[test]
fn an_existing_output_is_kept_unless_forced() {
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let file = out.join("m.gguf");
    let run = || Cmd::new("convert").arg(model.path()).arg("--quiet").arg("--output").arg(&file);
    fs::write(&file, "precious").unwrap();
    let refused = run().exit_with(2);
    assert!(
        refused.stderr.contains("m.gguf: exists already: choose another name, or give --force"),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    run().arg("--force").succeed();
    assert!(fs::read(&file).unwrap().starts_with(b"GGUF"));
    assert_eq!(out.names(), ["m.Modelfile", "m.gguf"]);
}

/// `convert` of a tiny model with these arguments, run in its parent folder, says this line and changes nothing.
#[track_caller]
fn refused_beside(arguments: &[&str], expected: &str) {
    let dir = Dir::new();
    Checkpoint::tiny().write(&dir.join("m3"), &tiny_tokenizer()).expect("written");
    fs::write(dir.join("md.json"), r#"{"general.author": "me"}"#).unwrap();
    fs::write(dir.join("my.jinja"), "{{ messages }}").unwrap();
    let state = || -> Vec<_> {
        let files = [dir.path().to_owned(), dir.join("m3")]
            .into_iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        let mut files: Vec<_> = files.map(|file| (fs::read(&file).ok(), file)).collect();
        files.sort_by(|a, b| a.1.cmp(&b.1));
        files
    };
    let before = state();
    let run = Cmd::new("convert").arg("m3").args(arguments).current_dir(dir.path()).exit_with(2);
    assert_eq!(run.stderr, format!("glm2llama: {expected}\n"), "{arguments:?}");
    assert!(state() == before, "{arguments:?} changed something");
}

#[test]
fn what_a_conversion_reads_is_not_replaced_even_with_force() {
    let read = |name: &str| {
        format!(
            "{name}: found a file that this run reads, expected another name: --force does not replace it"
        )
    };
    for name in ["m3/model.safetensors", "m3/tokenizer.model", "m3/config.json", "./m3/../m3/config.json"] {
        refused_beside(&["-f", "-o", name], &read(name));
        refused_beside(&["-f", "-o", "a.gguf", "--receipt", name], &read(name));
    }
    let given = [("--metadata", "md.json"), ("--chat-template", "my.jinja")];
    for (option, name) in given {
        refused_beside(&["-f", option, name, "-o", name], &read(name));
        refused_beside(&["-f", option, name, "--receipt", name], &read(name));
    }
}

#[test]
fn names_that_no_file_can_have() {
    let folder = |name: &str| format!("{name}: found a folder, expected the name of the file to write");
    for name in [".", "..", "/", "m3"] {
        refused_beside(&["-f", "-o", name], &folder(name));
        refused_beside(&["-f", "-o", "a.gguf", "--receipt", name], &folder(name));
    }
    for name in ["newdir/", "newdir/."] {
        let expected = format!("{name}: found the name of a folder, expected that of a file");
        refused_beside(&["-o", name], &expected);
        refused_beside(&["-o", "a.gguf", "--receipt", name], &expected);
    }
    let long = |name: &str| format!("{name}: found a name of {} bytes, expected at most 255", name.len());
    let (name, stem) = (format!("{}.gguf", "x".repeat(250)), "x".repeat(246));
    refused_beside(&["-o", &format!("{name}f")], &long(&format!("{name}f")));
    refused_beside(&["-o", &format!("{stem}.gguf")], &long(&format!("{stem}.Modelfile")));
    refused_beside(
        &["-o", "a.gguf", "--receipt", &name.replace("gguf", "jsonl")],
        &long(&name.replace("gguf", "jsonl")),
    );
    let first = format!("{stem}-00001-of-00003.gguf");
    refused_beside(&["-o", &format!("{stem}.gguf"), "--split-max-size", "300K"], &long(&first));
}

#[cfg(unix)] // Windows has neither
#[test]
fn devices_and_pipes_are_not_replaced() {
    refused_beside(
        &["-f", "-o", "/dev/null"],
        "/dev/null: found no regular file, expected a file or nothing there",
    );
    let dir = Dir::new();
    let pipe = dir.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if made.is_ok_and(|status| status.success()) {
        let pipe = pipe.to_str().unwrap();
        let expected = format!("{pipe}: found no regular file, expected a file or nothing there");
        refused_beside(&["-f", "-o", pipe], &expected);
        refused_beside(&["-f", "-o", "a.gguf", "--receipt", pipe], &expected);
    }
}

#[test]
fn two_files_of_one_name() {
    refused_beside(
        &["-o", "a.gguf", "--receipt", "a.gguf"],
        "a.gguf: would be written twice: give another --receipt",
    );
    refused_beside(
        &["-o", "a.gguf", "--receipt", "./a.Modelfile"],
        "./a.Modelfile: would be written twice: give another --receipt",
    );
    let modelfile = "a.Modelfile: would be written twice: give --no-modelfile or another --output";
    refused_beside(&["-t", "F16", "-t", "Q8_0", "-o", "a.{type}"], modelfile);
    refused_beside(&["-o", "a.Modelfile"], modelfile);
    refused_beside(&["-t", "F16", "-t", "f16", "-o", "a.{type}.gguf"], "--type F16: given twice");
}

#[cfg(unix)] // names are made of bytes there
#[test]
fn a_type_in_a_name_that_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let name = std::ffi::OsStr::from_bytes(b"m\xff.{type}.gguf");
    let run = Cmd::new("convert").arg(model.path()).arg("-o").arg(name).current_dir(out.path()).exit_with(2);
    let expected = ".{type}.gguf: found {type} in a name that is not UTF-8, expected UTF-8 around it\n";
    assert!(run.stderr.ends_with(expected), "{}", run.stderr);
    assert_eq!(out.names(), [""; 0]);
}

/// A disk too small for the output: a file system of its own, where the test may mount one.
#[test]
fn a_full_disk_is_found_before_the_work() {
    let (model, disk) = (Checkpoint::tiny().folder(), Dir::new());
    let mount = |arguments: &[&str]| {
        let status = std::process::Command::new("mount").args(arguments).arg(disk.path()).status();
        status.is_ok_and(|status| status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=256k", "tmpfs"]) {
        eprintln!("skipped: may not mount a small file system");
        return;
    }
    let run = Cmd::new("convert").arg(model.path()).arg("--output").arg(disk.join("m.gguf")).run();
    let left = disk.names();
    let _ = std::process::Command::new("umount").arg(disk.path()).status();
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    let reason = " kB of disk, 262.1 kB are free there: free some, or write elsewhere";
    assert!(run.stderr.contains("m.gguf: needs ") && run.stderr.contains(reason), "{}", run.stderr);
    assert_eq!(left, [""; 0]);
}
