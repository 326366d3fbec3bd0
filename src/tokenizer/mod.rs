//! The tokenizer's files -> the arrays that a GGUF holds. Knows nothing of weights.

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
#[derive(Clone, Debug, PartialEq)]
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
