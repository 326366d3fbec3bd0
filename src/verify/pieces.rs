//! `tokenizer.model` read a second time: the pieces and the two flags that verify needs, and nothing decided.

use std::path::Path;

use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use crate::error::{Error, Result};
use crate::input::read_capped;

/// The real vocabularies have 1 and 2.6 MB.
pub(super) const MAX_BYTES: u64 = 4 << 20;

/// The SentencePiece file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Pieces {
    #[prost(message, repeated, tag = "1")]
    pub pieces: Vec<Piece>,
}

/// An entry of it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Piece {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(float, tag = "2")]
    pub score: f32,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte; normal when absent.
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

/// The type of a piece that is one byte.
const BYTE: i32 = 6;

impl Piece {
    /// As a GGUF file has it.
    pub(super) fn new(text: &str, score: f32, kind: i32) -> Piece {
        Piece { text: text.to_owned(), score, kind: Some(kind) }
    }

    pub(super) fn type_number(&self) -> i32 {
        self.kind.unwrap_or(1)
    }
}

/// Fields with the pieces' number.
fn count(mut bytes: &[u8]) -> Result<usize, prost::DecodeError> {
    let mut count = 0;
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
        count += usize::from(tag == 1);
    }
    Ok(count)
}

pub(super) fn too_many(file: &Path, found: usize, most: usize) -> Error {
    let expected = format!("at most {most}, the rows of the embedding");
    Error::file_mismatch(file, format!("{found} tokens"), expected)
}

impl Pieces {
    /// Reads the folder's `tokenizer.model`, of at most `most` pieces; none when it has none, or it is no
    /// SentencePiece file.
    pub(super) fn read(folder: &Path, most: usize) -> Result<Option<Pieces>> {
        let file = folder.join("tokenizer.model");
        let Some(bytes) = read_capped(&file, MAX_BYTES)? else { return Ok(None) };
        // Field 1, length-delimited: so a SentencePiece file begins. GLM-4's is lines of base64.
        if bytes.first() != Some(&0x0a) {
            return Ok(None);
        }
        let at_fault = |e| Error::file(&file, format!("is not a SentencePiece model: {e}"));
        // An empty piece has two bytes in the file, and 40 in memory.
        let count = count(&bytes).map_err(at_fault)?;
        if count > most {
            return Err(too_many(&file, count, most));
        }
        let pieces = Pieces::decode(bytes.as_slice()).map_err(at_fault)?;
        Ok(Some(pieces))
    }

    /// The id of a piece.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.pieces.iter().position(|piece| piece.text == text).and_then(|id| u32::try_from(id).ok())
    }

    /// What a token stands for in a text.
    pub(super) fn bytes(&self, token: u32) -> Vec<u8> {
        let Some(piece) = self.pieces.get(token as usize) else { return Vec::new() };
        let hex = piece.text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        match hex.filter(|_| piece.type_number() == BYTE).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => vec![byte],
            None => piece.text.replace('▁', " ").into_bytes(),
        }
    }

    /// The id of the special token with this number after the pieces.
    pub(super) fn special(&self, number: usize) -> u32 {
        u32::try_from(self.pieces.len() + number).unwrap_or(u32::MAX)
    }
}
