//! `verify` says yes to what `convert` writes, and no to every damage, naming the culprit.

mod support;

use std::num::NonZero;
use std::path::{Path, PathBuf};

use glm2llama::convert::Job;
use glm2llama::request::Request;
use glm2llama::verify::{DEFAULT_TEXT, Pair, Unwatched, Verdict, source_logits};
use glm2llama::{model, pipeline, remap};
use safetensors::Dtype;
use serde::Deserialize;
use support::command::convert;
use support::damage::Damaged;
use support::{Checkpoint, Cmd, Dir, read_words, shared, testdata, tiny_tokenizer};

fn tiny() -> PathBuf {
    testdata("models/tiny-chatglm3")
}

/// Everything that `verify` judges, without the command line.
fn judge(model: &Path, gguf: &Path) -> (Verdict, glm2llama::verify::Function) {
    let pair = Pair::open(model, gguf, None).expect("both can be read");
    let (facts, weights) = (pair.facts().expect("facts"), pair.weights(&Unwatched).expect("weights"));
    let function = pair.function(DEFAULT_TEXT, 64, &Unwatched).expect("both run");
    (Verdict::new(&weights, &facts, Some(&function), None), function)
}

#[test]
fn the_source_side_computes_the_authors_logits() {
    for name in [
        "tiny-chatglm3",
        "tiny-chatglm3-32k",
        "tiny-chatglm2-32k",
        "tiny-glm4-chat",
        "tiny-glm4-hf",
        "tiny-glm-edge",
    ] {
        let model = testdata("models").join(name);
        let tokens = read_words(&model.join("expected_ids.i32"), u32::from_le_bytes);
        let expected = read_words(&model.join("expected_logits.f32"), f32::from_le_bytes);
        let found = source_logits(&model, &tokens, &Unwatched).expect("it runs");
        assert_eq!(found.len(), expected.len());
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // What the order of sums may change.
        assert!(worst < 5e-5, "{}: {worst}", model.display());
    }
}

#[test]
fn every_type_is_the_same_model_and_fewer_bits_diverge_more() {
    let folder = Dir::new();
    let mut last = -1.0;
    for name in ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"] {
        let gguf = folder.join(name);
        convert(&tiny(), name, &gguf, &[]);
        let (verdict, function) = judge(&tiny(), &gguf);
        assert!(verdict.same, "{name}: {:?}", verdict.blame);
        let increasing = function.mean_kl > last || ["F32", "F16"].contains(&name); // both exact
        assert!(increasing, "{name}: {} after {last}", function.mean_kl);
        last = function.mean_kl;
    }
    for name in ["Q5_0", "Q5_1", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_S", "Q4_K_S", "Q5_K_S"] {
        let gguf = folder.join(name);
        convert(&tiny(), name, &gguf, &["--ffn-pad", "off"]);
        let (verdict, _) = judge(&tiny(), &gguf);
        assert!(verdict.same, "{name}: {:?}", verdict.blame);
    }
}

#[test]
fn every_shape_is_the_same_model() {
    let shapes = [
        Checkpoint {
            dtype: Dtype::BF16,
            kv_heads: 4,
            qkv_bias: false,
            rope_ratio: Some(500.0),
            ..Checkpoint::tiny()
        },
        Checkpoint { dtype: Dtype::F32, shard_bytes: Some(1_000_000), layers: 3, ..Checkpoint::tiny() },
        Checkpoint { qkv_by_head: true, kv_heads: 8, ..Checkpoint::tiny() },
        Checkpoint { heads: 6, kv_heads: 1, head_dim: 64, ffn: 100, ..Checkpoint::tiny() },
        Checkpoint { name: "THUDM/chatglm2-6b-32k".into(), rope_ratio: Some(16.0), ..Checkpoint::tiny() },
    ];
    for shape in shapes {
        let (model, out) = (Dir::new(), Dir::new());
        shape.write(model.path(), &tiny_tokenizer()).expect("written");
        for padding in ["on", "off"] {
            let gguf = out.join(padding);
            convert(model.path(), "F32", &gguf, &["--ffn-pad", padding]);
            let (verdict, function) = judge(model.path(), &gguf);
            assert!(verdict.same, "{shape:?} {padding}: {:?}", verdict.blame);
            // Measured: 1e-12.
            assert!(
                function.mean_kl < 1e-9 && function.top_agreement == 1.0,
                "{shape:?}: {}",
                function.mean_kl
            );
        }
    }
}

