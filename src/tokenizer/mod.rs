//! The tokenizer's files -> the arrays that a GGUF holds. Knows nothing of weights.

mod added;
mod ends;
mod files;
mod glm4;
pub(crate) mod letters;
mod model_file;
mod sentencepiece;
mod special;
pub mod template;
mod tiktoken;
mod tokenizer_json;

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use crate::config::GlmConfig;
use crate::error::{Problem, Result};
use added::Wrong;
pub use ends::can_stop;
use files::{Files, OwnTemplate};
use model_file::ModelFile;
pub use template::ChatFormat;
pub(crate) use tokenizer_json::WORDS;

/// The tokenizer of one model, and what was found out on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokenizer {
    /// What goes into the GGUF.
    pub vocabulary: Vocabulary,
    /// How the model takes a conversation.
    pub chat: ChatFormat,
    /// How the authors sample.
    pub sampling: Sampling,
    /// What was decided, and by what, for the report.
    pub decisions: Vec<Decision>,
    /// Ends of text in the files that no token is, in words.
    pub lost_ends: Option<String>,
    /// A ChatGLM2 or 3 whose folder has a chat template of its own: not the authors' format, which `chat` says.
    pub other_template: bool,
}

/// Sampling defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits.
    pub temperature: f64,
    /// Nucleus sampling.
    pub top_p: f64,
}

/// A choice that no single field makes, and its reason. Prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What was to be decided.
    pub subject: Subject,
    /// What was decided.
    pub choice: String,
    /// What it rests on.
    pub source: String,
}

/// What of a tokenizer is to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The tokens of the roles.
    Roles,
    /// Tokens that the user's files add.
    AddedTokens,
    /// Other special tokens.
    SpecialTokens,
    /// The tokens that end a text.
    EndOfText,
    /// The chat template.
    ChatTemplate,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Roles => "roles",
            Subject::AddedTokens => "added tokens",
            Subject::SpecialTokens => "special tokens",
            Subject::EndOfText => "end of text",
            Subject::ChatTemplate => "chat template",
        })
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, from {}", self.subject, self.choice, self.source)
    }
}

impl Tokenizer {
    /// Takes a chat template that the user gives, as `source` says.
    pub fn take_template(&mut self, chat: ChatFormat, text: String, source: &str) {
        self.decisions.retain(|decision| decision.subject != Subject::ChatTemplate);
        self.decisions.push(template_decision("the given one", source));
        self.vocabulary.chat_template = Some(text);
        (self.chat, self.other_template) = (chat, false);
    }
}

/// Reads the tokenizer in `dir`. A SentencePiece model and tiktoken's lines are told apart by their content.
pub fn load(dir: &Path, config: &GlmConfig) -> Result<Tokenizer> {
    let files = Files::read(dir)?;
    of_files(&files, config).map_err(|wrong| wrong.beside(&files.model_file))
}

/// Reads `tokenizer.model` alone, from memory.
#[cfg(fuzzing)]
pub(crate) fn of_bytes(bytes: &[u8], config: &GlmConfig) -> Result<Tokenizer> {
    of_files(&Files { model: bytes.to_vec(), ..Files::default() }, config)
        .map_err(|wrong| wrong.beside(Path::new("tokenizer.model")))
}

fn of_files(files: &Files, config: &GlmConfig) -> Result<Tokenizer, Wrong> {
    let sampling = Sampling {
        // What the authors' own chat functions use.
        temperature: files.generation.temperature.unwrap_or(0.8),
        top_p: files.generation.top_p.unwrap_or(0.8),
    };
    let (mut vocabulary, chat, mut decisions) = match ModelFile::of(files) {
        ModelFile::SentencePiece => sentencepiece_vocabulary(files, config)?,
        ModelFile::Tiktoken => with_template(files, config, tiktoken::vocabulary(files, config)?),
        ModelFile::Json => {
            let (vocabulary, roles) = tokenizer_json::vocabulary(files, config)?;
            with_template(files, config, (vocabulary, vec![roles]))
        }
    };
    special::refuse_lost_end(&vocabulary, files)?;
    decisions.extend(files.added.older(special::own(&vocabulary)));
    decisions.extend(files.added.notes.iter().cloned());
    decisions.extend(special::without_ids(&vocabulary, &files.added));
    // The authors' chat function of ChatGLM3 ends at its roles, whatever the lists say.
    let settled = ends::settle(&mut vocabulary, files, chat == ChatFormat::Roles)?;
    decisions.extend(settled.decisions);
    let other_template = matches!(chat, ChatFormat::Roles | ChatFormat::Rounds)
        && vocabulary.chat_template.as_deref() != chat.template();
    Ok(Tokenizer { vocabulary, chat, sampling, decisions, lost_ends: settled.lost, other_template })
}

