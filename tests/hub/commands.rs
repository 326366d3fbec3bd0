//! The program itself, with an address in the place of a folder.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::server::{COMMIT, Fault, TOKEN, sha256};
use super::{Hub, command, same_model};
use crate::support::Dir;
use crate::support::command::convert;
use crate::support::gguf::{self, Gguf};

const ARGUMENTS: [&str; 5] = ["--type", "Q4_K_M", "--output", "m.gguf", "--quiet"];

#[test]
fn convert_reads_a_model_that_is_nowhere_on_the_disk() {
    let hub = Hub::new();
    for (address, name, repository) in [
        ("hf://zai-org/chatglm3-6b", "Hugging Face", "zai-org/chatglm3-6b"),
        ("ms://ZhipuAI/chatglm3-6b@master", "ModelScope", "ZhipuAI/chatglm3-6b"),
    ] {
        let here = Dir::new();
        let receipt = ["--receipt", "r.json", "--no-modelfile"];
        let run = command("convert", &hub.server.url(), here.path()).arg(address).args(&ARGUMENTS);
        run.args(&receipt).succeed();
        assert_eq!(here.names(), ["m.gguf", "r.json"]);
        let local = here.join("local.gguf");
        convert(&hub.model(), "Q4_K_M", &local, &["--receipt", here.join("l.json").to_str().unwrap()]);
        same_model(&here.join("m.gguf"), &local);

        let file = Gguf::read(&here.join("m.gguf"));
        for (key, value) in [("hub", name), ("repository", repository), ("commit", COMMIT)] {
            let key = format!("glm2llama.source.{key}");
            assert_eq!(*file.value(&key), gguf::Value::Text(value.to_owned()), "{key}");
        }
        assert!(!Gguf::read(&local).meta.contains_key("glm2llama.source.hub"));
        let read = |name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(here.join(name)).unwrap()).unwrap()
        };
        let receipt = read("r.json");
        assert_eq!(receipt["source"]["commit"], COMMIT);
        // The receipt of the stream holds for a folder with the same files, and for the file.
        let verify = command("verify", "http://127.0.0.1:9", here.path()).arg(hub.model()).arg("m.gguf");
        verify.args(&["--weights-only", "--receipt", "r.json"]).succeed();
        assert_eq!(
            receipt["model"].as_array().unwrap().len(),
            read("l.json")["model"].as_array().unwrap().len()
        );
    }
}

#[test]
fn a_renamed_repository_answers_to_its_old_name() {
    let hub = Hub::new();
    hub.command("convert").arg("hf://old/chatglm3-6b").args(&ARGUMENTS).succeed();
    let file = Gguf::read(&hub.dir.join("m.gguf"));
    let repository = file.value("glm2llama.source.repository");
    assert_eq!(*repository, gguf::Value::Text("new/chatglm3-6b".to_owned()));
    hub.command("convert").arg("hf://a/b@refs/pr/1").args(&ARGUMENTS).arg("--force").succeed();
    let error = hub.command("convert").arg("hf://a/b@v9").args(&ARGUMENTS).exit_with(2).stderr;
    assert!(error.contains("hf://a/b@v9: found nothing there") && error.contains("HF_TOKEN"), "{error}");
}

#[test]
fn a_token_goes_to_the_endpoint_alone_and_is_never_printed() {
    let hub = Hub::new();
    hub.server.make_private();
    for (address, variable) in [("hf://me/private", "HF_TOKEN"), ("ms://me/private", "MODELSCOPE_API_TOKEN")]
    {
        let refused = hub.command("plan").arg(address).exit_with(2).stderr;
        assert!(refused.contains("(401)") && refused.contains(variable), "{refused}");
        let refused = hub.command("plan").env(variable, "hf_wrong").arg(address).exit_with(2);
        assert!(!refused.stderr.contains("hf_wrong"), "{}", refused.stderr);
        hub.server.state.seen.lock().unwrap().clear();
        let arguments = ["--type", "Q4_K_M", "--output", "m.gguf", "--force"];
        let run = hub.command("convert").env(variable, TOKEN).arg(address).args(&arguments).succeed();
        assert!(!format!("{}{}", run.stdout, run.stderr).contains(TOKEN));
        let (own, others): (Vec<_>, Vec<_>) = hub
            .server
            .seen()
            .into_iter()
            .partition(|seen| seen.host == format!("127.0.0.1:{}", hub.server.port));
        assert!(own.len() > 5 && own.iter().all(|seen| seen.token), "{own:?}");
        assert!(others.len() > 3 && others.iter().all(|seen| !seen.token), "{others:?}");
    }
    // Neither over a redirect on the endpoint's own host.
    hub.command("plan").env("HF_TOKEN", TOKEN).arg("hf://old/private").exit_with(2);
    let last = hub.server.seen().pop().unwrap();
    assert!(last.path.contains("/new/private/") && !last.token, "{last:?}");
}

