//! Text into ids with the checkpoint's own vocabulary: SentencePiece's BPE, with the prefix of every ChatGLM
//! prompt. Its result only has to be a fair sample of text, but it is the original's.

use std::collections::HashMap;

use super::pieces::Pieces;
use crate::bpe;

/// `[gMASK]` and `sop` come second and fourth after the pieces.
const PREFIX: [usize; 2] = [1, 3];

/// Tokens before the text.
pub(super) const PREFIX_LEN: usize = PREFIX.len();

/// The ids of the prefix and of the text, `most` at most.
pub(super) fn encode(pieces: &Pieces, text: &str, most: usize) -> Vec<u32> {
    let text = start(text, most);
    let mut out: Vec<u32> = PREFIX.iter().map(|&number| pieces.special(number)).collect();
    out.extend(spell(pieces, &format!(" {text}")));
    out.truncate(most);
    out
}

/// Enough of a text for so many tokens, each of which holds a few characters: text far behind the last one wanted cannot
/// change it.
pub(super) fn start(text: &str, tokens: usize) -> &str {
    let end = text.char_indices().nth(tokens.saturating_mul(32));
    end.map_or(text, |(end, _)| &text[..end])
}

/// The ids of a text, with no space but its own before it.
pub(super) fn spell(pieces: &Pieces, text: &str) -> Vec<u32> {
    let ids: HashMap<&str, (u32, f32)> = (0u32..)
        .zip(&pieces.pieces)
        .filter(|(_, piece)| piece.type_number() == 1 || piece.type_number() == 4)
        .map(|(id, piece)| (piece.text.as_str(), (id, piece.score)))
        .collect();
    let bytes: HashMap<&str, u32> = (0u32..)
        .zip(&pieces.pieces)
        .filter(|(_, piece)| piece.type_number() == 6)
        .map(|(id, piece)| (piece.text.as_str(), id))
        .collect();
    let text = text.replace(' ', "▁");
    let mut out = Vec::new();
    for symbol in bpe::by_score(&text, |text| ids.get(text).map(|&(_, score)| score)) {
        match ids.get(symbol) {
            Some(&(id, _)) => out.push(id),
            // What no piece spells is spelt in bytes.
            None => {
                out.extend(symbol.bytes().filter_map(|b| bytes.get(format!("<0x{b:02X}>").as_str()).copied()))
            }
        }
    }
    out
}
