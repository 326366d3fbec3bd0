//! The siblings of ChatGLM3 in every format that they are published in: each converts, under its own name, and a
//! real llama.cpp computes from it what the original computes.

use std::fs;
use std::path::Path;

use crate::support::command::convert;
use crate::support::gguf::{self, Gguf};
use crate::support::logits::{Expected, difference};
use crate::support::tokenizers::{tiktoken, without_tokenizer};
use crate::support::{Checkpoint, Cmd, Dir, copy_files, shared, testdata};
use llama_runtime::{Attention, require_runtime};
use safetensors::Dtype;
use serde_json::{Value, json};

/// A checkpoint of testdata, and the part of its name that it must get.
const GOLDEN: [(&str, &str); 6] = [
    ("tiny-chatglm3", "ChatGLM3"),
    ("tiny-chatglm3-32k", "ChatGLM3"),
    ("tiny-chatglm2-32k", "ChatGLM2"),
    ("tiny-glm4-chat", "GLM-4"),
    ("tiny-glm4-hf", "GLM-Edge"), // too small for a GLM-4
    ("tiny-glm-edge", "GLM-Edge"),
];

/// A copy of a checkpoint of testdata, with a small tokenizer of its kind where it has none.
fn golden(name: &str) -> Dir {
    let folder = Dir::new();
    copy_files(&testdata("models").join(name), folder.path());
    if without_tokenizer(folder.path()) {
        tiktoken(folder.path(), 900);
    }
    folder
}

#[test]
fn every_golden_checkpoint_converts_and_llama_cpp_gives_its_logits() {
    let runtime = require_runtime!();
    for (name, basename) in GOLDEN {
        let (model, out) = (golden(name), Dir::new());
        let gguf = out.join("model.gguf");
        convert(model.path(), "F32", &gguf, &["--verify"]);
        let expected = Expected::golden(model.path());
        // Measured: up to 1e-5 and 3e-3.
        let exact = difference(runtime, &gguf, Attention::F32, &expected);
        assert!(exact.worst < 1e-4 && exact.other_top == 0.0, "{name}: {exact:?}");
        let usual = difference(runtime, &gguf, Attention::Default, &expected);
        assert!(usual.worst < 0.01, "{name}: {usual:?}");
        let found = Gguf::read(&gguf);
        assert_eq!(found.value("general.basename"), &gguf::Value::Text(basename.to_owned()), "{name}");
    }
}

/// `--rope-ratio-applies-to` goes before what the files tell, and the run says what it took and why.
#[test]
fn the_meaning_of_rope_ratio_is_said_and_can_be_overridden() {
    let (model, out) = (golden("tiny-chatglm2-32k"), Dir::new());
    let run = |name: &str, arguments: &[&str]| {
        let gguf = out.join(name);
        let run = Cmd::new("convert").arg(model.path()).args(&["--type", "F16", "--output"]).arg(&gguf);
        (run.args(arguments).succeed().stderr, Gguf::read(&gguf))
    };
    let base = |gguf: &Gguf| gguf.value("llama.rope.freq_base").clone();
    let (said, found) = run("a.gguf", &[]);
    assert!(
        said.contains("rope_ratio 16 divides the positions: seq_length 32768 and rope_ratio 16 are"),
        "{said}"
    );
    assert_eq!(base(&found), gguf::Value::Float(1e8));
    let (said, forced) = run("b.gguf", &["--rope-ratio-applies-to", "base"]);
    assert!(
        said.contains("rope_ratio 16 multiplies the frequency base: --rope-ratio-applies-to says so"),
        "{said}"
    );
    assert_eq!(base(&forced), gguf::Value::Float(25_600_000_000.0));

    // A ChatGLM2 by another name is told by its tokenizer's files, and a ChatGLM3 stays one.
    edit(&model.join("config.json"), |config| config["_name_or_path"] = json!("/data/my-model"));
    let (said, found) = run("c.gguf", &[]);
    assert!(said.contains("rope_ratio 16 divides the positions: seq_length 32768"), "{said}");
    assert_eq!(base(&found), gguf::Value::Float(1e8));
}

#[test]
fn siblings_without_a_golden_checkpoint_convert_too() {
    let runtime = require_runtime!();
    let tiny = Checkpoint::tiny;
    let name = |name: &str| format!("THUDM/{name}");
    for (shape, basename, finetune) in [
        (Checkpoint { name: name("chatglm3-6b-base"), ..tiny() }, "ChatGLM3", Some("Base")),
        (Checkpoint { rope_ratio: Some(500.0), seq_length: 131_072, ..tiny() }, "ChatGLM3", Some("128k")),
        (Checkpoint { name: name("chatglm2-6b"), seq_length: 32768, ..tiny() }, "ChatGLM2", None),
        (Checkpoint { name: name("codegeex2-6b"), dtype: Dtype::BF16, ..tiny() }, "CodeGeeX2", None),
        // Longer texts than 2^16 by the base alone: GLM-4-9B-Chat-1M, with four key heads.
        (
            Checkpoint {
                kv_heads: 4,
                rope_ratio: Some(10_000.0),
                seq_length: 1 << 20,
                dtype: Dtype::BF16,
                ..tiny()
            },
            "ChatGLM3",
            None,
        ),
    ] {
        let (model, out) = (shape.folder(), Dir::new());
        // The made-up one has ChatGLM3's template.
        let tokenizer_config = json!({ "name_or_path": shape.name }).to_string();
        fs::write(model.join("tokenizer_config.json"), tokenizer_config).expect("written");
        let gguf = out.join("model.gguf");
        convert(model.path(), "F32", &gguf, &[]);
        let exact = difference(runtime, &gguf, Attention::F32, &Expected::computed(model.path()));
        assert!(exact.worst < 1e-4 && exact.other_top == 0.0, "{}: {exact:?}", shape.name);
        let found = Gguf::read(&gguf);
        assert_eq!(found.value("general.basename"), &gguf::Value::Text(basename.to_owned()));
        let finetune = finetune.map(|text| gguf::Value::Text(text.to_owned()));
        assert_eq!(found.meta.get("general.finetune"), finetune.as_ref(), "{}", shape.name);
    }
}

