//! Which files make up the checkpoint: the shard index, or the single file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::config::read_capped;
use crate::error::{Error, Result};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// A real index has 21 kB.
const MAX_BYTES: u64 = 16 << 20;

/// The parsed shard index.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) file: PathBuf,
    /// Tensor name -> shard file name.
    pub(super) weight_map: BTreeMap<String, String>,
}

impl Index {
    /// The shards' file names, each once, in order.
    pub(super) fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

/// Reads the index if there is one.
pub(super) fn load(folder: &Path) -> Result<Option<Index>> {
    #[derive(Deserialize)]
    struct Document {
        weight_map: UniqueMap<String>,
    }
    let file = folder.join(INDEX);
    let Some(text) = read_capped(&file, MAX_BYTES)? else { return Ok(None) };
    let document: Document = serde_json::from_slice(&text)
        .map_err(|e| Error::input(&file, "", format!("is no shard index: {e}")))?;
    let weight_map = document.weight_map.0;
    if weight_map.is_empty() {
        return Err(Error::mismatch(&file, "weight_map", "no tensors", "every tensor's shard"));
    }
    for (name, shard) in &weight_map {
        if !is_plain_name(shard) {
            return Err(Error::mismatch(
                &file,
                name,
                format!("`{shard}`"),
                "the name of a file in the same folder",
            ));
        }
    }
    for shard in weight_map.values().collect::<BTreeSet<_>>() {
        if !folder.join(shard).is_file() {
            return Err(Error::mismatch(&file, shard, "no such file", "every shard in the folder"));
        }
    }
    Ok(Some(Index { file, weight_map }))
}

fn is_plain_name(shard: &str) -> bool {
    !shard.is_empty() && shard != "." && shard != ".." && !shard.contains(['/', '\\', '\0'])
}

/// The one weights file of a checkpoint without an index.
pub(super) fn single_file(folder: &Path) -> Result<PathBuf> {
    let file = folder.join(SINGLE);
    if file.is_file() {
        return Ok(file);
    }
    let found = match other_weights(folder) {
        Some(name) => format!("only {name}"),
        None => "no weights".to_owned(),
    };
    Err(Error::mismatch(folder, "", found, format!("{SINGLE} or {INDEX} with its shards")))
}

/// A weights file by another name, to say what is there instead.
fn other_weights(folder: &Path) -> Option<String> {
    let names =
        std::fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.ends_with(".safetensors") || name.ends_with(".bin") || name.ends_with(".pt"))
        .min()
}

/// A JSON object whose keys must differ: serde's maps let the last of two equal keys win in silence.
#[derive(Debug)]
pub(super) struct UniqueMap<V>(pub(super) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Unique<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
            type Value = UniqueMap<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut access: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some(key) = access.next_key::<String>()? {
                    if map.contains_key(&key) {
                        return Err(serde::de::Error::custom(format!("`{key}` stands in it twice")));
                    }
                    let value = access.next_value()?;
                    map.insert(key, value);
                }
                Ok(UniqueMap(map))
            }
        }
        deserializer.deserialize_map(Unique(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(INDEX), text).unwrap();
        load(folder.path()).unwrap_err().to_string()
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
}
