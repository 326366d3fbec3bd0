//! A folder in the making: a temporary one beside its target, which takes the name only when it is whole.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::config::MARK;
use crate::error::{Error, Result};
use crate::input::read_capped;
use crate::output::{Kind, Pending, Temporary, check_mount, check_name, exists, folder_of, sync_folder};

/// What an export writes besides weights, and all that it may replace.
const OWN_FILES: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// An unfinished folder. Dropping it deletes it; [`Folder::publish`] gives it its name.
#[derive(Debug)]
pub(super) struct Folder {
    target: PathBuf,
    temporary: Temporary,
    replace: bool,
}

impl Folder {
    /// Creates the temporary folder beside `target`, which stays as it is until [`Folder::publish`].
    pub(super) fn create_beside(target: &Path, replace: bool) -> Result<Folder> {
        if target.file_name().is_none() {
            return Err(Error::file_mismatch(target, "no name", "the name of the folder to write"));
        }
        check_name(target)?;
        check_target(target, replace)?;
        let temporary = Temporary::create(target, Kind::Folder)?;
        Ok(Folder { target: target.to_owned(), temporary, replace })
    }

    /// A new file in it.
    pub(super) fn create(&self, name: &str) -> Result<Pending> {
        Pending::create(&self.temporary.path().join(name), false)
    }

    /// Gives the complete folder its name.
    pub(super) fn publish(mut self) -> Result<()> {
        let target = self.target.clone();
        let unnamed = |e| Error::io(&target, "give the folder its name")(e);
        sync_folder(self.temporary.path());
        let exists = self.target.symlink_metadata().is_ok();
        if exists {
            check_target(&self.target, self.replace)?; // it may have changed since
            // The old one takes the temporary's name, and goes with it.
            if self.temporary.exchange(&self.target).is_err() {
                let aside = tempfile::tempdir_in(folder_of(&self.target)).map_err(unnamed)?;
                let old = aside.path().join("old");
                fs::rename(&self.target, &old).map_err(Error::io(&self.target, "replace"))?;
                if let Err(e) = self.temporary.rename(&self.target, false) {
                    // As it was; where that fails too, the old one is kept where it is now.
                    if fs::rename(&old, &self.target).is_err() {
                        let _ = aside.keep();
                    }
                    return Err(unnamed(e));
                }
            }
        } else {
            self.temporary.rename(&self.target, false).map_err(unnamed)?;
        }
        sync_folder(folder_of(&self.target));
        Ok(())
    }
}

/// Refuses a target that exists, or, where it may be replaced, that is anything but an export: the checkpoint
/// itself has files of the same names.
fn check_target(target: &Path, replace: bool) -> Result<()> {
    match target.symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(target, "read")(e)),
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Error::file_mismatch(target, "no folder", "the name of the folder to write"));
        }
        Ok(_) => check_mount(target)?,
    }
    let entries: Vec<_> = fs::read_dir(target)
        .and_then(|entries| entries.collect::<std::io::Result<_>>())
        .map_err(Error::io(target, "read"))?;
    if !entries.is_empty() && !is_export(target)? {
        let expected = "one: --force replaces nothing else; choose another folder or remove it";
        return Err(Error::file_mismatch(target, "no export of glm2llama in it", expected));
    }
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !file || !(is_shard(&name) || OWN_FILES.contains(&name.as_ref())) {
            let expected = "only what an export writes: --force replaces nothing else";
            return Err(Error::file_mismatch(target, format!("{name} in it"), expected));
        }
    }
    // After all that --force would refuse too.
    if replace { Ok(()) } else { Err(exists(target)) }
}

/// Its config bears our mark: any Llama's folder has files of the same names. So does a fine-tune of an export, but
/// transformers adds its own version when it saves one.
fn is_export(folder: &Path) -> Result<bool> {
    let Some(text) = read_capped(&folder.join("config.json"), 4 << 20)? else { return Ok(false) };
    let config: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    Ok(config.get(MARK).is_some() && config.get("transformers_version").is_none())
}

/// `model.safetensors` or `model-00001-of-00002.safetensors`.
fn is_shard(name: &str) -> bool {
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(middle) = name.strip_prefix("model").and_then(|rest| rest.strip_suffix(".safetensors")) else {
        return false;
    };
    let numbers = middle.strip_prefix('-').and_then(|middle| middle.split_once("-of-"));
    middle.is_empty() || numbers.is_some_and(|(number, count)| digits(number) && digits(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    fn write(target: &Path, replace: bool, text: &str) -> Result<()> {
        let folder = Folder::create_beside(target, replace)?;
        let mut file = folder.create("config.json")?;
        file.write_all(format!("{{\"glm2llama\": \"{text}\"}}").as_bytes())?;
        file.publish()?;
        folder.publish()
    }

    #[test]
    fn an_export_replaces_an_export_when_told_to() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("out");
        write(&target, false, "first").unwrap();
        assert!(write(&target, false, "second").unwrap_err().to_string().contains("--force"));
        write(&target, true, "third").unwrap();
        assert_eq!(fs::read(target.join("config.json")).unwrap(), br#"{"glm2llama": "third"}"#);
        assert_eq!(names(parent.path()), ["out"]);
    }

    #[test]
    fn a_folder_with_anything_else_is_never_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("out");
        let refused = |expected: &str| {
            let mut before = names(&target);
            let error = write(&target, true, "").unwrap_err().to_string();
            assert_eq!(error, format!("{}: {expected}", target.display()));
            let mut after = names(&target);
            before.sort();
            after.sort();
            assert_eq!(before, after);
        };
        let no_export = "found no export of glm2llama in it, expected one: --force replaces nothing else; \
                         choose another folder or remove it";
        fs::create_dir(&target).unwrap();
        fs::write(target.join("model.safetensors"), "precious").unwrap();
        refused(no_export);
        fs::write(target.join("config.json"), r#"{"architectures": ["LlamaForCausalLM"]}"#).unwrap();
        refused(no_export);
        let saved = r#"{"glm2llama": "0.1.0", "transformers_version": "4.57.0"}"#;
        fs::write(target.join("config.json"), saved).unwrap();
        refused(no_export);
        fs::write(target.join("config.json"), r#"{"glm2llama": "0.1.0"}"#).unwrap();
        for (name, folder) in
            [("thesis.tex", false), ("model_mine.safetensors", true), ("tokenizer.json", true)]
        {
            let path = target.join(name);
            if folder { fs::create_dir(&path) } else { fs::write(&path, "precious") }.unwrap();
            refused(&format!(
                "found {name} in it, expected only what an export writes: --force replaces nothing else"
            ));
            if folder { fs::remove_dir(&path) } else { fs::remove_file(&path) }.unwrap();
        }
        write(&target, true, "new").unwrap();
        assert_eq!(names(&target), ["config.json"]);
    }

    #[test]
    fn shards_are_known_by_their_whole_names() {
        for name in ["model.safetensors", "model-00001-of-00012.safetensors"] {
            assert!(is_shard(name), "{name}");
        }
        for name in ["model_mine.safetensors", "model-1-of-2.safetensors", "model-00001-of-0002x.safetensors"]
        {
            assert!(!is_shard(name), "{name}");
        }
    }

    #[test]
    fn a_dropped_folder_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::create_beside(&parent.path().join("out"), false).unwrap();
        folder.create("config.json").unwrap().publish().unwrap();
        drop(folder);
        assert!(names(parent.path()).is_empty());
    }
}
