//! The names that trainers' wrappers put before, or into, a model's own.

/// Wrappers of single modules: they may stand anywhere in a name, and no model has such a module itself.
const ANYWHERE: [&str; 3] = ["_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod."];

/// Wrappers of whole models: DistributedDataParallel and DeepSpeed, Lightning, PEFT and TRL.
const FIRST: [&str; 5] =
    ["module.", "_forward_module.", "base_model.model.", "pretrained_model.", "base_model."];

/// What is left of the names, and what was taken off; none when nothing was.
///
/// A wrapper of the whole model is taken off when every name has it: a name without it belongs to something else, and
/// what that is nobody has said.
pub(super) fn take_off(names: &[&str], adapter: bool) -> Option<(Vec<String>, Vec<&'static str>)> {
    let mut own: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut taken = Vec::new();
    for wrapper in ANYWHERE {
        let shorter: Vec<String> = own.iter().map(|name| without(name, wrapper)).collect();
        if shorter != own {
            taken.push(wrapper);
            own = shorter;
        }
    }
    // An adapter's names may begin with PEFT's own wrapper, which its reader knows.
    let peft = |wrapper: &str| wrapper.starts_with("base_model");
    while let Some(wrapper) = FIRST
        .into_iter()
        .filter(|wrapper| !(adapter && peft(wrapper)))
        .find(|wrapper| all_begin(&own, wrapper))
        .or_else(|| is_in_a_model(&own).then_some("model."))
    {
        own.iter_mut().for_each(|name| drop(name.drain(..wrapper.len())));
        taken.push(wrapper);
    }
    (!taken.is_empty()).then_some((own, taken))
}

fn all_begin(names: &[String], wrapper: &str) -> bool {
    !names.is_empty() && names.iter().all(|name| name.len() > wrapper.len() && name.starts_with(wrapper))
}

/// Lightning's modules call theirs `model`, as transformers calls a part of some models: only a second one tells.
fn is_in_a_model(names: &[String]) -> bool {
    all_begin(names, "model.")
        && names.iter().any(|name| name.starts_with("model.transformer.") || name.starts_with("model.model."))
}

/// Without the wrapper wherever it is a part of the name of its own.
fn without(name: &str, wrapper: &str) -> String {
    let inner = name.replace(&format!(".{wrapper}"), ".");
    inner.strip_prefix(wrapper).map_or(inner.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn left(names: &[&str], expected: &[&str]) {
        let own = take_off(names, false)
            .map_or(names.iter().map(|&name| name.to_owned()).collect(), |(own, _)| own);
        assert_eq!(own, expected);
    }

    #[test]
    fn wrappers_are_taken_off_when_all_names_have_them() {
        left(&["module.a.weight", "module.b"], &["a.weight", "b"]);
        left(&["module.a.weight", "b"], &["module.a.weight", "b"]);
        left(&["_orig_mod.module.a", "_orig_mod.module.b"], &["a", "b"]);
        left(&["module._orig_mod.base_model.model.a"], &["a"]);
        left(&["_fsdp_wrapped_module.t._fsdp_wrapped_module.e.0.w", "v"], &["t.e.0.w", "v"]);
        left(&["t.layers.0._checkpoint_wrapped_module.w", "t.v"], &["t.layers.0.w", "t.v"]);
        left(&["model.transformer.a", "model.transformer.b"], &["transformer.a", "transformer.b"]);
        left(&["model.model.layers.0.w", "model.lm_head.weight"], &["model.layers.0.w", "lm_head.weight"]);
        left(&["model.layers.0.w", "model.norm.weight"], &["model.layers.0.w", "model.norm.weight"]);
        left(&["my_orig_mod.a", "module."], &["my_orig_mod.a", "module."]);
    }

    #[test]
    fn what_was_taken_off_is_told_and_adapters_keep_pefts() {
        let names = ["module.base_model.model.a.lora_A.weight"];
        let (own, taken) = take_off(&names, true).unwrap();
        assert_eq!((own, taken), (vec!["base_model.model.a.lora_A.weight".to_owned()], vec!["module."]));
        assert_eq!(take_off(&["a", "b"], false), None);
    }
}
