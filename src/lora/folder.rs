//! The folder that an adapter is in: the given one, or the only one of its subfolders that has an adapter.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const CONFIG: &str = "adapter_config.json";
/// Subfolders that are named in an error.
const NAMED: usize = 5;

/// ms-swift saves an adapter one folder below the checkpoint's, and trainers one folder for each checkpoint.
///
/// # Errors
/// When there are several to choose from.
pub(super) fn of(given: &Path) -> Result<PathBuf> {
    if given.join(CONFIG).symlink_metadata().is_ok() {
        return Ok(given.to_owned());
    }
    let inner = given.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut inner: Vec<PathBuf> = inner.filter(|folder| folder.join(CONFIG).is_file()).collect();
    inner.sort();
    match &inner[..] {
        [] => Ok(given.to_owned()), // whoever reads the config says what is missing
        [only] => Ok(only.clone()),
        several => {
            let name = |folder: &PathBuf| folder.file_name().unwrap_or_default().display().to_string();
            let names: Vec<String> = several.iter().take(NAMED).map(name).collect();
            let more = if several.len() > NAMED { ", ..." } else { "" };
            let found = format!("{} adapters in it ({}{more})", several.len(), names.join(", "));
            Err(Error::mismatch(given, "", found, "the folder of one"))
        }
    }
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
            std::fs::create_dir(outer.path().join(name)).unwrap();
            std::fs::write(outer.path().join(name).join(CONFIG), "{}").unwrap();
        };
        make("default");
        assert_eq!(of().unwrap(), outer.path().join("default"));
        make("second");
        let error = of().unwrap_err().to_string();
        assert!(
            error.ends_with("found 2 adapters in it (default, second), expected the folder of one"),
            "{error}"
        );
        std::fs::write(outer.path().join(CONFIG), "{}").unwrap();
        assert_eq!(of().unwrap(), outer.path());
    }
}
