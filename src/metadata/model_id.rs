//! `organisation/model-name` -> the parts that llama.cpp's converter makes of it, by its rules.

use std::sync::LazyLock;

use regex::Regex;

/// The parts of a model's or data set's id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModelId {
    pub(super) name: Option<String>,
    pub(super) organization: Option<String>,
    pub(super) version: Option<String>,
    pub(super) repo_url: Option<String>,
}

const HUB: &str = "https://huggingface.co/";

impl ModelId {
    /// Takes an id apart, or the address of a repository.
    pub(super) fn new(text: &str) -> ModelId {
        if ["http://", "https://", "ssh://"].iter().any(|scheme| text.starts_with(scheme)) {
            let id = text.strip_prefix(HUB).filter(|id| id.split('/').count() == 2 && !id.ends_with('/'));
            let parts = id.map(ModelId::parts).unwrap_or_default();
            return ModelId { repo_url: Some(text.to_owned()), ..parts };
        }
        let parts = ModelId::parts(text);
        let known = parts.organization.is_some();
        ModelId { repo_url: known.then(|| format!("{HUB}{text}")), ..parts }
    }

    fn parts(id: &str) -> ModelId {
        if id.contains(' ') {
            return ModelId { name: Some(title(id)), ..ModelId::default() };
        }
        let (organization, model) = match id.split_once('/') {
            Some((organization, model)) => (Some(organization), model),
            None => (None, id),
        };
        // A path is no organisation.
        let organization = organization.filter(|name| !name.is_empty() && !name.starts_with('.'));
        ModelId {
            name: Some(title(model)),
            organization: organization.map(title),
            version: version(model),
            repo_url: None,
        }
    }
}

/// Spaces for hyphens, and a capital for each word in small letters that is no number or version.
fn title(text: &str) -> String {
    let spaced = text.trim().replace('-', " ");
    let words = spaced.split_whitespace().map(|word| {
        let small = word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase);
        if small && !NUMBER.is_match(word) { capitals(word) } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A capital at the start and after anything that is no letter.
fn capitals(word: &str) -> String {
    let mut after_letter = false;
    let capital = |c: char| {
        let next: String = if after_letter { c.to_string() } else { c.to_uppercase().collect() };
        after_letter = c.is_alphabetic();
        next
    };
    word.chars().map(capital).collect()
}

/// The parts of the name that are versions, but not those within its base name: `glm-4-9b` has none.
fn version(model: &str) -> Option<String> {
    let parts: Vec<&str> = model.split('-').filter(|part| !part.is_empty()).collect();
    let is_version = |part: &str| VERSION.is_match(part);
    let is_known = |i: usize, part: &str| FORMAT.is_match(part) || (i > 0 && SIZE.is_match(part));
    let in_base_name = |(i, part): (usize, &&str)| {
        is_version(part) || (!is_known(i, part) && part.starts_with(char::is_alphabetic))
    };
    let mut base = parts.iter().enumerate().take_while(|&part| in_base_name(part)).count();
    if base == parts.len() {
        // Nothing follows the base name: the versions at its end are the model's.
        base -= parts.iter().rev().take_while(|part| is_version(part)).count();
    }
    let versions: Vec<&str> = parts.into_iter().skip(base).filter(|part| is_version(part)).collect();
    (!versions.is_empty()).then(|| versions.join("-"))
}

// Each is for a whole word, and compiled once: a card may name many models.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| regex(r"^(?:v\d+(\.\d+)*|\d.*)$"));
static VERSION: LazyLock<Regex> = LazyLock::new(|| regex(r"^(?i)(v|iter)?\d+([.]\d+)*$"));
static FORMAT: LazyLock<Regex> = LazyLock::new(|| regex(r"^(?i)(?:i?q\d(_\w)*|b?fp?(16|32))$"));
static SIZE: LazyLock<Regex> = LazyLock::new(|| {
    let size = "([a]|\\d+x)?\\d+([._]\\d+)?[kmbt]\\d?";
    regex(&format!("^(?i)(?:{size}|small|mini|medium|large|x?xl|chat|instruct|vision|lora)$"))
});

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid expression")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_apart_as_by_llama_cpps_converter() {
        // name, organization and version by gguf-py 0.19's Metadata.get_model_id_components and id_to_title
        for (id, name, organization, version) in CASES {
            let found = ModelId::new(id);
            let parts = (found.name.as_deref(), found.organization.as_deref(), found.version.as_deref());
            assert_eq!(parts, (Some(name), organization, version), "{id}");
        }
        assert_eq!(
            ModelId::new("THUDM/chatglm3-6b").repo_url.unwrap(),
            "https://huggingface.co/THUDM/chatglm3-6b"
        );
        assert_eq!(ModelId::new("./models/mine").repo_url, None);
        let address = ModelId::new("https://example.com/x/y");
        assert_eq!(
            address,
            ModelId { repo_url: Some("https://example.com/x/y".to_owned()), ..ModelId::default() }
        );
    }

    type Case = (&'static str, &'static str, Option<&'static str>, Option<&'static str>);

    const CASES: [Case; 13] = [
        ("THUDM/chatglm3-6b", "Chatglm3 6b", Some("THUDM"), None),
        ("zai-org/glm-4-9b-chat", "Glm 4 9b Chat", Some("Zai Org"), None),
        ("mistralai/Mistral-7B-Instruct-v0.2", "Mistral 7B Instruct v0.2", Some("Mistralai"), Some("v0.2")),
        ("THUDM/glm-4", "Glm 4", Some("THUDM"), Some("4")),
        ("my-lora", "My Lora", None, None),
        ("meta-llama/Llama-2-7b-hf", "Llama 2 7b Hf", Some("Meta Llama"), None),
        ("./models/mine", "Models/Mine", None, None),
        ("A Sentence Name", "A Sentence Name", None, None),
        ("Qwen/Qwen1.5-0.5B-Chat", "Qwen1.5 0.5B Chat", Some("Qwen"), None),
        ("foo/bar-v2-chat-v3", "Bar v2 Chat v3", Some("Foo"), Some("v3")),
        ("v2-model", "v2 Model", None, None),
        ("x/codegeex2-6b", "Codegeex2 6b", Some("X"), None),
        ("org/iter3-abc-q4_0", "Iter3 Abc Q4_0", Some("Org"), None),
    ];
}
