//! Importance matrices: both of llama.cpp's formats, the bytes that its own tool makes, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::llama_quantize::TYPES;
use crate::support::command::convert;
use crate::support::gguf::{Gguf, Value as Read};
use crate::support::{Checkpoint, Cmd, Dir};
use glm2llama::gguf::{FileLayout, Value, Writer};
use glm2llama::sink::Sink;
use llama_runtime::{Quantize, require_runtime};
use quant::Format;

const LAYERS: usize = 8; // so that the first eighth, which has rules of its own, is a layer
const HIDDEN: usize = 256;
const FFN: usize = 352;
const PADDED: usize = 512;
const CALLS: u32 = 4;

/// Tensor names with a value for each column.
type Entries = Vec<(String, Vec<f32>)>;

fn model() -> Dir {
    Checkpoint { layers: LAYERS, hidden: HIDDEN, ffn: FFN, ..Checkpoint::tiny() }.folder()
}

/// Sums of squares for every matrix but the embedding, which no measurement sees; all halves and quarters are
/// exact, so that dividing by the calls is too. Some columns were never active.
fn sums(ffn_columns: usize) -> Entries {
    let column = |seed: usize, i: usize| ((i * 7 + seed * 13) % 31) as f32 * 0.25;
    let mut entries = vec![("output.weight".to_owned(), HIDDEN)];
    for layer in 0..LAYERS {
        for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"] {
            entries.push((format!("blk.{layer}.{name}.weight"), HIDDEN));
        }
        entries.push((format!("blk.{layer}.ffn_down.weight"), ffn_columns));
    }
    let filled = entries.into_iter().enumerate().map(|(seed, (name, columns))| {
        let active = if columns > FFN { FFN } else { columns };
        (name, (0..columns).map(|i| if i < active { column(seed, i) } else { 0.0 }).collect())
    });
    filled.collect()
}

fn write_dat(file: &Path, entries: &[(String, Vec<f32>)]) {
    let word = |n: usize| (n as u32).to_le_bytes();
    let mut bytes = word(entries.len()).to_vec();
    for (name, sums) in entries {
        bytes.extend(
            [word(name.len()).as_slice(), name.as_bytes(), &word(CALLS as usize), &word(sums.len())].concat(),
        );
        bytes.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    }
    bytes.extend([word(32).as_slice(), &word(8), b"text.txt"].concat());
    fs::write(file, bytes).expect("written");
}

fn write_gguf(file: &Path, entries: &[(String, Vec<f32>)]) {
    let metadata = vec![
        ("general.type".to_owned(), Value::String("imatrix".to_owned())),
        ("imatrix.datasets".to_owned(), Value::Strings(vec!["text.txt".to_owned()])),
        ("imatrix.chunk_count".to_owned(), Value::U32(32)),
        ("imatrix.chunk_size".to_owned(), Value::U32(512)),
    ];
    let tensors = entries.iter().flat_map(|(name, sums)| {
        let sums_shape = (format!("{name}.in_sum2"), vec![1, sums.len()], Format::F32);
        [sums_shape, (format!("{name}.counts"), vec![1, 1], Format::F32)]
    });
    let layout = FileLayout::new(metadata, tensors).expect("a layout");
    let mut writer = Writer::create(file, layout, true).expect("created");
    for (i, (_, sums)) in entries.iter().enumerate() {
        let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        writer.write(2 * i, &bytes).expect("written");
        writer.write(2 * i + 1, &(CALLS as f32).to_le_bytes()).expect("written");
    }
    writer.finish().expect("finished");
}

fn with_imatrix(model: &Dir, name: &str, imatrix: &Path, output: &str, padding: &str) -> PathBuf {
    let file = model.join(output);
    let imatrix = imatrix.to_str().expect("UTF-8");
    convert(model.path(), name, &file, &["--ffn-pad", padding, "--imatrix", imatrix, "--force"]);
    file
}

#[test]
fn every_type_has_llama_cpps_bytes_with_importance_weights() {
    let runtime = require_runtime!();
    let model = model();
    for (padding, columns) in [("on", PADDED), ("off", FFN)] {
        let entries = sums(columns);
        let imatrix = model.join("imatrix.dat");
        write_dat(&imatrix, &entries);
        let means: Entries = entries
            .iter()
            .map(|(name, sums)| (name.clone(), sums.iter().map(|sum| sum / CALLS as f32).collect()))
            .collect();
        let importance: Vec<(&str, &[f32])> =
            means.iter().map(|(name, means)| (name.as_str(), &means[..])).collect();
        let f32_file = model.join("f32.gguf");
        convert(model.path(), "F32", &f32_file, &["--ffn-pad", padding, "--force"]);
        // But for the floats.
        for (name, file_type) in &TYPES[3..] {
            let how = Quantize { threads: 2, importance: &importance, ..Quantize::to(*file_type) };
            let theirs = model.join("llama.gguf");
            runtime.quantize_model(&f32_file, &theirs, &how).expect("llama.cpp quantizes");
            let theirs = Gguf::read(&theirs);
            let ours = Gguf::read(&with_imatrix(&model, name, &imatrix, "ours.gguf", padding));
            for (tensor, our) in &ours.tensors {
                let their = &theirs.tensors[tensor];
                assert_eq!(our.ggml_type, their.ggml_type, "{name} (padding {padding}): {tensor}");
                assert!(our.bytes == their.bytes, "{name} (padding {padding}): {tensor} differs");
            }
        }
    }
}

