//! Tokens that a vocabulary file does not have, from the files that say so: `added_tokens_decoder` in
//! `tokenizer_config.json`, or, as transformers before 4.34 wrote them, `added_tokens.json` with the names of the
//! special ones in `special_tokens_map.json`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde_json::value::RawValue;

use super::{Decision, Subject, TokenType};
use crate::bounded::{List, Map};
use crate::error::{Error, Problem, Result, shortened};
use crate::input;

/// `glm-4-voice` has 16,402.
pub(super) const MOST: usize = 1 << 16;
/// Keys of one of these files; the real ones have some twenty.
const MOST_KEYS: usize = 1 << 12;

/// Parsed as a whole, JSON takes up to 16 times its bytes.
const SMALL: usize = 1 << 20;

/// A token that the vocabulary file does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddedToken {
    /// Its text.
    pub content: String,
    /// It controls the model and is no text.
    pub special: bool,
    /// Where it stands.
    pub source: Source,
}

impl AddedToken {
    /// The type of token that it has in the GGUF.
    pub fn kind(&self) -> TokenType {
        if self.special { TokenType::Control } else { TokenType::UserDefined }
    }
}

/// Who says that there is such a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// `added_tokens_decoder`.
    Decoder,
    /// `added_tokens.json`.
    File,
    /// `tokenizer.json`, which has a list of its own.
    Document,
    /// Nobody: the authors' tokenizer has it there.
    Authors,
}

impl Source {
    /// The file to change when such a token is wrong.
    fn file(self) -> &'static str {
        match self {
            Source::File => "added_tokens.json",
            Source::Document => "tokenizer.json",
            Source::Decoder | Source::Authors => "tokenizer_config.json",
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct AddedTokens {
    /// By id.
    pub by_id: BTreeMap<u32, AddedToken>,
    /// Texts that some file names as special, whether it gives their ids or not.
    pub named: BTreeSet<String>,
    /// What the files contradict each other in.
    pub notes: Vec<Decision>,
}

impl AddedTokens {
    /// From `added_tokens_decoder` and, behind it, the entries of `added_tokens.json`.
    ///
    /// # Errors
    /// When a text is empty or stands there twice, or two texts of the file have one id.
    pub fn new(
        decoder: BTreeMap<u32, AddedToken>,
        file: BTreeMap<String, u32>,
        named: BTreeSet<String>,
    ) -> Result<AddedTokens, Wrong> {
        let mut all = AddedTokens { by_id: decoder, named, notes: Vec::new() };
        let mut ids = HashMap::new();
        for (&id, token) in &all.by_id {
            if let Some(first) = ids.insert(token.content.clone(), id) {
                return Err(all.refused(id, format!("another text: token {first} has this one already")));
            }
        }
        for (content, id) in file {
            let other = match (all.by_id.get(&id), ids.get(&content)) {
                (Some(token), _) if token.content == content => continue,
                (Some(token), _) if token.source == Source::Decoder => Some(format!("{:?}", token.content)),
                (Some(token), _) => {
                    let expected =
                        format!("an id of its own: {} has it too: remove one", shown(&token.content));
                    let found = format!("id {id}");
                    let problem = Problem::mismatch(shown(&content), found, expected);
                    return Err(Wrong::of(Source::File.file(), problem));
                }
                (None, Some(own)) => Some(format!("{content:?} as token {own}")),
                (None, None) => None,
            };
            if let Some(other) = other {
                all.note(format!("{other}, where added_tokens.json has {} as token {id}", shown(&content)));
                continue;
            }
            let special = all.named.contains(&content);
            all.by_id.insert(id, AddedToken { content, special, source: Source::File });
        }
        if let Some((&id, _)) = all.by_id.iter().find(|(_, token)| token.content.is_empty()) {
            return Err(all.refused(id, "some text: remove the entry"));
        }
        Ok(all)
    }

    fn note(&mut self, choice: String) {
        let source = "added_tokens_decoder in tokenizer_config.json".to_owned();
        self.notes.push(Decision { subject: Subject::AddedTokens, choice, source });
    }

    /// How many tokens are from the older of the files, where there are any that the model's own files (`known`) do
    /// not have.
    pub fn older(&self, known: impl Fn(u32, &str) -> bool) -> Option<Decision> {
        let new =
            |(id, token): &(&u32, &AddedToken)| token.source == Source::File && !known(**id, &token.content);
        let count = self.by_id.iter().filter(new).count();
        let source = "added_tokens.json".to_owned();
        (count > 0).then(|| Decision { subject: Subject::AddedTokens, choice: count.to_string(), source })
    }

    /// The first id whose token has this text.
    pub fn id(&self, content: &str) -> Option<u32> {
        self.by_id.iter().find(|(_, token)| token.content == content).map(|(&id, _)| id)
    }

    /// Where the tokens are from, for the report.
    pub fn sources(&self) -> &'static str {
        let any = |source| self.by_id.values().any(|token| token.source == source);
        match (any(Source::Decoder), any(Source::File)) {
            (_, false) => "added_tokens_decoder in tokenizer_config.json",
            (false, true) => "added_tokens.json",
            (true, true) => "added_tokens_decoder in tokenizer_config.json and added_tokens.json",
        }
    }

    /// The token of this id is not what has to be there; the expectation says what to do.
    pub fn refused(&self, id: u32, expected: impl std::fmt::Display) -> Wrong {
        let (content, source) =
            self.by_id.get(&id).map_or(("", Source::Decoder), |token| (&token.content, token.source));
        let (item, found) = match source {
            Source::File => (shown(content), format!("id {id}")),
            Source::Document => ("added_tokens".to_owned(), format!("{} as token {id}", shown(content))),
            Source::Decoder | Source::Authors => (format!("added_tokens_decoder.{id}"), shown(content)),
        };
        Wrong::of(source.file(), Problem::mismatch(item, found, expected))
    }
}

/// A problem of one of the files that a vocabulary is put together from.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    /// The file beside the vocabulary's own; none when it is that one.
    file: Option<&'static str>,
    problem: Problem,
}

