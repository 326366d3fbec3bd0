//! `adapter_config.json`, as the PEFT library writes it: how strong the adapter is, and whether it is plain LoRA.

use std::path::Path;

use regex::bytes::{RegexBuilder, RegexSet, RegexSetBuilder};
use serde_json::{Map, Value};

use super::settings::{CHANGES_BASE, HARMLESS, KINDS, MERGE, REFUSED};
use crate::config::Fields;
use crate::error::{Error, InFile, Problem, Result, shortened};
use crate::input::{self, read_capped};

pub(super) const FILE: &str = "adapter_config.json";
/// A real one has 1 kB.
const MAX_BYTES: u64 = 1 << 20;
const MAX_RANK: u64 = 1 << 16;
/// A model of 40 layers has 160 matrices, and a pattern is the name of one or more of them.
const MAX_PATTERNS: usize = 512;
/// Bytes of all patterns of a kind: those of full names have 36 kB. Parsed, a pattern takes many times its length.
const MAX_TEXT: usize = 1 << 16;
/// Bytes that a compiled pattern may take, and all of a kind together.
const MAX_COMPILED: usize = 1 << 16;
const MAX_COMPILED_TOGETHER: usize = 4 << 20;

/// The strength of an adapter's matrices.
#[derive(Clone, Debug)]
pub(super) struct AdapterConfig {
    rank: usize,
    alpha: f64,
    /// Divides by the root of the rank and not by the rank.
    rslora: bool,
    /// Ranks and alphas of single modules.
    ranks: Patterns,
    alphas: Patterns,
    /// The model that the adapter was trained for, where it says so.
    base: Option<String>,
}

/// Patterns of modules' names, and the value that each stands for.
#[derive(Clone, Debug)]
struct Patterns {
    names: RegexSet,
    values: Vec<f64>,
}

impl AdapterConfig {
    pub(super) fn load(folder: &Path) -> Result<AdapterConfig> {
        let file = folder.join(FILE);
        let Some(text) = read_capped(&file, MAX_BYTES)? else {
            if let Some(parent) = folder.parent().filter(|_| folder.is_file()) {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let expected = format!("the adapter's folder, {}", parent.display());
                return Err(Error::file_mismatch(folder, "a file", expected));
            }
            return Err(Error::file(&file, "not found, expected the folder of a PEFT adapter"));
        };
        input::object(&text).and_then(|map| parse(&Fields { map: &map })).in_file(&file)
    }

    /// For a message on an adapter that does not fit: which model it was trained for, if the config says so.
    pub(super) fn trained_for(&self) -> String {
        self.base
            .as_ref()
            .map_or(String::new(), |base| format!(": it was trained for \"{}\"", shortened(base, 60)))
    }

    /// What B·A of a module is multiplied with, its rank being known.
    pub(super) fn scale(&self, module: &str, rank: usize) -> Result<f64, Problem> {
        let (key, given) = match self.one("rank_pattern", &self.ranks, module)? {
            Some(own) => ("rank_pattern", own),
            None => ("r", self.rank as f64),
        };
        if given != rank as f64 {
            let expected = format!(
                "{rank}, the rank of {module} in the weights: this config belongs to another adapter"
            );
            return Err(Problem::mismatch(key, given.to_string(), expected));
        }
        let (key, alpha) = match self.one("alpha_pattern", &self.alphas, module)? {
            Some(own) => ("alpha_pattern", own),
            None => ("lora_alpha", self.alpha),
        };
        let scale = alpha / if self.rslora { given.sqrt() } else { given };
        if !(scale as f32).is_finite() {
            return Err(Problem::mismatch(key, format!("{alpha:?}"), "a scale that fits F32"));
        }
        Ok(scale)
    }

    /// The value of the pattern that a module's name fits. PEFT takes the first, but JSON objects have no order.
    fn one(&self, key: &str, patterns: &Patterns, module: &str) -> Result<Option<f64>, Problem> {
        let matching = patterns.names.matches(module.as_bytes());
        let mut values = matching.iter().filter_map(|i| patterns.values.get(i).copied());
        let first = values.next();
        match values.find(|other| Some(*other) != first) {
            None => Ok(first),
            Some(other) => {
                let found = format!("{} and {other} for {module}", first.unwrap_or(other));
                Err(Problem::mismatch(key, found, "one value for each module"))
            }
        }
    }
}

