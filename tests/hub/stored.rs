//! `--keep`: a checkpoint stored while it streams, as the hubs' own programs store it.

use std::fs;

use super::server::{COMMIT, Fault, sha256};
use super::{Hub, command, same_model};
use crate::support::Dir;

const SHARDS: [&str; 3] = [
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
];
const ARGUMENTS: [&str; 6] = ["--type", "Q4_K_M", "--quiet", "--keep", "kept", "--output"];

#[test]
fn what_is_kept_is_found_by_its_name_and_has_the_hubs_layout() {
    let hub = Hub::new();
    for (address, cache, snapshot) in [
        (
            "hf://zai-org/chatglm3-6b",
            "HF_HUB_CACHE",
            format!("models--zai-org--chatglm3-6b/snapshots/{COMMIT}"),
        ),
        (
            "ms://ZhipuAI/chatglm3-6b",
            "MODELSCOPE_CACHE",
            "models/ZhipuAI--chatglm3-6b/snapshots/master".to_owned(),
        ),
    ] {
        let here = Dir::new();
        let run = || command("convert", &hub.server.url(), here.path());
        run().arg(address).args(&ARGUMENTS).arg("m.gguf").succeed();
        let kept = here.join("kept").join(&snapshot);
        for entry in hub.model().read_dir().unwrap().flatten() {
            let stored = kept.join(entry.file_name());
            assert_eq!(fs::read(&stored).unwrap(), fs::read(entry.path()).unwrap(), "{}", stored.display());
        }
        if cache == "HF_HUB_CACHE" {
            let repository = here.join("kept/models--zai-org--chatglm3-6b");
            assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
            let hash = sha256(&fs::read(hub.model().join(SHARDS[0])).unwrap());
            assert!(repository.join("blobs").join(&hash).is_file());
            assert_eq!(
                kept.join(SHARDS[0]).read_link().unwrap(),
                std::path::Path::new("../../blobs").join(hash)
            );
        }
        // By its name alone, without the network; the receipt there holds every file against its own name.
        let name = address.split_once("://").unwrap().1;
        let offline = run().env("HF_HUB_OFFLINE", "1").env(cache, here.join("kept")).arg(name);
        let offline =
            offline.args(&["--type", "Q4_K_M", "--quiet", "--output", "n.gguf", "--receipt", "r.json"]);
        offline.succeed();
        same_model(&here.join("m.gguf"), &here.join("n.gguf"));
        // By its address: the small files and the shards are there, and only the list is asked for.
        hub.server.state.seen.lock().unwrap().clear();
        run().arg(address).args(&ARGUMENTS).arg("o.gguf").succeed();
        same_model(&here.join("m.gguf"), &here.join("o.gguf"));
        let asked = hub.server.seen();
        assert!(
            asked.iter().all(|seen| seen.path.starts_with("/api/") && !seen.path.contains("FilePath")),
            "{asked:?}"
        );
        // And so does a run without --keep, whose cache it is.
        run()
            .env(cache, here.join("kept"))
            .arg(address)
            .args(&["--type", "F16", "--quiet", "--output", "p.gguf"])
            .succeed();
        assert!(hub.server.seen().iter().all(|seen| !seen.path.contains("signed")));
    }
}

#[test]
fn what_has_come_before_a_failure_is_not_fetched_again() {
    let hub = Hub::new();
    let here = Dir::new();
    let run =
        || command("convert", &hub.server.url(), here.path()).arg("hf://a/b").args(&ARGUMENTS).arg("m.gguf");
    // The header, and then the whole with a wrong bit.
    hub.server.fault(SHARDS[2], Fault::Part200, 1).fault(SHARDS[2], Fault::Flip(100_000), 1);
    let error = run().exit_with(2).stderr;
    assert!(error.contains(SHARDS[2]) && error.contains("SHA-256"), "{error}");
    let blobs = here.join("kept/models--a--b/blobs");
    let names: Vec<String> =
        blobs.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let last = sha256(&fs::read(hub.model().join(SHARDS[2])).unwrap());
    assert!(names.iter().all(|name| !name.contains(&last) && !name.ends_with(".incomplete")), "{names:?}");
    assert!(!here.join("kept/models--a--b/refs").exists() && !here.join("m.gguf").exists());
    hub.server.state.seen.lock().unwrap().clear();
    run().succeed();
    let kept = |shard: &str| names.contains(&sha256(&fs::read(hub.model().join(shard)).unwrap()));
    for shard in SHARDS {
        let asked = hub.server.seen().iter().any(|seen| seen.path.contains(shard));
        assert_eq!(asked, !kept(shard), "{shard}");
    }
}

#[test]
fn a_damaged_cache_is_found_out() {
    let hub = Hub::new();
    let here = Dir::new();
    let run = || {
        command("convert", &hub.server.url(), here.path())
            .arg("hf://a/b")
            .args(&ARGUMENTS)
            .arg("m.gguf")
            .arg("--force")
    };
    run().succeed();
    let blob =
        here.join("kept/models--a--b/blobs").join(sha256(&fs::read(hub.model().join(SHARDS[1])).unwrap()));
    let mut bytes = fs::read(&blob).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let error = run().exit_with(2).stderr;
    assert!(
        error.contains("kept/models--a--b/blobs/") && error.contains("found bytes of SHA-256"),
        "{error}"
    );
    assert!(error.contains("delete the file and run again"), "{error}");
    fs::remove_file(&blob).unwrap();
    run().succeed();
}
