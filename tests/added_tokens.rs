//! Tokens that fine-tuning added, in all the files that say so; GLM-4's special tokens; and listed ends of text: what
//! a conversion, an export and `verify` make of them.

use std::fs;
use std::path::Path;

use crate::support::gguf::{self, Gguf};
use crate::support::tokenizers::tiktoken;
use crate::support::{Checkpoint, Cmd, Dir};
use serde_json::{Value, json};

/// The tokenizer of 900 pieces, which ChatGLM3's nine follow.
fn chatglm3() -> Dir {
    Checkpoint::tiny().folder()
}

/// A tiktoken vocabulary of 900 ranks.
fn glm4(shape: &Checkpoint) -> Dir {
    let folder = shape.folder();
    tiktoken(folder.path(), 900);
    folder
}

fn write(folder: &Path, name: &str, value: &Value) {
    fs::write(folder.join(name), value.to_string()).expect("written");
}

fn edit(folder: &Path, name: &str, change: impl Fn(&mut Value)) {
    let bytes = fs::read(folder.join(name)).expect("read");
    let mut value = serde_json::from_slice(&bytes).expect("JSON");
    change(&mut value);
    write(folder, name, &value);
}

/// Converts, lets `verify` judge, exports; returns file, what was printed, and the exported configs.
fn made(model: &Path) -> (Gguf, String, Value, Value) {
    let out = Dir::new();
    let file = out.join("m.gguf");
    let printed =
        Cmd::new("convert").arg(model).args(&["--type", "Q8_0", "--output"]).arg(&file).succeed().stderr;
    let judged = Cmd::new("verify").arg(model).arg(&file).args(&["--tokens", "8"]).succeed();
    assert!(judged.stdout.contains("verdict: faithful: the same model"), "{}", judged.stdout);
    let folder = out.join("hf");
    Cmd::new("export-hf").arg(model).arg(&folder).arg("--quiet").succeed();
    let json =
        |name: &str| serde_json::from_slice(&fs::read(folder.join(name)).expect("read")).expect("JSON");
    (Gguf::read(&file), printed, json("tokenizer_config.json"), json("generation_config.json"))
}

fn text(gguf: &Gguf, id: usize) -> (String, i128) {
    let value = |key: &str| match &gguf.meta[key] {
        gguf::Value::List(values) => values[id].clone(),
        other => panic!("{other:?}"),
    };
    match (value("tokenizer.ggml.tokens"), value("tokenizer.ggml.token_type")) {
        (gguf::Value::Text(text), gguf::Value::Int(kind)) => (text, kind),
        other => panic!("{other:?}"),
    }
}

/// eos, eot and eom.
fn ends(gguf: &Gguf) -> [i128; 3] {
    ["eos", "eot", "eom"].map(|name| match gguf.meta.get(&format!("tokenizer.ggml.{name}_token_id")) {
        Some(gguf::Value::Int(id)) => *id,
        other => panic!("{name}: {other:?}"),
    })
}

#[test]
fn tokens_of_older_transformers_are_tokens_for_every_family() {
    for (model, own) in [(chatglm3(), 909), (glm4(&Checkpoint::tiny()), 914)] {
        let added = json!({"[ICD]": own, "[DRUG]": own + 1, "<word>": own + 2});
        write(model.path(), "added_tokens.json", &added);
        let special = json!({"additional_special_tokens": ["[ICD]"], "sep_token": {"content": "[DRUG]", "lstrip": false}});
        write(model.path(), "special_tokens_map.json", &special);
        let (gguf, printed, exported, _) = made(model.path());
        for (id, name, kind) in [(own, "[ICD]", 3), (own + 1, "[DRUG]", 3), (own + 2, "<word>", 4)] {
            assert_eq!(text(&gguf, id), (name.to_owned(), kind));
            let entry = &exported["added_tokens_decoder"][id.to_string()];
            assert_eq!((&entry["content"], &entry["special"]), (&json!(name), &json!(kind == 3)));
        }
        assert!(printed.contains("added tokens: 3, from added_tokens.json"), "{printed}");
        // What the newer file says goes first, and is said.
        let decoder = json!({own.to_string(): {"content": "[NEW]", "special": true}});
        edit(model.path(), "tokenizer_config.json", |config| {
            config["added_tokens_decoder"] = decoder.clone()
        });
        let (gguf, printed, ..) = made(model.path());
        assert_eq!((text(&gguf, own).0, text(&gguf, own + 1).0), ("[NEW]".to_owned(), "[DRUG]".to_owned()));
        assert!(printed.contains("\"[NEW]\", where added_tokens.json has \"[ICD]\" as token 9"), "{printed}");
    }
}

