//! SentencePiece BPE as llama.cpp does it on a GGUF's arrays.

use std::collections::HashMap;

use glm2llama::tokenizer::{TokenType, Vocabulary, VocabularyKind};

/// An encoder over one vocabulary.
pub struct Spm<'a> {
    ids: HashMap<&'a str, u32>,
    scores: &'a [f32],
    /// Found anywhere in a text, the longest first.
    specials: Vec<(&'a str, u32)>,
}

impl<'a> Spm<'a> {
    /// Indexes the arrays.
    pub fn new(vocabulary: &'a Vocabulary) -> Spm<'a> {
        assert!(vocabulary.add_space_prefix && vocabulary.kind == VocabularyKind::SentencePiece);
        let ids: HashMap<_, _> = vocabulary.tokens.iter().map(String::as_str).zip(0u32..).collect();
        assert_eq!(ids.len(), vocabulary.tokens.len(), "every token has a text of its own");
        let special = |kind| matches!(kind, TokenType::Control | TokenType::UserDefined | TokenType::Unknown);
        let mut specials: Vec<(&str, u32)> = vocabulary
            .tokens
            .iter()
            .zip(&vocabulary.types)
            .zip(0u32..)
            .filter(|((_, kind), _)| special(**kind))
            .map(|((text, _), id)| (text.as_str(), id))
            .collect();
        specials.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Spm { ids, scores: &vocabulary.scores, specials }
    }

    /// The ids of `text`; with `parse_special` the special tokens in it are taken as such.
    pub fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        let mut ids = Vec::new();
        self.split(text, if parse_special { &self.specials } else { &[] }, &mut ids);
        ids
    }

    /// A longer special token is cut out of the whole text before a shorter one is looked for.
    fn split(&self, text: &str, specials: &[(&str, u32)], ids: &mut Vec<u32>) {
        match specials.split_first() {
            _ if text.is_empty() => {}
            None => self.merge(&format!("▁{}", text.replace(' ', "▁")), ids),
            Some((&(special, id), rest)) => {
                for (part, plain) in text.split(special).enumerate() {
                    if part > 0 {
                        ids.push(id);
                    }
                    self.split(plain, rest, ids);
                }
            }
        }
    }

    /// Merges the neighbours with the best score, the leftmost of equals, until none are left.
    fn merge(&self, text: &str, ids: &mut Vec<u32>) {
        let mut symbols: Vec<String> = text.chars().map(String::from).collect();
        loop {
            let mut best: Option<(usize, f32)> = None;
            for left in 1..symbols.len() {
                let joined = format!("{}{}", symbols[left - 1], symbols[left]);
                if let Some(&id) = self.ids.get(joined.as_str()) {
                    let score = self.scores[id as usize];
                    if best.is_none_or(|(_, other)| score > other) {
                        best = Some((left, score));
                    }
                }
            }
            let Some((left, _)) = best else { break };
            let right = symbols.remove(left);
            symbols[left - 1] += &right;
        }
        for symbol in symbols {
            match self.ids.get(symbol.as_str()) {
                Some(&id) => ids.push(id),
                None => ids.extend(symbol.bytes().map(|byte| self.ids[format!("<0x{byte:02X}>").as_str()])),
            }
        }
    }
}
