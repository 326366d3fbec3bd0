//! The rules that the source keeps: which module knows which, where `unsafe` may stand, how long a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const MOST_LINES: usize = 400;

/// What each module may use of the others. `error`, `hash`, `input`, `jinja`, `system`, `threads`, `units` and `watch`
/// are open to all.
const EDGES: &[(&str, &[&str])] = &[
    ("allocate", &[]),
    ("bounded", &[]),
    ("bpe", &[]),
    (
        "calibrate",
        &[
            "bpe",
            "checkpoint",
            "forward",
            "imatrix",
            "importance",
            "lora",
            "model",
            "remap",
            "sink",
            "tokenizer",
        ],
    ),
    ("checkpoint", &["bounded"]),
    ("config", &[]),
    (
        "convert",
        &[
            "allocate",
            "calibrate",
            "config",
            "gguf",
            "imatrix",
            "importance",
            "metadata",
            "model",
            "model_card",
            "model_name",
            "ollama",
            "output",
            "pipeline",
            "provenance",
            "receipt",
            "recipe",
            "remap",
            "request",
            "sink",
            "tokenizer",
        ],
    ),
    ("export", &["checkpoint", "config", "model", "output", "pipeline", "remap", "sink", "tokenizer"]),
    ("forward", &[]),
    ("fuzzing", &["checkpoint", "config", "gguf", "imatrix", "remap", "tokenizer"]),
    ("gguf", &["output", "sink"]),
    ("hub", &["checkpoint", "locate", "provenance"]),
    ("imatrix", &["checkpoint", "gguf", "importance", "remap", "sink"]),
    ("importance", &[]),
    ("locate", &["checkpoint", "lora"]),
    ("lora", &["checkpoint", "config", "remap"]),
    ("metadata", &["config", "gguf", "imatrix", "model", "model_name", "recipe", "remap", "tokenizer"]),
    ("model", &["checkpoint", "config", "lora", "model_name", "remap", "rope_ratio", "tokenizer"]),
    ("model_card", &["checkpoint", "gguf", "provenance"]),
    ("model_name", &["config", "tokenizer"]),
    ("ollama", &["config", "gguf", "output", "tokenizer"]),
    ("output", &[]),
    ("pipeline", &["checkpoint", "importance", "lora", "remap", "sink"]),
    ("provenance", &["config", "gguf", "model", "recipe", "request"]),
    ("receipt", &["checkpoint", "metadata", "model", "provenance"]),
    ("recipe", &["config", "remap"]),
    ("remap", &["checkpoint", "config"]),
    ("request", &["metadata", "model", "recipe"]),
    ("rope_ratio", &["config", "tokenizer"]),
    ("sink", &[]),
    ("system", &[]),
    ("tokenizer", &["bounded", "config"]),
    // Verify judges the mapping, so it shares nothing with what makes it.
    ("verify", &["bpe", "checkpoint", "config", "forward", "gguf"]),
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

/// Without what is compiled for tests only, which may use anything. Source is formatted, so an item ends on its first
/// line with a `;`, or with the `}` that stands where it began.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(indent) = line.strip_suffix("#[cfg(test)]") else {
            kept += line;
            kept.push('\n');
            continue;
        };
        let end = format!("{indent}}}");
        let mut item = lines.by_ref().skip_while(|line| line.trim_start().starts_with("#["));
        if item.next().is_some_and(|first| !first.ends_with(';')) {
            item.find(|line| *line == end);
        }
    }
    kept
}

/// The modules that a text names behind `crate::`, in a list or not: the first word of each path.
fn modules_used(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for after in text.split("crate::").skip(1) {
        let mut depth = 0;
        let mut starts = true; // a path may start here
        for (at, c) in after.char_indices() {
            let word = c.is_alphanumeric() || c == '_';
            if word && starts {
                let rest = &after[at..];
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                used.insert(rest[..end].to_owned());
            }
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth <= 0 {
                break; // no list, or its end
            }
            starts = depth == 1 && (c == '{' || c == ',' || (starts && c.is_whitespace()));
        }
    }
    used
}

#[test]
fn the_scan_sees_nested_lists_and_what_stands_behind_test_items() {
    let source = "\
use crate::{a::{b, c}, d,
    e::F};
use crate::g::{self, h};
#[cfg(test)]
mod tests;
fn f() -> crate::i::J {}
    #[cfg(test)]
    #[path = \"x.rs\"]
    mod more {
        use crate::k;
    }
pub(crate) use l;
#[cfg(test)]
use crate::m;
";
    let found: Vec<String> = modules_used(&without_tests(source)).into_iter().collect();
    assert_eq!(found, ["a", "d", "e", "g", "i"]);
}

#[test]
fn modules_know_only_those_below_them() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(module, uses)| (*module, uses.iter().copied().collect())).collect();
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, text) in sources("src") {
        let first = path.iter().nth(1).expect("a name").to_str().expect("UTF-8");
        let module = first.strip_suffix(".rs").unwrap_or(first);
        let file = path.file_stem().expect("a name").to_str().expect("UTF-8");
        if ["lib", "main", "cli"].contains(&module) || file == "tests" || file.ends_with("_tests") {
            continue;
        }
        for name in modules_used(&without_tests(&text)) {
            if !["error", "hash", "input", "jinja", "system", "threads", "units", "watch", module]
                .contains(&name.as_str())
            {
                used.insert((module.to_owned(), name));
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
        let unused = names.iter().filter(|name| !used.contains(&((*module).to_owned(), (**name).to_owned())));
        wrong.extend(unused.map(|name| format!("{module} may use {name} and does not")));
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

#[test]
fn only_one_module_knows_the_system() {
    let words = ["cfg(unix", "cfg(windows", "cfg(not(unix", "cfg(not(windows", "target_os", "target_family"];
    for (path, text) in sources("src") {
        let name = path.file_stem().expect("a name").to_str().expect("UTF-8");
        if path.starts_with("src/system") || name == "tests" || name.ends_with("_tests") {
            continue;
        }
        let code = without_tests(&text);
        for word in words.into_iter().chain([
            "std::os::",
            "rustix",
            "signal_hook",
            "ctrlc",
            "winapi_util",
            "\"/proc/",
        ]) {
            assert!(!code.contains(word), "{} has {word}", path.display());
        }
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
