//! Importance matrices that the program measures itself, and files made with them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::command::convert;
use crate::support::gguf::{Gguf, Value};
use crate::support::{Checkpoint, Cmd, Dir, program, tiny_tokenizer};
use glm2llama::imatrix::ImportanceMatrix;
use glm2llama::recipe::Budget;
use glm2llama::request::{Quality, Request};
use glm2llama::{Job, Options};
use quant::Format;

pub fn model(shape: Checkpoint) -> Dir {
    let model = Dir::new();
    shape.write(model.path(), &tiny_tokenizer()).expect("written");
    model
}

fn measure(model: &Path, file: &Path, options: &[&str]) {
    Cmd::new("imatrix").arg(model).arg("--output").arg(file).arg("--quiet").args(options).succeed();
}

#[test]
fn good_is_the_measured_matrix_in_one_command_whatever_the_threads() {
    // One padded, with a second shape without biases and with all heads of its own.
    let shapes = [
        Checkpoint { ffn: 352, ..Checkpoint::tiny() },
        Checkpoint { kv_heads: 8, qkv_bias: false, layers: 3, hidden: 512, heads: 16, ..Checkpoint::tiny() },
    ];
    for shape in shapes {
        let model = model(shape);
        let (matrix, other) = (model.join("m.gguf"), model.join("m1.gguf"));
        let few = ["--tokens", "700"];
        measure(model.path(), &matrix, &[&few[..], &["--threads", "2"]].concat());
        measure(model.path(), &other, &[&few[..], &["--threads", "1"]].concat());
        assert!(fs::read(&matrix).unwrap() == fs::read(&other).unwrap(), "threads show");

        let (good, given, fast) =
            (model.join("good.gguf"), model.join("given.gguf"), model.join("fast.gguf"));
        let quality = ["--quality", "good", "--calibration-tokens", "700"];
        convert(model.path(), "Q4_K_M", &good, &quality);
        convert(model.path(), "Q4_K_M", &given, &["--imatrix", matrix.to_str().unwrap()]);
        convert(model.path(), "Q4_K_M", &fast, &[]);
        let (good, given, fast) = (Gguf::read(&good), Gguf::read(&given), Gguf::read(&fast));
        assert!(good.tensors == given.tensors, "the same bytes by both ways");
        assert!(good.tensors != fast.tensors, "and other ones than without");
        assert_eq!(good.meta["glm2llama.quality"], Value::Text("good".into()));
        let entries = &Gguf::read(&matrix).tensors.len() / 2;
        assert_eq!(good.meta["quantize.imatrix.entries_count"], Value::Int(entries as i128));
        assert_eq!(good.meta["quantize.imatrix.chunks_count"], Value::Int(2));
        assert!(!fast.meta.keys().any(|key| key.contains("quality") || key.contains("calibration")));
    }
}

/// By what the first layer makes of its columns, which needs no text: one importance for all ways.
#[test]
fn the_embedding_has_importance_whatever_measures() {
    let model = model(Checkpoint { ffn: 512, ..Checkpoint::tiny() });
    let embedding = |options: &[&str]| {
        let file = model.join("m.gguf");
        let run = Cmd::new("convert").arg(model.path()).args(&["--no-modelfile", "--quiet", "--force"]);
        run.args(&["--token-embedding-type", "Q4_K"]).args(options).arg("--output").arg(&file).succeed();
        Gguf::read(&file).tensors.remove("token_embd.weight").expect("an embedding")
    };
    let good = embedding(&["--type", "Q4_K_M", "--quality", "good"]);
    let best = ["--quality", "best", "--calibration-tokens", "1100"];
    assert!(good == embedding(&[&best[..], &["--type", "Q4_K_M"]].concat()), "best");
    assert!(good == embedding(&[&best[..], &["--target-bpw", "6"]].concat()), "best of a size");
    assert!(good != embedding(&["--type", "Q4_K_M"]), "ggml's rounding without importance");
}

/// The matrix to the power 9/8, with which `good` rounds to two and three bits.
fn sharpen(matrix: &Path, sharpened: &Path) {
    let mut matrix = ImportanceMatrix::load(matrix).expect("a matrix");
    for weights in matrix.entries.values_mut() {
        let most = weights.iter().copied().fold(0.0, f32::max);
        weights.iter_mut().for_each(|weight| *weight *= (*weight / most).sqrt().sqrt().sqrt());
    }
    matrix.write(sharpened, 512, false).expect("written");
}