/// GLM-4's published variants, by their config and tokenizer alone.
#[test]
fn glm4_variants_get_their_names() {
    for (change, chats, expected) in [
        (json!({}), true, "GLM-4 1.4M Chat"),
        (json!({"seq_length": 1 << 20, "rope_ratio": 10000}), true, "GLM-4 1.4M Chat-1M"),
        (
            json!({"seq_length": 8192, "rope_ratio": 1, "_name_or_path": "THUDM/glm-4-9b"}),
            false,
            "GLM-4 1.4M",
        ),
        (json!({"_name_or_path": "THUDM/codegeex4-all-9b"}), true, "CodeGeeX4 1.4M All"),
        (json!({"_name_or_path": "my-model"}), true, "GLM-4 1.4M Chat"),
    ] {
        let (model, out) = (golden("tiny-glm4-chat"), Dir::new());
        edit(&model.join("config.json"), |config| {
            for (key, value) in change.as_object().expect("an object") {
                config[key] = value.clone();
            }
        });
        if !chats {
            fs::write(model.join("tokenizer_config.json"), "{}").expect("written");
        }
        let gguf = out.join("model.gguf");
        convert(model.path(), "F16", &gguf, &[]);
        let found = Gguf::read(&gguf);
        assert_eq!(found.value("general.name"), &gguf::Value::Text(expected.to_owned()));
    }
}

/// One line, exit code 2, nothing written.
#[test]
fn relatives_that_llama_cannot_express_are_refused_by_name() {
    for (change, expected) in [
        (
            json!({"model_type": "glm4", "architectures": ["Glm4ForCausalLM"]}),
            "model_type: found \"glm4\", expected a model that Llama can express: its layers have two more norms",
        ),
        (
            json!({"model_type": "glm4_moe", "architectures": ["Glm4MoeForCausalLM"]}),
            "model_type: found \"glm4_moe\", expected a model that Llama can express: its layers choose between",
        ),
        (
            json!({"vision_config": {"hidden_size": 1792}}),
            "vision_config: found {\"hidden_size\":1792}, expected",
        ),
        (
            json!({"pre_seq_len": 128}),
            "pre_seq_len: found 128, expected none: P-Tuning v2 adds a trained prefix",
        ),
        (
            json!({"quantization_bit": 4}),
            "quantization_bit: found 4, expected none: the weights were quantized already",
        ),
    ] {
        let (model, out) = (golden("tiny-glm4-chat"), Dir::new());
        edit(&model.join("config.json"), |config| {
            for (key, value) in change.as_object().expect("an object") {
                config[key] = value.clone();
            }
        });
        let run = Cmd::new("convert").arg(model.path()).current_dir(out.path()).exit_with(2);
        assert!(run.stderr.contains(&format!("config.json: {expected}")), "{}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert_eq!(out.names(), [""; 0]);
    }
}

fn edit(file: &Path, edit: impl Fn(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(file).expect("read")).expect("JSON");
    edit(&mut value);
    fs::write(file, value.to_string()).expect("written");
}

/// The transformers format holds the same vocabulary in `tokenizer.json`, which the export writes.
#[test]
fn tokenizer_json_gives_the_vocabulary_of_tiktokens_file() {
    let small = Dir::new();
    tiktoken(small.path(), 900);
    let real =
        shared("data/tokenizer/glm4.tiktoken").zip(shared("data/family/glm-4-9b-chat/tokenizer_config.json"));
    let small = (small.join("tokenizer.model"), small.join("tokenizer_config.json"));
    for (vocab, files) in [(1024, Some(small)), (151_552, real)] {
        let Some((ranks, tokenizer_config)) = files else { continue };
        let (model, exported, out) = (Dir::new(), Dir::new(), Dir::new());
        let shape =
            Checkpoint { layers: 1, hidden: 32, heads: 1, kv_heads: 1, ffn: 32, vocab, ..Checkpoint::tiny() };
        shape.write(model.path(), &ranks).expect("written");
        fs::copy(&tokenizer_config, model.join("tokenizer_config.json")).expect("copied");
        convert(model.path(), "F16", &out.join("a.gguf"), &[]);

        let folder = exported.join("hf");
        Cmd::new("export-hf").arg(model.path()).arg(&folder).arg("--quiet").succeed();
        fs::remove_file(model.join("tokenizer.model")).expect("removed");
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(folder.join(name), model.join(name)).expect("copied");
        }
        convert(model.path(), "F16", &out.join("b.gguf"), &[]);
        let (a, b) = (Gguf::read(&out.join("a.gguf")), Gguf::read(&out.join("b.gguf")));
        let (a, b) = (a.model_meta(), b.model_meta());
        for (key, value) in &a {
            assert!(b.get(key) == Some(value), "{key}");
        }
        assert_eq!(a.len(), b.len());
    }
}
