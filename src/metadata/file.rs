//! The file of `--metadata`, as llama.cpp's converter takes it.

use std::path::Path;

use serde_json::Value as Json;

use super::card::sources;
use crate::error::{InFile, Problem, Result, shortened};
use crate::gguf::{Metadata, Value};
use crate::input;

const MAX_BYTES: u64 = 1 << 20;

/// What a value of the file is to be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Float,
    Integer,
    /// A list of objects, each a model or data set.
    Sources(&'static str),
}

const KEYS: [(&str, Kind); 37] = [
    ("general.name", Kind::Text),
    ("general.author", Kind::Text),
    ("general.version", Kind::Text),
    ("general.organization", Kind::Text),
    ("general.finetune", Kind::Text),
    ("general.basename", Kind::Text),
    ("general.description", Kind::Text),
    ("general.quantized_by", Kind::Text),
    ("general.size_label", Kind::Text),
    ("general.license", Kind::Text),
    ("general.license.name", Kind::Text),
    ("general.license.link", Kind::Text),
    ("general.url", Kind::Text),
    ("general.doi", Kind::Text),
    ("general.uuid", Kind::Text),
    ("general.repo_url", Kind::Text),
    ("general.source.url", Kind::Text),
    ("general.source.doi", Kind::Text),
    ("general.source.uuid", Kind::Text),
    ("general.source.repo_url", Kind::Text),
    ("general.tags", Kind::Texts),
    ("general.languages", Kind::Texts),
    ("general.base_models", Kind::Sources("general.base_model")),
    ("general.datasets", Kind::Sources("general.dataset")),
    ("general.sampling.sequence", Kind::Text),
    ("general.sampling.top_k", Kind::Integer),
    ("general.sampling.top_p", Kind::Float),
    ("general.sampling.min_p", Kind::Float),
    ("general.sampling.xtc_probability", Kind::Float),
    ("general.sampling.xtc_threshold", Kind::Float),
    ("general.sampling.temp", Kind::Float),
    ("general.sampling.penalty_last_n", Kind::Integer),
    ("general.sampling.penalty_repeat", Kind::Float),
    ("general.sampling.mirostat", Kind::Integer),
    ("general.sampling.mirostat_tau", Kind::Float),
    ("general.sampling.mirostat_eta", Kind::Float),
    ("general.type", Kind::Text),
];

/// What a model or data set of a list may say.
const SOURCE_PARTS: [&str; 9] =
    ["name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url"];

/// Reads the file of `--metadata`: JSON, one object of `general.` keys.
///
/// # Errors
/// When it is absent or no such object, or has a key or value that llama.cpp's converter does not know.
pub fn load(file: &Path) -> Result<Metadata> {
    parse(&input::read(file, MAX_BYTES)?).in_file(file)
}

fn parse(bytes: &[u8]) -> Result<Metadata, Problem> {
    let mut keys = Metadata::new();
    for (key, value) in &input::object(bytes)? {
        let Some((_, kind)) = KEYS.iter().find(|(known, _)| known == key) else {
            return Err(unknown(key));
        };
        let read = kind.read(key, value);
        let found = || shortened(&value.to_string(), 60);
        keys.extend(read.ok_or_else(|| Problem::mismatch(key, found(), kind.expected()))?);
    }
    Ok(keys)
}

/// The key that was meant, where another one ends like it, or else all there are.
fn unknown(key: &str) -> Problem {
    let meant =
        KEYS.iter().find(|(known, _)| known.strip_suffix(key).is_some_and(|start| start.ends_with('.')));
    match meant {
        Some((meant, _)) => Problem::new(key, format!("found an unknown key, did you mean {meant}?")),
        None => {
            let known = KEYS.map(|(known, _)| known).join(", ");
            Problem::mismatch(key, "an unknown key", format!("one of {known}"))
        }
    }
}

impl Kind {
    fn expected(self) -> String {
        match self {
            Kind::Text => "a text".to_owned(),
            Kind::Texts => "a list of texts".to_owned(),
            Kind::Float => "a number that fits F32".to_owned(),
            Kind::Integer => "a whole number".to_owned(),
            Kind::Sources(_) => format!("a list of objects with texts for {}", SOURCE_PARTS.join(", ")),
        }
    }

    fn read(self, key: &str, value: &Json) -> Option<Metadata> {
        let text = |value: &Json| value.as_str().map(str::to_owned);
        let value = match self {
            Kind::Text => Value::String(text(value)?),
            Kind::Texts => Value::Strings(value.as_array()?.iter().map(text).collect::<Option<_>>()?),
            Kind::Float => Value::F32(Some(value.as_f64()? as f32).filter(|number| number.is_finite())?),
            Kind::Integer => Value::I32(value.as_i64()?.try_into().ok()?),
            Kind::Sources(key) => {
                let entry = |value: &Json| {
                    let known = |(part, value): (&String, &Json)| {
                        let part = SOURCE_PARTS.into_iter().find(|known| known == part)?;
                        Some((part, text(value)?))
                    };
                    value.as_object()?.iter().map(known).collect::<Option<Vec<_>>>()
                };
                let entries = value.as_array()?.iter().map(entry).collect::<Option<Vec<_>>>()?;
                return Some(sources(key, entries));
            }
        };
        Some(vec![(key.to_owned(), value)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Metadata> {
        parse(json.as_bytes()).in_file(Path::new("m.json"))
    }

    #[test]
    fn a_metadata_file_gives_typed_keys() {
        let keys = read(
            r#"{"general.tags": ["a", "b"], "general.base_models": [{"name": "X", "repo_url": "u"}],
                "general.sampling.top_k": 40, "general.sampling.temp": 0.5, "general.license": "mit"}"#,
        );
        let text = |text: &str| Value::String(text.to_owned());
        let mut keys = keys.unwrap();
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [
            ("general.base_model.0.name", text("X")),
            ("general.base_model.0.repo_url", text("u")),
            ("general.base_model.count", Value::U32(1)),
            ("general.license", text("mit")),
            ("general.sampling.temp", Value::F32(0.5)),
            ("general.sampling.top_k", Value::I32(40)),
            ("general.tags", Value::Strings(vec!["a".to_owned(), "b".to_owned()])),
        ];
        assert_eq!(keys, expected.map(|(key, value)| (key.to_owned(), value)));
    }

    #[test]
    fn what_is_wrong_in_a_metadata_file_is_named() {
        let cases = [
            ("[]", "found a list, expected a JSON object"),
            (r#"{"name": "x"}"#, "name: found an unknown key, did you mean general.name?"),
            (r#"{"top_k": 1}"#, "top_k: found an unknown key, did you mean general.sampling.top_k?"),
            (r#"{"general.sampling.temp": 1e300}"#, "found 1e+300, expected a number that fits F32"),
            ("{", "is not valid JSON"),
            (
                r#"{"general.licence": "mit"}"#,
                "general.licence: found an unknown key, expected one of general.name",
            ),
            (r#"{"general.tags": "a"}"#, "general.tags: found \"a\", expected a list of texts"),
            (r#"{"general.sampling.top_k": 1.5}"#, "found 1.5, expected a whole number"),
            (r#"{"general.datasets": [{"id": "x"}]}"#, "expected a list of objects with texts for name"),
        ];
        for (json, expected) in cases {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
    }
}
