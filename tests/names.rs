//! MODEL by its name on a hub, and spellings of other programs, end to end.
#![cfg(unix)] // caches made of links, which Windows has only for some; src/locate's own tests run there

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::{Checkpoint, Cmd, Dir, tiny_tokenizer};

const COMMIT: &str = "e46a13ad0123456789abcdef0123456789abcdef";

/// A run whose home and current folder are this one, and that knows of no other cache.
fn run(home: &Dir, arguments: &[&str]) -> Cmd {
    let (command, rest) = arguments.split_first().expect("a command");
    let mut run = Cmd::new(command).args(rest).current_dir(home.path()).env("HOME", home.path());
    let variables =
        ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "MODELSCOPE_CACHE"];
    for variable in variables {
        run = run.env_remove(variable);
    }
    run
}

/// The one line of a refusal.
#[track_caller]
fn refused(home: &Dir, arguments: &[&str], expected: &[&str]) {
    let before = home.names();
    let run = run(home, arguments).exit_with(2);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    for part in expected {
        assert!(run.stderr.contains(part), "{}\nwithout: {part}", run.stderr);
    }
    assert_eq!(home.names(), before);
}

fn model(folder: &Path) {
    Checkpoint::tiny().write(folder, &tiny_tokenizer()).expect("written");
}

