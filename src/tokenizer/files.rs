//! The small files beside the weights that say something about the tokenizer. Reads them; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_json::value::RawValue;

use super::added::{self, AddedToken, AddedTokens};
use crate::bounded::{List, Map};
use crate::error::{Error, InFile, Problem, Result};
use crate::input::{self, read_capped};

/// The real vocabularies have 1 and 2.6 MB; in memory, one takes up to 20 times its bytes.
const LARGEST_MODEL: u64 = 4 << 20;
/// GLM-4's `tokenizer.json` has 20 MB, most of it merges.
const LARGEST_JSON: u64 = 24 << 20;
/// Configurations and the authors' Python file have a few kB; parsed, JSON takes up to 16 times its bytes.
const LARGEST_TEXT: u64 = 1 << 20;
/// `glm-4-voice` has 16,402 added tokens in 3.2 MB. Of these files only what is used is built in memory.
const LARGEST_TOKENS: u64 = 4 << 20;
/// Chat templates of one model.
const MOST_TEMPLATES: usize = 64;

/// What a model's folder holds on its tokenizer.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    /// `tokenizer.model` or `tokenizer.json`, where the vocabulary is.
    pub model_file: PathBuf,
    /// Its bytes.
    pub model: Vec<u8>,
    /// `tokenizer_config.json`, empty when absent.
    pub config: TokenizerConfig,
    /// Tokens that are not in the vocabulary file.
    pub added: AddedTokens,
    /// The text that ends a text, as each file names it that does.
    pub end_names: Vec<(&'static str, String)>,
    /// `generation_config.json`, empty when absent.
    pub generation: GenerationConfig,
    /// `eos_token_id` in `config.json`, for want of one in `generation_config.json`.
    pub config_eos: Vec<u32>,
    /// The authors' tokenizer in Python, which is only looked at as text.
    pub code: Option<String>,
}

/// The used parts of `tokenizer_config.json`.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenizerConfig {
    /// Where the model came from, a hint at most.
    pub name_or_path: String,
    /// The folder's chat template.
    pub chat_template: Option<OwnTemplate>,
    /// `added_tokens_decoder`, by id.
    added_tokens: BTreeMap<u32, AddedToken>,
    /// The texts of the special tokens that it names.
    named: BTreeSet<String>,
    /// The end of texts among them.
    end: Option<String>,
}

/// A chat template that comes with the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnTemplate {
    /// Jinja.
    pub text: String,
    /// The file, and which one of several it is.
    pub source: String,
}

/// The used parts of `generation_config.json`.
#[derive(Clone, Debug, Default)]
pub(super) struct GenerationConfig {
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
        let [model, json] = ["tokenizer.model", "tokenizer.json"].map(|name| dir.join(name));
        // A link to nothing counts as there: a download cache that lost a file is no model without it.
        let [model_is_there, json_is_there] = [&model, &json].map(|file| input::is_there(file));
        let is_json = !model_is_there && json_is_there;
        let (model_file, largest) = if is_json { (json, LARGEST_JSON) } else { (model, LARGEST_MODEL) };
        let model = read_capped(&model_file, largest)?.ok_or_else(|| {
            let expected = "tokenizer.model or tokenizer.json: download it too";
            Error::file_mismatch(dir, "no tokenizer", expected)
        })?;
        let mut config = parsed(dir, "tokenizer_config.json", LARGEST_TOKENS, TokenizerConfig::parse)?;
        if let Some(own) = parsed(dir, "chat_template.jinja", LARGEST_TEXT, jinja_file)? {
            config.chat_template = Some(own);
        }
        // Where transformers' processors of before 2025 keep it, which read the two others first.
        if config.chat_template.is_none() {
            config.chat_template = parsed(dir, "chat_template.json", LARGEST_TEXT, template_json)?;
        }
        let generation = parsed(dir, "generation_config.json", LARGEST_TEXT, GenerationConfig::parse)?;
        let code = read_capped(&dir.join("tokenization_chatglm.py"), LARGEST_TEXT)?;
        let code = code.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let config_eos = parsed(dir, "config.json", LARGEST_TEXT, config_ends)?;
        let (added, end_names) = added_tokens(&model_file, &mut config)?;
        Ok(Files { model_file, model, config, added, end_names, generation, config_eos, code })
    }
}

