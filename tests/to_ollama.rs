//! A file is handed to Ollama: `glm2llama ollama`, and `convert --ollama`, with programs that stand for `ollama`.
#![cfg(unix)] // they are scripts

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Cmd, Dir, command, testdata};

/// Writes down its arguments and the Modelfile that it is given, and ends with a code.
fn fake(code: u8) -> Dir {
    let folder = Dir::new();
    let script = folder.join("ollama");
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"${{0%/*}}/asked\"\ncat \"$4\" >\"${{0%/*}}/given\" 2>/dev/null\n\
         echo gathering model components >&2\necho success\nexit {code}\n"
    );
    fs::write(&script, text).expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it may be run");
    folder
}

fn asked(fake: &Dir) -> Vec<String> {
    let text = fs::read_to_string(fake.join("asked")).expect("it was run");
    text.lines().map(str::to_owned).collect()
}

/// The program, to which `ollama` is what a folder has under this name.
fn run(fake: &Path, folder: &Path, arguments: &[&str]) -> Cmd {
    let path = format!("{}:/usr/bin:/bin", fake.display());
    Cmd::new(arguments[0]).args(&arguments[1..]).env("PATH", path).current_dir(folder)
}

/// A folder with `model.gguf` and its Modelfile.
fn converted(model: &str) -> Dir {
    let folder = Dir::new();
    let model = testdata("models").join(model);
    let convert = Cmd::new("convert").arg(model).args(&["--quiet", "--output", "model.gguf"]);
    convert.current_dir(folder.path()).succeed();
    folder
}

#[test]
fn ollama_is_run_with_the_modelfile_beside_the_file() {
    let (fake, folder) = (fake(0), converted("tiny-chatglm3"));
    let output = run(fake.path(), folder.path(), &["ollama", "me/glm:3", "model.gguf"]).succeed();
    assert_eq!(asked(&fake), ["create", "me/glm:3", "-f", "model.Modelfile"]);
    assert_eq!(output.stdout, "success\n  next: ollama run me/glm:3\n");
    assert!(output.stderr.contains("gathering model components"), "{}", output.stderr);
    assert_eq!(folder.names(), ["model.Modelfile", "model.gguf"]);
}

/// All of it but what no GGUF holds.
#[test]
fn a_file_that_stands_alone_gets_the_modelfile_that_convert_writes() {
    let models = testdata("models").read_dir().expect("models");
    let mut tried = 0;
    for model in models.map(|model| model.expect("an entry").file_name().into_string().expect("UTF-8")) {
        let is_there = |name: &str| testdata("models").join(&model).join(name).exists();
        if !is_there("config.json") || !(is_there("tokenizer.model") || is_there("tokenizer.json")) {
            continue; // of adapters and of tests that need no vocabulary
        }
        let (fake, folder) = (fake(0), converted(&model));
        let modelfile = folder.join("model.Modelfile");
        let written = fs::read_to_string(&modelfile).expect("a Modelfile");
        fs::remove_file(&modelfile).expect("removed");
        let output = run(fake.path(), folder.path(), &["ollama", "x", "model.gguf"]).succeed();
        assert!(output.stderr.contains("model.Modelfile: written from the GGUF"), "{}", output.stderr);
        let sampling =
            |line: &&str| !line.starts_with("PARAMETER temperature") && !line.starts_with("PARAMETER top_p");
        let expected: Vec<&str> = written.lines().filter(sampling).collect();
        let derived = fs::read_to_string(fake.join("given")).expect("it was given one");
        assert_eq!(derived.lines().collect::<Vec<_>>(), expected, "{model}");
        tried += 1;
    }
    assert!(tried >= 2);
}

#[test]
fn its_failure_is_handed_on() {
    let (fake, folder) = (fake(7), converted("tiny-chatglm3"));
    let output = run(fake.path(), folder.path(), &["ollama", "x", "model.gguf"]).exit_with(7);
    assert!(output.stderr.contains("ollama create failed (exit status: 7)"), "{}", output.stderr);
    assert!(!output.stdout.contains("next"), "{}", output.stdout);
}

