//! Logits that a converted model should give, and how far llama.cpp's are from them.

use std::path::Path;

use llama_runtime::{Attention, Runtime};

use super::{forward, read_words};

/// Tokens and the logits after each of them.
pub struct Expected {
    pub tokens: Vec<i32>,
    pub logits: Vec<Vec<f32>>,
}

impl Expected {
    /// Of a checkpoint in testdata, by the authors' code.
    pub fn golden(model: &Path) -> Expected {
        let tokens = read_words(&model.join("expected_ids.i32"), i32::from_le_bytes);
        let logits = read_words(&model.join("expected_logits.f32"), f32::from_le_bytes);
        let rows = logits.chunks_exact(logits.len() / tokens.len());
        Expected { logits: rows.map(<[f32]>::to_vec).collect(), tokens }
    }

    /// Of a made-up checkpoint, by the tests' own forward pass.
    pub fn computed(model: &Path) -> Expected {
        let tokens: Vec<i32> = (0..64).map(|i| (i * 397 + 11) % 1024).collect();
        Expected { logits: forward::Model::read(model).logits(&tokens), tokens }
    }
}

/// How far logits are from the expected ones.
#[derive(Debug)]
pub struct Difference {
    /// The largest, in units of a logit.
    pub worst: f32,
    /// Root mean square, in units of the expected logits' own.
    pub relative: f32,
    /// Share of the positions where another token comes out on top.
    pub other_top: f32,
}

pub fn difference(runtime: Runtime, gguf: &Path, attention: Attention, expected: &Expected) -> Difference {
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
