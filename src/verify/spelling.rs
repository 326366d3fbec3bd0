//! The file's own vocabulary at work: text into ids, and ids into text, as the runtimes that load it do.

use std::collections::{BTreeMap, BTreeSet};

use super::encode;
use super::pieces::{Piece, Pieces};
use super::ranks::Ranks;
use crate::bpe::{self, Part};
use crate::error::{Error, Result};
use crate::gguf::{GgufFile, Value};

const KEY: &str = "tokenizer.ggml";
/// The types of tokens that stand for themselves in a prompt.
const SPECIAL: [i32; 2] = [3, 4];

/// What a token is in this file.
pub(super) struct Spelling {
    /// By id: control tokens and those of users.
    specials: BTreeMap<String, u32>,
    names: BTreeMap<u32, String>,
    kind: Kind,
    /// SentencePiece's space before a text.
    space_before: bool,
    /// After these an answer is complete.
    pub(super) ends: BTreeSet<u32>,
}

enum Kind {
    Pieces(Pieces),
    Ranks(Ranks),
}

impl Spelling {
    /// Reads the vocabulary of a file.
    ///
    /// # Errors
    /// When it has none of a known kind.
    pub(super) fn of(file: &GgufFile) -> Result<Spelling> {
        let absent =
            |name: &str| Error::mismatch(file.path(), format!("{KEY}.{name}"), "nothing", "a vocabulary");
        let get = |name: &str| file.metadata.get(&format!("{KEY}.{name}"));
        let Some(Value::Strings(tokens)) = get("tokens") else { return Err(absent("tokens")) };
        let Some(Value::I32s(types)) = get("token_type") else { return Err(absent("token_type")) };
        let kind = match file.text(&format!("{KEY}.model")) {
            Some("llama") => {
                let Some(Value::F32s(scores)) = get("scores") else { return Err(absent("scores")) };
                let piece = |((text, &score), &kind): ((&String, &f32), &i32)| Piece::new(text, score, kind);
                Kind::Pieces(Pieces { pieces: tokens.iter().zip(scores).zip(types).map(piece).collect() })
            }
            Some("gpt2") => {
                let bytes = Ranks::alphabet();
                let token = |text: &String| text.chars().filter_map(|c| bytes.get(&c).copied()).collect();
                Kind::Ranks(Ranks { tokens: tokens.iter().map(token).collect() })
            }
            _ => return Err(absent("model")),
        };
        let special = |(id, (text, kind)): (u32, (&String, &i32))| {
            (SPECIAL.contains(kind) && !text.is_empty()).then(|| (text.clone(), id))
        };
        let specials: BTreeMap<String, u32> =
            (0..).zip(tokens.iter().zip(types)).filter_map(special).collect();
        let ends = ["eos", "eot", "eom"]
            .iter()
            .filter_map(|name| file.unsigned(&format!("{KEY}.{name}_token_id")))
            .filter_map(|id| u32::try_from(id).ok())
            .collect();
        Ok(Spelling {
            names: specials.iter().map(|(text, &id)| (id, text.clone())).collect(),
            specials,
            kind,
            space_before: !matches!(get("add_space_prefix"), Some(Value::Bool(false))),
            ends,
        })
    }

    /// The ids of a prompt, in which special tokens stand by their names.
    pub(super) fn encode(&self, prompt: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for part in bpe::parts(prompt, &self.specials) {
            match part {
                Part::Special(id) => ids.push(id),
                Part::Text(text) => self.encode_text(text, &mut ids),
            }
        }
        ids
    }

    /// At most so many tokens of a text behind the prefix of GLM-4's prompts, and how many of them are the prefix.
    pub(super) fn sample(&self, text: &str, most: usize) -> (Vec<u32>, usize) {
        let prefix = ["[gMASK]", "<sop>"].iter().filter_map(|name| self.specials.get(*name).copied());
        let mut ids: Vec<u32> = prefix.collect();
        let prefix = ids.len();
        self.encode_text(encode::start(text, most), &mut ids);
        ids.truncate(most);
        (ids, prefix)
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) {
        match &self.kind {
            Kind::Pieces(pieces) => {
                let before = if self.space_before { " " } else { "" };
                ids.extend(encode::spell(pieces, &format!("{before}{text}")));
            }
            Kind::Ranks(ranks) => ids.extend(ranks.encode(text)),
        }
    }

    /// A token's bytes; a special one's name.
    pub(super) fn bytes(&self, token: u32) -> Vec<u8> {
        if let Some(name) = self.names.get(&token) {
            return name.as_bytes().to_vec();
        }
        match &self.kind {
            Kind::Pieces(pieces) => pieces.bytes(token),
            Kind::Ranks(ranks) => ranks.tokens.get(token as usize).cloned().unwrap_or_default(),
        }
    }

    /// One token alone, for display: bytes that are no character by their numbers.
    pub(super) fn name(&self, token: u32) -> String {
        match String::from_utf8(self.bytes(token)) {
            Ok(text) if !text.is_empty() => text,
            Ok(_) => format!("<{token}>"),
            Err(e) => e.as_bytes().iter().map(|byte| format!("<0x{byte:02X}>")).collect(),
        }
    }

    /// Each token's part of the text: a character of several tokens stands with the last of them.
    pub(super) fn texts(&self, tokens: &[u32]) -> Vec<String> {
        let mut text = Utf8::default();
        tokens.iter().map(|&token| text.push(&self.bytes(token))).collect()
    }
}

/// Joins bytes to characters.
#[derive(Default)]
pub(super) struct Utf8 {
    pending: Vec<u8>,
}

impl Utf8 {
    /// The characters that these bytes complete; what can be none becomes the replacement character.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.pending.clear();
                    return text;
                }
                Err(e) => {
                    let valid = e.valid_up_to();
                    text += &String::from_utf8_lossy(&self.pending[..valid]);
                    let Some(wrong) = e.error_len() else {
                        self.pending.drain(..valid);
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.pending.drain(..valid + wrong);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_character_are_joined() {
        let mut text = Utf8::default();
        let pushed =
            [&b"a\xe4"[..], b"\xbd", b"\xa0b", b"\xff", b"c\xe5", b"d"].map(|bytes| text.push(bytes));
        assert_eq!(pushed, ["a", "", "你b", "\u{fffd}", "c", "\u{fffd}d"]);
    }
}