/// What is done to a file, and what `verify` has to blame for it.
type Damage = (&'static str, &'static str, fn(&mut Damaged), &'static [&'static str]);

const DAMAGES: [Damage; 22] = [
    (
        "one block flipped",
        "Q4_K_M",
        |f| f.change("blk.1.ffn_up.weight", 144..288, |b| !b),
        &["blk.1.ffn_up.weight"],
    ),
    (
        "one bit flipped",
        "Q4_K_M",
        |f| f.change("blk.0.attn_q.weight", 16..17, |b| b ^ 0x20),
        &["blk.0.attn_q.weight"],
    ),
    ("one bit of a scale", "Q6_K", |f| f.change("output.weight", 208..209, |b| b ^ 0x40), &["output.weight"]),
    ("one bit of F16", "F16", |f| f.change("token_embd.weight", 0..1, |b| b ^ 1), &["token_embd.weight"]),
    (
        "one block lost",
        "Q8_0",
        |f| f.change("blk.0.ffn_down.weight", 0..34, |_| 0),
        &["blk.0.ffn_down.weight"],
    ),
    ("layers exchanged", "Q8_0", exchange_layers, &["blk.0.attn_q.weight", "blk.1.ffn_down.weight"]),
    (
        "q and k exchanged",
        "by_head Q8_0",
        |f| f.exchange("blk.0.attn_q.weight", "blk.0.attn_k.weight"),
        &["blk.0.attn_q.weight", "blk.0.attn_k.weight"],
    ),
    (
        "k and v exchanged",
        "Q8_0",
        |f| f.exchange("blk.0.attn_k.weight", "blk.0.attn_v.weight"),
        &["blk.0.attn_k.weight", "blk.0.attn_v.weight"],
    ),
    (
        "k's and v's biases exchanged",
        "F16",
        |f| f.exchange("blk.1.attn_k.bias", "blk.1.attn_v.bias"),
        &["blk.1.attn_k.bias", "blk.1.attn_v.bias"],
    ),
    (
        "gate and up exchanged",
        "Q4_K_M",
        |f| f.exchange("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"),
        &["blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"],
    ),
    (
        "embedding and output exchanged",
        "F16",
        |f| f.exchange("token_embd.weight", "output.weight"),
        &["token_embd.weight", "output.weight"],
    ),
    (
        "norms exchanged",
        "Q8_0",
        |f| f.exchange("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"),
        &["blk.0.attn_norm.weight"],
    ),
    (
        "wrong base",
        "Q8_0",
        |f| f.set_value("llama.rope.freq_base", 10_000f32.to_le_bytes()),
        &["llama.rope.freq_base"],
    ),
    ("a factor of 1", "Q8_0", |f| f.set_f32("rope_freqs.weight", 9, 1.0), &["rope_freqs.weight"]),
    (
        "a factor of 16",
        "Q8_0",
        |f| (0..8).for_each(|i| f.set_f32("rope_freqs.weight", i, 16.0)),
        &["rope_freqs.weight"],
    ),
    (
        "no factors",
        "Q8_0",
        |f| f.replace("GGUF", "rope_freqs.weight", "rope_frexs.weight"),
        &["rope_freqs.weight", "rope_frexs.weight"],
    ),
    (
        "wrong epsilon",
        "Q8_0",
        |f| f.set_value("llama.attention.layer_norm_rms_epsilon", 1e-6f32.to_le_bytes()),
        &["llama.attention.layer_norm_rms_epsilon"],
    ),
    (
        "tokens exchanged",
        "Q8_0",
        |f| f.replace("tokenizer.ggml.tokens", "<0x41>", "<0x42>"),
        &["tokenizer.ggml.tokens"],
    ),
    (
        "another end of turn",
        "Q8_0",
        |f| f.set_value("tokenizer.ggml.eot_token_id", 907u32.to_le_bytes()),
        &["tokenizer.ggml.eot_token_id"],
    ),
    (
        "another template",
        "Q8_0",
        |f| f.replace("tokenizer.chat_template", "<|assistant|>", "<|assistent|>"),
        &["tokenizer.chat_template"],
    ),
    (
        "padding that acts",
        "F32",
        fill_padding,
        &["blk.0.ffn_down.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"],
    ),
    (
        "a key of another kind",
        "F16",
        |f| f.replace("GGUF", "llama.rope.freq_base", "llama.rope.freq_basa"),
        &["llama.rope.freq_basa", "llama.rope.freq_base"],
    ),
];

