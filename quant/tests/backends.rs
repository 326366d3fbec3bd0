//! Every backend that this machine has makes the bytes of the scalar reference, and ggml's.

mod support;

use llama_runtime::Runtime;
use quant::{Backend, Format, quantize};
use support::{Random, importance, weights};

/// Rows and columns in blocks of the format; groups of 4, 8, 16 and 32 lanes get all their tails.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    let one_row = (1..=34).chain([63, 64, 65, 96, 131]).map(|blocks| (1, blocks));
    let one_block = [2, 3, 15, 16, 17, 31, 32, 33, 47, 65].map(|rows| (rows, 1));
    // Rows that end within a group.
    one_row.chain(one_block).chain([(5, 3), (7, 5), (3, 11), (17, 7), (33, 2), (13, 13)])
}

fn quantized(
    backend: Backend,
    format: Format,
    columns: usize,
    x: &[f32],
    importance: Option<&[f32]>,
) -> Vec<u8> {
    let mut out = vec![0xa5; x.len() / format.block_len() * format.block_bytes()];
    quantize(backend, format, columns, x, importance, &mut out).unwrap();
    out
}

/// Says which block differs, and what was in it.
fn assert_equal(found: &[u8], expected: &[u8], format: Format, x: &[f32], context: &str) {
    let bytes = format.block_bytes();
    for (i, (found, expected)) in found.chunks(bytes).zip(expected.chunks(bytes)).enumerate() {
        let x = &x[i * format.block_len()..(i + 1) * format.block_len()];
        assert_eq!(found, expected, "{format}, {context}: block {i}: {x:?}");
    }
}

/// Runs `check` on awkward rows of every shape: format, columns, rows, importance.
fn for_all(seed: u64, mut check: impl FnMut(Format, usize, &[f32], Option<&[f32]>)) {
    let mut random = Random::new(seed);
    for format in Format::ALL {
        for (rows, blocks) in shapes() {
            let columns = blocks * format.block_len();
            let x = weights(rows * columns, &mut random);
            check(format, columns, &x, None);
            check(format, columns, &x, Some(&importance(columns, &mut random)));
        }
    }
}

#[test]
fn every_backend_equals_the_reference() {
    for seed in 0..3 {
        for_all(seed, |format, columns, x, importance| {
            let expected = quantized(Backend::SCALAR, format, columns, x, importance);
            for backend in Backend::available() {
                let found = quantized(backend, format, columns, x, importance);
                let context = format!(
                    "{backend}, {} x {columns}, importance {}",
                    x.len() / columns,
                    importance.is_some()
                );
                assert_equal(&found, &expected, format, x, &context);
            }
        });
    }
}

#[test]
fn the_fastest_backend_equals_ggml() {
    let Some(ggml) = Runtime::require() else { return };
    for_all(99, |format, columns, x, importance| {
        if format.is_quantized() {
            let expected = ggml.quantize_chunk(format.ggml_type(), columns, x, importance);
            let found = quantized(Backend::detect(), format, columns, x, importance);
            let context = format!("{} x {columns}, importance {}", x.len() / columns, importance.is_some());
            assert_equal(&found, &expected, format, x, &context);
        }
    });
}