/// Refuses an adapter that cannot be merged, whatever the model; tells the model that it was trained for, where it
/// says so.
///
/// # Errors
/// When its config is damaged, or says that it is more than plain LoRA.
pub fn check(folder: &Path) -> Result<Option<String>> {
    Ok(AdapterConfig::load(folder)?.base)
}

fn parse(fields: &Fields) -> Result<AdapterConfig, Problem> {
    // ms-swift's first adapters have its own key only.
    let key = if fields.get("peft_type").is_none() { "swift_type" } else { "peft_type" };
    let kind = fields.get(key).and_then(Value::as_str);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("LORA")) {
        let known = KINDS.iter().find(|(name, _)| kind.is_some_and(|kind| kind.eq_ignore_ascii_case(name)));
        let reason = known.map_or(MERGE, |(_, reason)| reason);
        let expected = if kind.is_some() { format!("\"LORA\": {reason}") } else { "\"LORA\"".to_owned() };
        return Err(Problem::mismatch("peft_type", fields.text(key), expected));
    }
    for (key, _) in fields.map.iter().filter(|(_, value)| says_something(value)) {
        if let Some((_, expected)) = REFUSED.iter().find(|(refused, _)| refused == key) {
            return Err(fields.wrong(key, expected));
        }
        let nested = ["loftq_config", "megatron_config"].contains(&key.as_str()); // training and its machines
        if !nested && !HARMLESS.contains(&key.as_str()) {
            return Err(fields.wrong(key, "plain LoRA: this setting is not known here"));
        }
    }
    if !matches!(fields.get("bias"), None | Some(Value::Bool(false)))
        && fields.get("bias").and_then(Value::as_str) != Some("none")
    {
        return Err(fields.wrong("bias", "\"none\": the biases were trained too"));
    }
    if let Some(Value::String(way)) = fields.get("init_lora_weights") {
        let way = way.to_ascii_lowercase();
        if CHANGES_BASE.iter().any(|name| way.starts_with(name)) {
            let expected =
                "a way that leaves the base weights alone: convert the adapter to plain LoRA with PEFT";
            return Err(fields.wrong("init_lora_weights", expected));
        }
    }
    let any = |value: &Value| value.as_f64();
    let whole = |value: &Value| value.as_u64().filter(|rank| (1..=MAX_RANK).contains(rank)).map(|n| n as f64);
    let rank = fields.size("r", MAX_RANK)?;
    let base = fields.get("base_model_name_or_path").and_then(Value::as_str);
    let alpha = fields.number_or("lora_alpha", 8.0)?; // PEFT's own default
    Ok(AdapterConfig {
        rank,
        alpha,
        rslora: fields.flag("use_rslora", false)?,
        ranks: patterns(fields, "rank_pattern", whole, &format!("a whole number from 1 to {MAX_RANK}"))?,
        alphas: patterns(fields, "alpha_pattern", any, "a number")?,
        base: base.filter(|base| !base.is_empty()).map(str::to_owned),
    })
}

