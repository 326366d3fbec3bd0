//! The bytes of a SentencePiece model -> its pieces. Takes only what llama.cpp's tokenizer does in the same way:
//! BPE with byte fallback, text taken as it is, a space put before it.

use std::collections::HashMap;

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use super::TokenType;
use crate::error::{Problem, Result};

/// Bytes of a piece: that of a real model has up to 16 characters, and merges take time with the square of them.
const LONGEST_PIECE: usize = 512;

/// Below every piece. llama.cpp merges by score, whatever a token is for: with score 0 ordinary text that spells a
/// special token would turn into it.
pub(super) const SCORE: f32 = -1e9;

/// A read and checked model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    /// The pieces, by id.
    pub pieces: Vec<Piece>,
    /// Beginning of text.
    pub bos: Option<u32>,
    /// End of text.
    pub eos: Option<u32>,
    /// Stands for what no piece spells.
    pub unk: u32,
}

/// One entry of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    /// Its text, `▁` for a space.
    pub text: String,
    /// The higher, the earlier it is merged.
    pub score: f32,
    /// What it is for.
    pub kind: TokenType,
}

// The fields of sentencepiece_model.proto that matter here; prost steps over the others.

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<PieceProto>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct PieceProto {
    #[prost(string, tag = "1")]
    piece: String,
    #[prost(float, tag = "2")]
    score: f32,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(bool, tag = "24")]
    treat_whitespace_as_suffix: bool,
    #[prost(bool, tag = "35")]
    byte_fallback: bool,
    #[prost(string, optional, tag = "46")]
    bos_piece: Option<String>,
    #[prost(string, optional, tag = "47")]
    eos_piece: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    precompiled_charsmap: Vec<u8>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    escape_whitespaces: Option<bool>,
}

/// Reads the bytes of a `tokenizer.model`; `padded_vocab_size` is how many rows the embedding has.
pub(super) fn parse(bytes: &[u8], padded_vocab_size: usize) -> Result<Model, Problem> {
    let not_a_model = |error| Problem::new("", format!("is not a SentencePiece model: {error}"));
    // Counted first: an empty piece has two bytes in the file and many times that in memory.
    let count = count_pieces(bytes).map_err(not_a_model)?;
    if count == 0 {
        return Err(Problem::mismatch("pieces", "none", "a SentencePiece vocabulary"));
    }
    super::check_size(count, padded_vocab_size)?;
    let proto = ModelProto::decode(bytes).map_err(not_a_model)?;
    let trainer = proto.trainer_spec.unwrap_or_default();
    check_training(&trainer)?;
    check_normalizer(&proto.normalizer_spec.unwrap_or_default())?;

    let pieces = proto
        .pieces
        .into_iter()
        .enumerate()
        .map(|(id, piece)| check_piece(id, piece))
        .collect::<Result<Vec<_>, Problem>>()?;
    let ids = ids_by_text(&pieces)?;
    check_bytes(&pieces, &ids)?;
    let control = |name: Option<&str>| {
        let id = ids.get(name?).copied()?;
        pieces.get(id).filter(|piece| piece.kind == TokenType::Control).and_then(|_| u32::try_from(id).ok())
    };
    let bos = control(trainer.bos_piece.as_deref().or(Some("<s>")));
    let eos = control(trainer.eos_piece.as_deref().or(Some("</s>")));
    let unk = only_unknown(&pieces)?;
    Ok(Model { bos, eos, unk, pieces })
}

fn count_pieces(mut bytes: &[u8]) -> Result<usize, prost::DecodeError> {
    let mut count = 0;
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        count += usize::from(tag == 1 && wire_type == WireType::LengthDelimited);
        skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
    }
    Ok(count)
}

fn check_training(trainer: &TrainerSpec) -> Result<(), Problem> {
    let model_type = match trainer.model_type.unwrap_or(1) {
        1 => "unigram",
        2 => "bpe",
        3 => "word",
        4 => "char",
        _ => "an unknown type",
    };
    if model_type != "bpe" {
        return Err(Problem::mismatch("trainer_spec.model_type", model_type, "bpe"));
    }
    must_be("trainer_spec.byte_fallback", trainer.byte_fallback, true)?;
    must_be("trainer_spec.treat_whitespace_as_suffix", trainer.treat_whitespace_as_suffix, false)
}

