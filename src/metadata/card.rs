//! The model card, `README.md`: what it says of licence, origin and language, under the keys of llama.cpp's converter.
//!
//! What the model is called and how large it is stays with [`crate::model_name`].

use std::collections::BTreeMap;
use std::path::Path;

use super::front_matter::{self, Field};
use super::model_id::ModelId;
use crate::gguf::{Metadata, Value};
use crate::input::read_beginning;

/// A card with pictures in it may be large; its head is not, and no more is read.
const MAX_BYTES: u64 = 1 << 20;
/// Items of a list that are taken: real cards have up to 30 languages or data sets.
const MAX_ITEMS: usize = 64;

/// Texts: keys of the card, the first that is there counts, and the key of the GGUF.
const TEXTS: [(&[&str], &str); 10] = [
    (&["author", "model_author", "model_creator"], "general.author"),
    (&["version", "model_version"], "general.version"),
    (&["organization", "model_organization"], "general.organization"),
    (&["description", "model_description"], "general.description"),
    (&["url", "model_url"], "general.source.url"),
    (&["doi", "model_doi"], "general.source.doi"),
    (&["uuid", "model_uuid"], "general.source.uuid"),
    (&["repo_url", "model_repo_url"], "general.source.repo_url"),
    (&["license_name"], "general.license.name"),
    (&["license_link"], "general.license.link"),
];

/// Lists, each of several keys of the card.
const LISTS: [(&[&str], &str); 2] =
    [(&["tags", "pipeline_tag"], "general.tags"), (&["languages", "language"], "general.languages")];

/// Lists of models and data sets, which are taken apart.
const SOURCES: [(&[&str], &str); 2] = [
    (&["base_model", "base_models", "base_model_sources"], "general.base_model"),
    (&["datasets", "dataset", "dataset_sources"], "general.dataset"),
];

/// What was taken from a model card, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Card {
    /// Keys for the GGUF.
    pub keys: Metadata,
    /// What could not be read, in one line.
    pub warning: Option<String>,
}

impl Card {
    /// Reads `README.md` in the folder, if there is one. No card is worth failing for.
    pub fn load(folder: &Path) -> Card {
        let file = folder.join("README.md");
        let warn = |problem: String| Card {
            warning: Some(format!("{}: is not used: {problem}", file.display())),
            ..Card::default()
        };
        let bytes = match read_beginning(&file, MAX_BYTES) {
            Ok(None) => return Card::default(),
            Ok(Some(bytes)) => bytes,
            Err(error) => {
                return Card { warning: Some(format!("{error}, so it is not used")), ..Card::default() };
            }
        };
        match front_matter::parse(&String::from_utf8_lossy(&bytes)) {
            Ok(None) => Card::default(),
            Ok(Some(fields)) => Card { keys: keys(&fields), warning: None },
            Err(problem) => warn(problem),
        }
    }
}

fn keys(fields: &BTreeMap<String, Field>) -> Metadata {
    let mut keys = Metadata::new();
    let text = |names: &[&str]| {
        names.iter().find_map(|name| match fields.get(*name) {
            Some(Field::Text(text)) => Some(text.clone()),
            _ => None,
        })
    };
    for (names, key) in TEXTS {
        keys.extend(text(names).map(|text| (key.to_owned(), Value::String(text))));
    }
    let licenses = texts(fields.get("license")).join(",");
    if !licenses.is_empty() {
        keys.push(("general.license".to_owned(), Value::String(licenses)));
    }
    for (names, key) in LISTS {
        let all: Vec<String> = names.iter().flat_map(|name| texts(fields.get(*name))).collect();
        if !all.is_empty() {
            keys.push((key.to_owned(), Value::Strings(all)));
        }
    }
    for (names, key) in SOURCES {
        let ids = names.iter().map(|name| texts(fields.get(*name))).find(|ids| !ids.is_empty());
        keys.extend(ids.into_iter().flat_map(|ids| sources(key, ids.iter().map(|id| parts(id)).collect())));
    }
    keys
}

