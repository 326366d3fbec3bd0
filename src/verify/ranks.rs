//! GLM-4's `tokenizer.model`, a token in base64 and its rank in each line, read a second time; and text into
//! its ids.

use std::collections::HashMap;
use std::path::Path;

use super::pieces::{MAX_BYTES, too_many};
use crate::bpe;
use crate::error::{Error, Result};
use crate::input::read_capped;

/// The tokens' bytes, by rank.
#[derive(Debug)]
pub(super) struct Ranks {
    pub tokens: Vec<Vec<u8>>,
}

impl Ranks {
    /// Reads the folder's `tokenizer.model`, of at most `most` tokens; none when it has none. The ranks are the ids,
    /// in whatever order the lines stand.
    pub(super) fn read(folder: &Path, most: usize) -> Result<Option<Ranks>> {
        let file = folder.join("tokenizer.model");
        let Some(bytes) = read_capped(&file, MAX_BYTES)? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::file(&file, "is not text"))?;
        let lines = || text.lines().filter(|line| !line.is_empty());
        let count = lines().count();
        if count > most {
            return Err(too_many(&file, count, most));
        }
        let mut tokens = vec![None; count];
        for line in lines() {
            let shown = || line.chars().take(40).collect::<String>();
            let entry = line
                .split_once(' ')
                .and_then(|(token, rank)| Some((base64(token)?, rank.trim().parse::<usize>().ok()?)));
            let (token, rank) = entry.ok_or_else(|| {
                Error::file_mismatch(&file, format!("{:?}", shown()), "a token in base64 and its rank")
            })?;
            match tokens.get_mut(rank) {
                Some(place @ None) => *place = Some(token),
                _ => {
                    let expected = format!("each rank below {count} once");
                    return Err(Error::file_mismatch(&file, format!("{:?}", shown()), expected));
                }
            }
        }
        // As many places as lines, none taken twice: all are filled.
        Ok(Some(Ranks { tokens: tokens.into_iter().flatten().collect() }))
    }

    /// The ids of a text: words are cut roughly as the authors cut them, which is fair enough for a sample.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let ranks: HashMap<&[u8], u32> = self.tokens.iter().map(Vec::as_slice).zip(0..).collect();
        bpe::words(text).into_iter().flat_map(|word| bpe::by_rank(word.as_bytes(), &ranks)).collect()
    }

    /// The byte of each letter of a file's spelling.
    pub(super) fn alphabet() -> HashMap<char, u8> {
        let letter = |byte: u8| Some((Ranks::spelling(&[byte]).chars().next()?, byte));
        (0..=u8::MAX).filter_map(letter).collect()
    }

    /// The token as a file spells it: byte-level BPE has a letter for each byte.
    pub(super) fn spelling(token: &[u8]) -> String {
        let letter = |&byte: &u8| {
            let shown = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
            if shown(byte) {
                return char::from(byte);
            }
            let before = (0..byte).filter(|&other| !shown(other)).count() as u32; // at most 68
            char::from_u32(256 + before).unwrap_or_default()
        };
        token.iter().map(letter).collect()
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut out) = (0u32, 0, Vec::new());
    for digit in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | DIGITS.iter().position(|&known| known == digit)? as u32; // below 64
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_joined_and_spelt() {
        assert_eq!(base64("IGI="), Some(b" b".to_vec()));
        assert_eq!(base64("aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(base64("?"), None);
        assert_eq!(Ranks::spelling(b" a\n\xad\xff"), "ĠaĊŃÿ");
        let tokens = ["a", "b", "c", "bc", "ab"].map(|token| token.as_bytes().to_vec()).to_vec();
        assert_eq!(Ranks { tokens }.encode("abc"), [0, 3]);
    }

    #[test]
    fn ranks_may_stand_in_any_order_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.model");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Ranks::read(folder.path(), 3).map_err(|e| e.to_string().replace(file.to_str().unwrap(), "t"))
        };
        let ranks = read("Yg== 1\nYQ== 0\n\nYWI= 2\n").unwrap().unwrap();
        assert_eq!(ranks.tokens, [b"a".to_vec(), b"b".to_vec(), b"ab".to_vec()]);
        for (text, expected) in [
            ("YQ== 0\nYg== 0\n", "t: found \"Yg== 0\", expected each rank below 2 once"),
            ("YQ== 1\n", "t: found \"YQ== 1\", expected each rank below 1 once"),
            ("YQ==\n", "t: found \"YQ==\", expected a token in base64 and its rank"),
            ("a 0\nb 1\nc 2\nd 3\n", "t: found 4 tokens, expected at most 3, the rows of the embedding"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected);
        }
    }
}
