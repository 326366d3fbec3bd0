//! `tokenizer.json` and `tokenizer_config.json`: the same ids from transformers, without remote code.
//!
//! Both kinds of vocabulary become the `tokenizers` library's BPE. SentencePiece merges the pair with the best
//! score, wherever the pieces come from; BPE merges by a list of pairs: that of every two pieces that make up a
//! third, best score first.

use std::collections::HashMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value, json};

use crate::error::Result;
use crate::tokenizer::{TokenType, Tokenizer, Vocabulary, VocabularyKind, WORDS};

/// `tokenizer.json`.
#[derive(Serialize)]
struct TokenizerJson<'a> {
    version: &'static str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: Vec<Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Bpe<'a>,
}

#[derive(Serialize)]
struct Bpe<'a> {
    r#type: &'static str,
    dropout: Option<()>,
    unk_token: Option<&'a str>,
    continuing_subword_prefix: Option<()>,
    end_of_word_suffix: Option<()>,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    #[serde(serialize_with = "by_id")]
    vocab: &'a [String],
    merges: Vec<(&'a str, &'a str)>,
}

/// tokens -> `{"text": id, ...}`
fn by_id<S: Serializer>(tokens: &&[String], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(tokens.len()))?;
    for (id, token) in tokens.iter().enumerate() {
        map.serialize_entry(token, &id)?;
    }
    map.end()
}

/// The text of `tokenizer.json`.
pub(super) fn tokenizer_json(vocabulary: &Vocabulary) -> Result<Vec<u8>> {
    let v = vocabulary;
    let prefix = prefix(v);
    let post_processor = if prefix.is_empty() { Value::Null } else { put_before(&prefix) };
    let model = |unk_token, merges| Bpe {
        r#type: "BPE",
        dropout: None,
        unk_token,
        continuing_subword_prefix: None,
        end_of_word_suffix: None,
        fuse_unk: false,
        byte_fallback: v.kind == VocabularyKind::SentencePiece,
        ignore_merges: v.kind == VocabularyKind::Bpe { whole_words: true },
        vocab: used(v),
        merges,
    };
    let unk = v.unk.and_then(|id| v.tokens.get(id as usize)).map(String::as_str);
    let (normalizer, pre_tokenizer, decoder, model) = match v.kind {
        VocabularyKind::SentencePiece => (
            // For each stretch of text between special tokens, as the authors encode each on its own.
            json!({"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ]}),
            Value::Null,
            json!({"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ]}),
            model(unk, merges_from_scores(v)),
        ),
        VocabularyKind::Bpe { .. } => (
            Value::Null,
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false},
                byte_level(),
            ]}),
            byte_level(),
            model(None, v.merges.iter().filter_map(|merge| merge.split_once(' ')).collect()),
        ),
    };
    let json = TokenizerJson {
        version: "1.0",
        truncation: None,
        padding: None,
        added_tokens: added_tokens(v).map(|(id, token)| entry(id, token)).collect(),
        normalizer,
        pre_tokenizer,
        post_processor,
        decoder,
        model,
    };
    super::json(&json)
}

/// The text of `tokenizer_config.json`.
pub(super) fn tokenizer_config(tokenizer: &Tokenizer, seq_length: usize) -> Result<Vec<u8>> {
    let v = &tokenizer.vocabulary;
    let text = |id: Option<u32>| id.and_then(|id| v.tokens.get(id as usize));
    let named = [v.bos, v.eos, v.unk, v.pad];
    let more: Vec<&str> = added_tokens(v)
        .filter(|(id, token)| token.special && !named.contains(&Some(*id)))
        .map(|(_, token)| token.content)
        .collect();
    let decoder: serde_json::Map<String, Value> = added_tokens(v)
        .map(|(id, token)| {
            let mut entry = entry(id, token);
            entry.as_object_mut().and_then(|fields| fields.remove("id"));
            (id.to_string(), entry)
        })
        .collect();
    super::json(&json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": decoder,
        "additional_special_tokens": more,
        "bos_token": text(v.bos),
        "eos_token": text(v.eos),
        "unk_token": text(v.unk),
        "pad_token": text(v.pad),
        "chat_template": v.chat_template,
        "clean_up_tokenization_spaces": false,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": seq_length,
        "padding_side": "left",
    }))
}

/// The vocabulary without the padding at its end, which no text ever gives.
fn used(v: &Vocabulary) -> &[String] {
    let unused = v.types.iter().rev().take_while(|&&kind| kind == TokenType::Unused).count();
    &v.tokens[..v.tokens.len().saturating_sub(unused)]
}

/// A token that is looked for in the text before anything else.
#[derive(Clone, Copy)]
struct Added<'a> {
    content: &'a str,
    special: bool,
}

