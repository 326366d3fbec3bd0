//! The folder that an adapter is in: the given one, or the only one below it that has an adapter.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const CONFIG: &str = "adapter_config.json";
/// Adapters that are named in an error.
const NAMED: usize = 5;
/// ms-swift saves an adapter one folder below the checkpoint's, and trainers one folder for each checkpoint, below one
/// for each run.
const LEVELS: usize = 3;
/// Folders that are looked into: a training has a few dozen.
const MOST_FOLDERS: usize = 512;

/// The given folder if it has an adapter, or the only one below it.
///
/// # Errors
/// When there are several to choose from.
pub(super) fn of(given: &Path) -> Result<PathBuf> {
    let below = below(given);
    match &below[..] {
        [] => Ok(given.to_owned()), // whoever reads the config says what is missing
        [only] => Ok(only.clone()),
        several => {
            let name = |folder: &PathBuf| folder.strip_prefix(given).unwrap_or(folder).display().to_string();
            let names: Vec<String> = several.iter().take(NAMED).map(name).collect();
            let more = if several.len() > NAMED { ", ..." } else { "" };
            let found = format!("{} adapters in it ({}{more})", several.len(), names.join(", "));
            Err(Error::file_mismatch(given, found, "the folder of one"))
        }
    }
}

/// The folders of adapters: the given one alone if it is one, or those below it, sorted.
pub fn below(given: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut level = vec![given.to_owned()];
    for _ in 0..=LEVELS {
        let (adapters, others): (Vec<_>, Vec<_>) =
            level.into_iter().partition(|folder| folder.join(CONFIG).symlink_metadata().is_ok());
        found.extend(adapters);
        let inner = others.iter().flat_map(|folder| folder.read_dir().into_iter().flatten().flatten());
        let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
        let inner = inner.filter(|entry| !hidden(&entry.file_name())).map(|entry| entry.path());
        level = inner.filter(|path| path.is_dir() && !path.is_symlink()).take(MOST_FOLDERS).collect();
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_adapter_below_is_taken() {
        let outer = tempfile::tempdir().unwrap();
        let of = || of(outer.path());
        assert_eq!(of().unwrap(), outer.path());
        let make = |name: &str| {
            std::fs::create_dir_all(outer.path().join(name)).unwrap();
            std::fs::write(outer.path().join(name).join(CONFIG), "{}").unwrap();
        };
        for name in ["default", "checkpoint-500", "v0-2024/checkpoint-500", "v0-2024/checkpoint-500/default"]
        {
            make(name);
            assert_eq!(of().unwrap(), outer.path().join(name));
            std::fs::remove_file(outer.path().join(name).join(CONFIG)).unwrap();
        }
        make("v0-2024/checkpoint-500");
        make("second");
        make(".cache/third");
        let error = of().unwrap_err().to_string().replace(std::path::MAIN_SEPARATOR, "/");
        let expected = "found 2 adapters in it (second, v0-2024/checkpoint-500), expected the folder of one";
        assert!(error.ends_with(expected), "{error}");
        std::fs::write(outer.path().join(CONFIG), "{}").unwrap();
        assert_eq!(of().unwrap(), outer.path());
    }
}
