//! Importance matrices of both formats.

use super::gguf::{F32, Gguf};
use super::{Case, refuse, repeated};

/// One entry of the older format.
fn entry(name: &[u8], calls: i32, values: &[f32]) -> Vec<u8> {
    let int = |n: usize| (n as i32).to_le_bytes();
    let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [&int(name.len())[..], name, &calls.to_le_bytes(), &int(values.len() / 4), &values].concat()
}

fn dat(count: i32, entries: &[u8]) -> Vec<u8> {
    [&count.to_le_bytes()[..], entries].concat()
}

const NO_MATRIX: &str = "x.imatrix: is no importance matrix, neither GGUF nor .dat";

#[test]
fn dat_files() {
    let one = |value: f32| dat(1, &entry(b"blk.0.attn_q.weight", 1, &[value]));
    let ok = entry(b"blk.0.attn_q.weight", 1, &[1.0; 256]);
    let mut cut = [&ok[..], &entry(b"blk.0.attn_k.weight", 1, &[1.0; 256])].concat();
    cut.truncate(cut.len() - 100);
    refuse(named(vec![
        (vec![], NO_MATRIX),
        (vec![1], NO_MATRIX),
        (dat(0, &[]), NO_MATRIX),
        (dat(-1, &[]), NO_MATRIX),
        (dat(i32::MAX, &ok), NO_MATRIX),
        (dat(1, &i32::MAX.to_le_bytes()), NO_MATRIX),
        (dat(1, b"\x01\0\0\0a\x01\0\0\0\xff\xff\xff\x7f"), NO_MATRIX),
        (dat(1, &entry(b"\xff", 1, &[1.0])), NO_MATRIX),
        (dat(2, &ok), "x.imatrix: name: found 0 bytes left, expected 4: is the file complete?"),
        (dat(2, &ok.repeat(2)), "x.imatrix: blk.0.attn_q.weight: found it twice, expected each tensor once"),
        (
            dat(2, &cut),
            "x.imatrix: blk.0.attn_k.weight: found 924 bytes left, expected 1024: is the file complete?",
        ),
        (
            dat(1, &entry(b"blk.0.attn_q.weight", -5, &[1.0; 256])),
            "x.imatrix: blk.0.attn_q.weight: found -5 calls, expected 0 or more",
        ),
        (
            dat(1, &entry(b"blk.27.attn_q.weight", 1, &[1.0; 256])),
            "x.imatrix: blk.27.attn_q.weight: found an entry, expected only this model's blk.0 to blk.1: it was measured on another model",
        ),
        (
            one(f32::NAN),
            "x.imatrix: blk.0.attn_q.weight: found NaN, expected finite, non-negative importance weights",
        ),
        (
            one(f32::INFINITY),
            "x.imatrix: blk.0.attn_q.weight: found inf, expected finite, non-negative importance weights",
        ),
        (
            one(-1.0),
            "x.imatrix: blk.0.attn_q.weight: found -1, expected finite, non-negative importance weights",
        ),
        (
            one(1.0),
            "x.imatrix: blk.0.attn_q.weight: found 1 importance weights, expected 256: it was measured on another model",
        ),
        (
            dat(1, &entry(b"unknown", 1, &[1.0; 256])),
            "x.imatrix: unknown: found an entry for it, expected entries for matrices of this model only",
        ),
        (
            repeated("\x01\0\0\0", "\0", (16 << 20) + 1, ""),
            "x.imatrix: found over 16777216 bytes, expected no more of such a file",
        ),
        (
            dat(1, &entry(b"unknown", 1, &vec![1.0; (4 << 20) - 8])),
            "x.imatrix: unknown: found an entry for it, expected entries for matrices of this model only",
        ),
    ]));
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
    refuse(named(vec![
        (Gguf::new(0, 0).data(&[]), "x.imatrix: found no .in_sum2 tensors, expected an importance matrix"),
        (sums(8, 32), "x.imatrix: t.counts: found no such tensor, expected one beside each .in_sum2"),
        (pair(2, 1.0), "x.imatrix: t: found 2 counts, expected 1: the model has no experts"),
        (
            pair(1, f32::NAN),
            "x.imatrix: t: found an entry for it, expected entries for matrices of this model only",
        ),
        (
            pair(1, -1.0),
            "x.imatrix: t: found an entry for it, expected entries for matrices of this model only",
        ),
        (
            pair(1, 1.0),
            "x.imatrix: t: found an entry for it, expected entries for matrices of this model only",
        ),
        (
            sums(1 << 22, 16 << 20),
            "x.imatrix: t.counts: found no such tensor, expected one beside each .in_sum2",
        ),
    ]));
}

fn named(cases: Vec<(Vec<u8>, &'static str)>) -> Vec<Case> {
    cases.into_iter().map(|(bytes, line)| ("x.imatrix", bytes, line)).collect()
}
