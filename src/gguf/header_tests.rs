//! Files as strangers may make them: each is refused in one line, or read.

use std::path::Path;

use super::*;
use crate::error::InFile;

/// A GGUF file, written field by field.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u32(mut self, x: u32) -> Bytes {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn u64(mut self, x: u64) -> Bytes {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Bytes {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Bytes {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }

    fn header(tensors: u64, keys: u64) -> Bytes {
        Bytes::default().raw(b"GGUF").u32(3).u64(tensors).u64(keys)
    }

    /// A key with its type, the value to follow.
    fn key(self, name: &str, kind: u32) -> Bytes {
        self.text(name).u32(kind)
    }

    /// `dimensions` from the innermost.
    fn tensor(self, name: &str, dimensions: &[u64], ggml_type: u32, offset: u64) -> Bytes {
        let this = self.text(name).u32(dimensions.len() as u32);
        let this = dimensions.iter().fold(this, |this, &dimension| this.u64(dimension));
        this.u32(ggml_type).u64(offset)
    }

    /// Pads the header and adds so many bytes of tensors.
    fn data(mut self, bytes: usize) -> Bytes {
        self.0.resize(self.0.len().next_multiple_of(32) + bytes, 0);
        self
    }

    fn read(&self) -> crate::error::Result<Header> {
        Header::read(&*self.0, self.0.len() as u64, &mut { MAX_MEMORY }).in_file(Path::new("m.gguf"))
    }
}

fn one_tensor(dimensions: &[u64], ggml_type: u32) -> Bytes {
    Bytes::header(1, 0).tensor("t", dimensions, ggml_type, 0).data(64)
}

#[test]
fn hostile_files_are_refused_in_one_line() {
    let header = Bytes::header;
    let array = |kind, length| header(0, 1).key("k", 9).u32(kind).u64(length);
    let cases: [(&str, Bytes, &str); 35] = [
        ("empty", Bytes::default(), "found 0 bytes left"),
        ("magic", Bytes::default().raw(b"GGML").u32(3), "is no GGUF file: it does not start with GGUF"),
        ("version 1", Bytes::default().raw(b"GGUF").u32(1).u64(0).u64(0), "version 0x1"),
        ("big-endian", Bytes::default().raw(b"GGUF").u32(3 << 24).u64(0).u64(0), "version 0x3000000"),
        ("cut in the counts", Bytes::default().raw(b"GGUF").u32(3).u32(0), "is the file complete?"),
        ("tensor count", header(u64::MAX, 0), "tensor count 18446744073709551615"),
        ("metadata count", header(0, 1 << 40), "metadata count 1099511627776"),
        (
            "many tensors",
            header(300_000, 0).data(32 * 300_000),
            "a header that takes over 50331648 bytes of memory",
        ),
        ("key length", header(0, 1).u64(u64::MAX).data(64), "string length 18446744073709551615"),
        ("empty key", header(0, 1).key("", 4).u32(1).data(32), "empty or repeated key"),
        (
            "key twice",
            header(0, 2).key("k", 4).u32(1).key("k", 4).u32(2),
            "k: found an empty or repeated key",
        ),
        ("key no UTF-8", header(0, 1).u64(1).raw(&[0xff]).u32(4).u32(1), "no UTF-8"),
        ("value type", header(0, 1).key("k", 13).u64(0), "k: found value type 13"),
        ("bool", header(0, 1).key("k", 7).raw(&[2]), "k: found bool 2"),
        ("value cut", header(0, 1).key("k", 10).u32(0), "k: found 4 bytes left"),
        ("text cut", header(0, 1).key("k", 8).u64(9).u32(0), "k: found string length 9"),
        ("array length", array(4, u64::MAX).data(64), "k: found array length"),
        ("array length by bytes", array(8, 10).data(64), "k: found array length 10"),
        ("array of a wrong type", array(99, 1).data(64), "k: found value type 99"),
        (
            "many small values",
            array(0, 5 << 20).data(5 << 20),
            "a header that takes over 50331648 bytes of memory",
        ),
        ("array in array in array", array(9, 1).u32(9).u64(1).u32(9).u64(0).data(64), "value type 9"),
        ("alignment 0", header(0, 1).key("general.alignment", 4).u32(0), "expected a power of two"),
        ("alignment 24", header(0, 1).key("general.alignment", 4).u32(24), "expected a power of two"),
        ("alignment 2^31", header(0, 1).key("general.alignment", 4).u32(1 << 31), "expected a power of two"),
        ("alignment a text", header(0, 1).key("general.alignment", 8).text("32"), "expected a power of two"),
        ("no dimensions", one_tensor(&[], 0), "t: found 0 dimensions"),
        ("five dimensions", one_tensor(&[1; 5], 0), "t: found 5 dimensions"),
        ("a dimension of 0", one_tensor(&[0, 4], 0), "expected whole blocks"),
        ("sizes wrap", one_tensor(&[1 << 32, 1 << 32], 0), "expected whole blocks"),
        ("bytes wrap", one_tensor(&[1 << 63], 0), "expected whole blocks"),
        ("half a block", one_tensor(&[100], 12), "shape [100] of type 12"),
        ("unknown format", one_tensor(&[32], 999), "of type 999"),
        ("cut in the tensor", one_tensor(&[1024], 0), "t: found a file of"),
        (
            "tensor twice",
            header(2, 0).tensor("t", &[8], 0, 0).tensor("t", &[8], 0, 32).data(64),
            "t: found it twice",
        ),
        (
            "overlap",
            header(2, 0).tensor("t", &[8], 0, 0).tensor("u", &[8], 0, 0).data(64),
            "u: found offset 0",
        ),
    ];
    for (name, bytes, expected) in cases {
        let error = match bytes.read() {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{name}: was read"),
        };
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!error.contains('\n'), "{name}: {error}");
    }
}

/// A file with a bit of everything.
fn whole() -> Bytes {
    let header = Bytes::header(2, 5).key("general.architecture", 8).text("llama").key("n", 4).u32(7);
    let header = header.key("some-tokens", 9).u32(8).u64(2).text("a").text("b");
    let header = header.key("pairs", 9).u32(9).u64(1).u32(4).u64(2).u32(1).u32(2).key("x", 12).u64(0);
    header.tensor("t", &[256, 2], 12, 0).tensor("u", &[3], 0, 288).data(320)
}

#[test]
fn a_file_is_read_with_shapes_turned_around() {
    let file = whole().read().expect("a whole file");
    assert_eq!((file.version, file.metadata.len()), (3, 5));
    assert_eq!(file.metadata["some-tokens"], Value::Strings(vec!["a".into(), "b".into()]));
    let pairs = Value::Array(vec![Value::Array(vec![Value::U32(1), Value::U32(2)])]);
    assert_eq!(file.metadata["pairs"], pairs);
    let tensor = &file.tensors[0];
    assert_eq!(
        (tensor.shape.as_slice(), tensor.bytes, tensor.format()),
        ([2, 256].as_slice(), 288, Some(Format::Q4_K))
    );
    assert_eq!(file.tensors[1].offset, tensor.offset + 288);
    assert_eq!(one_tensor(&[32], 39).read().expect("a format of others").tensors[0].format_name(), "MXFP4");
}

#[test]
fn every_cut_is_refused_and_no_changed_byte_brings_it_down() {
    let whole = whole();
    let data = whole.0.len() - 320;
    for length in 0..whole.0.len() - 20 {
        assert!(Bytes(whole.0[..length].to_vec()).read().is_err(), "cut after {length}");
    }
    for position in 0..data {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed.0[position] = byte;
            let _ = changed.read();
        }
    }
}
