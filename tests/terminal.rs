//! What a person sees: on terminals of several widths, on a dumb one, with and without colour.
#![cfg(unix)] // pseudo-terminals are

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::command::{convert, skipped_in_emulator};
use crate::support::terminal::Terminal;
use crate::support::{Checkpoint, Cmd, Dir, testdata};

/// The program with nothing in its environment that says how to print.
fn program(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glm2llama"));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI", "COLUMNS"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm-256color").current_dir(folder).args(arguments);
    command
}

fn model() -> String {
    testdata("models/tiny-chatglm3").to_str().expect("UTF-8").to_owned()
}

/// A folder with a file of the tiny model, `a.gguf`.
fn a_file() -> Dir {
    let folder = Dir::new();
    convert(Path::new(&model()), "Q4_K_M", &folder.join("a.gguf"), &[]);
    folder
}

/// A model of more layers takes long enough to be watched.
fn deeper_model(layers: usize) -> Dir {
    Checkpoint { layers, ..Checkpoint::tiny() }.folder()
}

#[test]
fn progress_fits_the_terminal_and_is_cleared() {
    let (model, folder) = (deeper_model(12), Dir::new());
    convert(model.path(), "Q4_K_M", &folder.join("a.gguf"), &[]);
    convert(model.path(), "Q8_0", &folder.join("b.gguf"), &[]);
    let model = model.path().to_str().expect("UTF-8");
    for columns in [60, 80, 200] {
        let arguments = ["verify", model, "a.gguf", "b.gguf", "--tokens", "1024"];
        let screen = Terminal::start(program(&arguments, folder.path()), columns).end();
        assert_eq!(screen.code, Some(0), "{}", screen.text);
        let bars = screen.bars();
        for phase in ["1/3 weights", "2/3 weights", "3/3 predictions"] {
            let found = bars.iter().any(|line| line.starts_with(phase));
            assert!(found, "{columns}: no {phase}: {bars:#?}");
        }
        assert!(bars.iter().any(|line| line.contains(" s left")), "{bars:#?}");
        assert!(columns < 80 || bars.iter().any(|line| line.contains(" of 12")), "{bars:#?}");
        for line in &bars {
            assert!(line.chars().count() <= columns.into(), "{columns}: {line}");
        }
        // A bar that was not cleared would stand before the result.
        assert!(screen.lines().iter().any(|line| line.starts_with("a.gguf:")), "{}", screen.text);
    }
}

#[test]
fn a_conversion_shows_its_speed() {
    let (model, folder) = (deeper_model(24), Dir::new());
    let model = model.path().to_str().expect("UTF-8");
    for (columns, parts) in [(60, &[" %", "B/s", " s left"][..]), (200, &["B/s", " of ", " MB  ", "blk."])] {
        let arguments =
            ["convert", model, "--type", "IQ4_XS", "--backend", "scalar", "--force", "--output", "m.gguf"];
        let screen = Terminal::start(program(&arguments, folder.path()), columns).end();
        assert_eq!(screen.code, Some(0), "{}", screen.text);
        let bars = screen.bars();
        for part in parts {
            assert!(bars.iter().any(|line| line.contains(part)), "{columns}, {part}: {bars:#?}");
        }
        for line in &bars {
            assert!(line.chars().count() <= columns.into(), "{columns}: {line}");
        }
    }
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let folder = Dir::new();
    let arguments = ["convert", &model(), "--quality", "good", "--output", "m.gguf"];
    let mut command = program(&arguments, folder.path());
    command.env("TERM", "dumb");
    let mut terminal = Terminal::start(command, 80);
    terminal.wait_for("2 layers"); // the first line of all; the work comes after it
    terminal.pause(Duration::from_millis(5100)); // longer than from one plain line to the next
    let screen = terminal.end();
    assert_eq!(screen.code, Some(0), "{}", screen.text);
    assert!(!screen.text.contains('\x1b'), "{:?}", screen.text);
    let lines = screen.lines();
    let line =
        lines.iter().find(|line| line.starts_with("1/2 measuring")).unwrap_or_else(|| panic!("{lines:#?}"));
    assert!(line.contains(" %  ") && line.contains("layer "), "{line}");
}

#[test]
fn colour_is_for_terminals_unless_it_is_asked_for_or_forbidden() {
    let folder = a_file();
    let verify = ["verify", &model(), "a.gguf", "--weights-only"];
    let colour = |terminal: bool, option: &[&str], variables: &[(&str, &str)]| {
        let mut command = program(&[&verify, option].concat(), folder.path());
        command.envs(variables.iter().copied());
        let text = if terminal {
            Terminal::start(command, 80).end().text
        } else {
            String::from_utf8(command.output().expect("it runs").stdout).expect("UTF-8")
        };
        let verdict = text.lines().find(|line| line.starts_with("verdict:")).expect("a verdict");
        verdict.contains("\x1b[")
    };
    assert!(colour(true, &[], &[]));
    assert!(!colour(true, &["--color", "never"], &[]));
    assert!(!colour(true, &["--color=auto"], &[("NO_COLOR", "1")]));
    assert!(!colour(true, &[], &[("TERM", "dumb")]));
    assert!(colour(true, &["--color=always"], &[("NO_COLOR", "1")]));
    assert!(!colour(false, &[], &[]));
    assert!(colour(false, &["--color", "always"], &[]));
}

