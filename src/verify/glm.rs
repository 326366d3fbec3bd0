//! The model by its authors' own rules, from the checkpoint, in f32: projections as they are stored, the first
//! values of each head rotated, the feed-forward network as wide as it is.

use std::ops::Range;
use std::path::Path;

use ndarray::{Array2, ArrayView2, Axis, concatenate};

use super::evidence::Evidence;
use super::mapping::query_key_value;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::config::{GlmConfig, TensorNaming};
use crate::error::{Error, Result};
use crate::forward::{
    Activations, Decoder, Matrix, Past, add_bias, attention, embed, gated, linear, multiply, rms_norm,
    rotate_pairs, rows_of, vector,
};

/// The source model.
pub(super) struct Glm<'a> {
    config: &'a GlmConfig,
    checkpoint: &'a Checkpoint,
    /// What stands before every tensor's name.
    prefix: &'static str,
    /// How fast the pairs of a head turn, as far as they do.
    speeds: Vec<f64>,
    /// Every so many tokens are a text of their own.
    pub window: usize,
    /// Is told what each tensor of the checkpoint is about to be multiplied with.
    pub observe: &'a (dyn Fn(&str, &Activations) -> Result<()> + 'a),
}

impl<'a> Glm<'a> {
    pub(super) fn new(config: &'a GlmConfig, checkpoint: &'a Checkpoint, evidence: &Evidence) -> Glm<'a> {
        let prefixed = checkpoint.tensors().keys().any(|name| name.starts_with("transformer."));
        let d = config.head_dim;
        let speeds = (0..d / 2).map_while(|i| evidence.rotation_speed(i)).collect();
        let prefix = if prefixed { "transformer." } else { "" };
        Glm { config, checkpoint, prefix, speeds, window: usize::MAX, observe: &|_, _| Ok(()) }
    }

    /// The checkpoint's name of a tensor, by the authors' one.
    fn name(&self, authors: &str) -> String {
        match (self.config.naming, authors) {
            (TensorNaming::ChatGlm, _) => format!("{}{authors}", self.prefix),
            (TensorNaming::Glm, "embedding.word_embeddings.weight") => "model.embed_tokens.weight".to_owned(),
            (TensorNaming::Glm, "encoder.final_layernorm.weight") => "model.norm.weight".to_owned(),
            (TensorNaming::Glm, "output_layer.weight") => "lm_head.weight".to_owned(),
            (TensorNaming::Glm, block) => block
                .replace("encoder.layers.", "model.layers.")
                .replace("self_attention.dense.", "self_attn.o_proj.")
                .replace("self_attention.", "self_attn.")
                .replace("mlp.dense_h_to_4h.", "mlp.gate_up_proj.")
                .replace("mlp.dense_4h_to_h.", "mlp.down_proj."),
        }
    }

    /// A tensor that must be there, with so many rows and columns.
    fn tensor(&self, name: &str, rows: usize, columns: usize) -> Result<Weights<'a>> {
        let name = self.name(name);
        let tensor = self.checkpoint.tensors().get(&name).ok_or_else(|| {
            Error::mismatch(self.checkpoint.main_file(), &name, "no such tensor", "it in the checkpoint")
        })?;
        if (tensor.rows(), tensor.columns()) != (rows, columns) {
            let found = format!("shape {:?}", tensor.shape);
            return Err(Error::mismatch(
                self.checkpoint.path(tensor),
                name,
                found,
                format!("[{rows}, {columns}]"),
            ));
        }
        Ok(Weights { checkpoint: self.checkpoint, name, tensor })
    }

    /// A tensor of so many rows times the inputs.
    fn product(&self, name: &str, rows: usize, x: &Activations) -> Result<Activations> {
        let weights = self.tensor(name, rows, x.nrows())?;
        (self.observe)(&weights.name, x)?;
        linear(&weights, x)
    }

    fn output_layer(&self) -> Result<Weights<'a>> {
        let c = self.config;
        let name =
            if c.tie_word_embeddings { "embedding.word_embeddings.weight" } else { "output_layer.weight" };
        self.tensor(name, c.padded_vocab_size, c.hidden_size)
    }

    fn norm(&self, name: &str, x: &Activations) -> Result<Activations> {
        let weights = vector(&self.tensor(name, self.config.hidden_size, 1)?)?;
        Ok(rms_norm(x, &weights, self.config.layernorm_epsilon))
    }

    fn attend(&self, number: usize, x: &Activations, past: &mut Past) -> Result<Activations> {
        let c = self.config;
        let (n, g, d) = (c.num_attention_heads, c.num_kv_heads, c.head_dim);
        let name = |part: &str| format!("encoder.layers.{number}.self_attention.{part}");
        let projected = |part: &str, rows: usize| {
            let mut projected = self.product(&name(&format!("{part}.weight")), rows, x)?;
            if c.qkv_bias {
                add_bias(&mut projected, &vector(&self.tensor(&name(&format!("{part}.bias")), rows, 1)?)?);
            }
            Ok::<Activations, Error>(projected)
        };
        let (mut q, mut k, v) = match c.naming {
            TensorNaming::ChatGlm => self.take_apart(&projected("query_key_value", (n + 2 * g) * d)?),
            TensorNaming::Glm => {
                (projected("q_proj", n * d)?, projected("k_proj", g * d)?, projected("v_proj", g * d)?)
            }
        };
        let first = past.tokens(number);
        rotate_pairs(&mut q, d, &self.speeds, first, self.window);
        rotate_pairs(&mut k, d, &self.speeds, first, self.window);
        let (k, v) = past.extend(number, k, v);
        let mixed = attention(&q, k, v, (n, g), self.window);
        self.product(&name("dense.weight"), c.hidden_size, &mixed)
    }

    fn take_apart(&self, fused: &Activations) -> (Activations, Activations, Activations) {
        let part = |letter: char| {
            let rows = (0..fused.nrows()).filter(|&row| query_key_value(self.config, row).0 == letter);
            let views: Vec<ArrayView2<f32>> = rows.map(|row| rows_of(fused, row..row + 1)).collect();
            concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, fused.ncols())))
        };
        (part('q'), part('k'), part('v'))
    }

    fn feed_forward(&self, block: &str, x: &Activations) -> Result<Activations> {
        let f = self.config.ffn_hidden_size;
        let up = self.product(&format!("{block}.mlp.dense_h_to_4h.weight"), 2 * f, x)?;
        let mut gate = rows_of(&up, 0..f).to_owned();
        gated(&mut gate, rows_of(&up, f..2 * f));
        self.product(&format!("{block}.mlp.dense_4h_to_h.weight"), self.config.hidden_size, &gate)
    }
}

