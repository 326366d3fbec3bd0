//! Byte-level BPE: as llama.cpp does it with a GGUF's merges, and as tiktoken does it with ranks.

use std::collections::HashMap;

use fancy_regex::Regex;
use glm2llama::tokenizer::{TokenType, Vocabulary, VocabularyKind};

/// How llama.cpp splits a text for `llama-bpe`, before anything is joined.
const SPLIT: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// An encoder over one vocabulary.
pub struct Bpe<'a> {
    ids: HashMap<&'a str, u32>,
    merges: HashMap<(&'a str, &'a str), usize>,
    split: Regex,
    letters: Vec<char>,
}

impl<'a> Bpe<'a> {
    /// Indexes the arrays.
    pub fn new(vocabulary: &'a Vocabulary) -> Bpe<'a> {
        assert_eq!(vocabulary.kind, VocabularyKind::Bpe { whole_words: true });
        let ids: HashMap<_, _> = vocabulary.tokens.iter().map(String::as_str).zip(0u32..).collect();
        assert_eq!(ids.len(), vocabulary.tokens.len(), "every token has a text of its own");
        let merges = vocabulary.merges.iter().map(|merge| merge.split_once(' ').unwrap()).zip(0..).collect();
        let printable = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let mut others = '\u{100}'..;
        let letter = |byte: u8| if printable(&byte) { char::from(byte) } else { others.next().unwrap() };
        let letters = (0..=u8::MAX).map(letter).collect();
        Bpe { ids, merges, split: Regex::new(SPLIT).unwrap(), letters }
    }

    /// The ids of a text without special tokens.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let words = self.split.find_iter(text).map(|word| word.unwrap().as_str());
        let spelled =
            words.map(|word| word.bytes().map(|byte| self.letters[usize::from(byte)]).collect::<String>());
        spelled
            .flat_map(|word| match self.ids.get(word.as_str()) {
                Some(&id) => vec![id],
                None => self.by_merges(&word),
            })
            .collect()
    }

    /// Joins by the list of merges.
    pub fn by_merges(&self, word: &str) -> Vec<u32> {
        self.join(word, |left, right| self.merges.get(&(left, right)).copied())
    }

    /// Joins by ranks, which are the ids of what comes out.
    pub fn by_ranks(&self, word: &str) -> Vec<u32> {
        self.join(word, |left, right| self.ids.get(format!("{left}{right}").as_str()).map(|&id| id as usize))
    }

    /// Joins the neighbours of the lowest order, the leftmost of equals, until none are left.
    fn join(&self, word: &str, order: impl Fn(&str, &str) -> Option<usize>) -> Vec<u32> {
        let mut parts: Vec<String> = word.chars().map(String::from).collect();
        let best = |parts: &[String]| {
            let pairs = parts.windows(2).enumerate();
            pairs.filter_map(|(at, pair)| Some((order(&pair[0], &pair[1])?, at))).min()
        };
        while let Some((_, left)) = best(&parts) {
            let right = parts.remove(left + 1);
            parts[left] += &right;
        }
        parts.iter().map(|part| self.ids[part.as_str()]).collect()
    }
}

/// Every token of the vocabulary file, as a word of its own, is joined as tiktoken joins it. (The few long ones are
/// runs of one letter, on which the plain method above takes seconds.)
pub fn joins_like_tiktoken(vocabulary: &Vocabulary) {
    let bpe = Bpe::new(vocabulary);
    let normal =
        vocabulary.tokens.iter().zip(&vocabulary.types).filter(|(_, kind)| **kind == TokenType::Normal);
    for (token, _) in normal.filter(|(token, _)| token.len() <= 128) {
        assert_eq!(bpe.by_merges(token), bpe.by_ranks(token), "{token}");
    }
}