#[test]
fn what_the_environment_forbids_is_not_done() {
    let hub = Hub::new();
    let run = |name: &str, value: &str| {
        let command = hub.command("plan").env("HF_TOKEN", TOKEN).env(name, value).arg("hf://a/b");
        let error = command.exit_with(2).stderr;
        assert!(!error.contains(TOKEN) && error.trim().lines().count() == 1, "{error}");
        error
    };
    assert!(run("HF_HUB_OFFLINE", "1").contains("HF_HUB_OFFLINE is set"));
    assert!(run("HF_ENDPOINT", "http://mirror.invalid").contains("would get HF_TOKEN unencrypted"));
    assert!(run("HF_ENDPOINT", "ftp://x").contains("HF_ENDPOINT: found `ftp://x`, expected an address"));
    assert!(run("HF_TOKEN", "a b").contains("HF_TOKEN: found characters that no token has"));
    assert!(hub.server.seen().is_empty());
    // Without a prefix nothing is asked for, whatever the name.
    hub.command("plan").arg("zai-org/chatglm3-6b").exit_with(2);
    let error = hub.command("convert").arg(hub.model()).args(&["--keep", "k"]).exit_with(2).stderr;
    assert!(error.contains("--keep: expected a model on a hub"), "{error}");
    let error =
        hub.command("convert").arg("hf://a/b").args(&["--verify", "--keep"]).arg("k").exit_with(2).stderr;
    assert!(error.contains("--verify: reads the weights a second time"), "{error}");
    assert!(!hub.dir.join("k").exists());
}

#[test]
fn plan_reads_headers_only_and_names_the_hubs_files() {
    let hub = Hub::new();
    let from_hub = hub.command("plan").arg("hf://zai-org/chatglm3-6b").args(&["--type", "Q4_K_M"]).succeed();
    let local = hub.command("plan").arg(hub.model()).args(&["--type", "Q4_K_M"]).succeed();
    // The file has three keys more: the table of tensors is the same.
    let tensors =
        |out: &str| out.lines().filter(|line| line.contains(" x ")).map(String::from).collect::<Vec<_>>();
    assert!(tensors(&local.stdout).len() > 8);
    assert_eq!(tensors(&from_hub.stdout), tensors(&local.stdout));
    assert!(from_hub.stderr.contains(&format!("from: zai-org/chatglm3-6b on Hugging Face, commit {COMMIT}")));
    // Nor does a vocabulary need any weights.
    hub.command("convert").arg("hf://a/b").args(&["--vocab-only", "--output", "v.gguf"]).succeed();
    hub.command("convert").arg(hub.model()).args(&["--vocab-only", "--output", "l.gguf"]).succeed();
    let vocabulary = |name: &str| Gguf::read(&hub.dir.join(name)).meta["tokenizer.ggml.tokens"].clone();
    assert_eq!(vocabulary("v.gguf"), vocabulary("l.gguf"));
    let sent = hub.server.seen().into_iter().filter(|seen| seen.path.contains("safetensors?"));
    let whole = |range: Option<String>| range.is_none_or(|range| !range.starts_with("bytes=0-16383"));
    assert!(sent.filter(|seen| whole(seen.range.clone())).count() == 0, "{:?}", hub.server.seen());

    hub.server.file("config.json", b"{\"model_type\": \"bert\"}".to_vec());
    let error = hub.command("plan").arg("hf://zai-org/chatglm3-6b").exit_with(2).stderr;
    assert!(error.contains("hf://zai-org/chatglm3-6b/config.json: ") && !error.contains("/tmp"), "{error}");
    hub.command("plan").arg("hf://a/b").args(&["--keep", "kept"]).exit_with(2);
    assert!(!hub.dir.join("kept").exists(), "a plan stores nothing");
    hub.server.remove("config.json");
    let error = hub.command("plan").arg("ms://a/b").exit_with(2).stderr;
    assert!(error.contains("ms://a/b/config.json: not found"), "{error}");
}

