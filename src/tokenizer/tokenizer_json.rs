//! `tokenizer.json` of the transformers format -> a byte-level BPE vocabulary. It holds tiktoken's words and merges
//! as GGUF wants them: only that they are of GLM-4's kind is checked, since a runtime is told no more than a name.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::added::{self, AddedToken, AddedTokens, Source, Wrong, shown};
use super::files::Files;
use super::{Decision, Subject, TokenType, Vocabulary, VocabularyKind, glm4, special};
use crate::bounded::{List, Map};
use crate::config::GlmConfig;
use crate::error::Problem;
use crate::input;

/// How GLM-4's tokenizer cuts texts into words (tiktoken's `cl100k_base`). llama.cpp knows patterns by name only.
pub(crate) const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    added_tokens: List<Added, { added::MOST }>,
    normalizer: Option<Box<RawValue>>,
    pre_tokenizer: Option<Box<RawValue>>,
    model: Bpe,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Bpe {
    r#type: String,
    #[serde(default)]
    byte_fallback: bool,
    /// A whole word that is a token is taken as it is.
    #[serde(default)]
    ignore_merges: bool,
    vocab: Map<u32, { 1 << 18 }>,
    merges: List<Merge, { 1 << 19 }>,
}

/// `"a b"`, or since tokenizers 0.20 `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair([String; 2]),
}

pub(super) fn vocabulary(files: &Files, config: &GlmConfig) -> Result<(Vocabulary, Decision), Wrong> {
    let wrong = |item: &str, found: String, expected: &str| Problem::mismatch(item, found, expected);
    let of_glm4 = |expected: &str| format!("{expected}: the tokenizer is of another model");
    let document: Document = input::json(&files.model, "is no tokenizer.json of a BPE")?;
    let Document { added_tokens: List(added_tokens), normalizer, pre_tokenizer, model } = document;
    let (normalizer, pre_tokenizer) = (small(normalizer), small(pre_tokenizer));
    if model.r#type != "BPE" || model.byte_fallback {
        let found =
            format!("{}{}", model.r#type, if model.byte_fallback { " with byte fallback" } else { "" });
        return Err(wrong("model", found, &of_glm4("the byte-level BPE of a GLM-4")).into());
    }
    if !normalizer.is_null() {
        return Err(wrong("normalizer", short(&normalizer), &of_glm4("none, as GLM-4 has")).into());
    }
    if !cuts_as_glm4(&pre_tokenizer) {
        let expected = of_glm4("GLM-4's, which llama.cpp knows by name");
        return Err(wrong("pre_tokenizer", short(&pre_tokenizer), &expected).into());
    }
    let (Map(vocab), List(merges)) = (model.vocab, model.merges);
    super::check_size(vocab.len(), config.padded_vocab_size)?;

    let mut tokens = vec![None; vocab.len()];
    for (token, id) in vocab {
        match usize::try_from(id).ok().and_then(|id| tokens.get_mut(id)) {
            Some(place @ None) => *place = Some(token),
            Some(Some(_)) => {
                return Err(wrong("model.vocab", format!("id {id} again"), "each id once").into());
            }
            None => return Err(wrong("model.vocab", format!("id {id}"), "ids without a gap").into()),
        }
    }
    let tokens: Vec<String> = tokens.into_iter().flatten().collect(); // as many places as tokens: all are filled
    let types = vec![TokenType::Normal; tokens.len()];
    let count = added_tokens.len();
    let mut added = AddedTokens::default();
    for Added { id, content, special } in added_tokens {
        let token = AddedToken { content, special, source: Source::Document };
        if let Some(other) = added.by_id.insert(id, token).filter(|other| Some(other) != added.by_id.get(&id))
        {
            let expected = format!("one text for it: {} has it too", shown(&other.content));
            return Err(added.refused(id, expected));
        }
    }
    // What was added later stands in the other files only.
    for (&id, token) in &files.added.by_id {
        match added.by_id.get(&id) {
            Some(own) if own.content == token.content => {}
            Some(own) => {
                let expected =
                    format!("{}, as tokenizer.json has it: remove one of the two", shown(&own.content));
                return Err(files.added.refused(id, expected));
            }
            None => drop(added.by_id.insert(id, token.clone())),
        }
    }
    let merge = |merge| {
        let text = match merge {
            Merge::Text(text) => text,
            Merge::Pair([left, right]) => format!("{left} {right}"),
        };
        match text.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => Ok(text),
            _ => Err(wrong("model.merges", shown(&text), "two tokens with a space between them")),
        }
    };
    let merges = merges.into_iter().map(merge).collect::<Result<Vec<String>, Problem>>()?;
    let mut vocabulary = Vocabulary {
        kind: VocabularyKind::Bpe { whole_words: model.ignore_merges },
        tokens,
        types,
        merges,
        ..Vocabulary::default()
    };
    special::own_text(&mut vocabulary, &added)?;
    special::pad(&mut vocabulary, &added, config.padded_vocab_size)?;
    glm4::name_ends(&mut vocabulary).ok_or_else(|| {
        wrong("added_tokens", "no <|endoftext|>".to_owned(), "the special tokens of a GLM-4")
    })?;
    let choice = format!("{count} special tokens (GLM-4)");
    Ok((
        vocabulary,
        Decision { subject: Subject::Roles, choice, source: "added_tokens in tokenizer.json".to_owned() },
    ))
}

