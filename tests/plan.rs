//! `plan` tells to the byte what `convert` does, and reads no weight for it.

use std::collections::BTreeMap;

use crate::support::gguf::Gguf;
use crate::support::{Checkpoint, Cmd, Dir, testdata, tiny_tokenizer};
use serde_json::Value;

fn events(stdout: &str) -> Vec<(String, Value)> {
    let event = |line: &str| {
        let mut event: Value = serde_json::from_str(line).expect("JSON");
        if let Some(free) = event["data"].get_mut("free_disk_bytes") {
            *free = Value::Null; // changes between two runs
        }
        (event["type"].as_str().expect("a type").to_owned(), event["data"].take())
    };
    stdout.lines().map(event).collect()
}

#[test]
fn the_plan_is_what_convert_then_writes() {
    let model = testdata("models/tiny-chatglm3");
    for (type_name, padding) in
        [("Q4_K_M", "auto"), ("Q4_K_M", "off"), ("Q2_K", "off"), ("F16", "auto"), ("IQ4_XS", "on")]
    {
        let folder = Dir::new();
        let gguf = folder.join("m.gguf");
        let with = |command: &str| {
            let run = Cmd::new(command).arg(&model).args(&[
                "--type",
                type_name,
                "--ffn-pad",
                padding,
                "--no-modelfile",
            ]);
            run.arg("--output").arg(&gguf)
        };
        let planned = events(&with("plan").arg("--json").succeed().stdout);
        assert_eq!(folder.names(), Vec::<String>::new());
        assert_eq!(events(&with("convert").args(&["--dry-run", "--json"]).succeed().stdout), planned);
        with("convert").succeed();

        let of_type =
            |name: &'static str| planned.iter().filter(move |(kind, _)| kind == name).map(|(_, data)| data);
        let output = of_type("output").next().expect("an output");
        assert_eq!(output["bytes"], gguf.metadata().expect("it is there").len());
        let written = Gguf::read(&gguf);
        let bytes: BTreeMap<&str, usize> =
            written.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.bytes.len())).collect();
        let planned: BTreeMap<&str, usize> = of_type("tensor")
            .map(|tensor| {
                (tensor["name"].as_str().expect("a name"), tensor["bytes"].as_u64().expect("bytes") as usize)
            })
            .collect();
        assert_eq!(planned, bytes);
    }
}

