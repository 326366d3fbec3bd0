//! The bounds hold for what the quantizers make of awkward rows, and break on damage.

use super::*;

/// Rows that are hard on quantizers, 1024 weights each.
fn awkward() -> Vec<Vec<f32>> {
    let mut state = 7u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut rows: Vec<Vec<f32>> = Vec::new();
    for round in 0..64 {
        let mut normal = || (0..6).map(|_| uniform() - 0.5).sum::<f32>() * 1.4;
        let heavy = (0..1024).map(|_| normal().powi(3)).collect();
        let outlier = (0..1024).map(|i| if i % 256 == round { 40.0 } else { normal() * 0.02 }).collect();
        let mixed = (0..1024).map(|i| normal() * 10f32.powi(-(i / 16 % 7))).collect();
        let ordinary = (0..1024).map(|_| normal() * 0.02).collect();
        let shifted = (0..1024).map(|i| normal() * 0.02 + (i / 128) as f32 * 0.1 - 0.3).collect();
        let tiny = (0..1024).map(|_| normal() * 1e-7).collect();
        let two =
            (0..1024).map(|i| if normal() > 0.0 { 1.0 } else { -0.97 } * (1.0 + (i % 3) as f32)).collect();
        let positive = (0..1024).map(|_| normal().abs() + 0.5).collect();
        let uniform_row = (0..1024).map(|_| normal().clamp(-0.3, 0.3)).collect();
        let steps = (0..1024).map(|i| (i % 16) as f32 - 7.5).collect();
        let padded = (0..1024).map(|i| if i < 900 { normal() } else { 0.0 }).collect();
        rows.extend([
            heavy,
            outlier,
            mixed,
            ordinary,
            shifted,
            tiny,
            two,
            positive,
            uniform_row,
            steps,
            padded,
        ]);
    }
    rows.extend([vec![0.0; 1024], vec![0.25; 1024], vec![-3.0; 1024]]);
    rows
}

fn quantized(format: Format, row: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0; format.row_bytes(row.len()).expect("whole blocks")];
    quant::quantize(quant::Backend::detect(), format, row.len(), row, importance, &mut bytes)
        .expect("it fits");
    bytes
}

fn compare(format: Format, importance: bool, bytes: &[u8], row: &[f32]) -> Counts {
    let mut counts = Counts::default();
    Comparer::new(format, importance, row.len()).add(0, bytes, row, &mut counts).expect("it fits");
    counts
}

#[test]
fn every_format_keeps_its_own_bounds() {
    let rows = awkward();
    let weights: Vec<f32> =
        (0..1024).map(|i| [0.0, 1e-6, 1.0, 30.0, 0.2][i % 5] * (1 + i % 7) as f32).collect();
    let mut outside = Vec::new();
    for format in Format::ALL {
        for importance in [None, Some(weights.as_slice())] {
            let mut worst = Counts::default();
            for (number, row) in rows.iter().enumerate() {
                let counts = compare(format, importance.is_some(), &quantized(format, row, importance), row);
                worst.add(&Counts { worst: (number, counts.worst.1), ..counts });
            }
            eprintln!("{format} {}: {} at {:?}", importance.is_some(), worst.largest_use, worst.worst);
            if worst.outside > 0 {
                outside.push((format, importance.is_some(), worst.largest_use));
            }
        }
    }
    assert_eq!(outside, []);
}

#[test]
fn one_wrong_bit_of_a_level_is_outside() {
    let row = awkward().swap_remove(3);
    for format in Format::ALL.into_iter().filter(|format| format.is_quantized()) {
        let bytes = quantized(format, &row, None);
        let Tolerance::Levels(levels) = Tolerance::of(format, false) else { panic!("{format} has levels") };
        let (mut found, mut tried) = (0, 0);
        for byte in levels.bytes.0..levels.bytes.1 {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[byte] ^= 1 << bit;
                tried += 1;
                found += u32::from(compare(format, false, &damaged, &row).outside > 0);
            }
        }
        // The levels of IQ4_NL are chosen by another scale than the final one: near is less near.
        let least = match format {
            Format::IQ4_NL => 0.6,
            Format::IQ4_XS => 0.9, // its widest gap is three times its narrowest
            _ => 0.98,
        };
        assert!(f64::from(found) > least * f64::from(tried), "{format}: {found} of {tried} found");
    }
}

#[test]
fn q8_0_is_held_as_tightly_with_an_importance_matrix() {
    assert_eq!(Tolerance::of(Format::Q8_0, true), Tolerance::of(Format::Q8_0, false));
}

#[test]
fn a_lost_block_is_outside_in_every_format() {
    let row = awkward().swap_remove(3);
    for format in Format::ALL {
        let mut bytes = quantized(format, &row, None);
        bytes[..format.block_bytes()].fill(0);
        assert!(compare(format, false, &bytes, &row).outside > 0, "{format}");
        let keeps_something = match Tolerance::of(format, true) {
            Tolerance::Levels(levels) => levels.keeps_something,
            _ => true,
        };
        if keeps_something {
            assert!(compare(format, true, &bytes, &row).outside > 0, "{format}, importance");
        }
        let mut bytes = quantized(format, &row, None);
        bytes[..format.block_bytes()].iter_mut().for_each(|byte| *byte ^= 0xff);
        assert!(compare(format, false, &bytes, &row).outside > 0, "{format}");
    }
}
