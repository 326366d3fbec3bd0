//! What trainers leave: other weights beside the model's, wrapped names, weights that are no model's own.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Checkpoint, Cmd, Dir, copy_files, testdata};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

const WEIGHTS: &str = "model.safetensors";
const QKV: &str = "transformer.encoder.layers.1.self_attention.query_key_value";

type Wrapping = (&'static str, fn(&str) -> String);
type Owned = (String, Dtype, Vec<usize>, Vec<u8>);

/// Writes a file of weights again, as `change` makes it.
fn rewrite(file: &Path, change: impl Fn(&mut Vec<Owned>)) {
    let bytes = fs::read(file).expect("read");
    let read = SafeTensors::deserialize(&bytes).expect("safetensors");
    let own = |(name, view): (String, TensorView)| {
        (name, view.dtype(), view.shape().to_vec(), view.data().to_vec())
    };
    let mut tensors: Vec<Owned> = read.tensors().into_iter().map(own).collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).expect("a tensor"))
    });
    fs::write(file, safetensors::serialize(views, None).expect("safetensors")).expect("written");
}

fn rename(file: &Path, name: impl Fn(&str) -> String) {
    rewrite(file, |tensors| tensors.iter_mut().for_each(|tensor| tensor.0 = name(&tensor.0)));
}

fn add(file: &Path, name: &str, dtype: Dtype, shape: &[usize]) {
    let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
    rewrite(file, |tensors| tensors.push((name.to_owned(), dtype, shape.to_vec(), vec![1; bytes])));
}

/// The tensors' bytes in the order of the file, and what was printed.
fn converted(model: &Path, arguments: &[&str]) -> (Vec<u8>, String) {
    let out = Dir::new();
    let file = out.join("m.gguf");
    let run = Cmd::new("convert")
        .arg(model)
        .args(&["--type", "F16", "--output"])
        .arg(&file)
        .args(arguments)
        .current_dir(out.path())
        .succeed();
    let bytes = fs::read(file).expect("read");
    (bytes[bytes.len() - 2_000_000..].to_vec(), run.stderr)
}

#[track_caller]
fn refused(model: &Path, arguments: &[&str], expected: &[&str]) {
    let out = Dir::new();
    let run = Cmd::new("convert").arg(model).args(arguments).current_dir(out.path()).exit_with(2);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    for part in expected {
        assert!(run.stderr.contains(part), "{}\nwithout: {part}", run.stderr);
    }
    assert_eq!(out.names(), [""; 0], "left behind");
}

#[test]
fn the_single_file_goes_before_an_index_and_the_rest_is_named() {
    let sharded = Checkpoint { shard_bytes: Some(1_300_000), seed: 2, ..Checkpoint::tiny() }.folder();
    let (base, said) = converted(sharded.path(), &[]);
    let read = "weights: 2 files, model-00001-of-00002.safetensors to model-00002-of-00002.safetensors";
    assert!(said.contains(read) && !said.contains("warning"), "{said}");

    let tuned = Checkpoint::tiny().folder();
    fs::copy(tuned.join(WEIGHTS), sharded.join(WEIGHTS)).unwrap();
    let (weights, said) = converted(sharded.path(), &["--verify"]);
    assert!(said.contains("weights: model.safetensors"), "{said}");
    let rest =
        "warning: the folder has model.safetensors.index.json and 2 more too, not read: model.safetensors";
    assert!(said.contains(rest), "{said}");
    assert!(weights != base && weights == converted(tuned.path(), &[]).0);

    fs::write(tuned.join("adapter_model.safetensors"), "").unwrap();
    let said = converted(tuned.path(), &[]).1;
    assert!(said.contains("has adapter_model.safetensors too, not read"), "{said}");
    assert!(said.contains("--lora with this folder merges the adapter"), "{said}");
    fs::write(tuned.join("training_args.bin"), "").unwrap();
    fs::remove_file(tuned.join("adapter_model.safetensors")).unwrap();
    assert!(!converted(tuned.path(), &[]).1.contains("warning"));
    for other in ["model.pt", "consolidated.00.pth", "last.ckpt"] {
        fs::write(tuned.join(other), "").unwrap();
        let said = converted(tuned.path(), &[]).1;
        assert!(said.contains(&format!("the folder has {other} too, not read: {WEIGHTS}")), "{said}");
        fs::remove_file(tuned.join(other)).unwrap();
    }
    fs::create_dir(tuned.join("global_step500")).unwrap();
    assert!(converted(tuned.path(), &[]).1.contains("the folder has global_step500 too, not read"));
}

