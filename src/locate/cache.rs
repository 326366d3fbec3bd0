//! The folders that the hubs' own programs download into.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::name::Name;
use super::{Located, folder, unfinished};
use crate::checkpoint::Published;
use crate::error::{Error, Result};
use crate::input;

/// Where the hubs' programs put downloads, by the environment.
#[derive(Clone, Debug, Default)]
pub struct Caches {
    home: Option<PathBuf>,
    hugging_face: Option<PathBuf>,
    /// One cache; its programs have put models into it and into `hub` in it.
    model_scope: Option<PathBuf>,
}

/// A commit's hash has 40 characters.
const LONGEST_REF: u64 = 256;
/// Snapshots that are named in an error.
const MOST_NAMED: usize = 5;

impl Caches {
    /// Those of this process's user.
    pub fn of_user() -> Caches {
        Caches::new(&|name| std::env::var_os(name))
    }

    /// Those that an environment names, in the order in which the hubs' own programs ask it.
    pub fn new(variable: &dyn Fn(&str) -> Option<OsString>) -> Caches {
        // Windows has the second of the two.
        let home = ["HOME", "USERPROFILE"].into_iter().filter_map(&variable).find(|value| !value.is_empty());
        let home = home.map(PathBuf::from);
        let folder = |name: &str| {
            let value = PathBuf::from(variable(name).filter(|value| !value.is_empty())?);
            Some(expand(&value, home.as_deref()).unwrap_or(value))
        };
        let hugging_face = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(folder("HF_HOME")?.join("hub")))
            .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface").join("hub")))
            .or_else(|| Some(home.as_deref()?.join(".cache").join("huggingface").join("hub")));
        let model_scope =
            folder("MODELSCOPE_CACHE").or_else(|| Some(home.as_deref()?.join(".cache").join("modelscope")));
        Caches { home, hugging_face, model_scope }
    }

    /// The folder of Hugging Face's downloads, there or not.
    pub fn hugging_face(&self) -> Option<&Path> {
        self.hugging_face.as_deref()
    }

    /// The folder of ModelScope's downloads, there or not.
    pub fn model_scope(&self) -> Option<&Path> {
        self.model_scope.as_deref()
    }

    /// A path whose `~` the shell has left alone, with the user's home in its place.
    pub fn expand(&self, path: &Path) -> Option<PathBuf> {
        expand(path, self.home.as_deref())
    }

    /// The folder of a model by its name; its publisher's other names come after all caches had the one given.
    ///
    /// A copy that is broken or not whole stands in the way of none that is: a note names it, and it is the error, or what
    /// is taken, only when there is no other.
    pub(super) fn find(&self, name: &Name) -> Result<Option<Located>> {
        let (mut first_error, mut other_revision, mut unfinished) = (None, None, None);
        for spelling in name.spellings() {
            for repository in self.repositories(&spelling) {
                let (folder, from) = match self.look(&repository, spelling.revision.as_deref()) {
                    Ok(Some(found)) => found,
                    Ok(None) => {
                        other_revision = other_revision.or_else(|| Some(no_revision(&repository, &spelling)));
                        continue;
                    }
                    Err(error) => {
                        first_error = first_error.or(Some(error));
                        continue;
                    }
                };
                let mut how = format!("{}, by {from} of {}", folder.display(), self.title(&repository));
                if spelling.org != name.org {
                    how += &format!("; {} is the same publisher's", spelling.path());
                }
                let found = self.located(&spelling, &repository, folder, how);
                if unfinished::lacks(&found.folder).is_some() {
                    unfinished = unfinished.or(Some(found));
                    continue;
                }
                let passed = first_error.map(|error| error.to_string()).or_else(|| {
                    unfinished.and_then(|Located { folder, unfinished, .. }| {
                        Some(format!("{}: {}", folder.display(), unfinished?))
                    })
                });
                let passed = passed.map(|passed| format!("; passed over: {passed}")).unwrap_or_default();
                return Ok(Some(Located { how: found.how.map(|how| how + &passed), ..found }));
            }
            first_error = first_error.or_else(|| self.unfinished(&spelling));
        }
        match unfinished {
            Some(found) => Ok(Some(found)),
            None => first_error.or(other_revision).map_or(Ok(None), Err),
        }
    }

    fn located(&self, name: &Name, repository: &Path, folder: PathBuf, how: String) -> Located {
        let unfinished = match repository == folder {
            true => unfinished::of_folder(&folder),
            false => unfinished::in_cache(repository, &folder),
        };
        let left = || self.unfinished(name).filter(|_| !self.is_hugging_face(repository));
        let unfinished = unfinished.or_else(|| Some(left()?.to_string()));
        let hub = match self.is_hugging_face(repository) {
            true => Published::HUGGING_FACE,
            false => Published::MODEL_SCOPE,
        };
        let published = Some(Published { hub, repository: name.path() });
        Located { folder, how: Some(how), unfinished, published }
    }

    /// The entries of a name that are there, in the order in which they count.
    fn repositories(&self, name: &Name) -> Vec<PathBuf> {
        let Name { org, name, .. } = name;
        let mut all: Vec<PathBuf> =
            self.hugging_face.iter().map(|root| root.join(format!("models--{org}--{name}"))).collect();
        let mut names = vec![name.clone(), name.replace('.', "___")];
        names.dedup();
        for folder in self.model_scope_folders() {
            all.extend(names.iter().map(|name| folder.join(org).join(name)));
            all.extend(names.iter().map(|name| folder.join(format!("{org}--{name}"))));
        }
        all.retain(|folder| folder.is_dir());
        all
    }

    /// Where ModelScope's program, of any age, may have put the folders of publishers.
    fn model_scope_folders(&self) -> impl Iterator<Item = PathBuf> {
        let below = [&["models"][..], &["hub", "models"], &["hub"], &[]];
        self.model_scope.iter().flat_map(move |root| {
            below.map(|names| names.iter().fold(root.clone(), |folder, name| folder.join(name)))
        })
    }

    /// The refusal of what ModelScope's program has gathered of a model and not put into its place.
    fn unfinished(&self, name: &Name) -> Option<Error> {
        let below = PathBuf::from("._____temp").join(&name.org).join(&name.name);
        let mut gathered = self.model_scope_folders().map(|folder| folder.join(&below));
        let left = gathered.find(|folder| !folder::names(folder).is_empty())?;
        Some(unfinished::temporary(&left, name))
    }

    /// A revision of an entry, and what named it, refused if it can be no model.
    fn look(&self, repository: &Path, revision: Option<&str>) -> Result<Option<(PathBuf, String)>> {
        if repository.join("snapshots").is_dir() || self.is_hugging_face(repository) {
            return match revision {
                None => any(repository).map(Some),
                Some(revision) => checked(snapshot(repository, Some(revision))?),
            };
        }
        // ModelScope's older folders hold one revision, which a small file names.
        let stored = match input::read_beginning(&repository.join(".mv"), LONGEST_REF) {
            Ok(Some(text)) => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        };
        let stored = stored.strip_prefix("Revision:").and_then(|rest| rest.split(',').next()).map(str::trim);
        let from = match revision {
            None => "name",
            Some(revision) if stored == Some(revision) => "its revision",
            Some(_) => return Ok(None),
        };
        checked(Some((repository.to_owned(), from.to_owned())))
    }

    fn is_hugging_face(&self, repository: &Path) -> bool {
        self.hugging_face.as_deref().is_some_and(|root| repository.parent() == Some(root))
    }

    fn title(&self, repository: &Path) -> &'static str {
        if self.is_hugging_face(repository) { "the Hugging Face cache" } else { "ModelScope's cache" }
    }

    /// A downloaded model whose name is almost this one.
    pub(super) fn similar(&self, org: &str, name: &str) -> Option<String> {
        let wanted = format!("{org}/{name}").to_lowercase();
        let most = if org.is_empty() || name.len() < 4 { 0 } else { 2 };
        let far = |there: &str| {
            let there = there.to_lowercase();
            let same_name = there.rsplit('/').next() == wanted.rsplit('/').next();
            if same_name { 0 } else { strsim::damerau_levenshtein(&there, &wanted) }
        };
        // Other digits make another model, and no slip.
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        let near = self.names().into_iter().map(|there| (far(&there), there));
        let near = near.filter(|(far, there)| *far <= most && digits(there) == digits(&wanted));
        near.min().map(|(_, there)| there)
    }

    /// All models that the caches hold.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for entry in self.hugging_face.iter().flat_map(|root| folder::names(root)) {
            names.extend(entry.strip_prefix("models--").map(|name| name.replacen("--", "/", 1)));
        }
        for folder in self.model_scope_folders() {
            for org in folder::names(&folder).into_iter().filter(|org| !org.starts_with('.')) {
                if let Some((org, name)) = org.split_once("--") {
                    names.push(format!("{org}/{}", name.replace("___", ".")));
                    continue;
                }
                let below = folder.join(&org);
                let models = folder::names(&below).into_iter();
                let models = models.filter(|name| below.join(name).join("config.json").is_file());
                names.extend(models.map(|name| format!("{org}/{}", name.replace("___", "."))));
            }
        }
        names
    }

    /// Where was looked, for an error.
    pub(super) fn searched(&self) -> String {
        let roots: Vec<String> = self
            .hugging_face
            .iter()
            .chain(&self.model_scope)
            .map(|root| root.display().to_string())
            .collect();
        if roots.is_empty() { String::new() } else { format!(" (looked into {})", roots.join(" and ")) }
    }
}

