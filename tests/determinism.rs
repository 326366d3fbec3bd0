//! The bytes depend on the checkpoint and the type, on nothing else.

use std::fs;
use std::path::Path;

use crate::support::command::convert;
use crate::support::{Checkpoint, Dir, tiny_tokenizer};
use sha2::{Digest, Sha256};

const TYPES: [&str; 4] = ["F32", "F16", "Q8_0", "Q4_K_M"];

/// What a conversion with these options writes, one file a type.
fn converted(model: &Path, options: &[&str]) -> Vec<Vec<u8>> {
    let folder = Dir::new();
    let one = |name: &&str| {
        let file = folder.join(format!("{name}.gguf"));
        convert(model, name, &file, options);
        fs::read(file).expect("a readable file")
    };
    TYPES.iter().map(one).collect()
}

#[track_caller]
fn assert_same(one: &[Vec<u8>], other: &[Vec<u8>]) {
    for ((one, other), name) in one.iter().zip(other).zip(TYPES) {
        assert!(one == other, "{name} differs");
    }
}

#[test]
fn threads_and_chunks_do_not_show() {
    // Matrices of several chunks: the smallest buffers are a small part of the 25 MB here.
    let model = Checkpoint { vocab: 16384, ffn: 1100, ..Checkpoint::tiny() }.folder();
    let first = converted(model.path(), &["--threads", "1"]);
    for options in [
        ["--threads", "2", "--buffer-memory", "96"],
        ["--threads", "1", "--buffer-memory", "1"],
        ["--threads", "2", "--buffer-memory", "1"],
        ["--threads", "5", "--buffer-memory", "1000"],
    ] {
        assert_same(&converted(model.path(), &options), &first);
    }
}

#[test]
fn several_types_from_one_reading_are_the_same() {
    let model = Checkpoint::tiny().folder();
    let folder = Dir::new();
    let more: Vec<&str> = TYPES[1..].iter().flat_map(|name| ["--type", name]).collect();
    convert(model.path(), TYPES[0], &folder.join("{type}.gguf"), &more);
    let read = |name: &&str| fs::read(folder.join(format!("{name}.gguf"))).expect("a readable file");
    let together: Vec<_> = TYPES.iter().map(read).collect();
    assert_same(&together, &converted(model.path(), &[]));
}

/// The hash of `config.json`, which has the name, stands in the file: crosses it out.
fn without_config_hash(file: &mut [u8], folder: &Path) {
    let config = fs::read(folder.join("config.json")).expect("read");
    let hash: String = Sha256::digest(config).iter().map(|byte| format!("{byte:02x}")).collect();
    let at = file.windows(hash.len()).position(|bytes| bytes == hash.as_bytes()).expect("it is there");
    file[at..at + hash.len()].fill(b'x');
}

#[test]
fn shards_and_names_do_not_show() {
    let write = |folder: &Path, shape: Checkpoint| {
        shape.write(folder, &tiny_tokenizer()).expect("written");
        let mut files = converted(folder, &[]);
        files.iter_mut().for_each(|file| without_config_hash(file, folder));
        files
    };
    let root = Dir::new();
    let published = write(&root.join("chatglm3-6b"), Checkpoint::tiny());
    let shape = Checkpoint { name: "/home/me/my-finetune".to_owned(), ..Checkpoint::tiny() };
    assert_same(&write(&root.join("renamed"), shape), &published);
    let shape = Checkpoint { name: "THUDM/chatglm2-6b-32k".to_owned(), ..Checkpoint::tiny() };
    assert_same(&write(&root.join("misnamed"), shape), &published);
    let shape = Checkpoint { shard_bytes: Some(500_000), ..Checkpoint::tiny() };
    assert_same(&write(&root.join("sharded"), shape), &published);
}