/// Neither null, false nor empty.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// PEFT matches a pattern with the end of a module's name, from a dot on.
///
/// All of them are one automaton, so that their memory has one bound; each is compiled alone first, to be named if it
/// is to blame. Names of modules are ASCII, and with Unicode's a single `\w` would be thousands of states.
fn patterns(
    fields: &Fields,
    key: &str,
    read: impl Fn(&Value) -> Option<f64>,
    expected: &str,
) -> Result<Patterns, Problem> {
    let none = Map::new();
    let map = match fields.get(key) {
        None => &none,
        Some(Value::Object(map)) => map,
        Some(_) => return Err(fields.wrong(key, "an object")),
    };
    if map.len() > MAX_PATTERNS {
        let found = format!("{} patterns", map.len());
        return Err(Problem::mismatch(key, found, format_args!("at most {MAX_PATTERNS}")));
    }
    let bytes: usize = map.keys().map(String::len).sum();
    if bytes > MAX_TEXT {
        let found = format!("patterns of {bytes} bytes");
        return Err(Problem::mismatch(key, found, format_args!("at most {MAX_TEXT} in all of them")));
    }
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (name, value) in map {
        let item = format!("{key}.{name}");
        let unusable = |reason: &str| {
            let found = format!("a pattern that cannot be used: {reason}");
            Problem::mismatch(&item, found, "a module's name or a short regular expression")
        };
        let whole = format!("^(?:.*\\.)?(?:{name})$");
        if let Err(error) = RegexBuilder::new(&whole).unicode(false).size_limit(MAX_COMPILED).build() {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            return Err(unusable(reason.trim_end_matches('.')));
        }
        names.push(whole);
        values.push(read(value).ok_or_else(|| {
            let found = Fields { map }.text(name);
            Problem::mismatch(&item, found, expected)
        })?);
    }
    let names = RegexSetBuilder::new(names).unicode(false).size_limit(MAX_COMPILED_TOGETHER).build();
    let expected = "modules' names or short regular expressions";
    let names = names.map_err(|_| Problem::mismatch(key, "patterns too large together", expected))?;
    Ok(Patterns { names, values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MODULE: &str = "transformer.encoder.layers.1.self_attention.query_key_value";

    fn config(change: &[(&str, Value)]) -> Result<AdapterConfig> {
        let mut value = json!({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none", "loftq_config": {},
            "base_model_name_or_path": "x", "target_modules": ["query_key_value"], "modules_to_save": null});
        for (key, new) in change {
            value[key] = new.clone();
        }
        let Value::Object(map) = value else { panic!("an object") };
        parse(&Fields { map: &map }).in_file(Path::new("a.json"))
    }

    #[test]
    fn alpha_and_rank_make_the_scale() {
        let scale = |change: &[(&str, Value)], rank| config(change).unwrap().scale(MODULE, rank).unwrap();
        assert_eq!(scale(&[], 8), 2.0);
        assert_eq!(scale(&[("use_rslora", true.into())], 8), 16.0 / 8f64.sqrt());
        for name in ["query_key_value", "layers.1.self_attention.query_key_value", r".*\.1\..*", MODULE] {
            assert_eq!(scale(&[("alpha_pattern", json!({name: 4}))], 8), 0.5, "{name}");
            assert_eq!(scale(&[("rank_pattern", json!({name: 32}))], 32), 0.5, "{name}");
        }
        for name in ["key_value", "dense", "layers.11.self_attention.query_key_value"] {
            assert_eq!(scale(&[("alpha_pattern", json!({name: 4}))], 8), 2.0, "{name}");
        }
    }

    #[test]
    fn the_kind_may_be_in_lower_case() {
        for (key, kind) in [("peft_type", "lora"), ("peft_type", "Lora"), ("peft_type", "LORA")] {
            assert!(config(&[(key, kind.into())]).is_ok(), "{kind}");
        }
        let error = config(&[("peft_type", "prefix_tuning".into())]).unwrap_err().to_string();
        assert!(error.contains("found \"prefix_tuning\"") && error.contains("train LoRA instead"), "{error}");
    }

    #[test]
    fn a_scale_that_no_weight_can_take_is_refused() {
        for (key, value) in [("lora_alpha", json!(1e300)), ("alpha_pattern", json!({"dense": 1e300}))] {
            let error = config(&[(key, value)])
                .unwrap()
                .scale("m.dense", 8)
                .in_file(Path::new("a.json"))
                .unwrap_err()
                .to_string();
            assert_eq!(error, format!("a.json: {key}: found 1e300, expected a scale that fits F32"));
        }
    }

    #[test]
    fn whatever_is_more_than_lora_is_refused_by_name() {
        let new_thing =
            format!("found \"{}..., expected plain LoRA: this setting is not known here", "x".repeat(59));
        for (key, value, expected) in [
            (
                "peft_type",
                json!("IA3"),
                "found \"IA3\", expected \"LORA\": it is no plain LoRA: merge it with PEFT (merge_and_unload, then \
                 save_pretrained) and convert the result",
            ),
            (
                "peft_type",
                json!("P_TUNING"),
                "found \"P_TUNING\", expected \"LORA\": a trained prefix has no place in the Llama layout, train LoRA \
                 instead",
            ),
            (
                "fan_in_fan_out",
                json!(true),
                "found true, expected false: no matrix of this family is stored transposed",
            ),
            (
                "use_dora",
                json!(true),
                "found true, expected false: DoRA rescales whole rows, which is more than adding B·A",
            ),
            (
                "modules_to_save",
                json!(["output_layer"]),
                "found [\"output_layer\"], expected none: it replaces whole modules, which is more than adding B·A",
            ),
            ("bias", json!("all"), "found \"all\", expected \"none\": the biases were trained too"),
            (
                "init_lora_weights",
                json!("pissa_niter_4"),
                "found \"pissa_niter_4\", expected a way that leaves the base weights alone: convert the adapter to \
                 plain LoRA with PEFT",
            ),
            ("use_new_thing", json!(true), "found true, expected plain LoRA: this setting is not known here"),
            ("r", json!(0), "found 0, expected a whole number from 1 to 65536"),
            ("use_new_thing", json!("x".repeat(100)), &new_thing),
        ] {
            let error = config(&[(key, value)]).unwrap_err().to_string();
            assert_eq!(error, format!("a.json: {key}: {expected}"));
        }
    }

    #[test]
    fn patterns_that_are_wrong_or_too_large_are_refused() {
        let many: Map<String, Value> = (0..8000).map(|i| (format!("dense{i}"), 1.into())).collect();
        let large: Map<String, Value> = (0..500).map(|i| (format!(r"\w{{300}}{i}"), 1.into())).collect();
        let unusable = |pattern: &str, reason: &str| {
            format!(
                "alpha_pattern.{pattern}: found a pattern that cannot be used: {reason}, expected a module's name or a \
                 short regular expression"
            )
        };
        let ranks = "expected a whole number from 1 to 65536";
        for (key, value, expected) in [
            (
                "alpha_pattern",
                many.into(),
                "alpha_pattern: found 8000 patterns, expected at most 512".to_owned(),
            ),
            (
                "alpha_pattern",
                large.into(),
                "alpha_pattern: found patterns too large together, expected modules' names or short regular \
                 expressions"
                    .to_owned(),
            ),
            ("alpha_pattern", json!({"(": 1}), unusable("(", "unclosed group")),
            (
                "alpha_pattern",
                json!({r"[\w]{5000}7": 1}),
                unusable(r"[\w]{5000}7", "Compiled regex exceeds size limit of 65536 bytes"),
            ),
            (
                "alpha_pattern",
                json!({"a".repeat(1 << 17): 1}),
                "alpha_pattern: found patterns of 131072 bytes, expected at most 65536 in all of them"
                    .to_owned(),
            ),
            (
                "alpha_pattern",
                json!({"dense": "x"}),
                "alpha_pattern.dense: found \"x\", expected a number".to_owned(),
            ),
            ("rank_pattern", json!({"dense": 1.5}), format!("rank_pattern.dense: found 1.5, {ranks}")),
            ("rank_pattern", json!({"dense": 65537}), format!("rank_pattern.dense: found 65537, {ranks}")),
        ] {
            let error = config(&[(key, value)]).unwrap_err().to_string();
            assert_eq!(error, format!("a.json: {expected}"));
        }
    }

    #[test]
    fn ranks_and_patterns_must_agree() {
        let error =
            config(&[]).unwrap().scale("m.dense", 4).in_file(Path::new("a.json")).unwrap_err().to_string();
        let belongs = "the rank of m.dense in the weights: this config belongs to another adapter";
        assert_eq!(error, format!("a.json: r: found 8, expected 4, {belongs}"));
        let of_dense = config(&[("rank_pattern", json!({"dense": 16}))]).unwrap();
        let error = of_dense.scale("m.dense", 4).in_file(Path::new("a.json")).unwrap_err().to_string();
        assert_eq!(error, format!("a.json: rank_pattern: found 16, expected 4, {belongs}"));
        let both = json!({"dense": 1, ".*": 2});
        let error = config(&[("alpha_pattern", both)])
            .unwrap()
            .scale("m.dense", 8)
            .in_file(Path::new("a.json"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "a.json: alpha_pattern: found 2 and 1 for m.dense, expected one value for each module"
        );
    }
}
