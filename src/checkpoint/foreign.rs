//! Weights that are no model's own: quantized ones, empty shells, adapters that were never merged.
//!
//! Told by the names, where a type or a shape would only say that something is odd, and nobody could act on that.

use crate::error::Problem;

/// How quantized weights are known: the end of a tensor's name, and what makes such tensors. GPTQ's stand first, for
/// it has all that AWQ has.
const QUANTIZED: [(&str, &str); 15] = [
    (".g_idx", "GPTQ"),
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".absmax", "bitsandbytes"),
    (".quant_map", "bitsandbytes"),
    (".SCB", "bitsandbytes"),
    (".weight_format", "bitsandbytes"),
    (".W_q", "HQQ"),
    (".codebooks", "AQLM"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale", "ChatGLM's quantize() or FP8"),
    (".weight_scale_inv", "FP8"),
    (".weight_scales", "EETQ"),
    (".biases", "MLX"),
    (".scales", "MLX or AWQ"),
];

/// What PEFT, loralib and their kin put into the names of a model that has an adapter: parts between dots.
const ADAPTED: [&str; 8] = [
    "base_layer",
    "lora_A",
    "lora_B",
    "lora_embedding_A",
    "lora_embedding_B",
    "lora_magnitude_vector",
    "original_module",
    "modules_to_save",
];

/// Refuses the tensors of one file as a whole: their names, and whether they have no values.
pub(super) fn refuse<'a>(tensors: impl Iterator<Item = (&'a str, bool)> + Clone) -> Result<(), Problem> {
    let wrong = |name: &str, found: String, expected: &str| Err(Problem::mismatch(name, found, expected));
    let quantized = QUANTIZED
        .iter()
        .find_map(|(end, maker)| Some((tensors.clone().find(|(name, _)| name.ends_with(end))?.0, maker)));
    if let Some((name, maker)) = quantized {
        let expected = "F16, BF16 or F32 weights: it was quantized already, convert the original checkpoint";
        return wrong(name, format!("weights that {maker} has quantized"), expected);
    }
    if let Some((name, _)) = tensors.clone().find(|(name, _)| name.contains("flat_param")) {
        let expected = "the whole model's weights: save it with a full state dict, or merge the shards with \
                        `accelerate merge-weights`";
        return wrong(name, "a shard of an FSDP training".to_owned(), expected);
    }
    let count = tensors.clone().count();
    let empty = tensors.clone().filter(|(_, empty)| *empty).count();
    match tensors.clone().find(|(_, empty)| *empty) {
        None => Ok(()),
        Some((name, _)) => wrong(
            name,
            format!("shape [0], as have {empty} of {count} tensors: the shell that DeepSpeed ZeRO-3 saves"),
            "the weights: run zero_to_fp32.py in the training's folder, where global_step... is, and convert what it \
             writes",
        ),
    }
}

/// Refuses a model's weights that have an adapter's beside them.
pub(super) fn refuse_adapted<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<(), Problem> {
    let adapted = |name: &&str| name.split('.').any(|part| ADAPTED.contains(&part));
    let Some(name) = names.clone().find(adapted) else { return Ok(()) };
    let (count, all) = (names.clone().filter(adapted).count(), names.count());
    let found = format!("a PEFT model's weights with the adapter apart ({count} of {all} tensors)");
    let expected = "merged ones: load it with PEFT, call merge_and_unload(), then save_pretrained(); or give the base \
                    model and --lora ADAPTER_DIR";
    Err(Problem::mismatch(name, found, expected))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::InFile;

    fn refused(names: &[&str]) -> String {
        let tensors = names.iter().map(|name| (*name, name.starts_with("empty")));
        let outcome = refuse(tensors).and_then(|()| refuse_adapted(names.iter().copied()));
        outcome.in_file(Path::new("m")).unwrap_err().to_string()
    }

    #[test]
    fn each_kind_is_called_by_its_name() {
        for (names, expected) in [
            (
                &["a.qweight", "a.qzeros", "a.scales", "a.g_idx"][..],
                "m: a.g_idx: found weights that GPTQ has",
            ),
            (&["a.qweight", "a.qzeros", "a.scales"], "found weights that GPTQ or AWQ has quantized"),
            (&["a.weight", "a.scales", "a.biases"], "found weights that MLX has quantized"),
            (&["a.weight", "a.weight.absmax", "a.weight.quant_map"], "that bitsandbytes has quantized"),
            (&["a.weight", "a.SCB"], "that bitsandbytes has quantized"),
            (&["a.weight", "a.weight_scale"], "that ChatGLM's quantize() or FP8 has quantized"),
            (
                &["empty.a", "empty.b", "c"],
                "empty.a: found shape [0], as have 2 of 3 tensors: the shell that",
            ),
            (&["_fsdp_wrapped_module._flat_param"], "found a shard of an FSDP training"),
            (
                &["a.base_layer.weight", "a.lora_A.default.weight", "c"],
                "m: a.base_layer.weight: found a PEFT model's weights with the adapter apart (2 of 3 tensors)",
            ),
            (
                &["q.weight", "q.lora_A", "q.lora_B"],
                "q.lora_A: found a PEFT model's weights with the adapter apart (2 of 3",
            ),
            (&["e.weight", "e.lora_embedding_A", "e.lora_embedding_B.default"], "apart (2 of 3"),
            (
                &["q.weight", "q.lora_magnitude_vector", "p.lora_magnitude_vector.default.weight"],
                "apart (2 of 3",
            ),
            (&["base_layer.weight", "q.weight"], "apart (1 of 2"),
            (&["c", "o.modules_to_save.default.weight"], "call merge_and_unload(), then save_pretrained()"),
        ] {
            let error = refused(names);
            assert!(error.contains(expected), "{error}");
        }
        refuse(["a.weight", "a.bias"].map(|name| (name, false)).into_iter()).unwrap();
    }
}
