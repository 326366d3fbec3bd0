//! GGUF heads, for `inspect`.

use std::fs;

use super::{mismatch, refuse};
use crate::support::Dir;

const FILE: &str = "x.gguf";

/// A GGUF file, written field by field.
pub struct Gguf(Vec<u8>);

pub const U8: u32 = 0;
pub const U32: u32 = 4;
pub const BOOL: u32 = 7;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;
pub const F32: u32 = 0;
const Q4_K: u32 = 12;

impl Gguf {
    pub fn new(tensors: u64, keys: u64) -> Gguf {
        Gguf(b"GGUF\x03\0\0\0".to_vec()).u64(tensors).u64(keys)
    }

    pub fn u32(self, x: u32) -> Gguf {
        self.raw(&x.to_le_bytes())
    }

    pub fn u64(self, x: u64) -> Gguf {
        self.raw(&x.to_le_bytes())
    }

    pub fn raw(mut self, bytes: &[u8]) -> Gguf {
        self.0.extend(bytes);
        self
    }

    pub fn text(self, text: &[u8]) -> Gguf {
        self.u64(text.len() as u64).raw(text)
    }

    pub fn key(self, name: &str, kind: u32) -> Gguf {
        self.text(name.as_bytes()).u32(kind)
    }

    pub fn array(self, kind: u32, length: u64) -> Gguf {
        self.key("a", ARRAY).u32(kind).u64(length)
    }

    pub fn tensor(self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Gguf {
        let head = self.text(name.as_bytes()).u32(dimensions.len() as u32);
        dimensions.iter().fold(head, |head, &dimension| head.u64(dimension)).u32(kind).u64(offset)
    }

    /// Pads the head and adds bytes of tensors.
    pub fn data(mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(32), 0);
        self.raw(bytes).0
    }

    fn end(self) -> Vec<u8> {
        self.0
    }
}

fn one_tensor(dimensions: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    Gguf::new(1, 0).tensor("t", dimensions, kind, offset).data(&[0; 256])
}

fn two_tensors(second: &str, bytes: u64, offset: u64) -> Vec<u8> {
    let gguf = Gguf::new(2, 0).tensor("t", &[bytes / 4], F32, 0);
    gguf.tensor(second, &[bytes / 4], F32, offset).data(&[0; 256])
}

fn alignment(kind: u32, value: u32) -> Vec<u8> {
    Gguf::new(0, 1).key("general.alignment", kind).u32(value).data(&[])
}

#[test]
fn heads() {
    let key = |name: &str| Gguf::new(0, 1).key(name, U8);
    let cases = vec![
        (vec![], "found 0 bytes left, expected 4 more: is the file complete?"),
        (b"GGML\x03\0\0\0".to_vec(), "is no GGUF file: it does not start with GGUF"),
        (b"GGUF\x01\0\0\0".to_vec(), "found version 0x1, expected version 2 or 3, little-endian"),
        (b"GGUF\0\0\0\x03".to_vec(), "found version 0x3000000, expected version 2 or 3, little-endian"),
        (b"GGUF\x03\0\0\0\x01".to_vec(), "found 1 bytes left, expected 8 more: is the file complete?"),
        (
            Gguf::new(u64::MAX, 0).end(),
            "found tensor count 18446744073709551615, expected at most 0 in what is left: is the file complete?",
        ),
        (
            Gguf::new(1 << 59, 0).raw(&[0; 64]).end(),
            "found tensor count 576460752303423488, expected at most 2 in what is left: is the file complete?",
        ),
        (
            Gguf::new(0, u64::MAX).end(),
            "found metadata count 18446744073709551615, expected at most 0 in what is left: is the file complete?",
        ),
        (
            Gguf::new(0, 1 << 63).raw(&[0; 64]).end(),
            "found metadata count 9223372036854775808, expected at most 4 in what is left: is the file complete?",
        ),
        (
            Gguf::new(0, 1).u64(u64::MAX).raw(&[0; 64]).end(),
            "found string length 18446744073709551615, expected at most 64 in what is left: is the file complete?",
        ),
        (
            Gguf::new(0, 1).text(b"").u32(U8).raw(&[0; 64]).end(),
            "found an empty or repeated key, expected each key once",
        ),
        (
            Gguf::new(0, 1).text(b"\xff\xfe").u32(U8).raw(&[0; 64]).end(),
            "found a string that is no UTF-8, expected UTF-8",
        ),
        (
            Gguf::new(0, 2).key("k", U8).raw(&[1]).key("k", U8).raw(&[2]).end(),
            "k: found an empty or repeated key, expected each key once",
        ),
        (
            Gguf::new(0, 2).key("\x1b[31m\n", U8).raw(&[1]).key("\x1b[31m\n", U8).raw(&[2]).end(),
            "\\u{1b}[31m\\n: found an empty or repeated key, expected each key once",
        ),
        (
            Gguf::new(0, 1).key(&"k".repeat(100_000), BOOL).raw(&[2]).end(),
            "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk...: found bool 2, expected 0 or 1",
        ),
        (key("k").end(), "k: found 0 bytes left, expected 1 more: is the file complete?"),
        (Gguf::new(0, 1).key("k", 13).raw(&[0; 64]).end(), "k: found value type 13, expected a known one"),
        (
            Gguf::new(0, 1).key("k", STRING).u64(1 << 40).raw(&[0; 64]).end(),
            "k: found string length 1099511627776, expected at most 64 in what is left: is the file complete?",
        ),
        (
            Gguf::new(0, 1).key("k", STRING).text(b"\xc3\x28").end(),
            "k: found a string that is no UTF-8, expected UTF-8",
        ),
    ];
    refuse(FILE, cases);
}

