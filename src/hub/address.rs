//! `hf://ORG/NAME[@REVISION]` and `ms://ORG/NAME[@REVISION]`, and the same with a file's path behind it.

use std::fmt;

use crate::error::{Error, Result};
use crate::locate::{is_name, is_revision};

/// A hub, or a mirror of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hub {
    /// huggingface.co and what answers as it does.
    HuggingFace,
    /// modelscope.cn.
    ModelScope,
}

impl Hub {
    const ALL: [Hub; 2] = [Hub::HuggingFace, Hub::ModelScope];

    /// Its name.
    pub fn title(self) -> &'static str {
        match self {
            Hub::HuggingFace => "Hugging Face",
            Hub::ModelScope => "ModelScope",
        }
    }

    /// What stands before a model's name.
    pub fn prefix(self) -> &'static str {
        match self {
            Hub::HuggingFace => "hf://",
            Hub::ModelScope => "ms://",
        }
    }

    /// The branch that is meant when none is given.
    pub(super) fn default_revision(self) -> &'static str {
        match self {
            Hub::HuggingFace => "main",
            Hub::ModelScope => "master",
        }
    }
}

/// A model on a hub, or a file of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The hub.
    pub hub: Hub,
    /// The publisher.
    pub org: String,
    /// The model's name.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: Option<String>,
    /// The path of a file in the repository.
    pub file: Option<String>,
}

impl Address {
    /// The text begins with a hub's prefix: what it names is on a hub or nowhere.
    pub fn is_one(text: &str) -> bool {
        Hub::ALL.iter().any(|hub| text.starts_with(hub.prefix()))
    }

    /// A model's address; what follows the `@` is its revision, slashes and all.
    ///
    /// # Errors
    /// When the text is none.
    pub fn of_model(text: &str) -> Result<Address> {
        let wrong =
            || Error::Usage(format!("{text}: expected hf://ORG/NAME or hf://ORG/NAME@REVISION, or ms://"));
        let (hub, rest) = split_prefix(text).ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (path, revision) = rest.split_once('@').map_or((rest, None), |(path, at)| (path, Some(at)));
        let (org, name) = path.split_once('/').ok_or_else(wrong)?;
        Address { hub, org: org.into(), name: name.into(), revision: revision.map(slashes), file: None }
            .checked()
            .ok_or_else(wrong)
    }

    /// A file's address, `hf://ORG/NAME@REVISION/FOLDER/FILE`; without a file it is the repository's. A revision with
    /// slashes in it is one of the hub's own `refs/pr/N`, or has them as `%2F`.
    ///
    /// # Errors
    /// When the text is none.
    pub fn of_file(text: &str) -> Result<Address> {
        let wrong = || {
            Error::Usage(format!(
                "{text}: expected hf://ORG/NAME/FILE or hf://ORG/NAME@REVISION/FILE, or ms://"
            ))
        };
        let (hub, rest) = split_prefix(text).ok_or_else(wrong)?;
        let (org, rest) = rest.split_once('/').ok_or_else(wrong)?;
        let (name, rest) = rest.find(['/', '@']).map_or((rest, ""), |at| rest.split_at(at));
        let (revision, file) = match rest.strip_prefix('@') {
            None => (None, rest.strip_prefix('/')),
            Some(rest) => {
                let slashes = if rest.starts_with("refs/") { 2 } else { 0 };
                match rest.match_indices('/').nth(slashes) {
                    None => (Some(rest), None),
                    Some((at, _)) => (Some(&rest[..at]), Some(&rest[at + 1..])),
                }
            }
        };
        let file = file.filter(|file| !file.is_empty()).map(Into::into);
        Address { hub, org: org.into(), name: name.into(), revision: revision.map(slashes), file }
            .checked()
            .ok_or_else(wrong)
    }

    fn checked(self) -> Option<Address> {
        let revision = self.revision.as_deref().is_none_or(is_revision);
        (is_name(&self.org) && is_name(&self.name) && revision).then_some(self)
    }

    /// `ORG/NAME`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.org, self.name)
    }

    /// The given revision, or the hub's usual one.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(self.hub.default_revision())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { hub, org, name, revision, file } = self;
        write!(f, "{}{org}/{name}", hub.prefix())?;
        revision.iter().try_for_each(|revision| write!(f, "@{revision}"))?;
        file.iter().try_for_each(|file| write!(f, "/{file}"))
    }
}

/// A revision as the hubs' own programs write it where its slashes would be a path's.
fn slashes(revision: &str) -> String {
    revision.replace("%2F", "/").replace("%2f", "/")
}

fn split_prefix(text: &str) -> Option<(Hub, &str)> {
    Hub::ALL.into_iter().find_map(|hub| Some((hub, text.strip_prefix(hub.prefix())?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_files_are_told_apart() {
        for text in
            ["hf://zai-org/chatglm3-6b", "ms://ZhipuAI/m@master", "hf://a/b@refs/pr/1", "hf://a/b@v1.0"]
        {
            assert_eq!(Address::of_model(text).unwrap().to_string(), text);
            assert_eq!(Address::of_file(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::of_model("hf://a/b/").unwrap().to_string(), "hf://a/b");
        let file = |text: &str| {
            let address = Address::of_file(text).unwrap();
            assert_eq!(address.to_string(), text);
            (address.revision, address.file.unwrap())
        };
        assert_eq!(file("hf://a/b/m.gguf"), (None, "m.gguf".to_owned()));
        assert_eq!(file("hf://a/b@main/q4/m.gguf"), (Some("main".to_owned()), "q4/m.gguf".to_owned()));
        assert_eq!(file("ms://a/b@refs/pr/1/m.gguf"), (Some("refs/pr/1".to_owned()), "m.gguf".to_owned()));
        let branch = Address::of_file("hf://a/b@my%2Fown%2fbranch/q4/m.gguf").unwrap();
        assert_eq!((branch.revision(), branch.file.as_deref()), ("my/own/branch", Some("q4/m.gguf")));
        assert_eq!(
            Address::of_model("hf://a/b@my%2Fbranch").unwrap(),
            Address::of_model("hf://a/b@my/branch").unwrap()
        );
    }

    #[test]
    fn what_is_no_address_is_refused_in_one_line() {
        assert!(!Address::is_one("a/b") && !Address::is_one("https://a/b") && Address::is_one("hf://"));
        let traversal =
            ["hf://../b", "hf://a/..", "hf://%2e%2e/b", "ms://a/b%2Fc", "hf://a/b@%2e%2e", "ms://a/b@..%2Fc"];
        let other =
            ["hf://", "hf://a", "hf://a/b/c", "hf://a/b@", "hf://a/b@../c", "ms://a b/c", "ms://a/b@%2F"];
        for text in traversal.into_iter().chain(other) {
            let error = Address::of_model(text).unwrap_err().to_string();
            assert!(error.starts_with(text) && error.contains("expected hf://ORG/NAME"), "{error}");
        }
        for text in ["hf://a", "hf:///b/c", "hf://a/@main/c"] {
            assert!(Address::of_file(text).is_err(), "{text}");
        }
    }
}
