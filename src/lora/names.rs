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

/// The adapter's own name, which ms-swift and PEFT's models in memory have in the names of its tensors: `default`
/// in `x.lora_A.default.weight`.
pub(super) fn adapter(tensor: &str) -> Option<&str> {
    let (_, rest) = tensor.split_once(".lora_A.").or_else(|| tensor.split_once(".lora_B."))?;
    rest.strip_suffix(".weight").filter(|name| !name.contains('.'))
}

/// The module's name and what the tensor is of it, or the problem. An adapter's own name is left out.
pub(super) fn split<'a>(name: &'a str, adapter: Option<&str>) -> Result<(&'a str, Part), String> {
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
    let named =
        adapter.and_then(|adapter| own.strip_suffix(".weight")?.strip_suffix(adapter)?.strip_suffix('.'));
    for (end, part) in [(".lora_A", ENDS[0].1), (".lora_B", ENDS[1].1)] {
        if let Some(module) = named.and_then(|own| own.strip_suffix(end)) {
            return Ok((module, part));
        }
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
            assert_eq!(split(name, None), Ok(expected));
        }
    }

    #[test]
    fn an_adapters_own_name_is_left_out() {
        let name = "transformer.x.dense.lora_B.default.weight";
        assert_eq!(adapter(name), Some("default"));
        assert_eq!(adapter("m.lora_A.weight"), None);
        assert_eq!(split(name, Some("default")), Ok(("transformer.x.dense", Part::B { embedding: false })));
        assert!(split(name, Some("other")).is_err());
        let plain = ("m", Part::A { embedding: false });
        assert_eq!(split("base_model.model.m.lora_A.weight", Some("default")), Ok(plain));
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
            assert_eq!(split(name, None).unwrap_err(), expected);
        }
    }
}
