//! The keys that llama.cpp reads of a Llama model, to find typos in those that a user sets.

use super::Override;
use crate::error::shortened;
use crate::gguf::Metadata;

/// All beginnings of keys that are the file format's, or this program's, and not a user's own.
const FAMILIES: [&str; 4] = ["general.", "llama.", "tokenizer.", "quantize."];

/// Keys of one family, without its name; the number of a list's entry is 0.
#[rustfmt::skip]
const KNOWN: [(&str, &str); 4] = [
    ("general.", "type architecture quantization_version alignment file_type name author version organization \
        finetune basename description quantized_by size_label license license.name license.link url doi uuid \
        repo_url source.url source.doi source.uuid source.repo_url source.huggingface.repository tags languages \
        sampling.sequence sampling.top_k sampling.top_p sampling.min_p sampling.xtc_probability \
        sampling.xtc_threshold sampling.temp sampling.penalty_last_n sampling.penalty_repeat sampling.mirostat \
        sampling.mirostat_tau sampling.mirostat_eta \
        base_model.count base_model.0.name base_model.0.author base_model.0.version base_model.0.organization \
        base_model.0.description base_model.0.url base_model.0.doi base_model.0.uuid base_model.0.repo_url \
        dataset.count dataset.0.name dataset.0.author dataset.0.version dataset.0.organization \
        dataset.0.description dataset.0.url dataset.0.doi dataset.0.uuid dataset.0.repo_url"),
    ("llama.", "vocab_size context_length embedding_length block_count feed_forward_length use_parallel_residual \
        tensor_data_layout expert_count expert_used_count pooling_type logit_scale residual_scale embedding_scale \
        attention.head_count attention.head_count_kv attention.max_alibi_bias attention.clamp_kqv \
        attention.key_length attention.value_length attention.layer_norm_epsilon \
        attention.layer_norm_rms_epsilon attention.causal attention.sliding_window attention.scale \
        attention.temperature_length attention.temperature_scale \
        rope.dimension_count rope.freq_base rope.scaling.type rope.scaling.factor rope.scaling.attn_factor \
        rope.scaling.original_context_length rope.scaling.finetuned rope.scaling.yarn_log_multiplier \
        rope.scaling.yarn_ext_factor rope.scaling.yarn_attn_factor rope.scaling.yarn_beta_fast \
        rope.scaling.yarn_beta_slow rope.scale_linear"),
    ("tokenizer.", "ggml.model ggml.pre ggml.tokens ggml.token_type ggml.token_type_count ggml.scores ggml.merges \
        ggml.bos_token_id ggml.eos_token_id ggml.eot_token_id ggml.eom_token_id ggml.unknown_token_id \
        ggml.seperator_token_id ggml.padding_token_id ggml.mask_token_id ggml.cls_token_id ggml.add_bos_token \
        ggml.add_eos_token ggml.add_sep_token ggml.add_space_prefix ggml.remove_extra_whitespaces \
        ggml.precompiled_charsmap ggml.added_tokens ggml.fim_pre_token_id ggml.fim_suf_token_id \
        ggml.fim_mid_token_id ggml.fim_pad_token_id ggml.fim_rep_token_id ggml.fim_sep_token_id \
        ggml.prefix_token_id ggml.suffix_token_id ggml.middle_token_id huggingface.json chat_template \
        chat_templates"),
    ("quantize.", "imatrix.file imatrix.dataset imatrix.entries_count imatrix.chunks_count"),
];

/// A warning for each override whose key is neither in the file nor known, and looks like one that is.
pub(super) fn typos(keys: &Metadata, overrides: &[Override]) -> Vec<String> {
    let given = overrides.iter().map(|given| given.key.as_str());
    let given = given.filter(|key| !keys.iter().any(|(known, _)| known == key));
    let warned = |key: &str| {
        let why = match typo(key)? {
            Some(meant) => format!("did you mean {meant}?"),
            None => "it says nothing to a runtime".to_owned(),
        };
        Some(format!("--override-kv {}: llama.cpp knows no such key: {why}", shortened(key, 100)))
    };
    given.filter_map(warned).collect()
}

/// None when nothing is wrong with a key; else the key that was meant, if any is close.
fn typo(key: &str) -> Option<Option<String>> {
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = key.split('.').map(|part| if number(&part) { "0" } else { part }).collect();
    let plain = parts.join(".");
    let known: Vec<String> = known().collect();
    if known.contains(&plain) || plain.starts_with("tokenizer.chat_template.") {
        return None;
    }
    // Without its family, or with that of ChatGLM's own architecture in llama.cpp.
    let below = plain.split_once('.').map_or(plain.as_str(), |(_, below)| below);
    let ends_so =
        |known: &&String| known.split_once('.').is_some_and(|(_, end)| end == plain || end == below);
    if let Some(meant) = known.iter().find(ends_so) {
        return Some(Some(meant.clone()));
    }
    let ours = FAMILIES.iter().any(|family| plain.starts_with(family));
    let most = if ours { 4 } else { 2 };
    let far = known.iter().map(|known| (strsim::damerau_levenshtein(known, &plain), known));
    let near = far.filter(|(far, _)| *far <= most).min().map(|(_, known)| known.clone());
    (ours || near.is_some()).then_some(near)
}

fn known() -> impl Iterator<Item = String> {
    KNOWN.iter().flat_map(|(family, keys)| keys.split_whitespace().map(move |key| format!("{family}{key}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Value;

    #[test]
    fn typos_are_told_from_keys_of_a_users_own() {
        for (key, meant) in [
            ("llama.context_lenght", "llama.context_length"),
            ("llama.contextlength", "llama.context_length"),
            ("llama.rope.freqbase", "llama.rope.freq_base"),
            ("lama.context_length", "llama.context_length"),
            ("chatglm.context_length", "llama.context_length"),
            ("context_length", "llama.context_length"),
            ("genral.author", "general.author"),
            ("general.licence", "general.license"),
            ("general.base_model.3.nam", "general.base_model.0.name"),
            ("tokenizer.ggml.eos_id", "tokenizer.ggml.eos_token_id"),
            ("tokenizer.ggml.separator_token_id", "tokenizer.ggml.seperator_token_id"),
            ("tokenizer.chat_templat", "tokenizer.chat_template"),
        ] {
            let found = typo(key).flatten();
            let close = found.as_deref() == Some(meant) || key.ends_with("eos_id");
            assert!(close, "{key}: {found:?}");
        }
        for key in [
            "general.author",
            "general.base_model.12.name",
            "tokenizer.chat_template.tool_use",
            "my.key",
            "x",
        ] {
            assert_eq!(typo(key), None, "{key}");
        }
        assert_eq!(typo("llama.something_else_entirely"), Some(None));
    }

    #[test]
    fn a_key_that_the_file_has_is_no_typo() {
        let keys = vec![("llama.new_key".to_owned(), Value::Bool(true))];
        let texts = ["llama.new_key=bool:false", "llama.new_kye=bool:false"];
        let warnings = typos(&keys, &texts.map(|text| text.parse().unwrap()));
        let expected =
            "--override-kv llama.new_kye: llama.cpp knows no such key: it says nothing to a runtime";
        assert_eq!(warnings, [expected]);
    }
}
