//! The config of a LoRA adapter.

use std::fs;

use serde_json::{Map, Value, json};

use super::{linked, mismatch};
use crate::support::Checkpoint;

const NO_WEIGHTS: &str =
    "found no adapter's weights, expected adapter_model.safetensors or adapter_model.bin";

#[test]
fn patterns() {
    let many = |count: usize, text: fn(usize) -> String| -> Map<String, Value> {
        (0..count).map(|i| (text(i), json!(1))).collect()
    };
    let good = Checkpoint::tiny().folder();
    let mut wrong = Vec::new();
    for (patterns, line) in [
        (
            many(40, |i| format!(r"[\w]{{5000}}{i:02}")),
            r"alpha_pattern.[\w]{5000}00: found a pattern that cannot be used: Compiled regex exceeds size limit of 65536 bytes, expected a module's name or a short regular expression",
        ),
        (many(8000, |i| format!("dense{i}")), "alpha_pattern: found 8000 patterns, expected at most 512"),
        (
            many(512, |i| format!(r"\w{{300}}{i}")),
            "alpha_pattern: found patterns too large together, expected modules' names or short regular expressions",
        ),
        (many(512, |i| format!("{}{i:03}", "(a|b)?".repeat(20))), NO_WEIGHTS),
        // Once 88 MB from 870 bytes.
        (many(40, |i| format!(r"[\w]{{100}}{i:02}")), NO_WEIGHTS),
        // As many as there may be, and then something else is missing.
        (many(512, |i| format!("transformer.encoder.layers.{i}.self_attention.query_key_value")), NO_WEIGHTS),
        (
            many(1, |_| "a".repeat(1_000_000)),
            "alpha_pattern: found patterns of 1000000 bytes, expected at most 65536 in all of them",
        ),
    ] {
        let folder = linked(good.path());
        fs::create_dir(folder.join("ad")).expect("made");
        let config = json!({"peft_type": "LORA", "r": 4, "alpha_pattern": patterns});
        fs::write(folder.join("ad/adapter_config.json"), config.to_string()).expect("written");
        let config = if line == NO_WEIGHTS { "ad" } else { "ad/adapter_config.json" };
        let line = format!("{config}: {line}");
        wrong.extend(mismatch(folder.path(), &["plan", ".", "--lora", "./ad"], &line));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
