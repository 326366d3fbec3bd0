//! What the hubs' programs leave behind when a download was broken off.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::folder::names;
use super::name::Name;
use crate::checkpoint::is_weights;
use crate::error::Error;

/// Why a snapshot in an entry of a cache is not whole.
pub(super) fn in_cache(repository: &Path, snapshot: &Path) -> Option<String> {
    let why = lost(snapshot)
        .or_else(|| parts(&repository.join("blobs")))
        .or_else(|| parts(snapshot))
        .or_else(|| missing_weights(&names(snapshot)))?;
    Some(format!("the download is unfinished ({why}): {}", again(repository)))
}

/// What of a model a folder lacks by its names alone, so that another copy may be had in its place.
pub(super) fn lacks(folder: &Path) -> Option<String> {
    lost(folder).or_else(|| parts(folder)).or_else(|| missing_weights(&names(folder)))
}

/// Caches without their blobs are full of such links.
fn lost(folder: &Path) -> Option<String> {
    let lost = names(folder).into_iter().find(|name| {
        let file = folder.join(name);
        file.is_symlink() && matches!(file.try_exists(), Ok(false))
    })?;
    Some(format!("{lost} is a link to nothing"))
}

/// Why a folder that files were downloaded into, or a snapshot, is not whole.
pub(super) fn of_folder(folder: &Path) -> Option<String> {
    let whole = folder.canonicalize().ok()?;
    if whole.parent().and_then(Path::file_name).is_some_and(|name| name == "snapshots") {
        return in_cache(whole.parent()?.parent()?, folder);
    }
    let why = parts(&folder.join(".cache/huggingface/download")).or_else(|| parts(folder))?;
    Some(format!("the download is unfinished ({why}): run its command again, which resumes it"))
}

/// An entry without a snapshot.
pub(super) fn nothing(repository: &Path) -> Error {
    let found = match parts(&repository.join("blobs")) {
        Some(parts) => format!("an unfinished download ({parts})"),
        None => "a download cache without a snapshot".to_owned(),
    };
    Error::file_mismatch(repository, found, format!("a whole one: {}", again(repository)))
}

/// What ModelScope's program has not moved into its place yet.
pub(super) fn temporary(folder: &Path, name: &Name) -> Error {
    let expected = format!("a whole one: `modelscope download --model {}` resumes it", name.path());
    Error::file_mismatch(folder, "an unfinished download", expected)
}

/// What goes on with a download, as far as the entry's name tells its command.
pub(super) fn again(repository: &Path) -> String {
    let name = repository.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.strip_prefix("models--").and_then(|name| name.split_once("--")) {
        Some((org, name)) => format!("`hf download {org}/{name}` resumes it"),
        None => "run its command again, which resumes it".to_owned(),
    }
}

/// Programs that ask for a tokenizer only leave a snapshot without weights, and one that was broken off some shards.
fn missing_weights(names: &[String]) -> Option<String> {
    let mut shards: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for name in names.iter().filter(|name| is_weights(name) && !name.ends_with(".index.json")) {
        let (before, after) = name.rsplit_once("-of-")?; // one file of all is whole
        let (kind, _) = before.rsplit_once('-')?;
        *shards.entry((kind, after)).or_default() += 1;
    }
    let whole = |count: &str| count.split('.').next().and_then(|count| count.parse::<usize>().ok());
    let counted = shards.iter().map(|((_, after), there)| (*there, whole(after).unwrap_or(*there)));
    let fewest = counted.min_by_key(|(there, all)| all.saturating_sub(*there));
    match fewest {
        None => Some("no weights in it".to_owned()),
        Some((there, all)) => (there < all).then(|| format!("{there} of {all} shards are there")),
    }
}

/// Names the first of the files in a folder that are not whole.
fn parts(folder: &Path) -> Option<String> {
    let parts: Vec<PathBuf> = names(folder)
        .into_iter()
        .filter(|name| name.ends_with(".incomplete"))
        .map(|name| Path::new(folder.file_name().unwrap_or_default()).join(name))
        .collect();
    let first = parts.first()?.display();
    match parts.len() {
        1 => Some(format!("{first}")),
        count => Some(format!("{first} and {} more", count - 1)),
    }
}