const LARGE: &str = "found a header that takes over 50331648 bytes of memory, expected a model's";
const LARGE_ARRAY: &str = "a: found a header that takes over 50331648 bytes of memory, expected a model's";

#[test]
fn arrays_and_bombs() {
    let bomb = |kind, count: u64, bytes: usize| Gguf::new(0, 1).array(kind, count).raw(&vec![0; bytes]).end();
    let cases = vec![
        (
            bomb(U8, u64::MAX, 64),
            "a: found array length 18446744073709551615, expected at most 64 in what is left: is the file complete?",
        ),
        // 2^61 strings of at least 8 bytes: the product is 2^64.
        (
            bomb(STRING, 1 << 61, 64),
            "a: found array length 2305843009213693952, expected at most 8 in what is left: is the file complete?",
        ),
        (
            bomb(U32, 1 << 62, 64),
            "a: found array length 4611686018427387904, expected at most 16 in what is left: is the file complete?",
        ),
        (bomb(99, 4, 64), "a: found value type 99, expected a known one"),
        (
            Gguf::new(0, 1).array(ARRAY, 1).u32(ARRAY).u64(1).u32(ARRAY).u64(1).u32(U8).u64(0).end(),
            "a: found value type 9, expected a known one",
        ),
        // 32 bytes in memory for each byte of the file, 7 for each, and as many strings as the largest vocabularies.
        (bomb(U8, 8 << 20, 8 << 20), LARGE_ARRAY),
        (bomb(STRING, 4 << 20, 32 << 20), LARGE_ARRAY),
        (bomb(ARRAY, 4 << 20, 48 << 20), LARGE_ARRAY),
        (Gguf::new(0, 1 << 20).raw(&vec![0; 16 << 20]).end(), LARGE),
        (Gguf::new(1 << 20, 0).raw(&vec![0; 40 << 20]).end(), LARGE),
        (alignment(U32, 0), "general.alignment: found U32(0), expected a power of two"),
        (alignment(U32, 24), "general.alignment: found U32(24), expected a power of two"),
        (alignment(U32, 1 << 31), "general.alignment: found U32(2147483648), expected a power of two"),
        (alignment(5, 32), "general.alignment: found I32(32), expected a power of two"),
    ];
    refuse(FILE, cases);
}

#[test]
fn tensors() {
    let cases = vec![
        (one_tensor(&[], F32, 0), "t: found 0 dimensions, expected 1 to 4"),
        (one_tensor(&[1, 1, 1, 1, 1], F32, 0), "t: found 5 dimensions, expected 1 to 4"),
        (
            one_tensor(&[4, 0], F32, 0),
            "t: found shape [4, 0] of type 0, expected whole blocks of a known type",
        ),
        (
            one_tensor(&[1 << 32, 1 << 32], F32, 0),
            "t: found shape [4294967296, 4294967296] of type 0, expected whole blocks of a known type",
        ),
        (
            one_tensor(&[1 << 62], F32, 0),
            "t: found shape [4611686018427387904] of type 0, expected whole blocks of a known type",
        ),
        (
            one_tensor(&[u64::MAX, u64::MAX, u64::MAX, u64::MAX], F32, 0),
            "t: found shape [18446744073709551615, 18446744073709551615, 18446744073709551615, 18446744073709551615] of type 0, expected whole blocks of a known type",
        ),
        (one_tensor(&[4], 255, 0), "t: found shape [4] of type 255, expected whole blocks of a known type"),
        (
            one_tensor(&[100], Q4_K, 0),
            "t: found shape [100] of type 12, expected whole blocks of a known type",
        ),
        (one_tensor(&[4], F32, 32), "t: found offset 32, expected 0: tensors stand densely"),
        (
            one_tensor(&[4], F32, u64::MAX),
            "t: found offset 18446744073709551615, expected 0: tensors stand densely",
        ),
        (
            one_tensor(&[1 << 40], F32, 0),
            "t: found a file of 320 bytes, expected 4398046511168: is the file complete?",
        ),
        (two_tensors("t", 64, 64), "t: found it twice, expected each tensor once"),
        (two_tensors("u", 64, 0), "u: found offset 0, expected 64: tensors stand densely"),
        (two_tensors("u", 64, 32), "u: found offset 32, expected 64: tensors stand densely"),
        (two_tensors("u", 64, 96), "u: found offset 96, expected 64: tensors stand densely"),
        (
            two_tensors("u", 1 << 63, 1 << 63),
            "t: found a file of 352 bytes, expected 9223372036854775904: is the file complete?",
        ),
        (
            Gguf::new(1, 0).text(b"\xff").u32(1).u64(4).u32(F32).u64(0).data(&[0; 16]),
            "found a string that is no UTF-8, expected UTF-8",
        ),
    ];
    refuse(FILE, cases);
}