#[test]
fn wrappers_of_all_names_are_taken_off() {
    let plain = Checkpoint::tiny().folder();
    let (expected, said) = converted(plain.path(), &[]);
    assert!(!said.contains("taken off"), "{said}");
    let wrappings: [Wrapping; 5] = [
        ("module.", |name| format!("module.{name}")),
        ("_orig_mod.` and `module.", |name| format!("module._orig_mod.{name}")),
        ("base_model.model.", |name| format!("base_model.model.{name}")),
        ("_fsdp_wrapped_module.", |name| {
            let inner = name.replace("self_attention.", "_fsdp_wrapped_module.self_attention.");
            format!("_fsdp_wrapped_module.{inner}")
        }),
        ("model.", |name| format!("model.{name}")),
    ];
    for (taken, wrap) in wrappings {
        let model = Checkpoint::tiny().folder();
        rename(&model.join(WEIGHTS), wrap);
        let (weights, said) = converted(model.path(), &["--verify"]);
        assert!(said.contains(&format!("names: `{taken}` taken off")), "{said}");
        assert!(weights == expected, "{taken}");
    }
}

#[test]
fn names_that_do_not_fit_are_named_with_their_file() {
    let model = Checkpoint::tiny().folder();
    let file = model.join(WEIGHTS);
    rename(&file, |name| if name.contains("layers.0") { name.to_owned() } else { format!("module.{name}") });
    let wanted = "transformer.embedding.word_embeddings.weight";
    refused(
        model.path(),
        &[],
        &[
            WEIGHTS,
            &format!("found no such tensor but module.{wanted}"),
            "names begin with module., remove it",
        ],
    );
    let model = Checkpoint::tiny().folder();
    rename(&model.join(WEIGHTS), |name| name.replace("1.mlp.dense_h_to_4h", "1.mlp.dense_h_to_4H"));
    refused(
        model.path(),
        &[],
        &[
            &format!(
                "{WEIGHTS}: transformer.encoder.layers.1.mlp.dense_h_to_4h.weight: found no such tensor"
            ),
            "the closest is transformer.encoder.layers.1.mlp.dense_h_to_4H.weight",
        ],
    );
}

#[test]
fn weights_that_are_no_models_own_are_called_by_their_name() {
    let cases: [(&str, Dtype, &[usize], &[&str]); 7] = [
        ("t.qweight", Dtype::I32, &[4, 4], &["GPTQ or AWQ has quantized", "convert the original checkpoint"]),
        ("t.g_idx", Dtype::I32, &[4], &["GPTQ has quantized", "convert the original checkpoint"]),
        ("t.biases", Dtype::F16, &[4, 4], &["MLX has quantized", "convert the original checkpoint"]),
        ("t.weight.absmax", Dtype::F32, &[4], &["bitsandbytes has quantized"]),
        ("t.weight", Dtype::U32, &[4, 4], &["found U32 values", "it was quantized already"]),
        ("t.lora_A.default.weight", Dtype::F16, &[2, 4], &["merge_and_unload()", "save_pretrained()"]),
        ("t.empty", Dtype::F16, &[0], &["found shape [0]", "DeepSpeed ZeRO-3", "run zero_to_fp32.py"]),
    ];
    for (name, dtype, shape, expected) in cases {
        let model = Checkpoint::tiny().folder();
        add(&model.join(WEIGHTS), name, dtype, shape);
        refused(model.path(), &[], &[&[WEIGHTS, name], expected].concat());
    }
}

