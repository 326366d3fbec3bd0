//! What the SentencePiece file does not have: the special tokens after its pieces, and the padding after those.

use std::collections::HashMap;

use super::added::{AddedTokens, Wrong, shown};
use super::files::Files;
use super::sentencepiece::{Model, SCORE};
use super::{Decision, Subject, TokenType, Vocabulary, VocabularyKind, glm4, letters};
use crate::config::GlmConfig;
use crate::error::Problem;

/// Which special tokens a model of the family has, in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Specials {
    /// ChatGLM2 and CodeGeeX2: masks, start and end of piece. Rounds are plain text.
    ChatGlm2,
    /// ChatGLM3: the five and the four roles.
    ChatGlm3,
}

/// The special tokens: the authors' names, and their texts in the GGUF.
///
/// llama.cpp looks for the texts of special tokens everywhere in a prompt, in the middle of words too. By their names
/// `eop` would be cut out of every `people` and `sop` out of every `philosophy` that a user writes. With one bracket
/// moved, `[gMASK]sop` still reads as the same two tokens, and no word contains either.
const TOKENS: [(&str, &str); 9] = [
    ("[MASK]", "[MASK]"),
    ("[gMASK]", "[gMASK"),
    ("[sMASK]", "[sMASK]"),
    ("sop", "]sop"),
    ("eop", "]eop"),
    ("<|system|>", "<|system|>"),
    ("<|user|>", "<|user|>"),
    ("<|assistant|>", "<|assistant|>"),
    ("<|observation|>", "<|observation|>"),
];

impl Specials {
    fn tokens(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Specials::ChatGlm2 => TOKENS.split_at(5).0,
            Specials::ChatGlm3 => &TOKENS,
        }
    }
}

/// Five or nine? No field says so. The authors' own files decide, then a file that was saved with the model, then
/// what fine-tuning seldom changes; the folder's name says nothing.
pub(super) fn choose(files: &Files, config: &GlmConfig, pieces: usize) -> (Specials, Decision) {
    let (specials, source) = evidence(files, config, pieces);
    let choice = match specials {
        Specials::ChatGlm2 => "five special tokens, no roles (ChatGLM2)",
        Specials::ChatGlm3 => "nine special tokens (ChatGLM3)",
    };
    (specials, Decision { subject: Subject::Roles, choice: choice.to_owned(), source })
}

fn evidence(files: &Files, config: &GlmConfig, pieces: usize) -> (Specials, String) {
    let nine_if = |nine: bool| if nine { Specials::ChatGlm3 } else { Specials::ChatGlm2 };
    if let Some(code) = files.code.as_deref().filter(|code| code.contains("sMASK")) {
        return (nine_if(code.contains("<|observation|>")), "tokenization_chatglm.py".to_owned());
    }
    // Fine-tuning may add tokens of these names to a ChatGLM2: behind its own, where ChatGLM3 has others.
    let roles = TOKENS.iter().zip(pieces..).filter(|((name, _), _)| name.starts_with("<|"));
    let places: Vec<bool> = roles
        .filter_map(|((name, _), place)| Some(usize::try_from(files.added.id(name)?).ok() == Some(place)))
        .collect();
    if !places.is_empty() && !places.contains(&true) {
        let source = format!("{}: its roles are not where ChatGLM3 has them", files.added.sources());
        return (Specials::ChatGlm2, source);
    }
    let says = |text: &str| names_roles(text) || text.contains("[Round");
    if let Some(own) = files.config.chat_template.as_ref().filter(|own| says(&own.text)) {
        return (nine_if(names_roles(&own.text)), format!("the chat template in {}", own.source));
    }
    if !places.is_empty() || files.added.id("[gMASK]").is_some() {
        return (nine_if(!places.is_empty()), files.added.sources().to_owned());
    }
    for (name, key) in [
        (&config.name_or_path, "_name_or_path in config.json"),
        (&files.config.name_or_path, "name_or_path in tokenizer_config.json"),
    ] {
        let name = name.to_lowercase();
        // LongAlign-6B has ChatGLM3's weights, and was trained on ChatGLM2's rounds.
        if ["chatglm2", "codegeex2", "longalign-6b"].iter().any(|own| name.contains(own)) {
            return (Specials::ChatGlm2, key.to_owned());
        }
        if name.contains("chatglm3") {
            return (Specials::ChatGlm3, key.to_owned());
        }
    }
    // ChatGLM2-6B-32k and ChatGLM2-6B say so, the latter as ChatGLM3-6B-base does.
    if config.seq_length == 32768 && (config.rope_ratio == 1.0 || config.rope_ratio == 16.0) {
        let sure =
            if config.rope_ratio == 1.0 { ", a guess: tokenization_chatglm.py would tell" } else { "" };
        return (Specials::ChatGlm2, format!("seq_length 32768 in config.json{sure}"));
    }
    (Specials::ChatGlm3, "no file that says otherwise".to_owned())
}

