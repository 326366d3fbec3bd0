//! The options that users of llama.cpp's tools know: the same bytes as its own, and files that it loads.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::support::command::convert;
use crate::support::gguf::{Gguf, Value};
use crate::support::{Checkpoint, Cmd, Dir, tiny_tokenizer};
use llama_runtime::{Attention, Quantize, require_runtime};

// ggml's numbers of types.
const Q5_0: u32 = 6;
const Q8_0: u32 = 8;
const Q5_K: u32 = 13;
const Q6_K: u32 = 14;

fn model(dir: &Dir) -> PathBuf {
    let model = dir.join("model");
    Checkpoint { layers: 5, ..Checkpoint::tiny() }.write(&model, &tiny_tokenizer()).expect("written");
    model
}

#[test]
fn types_by_hand_have_llama_cpps_bytes() {
    let runtime = require_runtime!();
    let dir = Dir::new();
    let model = model(&dir);
    let plain = Quantize::to(15);
    let patterns: &[(&str, u32)] = &[("attn_q", Q6_K), ("ffn_(gate|up)", Q5_K)];
    let first: &[(&str, u32)] = &[("blk\\.[02]\\.attn_k", Q8_0), ("attn_k|attn_q", Q5_0)];
    let narrow: &[(&str, u32)] = &[("ffn_down", Q6_K)];
    let cases: [(&[&str], &str, Quantize); 6] = [
        (&["--pure"], "on", Quantize { pure: true, ..plain }),
        (
            &["--output-tensor-type", "q8_0", "--token-embedding-type", "Q6_K"],
            "on",
            Quantize { output: Some(Q8_0), token_embedding: Some(Q6_K), ..plain },
        ),
        (
            &["--tensor-type", "ATTN_Q=q6_k", "--tensor-type", "ffn_(gate|up)=Q5_K"],
            "on",
            Quantize { tensors: patterns, ..plain },
        ),
        // The first pattern that matches counts.
        (
            &["--tensor-type", r"blk\.[02]\.attn_k=Q8_0", "--tensor-type", "attn_k|attn_q=Q5_0"],
            "on",
            Quantize { tensors: first, ..plain },
        ),
        (
            &["--pure", "--token-embedding-type", "Q5_0"],
            "on",
            Quantize { pure: true, token_embedding: Some(Q5_0), ..plain },
        ),
        // Rows of 160: the fallback comes after the choice.
        (&["--tensor-type", "ffn_down=Q6_K"], "off", Quantize { tensors: narrow, ..plain }),
    ];
    for (options, padding, how) in cases {
        let (f32_file, ours, theirs) = (dir.join("f32.gguf"), dir.join("ours.gguf"), dir.join("theirs.gguf"));
        let pad = ["--ffn-pad", padding, "--force"];
        convert(&model, "F32", &f32_file, &pad);
        convert(&model, "Q4_K_M", &ours, &[options, &pad].concat());
        runtime.quantize_model(&f32_file, &theirs, &how).expect("llama.cpp quantizes");
        let (ours, theirs) = (Gguf::read(&ours), Gguf::read(&theirs));
        assert_eq!(ours.model_meta(), theirs.model_meta(), "{options:?}");
        for (name, our) in &ours.tensors {
            let their = &theirs.tensors[name];
            assert_eq!(our.ggml_type, their.ggml_type, "{options:?} {name}");
            assert!(our.bytes == their.bytes, "{options:?} {name} differs");
        }
    }
}