/// Before it starts, the memory is that of the quality, less under a bound; the time is foretold where the model is run.
#[test]
fn the_plan_tells_time_and_memory_of_a_quality() {
    let model = testdata("models/tiny-chatglm3");
    let needs = |more: &[&str]| {
        let run = Cmd::new("plan").arg(&model).args(&["--type", "Q4_K_M", "--json"]).args(more);
        events(&run.succeed().stdout).pop().expect("a summary").1
    };
    let memory = |needs: &Value| needs["memory_bytes"].as_u64().expect("bytes");
    let (fast, good, best) = (needs(&[]), needs(&["--quality", "good"]), needs(&["--quality", "best"]));
    assert!(fast["seconds"].is_null());
    for needs in [&good, &best] {
        let seconds = needs["seconds"].as_f64().expect("seconds");
        assert!((0.01..600.0).contains(&seconds), "{seconds}");
    }
    assert!(memory(&fast) < memory(&good).min(memory(&best)), "{fast} {good} {best}");
    let bound = (memory(&best) - 1).to_string();
    assert!(memory(&needs(&["--quality", "best", "--memory", &bound])) < memory(&best));
    let plan = |more: &[&str]| Cmd::new("plan").arg(&model).args(more);
    let run = plan(&["--type", "Q4_K_M", "--quality", "best"]).succeed();
    assert!(run.stdout.contains(" of memory; takes about "), "{}", run.stdout);
    // Without a type it is that of convert's; nothing that is given is passed over.
    let without = plan(&["--quality", "best"]).succeed();
    let formats = |text: &str| text.lines().filter(|line| !line.starts_with("reads ")).collect::<String>();
    assert_eq!(formats(&without.stdout), formats(&run.stdout));
    for (given, expected) in [
        (&["--quality", "good", "--calibration", "no-such.txt"][..], "no-such.txt: no such file"),
        (&["--quality", "best", "--memory", "1"], "--memory 1: found less than this run takes"),
        (&["--calibration-tokens", "1100"], "--calibration-tokens: found it with --quality fast"),
        (&["--quality", "good", "--fit", "6GB"], "--fit: found it with --quality good"),
    ] {
        let refused = plan(given).exit_with(2).stderr;
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn a_plan_of_many_layers_is_a_row_for_each_kind() {
    let model = Dir::new();
    Checkpoint { layers: 12, ..Checkpoint::tiny() }.write(model.path(), &tiny_tokenizer()).expect("written");
    let plan = |more: &[&str]| {
        Cmd::new("plan").arg(model.path()).args(&["--type", "Q4_K_M"]).args(more).succeed().stdout
    };
    let short = plan(&[]);
    assert!(short.contains("blk.*.ffn_down.weight") && short.contains("6 Q4_K, 6 Q6_K"), "{short}");
    assert!(short.lines().count() < 45, "{short}");
    assert!(plan(&["--all"]).contains("blk.11.ffn_down.weight"));
}

#[test]
fn a_plan_of_a_split_output_names_its_files() {
    let folder = Dir::new();
    let split = |command: &str| {
        let run = Cmd::new(command).arg(testdata("models/tiny-chatglm3"));
        run.args(&["--type", "Q8_0", "--split-max-size", "300K", "--output", "m.gguf"])
            .current_dir(folder.path())
    };
    let planned = split("plan").succeed().stdout;
    let json = events(&split("plan").arg("--json").succeed().stdout);
    split("convert").arg("--no-modelfile").succeed();
    let names = folder.names();
    assert!(planned.contains(&format!("{} to {}", names[0], names[names.len() - 1])), "{planned}");
    let output = json.iter().find(|(kind, _)| kind == "output").expect("an output");
    assert_eq!(output.1["parts"], serde_json::json!(names));
}

#[test]
fn what_convert_would_refuse_is_warned_of() {
    let (model, out) = (testdata("models/tiny-chatglm3"), Dir::new());
    std::fs::write(out.join("a.gguf"), "precious").expect("written");
    let plan = |arguments: &[&str]| {
        Cmd::new("plan").arg(&model).args(arguments).current_dir(out.path()).succeed().stderr
    };
    let exists = "warning: convert would refuse this: a.gguf: exists already: choose another name, or give --force to replace it\n";
    assert!(plan(&["-o", "a.gguf"]).contains(exists));
    assert!(!plan(&["-o", "a.gguf", "--force"]).contains("warning"));
    assert!(!plan(&["-o", "b.gguf"]).contains("warning"));
    let folder =
        "warning: convert would refuse this: no/such: does not exist: make this folder, or write elsewhere\n";
    let missing = plan(&["-o", "no/such/a.gguf"]);
    assert!(missing.contains(folder), "{missing}");
    assert_eq!(missing.matches("warning").count(), 1, "once, not for each file: {missing}");
}

#[test]
fn weights_are_not_read() {
    let (model, out) = (Dir::new(), Dir::new());
    Checkpoint::tiny().write(model.path(), &tiny_tokenizer()).expect("written");
    let file = model.join("model.safetensors");
    let mut bytes = std::fs::read(&file).expect("a checkpoint");
    let end = bytes.len();
    bytes[end - 4096..].fill(0xff); // NaN
    std::fs::write(&file, bytes).expect("written");
    let run = |command| Cmd::new(command).arg(model.path()).arg("--output").arg(out.join("m.gguf"));
    run("plan").succeed();
    run("convert").exit_with(2);
}

#[test]
fn strict_refuses_what_falls_back() {
    let out = Dir::new();
    let run = |command: &str, padding: &str| {
        let run = Cmd::new(command).arg(testdata("models/tiny-chatglm3"));
        run.args(&["--strict", "--ffn-pad", padding, "--output"])
            .arg(out.join(format!("{command}-{padding}.gguf")))
    };
    run("convert", "auto").succeed();
    for command in ["convert", "plan"] {
        let refused = run(command, "off").exit_with(2);
        assert!(
            refused.stderr.contains("tensors fall back, as blk.0.ffn_down.weight to Q5_0 instead of Q4_K")
        );
    }
    assert!(!out.join("convert-off.gguf").exists());
}

#[test]
fn without_a_type_each_is_a_row_of_exact_size() {
    let (model, out) = (testdata("models/tiny-chatglm3"), Dir::new());
    let plan = |more: &[&str]| Cmd::new("plan").arg(&model).args(more);
    let rows = events(&plan(&["--json"]).succeed().stdout);
    let types: Vec<&Value> =
        rows.iter().filter(|(kind, _)| kind == "file_type").map(|(_, row)| row).collect();
    assert_eq!(types.len(), 19);
    for name in ["Q8_0", "Q4_K_M", "Q2_K"] {
        let gguf = out.join(name);
        let run = Cmd::new("convert").arg(&model).args(&["--no-modelfile", "--type", name, "--output"]);
        run.arg(&gguf).succeed();
        let row = types.iter().find(|row| row["file_type"] == name).expect("a row");
        assert_eq!(row["bytes"], gguf.metadata().expect("it is there").len());
    }
    let text = plan(&[]).succeed().stdout;
    assert!(text.contains("Q4_K_M") && text.contains("nearly lossless"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn the_best_type_that_fits_is_named() {
    let model = testdata("models/tiny-chatglm3");
    let plan = |more: &[&str]| Cmd::new("plan").arg(&model).args(more);
    let rows = events(&plan(&["--json"]).succeed().stdout);
    let need = |name: &str| {
        let row = rows.iter().find(|(_, row)| row["file_type"] == name).expect("a row");
        row.1["fit_bytes"].as_u64().expect("bytes")
    };
    let fitting = |bytes: u64| {
        let rows = events(&plan(&["--json", "--fit", &bytes.to_string()]).succeed().stdout);
        rows.last().expect("a choice").1["file_type"].as_str().expect("a type").to_owned()
    };
    assert_eq!(fitting(need("Q8_0")), "Q8_0");
    assert_eq!(fitting(need("Q8_0") - 1), "Q6_K");
    let text = plan(&["--fit", &need("Q6_K").to_string()]).succeed().stdout;
    let marked: Vec<&str> = text.lines().filter(|line| line.contains("<- the best that fits")).collect();
    assert!(marked.len() == 1 && marked[0].trim_start().starts_with("Q6_K"), "{text}");
    let refused = plan(&["--fit", "1MB"]).exit_with(2).stderr;
    assert!(refused.contains("no type fits") && refused.contains("the smallest, Q2_K, needs"), "{refused}");
}
