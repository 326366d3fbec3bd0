//! Files as an attacker would make them: each is refused with just this line, in less than 64 MB of address space.
#![cfg(unix)] // a limit of a shell on memory, pipes, and links for everyone

mod adapters;
mod gguf;
mod imatrix;
mod index;
mod pytorch;
mod safetensors;
mod texts;
mod tokenizer;

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::{Checkpoint, Dir, command};

/// All that the program may map while it refuses, in KiB: its own code, stacks and heap.
const ADDRESS_SPACE_KIB: u32 = 62_500;

/// How a folder is to be damaged, and the line that refuses it.
type Damage = (fn(&Path), &'static str);

/// The bytes take a file's place in a checkpoint that is good otherwise, and each time the line refuses that file.
fn refuse(name: &str, cases: Vec<(Vec<u8>, impl Display)>) {
    refuse_because_of(name, name, cases);
}

/// Likewise where the bytes are at odds with another file, which is the one that the line refuses.
fn refuse_because_of(name: &str, refused: &str, cases: Vec<(Vec<u8>, impl Display)>) {
    let good = Checkpoint::tiny().folder();
    let mut wrong = Vec::new();
    for (bytes, line) in cases {
        let folder = linked(good.path());
        let file = folder.join(name);
        let _ = fs::remove_file(&file); // the link to the good one
        if name == "pytorch_model.bin" || name.ends_with(".index.json") {
            fs::remove_file(folder.join("model.safetensors")).expect("removed");
        }
        fs::write(&file, bytes).expect("written");
        wrong.extend(mismatch(folder.path(), &arguments(name), &format!("{refused}: {line}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Likewise where a file's bytes are not the point.
fn refuse_folders(cases: &[Damage]) {
    let good = Checkpoint::tiny().folder();
    let mut wrong = Vec::new();
    for (damage, line) in cases {
        let folder = linked(good.path());
        damage(folder.path());
        wrong.extend(mismatch(folder.path(), &["plan", "."], line));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The command that reads a file of this name.
fn arguments(name: &str) -> Vec<&'static str> {
    match name {
        "x.gguf" => vec!["inspect", "./x.gguf"],
        "x.imatrix" => vec!["plan", ".", "--imatrix", "./x.imatrix"],
        _ => vec!["plan", "."],
    }
}

/// What is said instead of the expected line, if anything.
fn mismatch(folder: &Path, arguments: &[&str], line: &str) -> Option<String> {
    let (code, stderr) = limited(folder, arguments);
    let expected = format!("glm2llama: ./{line}\n");
    (code != Some(2) || stderr != expected).then(|| format!("expected {expected}   found {stderr}"))
}

/// Runs the program under a hard limit of its address space.
fn limited(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output =
        command::limited(ADDRESS_SPACE_KIB).args(arguments).current_dir(folder).output().expect("a shell");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

/// The same checkpoint again, its files links: as a download cache holds it.
fn linked(good: &Path) -> Dir {
    let folder = Dir::new();
    for entry in good.read_dir().expect("a folder") {
        let file = entry.expect("an entry").path();
        symlink(&file, folder.join(file.file_name().expect("a name"))).expect("a link");
    }
    folder
}

/// `snapshots/HASH/` holds links to `../../blobs/HASH`, and the limit is not what refuses all the others.
#[test]
fn a_download_cache_is_read_as_it_is() {
    let (good, cache) = (Checkpoint::tiny().folder(), Dir::new());
    let snapshot = cache.join("snapshots/0123abcd");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir(cache.join("blobs")).unwrap();
    for name in good.names() {
        fs::copy(good.join(&name), cache.join("blobs").join(format!("sha-of-{name}"))).unwrap();
        symlink(format!("../../blobs/sha-of-{name}"), snapshot.join(&name)).unwrap();
    }
    let (code, stderr) = limited(&snapshot, &["plan", "."]);
    assert_eq!(code, Some(0), "{stderr}");
}

/// Text of `head`, `middle` many times, and `tail`.
fn repeated(head: &str, middle: &str, times: usize, tail: &str) -> Vec<u8> {
    [head, &middle.repeat(times), tail].concat().into_bytes()
}
