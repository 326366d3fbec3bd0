//! Files of `--quality best`, whose levels are chosen for the outputs of their matrices.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::quality::model;
use crate::support::command::convert;
use crate::support::gguf::{Gguf, Value};
use crate::support::{Checkpoint, Cmd, Dir, shared, testdata};
use glm2llama::calibrate::{REFINEMENT_TOKENS, Sample};
use glm2llama::error::Error;
use glm2llama::model::{Model, ModelSource};
use glm2llama::request::{Quality, Request};
use glm2llama::watch::{Step, Watch};
use glm2llama::{Job, Options};

/// A row's errors may cancel out by chance where inputs are few, or all alike.
#[test]
fn few_inputs_and_like_ones_refute_no_file_of_best() {
    let model = testdata("models/tiny-chatglm3");
    let folder = Dir::new();
    let (file, blank) = (folder.join("m.gguf"), folder.join("blank.txt"));
    fs::write(&blank, "\n".repeat(2000)).unwrap();
    for name in ["Q4_K_M", "Q2_K", "IQ4_NL", "Q6_K"] {
        convert(&model, name, &file, &["--quality", "best", "--force"]);
        let verify = |options: &[&str]| Cmd::new("verify").arg(&model).arg(&file).args(options).succeed();
        for tokens in ["1", "2", "3", "4", "12", "16"] {
            verify(&["--tokens", tokens]);
        }
        verify(&["--text", blank.to_str().unwrap()]);
    }
}

/// Kills a run when it has made the last matrix of the first layer.
fn stop_within_a_layer(child: &mut Child, state: &Path) {
    let made =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("blk.0.ffn_down.weight.");
    while !fs::read_dir(state).is_ok_and(|entries| entries.flatten().any(|entry| made(&entry))) {
        assert!(child.try_wait().expect("a state").is_none(), "it ended before it could be stopped");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
}

/// The relative error of the file's weights counts for nothing here: what comes out of its matrices does.
#[test]
fn best_has_the_same_bytes_whatever_the_threads_and_after_an_interruption() {
    let model = model(Checkpoint { ffn: 352, ..Checkpoint::tiny() });
    let quality = ["--quality", "best", "--calibration-tokens", "1100"];
    let (one, two) = (model.join("one.gguf"), model.join("two.gguf"));
    convert(model.path(), "Q4_K_M", &one, &[&quality[..], &["--threads", "1"]].concat());
    assert!(!model.names().iter().any(|name| name.ends_with(".best")), "nothing but the file is left");

    // A run that was stopped: some of its tensors are there, one of them half written.
    let state = model.join(".glm2llama-two.gguf.best");
    let full = [&quality[..], &["--type", "Q4_K_M", "--no-modelfile", "--quiet"]].concat();
    let start = || Cmd::new("convert").arg(model.path()).args(&full).arg("--output").arg(&two);
    let mut child = start().spawn();
    stop_within_a_layer(&mut child, &state);
    assert!(state.is_dir() && !two.exists());

    let other = start().args(&["--calibration-tokens", "1200"]).run();
    // The option is given twice: clap refuses; another text is another run.
    assert_eq!(other.code, Some(2));
    let text = model.join("t.txt");
    fs::write(&text, "one and two and three. ".repeat(600)).unwrap();
    let other = start().arg("--calibration").arg(&text).exit_with(2);
    assert!(other.stderr.contains("tensors of another model or of other options"), "{}", other.stderr);

    // So is another file that decides what the model computes, under the same name.
    let config = model.join("tokenizer_config.json");
    let (before, time) = (fs::read(&config).unwrap(), fs::metadata(&config).unwrap().modified().unwrap());
    fs::write(&config, [&before[..], b"\n"].concat()).unwrap();
    let other = start().exit_with(2);
    assert!(other.stderr.contains("tensors of another model or of other options"), "{}", other.stderr);
    fs::write(&config, before).unwrap();
    fs::File::options().write(true).open(&config).unwrap().set_modified(time).unwrap();

    start().succeed();
    assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap(), "the same file");
    assert!(!state.exists());
}