impl From<Problem> for Wrong {
    fn from(problem: Problem) -> Wrong {
        Wrong { file: None, problem }
    }
}

impl Wrong {
    /// A problem of another file than the vocabulary's own.
    pub fn of(file: &'static str, problem: Problem) -> Wrong {
        Wrong { file: Some(file), problem }
    }

    /// The error, of the vocabulary's file or of one beside it.
    pub fn beside(self, model_file: &Path) -> Error {
        let file = self.file.map_or_else(|| model_file.to_owned(), |name| model_file.with_file_name(name));
        Error::input(&file, self.problem.item, self.problem.problem)
    }
}

/// A text in quotes, its beginning if it is long.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", shortened(text, 60))
}

/// A file's one JSON object, its values unread: what is in them takes no memory until it is looked for.
pub(super) type Object<'a> = BTreeMap<String, &'a RawValue>;

pub(super) fn object(bytes: &[u8]) -> Result<Object<'_>, Problem> {
    let begins = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if begins != Some(&b'{') && bytes.len() <= SMALL {
        input::object(bytes)?; // says best what else it is
    }
    let value: &RawValue = input::json(bytes, "is not valid JSON")?;
    if !value.get().starts_with('{') {
        return Err(Problem::mismatch("", kind(value), "a JSON object"));
    }
    let Map(map) = input::json::<Map<&RawValue, MOST_KEYS>>(bytes, "is not valid JSON")?;
    Ok(map)
}

/// What a JSON value is, by its first letter.
pub(super) fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[derive(serde::Deserialize)]
struct Entry {
    content: String,
    special: Option<bool>,
}

/// `added_tokens_decoder`.
pub(super) fn decoder(value: &RawValue) -> Result<BTreeMap<u32, AddedToken>, Problem> {
    let item = "added_tokens_decoder";
    if !value.get().starts_with('{') {
        return Err(Problem::mismatch(item, kind(value), "an object"));
    }
    let Map(entries) = serde_json::from_str::<Map<&RawValue, MOST>>(value.get())
        .map_err(|e| Problem::new(item, format!("is not what it should be: {e}")))?;
    let mut tokens = BTreeMap::new();
    for (key, value) in entries {
        let entry: Option<Entry> =
            value.get().starts_with('{').then(|| serde_json::from_str(value.get()).ok()).flatten();
        let (Ok(id), Some(Entry { content, special })) = (key.parse(), entry) else {
            let expected = "a token id with its `content`";
            return Err(Problem::mismatch(format!("{item}.{key}"), kind(value), expected));
        };
        let token = AddedToken { content, special: special.unwrap_or(false), source: Source::Decoder };
        if tokens.insert(id, token).is_some() {
            return Err(Problem::mismatch(format!("{item}.{key}"), "this id again", "each id once"));
        }
    }
    Ok(tokens)
}

/// `added_tokens.json`: texts and their ids.
pub(super) fn texts(bytes: &[u8]) -> Result<BTreeMap<String, u32>, Problem> {
    let Map(texts) = input::json::<Map<u32, MOST>>(bytes, "is no object of texts and their ids")?;
    Ok(texts)
}

