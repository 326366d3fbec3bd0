//! One layer of a Llama model backwards: what a small change of each matrix's outputs would do to a loss.

use super::gradient::{attention_back, gated_back, multiply_back, rms_norm_back};
use super::llama::{Llama, Sizes, Tensors};
use super::math::{Activations, attention, gated, rms_norm, rotate_pairs, vector};
use crate::error::Result;

/// Is told of a matrix, its inputs and the gradient of its outputs.
pub(crate) type Told<'a> = dyn FnMut(&str, &Activations, &Activations) -> Result<()> + 'a;

impl<T: Tensors> Llama<T> {
    /// From the gradient of what a layer makes of `x` to that of `x`; `tell` hears of each of its matrices.
    pub(crate) fn layer_back(
        &self,
        number: usize,
        x: &Activations,
        gradient: Activations,
        tell: &mut Told,
    ) -> Result<Activations> {
        let block = format!("blk.{number}");
        let Sizes { hidden, heads, kv_heads, head_dim, ffn, epsilon, .. } = self.sizes;
        let name = |part: &str| format!("{block}.{part}.weight");
        let read = |name: &str| vector(self.tensors.matrix(name, Some(hidden), 1)?.as_ref());
        let back = |name: &str, columns: usize, gradient: &Activations, out: &mut Activations| {
            let matrix = self.tensors.matrix(name, Some(gradient.nrows()), columns)?;
            multiply_back(matrix.as_ref(), 0..gradient.nrows(), gradient, out)
        };

        // Forwards once more, as far as what is needed of it.
        let (attn_norm, ffn_norm) = (read(&name("attn_norm"))?, read(&name("ffn_norm"))?);
        let normed = rms_norm(x, &attn_norm, epsilon);
        let mut made = Vec::new();
        for (letter, heads) in [('q', heads), ('k', kv_heads), ('v', kv_heads)] {
            let mut out = self.project(&block, letter, heads, &normed)?;
            if letter != 'v' {
                rotate_pairs(&mut out, head_dim, &self.sizes.speeds, 0, self.window);
            }
            made.push(out);
        }
        let looks = [&made[0], &made[1], &made[2]];
        let mixed = attention(looks[0], looks[1], looks[2], (heads, kv_heads), self.window);
        let middle = x + &self.linear(&name("attn_output"), hidden, &mixed)?;

        // The feed-forward network.
        let inner = rms_norm(&middle, &ffn_norm, epsilon);
        let gate = self.linear(&name("ffn_gate"), ffn, &inner)?;
        let up = self.linear(&name("ffn_up"), ffn, &inner)?;
        let mut through = gate.clone();
        gated(&mut through, up.view());
        tell(&name("ffn_down"), &through, &gradient)?;
        through.fill(0.0);
        back(&name("ffn_down"), ffn, &gradient, &mut through)?;
        let (of_gate, of_up) = gated_back(&gate, &up, through);
        let mut of_inner = Activations::zeros(inner.dim());
        for (part, of) in [("ffn_gate", of_gate), ("ffn_up", of_up)] {
            tell(&name(part), &inner, &of)?;
            back(&name(part), hidden, &of, &mut of_inner)?;
        }
        let of_middle = gradient + rms_norm_back(&middle, &ffn_norm, epsilon, &of_inner);

        // Attention.
        tell(&name("attn_output"), &mixed, &of_middle)?;
        let mut of_mixed = Activations::zeros(mixed.dim());
        back(&name("attn_output"), heads * head_dim, &of_middle, &mut of_mixed)?;
        let backwards: Vec<f64> = self.sizes.speeds.iter().map(|speed| -speed).collect();
        let mut of_normed = Activations::zeros(normed.dim());
        let gradients = attention_back(looks, (heads, kv_heads), self.window, &of_mixed);
        for (letter, mut of) in ['q', 'k', 'v'].into_iter().zip(gradients) {
            if letter != 'v' {
                rotate_pairs(&mut of, head_dim, &backwards, 0, self.window);
            }
            let name = name(&format!("attn_{letter}"));
            tell(&name, &normed, &of)?;
            back(&name, hidden, &of, &mut of_normed)?;
        }
        Ok(of_middle + rms_norm_back(x, &attn_norm, epsilon, &of_normed))
    }

    /// From the gradient of what the last norm makes of `x` to that of `x`.
    pub(crate) fn last_norm_back(&self, x: &Activations, gradient: &Activations) -> Result<Activations> {
        let weights =
            vector(self.tensors.matrix("output_norm.weight", Some(self.sizes.hidden), 1)?.as_ref())?;
        Ok(rms_norm_back(x, &weights, self.sizes.epsilon, gradient))
    }
}
