//! The small files beside the weights that say something about the tokenizer. Reads them; decides nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::input::{self, kind, read_capped};

/// The real vocabularies have 1 and 2.6 MB; in memory, one takes up to 20 times its bytes.
const LARGEST_MODEL: u64 = 4 << 20;
/// GLM-4's `tokenizer.json` has 20 MB, most of it merges.
const LARGEST_JSON: u64 = 24 << 20;
/// Configurations and the authors' Python file have a few kB; parsed, JSON takes up to 16 times its bytes.
const LARGEST_TEXT: u64 = 1 << 20;

/// What a model's folder holds on its tokenizer.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    /// `tokenizer.model` or `tokenizer.json`, where the vocabulary is.
    pub model_file: PathBuf,
    /// Its bytes.
    pub model: Vec<u8>,
    /// `tokenizer_config.json`, empty when absent.
    pub config: TokenizerConfig,
    /// `generation_config.json`, empty when absent.
    pub generation: GenerationConfig,
    /// The authors' tokenizer in Python, which is only looked at as text.
    pub code: Option<String>,
}

/// The used parts of `tokenizer_config.json`.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenizerConfig {
    /// Where it was read from, for error messages.
    pub file: PathBuf,
    /// Where the model came from, a hint at most.
    pub name_or_path: String,
    /// The published chat template; `chat_template.jinja` goes before it.
    pub chat_template: Option<String>,
    /// Tokens that are not in the vocabulary file, by id.
    pub added_tokens: BTreeMap<u32, AddedToken>,
}

/// A token that the vocabulary file does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddedToken {
    /// Its text.
    pub content: String,
    /// It controls the model and is no text.
    pub special: bool,
}

/// The used parts of `generation_config.json`.
#[derive(Clone, Debug, Default)]
pub(super) struct GenerationConfig {
    /// Where it was read from, for error messages.
    pub file: PathBuf,
    /// Tokens that end the text.
    pub eos: Vec<u32>,
    /// Sampling defaults, none when the file does not say.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
}

impl Files {
    /// Reads what there is; only `tokenizer.model`, or else `tokenizer.json`, has to be there.
    pub fn read(dir: &Path) -> Result<Files> {
        let mut model_file = dir.join("tokenizer.model");
        let fast = dir.join("tokenizer.json");
        // A link to nothing counts as there: a download cache that lost a file is no model without it.
        if model_file.symlink_metadata().is_err() && fast.symlink_metadata().is_ok() {
            model_file = fast;
        }
        let largest = if model_file.extension().is_some_and(|kind| kind == "json") {
            LARGEST_JSON
        } else {
            LARGEST_MODEL
        };
        let model = read_capped(&model_file, largest)?.ok_or_else(|| {
            let expected = "tokenizer.model or tokenizer.json: download it too";
            Error::mismatch(dir, "", "no tokenizer", expected)
        })?;
        let mut config = match optional(dir, "tokenizer_config.json")? {
            Some((file, bytes)) => TokenizerConfig::parse(file, &bytes)?,
            None => TokenizerConfig::default(),
        };
        if let Some((file, bytes)) = optional(dir, "chat_template.jinja")? {
            let text = String::from_utf8(bytes).map_err(|_| Error::input(&file, "", "is not UTF-8 text"))?;
            config.chat_template = Some(text);
        }
        let generation = match optional(dir, "generation_config.json")? {
            Some((file, bytes)) => GenerationConfig::parse(file, &bytes)?,
            None => GenerationConfig::default(),
        };
        let code = optional(dir, "tokenization_chatglm.py")?
            .map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Files { model_file, model, config, generation, code })
    }
}

impl TokenizerConfig {
    fn parse(file: PathBuf, bytes: &[u8]) -> Result<TokenizerConfig> {
        let json = input::object(&file, bytes)?;
        let name_or_path = json.get("name_or_path").and_then(Value::as_str).unwrap_or_default().to_owned();
        let chat_template = match json.get("chat_template") {
            None | Some(Value::Null) => None,
            Some(value) => Some(default_template(value).ok_or_else(|| {
                let expected = "a text, or a list with one named \"default\"";
                Error::mismatch(&file, "chat_template", kind(value), expected)
            })?),
        };
        let mut added_tokens = BTreeMap::new();
        match json.get("added_tokens_decoder") {
            None | Some(Value::Null) => {}
            Some(Value::Object(entries)) => {
                for (id, entry) in entries {
                    let (id, token) = added_token(id, entry).ok_or_else(|| {
                        let item = format!("added_tokens_decoder.{id}");
                        Error::mismatch(&file, item, kind(entry), "a token id with its `content`")
                    })?;
                    added_tokens.insert(id, token);
                }
            }
            Some(other) => {
                return Err(Error::mismatch(&file, "added_tokens_decoder", kind(other), "an object"));
            }
        }
        Ok(TokenizerConfig { file, name_or_path, chat_template, added_tokens })
    }
}