/// Memory that is short splits the moments, which is said, is the same whatever the threads, and is another run.
#[test]
fn best_keeps_to_a_memory() {
    let model = model(Checkpoint { ffn: 1376, hidden: 288, heads: 9, kv_heads: 3, ..Checkpoint::tiny() });
    let file = |name: &str| model.join(format!("{name}.gguf"));
    let start = |name: &str, memory: &str, more: &[&str]| {
        let common = ["--quality", "best", "--calibration-tokens", "1100", "--no-modelfile", "--quiet"];
        let run = Cmd::new("convert").arg(model.path()).args(&["--type", "Q4_K_M"]).args(&common).args(more);
        let memory = if memory.is_empty() { vec![] } else { vec!["--memory", memory] };
        run.args(&memory).arg("--output").arg(file(name))
    };
    let refused = start("x", "1", &[]).exit_with(2).stderr;
    let least = refused.split("at least ").nth(1).and_then(|rest| rest.split(' ').next()).expect("the least");
    assert!(!file("x").exists() && refused.trim().lines().count() == 1, "{refused}");
    let one_less = (least.parse::<u64>().expect("bytes") - 1).to_string();
    start("x", &one_less, &[]).exit_with(2);

    start("all", "", &[]).succeed();
    start("enough", "2GB", &[]).succeed();
    assert!(fs::read(file("all")).unwrap() == fs::read(file("enough")).unwrap(), "enough changes nothing");

    start("one", least, &["--threads", "1"]).succeed();
    let said = start("two", least, &["--threads", "3", "--json"]).succeed().stdout;
    assert!(said.contains("ffn_down in 6 parts of 256 columns"), "{said}");
    assert!(said.contains("attn_output in 2 parts of up to 160 columns"), "{said}");
    assert!(fs::read(file("one")).unwrap() == fs::read(file("two")).unwrap(), "threads show");
    let (all, one) = (Gguf::read(&file("all")), Gguf::read(&file("one")));
    let same = |name: &str| all.tensors[name] == one.tensors[name];
    assert!(same("token_embd.weight") && !same("blk.0.ffn_down.weight") && !same("blk.1.attn_q.weight"));
    let said = |file: &Gguf| format!("{:?}", file.meta["glm2llama.options"]);
    assert!(!said(&all).contains("--memory") && said(&one).contains(&format!("--memory {least}")));
    start("one", least, &["--force", "--verify"]).succeed();

    for quality in ["fast", "good"] {
        let run = Cmd::new("convert").arg(model.path()).args(&["--quality", quality, "--memory", "2GB"]);
        assert!(run.exit_with(2).stderr.contains("--memory: found it without --quality best"));
    }
}

/// Every type goes through, padded or not, is judged faithful, and says what it is.
#[test]
fn best_of_every_type_is_faithful() {
    let model = model(Checkpoint { ffn: 352, layers: 1, vocab: 960, ..Checkpoint::tiny() });
    for name in [
        "Q8_0", "Q6_K", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_1", "Q4_0", "Q3_K_M", "Q2_K", "IQ4_NL",
        "IQ4_XS",
    ] {
        for pad in ["on", "off"] {
            let file = model.join("best.gguf");
            let options = [
                "--quality",
                "best",
                "--calibration-tokens",
                "1030",
                "--ffn-pad",
                pad,
                "--force",
                "--verify",
            ];
            convert(model.path(), name, &file, &options);
            let file = Gguf::read(&file);
            assert_eq!(file.meta["glm2llama.quality"], Value::Text("best".into()), "{name}");
        }
    }
}

#[test]
fn best_needs_something_to_hold_out() {
    let model = model(Checkpoint::tiny());
    let out = model.join("out.gguf");
    let run =
        Cmd::new("convert").arg(model.path()).args(&["--quality", "best", "--calibration-tokens", "600"]);
    let stderr = run.arg("--output").arg(&out).exit_with(2).stderr;
    assert!(stderr.contains("expected 1024 at least, a part of which is held out: give more"), "{stderr}");
    assert!(!out.exists());
    convert(model.path(), "Q4_0", &out, &["--quality", "best", "--calibration-tokens", "1024"]);
}

