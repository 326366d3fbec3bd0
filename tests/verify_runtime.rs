//! `verify` runs a GGUF file as a real llama.cpp does.

use std::path::Path;

use crate::support::command::convert;
use crate::support::{Checkpoint, Dir, testdata, tiny_tokenizer};
use glm2llama::gguf::{FileLayout, GgufFile, Writer};
use glm2llama::sink::Sink;
use glm2llama::verify::file_logits;
use llama_runtime::{Attention, Runtime, require_runtime};
use quant::Format;

/// Root mean square of the difference as a part of llama.cpp's own logits: of `ours` by `verify`, and of
/// `theirs` by llama.cpp.
fn difference(runtime: Runtime, ours: &Path, theirs: &Path) -> f64 {
    let tokens: Vec<i32> = (0..64).map(|i| (i * 397 + 11) % 1024).collect();
    let model = runtime.load(theirs).expect("llama.cpp loads it");
    let theirs: Vec<f32> = model.logits(&tokens, Attention::F32).expect("it runs").concat();
    let tokens: Vec<u32> = tokens.iter().map(|&token| token as u32).collect();
    let ours = file_logits(ours, &tokens, &()).expect("we run it");
    assert_eq!(ours.len(), theirs.len());
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>();
    (squares(&mut ours.iter().zip(&theirs).map(|(a, b)| a - b)) / squares(&mut theirs.iter().copied())).sqrt()
}

/// The same model with every weight as the F32 that its block stands for.
fn dequantize(from: &Path, to: &Path) {
    let file = GgufFile::open(from).expect("a file");
    let shapes = file.tensors.iter().map(|tensor| {
        let shape = tensor.shape.iter().map(|&n| n as usize).collect();
        (tensor.name.clone(), shape, Format::F32)
    });
    let layout = FileLayout::new(file.metadata.clone().into_iter().collect(), shapes).expect("a layout");
    let mut writer = Writer::create(to, layout, true).expect("created");
    for (i, tensor) in file.tensors.iter().enumerate() {
        let mut blocks = vec![0; tensor.bytes as usize];
        file.read(tensor, 0, &mut blocks).expect("read");
        let mut weights = vec![0.0; tensor.weights() as usize];
        quant::dequantize(tensor.format().expect("a known format"), &blocks, &mut weights)
            .expect("whole blocks");
        let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        writer.write(i, &bytes).expect("written");
    }
    writer.finish().expect("published");
}

#[test]
fn the_file_side_computes_llama_cpps_logits() {
    let runtime = require_runtime!();
    let (folder, other) = (Dir::new(), Dir::new());
    let tiny = Checkpoint::tiny();
    let shape = Checkpoint { heads: 6, kv_heads: 1, head_dim: 64, ffn: 160, rope_ratio: Some(50.0), ..tiny };
    shape.write(other.path(), &tiny_tokenizer()).expect("written");
    let golden = ["tiny-chatglm3", "tiny-chatglm3-32k"].map(|name| testdata("models").join(name));
    for model in golden.into_iter().chain([other.path().to_owned()]) {
        for (type_name, rounded_activations) in [("F32", 2e-5), ("Q8_0", 0.03), ("Q4_K_M", 0.04)] {
            for padding in ["on", "off"] {
                let (gguf, plain) = (folder.join("m.gguf"), folder.join("plain.gguf"));
                convert(&model, type_name, &gguf, &["--force", "--ffn-pad", padding]);
                dequantize(&gguf, &plain);
                let exact = difference(runtime, &gguf, &plain);
                // llama.cpp rounds activations to 8 bits before it multiplies them with quantized weights.
                let usual = difference(runtime, &gguf, &gguf);
                let what = format!("{} {type_name} {padding}: {exact:.1e}, {usual:.1e}", model.display());
                eprintln!("{what}");
                // Measured: 8e-7, the order of sums; and 0.015 for both block types.
                assert!(exact < 2e-5 && usual < rounded_activations, "{what}");
            }
        }
    }
}