/// The real program reads the matrix, finds every entry, and makes the bytes that `good` makes, padded too.
#[test]
fn llama_quantize_takes_the_matrix() {
    let Some(program) = program::find("llama-quantize") else { return };
    for (ffn, pad) in [(512, "auto"), (352, "on")] {
        llama_quantize_makes_the_bytes(&program, ffn, &["--ffn-pad", pad]);
    }
}

fn llama_quantize_makes_the_bytes(program: &Path, ffn: usize, pad: &[&str]) {
    let model = model(Checkpoint { layers: 4, ffn, ..Checkpoint::tiny() });
    let (matrix, sharpened, f32_file) =
        (model.join("m.gguf"), model.join("sharpened.gguf"), model.join("f32.gguf"));
    measure(model.path(), &matrix, pad);
    sharpen(&matrix, &sharpened);
    convert(model.path(), "F32", &f32_file, pad);
    let theirs = |matrix: &Path, name: &str| {
        let file = model.join("theirs.gguf");
        let mut command = Command::new(program);
        command.arg("--imatrix").arg(matrix).arg(&f32_file).arg(&file).arg(name);
        let output = command.output().expect("llama-quantize starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Gguf::read(&file)
    };
    let few_bits = [Format::Q2_K, Format::Q3_K].map(Format::ggml_type);
    for (name, fewest) in [("Q4_K_M", 0), ("Q3_K_M", 10), ("Q2_K", 20), ("Q4_0", 0)] {
        let ours = model.join("ours.gguf");
        convert(model.path(), name, &ours, &[&["--quality", "good", "--force"], pad].concat());
        let (ours, theirs, sharp) = (Gguf::read(&ours), theirs(&matrix, name), theirs(&sharpened, name));
        let mut differing = 0;
        for (tensor, our) in &ours.tensors {
            let sharpens = few_bits.contains(&our.ggml_type);
            let expected = if sharpens { &sharp } else { &theirs };
            assert!(*our == expected.tensors[tensor], "{name} {tensor} differs");
            differing += usize::from(*our != theirs.tensors[tensor]);
        }
        assert!(differing >= fewest, "{name}: {differing} tensors were rounded otherwise");
        for key in ["entries_count", "chunks_count"] {
            let key = format!("quantize.imatrix.{key}");
            assert_eq!(ours.meta[&key], theirs.meta[&key], "{key}");
        }
    }
}

#[test]
fn text_of_ones_own_is_measured_on() {
    let model = model(Checkpoint::tiny());
    let (one, two) = (model.join("one.txt"), model.join("two.txt"));
    fs::write(&one, "the cat sat on the mat. ".repeat(40)).unwrap();
    fs::write(&two, "你好，世界。".repeat(40)).unwrap();
    let (alone, both) = (model.join("alone.gguf"), model.join("both.gguf"));
    measure(model.path(), &alone, &["--calibration", one.to_str().unwrap()]);
    let files = ["--calibration", one.to_str().unwrap(), "--calibration", two.to_str().unwrap()];
    measure(model.path(), &both, &files);
    let (alone, both) = (Gguf::read(&alone), Gguf::read(&both));
    assert!(alone.tensors != both.tensors);
    let Value::List(names) = &both.meta["imatrix.datasets"] else { panic!("no names") };
    let Value::Text(name) = &names[0] else { panic!("no name") };
    assert!(name.starts_with("one.txt, two.txt, SHA-256 "), "{name}");
}

#[test]
fn what_cannot_be_meant_is_refused_and_nothing_is_written() {
    let model = model(Checkpoint::tiny());
    let (empty, latin) = (model.join("empty.txt"), model.join("latin.txt"));
    fs::write(&empty, "").unwrap();
    fs::write(&latin, b"caf\xe9").unwrap();
    let out = model.join("out.gguf");
    let refused = |options: &[&str], expected: &str| {
        let run = Cmd::new("convert").arg(model.path()).arg("--output").arg(&out).args(options).exit_with(2);
        assert!(run.stderr.contains(expected), "{options:?}: {}", run.stderr);
        assert!(!out.exists());
    };
    let text = |file: &Path| file.to_str().unwrap().to_owned();
    refused(&["--calibration", &text(&empty)], "--calibration: found it with --quality fast");
    refused(&["--calibration-tokens", "9"], "--calibration-tokens: found it with --quality fast");
    refused(
        &["--quality", "good", "--imatrix", &text(&empty)],
        "--imatrix: found it with --quality good or best",
    );
    refused(&["--quality", "good", "--vocab-only"], "--vocab-only: found it with --quality good or best");
    refused(&["--quality", "good", "--calibration", &text(&empty)], "found no tokens in empty.txt");
    let plain = model.join("plain.txt");
    fs::write(&plain, "the cat sat on the mat. ".repeat(400)).unwrap();
    let both = ["--quality", "good", "--calibration", &text(&plain), "--calibration", &text(&empty)];
    refused(&both, "found no tokens in empty.txt");
    let one = ["--quality", "good", "--calibration", &text(&plain), "--calibration-tokens", "1"];
    refused(&one, "plain.txt: found 1 tokens asked for");
    refused(&["--quality", "good", "--calibration", &text(&latin)], "is not UTF-8 text");
    for (quality, name) in [("good", "F16"), ("good", "Q8_0"), ("best", "F32"), ("best", "BF16,F16")] {
        refused(
            &["--quality", quality, "--type", name],
            &format!("--quality {quality}: changes nothing in F32,"),
        );
    }
    refused(&["--quality", "good", "--calibration", "no-such.txt"], "no-such.txt: no such file");
}

/// What a few tokens say of a model is chance, and a matrix that is of no use is not passed over.
#[test]
fn what_says_little_is_warned_of() {
    let model = model(Checkpoint::tiny());
    let (few, matrix) = (model.join("few.txt"), model.join("m.gguf"));
    fs::write(&few, "the cat sat").unwrap();
    let calibration = ["--calibration", few.to_str().unwrap()];
    let warning = "tokens of few.txt are few to measure a model on";
    let run = Cmd::new("imatrix").arg(model.path()).args(&calibration).arg("--output").arg(&matrix).succeed();
    assert!(run.stderr.contains(warning), "{}", run.stderr);
    let convert = |name: &str, options: &[&str]| {
        let run = Cmd::new("convert").arg(model.path()).args(&["--type", name, "--force"]).args(options);
        run.arg("--output").arg(model.join("out.gguf")).succeed().stderr
    };
    let good = |options: &[&str]| convert("Q4_K_M", &[&["--quality", "good"], options].concat());
    assert!(good(&calibration).contains(warning));
    assert!(!good(&[]).contains("are few"));
    let given = ["--imatrix", matrix.to_str().unwrap()];
    for (name, warns) in [("F16", true), ("Q8_0", true), ("Q4_0", false), ("Q8_0,Q6_K", false)] {
        let said = Cmd::new("convert").arg(model.path()).args(&["--type", name, "--force"]).args(&given);
        let said = said.arg("--output").arg(model.join("{type}.gguf")).succeed().stderr;
        assert_eq!(said.contains("--imatrix: changes nothing in"), warns, "{name}: {said}");
    }
}

/// A caller of the library who leaves a step out gets no file that says otherwise.
#[test]
fn a_job_is_not_filled_before_what_it_needs_is_there() {
    let model = model(Checkpoint::tiny());
    let request = |quality, target| Request {
        quality,
        target,
        output: Some(model.join("out.gguf")),
        card: Some(model.join("card.md")),
        ..Request::new(model.path(), "Q4_K_M".parse().expect("a type"))
    };
    let size = Some(Budget::Bytes(1_000_000));
    let cases = [
        (Quality::Best, None, "found weights that were not measured"),
        (Quality::Good, None, "found weights that were not measured"),
        (Quality::Fast, size, "found formats that were not chosen"),
    ];
    for (quality, target, expected) in cases {
        let mut request = request(quality, target);
        if target.is_some() {
            request.types.clear();
        }
        let job = Job::prepare(&request).expect("a job");
        let error = job.fill(job.create_outputs().expect("files"), Options::default(), &()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let job = Job::prepare(&request(Quality::Fast, None)).expect("a job");
    let outputs = job.create_outputs().expect("files");
    let error = job.fill(outputs, Options::default(), &()).expect("filled").publish().unwrap_err();
    assert!(error.to_string().contains("found an empty model card"), "{error}");
    assert!(!model.names().iter().any(|name| name.contains("out") || name.contains("card")));
}
