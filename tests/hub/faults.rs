//! Every fault of a hub: what can be gone on with is, to the same bytes, and all else is refused in one line.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use glm2llama::hub::{self, Address, Caller, Client, Pace, Repository};
use glm2llama::{Error, Job, Options, Request, Result};

use crate::server::{Fault, TOKEN};
use crate::support::{Dir, command::convert};
use crate::{Hub, same_model};

const SHARD: &str = "model-00002-of-00003.safetensors";

const FAST: Pace = Pace {
    first_pause: Duration::from_millis(5),
    longest_pause: Duration::from_secs(3),
    most_failures: 4,
    stall: Duration::from_millis(400),
};

fn open(hub: &Hub, address: &str, stop: &Arc<AtomicBool>) -> Result<Repository> {
    let address = Address::of_model(address)?;
    let url = hub.server.url();
    let variable = move |name: &str| match name {
        "HF_ENDPOINT" | "MODELSCOPE_ENDPOINT" => Some(url.clone().into()),
        _ => None,
    };
    let caller = Caller { stop: Arc::clone(stop), ..Caller::default() };
    Repository::open(Client::new(address.hub, &variable, FAST, caller)?, &address)
}

/// Converts from the server, at a pace that tests can wait for.
fn stream(hub: &Hub, address: &str, types: &[&str], output: &Path) -> Result<()> {
    let repository = open(hub, address, &Arc::default())?;
    let fetched = hub::fetch(&repository, &[], None)?;
    let mut request = Request::new(&fetched.folder, "F16".parse()?);
    request.types = types.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    request.output = Some(output.to_owned());
    request.model.remote = Some(fetched.remote.clone());
    request.model.origin = Some(fetched.origin.clone());
    let job = Job::prepare(&request)?;
    job.fill(job.create_outputs()?, Options::default(), &())?.publish()
}

/// The local conversion's file.
fn expected(hub: &Hub) -> PathBuf {
    let file = hub.dir.join("expected.gguf");
    if !file.exists() {
        convert(&hub.model(), "Q4_K_M", &file, &[]);
    }
    file
}

#[track_caller]
fn succeeds(hub: &Hub, address: &str) {
    let output = Dir::new();
    let file = output.join("m.gguf");
    stream(hub, address, &["Q4_K_M"], &file).unwrap();
    same_model(&expected(hub), &file);
    assert!(hub.server.forget_faults() > 0, "no answer was faulty");
}

/// Nothing is left, and the error is one line with all these words.
#[track_caller]
fn fails(hub: &Hub, address: &str, words: &[&str]) {
    let output = Dir::new();
    let error = stream(hub, address, &["Q4_K_M"], &output.join("m.gguf")).unwrap_err();
    assert!(!matches!(error, Error::Interrupted | Error::Refuted { .. }), "{error}");
    let error = error.to_string();
    assert!(words.iter().all(|word| error.contains(word)) && !error.contains('\n'), "{error}");
    assert!(!error.contains("X-Amz-Signature") && !error.contains(TOKEN), "{error}");
    assert!(output.names().is_empty(), "{:?}", output.names());
}

#[test]
fn what_can_be_gone_on_with_makes_the_same_bytes() {
    let recoverable = [
        (Fault::Cut(0), 2),
        (Fault::Cut(1), 2),
        (Fault::Cut(100_000), 3),
        (Fault::Status(403), 2), // a signed link that has run out
        (Fault::Status(404), 1),
        (Fault::Status(416), 1),
        (Fault::Status(500), 2),
        (Fault::Status(503), 3),
        (Fault::Wait(1), 1),
        (Fault::Whole, 9),
        (Fault::Part200, 9),
        (Fault::Later(1000), 1),
        (Fault::Packed, 2),
    ];
    let hub = Hub::new();
    for address in ["hf://zai-org/chatglm3-6b", "ms://ZhipuAI/chatglm3-6b"] {
        for (fault, times) in recoverable {
            // The first answer with the shard's bytes is for its header, and the cut ones are gone on with by ranges.
            hub.server
                .fault(SHARD, fault, times)
                .fault(SHARD, Fault::Cut(300_001), 1)
                .fault(SHARD, fault, times);
            succeeds(&hub, address);
            assert!(
                hub.server.state.seen.lock().unwrap().iter().any(|seen| seen.range.is_some()),
                "{fault:?}"
            );
        }
        hub.server.fault(SHARD, Fault::Cut(300_001), 1).fault(SHARD, Fault::Placeless, 2);
        succeeds(&hub, address);
        // As long as bytes arrive, any number of failures is gone on with.
        hub.server.fault(SHARD, Fault::Cut(30_000), 20);
        succeeds(&hub, address);
        hub.server.fault("tokenizer.model", Fault::Flip(9), 2).fault("config.json", Fault::Cut(9), 2);
        succeeds(&hub, address);
    }
}