/// The repository of a folder of Hugging Face's cache, `models--ORG--NAME`.
pub(super) fn published(folder: &Path) -> Option<Published> {
    let (org, name) = folder.file_name()?.to_str()?.strip_prefix("models--")?.split_once("--")?;
    let repository = Name::parse(Path::new(&format!("{org}/{name}")))?.path();
    Some(Published { hub: Published::HUGGING_FACE, repository })
}

/// `~` and what begins with `~/`.
fn expand(path: &Path, home: Option<&Path>) -> Option<PathBuf> {
    Some(home?.join(path.strip_prefix("~").ok()?))
}

/// The entry of a cache that a folder is, or that it is a part of; a model's own folder is none.
pub(super) fn repository(folder: &Path) -> Option<PathBuf> {
    if folder.join("config.json").exists() {
        return None;
    }
    let is_entry = |folder: &Path| {
        let named = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"));
        folder.join("snapshots").is_dir() || (named && folder.join("blobs").is_dir())
    };
    if is_entry(folder) {
        return Some(folder.to_owned());
    }
    // What is written as `.` has a name too.
    let whole = folder.canonicalize().ok()?;
    let is_part =
        ["snapshots", "blobs", "refs"].iter().any(|part| whole.file_name().is_some_and(|name| name == *part));
    let above = folder
        .parent()
        .filter(|above| folder.file_name() == whole.file_name() && !above.as_os_str().is_empty());
    above.or_else(|| whole.parent()).filter(|above| is_part && is_entry(above)).map(Path::to_owned)
}