#[test]
fn both_formats_say_the_same() {
    let model = model();
    let (dat, gguf) = (model.join("imatrix.dat"), model.join("imatrix.gguf"));
    write_dat(&dat, &sums(FFN));
    // Measured on a padded file: its columns are as many as that has.
    write_gguf(&gguf, &sums(PADDED));
    let one = Gguf::read(&with_imatrix(&model, "Q4_K_M", &dat, "one.gguf", "auto"));
    let other = Gguf::read(&with_imatrix(&model, "Q4_K_M", &gguf, "other.gguf", "auto"));
    assert!(one.tensors.iter().all(|(name, tensor)| tensor.bytes == other.tensors[name].bytes));

    let plain = model.join("plain.gguf");
    convert(model.path(), "Q4_K_M", &plain, &[]);
    let plain = Gguf::read(&plain);
    let differs = |name: &str| one.tensors[name].bytes != plain.tensors[name].bytes;
    assert!(differs("blk.0.ffn_down.weight") && !differs("token_embd.weight"));

    let key = |name: &str| one.value(&format!("quantize.imatrix.{name}")).clone();
    assert_eq!(key("entries_count"), Read::Int(1 + 7 * LAYERS as i128));
    assert_eq!(key("chunks_count"), Read::Int(32));
    assert_eq!(key("dataset"), Read::Text("text.txt".to_owned()));
    assert_eq!(key("file"), Read::Text("imatrix.dat".to_owned()));
}

#[test]
fn matrices_without_an_entry_are_counted() {
    let model = model();
    let imatrix = model.join("imatrix.dat");
    for (missing, warning) in
        [(0, None), (3, Some("warning: 3 matrices have no entry in the importance matrix\n"))]
    {
        write_dat(&imatrix, &sums(FFN)[missing..]);
        let run = Cmd::new("convert").arg(model.path()).arg("--imatrix").arg(&imatrix).arg("--force");
        let stderr = run.arg("--output").arg(model.join("m.gguf")).succeed().stderr;
        assert!(warning.map_or(!stderr.contains("no entry"), |warning| stderr.contains(warning)), "{stderr}");
    }
}

#[test]
fn what_does_not_fit_the_model_is_refused() {
    let model = model();
    let imatrix = model.join("imatrix.dat");
    let refused = |edit: &dyn Fn(&mut Entries), expected: &str| {
        let mut entries = sums(FFN);
        edit(&mut entries);
        write_dat(&imatrix, &entries);
        let run = Cmd::new("convert").arg(model.path()).arg("--imatrix").arg(&imatrix).exit_with(2);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains("imatrix.dat: ") && run.stderr.contains(expected), "{}", run.stderr);
    };
    let name = "blk.0.attn_q.weight";
    refused(
        &|entries| entries[1].0 = "blk.0.attn_qkv.weight".to_owned(),
        "blk.0.attn_qkv.weight: found an entry for it, expected entries for matrices of this model only",
    );
    refused(
        &|entries| entries[1].0 = "blk.27.attn_q.weight".to_owned(),
        "blk.27.attn_q.weight: found an entry, expected only this model's blk.0 to blk.7: it was measured on another \
         model",
    );
    let gguf = model.join("model.gguf");
    convert(model.path(), "F16", &gguf, &[]);
    let run = Cmd::new("convert").arg(model.path()).arg("--imatrix").arg(&gguf).exit_with(2);
    let line = "model.gguf: found a model, expected the file that llama-imatrix writes\n";
    assert!(run.stderr.ends_with(line), "{}", run.stderr);
    refused(
        &|entries| entries[1].1.truncate(255),
        &format!("{name}: found 255 importance weights, expected 256: it was measured"),
    );
    refused(&|entries| entries[1].1[7] = f32::NAN, &format!("{name}: found NaN"));
    refused(&|entries| entries[1].1[7] = -1.0, &format!("{name}: found -0.25"));
    refused(&|entries| entries[1].0 = entries[2].0.clone(), "found it twice");
}

#[test]
fn the_matrix_is_not_replaced_even_with_force() {
    let (model, out) = (model(), Dir::new());
    let imatrix = out.join("m.dat");
    write_dat(&imatrix, &sums(FFN));
    let before = fs::read(&imatrix).unwrap();
    let run = Cmd::new("convert").arg(model.path()).args(&["-f", "--imatrix", "m.dat", "-o", "m.dat"]);
    let run = run.current_dir(out.path()).exit_with(2);
    let expected = "glm2llama: m.dat: found a file that this run reads, expected another name";
    assert!(run.stderr.starts_with(expected), "{}", run.stderr);
    assert!(fs::read(&imatrix).unwrap() == before);
    assert_eq!(out.names(), ["m.dat"]);
}

#[test]
fn a_measured_matrix_replaces_nothing_that_was_read() {
    let (model, out) = (model(), Dir::new());
    let text = out.join("t.txt");
    fs::write(&text, "one and two. ".repeat(40)).unwrap();
    for target in [model.join("model.safetensors"), model.join("tokenizer.model"), text.clone()] {
        let before = fs::read(&target).unwrap();
        let run = Cmd::new("imatrix").arg(model.path()).arg("--calibration").arg(&text).arg("-f");
        let run = run.arg("--output").arg(&target).exit_with(2);
        assert!(
            run.stderr.contains("found a file that this run reads, expected another name"),
            "{}",
            run.stderr
        );
        assert!(fs::read(&target).unwrap() == before, "{}", target.display());
    }
}
