//! Every fault of a hub: what can be gone on with is, to the same bytes, and all else is refused in one line.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use glm2llama::hub::{self, Address, Caller, Client, Pace, Repository};
use glm2llama::{Error, Job, Options, Request, Result, Watch};

use super::server::{Fault, TOKEN};
use super::{Hub, same_model};
use crate::support::{Dir, command::convert};

const SHARD: &str = "model-00002-of-00003.safetensors";

const FAST: Pace = Pace {
    first_pause: Duration::from_millis(5),
    longest_pause: Duration::from_secs(3),
    most_failures: 4,
    stall: Duration::from_millis(800), // a machine with much else to do is to answer in it
    minute: Duration::from_secs(2),
    least: 2048,
    most_slow: 3,
};
const HUBS: [&str; 2] = ["hf://zai-org/chatglm3-6b", "ms://ZhipuAI/chatglm3-6b"];

fn open_at(hub: &Hub, address: &str, pace: Pace, caller: Caller) -> Result<Repository> {
    let address = Address::of_model(address)?;
    let url = hub.server.url();
    let variable = move |name: &str| match name {
        "HF_ENDPOINT" | "MODELSCOPE_ENDPOINT" => Some(url.clone().into()),
        "SSL_CERT_FILE" => hub.authority.clone().map(Into::into),
        _ => None,
    };
    Repository::open(Client::new(address.hub, &variable, pace, caller)?, &address)
}

pub(crate) fn open(hub: &Hub, address: &str) -> Result<Repository> {
    open_at(hub, address, FAST, Caller::default())
}

/// Converts from the server, at a pace that tests can wait for.
fn stream(hub: &Hub, address: &str, types: &[&str], output: &Path) -> Result<()> {
    convert_all(&open(hub, address)?, types, output, &())
}

pub(crate) fn convert_all(
    repository: &Repository,
    types: &[&str],
    output: &Path,
    watch: &dyn Watch,
) -> Result<()> {
    convert_kept(repository, None, types, output, watch)
}

