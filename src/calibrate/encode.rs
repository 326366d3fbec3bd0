//! Text into the ids of the vocabulary that a GGUF gets, special tokens included.
//!
//! A sample of text is all that is needed, so words are cut a little more simply than by the authors' pattern.

use std::collections::{BTreeMap, HashMap};

use crate::bpe::{self, Part};
use crate::tokenizer::{TokenType, Vocabulary, letters};

/// Encodes texts with one vocabulary.
pub(super) struct Encoder<'a> {
    vocabulary: &'a Vocabulary,
    /// The tokens that stand for themselves.
    specials: BTreeMap<&'a str, u32>,
    pieces: Pieces<'a>,
}

enum Pieces<'a> {
    /// SentencePiece: an ordinary piece's id and score; a byte's id.
    Scored(HashMap<&'a str, (u32, f32)>, HashMap<u8, u32>),
    /// Byte-level BPE, whose ranks are its ids.
    Ranked(HashMap<Vec<u8>, u32>),
}

impl<'a> Encoder<'a> {
    pub(super) fn new(vocabulary: &'a Vocabulary) -> Encoder<'a> {
        let entries = || (0u32..).zip(&vocabulary.tokens).zip(&vocabulary.types);
        let of = |wanted: TokenType| {
            entries().filter(move |(_, kind)| **kind == wanted).map(|((id, text), _)| (text.as_str(), id))
        };
        let specials = of(TokenType::Control).chain(of(TokenType::UserDefined)).collect();
        let pieces = if vocabulary.scores.is_empty() {
            Pieces::Ranked(
                of(TokenType::Normal).filter_map(|(text, id)| Some((letters::unspell(text)?, id))).collect(),
            )
        } else {
            let score = |id: u32| vocabulary.scores.get(id as usize).copied().unwrap_or_default();
            let byte = |text: &str| u8::from_str_radix(text.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok();
            Pieces::Scored(
                of(TokenType::Normal).map(|(text, id)| (text, (id, score(id)))).collect(),
                of(TokenType::Byte).filter_map(|(text, id)| Some((byte(text)?, id))).collect(),
            )
        };
        Encoder { vocabulary, specials, pieces }
    }

    /// The ids of a text in which special tokens are spelt out.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for part in bpe::parts(text, &self.specials) {
            match part {
                Part::Special(id) => ids.push(id),
                Part::Text(text) => self.encode_plain(text, &mut ids),
            }
        }
        ids
    }

    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) {
        match &self.pieces {
            Pieces::Ranked(ranks) => {
                let words = bpe::words(text).into_iter();
                ids.extend(words.flat_map(|word| bpe::by_rank(word.as_bytes(), ranks)));
            }
            Pieces::Scored(pieces, bytes) => {
                let space = if self.vocabulary.add_space_prefix { "▁" } else { "" };
                let text = format!("{space}{}", text.replace(' ', "▁"));
                for piece in bpe::by_score(&text, |text| pieces.get(text).map(|&(_, score)| score)) {
                    match pieces.get(piece) {
                        Some(&(id, _)) => ids.push(id),
                        None => ids.extend(piece.bytes().filter_map(|byte| bytes.get(&byte).copied())),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(tokens: &[(&str, TokenType)], scores: Vec<f32>) -> Vocabulary {
        Vocabulary {
            tokens: tokens.iter().map(|(text, _)| (*text).to_owned()).collect(),
            types: tokens.iter().map(|(_, kind)| *kind).collect(),
            add_space_prefix: !scores.is_empty(),
            scores,
            ..Vocabulary::default()
        }
    }

    #[test]
    fn special_tokens_are_found_the_longest_first_and_bytes_spell_the_rest() {
        use TokenType::{Byte, Control, Normal};
        let tokens = [
            ("▁", Normal),
            ("a", Normal),
            ("▁a", Normal),
            ("<0x0A>", Byte),
            ("<|u|>", Control),
            ("<|", Control),
        ];
        let scored = vocabulary(&tokens, vec![-3.0, -2.0, -1.0, 0.0, 0.0, 0.0]);
        assert_eq!(Encoder::new(&scored).encode("<|u|>\n aa<|"), [4, 0, 3, 2, 1, 5]);
    }

    #[test]
    fn byte_level_pieces_are_joined_by_rank() {
        use TokenType::{Control, Normal};
        let tokens = [
            ("a", Normal),
            ("Ġ", Normal),
            ("aa", Normal),
            ("Ġaa", Normal),
            ("Ċ", Normal),
            ("<sop>", Control),
        ];
        let ranked = vocabulary(&tokens, vec![]);
        assert_eq!(Encoder::new(&ranked).encode("<sop>\naa aaa"), [5, 4, 2, 3, 0]);
        assert_eq!(Encoder::new(&ranked).encode(" aa"), [3]);
    }
}