fn checked(found: Option<(PathBuf, String)>) -> Result<Option<(PathBuf, String)>> {
    found.as_ref().map_or(Ok(()), |(folder, _)| folder::check(folder))?;
    Ok(found)
}

/// The folder of an entry's model, and what named it: of the only snapshot that is whole if the right one is not.
///
/// # Errors
/// When there is none, or several could be meant.
pub(super) fn any(repository: &Path) -> Result<(PathBuf, String)> {
    let named = snapshot(repository, None).and_then(checked);
    let why = match &named {
        Err(error) => error.to_string(),
        Ok(None) => return Err(unfinished::nothing(repository)),
        Ok(Some((folder, from))) => match unfinished::lacks(folder) {
            None => return named.map(Option::unwrap_or_default),
            Some(lacks) => format!("{from} has {lacks}"),
        },
    };
    let all = repository.join("snapshots");
    let mut whole = folder::names(&all).into_iter().map(|name| all.join(name)).filter(|folder| {
        folder.join("config.json").is_file()
            && unfinished::lacks(folder).is_none()
            && folder::check(folder).is_ok()
    });
    match (whole.next(), whole.next()) {
        (Some(only), None) => Ok((only, format!("the only whole snapshot ({why})"))),
        _ => named.map(Option::unwrap_or_default),
    }
}

