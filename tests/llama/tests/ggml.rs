//! The loaded library is the one that the shared golden bytes were made with.

use std::fs;
use std::path::Path;

use llama_runtime::{require_runtime, shared};

/// Columns of a golden row.
const COLUMNS: usize = 1024;

fn floats(file: &Path) -> Vec<f32> {
    let bytes = fs::read(file).expect("a golden file");
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Calls `check(name, ggml type, weights, bytes)` for every golden file.
fn for_each_golden(folder: &Path, mut check: impl FnMut(&str, u32, Option<&[f32]>, &[u8])) {
    let manifest = fs::read(folder.join("manifest.json")).expect("the manifest");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    let types = manifest["types"].as_object().expect("a table of types");
    assert_eq!(types.len(), 24, "12 formats, with and without importance weights");
    let weights = floats(&folder.join("imatrix.f32"));
    for (name, entry) in types {
        let ggml_type = entry["ggml_type"].as_u64().expect("a number") as u32;
        let bytes = fs::read(folder.join(format!("{name}.bin"))).expect("a golden file");
        let weights = name.ends_with(".imatrix").then_some(&weights[..]);
        check(name, ggml_type, weights, &bytes);
    }
}

#[test]
fn the_parameter_structs_have_the_expected_defaults() {
    // The check is part of loading; a version that fails it panics here.
    assert_eq!(require_runtime!().version(), "0.5.0-dev");
}

#[test]
fn quantize_chunk_gives_the_golden_bytes() {
    let runtime = require_runtime!();
    let Some(folder) = shared("golden/ggml") else { return };
    let input = floats(&folder.join("input.f32"));
    for_each_golden(&folder, |name, ggml_type, weights, golden| {
        let bytes = runtime.quantize_chunk(ggml_type, COLUMNS, &input, weights);
        let row_bytes = runtime.row_bytes(ggml_type, COLUMNS);
        let differing: Vec<usize> = bytes
            .chunks(row_bytes)
            .zip(golden.chunks(row_bytes))
            .enumerate()
            .filter_map(|(row, (ours, golden))| (ours != golden).then_some(row))
            .collect();
        assert_eq!(bytes.len(), golden.len(), "{name}");
        assert!(differing.is_empty(), "{name}: rows {differing:?} differ");
    });
}

#[test]
fn dequantize_comes_back_to_the_weights() {
    let runtime = require_runtime!();
    let weights: Vec<f32> = (0..512).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    // Bits a weight bound the error; the plain types are exact up to their own rounding.
    for (ggml_type, tolerance) in [(0, 0.0), (1, 0.0005), (30, 0.004), (8, 0.005), (14, 0.04), (12, 0.1)] {
        let bytes = runtime.quantize_chunk(ggml_type, 256, &weights, None);
        let back = runtime.dequantize(ggml_type, &bytes);
        assert_eq!(back.len(), weights.len());
        for (a, b) in weights.iter().zip(&back) {
            assert!((a - b).abs() <= tolerance, "type {ggml_type}: {a} came back as {b}");
        }
    }
}

#[test]
fn a_failure_says_why() {
    let runtime = require_runtime!();
    let problem = runtime.load(Path::new("no/such/model.gguf")).err().expect("a refusal");
    assert!(problem.contains("no/such/model.gguf"), "{problem}");
}

#[test]
fn the_builtin_templates_are_guessed_from_the_text() {
    let runtime = require_runtime!();
    let chat = [("user", "hi"), ("assistant", "hello")];
    let prompt = runtime.builtin_template("[gMASK]sop<|user|>", &chat, true);
    assert!(prompt.is_some_and(|prompt| prompt.starts_with("[gMASK]")));
    assert_eq!(runtime.builtin_template("nothing that it knows", &chat, true), None);
}