fn exchange_layers(file: &mut Damaged) {
    for part in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
        file.exchange(&format!("blk.0.{part}.weight"), &format!("blk.1.{part}.weight"));
    }
}

fn fill_padding(file: &mut Damaged) {
    // 352 of 512 are the network's own; `down` has rows of 512.
    for name in ["blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"] {
        file.set_f32(name, 400 * 256, 0.5);
    }
    file.set_f32("blk.0.ffn_down.weight", 400, 0.5);
}

#[test]
fn every_damage_is_found_and_the_culprit_named() {
    let (by_head, folder) = (Dir::new(), Dir::new());
    let shape = Checkpoint { qkv_by_head: true, kv_heads: 8, ..Checkpoint::tiny() };
    shape.write(by_head.path(), &tiny_tokenizer()).expect("written");
    for (name, type_name, damage, culprits) in DAMAGES {
        let gguf = folder.join("m.gguf");
        let (model, type_name) = match type_name.strip_prefix("by_head ") {
            Some(type_name) => (by_head.path().to_owned(), type_name),
            None => (tiny(), type_name),
        };
        convert(&model, type_name, &gguf, &["--force", "--ffn-pad", "on"]);
        let mut file = Damaged::read(&gguf);
        damage(&mut file);
        file.write();
        let run = Cmd::new("verify").arg(&model).arg(&gguf).args(&["--tokens", "16", "--json"]).exit_with(1);
        let blamed: Vec<String> = events(&run.stdout)
            .into_iter()
            .filter_map(|event| if let Event::Finding { subject, .. } = event { Some(subject) } else { None })
            .collect();
        for culprit in culprits {
            assert!(blamed.iter().any(|subject| subject == culprit), "{name}: blamed {blamed:?}");
        }
        // Nothing innocent is blamed; the divergence may be over its bar besides.
        let innocent =
            blamed.iter().filter(|subject| !subject.starts_with("blk.") && *subject != "KL divergence");
        let innocent: Vec<_> = innocent.filter(|subject| !culprits.contains(&subject.as_str())).collect();
        assert!(innocent.is_empty(), "{name}: blamed {innocent:?}");
    }
}

#[test]
fn padding_that_multiplies_zero_is_no_damage() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(&tiny(), "F32", &gguf, &["--ffn-pad", "on"]);
    let mut file = Damaged::read(&gguf);
    file.set_f32("blk.0.ffn_up.weight", 400 * 256, 0.5);
    file.write();
    Cmd::new("verify").arg(tiny()).arg(&gguf).args(&["--tokens", "16"]).succeed();
}