/// Types together have the bytes that each has alone: padded and not, and where they share tensors. A run that was
/// stopped among them goes on.
#[test]
fn best_of_several_types_is_that_of_each() {
    let model = model(Checkpoint { ffn: 352, ..Checkpoint::tiny() });
    let types = ["Q4_K_M", "Q8_0", "Q4_K_S"];
    let start = |types: &str, name: &str| {
        let run = Cmd::new("convert").arg(model.path()).args(&["--quality", "best", "--type", types]);
        run.args(&["--calibration-tokens", "1100", "--no-modelfile", "--quiet"])
            .arg("--output")
            .arg(model.join(name))
    };
    let mut child = start(&types.join(","), "{type}.gguf").spawn();
    let state = model.join(".glm2llama-Q4_K_M.gguf.best");
    stop_within_a_layer(&mut child, &state);
    let others = start("Q4_K_M,Q8_0", "{type}.gguf").exit_with(2).stderr;
    assert!(others.contains("tensors of another model or of other options"), "{others}");

    start(&types.join(","), "{type}.gguf").arg("--verify").succeed();
    assert!(!state.exists());
    for name in types {
        start(name, "alone.gguf").arg("--force").succeed();
        let together = Gguf::read(&model.join(format!("{name}.gguf")));
        assert!(together.tensors == Gguf::read(&model.join("alone.gguf")).tensors, "{name}");
    }
}

/// What `best` promises to run the model on, with the real vocabularies of both kinds.
#[test]
fn the_built_in_text_is_long_enough_for_best() {
    for (vocabulary, vocab, family) in
        [("chatglm3.model", 65024, "chatglm3-6b"), ("glm4.tiktoken", 151552, "glm-4-9b-chat")]
    {
        let Some(tokenizer) = shared(&format!("data/tokenizer/{vocabulary}")) else { return };
        let Some(config) = shared(&format!("data/family/{family}/tokenizer_config.json")) else { return };
        let folder = Dir::new();
        let shape =
            Checkpoint { layers: 1, hidden: 32, heads: 1, kv_heads: 1, ffn: 32, vocab, ..Checkpoint::tiny() };
        shape.write(folder.path(), &tokenizer).expect("written");
        fs::copy(config, folder.join("tokenizer_config.json")).expect("copied");
        let request = ModelSource { folder: folder.path().to_owned(), ..ModelSource::default() };
        let model = Model::open(&request).expect("a model");
        let sample = Sample::new(&model.tokenizer, &[] as &[&Path], REFINEMENT_TOKENS).expect("a text");
        let found = sample.tokens.len();
        assert!(
            found + 8 > REFINEMENT_TOKENS,
            "{family}: {found} tokens, expected about {REFINEMENT_TOKENS}"
        );
    }
}

/// Is told to stop within the first layer, when it was asked so many times.
struct StopsAt {
    asked: AtomicUsize,
    at: usize,
}

impl Watch for StopsAt {
    fn stopped(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.at
    }

    fn advanced(&self, step: &Step) {
        assert!(self.at > 20 || !step.at.starts_with("layer"), "it went on until {}", step.at);
    }
}

/// Layers of a large model take minutes: it does not wait for the end of one, and says where to go on.
#[test]
fn best_stops_within_a_layer_and_goes_on() {
    let model = model(Checkpoint::tiny());
    let request = Request {
        quality: Quality::Best,
        output: Some(model.join("out.gguf")),
        ..Request::new(model.path(), "Q4_K_M".parse().expect("a type"))
    };
    let run = |at: usize| {
        let mut job = Job::prepare(&request).expect("a job");
        assert!(at > 1 || job.unfinished().is_none());
        let measured = job.measure(Options::default(), &StopsAt { asked: AtomicUsize::new(0), at });
        (measured, job)
    };
    for at in [1, 8, 20] {
        let (stopped, job) = run(at);
        assert!(matches!(stopped, Err(Error::Interrupted)), "{at}: {stopped:?}");
        assert!(job.unfinished().expect("a folder").is_dir());
    }
    let (measured, job) = run(usize::MAX);
    measured.expect("measured");
    job.clean_up().expect("cleaned up");
    assert!(Job::prepare(&request).expect("a job").unfinished().is_none());
}
