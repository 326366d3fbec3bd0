//! Every type is, tensor for tensor and byte for byte, what llama.cpp's own tool makes of our F32 file.

use std::fs;
use std::path::Path;

use crate::support::command::convert;
use crate::support::gguf::Gguf;
use crate::support::{Checkpoint, Dir};
use llama_runtime::{Quantize, Runtime, require_runtime};

/// The names of `--type` and llama.cpp's number of the mix.
pub const TYPES: [(&str, u32); 19] = [
    ("F32", 0),
    ("F16", 1),
    ("BF16", 32),
    ("Q8_0", 7),
    ("Q6_K", 18),
    ("Q5_K_M", 17),
    ("Q5_K_S", 16),
    ("Q5_0", 8),
    ("Q5_1", 9),
    ("Q4_K_M", 15),
    ("Q4_K_S", 14),
    ("Q4_0", 2),
    ("Q4_1", 3),
    ("Q3_K_L", 13),
    ("Q3_K_M", 12),
    ("Q3_K_S", 11),
    ("Q2_K", 10),
    ("IQ4_NL", 25),
    ("IQ4_XS", 30),
];

/// Other names of a mix.
const ALIASES: [(&str, &str); 3] = [("Q5_K", "Q5_K_M"), ("q4_k", "Q4_K_M"), ("Q3_K", "Q3_K_M")];

/// Converts to every type with one reading, and compares each file with what llama.cpp makes of the F32 one.
fn check(runtime: Runtime, model: &Path, padding: &str) {
    let folder = Dir::new();
    let others: Vec<&str> = TYPES[1..].iter().flat_map(|(name, _)| ["--type", name]).collect();
    convert(model, "F32", &folder.join("{type}.gguf"), &[&others[..], &["--ffn-pad", padding]].concat());
    let f32_file = folder.join("F32.gguf");
    for (name, file_type) in TYPES {
        let theirs = folder.join("llama.gguf");
        let how = Quantize { threads: 2, ..Quantize::to(file_type) };
        runtime.quantize_model(&f32_file, &theirs, &how).expect("llama.cpp quantizes");
        let (ours, theirs) = (Gguf::read(&folder.join(format!("{name}.gguf"))), Gguf::read(&theirs));
        assert_eq!(ours.model_meta(), theirs.model_meta(), "{name}");
        let names = |gguf: &Gguf| gguf.tensors.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs), "{name}");
        for (tensor, our) in &ours.tensors {
            let their = &theirs.tensors[tensor];
            assert_eq!((our.ggml_type, &our.shape), (their.ggml_type, &their.shape), "{name} {tensor}");
            assert!(our.bytes == their.bytes, "{name} (padding {padding}): {tensor} differs");
        }
    }
}

#[test]
fn every_type_has_llama_cpps_bytes() {
    let runtime = require_runtime!();
    // The mixes differ by eighths and sixteenths of the layers, and by the heads that share a key.
    let model = Checkpoint { layers: 17, vocab: 960, ..Checkpoint::tiny() }.folder();
    for padding in ["on", "off"] {
        check(runtime, model.path(), padding);
    }
}

#[test]
fn a_key_head_for_every_two_queries_has_llama_cpps_bytes() {
    let runtime = require_runtime!();
    let model = Checkpoint { kv_heads: 4, ..Checkpoint::tiny() }.folder();
    check(runtime, model.path(), "on");
}

#[test]
fn the_short_names_mean_the_medium_mixes() {
    let model = Checkpoint::tiny().folder();
    let folder = Dir::new();
    for (alias, name) in ALIASES {
        let files = [alias, name].map(|name| {
            let file = folder.join(format!("{name}.gguf"));
            convert(model.path(), name, &file, &[]);
            fs::read(file).expect("a readable file")
        });
        assert!(files[0] == files[1], "{alias}");
    }
}

/// The options of the test crate do what they say, so that tests of importance weights can rely on it.
#[test]
fn llama_cpps_tool_takes_its_options() {
    const Q4_K: u32 = 12;
    const TENSOR: &str = "blk.0.ffn_gate.weight";
    let runtime = require_runtime!();
    let model = Checkpoint::tiny().folder();
    let f32_file = model.join("f32.gguf");
    convert(model.path(), "F32", &f32_file, &["--ffn-pad", "on"]);
    let weights: Vec<f32> = (0..256).map(|column| (column % 7) as f32 + 0.5).collect();
    let importance = [(TENSOR, &weights[..])];
    let how = Quantize { pure: true, importance: &importance, ..Quantize::to(15) };
    let quantized = model.join("quantized.gguf");
    runtime.quantize_model(&f32_file, &quantized, &how).expect("llama.cpp quantizes");

    let (before, after) = (Gguf::read(&f32_file), Gguf::read(&quantized));
    let matrices = |gguf: &Gguf| gguf.tensors.values().filter(|t| t.shape.len() == 2).count();
    let in_q4_k = after.tensors.values().filter(|tensor| tensor.ggml_type == Q4_K).count();
    assert_eq!(in_q4_k, matrices(&before), "pure: one format for all");
    let rows = runtime.dequantize(0, &before.tensors[TENSOR].bytes);
    let expected = runtime.quantize_chunk(Q4_K, 256, &rows, Some(&weights));
    assert!(after.tensors[TENSOR].bytes == expected, "the weights were taken");
    assert!(expected != runtime.quantize_chunk(Q4_K, 256, &rows, None), "and they matter");
}