#[test]
fn help_errors_and_warnings_follow_color() {
    let folder = Dir::new();
    let run = |arguments: &[&str]| {
        let output = program(arguments, folder.path()).output().expect("it runs");
        String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8")
    };
    let model = model();
    for arguments in [
        &["convert", "--help"][..],
        &["inspect", "none.gguf"],
        &["convert", &model, "--nosuch"],
        &["plan", &model, "--type", "Q2_K", "--ffn-pad", "off"],
    ] {
        let with = |when: &str| run(&[arguments, &["--color", when]].concat());
        assert!(with("always").contains("\x1b["), "{arguments:?}");
        assert!(!with("never").contains('\x1b') && !with("auto").contains('\x1b'), "{arguments:?}");
    }
    let refused = Cmd::new("inspect").args(&["x.gguf", "--color", "sometimes"]).exit_with(2);
    assert!(refused.stderr.contains("[possible values: auto, always, never]"), "{}", refused.stderr);
}

#[test]
fn help_fits_the_terminal() {
    let folder = Dir::new();
    let commands = [
        "convert",
        "export-hf",
        "imatrix",
        "plan",
        "inspect",
        "diff",
        "verify",
        "compare",
        "ask",
        "ollama",
        "man",
    ];
    for columns in [60, 80, 200] {
        for command in commands {
            let screen = Terminal::start(program(&[command, "--help"], folder.path()), columns).end();
            assert_eq!(screen.code, Some(0), "{}", screen.text);
            for line in screen.lines() {
                // What is to be typed is in one piece.
                let typed =
                    line.trim_start().starts_with("glm2llama ") || line.trim_start().starts_with("python ");
                let fits = line.chars().count() <= columns.into() || typed || line.contains("Usage:");
                assert!(fits, "{columns}: {line}");
            }
        }
    }
}

#[test]
fn what_is_said_of_ollama_and_of_a_card_fits_too() {
    if skipped_in_emulator("nobody is told that there is no such program") {
        return;
    }
    let (model, folder) = (deeper_model(12), Dir::new());
    let model = model.path().to_str().expect("UTF-8");
    let without_ollama = |arguments: &[&str], columns| {
        let mut command = program(arguments, folder.path());
        command.env("PATH", folder.path());
        Terminal::start(command, columns).end()
    };
    for columns in [60, 80, 200] {
        let arguments = [
            "convert", model, "--verify", "--card", "c.md", "--ollama", "x", "--force", "--output", "m.gguf",
        ];
        let screen = without_ollama(&arguments, columns);
        assert_eq!(screen.code, Some(127), "{}", screen.text);
        let bars = screen.bars();
        for phase in ["2/3 verifying", "3/3 predictions"] {
            assert!(bars.iter().any(|line| line.starts_with(phase)), "{columns}: no {phase}: {bars:#?}");
        }
        assert!(bars.iter().all(|line| line.chars().count() <= columns.into()), "{columns}: {bars:#?}");
        let screen = without_ollama(&["ollama", "x", "m.gguf"], columns);
        assert_eq!(screen.code, Some(127), "{}", screen.text);
        let lines = screen.lines();
        assert!(lines.contains(&"ollama create x -f m.Modelfile && ollama run x".to_owned()), "{lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    }
}

/// What can be longer without being a table: a path that the user gave, and a sentence.
#[test]
fn tables_fit_80_columns() {
    let (model, folder) = (deeper_model(12), Dir::new());
    let names = ["ChatGLM3-6B-finetuned-Q4_K_M.gguf", "ChatGLM3-6B-finetuned-Q8_0.gguf"];
    convert(model.path(), "Q4_K_M", &folder.join(names[0]), &[]);
    convert(model.path(), "Q8_0", &folder.join(names[1]), &["--model-name", "Another name, and a long one"]);
    let model = model.path().to_str().expect("UTF-8");
    let run = |arguments: &[&str]| {
        let output = program(arguments, folder.path()).output().expect("it runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    for (arguments, expected) in [
        (&["plan", model][..], "nearly lossless"),
        (&["plan", model, "--type", "Q4_K_M", "--output", "m.gguf"], "6 Q4_K, 6 Q6_K"),
        (&["plan", model, "--type", "Q2_K", "--ffn-pad", "off", "--all"], "Q4_0 instead of Q3_K"),
        (&["inspect", names[0], "--tensors"], "blk.11.attn_output.weight"),
        (&["diff", names[0], names[1]], "-> string \"Another name"),
        (&["verify", model, names[0], names[1], "--tokens", "32"], "...ned-Q4_K_M.gguf"),
    ] {
        let text = run(arguments);
        assert!(text.contains(expected), "{arguments:?}: no {expected}: {text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
        }
    }
    let inspected = run(&["inspect", names[1], "--tensors"]);
    let bytes = std::fs::metadata(folder.join(names[1])).expect("it is there").len();
    assert!(bytes > 1_000_000 && !inspected.contains(&bytes.to_string()), "{inspected}");
}