/// The texts that `special_tokens_map.json`, or `tokenizer_config.json` among other things, names as special: as
/// texts, or as objects with a `content`.
pub(super) fn named(object: &Object) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (key, value) in object {
        if key.ends_with("_token") {
            named.extend(content(value));
        } else if key == "additional_special_tokens" || key == "extra_special_tokens" {
            if let Ok(List(values)) = serde_json::from_str::<List<&RawValue, MOST>>(value.get()) {
                named.extend(values.into_iter().filter_map(content));
            } else if let Ok(Map(values)) = serde_json::from_str::<Map<&RawValue, MOST>>(value.get()) {
                named.extend(values.into_values().filter_map(content));
            }
        }
    }
    named
}

/// The text that a file names as the end of texts.
pub(super) fn end(object: &Object) -> Option<String> {
    content(object.get("eos_token")?)
}

fn content(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first()? {
        b'"' => serde_json::from_str(value.get()).ok(),
        b'{' => serde_json::from_str::<Entry>(value.get()).ok().map(|entry| entry.content),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(content: &str) -> AddedToken {
        AddedToken { content: content.to_owned(), special: true, source: Source::Decoder }
    }

    fn joined(decoder: &[(u32, &str)], file: &[(&str, u32)]) -> crate::error::Result<AddedTokens> {
        let decoder = decoder.iter().map(|&(id, content)| (id, token(content))).collect();
        let file = file.iter().map(|&(content, id)| (content.to_owned(), id)).collect();
        let joined = AddedTokens::new(decoder, file, ["<b>".to_owned()].into());
        joined.map_err(|wrong| wrong.beside(Path::new("m/tokenizer.model")))
    }

    #[test]
    fn special_tokens_are_named_as_texts_or_as_objects() {
        let json = br#"{"eos_token": "</s>", "pad_token": {"content": "<pad>", "lstrip": false}, "bos_token": null,
            "additional_special_tokens": ["<a>", {"content": "<b>"}, 7], "extra_special_tokens": {"x": "<c>"}, "n": "no"}"#;
        let named = named(&object(json).unwrap());
        assert_eq!(named.iter().collect::<Vec<_>>(), ["</s>", "<a>", "<b>", "<c>", "<pad>"]);
    }

    #[test]
    fn the_decoder_goes_before_the_file_and_contradictions_are_said() {
        let all = joined(&[], &[("<a>", 5), ("<b>", 6)]).unwrap();
        assert_eq!((all.by_id[&5].special, all.by_id[&6].special), (false, true));
        assert!(all.notes.is_empty() && all.sources() == "added_tokens.json");
        let all =
            joined(&[(5, "<x>"), (7, "<c>")], &[("<a>", 5), ("<c>", 9), ("<d>", 8), ("<x>", 5)]).unwrap();
        let texts: Vec<_> = all.by_id.iter().map(|(&id, token)| (id, token.content.as_str())).collect();
        assert_eq!(texts, [(5, "<x>"), (7, "<c>"), (8, "<d>")]);
        assert_eq!(all.older(|_, _| false).unwrap().to_string(), "added tokens: 1, from added_tokens.json");
        assert_eq!(all.older(|id, content| (id, content) == (8, "<d>")), None);
        let notes: Vec<String> = all.notes.iter().map(|note| note.choice.clone()).collect();
        assert_eq!(
            notes,
            [
                "\"<x>\", where added_tokens.json has \"<a>\" as token 5",
                "\"<c>\" as token 7, where added_tokens.json has \"<c>\" as token 9",
            ]
        );
    }

    #[test]
    fn texts_that_are_empty_or_there_twice_are_refused() {
        for (decoder, file, message) in [
            (
                vec![(5, "<x>"), (6, "<x>")],
                vec![],
                "m/tokenizer_config.json: added_tokens_decoder.6: found \"<x>\", expected another text: token 5 has this one already",
            ),
            (
                vec![(5, "")],
                vec![],
                "m/tokenizer_config.json: added_tokens_decoder.5: found \"\", expected some text: remove the entry",
            ),
            (
                vec![],
                vec![("<a>", 5), ("<b>", 5)],
                "m/added_tokens.json: \"<b>\": found id 5, expected an id of its own: \"<a>\" has it too: remove one",
            ),
        ] {
            let error = joined(&decoder, &file).unwrap_err().to_string();
            assert_eq!(error.replace(std::path::MAIN_SEPARATOR, "/"), message);
        }
    }
}
