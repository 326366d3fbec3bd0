//! The size that a file may have, in the place of a type.

use clap::Args;

use crate::cli::size;
use glm2llama::error::Result;
use glm2llama::recipe::Budget;

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Target {
    /// Instead of a type: the largest size that the file may have, for instance 4GB or 3900MB; each tensor gets a
    /// format such that least is lost in all. With --quality good or best, the model is run first to measure what is
    /// lost
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, conflicts_with = "types")]
    target_size: Option<String>,

    /// The same, in bits for each weight of the model, for instance 4.5
    #[arg(long, value_name = "BITS", allow_negative_numbers = true)]
    #[arg(conflicts_with_all = ["types", "target_size"], value_parser = bits)]
    target_bpw: Option<f64>,
}

impl Target {
    /// Whether formats are to be chosen for a size.
    pub(in crate::cli) fn is_given(&self) -> bool {
        self.target_size.is_some() || self.target_bpw.is_some()
    }

    pub(in crate::cli) fn budget(&self) -> Result<Option<Budget>> {
        let size = self.target_size.as_deref().map(|size| size::parse("--target-size", size)).transpose()?;
        Ok(size.map(Budget::Bytes).or(self.target_bpw.map(Budget::BitsPerWeight)))
    }
}

/// Bits for each weight, as typed.
fn bits(text: &str) -> std::result::Result<f64, &'static str> {
    let bits = text.parse().ok().filter(|bits: &f64| bits.is_finite() && *bits > 0.0 && *bits <= 32.0);
    bits.ok_or("expected a number above 0, at most 32")
}
