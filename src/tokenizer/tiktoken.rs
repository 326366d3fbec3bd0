//! tiktoken's lines (a token in base64, its rank) -> a byte-level BPE vocabulary with merges.
//!
//! tiktoken joins any two neighbours whose bytes together are a token, the lowest rank first. GGUF has a list of
//! merges instead, which is recovered here: what joins into a token when only lower ranks have been joined before.

use std::collections::HashMap;

use super::added::Wrong;
use super::files::Files;
use super::letters::spell;
use super::{Decision, TokenType, Vocabulary, VocabularyKind, glm4, special};
use crate::config::GlmConfig;
use crate::error::{Problem, shortened};

/// The longest real token has 512 bytes.
const LONGEST_TOKEN: usize = 512;
/// The time that merges take grows with the square of a token's length: 13 million for GLM-4's tokens together.
const MOST_WORK: usize = 1 << 26;
/// Bytes of all merges; GLM-4's have 2 MB. Only tokens that lower ranks do not lead to have more merges than one.
const MOST_MERGE_BYTES: usize = 8 << 20;

/// Whether a file starts with such a line.
pub(super) fn recognise(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let printable = line.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\r'));
    printable && std::str::from_utf8(line).is_ok_and(|line| parse_line(line).is_some())
}

/// The vocabulary of GLM-4's kind, with the special tokens after the ranks.
pub(super) fn vocabulary(files: &Files, config: &GlmConfig) -> Result<(Vocabulary, Vec<Decision>), Wrong> {
    let tokens = parse(&files.model, config.padded_vocab_size)?;
    let mut vocabulary = Vocabulary {
        // 893 tokens (a space and a common Chinese word) are reached in no other way.
        kind: VocabularyKind::Bpe { whole_words: true },
        tokens: tokens.iter().map(|token| spell(token)).collect(),
        types: vec![TokenType::Normal; tokens.len()],
        merges: merges(&tokens)?.into_iter().map(|(a, b)| format!("{} {}", spell(a), spell(b))).collect(),
        ..Vocabulary::default()
    };

    let rows = config.padded_vocab_size;
    let (added, decisions) = glm4::special_tokens(&mut vocabulary, &files.added, rows)?;
    special::pad(&mut vocabulary, &added, rows)?;
    glm4::name_ends(&mut vocabulary)
        .ok_or_else(|| Problem::mismatch("", "no <|endoftext|> behind its tokens", "one"))?;
    Ok((vocabulary, decisions))
}

/// The tokens' bytes, by rank.
fn parse(bytes: &[u8], padded_vocab_size: usize) -> Result<Vec<Vec<u8>>, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::new("", "is not text"))?;
    let lines = text.lines().filter(|line| !line.is_empty()).count();
    super::check_size(lines, padded_vocab_size)?;
    let mut tokens = vec![Vec::new(); lines];
    for (number, line) in (1u32..).zip(text.lines()).filter(|(_, line)| !line.is_empty()) {
        let item = || format!("line {number}");
        let (token, rank) = parse_line(line).ok_or_else(|| {
            let found = format!("`{}`", shortened(line, 60));
            Problem::mismatch(item(), found, "a token in base64 and its rank")
        })?;
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            let expected = format!("1 to {LONGEST_TOKEN}");
            return Err(Problem::mismatch(item(), format!("{} bytes", token.len()), expected));
        }
        match tokens.get_mut(rank) {
            Some(place) if place.is_empty() => *place = token,
            Some(_) => {
                return Err(Problem::mismatch(item(), format!("rank {rank} again"), "each rank once"));
            }
            None => {
                let expected = format!("ranks below {lines}, the number of lines");
                return Err(Problem::mismatch(item(), format!("rank {rank}"), expected));
            }
        }
    }
    // As many lines as ranks and no rank twice: every place is taken.
    check_bytes(&tokens)?;
    Ok(tokens)
}

