//! The mapping's tensors before they are written: read from the checkpoint, adapters merged, in f32.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::forward::{Activations, Matrix, Sizes, Tensors};
use crate::lora::Lora;
use crate::model::Model;
use crate::remap::{Source, Target};

/// Is told of the inputs of matrices.
pub(super) type Observer<'a> = dyn Fn(&[&str], &Activations) -> Result<()> + Sync + 'a;

/// All tensors of a model, and who watches them.
pub(super) struct Planned<'a> {
    model: &'a Model,
    by_name: BTreeMap<&'a str, &'a Target>,
    observer: &'a Observer<'a>,
}

impl<'a> Planned<'a> {
    pub(super) fn new(model: &'a Model, observer: &'a Observer<'a>) -> Planned<'a> {
        let by_name = model.plan.tensors.iter().map(|target| (target.name.as_str(), target)).collect();
        Planned { model, by_name, observer }
    }
}

/// The model's sizes, by its config, and its rotation in Llama's terms.
pub(super) fn sizes(model: &Model) -> Sizes {
    let (config, rope) = (&model.config, &model.rope);
    let speed = |(i, factor): (usize, &f32)| {
        f64::from(rope.freq_base).powf(-2.0 * i as f64 / config.head_dim as f64) / f64::from(*factor)
    };
    Sizes {
        layers: config.num_layers,
        hidden: config.hidden_size,
        heads: config.num_attention_heads,
        kv_heads: config.num_kv_heads,
        head_dim: config.head_dim,
        ffn: config.ffn_hidden_size,
        vocabulary: config.padded_vocab_size,
        epsilon: config.layernorm_epsilon,
        speeds: rope.factors.iter().enumerate().map(speed).collect(),
    }
}

impl Tensors for Planned<'_> {
    fn holds(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    fn matrix(&self, name: &str, rows: Option<usize>, columns: usize) -> Result<Box<dyn Matrix + '_>> {
        let model = self.model;
        let target =
            self.by_name.get(name).filter(|t| rows.is_none_or(|rows| rows == t.rows) && t.columns == columns);
        let target = target.ok_or_else(|| {
            Error::mismatch(
                model.checkpoint.main_file(),
                name,
                "another shape",
                format!("{rows:?} x {columns}"),
            )
        })?;
        Ok(Box::new(Merged { target, checkpoint: &model.checkpoint, lora: &model.lora }))
    }

    fn multiplied(&self, names: &[&str], x: &Activations) -> Result<()> {
        (self.observer)(names, x)
    }
}

/// One tensor.
struct Merged<'a> {
    target: &'a Target,
    checkpoint: &'a Checkpoint,
    lora: &'a Lora,
}

impl Matrix for Merged<'_> {
    fn name(&self) -> (&Path, &str) {
        (self.checkpoint.main_file(), &self.target.name)
    }

    fn rows(&self) -> usize {
        self.target.rows
    }

    fn columns(&self) -> usize {
        self.target.columns
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        if let Source::Values(values) = &self.target.source {
            out.copy_from_slice(&values[rows]);
            return Ok(());
        }
        let mut rest = out;
        let mut raw = Vec::new();
        for (span, rows) in self.target.parts(rows) {
            let part;
            (part, rest) = rest.split_at_mut(rows.len() * self.target.columns);
            raw.resize(rows.len() * span.stored.row_bytes(), 0);
            self.checkpoint.read_rows(&span.stored, rows.start, &mut raw)?;
            span.stored.dtype.decode(&raw, part);
            self.lora.add(&span.tensor, rows.start, part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::{Decoder, Llama};
    use crate::model::ModelSource;

    fn model(name: &str) -> Model {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/models").join(name);
        Model::open(&ModelSource { folder, ..ModelSource::default() }).unwrap()
    }

    /// What the mapping makes computes what the authors' rules do, which verify states on its own.
    #[test]
    fn the_planned_model_is_the_checkpoints() {
        let model = model("tiny-chatglm3");
        let nobody: &Observer = &|_, _| Ok(());
        let tokens: Vec<u32> = (0..40).map(|i| i * 7 % 900).collect();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/models/tiny-chatglm3");
        let watch = ();
        for window in [40, 16] {
            let llama = Llama { tensors: Planned::new(&model, nobody), sizes: sizes(&model), window };
            let mut x = llama.embed(&tokens).unwrap();
            for layer in 0..llama.layers() {
                x = llama.layer(layer, x).unwrap();
            }
            let logits = llama.logits(0..llama.vocabulary(), &llama.last_norm(&x).unwrap()).unwrap();
            for (start, text) in (0..).step_by(window).zip(tokens.chunks(window)) {
                let expected = crate::verify::source_logits(&folder, text, &watch).unwrap();
                for (i, expected) in expected.iter().enumerate() {
                    let (token, row) = (i / llama.vocabulary(), i % llama.vocabulary());
                    let found = logits[[row, start + token]];
                    assert!(
                        (found - expected).abs() < 1e-3,
                        "window {window}, token {token}: {found} {expected}"
                    );
                }
            }
        }
    }
}
