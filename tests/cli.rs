//! What the program prints and writes beside the GGUF.

use std::fs;

use crate::support::{Checkpoint, Cmd, Dir};
use serde::Deserialize;

#[test]
fn files_are_named_after_the_model_in_the_current_folder() {
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let run =
        Cmd::new("convert").arg(model.path()).args(&["--type", "q8_0"]).current_dir(out.path()).succeed();
    assert_eq!(out.names(), ["ChatGLM3-1.1M-Q8_0.Modelfile", "ChatGLM3-1.1M-Q8_0.gguf"]);
    assert!(run.stdout.starts_with("ChatGLM3-1.1M-Q8_0.gguf: "), "{}", run.stdout);
    // Only Linux tells it.
    let memory = if cfg!(target_os = "linux") { " s, peak memory " } else { " s\n" };
    assert!(run.stdout.contains("bits per weight") && run.stdout.contains(memory), "{}", run.stdout);
    let modelfile = fs::read_to_string(out.join("ChatGLM3-1.1M-Q8_0.Modelfile")).unwrap();
    assert!(modelfile.starts_with("FROM ./ChatGLM3-1.1M-Q8_0.gguf\nTEMPLATE "), "{modelfile}");
}

/// Every field is named: one more or less in the program is a change that its users must be told of.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", deny_unknown_fields)]
#[allow(dead_code)]
enum Event {
    Start(Start),
    Warning { message: String },
    Progress { tensor: String, bytes: u64, total_bytes: u64, seconds: f64 },
    Summary(Summary),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Start {
    model: String,
    layers: usize,
    parameters: u64,
    source_bytes: u64,
    decisions: Vec<String>,
    outputs: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Summary {
    outputs: Vec<Written>,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Written {
    file: String,
    modelfile: Option<String>,
    file_type: String,
    bytes: u64,
    bits_per_weight: f64,
    formats: std::collections::BTreeMap<String, usize>,
    ffn_padding: Option<Padding>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Padding {
    from: usize,
    to: usize,
}

#[test]
fn json_lines_tell_the_same() {
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let run =
        Cmd::new("convert").arg(model.path()).args(&["--json", "--output"]).arg(out.join("m.gguf")).succeed();
    assert_eq!(run.stderr, "");
    let events: Vec<Event> = run.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(matches!(&events[0], Event::Start(start) if start.layers == 2), "{events:?}");
    let Some(Event::Summary(summary)) = events.last() else { panic!("{events:?}") };
    let written = &summary.outputs[0];
    assert_eq!(written.bytes, fs::metadata(out.join("m.gguf")).unwrap().len());
    assert_eq!(written.file_type, "Q4_K_M");
    let Some(Padding { from, to }) = written.ffn_padding else { panic!("{written:?}") };
    assert_eq!((from, to), (160, 256));
}

#[test]
fn quiet_prints_nothing() {
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let run = Cmd::new("convert").arg(model.path()).args(&["-q", "-o"]).arg(out.join("m.gguf")).succeed();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
}

#[test]
fn a_fallback_is_warned_of() {
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let run = Cmd::new("convert")
        .arg(model.path())
        .args(&["--ffn-pad", "off", "-o"])
        .arg(out.join("m.gguf"))
        .succeed();
    assert!(run.stderr.contains("warning: ") && run.stderr.contains("instead of Q4_K"), "{}", run.stderr);
}

#[test]
fn a_split_output_has_no_modelfile() {
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let run = Cmd::new("convert").arg(model.path()).args(&[
        "-t",
        "F16",
        "--split-max-size",
        "800K",
        "-o",
        "m.gguf",
    ]);
    let run = run.current_dir(out.path()).succeed();
    let line = "warning: no Modelfile: Ollama imports no split GGUF";
    assert!(run.stderr.lines().any(|found| found == line), "{}", run.stderr);
    assert!(
        out.names().len() > 1 && out.names().iter().all(|name| name.ends_with(".gguf")),
        "{:?}",
        out.names()
    );
}

#[test]
fn a_vocabularys_tensor_types_are_held_against_the_whole_model() {
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let run = |pattern: &str| {
        let run =
            Cmd::new("convert").arg(model.path()).args(&["-f", "--vocab-only", "--tensor-type", pattern]);
        run.arg("-o").arg(out.join("m.gguf")).succeed().stderr
    };
    assert!(!run("ffn_down=Q8_0").contains("matches the name of no matrix"));
    assert!(run("ffn_sideways=Q8_0").contains("--tensor-type ffn_sideways: matches the name of no matrix"));
}

#[cfg(unix)] // by /dev/full
#[test]
fn a_full_disk_behind_stdout_or_stderr() {
    let (model, out) = (Checkpoint::tiny().folder(), Dir::new());
    let file = out.join("m.gguf");
    Cmd::new("convert").arg(model.path()).args(&["-q", "-o"]).arg(&file).succeed();
    let run = |stream: &str, arguments: &[&str]| {
        let full = fs::File::options().write(true).open("/dev/full").expect("there is one");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_glm2llama"));
        command.args(arguments);
        if stream == "stdout" {
            command.stdout(full)
        } else {
            command.stderr(full)
        };
        let output = command.output().expect("it starts");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let (folder, file) = (model.path().to_str().unwrap(), file.to_str().unwrap());
    let commands: [&[&str]; 8] = [
        &["inspect", file],
        &["inspect", file, "--json"],
        &["plan", folder, "--json"],
        &["plan", folder],
        &["man"],
        &["completions", "bash"],
        &["verify", folder, file, "--weights-only"],
        &["verify", folder, file, "--weights-only", "--json"],
    ];
    for arguments in commands {
        let (code, stderr) = run("stdout", arguments);
        let line = "glm2llama: cannot write to stdout: No space left on device (os error 28)\n";
        assert!(stderr.ends_with(line), "{arguments:?}: {stderr}");
        assert_eq!(code, Some(2), "{arguments:?}");
    }
    for arguments in [&["inspect", "nosuch"] as &[&str], &["plan", "nosuch"], &["inspect", "--nosuch"]] {
        assert_eq!(run("stderr", arguments).0, Some(2), "{arguments:?}");
    }
}

/// The parser, the completions and the manual come from one description: all name every command.
#[test]
fn completions_and_manual_name_every_command() {
    let commands = ["convert", "export-hf", "imatrix", "plan", "inspect", "verify", "compare"];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = Cmd::new("completions").arg(shell).succeed().stdout;
        commands.iter().for_each(|command| assert!(text.contains(command), "{shell}: {command}"));
    }
    let manual = Cmd::new("man").succeed().stdout;
    for command in commands {
        let page = format!(".TH glm2llama-{command}");
        let title =
            manual.lines().any(|line| line.starts_with(&page) || line.starts_with(&format!(".TH {command}")));
        assert!(title, "{command} has no page");
    }
}

/// Whoever asks a command for help sees how it is used.
#[test]
fn every_commands_help_ends_with_an_example() {
    for command in
        ["convert", "export-hf", "imatrix", "plan", "inspect", "verify", "compare", "completions", "man"]
    {
        let help = Cmd::new(command).arg("--help").succeed().stdout;
        assert!(
            help.contains("Example") && help.contains(&format!("  glm2llama {command}")),
            "{command}: {help}"
        );
    }
}

/// What most people need stands first, and what hardly anybody needs last.
#[test]
fn options_stand_in_the_order_of_need() {
    for command in ["convert", "plan", "imatrix", "export-hf"] {
        let help = Cmd::new(command).arg("--help").succeed().stdout;
        let place =
            |option: &str| help.find(&format!("{option} <")).unwrap_or_else(|| panic!("{option}: {help}"));
        let first: &[&str] = match command {
            "convert" | "plan" => &["--type", "--output", "--quality"],
            _ => &["--output"],
        };
        assert!(first.is_sorted_by_key(|option| place(option)), "{help}");
        for option in ["--lora", "--threads", "--rope-ratio-applies-to"] {
            assert!(place(first[first.len() - 1]) < place(option), "{option}: {help}");
        }
        assert!(help.contains("\nModels of long contexts:\n"), "{help}");
        let rope = place("--rope-ratio-applies-to");
        assert!(help[rope..].matches("\n      --").count() == 0, "{command}: {}", &help[rope..]);
    }
}
