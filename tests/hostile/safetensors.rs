//! Headers of safetensors files.

use super::{refuse, repeated};

const FILE: &str = "model.safetensors";

const MIB: usize = 1 << 20;

/// A file of a header and so many zeros.
fn file(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    [&(header.len() as u64).to_le_bytes()[..], header, &vec![0; data]].concat()
}

fn claimed(length: u64, bytes: usize) -> Vec<u8> {
    [&length.to_le_bytes()[..], &vec![b' '; bytes]].concat()
}

/// One tensor `a`.
fn tensor(dtype: &str, shape: &str, offsets: &str, data: usize) -> Vec<u8> {
    file(format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), data)
}

/// Two tensors of 4 bytes.
fn two(second: &str, offsets: &str, data: usize) -> Vec<u8> {
    let header = format!(
        r#"{{"a":{{"dtype":"F16","shape":[2],"data_offsets":[0,4]}},
           "{second}":{{"dtype":"F16","shape":[2],"data_offsets":{offsets}}}}}"#
    );
    file(header, data)
}

fn tiny_tensors(count: usize) -> Vec<u8> {
    let one = |i| format!(r#""{i}":{{"dtype":"F16","shape":[1],"data_offsets":[{},{}]}}"#, 2 * i, 2 * i + 2);
    file(format!("{{{}}}", (0..count).map(one).collect::<Vec<_>>().join(",")), 2 * count)
}

#[test]
fn lengths() {
    let cases = vec![
        (vec![], "found 0 bytes, expected a safetensors file"),
        (vec![0; 7], "found 7 bytes, expected a safetensors file"),
        (
            claimed(u64::MAX, 8),
            "found a header of 18446744073709551615 bytes, expected a safetensors file: at most 8",
        ),
        (
            claimed(1 << 63, 8),
            "found a header of 9223372036854775808 bytes, expected a safetensors file: at most 8",
        ),
        (claimed(100, 8), "found a header of 100 bytes, expected a safetensors file: at most 8"),
        (
            claimed(2 * MIB as u64 + 1, 3 * MIB),
            "found a header of 2097153 bytes, expected a safetensors file: at most 2097152",
        ),
        (
            tensor("F16", "[2]", "[0,4]", 3),
            "found 65 bytes, expected 66 by its header: is the download complete?",
        ),
        (
            tensor("F16", "[2]", "[0,4]", 5),
            "found 67 bytes, expected 66 by its header: is the download complete?",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(),
            "found a Git LFS pointer, expected the file itself (fetch it with `git lfs pull`)",
        ),
    ];
    refuse(FILE, cases);
}

#[test]
fn texts() {
    let twice = r#"{"a":{"dtype":"F16","dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#;
    let cases = vec![
        (file("", 0), "is no safetensors file: EOF while parsing a value at line 1 column 0"),
        (file("{", 0), "is no safetensors file: EOF while parsing an object at line 1 column 1"),
        (
            file("[]", 0),
            "is no safetensors file: invalid type: sequence, expected an object at line 1 column 0",
        ),
        (file(b"{\"\xff\":1}", 0), "is no safetensors file: invalid unicode code point at line 1 column 3"),
        (
            file(r#"{"a":1}"#, 0),
            "a: is damaged: invalid type: integer `1`, expected struct TensorInfo at line 1 column 1",
        ),
        (
            file(repeated("{\"a\":", "[", MIB, ""), 0),
            "is no safetensors file: EOF while parsing a list at line 1 column 1048581",
        ),
        (
            file(repeated("{\"a\":", "[", MIB, &("]".repeat(MIB - 100) + "}")), 0),
            "is no safetensors file: expected `,` or `]` at line 1 column 2097058",
        ),
        (
            file(repeated("{\"a\":[0", ",0", MIB - 100, "]}"), 0),
            "a: is damaged: expected value at line 1 column 2",
        ),
        (file(twice, 4), "a: is damaged: duplicate field `dtype` at line 1 column 22"),
        (two("a", "[4,8]", 8), "is no safetensors file: `a` stands in it twice at line 2 column 14"),
        (tiny_tensors(30_000), "found more than 16384 tensors, expected the few hundred of a ChatGLM model"),
    ];
    refuse(FILE, cases);
}

#[test]
fn tensors() {
    let many = format!("[1{}]", ",1".repeat(900_000));
    let cases = vec![
        (
            tensor("F17", "[2]", "[0,4]", 4),
            "a: is damaged: unknown variant `F17`, expected one of `BOOL`, `F4`, `F6_E2M3`, `F6_E3M2`, `U8`, `I8`, `F8_E5M2`, `F8_E4M3`, `F8_E8M0`, `F8_E4M3FNUZ`, `F8_E5M2FNUZ`, `I16`, `U16`, `F16`, `BF16`, `I32`, `U32`, `F32`, `C64`, `F64`, `I64`, `U64` at line 1 column 14",
        ),
        (
            tensor("I8", "[4]", "[0,4]", 4),
            "a: found I8 values, expected F16, BF16 or F32: it was quantized already, convert the original checkpoint",
        ),
        (
            tensor("F64", "[1]", "[0,8]", 8),
            "a: found F64 values, expected F16, BF16 or F32: convert it to F16 first",
        ),
        (
            tensor("F16", "[1.5]", "[0,3]", 3),
            "a: is damaged: invalid type: floating point `1.5`, expected usize at line 1 column 27",
        ),
        (
            tensor("F16", "[-2]", "[0,4]", 4),
            "a: is damaged: invalid value: integer `-2`, expected usize at line 1 column 26",
        ),
        (tensor("F16", "[]", "[0,2]", 2), "a: found shape [], expected a vector or a matrix"),
        (
            tensor("F16", "[0]", "[0,0]", 0),
            "a: found shape [0], as have 1 of 1 tensors: the shell that DeepSpeed ZeRO-3 saves, expected the weights: run zero_to_fp32.py in the training's folder, where global_step... is, and convert what it writes",
        ),
        (
            tensor("F16", "[2,0]", "[0,0]", 0),
            "a: found shape [2, 0], expected a vector or a matrix, none of its sizes 0",
        ),
        (
            tensor("F16", "[1,1,1,1,2]", "[0,4]", 4),
            "a: found shape [1, 1, 1, 1, 2], expected a vector or a matrix",
        ),
        (tensor("F16", &many, "[0,2]", 2), "a: found 900001 dimensions, expected a vector or a matrix"),
        (
            tensor("F16", "[9223372036854775808,2]", "[0,4]", 4),
            "is no safetensors file: overflow computing buffer size from shape and/or element type",
        ),
        (
            tensor("F32", "[4611686018427387905]", "[0,4]", 4),
            "is no safetensors file: overflow computing buffer size from shape and/or element type",
        ),
        (
            tensor("F16", "[18446744073709551616]", "[0,4]", 4),
            "a: is damaged: invalid type: floating point `1.8446744073709552e+19`, expected usize at line 1 column 44",
        ),
        (
            tensor("F16", "[2]", "[0,18446744073709551616]", 4),
            "a: is damaged: invalid type: floating point `1.8446744073709552e+19`, expected usize at line 1 column 65",
        ),
        (
            tensor("F16", "[2]", "[0,18446744073709551615]", 4),
            "is no safetensors file: invalid shape, data type, or offset for tensor",
        ),
        (tensor("F16", "[2]", "[4,0]", 4), "is no safetensors file: invalid offset for tensor `a`"),
        (tensor("F16", "[2]", "[2,6]", 6), "is no safetensors file: invalid offset for tensor `a`"),
        (
            tensor("F16", "[2]", "[0,6]", 6),
            "is no safetensors file: invalid shape, data type, or offset for tensor",
        ),
        (two("b", "[2,6]", 6), "is no safetensors file: invalid offset for tensor `b`"),
        (two("b", "[0,4]", 4), "is no safetensors file: invalid offset for tensor `b`"),
        (two("b", "[6,10]", 10), "is no safetensors file: invalid offset for tensor `b`"),
    ];
    refuse(FILE, cases);
}
