//! Downloads that have not ended: the file may have its full length already, with zeros where nothing has come yet.
//!
//! Such a file's header is that of a whole one. What gives it away is what the download program keeps beside it until
//! it is done.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::input;

/// What download programs put behind a file's name: aria2 (hfd.sh of the mirrors), the hubs' own clients, wget and
/// browsers, torrents, Thunder (Xunlei) and Baidu's cloud drive.
const ENDS: [&str; 16] = [
    ".aria2",
    ".aria2__temp",
    ".incomplete",
    ".parallel_tmp",
    ".part",
    ".partial",
    ".filepart",
    ".crdownload",
    ".download",
    ".opdownload",
    ".!qB",
    ".!ut",
    ".xltd",
    ".td",
    ".baiduyun.downloading",
    ".baiduyun.p.downloading",
];

/// What is expected of a download, in every error on one that is not finished.
pub const FINISHED: &str = "a finished download";

/// Where `hf download --local-dir` keeps what it has not finished, named by hashes from which the file cannot be known.
const LOCAL: &str = ".cache/huggingface/download";

/// What decides the numbers or the vocabulary of a model or an adapter beside its weights.
const SMALL: [&str; 14] = [
    "config.json",
    "modeling_chatglm.py",
    "tokenization_chatglm.py",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "adapter_config.json",
];

/// Refuses the small files of a folder as [`refuse`] does the large ones; returns those that are there.
pub(super) fn refuse_small(folder: &Path) -> Result<Vec<PathBuf>> {
    let there = SMALL.iter().map(|name| folder.join(name)).filter(|file| input::is_file(file));
    there.map(|file| refuse(&file).map(|()| file)).collect()
}

/// Refuses a file that a download program has not finished.
pub(super) fn refuse(path: &Path) -> Result<()> {
    match trace(path) {
        None => Ok(()),
        Some(trace) => Err(error(path, &trace)),
    }
}

/// The error on a file that is not there, when what a download keeps until its end is.
pub(super) fn instead_of(path: &Path) -> Option<Error> {
    trace(path).map(|trace| error(path, &trace))
}

fn error(path: &Path, trace: &str) -> Error {
    let expected = format!(
        "{FINISHED}: run the same download again until it ends (or, if the file is known to be whole, delete that one)"
    );
    Error::file_mismatch(path, format!("{trace} beside it"), expected)
}

/// The error on something that a folder lacks, `found` in words, while the hub's program has an unfinished file of it.
pub(super) fn in_local_cache(folder: &Path, at: &Path, found: &str) -> Option<Error> {
    let names = input::names_in(&folder.join(LOCAL));
    let part = names.iter().find(|name| name.ends_with(".incomplete"))?;
    let expected = format!("{FINISHED}: run the same download again until it ends");
    Some(Error::file_mismatch(at, format!("{found}, and {LOCAL}/{part}"), expected))
}

/// The name of what an unfinished download has left beside a file, or beside the one that it links to.
fn trace(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok().filter(|_| path.is_symlink());
    // A cache gives a blob its name when it is whole: a second download of the same one says nothing of it.
    let real = real.filter(|real| !real.parent().is_some_and(|folder| folder.ends_with("blobs")));
    [Some(path), real.as_deref()].into_iter().flatten().find_map(beside)
}

fn beside(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    input::names_in(folder).into_iter().find(|other| other.strip_prefix(name).is_some_and(is_trace))
}

/// `rest` stands behind the file's own name. ModelScope's parts are named by the range of bytes: `_0_167772159`.
fn is_trace(rest: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let range = rest.strip_prefix('_').and_then(|range| range.split_once('_'));
    ENDS.contains(&rest) || range.is_some_and(|(from, to)| digits(from) && digits(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_download_keeps_beside_a_file_refuses_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        std::fs::write(&file, "").unwrap();
        for harmless in [".index.json", ".sha256", "_0", "_a_b", "_1_2_3", ".metadata"] {
            std::fs::write(folder.path().join(format!("model.safetensors{harmless}")), "").unwrap();
        }
        std::fs::write(folder.path().join("other.safetensors.aria2"), "").unwrap();
        refuse(&file).unwrap();
        for end in ENDS.into_iter().chain(["_0_167772159", "_167772160_335544319"]) {
            let trace = folder.path().join(format!("model.safetensors{end}"));
            std::fs::write(&trace, "").unwrap();
            let error = refuse(&file).unwrap_err().to_string();
            let found = format!("found model.safetensors{end} beside it, expected a finished download");
            assert!(error.contains(&found), "{error}");
            std::fs::remove_file(&trace).unwrap();
        }
    }

    /// What a model is read from beside its weights is judged, too, and has its hash checked.
    #[test]
    fn every_small_file_is_looked_at() {
        use crate::model::{Model, ModelSource};
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/models/tiny-chatglm3");
        let source = ModelSource { folder: folder.clone(), ..ModelSource::default() };
        let (model, guests) = input::noted(|| Model::open(&source));
        model.unwrap();
        let names = guests.asked().filter(|file| file.parent() == Some(&folder)).filter_map(Path::file_name);
        let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
        assert!(names.len() > 8, "{names:?}");
        let others =
            names.iter().filter(|name| !super::super::is_tensors(name) && !SMALL.contains(&&***name));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&std::borrow::Cow<str>>::new());
    }

    #[cfg(unix)] // Windows has links only for some
    #[test]
    fn a_link_is_followed_but_a_caches_blob_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("model.safetensors");
        for (place, refused) in [("elsewhere", true), ("blobs", false)] {
            let place = folder.path().join(place);
            std::fs::create_dir(&place).unwrap();
            std::fs::write(place.join("a"), "").unwrap();
            std::fs::write(place.join("a.incomplete"), "").unwrap();
            std::os::unix::fs::symlink(place.join("a"), &link).unwrap();
            assert_eq!(refuse(&link).is_err(), refused, "{}", place.display());
            std::fs::remove_file(&link).unwrap();
        }
    }
}
