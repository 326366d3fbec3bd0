//! What differs between systems, and all of it: nothing else asks which one this is.
//!
//! | | Linux, macOS | Windows |
//! |---|---|---|
//! | a place in a file | `pread`, `pwrite` | reads and writes that move the file's own position |
//! | who holds a temporary | a lock on it | how it was opened: others may not open it to write, or to delete a folder |
//! | a new name | a rename that refuses a taken one | the same |
//! | two names at once | are exchanged | are not: what is replaced cannot come back |
//! | a replaced file | stays with those who have it open | cannot be replaced while others have it open |
//! | one file by two names | device and inode | volume and file index |
//! | Ctrl-C | SIGINT, SIGTERM, SIGHUP | Ctrl-C; a closed console kills, and the next run clears up |
//! | the most memory it had | told by Linux | not told |
//!
//! What does not differ needs no place here: the standard library makes long paths (`\\?\`) and UTF-16 of names, and
//! writes UTF-16 to a console, whatever its code page.

#[cfg(any(windows, test))]
mod names;
mod shell;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as this;
#[cfg(windows)]
use windows as this;

#[cfg(any(test, feature = "hub"))] // only a hub's cache is made of links
pub(crate) use this::link;
pub(crate) use this::{
    LONGEST_NAME, allow_rename, check_name, check_replaceable, exchange, free_bytes, identity, identity_of,
    is_mount_point, lock, make_file, make_folder, may_write, name_length, number, open, open_to_lock,
    read_exact_at, rename_new, reserve, split_at_last, too_many_open, write_all_at,
};

/// Whether a name that a stranger has made is that of a file in a folder, and of nothing outside it.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let odd = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']);
    !odd && check_name(name.as_ref()).is_none() // `C:x` and `NUL` are no files of a folder where there are drives
}

pub use shell::quoted;
pub use this::{machine_memory_bytes, peak_memory_bytes, stop_on_signals};

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn places_are_read_and_written_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = make_file(&path).unwrap();
        write_all_at(&file, b"456", 3).unwrap();
        write_all_at(&file, b"123", 0).unwrap();
        let file = open(&path).unwrap();
        let mut bytes = [0; 4];
        read_exact_at(&file, &mut bytes, 1).unwrap();
        assert_eq!(&bytes, b"2345");
        let kind = read_exact_at(&file, &mut bytes, 3).unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_a_run_holds_is_not_taken_and_what_it_left_is() {
        let folder = tempfile::tempdir().unwrap();
        for is_folder in [false, true] {
            let path = folder.path().join(format!("{is_folder}"));
            let held = if is_folder { make_folder(&path) } else { make_file(&path) }.unwrap();
            assert!(lock(&held).unwrap());
            let again = |path| open_to_lock(path, is_folder).and_then(|file| lock(&file));
            let refused = again(&path);
            let refused = matches!(&refused, Ok(false))
                || refused.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
            assert!(refused, "{is_folder}");
            drop(held);
            assert!(again(&path).unwrap(), "{is_folder}");
        }
    }

    #[test]
    fn a_new_name_is_not_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["模型 a", "b"] {
            fs::write(path(name), name).unwrap();
        }
        let error = rename_new(&path("模型 a"), &path("b")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(path("b")).unwrap(), b"b");
        rename_new(&path("模型 a"), &path("c")).unwrap();
        assert_eq!(fs::read(path("c")).unwrap(), "模型 a".as_bytes());
        assert!(!path("模型 a").exists());
    }

    #[test]
    fn a_held_folder_is_renamed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut held = make_folder(&path("a")).unwrap();
        assert!(lock(&held).unwrap());
        rename_new(&make_inside(&path("a"), "one"), &path("a").join("two")).unwrap();
        allow_rename(&mut held, &path("a"), true).unwrap();
        assert_eq!(identity_of(&held), identity(&path("a")));
        rename_new(&path("a"), &path("b")).unwrap();
        assert!(path("b").is_dir() && !path("a").exists());
        fs::remove_dir_all(path("b")).unwrap();
    }

    fn make_inside(folder: &std::path::Path, name: &str) -> std::path::PathBuf {
        let path = folder.join(name);
        drop(make_file(&path).unwrap());
        path
    }

    #[test]
    fn two_names_of_one_file_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = File::create(path("a")).unwrap();
        File::create(path("b")).unwrap();
        fs::hard_link(path("a"), path("c")).unwrap();
        assert!(identity(&path("a")).is_some());
        assert_eq!(identity(&path("a")), identity(&path("c")));
        assert_eq!(identity(&path("a")), identity_of(&file));
        assert_ne!(identity(&path("a")), identity(&path("b")));
        assert_eq!(identity(&path("d")), None);
        assert!(!is_mount_point(&path("a")));
    }

    #[test]
    fn a_strangers_name_stays_in_its_folder() {
        for name in ["", ".", "..", "a/b", "a\\b", "/a", "a\0"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
        for name in ["model-00001-of-00007.safetensors", ".mdl", "模型 a"] {
            assert!(is_plain_name(name), "{name:?}");
        }
        for name in ["C:model.safetensors", "model.safetensors:stream", "NUL", "con.json"] {
            assert_eq!(is_plain_name(name), cfg!(unix), "{name:?}");
        }
    }

    #[test]
    fn space_is_told_and_taken() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap() > 1 << 20);
        let file = make_file(&folder.path().join("file")).unwrap();
        reserve(&file, 1 << 20).unwrap();
        assert!(machine_memory_bytes().is_none_or(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_text_is_split_at_the_last_of_a_sign() {
        let split = |text: &str| split_at_last(text.as_ref(), '=');
        assert_eq!(split("模=型=0.5"), Some(("模=型".into(), "0.5".into())));
        assert_eq!(split("模型"), None);
    }
}
