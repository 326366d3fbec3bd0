//! x = scale * level, levels from 0 to `max_level`, for the scales and the mins of sub-blocks: ggml's
//! `make_qp_quants`, whose idea `kernel/positive.rs` explains.

use super::{NEGLIGIBLE, sum};
use crate::round::nearest_even;

/// The largest value gets the largest level, and the others follow. Used without importance weights.
pub(crate) fn proportional<const N: usize>(x: &[f32; N], max_level: i32) -> (f32, [u8; N]) {
    let largest = x.iter().fold(0.0, |largest, &x| if x > largest { x } else { largest });
    let inverse = if largest > 0.0 { max_level as f32 / largest } else { 0.0 };
    (largest / max_level as f32, x.map(|x| nearest_even(inverse * x) as u8))
}

/// Tries nine inverse scales, then up to five passes that exchange single levels as long as that
/// gains. ggml's `make_qp_quants`.
pub(crate) fn fit_positive<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    max_level: i32,
) -> (f32, [u8; N]) {
    let largest = x.iter().fold(0.0, |largest, &x| if largest > x { largest } else { x });
    if largest < NEGLIGIBLE {
        return (0.0, [0; N]);
    }
    let error = |scale: f32, levels: [f32; N]| {
        sum((0..N).map(|i| {
            let difference = x[i] - scale * levels[i];
            weights[i] * difference * difference
        }))
    };

    let mut inverse = max_level as f32 / largest;
    // Levels are bytes: that of a scale below zero wraps. Not so in the guesses, which keep none.
    let levels = x.map(|x| f32::from(nearest_even(inverse * x) as u8));
    let mut least = error(1.0 / inverse, levels);
    for step in (-4..=4).filter(|&step| step != 0) {
        let guess = (0.1 * step as f32 + max_level as f32) / largest;
        let levels = x.map(|x| nearest_even(guess * x).min(max_level) as f32);
        let error = error(1.0 / guess, levels);
        if error < least {
            (least, inverse) = (error, guess);
        }
    }

    let mut levels = [0; N];
    let (mut xl, mut ll) = (0.0, 0.0);
    for i in 0..N {
        let level = nearest_even(inverse * x[i]).min(max_level);
        levels[i] = level as u8;
        let l = level as f32;
        xl += weights[i] * x[i] * l;
        ll += weights[i] * l * l;
    }
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..N {
            let (x, w, l) = (x[i], weights[i], f32::from(levels[i]));
            // The sums without this value give the scale that its own level should follow.
            let mut other_xl = xl - w * x * l;
            let mut other_ll = ll - w * l * l;
            if other_xl > 0.0 && other_ll > 0.0 {
                let candidate = nearest_even(x * other_ll / other_xl).min(max_level);
                if candidate != i32::from(levels[i]) {
                    let l = candidate as f32;
                    other_xl += w * x * l;
                    other_ll += w * l * l;
                    if other_xl * other_xl * ll > xl * xl * other_ll {
                        (levels[i], xl, ll) = (candidate as u8, other_xl, other_ll);
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    (if ll > 0.0 { xl / ll } else { 0.0 }, levels)
}
