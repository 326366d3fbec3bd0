//! Text into pieces: special tokens apart, and the rest by the two ways in which the family's vocabularies join
//! neighbours, the highest score first or the lowest rank.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::hash::Hash;

/// Longer runs of letters are cut: merging takes time with the square of it.
const LONGEST_WORD: usize = 64;

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    /// The id of a token that is written out.
    Special(u32),
    /// What stands between two of them, never empty.
    Text(&'t str),
}

/// A text taken apart at the special tokens in it: the first from the left, the longest of those at the same place.
pub(crate) fn parts<'t, S: Borrow<str> + Ord>(text: &'t str, specials: &BTreeMap<S, u32>) -> Vec<Part<'t>> {
    let lengths: BTreeSet<usize> = specials.keys().map(|special| special.borrow().len()).collect();
    let at = |text: &str| {
        let longest_first = lengths.iter().rev().filter(|&&length| length > 0);
        longest_first.filter_map(|&length| Some((length, *specials.get(text.get(..length)?)?))).next()
    };
    let mut parts = Vec::new();
    let (mut rest, mut plain) = (text, 0); // bytes of `rest` that are no special token's
    while plain < rest.len() {
        match at(&rest[plain..]) {
            Some((length, id)) => {
                parts.extend((plain > 0).then(|| Part::Text(&rest[..plain])));
                parts.push(Part::Special(id));
                (rest, plain) = (&rest[plain + length..], 0);
            }
            None => plain += rest[plain..].chars().next().map_or(1, char::len_utf8),
        }
    }
    parts.extend((!rest.is_empty()).then_some(Part::Text(rest)));
    parts
}

/// Two neighbours that make a piece: the highest score goes first, then the leftmost.
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both: a neighbour that has changed meanwhile makes another length.
    len: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

/// Merges neighbours until no two make a piece.
pub(crate) fn by_score(text: &str, score: impl Fn(&str) -> Option<f32>) -> Vec<&str> {
    // A symbol is a span of the text; one that was merged into its left neighbour is empty.
    let mut spans: Vec<(usize, usize)> = text.char_indices().map(|(i, c)| (i, i + c.len_utf8())).collect();
    let mut next: Vec<usize> = (1..=spans.len()).collect();
    let mut previous: Vec<Option<usize>> = (0..spans.len()).map(|i| i.checked_sub(1)).collect();
    let mut heap = BinaryHeap::new();
    let pair = |spans: &[(usize, usize)], left: usize, right: usize| {
        let (start, end) = (spans.get(left)?.0, spans.get(right)?.1);
        Some(Candidate { score: score(text.get(start..end)?)?, left, right, len: end - start })
    };
    heap.extend((0..spans.len()).filter_map(|i| pair(&spans, i, i + 1)));
    while let Some(Candidate { left, right, len, .. }) = heap.pop() {
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

/// Letters, digits and others apart; a space goes with the word behind it.
pub(crate) fn words(text: &str) -> Vec<&str> {
    let kind = |c: char| {
        if c.is_alphabetic() {
            0
        } else if c.is_numeric() {
            1
        } else {
            2
        }
    };
    let mut words = Vec::new();
    let (mut start, mut last) = (0, None::<char>);
    for (i, c) in text.char_indices() {
        let joined = last.is_none_or(|last| kind(last) == kind(c) && c != ' ' || last == ' ' && kind(c) != 1);
        if !joined || i - start > LONGEST_WORD {
            words.push(&text[start..i]);
            start = i;
        }
        last = Some(c);
    }
    words.push(&text[start..]);
    words
}

/// Joins the neighbours of the lowest rank until none are left.
pub(crate) fn by_rank(word: &[u8], ranks: &HashMap<impl Borrow<[u8]> + Eq + Hash, u32>) -> Vec<u32> {
    if let Some(&whole) = ranks.get(word) {
        return vec![whole];
    }
    let mut ends: Vec<usize> = (0..=word.len()).collect();
    loop {
        let ranked =
            ends.windows(3).enumerate().filter_map(|(i, at)| Some((*ranks.get(&word[at[0]..at[2]])?, i + 1)));
        match ranked.min() {
            Some((_, middle)) => ends.remove(middle),
            None => break,
        };
    }
    ends.windows(2).filter_map(|at| ranks.get(&word[at[0]..at[1]]).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::Part::{Special, Text};
    use super::*;

    #[test]
    fn the_highest_score_merges_first() {
        let scores = HashMap::from([("ab", -2.0), ("bc", -1.0), ("abc", -3.0), ("cd", -1.5)]);
        assert_eq!(by_score("abcd", |text| scores.get(text).copied()), ["abc", "d"]);
        assert_eq!(by_score("abab", |text| scores.get(text).copied()), ["ab", "ab"]);
        assert_eq!(by_score("", |_| None), Vec::<&str>::new());
    }

    #[test]
    fn the_longest_special_token_is_taken_from_the_left() {
        let specials = BTreeMap::from([("<|", 1), ("<|user|>", 2), ("天", 3), ("", 9)]);
        let found = parts("a<|user|>b<||天天c", &specials);
        let expected =
            [Text("a"), Special(2), Text("b"), Special(1), Text("|"), Special(3), Special(3), Text("c")];
        assert_eq!(found, expected);
        assert_eq!(parts("", &specials), []);
    }

    #[test]
    fn letters_digits_and_others_are_cut_apart() {
        assert_eq!(words("ab  cd12!? e"), ["ab", "  cd", "12", "!?", " e"]);
    }
}