/// The head of a part: its number and how many there are, by itself.
fn part(number: u32, count: u32) -> Gguf {
    part_with(number, count, 0, 0)
}

fn part_with(number: u32, count: u32, tensors: u64, more_keys: u64) -> Gguf {
    Gguf::new(tensors, 2 + more_keys).key("split.no", U32).u32(number).key("split.count", U32).u32(count)
}

#[test]
fn parts() {
    let bomb = |number| part_with(number, 2, 0, 1).array(U8, 1 << 20).raw(&vec![0; 1 << 20]).end();
    let tensor = |number| part_with(number, 2, 1, 0).tensor("t", &[4], F32, 0).data(&[0; 16]);
    let good = || part(0, 2).end();
    let cases: [(&str, Vec<Vec<u8>>, &str); 7] = [
        // 32 MB each in memory: one is a model's, two are not.
        (
            "m",
            vec![bomb(0), bomb(1)],
            "m-00002-of-00002.gguf: a: found a header that takes over 50331648 bytes of memory, expected a model's",
        ),
        ("m", vec![good()], "m-00002-of-00002.gguf: no such file"),
        (
            "m",
            vec![good(), good()],
            "m-00002-of-00002.gguf: split.no: found 0, expected 1: this is another part under this name",
        ),
        (
            "m",
            vec![part(1, 2).end(), part(1, 2).end()],
            "m-00001-of-00002.gguf: split.no: found 1, expected 0: this is another part under this name",
        ),
        (
            "m",
            vec![good(), part(1, 3).end()],
            "m-00002-of-00002.gguf: split.count: found 3, expected 2: this is another model's part",
        ),
        (
            "m",
            vec![tensor(0), tensor(1)],
            "m-00002-of-00002.gguf: t: found it again, expected each tensor in one file",
        ),
        (
            "m",
            vec![part(0, 1001).end()],
            "m-00001-of-00001.gguf: split.count: found 1001, expected at most 1000",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, files, line) in cases {
        let folder = Dir::new();
        let count = files.len().max(if line.contains("of-00001") { 1 } else { 2 });
        for (number, bytes) in (1..).zip(files) {
            fs::write(folder.join(format!("{name}-{number:05}-of-{count:05}.gguf")), bytes).expect("written");
        }
        let first = format!("./{name}-00001-of-{count:05}.gguf");
        wrong.extend(mismatch(folder.path(), &["verify", ".", &first], line));
    }
    let folder = Dir::new();
    fs::write(folder.join("renamed.gguf"), part(2, 6).end()).expect("written");
    let line = "renamed.gguf: found part 3 of 6 under another name, expected NAME-00003-of-00006.gguf: \
                give all parts their names back";
    wrong.extend(mismatch(folder.path(), &["verify", ".", "./renamed.gguf"], line));
    let line = "x.gguf: found a folder, expected a GGUF file: MODEL_DIR comes first";
    fs::create_dir(folder.join("x.gguf")).expect("made");
    wrong.extend(mismatch(folder.path(), &["verify", "renamed.gguf", "./x.gguf"], line));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As many tensors as a head may have, in no time: each name is looked up once.
#[test]
fn many_tensors_of_an_importance_matrix() {
    let count = 100_000u64;
    let head = (0..count).fold(Gguf::new(count, 0), |head, i| {
        let kind = if i % 2 == 0 { "counts" } else { "in_sum2" };
        head.tensor(&format!("{}.{kind}", i / 2), &[1], F32, 32 * i)
    });
    let bytes = head.data(&vec![0; 32 * count as usize]);
    let line = "0: found an entry for it, expected entries for matrices of this model only";
    refuse("x.imatrix", vec![(bytes, line)]);
}
