//! `ORG/NAME` and `ORG/NAME@REVISION`, also as they stand in a hub's address.

use std::path::Path;

/// A model's name on a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) org: String,
    pub(super) name: String,
    pub(super) revision: Option<String>,
}

/// The publisher of ChatGLM: its name and its former one on Hugging Face, and its name on ModelScope.
const PUBLISHER: [&str; 3] = ["zai-org", "THUDM", "ZhipuAI"];

/// Where addresses begin that users copy from a browser.
const HOSTS: [&str; 6] =
    ["huggingface.co", "hf.co", "hf-mirror.com", "modelscope.cn", "www.modelscope.cn", "modelscope.ai"];

impl Name {
    /// None when it is a path and can be no name.
    pub(super) fn parse(model: &Path) -> Option<Name> {
        let text = model.to_str()?;
        let address = without_host(text);
        let text = address.map_or(text, |address| address.strip_prefix("models/").unwrap_or(address));
        let text = text.strip_suffix('/').unwrap_or(text);
        let (path, mut revision) = match text.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (text, None),
        };
        let (org, rest) = path.split_once('/')?;
        let (mut name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        if address.is_some() {
            name = name.strip_suffix(".git").unwrap_or(name);
            let page = rest.split_once('/').filter(|(page, _)| ["tree", "blob", "resolve"].contains(page));
            // A branch's name may have slashes, which no address tells from a file's folders.
            revision =
                revision.or(page.map(|(_, rest)| rest.split_once('/').map_or(rest, |(first, _)| first)));
        } else if !rest.is_empty() {
            return None;
        }
        let fits = is_name(org) && is_name(name) && revision.is_none_or(is_revision);
        let owned = |text: &str| text.to_owned();
        fits.then(|| Name { org: owned(org), name: owned(name), revision: revision.map(owned) })
    }

    /// A name without its publisher, when it is one of the family's.
    pub(super) fn of_family(name: &str) -> Option<Name> {
        let lower = name.to_ascii_lowercase();
        let known = ["chatglm", "glm-", "codegeex"].iter().any(|start| lower.starts_with(start));
        let [org, ..] = PUBLISHER;
        let of_family = Name { org: org.to_owned(), name: name.to_owned(), revision: None };
        (known && is_name(name)).then_some(of_family)
    }

    /// The name first, then those that the same publisher has or had elsewhere.
    pub(super) fn spellings(&self) -> Vec<Name> {
        let same = PUBLISHER.iter().any(|org| org.eq_ignore_ascii_case(&self.org));
        let others = PUBLISHER.iter().filter(|org| same && !org.eq_ignore_ascii_case(&self.org));
        let others = others.map(|org| Name { org: (*org).to_owned(), ..self.clone() });
        std::iter::once(self.clone()).chain(others).collect()
    }

    /// `ORG/NAME`.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.org, self.name)
    }

    /// What fetches it into a folder of its name, from either hub.
    pub(super) fn commands(&self) -> String {
        let Name { org, name, revision } = self;
        let [hugging_face, former, model_scope] = PUBLISHER;
        let revision =
            revision.as_ref().map(|revision| format!(" --revision {revision}")).unwrap_or_default();
        // A revision of the one hub is none of the other's.
        let (at, its, other) = match org == model_scope {
            true => (hugging_face, "", revision.as_str()),
            false => (org.as_str(), revision.as_str(), ""),
        };
        let hf = format!("`hf download {at}/{name} --local-dir {name}{its}`");
        let at = if [hugging_face, former].contains(&org.as_str()) { model_scope } else { org };
        format!("{hf} or `modelscope download --model {at}/{name} --local_dir {name}{other}`")
    }
}

/// What follows the host in an address.
fn without_host(text: &str) -> Option<&str> {
    if let Some(path) = text
        .strip_prefix("hf://")
        .or_else(|| text.strip_prefix("ms://"))
        .or_else(|| text.strip_prefix("git@hf.co:"))
    {
        return Some(path);
    }
    let scheme = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let text = scheme.unwrap_or(text);
    let text = text.split(['?', '#']).next().unwrap_or(text);
    HOSTS.iter().find_map(|host| text.strip_prefix(host)?.strip_prefix('/'))
}

/// A hub's names have letters, digits and these marks; they are joined to paths here, so `..` is none.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 96 && !text.starts_with('.') && text.chars().all(fits)
}

pub(crate) fn is_revision(text: &str) -> bool {
    text.split('/').all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<String> {
        let name = Name::parse(Path::new(text))?;
        Some(name.path() + &name.revision.map(|revision| format!("@{revision}")).unwrap_or_default())
    }

    #[test]
    fn names_and_addresses() {
        for (text, expected) in [
            ("zai-org/chatglm3-6b", "zai-org/chatglm3-6b"),
            ("zai-org/chatglm3-6b/", "zai-org/chatglm3-6b"),
            ("me/my.model_1@v1.0", "me/my.model_1@v1.0"),
            ("me/m@refs/pr/1", "me/m@refs/pr/1"),
            ("hf://zai-org/chatglm3-6b", "zai-org/chatglm3-6b"),
            ("https://huggingface.co/zai-org/chatglm3-6b", "zai-org/chatglm3-6b"),
            ("https://huggingface.co/zai-org/chatglm3-6b/tree/main", "zai-org/chatglm3-6b@main"),
            ("https://huggingface.co/a/b/blob/0123/config.json?download=true", "a/b@0123"),
            ("https://hf-mirror.com/THUDM/chatglm2-6b.git", "THUDM/chatglm2-6b"),
            ("git@hf.co:THUDM/chatglm2-6b", "THUDM/chatglm2-6b"),
            ("https://modelscope.cn/models/ZhipuAI/chatglm3-6b/summary", "ZhipuAI/chatglm3-6b"),
            ("https://www.modelscope.cn/ZhipuAI/chatglm3-6b.git", "ZhipuAI/chatglm3-6b"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "chatglm3-6b",
            "./m",
            "../m",
            "a/..",
            "a/b/c",
            "/a/b",
            "a//b",
            "a/b@",
            "a/b@../c",
            "a/b@/c",
            "a b/c",
            "https://example.org/a/b",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn the_commands_have_the_publishers_name_on_each_hub() {
        let commands = |text: &str| Name::parse(Path::new(text)).unwrap().commands();
        let both = |hf: &str, model_scope: &str, name: &str| {
            format!(
                "`hf download {hf} --local-dir {name}` or `modelscope download --model {model_scope} --local_dir {name}`"
            )
        };
        let name = "chatglm3-6b";
        for (org, hf) in [("zai-org", "zai-org"), ("THUDM", "THUDM"), ("ZhipuAI", "zai-org")] {
            let expected = both(&format!("{hf}/{name}"), &format!("ZhipuAI/{name}"), name);
            assert_eq!(commands(&format!("{org}/{name}")), expected);
        }
        assert_eq!(commands("me/tune"), both("me/tune", "me/tune", "tune"));
        assert!(
            commands("me/tune@v2").starts_with("`hf download me/tune --local-dir tune --revision v2` or")
        );
        assert!(commands("ZhipuAI/m@master").ends_with(" --local_dir m --revision master`"));
    }
}
