//! LoRA adapters merged on the way: the file is, byte for byte, that of a checkpoint merged beforehand.

mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::command::convert;
use crate::support::logits::{Expected, difference};
use crate::support::tokenizers::tiktoken;
use crate::support::{Checkpoint, Cmd, Dir, copy_files, read_words, testdata};
use glm2llama::receipt::Receipt;
use half::{bf16, f16};
use llama_runtime::{Attention, require_runtime};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

/// Name -> shape and values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn read(file: &Path) -> Tensors {
    let bytes = fs::read(file).expect("read");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let decode = |dtype, data: &[u8]| match dtype {
        Dtype::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    };
    let tensor = |(name, view): (&str, TensorView)| {
        (name.to_owned(), (view.shape().to_vec(), decode(view.dtype(), view.data())))
    };
    tensors.iter().map(tensor).collect()
}

fn write(file: &Path, tensors: &Tensors) {
    let bytes: BTreeMap<_, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, values))| (name, values.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = tensors.iter().map(|(name, (shape, _))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).expect("a tensor"))
    });
    fs::write(file, safetensors::serialize(views, None).expect("serialized")).expect("written");
}

/// Numbers that are neither round nor regular.
fn noise(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729 + 13) % 10_007) as f32 / 50_000.0 - 0.1).collect()
}

const EMBEDDING: &str = "transformer.embedding.word_embeddings";

/// The modules of one layer of [`Checkpoint::tiny`] with the shapes of their weights, `[out, in]`.
const MODULES: [(&str, usize, usize); 4] = [
    ("self_attention.query_key_value", 384, 256),
    ("self_attention.dense", 256, 256),
    ("mlp.dense_h_to_4h", 320, 256),
    ("mlp.dense_4h_to_h", 256, 160),
];

fn module(layer: usize, name: &str) -> String {
    format!("transformer.encoder.layers.{layer}.{name}")
}

/// An adapter of every matrix that PEFT can adapt, as PEFT writes it.
fn adapter(folder: &Path, rank: usize, seed: usize, config: &Value) -> Tensors {
    let mut tensors = Tensors::new();
    let mut add = |name: String, shape: [usize; 2]| {
        let values = noise(shape[0] * shape[1], seed + tensors.len());
        tensors.insert(format!("base_model.model.{name}"), (shape.to_vec(), values));
    };
    for layer in 0..2 {
        for (name, rows, columns) in MODULES {
            add(format!("{}.lora_A.weight", module(layer, name)), [rank, columns]);
            add(format!("{}.lora_B.weight", module(layer, name)), [rows, rank]);
        }
    }
    add(format!("{EMBEDDING}.lora_embedding_A"), [rank, 1024]);
    add(format!("{EMBEDDING}.lora_embedding_B"), [256, rank]);
    save(folder, &tensors, config);
    tensors
}

fn save(folder: &Path, tensors: &Tensors, config: &Value) {
    fs::create_dir_all(folder).expect("made");
    write(&folder.join("adapter_model.safetensors"), tensors);
    fs::write(folder.join("adapter_config.json"), config.to_string()).expect("written");
}