#[test]
fn what_cannot_be_judged_is_exit_code_2_and_one_line() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(&tiny(), "Q8_0", &gguf, &[]);
    let whole = std::fs::read(&gguf).expect("a file");
    let cases: [(&str, &[u8]); 4] = [
        ("is the file complete?", &whole[..whole.len() - 1000]),
        ("is the file complete?", &whole[..2000]),
        ("found magic", b"no GGUF file at all"),
        ("found 0 bytes left", b""),
    ];
    for (expected, bytes) in cases {
        std::fs::write(&gguf, bytes).expect("written");
        for command in ["verify", "inspect"] {
            let run = Cmd::new(command);
            let run = if command == "verify" { run.arg(tiny()) } else { run };
            let run = run.arg(&gguf).exit_with(2);
            assert!(run.stderr.contains(expected) && run.stderr.lines().count() == 1, "{}", run.stderr);
            assert_eq!(run.stdout, "");
        }
    }
    let text = folder.join("no-text");
    std::fs::write(&gguf, &whole).expect("written");
    Cmd::new("verify").arg(tiny()).arg(&gguf).arg("--text").arg(&text).exit_with(2);
}

#[test]
fn another_models_file_is_not_the_same() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(&testdata("models/tiny-chatglm3-32k"), "Q8_0", &gguf, &[]);
    let run = Cmd::new("verify").arg(tiny()).arg(&gguf).arg("--weights-only").exit_with(1);
    assert!(run.stdout.contains("verdict: not the same model: to blame: "), "{}", run.stdout);
}

#[test]
fn the_bar_can_be_set() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(&tiny(), "Q4_K_M", &gguf, &[]);
    let verify =
        |bar: &str| Cmd::new("verify").arg(tiny()).arg(&gguf).args(&["--tokens", "32", "--max-kld", bar]);
    verify("1").succeed();
    let run = verify("0.0001").exit_with(1);
    assert!(run.stdout.contains("to blame: KL divergence"), "{}", run.stdout);
    verify("-1").exit_with(2);
}

#[test]
fn a_conversion_checks_itself_before_the_file_has_its_name() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    let run = Cmd::new("convert")
        .arg(tiny())
        .args(&["--verify", "--no-modelfile", "--output"])
        .arg(&gguf)
        .succeed();
    assert!(run.stdout.contains("the same model, within what F32, Q4_K and Q6_K allow"), "{}", run.stdout);
    std::fs::remove_file(&gguf).expect("deleted");

    let request = Request {
        model: model::Request { folder: tiny(), ..model::Request::default() },
        types: vec!["Q4_K_M".parse().expect("a type")],
        output: Some(gguf.clone()),
        ..Request::default()
    };
    let job = Job::prepare(&request).expect("a job");
    let options = pipeline::Options {
        threads: NonZero::<usize>::MIN,
        memory_bytes: pipeline::DEFAULT_MEMORY_BYTES,
        backend: quant::Backend::detect(),
    };
    let outputs = job.create_outputs().expect("created");
    let filled = job.fill(outputs, options, &Unstopped).expect("filled");
    let temporary = filled.files().next().expect("an output")[0].1.to_owned();
    let mut file = Damaged::read(&temporary);
    file.exchange("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight");
    file.write();
    let (verdict, _) = judge(&tiny(), &temporary);
    assert!(!verdict.same && !gguf.exists());
    drop(filled);
    assert_eq!(folder.names(), Vec::<String>::new());
}

struct Unstopped;

impl pipeline::Watch for Unstopped {
    fn advanced(&self, _: usize, _: u64) {}

    fn stopped(&self) -> bool {
        false
    }
}

/// Every field is named: one more or less in the program is a change that its users must be told of.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", deny_unknown_fields)]
#[allow(dead_code)]
enum Event {
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
    Position {
        position: usize,
        token: String,
        kl: Option<f64>,
        same_top: bool,
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
        same: bool,
        verdict: String,
        max_kl: f64,
        weights_compared: u64,
        weights_seconds: f64,
        seconds: f64,
        peak_memory_bytes: Option<u64>,
    },
}