#[test]
fn heads_are_left_out_and_models_without_an_output_refused() {
    let model = Checkpoint::tiny().folder();
    add(&model.join(WEIGHTS), "v_head.summary.weight", Dtype::F16, &[1, 256]);
    add(&model.join(WEIGHTS), "v_head.summary.bias", Dtype::F16, &[1]);
    let (weights, said) = converted(model.path(), &["--verify"]);
    assert!(said.contains("warning: v_head.summary.bias and 1 more left out: a value"), "{said}");
    assert!(weights == converted(Checkpoint::tiny().folder().path(), &[]).0);
    let model = Checkpoint::tiny().folder();
    rewrite(&model.join(WEIGHTS), |tensors| {
        tensors.retain(|tensor| tensor.0 != "transformer.output_layer.weight");
        tensors.push((
            "transformer.classifier_head.weight".to_owned(),
            Dtype::F16,
            vec![2, 256],
            vec![1; 1024],
        ));
    });
    refused(
        model.path(),
        &[],
        &["no such tensor but transformer.classifier_head.weight", "generates no text"],
    );
}

/// An adapter of one matrix, as ms-swift named it.
fn swift(folder: &Path, config: &str, name: impl Fn(&str) -> String) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("adapter_config.json"), config).unwrap();
    let value = |count: usize, value: f32| [value.to_le_bytes(); 1].concat().repeat(count);
    let (a, b) = (value(2 * 256, 0.25), value(384 * 2, 0.5));
    let views = [
        (name("lora_A"), TensorView::new(Dtype::F32, vec![2, 256], &a).unwrap()),
        (name("lora_B"), TensorView::new(Dtype::F32, vec![384, 2], &b).unwrap()),
    ];
    fs::write(folder.join("adapter_model.safetensors"), safetensors::serialize(views, None).unwrap())
        .unwrap();
}

#[test]
fn swifts_own_adapters_are_merged() {
    let (model, adapters) = (Checkpoint::tiny().folder(), Dir::new());
    let folder = |name: &str| -> PathBuf { adapters.join(name) };
    let peft = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none"}"#;
    swift(&folder("peft"), peft, |half| format!("base_model.model.{QKV}.{half}.weight"));
    let expected = converted(model.path(), &["--lora", folder("peft").to_str().unwrap()]).0;
    assert!(expected != converted(model.path(), &[]).0);

    let first = r#"{"swift_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "use_qa_lora": false,
        "use_merged_linear": false, "enable_lora": null, "lora_dtype": "fp32"}"#;
    let later = r#"{"peft_type": "LORA", "swift_type": "LORA", "r": 2, "lora_alpha": 8, "lora_dtype": "AUTO",
        "lorap_lr_ratio": 16.0, "lorap_emb_lr": 1e-6, "model_key_mapping": null}"#;
    for (name, config, own) in [("a/default", first, "default"), ("b/tuned", later, "tuned")] {
        swift(&folder(name), config, |half| format!("{QKV}.{half}.{own}.weight"));
        let outer = folder(name).parent().unwrap().to_owned();
        for given in [folder(name), outer] {
            let arguments = ["--lora", given.to_str().unwrap(), "--receipt", "receipt.json"];
            let (weights, said) = converted(model.path(), &arguments);
            assert!(weights == expected, "{name}");
            let shown = folder(name).display().to_string().replace(std::path::MAIN_SEPARATOR, "/");
            assert!(said.contains(&format!("lora: {shown}: 1 matrices")), "{said}");
            // What is read is the inner folder's, so that is what must not be written to.
            let config = folder(name).join("adapter_config.json");
            let run = Cmd::new("convert").arg(model.path()).arg("--lora").arg(&given).arg("--force");
            let run = run.arg("--receipt").arg(&config).current_dir(adapters.path()).exit_with(2);
            assert!(run.stderr.contains("found a file that this run reads"), "{}", run.stderr);
        }
    }
    let several = adapters.path().join("a");
    swift(&several.join("other"), later, |half| format!("{QKV}.{half}.other.weight"));
    refused(
        model.path(),
        &["--lora", several.to_str().unwrap()],
        &["found 2 adapters in it (default, other), expected the folder of one"],
    );
    let merged_linear = later.replace("\"model_key_mapping\": null", "\"use_merged_linear\": true");
    swift(&folder("c"), &merged_linear, |half| format!("{QKV}.{half}.default.weight"));
    refused(
        model.path(),
        &["--lora", folder("c").to_str().unwrap()],
        &["use_merged_linear: found true", "--to_peft_format true"],
    );
}

