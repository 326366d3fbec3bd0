//! Rounding with feedback, on awkward rows: real ggml decodes its blocks to what was meant, on every backend, and what
//! was meant costs no more than rounding by ggml's rules.

mod support;

use llama_runtime::Runtime;
use quant::{Backend, Curvature, Format, dequantize, quantize, quantize_with_feedback};
use support::{Random, weights};

/// All that store blocks.
fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| format.block_len() > 1)
}

/// Neighbours' inputs go with each other: H_ik = r^|i - k|, whose unit upper factor has U_ik = r^(k - i).
fn neighbours(columns: usize, r: f32) -> Curvature {
    let power = |place: usize| r.powi((place / columns).abs_diff(place % columns) as i32); // a few hundred
    Curvature::new((0..columns * columns).map(power).collect(), vec![1.0; columns]).expect("a square")
}

/// The sum over the rows of e H e'.
fn cost(rows: &[f32], back: &[f32], columns: usize, r: f32) -> f64 {
    let errors: Vec<f64> = rows.iter().zip(back).map(|(x, y)| f64::from(*x) - f64::from(*y)).collect();
    let of_row = |e: &[f64]| {
        // r^|i - k| summed from both sides, a step at a time.
        let (mut behind, mut sum) = (0.0, 0.0);
        for x in e {
            sum += x * x + 2.0 * x * behind;
            behind = (behind + x) * f64::from(r);
        }
        sum
    };
    errors.chunks(columns).map(of_row).sum()
}

fn decoded(format: Format, blocks: &[u8], count: usize) -> Vec<f32> {
    let mut back = vec![0.0; count];
    dequantize(format, blocks, &mut back).expect("whole blocks");
    back
}

#[test]
fn ggml_decodes_awkward_rows_to_what_was_meant_and_rounding_costs_more() {
    let runtime = Runtime::require();
    let (columns, r) = (512, 0.7);
    let curvature = neighbours(columns, r);
    for seed in 1..=4 {
        let mut rows = weights(17 * columns, &mut Random::new(seed));
        // What half-precision scales cannot hold has no cost to compare.
        rows.iter_mut().filter(|x| x.is_nan() || x.abs() >= 1000.0).for_each(|x| *x = 0.5);
        for format in formats() {
            let bytes = rows.len() / format.block_len() * format.block_bytes();
            let made = |backend, sweeps| {
                let mut blocks = vec![0xa5; bytes];
                quantize_with_feedback(backend, format, &curvature, &rows, sweeps, &mut blocks)
                    .expect("it fits");
                blocks
            };
            let blocks = made(Backend::SCALAR, 2);
            for backend in Backend::available() {
                assert!(made(backend, 2) == blocks, "{format} {backend}, seed {seed}");
            }
            let ours = decoded(format, &blocks, rows.len());
            if let Some(runtime) = runtime {
                let theirs = runtime.dequantize(format.ggml_type(), &blocks);
                let same = ours.iter().zip(&theirs).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(
                    same && theirs.len() == ours.len(),
                    "{format}, seed {seed}: ggml decodes something else"
                );
            }
            let mut rounded = vec![0; bytes];
            quantize(Backend::detect(), format, columns, &rows, Some(&vec![1.0; columns]), &mut rounded)
                .expect("it fits");
            let [feedback, rounding] =
                [&ours, &decoded(format, &rounded, rows.len())].map(|back| cost(&rows, back, columns, r));
            assert!(feedback <= rounding, "{format}, seed {seed}: {feedback}, rounding {rounding}");
        }
    }
}