/// Refuses more tokens than the embedding has rows.
fn check_size(found: usize, padded_vocab_size: usize) -> Result<(), Problem> {
    if found > padded_vocab_size {
        let expected =
            format!("at most {padded_vocab_size} by config.json: the tokenizer is of another model");
        return Err(Problem::mismatch("", format!("{found} tokens"), expected));
    }
    Ok(())
}

/// A vocabulary with its template, how it takes conversations, and why.
type WithTemplate = (Vocabulary, ChatFormat, Vec<Decision>);

/// ChatGLM2 and 3: the published templates, where there are any, give other ids than the authors' code, by white
/// space alone. One that does something else was written for the model, and stays.
fn sentencepiece_vocabulary(files: &Files, config: &GlmConfig) -> Result<WithTemplate, Wrong> {
    let model = sentencepiece::parse(&files.model, config.padded_vocab_size)?;
    let (specials, roles) = special::choose(files, config, model.pieces.len());
    let mut vocabulary = special::complete(model, specials, &files.added, config)?;
    let (chat, choice) = match specials {
        special::Specials::ChatGlm2 => (ChatFormat::Rounds, "numbered rounds"),
        special::Specials::ChatGlm3 => (ChatFormat::Roles, "role tokens"),
    };
    let own = files.config.chat_template.as_ref();
    let (text, template) = match own.filter(|own| !template::is_but_spaced(&own.text, chat)) {
        Some(own) => (Some(own.text.as_str()), template_decision(UNKNOWN, &own.source)),
        None => (chat.template(), template_decision(choice, "the authors' chat functions")),
    };
    vocabulary.chat_template = text.map(str::to_owned);
    Ok((vocabulary, chat, vec![roles, template]))
}

/// GLM-4 and its kin: a template that is not known goes through as it is.
fn with_template(
    files: &Files,
    config: &GlmConfig,
    (mut vocabulary, mut decisions): (Vocabulary, Vec<Decision>),
) -> WithTemplate {
    let own = files.config.chat_template.as_ref();
    let (chat, template) = match own {
        Some(own) => of_own_template(own),
        None => without_template(files, config),
    };
    vocabulary.chat_template = chat.template().or(own.map(|own| own.text.as_str())).map(str::to_owned);
    decisions.push(template);
    (vocabulary, chat, decisions)
}

const TEMPLATE_FILES: &str = "tokenizer_config.json, chat_template.jinja or chat_template.json";

/// Why a template stays.
const UNKNOWN: &str =
    "the model's own, kept: none of the published ones; answers may begin with a blank line";

fn of_own_template(own: &OwnTemplate) -> (ChatFormat, Decision) {
    let (format, choice) = match template::recognise(&own.text) {
        Some(ChatFormat::Glm4) => {
            (ChatFormat::Glm4, "GLM-4's: the text of the model's own, and tools where runtimes pass them")
        }
        Some(format) => (format, "the family's: the text of the model's own"),
        None => (ChatFormat::Own, UNKNOWN),
    };
    (format, template_decision(choice, &own.source))
}

/// The base models come without a template, and so does CodeGeeX4, whose authors format chats in their tokenizer's
/// code. Of the published models, those that chat have the longer context.
fn without_template(files: &Files, config: &GlmConfig) -> (ChatFormat, Decision) {
    let (format, name, option) = match config.is_edge() {
        true => (ChatFormat::Edge, "GLM-Edge's", "glm-edge"),
        false => (ChatFormat::Glm4, "GLM-4's", "glm4"),
    };
    let names = [&config.name_or_path, &files.config.name_or_path].map(|name| name.to_lowercase());
    let named = names.iter().find(|name| name.contains("codegeex4") || name.contains("chat"));
    let source = match named {
        Some(name) => format!("the name {name:?}, since no file has a template"),
        None if config.hidden_size >= 4096 && config.seq_length > 8192 => {
            format!("seq_length {} in config.json, since no file has a template", config.seq_length)
        }
        None => {
            let choice = format!(
                "none: a base model, which continues text; if yours was trained to chat, give --chat-template \
                 {option} or a file"
            );
            return (ChatFormat::Completion, template_decision(&choice, TEMPLATE_FILES));
        }
    };
    (format, template_decision(name, &source))
}

fn template_decision(choice: &str, source: &str) -> Decision {
    Decision { subject: Subject::ChatTemplate, choice: choice.to_owned(), source: source.to_owned() }
}

/// A token's kind, with the numbers that GGUF (and llama.cpp) give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenType {
    /// Ordinary text.
    Normal = 1,
    /// Stands for what the vocabulary cannot spell.
    Unknown = 2,
    /// Never part of text: roles, ends of turn.
    Control = 3,
    /// A string that is always one token.
    UserDefined = 4,
    /// Fills the vocabulary up.
    Unused = 5,
    /// One raw byte.
    Byte = 6,
}

impl TokenType {
    /// The kind of that number; llama.cpp, too, takes one it does not know for ordinary text.
    pub fn numbered(number: i32) -> TokenType {
        use TokenType::{Byte, Control, Normal, Unknown, Unused, UserDefined};
        let others = [Unknown, Control, UserDefined, Unused, Byte];
        others.into_iter().find(|&kind| kind as i32 == number).unwrap_or(Normal)
    }
}