#[test]
fn a_split_model_is_the_whole_one_in_llama_cpp() {
    let dir = Dir::new();
    let model = model(&dir);
    convert(&model, "Q8_0", &dir.join("whole.gguf"), &[]);
    convert(&model, "Q8_0", &dir.join("parts.gguf"), &["--split-max-size", "300K"]);
    let parts: Vec<_> = dir.names().into_iter().filter(|name| name.starts_with("parts-")).collect();
    let count = parts.len();
    assert!(count > 3 && !dir.join("parts.gguf").exists(), "{parts:?}");
    let whole = Gguf::read(&dir.join("whole.gguf"));
    let mut tensors = BTreeMap::new();
    for (i, part) in parts.iter().enumerate() {
        assert_eq!(*part, format!("parts-{:05}-of-{count:05}.gguf", i + 1));
        let gguf = Gguf::read(&dir.join(part));
        assert_eq!(gguf.meta["split.no"], Value::Int(i as i128));
        assert_eq!(gguf.meta["split.count"], Value::Int(count as i128));
        assert_eq!(gguf.meta["split.tensors.count"], Value::Int(whole.tensors.len() as i128));
        let bytes: usize = gguf.tensors.values().map(|tensor| tensor.bytes.len()).sum();
        assert!(bytes <= 300_000, "{bytes} bytes in {part}");
        tensors.extend(gguf.tensors);
    }
    assert_eq!(tensors, whole.tensors);

    let runtime = require_runtime!();
    let logits = |name: &str| {
        let model = runtime.load(&dir.join(name)).expect("llama.cpp loads it");
        model.logits(&[1, 5, 70, 600], Attention::F32).expect("llama.cpp runs it")
    };
    assert_eq!(logits(&parts[0]), logits("whole.gguf"));
}

#[test]
fn a_vocabulary_alone_tokenizes_in_llama_cpp() {
    let dir = Dir::new();
    let model = model(&dir);
    convert(&model, "F16", &dir.join("whole.gguf"), &[]);
    let run = Cmd::new("convert")
        .arg(&model)
        .args(&["--vocab-only", "--quiet", "--model-name", "Tiny"])
        .current_dir(dir.path());
    run.succeed();
    let file = dir.join("Tiny-vocab.gguf");
    let found = dir.names();
    assert!(file.exists(), "{found:?}");
    assert!(!found.iter().any(|name| name.ends_with("Modelfile") && name.contains("vocab")), "{found:?}");
    let (vocabulary, whole) = (Gguf::read(&file), Gguf::read(&dir.join("whole.gguf")));
    assert!(vocabulary.tensors.is_empty());
    assert_eq!(vocabulary.meta["glm2llama.options"], Value::Text("--vocab-only".to_owned()));
    assert_eq!(vocabulary.meta["tokenizer.ggml.tokens"], whole.meta["tokenizer.ggml.tokens"]);

    let runtime = require_runtime!();
    let (vocabulary, whole) = (runtime.load_vocabulary(&file), runtime.load(&dir.join("whole.gguf")));
    let (vocabulary, whole) = (vocabulary.expect("llama.cpp loads it"), whole.expect("llama.cpp loads it"));
    let text = "hello 你好 <|user|>";
    assert_eq!(vocabulary.tokenize(text, true, true), whole.tokenize(text, true, true));
}

