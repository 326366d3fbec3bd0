//! Shard indexes, and what stands where a shard should.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::{linked, mismatch, refuse, refuse_folders, repeated};
use crate::support::{Checkpoint, Dir};

const INDEX: &str = "model.safetensors.index.json";

fn index(shard: &str) -> Vec<u8> {
    format!(r#"{{"weight_map": {{"t": "{shard}"}}}}"#).into_bytes()
}

#[test]
fn shards_elsewhere() {
    let names = [
        ("../model.safetensors", "../model.safetensors"),
        ("/etc/passwd", "/etc/passwd"),
        ("a/b.safetensors", "a/b.safetensors"),
        (r"..\\model.safetensors", r"..\model.safetensors"),
        ("..", ".."),
        (".", "."),
        ("", ""),
        (r"a\u0000b", r"a\u{0}b"),
        (r"\u001b[2J\n/", r"\u{1b}[2J\n/"),
    ];
    let case = |(name, shown): (&str, &str)| {
        (index(name), format!("t: found `{shown}`, expected the name of a file in the same folder"))
    };
    refuse(INDEX, names.map(case).to_vec());
}

#[test]
fn texts() {
    let cases = vec![
        (
            index(&("a".repeat(5000) + "/")),
            "t: found `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...",
        ),
        (b"{}".to_vec(), "is no shard index: missing field `weight_map` at line 1 column 2"),
        (vec![], "found 0 bytes, expected JSON: is the file complete?"),
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "found a Git LFS pointer, expected the file itself (fetch it with `git lfs pull`)",
        ),
        (
            b"[]".to_vec(),
            "is no shard index: invalid length 0, expected struct Document with 1 element at line 1 column 2",
        ),
        (
            br#"{"weight_map": []}"#.to_vec(),
            "is no shard index: invalid type: sequence, expected an object at line 1 column 15",
        ),
        (br#"{"weight_map": {}}"#.to_vec(), "weight_map: found no tensors, expected every tensor's shard"),
        (
            br#"{"weight_map": {"t": 1}}"#.to_vec(),
            "is no shard index: invalid type: integer `1`, expected a string at line 1 column 22",
        ),
        (
            br#"{"weight_map": {"t": "a", "t": "b"}}"#.to_vec(),
            "is no shard index: `t` stands in it twice at line 1 column 29",
        ),
        (
            b"{\"weight_map\": {\"t\": \"\xff\"}}".to_vec(),
            "is no shard index: invalid unicode code point at line 1 column 23",
        ),
        (
            repeated("{\"weight_map\": ", "[", 1_000_000, ""),
            "is no shard index: invalid type: sequence, expected an object at line 1 column 15",
        ),
        (
            repeated("{\"x\": ", "[", 1_000_000, ""),
            "is no shard index: EOF while parsing a list at line 1 column 1000006",
        ),
        (
            repeated("{\"weight_map\": {\"t\": \"", "a", 1 << 20, "\"}}"),
            "found over 1048576 bytes, expected no more of such a file",
        ),
    ];
    refuse(INDEX, cases);
}

/// The folder's index names `shard`, which is made by `make`.
fn with_shard(folder: &Path, make: impl Fn(&Path)) {
    fs::remove_file(folder.join("model.safetensors")).expect("removed");
    fs::write(folder.join(INDEX), index("shard")).expect("written");
    make(&folder.join("shard"));
}

fn fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo");
    assert!(made.success());
}

#[test]
fn what_is_no_regular_file() {
    refuse_folders(&[
        (
            |folder| with_shard(folder, |shard| fs::create_dir(shard).unwrap()),
            "shard: found a folder, expected a file",
        ),
        (
            |folder| with_shard(folder, |shard| symlink("nowhere", shard).unwrap()),
            "shard: found a link to nowhere, which is not there: download it again",
        ),
        (
            |folder| with_shard(folder, |shard| symlink("shard", shard).unwrap()),
            "shard: cannot open: Too many levels of symbolic links (os error 40)",
        ),
        (
            |folder| with_shard(folder, |shard| symlink("/dev/zero", shard).unwrap()),
            "shard: found no regular file, expected one",
        ),
        (|folder| with_shard(folder, fifo), "shard: found no regular file, expected one"),
        (
            |folder| in_place_of(folder, "config.json", fifo),
            "config.json: found no regular file, expected one",
        ),
        (
            |folder| in_place_of(folder, "config.json", |file| symlink("/dev/zero", file).unwrap()),
            "config.json: found no regular file, expected one",
        ),
        (
            |folder| in_place_of(folder, "config.json", |file| fs::create_dir(file).unwrap()),
            "config.json: found a folder, expected a file",
        ),
        (
            |folder| in_place_of(folder, "config.json", |file| symlink("nowhere", file).unwrap()),
            "config.json: found a link to nowhere, which is not there: download it again",
        ),
        (
            |folder| in_place_of(folder, "tokenizer.model", |file| symlink("nowhere", file).unwrap()),
            "tokenizer.model: found a link to nowhere, which is not there: download it again",
        ),
        (
            |folder| in_place_of(folder, "tokenizer_config.json", |file| symlink("nowhere", file).unwrap()),
            "tokenizer_config.json: found a link to nowhere, which is not there: download it again",
        ),
        (
            |folder| in_place_of(folder, "model.safetensors", |file| symlink("nowhere", file).unwrap()),
            "model.safetensors: found a link to nowhere, which is not there: download it again",
        ),
        (
            |folder| {
                in_place_of(folder, "model.safetensors", |_| symlink("nowhere", folder.join(INDEX)).unwrap())
            },
            "model.safetensors.index.json: found a link to nowhere, which is not there: download it again",
        ),
        (
            |folder| in_place_of(folder, "tokenizer.model", fifo),
            "tokenizer.model: found no regular file, expected one",
        ),
        (
            |folder| in_place_of(folder, "tokenizer_config.json", fifo),
            "tokenizer_config.json: found no regular file, expected one",
        ),
    ]);
}

/// A pipe without a writer: refused, not waited for.
#[test]
fn pipes_in_the_place_of_given_files() {
    let good = Checkpoint::tiny().folder();
    let folder = linked(good.path());
    fifo(&folder.join("x"));
    for arguments in [&["inspect", "./x"][..], &["verify", ".", "./x"], &["plan", ".", "--imatrix", "./x"]] {
        let wrong = mismatch(folder.path(), arguments, "x: found no regular file, expected one");
        assert_eq!(wrong, None, "{arguments:?}");
    }
}

/// What a download cache's files say of it may lead nowhere else.
#[test]
fn a_download_cache_leads_into_itself_only() {
    let folder = Dir::new();
    fs::create_dir_all(folder.join("cache/snapshots/0123abcd")).unwrap();
    fs::create_dir_all(folder.join("cache/refs")).unwrap();
    let refused = |line: &str| assert_eq!(mismatch(folder.path(), &["plan", "./cache"], line), None);
    refused("cache/snapshots/0123abcd: found an empty folder, expected one with a ChatGLM checkpoint");
    for commit in ["../..", "/etc", "", "..", "a/b"] {
        fs::write(folder.join("cache/refs/main"), commit).unwrap();
        refused("cache/refs/main: found no name of a commit, expected one: download it again");
    }
    fs::remove_file(folder.join("cache/refs/main")).unwrap();
    fifo(&folder.join("cache/refs/main"));
    refused("cache/refs/main: found no regular file, expected one");
}

fn in_place_of(folder: &Path, name: &str, make: impl Fn(&Path)) {
    let file = folder.join(name);
    fs::remove_file(&file).expect("removed");
    make(&file);
}
