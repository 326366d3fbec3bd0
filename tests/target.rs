//! Files of a wanted size.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::command::Output;
use crate::support::gguf::{Gguf, Value};
use crate::support::{Checkpoint, Cmd, Dir};

fn model(shape: Checkpoint) -> Dir {
    shape.folder()
}

fn convert(model: &Path, file: &Path, options: &[&str]) -> Output {
    Cmd::new("convert").arg(model).arg("--output").arg(file).args(options).args(&["--force"]).succeed()
}

fn length(file: &Path) -> u64 {
    file.metadata().expect("a file").len()
}

/// The two sizes that a refusal names.
fn nearest(model: &Path, options: &[&str]) -> [u64; 2] {
    let run = Cmd::new("convert").arg(model).args(&["--output", "never.gguf"]).args(options).exit_with(2);
    let number = |before: &str| -> u64 {
        let (_, rest) = run.stderr.split_once(before).unwrap_or_else(|| panic!("{}", run.stderr));
        rest.split([' ', ',']).next().unwrap().parse().unwrap()
    };
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    [number("expected at least "), number("the next larger may have ")]
}

/// Wide enough for super-blocks with padding, and not.
fn shapes() -> [Checkpoint; 2] {
    [
        Checkpoint { ffn: 352, layers: 3, ..Checkpoint::tiny() },
        Checkpoint { hidden: 96, heads: 3, kv_heads: 1, ffn: 224, qkv_bias: false, ..Checkpoint::tiny() },
    ]
}

#[test]
fn the_file_is_never_larger_and_hardly_smaller() {
    for shape in shapes() {
        let model = model(shape);
        let file = model.join("m.gguf");
        let [least, next] = nearest(model.path(), &["--target-size", "1"]);
        convert(model.path(), &file, &["--target-size", &least.to_string()]);
        assert_eq!(length(&file), least, "the size that it names can be had");
        // A larger format that is no better (Q4_1 beside IQ4_NL) is not taken, even where it fits.
        convert(model.path(), &file, &["--target-size", &next.to_string()]);
        assert!((least..=next).contains(&length(&file)));
        let less = [&(least - 1).to_string()[..]];
        assert_eq!(nearest(model.path(), &["--target-size", less[0]]), [least, next]);

        let mut before = 0;
        for part in [1.07, 1.2, 1.33, 1.6, 2.0] {
            let most = (least as f64 * part) as u64;
            convert(model.path(), &file, &["--target-size", &most.to_string()]);
            assert!(length(&file) <= most && length(&file) * 50 > most * 49, "{} of {most}", length(&file));
            assert!(length(&file) > before);
            before = length(&file);
        }
        // Room for everything as it is: no more is taken, for padding neither, that only super-blocks need.
        let formats =
            || -> BTreeSet<u32> { Gguf::read(&file).tensors.values().map(|t| t.ggml_type).collect() };
        let run = convert(model.path(), &file, &["--target-size", "1GB"]);
        assert!(run.stderr.contains("of 1,000,000,000 bytes"), "{}", run.stderr);
        assert_eq!(formats(), [0, 1].into(), "F32 and F16");
        let whole = length(&file);
        convert(model.path(), &file, &["--target-size", "1GB", "--ffn-pad", "off"]);
        assert!(whole.abs_diff(length(&file)) < 256, "{whole}, {}", length(&file)); // the option stands in it
        convert(model.path(), &file, &["--target-size", &whole.to_string()]);
        assert_eq!((formats(), length(&file)), ([0, 1].into(), whole));
        convert(model.path(), &file, &["--target-size", &(whole - 1).to_string()]);
        assert!(formats() != [0, 1].into());
        // Nothing may be chosen: there is no next size.
        let fixed = ["--target-size", "1", "--tensor-type", ".*=F16"];
        let run =
            Cmd::new("convert").arg(model.path()).args(&["--output", "never.gguf"]).args(&fixed).exit_with(2);
        assert!(run.stderr.ends_with("every tensor in its smallest format\n"), "{}", run.stderr);
    }
}