/// The same, stored in the layout of a cache.
pub(crate) fn convert_kept(
    repository: &Repository,
    keep: Option<&Path>,
    types: &[&str],
    output: &Path,
    watch: &dyn Watch,
) -> Result<()> {
    let keep = keep.map(|root| hub::Keep { root: root.to_owned() });
    let fetched = hub::fetch(repository, &[], keep.as_ref())?;
    let mut request = Request::new(&fetched.folder, "F16".parse()?);
    request.types = types.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    request.output = Some(output.to_owned());
    request.model.remote = Some(fetched.remote.clone());
    request.model.origin = Some(fetched.origin.clone());
    let job = Job::prepare(&request)?;
    job.fill(job.create_outputs()?, Options::default(), watch)?.publish()
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
pub(crate) fn succeeds(hub: &Hub, address: &str) {
    let output = Dir::new();
    let file = output.join("m.gguf");
    stream(hub, address, &["Q4_K_M"], &file).unwrap();
    same_model(&expected(hub), &file);
    assert!(hub.server.forget_faults() > 0, "no answer was faulty");
}

/// Nothing is left, and the error is one line with all these words.
#[track_caller]
pub(crate) fn fails(hub: &Hub, address: &str, words: &[&str]) {
    fails_at(hub, address, FAST, words);
}

#[track_caller]
fn fails_at(hub: &Hub, address: &str, pace: Pace, words: &[&str]) {
    let output = Dir::new();
    let run = open_at(hub, address, pace, Caller::default());
    let run = run.and_then(|repository| convert_all(&repository, &["Q4_K_M"], &output.join("m.gguf"), &()));
    let error = run.unwrap_err();
    assert!(!matches!(error, Error::Interrupted | Error::Refuted { .. }), "{error}");
    let error = error.to_string();
    assert!(words.iter().all(|word| error.contains(word)) && !error.contains('\n'), "{error}");
    assert!(!error.contains("X-Amz-Signature") && !error.contains(TOKEN), "{error}");
    assert!(output.names().is_empty(), "{:?}", output.names());
}

/// All that a server may do wrong and still be read from.
fn goes_on(hub: &Hub, address: &str) {
    let recoverable = [
        (Fault::Cut(0), 2),
        (Fault::Cut(1), 2),
        (Fault::Cut(100_000), 3),
        (Fault::Status(403), 2), // a signed link that has run out
        (Fault::Status(404), 1),
        (Fault::Status(416), 1),
        (Fault::Status(500), 2),
        (Fault::Status(503), 2),
        (Fault::Loop, 1), // a relative redirect
        (Fault::Wait(1), 1),
        (Fault::WaitUntil(1), 1),
        (Fault::Whole, 9),
        (Fault::WholeCut(350_000), 1),
        (Fault::Part200, 9),
        (Fault::Later(1000), 1),
        (Fault::Less(5000), 3),
        (Fault::Short(5000), 3),
        (Fault::Long(5000), 2),
        (Fault::Understated(5000), 1),
        (Fault::Starred, 9),
        (Fault::Chunked(usize::MAX), 9),
        (Fault::Chunked(200_000), 2),
        (Fault::SlowHead, 1),
        (Fault::Packed, 2),
    ];
    for (fault, times) in recoverable {
        println!("{address} {fault:?}");
        // The first answer with the shard's bytes is for its header, and the cut ones are gone on with by ranges.
        hub.server.fault(SHARD, Fault::Part200, 1);
        if fault == Fault::Understated(5000) {
            hub.server.fault(SHARD, Fault::Cut(300_001), 1); // of a whole file it is another length
        }
        hub.server.fault(SHARD, fault, times).fault(SHARD, Fault::Cut(300_001), 1).fault(SHARD, fault, times);
        succeeds(hub, address);
        assert!(hub.server.state.seen.lock().unwrap().iter().any(|seen| seen.range.is_some()), "{fault:?}");
    }
    hub.server.fault(SHARD, Fault::Cut(300_001), 1).fault(SHARD, Fault::Placeless, 2);
    succeeds(hub, address);
    // As long as bytes arrive, any number of failures is gone on with.
    hub.server.fault(SHARD, Fault::Cut(30_000), 20);
    succeeds(hub, address);
    hub.server.fault("tokenizer.model", Fault::Flip(9), 2).fault("config.json", Fault::Cut(9), 2);
    succeeds(hub, address);
    // The lists come as badly.
    for fault in [Fault::Cut(50), Fault::Status(503), Fault::Wait(1), Fault::SlowHead, Fault::Packed] {
        hub.server.fault("revision", fault, 1).fault("tree", fault, 2).fault("files", fault, 2);
        succeeds(hub, address);
    }
}

#[test]
fn what_can_be_gone_on_with_makes_the_same_bytes() {
    goes_on(&Hub::new(), HUBS[1]);
}

#[test]
fn so_it_does_over_tls() {
    goes_on(&Hub::new().over_tls(), HUBS[0]);
}

#[test]
fn a_stall_ends_after_its_time() {
    for hub in [Hub::new(), Hub::new().over_tls()] {
        hub.server.fault(SHARD, Fault::Stall(50_000), 1).fault(SHARD, Fault::Stall(200_000), 1);
        let start = Instant::now();
        succeeds(&hub, "hf://zai-org/chatglm3-6b");
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    }
}

/// A byte now and then is no stall: what brings next to nothing in several minutes is given up all the same.
#[test]
fn a_server_that_drips_ends_too() {
    let pace =
        Pace { minute: Duration::from_millis(300), least: 3000, stall: Duration::from_secs(3), ..FAST };
    let words = &["bytes came in 1 s", "gave up", "after 3 failures in a row: only "][..];
    for (name, fault, words) in [
        (SHARD, Fault::Drip(2000, 10), words),
        (SHARD, Fault::Drip(0, 40), words),
        (SHARD, Fault::Cut(1), words), // by a new connection each time
        ("config.json", Fault::Drip(2, 30), words),
        ("tree", Fault::Drip(2, 30), &words[..1]),
        ("files", Fault::Drip(9, 30), &words[..1]),
        ("config.json", Fault::SlowHead, &["gave up at byte 0", "127.0.0.1 does not answer"]),
    ] {
        for hub in [Hub::new(), Hub::new().over_tls()] {
            println!("{} {name} {fault:?}", hub.server.url());
            hub.server.fault(name, fault, 1_000_000);
            let start = Instant::now();
            let address = HUBS[usize::from(name == "files")];
            let pace = if fault == Fault::SlowHead { FAST } else { pace };
            fails_at(&hub, address, pace, words);
            assert!(start.elapsed() < Duration::from_secs(20), "{name} {fault:?}: {:?}", start.elapsed());
        }
    }
    for hub in [Hub::new(), Hub::new().over_tls()] {
        a_slow_line_is_an_honest_one(&hub, pace);
    }
}

/// One slow minute is not the end, and what is told of it is why.
fn a_slow_line_is_an_honest_one(hub: &Hub, pace: Pace) {
    hub.server.fault(SHARD, Fault::Part200, 1).fault(SHARD, Fault::Drip(100_000, 10), 1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let (heard, output) = (Arc::clone(&told), Dir::new());
    let tell = Arc::new(move |message: &str| heard.lock().unwrap().push(message.to_owned()));
    let repository = open_at(hub, HUBS[0], pace, Caller { tell, ..Caller::default() }).unwrap();
    convert_all(&repository, &["Q4_K_M"], &output.join("m.gguf"), &()).unwrap();
    same_model(&expected(hub), &output.join("m.gguf"));
    let told = told.lock().unwrap();
    assert!(told.iter().any(|line| line.contains("only ") && line.ends_with(": trying again")), "{told:?}");
    // 20 kB in a second, ten times the least of the real pace.
    hub.server.file("notes.json", vec![b' '; 50_000]).rate(20_000);
    let pace = Pace { minute: Duration::from_millis(500), least: 1024, ..FAST };
    let repository = open_at(hub, HUBS[0], pace, Caller::default()).unwrap();
    let start = Instant::now();
    assert_eq!(repository.read("notes.json", 1 << 20).unwrap().unwrap().len(), 50_000);
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
}

/// Who knows no ranges, and comes only a little further each time, never comes to the end.
#[test]
fn a_server_that_ignores_ranges_has_to_get_on() {
    let hub = Hub::new();
    hub.server.fault(SHARD, Fault::Part200, 1);
    for at in 0..9 {
        hub.server.fault(SHARD, Fault::WholeCut(300_000 + 100 * at), 1);
    }
    fails(&hub, HUBS[0], &["gave up at byte 300", "after 4 failures in a row: the connection"]);
    let hub = Hub::new();
    hub.server.fault(SHARD, Fault::Part200, 1);
    for at in 0..9 {
        hub.server.fault(SHARD, Fault::WholeCut(300_000 + 30_000 * at), 1);
    }
    succeeds(&hub, HUBS[0]);
}

#[test]
fn what_is_wrong_is_refused_and_leaves_nothing() {
    for (fault, times, words) in [
        (Fault::Cut(0), 9, &["gave up at byte 0 of", "after 4 failures in a row", SHARD][..]),
        (Fault::Status(403), 9, &["gave up", "the link that the hub gave leads to nothing (403)"]),
        (Fault::Status(503), 9, &["gave up", "the server has a fault (503)"]),
        (Fault::Wait(60), 1, &["gave up", "after a failure: the hub asks to wait 60 s (429)"]),
        (Fault::WaitUntil(50), 1, &["gave up", "the hub asks to wait 50 s (429)"]),
        (Fault::Wait(0), 9, &["gave up", "after 4 failures in a row: the hub asks to wait 0 s (429)"]),
        (Fault::Loop, 99, &[SHARD, "found over 6 redirects, expected the file itself"]),
        (Fault::Status(302), 1, &[SHARD, "found a redirect by localhost to nowhere"]),
        (Fault::Status(401), 9, &["gave up", "the link that the hub gave leads to nothing (401)"]),
        (Fault::Other, 1, &[SHARD, "found a file of 36 bytes", "by the hub's own list"]),
        (Fault::Packed, 9, &["gave up", "the answer is packed"]),
        (Fault::Placeless, 9, &["gave up", "a part of the file came without its place"]),
        (Fault::Short(usize::MAX), 9, &["gave up at byte 0"]),
        (Fault::Later(10), 9, &["the answer begins at byte 10 instead of 0"]),
        (Fault::Longer, 1, &[SHARD, "found a file of", "by the hub's own list"]),
    ] {
        for (hub, address) in [(Hub::new(), HUBS[1]), (Hub::new().over_tls(), HUBS[0])] {
            println!("{address} {fault:?}");
            hub.server.fault(SHARD, fault, times);
            fails(&hub, address, words);
        }
    }
}

#[test]
fn a_wrong_byte_is_found_wherever_it_is() {
    for address in HUBS {
        let last = Hub::new().model().join(SHARD).metadata().map_or(0, |found| found.len() as usize) - 1;
        for at in [100_001, last] {
            let hub = Hub::new().over_tls();
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

/// Shards and single files, of both formats.
#[test]
fn several_types_and_pytorchs_files_come_the_same_way() {
    for (model, address) in [
        ("tiny-chatglm2-32k", HUBS[0]), // .bin in two files
        ("tiny-chatglm2-32k", HUBS[1]),
        ("tiny-glm-edge", HUBS[0]),     // one .bin
        ("tiny-chatglm3-32k", HUBS[1]), // one .safetensors
        ("tiny-glm4-hf", HUBS[0]),
    ] {
        let hub = Hub::of(model).over_tls();
        let output = Dir::new();
        stream(&hub, address, &["F16", "Q8_0", "Q4_K_M"], &output.join("{type}.gguf")).unwrap();
        for name in ["F16", "Q8_0", "Q4_K_M"] {
            let local = output.join(format!("local-{name}.gguf"));
            convert(&hub.model(), name, &local, &[]);
            same_model(&local, &output.join(format!("{name}.gguf")));
        }
    }
}

struct Flag(Arc<AtomicBool>);

impl Watch for Flag {
    fn stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn a_wish_to_stop_does_not_wait_for_the_server() {
    let hub = Hub::new();
    hub.server.fault("config.json", Fault::Stall(3), 9);
    let stop = Arc::new(AtomicBool::new(false));
    let caller = Caller { watch: Arc::new(Flag(Arc::clone(&stop))), ..Caller::default() };
    let repository = open_at(&hub, "hf://zai-org/chatglm3-6b", FAST, caller).unwrap();
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
