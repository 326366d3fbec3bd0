//! Copies that are broken or not whole beside whole ones, adapters and models in folders below, files in a folder's place.

use std::fs;
use std::path::Path;

use super::tests::{COMMIT, ENTRY, Home, NAME, OLDER};

const SCOPE: &str = ".cache/modelscope/hub/models/ZhipuAI/chatglm3-6b";
const LORA: &str = r#"{"peft_type": "LORA", "r": 8, "base_model_name_or_path": "THUDM/chatglm3-6b"}"#;

type Damage = fn(&Home);

#[test]
fn a_broken_copy_hides_no_whole_one() {
    let breaks: [(&str, Damage); 5] = [
        ("refs/main, which names snapshots/ffff", |home| home.refer(ENTRY, "main", "ffff")),
        ("found no name of a commit", |home| home.refer(ENTRY, "main", "../..")),
        ("is a link to nothing", |home| fs::remove_dir_all(home.path(ENTRY).join("blobs")).unwrap()),
        ("found a download cache without a snapshot", |home| {
            fs::remove_dir_all(home.path(ENTRY).join("snapshots")).unwrap();
        }),
        ("(no weights in it)", |home| {
            fs::remove_file(home.path(ENTRY).join("snapshots").join(COMMIT).join("model.safetensors"))
                .unwrap();
        }),
    ];
    // Where the cache holds second names of its files, none is a link to nothing.
    for (why, damage) in breaks.into_iter().filter(|(why, _)| cfg!(unix) || !why.contains("a link")) {
        let home = Home::new();
        home.snapshot(ENTRY, COMMIT);
        if why.contains("ffff") || why.contains("no name") {
            home.snapshot(ENTRY, OLDER); // which of the two, nobody says
        }
        damage(&home);
        let alone = home.find(NAME).map(|found| found.unfinished.unwrap_or_default());
        let (Ok(said) | Err(said)) = alone;
        assert!(said.contains(why), "{said}");
        let whole = home.model(SCOPE);
        for name in [NAME, "ZhipuAI/chatglm3-6b", "THUDM/chatglm3-6b"] {
            let found = home.find(name).unwrap();
            assert_eq!((&found.folder, &found.unfinished), (&whole, &None), "{name}");
            let how = found.how.unwrap();
            let passed = how.contains("; passed over: ") && how.contains(why);
            assert_eq!(passed, !name.starts_with("ZhipuAI"), "{how}"); // its own name comes first
        }
    }
}

#[test]
fn the_only_whole_snapshot_stands_in_for_the_right_one() {
    let home = Home::new();
    let older = home.snapshot(ENTRY, OLDER);
    home.refer(ENTRY, "main", COMMIT);
    let how = home.finds(NAME, &older);
    assert!(
        how.contains("by the only whole snapshot (") && how.contains("names snapshots/e46a13ad"),
        "{how}"
    );
    let newer = home.snapshot(ENTRY, COMMIT);
    home.finds(NAME, &newer);
    fs::remove_file(newer.join("model.safetensors")).unwrap();
    for model in [NAME.to_owned(), home.path(ENTRY).display().to_string()] {
        let how = home.finds(&model, &older);
        assert!(how.contains("by the only whole snapshot (refs/main has no weights in it)"), "{how}");
    }
    // A revision is that one or none.
    assert_eq!(home.find(&format!("{NAME}@main")).unwrap().folder, newer);
}

#[test]
fn a_folder_of_the_publishers_name_keeps_no_command_back() {
    let home = Home::new();
    // A name is relative, so the test's own folder counts: this crate has a `src`.
    home.refuses(
        "src/chatglm3-6b",
        &["no such download", "`hf download src/chatglm3-6b --local-dir chatglm3-6b`"],
    );
    home.refuses(
        "src/chekpoint",
        &["did you mean src/checkpoint? Else fetch it with `hf download src/chekpoint"],
    );
}

