//! What the SentencePiece file does not have: the special tokens after its pieces, and the padding after those.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::files::{AddedToken, Files};
use super::sentencepiece::Model;
use super::{Evidence, TokenType, Vocabulary};
use crate::config::GlmConfig;
use crate::error::{Error, Result};

/// Below every piece. llama.cpp merges by score, whatever a token is for: with score 0 ordinary text that spells a
/// special token would turn into it.
pub(super) const SCORE: f32 = -1e9;

/// Which special tokens a model of the family has, in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Specials {
    /// ChatGLM2 and CodeGeeX2: masks, start and end of piece. Rounds are plain text.
    Five,
    /// ChatGLM3: the five and the four roles.
    Nine,
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
            Specials::Five => TOKENS.split_at(5).0,
            Specials::Nine => &TOKENS,
        }
    }
}

/// Five or nine? No field says so. The authors' own files decide, then a file that was saved with the model, then
/// what fine-tuning seldom changes; the folder's name says nothing.
pub(super) fn choose(files: &Files, config: &GlmConfig) -> (Specials, Evidence) {
    let (specials, source) = evidence(files, config);
    let choice = match specials {
        Specials::Five => "five special tokens, no roles (ChatGLM2)",
        Specials::Nine => "nine special tokens (ChatGLM3)",
    };
    (specials, Evidence { subject: "roles", choice: choice.to_owned(), source })
}

fn evidence(files: &Files, config: &GlmConfig) -> (Specials, String) {
    let nine_if = |nine: bool| if nine { Specials::Nine } else { Specials::Five };
    if let Some(code) = files.code.as_deref().filter(|code| code.contains("sMASK")) {
        return (nine_if(code.contains("<|observation|>")), "tokenization_chatglm.py".to_owned());
    }
    let says = |template: &&str| template.contains("<|") || template.contains("[Round");
    if let Some(template) = files.config.chat_template.as_deref().filter(says) {
        return (nine_if(template.contains("<|")), "the chat template in tokenizer_config.json".to_owned());
    }
    let added = |name: &str| files.config.added_tokens.values().any(|token| token.content == name);
    if added("<|user|>") || added("<|observation|>") || added("[gMASK]") {
        let source = "added_tokens_decoder in tokenizer_config.json";
        return (nine_if(added("<|user|>") || added("<|observation|>")), source.to_owned());
    }
    for (name, key) in [
        (&config.name_or_path, "_name_or_path in config.json"),
        (&files.config.name_or_path, "name_or_path in tokenizer_config.json"),
    ] {
        let name = name.to_lowercase();
        if name.contains("chatglm2") || name.contains("codegeex2") {
            return (Specials::Five, key.to_owned());
        }
        if name.contains("chatglm3") {
            return (Specials::Nine, key.to_owned());
        }
    }
    // ChatGLM2-6B-32k and ChatGLM2-6B say so, the latter as ChatGLM3-6B-base does.
    if config.seq_length == 32768 && (config.rope_ratio == 1.0 || config.rope_ratio == 16.0) {
        let sure =
            if config.rope_ratio == 1.0 { ", a guess: tokenization_chatglm.py would tell" } else { "" };
        return (Specials::Five, format!("seq_length 32768 in config.json{sure}"));
    }
    (Specials::Nine, "no file that says otherwise".to_owned())
}

