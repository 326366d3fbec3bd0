//! A Llama model by llama.cpp's rules, whatever holds its tensors.

use std::ops::Range;

use super::decoder::Decoder;
use super::math::{
    Activations, Matrix, add_bias, attention, embed, gated, linear, multiply, rms_norm, rotate_pairs, vector,
};
use super::past::Past;
use crate::error::Result;

/// Where a Llama model's tensors are found by their GGUF names.
pub(crate) trait Tensors {
    /// Whether there is one of this name.
    fn holds(&self, name: &str) -> bool;

    /// The tensor of this name with so many rows, if that is known, and columns; a vector has one column.
    ///
    /// # Errors
    /// When there is none, or it has another shape.
    fn matrix(&self, name: &str, rows: Option<usize>, columns: usize) -> Result<Box<dyn Matrix + '_>>;

    /// Is told what matrices are about to be multiplied with; all names have the same inputs.
    ///
    /// # Errors
    /// To stop the run.
    fn multiplied(&self, _names: &[&str], _x: &Activations) -> Result<()> {
        Ok(())
    }
}

/// How large a model is, and how it turns its heads.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    /// Transformer blocks.
    pub layers: usize,
    /// Values of a token between blocks.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and of values.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub ffn: usize,
    /// Rows of the output layer.
    pub vocabulary: usize,
    /// Is added to the mean square in norms.
    pub epsilon: f32,
    /// How fast the pairs of a head turn, in radians a token.
    pub speeds: Vec<f64>,
}

/// A model that can be run.
pub(crate) struct Llama<T> {
    pub tensors: T,
    pub sizes: Sizes,
    /// Every so many tokens are a text of their own.
    pub window: usize,
}

impl<T: Tensors> Llama<T> {
    fn norm(&self, name: &str, x: &Activations) -> Result<Activations> {
        let weights = self.tensors.matrix(name, Some(self.sizes.hidden), 1)?;
        Ok(rms_norm(x, &vector(weights.as_ref())?, self.sizes.epsilon))
    }

    pub(super) fn linear(&self, name: &str, rows: usize, x: &Activations) -> Result<Activations> {
        linear(self.tensors.matrix(name, Some(rows), x.nrows())?.as_ref(), x)
    }

    /// One of the three projections, with its bias where the model has one.
    pub(super) fn project(
        &self,
        block: &str,
        letter: char,
        heads: usize,
        x: &Activations,
    ) -> Result<Activations> {
        let rows = heads * self.sizes.head_dim;
        let mut out = self.linear(&format!("{block}.attn_{letter}.weight"), rows, x)?;
        let bias = format!("{block}.attn_{letter}.bias");
        if self.tensors.holds(&bias) {
            add_bias(&mut out, &vector(self.tensors.matrix(&bias, Some(rows), 1)?.as_ref())?);
        }
        Ok(out)
    }

    fn attend(&self, number: usize, x: &Activations, past: &mut Past) -> Result<Activations> {
        let block = format!("blk.{number}");
        let Sizes { heads, kv_heads, head_dim, .. } = self.sizes;
        let names = ['q', 'k', 'v'].map(|letter| format!("{block}.attn_{letter}.weight"));
        self.tensors.multiplied(&names.each_ref().map(String::as_str), x)?;
        let mut q = self.project(&block, 'q', heads, x)?;
        let mut k = self.project(&block, 'k', kv_heads, x)?;
        let v = self.project(&block, 'v', kv_heads, x)?;
        let first = past.tokens(number);
        rotate_pairs(&mut q, head_dim, &self.sizes.speeds, first, self.window);
        rotate_pairs(&mut k, head_dim, &self.sizes.speeds, first, self.window);
        let (k, v) = past.extend(number, k, v);
        let mixed = attention(&q, k, v, (heads, kv_heads), self.window);
        let name = format!("{block}.attn_output.weight");
        self.tensors.multiplied(&[&name], &mixed)?;
        self.linear(&name, self.sizes.hidden, &mixed)
    }

    fn feed_forward(&self, block: &str, x: &Activations) -> Result<Activations> {
        let Sizes { hidden, ffn, .. } = self.sizes;
        let [gate, up, down] = ["gate", "up", "down"].map(|part| format!("{block}.ffn_{part}.weight"));
        self.tensors.multiplied(&[&gate, &up], x)?;
        let mut mixed = self.linear(&gate, ffn, x)?;
        gated(&mut mixed, self.linear(&up, ffn, x)?.view());
        self.tensors.multiplied(&[&down], &mixed)?;
        self.linear(&down, hidden, &mixed)
    }

    /// The name of the output layer: a model without one of its own has its embedding's.
    pub(crate) fn output_name(&self) -> &'static str {
        if self.tensors.holds("output.weight") { "output.weight" } else { "token_embd.weight" }
    }
}

impl<T: Tensors> Decoder for Llama<T> {
    fn layers(&self) -> usize {
        self.sizes.layers
    }

    fn vocabulary(&self) -> usize {
        self.sizes.vocabulary
    }

    fn embed(&self, tokens: &[u32]) -> Result<Activations> {
        embed(self.tensors.matrix("token_embd.weight", None, self.sizes.hidden)?.as_ref(), tokens)
    }

    fn layer_after(&self, number: usize, mut x: Activations, past: &mut Past) -> Result<Activations> {
        let block = format!("blk.{number}");
        x += &self.attend(number, &self.norm(&format!("{block}.attn_norm.weight"), &x)?, past)?;
        x += &self.feed_forward(&block, &self.norm(&format!("{block}.ffn_norm.weight"), &x)?)?;
        Ok(x)
    }

    fn last_norm(&self, x: &Activations) -> Result<Activations> {
        self.norm("output_norm.weight", x)
    }

    fn logits(&self, rows: Range<usize>, x: &Activations) -> Result<Activations> {
        let output = self.tensors.matrix(self.output_name(), None, self.sizes.hidden)?;
        multiply(output.as_ref(), rows, x)
    }
}
