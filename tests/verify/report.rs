//! Where `verify --report` may write, and when it is told.

use std::fs;

use super::tiny;
use crate::support::command::convert;
use crate::support::{Cmd, Dir, copy_files};

#[test]
fn a_page_replaces_nothing_but_a_page() {
    let dir = Dir::new();
    copy_files(&tiny(), &dir.join("m3"));
    let options = ["--split-max-size", "500K", "--receipt"];
    let receipt = dir.join("receipt.json");
    convert(
        &dir.join("m3"),
        "F16",
        &dir.join("a.gguf"),
        &[&options[..], &[receipt.to_str().unwrap()]].concat(),
    );
    fs::write(dir.join("text"), "To be or not to be").unwrap();
    let parts: Vec<String> = dir.names().into_iter().filter(|name| name.ends_with(".gguf")).collect();
    let (first, last) = (parts[0].as_str(), parts[parts.len() - 1].as_str());
    fs::hard_link(dir.join(last), dir.join("page.html")).unwrap();
    let cases = [
        first,
        last,
        "page.html",
        "receipt.json",
        "text",
        "m3/config.json",
        "./m3/model-00001-of-00002.safetensors",
    ];
    let verify = |report: &str| {
        let run = Cmd::new("verify").args(&[
            "m3",
            first,
            "--receipt",
            "receipt.json",
            "--text",
            "text",
            "--report",
        ]);
        run.arg(report).current_dir(dir.path())
    };
    for name in cases {
        let before = fs::read(dir.join(name)).unwrap();
        let run = verify(name).exit_with(2);
        let expected = format!(
            "glm2llama: {name}: found another file, expected a page of verify, or nothing there: choose another name\n"
        );
        assert_eq!((run.stdout.as_str(), run.stderr), ("", expected));
        assert!(fs::read(dir.join(name)).unwrap() == before, "{name}");
    }
    for _ in 0..2 {
        verify("m3/old.html").succeed();
    }
    assert!(fs::read_to_string(dir.join("m3/old.html")).unwrap().contains("<html"));
}

#[test]
fn a_page_that_cannot_be_is_refused_before_the_work() {
    let dir = Dir::new();
    convert(&tiny(), "Q8_0", &dir.join("a.gguf"), &[]);
    let refused = |report: &str, expected: &str| {
        let run = Cmd::new("verify").arg(tiny()).args(&["a.gguf", "--report", report]);
        let run = run.current_dir(dir.path()).exit_with(2);
        assert_eq!((run.stdout.as_str(), run.stderr), ("", format!("glm2llama: {expected}\n")));
    };
    refused("no/such/x.html", "no/such: does not exist: make this folder, or write elsewhere");
    #[cfg(unix)]
    refused("/dev/null", "/dev/null: found no regular file, expected a file or nothing there");
    #[cfg(unix)]
    refused("/dev/stdout", "/dev/stdout: found no regular file, expected a file or nothing there");
    assert_eq!(dir.names(), ["a.gguf"]);
}

/// It cannot be run as it is, but what is wrong with it is known before.
#[test]
fn a_file_of_another_architecture_is_not_the_same_model() {
    let dir = Dir::new();
    convert(&tiny(), "Q8_0", &dir.join("a.gguf"), &["--override-kv", "llama.block_count=int:99"]);
    let run = Cmd::new("verify").arg(tiny()).arg(dir.join("a.gguf")).exit_with(1);
    let last = run.stdout.lines().last().unwrap_or_default();
    assert!(last.contains("not the same model: this is another one, or its sizes are wrong: llama.block_count is 99, expected 2"), "{run:?}");
    assert!(run.stderr.contains("the models were not run: "), "{}", run.stderr);
}
