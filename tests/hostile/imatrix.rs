//! Importance matrices of both formats.

use super::gguf::{F32, Gguf};
use super::{refuse, repeated};

const FILE: &str = "x.imatrix";

/// One entry of the older format.
fn entry(name: &[u8], calls: i32, values: &[f32]) -> Vec<u8> {
    let int = |n: usize| (n as i32).to_le_bytes();
    let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [&int(name.len())[..], name, &calls.to_le_bytes(), &int(values.len() / 4), &values].concat()
}

fn dat(count: i32, entries: &[u8]) -> Vec<u8> {
    [&count.to_le_bytes()[..], entries].concat()
}

const UNKNOWN: &str = "t: found an entry for it, expected entries for matrices of this model only";
const NO_MATRIX: &str = "is no importance matrix, neither GGUF nor .dat";

#[test]
fn dat_files() {
    let one = |value: f32| dat(1, &entry(b"blk.0.attn_q.weight", 1, &[value]));
    let ok = entry(b"blk.0.attn_q.weight", 1, &[1.0; 256]);
    let mut cut = [&ok[..], &entry(b"blk.0.attn_k.weight", 1, &[1.0; 256])].concat();
    cut.truncate(cut.len() - 100);
    let cases = vec![
        (vec![], NO_MATRIX),
        (vec![1], NO_MATRIX),
        (dat(0, &[]), NO_MATRIX),
        (dat(-1, &[]), NO_MATRIX),
        (dat(i32::MAX, &ok), NO_MATRIX),
        (dat(1, &i32::MAX.to_le_bytes()), NO_MATRIX),
        (dat(1, b"\x01\0\0\0a\x01\0\0\0\xff\xff\xff\x7f"), NO_MATRIX),
        (dat(1, &entry(b"\xff", 1, &[1.0])), NO_MATRIX),
        (dat(2, &ok), "name: found 0 bytes left, expected 4: is the file complete?"),
        (dat(2, &ok.repeat(2)), "blk.0.attn_q.weight: found it twice, expected each tensor once"),
        (dat(2, &cut), "blk.0.attn_k.weight: found 924 bytes left, expected 1024: is the file complete?"),
        (
            dat(1, &entry(b"blk.0.attn_q.weight", -5, &[1.0; 256])),
            "blk.0.attn_q.weight: found -5 calls, expected 0 or more",
        ),
        (
            dat(1, &entry(b"blk.27.attn_q.weight", 1, &[1.0; 256])),
            "blk.27.attn_q.weight: found an entry, expected only this model's blk.0 to blk.1: it was measured on another model",
        ),
        (one(f32::NAN), "blk.0.attn_q.weight: found NaN, expected finite, non-negative importance weights"),
        (
            one(f32::INFINITY),
            "blk.0.attn_q.weight: found inf, expected finite, non-negative importance weights",
        ),
        (one(-1.0), "blk.0.attn_q.weight: found -1, expected finite, non-negative importance weights"),
        (
            one(1.0),
            "blk.0.attn_q.weight: found 1 importance weights, expected 256: it was measured on another model",
        ),
        (dat(1, &entry(b"t", 1, &[1.0; 256])), UNKNOWN),
        (
            repeated("\x01\0\0\0", "\0", (16 << 20) + 1, ""),
            "found over 16777216 bytes, expected no more of such a file",
        ),
        (dat(1, &entry(b"t", 1, &vec![1.0; (4 << 20) - 8])), UNKNOWN),
    ];
    refuse(FILE, cases);
}

#[test]
fn gguf_files() {
    let sums = |columns: u64, bytes: usize| {
        Gguf::new(1, 0).tensor("t.in_sum2", &[columns], F32, 0).data(&vec![0; bytes])
    };
    let pair = |counts: u64, value: f32| {
        let head = Gguf::new(2, 0).tensor("t.in_sum2", &[8], F32, 0);
        let values: Vec<u8> = [value; 16].iter().flat_map(|value| value.to_le_bytes()).collect();
        head.tensor("t.counts", &[counts], F32, 32).data(&values)
    };
    let cases = vec![
        (Gguf::new(0, 0).data(&[]), "found no .in_sum2 tensors, expected an importance matrix"),
        (sums(8, 32), "t.counts: found no such tensor, expected one beside each .in_sum2"),
        (pair(2, 1.0), "t: found 2 counts, expected 1: the model has no experts"),
        (pair(1, f32::NAN), UNKNOWN),
        (pair(1, -1.0), UNKNOWN),
        (pair(1, 1.0), UNKNOWN),
        (sums(1 << 22, 16 << 20), "t.counts: found no such tensor, expected one beside each .in_sum2"),
    ];
    refuse(FILE, cases);
}
