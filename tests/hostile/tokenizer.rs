//! SentencePiece models and tiktoken's lines.

use std::fs;

use super::{refuse, repeated};
use crate::support::tiny_tokenizer;

const FILE: &str = "tokenizer.model";

/// The good model and one more piece, of these protobuf fields.
fn piece(fields: &[u8]) -> Vec<u8> {
    [&fs::read(tiny_tokenizer()).expect("read")[..], &[0x0a, fields.len() as u8], fields].concat()
}

fn scored(score: f32) -> Vec<u8> {
    piece(&[b"\x0a\x01\x01\x15".as_slice(), &score.to_le_bytes()].concat())
}

#[test]
fn sentencepiece() {
    let good = fs::read(tiny_tokenizer()).expect("read");
    let cases = vec![
        (vec![], "pieces: found none, expected a SentencePiece vocabulary"),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
            "is not a SentencePiece model: failed to decode Protobuf message: invalid varint",
        ),
        (
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec(),
            "is not a SentencePiece model: failed to decode Protobuf message: buffer underflow",
        ),
        (
            good[..good.len() / 2].to_vec(),
            "is not a SentencePiece model: failed to decode Protobuf message: invalid varint",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "found a Git LFS pointer, expected the file itself (fetch it with `git lfs pull`)",
        ),
        // Groups within groups, which protobuf had once.
        (
            vec![0x0b; 4 << 20],
            "is not a SentencePiece model: failed to decode Protobuf message: recursion limit reached",
        ),
        // Pieces without any text: 2 bytes each in the file.
        (
            b"\x0a\0".repeat(2 << 20),
            "found 2097152 tokens, expected at most 1024 by config.json: the tokenizer is of another model",
        ),
        (vec![0; (4 << 20) + 1], "found over 4194304 bytes, expected no more of such a file"),
        (
            // Its merges would take hours.
            [&good[..], b"\x0a\x85\x80\x80\x01\x0a\x80\x80\x80\x01", &[b'a'; 2 << 20]].concat(),
            "pieces[900]: found 2097152 bytes, expected at most 512",
        ),
        (piece(b""), "pieces[900]: found an empty piece, expected some text"),
        (
            piece(b"\x0a\x05<unk>"),
            "pieces[900]: found \"<unk>\" again, as in pieces[0], expected a text of its own",
        ),
        (
            piece(b"\x0a\x01\xff"),
            "is not a SentencePiece model: failed to decode Protobuf message: PieceProto.piece: ModelProto.pieces: invalid string value: data is not UTF-8 encoded",
        ),
        (piece(b"\x0a\x01\x01\x18\x05"), "pieces[900]: found type 5, expected type 1, 2, 3, 4 or 6"),
        (
            piece(b"\x0a\x01\x01\x18\xff\xff\xff\xff\x0f"),
            "pieces[900]: found type -1, expected type 1, 2, 3, 4 or 6",
        ),
        (scored(f32::NAN), "pieces[900]: found score NaN, expected a score above -1e9"),
        (scored(f32::INFINITY), "pieces[900]: found score inf, expected a score above -1e9"),
        (
            scored(-1e30),
            "pieces[900]: found score -1000000000000000000000000000000, expected a score above -1e9",
        ),
    ];
    refuse(FILE, cases);
}

/// All bytes as tiktoken's first 256 lines, then `more`.
fn ranks(more: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |six: u8| char::from(DIGITS[usize::from(six)]);
    let line = |byte: u8| format!("{}{}== {byte}\n", digit(byte >> 2), digit(byte << 4 & 63));
    ((0..=u8::MAX).map(line).collect::<String>() + more).into_bytes()
}

#[test]
fn tiktoken() {
    let long = |i: usize| format!("{}{:04} {}\n", "YWJj".repeat(169), i % 10_000, 256 + i);
    let bomb = |count| (0..count).map(long).collect::<String>();
    let cases = vec![
        (
            ranks("YWI= 18446744073709551616\n"),
            "line 257: found `YWI= 18446744073709551616`, expected a token in base64 and its rank",
        ),
        (
            ranks("YWI= 18446744073709551615\n"),
            "line 257: found rank 18446744073709551615, expected ranks below 257, the number of lines",
        ),
        (ranks("YWI= 7\n"), "line 257: found rank 7 again, expected each rank once"),
        (ranks("?? 256\n"), "line 257: found `?? 256`, expected a token in base64 and its rank"),
        ([ranks(""), b"\xff\n".to_vec()].concat(), "is not text"),
        (ranks(&format!("{} 256\n", "YWJj".repeat(1000))), "line 257: found 3000 bytes, expected 1 to 512"),
        (
            ranks(&bomb(700)),
            "found too many long tokens: the squares of their lengths make 182070256, expected at most 67108864",
        ),
        (
            ranks(&bomb(4000)),
            "found 4256 tokens, expected at most 1024 by config.json: the tokenizer is of another model",
        ),
        (b"IQ== 0\n".to_vec(), "found no token for byte 0x00, expected all 256 of them"),
        (
            repeated("IQ== 0\n", "IQ== 0\n", 100_000, ""),
            "found 100001 tokens, expected at most 1024 by config.json: the tokenizer is of another model",
        ),
    ];
    refuse(FILE, cases);
}