/// llama.cpp does not normalize, and every ChatGLM text starts with the space that is not in it.
fn check_normalizer(spec: &NormalizerSpec) -> Result<(), Problem> {
    if !matches!(spec.name.as_str(), "" | "identity") {
        return Err(Problem::mismatch("normalizer_spec.name", &spec.name, "identity"));
    }
    if !spec.precompiled_charsmap.is_empty() {
        let found = format!("{} bytes", spec.precompiled_charsmap.len());
        return Err(Problem::mismatch("normalizer_spec.precompiled_charsmap", found, "none (identity)"));
    }
    // An absent field means true for all three.
    let or_true = |field: Option<bool>| field.unwrap_or(true);
    must_be("normalizer_spec.add_dummy_prefix", or_true(spec.add_dummy_prefix), true)?;
    must_be("normalizer_spec.escape_whitespaces", or_true(spec.escape_whitespaces), true)?;
    must_be("normalizer_spec.remove_extra_whitespaces", or_true(spec.remove_extra_whitespaces), false)
}

fn must_be(item: &str, found: bool, expected: bool) -> Result<(), Problem> {
    if found == expected { Ok(()) } else { Err(Problem::mismatch(item, found, expected)) }
}

fn check_piece(id: usize, piece: PieceProto) -> Result<Piece, Problem> {
    let item = || format!("pieces[{id}]");
    if piece.piece.is_empty() {
        return Err(Problem::mismatch(item(), "an empty piece", "some text"));
    }
    if piece.piece.len() > LONGEST_PIECE {
        let found = format!("{} bytes", piece.piece.len());
        return Err(Problem::mismatch(item(), found, format!("at most {LONGEST_PIECE}")));
    }
    // Special tokens get the lowest score of all (see `special`), so a piece must stay above it.
    if !piece.score.is_finite() || piece.score <= SCORE {
        let expected = format!("a score above {:e}", SCORE);
        return Err(Problem::mismatch(item(), format!("score {}", piece.score), expected));
    }
    let kind = match piece.kind.unwrap_or(1) {
        1 => TokenType::Normal,
        2 => TokenType::Unknown,
        3 => TokenType::Control,
        4 => TokenType::UserDefined,
        6 => TokenType::Byte,
        // SentencePiece never yields an unused piece (5); llama.cpp would.
        other => return Err(Problem::mismatch(item(), format!("type {other}"), "type 1, 2, 3, 4 or 6")),
    };
    Ok(Piece { text: piece.piece, score: piece.score, kind })
}

fn ids_by_text(pieces: &[Piece]) -> Result<HashMap<&str, usize>, Problem> {
    let mut ids = HashMap::with_capacity(pieces.len());
    for (id, piece) in pieces.iter().enumerate() {
        if let Some(first) = ids.insert(piece.text.as_str(), id) {
            let found = format!("{:?} again, as in pieces[{first}]", piece.text);
            return Err(Problem::mismatch(format!("pieces[{id}]"), found, "a text of its own"));
        }
    }
    Ok(ids)
}

/// llama.cpp spells what no piece spells in bytes, which it finds by their text, and fails without them.
fn check_bytes(pieces: &[Piece], ids: &HashMap<&str, usize>) -> Result<(), Problem> {
    for byte in 0..=u8::MAX {
        let text = format!("<0x{byte:02X}>");
        let piece = ids.get(text.as_str()).and_then(|&id| pieces.get(id));
        if piece.is_none_or(|piece| piece.kind != TokenType::Byte) {
            return Err(Problem::mismatch("pieces", format!("no byte piece {text}"), "all 256 of them"));
        }
    }
    match pieces.iter().filter(|piece| piece.kind == TokenType::Byte).count() {
        256 => Ok(()),
        found => Err(Problem::mismatch("pieces", format!("{found} byte pieces"), "256")),
    }
}

fn only_unknown(pieces: &[Piece]) -> Result<u32, Problem> {
    let mut unknown = (0u32..).zip(pieces).filter(|(_, piece)| piece.kind == TokenType::Unknown);
    match (unknown.next(), unknown.next()) {
        (Some((id, _)), None) => Ok(id),
        (None, _) => Err(Problem::mismatch("pieces", "no unknown piece", "one")),
        (Some(_), Some((id, _))) => {
            Err(Problem::mismatch(format!("pieces[{id}]"), "a second unknown piece", "one"))
        }
    }
}

#[cfg(test)]
#[path = "sentencepiece_tests.rs"]
mod tests;
