//! What `verify` prints and draws.

use glm2llama::{model, remap};
use serde::Deserialize;

use super::tiny;
use crate::support::command::convert;
use crate::support::damage::Damaged;
use crate::support::{Cmd, Dir};

/// Every field is named: one more or less in the program is a change that its users must be told of.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", deny_unknown_fields)]
#[allow(dead_code)]
pub enum Event {
    Tensor {
        name: String,
        layer: Option<usize>,
        format: String,
        bytes: u64,
        weights: u64,
        weights_outside: u64,
        largest_error: Option<f32>,
        largest_use: Option<f32>,
        relative_rmse: Option<f64>,
        snr_db: Option<f64>,
    },
    Finding {
        subject: String,
        problem: String,
    },
    Metadata {
        facts: usize,
        tokens: Option<usize>,
    },
    Receipt {
        files: usize,
    },
    Position {
        position: usize,
        token: String,
        kl: Option<f64>,
        same_top: bool,
        source_likeliest: String,
        file_likeliest: String,
        source_surprise: Option<f64>,
        file_surprise: Option<f64>,
        largest_logit_difference: Option<f32>,
    },
    Function {
        tokens: usize,
        mean_kl: Option<f64>,
        median_kl: Option<f64>,
        kl_99_percent: Option<f64>,
        largest_kl: Option<f64>,
        top_1_agreement: f64,
        source_perplexity: Option<f64>,
        file_perplexity: Option<f64>,
        largest_logit_difference: Option<f32>,
    },
    Verdict {
        file: String,
        same: bool,
        verdict: String,
        quality: Option<String>,
        max_kl: Option<f64>,
        weights_compared: u64,
        weights_seconds: f64,
        seconds: f64,
        peak_memory_bytes: Option<u64>,
    },
}

pub fn events(stdout: &str) -> Vec<Event> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn json_tells_all_there_is() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    let receipt = folder.join("r.json");
    convert(&tiny(), "Q4_K_M", &gguf, &["--receipt", receipt.to_str().expect("UTF-8")]);
    let run = Cmd::new("verify").arg(tiny()).arg(&gguf).args(&["--tokens", "16", "--json"]);
    let run = run.arg("--receipt").arg(&receipt).succeed();
    let events = events(&run.stdout);
    let count = |test: fn(&Event) -> bool| events.iter().filter(|event| test(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Tensor { .. })), 27);
    assert_eq!(count(|event| matches!(event, Event::Position { .. })), 16);
    assert_eq!(count(|event| matches!(event, Event::Receipt { files: 7 })), 1);
    assert!(matches!(events.last(), Some(Event::Verdict { same: true, .. })));
    // Nothing of `remap` is used, but both must speak of the same model.
    let Some(Event::Verdict { weights_compared, .. }) = events.last() else { panic!("a verdict") };
    let model = model::Model::open(&model::ModelSource { folder: tiny(), ..model::ModelSource::default() })
        .expect("a model");
    let plan: &remap::Plan = &model.plan;
    assert_eq!(*weights_compared, plan.parameters());
}

#[test]
fn the_page_is_complete_in_itself() {
    let folder = Dir::new();
    let (gguf, page) = (folder.join("m.gguf"), folder.join("page.html"));
    convert(&tiny(), "Q4_K_M", &gguf, &[]);
    let mut file = Damaged::read(&gguf);
    file.change("blk.1.attn_v.weight", 0..64, |byte| !byte);
    file.write();
    let run = Cmd::new("verify").arg(tiny()).arg(&gguf).args(&["--tokens", "24", "--report"]).arg(&page);
    run.exit_with(1);
    let html = std::fs::read_to_string(page).expect("a page");
    for foreign in ["<script", "http://", "https://", "<link", "<img", "url("] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    for part in
        ["Not the same model", "blk.1.attn_v.weight", "class=\"outside\"", "Divergence along the tokens"]
    {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
}
