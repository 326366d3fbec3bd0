//! `export-hf`: the weights are the checkpoint's, where the mapping says; what goes wrong leaves nothing.
//!
//! Whether transformers computes the same with them, `make test-hf` shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::{Checkpoint, Cmd, Dir, tiny_tokenizer};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// A tensor's type, shape and rows.
#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    rows: Vec<Vec<u8>>,
}

/// The tensors of all safetensors files in a folder.
fn read(folder: &Path) -> BTreeMap<String, Tensor> {
    let mut tensors = BTreeMap::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for (name, view) in file.tensors() {
            let rows = view.data().chunks(view.data().len() / view.shape()[0]).map(<[u8]>::to_vec);
            let tensor = Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), rows: rows.collect() };
            assert_eq!(tensors.insert(name, tensor), None, "once");
        }
    }
    tensors
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn rows(of: &Tensor, from: usize, count: usize) -> Vec<Vec<u8>> {
    of.rows[from..from + count].to_vec()
}

/// Rows 0, 2, 4, ... of each head, then 1, 3, 5, ...
fn halves(rows: &[Vec<u8>], head_dim: usize) -> Vec<Vec<u8>> {
    let head = |head: &[Vec<u8>]| {
        let step = |first| head.iter().skip(first).step_by(2).cloned().collect::<Vec<_>>();
        [step(0), step(1)].concat()
    };
    rows.chunks(head_dim).flat_map(head).collect()
}

#[track_caller]
fn check_weights(checkpoint: &Checkpoint, options: &[&str]) -> BTreeMap<String, Tensor> {
    let dir = Dir::new();
    let (model, out) = (dir.join("model"), dir.join("out"));
    checkpoint.write(&model, &tiny_tokenizer()).unwrap();
    Cmd::new("export-hf").arg(&model).arg(&out).arg("--quiet").args(options).succeed();
    let (source, target) = (read(&model), read(&out));
    let source = |name: &str| &source[&format!("transformer.{name}")];
    let (n, d, f) = (checkpoint.heads, checkpoint.head_dim, checkpoint.ffn);

    let mut expected = BTreeMap::from([
        ("model.embed_tokens.weight".to_owned(), source("embedding.word_embeddings.weight").rows.clone()),
        ("model.norm.weight".to_owned(), source("encoder.final_layernorm.weight").rows.clone()),
        ("lm_head.weight".to_owned(), source("output_layer.weight").rows.clone()),
    ]);
    for layer in 0..checkpoint.layers {
        let source = |name: &str| source(&format!("encoder.layers.{layer}.{name}"));
        let mut add = |name: &str, rows| expected.insert(format!("model.layers.{layer}.{name}"), rows);
        let kinds: &[&str] = if checkpoint.qkv_bias { &["weight", "bias"] } else { &["weight"] };
        for kind in kinds {
            let qkv = source(&format!("self_attention.query_key_value.{kind}"));
            let [q, k, v] = if checkpoint.qkv_by_head {
                let part = |part| (0..n).flat_map(|head| rows(qkv, (3 * head + part) * d, d)).collect();
                [part(0), part(1), part(2)]
            } else {
                let g = checkpoint.kv_heads;
                [rows(qkv, 0, n * d), rows(qkv, n * d, g * d), rows(qkv, (n + g) * d, g * d)]
            };
            add(&format!("self_attn.q_proj.{kind}"), halves(&q, d));
            add(&format!("self_attn.k_proj.{kind}"), halves(&k, d));
            add(&format!("self_attn.v_proj.{kind}"), v);
        }
        if checkpoint.qkv_bias {
            let zero = vec![0; source("input_layernorm.weight").rows[0].len()];
            add("self_attn.o_proj.bias", vec![zero; checkpoint.hidden]);
        }
        add("self_attn.o_proj.weight", source("self_attention.dense.weight").rows.clone());
        add("input_layernorm.weight", source("input_layernorm.weight").rows.clone());
        add("post_attention_layernorm.weight", source("post_attention_layernorm.weight").rows.clone());
        add("mlp.gate_proj.weight", rows(source("mlp.dense_h_to_4h.weight"), 0, f));
        add("mlp.up_proj.weight", rows(source("mlp.dense_h_to_4h.weight"), f, f));
        add("mlp.down_proj.weight", source("mlp.dense_4h_to_h.weight").rows.clone());
    }
    let names: Vec<_> = expected.keys().collect();
    assert_eq!(target.keys().collect::<Vec<_>>(), names);
    for (name, rows) in &expected {
        assert!(target[name].rows == *rows, "{name}");
        assert_eq!(target[name].dtype, checkpoint.dtype, "{name}");
    }
    let config = json(&out.join("config.json"));
    assert_eq!(config["attention_bias"], checkpoint.qkv_bias);
    assert_eq!(config["num_key_value_heads"], if checkpoint.qkv_by_head { n } else { checkpoint.kv_heads });
    target
}

#[test]
fn every_weight_stands_where_the_mapping_says() {
    let tensors = check_weights(&Checkpoint::tiny(), &[]);
    assert_eq!(tensors["model.layers.0.self_attn.q_proj.bias"].shape, [256]);
    assert_eq!(tensors["model.layers.1.mlp.down_proj.weight"].shape, [256, 160]);
    check_weights(&Checkpoint { dtype: Dtype::BF16, ..Checkpoint::tiny() }, &["--threads", "3"]);
    check_weights(&Checkpoint { qkv_bias: false, dtype: Dtype::F32, ..Checkpoint::tiny() }, &[]);
    check_weights(&Checkpoint { qkv_by_head: true, ..Checkpoint::tiny() }, &["--max-shard-size", "100KB"]);
}

