//! `adapter_config.json`, as the PEFT library writes it: how strong the adapter is, and whether it is plain LoRA.

use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::{Map, Value};

use crate::config::Fields;
use crate::error::{Error, Result};
use crate::input::read_capped;

const FILE: &str = "adapter_config.json";
/// A real one has 1 kB.
const MAX_BYTES: u64 = 1 << 20;
const MAX_RANK: u64 = 1 << 16;

/// The strength of an adapter's matrices.
#[derive(Clone, Debug)]
pub(super) struct AdapterConfig {
    file: PathBuf,
    rank: usize,
    alpha: f64,
    /// Divides by the root of the rank and not by the rank.
    rslora: bool,
    /// Ranks and alphas of single modules.
    ranks: Vec<(Regex, f64)>,
    alphas: Vec<(Regex, f64)>,
}

/// Settings that say how the adapter was trained, or where; they change nothing in what it adds.
const HARMLESS: [&str; 23] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// What is more than LoRA, and why it cannot be merged.
const REFUSED: [(&str, &str); 7] = [
    ("fan_in_fan_out", "false: no matrix of this family is stored transposed"),
    ("use_dora", "false: DoRA rescales whole rows, which is more than adding B·A"),
    ("modules_to_save", "none: it replaces whole modules, which is more than adding B·A"),
    ("lora_bias", "false: the Llama layout has no place for a bias on every matrix"),
    ("layer_replication", "none: it changes the number of layers"),
    ("trainable_token_indices", "none: it replaces rows of the embedding"),
    ("target_parameters", "none: this family's weights all belong to modules"),
];

/// Ways to start training that take the first B·A out of the base weights.
const CHANGES_BASE: [&str; 4] = ["pissa", "olora", "corda", "loftq"];

impl AdapterConfig {
    pub(super) fn load(folder: &Path) -> Result<AdapterConfig> {
        let file = folder.join(FILE);
        let Some(text) = read_capped(&file, MAX_BYTES)? else {
            return Err(Error::input(&file, "", "not found, expected the folder of a PEFT adapter"));
        };
        match serde_json::from_slice(&text) {
            Ok(Value::Object(map)) => parse(&Fields { file: &file, map: &map }),
            Ok(_) => Err(Error::input(&file, "", "expected a JSON object")),
            Err(e) => Err(Error::input(&file, "", format!("is not valid JSON: {e}"))),
        }
    }

    /// What B·A of a module is multiplied with, its rank being known.
    pub(super) fn scale(&self, module: &str, rank: usize) -> Result<f64> {
        let expected = self.one("rank_pattern", &self.ranks, module)?.unwrap_or(self.rank as f64);
        if expected != rank as f64 {
            let found = format!("rank {rank} of {module}");
            return Err(Error::mismatch(&self.file, "r", found, format!("{expected}")));
        }
        let alpha = self.one("alpha_pattern", &self.alphas, module)?.unwrap_or(self.alpha);
        Ok(alpha / if self.rslora { expected.sqrt() } else { expected })
    }

    /// The value of the pattern that a module's name fits. PEFT takes the first, but JSON objects have no order.
    fn one(&self, key: &str, patterns: &[(Regex, f64)], module: &str) -> Result<Option<f64>> {
        let mut values =
            patterns.iter().filter(|(pattern, _)| pattern.is_match(module)).map(|(_, value)| *value);
        let first = values.next();
        match values.find(|other| Some(*other) != first) {
            None => Ok(first),
            Some(other) => {
                let found = format!("{} and {other} for {module}", first.unwrap_or(other));
                Err(Error::mismatch(&self.file, key, found, "one value for each module"))
            }
        }
    }
}

fn parse(fields: &Fields) -> Result<AdapterConfig> {
    if fields.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        return Err(fields.wrong("peft_type", fields.text("peft_type"), "\"LORA\""));
    }
    for (key, value) in fields.map.iter().filter(|(_, value)| says_something(value)) {
        if let Some((_, expected)) = REFUSED.iter().find(|(refused, _)| refused == key) {
            return Err(fields.wrong(key, fields.text(key), expected));
        }
        let nested = ["loftq_config", "megatron_config"].contains(&key.as_str()); // training and its machines
        if !nested && !HARMLESS.contains(&key.as_str()) {
            let found = format!("{value:.60}");
            return Err(fields.wrong(key, found, "plain LoRA: this setting is not known here"));
        }
    }
    if !matches!(fields.get("bias"), None | Some(Value::Bool(false)))
        && fields.get("bias").and_then(Value::as_str) != Some("none")
    {
        return Err(fields.wrong("bias", fields.text("bias"), "\"none\": the biases were trained too"));
    }
    if let Some(Value::String(way)) = fields.get("init_lora_weights") {
        let way = way.to_ascii_lowercase();
        if CHANGES_BASE.iter().any(|name| way.starts_with(name)) {
            let expected =
                "a way that leaves the base weights alone: convert the adapter to plain LoRA with PEFT";
            return Err(fields.wrong("init_lora_weights", fields.text("init_lora_weights"), expected));
        }
    }
    let rank = fields.size("r", MAX_RANK)?;
    let alpha = fields.number_or("lora_alpha", 8.0)?; // PEFT's own default
    Ok(AdapterConfig {
        file: fields.file.to_owned(),
        rank,
        alpha,
        rslora: fields.flag("use_rslora", false)?,
        ranks: patterns(fields, "rank_pattern")?,
        alphas: patterns(fields, "alpha_pattern")?,
    })
}

/// Neither null, false, 0 nor empty.
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
fn patterns(fields: &Fields, key: &str) -> Result<Vec<(Regex, f64)>> {
    let none = Map::new();
    let map = match fields.get(key) {
        None => &none,
        Some(Value::Object(map)) => map,
        Some(_) => return Err(fields.wrong(key, fields.text(key), "an object")),
    };
    let pattern = |(name, value): (&String, &Value)| {
        let item = || format!("{key}.{name}");
        let regex = Regex::new(&format!("^(?:.*\\.)?(?:{name})$"))
            .map_err(|_| fields.wrong(&item(), "no regular expression", "the name of a module"))?;
        let value = value.as_f64().ok_or_else(|| fields.wrong(&item(), value, "a number"))?;
        Ok((regex, value))
    };
    map.iter().map(pattern).collect()
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
        parse(&Fields { file: Path::new("a.json"), map: &map })
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
    fn whatever_is_more_than_lora_is_refused_by_name() {
        for (key, value, expected) in [
            ("peft_type", json!("IA3"), "found \"IA3\", expected \"LORA\""),
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
            ("alpha_pattern", json!({"(": 1}), "found no regular expression, expected the name of a module"),
        ] {
            let error = config(&[(key, value)]).unwrap_err().to_string();
            let key = if key == "alpha_pattern" { "alpha_pattern.(" } else { key };
            assert_eq!(error, format!("a.json: {key}: {expected}"));
        }
    }

    #[test]
    fn ranks_and_patterns_must_agree() {
        let error = config(&[]).unwrap().scale("m.dense", 4).unwrap_err().to_string();
        assert_eq!(error, "a.json: r: found rank 4 of m.dense, expected 8");
        let both = json!({"dense": 1, ".*": 2});
        let error = config(&[("alpha_pattern", both)]).unwrap().scale("m.dense", 8).unwrap_err().to_string();
        assert_eq!(
            error,
            "a.json: alpha_pattern: found 2 and 1 for m.dense, expected one value for each module"
        );
    }
}
