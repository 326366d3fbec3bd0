use super::*;
use crate::tokenizer::added::{AddedToken, Source};
use crate::tokenizer::files::OwnTemplate;
use crate::tokenizer::sentencepiece::Piece;
use crate::tokenizer::tests::config;

fn files() -> Files {
    Files { model_file: "tokenizer.model".into(), ..Files::default() }
}

fn added(files: &mut Files, id: u32, content: &str, special: bool) {
    let token = AddedToken { content: content.to_owned(), special, source: Source::Decoder };
    files.added.by_id.insert(id, token);
}

fn model() -> Model {
    let piece = |text: &str, kind| Piece { text: text.to_owned(), score: 0.0, kind };
    let pieces = vec![piece("<unk>", TokenType::Unknown), piece("a", TokenType::Normal)];
    Model { pieces, bos: None, eos: None, unk: 0 }
}

fn template(text: &str) -> Option<OwnTemplate> {
    Some(OwnTemplate { text: text.to_owned(), source: "tokenizer_config.json".to_owned() })
}

/// A change to files and config, the choice and its source.
type Case = (fn(&mut Files, &mut GlmConfig), Specials, &'static str);

#[test]
fn the_strongest_evidence_decides() {
    use Specials::{ChatGlm2, ChatGlm3};
    let cases: [Case; 16] = [
        (|_, _| {}, ChatGlm3, "no file that says otherwise"),
        (
            |_, c| c.seq_length = 32768,
            ChatGlm2,
            "seq_length 32768 in config.json, a guess: tokenization_chatglm.py would tell",
        ),
        (|_, c| (c.seq_length, c.rope_ratio) = (32768, 16.0), ChatGlm2, "seq_length 32768 in config.json"),
        (|_, c| (c.seq_length, c.rope_ratio) = (32768, 50.0), ChatGlm3, "no file that says otherwise"),
        (|_, c| c.name_or_path = "zai-org/CodeGeeX2-6b".into(), ChatGlm2, "_name_or_path in config.json"),
        (|_, c| c.name_or_path = "THUDM/LongAlign-6B-64k".into(), ChatGlm2, "_name_or_path in config.json"),
        (
            |f, c| (f.config.name_or_path, c.seq_length) = ("THUDM/chatglm3-6b".into(), 32768),
            ChatGlm3,
            "name_or_path in tokenizer_config.json",
        ),
        (|f, _| added(f, 64790, "[gMASK]", true), ChatGlm2, "added_tokens_decoder in tokenizer_config.json"),
        (|f, _| added(f, 64795, "<|user|>", true), ChatGlm3, "added_tokens_decoder in tokenizer_config.json"),
        (
            |f, c| {
                f.config.chat_template = template("<|{{ message['role'] }}|>");
                c.name_or_path = "chatglm2".into();
            },
            ChatGlm3,
            "the chat template in tokenizer_config.json",
        ),
        (
            |f, _| f.config.chat_template = template("[Round {{ loop.index }}]"),
            ChatGlm2,
            "the chat template in tokenizer_config.json",
        ),
        // A ChatGLM2 to which fine-tuning added roles; and one that speaks another's format.
        (
            |f, _| {
                added(f, 64794, "<|user|>", true);
                f.config.chat_template = template("<|user|>{{ messages[0]['content'] }}");
            },
            ChatGlm2,
            "added_tokens_decoder in tokenizer_config.json: its roles are not where ChatGLM3 has them",
        ),
        (
            |f, _| added(f, 64797, "<|observation|>", true),
            ChatGlm3,
            "added_tokens_decoder in tokenizer_config.json",
        ),
        (
            |f, c| {
                f.config.chat_template = template("<|im_start|>{{ messages[0]['role'] }}");
                c.name_or_path = "chatglm2-6b".into();
            },
            ChatGlm2,
            "_name_or_path in config.json",
        ),
        (
            |f, c| {
                f.code = Some("special_tokens = [\"sMASK\", \"<|observation|>\"]".into());
                c.name_or_path = "chatglm2-6b".into();
            },
            ChatGlm3,
            "tokenization_chatglm.py",
        ),
        (
            |f, c| {
                f.code = Some("special_tokens = [\"[sMASK]\", \"sop\"]".into());
                c.name_or_path = "chatglm3-6b".into();
            },
            ChatGlm2,
            "tokenization_chatglm.py",
        ),
    ];
    for (change, expected, source) in cases {
        let (mut files, mut config) = (files(), config());
        change(&mut files, &mut config);
        let (found, decision) = choose(&files, &config, 64789);
        assert_eq!((found, decision.source.as_str()), (expected, source));
    }
    let (_, decision) = choose(&files(), &config(), 64789);
    let line = "roles: nine special tokens (ChatGLM3), from no file that says otherwise";
    assert_eq!(decision.to_string(), line);
}

#[test]
fn special_tokens_and_padding_follow_the_pieces() {
    let vocabulary = complete(model(), Specials::ChatGlm3, &files().added, &config()).unwrap();
    assert_eq!(vocabulary.tokens[1..4], ["a", "[MASK]", "[gMASK"]);
    assert_eq!(vocabulary.tokens[10..], ["<|observation|>", "[PAD11]", "[PAD12]"]);
    assert_eq!((vocabulary.eot, vocabulary.eom, vocabulary.pad), (Some(8), Some(10), Some(0)));
    assert_eq!(vocabulary.scores[1..], [&[0.0][..], &[SCORE; 11]].concat());
    assert_eq!(vocabulary.types[10..], [TokenType::Control, TokenType::Unused, TokenType::Unused]);

    let vocabulary = complete(model(), Specials::ChatGlm2, &files().added, &config()).unwrap();
    assert_eq!(vocabulary.tokens[6..8], ["]eop", "[PAD7]"]);
    assert_eq!((vocabulary.eot, vocabulary.eom), (None, None));
}

#[test]
fn tokens_of_fine_tuning_take_their_places() {
    let mut files = files();
    added(&mut files, 11, "<tool>", true);
    added(&mut files, 12, "word", false);
    let vocabulary = complete(model(), Specials::ChatGlm3, &files.added, &config()).unwrap();
    assert_eq!(vocabulary.tokens[11..], ["<tool>", "word"]);
    assert_eq!(vocabulary.types[11..], [TokenType::Control, TokenType::UserDefined]);
}

#[test]
fn contradictions_are_refused() {
    let refused = |files: &Files, config: &GlmConfig| {
        complete(model(), Specials::ChatGlm3, &files.added, config)
            .unwrap_err()
            .beside(&files.model_file)
            .to_string()
    };
    let small = GlmConfig { padded_vocab_size: 10, ..config() };
    assert!(refused(&files(), &small).contains("found 11 tokens, expected at most 10 by config.json"));

    for (id, content, message) in [
        (
            3,
            "<pad>",
            "found \"<pad>\", expected [gMASK], the token of this id: remove the entry, then the chat works as in training",
        ),
        (
            1,
            "<pad>",
            "found \"<pad>\", expected \"a\", the vocabulary's token of this id: remove the entry (\"<pad>\" is spelled in letters then), or add the token behind the others and train again",
        ),
        (12, "a", "found \"a\", expected another text: token 1 has this one: remove the entry"),
        (12, "sop", "found \"sop\", expected another text: token 5 has this one: remove the entry"),
        (11, "[PAD12]", "found \"[PAD12]\", expected another text: token 12 has this one: remove the entry"),
        (
            13,
            "<pad>",
            "found \"<pad>\", expected an id below 13, the rows of the embedding: remove the entry, which the model cannot read",
        ),
    ] {
        let mut other = files();
        added(&mut other, id, content, true);
        let message = format!("tokenizer_config.json: added_tokens_decoder.{id}: {message}");
        assert_eq!(refused(&other, &config()), message);
    }
}

#[test]
fn what_the_vocabulary_has_may_be_added_again_as_it_is() {
    let mut files = files();
    for (id, content) in [(0, "<unk>"), (1, "a"), (5, "sop"), (8, "<|user|>")] {
        added(&mut files, id, content, false);
    }
    let vocabulary = complete(model(), Specials::ChatGlm3, &files.added, &config()).unwrap();
    assert_eq!(vocabulary.types[..2], [TokenType::Unknown, TokenType::UserDefined]);
    assert_eq!((vocabulary.tokens[5].as_str(), vocabulary.types[8]), ("]sop", TokenType::Control));
}

/// The error on ends named so, if any.
fn lost_end(names: &[(&'static str, &str)]) -> Option<String> {
    let vocabulary = Vocabulary {
        tokens: ["</s>", "[gMASK", "]eop", "<|user|>"].map(str::to_owned).to_vec(),
        types: vec![TokenType::Control; 4],
        ..Vocabulary::default()
    };
    let mut files = files();
    added(&mut files, 9, "<|end|>", true);
    files.end_names = names.iter().map(|(file, name)| (*file, (*name).to_owned())).collect();
    let refused = refuse_lost_end(&vocabulary, &files).err();
    refused.map(|wrong| wrong.beside(&files.model_file).to_string())
}

#[test]
fn an_end_of_texts_is_some_token() {
    let (config, map) = ("tokenizer_config.json", "special_tokens_map.json");
    for name in ["</s>", "<|user|>", "eop", "<|end|>"] {
        assert_eq!(lost_end(&[(config, name)]), None, "{name}");
    }
    assert_eq!(lost_end(&[]), None);
    for (names, found) in [
        (
            &[(config, "<|nothere|>")][..],
            "tokenizer_config.json: eos_token: found \"<|nothere|>\", which no token has",
        ),
        (&[(config, "</s>"), (map, "<end>")], "special_tokens_map.json: eos_token: found \"<end>\", which"),
    ] {
        let error = lost_end(names).unwrap();
        assert!(
            error.starts_with(found) && error.contains("give it its id in added_tokens_decoder"),
            "{error}"
        );
    }
}

#[test]
fn what_the_family_has_anyway_is_not_new() {
    let pieces = Vocabulary {
        tokens: ["<unk>", "a", "[MASK]", "[gMASK", "<|user|>", "<|x|>"].map(str::to_owned).to_vec(),
        ..Vocabulary::default()
    };
    let is_own = own(&pieces);
    for (id, name, expected) in
        [(1, "a", true), (4, "<|user|>", true), (3, "[gMASK]", true), (5, "<|x|>", false)]
    {
        assert_eq!(is_own(id, name), expected, "{name}");
    }
}
