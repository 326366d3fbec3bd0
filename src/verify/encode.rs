//! Text into ids with the checkpoint's own vocabulary: SentencePiece's BPE, with the prefix of every ChatGLM
//! prompt. Its result only has to be a fair sample of text, but it is the original's.

use std::collections::{BinaryHeap, HashMap};

use super::pieces::Pieces;

/// `[gMASK]` and `sop` come second and fourth after the pieces.
const PREFIX: [usize; 2] = [1, 3];

/// Tokens before the text.
pub(super) const PREFIX_LEN: usize = PREFIX.len();

/// The ids of the prefix and of the text, `most` at most.
pub(super) fn encode(pieces: &Pieces, text: &str, most: usize) -> Vec<u32> {
    // A token holds a few characters; text far behind the last one wanted cannot change it.
    let text: String = text.chars().take(most.saturating_mul(32)).collect();
    let mut out: Vec<u32> = PREFIX.iter().map(|&number| pieces.special(number)).collect();
    out.extend(spell(pieces, &format!(" {text}")));
    out.truncate(most);
    out
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
    for symbol in merge(&text, |text| ids.get(text).map(|&(_, score)| score)) {
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

/// Two neighbours that make a piece: the highest score goes first, then the leftmost.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both: a neighbour that has changed meanwhile makes another length.
    len: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

/// Merges neighbours until no two make a piece.
fn merge(text: &str, score: impl Fn(&str) -> Option<f32>) -> Vec<&str> {
    // A symbol is a span of the text; one that was merged into its left neighbour is empty.
    let mut spans: Vec<(usize, usize)> = text.char_indices().map(|(i, c)| (i, i + c.len_utf8())).collect();
    let mut next: Vec<usize> = (1..=spans.len()).collect();
    let mut previous: Vec<Option<usize>> = (0..spans.len()).map(|i| i.checked_sub(1)).collect();
    let mut heap = BinaryHeap::new();
    let pair = |spans: &[(usize, usize)], left: usize, right: usize| {
        let (start, end) = (spans.get(left)?.0, spans.get(right)?.1);
        Some(Pair { score: score(text.get(start..end)?)?, left, right, len: end - start })
    };
    heap.extend((0..spans.len()).filter_map(|i| pair(&spans, i, i + 1)));
    while let Some(Pair { left, right, len, .. }) = heap.pop() {
        let empty = |i: usize| spans[i].0 == spans[i].1;
        if empty(left) || empty(right) || spans[right].1 - spans[left].0 != len {
            continue;
        }
        spans[left].1 = spans[right].1;
        spans[right].0 = spans[right].1;
        next[left] = next[right];
        if let Some(after) = previous.get_mut(next[left]) {
            *after = Some(left);
        }
        heap.extend(previous[left].and_then(|before| pair(&spans, before, left)));
        heap.extend(pair(&spans, left, next[left]));
    }
    spans.iter().filter(|(start, end)| start < end).map(|&(start, end)| &text[start..end]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_score_merges_first() {
        let scores = HashMap::from([("ab", -2.0), ("bc", -1.0), ("abc", -3.0), ("cd", -1.5)]);
        assert_eq!(merge("abcd", |text| scores.get(text).copied()), ["abc", "d"]);
        assert_eq!(merge("abab", |text| scores.get(text).copied()), ["ab", "ab"]);
        assert_eq!(merge("", |_| None), Vec::<&str>::new());
    }
}