#[test]
fn glm4_has_its_special_tokens_wherever_the_list_leaves_their_places() {
    let model = glm4(&Checkpoint::tiny());
    let entry = |content: &str| json!({"content": content, "special": true});
    for (given, changed) in [
        (json!({"900": entry("<|endoftext|>")}), None),
        (json!({"907": entry("<|user|>"), "914": entry("<|tool|>")}), Some((914, "<|tool|>"))),
        (json!({"913": entry("<|tool|>")}), Some((913, "<|tool|>"))),
    ] {
        edit(model.path(), "tokenizer_config.json", |config| config["added_tokens_decoder"] = given.clone());
        write(model.path(), "generation_config.json", &json!({"eos_token_id": [900, 907, 909]}));
        let (gguf, printed, ..) = made(model.path());
        assert_eq!(ends(&gguf), [900, 907, 909]);
        for (id, name) in [(902, "[gMASK]"), (904, "<sop>"), (906, "<|system|>"), (908, "<|assistant|>")] {
            assert_eq!(text(&gguf, id), (name.to_owned(), 3));
        }
        if let Some((id, name)) = changed {
            assert_eq!(text(&gguf, id).0, name);
        }
        assert!(printed.contains("of them from the authors' order"), "{printed}");
    }
}

#[test]
fn listed_ends_of_text_are_the_files_ends() {
    let fine_tuned = |model: &Dir, list: Value| {
        write(model.path(), "added_tokens.json", &json!({"<end>": 920, "<stop>": 921}));
        write(model.path(), "generation_config.json", &json!({ "eos_token_id": list }));
    };
    let model = chatglm3();
    assert_eq!(ends(&made(model.path()).0), [2, 906, 908]);
    fine_tuned(&model, json!([920, 921]));
    let (gguf, printed, _, generation) = made(model.path());
    assert_eq!(ends(&gguf), [920, 906, 921]);
    assert!(printed.contains("end of text: 920 (\"<end>\"), 921 (\"<stop>\")"), "{printed}");
    assert!(printed.contains("908 (\"<|observation|>\") does not fit into the three places"), "{printed}");
    assert_eq!(generation["eos_token_id"], json!([920, 921, 2, 906, 908]));

    let model = glm4(&Checkpoint::tiny());
    fine_tuned(&model, json!([900, 907, 909, 921]));
    let (gguf, printed, _, generation) = made(model.path());
    assert_eq!(ends(&gguf), [900, 907, 909]);
    assert!(printed.contains("921 (\"<stop>\") does not fit into the three places"), "{printed}");
    assert_eq!(generation["eos_token_id"], json!([900, 907, 909, 921]));
    fine_tuned(&model, json!(905)); // <eop>
    let (gguf, _, _, generation) = made(model.path());
    assert_eq!((ends(&gguf), &generation["eos_token_id"]), ([905, 907, 909], &json!([905])));
}

#[test]
fn ids_that_have_another_text_already_are_refused_with_the_way_out() {
    let entry = |id: u32| json!({id.to_string(): {"content": "[ICD]", "special": true}});
    for (model, id, expected) in [
        (chatglm3(), 899, "the vocabulary's token of this id: remove the entry"),
        (
            chatglm3(),
            907,
            "found \"[ICD]\", expected <|assistant|>, the token of this id: remove the entry, then",
        ),
        (chatglm3(), 1024, "expected an id below 1024, the rows of the embedding"),
        (glm4(&Checkpoint::tiny()), 300, "the vocabulary's token of this id: remove the entry"),
        (glm4(&Checkpoint::tiny()), 908, "expected <|assistant|>, the token of this id: remove the entry"),
    ] {
        let (out, good) = (Dir::new(), Dir::new());
        let file = good.join("m.gguf");
        Cmd::new("convert").arg(model.path()).args(&["--quiet", "--output"]).arg(&file).succeed();
        edit(model.path(), "tokenizer_config.json", |config| config["added_tokens_decoder"] = entry(id));
        let run = Cmd::new("convert").arg(model.path()).current_dir(out.path()).exit_with(2);
        let found =
            (run.stderr.lines().count(), run.stderr.contains(&format!("added_tokens_decoder.{id}: ")));
        assert!(found == (1, true) && run.stderr.contains(expected), "{}", run.stderr);
        assert_eq!(out.names(), [""; 0], "left behind");
        // The file that was made before is not that model's.
        let judged = Cmd::new("verify").arg(model.path()).arg(&file).args(&["--tokens", "8"]).exit_with(1);
        assert!(judged.stdout.contains("tokenizer.ggml.tokens"), "{}", judged.stdout);
    }
}

#[test]
fn sixteen_thousand_added_tokens_are_read() {
    let model = glm4(&Checkpoint { vocab: 17_408, ..Checkpoint::tiny() });
    let entry = |id: u32| {
        json!({"content": format!("<|audio_{id}|>"), "lstrip": false, "normalized": false, "rstrip": false,
            "single_word": false, "special": false, "padding": "as long as the real ones are, with their line breaks"})
    };
    let entries: serde_json::Map<String, Value> =
        (914..17_300).map(|id| (id.to_string(), entry(id))).collect();
    edit(model.path(), "tokenizer_config.json", |config| config["added_tokens_decoder"] = json!(entries));
    let length = fs::metadata(model.join("tokenizer_config.json")).expect("there").len();
    assert!(length > 3_000_000, "{length}");
    let (gguf, ..) = made(model.path());
    assert_eq!(text(&gguf, 17_299), ("<|audio_17299|>".to_owned(), 4));
}
