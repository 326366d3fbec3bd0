//! What else than a checkpoint's folder a user may have in hand, and what to type then.

use std::path::{Path, PathBuf};

use crate::checkpoint::{is_tensors, is_weights};
use crate::error::{Error, Result, shortened};
use crate::input;
use crate::lora;

/// Entries of a folder that are looked at, in no order: a checkpoint has a few dozen.
const MOST_ENTRIES: usize = 4096;
/// Models that are named in an error.
const MOST_NAMED: usize = 5;

/// The names in a folder, sorted; none when it cannot be read.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten().flatten().take(MOST_ENTRIES);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Refuses a folder that can only be something else.
///
/// # Errors
/// When it is an adapter's, has only GGUF files, an archive, or other folders with models or adapters.
pub(super) fn check(folder: &Path) -> Result<()> {
    let names = names(folder);
    let has = |name: &str| names.iter().any(|known| known == name);
    if names.iter().any(|name| is_weights(name)) {
        return Ok(());
    }
    let gguf = names.iter().find(|name| name.to_ascii_lowercase().ends_with(".gguf"));
    let adapters = lora::adapters_below(folder);
    if adapters.is_empty() && gguf.is_none() && has("config.json") {
        return Ok(()); // its weights are missed where they are read
    }
    let own_adapter = adapters.iter().any(|adapter| adapter == folder);
    let models = if own_adapter { Vec::new() } else { models_below(folder, 2) };
    match (models.as_slice(), adapters.as_slice()) {
        ([], [only]) => Err(adapter(folder, only)),
        ([], [_, ..]) => {
            let found = format!("a folder of {} adapters", adapters.len());
            let expected = format!("a model: give its base, and one of them by --lora: {}", list(&adapters));
            Err(Error::file_mismatch(folder, found, expected))
        }
        ([one], _) => {
            let expected = format!("that folder itself: {}", one.display());
            Err(Error::file_mismatch(folder, "a folder with a model's folder in it", expected))
        }
        ([_, ..], _) => {
            let found = format!("a folder of {} models", models.len());
            Err(Error::file_mismatch(folder, found, format!("one of them: {}", list(&models))))
        }
        ([], []) => {
            if let Some(gguf) = gguf {
                return Err(gguf_found(folder, "only GGUF files", &folder.join(gguf)));
            }
            if let Some((name, kind)) = names.iter().find_map(|name| Some((name, archive(name, &[])?))) {
                return Err(archived(&folder.join(name), kind));
            }
            // A folder that may not be read has no names either; reading its config says why.
            match folder.read_dir().is_ok_and(|mut entries| entries.next().is_none()) {
                true => Err(Error::file_mismatch(folder, "an empty folder", "one with a ChatGLM checkpoint")),
                false => Ok(()), // config.json is missed where it is read
            }
        }
    }
}

/// An adapter, in the place of a model or in a folder below it: what to type, or why `--lora` refuses it.
fn adapter(given: &Path, adapter: &Path) -> Error {
    let place = if given == adapter { "" } else { " in a folder below" };
    let expected = match lora::check_config(adapter) {
        Ok(base) => format!(
            "a model: give its base, and it as an adapter: glm2llama convert {} --lora {}",
            base.map_or_else(|| "BASE".to_owned(), |base| shortened(&base, 100)),
            adapter.display()
        ),
        Err(error) => format!("a model, and this cannot be merged into one: {error}"),
    };
    Error::file_mismatch(given, format!("an adapter{place}"), expected)
}

/// Folders for an error.
fn list(folders: &[PathBuf]) -> String {
    let shown = folders.iter().take(MOST_NAMED).map(|folder| folder.display().to_string());
    let more = if folders.len() > MOST_NAMED { " and others" } else { "" };
    shown.collect::<Vec<_>>().join(", ") + more
}

