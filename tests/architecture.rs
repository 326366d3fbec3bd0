//! The rules that the source keeps: which module knows which, where `unsafe` may stand, how long a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const MOST_LINES: usize = 400;

/// What each module may use of the others. `error`, `hash` and `input` are open to all.
const EDGES: &[(&str, &[&str])] = &[
    ("checkpoint", &[]),
    ("config", &[]),
    (
        "convert",
        &[
            "config",
            "gguf",
            "imatrix",
            "metadata",
            "model",
            "naming",
            "ollama",
            "output",
            "pipeline",
            "provenance",
            "receipt",
            "recipe",
            "remap",
            "request",
            "tokenizer",
        ],
    ),
    ("fuzzing", &["checkpoint", "config", "gguf", "imatrix", "remap", "tokenizer"]),
    ("gguf", &["output", "sink"]),
    ("hf", &["checkpoint", "config", "model", "output", "pipeline", "remap", "sink", "tokenizer"]),
    ("imatrix", &["checkpoint", "gguf", "remap"]),
    ("lora", &["checkpoint", "config", "remap"]),
    ("metadata", &["config", "gguf", "imatrix", "naming", "recipe", "remap", "tokenizer"]),
    ("model", &["checkpoint", "config", "lora", "modelling", "naming", "remap", "tokenizer"]),
    ("modelling", &["config", "remap", "tokenizer"]),
    ("naming", &["config", "tokenizer"]),
    ("ollama", &["config", "tokenizer"]),
    ("output", &[]),
    ("pipeline", &["checkpoint", "lora", "remap", "sink"]),
    ("provenance", &["gguf", "recipe", "remap", "request"]),
    ("receipt", &["checkpoint", "provenance", "request"]),
    ("recipe", &["config", "remap"]),
    ("remap", &["checkpoint", "config"]),
    ("request", &["model", "recipe"]),
    ("sink", &[]),
    ("tokenizer", &["config"]),
    // Verify judges the mapping, so it shares nothing with what makes it.
    ("verify", &["checkpoint", "config", "gguf"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder, with their texts.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("text");
                found.push((path.strip_prefix(root()).expect("below").to_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found
}

/// Without its tests, which may use anything.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or_default()
}

#[test]
fn modules_know_only_those_below_them() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(module, uses)| (*module, uses.iter().copied().collect())).collect();
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, text) in sources("src") {
        let first = path.iter().nth(1).expect("a name").to_str().expect("UTF-8");
        let module = first.strip_suffix(".rs").unwrap_or(first);
        if ["lib", "main", "cli"].contains(&module)
            || path.ends_with("tests.rs")
            || first.ends_with("_tests.rs")
        {
            continue;
        }
        for after in without_tests(&text).split("crate::").skip(1) {
            let names = match after.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or_default().split(',').collect(),
                None => vec![after],
            };
            for name in names {
                let name: String =
                    name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !["error", "hash", "input", "jinja", module].contains(&name.as_str()) {
                    used.insert((module.to_owned(), name));
                }
            }
        }
    }
    let mut wrong: Vec<String> = Vec::new();
    for (module, name) in &used {
        if !allowed.get(module.as_str()).is_some_and(|names| names.contains(name.as_str())) {
            wrong.push(format!("{module} uses {name}"));
        }
    }
    for (module, names) in &allowed {
        let idle = names.iter().filter(|name| !used.contains(&((*module).to_owned(), (**name).to_owned())));
        wrong.extend(idle.map(|name| format!("{module} may use {name} and does not")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_in_two_places_only() {
    let allowed = ["quant/src/arch", "tests/llama/src/ffi"];
    for (path, text) in
        ["src", "quant", "tests", "fuzz/fuzz_targets", "examples"].into_iter().flat_map(sources)
    {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found = code
            .filter(|line| ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|word| line.contains(word)));
        let own = path.ends_with("tests/architecture.rs") || path.ends_with("tests/source.rs"); // name the word
        let allowed = own || allowed.iter().any(|folder| path.starts_with(folder));
        assert!(allowed || found.count() == 0, "unsafe in {}", path.display());
    }
    for file in ["src/lib.rs", "src/main.rs"] {
        assert!(fs::read_to_string(root().join(file)).unwrap().contains("#![forbid(unsafe_code)]"), "{file}");
    }
}

/// A fused multiply-add rounds once where ggml's bytes need it twice; quant's own tests look at its intrinsics too.
#[test]
fn nothing_that_makes_bytes_is_fused() {
    for (path, text) in ["src", "quant/src"].into_iter().flat_map(sources) {
        let reads_only = path.starts_with("src/verify"); // judges, and writes no file
        assert!(reads_only || !text.contains(".mul_add("), "{}", path.display());
    }
}

#[test]
fn files_are_short() {
    for (path, text) in ["src", "quant", "tests", "examples"].into_iter().flat_map(sources) {
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", path.display());
    }
}

/// The oldest compiler is named, and every dependency comes from a registry, none from a repository.
#[test]
fn compiler_and_sources_are_stated() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("rust-version = \"1.95\""));
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = "));
    let elsewhere: Vec<&str> = sources.filter(|source| !source.starts_with("\"registry+")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}
