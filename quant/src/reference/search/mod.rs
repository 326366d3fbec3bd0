//! The searches for a scale (and a min) that the formats share.
//!
//! All go alike: guess the inverse of the scale from the extremes, round, solve for the scale by
//! weighted least squares, and repeat with guesses nearby. Every float operation stands in ggml's
//! order: a sum taken another way, or a fused multiply-add, rounds differently and changes bytes.

mod affine;
mod positive;
mod signed;

pub(crate) use affine::{Affine, AffineSearch};
pub(crate) use positive::{fit_positive, proportional};
pub(crate) use signed::{Signed, fit_signed, fit_signed_by_exchange};

/// Groups whose weights all are smaller than this are taken for zero.
pub(crate) const NEGLIGIBLE: f32 = 1e-15;

/// The value of the largest magnitude, with its sign; of equals the first.
pub(crate) fn largest(x: &[f32]) -> f32 {
    let mut largest: f32 = 0.0;
    for &x in x {
        if x.abs() > largest.abs() {
            largest = x;
        }
    }
    largest
}

/// The sum in the order of the values. (`Iterator::sum` starts at -0.0, C at 0.)
pub(crate) fn sum(values: impl IntoIterator<Item = f32>) -> f32 {
    values.into_iter().fold(0.0, |sum, value| sum + value)
}

/// The sum of the squares.
pub(crate) fn sum_of_squares(x: &[f32]) -> f32 {
    sum(x.iter().map(|x| x * x))
}

/// How much a search heeds each weight: its column's importance, and more the larger it is itself.
/// `variance` keeps the small ones from counting for nothing.
pub(crate) fn search_weights<const N: usize>(x: &[f32; N], importance: &[f32; N], variance: f32) -> [f32; N] {
    std::array::from_fn(|i| importance[i] * (variance + x[i] * x[i]).sqrt())
}