#[test]
fn a_stall_ends_after_its_time() {
    let hub = Hub::new();
    hub.server.fault(SHARD, Fault::Stall(50_000), 1).fault(SHARD, Fault::Stall(200_000), 1);
    let start = Instant::now();
    succeeds(&hub, "hf://zai-org/chatglm3-6b");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn what_is_wrong_is_refused_and_leaves_nothing() {
    for (fault, times, words) in [
        (Fault::Cut(0), 9, &["gave up at byte 0 of", "after 4 failures in a row", SHARD][..]),
        (Fault::Status(403), 9, &["gave up", "the link that the hub gave leads to nothing (403)"]),
        (Fault::Status(503), 9, &["gave up", "the server has a fault (503)"]),
        (Fault::Wait(60), 1, &["gave up", "the hub asks to wait (429)"]),
        (Fault::Later(10), 9, &["the answer begins at byte 10 instead of 0"]),
        (Fault::Longer, 1, &[SHARD, "found a file of", "by the hub's own list"]),
    ] {
        let hub = Hub::new();
        hub.server.fault(SHARD, fault, times);
        fails(&hub, "hf://zai-org/chatglm3-6b", words);
    }
}

#[test]
fn a_wrong_byte_is_found_wherever_it_is() {
    for address in ["hf://zai-org/chatglm3-6b", "ms://ZhipuAI/chatglm3-6b"] {
        let last = Hub::new().model().join(SHARD).metadata().map_or(0, |found| found.len() as usize) - 1;
        for at in [100_001, last] {
            let hub = Hub::new();
            // In the second answer, that with the weights: the header alone comes first.
            hub.server.fault(SHARD, Fault::Part200, 1).fault(SHARD, Fault::Flip(at), 1);
            fails(&hub, address, &[SHARD, "found bytes of SHA-256", "by the hub's own list"]);
        }
        let hub = Hub::new();
        hub.server.misjudge(SHARD);
        fails(&hub, address, &[SHARD, &format!("expected {}", "0".repeat(64))]);
        let hub = Hub::new();
        hub.server.fault(SHARD, Fault::Cut(300_000), 1).fault(SHARD, Fault::Lie, 9);
        fails(&hub, address, &[SHARD]);
        let hub = Hub::new();
        hub.server.misjudge("config.json");
        fails(&hub, address, &["config.json: found bytes of"]);
    }
}

/// The header's bytes come by a range, which no hash covers.
#[test]
fn a_header_that_differs_from_the_file_is_found() {
    let hub = Hub::new();
    // A digit of the header's JSON: another offset or shape, or white space behind it.
    let header =
        String::from_utf8_lossy(&std::fs::read(hub.model().join(SHARD)).unwrap()[..4000]).into_owned();
    let at = header.find("\"pt\"").unwrap() + 1; // free text, which the parser passes over
    hub.server.fault(SHARD, Fault::Flip(at), 1);
    fails(&hub, "hf://zai-org/chatglm3-6b", &[SHARD, "other bytes in the header"]);
}

#[test]
fn several_types_and_pytorchs_files_come_the_same_way() {
    let hub = Hub::of("tiny-chatglm2-32k");
    for address in ["hf://zai-org/chatglm2-6b", "ms://ZhipuAI/chatglm2-6b"] {
        let output = Dir::new();
        stream(&hub, address, &["F16", "Q8_0", "Q4_K_M"], &output.join("{type}.gguf")).unwrap();
        for name in ["F16", "Q8_0", "Q4_K_M"] {
            let local = output.join(format!("local-{name}.gguf"));
            convert(&hub.model(), name, &local, &[]);
            same_model(&local, &output.join(format!("{name}.gguf")));
        }
    }
}

#[test]
fn a_wish_to_stop_does_not_wait_for_the_server() {
    let hub = Hub::new();
    hub.server.fault("tree", Fault::Stall(0), 1).fault("config.json", Fault::Stall(3), 9);
    let stop = Arc::new(AtomicBool::new(false));
    let repository = open(&hub, "hf://zai-org/chatglm3-6b", &stop).unwrap();
    let asked = Arc::clone(&stop);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        asked.store(true, Ordering::Relaxed);
    });
    let start = Instant::now();
    let error = hub::fetch(&repository, &[], None).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert!(start.elapsed() < Duration::from_millis(350), "{:?}", start.elapsed());
}