/// Whatever a text holds can be spelled, if every byte is a token.
fn check_bytes(tokens: &[Vec<u8>]) -> Result<(), Problem> {
    let mut missing = [true; 256];
    for token in tokens {
        if let [byte] = token[..] {
            missing[usize::from(byte)] = false;
        }
    }
    match missing.iter().position(|&missing| missing) {
        None => Ok(()),
        Some(byte) => Err(Problem::mismatch("", format!("no token for byte {byte:#04x}"), "all 256 of them")),
    }
}

fn parse_line(line: &str) -> Option<(Vec<u8>, usize)> {
    let (token, rank) = line.split_once(' ')?;
    Some((base64(token.as_bytes())?, rank.trim_end().parse().ok()?))
}

/// Base64 with its padding; nothing where that is not what it is.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len());
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        // 2, 3 or 4 digits are 1, 2 or 3 bytes.
        let [_, three @ ..] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        bytes.extend(three.iter().take(group.len() - 1));
    }
    Some(bytes)
}

/// Two tokens that are joined to a third.
type Merge<'a> = (&'a [u8], &'a [u8]);

/// The merges, best first, each of two tokens.
fn merges(tokens: &[Vec<u8>]) -> Result<Vec<Merge<'_>>, Problem> {
    let work: usize = tokens.iter().map(|token| token.len().pow(2)).sum(); // each at most LONGEST_TOKEN
    if work > MOST_WORK {
        let found = format!("too many long tokens: the squares of their lengths make {work}");
        return Err(Problem::mismatch("", found, format!("at most {MOST_WORK}")));
    }
    let mut bytes = 0;
    let ranks: HashMap<&[u8], usize> = tokens.iter().map(Vec::as_slice).zip(0..).collect();
    let mut merges = Vec::with_capacity(tokens.len());
    for (rank, token) in tokens.iter().enumerate().filter(|(_, token)| token.len() > 1) {
        if bytes > MOST_MERGE_BYTES {
            let found = format!("over {MOST_MERGE_BYTES} bytes of ways to join its tokens");
            return Err(Problem::mismatch("", found, "a vocabulary by tiktoken: 2 MB"));
        }
        bytes += token.len();
        if let Some(split) = last_split(token, rank, &ranks) {
            merges.push(token.split_at(split));
            continue;
        }
        // Lower ranks alone do not lead to every token (not to 1,072 of GLM-4's, common Chinese words among them).
        // tiktoken reaches these through parts of higher rank, so any two parts may be what it joins.
        let known = |part: &[u8]| ranks.contains_key(part);
        let splits = (1..token.len()).map(|split| token.split_at(split));
        let before = merges.len();
        merges.extend(splits.filter(|(left, right)| known(left) && known(right)));
        bytes += (merges.len() - before) * token.len();
    }
    Ok(merges)
}