#[test]
fn inspect_fetches_the_header_of_a_gguf() {
    let hub = Hub::new();
    convert(&hub.model(), "F32", &hub.dir.join("m.gguf"), &[]);
    let bytes = std::fs::read(hub.dir.join("m.gguf")).unwrap();
    let local = hub.command("inspect").arg("m.gguf").args(&["--all"]).succeed().stdout;
    hub.server.file("m.gguf", bytes).rate(2_000_000);
    for address in ["hf://a/b/m.gguf", "hf://a/b@main/m.gguf", "hf://a/b", "ms://a/b/m.gguf"] {
        let start = Instant::now();
        let out = hub.command("inspect").arg(address).args(&["--all"]).succeed().stdout;
        let (_, local) = local.split_once(": GGUF").unwrap();
        assert_eq!(out.split_once(": GGUF").unwrap().1, local, "{address}");
        assert!(start.elapsed() < Duration::from_millis(1200), "{:?}: more than the header", start.elapsed());
    }
    hub.server.file("n.gguf", b"GGUF".to_vec());
    let error = hub.command("inspect").arg("hf://a/b").exit_with(2).stderr;
    assert!(
        error.contains("found 2 GGUF files, expected one of them: hf://a/b/m.gguf, hf://a/b/n.gguf"),
        "{error}"
    );
    let error = hub.command("inspect").arg("hf://a/b/x.gguf").exit_with(2).stderr;
    assert!(error.contains("hf://a/b/x.gguf: found no such file on the hub"), "{error}");
    hub.command("inspect").arg("hf://a/b/n.gguf").exit_with(2);
}

#[test]
fn an_adapter_comes_from_a_hub_too() {
    let base = Hub::of("tiny-glm-edge");
    let adapter = Hub::of("tiny-glm-edge-lora");
    let arguments = ["--type", "Q8_0", "--no-modelfile", "--quiet", "--output"];
    let local = base.command("convert").arg(base.model()).arg("--lora").arg(adapter.model()).args(&arguments);
    local.arg("local.gguf").succeed();
    let run = adapter.command("convert").arg(base.model()).args(&["--lora", "hf://me/lora"]).args(&arguments);
    run.arg("m.gguf").args(&["--receipt", "r.json"]).succeed();
    let (made, local) = (adapter.dir.join("m.gguf"), base.dir.join("local.gguf"));
    assert_eq!(std::fs::read(&made).unwrap(), std::fs::read(&local).unwrap());
    let receipt = std::fs::read_to_string(adapter.dir.join("r.json")).unwrap();
    assert!(receipt.contains("\"lora/adapter_config.json\""), "{receipt}");

    // Both from a hub, at half its strength.
    for entry in base.model().read_dir().unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        adapter.server.file(&name, std::fs::read(entry.path()).unwrap());
    }
    let run =
        adapter.command("convert").arg("hf://me/base").args(&["--lora", "hf://me/lora=0.5"]).args(&arguments);
    run.arg("half.gguf").succeed();
    let mut half = adapter.model().into_os_string();
    half.push("=0.5");
    let run = base.command("convert").arg(base.model()).arg("--lora").arg(half).args(&arguments);
    run.arg("half.gguf").succeed();
    same_model(&adapter.dir.join("half.gguf"), &base.dir.join("half.gguf"));

    // The base and the adapter in one repository, and the adapter's folder below.
    for entry in adapter.model().read_dir().unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        adapter.server.file(&format!("steps/checkpoint-9/{name}"), std::fs::read(entry.path()).unwrap());
        adapter.server.remove(&name);
    }
    for entry in base.model().read_dir().unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        adapter.server.file(&name, std::fs::read(entry.path()).unwrap());
    }
    let run = adapter.command("convert").arg("hf://me/both").args(&["--lora", "hf://me/both"]);
    run.args(&arguments).args(&["both.gguf", "--receipt", "b.json"]).succeed();
    same_model(&adapter.dir.join("both.gguf"), &local);
    let receipt = std::fs::read_to_string(adapter.dir.join("b.json")).unwrap();
    assert!(receipt.contains("\"checkpoint-9/adapter_config.json\""), "{receipt}");
    adapter.server.file("steps/checkpoint-3/adapter_config.json", b"{}".to_vec());
    let run = adapter.command("plan").arg(base.model()).args(&["--lora", "hf://me/both"]);
    let error = run.exit_with(2).stderr;
    assert!(error.contains("hf://me/both: found 2 adapters in it (steps/checkpoint-3/"), "{error}");
    adapter
        .server
        .remove("steps/checkpoint-3/adapter_config.json")
        .misjudge("steps/checkpoint-9/adapter_model.bin");
    let run = adapter.command("convert").arg(base.model()).args(&["--lora", "hf://me/lora"]).args(&arguments);
    let error = run.arg("x.gguf").exit_with(2).stderr;
    assert!(error.contains("/checkpoint-9/adapter_model.bin: found bytes of SHA-256"), "{error}");
}

