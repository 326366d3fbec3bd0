//! `compare`: which of two files is closer to their checkpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::command::convert;
use crate::support::{Checkpoint, Cmd, Dir, program, testdata};
use serde::Deserialize;

/// Every field is named: one more or less in the program is a change that its users must be told of.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", deny_unknown_fields)]
#[allow(dead_code)]
enum Event {
    File {
        file: String,
        bytes: u64,
        mean_kl: f64,
        median_kl: f64,
        kl_99_percent: f64,
        largest_kl: f64,
        top_1_agreement: f64,
        perplexity: f64,
    },
    Window {
        window: usize,
        kl: Vec<f64>,
    },
    Comparison(Comparison),
    Summary {
        text: String,
        windows: usize,
        window_tokens: usize,
        predictions: usize,
        source_perplexity: f64,
        seconds: f64,
        peak_memory_bytes: Option<u64>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Comparison {
    a: String,
    b: String,
    closer: Option<String>,
    verdict: String,
    ratio: Option<f64>,
    ratio_low: Option<f64>,
    ratio_high: Option<f64>,
}

fn comparison(events: &[Event]) -> &Comparison {
    let mut found = events.iter().filter_map(|event| match event {
        Event::Comparison(comparison) => Some(comparison),
        _ => None,
    });
    let comparison = found.next().expect("a comparison");
    assert!(found.next().is_none(), "of two files one");
    comparison
}

fn tiny() -> PathBuf {
    testdata("models/tiny-chatglm3")
}

fn compare(model: &Path, a: &Path, b: &Path) -> Cmd {
    Cmd::new("compare").arg(model).arg(a).arg(b)
}

fn events(model: &Path, a: &Path, b: &Path, options: &[&str]) -> Vec<Event> {
    let run = compare(model, a, b).arg("--json").args(options).succeed();
    run.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn a_file_cannot_be_told_from_itself() {
    let folder = Dir::new();
    // With and without a vocabulary of its own, and with no divergence at all.
    for (model, name) in [("tiny-chatglm3", "Q4_0"), ("tiny-glm4-chat", "Q5_0"), ("tiny-chatglm3", "F32")] {
        let model = copied(model);
        let file = folder.join(name);
        convert(model.path(), name, &file, &[]);
        let run = compare(model.path(), &file, &file).succeed();
        let last = run.stdout.lines().last().unwrap();
        let file_name = file.display();
        let expected = format!(
            "cannot be told apart: {file_name} has 1.000 times the divergence of {file_name} (95 %: 1.000 to 1.000)"
        );
        assert_eq!(last, expected);
        let events = events(model.path(), &file, &file, &[]);
        let found = comparison(&events);
        assert_eq!([found.ratio, found.ratio_low, found.ratio_high], [Some(1.0); 3]);
        assert_eq!(found.closer, None);
    }
}

/// A model of testdata, with a small vocabulary where its own is not there.
fn copied(name: &str) -> Dir {
    let (from, model) = (testdata("models").join(name), Dir::new());
    crate::support::copy_files(&from, model.path());
    if crate::support::tokenizers::without_tokenizer(model.path()) {
        crate::support::tokenizers::tiktoken(model.path(), 900);
    }
    model
}

#[test]
fn more_bits_are_closer_whichever_comes_first() {
    let folder = Dir::new();
    let (fine, coarse) = (folder.join("fine.gguf"), folder.join("coarse.gguf"));
    convert(&tiny(), "Q8_0", &fine, &[]);
    convert(&tiny(), "Q2_K", &coarse, &[]);
    let mut ratios = Vec::new();
    for (a, b) in [(&fine, &coarse), (&coarse, &fine)] {
        let found = events(&tiny(), a, b, &[]);
        let mut sums = [0.0; 2];
        let (mut files, mut count) = (Vec::new(), 0);
        for event in &found {
            match event {
                Event::File { mean_kl, .. } => files.push(*mean_kl),
                Event::Window { kl, .. } => {
                    sums = [sums[0] + kl[0], sums[1] + kl[1]];
                    count += 1;
                }
                Event::Comparison(_) => {}
                Event::Summary { windows, predictions, window_tokens, .. } => {
                    assert_eq!((*windows, *predictions), (count, count * (window_tokens - 1)));
                }
            }
        }
        let found = comparison(&found);
        assert_eq!((found.a.as_str(), found.b.as_str()), (a.to_str().unwrap(), b.to_str().unwrap()));
        assert_eq!(found.closer.as_deref(), fine.to_str());
        let ratio = found.ratio.unwrap();
        assert!((ratio / (sums[0] / sums[1]) - 1.0).abs() < 1e-9, "{ratio}, {sums:?}");
        assert!(found.ratio_low.unwrap() <= ratio && ratio <= found.ratio_high.unwrap());
        ratios.push(ratio);
        assert!((files[0] / (sums[0] / count as f64) - 1.0).abs() < 1e-9, "{files:?} {sums:?}");
        let run = compare(&tiny(), a, b).succeed();
        let last = run.stdout.lines().last().unwrap();
        assert!(last.starts_with(&format!("closer: {}, with 0.", fine.display())), "{last}");
        assert!(
            run.stderr.contains("no better than chance"),
            "the model is of random weights: {}",
            run.stderr
        );
    }
    assert!((ratios[0] * ratios[1] - 1.0).abs() < 1e-9, "{ratios:?}");
}

/// Windows do not see one another: the figures are those of `verify` on each alone.
#[test]
fn windows_are_texts_of_their_own() {
    let folder = Dir::new();
    let (a, b) = (folder.join("a.gguf"), folder.join("b.gguf"));
    convert(&tiny(), "Q4_0", &a, &[]);
    convert(&tiny(), "Q5_0", &b, &[]);
    // Of one letter, every window is the same, and so is what is predicted in it: whatever is seen beyond its end or
    // counted twice would show. Nine windows of 512 are more than are run at a time.
    let text = folder.join("t.txt");
    fs::write(&text, "x ".repeat(10 * 512)).unwrap();
    let found = events(&tiny(), &a, &b, &["--text", text.to_str().unwrap(), "--tokens", "4608"]);
    let windows: Vec<&Vec<f64>> = found
        .iter()
        .filter_map(|event| match event {
            Event::Window { kl, .. } => Some(kl),
            _ => None,
        })
        .collect();
    assert!(windows.len() == 9, "{}", windows.len());
    let second = windows[1]; // the first begins with the space before a text
    assert!(windows[2..].iter().all(|window| *window == second), "{windows:?}");
    assert!(second[0] > second[1] && second[1] > 0.0);
}

#[test]
fn what_cannot_be_compared_is_refused_in_a_line() {
    let folder = Dir::new();
    let (ours, wider, other) =
        (folder.join("ours.gguf"), folder.join("wider.gguf"), folder.join("other.gguf"));
    convert(&tiny(), "Q8_0", &ours, &[]);
    let refused = |b: &Path, options: &[&str], expected: &str| {
        let run = compare(&tiny(), &ours, b).args(options).exit_with(2);
        assert!(run.stderr.contains(expected) && run.stderr.trim().lines().count() == 1, "{}", run.stderr);
        assert!(run.stdout.is_empty(), "{}", run.stdout);
    };
    // Of other sizes; and of the same sizes, but of other weights.
    for (file, shape) in [(&wider, Checkpoint { layers: 3, ..Checkpoint::tiny() }), (&other, same_sizes(5))] {
        let model = shape.folder();
        convert(model.path(), "Q8_0", file, &[]);
    }
    let model = same_sizes(1).folder();
    let own = folder.join("own.gguf");
    convert(model.path(), "Q4_0", &own, &[]);
    let run = compare(model.path(), &own, &other).exit_with(2);
    assert!(
        run.stderr.contains("other.gguf: ") && run.stderr.contains("not of the checkpoint"),
        "{}",
        run.stderr
    );
    let run = compare(model.path(), &own, &wider).exit_with(2);
    assert!(run.stderr.contains("wider.gguf: llama.block_count: found 3, expected 2"), "{}", run.stderr);

    let short = folder.join("short.txt");
    fs::write(&short, "The cat sat on the mat.").unwrap();
    refused(&ours, &["--text", short.to_str().unwrap()], "short.txt: found ");
    refused(
        &ours,
        &["--tokens", "200"],
        ": found 200 tokens, expected at least 256: too short a text, or too few --tokens",
    );
    refused(&folder.join("no.gguf"), &[], "no.gguf");
    refused(&ours, &["--text", "no.txt"], "no.txt: no such file");
}

fn same_sizes(seed: u64) -> Checkpoint {
    Checkpoint { seed, ..Checkpoint::tiny() }
}

/// What the real program makes of our F16 file has the same names, and is compared like any other.
#[test]
fn files_of_llama_quantize_are_compared() {
    let Some(program) = program::find("llama-quantize") else { return };
    let folder = Dir::new();
    let (f16, theirs, ours) = (folder.join("f16.gguf"), folder.join("theirs.gguf"), folder.join("ours.gguf"));
    convert(&tiny(), "F16", &f16, &[]);
    let output = Command::new(&program).arg(&f16).arg(&theirs).arg("Q4_0").output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    convert(&tiny(), "Q4_0", &ours, &["--ffn-pad", "off"]);
    // The same bytes, so the same predictions.
    let found = events(&tiny(), &ours, &theirs, &[]);
    let found = comparison(&found);
    assert_eq!((found.closer.as_ref(), found.ratio), (None, Some(1.0)), "{}", found.verdict);
    let found = events(&tiny(), &theirs, &f16, &[]);
    assert_eq!(comparison(&found).closer.as_deref(), f16.to_str());
}

/// The first of several is held against each, and each has the figures that it has alone.
#[test]
fn several_files_are_held_against_the_first() {
    let folder = Dir::new();
    let types = ["Q4_0", "Q5_0", "Q2_K"];
    let files = types.map(|name| {
        let file = folder.join(name);
        convert(&tiny(), name, &file, &[]);
        file
    });
    let run = compare(&tiny(), &files[0], &files[1]).arg(&files[2]).succeed();
    let last: Vec<&str> = run.stdout.lines().rev().take(2).collect();
    assert!(last[1].starts_with(&format!("closer: {}, ", files[1].display())), "{}", run.stdout);
    assert!(last[0].starts_with(&format!("closer: {}, ", files[0].display())), "{}", run.stdout);
    let alone = compare(&tiny(), &files[0], &files[2]).succeed();
    assert_eq!(alone.stdout.lines().last(), Some(last[0]));
}