/// Where the two parts meet that are left of `token` when all lower ranks have been joined; nothing if more are left.
fn last_split(token: &[u8], rank: usize, ranks: &HashMap<&[u8], usize>) -> Option<usize> {
    let mut ends: Vec<usize> = (0..=token.len()).collect();
    loop {
        let lowest = ends
            .windows(3)
            .enumerate()
            .filter_map(|(at, part)| Some((*ranks.get(token.get(part[0]..part[2])?)?, at + 1)))
            .min()
            .filter(|&(found, _)| found < rank);
        match lowest {
            Some((_, middle)) => ends.remove(middle),
            None => break,
        };
    }
    match ends[..] {
        [_, middle, _] => Some(middle),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::{InFile, Result};

    /// All bytes, then `more`, in base64.
    fn lines(more: &[&str]) -> String {
        let digit =
            |six: u8| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[usize::from(six)];
        let byte = |byte: u8| [digit(byte >> 2), digit(byte << 4 & 63), b'=', b'='];
        let mut text = String::new();
        for value in 0..=u8::MAX {
            text += &format!("{} {value}\n", String::from_utf8_lossy(&byte(value)));
        }
        for (rank, token) in (256..).zip(more) {
            text += &format!("{token} {rank}\n");
        }
        text
    }

    fn parsed(text: &str) -> Result<Vec<Vec<u8>>> {
        parse(text.as_bytes(), 300).in_file(Path::new("tokenizer.model"))
    }

    #[test]
    fn base64_is_read_strictly() {
        assert_eq!(base64(b"").as_deref(), Some(&b""[..]));
        assert_eq!(base64(b"IQ==").as_deref(), Some(&b"!"[..]));
        assert_eq!(base64(b"aGk=").as_deref(), Some(&b"hi"[..]));
        assert_eq!(base64(b"+/8AAAAA").as_deref(), Some(&b"\xfb\xff\0\0\0\0"[..]));
        for bad in ["I", "IQ", "IQ=", "IQ===", "=", "====", "I===", "I Q=", "IQ-_", "=IQ="] {
            assert_eq!(base64(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn tiktoken_lines_are_known_by_their_first() {
        assert!(recognise(b"IQ== 0\nIg== 1\n") && recognise(b"IQ== 0\r\n"));
        for other in ["", "\n", "{\"a\": 1}", "IQ==", "\n\x0e\n\x05<unk>", "version https://git-lfs\n"] {
            assert!(!recognise(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn merges_come_from_the_ranks() {
        // ab, abc, cd, then bcd (b and cd): each is joined from two lower ones.
        let tokens = parsed(&lines(&["YWI=", "YWJj", "Y2Q=", "YmNk"])).unwrap();
        let pairs: Vec<(&[u8], &[u8])> = vec![(b"a", b"b"), (b"ab", b"c"), (b"c", b"d"), (b"b", b"cd")];
        assert_eq!(merges(&tokens).unwrap(), pairs);
        // xyz comes before any two of its letters do: only through the later yz can it be joined.
        let tokens = parsed(&lines(&["eHl6", "eXo="])).unwrap();
        let pairs: Vec<(&[u8], &[u8])> = vec![(b"x", b"yz"), (b"y", b"z")];
        assert_eq!(merges(&tokens).unwrap(), pairs);
    }

    #[test]
    fn broken_lines_are_refused() {
        let cases = [
            (lines(&["?? 256"]), "line 257: found `?? 256 256`, expected a token in base64 and its rank"),
            (
                lines(&["YWI= 300 "]),
                "line 257: found `YWI= 300  256`, expected a token in base64 and its rank",
            ),
            (lines(&[""]), "line 257: found 0 bytes, expected 1 to 512"),
            (lines(&[&"YWJj".repeat(171)]), "line 257: found 513 bytes, expected 1 to 512"),
            (lines(&[]) + "YWI= 7\n", "line 257: found rank 7 again, expected each rank once"),
            (
                lines(&[]) + "YWI= 258\n",
                "line 257: found rank 258, expected ranks below 257, the number of lines",
            ),
            (lines(&[])[..7 * 9].to_owned(), "found no token for byte 0x09, expected all 256 of them"),
            (
                lines(&["YWI="; 45]),
                "found 301 tokens, expected at most 300 by config.json: the tokenizer is of another model",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(parsed(&text).unwrap_err().to_string(), format!("tokenizer.model: {message}"));
        }
    }

    #[test]
    fn special_tokens_follow_the_ranks() {
        let files = Files { model: lines(&["IGE="]).into_bytes(), ..Files::default() };
        let config = GlmConfig { padded_vocab_size: 272, ..crate::tokenizer::tests::config() };
        let (found, decisions) = vocabulary(&files, &config).unwrap();
        assert_eq!(found.tokens[256..259], ["\u{120}a", "<|endoftext|>", "[MASK]"]);
        assert_eq!(found.tokens[270..], ["<|end_of_video|>", "[PAD271]"]);
        assert_eq!(found.merges, ["\u{120} a"]);
        assert_eq!([found.eos, found.pad, found.eot, found.eom], [257, 257, 264, 266].map(Some));
        assert_eq!(
            decisions[0].to_string(),
            "roles: 14 special tokens after 257 ranks (GLM-4), from the authors' order"
        );
    }
}