/// Whether a template writes ChatGLM3's roles, by name or put together, and not only other such tokens.
fn names_roles(template: &str) -> bool {
    let roles = ["system|", "user|", "assistant|", "observation|"];
    template
        .split("<|")
        .skip(1)
        .any(|rest| roles.iter().any(|role| rest.starts_with(role)) || !rest.starts_with(char::is_alphabetic))
}

/// Pieces, special tokens and padding: one token for every row of the embedding.
pub(super) fn complete(
    model: Model,
    specials: Specials,
    added: &AddedTokens,
    config: &GlmConfig,
) -> Result<Vocabulary, Wrong> {
    let mut vocabulary = Vocabulary {
        kind: VocabularyKind::SentencePiece,
        bos: model.bos,
        eos: model.eos,
        unk: Some(model.unk),
        // The authors pad with the unknown token.
        pad: Some(model.unk),
        add_space_prefix: true,
        ..Vocabulary::default()
    };
    for piece in model.pieces {
        vocabulary.tokens.push(piece.text);
        vocabulary.scores.push(piece.score);
        vocabulary.types.push(piece.kind);
    }
    own_text(&mut vocabulary, added)?;
    for &(name, text) in specials.tokens() {
        let id = next_id(&vocabulary);
        if added.by_id.get(&id).is_some_and(|token| token.content != name) {
            let expected =
                format!("{name}, the token of this id: remove the entry, then the chat works as in training");
            return Err(added.refused(id, expected));
        }
        if let Some(other) = added.id(name).filter(|&other| other != id) {
            return Err(
                added.refused(other, format!("another text: token {id} has this one: remove the entry"))
            );
        }
        match name {
            "<|user|>" => vocabulary.eot = Some(id),
            "<|observation|>" => vocabulary.eom = Some(id),
            _ => {}
        }
        vocabulary.tokens.push(text.to_owned());
        vocabulary.types.push(TokenType::Control);
    }
    pad(&mut vocabulary, added, config.padded_vocab_size)?;
    vocabulary.scores.resize(vocabulary.tokens.len(), SCORE);
    Ok(vocabulary)
}

/// A token of the vocabulary file may be added once more as what it is, and is found in the text before all else
/// then. Another text cannot have its id.
pub(super) fn own_text(vocabulary: &mut Vocabulary, added: &AddedTokens) -> Result<(), Wrong> {
    for (&id, token) in added.by_id.range(..next_id(vocabulary)) {
        let place = usize::try_from(id).unwrap_or(usize::MAX);
        let (Some(own), Some(kind)) = (vocabulary.tokens.get(place), vocabulary.types.get_mut(place)) else {
            continue;
        };
        if *own == token.content {
            if *kind == TokenType::Normal {
                *kind = token.kind();
            }
        } else if *own != spelled(vocabulary.kind, &token.content) {
            let expected = format!(
                "{}, the vocabulary's token of this id: remove the entry ({} is spelled in letters then), or add \
                 the token behind the others and train again",
                shown(own),
                shown(&token.content)
            );
            return Err(added.refused(id, expected));
        }
    }
    Ok(())
}

/// How a vocabulary of this kind writes a text. llama.cpp looks for tokens of such writing in the words only.
fn spelled(kind: VocabularyKind, text: &str) -> String {
    match kind {
        VocabularyKind::Bpe { .. } => letters::spell(text.as_bytes()),
        VocabularyKind::SentencePiece => text.replace(' ', "▁"),
    }
}

