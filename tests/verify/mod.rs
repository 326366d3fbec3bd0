//! `verify` says yes to what `convert` writes, and no to every damage, naming the culprit.

mod convert;
mod damages;
mod output;
mod outputs;
mod report;
mod shapes;

use std::path::{Path, PathBuf};

use crate::support::command::convert;
use crate::support::{Checkpoint, Cmd, Dir, read_words, testdata};
use glm2llama::verify::{DEFAULT_TEXT, Pair, Verdict, source_logits};
use safetensors::Dtype;

fn tiny() -> PathBuf {
    testdata("models/tiny-chatglm3")
}

/// Everything that `verify` judges, without the command line.
fn judge(model: &Path, gguf: &Path) -> (Verdict, glm2llama::verify::Function) {
    let pair = Pair::open(model, gguf, None).expect("both can be read");
    let (facts, weights) = (pair.facts().expect("facts"), pair.weights(&()).expect("weights"));
    let function = pair.function(DEFAULT_TEXT, 64, &()).expect("both run");
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
        let found = source_logits(&model, &tokens, &()).expect("it runs");
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
        let (model, out) = (shape.folder(), Dir::new());
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

#[test]
fn another_models_file_is_not_the_same() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(&testdata("models/tiny-chatglm3-32k"), "Q8_0", &gguf, &[]);
    let run = Cmd::new("verify").arg(tiny()).arg(&gguf).arg("--weights-only").exit_with(1);
    assert!(run.stdout.contains("verdict: not the same model: "), "{}", run.stdout);
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
    assert!(
        run.stdout.contains("verdict: over the bar: the same model, but its KL divergence is "),
        "{}",
        run.stdout
    );
    assert!(!run.stdout.contains("not the same model"), "{}", run.stdout);
    verify("-1").exit_with(2);
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
    assert!(
        run.stderr.contains("split.no: found 2, expected 1: this is another part under this name"),
        "{}",
        run.stderr
    );
    std::fs::remove_file(folder.join(&parts[1])).expect("deleted");
    Cmd::new("verify").arg(tiny()).arg(folder.join(&parts[0])).exit_with(2);
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
        ("does not start with GGUF", b"no GGUF file at all"),
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