fn added_tokens(v: &Vocabulary) -> impl Iterator<Item = (u32, Added<'_>)> {
    (0u32..).zip(v.tokens.iter().zip(&v.types)).filter_map(|(id, (content, kind))| {
        let special = match kind {
            TokenType::Control | TokenType::Unknown => true,
            TokenType::UserDefined => false,
            TokenType::Normal | TokenType::Unused | TokenType::Byte => return None,
        };
        Some((id, Added { content, special }))
    })
}

fn entry(id: u32, Added { content, special }: Added) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false, "special": special})
}

/// `[gMASK]` and `sop`, which the authors' tokenizer puts before every text; none when there are none.
fn prefix(v: &Vocabulary) -> Vec<(u32, &str)> {
    let find = |names: &[&str]| added_tokens(v).find(|(_, token)| names.contains(&token.content));
    // See tokenizer::special for the brackets.
    match (find(&["[gMASK", "[gMASK]"]), find(&["]sop", "sop", "<sop>"])) {
        (Some(mask), Some(sop)) => vec![(mask.0, mask.1.content), (sop.0, sop.1.content)],
        _ => Vec::new(),
    }
}

fn put_before(prefix: &[(u32, &str)]) -> Value {
    let special = |text: &str| json!({"SpecialToken": {"id": text, "type_id": 0}});
    let first: Vec<Value> = prefix.iter().map(|(_, text)| special(text)).collect();
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let tokens: serde_json::Map<String, Value> = prefix
        .iter()
        .map(|(id, text)| ((*text).to_owned(), json!({"id": text, "ids": [id], "tokens": [text]})))
        .collect();
    let single = [first.clone(), vec![text("A")]].concat();
    let pair = [first, vec![text("A"), text("B")]].concat();
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
}

fn byte_level() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})
}

/// Every two normal pieces that make up a third: best score first, and for one piece by the parts' ids.
fn merges_from_scores(v: &Vocabulary) -> Vec<(&str, &str)> {
    let normal = |(id, kind): (usize, &TokenType)| (*kind == TokenType::Normal).then_some(id);
    let normal: Vec<usize> = v.types.iter().enumerate().filter_map(normal).collect();
    let ids: HashMap<&str, usize> = normal.iter().map(|&id| (v.tokens[id].as_str(), id)).collect();
    let mut merges = Vec::new();
    for &id in &normal {
        let text = v.tokens[id].as_str();
        for (middle, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(middle);
            if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
                merges.push((id, left, right));
            }
        }
    }
    let score = |id: usize| v.scores.get(id).copied().unwrap_or(0.0);
    merges.sort_by(|a, b| score(b.0).total_cmp(&score(a.0)).then((a.1, a.2).cmp(&(b.1, b.2))));
    merges.into_iter().map(|(_, left, right)| (v.tokens[left].as_str(), v.tokens[right].as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let tokens = [("<unk>", TokenType::Unknown, 0.0), ("a", TokenType::Normal, -3.0)];
        let more = [("b", TokenType::Normal, -4.0), ("ab", TokenType::Normal, -1.0)];
        let rest = [("aab", TokenType::Normal, -2.0), ("[gMASK", TokenType::Control, -1e9)];
        let last = [("]sop", TokenType::Control, -1e9), ("[PAD7]", TokenType::Unused, -1e9)];
        let all = [tokens, more, rest, last].concat();
        Vocabulary {
            tokens: all.iter().map(|row| row.0.to_owned()).collect(),
            types: all.iter().map(|row| row.1).collect(),
            scores: all.iter().map(|row| row.2).collect(),
            unk: Some(0),
            ..Vocabulary::default()
        }
    }

    #[test]
    fn merges_follow_the_scores() {
        assert_eq!(merges_from_scores(&vocabulary()), [("a", "b"), ("a", "ab")]);
    }

    /// As the original had it: words that merges do not reach are one token or several.
    #[test]
    fn whole_words_go_first_only_where_they_did() {
        for whole_words in [true, false] {
            let glm4 = Vocabulary { kind: VocabularyKind::Bpe { whole_words }, ..vocabulary() };
            let json: Value = serde_json::from_slice(&tokenizer_json(&glm4).unwrap()).unwrap();
            assert_eq!(json["model"]["ignore_merges"], whole_words);
        }
    }

    #[test]
    fn the_file_holds_vocabulary_specials_and_prefix() {
        let json: Value = serde_json::from_slice(&tokenizer_json(&vocabulary()).unwrap()).unwrap();
        assert_eq!(json["model"]["vocab"]["]sop"], 6);
        assert_eq!(json["model"]["vocab"].as_object().unwrap().len(), 7);
        assert_eq!(json["model"]["merges"][1], json!(["a", "ab"]));
        assert_eq!(json["added_tokens"].as_array().unwrap().len(), 3);
        assert_eq!(json["post_processor"]["special_tokens"]["[gMASK"]["ids"], json!([5]));
    }
}
