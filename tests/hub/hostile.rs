//! What a hub may tell of a repository that cannot be: refused in one line, before anything is asked for.

use serde_json::{Value, json};

use super::Hub;
use super::faults::{fails, open};
use super::server::Fault;

const HUBS: [&str; 2] = ["hf://a/b", "ms://a/b"];

#[track_caller]
fn refuses(hub: &Hub, address: &str, words: &[&str]) {
    let error = open(hub, address).map(|_| ()).unwrap_err().to_string();
    assert!(words.iter().all(|word| error.contains(word)) && !error.contains('\n'), "{error}");
    assert!(error.len() < 1000 && !error.contains('\x1b'), "{error}");
}

/// A file's entry in a list, by its place; both hubs' names of its fields.
fn entry(list: &mut Value, number: usize) -> &mut Value {
    match list {
        Value::Array(files) => &mut files[number],
        list => &mut list["Data"]["Files"][number],
    }
}

fn set(list: &mut Value, number: usize, field: &str, value: Value) {
    let entry = entry(list, number);
    let (hugging_face, model_scope) = match field {
        "path" => ("path", "Path"),
        "size" => ("size", "Size"),
        _ => ("oid", "Sha256"),
    };
    let name = if entry.get("path").is_some() { hugging_face } else { model_scope };
    if entry.get("lfs").is_some() && name != "path" {
        entry["lfs"][name] = value.clone();
    }
    match value {
        Value::Null => _ = entry.as_object_mut().unwrap().remove(name),
        value => entry[name] = value,
    }
}

#[test]
fn lists_that_lie_are_refused() {
    for (number, address) in HUBS.into_iter().enumerate() {
        let hub = Hub::new();
        // The first file is config.json, and the second the first shard.
        for (file, field, value, words) in [
            (0, "path", json!("../config.json"), &["../config.json: found a path that leads out"][..]),
            (0, "path", json!("/etc/passwd"), &["/etc/passwd: found a path that leads out"]),
            (1, "path", json!("a/../../model.safetensors"), &["a path that leads out of the repository"]),
            (1, "path", json!("./model.safetensors"), &["a path that leads out of the repository"]),
            (1, "path", json!("config.json"), &["config.json: found the file twice"]),
            (0, "path", json!(["config.json"]), &["not the hub's"]),
            (0, "path", Value::Null, &["not the hub's", "missing field"]),
            (0, "size", json!(-1), &["not the hub's", "-1"]),
            (1, "size", json!(-1), &["not the hub's", "-1"]),
            (0, "size", json!(1e30), &["not the hub's"]),
            (0, "size", json!("12"), &["not the hub's"]),
            (0, "size", Value::Null, &["config.json: found no length in the hub's list"]),
            (
                0,
                "hash",
                json!("../../x"),
                &["config.json: found no ", "in the hub's list, expected one of each"],
            ),
            (1, "hash", json!(""), &["safetensors: found no ", "in the hub's list, expected one of each"]),
            (0, "hash", Value::Null, &["config.json: found no "]),
        ] {
            let mut list = hub.server.lists()[number].clone();
            set(&mut list, file, field, value);
            hub.server.list(list);
            refuses(&hub, address, &[&[address], words].concat());
        }
        // More files than any model has, and more text than any list has.
        let mut list = hub.server.lists()[number].clone();
        let mut one = |path: String| {
            set(&mut list, 0, "path", json!(path));
            entry(&mut list, 0).clone()
        };
        let many: Vec<Value> = (0..20_001).map(|i| one(format!("{i}.txt"))).collect();
        let whole = |files: Vec<Value>| match number {
            0 => Value::Array(files),
            _ => json!({ "Code": 200, "Data": { "Files": files } }),
        };
        hub.server.list(whole(many));
        refuses(&hub, address, &["found over 20000 files"]);
        hub.server.list(json!("x".repeat(17 << 20)));
        refuses(&hub, address, &["an answer of over 16777216 bytes"]);
        let nested = (0..200).fold(json!([]), |inner, _| json!([inner]));
        for list in [json!(null), json!({}), json!(17), json!("<html>"), whole(vec![json!(1)]), nested] {
            hub.server.list(list);
            refuses(&hub, address, &[address, "found"]);
        }
        assert!(hub.server.seen().iter().all(|seen| seen.path.contains("api")), "no file was asked for");
    }
    let hub = Hub::new();
    hub.server.list(json!([]));
    refuses(&hub, "hf://a/b", &["found a list of files without an end"]);
}

#[test]
fn lengths_beyond_all_measure_are_refused() {
    for (number, address) in HUBS.into_iter().enumerate() {
        for bytes in [u64::MAX, u64::MAX - 1, 1 << 63, 0, 5] {
            let hub = Hub::new();
            let mut list = hub.server.lists()[number].clone();
            set(&mut list, 1, "size", json!(bytes));
            hub.server.list(list);
            fails(&hub, address, &["model-00001-of-00003.safetensors"]);
        }
    }
}

/// Names that differ in case only are two files, where the system tells them apart.
#[test]
fn other_files_beside_a_models_change_nothing() {
    for (number, address) in HUBS.into_iter().enumerate() {
        let hub = Hub::new();
        hub.server.file("CONFIG.JSON", b"{}".to_vec());
        hub.server.file("Tokenizer.Model", b"no".to_vec());
        hub.server.file("model-00001-OF-00003.safetensors", vec![0; 99]);
        let mut list = hub.server.lists()[number].clone();
        let mut other = entry(&mut list, 0).clone();
        for (name, path) in [("path", "a\\..\\b.json"), ("Path", "a\\..\\b.json")] {
            if other.get(name).is_some() {
                other[name] = json!(path);
            }
        }
        match &mut list {
            Value::Array(files) => files.push(other),
            list => list["Data"]["Files"].as_array_mut().unwrap().push(other),
        }
        hub.server.list(list).fault("config.json", Fault::Cut(3), 1);
        super::faults::succeeds(&hub, address);
    }
}

#[test]
fn errors_of_model_scope_come_with_status_200() {
    let hub = Hub::new();
    let files = hub.server.lists()[1]["Data"]["Files"].clone();
    for (answer, words) in [
        (
            json!({ "Code": 10010205001i64, "Success": false, "Message": "record not found", "Data": null }),
            &["found the answer `record not found` (code 10010205001)", "MODELSCOPE_API_TOKEN"][..],
        ),
        (json!({ "Code": 500, "Message": "", "Data": { "Files": files } }), &["(code 500)"]),
        (json!({ "Success": false, "Data": { "Files": files } }), &["found the answer `no list of files`"]),
        (
            json!({ "Code": 200, "Data": { "Files": null } }),
            &["found the answer `no list of files` (code 200)"],
        ),
        (json!({ "Code": 200, "Data": { "Files": [] } }), &["found"]),
        (json!({ "Code": 403, "Message": "\u{1b}[2Jgo\naway", "Data": {} }), &["(code 403)"]),
        (json!({ "Code": "no", "Data": { "Files": files } }), &["an answer that is not the hub's"]),
    ] {
        hub.server.list(answer);
        refuses(&hub, "ms://a/b", &[&["ms://a/b"], words].concat());
    }
}