/// Pieces, special tokens and padding: one token for every row of the embedding.
pub(super) fn complete(
    model: Model,
    specials: Specials,
    files: &Files,
    config: &GlmConfig,
) -> Result<Vocabulary> {
    let mut vocabulary = Vocabulary {
        model: "llama",
        pre: "default",
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
    let added = &files.config.added_tokens;
    for &(name, text) in specials.tokens() {
        let id = next_id(&vocabulary);
        if let Some(other) = added.get(&id).filter(|token| token.content != name) {
            let item = format!("added_tokens_decoder.{id}");
            return Err(Error::mismatch(&files.config.file, item, format!("{:?}", other.content), name));
        }
        match name {
            "<|user|>" => vocabulary.eot = Some(id),
            "<|observation|>" => vocabulary.eom = Some(id),
            _ => {}
        }
        vocabulary.tokens.push(text.to_owned());
        vocabulary.types.push(TokenType::Control);
    }
    pad(&mut vocabulary, added, &files.model_file, config.padded_vocab_size)?;
    vocabulary.scores.resize(vocabulary.tokens.len(), SCORE);
    Ok(vocabulary)
}

/// Fills up to the embedding's rows, with the tokens that fine-tuning added where there are any.
pub(super) fn pad(
    vocabulary: &mut Vocabulary,
    added: &BTreeMap<u32, AddedToken>,
    file: &Path,
    padded_vocab_size: usize,
) -> Result<()> {
    check_size(file, vocabulary.tokens.len(), padded_vocab_size)?;
    while vocabulary.tokens.len() < padded_vocab_size {
        let id = next_id(vocabulary);
        let (text, kind) = match added.get(&id) {
            Some(token) if token.special => (token.content.clone(), TokenType::Control),
            Some(token) => (token.content.clone(), TokenType::UserDefined),
            None => (format!("[PAD{id}]"), TokenType::Unused),
        };
        vocabulary.tokens.push(text);
        vocabulary.types.push(kind);
    }
    // llama.cpp aborts on a text that two tokens have.
    let mut seen = HashSet::with_capacity(vocabulary.tokens.len());
    match vocabulary.tokens.iter().enumerate().find(|(_, text)| !seen.insert(text.as_str())) {
        None => Ok(()),
        Some((id, text)) => Err(Error::mismatch(
            file,
            format!("token {id}"),
            format!("{text:?} a second time"),
            "a text of its own",
        )),
    }
}

/// Refuses more tokens than the embedding has rows.
pub(super) fn check_size(file: &Path, found: usize, padded_vocab_size: usize) -> Result<()> {
    if found > padded_vocab_size {
        let expected =
            format!("at most {padded_vocab_size} by config.json: the tokenizer is of another model");
        return Err(Error::mismatch(file, "", format!("{found} tokens"), expected));
    }
    Ok(())
}

/// Never saturates: no vocabulary gets longer than the config may say.
fn next_id(vocabulary: &Vocabulary) -> u32 {
    u32::try_from(vocabulary.tokens.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::sentencepiece::Piece;
    use crate::tokenizer::tests::config;
    use std::path::PathBuf;

    fn files() -> Files {
        Files { model_file: PathBuf::from("tokenizer.model"), ..Default::default() }
    }

    fn added(files: &mut Files, id: u32, content: &str, special: bool) {
        files.config.added_tokens.insert(id, AddedToken { content: content.to_owned(), special });
    }

    fn model() -> Model {
        let piece = |text: &str, kind| Piece { text: text.to_owned(), score: 0.0, kind };
        let pieces = vec![piece("<unk>", TokenType::Unknown), piece("a", TokenType::Normal)];
        Model { pieces, bos: None, eos: None, unk: 0 }
    }

    /// A change to files and config, the choice and its source.
    type Case = (fn(&mut Files, &mut GlmConfig), Specials, &'static str);

    #[test]
    fn the_strongest_evidence_decides() {
        use Specials::{Five, Nine};
        let cases: [Case; 12] = [
            (|_, _| {}, Nine, "no file that says otherwise"),
            (
                |_, c| c.seq_length = 32768,
                Five,
                "seq_length 32768 in config.json, a guess: tokenization_chatglm.py would tell",
            ),
            (|_, c| (c.seq_length, c.rope_ratio) = (32768, 16.0), Five, "seq_length 32768 in config.json"),
            (|_, c| (c.seq_length, c.rope_ratio) = (32768, 50.0), Nine, "no file that says otherwise"),
            (|_, c| c.name_or_path = "zai-org/CodeGeeX2-6b".into(), Five, "_name_or_path in config.json"),
            (
                |f, c| (f.config.name_or_path, c.seq_length) = ("THUDM/chatglm3-6b".into(), 32768),
                Nine,
                "name_or_path in tokenizer_config.json",
            ),
            (|f, _| added(f, 64790, "[gMASK]", true), Five, "added_tokens_decoder in tokenizer_config.json"),
            (|f, _| added(f, 64795, "<|user|>", true), Nine, "added_tokens_decoder in tokenizer_config.json"),
            (
                |f, c| {
                    f.config.chat_template = Some("<|{{ message['role'] }}|>".into());
                    c.name_or_path = "chatglm2".into();
                },
                Nine,
                "the chat template in tokenizer_config.json",
            ),
            (
                |f, _| f.config.chat_template = Some("[Round {{ loop.index }}]".into()),
                Five,
                "the chat template in tokenizer_config.json",
            ),
            (
                |f, c| {
                    f.code = Some("special_tokens = [\"sMASK\", \"<|observation|>\"]".into());
                    c.name_or_path = "chatglm2-6b".into();
                },
                Nine,
                "tokenization_chatglm.py",
            ),
            (
                |f, c| {
                    f.code = Some("special_tokens = [\"[sMASK]\", \"sop\"]".into());
                    c.name_or_path = "chatglm3-6b".into();
                },
                Five,
                "tokenization_chatglm.py",
            ),
        ];
        for (change, expected, source) in cases {
            let (mut files, mut config) = (files(), config());
            change(&mut files, &mut config);
            let (found, evidence) = choose(&files, &config);
            assert_eq!((found, evidence.source.as_str()), (expected, source));
        }
        let (_, evidence) = choose(&files(), &config());
        let line = "roles: nine special tokens (ChatGLM3), from no file that says otherwise";
        assert_eq!(evidence.to_string(), line);
    }

    #[test]
    fn special_tokens_and_padding_follow_the_pieces() {
        let vocabulary = complete(model(), Specials::Nine, &files(), &config()).unwrap();
        assert_eq!(vocabulary.tokens[1..4], ["a", "[MASK]", "[gMASK"]);
        assert_eq!(vocabulary.tokens[10..], ["<|observation|>", "[PAD11]", "[PAD12]"]);
        assert_eq!((vocabulary.eot, vocabulary.eom, vocabulary.pad), (Some(8), Some(10), Some(0)));
        assert_eq!(vocabulary.scores[1..], [&[0.0][..], &[SCORE; 11]].concat());
        assert_eq!(vocabulary.types[10..], [TokenType::Control, TokenType::Unused, TokenType::Unused]);

        let vocabulary = complete(model(), Specials::Five, &files(), &config()).unwrap();
        assert_eq!(vocabulary.tokens[6..8], ["]eop", "[PAD7]"]);
        assert_eq!((vocabulary.eot, vocabulary.eom), (None, None));
    }

    #[test]
    fn tokens_of_fine_tuning_take_their_places() {
        let mut files = files();
        added(&mut files, 11, "<tool>", true);
        added(&mut files, 12, "word", false);
        let vocabulary = complete(model(), Specials::Nine, &files, &config()).unwrap();
        assert_eq!(vocabulary.tokens[11..], ["<tool>", "word"]);
        assert_eq!(vocabulary.types[11..], [TokenType::Control, TokenType::UserDefined]);
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |files: &Files, config: &GlmConfig| {
            complete(model(), Specials::Nine, files, config).unwrap_err().to_string()
        };
        let small = GlmConfig { padded_vocab_size: 10, ..config() };
        assert!(refused(&files(), &small).contains("found 11 tokens, expected at most 10 by config.json"));

        let mut other = files();
        other.config.file = PathBuf::from("tokenizer_config.json");
        added(&mut other, 3, "<pad>", true);
        let message = "tokenizer_config.json: added_tokens_decoder.3: found \"<pad>\", expected [gMASK]";
        assert_eq!(refused(&other, &config()), message);
        let mut twice = files();
        added(&mut twice, 12, "a", false);
        let message = "tokenizer.model: token 12: found \"a\" a second time, expected a text of its own";
        assert_eq!(refused(&twice, &config()), message);
    }
}
