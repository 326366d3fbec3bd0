//! Quantizing is hidden behind the download: what has come is worked on while the rest comes.

use std::sync::Mutex;
use std::time::Instant;

use glm2llama::{Step, Watch};

use super::faults::{convert_all, open};
use super::server::Server;
use super::{Hub, command, same_model};
use crate::support::{Checkpoint, Dir, command::convert, tiny_tokenizer};

#[derive(Default)]
struct Steps(Mutex<Vec<[u64; 3]>>);

impl Watch for Steps {
    fn advanced(&self, step: &Step) {
        self.0.lock().unwrap().extend(step.downloaded.map(|downloaded| [downloaded, step.done, step.total]));
    }
}

#[test]
fn what_has_come_is_quantized_while_the_rest_comes() {
    let hub = Hub::new();
    hub.server.rate(400_000);
    let steps = Steps::default();
    convert_all(&open(&hub, "hf://a/b").unwrap(), &["Q4_K_M"], &hub.dir.join("m.gguf"), &steps).unwrap();
    let steps = steps.0.into_inner().unwrap();
    let done_at = |percent: u64| {
        let before = steps.iter().filter(|[downloaded, _, total]| downloaded * 100 < total * percent);
        before.map(|[_, done, total]| done * 100 / total).max()
    };
    // Of the bytes that have come, those of rows that are not whole and of blocks on their way are not done.
    let [half, most] = [50, 95].map(|percent| done_at(percent).unwrap_or(0));
    assert!(half > 10 && most > 40, "{half} % and {most} % done: {steps:?}");
}

/// A measurement, for a machine that does nothing else: the figures in docs/hub.md.
#[test]
#[ignore = "a measurement: cargo test --test it overlap -- --ignored --nocapture"]
fn a_download_alone_and_a_conversion_on_its_way() {
    let here = Dir::new();
    let shape = Checkpoint { hidden: 1024, ffn: 8192, vocab: 4096, layers: 8, ..Checkpoint::tiny() };
    let shape = Checkpoint { shard_bytes: Some(120_000_000), ..shape };
    shape.write(&here.join("model"), &tiny_tokenizer()).unwrap();
    let server = Server::start(&here.join("model"));
    let names: Vec<_> =
        here.join("model").read_dir().unwrap().flatten().map(|entry| entry.file_name()).collect();
    let names: Vec<&str> = names.iter().filter_map(|name| name.to_str()).collect();
    let shards: Vec<&str> = names.into_iter().filter(|name| name.ends_with(".safetensors")).collect();
    let seconds = |work: &dyn Fn()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let bytes: u64 =
        shards.iter().map(|shard| here.join("model").join(shard).metadata().unwrap().len()).sum();
    println!("{} MB in {} shards, as Q4_K_M", bytes / 1_000_000, shards.len());
    let folder = seconds(&|| _ = convert(&here.join("model"), "Q4_K_M", &here.join("local.gguf"), &[]));
    println!("from a folder: {folder:.1} s");
    for rate in [5_000_000, 10_000_000, 20_000_000] {
        server.rate(rate);
        let download = seconds(&|| {
            std::thread::scope(|scope| {
                shards.iter().for_each(|shard| _ = scope.spawn(|| server.download(shard)));
            });
        });
        let both = seconds(&|| {
            let run =
                command("convert", &server.url(), here.path()).arg("hf://a/b").args(&["--type", "Q4_K_M"]);
            run.args(&["--quiet", "--no-modelfile", "--force", "--output", "m.gguf"]).succeed();
        });
        println!(
            "{} MB/s a connection: download alone {download:.1} s, from the hub {both:.1} s",
            rate / 1_000_000
        );
        same_model(&here.join("m.gguf"), &here.join("local.gguf"));
    }
}
