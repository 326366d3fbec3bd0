//! Which tokens end a text. The model's files list them, and the list is the truth: what fine-tuning ends its
//! answers with is in it, and in no name.

use super::added::{Wrong, shown};
use super::files::Files;
use super::{Decision, Subject, TokenType, Vocabulary};
use crate::error::Problem;

/// llama.cpp ends a text at a token of this name, whatever place it has (since 2024; newer ones know more).
const KNOWN_BY_NAME: [&str; 6] =
    ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<EOT>"];

/// What was decided of the ends.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// What is out of the ordinary.
    pub decisions: Vec<Decision>,
    /// A warning of ids that no token has, and no row of the output.
    pub lost: Option<String>,
}

/// Gives GGUF's three places to the listed ends; `roles`: the authors' own chat function ends at the role tokens
/// too, whatever the list says. Fills in all ends, and says what is out of the ordinary.
///
/// # Errors
/// When no token has a listed id that the model can give out.
pub(super) fn settle(vocabulary: &mut Vocabulary, files: &Files, roles: bool) -> Result<Settled, Wrong> {
    let mut usual = Vec::new();
    extend(&mut usual, [vocabulary.eos, vocabulary.eot, vocabulary.eom].into_iter().flatten());
    let (file, list) = match files.generation.eos.as_slice() {
        [] => ("config.json", files.config_eos.as_slice()),
        list => ("generation_config.json", list),
    };
    let mut ends = Vec::new();
    extend(&mut ends, list.iter().copied());
    let decision =
        |choice| Decision { subject: Subject::EndOfText, choice, source: format!("eos_token_id in {file}") };
    let ordinary = |&id: &u32| {
        let kind = usize::try_from(id).ok().and_then(|place| vocabulary.types.get(place));
        kind.is_none_or(|&kind| kind == TokenType::Normal)
    };
    if file == "config.json" && !ends.is_empty() && ends.iter().all(ordinary) {
        // It is of another vocabulary, or a default of transformers (2): nothing but the names is left.
        vocabulary.ends = usual;
        let choice = format!("{ends:?} are no special tokens of this vocabulary, and are left out");
        let lost = ends.iter().find(|&&id| text(vocabulary, id).is_none()).map(|id| {
            format!(
                "config.json: eos_token_id: {id} is no token of this vocabulary, and the list is left out: texts end \
                 at {:?} by the tokens' names",
                vocabulary.ends
            )
        });
        return Ok(Settled { decisions: vec![decision(choice)], lost });
    }
    for &id in &ends {
        if text(vocabulary, id).is_none() {
            let expected = "a token's id: name the token in added_tokens_decoder of tokenizer_config.json, or \
                            take the id from the list";
            let found = format!("{id}, which no token has");
            return Err(Wrong::of(file, Problem::mismatch("eos_token_id", found, expected)));
        }
    }
    // The published ChatGLM list </s> only; their chats end at the roles nevertheless.
    if roles || ends.iter().all(|&id| vocabulary.eos == Some(id)) {
        extend(&mut ends, usual.iter().copied());
    }
    place(vocabulary, list);
    let held = [vocabulary.eos, vocabulary.eot, vocabulary.eom];
    let mut lines = Vec::new();
    let moved = held.into_iter().flatten().any(|id| !usual.contains(&id));
    if moved {
        let names: Vec<String> = ends.iter().map(|&id| named(vocabulary, id)).collect();
        lines.push(decision(names.join(", ")));
    }
    for &id in ends.iter().filter(|&&id| !held.contains(&Some(id))) {
        let name = text(vocabulary, id).unwrap_or_default();
        let spelled = vocabulary.text(id).unwrap_or_default();
        let without = if KNOWN_BY_NAME.contains(&name) {
            "llama.cpp ends there by the name"
        } else if can_stop(&spelled) {
            "elsewhere than in Ollama, with its Modelfile, give it as a stop"
        } else {
            "it ends no text, since answers have such white space within, too"
        };
        let name = named(vocabulary, id);
        lines.push(decision(format!("{name} does not fit into the three places of a GGUF: {without}")));
    }
    vocabulary.ends = ends;
    Ok(Settled { decisions: lines, lost: None })
}

