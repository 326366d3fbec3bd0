//! A real llama.cpp computes the authors' logits from the converted file.

mod support;

use std::path::Path;

use llama_runtime::{Attention, Runtime, require_runtime};
use safetensors::Dtype;
use support::command::convert;
use support::{Checkpoint, Dir, forward, read_words, testdata, tiny_tokenizer};

/// Tokens and the logits after each of them.
struct Expected {
    tokens: Vec<i32>,
    logits: Vec<Vec<f32>>,
}

impl Expected {
    /// Of a checkpoint in testdata, by the authors' code.
    fn golden(model: &Path) -> Expected {
        let tokens = read_words(&model.join("expected_ids.i32"), i32::from_le_bytes);
        let logits = read_words(&model.join("expected_logits.f32"), f32::from_le_bytes);
        let rows = logits.chunks_exact(logits.len() / tokens.len());
        Expected { logits: rows.map(<[f32]>::to_vec).collect(), tokens }
    }

    /// Of a made-up checkpoint, by the tests' own forward pass.
    fn computed(model: &Path) -> Expected {
        let tokens: Vec<i32> = (0..64).map(|i| (i * 397 + 11) % 1024).collect();
        Expected { logits: forward::Model::read(model).logits(&tokens), tokens }
    }
}

/// How far logits are from the expected ones.
#[derive(Debug)]
struct Difference {
    /// The largest, in units of a logit.
    worst: f32,
    /// Root mean square, in units of the expected logits' own.
    relative: f32,
    /// Share of the positions where another token comes out on top.
    other_top: f32,
}

fn difference(runtime: Runtime, gguf: &Path, attention: Attention, expected: &Expected) -> Difference {
    let model = runtime.load(gguf).expect("llama.cpp loads it");
    let logits = model.logits(&expected.tokens, attention).expect("llama.cpp runs it");
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
    let top = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(id, _)| id);
    let pairs = || logits.iter().zip(&expected.logits);
    let errors = || pairs().flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| (a - b).abs());
    let others = pairs().filter(|(a, b)| a.len() != b.len() || top(a) != top(b)).count();
    assert!(errors().all(|error| error.is_finite()), "{}", gguf.display());
    Difference {
        worst: errors().fold(0.0, f32::max),
        relative: (squares(&mut errors()) / squares(&mut expected.logits.iter().flatten().copied())).sqrt(),
        other_top: others as f32 / logits.len() as f32,
    }
}

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
        let model = Dir::new();
        shape.write(model.path(), &tiny_tokenizer()).expect("written");
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