#[test]
fn an_adapter_is_named_wherever_it_is() {
    let home = Home::new();
    let adapter = |name: &str, config: &str| {
        fs::create_dir_all(home.path(name)).unwrap();
        fs::write(home.path(name).join("adapter_config.json"), config).unwrap();
        home.path(name).display().to_string()
    };
    let path = adapter("adapter", LORA);
    home.refuses(
        &path,
        &["found an adapter,", &format!("glm2llama convert THUDM/chatglm3-6b --lora {path}")],
    );
    let path = adapter("trained", r#"{"peft_type": "lora", "r": 8}"#);
    fs::write(home.path("trained/adapter_model.bin"), "").unwrap();
    fs::write(home.path("trained/config.json"), "{}").unwrap();
    home.refuses(&path, &[&format!("glm2llama convert BASE --lora {path}")]);

    for below in ["output/checkpoint-500", "run/v0-2024/checkpoint-100", "swift/default"] {
        let path = adapter(below, LORA);
        let outer = home.path(below.split('/').next().unwrap());
        fs::write(outer.join("config.json"), "{}").unwrap();
        let outer = outer.display().to_string();
        home.refuses(&outer, &["found an adapter in a folder below,", &format!("--lora {path}")]);
    }
    let other = adapter("output/checkpoint-1000", LORA);
    let outer = home.path("output").display().to_string();
    home.refuses(
        &outer,
        &["found a folder of 2 adapters", "give its base, and one of them by --lora", &other],
    );
    let merged = home.model("output/checkpoint-500-merged");
    fs::remove_file(home.path("output/config.json")).unwrap();
    home.refuses(&outer, &["a model's folder in it", &merged.display().to_string()]);

    // What --lora would refuse is refused at once.
    for (name, config, why) in [
        (
            "prefix",
            r#"{"peft_type": "PREFIX_TUNING"}"#,
            "found \"PREFIX_TUNING\", expected \"LORA\": a trained prefix",
        ),
        ("dora", r#"{"peft_type": "LORA", "r": 8, "use_dora": true}"#, "use_dora: found true"),
        ("broken", "{", "is not valid JSON"),
    ] {
        let path = adapter(name, config);
        let error = home.find(&path).unwrap_err();
        assert!(
            error.contains("a model, and this cannot be merged into one: ") && error.contains(why),
            "{error}"
        );
        assert!(!error.contains("--lora"), "{error}");
    }
}

#[test]
fn models_below_go_before_gguf_files() {
    let home = Home::new();
    let below = home.model("downloads/chatglm3-6b");
    fs::write(home.path("downloads/old-Q4_K_M.gguf"), "GGUF").unwrap();
    let outer = home.path("downloads").display().to_string();
    home.refuses(&outer, &["a model's folder in it", &below.display().to_string()]);
    home.model("downloads/other");
    home.refuses(&outer, &["found a folder of 2 models"]);
    fs::remove_dir_all(home.path("downloads/other")).unwrap();
    fs::remove_dir_all(below).unwrap();
    home.refuses(&outer, &["found only GGUF files"]);
}

#[test]
fn an_unfinished_download_is_told_once() {
    let home = Home::new();
    let folder = home.model("local");
    fs::create_dir_all(folder.join(".cache/huggingface/download")).unwrap();
    fs::write(folder.join(".cache/huggingface/download/aGFzaA=.385a.incomplete"), "").unwrap();
    let found = home.find(folder.to_str().unwrap()).unwrap();
    assert!(found.unfinished.is_some());
    for (index, lost) in
        [("model.safetensors.index.json", "a-1.safetensors"), ("pytorch_model.bin.index.json", "p-1.bin")]
    {
        let _ = fs::remove_file(folder.join("model.safetensors"));
        fs::write(folder.join(index), format!(r#"{{"weight_map": {{"t": "{lost}"}}}}"#)).unwrap();
        let error = found.explain(crate::checkpoint::Checkpoint::open(&folder).unwrap_err()).to_string();
        let told =
            format!("{lost}: found no such file, and .cache/huggingface/download/aGFzaA=.385a.incomplete");
        assert!(error.contains(&told), "{error}");
        assert_eq!(error.matches(".incomplete").count(), 1, "{error}");
        fs::remove_file(folder.join(index)).unwrap();
    }
    let beside = Path::new("x.safetensors");
    fs::write(folder.join("model.safetensors.aria2"), "").unwrap();
    let error = found.explain(crate::checkpoint::Checkpoint::open(&folder).unwrap_err()).to_string();
    assert!(
        error.contains("model.safetensors.aria2 beside it") && !error.contains("is unfinished"),
        "{error}"
    );
    let other = crate::error::Error::file(&folder.join(beside), "no such file");
    assert!(found.explain(other).to_string().contains("no such file; the download is unfinished"));
}

#[test]
fn files_in_the_place_of_a_folder() {
    let home = Home::new();
    let tar = [&[0; 257][..], b"ustar", &[0; 250]].concat();
    for (name, bytes, expected) in [
        (
            "m.gguf",
            &b"GGUF"[..],
            "found a GGUF file, expected the folder of the original checkpoint: glm2llama inspect",
        ),
        ("m", b"GGUF\x03", "found a GGUF file"),
        ("m.zip", b"PK\x03\x04", "found a zip archive, expected a folder: unpack it with `unzip "),
        ("download", b"PK\x03\x04", "found a zip archive"),
        ("m.tar", &tar, "found a tar archive, expected a folder: unpack it with `tar -xf "),
        ("m.tar.gz", b"\x1f\x8b\x08", "found a tar archive"),
        ("m.7z", b"7z\xbc\xaf\x27\x1c", "found a 7z archive"),
        ("model.safetensors", b"", "found a file of weights, expected the folder that it is in: "),
        ("pytorch_model.bin", b"PK\x03\x04", "found a file of weights"),
        ("config.json", b"{}", "found a file of a model, expected the folder that it is in: "),
        ("notes.txt", b"", "found a file, expected the folder of a ChatGLM checkpoint"),
    ] {
        let path = home.path(name);
        fs::write(&path, bytes).unwrap();
        home.refuses(path.to_str().unwrap(), &[&format!("{}: {expected}", path.display())]);
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", home.path("link")).unwrap();
        let expected = "found a link to nowhere, which is not there";
        home.refuses(home.path("link").to_str().unwrap(), &[expected]);
    }
}