/// What the memory is not to hold lies on the disk, without a name.
#[test]
fn a_large_adapter_is_whole_and_has_no_name() {
    let hub = Hub::new();
    let weights: Vec<u8> = (0..65u32 << 20).map(|at| (at % 251) as u8).collect();
    hub.server.file("adapter_config.json", b"{}".to_vec()).file("adapter_model.safetensors", weights.clone());
    let fetched = glm2llama::hub::adapter(&super::faults::open(&hub, "ms://me/lora").unwrap()).unwrap();
    let file = fetched.folder().join("adapter_model.safetensors");
    assert_eq!(file.to_str(), Some("ms://me/lora/adapter_model.safetensors"));
    let (bytes, hash) = glm2llama::input::sha256_of(&file).unwrap();
    assert_eq!((bytes, hash), (weights.len() as u64, sha256(&weights)));
    drop(fetched);
    assert!(glm2llama::input::open(&file).is_err());
    // Such a one needs the room, and says so.
    let run = hub.command("plan").arg(hub.model()).args(&["--lora", "ms://me/lora"]);
    let error = run.exit_with(2).stderr;
    assert!(error.contains("no-tmp: ") && error.contains("make a file"), "{error}");
}

#[test]
fn nobody_fetches_more_than_a_model_has() {
    let hub = Hub::new();
    // A data set beside the model, which nothing reads.
    hub.server.file("train.json", b"[]".to_vec()).claim("train.json", 3 << 30);
    let convert =
        || hub.command("convert").args(&["hf://me/m", "--type", "Q8_0", "--no-modelfile", "--quiet"]);
    convert().args(&["--output", "m.gguf"]).succeed();
    assert!(hub.server.seen().iter().all(|seen| !seen.path.contains("train.json")));
    // One that is read is refused by its length, and not fetched either.
    hub.server.claim("config.json", 1 << 40);
    let error = convert().args(&["--output", "x.gguf"]).exit_with(2).stderr;
    assert!(error.contains("config.json: found over 1048576 bytes"), "{error}");
    for number in 0..9 {
        let name = format!("log-{number}.json");
        hub.server.file(&name, b"[]".to_vec()).claim(&name, 60 << 20);
    }
    let error = convert().args(&["--output", "x.gguf"]).exit_with(2).stderr;
    assert!(error.contains("hf://me/m: found over 536870912 bytes in small files"), "{error}");

    let adapter = Hub::of("tiny-glm-edge-lora");
    adapter.server.claim("adapter_model.bin", 20 << 30);
    let run = adapter.command("convert").arg(hub.model()).args(&["--lora", "hf://me/lora", "--quiet"]);
    let error = run.args(&["--output", "x.gguf"]).exit_with(2).stderr;
    assert!(error.contains("hf://me/lora: found over 17179869184 bytes of an adapter"), "{error}");
}

