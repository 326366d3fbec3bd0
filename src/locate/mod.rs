//! MODEL as the user names it -> the checkpoint's folder: a folder, a download cache's, or a model's name on a hub.
//!
//! Only what is on this machine is looked at. Whatever a name was taken for is told, and what can only be something
//! else than a checkpoint is refused with what to type instead.

mod cache;
mod folder;
mod name;
mod unfinished;

use std::path::{Path, PathBuf};

use crate::checkpoint::{FINISHED, Published};
use crate::error::{Error, Result};
use crate::input;
pub use cache::Caches;
use name::Name;
#[cfg(feature = "hub")]
pub(crate) use name::{is_name, is_revision};

/// Where a model is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// The checkpoint's folder.
    pub folder: PathBuf,
    /// What it was taken from, when it is not the folder as the user wrote it.
    pub how: Option<String>,
    /// Why its download looks unfinished.
    pub unfinished: Option<String>,
    /// The repository that it was downloaded from, where a name says so.
    pub published: Option<Published>,
}

impl Located {
    /// Adds to an error on one of its files that the download is unfinished, unless it says so itself.
    pub fn explain(&self, error: Error) -> Error {
        match (error, &self.unfinished) {
            (Error::Input { file, item, problem }, Some(unfinished))
                if file.starts_with(&self.folder) && !problem.contains(FINISHED) =>
            {
                Error::Input { file, item, problem: format!("{problem}; {unfinished}") }
            }
            (error, _) => error,
        }
    }
}

/// Finds the folder of MODEL: one that is there goes before a name on a hub.
///
/// # Errors
/// When there is none, there are several, or what is there can be no checkpoint.
pub fn find(model: &Path, caches: &Caches) -> Result<Located> {
    if is_there(model) {
        return existing(model);
    }
    if let Some(expanded) = caches.expand(model) {
        return match is_there(&expanded) {
            true => existing(&expanded).map(|found| Located {
                how: found.how.or_else(|| Some(format!("{}, by ~", expanded.display()))),
                ..found
            }),
            false => Err(missing(&expanded, caches)),
        };
    }
    let Some(name) = Name::parse(model) else { return Err(missing(model, caches)) };
    match caches.find(&name)? {
        Some(found) => Ok(found),
        None => Err(not_downloaded(model, &name, caches)),
    }
}

/// What may not be looked at is there: opening it says why not.
fn is_there(path: &Path) -> bool {
    path.is_symlink() || !matches!(path.try_exists(), Ok(false))
}

fn existing(model: &Path) -> Result<Located> {
    if let Some(error) = input::dangling(model) {
        return Err(error);
    }
    if !model.is_dir() {
        return Err(folder::of_file(model)?);
    }
    match cache::repository(model) {
        Some(repository) => {
            let (folder, from) = cache::any(&repository)?;
            let how = Some(format!("{}, by {from} of the download cache", folder.display()));
            let unfinished = unfinished::in_cache(&repository, &folder);
            let published = cache::published(&repository);
            Ok(Located { unfinished, how, folder, published })
        }
        None => {
            folder::check(model)?;
            let unfinished = unfinished::of_folder(model);
            let published = model.ancestors().find_map(cache::published);
            Ok(Located { folder: model.to_owned(), unfinished, published, ..Located::default() })
        }
    }
}

/// The address of a model on a hub, where this program can read one.
fn is_hubs(text: &str) -> bool {
    cfg!(feature = "hub") && ["hf://", "ms://"].iter().any(|prefix| text.starts_with(prefix))
}

/// Refuses an adapter on a hub, for commands that read none there.
///
/// # Errors
/// When it is one.
pub fn refuse_remote_adapter(adapter: &Path) -> Result<()> {
    match adapter.to_str().filter(|text| is_hubs(text)) {
        None => Ok(()),
        Some(text) => Err(Error::Usage(format!(
            "--lora: found {text}, and only convert and plan read a hub: download the adapter, and give its folder"
        ))),
    }
}

/// A path to nothing.
fn missing(path: &Path, caches: &Caches) -> Error {
    let mut problem = "no such folder, expected one with a ChatGLM checkpoint".to_owned();
    let last = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(sibling) = folder::sibling(path) {
        problem += &format!(": did you mean {}?", sibling.display());
    } else if let Some(there) = caches.similar("", &last) {
        problem += &format!(": did you mean {there}, which is downloaded?");
    } else if let Some(name) = Name::of_family(&last) {
        problem += &format!(": download it with {}", name.commands());
    } else {
        problem += ", or the name of a downloaded model, ORG/NAME or ORG/NAME@REVISION";
    }
    Error::file(path, problem)
}

/// A name that no cache has.
fn not_downloaded(model: &Path, name: &Name, caches: &Caches) -> Error {
    if let Some(text) = model.to_str().filter(|text| is_hubs(text)) {
        let problem = format!(
            "found it in no download cache, and only convert, plan and inspect read a hub: store it while it is \
             converted, `glm2llama convert {text} --keep DIR`, and then give {}",
            name.path()
        );
        let variable = if text.starts_with("ms://") { "MODELSCOPE_CACHE" } else { "HF_HUB_CACHE" };
        return Error::file(model, format!("{problem} with {variable}=DIR{}", caches.searched()));
    }
    let mut problem = "no such folder, and no such download: ".to_owned();
    // The beginning of a path that is there may be meant as one.
    if let Some(sibling) = folder::sibling(model) {
        problem += &format!("did you mean {}? Else ", sibling.display());
    }
    problem += &format!("fetch it with {}", name.commands());
    if let Some(there) = caches.similar(&name.org, &name.name) {
        problem += &format!(", or did you mean {there}, which is there?");
    }
    Error::file(model, problem + &caches.searched())
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod broken_tests;
