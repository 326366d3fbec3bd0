//! The text that a model is measured on: the built-in one, or the user's.

use std::path::Path;

use minijinja::context;
use minijinja::value::Serde;
use serde_json::Value;

use super::encode::Encoder;
use crate::error::{Error, Result};
use crate::hash::sha256;
use crate::input;
use crate::jinja;
use crate::tokenizer::Tokenizer;

/// Written for this project, under its licence, and disjoint from the page that `verify` runs models on.
const CHATS: &str = include_str!("text/chats.json");
const TEXTS: [&str; 3] =
    [include_str!("text/english.txt"), include_str!("text/chinese.txt"), include_str!("text/code.txt")];

/// The name of the built-in text.
const BUILT_IN: &str = "glm2llama built-in";

/// Texts of hundreds of megabytes are another mistake.
const MAX_BYTES: u64 = 256 << 20;

/// Tokens that see one another: as many as llama.cpp's `llama-imatrix` takes.
pub const WINDOW: usize = 512;
/// Of so many windows the last is held out, to choose the damping on.
const HELD_OUT: usize = 8;

/// Tokens to measure a model on, cut into windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The ids; every [`WINDOW`] of them are a text of their own, the last may be shorter.
    pub tokens: Vec<u32>,
    /// What the text is called.
    pub name: String,
    /// SHA-256 of the text, all files of it one behind the other.
    pub hash: String,
}

impl Sample {
    /// About `most` tokens of the files, or of the built-in text where there are none: as large a part of each text.
    ///
    /// # Errors
    /// When a file cannot be read, is not UTF-8 or has no token, or when too few are asked for to have any.
    pub fn new(tokenizer: &Tokenizer, files: &[impl AsRef<Path>], most: usize) -> Result<Sample> {
        let encoder = Encoder::new(&tokenizer.vocabulary);
        let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names: Vec<String> = files.iter().map(|file| name(file.as_ref())).collect();
        let (name, texts, hashed) = if files.is_empty() {
            let mut texts = vec![chats(tokenizer.vocabulary.chat_template.as_deref())];
            texts.extend(TEXTS.map(str::to_owned));
            (BUILT_IN.to_owned(), texts, format!("{CHATS}{}", TEXTS.concat()))
        } else {
            let texts =
                files.iter().map(|file| input::text(file.as_ref(), MAX_BYTES)).collect::<Result<Vec<_>>>()?;
            let hashed = texts.concat();
            (names.join(", "), texts, hashed)
        };
        let encoded: Vec<Vec<u32>> = texts.iter().map(|text| encoder.encode(text)).collect();
        let blank = names.iter().zip(&encoded).find(|(_, tokens)| tokens.is_empty()).map(|(name, _)| name);
        if let Some(name) = blank.or_else(|| encoded.iter().all(Vec::is_empty).then_some(&name)) {
            return Err(Error::Usage(format!(
                "--calibration: found no tokens in {name}, expected some text"
            )));
        }
        let tokens = in_windows(&encoded, &encoder.encode(prefix(tokenizer)), most);
        if tokens.is_empty() {
            return Err(Error::Usage(format!(
                "{name}: found {most} tokens asked for, expected more than the model's prefix has"
            )));
        }
        Ok(Sample { tokens, name, hash: sha256(hashed.as_bytes()) })
    }

    /// What to beware of: chance decides what a few tokens say of a column.
    pub fn doubt(&self) -> Option<String> {
        let few = self.tokens.len();
        (few < WINDOW).then(|| {
            format!(
                "{few} tokens of {} are few to measure a model on, and say little: give {} or more",
                self.name,
                4 * WINDOW
            )
        })
    }

    /// How many windows there are.
    pub fn windows(&self) -> usize {
        self.tokens.len().div_ceil(WINDOW)
    }
}

/// The numbers of the windows that are held out, of so many.
pub(super) fn held_out(whole: usize) -> Vec<usize> {
    (0..whole).filter(|i| i % HELD_OUT == HELD_OUT - 1 || (whole < HELD_OUT && i + 1 == whole)).collect()
}

/// What the authors put before every text.
fn prefix(tokenizer: &Tokenizer) -> &'static str {
    let template = tokenizer.vocabulary.chat_template.as_deref().unwrap_or_default();
    ["[gMASK]<sop>", "[gMASK]sop"].into_iter().find(|prefix| template.contains(prefix)).unwrap_or_default()
}

