//! A folder in the making: a temporary one beside its target, which takes the name only when it is whole.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::config::ARCHITECTURE;
use crate::error::{Error, Result};
use crate::input::read_capped;
use crate::output::{Kind, Pending, Temporary, folder_of};

/// What an export writes, and all that it may replace.
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
            return Err(Error::mismatch(target, "", "no name", "the name of the folder to write"));
        }
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
        let named = Error::io(&self.target, "name");
        sync(self.temporary.path());
        let exists = self.target.symlink_metadata().is_ok();
        if exists {
            check_target(&self.target, self.replace)?; // it may have changed since
            // The old one takes the temporary's name, and goes with it.
            match self.temporary.exchange(&self.target) {
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    let aside = tempfile::tempdir_in(folder_of(&self.target)).map_err(named)?;
                    let old = aside.path().join("old");
                    fs::rename(&self.target, &old).map_err(Error::io(&self.target, "replace"))?;
                    self.temporary.rename(&self.target, false).map_err(|e| {
                        let _ = fs::rename(&old, &self.target); // as it was
                        Error::io(&self.target, "name")(e)
                    })?;
                }
                Err(e) => return Err(named(e.into())),
            }
        } else {
            self.temporary.rename(&self.target, false).map_err(named)?;
        }
        sync(folder_of(&self.target));
        Ok(())
    }
}

/// Refuses a target that exists, or, where it may be replaced, that is anything but an export: the checkpoint
/// itself has files of the same names.
fn check_target(target: &Path, replace: bool) -> Result<()> {
    match target.symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(target, "read")(e)),
        Ok(_) if !replace => {
            return Err(Error::input(target, "", "exists already: give --force to replace it"));
        }
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Error::mismatch(target, "", "no folder", "the name of the folder to write"));
        }
        Ok(_) => {}
    }
    let config = target.join("config.json");
    if let Some(text) = read_capped(&config, 4 << 20)?
        && !String::from_utf8_lossy(&text).contains(ARCHITECTURE)
    {
        let expected = format!("{ARCHITECTURE}, an export's: --force replaces nothing else");
        return Err(Error::mismatch(&config, "architectures", "another model", expected));
    }
    for entry in fs::read_dir(target).map_err(Error::io(target, "read"))? {
        let name = entry.map_err(Error::io(target, "read"))?.file_name();
        let name = name.to_string_lossy();
        let shard = name.starts_with("model") && name.ends_with(".safetensors");
        if !shard && !OWN_FILES.contains(&name.as_ref()) {
            let expected = "only what an export writes: --force replaces nothing else";
            return Err(Error::mismatch(target, "", format!("{name} in it"), expected));
        }
    }
    Ok(())
}

/// A rename must survive a power cut; a folder that cannot be synced is no reason to fail.
fn sync(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
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
        file.write_all(format!("{ARCHITECTURE} {text}").as_bytes())?;
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
        assert_eq!(fs::read(target.join("config.json")).unwrap(), b"LlamaForCausalLM third");
        assert_eq!(names(parent.path()), ["out"]);
    }

    #[test]
    fn a_folder_with_anything_else_is_never_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("out");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("thesis.tex"), "precious").unwrap();
        let error = write(&target, true, "").unwrap_err().to_string();
        assert!(error.contains("found thesis.tex in it, expected only what an export writes"), "{error}");
        assert_eq!(names(&target), ["thesis.tex"]);
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
