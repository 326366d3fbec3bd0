//! Crafted SentencePiece files, good and hostile.

use std::path::Path;

use super::*;
use crate::error::InFile;

fn piece(text: &str, kind: i32) -> PieceProto {
    PieceProto { piece: text.to_owned(), score: 0.0, kind: Some(kind) }
}

fn good() -> ModelProto {
    let mut pieces = vec![piece("<unk>", 2), piece("<s>", 3), piece("</s>", 3)];
    pieces.extend((0..=255).map(|byte| piece(&format!("<0x{byte:02X}>"), 6)));
    pieces.push(PieceProto { piece: "▁a".to_owned(), score: -1.0, kind: None });
    ModelProto {
        pieces,
        trainer_spec: Some(TrainerSpec { model_type: Some(2), byte_fallback: true, ..Default::default() }),
        normalizer_spec: Some(NormalizerSpec {
            name: "identity".to_owned(),
            remove_extra_whitespaces: Some(false),
            ..Default::default()
        }),
    }
}

fn parsed(bytes: &[u8]) -> Result<Model> {
    parse(bytes, 300).in_file(Path::new("tokenizer.model"))
}

#[test]
fn a_good_model_keeps_order_scores_and_kinds() {
    let model = parsed(&good().encode_to_vec()).unwrap();
    assert_eq!((model.pieces.len(), model.unk, model.bos, model.eos), (260, 0, Some(1), Some(2)));
    assert_eq!(model.pieces[13].text, "<0x0A>");
    assert_eq!(model.pieces[259], Piece { text: "▁a".to_owned(), score: -1.0, kind: TokenType::Normal });
}

#[test]
fn fields_of_later_versions_are_stepped_over() {
    let mut bytes = good().encode_to_vec();
    bytes.extend([0xFA, 0x01, 2, b'h', b'i', 0x80, 0x02, 7]); // field 31, text; field 32, number
    assert!(parsed(&bytes).is_ok());
}

/// One change to a good model, and the message it must give.
type Case = (fn(&mut ModelProto), &'static str);

#[test]
fn whatever_llama_cpp_would_do_otherwise_is_refused_with_its_key() {
    let cases: [Case; 17] = [
        (|m| m.pieces.clear(), "pieces: found none, expected a SentencePiece vocabulary"),
        (|m| m.trainer_spec = None, "trainer_spec.model_type: found unigram, expected bpe"),
        (|m| trainer(m).model_type = Some(1), "trainer_spec.model_type: found unigram, expected bpe"),
        (
            |m| trainer(m).model_type = Some(-9),
            "trainer_spec.model_type: found an unknown type, expected bpe",
        ),
        (|m| trainer(m).byte_fallback = false, "trainer_spec.byte_fallback: found false, expected true"),
        (
            |m| normalizer(m).name = "nmt_nfkc".into(),
            "normalizer_spec.name: found nmt_nfkc, expected identity",
        ),
        (
            |m| normalizer(m).precompiled_charsmap = vec![1, 2],
            "normalizer_spec.precompiled_charsmap: found 2 bytes, expected none (identity)",
        ),
        (
            |m| normalizer(m).remove_extra_whitespaces = None,
            "normalizer_spec.remove_extra_whitespaces: found true, expected false",
        ),
        (
            |m| normalizer(m).add_dummy_prefix = Some(false),
            "normalizer_spec.add_dummy_prefix: found false, expected true",
        ),
        (|m| m.pieces[259].piece.clear(), "pieces[259]: found an empty piece, expected some text"),
        (
            |m| m.pieces[259].piece = "<s>".into(),
            "pieces[259]: found \"<s>\" again, as in pieces[1], expected a text of its own",
        ),
        (|m| m.pieces[7].score = f32::NAN, "pieces[7]: found score NaN, expected a score above -1e9"),
        (|m| m.pieces[7].score = -1e9, "pieces[7]: found score -1000000000, expected a score above -1e9"),
        (|m| m.pieces[259].kind = Some(5), "pieces[259]: found type 5, expected type 1, 2, 3, 4 or 6"),
        (|m| m.pieces[13].kind = Some(1), "pieces: found no byte piece <0x0A>, expected all 256 of them"),
        (|m| m.pieces[259].kind = Some(6), "pieces: found 257 byte pieces, expected 256"),
        (|m| m.pieces[259].kind = Some(2), "pieces[259]: found a second unknown piece, expected one"),
    ];
    for (change, message) in cases {
        let mut model = good();
        change(&mut model);
        assert_eq!(
            parsed(&model.encode_to_vec()).unwrap_err().to_string(),
            format!("tokenizer.model: {message}")
        );
    }
}

fn trainer(model: &mut ModelProto) -> &mut TrainerSpec {
    model.trainer_spec.get_or_insert_default()
}

fn normalizer(model: &mut ModelProto) -> &mut NormalizerSpec {
    model.normalizer_spec.get_or_insert_default()
}

#[test]
fn more_pieces_than_rows_are_refused_before_they_are_read() {
    // Two bytes each: what reading them would cost is many times that.
    let bytes = [0x0A, 0].repeat(301);
    let message = "tokenizer.model: found 301 tokens, expected at most 300 by config.json: the tokenizer is of \
        another model";
    assert_eq!(parsed(&bytes).unwrap_err().to_string(), message);
}

#[test]
fn broken_bytes_are_refused() {
    let hostile: [(&str, &[u8]); 8] = [
        ("ends in a key", &[0x80]),
        ("a length beyond the end", &[0x0A, 0x7F, b'a']),
        ("a huge length", &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
        (
            "a number of eleven bytes",
            &[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        ),
        ("field 0", &[0x02, 0]),
        ("pieces as a number", &[0x08, 1, 0x0A, 3, 0x0A, 1, b'a']),
        ("a piece that is not UTF-8", &[0x0A, 4, 0x0A, 2, 0xFF, 0xFE]),
        ("a score as text", &[0x0A, 5, 0x12, 3, b'0', b'.', b'5']),
    ];
    for (what, bytes) in hostile {
        let error = parsed(bytes).expect_err(what).to_string();
        assert!(error.starts_with("tokenizer.model: is not a SentencePiece model: "), "{what}: {error}");
    }
    assert!(parsed(b"").unwrap_err().to_string().contains("found none"));
    // Groups nest: reading them must not overflow the stack.
    assert!(parsed(&[0xFB; 100_000]).is_err());
}

#[test]
fn a_file_cut_off_anywhere_is_refused_or_misses_something() {
    let bytes = good().encode_to_vec();
    for length in 0..bytes.len() {
        assert!(parsed(&bytes[..length]).is_err(), "{length} bytes of {}", bytes.len());
    }
}