impl Decoder for Glm<'_> {
    fn layers(&self) -> usize {
        self.config.num_layers
    }

    fn vocabulary(&self) -> usize {
        self.config.padded_vocab_size
    }

    fn embed(&self, tokens: &[u32]) -> Result<Activations> {
        let h = self.config.hidden_size;
        let embedding = self.tensor("embedding.word_embeddings.weight", self.config.padded_vocab_size, h)?;
        embed(&embedding, tokens)
    }

    fn layer_after(&self, number: usize, mut x: Activations, past: &mut Past) -> Result<Activations> {
        let block = format!("encoder.layers.{number}");
        x += &self.attend(number, &self.norm(&format!("{block}.input_layernorm.weight"), &x)?, past)?;
        x += &self
            .feed_forward(&block, &self.norm(&format!("{block}.post_attention_layernorm.weight"), &x)?)?;
        Ok(x)
    }

    fn last_norm(&self, x: &Activations) -> Result<Activations> {
        let x = self.norm("encoder.final_layernorm.weight", x)?;
        (self.observe)(&self.output_layer()?.name, &x)?;
        Ok(x)
    }

    fn logits(&self, rows: Range<usize>, x: &Activations) -> Result<Activations> {
        multiply(&self.output_layer()?, rows, x)
    }
}

/// A tensor of the checkpoint.
struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    name: String,
    tensor: &'a Tensor,
}

impl Matrix for Weights<'_> {
    fn name(&self) -> (&Path, &str) {
        (self.checkpoint.path(self.tensor), &self.name)
    }

    fn rows(&self) -> usize {
        self.tensor.rows()
    }

    fn columns(&self) -> usize {
        self.tensor.columns()
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let mut raw = vec![0; rows.len() * self.tensor.row_bytes()];
        self.checkpoint.read_rows(self.tensor, rows.start, &mut raw)?;
        self.tensor.dtype.decode(&raw, out);
        Ok(())
    }
}
