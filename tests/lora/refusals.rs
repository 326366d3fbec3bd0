//! Adapters and scales that are refused, and what is to blame in each.

use std::ffi::OsStr;

use serde_json::{Value, json};

use super::{EMBEDDING, Tensors, adapter, config, module, noise, read, save};
use crate::support::{Checkpoint, Cmd, Dir};

/// One line that names the adapter's file and what is wrong in it; exit code 2; nothing is written.
#[test]
fn adapters_that_do_not_fit_are_refused() {
    let model = Checkpoint::tiny().folder();
    let base = read(&model.join("model.safetensors"));
    type Change<'a> = &'a dyn Fn(&mut Tensors, &mut Value);
    let renamed = |from: &'static str, to: &'static str| {
        move |tensors: &mut Tensors| {
            let old: Vec<String> = tensors.keys().filter(|name| name.contains(from)).cloned().collect();
            for name in old {
                let tensor = tensors.remove(&name).expect("there");
                tensors.insert(name.replace(from, to), tensor);
            }
        }
    };
    let embedding = base[&format!("{EMBEDDING}.weight")].clone();
    let cases: [(Change, &str); 8] = [
        (
            &|_, config| config["use_dora"] = json!(true),
            "adapter_config.json: use_dora: found true, expected false: DoRA",
        ),
        (
            &|_, config| config["r"] = json!(5),
            "adapter_config.json: r: found 5, expected 4, the rank of transformer.embedding.word_embeddings in the weights",
        ),
        (
            &|tensors, _| renamed("layers.1.", "layers.2.")(tensors),
            "adapter_model.safetensors: transformer.encoder.layers.2.mlp.dense_4h_to_h: found a matrix that the model \
             does not have, expected an adapter of this model",
        ),
        (
            &|tensors, _| drop(tensors.remove(&format!("base_model.model.{EMBEDDING}.lora_embedding_B"))),
            "adapter_model.safetensors: transformer.embedding.word_embeddings: found no factor B, expected both, A and B",
        ),
        (
            &|tensors, _| renamed("lora_A.weight", "lora_magnitude_vector")(tensors),
            "lora_magnitude_vector: found a magnitude (DoRA), expected LoRA factors only",
        ),
        (
            &|tensors, _| {
                let name = format!("base_model.model.{}.lora_A.weight", module(0, "mlp.dense_4h_to_h"));
                tensors.insert(name, (vec![4, 161], noise(4 * 161, 1)));
            },
            "transformer.encoder.layers.0.mlp.dense_4h_to_h: found factors of a matrix of shape [256, 161], expected \
             [256, 160]",
        ),
        (
            &|tensors, _| {
                let mut changed = embedding.clone();
                changed.1[256 * 7] += 1.0;
                tensors.insert(format!("base_model.model.{EMBEDDING}.base_layer.weight"), changed);
            },
            "word_embeddings.base_layer.weight: found other values in row 7, expected the checkpoint's own tensor",
        ),
        (
            &|tensors, _| {
                tensors.insert("base_model.model.prompt".to_owned(), (vec![2], vec![0.0; 2]));
            },
            "base_model.model.prompt: found an unknown tensor, expected LoRA factors only",
        ),
    ];
    for (change, expected) in cases {
        let (folder, out) = (Dir::new(), Dir::new());
        let mut config = config(4, 6.0);
        let mut tensors = adapter(folder.path(), 4, 1, &config);
        change(&mut tensors, &mut config);
        save(folder.path(), &tensors, &config);
        let run = Cmd::new("convert").arg(model.path()).arg("--lora").arg(folder.path());
        let run = run.current_dir(out.path()).exit_with(2);
        assert!(run.stderr.contains(expected), "{}\nwithout: {expected}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert_eq!(out.names(), [""; 0]);
    }
}

/// What follows the last `=` is a number, unless a folder has that whole name.
#[test]
fn a_scale_is_a_finite_number_behind_the_folder() {
    let (model, at) = (Checkpoint::tiny().folder(), Dir::new());
    adapter(&at.join("ad"), 4, 1, &config(4, 6.0));
    let run = |argument: &OsStr| {
        let run = Cmd::new("convert").arg(model.path()).args(&["--type", "F16", "--no-modelfile", "--force"]);
        run.args(&["--output", "m.gguf"]).arg("--lora").arg(argument).current_dir(at.path())
    };
    for (argument, expected) in [
        ("nowhere", "nowhere/adapter_config.json: not found, expected the folder of a PEFT adapter"),
        ("nowhere=2", "nowhere/adapter_config.json: not found, expected the folder of a PEFT adapter"),
        ("=2", "--lora: found `=2`, expected ADAPTER_DIR or ADAPTER_DIR=SCALE"),
        ("ad=nan", "--lora ad=nan: found the scale `nan`, expected a finite number"),
        ("ad=inf", "--lora ad=inf: found the scale `inf`, expected a finite number"),
        ("ad=x", "--lora ad=x: found the scale `x`, expected a finite number"),
        ("ad=", "--lora ad=: found the scale ``, expected a finite number"),
        ("ad=1e308", "--lora ad: found the scale 1e308, expected one that fits F32 with the adapter's own"),
        (
            "ad/adapter_model.safetensors",
            "ad/adapter_model.safetensors: found a file, expected the adapter's folder, ad",
        ),
    ] {
        assert_eq!(run(OsStr::new(argument)).exit_with(2).stderr, format!("glm2llama: {expected}\n"));
    }
    #[cfg(unix)]
    let odd: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"ad\xff");
    #[cfg(not(unix))]
    let odd = OsStr::new("模型");
    for name in [OsStr::new("ad=2"), odd] {
        adapter(&at.join(name), 4, 1, &config(4, 6.0));
        let said = run(name).succeed().stderr;
        assert!(said.contains("9 matrices, rank 4 times 1.5"), "{said}");
    }
    assert!(run(OsStr::new("ad==2")).exit_with(2).stderr.contains("ad=/adapter_config.json: not found"));
}