#[test]
fn other_kinds_of_adapters_have_their_reason() {
    let (model, adapters) = (Checkpoint::tiny().folder(), Dir::new());
    for (kind, expected) in [
        ("PREFIX_TUNING", "a trained prefix has no place in the Llama layout, train LoRA instead"),
        ("P_TUNING", "a trained prefix has no place"),
        ("ADALORA", "merge it with PEFT (merge_and_unload, then save_pretrained)"),
        ("VERA", "merge it with PEFT"),
    ] {
        let config = format!(r#"{{"peft_type": "{kind}", "num_virtual_tokens": 4}}"#);
        swift(adapters.path(), &config, |half| format!("{QKV}.{half}.weight"));
        let lora = adapters.path().to_str().unwrap();
        refused(model.path(), &["--lora", lora], &["peft_type", kind, expected]);
    }
}

/// The ratio of a modelling file that calls it by another name multiplies the base; nothing is guessed to divide.
#[test]
fn only_chatglm2_32k_divides_positions() {
    let convert = |seq_length, ratio, files: &[(&str, &str)]| {
        let model = Checkpoint {
            name: "my-model".to_owned(),
            seq_length,
            rope_ratio: Some(ratio),
            ..Checkpoint::tiny()
        }
        .folder();
        fs::write(model.join("tokenizer_config.json"), "{}").unwrap();
        for (name, text) in files {
            fs::write(model.join(name), text).unwrap();
        }
        converted(model.path(), &["--verify"]).1
    };
    let five = ("tokenization_chatglm.py", "[\"[MASK]\", \"[gMASK]\", \"[sMASK]\", \"sop\", \"eop\"]");
    let said = convert(65536, 200.0, &[five, ("modeling_chatglm.py", "base = base * self.ratio")]);
    assert!(
        said.contains("rope: rope_ratio 200 multiplies the frequency base: its modelling file"),
        "{said}"
    );
    assert!(said.contains("by self.ratio") && !said.contains("warning"), "{said}");
    let said = convert(65536, 200.0, &[five]);
    assert!(said.contains("rope_ratio 200 multiplies the frequency base"), "{said}");
    assert!(said.contains("warning: there is no modelling file: it was guessed that"), "{said}");
    let said = convert(32768, 16.0, &[five]);
    assert!(
        said.contains("rope_ratio 16 divides the positions: seq_length 32768 and rope_ratio 16"),
        "{said}"
    );
    let divides = ("modeling_chatglm.py", "t = torch.arange(seq_len) / self.scaling_factor");
    let said = convert(8192, 4.0, &[five, divides]);
    assert!(said.contains("rope_ratio 4 divides the positions: its modelling file"), "{said}");
}

/// The published files have both kinds of a model, or one: nothing of that is changed.
#[test]
fn published_models_are_read_as_before() {
    for name in ["tiny-chatglm3", "tiny-chatglm2-32k"] {
        let model = Dir::new();
        copy_files(&testdata(&format!("models/{name}")), model.path());
        let out = Dir::new();
        let run = Cmd::new("convert").arg(model.path()).args(&["--verify"]).current_dir(out.path()).succeed();
        assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    }
}
