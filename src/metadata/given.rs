//! What the user says of the metadata: `--metadata FILE` and `--override-kv`, as llama.cpp's tools take them.

use std::path::Path;

use serde_json::Value as Json;

use super::card::sources;
use crate::error::{Error, Result, shortened};
use crate::gguf::{Metadata, Value};
use crate::input::{self, read_capped};

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
    let bytes = read_capped(file, MAX_BYTES)?.ok_or_else(|| Error::input(file, "", "no such file"))?;
    let mut keys = Metadata::new();
    for (key, value) in &input::object(file, &bytes)? {
        let Some((_, kind)) = KEYS.iter().find(|(known, _)| known == key) else {
            return Err(unknown(file, key));
        };
        let read = kind.read(key, value);
        let found = || shortened(&value.to_string(), 60);
        keys.extend(read.ok_or_else(|| Error::mismatch(file, key, found(), kind.expected()))?);
    }
    Ok(keys)
}

/// The key that was meant, where another one ends like it, or else all there are.
fn unknown(file: &Path, key: &str) -> Error {
    let meant =
        KEYS.iter().find(|(known, _)| known.strip_suffix(key).is_some_and(|start| start.ends_with('.')));
    match meant {
        Some((meant, _)) => Error::input(file, key, format!("found an unknown key, did you mean {meant}?")),
        None => {
            let known = KEYS.map(|(known, _)| known).join(", ");
            Error::mismatch(file, key, "an unknown key", format!("one of {known}"))
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

/// Keys that the file's own bytes rest on, or say what made it.
const FIXED: [&str; 4] = ["general.alignment", "general.architecture", "split.", "glm2llama."];

/// Puts one `KEY=TYPE:VALUE` of `--override-kv` in the place of what `keys` has, or beside it.
///
/// # Errors
/// When it cannot be read, does not fit the type of the value that the key has, or the key must not change.
pub fn override_kv(keys: &mut Metadata, text: &str) -> Result<()> {
    let wrong = |found: &str, expected: &str| {
        Error::Usage(format!("--override-kv {}: found {found}, expected {expected}", shortened(text, 100)))
    };
    let known = "KEY=TYPE:VALUE with the type int, float, bool or str";
    let (key, typed) = text.split_once('=').ok_or_else(|| wrong("no `=`", known))?;
    let (kind, value) = typed.split_once(':').ok_or_else(|| wrong("no `:`", known))?;
    let bad_key = |expected: &str| Err(wrong(&format!("the key `{}`", shortened(key, 100)), expected));
    if FIXED.iter().any(|fixed| key == *fixed || (fixed.ends_with('.') && key.starts_with(fixed))) {
        return bad_key("one that may be changed");
    }
    let in_snake_case = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    if key.is_empty() || !key.chars().all(in_snake_case) {
        return bad_key("small letters, digits, _ and .");
    }
    let old = keys.iter().find(|(other, _)| other == key).map(|(_, old)| old);
    if let Some(old) = old.filter(|old| type_name(old) != kind && TYPES.contains(&kind)) {
        return Err(wrong(kind, type_name(old)));
    }
    let bad = |expected: &str| wrong(&format!("`{}`", shortened(value, 100)), expected);
    let value = match kind {
        "int" => integer(value, old).map_err(|expected| bad(&expected))?,
        "float" => {
            let number = value.parse().ok().filter(|number: &f32| number.is_finite());
            Value::F32(number.ok_or_else(|| bad("a finite number that fits F32"))?)
        }
        "bool" => Value::Bool(value.parse().map_err(|_| bad("true or false"))?),
        "str" => Value::String(value.to_owned()),
        _ => return Err(wrong(&format!("the type `{}`", shortened(kind, 100)), known)),
    };
    super::set(keys, vec![(key.to_owned(), value)]);
    Ok(())
}

/// Takes the type of the value that is replaced, or else 32 bits without sign as llama.cpp writes, or the first that
/// fits; or says what was expected.
fn integer(text: &str, old: Option<&Value>) -> Result<Value, String> {
    let number: Option<i128> = text.parse().ok();
    let fitted = |kind: &Value| {
        let number = number?;
        match kind {
            Value::U64(_) => number.try_into().map(Value::U64).ok(),
            Value::I32(_) => number.try_into().map(Value::I32).ok(),
            Value::I64(_) => number.try_into().map(Value::I64).ok(),
            _ => number.try_into().map(Value::U32).ok(),
        }
    };
    let range = match old {
        None => {
            let kinds = [Value::U32(0), Value::U64(0), Value::I32(0), Value::I64(0)];
            let first = kinds.iter().find_map(fitted);
            return first.ok_or_else(|| "a whole number of at most 64 bits".to_owned());
        }
        Some(Value::U64(_)) => format!("0 to {} (u64)", u64::MAX),
        Some(Value::I32(_)) => format!("{} to {} (i32)", i32::MIN, i32::MAX),
        Some(Value::I64(_)) => format!("{} to {} (i64)", i64::MIN, i64::MAX),
        Some(_) => format!("0 to {} (u32)", u32::MAX), // no key has fewer bits
    };
    old.and_then(fitted).ok_or_else(|| format!("a whole number from {range}"))
}

const TYPES: [&str; 4] = ["int", "float", "bool", "str"];

/// The types of `--override-kv`.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::U8(_) | Value::I8(_) | Value::U16(_) | Value::I16(_) => "int",
        Value::U32(_) | Value::I32(_) | Value::U64(_) | Value::I64(_) => "int",
        Value::F32(_) | Value::F64(_) => "float",
        Value::Bool(_) => "bool",
        Value::String(_) => "str",
        Value::Strings(_) | Value::F32s(_) | Value::I32s(_) | Value::Array(_) => {
            "a list, which cannot be given here"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Metadata> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, json.as_bytes()).unwrap();
        load(file.path())
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

    #[test]
    fn overrides_replace_values_of_their_type() {
        let mut keys = vec![("a.b".to_owned(), Value::U32(1)), ("l".to_owned(), Value::Strings(vec![]))];
        for text in ["a.b=int:7", "c=float:1e6", "d=bool:true", "e=str:x:y=z", "f=int:-3"] {
            override_kv(&mut keys, text).unwrap();
        }
        let get =
            |key: &str| keys.iter().find(|(other, _)| other == key).map(|(_, value)| value.clone()).unwrap();
        assert_eq!(get("a.b"), Value::U32(7));
        assert_eq!(get("c"), Value::F32(1e6));
        assert_eq!(get("e"), Value::String("x:y=z".to_owned()));
        assert_eq!(get("f"), Value::I32(-3));
        // A value keeps its type, whatever the new one would need.
        override_kv(&mut keys, "f=int:7").unwrap();
        assert_eq!(keys.iter().find(|(key, _)| key == "f").unwrap().1, Value::I32(7));
        let long = format!("a.b=int:{}", "9".repeat(1000));
        let shown = format!("--override-kv a.b=int:{}...: found `{}...`,", "9".repeat(92), "9".repeat(100));
        assert!(override_kv(&mut keys, &long).unwrap_err().to_string().starts_with(&shown));
        let cases = [
            ("a.b", "found no `=`"),
            ("a.b=7", "found no `:`"),
            (
                "a.b=u32:7",
                "found the type `u32`, expected KEY=TYPE:VALUE with the type int, float, bool or str",
            ),
            ("a.b=int:x", "found `x`, expected a whole number"),
            ("d=bool:1", "found `1`, expected true or false"),
            ("a.b=str:x", "found str, expected int"),
            ("l=str:x", "expected a list, which cannot be given here"),
            ("a.b=int:5000000000", "found `5000000000`, expected a whole number from 0 to 4294967295 (u32)"),
            ("a.b=int:-1", "found `-1`, expected a whole number from 0 to 4294967295 (u32)"),
            ("f=int:2147483648", "expected a whole number from -2147483648 to 2147483647 (i32)"),
            ("n=int:18446744073709551616", "expected a whole number of at most 64 bits"),
            ("c=float:inf", "found `inf`, expected a finite number that fits F32"),
            ("n=float:NaN", "found `NaN`, expected a finite number that fits F32"),
            ("n=float:1e300", "found `1e300`, expected a finite number that fits F32"),
            ("a-b=int:1", "found the key `a-b`, expected small letters, digits, _ and ."),
            ("=int:1", "found the key ``, expected small letters, digits, _ and ."),
            (
                "general.alignment=int:64",
                "found the key `general.alignment`, expected one that may be changed",
            ),
            ("split.count=int:2", "found the key `split.count`, expected one that may be changed"),
            (
                "glm2llama.version=str:x",
                "found the key `glm2llama.version`, expected one that may be changed",
            ),
        ];
        for (text, expected) in cases {
            let error = override_kv(&mut keys, text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
    }
}