/// Fills up to the embedding's rows, with the tokens that fine-tuning added where there are any.
pub(super) fn pad(
    vocabulary: &mut Vocabulary,
    added: &AddedTokens,
    padded_vocab_size: usize,
) -> Result<(), Wrong> {
    super::check_size(vocabulary.tokens.len(), padded_vocab_size)?;
    let rows = u32::try_from(padded_vocab_size).unwrap_or(u32::MAX);
    if let Some((&id, _)) = added.by_id.range(rows..).next() {
        let expected = format!(
            "an id below {rows}, the rows of the embedding: remove the entry, which the model cannot read"
        );
        return Err(added.refused(id, expected));
    }
    while vocabulary.tokens.len() < padded_vocab_size {
        let id = next_id(vocabulary);
        let (text, kind) = match added.by_id.get(&id) {
            Some(token) => (token.content.clone(), token.kind()),
            None => (format!("[PAD{id}]"), TokenType::Unused),
        };
        vocabulary.tokens.push(text);
        vocabulary.types.push(kind);
    }
    // llama.cpp aborts on a text that two tokens have.
    let mut ids = HashMap::with_capacity(vocabulary.tokens.len());
    for (id, text) in (0u32..).zip(&vocabulary.tokens) {
        let Some(first) = ids.insert(text.as_str(), id) else { continue };
        if let Some(entry) = [id, first].into_iter().find(|id| added.by_id.contains_key(id)) {
            let other = if entry == id { first } else { id };
            let expected = format!("another text: token {other} has this one: remove the entry");
            return Err(added.refused(entry, expected));
        }
        let found = format!("{text:?} a second time");
        return Err(Problem::mismatch(format!("token {id}"), found, "a text of its own").into());
    }
    Ok(())
}

/// Special tokens that a file names, and none gives an id: transformers would number them when it loads them, and what
/// was trained nobody knows.
pub(super) fn without_ids(vocabulary: &Vocabulary, added: &AddedTokens) -> Option<Decision> {
    let without = added.named.iter().filter(|name| !has(vocabulary, added, name));
    let names: Vec<String> = without.take(8).map(|name| shown(name)).collect();
    (!names.is_empty()).then(|| Decision {
        subject: Subject::SpecialTokens,
        choice: format!("{} without an id, read as letters", names.join(" ")),
        source: "tokenizer_config.json or special_tokens_map.json".to_owned(),
    })
}

/// Refuses an end of texts that no token is: replies would never end there.
pub(super) fn refuse_lost_end(vocabulary: &Vocabulary, files: &Files) -> Result<(), Wrong> {
    match files.end_names.iter().find(|(_, name)| !has(vocabulary, &files.added, name)) {
        None => Ok(()),
        Some((file, name)) => {
            let expected = "a token's text: give it its id in added_tokens_decoder of tokenizer_config.json, or name \
                            the token that the model was trained to end with";
            let found = format!("{}, which no token has", shown(name));
            Err(Wrong::of(file, Problem::mismatch("eos_token", found, expected)))
        }
    }
}

/// Whether some token has a name, by the authors' spelling or by the GGUF's.
fn has(vocabulary: &Vocabulary, added: &AddedTokens, name: &str) -> bool {
    let is = |text: &str| vocabulary.tokens.iter().any(|other| other == text);
    added.id(name).is_some() || is(name) || TOKENS.iter().any(|(own, text)| *own == name && is(text))
}

/// The tokens of the family's own, by id and text: whoever adds them adds nothing.
pub(super) fn own(vocabulary: &Vocabulary) -> impl Fn(u32, &str) -> bool {
    let first = [TOKENS[0].1, glm4::NAMES[0]];
    let first = vocabulary.tokens.iter().position(|text| first.contains(&text.as_str()));
    move |id, name| {
        let before = usize::try_from(id).is_ok_and(|id| first.is_some_and(|first| id < first));
        before || TOKENS.iter().any(|(own, _)| *own == name) || glm4::NAMES.contains(&name)
    }
}

/// Never saturates: no vocabulary gets longer than the config may say.
fn next_id(vocabulary: &Vocabulary) -> u32 {
    u32::try_from(vocabulary.tokens.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "special_tests.rs"]
mod tests;