/// An entry of the Hugging Face cache, with a second and older snapshot that has nothing in it.
fn cached(home: &Dir, org: &str) -> PathBuf {
    let entry = home.join(".cache/huggingface/hub").join(format!("models--{org}--chatglm3-6b"));
    let snapshot = entry.join("snapshots").join(COMMIT);
    model(&entry.join("blobs"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(entry.join("snapshots/0123abcd")).unwrap();
    for file in entry.join("blobs").read_dir().unwrap() {
        let name = file.unwrap().file_name();
        symlink(Path::new("../../blobs").join(&name), snapshot.join(&name)).unwrap();
    }
    fs::create_dir(entry.join("refs")).unwrap();
    fs::write(entry.join("refs/main"), COMMIT).unwrap();
    entry
}

#[test]
fn every_command_takes_a_name_and_says_what_it_was_taken_for() {
    let home = Dir::new();
    let entry = cached(&home, "zai-org");
    let line = format!("folder: {}/snapshots/{COMMIT}, by ", entry.display());
    let name = "zai-org/chatglm3-6b";
    let convert = run(&home, &["convert", name, "-o", "a.gguf", "--receipt", "r.json", "--verify"]).succeed();
    assert!(convert.stderr.contains(&line), "{}", convert.stderr);
    let checked = ["verify", name, "a.gguf", "--weights-only", "--receipt", "r.json"];
    let verify = run(&home, &checked).succeed();
    assert!(verify.stderr.contains(&line), "{}", verify.stderr);
    assert!(run(&home, &["plan", name]).succeed().stderr.contains(&line));
    assert!(run(&home, &["export-hf", name, "llama"]).succeed().stderr.contains(&line));
    let json = run(&home, &["plan", name, "--json"]).succeed().stdout;
    assert!(json.lines().next().unwrap().contains(&format!("\"decisions\":[\"{line}")), "{json}");
    assert_eq!(run(&home, &["convert", name, "-q", "-o", "b.gguf"]).succeed().stderr, "");
    let (a, b) = (fs::read(home.join("a.gguf")).unwrap(), fs::read(home.join("b.gguf")).unwrap());
    assert!(a == b, "other bytes");

    // A folder of that name goes before the cache's.
    model(&home.join(name));
    assert!(!run(&home, &["plan", name]).succeed().stderr.contains("folder: "));
}

#[test]
fn revisions_caches_and_the_publishers_former_name() {
    let home = Dir::new();
    let entry = cached(&home, "THUDM");
    let plan = |model: &str| run(&home, &["plan", model]).succeed().stderr;
    assert!(plan("THUDM/chatglm3-6b@main").contains("by refs/main of the Hugging Face cache"));
    assert!(plan("THUDM/chatglm3-6b@e46a13").contains(", by the beginning of a commit of"));
    assert!(plan("zai-org/chatglm3-6b").contains("; THUDM/chatglm3-6b is the same publisher's"));
    assert!(plan(entry.to_str().unwrap()).contains("by refs/main of the download cache"));
    assert!(
        plan("~/.cache/huggingface/hub/models--THUDM--chatglm3-6b/snapshots").contains("by refs/main of")
    );
    fs::remove_file(entry.join("refs/main")).unwrap();
    let said = plan("THUDM/chatglm3-6b"); // the other snapshot is empty
    assert!(
        said.contains(", by the only whole snapshot (") && said.contains("2 snapshots and no refs"),
        "{said}"
    );
    model(&entry.join("snapshots/0123abcd"));
    refused(
        &home,
        &["plan", "THUDM/chatglm3-6b"],
        &["found 2 snapshots and no refs/main", "snapshots/0123abcd"],
    );

    model(&home.join(".cache/modelscope/hub/models/me/tune-v1___5"));
    assert!(plan("me/tune-v1.5").contains("tune-v1___5, by name of ModelScope's cache"));
    model(&home.join("scope/models/me--other/snapshots/master"));
    let run = run(&home, &["plan", "me/other"]).env("MODELSCOPE_CACHE", home.join("scope")).succeed();
    assert!(run.stderr.contains("models/me--other/snapshots/master, by "), "{}", run.stderr);
}

#[test]
fn a_download_that_was_broken_off() {
    let home = Dir::new();
    let entry = cached(&home, "zai-org");
    fs::write(entry.join("blobs/385a.0a1b2c3d.incomplete"), "").unwrap();
    let told = "the download is unfinished (blobs/385a.0a1b2c3d.incomplete): `hf download zai-org/chatglm3-6b` resumes it";
    let run = run(&home, &["plan", "zai-org/chatglm3-6b"]).succeed();
    assert!(run.stderr.contains(&format!("warning: {told}")), "{}", run.stderr);
    fs::remove_file(entry.join("snapshots").join(COMMIT).join("model.safetensors")).unwrap();
    refused(&home, &["plan", "zai-org/chatglm3-6b"], &["found no weights", told]);
    symlink("../../blobs/gone", entry.join("snapshots").join(COMMIT).join("model.safetensors")).unwrap();
    refused(&home, &["plan", "zai-org/chatglm3-6b"], &["model.safetensors is a link to nothing"]);
}

#[test]
fn what_is_not_there_is_told_how_to_fetch_it() {
    let home = Dir::new();
    let commands = [
        "`hf download zai-org/chatglm3-6b --local-dir chatglm3-6b`",
        "`modelscope download --model ZhipuAI/chatglm3-6b --local_dir chatglm3-6b`",
    ];
    for arguments in [
        &["convert", "zai-org/chatglm3-6b"][..],
        &["plan", "chatglm3-6b"],
        &["export-hf", "ZhipuAI/chatglm3-6b", "out"],
        &["plan", "https://huggingface.co/zai-org/chatglm3-6b"],
    ] {
        refused(&home, arguments, &["no such folder", commands[0], commands[1]]);
    }
    model(&home.join("unzipped/chatglm3-6b"));
    refused(
        &home,
        &["convert", "unzipped"],
        &["unzipped: found a folder with a model's folder in it", "unzipped/chatglm3-6b"],
    );
    refused(
        &home,
        &["convert", "unzipped/chatglm3-6b/model.safetensors"],
        &["found a file of weights", "unzipped/chatglm3-6b\n"],
    );
    refused(
        &home,
        &["inspect", "unzipped/chatglm3-6b"],
        &["found a folder, expected a GGUF file: glm2llama plan"],
    );
    fs::create_dir(home.join("adapter")).unwrap();
    fs::write(
        home.join("adapter/adapter_config.json"),
        r#"{"peft_type": "LORA", "r": 8, "base_model_name_or_path": "me/base"}"#,
    )
    .unwrap();
    refused(
        &home,
        &["convert", "adapter"],
        &["adapter: found an adapter", "glm2llama convert me/base --lora adapter"],
    );
}

#[test]
fn spellings_of_other_programs() {
    let home = Dir::new();
    model(&home.join("m"));
    let made = ["convert", "m", "--outtype", "q8_0", "--outfile", "a.gguf", "--no-modelfile"];
    assert!(run(&home, &made).succeed().stdout.starts_with("a.gguf: "));
    run(
        &home,
        &["convert", "m", "--type", "Q4_K_M,q8_0", "-t", "f16", "-o", "{type}.gguf", "--no-modelfile"],
    )
    .succeed();
    assert_eq!(home.names(), ["F16.gguf", "Q4_K_M.gguf", "Q8_0.gguf", "a.gguf", "m"]);
    for (name, meant) in [
        ("q4", "Q4_K_M"),
        ("fp16", "F16"),
        ("int8", "Q8_0"),
        ("4bit", "Q4_K_M"),
        ("bfloat16", "BF16"),
        ("F16,q4km", "Q4_K_M"),
    ] {
        refused(
            &home,
            &["convert", "m", "--type", name],
            &["for '--type <NAME>'", &format!("did you mean {meant}?")],
        );
    }
    for list in ["Q4_K_M,,Q8_0", "Q4_K_M,", ""] {
        refused(
            &home,
            &["convert", "m", "--type", list],
            &["for '--type <NAME>': an empty name in the list"],
        );
    }
    refused(&home, &["convert", "m", "--type", "auto"], &["Q4_K_M is what most people take"]);
    refused(&home, &["convert", "m", "--output-tensor-type", "q6"], &["did you mean Q6_K?"]);
    refused(&home, &["export-hf", "m", "out", "--dtype", "float16"], &["did you mean F16?"]);
    for option in ["-o", "--output", "--outfile", "--receipt"] {
        refused(&home, &["convert", "m", option, "-"], &["nothing is written to stdout"]);
    }
    refused(&home, &["convert", "m", "--outfile", "m-{ftype}.gguf"], &["found {ftype}, expected {type}"]);
    for option in ["-m", "--model"] {
        refused(
            &home,
            &["convert", option, "m"],
            &["the model is given without an option: glm2llama convert MODEL_DIR"],
        );
    }
    refused(&home, &["convert", "m", "--metadata=~/none.json"], &[home.join("none.json").to_str().unwrap()]);
}

#[test]
fn what_can_hardly_be_meant_is_warned_of() {
    let home = Dir::new();
    model(&home.join("m"));
    let warned = |arguments: &[&str]| {
        let all = [&["convert", "m", "-f"], arguments].concat();
        let lines = run(&home, &all).succeed().stderr;
        lines.lines().filter(|line| line.starts_with("warning: ")).collect::<Vec<_>>().join("\n")
    };
    let own = "has the name of a checkpoint's file, in the model's own folder";
    for name in ["m/pytorch_model.bin", "m/model-00001-of-00002.safetensors", "./m/tokenizer.json"] {
        assert!(warned(&["-o", name, "--no-modelfile"]).contains(&format!("{name}: {own}")), "{name}");
        fs::remove_file(home.join(name)).unwrap();
    }
    for name in ["m/a.gguf", "model.bin"] {
        assert_eq!(warned(&["-o", name, "--no-modelfile"]), "", "{name}");
    }
    let key = |text: &str| warned(&["-o", "a.gguf", "--override-kv", text]);
    assert!(key("llama.context_lenght=int:1").contains("did you mean llama.context_length?"));
    assert!(key("tokenizer.ggml.eos_tokn_id=int:1").contains("did you mean tokenizer.ggml.eos_token_id?"));
    assert_eq!(key("llama.context_length=int:1"), "");
    assert_eq!(key("me.note=str:x"), "");
}