#[test]
fn without_it_the_line_to_type_is_printed() {
    if command::skipped_in_emulator("nobody is told that there is no such program") {
        return;
    }
    let (nothing, folder) = (Dir::new(), converted("tiny-chatglm3"));
    fs::rename(folder.join("model.gguf"), folder.join("my model.gguf")).expect("renamed");
    fs::remove_file(folder.join("model.Modelfile")).expect("removed");
    let output = run(nothing.path(), folder.path(), &["ollama", "x", "my model.gguf"]).exit_with(127);
    assert_eq!(output.stdout, "ollama create x -f \"my model.Modelfile\" && ollama run x\n");
    assert!(output.stderr.contains("ollama: not found in PATH"), "{}", output.stderr);
    let modelfile = fs::read_to_string(folder.join("my model.Modelfile")).expect("a Modelfile");
    assert!(modelfile.starts_with("FROM \"./my model.gguf\"\n"), "{modelfile}");
    // Its own Modelfile, quotes and all, is known again.
    run(fake(0).path(), folder.path(), &["ollama", "x", "my model.gguf"]).succeed();
}

#[test]
fn convert_hands_over_what_it_wrote() {
    let (fake, folder) = (fake(0), Dir::new());
    let model = testdata("models/tiny-chatglm3");
    let model = model.to_str().expect("UTF-8");
    let convert = ["convert", model, "--type", "Q8_0", "--output", "a.gguf", "--ollama", "Mine"];
    let output = run(fake.path(), folder.path(), &convert).succeed();
    assert_eq!(asked(&fake), ["create", "Mine", "-f", "a.Modelfile"]);
    assert!(output.stdout.contains("next: ollama run Mine"), "{}", output.stdout);
    assert!(!output.stdout.contains("ollama create"), "{}", output.stdout);

    let refused = |arguments: &[&str], expected: &str| {
        let output = run(fake.path(), folder.path(), &[&["convert", model], arguments].concat()).exit_with(2);
        assert!(output.stderr.contains(expected), "{arguments:?}: {}", output.stderr);
    };
    refused(&["--ollama", "two words"], "\"two words\": is no name for Ollama");
    refused(&["--ollama", "x", "--type", "Q4_0,Q8_0"], "--ollama: goes with one --type");
    refused(&["--ollama", "x", "--no-modelfile"], "cannot be used with");
    refused(&["--ollama", "x", "--split-max-size", "1M"], "cannot be used with");
    assert_eq!(folder.names(), ["a.Modelfile", "a.gguf"]);
}

#[test]
fn what_cannot_be_handed_over_is_refused_before_ollama_is_run() {
    let (fake, folder) = (fake(0), converted("tiny-chatglm3"));
    fs::write(folder.join("notes.gguf"), "no model").expect("written");
    fs::write(folder.join("other.Modelfile"), "FROM ./model.gguf\n").expect("written");
    fs::copy(folder.join("model.gguf"), folder.join("other.gguf")).expect("copied");
    fs::write(folder.join("base.Modelfile"), "PARAMETER top_p 1\n").expect("written");
    fs::copy(folder.join("model.gguf"), folder.join("base.gguf")).expect("copied");
    let before = folder.names();
    for (name, file, expected) in [
        ("x", "notes.gguf", "notes.gguf: "),
        ("x", "none.gguf", "none.gguf: "),
        ("my model", "model.gguf", "\"my model\": is no name for Ollama, expected letters"),
        ("模型", "model.gguf", "such as my-model or my-model:TAG"),
        ("x", "other.gguf", "other.Modelfile: FROM: found ./model.gguf, expected ./other.gguf"),
        ("x", "base.gguf", "base.Modelfile: FROM: found no such line, expected ./base.gguf"),
        ("model.gguf", "x", "which comes first: glm2llama ollama NAME FILE"),
    ] {
        let output = run(fake.path(), folder.path(), &["ollama", name, file]).exit_with(2);
        assert!(output.stderr.contains(expected), "{name} {file}: {}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    }
    assert!(!fake.join("asked").exists());
    assert_eq!(folder.names(), before);
}

#[test]
fn a_split_model_is_refused() {
    let (fake, folder) = (fake(0), Dir::new());
    let convert = Cmd::new("convert").arg(testdata("models/tiny-chatglm3")).current_dir(folder.path());
    convert.args(&["--quiet", "--output", "m.gguf", "--split-max-size", "200K"]).succeed();
    let part = folder.names().into_iter().find(|name| name.contains("00001-of")).expect("a part");
    let output = run(fake.path(), folder.path(), &["ollama", "x", &part]).exit_with(2);
    assert!(output.stderr.contains("Ollama imports no split GGUF"), "{}", output.stderr);
    assert!(!fake.join("asked").exists());
}