/// The error on a file in the place of a folder.
///
/// # Errors
/// When it cannot be read.
pub(super) fn of_file(file: &Path) -> Result<Error> {
    let beginning = input::read_beginning(file, 512)?.unwrap_or_default();
    let name = file.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    if beginning.starts_with(b"GGUF") || name.ends_with(".gguf") {
        return Ok(gguf_found(file, "a GGUF file", file));
    }
    let own = [".json", ".model", ".py", ".jinja"].iter().any(|end| name.ends_with(end));
    if is_tensors(&name) || own {
        let found = if own { "a file of a model" } else { "a file of weights" };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let expected = format!("the folder that it is in: {}", folder.display());
        return Ok(Error::file_mismatch(file, found, expected));
    }
    Ok(match archive(&name, &beginning) {
        Some(kind) => archived(file, kind),
        None => Error::file_mismatch(file, "a file", "the folder of a ChatGLM checkpoint"),
    })
}

/// A folder beside one that is not there, whose name is almost the same.
pub(super) fn sibling(path: &Path) -> Option<PathBuf> {
    let wanted = path.file_name()?.to_str()?.to_lowercase();
    let above = path.parent()?;
    let here = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    let near = names(here)
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&name.to_lowercase(), &wanted), name));
    let most = wanted.chars().count().min(8) / 4; // two slips in a name of eight letters
    let (_, name) = near.filter(|(far, name)| *far <= most && here.join(name).is_dir()).min()?;
    Some(above.join(name))
}

fn gguf_found(at: &Path, found: &str, gguf: &Path) -> Error {
    let expected = format!(
        "the folder of the original checkpoint: glm2llama inspect {} shows what it holds",
        gguf.display()
    );
    Error::file_mismatch(at, found, expected)
}

fn archived(file: &Path, (kind, command): (&str, &str)) -> Error {
    let expected = format!("a folder: unpack it with `{command} {}` and give the folder", file.display());
    Error::file_mismatch(file, kind, expected)
}

/// What kind of archive it is by its first bytes, or by its name, and what unpacks it.
fn archive(name: &str, beginning: &[u8]) -> Option<(&'static str, &'static str)> {
    const KINDS: [(&[u8], &[&str], &str, &str); 8] = [
        (b"PK\x03\x04", &[".zip"], "a zip archive", "unzip"),
        (b"7z\xbc\xaf\x27\x1c", &[".7z"], "a 7z archive", "7z x"),
        (b"Rar!", &[".rar"], "a rar archive", "unrar x"),
        (b"\x1f\x8b", &[".tar.gz", ".tgz"], "a tar archive", "tar -xf"),
        (b"\xfd7zXZ\0", &[".tar.xz", ".txz"], "a tar archive", "tar -xf"),
        (b"\x28\xb5\x2f\xfd", &[".tar.zst"], "a tar archive", "tar -xf"),
        (b"BZh", &[".tar.bz2"], "a tar archive", "tar -xf"),
        (b"", &[".tar"], "a tar archive", "tar -xf"),
    ];
    let tar = beginning.get(257..262) == Some(b"ustar");
    let fits = |(magic, ends, ..): &&(&[u8], &[&str], &str, &str)| {
        (!magic.is_empty() && beginning.starts_with(magic))
            || ends.iter().any(|end| name.to_ascii_lowercase().ends_with(end))
            || (magic.is_empty() && tar)
    };
    KINDS.iter().find(fits).map(|&(_, _, kind, command)| (kind, command))
}

/// Models in a folder, and in the folders in it.
fn models_below(folder: &Path, levels: usize) -> Vec<PathBuf> {
    let below = names(folder).into_iter().filter(|name| !name.starts_with('.')).map(|name| folder.join(name));
    let mut models = Vec::new();
    for folder in below.filter(|folder| folder.is_dir()) {
        if folder.join("config.json").is_file() || super::cache::repository(&folder).is_some() {
            models.push(folder);
        } else if levels > 1 {
            models.extend(models_below(&folder, levels - 1));
        }
        if models.len() > MOST_NAMED {
            break;
        }
    }
    models
}