fn texts(field: Option<&Field>) -> Vec<String> {
    match field {
        Some(Field::Text(text)) => vec![text.clone()],
        Some(Field::List(items)) => items.iter().take(MAX_ITEMS).cloned().collect(),
        Some(Field::Empty | Field::Other) | None => Vec::new(),
    }
}

fn parts(id: &str) -> Vec<(&'static str, String)> {
    let ModelId { name, organization, version, repo_url } = ModelId::new(id);
    let parts =
        [("name", name), ("version", version), ("organization", organization), ("repo_url", repo_url)];
    parts.into_iter().filter_map(|(part, text)| Some((part, text?))).collect()
}

/// `general.base_model.count`, `general.base_model.0.name` and so on.
pub(super) fn sources(key: &str, entries: Vec<Vec<(&str, String)>>) -> Metadata {
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut keys = vec![(format!("{key}.count"), Value::U32(count))];
    for (i, entry) in entries.into_iter().enumerate() {
        keys.extend(entry.into_iter().map(|(part, text)| (format!("{key}.{i}.{part}"), Value::String(text))));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(card: &str) -> Card {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("README.md"), card).unwrap();
        Card::load(folder.path())
    }

    #[test]
    fn a_published_card_gives_the_keys_of_llama_cpps_converter() {
        let card = load(
            "---\nlicense: other\nlicense_name: glm-4\nlicense_link: LICENSE\nlanguage:\n- zh\n- en\ntags:\n- glm\n\
             inference: false\npipeline_tag: text-generation\nbase_model: THUDM/glm-4-9b\ndatasets: [a/b]\n---\n# GLM\n",
        );
        let text = |key: &str, text: &str| (key.to_owned(), Value::String(text.to_owned()));
        let list =
            |key: &str, items: [&str; 2]| (key.to_owned(), Value::Strings(items.map(str::to_owned).to_vec()));
        let expected = vec![
            text("general.license.name", "glm-4"),
            text("general.license.link", "LICENSE"),
            text("general.license", "other"),
            list("general.tags", ["glm", "text-generation"]),
            list("general.languages", ["zh", "en"]),
            ("general.base_model.count".to_owned(), Value::U32(1)),
            text("general.base_model.0.name", "Glm 4 9b"),
            text("general.base_model.0.organization", "THUDM"),
            text("general.base_model.0.repo_url", "https://huggingface.co/THUDM/glm-4-9b"),
            ("general.dataset.count".to_owned(), Value::U32(1)),
            text("general.dataset.0.name", "B"),
            text("general.dataset.0.organization", "A"),
            text("general.dataset.0.repo_url", "https://huggingface.co/a/b"),
        ];
        assert_eq!(card, Card { keys: expected, warning: None });
    }

    #[test]
    fn only_the_head_is_read_and_only_the_start_of_a_list() {
        let card = load(&format!("---\nlicense: mit\n---\n{}", "# GLM\n".repeat(1 << 18)));
        assert_eq!(card.keys, [("general.license".to_owned(), Value::String("mit".to_owned()))]);
        // A list as long as the head: done at once.
        let ids = "a/b-7b,".repeat(140_000);
        let card = load(&format!("---\nbase_model: [{ids}]\n---\n"));
        assert_eq!(card.keys[0], ("general.base_model.count".to_owned(), Value::U32(64)));
        assert_eq!(card.keys.len(), 1 + 64 * 3);
    }

    #[test]
    fn a_broken_card_is_a_warning_and_none_is_nothing() {
        let card = load("---\nlicense mit\n---\n");
        assert!(card.keys.is_empty());
        assert!(card.warning.unwrap().contains("README.md: is not used: line 2: found \"license mit\""));
        assert_eq!(load("# Only text\n"), Card::default());
        assert_eq!(Card::load(Path::new("no/such/folder")), Card::default());
    }
}