/// How a vocabulary makes tokens of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VocabularyKind {
    /// Pieces with scores: the two neighbours that make up the best piece are joined first.
    #[default]
    SentencePiece,
    /// Bytes, written as letters, and a list of merges.
    Bpe {
        /// A word that is a token is taken whole, before its parts are joined, as tiktoken does.
        whole_words: bool,
    },
}

/// Everything a runtime needs to turn text into the original tokenizer's ids, and to know when to stop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vocabulary {
    /// How text becomes tokens.
    pub kind: VocabularyKind,
    /// The tokens' texts, by id; `padded_vocab_size` of them.
    pub tokens: Vec<String>,
    /// Merge scores, by id; empty for [`VocabularyKind::Bpe`].
    pub scores: Vec<f32>,
    /// Kinds, by id.
    pub types: Vec<TokenType>,
    /// Merges, best first; empty for [`VocabularyKind::SentencePiece`].
    pub merges: Vec<String>,
    /// Beginning of text.
    pub bos: Option<u32>,
    /// End of text.
    pub eos: Option<u32>,
    /// Unknown token.
    pub unk: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// End of a turn.
    pub eot: Option<u32>,
    /// End of a message (the model waits for a tool's answer).
    pub eom: Option<u32>,
    /// All tokens that end a text, where the model lists more than fit into the three places too.
    pub ends: Vec<u32>,
    /// Text starts with a space that is not in it.
    pub add_space_prefix: bool,
    /// The chat template, Jinja.
    pub chat_template: Option<String>,
}

impl Vocabulary {
    /// The last id that is not padding; 0 where there is none.
    pub fn last(&self) -> usize {
        self.types.iter().rposition(|&kind| kind != TokenType::Unused).unwrap_or(0)
    }

    /// What a token stands for in a text. Ordinary tokens are written in the vocabulary's own spelling, in which a
    /// space or a line break is a letter; this is what they spell. Nothing for one that is only part of a character,
    /// and for an id that no token has.
    pub fn text(&self, id: u32) -> Option<Cow<'_, str>> {
        let place = usize::try_from(id).ok()?;
        let (token, kind) = (self.tokens.get(place)?, self.types.get(place)?);
        let utf8 = |bytes: Vec<u8>| String::from_utf8(bytes).ok().map(Cow::Owned);
        match (kind, self.kind) {
            (TokenType::Normal, VocabularyKind::Bpe { .. }) => utf8(letters::unspell(token)?),
            (TokenType::Normal, VocabularyKind::SentencePiece) => Some(Cow::Owned(token.replace('▁', " "))),
            (TokenType::Byte, _) => {
                let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
                utf8(vec![u8::from_str_radix(digits, 16).ok()?])
            }
            _ => Some(Cow::Borrowed(token)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ChatGLM3's, with a small vocabulary.
    pub fn config() -> GlmConfig {
        GlmConfig {
            name_or_path: String::new(),
            hidden_size: 64,
            padded_vocab_size: 13,
            ..crate::config::tests::chatglm3_config()
        }
    }

    #[test]
    fn a_model_without_a_template_is_told_its_own_format() {
        let edge = GlmConfig { naming: crate::config::TensorNaming::Glm, hidden_size: 2048, ..config() };
        let nine = GlmConfig { hidden_size: 4096, seq_length: 131_072, ..config() };
        let found = |name: &str, config: &GlmConfig| {
            let config = GlmConfig { name_or_path: name.to_owned(), ..config.clone() };
            let (format, decision) = without_template(&Files::default(), &config);
            (format, decision.choice)
        };
        let (format, advice) = found("", &edge);
        assert!(format == ChatFormat::Completion && advice.contains("--chat-template glm-edge"), "{advice}");
        let (format, advice) = found("", &config());
        assert!(format == ChatFormat::Completion && advice.contains("--chat-template glm4"), "{advice}");
        assert_eq!(found("zai-org/glm-edge-1.5b-chat", &edge), (ChatFormat::Edge, "GLM-Edge's".to_owned()));
        assert_eq!(found("", &nine), (ChatFormat::Glm4, "GLM-4's".to_owned()));
    }

    #[test]
    fn what_is_neither_kind_of_vocabulary_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = load(dir.path(), &config()).unwrap_err().to_string();
        assert!(
            error.contains("found no tokenizer, expected tokenizer.model or tokenizer.json: download it too"),
            "{error}"
        );
        for bytes in ["{\"model\": {}}", "", "hello world"] {
            std::fs::write(dir.path().join("tokenizer.model"), bytes).unwrap();
            let error = load(dir.path(), &config()).unwrap_err().to_string();
            assert!(error.contains("SentencePiece"), "{bytes}: {error}");
        }
    }
}