/// The base is not to be blamed, or somebody downloads it again.
#[test]
fn damaged_adapters_and_wild_scales_are_named_as_such() {
    let (model, at) = (Checkpoint::tiny().folder(), Dir::new());
    let refused = |change: &dyn Fn(&mut Tensors, &mut Value), lora: &str, expected: &str| {
        let mut config = config(4, 6.0);
        let folder = at.join("ad");
        let mut tensors = adapter(&folder, 4, 1, &config);
        change(&mut tensors, &mut config);
        save(&folder, &tensors, &config);
        let run = Cmd::new("convert").arg(model.path()).args(&["--type", "F16", "--quiet", "--lora", lora]);
        let stderr = run.current_dir(at.path()).exit_with(2).stderr;
        assert!(stderr.starts_with("glm2llama: ") && stderr.ends_with(&format!("{expected}\n")), "{stderr}");
        assert_eq!(at.names(), ["ad"]);
    };
    let dense = module(0, "self_attention.dense");
    let (a, b) = ("lora_A.weight", "lora_B.weight");
    for (factor, columns, value) in [(a, 256, f32::NAN), (b, 4, f32::INFINITY)] {
        let name = format!("base_model.model.{dense}.{factor}");
        let line =
            format!("ad/adapter_model.safetensors: {name} row 3: found {value}, expected finite values");
        let damage = |tensors: &mut Tensors, _: &mut Value| {
            tensors.get_mut(&name).expect("there").1[3 * columns] = value;
        };
        refused(&damage, "ad", &format!("{line}: the adapter is damaged"));
    }
    let alpha = |_: &mut Tensors, config: &mut Value| config["lora_alpha"] = json!(1e300);
    refused(&alpha, "ad", "ad/adapter_config.json: lora_alpha: found 1e300, expected a scale that fits F32");
    let line = "expected a finite weight: give a smaller --lora DIR=SCALE";
    let name =
        "model.safetensors: transformer.embedding.word_embeddings.weight row 0 with the adapter merged";
    refused(
        &|tensors, _| tensors.values_mut().for_each(|t| t.1.fill(10.0)),
        "ad=1e37",
        &format!("{name}: found inf, {line}"),
    );
}

/// An adapter of another model, which is named where the config has its name.
#[test]
fn the_model_that_an_adapter_was_trained_for_is_named() {
    let (model, folder) = (Checkpoint::tiny().folder(), Dir::new());
    let mut config = config(4, 6.0);
    config["base_model_name_or_path"] = json!("THUDM/glm-4-9b");
    let mut tensors = adapter(folder.path(), 4, 1, &config);
    let refused = |tensors: &Tensors, expected: &str| {
        save(folder.path(), tensors, &config);
        let run = Cmd::new("plan").arg(model.path()).arg("--lora").arg(folder.path()).exit_with(2);
        assert!(run.stderr.ends_with(&format!("{expected}\n")), "{}", run.stderr);
    };
    let embedding = format!("base_model.model.{EMBEDDING}.base_layer.weight");
    tensors.insert(embedding.clone(), (vec![1025, 256], vec![0.0; 1025 * 256]));
    refused(
        &tensors,
        "found a whole tensor of shape [1025, 256], expected factors, or a copy of the checkpoint's own tensor: the \
         adapter was trained for another model, or saved with a resized embedding",
    );
    tensors.remove(&embedding);
    let name = format!("base_model.model.{}.lora_A.weight", module(0, "mlp.dense_4h_to_h"));
    let good = tensors.insert(name.clone(), (vec![4, 161], noise(4 * 161, 1))).expect("there");
    refused(
        &tensors,
        "found factors of a matrix of shape [256, 161], expected [256, 160]: it was trained for \"THUDM/glm-4-9b\"",
    );
    tensors.insert(name, good);
    for factor in ["A", "B"] {
        let name =
            |layer| format!("base_model.model.{}.lora_{factor}.weight", module(layer, "mlp.dense_4h_to_h"));
        let tensor = tensors.remove(&name(0)).expect("there");
        tensors.insert(name(7), tensor);
    }
    refused(
        &tensors,
        "found a matrix that the model does not have, expected an adapter of this model: it was trained for \
         \"THUDM/glm-4-9b\"",
    );
}