/// Ctrl-C while bytes come, and while none do: nothing but what is to be kept.
#[test]
fn a_run_that_is_stopped_leaves_nothing() {
    for fault in [None, Some(Fault::Stall(100_000))] {
        let hub = Hub::new();
        hub.server.rate(300_000);
        if let Some(fault) = fault {
            hub.server.fault("00003.safetensors", fault, 9);
        }
        let here = Dir::new();
        let mut run = Command::new(env!("CARGO_BIN_EXE_glm2llama"))
            .args(["convert", "hf://a/b", "--type", "Q8_0", "--output", "m.gguf", "--keep", "kept"])
            .env("HF_ENDPOINT", hub.server.url())
            .env("HF_HUB_CACHE", here.join("none"))
            .env("TMPDIR", here.join("no-tmp"))
            .current_dir(here.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let temporary = here.join(".glm2llama-m.gguf.tmp");
        let start = Instant::now();
        while !temporary.exists() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(600));
        let asked = Instant::now();
        Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
        let status = run.wait().unwrap();
        assert!(asked.elapsed() < Duration::from_millis(1500), "{:?}", asked.elapsed());
        assert_eq!(status.code(), Some(130));
        assert_eq!(here.names(), ["kept"]);
        let mut kept = vec![here.join("kept")];
        while let Some(folder) = kept.pop() {
            for path in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
                assert!(!path.ends_with("refs"), "no commit is named that is not whole");
                kept.extend(Some(path).filter(|path| path.is_dir()));
            }
        }
    }
}

/// A hub that only the proxy knows, and a redirect that goes through it too.
#[test]
fn a_proxy_is_asked_for_the_hub() {
    let hub = Hub::new();
    let proxy = hub.server.start_proxy();
    let run =
        command("convert", "http://hub.invalid", hub.dir.path()).env("HTTP_PROXY", &proxy).arg("hf://a/b");
    run.args(&ARGUMENTS).succeed();
    assert!(hub.server.seen().iter().any(|seen| seen.host == "hub.invalid"), "{:?}", hub.server.seen());

    // It would read a token that goes to this machine without encryption, so that goes directly.
    let hub = Hub::new();
    let secret = hub.command("plan").env("HTTP_PROXY", "http://127.0.0.1:9").env("HF_TOKEN", TOKEN);
    secret.env("NO_PROXY", "localhost").arg("hf://a/b").succeed(); // where the files are, without a token
    assert!(hub.server.seen().iter().any(|seen| seen.token));
}

/// A pause that the hub asks for is told of, and taken.
#[test]
fn a_long_wait_is_told_of() {
    let hub = Hub::new();
    hub.server.fault("config.json", Fault::Wait(2), 1);
    let start = Instant::now();
    let run = hub.command("plan").arg("hf://a/b").succeed();
    let told = "hf://a/b/config.json: the hub asks to wait 2 s (429): trying again in 2 s";
    assert!(run.stderr.contains(told) && start.elapsed() > Duration::from_secs(2), "{}", run.stderr);
}

#[test]
fn other_models_of_the_family_and_split_files() {
    for (model, address) in
        [("tiny-glm4-hf", "hf://zai-org/glm-4-9b-hf"), ("tiny-chatglm3", "ms://ZhipuAI/chatglm3-6b")]
    {
        let hub = Hub::of(model);
        let split = ["--split-max-size", "300k", "--no-modelfile", "--quiet", "--type", "Q8_0", "--output"];
        let local = hub.command("convert").arg(hub.model()).args(&split).arg("l.gguf").run();
        let streamed = hub.command("convert").arg(address).args(&split).arg("m.gguf").run();
        assert_eq!(local.code, streamed.code, "{}{}", local.stderr, streamed.stderr);
        assert_eq!(local.code, Some(0), "{model}: {}", local.stderr);
        let names = hub.dir.names();
        let parts: Vec<&String> = names.iter().filter(|name| name.starts_with("l-000")).collect();
        assert!(parts.len() > 1, "{names:?}");
        for part in parts {
            same_model(&hub.dir.join(part), &hub.dir.join(part.replacen('l', "m", 1)));
        }
    }
}
