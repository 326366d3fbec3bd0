//! Folders in memory: their files were never on the disk, and are read by their names as any other folder's are.
//!
//! They are known to the whole program, and not handed to those who open files: see the guest book for why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::ReadAt;

/// The files of a folder, by name.
pub type Files = BTreeMap<String, Arc<dyn ReadAt>>;

static FOLDERS: RwLock<BTreeMap<PathBuf, Files>> = RwLock::new(BTreeMap::new());

/// A folder in memory, which goes before any on the disk. Dropping it ends it.
#[derive(Debug)]
pub struct Held(PathBuf);

impl Held {
    /// Holds files by the name of their folder, which messages have too: an address on a hub for instance. While
    /// another folder has that name, it gets a number.
    pub fn new(name: &Path, files: Files) -> Held {
        let mut folders = FOLDERS.write().unwrap_or_else(PoisonError::into_inner);
        let mut folder = name.to_owned();
        for number in 2.. {
            if !folders.contains_key(&folder) {
                break;
            }
            folder = PathBuf::from(format!("{} ({number})", name.display()));
        }
        folders.insert(folder.clone(), files);
        Held(folder)
    }

    /// The folder's name.
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        FOLDERS.write().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// What a path in a held folder leads to.
pub(super) enum HeldPath {
    File(Arc<dyn ReadAt>),
    /// The folder itself, with the names of its files.
    Folder(Vec<String>),
    Nothing,
}

/// None when the path is the disk's matter.
pub(super) fn find(path: &Path) -> Option<HeldPath> {
    let folders = FOLDERS.read().unwrap_or_else(PoisonError::into_inner);
    let (folder, files) = path.ancestors().find_map(|folder| Some((folder, folders.get(folder)?)))?;
    let rest = path.strip_prefix(folder).ok()?;
    if rest.as_os_str().is_empty() {
        return Some(HeldPath::Folder(files.keys().cloned().collect()));
    }
    let file = rest.to_str().and_then(|name| files.get(name));
    Some(file.map_or(HeldPath::Nothing, |file| HeldPath::File(Arc::clone(file))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::hash::sha256;
    use crate::input;

    fn held(name: &str, files: &[(&str, &str)]) -> Held {
        let file = |(name, text): &(&str, &str)| {
            let bytes: Arc<dyn ReadAt> = Arc::new(text.as_bytes().to_vec());
            ((*name).to_owned(), bytes)
        };
        Held::new(Path::new(name), files.iter().map(file).collect())
    }

    #[test]
    fn a_held_folder_is_read_as_any_is() {
        let held = held("hf://held/model", &[("config.json", "\u{feff}{}"), ("empty", "")]);
        let (folder, path) = (held.folder(), |name: &str| held.folder().join(name));
        assert_eq!(folder.display().to_string(), "hf://held/model");
        assert!(input::is_folder(folder) && !input::is_file(folder) && input::exists(folder));
        assert_eq!(input::names_in(folder), ["config.json", "empty"]);
        for (name, there) in [("config.json", true), ("empty", true), ("Config.json", false), ("a/b", false)]
        {
            let path = path(name);
            assert_eq!([input::is_file(&path), input::exists(&path), input::is_there(&path)], [there; 3]);
            assert!(!input::is_folder(&path) && input::names_in(&path).is_empty());
        }
        let (read, book) = input::noted(|| input::read_capped(&path("config.json"), 5));
        assert_eq!(read.unwrap().unwrap(), b"{}");
        book.refuse_changed().unwrap();
        let whole = sha256("\u{feff}{}".as_bytes());
        assert_eq!(book.hash(&path("config.json")).unwrap(), (5, whole.clone()));
        assert_eq!(input::sha256_of(&path("config.json")).unwrap(), (5, whole));
        assert_eq!(input::read_beginning(&path("config.json"), 4).unwrap().unwrap(), "\u{feff}{".as_bytes());
        assert_eq!(input::read_capped(&path("empty"), 5).unwrap().unwrap(), b"");
        assert_eq!(input::read_capped(&path("absent"), 5).unwrap(), None);
        let error = |outcome: Result<_, Error>| outcome.map(|_: input::Source| ()).unwrap_err().to_string();
        let absent = path("absent");
        assert_eq!(error(input::open(&absent)), format!("{}: no such file", absent.display()));
        assert_eq!(error(input::open(folder)), "hf://held/model: found a folder, expected a file");
        let over = input::read_capped(&path("config.json"), 4).unwrap_err().to_string();
        assert!(over.ends_with("found over 4 bytes, expected no more of such a file"), "{over}");
    }

    #[test]
    fn two_of_one_name_are_two_and_end_for_themselves() {
        let text = |held: &Held| input::read_capped(&held.folder().join("a"), 9).unwrap();
        let first = held("hf://held/twice", &[("a", "1")]);
        let second = held("hf://held/twice", &[("a", "2")]);
        assert_eq!(second.folder(), Path::new("hf://held/twice (2)"));
        assert_eq!([text(&first), text(&second)], [Some(b"1".to_vec()), Some(b"2".to_vec())]);
        let path = first.folder().to_owned();
        drop(first);
        assert!(!input::exists(&path) && text(&second).is_some());
        assert_eq!(held("hf://held/twice", &[]).folder(), path);
    }
}