/// The built-in chats in the model's own format; their contents alone where it has none, or one that fails.
fn chats(template: Option<&str>) -> String {
    let chats: Vec<Value> = serde_json::from_str(CHATS).expect("the built-in chats are JSON");
    let contents = |chat: &Value| -> String {
        let contents =
            chat.as_array().into_iter().flatten().filter_map(|message| message["content"].as_str());
        contents.map(|content| format!("{content}\n\n")).collect()
    };
    let rendered = |chat: &Value| {
        let (bos_token, eos_token, messages) = ("", "", Serde(chat));
        jinja::render(template?, context! { messages, bos_token, eos_token, add_generation_prompt => false })
            .ok()
    };
    chats.iter().map(|chat| rendered(chat).unwrap_or_else(|| contents(chat))).collect()
}

/// A part of each text, about `most` tokens of all together, each window beginning with the prefix.
fn in_windows(texts: &[Vec<u32>], prefix: &[u32], most: usize) -> Vec<u32> {
    let all: usize = texts.iter().map(Vec::len).sum();
    let room = WINDOW.saturating_sub(prefix.len()).max(1);
    let wanted = most.min(all.saturating_add(all.div_ceil(room) * prefix.len()));
    let own = wanted.saturating_sub(wanted.div_ceil(WINDOW) * prefix.len());
    let part = |tokens: usize| tokens * own / all.max(1);
    let mut before = 0;
    let parts = texts.iter().map(|text| {
        let start = before;
        before += text.len();
        part(before) - part(start)
    });
    let taken: Vec<u32> = texts.iter().zip(parts).flat_map(|(text, part)| spread(text, part)).collect();
    taken.chunks(room).flat_map(|window| prefix.iter().chain(window)).copied().collect()
}

/// So many of a text's tokens, in pieces of half a window at most: one kind of text may follow another in it.
fn spread(text: &[u32], part: usize) -> Vec<u32> {
    let part = part.min(text.len());
    let pieces = part.div_ceil(WINDOW / 2);
    let piece = |i: usize| {
        let length = (i + 1) * part / pieces - i * part / pieces;
        let start = i * text.len() / pieces;
        &text[start..start + length]
    };
    (0..pieces).flat_map(piece).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_part_is_of_the_whole_text() {
        let text: Vec<u32> = (0..9001).collect();
        for part in [1, 255, 256, 257, 2048, 5000, 9000] {
            let found = spread(&text, part);
            assert!(found.len() == part && found.is_sorted_by(|a, b| a < b), "{part}: {found:?}");
            let gaps = found.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
            assert!(gaps < part.div_ceil(256), "{part}: {gaps} gaps");
            let tenths = |tokens: &[u32]| tokens.iter().map(|token| token / 901).collect::<BTreeSet<_>>();
            assert!(part < 2048 || tenths(&found).len() >= 8, "{part}: {:?}", tenths(&found));
        }
        assert_eq!((spread(&text, 9001), spread(&text, usize::MAX)), (text.clone(), text));
        assert_eq!((spread(&[], 7), spread(&[1, 2], 0)), (vec![], vec![]));
    }

    #[test]
    fn windows_begin_with_the_prefix_and_hold_a_share_of_each_text() {
        let texts = [(100..1100).collect(), (5000..7000).collect()];
        let tokens = in_windows(&texts, &[1, 2], 1024);
        assert!(tokens.len() <= 1024 && tokens.len() > 1020, "{}", tokens.len());
        assert_eq!((tokens[..3].to_vec(), tokens[512..514].to_vec()), (vec![1, 2, 100], vec![1, 2]));
        let second = tokens.iter().filter(|&&token| token >= 5000).count();
        assert!((670..690).contains(&second), "{second}");
        assert_eq!(in_windows(&texts, &[], usize::MAX).len(), 3000, "all of it, when that is less");
    }

    #[test]
    fn chats_are_rendered_or_plain() {
        let shown = chats(Some("{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"));
        assert!(shown.starts_with("<|user|>你好"), "{}", &shown[..40]);
        assert!(chats(None).starts_with("你好"));
        assert!(chats(Some("{% if")).starts_with("你好"));
    }

    /// Files name the text by its hash, and the documents say which one is the built-in text's.
    #[test]
    fn the_documents_state_the_texts_hash() {
        let hash = sha256(format!("{CHATS}{}", TEXTS.concat()).as_bytes());
        assert!(include_str!("../../docs/quality.md").contains(&hash), "docs/quality.md: expected {hash}");
    }

    /// Held-out text must not be what a file was made for.
    #[test]
    fn the_text_is_disjoint_from_verifys() {
        let all = format!("{CHATS}{}", TEXTS.concat());
        for line in crate::verify::DEFAULT_TEXT.lines().filter(|line| line.len() > 20) {
            assert!(!all.contains(line), "{line}");
        }
    }
}
