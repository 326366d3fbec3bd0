//! The names of an adapter's tensors.

use crate::checkpoint::Checkpoint;

/// What a tensor of an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The factor with a row for each rank.
    A { embedding: bool },
    /// The factor with a column for each rank.
    B { embedding: bool },
    /// A tensor of the base model.
    Whole,
}

/// What PEFT puts before the model's own names.
const PREFIX: &str = "base_model.model.";

/// Factors by the end of their names; the layers of an embedding are no modules of their own, hence no `.weight`.
const ENDS: [(&str, Part); 6] = [
    (".lora_A.weight", Part::A { embedding: false }),
    (".lora_B.weight", Part::B { embedding: false }),
    (".lora_embedding_A", Part::A { embedding: true }),
    (".lora_embedding_B", Part::B { embedding: true }),
    (".base_layer.weight", Part::Whole),
    (".weight", Part::Whole),
];

/// The module's name and what the tensor is of it, or the problem.
pub(super) fn split(name: &str) -> Result<(&str, Part), String> {
    let refused = |found: &str, expected: &str| Err(format!("found {found}, expected {expected}"));
    let own = name.strip_prefix(PREFIX).unwrap_or(name);
    if own.contains(".modules_to_save.") {
        return refused("a module saved as a whole", "LoRA factors only");
    }
    if own.contains("lora_magnitude_vector") {
        return refused("a magnitude (DoRA)", "LoRA factors only: DoRA rescales whole rows");
    }
    if own.ends_with(".bias") {
        return refused("a trained bias", "LoRA factors only");
    }
    match ENDS.iter().find_map(|&(end, part)| Some((own.strip_suffix(end)?, part))) {
        Some((module, _)) if module.contains(".lora_") => refused("an unknown tensor", "LoRA factors only"),
        Some(found) => Ok(found),
        None => refused("an unknown tensor", "LoRA factors only"),
    }
}

/// The checkpoint's name of a module's weight. A checkpoint of the bare model lacks the first part of it.
pub(super) fn in_checkpoint(module: &str, base: &Checkpoint) -> Option<String> {
    const OUTER: &str = "transformer.";
    let bare = module.strip_prefix(OUTER).unwrap_or(module);
    let candidates =
        [format!("{module}.weight"), format!("{bare}.weight"), format!("{OUTER}{module}.weight")];
    candidates.into_iter().find(|name| base.tensors().contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (name, expected) in [
            (
                "base_model.model.transformer.x.dense.lora_A.weight",
                ("transformer.x.dense", Part::A { embedding: false }),
            ),
            ("base_model.model.m.lora_B.weight", ("m", Part::B { embedding: false })),
            ("base_model.model.e.lora_embedding_A", ("e", Part::A { embedding: true })),
            ("base_model.model.e.lora_embedding_B", ("e", Part::B { embedding: true })),
            ("base_model.model.e.base_layer.weight", ("e", Part::Whole)),
            ("base_model.model.e.weight", ("e", Part::Whole)),
        ] {
            assert_eq!(split(name), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_factor_is_refused() {
        for (name, expected) in [
            (
                "base_model.model.m.modules_to_save.weight",
                "found a module saved as a whole, expected LoRA factors only",
            ),
            (
                "base_model.model.m.lora_magnitude_vector",
                "found a magnitude (DoRA), expected LoRA factors only: DoRA rescales whole rows",
            ),
            ("base_model.model.m.bias", "found a trained bias, expected LoRA factors only"),
            ("base_model.model.m.lora_A.two.weight", "found an unknown tensor, expected LoRA factors only"),
            ("prompt_embeddings", "found an unknown tensor, expected LoRA factors only"),
        ] {
            assert_eq!(split(name).unwrap_err(), expected);
        }
    }
}