fn events(stdout: &str) -> Vec<Event> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn json_tells_all_there_is() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(&tiny(), "Q4_K_M", &gguf, &[]);
    let run = Cmd::new("verify").arg(tiny()).arg(&gguf).args(&["--tokens", "16", "--json"]).succeed();
    let events = events(&run.stdout);
    let count = |test: fn(&Event) -> bool| events.iter().filter(|event| test(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Tensor { .. })), 27);
    assert_eq!(count(|event| matches!(event, Event::Position { .. })), 16);
    assert!(matches!(events.last(), Some(Event::Verdict { same: true, .. })));
    // Nothing of `remap` is used, but both must speak of the same model.
    let Some(Event::Verdict { weights_compared, .. }) = events.last() else { panic!("a verdict") };
    let model =
        model::Model::open(&model::Request { folder: tiny(), ..model::Request::default() }).expect("a model");
    let plan: &remap::Plan = &model.plan;
    assert_eq!(*weights_compared, plan.parameters());
}

#[test]
fn the_parts_of_a_split_model_are_one() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(&tiny(), "Q8_0", &gguf, &["--split-max-size", "300K", "--verify"]);
    let parts = folder.names();
    assert!(parts.len() > 3 && parts.iter().all(|name| name.contains("-of-0000")), "{parts:?}");
    for part in [&parts[0], &parts[2]] {
        let (verdict, _) = judge(&tiny(), &folder.join(part));
        assert!(verdict.same, "{part}: {:?}", verdict.blame);
    }
    std::fs::copy(folder.join(&parts[2]), folder.join(&parts[1])).expect("copied");
    let run = Cmd::new("verify").arg(tiny()).arg(folder.join(&parts[0])).exit_with(2);
    assert!(run.stderr.contains("split.no: found another"), "{}", run.stderr);
    std::fs::remove_file(folder.join(&parts[1])).expect("deleted");
    Cmd::new("verify").arg(tiny()).arg(folder.join(&parts[0])).exit_with(2);
}

#[test]
fn glm4s_vocabulary_is_judged() {
    let (Some(tokenizer), Some(config)) =
        (shared("data/tokenizer/glm4.tiktoken"), shared("data/family/glm-4-9b-chat/tokenizer_config.json"))
    else {
        return;
    };
    let (model, folder) = (Dir::new(), Dir::new());
    let tiny = Checkpoint::tiny();
    let shape = Checkpoint { layers: 1, hidden: 32, heads: 1, kv_heads: 1, ffn: 32, vocab: 151_552, ..tiny };
    shape.write(model.path(), &tokenizer).expect("written");
    std::fs::copy(config, model.join("tokenizer_config.json")).expect("copied");
    let gguf = folder.join("m.gguf");
    convert(model.path(), "Q8_0", &gguf, &[]);
    let (verdict, function) = judge(model.path(), &gguf);
    assert!(verdict.same, "{:?}", verdict.blame);
    assert_eq!(function.texts[2..7].concat(), "An old lighthouse stands");

    for (after, from, to, culprit) in [
        ("tokenizer.ggml.tokens", "ational", "etional", "tokenizer.ggml.tokens"),
        ("tokenizer.ggml.merges", "Ġ t", "Ġ p", "tokenizer.ggml.merges"),
        ("tokenizer.chat_template", "<sop>", "<eop>", "tokenizer.chat_template"),
    ] {
        convert(model.path(), "Q8_0", &gguf, &["--force"]);
        let mut file = Damaged::read(&gguf);
        file.replace(after, from, to);
        file.write();
        let (verdict, _) = judge(model.path(), &gguf);
        assert!(
            verdict.blame.iter().any(|finding| finding.subject == culprit),
            "{culprit}: {:?}",
            verdict.blame
        );
    }
}

#[test]
fn verify_stands_beside_the_converter() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/verify");
    let allowed = ["checkpoint", "config", "error", "gguf"];
    for entry in folder.read_dir().expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let text = std::fs::read_to_string(&entry).expect("text");
        for used in text.match_indices("crate::").map(|(at, _)| &text[at + 7..]) {
            let module: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            assert!(allowed.contains(&module.as_str()), "{} uses {module}", entry.display());
        }
    }
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