/// Each listed end gets a place: its own, an empty one, or that of an end that is not in the list.
fn place(vocabulary: &mut Vocabulary, list: &[u32]) {
    for &id in list {
        let held = [vocabulary.eos, vocabulary.eot, vocabulary.eom];
        if held.contains(&Some(id)) {
            continue;
        }
        // A turn's end gives way last.
        let free = |held: Option<u32>| held.is_none_or(|held| !list.contains(&held));
        let places = [&mut vocabulary.eos, &mut vocabulary.eot, &mut vocabulary.eom];
        let [eos, eot, eom] = places;
        let place = match () {
            () if free(*eos) => eos,
            () if eot.is_none() => eot,
            () if eom.is_none() || free(*eom) => eom,
            () if free(*eot) => eot,
            () => continue,
        };
        *place = Some(id);
    }
}

fn extend(ends: &mut Vec<u32>, more: impl Iterator<Item = u32>) {
    for id in more {
        if !ends.contains(&id) {
            ends.push(id);
        }
    }
}

/// The text of a token that can be written.
fn text(vocabulary: &Vocabulary, id: u32) -> Option<&str> {
    let place = usize::try_from(id).ok()?;
    vocabulary.types.get(place).filter(|&&kind| kind != TokenType::Unused)?;
    vocabulary.tokens.get(place).map(String::as_str)
}

/// Whether a runtime may end a reply where this text appears: white space alone is in every answer.
pub fn can_stop(text: &str) -> bool {
    text.chars().any(|c| !c.is_control() && !c.is_whitespace())
}

