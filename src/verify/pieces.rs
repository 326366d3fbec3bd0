//! `tokenizer.model` read a second time: the pieces and the two flags that verify needs, and nothing decided.

use std::path::Path;

use prost::Message;

use crate::error::{Error, Result};
use crate::input::read_capped;

/// The real vocabularies have 1 MB.
const MAX_BYTES: u64 = 64 << 20;

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

impl Piece {
    pub(super) fn type_number(&self) -> i32 {
        self.kind.unwrap_or(1)
    }
}

impl Pieces {
    /// Reads the folder's `tokenizer.model`; none when it has none, or it is no SentencePiece file.
    pub(super) fn read(folder: &Path) -> Result<Option<Pieces>> {
        let file = folder.join("tokenizer.model");
        let Some(bytes) = read_capped(&file, MAX_BYTES)? else { return Ok(None) };
        // Field 1, length-delimited: so a SentencePiece file begins. GLM-4's is lines of base64.
        if bytes.first() != Some(&0x0a) {
            return Ok(None);
        }
        let pieces = Pieces::decode(bytes.as_slice())
            .map_err(|e| Error::input(&file, "", format!("is not a SentencePiece model: {e}")))?;
        Ok(Some(pieces))
    }

    /// The id of a piece.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.pieces.iter().position(|piece| piece.text == text).and_then(|id| u32::try_from(id).ok())
    }

    /// A token's text, for display.
    pub(super) fn text(&self, token: u32) -> String {
        match self.pieces.get(token as usize) {
            Some(piece) => piece.text.replace('▁', " "),
            None => match token as usize - self.pieces.len() {
                1 => "[gMASK]".to_owned(),
                3 => "sop".to_owned(),
                _ => format!("<{token}>"),
            },
        }
    }

    /// The id of the special token with this number after the pieces.
    pub(super) fn special(&self, number: usize) -> u32 {
        u32::try_from(self.pieces.len() + number).unwrap_or(u32::MAX)
    }
}
