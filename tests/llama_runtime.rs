//! A real llama.cpp computes the authors' logits from the converted file.

use std::path::Path;

use crate::support::command::convert;
use crate::support::logits::{Expected, difference};
use crate::support::{Checkpoint, Dir, testdata};
use llama_runtime::{Attention, Runtime, require_runtime};
use safetensors::Dtype;

/// Converts to F32, padded and not, and expects the logits both with F32 arithmetic and as users run it.
fn check_f32(runtime: Runtime, model: &Path, expected: &Expected) {
    let folder = Dir::new();
    for padding in ["on", "off"] {
        let gguf = folder.join(format!("{padding}.gguf"));
        convert(model, "F32", &gguf, &["--ffn-pad", padding]);
        // Measured: 4e-6. What is left is the order of sums.
        let exact = difference(runtime, &gguf, Attention::F32, expected);
        assert!(exact.worst < 1e-4 && exact.other_top == 0.0, "{} {padding}: {exact:?}", model.display());
        // Measured: 2e-3, all of it from keys and values rounded to F16.
        let usual = difference(runtime, &gguf, Attention::Default, expected);
        assert!(usual.worst < 0.01 && usual.other_top == 0.0, "{} {padding}: {usual:?}", model.display());
    }
}

#[test]
fn f32_gives_the_authors_logits() {
    let runtime = require_runtime!();
    for name in ["tiny-chatglm3", "tiny-chatglm3-32k"] {
        let model = testdata("models").join(name);
        check_f32(runtime, &model, &Expected::golden(&model));
    }
}

#[test]
fn f32_gives_the_logits_of_every_shape() {
    let runtime = require_runtime!();
    let tiny = Checkpoint::tiny;
    for shape in [
        tiny(),
        Checkpoint { dtype: Dtype::BF16, kv_heads: 4, qkv_bias: false, rope_ratio: Some(500.0), ..tiny() },
        Checkpoint { dtype: Dtype::F32, shard_bytes: Some(1_000_000), layers: 3, ..tiny() },
        Checkpoint { qkv_by_head: true, kv_heads: 8, ..tiny() },
        // Heads that do not fill the hidden size, and an odd width of the network.
        Checkpoint { heads: 6, kv_heads: 1, head_dim: 64, ffn: 100, ..tiny() },
    ] {
        let model = shape.folder();
        check_f32(runtime, model.path(), &Expected::computed(model.path()));
    }
}

/// Bounds are about twice what was measured: a random model has no redundancy, so a real one loses less.
#[test]
fn smaller_types_stay_near() {
    let runtime = require_runtime!();
    for name in ["tiny-chatglm3", "tiny-chatglm3-32k"] {
        let model = testdata("models").join(name);
        let expected = Expected::golden(&model);
        let folder = Dir::new();
        for (type_name, relative, other_top) in [
            ("F16", 0.001, 0.0),   // 0.0002; 0.0005 on processors that round activations to F16 too
            ("BF16", 0.013, 0.02), // 0.0063, none
            ("Q8_0", 0.045, 0.1),  // 0.022, 0.04
            ("Q6_K", 0.11, 0.25),  // 0.056, 0.14
            ("Q4_K_M", 0.35, 0.6), // 0.19, 0.33
        ] {
            for padding in ["on", "off"] {
                let gguf = folder.join(format!("{type_name}-{padding}.gguf"));
                convert(&model, type_name, &gguf, &["--ffn-pad", padding]);
                let found = difference(runtime, &gguf, Attention::Default, &expected);
                let near = found.relative < relative && found.other_top <= other_top;
                assert!(near, "{name} {type_name} {padding}: {found:?}");
            }
        }
    }
}