/// The folder of a revision in an entry of a cache, and what named it; none when the entry has no such revision.
///
/// # Errors
/// When several could be meant, or the one that is named is not there.
fn snapshot(repository: &Path, revision: Option<&str>) -> Result<Option<(PathBuf, String)>> {
    let all = repository.join("snapshots");
    let there: Vec<String> = folder::names(&all).into_iter().filter(|name| all.join(name).is_dir()).collect();
    let references = match revision {
        Some(revision) => vec![revision],
        None => vec!["main", "master"],
    };
    for reference in references {
        let Some(commit) = read_reference(repository, reference)? else { continue };
        if there.contains(&commit) {
            return Ok(Some((all.join(commit), format!("refs/{reference}"))));
        }
        let found = format!("refs/{reference}, which names snapshots/{commit}, and no such folder");
        let expected = format!("it: {}{}", unfinished::again(repository), others(&there));
        return Err(Error::file_mismatch(repository, found, expected));
    }
    let named = match revision {
        None => there.iter().filter(|name| there.len() == 1 || *name == "master").collect::<Vec<_>>(),
        Some(revision) if there.iter().any(|name| name == revision) => {
            return Ok(Some((all.join(revision), "its revision".to_owned())));
        }
        // Only commits are called by their beginnings, never branches.
        Some(revision) if revision.chars().all(|c| c.is_ascii_hexdigit()) => {
            there.iter().filter(|name| name.starts_with(revision)).collect()
        }
        Some(_) => Vec::new(),
    };
    match (named.as_slice(), revision) {
        ([one], Some(_)) => Ok(Some((all.join(one), "the beginning of a commit".to_owned()))),
        ([one], None) if there.len() == 1 => Ok(Some((all.join(one), "the only snapshot".to_owned()))),
        ([one], None) => Ok(Some((all.join(one), format!("snapshots/{one}")))),
        ([], Some(_)) => Ok(None),
        ([], None) if there.is_empty() => Ok(None),
        (several, _) => {
            let found = format!("{} snapshots", if revision.is_some() { several.len() } else { there.len() });
            let which = match revision {
                Some(revision) => format!(" that begin with {revision}"),
                None => " and no refs/main".to_owned(),
            };
            let listed = if revision.is_some() { several.iter().copied().cloned().collect() } else { there };
            let expected = format!("one of them: give its folder{}", others(&listed));
            Err(Error::file_mismatch(repository, found + &which, expected))
        }
    }
}

/// The commit that a name stands for in an entry.
fn read_reference(repository: &Path, reference: &str) -> Result<Option<String>> {
    let file = repository.join("refs").join(reference);
    if file.is_dir() {
        return Ok(None); // refs/pr has refs/pr/1
    }
    let Some(text) = input::read_beginning(&file, LONGEST_REF)? else { return Ok(None) };
    let commit = String::from_utf8_lossy(&text).trim().to_owned();
    let plain = !commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !plain || commit.starts_with('.') {
        return Err(Error::file_mismatch(&file, "no name of a commit", "one: download it again"));
    }
    Ok(Some(commit))
}

/// `: snapshots/A, snapshots/B`, or nothing.
fn others(there: &[String]) -> String {
    let shown: Vec<String> = there.iter().take(MOST_NAMED).map(|name| format!("snapshots/{name}")).collect();
    let more = if there.len() > MOST_NAMED { " and others" } else { "" };
    if shown.is_empty() { String::new() } else { format!("; there are {}{more}", shown.join(", ")) }
}

fn no_revision(repository: &Path, name: &Name) -> Error {
    let revision = name.revision.clone().unwrap_or_default();
    let there = folder::names(&repository.join("snapshots"));
    let expected = format!("it: fetch it with {}{}", name.commands(), others(&there));
    Error::file_mismatch(repository, format!("no revision {revision}"), expected)
}
