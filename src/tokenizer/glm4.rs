//! GLM-4's special tokens, which follow its ranks. The authors' code numbers them; `tokenizer_config.json` may list
//! all of them, some, or none.

use super::added::{AddedToken, AddedTokens, Source, Wrong, shown};
use super::{Decision, Subject, TokenType, Vocabulary, special};
use crate::error::Result;

/// In the order in which the authors' tokenization_chatglm.py adds them.
pub(super) const NAMES: [&str; 14] = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
];

/// Those that every prompt or its end needs.
const NEEDED: [&str; 7] =
    ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"];

/// The tokens after the ranks: the given ones, and the authors' in the places that are left.
///
/// # Errors
/// When a given one has a rank, or the place of a role.
pub(super) fn special_tokens(
    vocabulary: &mut Vocabulary,
    given: &AddedTokens,
    padded_vocab_size: usize,
) -> Result<(AddedTokens, Vec<Decision>), Wrong> {
    let first = vocabulary.tokens.len();
    special::own_text(vocabulary, given)?;
    let ranks = u32::try_from(first).unwrap_or(u32::MAX);
    let mut all = given.clone();
    all.by_id.retain(|&id, _| id >= ranks);
    let listed = all.by_id.len();
    let places = || (ranks..=u32::MAX).zip(NAMES);
    // With an order of its own the list has to be whole.
    let whole = NEEDED.iter().all(|name| all.id(name).is_some());
    let moved = places().find_map(|(id, name)| all.id(name).filter(|&other| other != id));
    let mut lines = Vec::new();
    let mut source = match listed {
        0 => "the authors' order".to_owned(),
        _ => given.sources().to_owned(),
    };
    if let Some(id) = moved.filter(|_| !whole) {
        let own = places().find(|&(place, _)| place == id).map_or("a token of its own", |(_, name)| name);
        let expected = format!(
            "{own}, as GLM-4's authors number their tokens from {first} on: remove the entry, or list all of \
             {} with the ids they were trained with",
            NEEDED.join(" ")
        );
        return Err(all.refused(id, expected));
    }
    if moved.is_none() {
        super::check_size(first + NAMES.len(), padded_vocab_size)?;
        let mut assumed = 0;
        for (id, name) in places() {
            match all.by_id.get(&id) {
                Some(token) if token.content == name => {}
                Some(_) if NEEDED.contains(&name) => {
                    let expected = format!(
                        "{name}, the token of this id: remove the entry, then the chat works as in training"
                    );
                    return Err(all.refused(id, expected));
                }
                Some(token) => lines.push(Decision {
                    subject: Subject::SpecialTokens,
                    choice: format!("{} as token {id}, not {name}", shown(&token.content)),
                    source: given.sources().to_owned(),
                }),
                None => {
                    assumed += 1;
                    let content = name.to_owned();
                    all.by_id.insert(id, AddedToken { content, special: true, source: Source::Authors });
                }
            }
        }
        if listed > 0 && assumed > 0 {
            source += &format!(", {assumed} of them from the authors' order");
        }
    }
    let choice = format!("{} special tokens after {first} ranks (GLM-4)", all.by_id.len());
    lines.insert(0, Decision { subject: Subject::Roles, choice, source });
    Ok((all, lines))
}

/// Says which tokens end a text or a turn; nothing when there is no end of text.
pub(super) fn name_ends(vocabulary: &mut Vocabulary) -> Option<()> {
    let find = |name: &str| {
        let added = |kind: &TokenType| matches!(kind, TokenType::Control | TokenType::UserDefined);
        let mut all = (0u32..).zip(vocabulary.tokens.iter().zip(&vocabulary.types));
        all.find(|(_, (text, kind))| added(kind) && *text == name).map(|(id, _)| id)
    };
    let end = Some(find("<|endoftext|>")?);
    let (turn, message) = (find("<|user|>"), find("<|observation|>"));
    // Nothing is put before a text; but if none is named here, llama.cpp takes token 11, a comma, for its start.
    (vocabulary.bos, vocabulary.eos, vocabulary.pad) = (end, end, end);
    (vocabulary.eot, vocabulary.eom) = (turn, message);
    Some(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Of three ranks, with these entries.
    fn completed(entries: &[(u32, &str)]) -> Result<(Vec<String>, Vec<String>), Wrong> {
        let mut vocabulary = Vocabulary {
            tokens: ["a", "b", "ab"].map(str::to_owned).to_vec(),
            types: vec![TokenType::Normal; 3],
            ..Vocabulary::default()
        };
        let mut given = AddedTokens::default();
        for &(id, content) in entries {
            let token = AddedToken { content: content.to_owned(), special: true, source: Source::Decoder };
            given.by_id.insert(id, token);
        }
        let (all, lines) = special_tokens(&mut vocabulary, &given, 20)?;
        special::pad(&mut vocabulary, &all, 20)?;
        name_ends(&mut vocabulary).expect("an end");
        Ok((vocabulary.tokens.split_off(3), lines.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn the_authors_names_stand_where_no_file_names_another() {
        let (none, lines) = completed(&[]).unwrap();
        assert_eq!(none[..14], NAMES);
        assert_eq!(lines, ["roles: 14 special tokens after 3 ranks (GLM-4), from the authors' order"]);
        // One of them, and one behind them.
        let (some, lines) = completed(&[(3, "<|endoftext|>"), (17, "<|tool|>")]).unwrap();
        assert_eq!((&some[..14], some[14].as_str()), (&none[..14], "<|tool|>"));
        assert_eq!(
            lines,
            [
                "roles: 15 special tokens after 3 ranks (GLM-4), from added_tokens_decoder in tokenizer_config.json, \
              13 of them from the authors' order"
            ]
        );
        // One over them, and one that repeats a rank.
        let (over, lines) = completed(&[(14, "<|tool|>"), (2, "ab")]).unwrap();
        assert_eq!(over[11], "<|tool|>");
        assert_eq!(
            lines[1],
            "special tokens: \"<|tool|>\" as token 14, not <|end_of_image|>, from added_tokens_decoder in tokenizer_config.json"
        );
        // An order of its own, whole.
        let own: Vec<(u32, &str)> = (5..).zip(NEEDED).collect();
        let (moved, _) = completed(&own).unwrap();
        assert_eq!(moved[..4], ["[PAD3]", "[PAD4]", "<|endoftext|>", "[gMASK]"]);
    }

    #[test]
    fn what_takes_a_roles_place_is_refused_with_the_way_out() {
        for (entry, message) in [
            (
                (10, "[ICD]"),
                "10: found \"[ICD]\", expected <|user|>, the token of this id: remove the entry, then the chat works as in training",
            ),
            (
                (6, "<|endoftext|>"),
                "6: found \"<|endoftext|>\", expected [sMASK], as GLM-4's authors number their tokens from 3 on: remove the entry, or list all of <|endoftext|> [gMASK] <sop> <|system|> <|user|> <|assistant|> <|observation|> with the ids they were trained with",
            ),
            (
                (2, "<x>"),
                "2: found \"<x>\", expected \"ab\", the vocabulary's token of this id: remove the entry (\"<x>\" is spelled in letters then), or add the token behind the others and train again",
            ),
            (
                (20, "<x>"),
                "20: found \"<x>\", expected an id below 20, the rows of the embedding: remove the entry, which the model cannot read",
            ),
        ] {
            let error = completed(&[entry]).unwrap_err().beside(Path::new("tokenizer.model")).to_string();
            assert_eq!(error, format!("tokenizer_config.json: added_tokens_decoder.{message}"));
        }
    }
}