#[test]
fn shards_have_an_index_and_stay_within_their_size() {
    let dir = Dir::new();
    let (model, out) = (dir.join("model"), dir.join("out"));
    Checkpoint::tiny().write(&model, &tiny_tokenizer()).unwrap();
    let run = Cmd::new("export-hf").arg(&model).arg(&out).args(&["--json", "--max-shard-size", "600KB"]);
    let last: Value = serde_json::from_str(run.succeed().stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["type"], "summary");

    let index = json(&out.join("model.safetensors.index.json"));
    let shards: std::collections::BTreeSet<&str> =
        index["weight_map"].as_object().unwrap().values().map(|shard| shard.as_str().unwrap()).collect();
    assert!(
        shards.len() > 2
            && shards.first() == Some(&format!("model-00001-of-{:05}.safetensors", shards.len()).as_str())
    );
    let mut bytes = 0;
    for shard in shards {
        let file = fs::read(out.join(shard)).unwrap();
        assert_eq!(last["data"]["files"][shard], file.len());
        let data: usize =
            SafeTensors::deserialize(&file).unwrap().tensors().iter().map(|(_, t)| t.data().len()).sum();
        assert!(data <= 600_000, "{data}");
        bytes += data;
    }
    assert_eq!(index["metadata"]["total_size"], bytes);
}

#[test]
fn the_config_is_a_stock_llamas() {
    let dir = Dir::new();
    let (model, out) = (dir.join("model"), dir.join("out"));
    Checkpoint { rope_ratio: Some(50.0), ..Checkpoint::tiny() }.write(&model, &tiny_tokenizer()).unwrap();
    Cmd::new("export-hf").arg(&model).arg(&out).args(&["--quiet", "--dtype", "bf16"]).succeed();
    let config = json(&out.join("config.json"));
    assert_eq!(config["architectures"], serde_json::json!(["LlamaForCausalLM"]));
    assert_eq!(config["glm2llama"], env!("CARGO_PKG_VERSION"));
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert_eq!(config["rope_theta"], 2.5e11);
    let factors = [vec![1.0; 8], vec![1e30; 8]].concat();
    assert_eq!(config["rope_scaling"]["long_factor"], serde_json::json!(factors));
    assert_eq!(config["rope_scaling"]["short_factor"], config["rope_scaling"]["long_factor"]);
    assert_eq!(json(&out.join("generation_config.json"))["eos_token_id"], serde_json::json!([2, 906, 908]));
    let names = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    let mut found: Vec<_> =
        out.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, names);
}

#[test]
fn what_cannot_be_is_refused_in_one_line_and_leaves_nothing() {
    let dir = Dir::new();
    let model = dir.join("model");
    let tiny = Checkpoint { dtype: Dtype::F32, sigma: 1e6, ..Checkpoint::tiny() };
    tiny.write(&model, &tiny_tokenizer()).unwrap();
    fs::create_dir(dir.join("mine")).unwrap();
    fs::write(dir.join("mine/thesis.tex"), "precious").unwrap();
    let no_export = "found no export of glm2llama in it, expected one: --force replaces nothing else; choose another \
                     folder or remove it";
    let cases: [(&str, &[&str], &str); 7] = [
        (
            "out",
            &["--dtype", "Q8_0"],
            "invalid value 'Q8_0' for '--dtype <NAME>' [possible values: F32, F16, BF16]",
        ),
        ("out", &["--max-shard-size", "5TB"], "--max-shard-size: found `5TB`, expected a whole number"),
        ("out", &["--dtype", "F16"], "expected weights that fit F16"),
        ("mine", &[], "found no export of glm2llama in it"),
        ("mine", &["--force"], no_export),
        ("model", &["--force"], no_export),
        ("no/such/out", &[], "no/such: does not exist: make this folder, or write elsewhere"),
    ];
    for (out, options, expected) in cases {
        let run = Cmd::new("export-hf").arg(&model).arg(dir.join(out)).arg("--quiet").args(options);
        let stderr = run.exit_with(2).stderr;
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{stderr}");
        assert_eq!(dir.names(), ["mine", "model"]);
        assert_eq!(fs::read(dir.join("mine/thesis.tex")).unwrap(), b"precious");
    }
}

#[test]
fn the_folder_is_named_by_an_option_or_by_its_place() {
    let dir = Dir::new();
    let model = dir.join("model");
    Checkpoint::tiny().write(&model, &tiny_tokenizer()).unwrap();
    let run = |arguments: &[&str]| {
        Cmd::new("export-hf").arg("model").args(arguments).arg("--quiet").current_dir(dir.path())
    };
    run(&["--output", "a"]).succeed();
    run(&["b"]).succeed();
    assert_eq!(dir.names(), ["a", "b", "model"]);
    run(&["c", "--output", "d"]).exit_with(2);
    let nothing = run(&[]).exit_with(2).stderr;
    assert!(nothing.contains("--output <OUT_DIR>"), "{nothing}");
    assert_eq!(dir.names(), ["a", "b", "model"]);
}

#[test]
fn an_export_is_replaced_only_with_force() {
    let dir = Dir::new();
    let (model, out) = (dir.join("model"), dir.join("out"));
    Checkpoint::tiny().write(&model, &tiny_tokenizer()).unwrap();
    let run = |options: &[&str]| Cmd::new("export-hf").arg(&model).arg(&out).arg("--quiet").args(options);
    run(&["--max-shard-size", "600KB"]).succeed();
    let refused = run(&[]).exit_with(2).stderr;
    assert!(refused.contains("out: exists already: choose another name, or give --force"), "{refused}");
    run(&["--force"]).succeed();
    assert!(out.join("model.safetensors").exists() && !out.join("model.safetensors.index.json").exists());
    assert_eq!(dir.names(), ["model", "out"]);
}