/// A split by the pattern, and then letters for bytes.
fn cuts_as_glm4(pre_tokenizer: &Value) -> bool {
    let Some([split, bytes]) = pre_tokenizer["pretokenizers"].as_array().map(Vec::as_slice) else {
        return false;
    };
    split["type"] == "Split"
        && split["pattern"]["Regex"] == WORDS
        && split["behavior"] == "Isolated"
        && split["invert"] != true
        && bytes["type"] == "ByteLevel"
        && bytes["add_prefix_space"] != true
        && bytes["use_regex"] == false
}

/// The value, or something unknown when it is longer than any that is known: it would take many times its length.
fn small(text: Option<Box<RawValue>>) -> Value {
    text.map_or(Value::Null, |text| match text.get() {
        text if text.len() < 1 << 14 => serde_json::from_str(text).unwrap_or_default(),
        _ => "something long".into(),
    })
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::error::Result;

    fn good() -> Value {
        json!({
            "added_tokens": [
                {"id": 3, "content": "<|endoftext|>", "special": true}, {"id": 4, "content": "<|user|>", "special": true},
                {"id": 2, "content": "ab", "special": false}, {"id": 6, "content": "<|observation|>", "special": true},
            ],
            "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            ]},
            "model": {"type": "BPE", "ignore_merges": true, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
        })
    }

    fn read(json: &Value) -> Result<Vocabulary> {
        let model = json.to_string().into_bytes();
        let files = Files { model, ..Files::default() };
        let config = GlmConfig { padded_vocab_size: 8, ..crate::tokenizer::tests::config() };
        let made = vocabulary(&files, &config).map_err(|wrong| wrong.beside(Path::new("tokenizer.json")));
        made.map(|(vocabulary, _)| vocabulary)
    }

    #[test]
    fn tokens_merges_and_special_tokens_are_taken_over() {
        let mut json = good();
        let vocabulary = read(&json).unwrap();
        let texts = ["a", "b", "ab", "<|endoftext|>", "<|user|>", "[PAD5]", "<|observation|>", "[PAD7]"];
        assert_eq!(vocabulary.tokens, texts);
        assert_eq!(
            vocabulary.types[2..6],
            [TokenType::UserDefined, TokenType::Control, TokenType::Control, TokenType::Unused]
        );
        assert_eq!(
            (vocabulary.merges.as_slice(), vocabulary.kind),
            (["a b".to_owned()].as_slice(), VocabularyKind::Bpe { whole_words: true })
        );
        assert_eq!([vocabulary.eos, vocabulary.eot, vocabulary.eom], [Some(3), Some(4), Some(6)]);
        json["model"]["merges"] = json!([["a", "b"]]);
        assert_eq!(read(&json).unwrap(), vocabulary);
        json["model"]["ignore_merges"] = json!(false);
        assert_eq!(read(&json).unwrap().kind, VocabularyKind::Bpe { whole_words: false });
    }

    #[test]
    fn other_tokenizers_are_refused() {
        for (pointer, value, expected) in [
            (
                "/model/type",
                json!("Unigram"),
                "model: found Unigram, expected the byte-level BPE of a GLM-4: the tokenizer is of another model",
            ),
            (
                "/normalizer",
                json!({"type": "NFC"}),
                "normalizer: found {\"type\":\"NFC\"}, expected none, as GLM-4 has: the tokenizer is of another model",
            ),
            (
                "/pre_tokenizer",
                json!({"type": "ByteLevel"}),
                "pre_tokenizer: found {\"type\":\"ByteLevel\"}, expected GLM-4's, which llama.cpp knows by name: the tokenizer is of another model",
            ),
            ("/model/vocab", json!({"a": 0, "b": 2}), "model.vocab: found id 2, expected ids without a gap"),
            (
                "/model/merges",
                json!(["a b", "ab"]),
                "model.merges: found \"ab\", expected two tokens with a space between them",
            ),
            (
                "/model/merges",
                json!([["a", " b"]]),
                "model.merges: found \"a  b\", expected two tokens with a space between them",
            ),
            ("/model/vocab", json!({"a": 0, "b": 0}), "model.vocab: found id 0 again, expected each id once"),
            (
                "/added_tokens/0/id",
                json!(1),
                "added_tokens: found \"<|endoftext|>\" as token 1, expected \"b\", the vocabulary's token of this id: remove the entry (\"<|endoftext|>\" is spelled in letters then), or add the token behind the others and train again",
            ),
            (
                "/added_tokens/0/content",
                json!("<|end|>"),
                "added_tokens: found no <|endoftext|>, expected the special tokens of a GLM-4",
            ),
        ] {
            let mut json = good();
            *json.pointer_mut(pointer).unwrap() = value;
            assert_eq!(read(&json).unwrap_err().to_string(), format!("tokenizer.json: {expected}"));
        }
        let error = read(&json!({})).unwrap_err().to_string();
        assert!(error.starts_with("tokenizer.json: is no tokenizer.json of a BPE: "), "{error}");
    }
}