#[test]
fn card_file_and_options_say_what_the_metadata_is() {
    let dir = Dir::new();
    let model = model(&dir);
    fs::write(
        model.join("README.md"),
        "---\nlicense: mit\ntags: [glm]\nbase_model: THUDM/chatglm3-6b\n---\n",
    )
    .unwrap();
    fs::write(dir.join("meta.json"), r#"{"general.license": "apache-2.0", "general.author": "A"}"#).unwrap();
    fs::write(dir.join("chat.jinja"), "{{ messages[0]['content'] }}").unwrap();
    let options = [
        "--quiet",
        "--model-name",
        "My Model",
        "--metadata",
        "meta.json",
        "--chat-template",
        "chat.jinja",
        "--override-kv",
        "llama.context_length=int:4096",
        "--override-kv",
        "general.author=str:B: b",
        "--override-kv",
        "my.flag=bool:true",
    ];
    Cmd::new("convert").arg(&model).args(&options).current_dir(dir.path()).succeed();
    let meta = Gguf::read(&dir.join("My-Model-Q4_K_M.gguf")).meta;
    let text = |text: &str| Value::Text(text.to_owned());
    let expected = [
        ("general.name", text("My Model")),
        ("general.basename", text("ChatGLM3")),
        ("general.license", text("apache-2.0")),
        ("general.author", text("B: b")),
        ("general.tags", Value::List(vec![text("glm")])),
        ("general.base_model.count", Value::Int(1)),
        ("general.base_model.0.organization", text("THUDM")),
        ("llama.context_length", Value::Int(4096)),
        ("my.flag", Value::Bool(true)),
        ("tokenizer.chat_template", text("{{ messages[0]['content'] }}")),
    ];
    for (key, value) in expected {
        assert_eq!(meta[key], value, "{key}");
    }
    let modelfile = fs::read_to_string(dir.join("My-Model-Q4_K_M.Modelfile")).unwrap();
    assert!(
        modelfile.starts_with("FROM ./My-Model-Q4_K_M.gguf\n") && !modelfile.contains("TEMPLATE \"\"\""),
        "{modelfile}"
    );
}

#[test]
fn warnings_name_what_was_not_used() {
    let dir = Dir::new();
    let model = model(&dir);
    fs::write(model.join("README.md"), "---\nno end").unwrap();
    let run = Cmd::new("convert").arg(&model).args(&["--tensor-type", "attn_x=Q8_0"]).current_dir(dir.path());
    let stderr = run.succeed().stderr;
    assert!(stderr.contains("warning: --tensor-type attn_x: matches the name of no matrix"), "{stderr}");
    assert!(stderr.contains("README.md: is not used: "), "{stderr}");
}

#[test]
fn wrong_values_are_refused_in_one_line() {
    let dir = Dir::new();
    let model = model(&dir);
    let cases: [(&[&str], &str); 11] = [
        (&["--model-name", " "], "general.name: found a blank name, expected one for the file too"),
        (&["--tensor-type", "attn_q"], "--tensor-type attn_q: expected REGEX=TYPE"),
        (&["--tensor-type", "a(=Q8_0"], "expected a regular expression"),
        (
            &["--output-tensor-type", "Q4_K_M"],
            "--output-tensor-type: found the type `Q4_K_M`, expected one of F32",
        ),
        (&["--token-embedding-type", "Q"], "--token-embedding-type: found the type `Q`, expected one of F32"),
        (&["--override-kv", "a=int"], "--override-kv a=int: found no `:`, expected KEY=TYPE:VALUE"),
        (&["--metadata", "missing.json"], "missing.json: no such file"),
        (
            &["--chat-template", "missing.jinja"],
            "missing.jinja: found no such file, expected a chat template, or one of chatglm2",
        ),
        (
            &["--split-max-size", "2T"],
            "--split-max-size: found `2T`, expected a whole number above 0 with G, M, K",
        ),
        (&["--split-max-size", "0"], "--split-max-size: found `0`"),
        (&["--override-kv", "split.no=int:1"], "found the key `split.no`"),
    ];
    for (options, expected) in cases {
        let run = Cmd::new("convert").arg(&model).args(options).current_dir(dir.path());
        let stderr = run.exit_with(2).stderr;
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{stderr}");
        assert_eq!(dir.names(), ["model"]);
    }
    for options in [["--vocab-only", "--type=F16"], ["--vocab-only", "--split-max-size=1G"]] {
        Cmd::new("convert").arg(&model).args(&options).current_dir(dir.path()).exit_with(2);
    }
}

/// A part that exists already stops the run before anything is written.
#[test]
fn no_part_is_named_when_one_cannot_be_written() {
    let dir = Dir::new();
    let model = model(&dir);
    let output = dir.join("m.gguf");
    let run = |more: &[&str]| {
        let run =
            Cmd::new("convert").arg(&model).args(&["--quiet", "--no-modelfile", "--split-max-size", "500K"]);
        run.args(more).arg("--output").arg(&output)
    };
    run(&[]).succeed();
    let parts = dir.names();
    fs::remove_file(dir.join(&parts[0])).unwrap();
    run(&[]).exit_with(2);
    assert_eq!(dir.names(), parts[1..]);
    run(&["--force"]).succeed();
    assert_eq!(dir.names(), parts);
}
