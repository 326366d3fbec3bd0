//! x = scale * level, levels from -limit to limit - 1: ggml's `make_qx_quants` and `make_q3_quants`, whose idea
//! `kernel/signed.rs` explains.

use super::{NEGLIGIBLE, largest};
use crate::round::nearest_even;

/// A scale and its levels, which are stored with `limit` added.
pub(crate) struct Signed<const N: usize> {
    pub(crate) scale: f32,
    pub(crate) levels: [u8; N],
}

impl<const N: usize> Signed<N> {
    /// A group of nothing but zeros. Its levels stand for `-limit`; the scale makes zeros of them.
    const ZERO: Signed<N> = Signed { scale: 0.0, levels: [0; N] };
}

/// Tries 19 inverse scales around the one that puts the largest weight on `-limit`, the level that
/// has no positive twin. ggml's `make_qx_quants`.
pub(crate) fn fit_signed<const N: usize>(x: &[f32; N], weights: &[f32; N], limit: i32) -> Signed<N> {
    let largest = largest(x);
    if largest.abs() < NEGLIGIBLE {
        return Signed::ZERO;
    }
    let level = |inverse: f32, x: f32| nearest_even(inverse * x).clamp(-limit, limit - 1);
    // With levels l fixed, scale = sum(w x l) / sum(w l l) is best, and what it gains over
    // zeros is sum(w x l)^2 / sum(w l l).
    let sums = |inverse: f32| {
        let (mut xl, mut ll) = (0.0, 0.0);
        for (&x, &w) in x.iter().zip(weights) {
            let l = level(inverse, x) as f32;
            xl += w * x * l;
            ll += w * l * l;
        }
        (xl, ll)
    };

    let mut best_inverse = -limit as f32 / largest;
    let (xl, ll) = sums(best_inverse);
    let mut scale = if ll != 0.0 { xl / ll } else { 0.0 };
    let mut gain = scale * xl;
    for step in (-9..=9).filter(|&step| step != 0) {
        let inverse = -(limit as f32 + 0.1 * step as f32) / largest;
        let (xl, ll) = sums(inverse);
        if ll > 0.0 && xl * xl > gain * ll {
            scale = xl / ll;
            gain = scale * xl;
            best_inverse = inverse;
        }
    }
    Signed { scale, levels: x.map(|x| (level(best_inverse, x) + limit) as u8) }
}

/// One guess, then up to five passes that exchange single levels as long as that gains. Large
/// weights count more: each by its square. ggml's `make_q3_quants`.
pub(crate) fn fit_signed_by_exchange<const N: usize>(x: &[f32; N], limit: i32) -> Signed<N> {
    let largest = largest(x);
    if largest.abs() < NEGLIGIBLE {
        return Signed::ZERO;
    }
    let inverse = -limit as f32 / largest;
    let mut levels = x.map(|x| nearest_even(inverse * x).clamp(-limit, limit - 1));
    let (mut xl, mut ll) = (0.0, 0.0);
    for (&x, &level) in x.iter().zip(&levels) {
        let (w, l) = (x * x, level as f32);
        xl += w * x * l;
        ll += w * l * l;
    }

    for _ in 0..5 {
        let mut changed = false;
        for (&x, level) in x.iter().zip(&mut levels) {
            let (w, l) = (x * x, *level as f32);
            // The sums without this weight give the scale that its own level should follow.
            let mut other_xl = xl - w * x * l;
            if other_xl > 0.0 {
                let mut other_ll = ll - w * l * l;
                let candidate = nearest_even(x * other_ll / other_xl).clamp(-limit, limit - 1);
                if candidate != *level {
                    let l = candidate as f32;
                    other_xl += w * x * l;
                    other_ll += w * l * l;
                    if other_ll > 0.0 && other_xl * other_xl * ll > xl * xl * other_ll {
                        (*level, xl, ll) = (candidate, other_xl, other_ll);
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    let scale = if ll > 0.0 { xl / ll } else { 0.0 };
    Signed { scale, levels: levels.map(|level| (level + limit) as u8) }
}
