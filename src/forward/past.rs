//! What a model keeps of the tokens it was run on, so that those which follow need not run them again.

use std::collections::BTreeMap;

use ndarray::{Axis, concatenate};

use super::math::Activations;

/// Keys and values of each layer, one column a token.
#[derive(Default)]
pub(crate) struct Past {
    layers: BTreeMap<usize, (Activations, Activations)>,
}

impl Past {
    /// Tokens that a layer was run on.
    pub(crate) fn tokens(&self, layer: usize) -> usize {
        self.layers.get(&layer).map_or(0, |(keys, _)| keys.ncols())
    }

    /// Adds a layer's keys and values of further tokens; returns those of all.
    pub(crate) fn extend(
        &mut self,
        layer: usize,
        k: Activations,
        v: Activations,
    ) -> &(Activations, Activations) {
        let (k, v) = match self.layers.remove(&layer) {
            Some((keys, values)) => (behind(&keys, &k), behind(&values, &v)),
            None => (k, v),
        };
        self.layers.entry(layer).or_insert((k, v))
    }
}

fn behind(old: &Activations, new: &Activations) -> Activations {
    concatenate(Axis(1), &[old.view(), new.view()]).expect("both have the same heads")
}