/// By what it stands for in a text; part of a character by its spelling.
fn named(vocabulary: &Vocabulary, id: u32) -> String {
    let spelled = vocabulary.text(id);
    match spelled.as_deref() {
        // Written once, not as the escape of an escape.
        Some(short) if short.len() <= 60 => format!("{id} ({short:?})"),
        spelled => format!("{id} ({})", shown(spelled.or(text(vocabulary, id)).unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Ends at 2, 8 and 10, two tokens of fine-tuning at 11 and 12, padding at 13.
    fn chat() -> Vocabulary {
        let kind = |id| if id == 13 { TokenType::Unused } else { TokenType::Control };
        Vocabulary {
            tokens: (0..14).map(|id| format!("<{id}>")).collect(),
            types: (0..14).map(kind).collect(),
            eos: Some(2),
            eot: Some(8),
            eom: Some(10),
            ..Vocabulary::default()
        }
    }

    fn settled(list: &[u32], roles: bool) -> ([Option<u32>; 3], Vec<u32>, usize) {
        let mut files = Files::default();
        files.generation.eos = list.to_vec();
        let mut vocabulary = chat();
        let lines = settle(&mut vocabulary, &files, roles).unwrap().decisions;
        ([vocabulary.eos, vocabulary.eot, vocabulary.eom], vocabulary.ends, lines.len())
    }

    #[test]
    fn listed_ends_get_the_places_and_roles_keep_what_is_left() {
        for (list, roles, places, ends, lines) in [
            (&[][..], false, [2, 8, 10], &[2, 8, 10][..], 0),
            (&[2], false, [2, 8, 10], &[2, 8, 10], 0),
            (&[2, 8, 10], false, [2, 8, 10], &[2, 8, 10], 0),
            (&[10, 2, 8, 8], false, [2, 8, 10], &[10, 2, 8], 0),
            (&[8, 10], false, [2, 8, 10], &[8, 10], 0),
            (&[11], false, [11, 8, 10], &[11], 1),
            (&[11], true, [11, 8, 10], &[11, 2, 8, 10], 2),
            (&[11, 12], false, [11, 8, 12], &[11, 12], 1),
            (&[2, 11], false, [2, 8, 11], &[2, 11], 1),
            (&[2, 11, 12], false, [2, 12, 11], &[2, 11, 12], 1),
            (&[2, 8, 10, 11], false, [2, 8, 10], &[2, 8, 10, 11], 1),
            (&[1, 3, 4, 11], false, [1, 4, 3], &[1, 3, 4, 11], 2),
        ] {
            assert_eq!(settled(list, roles), (places.map(Some), ends.to_vec(), lines), "{list:?} {roles}");
        }
    }

    #[test]
    fn empty_places_are_taken_first() {
        let mut rounds = Vocabulary { eot: None, eom: None, ..chat() };
        let mut files = Files { config_eos: vec![2, 11, 12, 3], ..Files::default() };
        let lines = settle(&mut rounds, &files, false).unwrap().decisions;
        assert_eq!([rounds.eos, rounds.eot, rounds.eom], [2, 11, 12].map(Some));
        assert_eq!(
            lines[1].to_string(),
            "end of text: 3 (\"<3>\") does not fit into the three places of a GGUF: elsewhere than in Ollama, with \
             its Modelfile, give it as a stop, from eos_token_id in config.json"
        );
        // The list of another vocabulary.
        files.config_eos = vec![98, 99];
        let mut vocabulary = chat();
        let found = settle(&mut vocabulary, &files, false).unwrap();
        assert_eq!((vocabulary.ends, found.decisions.len()), (vec![2, 8, 10], 1));
        assert_eq!(
            found.lost.unwrap(),
            "config.json: eos_token_id: 98 is no token of this vocabulary, and the list is left out: texts end at \
             [2, 8, 10] by the tokens' names"
        );
        // The model can give padding out: then the text would go on.
        for list in [vec![13], vec![13, 99]] {
            files.config_eos = list;
            let wrong = settle(&mut chat(), &files, false).unwrap_err();
            let error = wrong.beside(Path::new("tokenizer.model")).to_string();
            assert!(
                error.starts_with("config.json: eos_token_id: found 13, which no token has, "),
                "{error}"
            );
        }
    }

    #[test]
    fn ordinary_tokens_are_shown_as_they_are_read() {
        let mut vocabulary = chat();
        vocabulary.kind = crate::tokenizer::VocabularyKind::Bpe { whole_words: true };
        for (id, text) in [(3, "ĊĊ"), (4, "Ġend")] {
            vocabulary.tokens[id] = text.to_owned();
            vocabulary.types[id] = TokenType::Normal;
        }
        let mut files = Files::default();
        files.generation.eos = vec![2, 8, 10, 3, 4];
        let lines = settle(&mut vocabulary, &files, false).unwrap();
        let lines: Vec<&str> = lines.decisions.iter().map(|line| line.choice.as_str()).collect();
        assert_eq!(
            lines,
            [
                "3 (\"\\n\\n\") does not fit into the three places of a GGUF: it ends no text, since answers have \
                 such white space within, too",
                "4 (\" end\") does not fit into the three places of a GGUF: elsewhere than in Ollama, with its \
                 Modelfile, give it as a stop",
            ]
        );
    }

    #[test]
    fn an_end_without_a_token_is_refused() {
        for id in [13, 14] {
            let mut files = Files { config_eos: vec![2, id], ..Files::default() };
            let wrong = settle(&mut chat(), &files, true).unwrap_err();
            let error = wrong.beside(Path::new("tokenizer.model")).to_string();
            assert!(
                error.starts_with(&format!("config.json: eos_token_id: found {id}, which no token has, "))
            );
            files.generation.eos = vec![id];
            let wrong = settle(&mut chat(), &files, true).unwrap_err();
            let error = wrong.beside(Path::new("tokenizer.model")).to_string();
            assert!(error.starts_with("generation_config.json: eos_token_id: found "), "{error}");
        }
    }
}