impl TokenizerConfig {
    fn parse(bytes: &[u8]) -> Result<TokenizerConfig, Problem> {
        let json = added::object(bytes)?;
        let given = |key: &str| json.get(key).copied().filter(|value| value.get() != "null");
        let name = given("name_or_path").and_then(|value| serde_json::from_str(value.get()).ok());
        let chat_template = match given("chat_template") {
            None => None,
            Some(value) => Some(own_template("tokenizer_config.json", Some(value))?),
        };
        let added_tokens = match given("added_tokens_decoder") {
            None => BTreeMap::new(),
            Some(value) => added::decoder(value)?,
        };
        let (named, end) = (added::named(&json), added::end(&json));
        let name_or_path = name.unwrap_or_default();
        Ok(TokenizerConfig { name_or_path, chat_template, added_tokens, named, end })
    }
}

/// What the three files say together, and what two of them name as the end of texts.
fn added_tokens(
    model_file: &Path,
    config: &mut TokenizerConfig,
) -> Result<(AddedTokens, Vec<(&'static str, String)>)> {
    const MAP: &str = "special_tokens_map.json";
    let dir = model_file.parent().unwrap_or(Path::new(""));
    let mut named = std::mem::take(&mut config.named);
    let mut ends: Vec<_> = config.end.take().map(|end| ("tokenizer_config.json", end)).into_iter().collect();
    let file = dir.join(MAP);
    if let Some(bytes) = read_capped(&file, LARGEST_TOKENS)? {
        let json = added::object(&bytes).in_file(&file)?;
        named.extend(added::named(&json));
        ends.extend(added::end(&json).map(|end| (MAP, end)));
    }
    let texts = parsed(dir, "added_tokens.json", LARGEST_TOKENS, added::texts)?;
    let added = AddedTokens::new(std::mem::take(&mut config.added_tokens), texts, named);
    Ok((added.map_err(|wrong| wrong.beside(model_file))?, ends))
}

impl GenerationConfig {
    fn parse(bytes: &[u8]) -> Result<GenerationConfig, Problem> {
        let json = input::object(bytes)?;
        let eos = ends(json.get("eos_token_id"))?;
        let number = |key: &str, most: f64| match json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|number| (0.0..=most).contains(number)) {
                Some(number) => Ok(Some(number)),
                None => Err(Problem::mismatch(key, value, format!("a number from 0 to {most}"))),
            },
        };
        let (temperature, top_p) = (number("temperature", 100.0)?, number("top_p", 1.0)?);
        Ok(GenerationConfig { eos, temperature, top_p })
    }
}

#[derive(serde::Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

fn jinja_file(bytes: &[u8]) -> Result<Option<OwnTemplate>, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::new("", "is not UTF-8 text"))?;
    Ok(Some(OwnTemplate { text: text.to_owned(), source: "chat_template.jinja".to_owned() }))
}

fn template_json(bytes: &[u8]) -> Result<Option<OwnTemplate>, Problem> {
    own_template("chat_template.json", added::object(bytes)?.get("chat_template").copied()).map(Some)
}

/// A text, or the default of several texts with names: a list of them, or an object.
fn own_template(source: &str, value: Option<&RawValue>) -> Result<OwnTemplate, Problem> {
    let default = |mut texts: BTreeMap<String, String>| {
        let source = format!("{source}: \"default\" of the {} it has", texts.len());
        Some(OwnTemplate { text: texts.remove("default")?, source })
    };
    let json = value.map_or("", RawValue::get);
    let found = match json.bytes().next() {
        Some(b'"') => {
            serde_json::from_str(json).ok().map(|text| OwnTemplate { text, source: source.to_owned() })
        }
        Some(b'{') => {
            serde_json::from_str::<Map<String, MOST_TEMPLATES>>(json).ok().and_then(|map| default(map.0))
        }
        _ => serde_json::from_str::<List<NamedTemplate, MOST_TEMPLATES>>(json)
            .ok()
            .and_then(|list| default(list.0.into_iter().map(|entry| (entry.name, entry.template)).collect())),
    };
    found.ok_or_else(|| {
        let expected = "a text, or a list with one named \"default\"";
        Problem::mismatch("chat_template", value.map_or("nothing", added::kind), expected)
    })
}

