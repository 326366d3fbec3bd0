//! Which files make up the checkpoint: the shard index, or the single file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::names::{beside, is_tensors, is_weights};
use super::unfinished;
use crate::bounded::Map;
use crate::error::{Error, InFile, Problem, Result};
use crate::input::{self, read_capped};
use crate::system;

/// What kind of file the weights are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    PyTorch,
}

/// A kind's index and its single file: the latter goes first, and the first kind where a folder has both.
const NAMES: [(Kind, &str, &str); 2] = [
    (Kind::Safetensors, "model.safetensors.index.json", "model.safetensors"),
    (Kind::PyTorch, "pytorch_model.bin.index.json", "pytorch_model.bin"),
];
/// A real index has 21 kB. In memory, one of tiny names takes 20 times its bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The files of a checkpoint.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) kind: Kind,
    pub(super) files: Vec<PathBuf>,
    pub(super) index: Option<Index>,
    /// Other weights in the folder.
    pub(super) beside: Vec<String>,
}

/// The parsed shard index.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) file: PathBuf,
    /// Tensor name -> shard file name.
    pub(super) weight_map: BTreeMap<String, String>,
}

impl Index {
    /// The shards' file names, each once, in order.
    fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

/// Finds the files that hold the weights, in the order in which transformers looks for them.
///
/// Publishers offer both kinds, each with its index, and users fetch the small files and one kind of weights: an
/// index without its shards is a fault only when there is nothing else.
pub(super) fn find(folder: &Path) -> Result<Weights> {
    let mut incomplete = None;
    for (kind, index, single) in NAMES {
        let file = folder.join(single);
        // A file that must not be read counts as there: opening it says why it cannot be.
        if input::exists(&file) {
            return Ok(Weights { kind, beside: beside(folder, &[single]), files: vec![file], index: None });
        }
        if let Some(followed) = load(&folder.join(index))? {
            let shards = followed.shards();
            match shards.iter().find(|shard| !input::exists(&folder.join(shard))) {
                None => {
                    let read: Vec<&str> = shards.iter().copied().chain([index]).collect();
                    let beside = beside(folder, &read);
                    let files = shards.iter().map(|shard| folder.join(shard)).collect();
                    return Ok(Weights { kind, files, beside, index: Some(followed) });
                }
                Some(shard) => {
                    let path = folder.join(shard);
                    let error = input::dangling(&path)
                        .or_else(|| unfinished::instead_of(&path))
                        .or_else(|| unfinished::in_local_cache(folder, &path, "no such file"));
                    incomplete = incomplete.or(error).or_else(|| {
                        let expected = "every shard in the folder";
                        Some(Error::mismatch(&followed.file, *shard, "no such file", expected))
                    });
                }
            }
        }
        incomplete = incomplete.or_else(|| input::dangling(&file)).or_else(|| unfinished::instead_of(&file));
    }
    Err(incomplete.unwrap_or_else(|| no_weights(folder)))
}

/// The one file of an adapter.
pub(super) fn adapter(folder: &Path) -> Result<(PathBuf, Kind)> {
    const NAMES: [(&str, Kind); 2] =
        [("adapter_model.safetensors", Kind::Safetensors), ("adapter_model.bin", Kind::PyTorch)];
    let found = NAMES.iter().find(|(name, _)| input::is_file(&folder.join(name)));
    match found {
        Some(&(name, kind)) => Ok((folder.join(name), kind)),
        None => {
            let [(safetensors, _), (pytorch, _)] = NAMES;
            let expected = format!("{safetensors} or {pytorch}");
            Err(NAMES
                .iter()
                .map(|(name, _)| folder.join(name))
                .find_map(|file| input::dangling(&file).or_else(|| unfinished::instead_of(&file)))
                .or_else(|| unfinished::in_local_cache(folder, folder, "no adapter's weights"))
                .unwrap_or_else(|| Error::file_mismatch(folder, "no adapter's weights", expected)))
        }
    }
}

fn no_weights(folder: &Path) -> Error {
    let found = match other_weights(folder) {
        Some(name) => format!("only {name}"),
        None => "no weights".to_owned(),
    };
    if let Some(error) = unfinished::in_local_cache(folder, folder, &found) {
        return error;
    }
    let [safetensors, pytorch] =
        NAMES.map(|(_, index, single)| format!("{single} or {index} with its shards"));
    Error::file_mismatch(folder, found, format!("{safetensors}, or {pytorch}"))
}

/// Reads an index if there is one.
fn load(file: &Path) -> Result<Option<Index>> {
    let Some(text) = read_capped(file, MAX_BYTES)? else { return Ok(None) };
    let weight_map = parse(&text).in_file(file)?;
    Ok(Some(Index { file: file.to_owned(), weight_map }))
}

/// The shard of each tensor.
pub(crate) fn parse(text: &[u8]) -> Result<BTreeMap<String, String>, Problem> {
    #[derive(Deserialize)]
    struct Document {
        weight_map: Map<String>,
    }
    let document: Document = input::json(text, "is no shard index")?;
    let weight_map = document.weight_map.0;
    if weight_map.is_empty() {
        return Err(Problem::mismatch("weight_map", "no tensors", "every tensor's shard"));
    }
    match weight_map.iter().find(|(_, shard)| !system::is_plain_name(shard)) {
        None => Ok(weight_map),
        Some((name, shard)) => {
            Err(Problem::mismatch(name, format!("`{shard}`"), "the name of a file in the same folder"))
        }
    }
}

/// A weights file by another name, to say what is there instead: a model's before what else trainers leave.
fn other_weights(folder: &Path) -> Option<String> {
    let names = input::names_in(folder);
    let model = names.iter().find(|name| is_tensors(name) && is_weights(name));
    model.or_else(|| names.iter().find(|name| is_tensors(name))).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAMES[0].1), text).unwrap();
        find(folder.path()).unwrap_err().to_string()
    }

    #[test]
    fn a_shard_outside_the_folder_is_refused() {
        for shard in ["../a.safetensors", "/etc/passwd", "a\\\\b", "..", ""] {
            let error = load_text(&format!(r#"{{"weight_map": {{"t": "{shard}"}}}}"#));
            assert!(error.contains("t: found `"), "{error}");
        }
    }

    #[test]
    fn damaged_indexes_are_refused() {
        assert!(load_text("{}").contains("weight_map"));
        assert!(load_text(r#"{"weight_map": {}}"#).contains("no tensors"));
        assert!(load_text(r#"{"weight_map": {"t": "a", "t": "a"}}"#).contains("`t` stands in it twice"));
        assert!(
            load_text(r#"{"weight_map": {"t": "a.safetensors"}}"#)
                .contains("a.safetensors: found no such file")
        );
    }

    #[test]
    fn safetensors_are_preferred_but_only_where_their_files_are() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let found = || {
            let weights = find(folder.path()).unwrap();
            let names =
                weights.files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned());
            (weights.kind, names.collect::<Vec<_>>().join(" "))
        };
        write("model.safetensors.index.json", r#"{"weight_map": {"t": "model-1.safetensors"}}"#);
        write("pytorch_model.bin.index.json", r#"{"weight_map": {"t": "p-1.bin", "u": "p-2.bin"}}"#);
        assert!(
            find(folder.path()).unwrap_err().to_string().contains("model-1.safetensors: found no such file")
        );
        write("pytorch_model.bin", "");
        assert_eq!(found(), (Kind::PyTorch, "pytorch_model.bin".to_owned()));
        std::fs::remove_file(folder.path().join("pytorch_model.bin")).unwrap();
        write("p-1.bin", "");
        write("p-2.bin", "");
        assert_eq!(found(), (Kind::PyTorch, "p-1.bin p-2.bin".to_owned()));
        write("pytorch_model.bin", "");
        assert_eq!(found(), (Kind::PyTorch, "pytorch_model.bin".to_owned()));
        write("model-1.safetensors", "");
        assert_eq!(found(), (Kind::Safetensors, "model-1.safetensors".to_owned()));
        write("model.safetensors", "");
        assert_eq!(found(), (Kind::Safetensors, "model.safetensors".to_owned()));
        write("training_args.bin", "");
        write("model.safetensors.sha256", "");
        let beside = ["model-1.safetensors", "model.safetensors.index.json", "p-1.bin", "p-2.bin"];
        let more = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
        assert_eq!(find(folder.path()).unwrap().beside, [&beside[..], &more].concat());
    }
}