impl GenerationConfig {
    fn parse(file: PathBuf, bytes: &[u8]) -> Result<GenerationConfig> {
        let json = input::object(&file, bytes)?;
        let eos = match json.get("eos_token_id") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(ids)) => ids.iter().map(|id| token_id(&file, id)).collect::<Result<_>>()?,
            Some(id) => vec![token_id(&file, id)?],
        };
        let number = |key: &str, most: f64| match json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|number| (0.0..=most).contains(number)) {
                Some(number) => Ok(Some(number)),
                None => Err(Error::mismatch(&file, key, value, format!("a number from 0 to {most}"))),
            },
        };
        let (temperature, top_p) = (number("temperature", 100.0)?, number("top_p", 1.0)?);
        Ok(GenerationConfig { eos, temperature, top_p, file })
    }
}

fn default_template(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(named) => named
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str().map(str::to_owned)),
        _ => None,
    }
}

fn added_token(id: &str, entry: &Value) -> Option<(u32, AddedToken)> {
    let content = entry.get("content")?.as_str()?.to_owned();
    let special = entry.get("special").and_then(Value::as_bool).unwrap_or(false);
    Some((id.parse().ok()?, AddedToken { content, special }))
}

fn token_id(file: &Path, value: &Value) -> Result<u32> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| Error::mismatch(file, "eos_token_id", value, "a token id or a list of them"))
}

fn optional(dir: &Path, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>> {
    let file = dir.join(name);
    Ok(read_capped(&file, LARGEST_TEXT)?.map(|bytes| (file, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<TokenizerConfig> {
        TokenizerConfig::parse(PathBuf::from("tokenizer_config.json"), text.as_bytes())
    }

    #[test]
    fn a_template_is_a_text_or_the_default_of_a_list() {
        assert_eq!(config(r#"{"chat_template": "a"}"#).unwrap().chat_template.as_deref(), Some("a"));
        let list =
            r#"{"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}"#;
        assert_eq!(config(list).unwrap().chat_template.as_deref(), Some("d"));
        assert_eq!(config("{}").unwrap().chat_template, None);
    }

    #[test]
    fn wrong_kinds_are_refused_with_their_key() {
        for (text, message) in [
            ("[]", "tokenizer_config.json: found a list, expected a JSON object"),
            ("{", "tokenizer_config.json: is not valid JSON: EOF while parsing an object at line 1 column 1"),
            (
                r#"{"chat_template": 1}"#,
                "tokenizer_config.json: chat_template: found a number, expected a text, or a list with one named \"default\"",
            ),
            (
                r#"{"added_tokens_decoder": {"-1": {"content": "x"}}}"#,
                "tokenizer_config.json: added_tokens_decoder.-1: found an object, expected a token id with its `content`",
            ),
        ] {
            assert_eq!(config(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn generation_defaults_are_numbers_within_reason() {
        let parse = |text: &str| GenerationConfig::parse(PathBuf::from("g.json"), text.as_bytes());
        let good = parse(r#"{"eos_token_id": [2, 3], "temperature": 0.5, "top_p": null}"#).unwrap();
        assert_eq!((good.eos, good.temperature, good.top_p), (vec![2, 3], Some(0.5), None));
        assert_eq!(parse(r#"{"eos_token_id": 2}"#).unwrap().eos, [2]);
        for bad in [r#"{"temperature": "warm"}"#, r#"{"top_p": 1.5}"#, r#"{"eos_token_id": -1}"#] {
            assert!(matches!(parse(bad), Err(Error::Input { .. })), "{bad}");
        }
    }

    #[test]
    fn pointers_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.model");
        std::fs::write(&path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n").unwrap();
        assert!(Files::read(dir.path()).unwrap_err().to_string().contains("Git LFS pointer"));
    }
}
