//! `inspect` and `diff`: a file at a glance, and what another has otherwise.

use crate::support::{Cmd, Dir, testdata};
use serde_json::Value;

fn convert(folder: &Dir, name: &str, arguments: &[&str]) -> String {
    let path = folder.join(name);
    let run = Cmd::new("convert").arg(testdata("models/tiny-chatglm3")).args(arguments);
    run.args(&["--no-modelfile", "--output"]).arg(&path).succeed();
    path.to_str().expect("UTF-8").to_owned()
}

fn inspect(file: &str, more: &[&str]) -> String {
    Cmd::new("inspect").args(&[file]).args(more).succeed().stdout
}

#[test]
fn the_card_comes_first() {
    let folder = Dir::new();
    let file = convert(&folder, "m.gguf", &["--type", "Q4_K_M"]);
    let text = inspect(&file, &[]);
    let lines: Vec<&str> = text.lines().collect();
    let card = &lines[1..9];
    for (line, expected) in card.iter().zip([
        "name          ChatGLM3",
        "architecture  llama, 1.64 million weights, 2 layers",
        "type          Q4_K_M",
        "context       8,192 tokens",
        "template      ",
        "ends of text  2 \"</s>\", ",
        "memory        about 6",
        "written by    glm2llama ",
    ]) {
        assert!(line.trim_start().starts_with(expected), "{line:?}: {expected:?}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!text.contains("blk.1.ffn_down.weight"), "{text}");
    assert!(inspect(&file, &["--tensors"]).contains("blk.1.ffn_down.weight"));
    let formats = text.split("\nformats\n").nth(1).expect("formats");
    let shares: f64 = formats
        .lines()
        .filter_map(|line| line.split(" %").next()?.split_whitespace().last()?.parse::<f64>().ok())
        .sum();
    assert!((99.7..100.3).contains(&shares), "{shares}: {text}");
}

#[test]
fn the_template_alone_can_be_had() {
    let folder = Dir::new();
    let file = convert(&folder, "m.gguf", &["--type", "F16"]);
    let template = inspect(&file, &["--template"]);
    assert!(template.starts_with("[gMASK]sop{% for message in messages %}"), "{template}");
    let json = inspect(&file, &["--json", "--no-tensors"]);
    let kinds: Vec<String> = json
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("JSON")["type"].as_str().expect("a type").to_owned()
        })
        .collect();
    assert!(!kinds.contains(&"tensor".to_owned()) && kinds[1] == "card", "{kinds:?}");
}

#[test]
fn any_part_shows_the_whole_model() {
    let folder = Dir::new();
    convert(&folder, "m.gguf", &["--type", "Q8_0", "--split-max-size", "300K"]);
    let names = folder.names();
    let whole = convert(&folder, "whole.gguf", &["--type", "Q8_0"]);
    let weights = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("  tensors  ")).expect("a line");
        line.split(" of ").nth(1).and_then(|text| text.split(" stored").next()).map(str::to_owned)
    };
    for part in [&names[0], &names[names.len() - 1]] {
        let text = inspect(folder.join(part).to_str().expect("UTF-8"), &[]);
        assert!(text.contains(&format!("and its {} other parts", names.len() - 1)), "{text}");
        assert_eq!(weights(&text), weights(&inspect(&whole, &[])));
    }
}

#[test]
fn what_differs_is_told() {
    let folder = Dir::new();
    let one = convert(&folder, "a.gguf", &["--type", "Q4_K_M"]);
    let same = convert(&folder, "b.gguf", &["--type", "Q4_K_M"]);
    let diff = |a: &str, b: &str, code: i32| Cmd::new("diff").args(&[a, b]).exit_with(code).stdout;
    assert!(diff(&one, &same, 0).starts_with("no difference"));

    let other = convert(&folder, "c.gguf", &["--type", "Q8_0", "--model-name", "Mine"]);
    let text = diff(&one, &other, 1);
    assert!(
        text.contains("general.name: string \"ChatGLM3") && text.contains("-> string \"Mine\""),
        "{text}"
    );
    assert!(text.contains("blk.0.attn_q.weight: Q4_K ") && text.contains("-> Q8_0 "), "{text}");

    let mut bytes = std::fs::read(&same).expect("it is there");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&same, bytes).expect("written");
    let text = diff(&one, &same, 1);
    assert!(
        text.contains("other bytes, the first at") && text.contains("0 keys and 1 tensor differ"),
        "{text}"
    );
}
