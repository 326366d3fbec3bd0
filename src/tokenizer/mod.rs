//! The tokenizer's files -> the arrays that a GGUF holds. Knows nothing of weights.

mod files;
mod sentencepiece;
mod special;
pub mod template;

use std::fmt;
use std::path::Path;

use crate::config::GlmConfig;
use crate::error::Result;
use files::Files;
pub use template::ChatFormat;

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
    pub evidence: Vec<Evidence>,
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
pub struct Evidence {
    /// What was to be decided, `roles` for instance.
    pub subject: &'static str,
    /// What was decided.
    pub choice: String,
    /// What it rests on.
    pub source: String,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, from {}", self.subject, self.choice, self.source)
    }
}

/// Reads the tokenizer in `dir`. A SentencePiece model and tiktoken's lines are told apart by their content.
pub fn load(dir: &Path, config: &GlmConfig) -> Result<Tokenizer> {
    let files = Files::read(dir)?;
    let sampling = Sampling {
        // What the authors' own chat functions use.
        temperature: files.generation.temperature.unwrap_or(0.8),
        top_p: files.generation.top_p.unwrap_or(0.8),
    };
    let (vocabulary, chat, mut evidence) = sentencepiece_vocabulary(&files, config)?;
    evidence.extend(unheld_ends(&vocabulary, &files));
    Ok(Tokenizer { vocabulary, chat, sampling, evidence })
}

fn sentencepiece_vocabulary(
    files: &Files,
    config: &GlmConfig,
) -> Result<(Vocabulary, ChatFormat, Vec<Evidence>)> {
    let model = sentencepiece::parse(&files.model_file, &files.model, config.padded_vocab_size)?;
    let (specials, roles) = special::choose(files, config);
    let mut vocabulary = special::complete(model, specials, files, config)?;
    let (chat, text) = match specials {
        special::Specials::Five => (ChatFormat::Rounds, template::ROUNDS),
        special::Specials::Nine => (ChatFormat::Roles, template::ROLES),
    };
    vocabulary.chat_template = Some(text.to_owned());
    let template = Evidence {
        subject: "chat template",
        choice: match chat {
            ChatFormat::Rounds => "numbered rounds".to_owned(),
            _ => "role tokens".to_owned(),
        },
        source: "the authors' chat functions".to_owned(),
    };
    Ok((vocabulary, chat, vec![roles, template]))
}

/// GGUF has places for three ends of generation, so an unusual list may not fit: say so.
fn unheld_ends(vocabulary: &Vocabulary, files: &Files) -> Option<Evidence> {
    let held = [vocabulary.eos, vocabulary.eot, vocabulary.eom];
    let rest: Vec<String> = files
        .generation
        .eos
        .iter()
        .filter(|&&id| !held.contains(&Some(id)))
        .map(|id| format!("{id} does not end the text"))
        .collect();
    (!rest.is_empty()).then(|| Evidence {
        subject: "end of text",
        choice: rest.join(", "),
        source: format!("eos_token_id in {}", files.generation.file.display()),
    })
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

/// Everything a runtime needs to turn text into the original tokenizer's ids, and to know when to stop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vocabulary {
    /// `tokenizer.ggml.model`: `llama` (SentencePiece BPE) or `gpt2` (byte-level BPE).
    pub model: &'static str,
    /// `tokenizer.ggml.pre`.
    pub pre: &'static str,
    /// The tokens' texts, by id; `padded_vocab_size` of them.
    pub tokens: Vec<String>,
    /// Merge scores, by id; empty for `gpt2`.
    pub scores: Vec<f32>,
    /// Kinds, by id.
    pub types: Vec<TokenType>,
    /// Merges, best first; empty for `llama`.
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
    /// Text starts with a space that is not in it.
    pub add_space_prefix: bool,
    /// The chat template, Jinja.
    pub chat_template: Option<String>,
}