fn config_ends(bytes: &[u8]) -> Result<Vec<u32>, Problem> {
    ends(input::object(bytes)?.get("eos_token_id"))
}

fn ends(value: Option<&Value>) -> Result<Vec<u32>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(token_id).collect(),
        Some(id) => Ok(vec![token_id(id)?]),
    }
}

fn token_id(value: &Value) -> Result<u32, Problem> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| Problem::mismatch("eos_token_id", value, "a token id or a list of them"))
}

/// What a file of the folder says; nothing when it is absent.
fn parsed<T: Default>(
    dir: &Path,
    name: &str,
    most: u64,
    parse: fn(&[u8]) -> Result<T, Problem>,
) -> Result<T> {
    let file = dir.join(name);
    read_capped(&file, most)?.map_or(Ok(T::default()), |bytes| parse(&bytes).in_file(&file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<TokenizerConfig> {
        TokenizerConfig::parse(text.as_bytes()).in_file(Path::new("tokenizer_config.json"))
    }

    #[test]
    fn a_template_is_a_text_or_the_default_of_several() {
        let found = |text: &str| config(text).unwrap().chat_template.map(|own| (own.text, own.source));
        let own = |text: &str, source: &str| Some((text.to_owned(), source.to_owned()));
        assert_eq!(found(r#"{"chat_template": "a"}"#), own("a", "tokenizer_config.json"));
        let named = "tokenizer_config.json: \"default\" of the 2 it has";
        for several in [
            r#"[{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]"#,
            r#"{"tool_use": "t", "default": "d"}"#,
        ] {
            assert_eq!(found(&format!("{{\"chat_template\": {several}}}")), own("d", named));
        }
        assert_eq!(found("{}"), None);
        for none in ["[]", "{}", r#"[{"name": "rag", "template": "r"}]"#, r#"{"default": 1}"#] {
            assert!(config(&format!("{{\"chat_template\": {none}}}")).is_err(), "{none}");
        }
    }

    #[test]
    fn a_template_is_looked_for_in_three_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokenizer.model"), "x").unwrap();
        let sources = [
            ("chat_template.json", r#"{"chat_template": "a"}"#, "a"),
            ("tokenizer_config.json", r#"{"chat_template": "b"}"#, "b"),
            ("chat_template.jinja", "c", "c"),
        ];
        for (name, text, expected) in sources {
            std::fs::write(dir.path().join(name), text).unwrap();
            let own = Files::read(dir.path()).unwrap().config.chat_template.unwrap();
            assert_eq!((own.text.as_str(), own.source.as_str()), (expected, name));
        }
        for name in ["tokenizer_config.json", "chat_template.jinja"] {
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("chat_template.json"), "{}").unwrap();
        let error = Files::read(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("chat_template.json: chat_template: found nothing, expected a text, "),
            "{error}"
        );
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
        let parse = |text: &str| GenerationConfig::parse(text.as_bytes());
        let good = parse(r#"{"eos_token_id": [2, 3], "temperature": 0.5, "top_p": null}"#).unwrap();
        assert_eq!((good.eos, good.temperature, good.top_p), (vec![2, 3], Some(0.5), None));
        assert_eq!(parse(r#"{"eos_token_id": 2}"#).unwrap().eos, [2]);
        for bad in [r#"{"temperature": "warm"}"#, r#"{"top_p": 1.5}"#, r#"{"eos_token_id": -1}"#] {
            assert!(parse(bad).is_err(), "{bad}");
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