#[test]
fn with_every_quality_the_file_is_faithful_and_the_same_whatever_the_threads() {
    for shape in shapes() {
        let model = model(shape);
        let [least, _] = nearest(model.path(), &["--target-bpw", "0.01"]);
        let size = (least * 5 / 4).to_string();
        for (quality, how) in [
            ("fast", "the weights' errors"),
            ("good", "measured sensitivity"),
            ("best", "measured sensitivity"),
        ] {
            let (one, two) = (model.join("one.gguf"), model.join("two.gguf"));
            let tokens: &[&str] = if quality == "fast" { &[] } else { &["--calibration-tokens", "1030"] };
            let options = [&["--target-size", &size, "--quality", quality, "--verify"], tokens].concat();
            let run = convert(model.path(), &one, &[&options[..], &["--threads", "1"]].concat());
            assert_eq!(run.stderr.contains("the errors of the weights alone"), quality == "fast");
            convert(model.path(), &two, &[&options[..], &["--threads", "3"]].concat());
            assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap(), "{quality}: threads show");
            assert!(length(&one) <= size.parse().unwrap());
            let file = Gguf::read(&one);
            assert_eq!(file.meta["glm2llama.target_size"], Value::Int(size.parse().unwrap()));
            assert_eq!(file.meta["glm2llama.target_by"], Value::Text(how.into()));
            let Value::Text(said) = &file.meta["glm2llama.options"] else { panic!("no options") };
            assert!(said.starts_with("--target-size"), "{said}");
            let mixed: BTreeSet<u32> = file.tensors.values().map(|tensor| tensor.ggml_type).collect();
            assert!(mixed.len() > 2, "{quality}: {mixed:?}");
            for (name, tensor) in &file.tensors {
                assert!(name.ends_with("weight") && !name.contains("norm") || tensor.ggml_type == 0);
            }
        }
    }
}

#[test]
fn bits_formats_by_hand_parts_and_the_plan() {
    let model = model(Checkpoint { ffn: 512, layers: 3, ..Checkpoint::tiny() });
    let file = model.join("m-{type}.gguf");
    let hand = ["--target-bpw", "5.5", "--token-embedding-type", "Q8_0", "--tensor-type", "blk.1.ffn=q6_k"];
    let plan = |more: &[&str]| {
        let run = Cmd::new("plan").arg(model.path()).arg("--output").arg(&file).args(&hand).args(more);
        run.succeed()
    };
    let planned = plan(&["--quality", "good", "--json"]);
    let chosen = planned.stdout.lines().find(|line| line.contains("\"chosen\"")).expect("a line");
    assert!(chosen.contains("\"measured\":true"), "{chosen}");
    let file_name = model.join("m-5.5bpw.gguf");
    assert!(!file_name.exists(), "a plan writes nothing");
    convert(model.path(), &file, &[&hand[..], &["--quality", "good"]].concat());
    let bytes = length(&file_name);
    assert!(planned.stdout.contains(&format!("\"bytes\":{bytes}")), "{} {bytes}", planned.stdout);
    let written = Gguf::read(&file_name);
    assert_eq!(written.tensors["token_embd.weight"].ggml_type, 8);
    assert_eq!(written.tensors["blk.1.ffn_up.weight"].ggml_type, 14);
    let text = plan(&["--all"]);
    assert!(text.stderr.contains("formats: chosen for"), "{}", text.stderr);

    // What the user says of the type stands, be it what the smallest formats would say.
    for number in ["2", "7", "10", "21"] {
        let said = format!("general.file_type=int:{number}");
        let other = model.join("said.gguf");
        convert(model.path(), &other, &["--target-bpw", "5.5", "--override-kv", &said]);
        assert_eq!(Gguf::read(&other).meta["general.file_type"], Value::Int(number.parse().unwrap()));
    }

    // All parts together, the heads of each counted.
    let parts = ["--target-size", "1000000", "--split-max-size", "200K"];
    let split = model.join("s.gguf");
    convert(model.path(), &split, &parts);
    let names = model.names().into_iter().filter(|name| name.starts_with("s-000"));
    let sizes: Vec<u64> = names.map(|name| length(&model.join(&name))).collect();
    assert!(sizes.len() > 2 && sizes.iter().sum::<u64>() <= 1_000_000, "{sizes:?}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let model = model(Checkpoint::tiny());
    let refused = |options: &[&str], expected: &str| {
        let run = Cmd::new("convert").arg(model.path()).args(options).exit_with(2);
        assert!(run.stderr.contains(expected), "{options:?}: {}", run.stderr);
    };
    for target in [["--target-size", "1MB"], ["--target-bpw", "5"]] {
        for other in [&["--type", "Q4_0"][..], &["--vocab-only"], &["--pure"]] {
            refused(&[&target[..], other].concat(), "cannot be used with");
        }
    }
    refused(&["--target-size", "1MB", "--target-bpw", "5"], "cannot be used with");
    refused(&["--target-size", "0"], "--target-size: found `0`");
    refused(&["--target-bpw", "NaN"], "expected a number above 0, at most 32");
    refused(&["--target-bpw", "2"], "--target-bpw 2: found less than any file of this model has, which is");
    assert!(!model.names().iter().any(|name| name.ends_with(".gguf")));
}
