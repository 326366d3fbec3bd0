//! Sizes that disagree: between the checkpoint and its config, between the layers of a file, and padding where none
//! may be.

use std::fs;
use std::path::Path;

use glm2llama::verify::{Finding, Pair, file_logits, source_logits};
use serde_json::{Value, json};

use super::tiny;
use crate::support::command::convert;
use crate::support::damage::Damaged;
use crate::support::{Checkpoint, Cmd, Dir};

/// Gives a tensor of the folder's one safetensors file another shape, with as many values.
fn reshape(model: &Path, name: &str, shape: &[usize]) {
    let file = model.join("model.safetensors");
    let bytes = fs::read(&file).expect("read");
    let (length, rest) = bytes.split_first_chunk::<8>().expect("a length");
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).expect("JSON");
    header[name]["shape"] = json!(shape);
    let header = header.to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat();
    fs::write(&file, bytes).expect("written");
}

fn findings(model: &Path, gguf: &Path) -> Vec<String> {
    let pair = Pair::open(model, gguf, None).expect("both can be read");
    let line = |finding: Finding| format!("{} {}", finding.subject, finding.problem);
    pair.weights(&()).expect("compared").findings.into_iter().map(line).collect()
}

#[test]
fn shapes_that_disagree_with_the_config_are_named_and_not_compared() {
    let (good, out) = (Checkpoint::tiny().folder(), Dir::new());
    let layer = |part: &str| format!("transformer.encoder.layers.1.{part}");
    // Wider than the file's, narrower, a matrix for a vector, a vector for a matrix.
    let cases: [(String, &[usize], &str); 6] = [
        ("transformer.embedding.word_embeddings.weight".into(), &[512, 512], "token_embd.weight"),
        ("transformer.output_layer.weight".into(), &[2048, 128], "output.weight"),
        (layer("self_attention.query_key_value.bias"), &[192, 2], "blk.1.attn_q.bias"),
        (layer("input_layernorm.weight"), &[1, 256], "blk.1.attn_norm.weight"),
        (layer("post_attention_layernorm.weight"), &[256, 1], "blk.1.ffn_norm.weight"),
        (layer("mlp.dense_4h_to_h.weight"), &[320, 128], "blk.1.ffn_down.weight"),
    ];
    for type_name in ["F16", "Q8_0"] {
        let gguf = out.join(type_name);
        convert(good.path(), type_name, &gguf, &["--ffn-pad", "on"]);
        for (name, shape, target) in &cases {
            let model = Checkpoint::tiny().folder();
            reshape(model.path(), name, shape);
            let found = findings(model.path(), &gguf);
            let expected = [
                format!("{name} has shape {shape:?}, which does not fit {target}"),
                format!("{target} is not filled by the checkpoint, each row once"),
            ];
            assert!(expected.iter().all(|line| found.contains(line)), "{expected:?}: {found:?}");
        }
    }
}

#[test]
fn rows_and_columns_beyond_the_config_are_no_padding() {
    let (good, wide, out) =
        (Checkpoint::tiny().folder(), Checkpoint { ffn: 192, ..Checkpoint::tiny() }.folder(), Dir::new());
    fs::copy(good.join("config.json"), wide.join("config.json")).expect("copied");
    for padding in ["on", "off"] {
        let gguf = out.join(padding);
        convert(good.path(), "Q8_0", &gguf, &["--ffn-pad", padding]);
        let found = findings(wide.path(), &gguf);
        let block = "transformer.encoder.layers.0.mlp";
        let down = format!(
            "{block}.dense_4h_to_h.weight has shape [256, 192], which does not fit blk.0.ffn_down.weight"
        );
        let up = match padding {
            "on" => "blk.0.ffn_up.weight is not filled by the checkpoint, each row once".to_owned(),
            _ => format!(
                "{block}.dense_h_to_4h.weight has shape [384, 256], which does not fit blk.0.ffn_up.weight"
            ),
        };
        assert!(found.contains(&down) && found.contains(&up), "{padding}: {found:?}");
    }
}

#[test]
fn padding_that_makes_no_number_of_zero_is_damage() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    for wild in [f32::NAN, f32::NEG_INFINITY, 1e38] {
        convert(&tiny(), "F32", &gguf, &["--ffn-pad", "on", "--force"]);
        let mut file = Damaged::read(&gguf);
        file.set_f32("blk.0.ffn_up.weight", 400 * 256, wild);
        file.write();
        let run = Cmd::new("verify").arg(tiny()).arg(&gguf).arg("--weights-only").exit_with(1);
        let line = "blk.0.ffn_up.weight has 1 weights of padding that are no numbers or over 65504";
        assert_eq!(findings(&tiny(), &gguf), [line], "{wild}");
        assert!(run.stdout.contains("failed: blk.0.ffn_up.weight"), "{}", run.stdout);
    }
}

#[test]
fn a_feed_forward_length_far_over_the_checkpoints_is_wrong() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(&tiny(), "F16", &gguf, &["--ffn-pad", "off"]);
    let mut file = Damaged::read(&gguf);
    file.set_value("llama.feed_forward_length", 10_000u32.to_le_bytes());
    file.write();
    let facts = Pair::open(&tiny(), &gguf, None).expect("opened").facts().expect("facts");
    let found: Vec<_> = facts.findings.iter().map(|f| (f.subject.as_str(), f.problem.as_str())).collect();
    assert_eq!(found, [("llama.feed_forward_length", "is 10000, expected 352 to 4448")]);
    assert_eq!(findings(&tiny(), &gguf), [""; 0]);
}

/// The memory that running it takes goes by the first layer, which is held against the checkpoint's.
#[test]
fn layers_have_one_width() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(&tiny(), "F16", &gguf, &["--ffn-pad", "off"]);
    let mut file = Damaged::read(&gguf);
    let name = b"blk.1.ffn_gate.weight";
    let head = file.bytes.windows(name.len()).position(|found| found == name).expect("there") + name.len();
    // Half the rows in F32: as many bytes.
    file.bytes[head + 12..head + 20].copy_from_slice(&176u64.to_le_bytes());
    file.bytes[head + 20..head + 24].copy_from_slice(&0u32.to_le_bytes());
    file.write();
    let error = file_logits(&gguf, &[1, 2], &()).expect_err("another width").to_string();
    assert!(error.ends_with("m.gguf: blk.1.ffn_gate.weight: found 176 rows, expected 352"), "{error}");
}

#[test]
fn tokens_beyond_the_vocabulary_are_refused_on_both_sides() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(&tiny(), "F16", &gguf, &[]);
    let errors = [
        (source_logits(&tiny(), &[1, 5000], &()), "transformer.embedding.word_embeddings.weight"),
        (file_logits(&gguf, &[1, 5000], &()), "token_embd.weight"),
    ];
    for (result, name) in errors {
        let error = result.expect_err("no such token").to_string();
        assert!(error.ends_with(&format!("{name}: found 1024 rows, expected one for token 5000")), "{error}");
    }
}
