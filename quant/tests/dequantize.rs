//! Blocks made by hand have exact weights, and a way there and back loses what a format loses.

use quant::{Backend, Format, dequantize, quantize};

/// Half precision, little-endian.
const HALF: [u8; 2] = [0x00, 0x38];
const ONE: [u8; 2] = [0x00, 0x3c];
const TWO: [u8; 2] = [0x00, 0x40];

/// One block's weights, the block given as pieces.
fn weights(format: Format, pieces: &[&[u8]]) -> Vec<f32> {
    let mut out = vec![f32::NAN; format.block_len()];
    dequantize(format, &pieces.concat(), &mut out).unwrap();
    out
}

/// `N` zero bytes, but for some.
fn bytes<const N: usize>(set: &[(usize, u8)]) -> [u8; N] {
    let mut bytes = [0; N];
    for &(i, byte) in set {
        bytes[i] = byte;
    }
    bytes
}

/// 256 weights of which some runs are not 0.
fn runs(runs: &[(std::ops::Range<usize>, f32)]) -> Vec<f32> {
    let mut weights = vec![0.0; 256];
    for (run, weight) in runs {
        weights[run.clone()].fill(*weight);
    }
    weights
}

/// Both nibbles of byte j are j.
fn all_nibbles() -> [u8; 16] {
    std::array::from_fn(|j| (17 * j) as u8)
}

#[test]
fn floats_are_exact() {
    assert_eq!(weights(Format::F32, &[&1.1f32.to_le_bytes()]), [1.1]);
    assert_eq!(weights(Format::F16, &[&[0x01, 0x80]]), [-(2f32.powi(-24))]);
    assert_eq!(weights(Format::BF16, &[&[0x80, 0x3f]]), [1.0]);
}

#[test]
fn blocks_of_32() {
    let index = |i: usize| (i % 16) as f32;
    let expect = |weight: &dyn Fn(usize) -> f32| (0..32).map(weight).collect::<Vec<f32>>();

    let found = weights(Format::Q4_0, &[&HALF, &all_nibbles()]);
    assert_eq!(found, expect(&|i| (index(i) - 8.0) * 0.5));

    let found = weights(Format::Q4_1, &[&HALF, &TWO, &all_nibbles()]);
    assert_eq!(found, expect(&|i| index(i) * 0.5 + 2.0));

    // The upper half of the block has the fifth bit, but for the last weight.
    let fifth = [0, 0, 0xff, 0x7f];
    let level = |i: usize| index(i) + if (16..31).contains(&i) { 16.0 } else { 0.0 };
    let found = weights(Format::Q5_0, &[&HALF, &fifth, &all_nibbles()]);
    assert_eq!(found, expect(&|i| (level(i) - 16.0) * 0.5));
    let found = weights(Format::Q5_1, &[&HALF, &TWO, &fifth, &all_nibbles()]);
    assert_eq!(found, expect(&|i| level(i) * 0.5 + 2.0));

    let levels: [u8; 32] = std::array::from_fn(|i| (i as u8).wrapping_sub(16));
    assert_eq!(weights(Format::Q8_0, &[&TWO, &levels]), expect(&|i| (i as f32 - 16.0) * 2.0));

    let values: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
    let found = weights(Format::IQ4_NL, &[&TWO, &all_nibbles()]);
    assert_eq!(found, expect(&|i| f32::from(values[i % 16]) * 2.0));
}

#[test]
fn q2_k() {
    // Sub-block 0: scale 1, min 2. Sub-block 3: scale 15; its weights lie in the second bit pairs.
    let scales = bytes::<16>(&[(0, 0x21), (3, 0x0f)]);
    let levels = bytes::<64>(&[(1, 0b01), (16, 0b1100)]);
    let found = weights(Format::Q2_K, &[&scales, &levels, &ONE, &HALF]);
    assert_eq!(found, runs(&[(0..16, -1.0), (1..2, 0.0), (48..49, 45.0)]));
}

#[test]
fn q3_k() {
    // Scale 0 is 18 - 32, scale 8 is 53 - 32, the others are 0.
    let scales = [0x52, 0, 0, 0, 0, 0, 0, 0, 0b10_11_10_01, 0b10_10_10_10, 0b10_10_10_10, 0b10_10_10_10];
    let high = bytes::<32>(&[(0, 1), (1, 1 << 4)]);
    let levels = bytes::<64>(&[(0, 3)]);
    let found = weights(Format::Q3_K, &[&high, &levels, &scales, &ONE]);
    let first = [(0..16, -4.0 * -14.0), (0..1, 3.0 * -14.0)];
    let ninth = [(128..144, -4.0 * 21.0), (129..130, 0.0)];
    assert_eq!(found, runs(&[first, ninth].concat()));
}