fn config(rank: usize, alpha: f64) -> Value {
    json!({"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none", "fan_in_fan_out": false,
        "target_modules": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h", "word_embeddings"]})
}

/// The definition: for each weight a sum over the rank, ascending, from 0; then the scaled sum is added. All in f32.
fn merge(base: &mut Tensors, adapter: &Tensors, scale: impl Fn(&str) -> f32) {
    let factor = |name: String| &adapter[&format!("base_model.model.{name}")];
    let mut add = |module: &str, product: &dyn Fn(usize, usize, usize) -> f32, rank: usize| {
        let (shape, weights) = base.get_mut(&format!("{module}.weight")).expect("a matrix");
        for row in 0..shape[0] {
            for column in 0..shape[1] {
                let mut sum = 0f32;
                for k in 0..rank {
                    sum += product(row, column, k);
                }
                weights[row * shape[1] + column] += scale(module) * sum;
            }
        }
    };
    for layer in 0..2 {
        for (name, _, columns) in MODULES {
            let module = module(layer, name);
            let (a, b) =
                (factor(format!("{module}.lora_A.weight")), factor(format!("{module}.lora_B.weight")));
            let rank = a.0[0];
            add(&module, &|row, column, k| b.1[row * rank + k] * a.1[k * columns + column], rank);
        }
    }
    let a = factor(format!("{EMBEDDING}.lora_embedding_A"));
    let b = factor(format!("{EMBEDDING}.lora_embedding_B"));
    let rank = a.0[0];
    add(EMBEDDING, &|row, column, k| b.1[column * rank + k] * a.1[k * 1024 + row], rank);
}

fn converted(model: &Path, type_name: &str, arguments: &[&str]) -> Vec<u8> {
    let out = Dir::new();
    let gguf = out.join("model.gguf");
    convert(model, type_name, &gguf, arguments);
    fs::read(gguf).expect("read")
}

#[test]
fn a_merged_run_equals_the_conversion_of_a_merged_checkpoint() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let (model, merged, adapters) =
            (Checkpoint { dtype, ..Checkpoint::tiny() }.folder(), Dir::new(), Dir::new());
        let mut first = config(4, 6.0);
        first["alpha_pattern"] = json!({"dense": 1.5, r".*\.1\..*dense_4h_to_h": 12});
        let mut second = config(3, 8.0);
        second["use_rslora"] = json!(true);
        let (one, two) = (adapters.join("one"), adapters.join("two"));
        let first = adapter(&one, 4, 1, &first);
        let second = adapter(&two, 3, 2, &second);

        copy_files(model.path(), merged.path());
        let mut tensors = read(&model.join("model.safetensors"));
        merge(&mut tensors, &first, |module| match module {
            _ if module.ends_with("self_attention.dense") => (1.5f64 / 4.0) as f32,
            _ if module.contains(".1.") && module.ends_with("dense_4h_to_h") => (12f64 / 4.0) as f32,
            _ => (6f64 / 4.0) as f32,
        });
        merge(&mut tensors, &second, |_| (8.0 / 3f64.sqrt() * 0.5) as f32);
        write(&merged.join("model.safetensors"), &tensors);

        let one = one.display().to_string();
        let two = format!("{}=0.5", two.display());
        for type_name in ["F32", "F16", "Q4_K_M"] {
            let expected = converted(merged.path(), type_name, &[]);
            for how in [&["--threads", "1"][..], &["--threads", "3", "--buffer-memory", "1"]] {
                let lora = [&["--lora", &one, "--lora", &two], how].concat();
                assert!(
                    converted(model.path(), type_name, &lora) == expected,
                    "{dtype:?} {type_name} {how:?}"
                );
            }
            assert!(converted(model.path(), type_name, &[]) != expected, "{dtype:?} {type_name}");
        }
        // What the file cannot say, as it is the one above, the receipt does.
        let receipt = adapters.join(format!("{dtype:?}.json"));
        let options = ["--lora", &one, "--lora", &two, "--receipt", receipt.to_str().expect("UTF-8")];
        converted(model.path(), "F16", &options);
        let given = Receipt::load(&receipt).expect("a receipt").given;
        let names: Vec<&str> = given.iter().map(|entry| entry.file.as_str()).collect();
        let folders = ["one", "two"].map(|folder| {
            ["adapter_config.json", "adapter_model.safetensors"].map(|name| format!("{folder}/{name}"))
        });
        assert_eq!(names, folders.concat());
    }
}

/// Adapters that PEFT made and saved, with the logits that PEFT computes with them.
#[test]
fn pefts_own_adapters_give_pefts_logits() {
    let runtime = require_runtime!();
    for (name, adapted) in [("tiny-glm4-hf", "tiny-glm4-hf-lora"), ("tiny-glm-edge", "tiny-glm-edge-lora")] {
        let (model, out) = (Dir::new(), Dir::new());
        copy_files(&testdata("models").join(name), model.path());
        tiktoken(model.path(), 900);
        let adapter = testdata("models").join(adapted);
        let gguf = out.join("model.gguf");
        convert(model.path(), "F32", &gguf, &["--lora", adapter.to_str().expect("UTF-8")]);
        let mut expected = Expected::golden(model.path());
        let logits = read_words(&adapter.join("expected_logits.f32"), f32::from_le_bytes);
        expected.logits = logits.chunks_exact(1024).map(<[f32]>::to_vec).collect();
        let found = difference(runtime, &gguf, Attention::F32, &expected);
        assert!(found.worst < 1e-4 && found.other_top == 0.0, "{name}: {found:?}");
    }
}

#[test]
fn the_run_says_what_was_merged() {
    let (model, adapters, out) = (Checkpoint::tiny().folder(), Dir::new(), Dir::new());
    let folder = adapters.join("style");
    adapter(&folder, 4, 1, &config(4, 6.0));
    let run =
        Cmd::new("convert").arg(model.path()).args(&["--type", "F16", "--output"]).arg(out.join("m.gguf"));
    let run = run.arg("--lora").arg(format!("{}=2", folder.display())).succeed();
    assert!(run.stderr.contains("style: 9 matrices, rank 4 times 3"), "{}", run.stderr);
}

#[test]
fn an_adapters_files_are_not_replaced_even_with_force() {
    let (model, adapters) = (Checkpoint::tiny().folder(), Dir::new());
    adapter(&adapters.join("style"), 4, 1, &config(4, 6.0));
    for name in ["style/adapter_config.json", "style/adapter_model.safetensors"] {
        let before = fs::read(adapters.join(name)).unwrap();
        let run = Cmd::new("convert").arg(model.path()).args(&["-f", "--lora", "style", "-o", "m.gguf"]);
        let run = run.args(&["--receipt", name]).current_dir(adapters.path()).exit_with(2);
        let expected = format!("glm2llama: {name}: found a file that this run reads, expected another name");
        assert!(run.stderr.starts_with(&expected), "{}", run.stderr);
        assert!(fs::read(adapters.join(name)).unwrap() == before);
        assert_eq!(adapters.names(), ["style"]);
    }
}