#[test]
fn q4_k_and_q5_k() {
    // Scale 0 is 63 and min 0 is 5; scale 4 is 9 + 2 * 16 and min 4 is 3 + 1 * 16; the others are 0.
    let scales = bytes::<12>(&[(0, 0xbf), (4, 0x45), (8, 0x39)]);
    let levels = [0x21; 128];
    let found = weights(Format::Q4_K, &[&ONE, &ONE, &scales, &levels]);
    assert_eq!(found, runs(&[(0..32, 63.0 - 5.0), (128..160, 41.0 - 19.0)]));

    let high = bytes::<32>(&[(0, 0b0001_0001)]);
    let found = weights(Format::Q5_K, &[&ONE, &ONE, &scales, &high, &levels]);
    let first = [(0..32, 63.0 - 5.0), (0..1, 63.0 * 17.0 - 5.0)];
    let fifth = [(128..160, 41.0 - 19.0), (128..129, 41.0 * 17.0 - 19.0)];
    assert_eq!(found, runs(&[first, fifth].concat()));
}

#[test]
fn q6_k() {
    let low = bytes::<128>(&[(0, 0x0f)]);
    let high = bytes::<64>(&[(0, 0b0010_0011)]);
    let scales = bytes::<16>(&[(0, 0xff), (4, 1), (10, 127)]);
    let found = weights(Format::Q6_K, &[&low, &high, &scales, &HALF]);
    let first = [(0..16, 16.0), (0..1, -15.5)];
    let others = [(64..80, -16.0), (64..65, 0.0), (160..176, -16.0 * 127.0)];
    assert_eq!(found, runs(&[&first[..], &others].concat()));
}

#[test]
fn iq4_xs() {
    // Scales 0, 1 and 7 are 49, 2 and 37, from which 32 are taken; the others become 0.
    let (high, low) = ([0b10_10_00_11, 0b10_10_10_10], [0x21, 0, 0, 0x50]);
    let found = weights(Format::IQ4_XS, &[&ONE, &high, &low, &[0; 128]]);
    let expected = [(0..32, -127.0 * 17.0), (32..64, -127.0 * -30.0), (224..256, -127.0 * 5.0)];
    assert_eq!(found, runs(&expected));
}

/// Weights as layers have them: a sum of uniform numbers is nearly normal.
fn normal_weights(count: usize) -> Vec<f32> {
    let mut state = 20_261_124u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() * 0.02).collect()
}

fn there_and_back(format: Format, rows: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let mut blocks = vec![0; format.row_bytes(rows.len()).unwrap()];
    quantize(Backend::SCALAR, format, rows.len(), rows, None, &mut blocks).unwrap();
    let mut back = vec![0.0; rows.len()];
    dequantize(format, &blocks, &mut back).unwrap();
    (blocks, back)
}

/// The error's root mean square, relative to that of the weights: about what each format is known for.
#[test]
fn errors_are_as_small_as_the_bits_allow() {
    use Format::*;
    let bounds = [
        (F32, 0.0),
        (F16, 0.0003),
        (BF16, 0.003),
        (Q8_0, 0.006),
        (Q6_K, 0.02),
        (Q5_0, 0.05),
        (Q5_1, 0.05),
        (Q5_K, 0.04),
        (Q4_0, 0.1),
        (Q4_1, 0.1),
        (Q4_K, 0.08),
        (IQ4_NL, 0.09),
        (IQ4_XS, 0.09),
        (Q3_K, 0.2),
        (Q2_K, 0.35),
    ];
    assert_eq!(bounds.len(), Format::ALL.len());
    let rows = normal_weights(16 * 1024);
    let power: f32 = rows.iter().map(|x| x * x).sum();
    for (format, bound) in bounds {
        let (_, back) = there_and_back(format, &rows);
        let error: f32 = rows.iter().zip(&back).map(|(x, y)| (x - y) * (x - y)).sum();
        let relative = (error / power).sqrt();
        assert!(relative <= bound && relative >= bound / 4.0, "{format}: {relative}");
    }
}

/// Weights that lie on a format's grid already are kept.
#[test]
fn what_was_quantized_stays() {
    let rows = normal_weights(16 * 1024);
    for format in [Format::F32, Format::F16, Format::BF16, Format::Q8_0, Format::Q4_0, Format::Q5_0] {
        let (blocks, back) = there_and_back(format, &rows);
        assert!(there_and_back(format, &back).0 == blocks, "{format}");
    }
}
