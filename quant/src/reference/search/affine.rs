//! x = scale * level - min, levels from 0 to `max_level`, min not negative: ggml's `make_qkx2_quants` and
//! `make_qkx3_quants`, whose idea `kernel/affine.rs` explains.
//!
//! The scale is hardly ever below zero, but it can be: in a nearly constant sub-block rounding
//! decides the fit.

use crate::round::nearest_even;

/// A scale, a min and their levels.
pub(crate) struct Affine<const N: usize> {
    pub(crate) scale: f32,
    pub(crate) min: f32,
    pub(crate) levels: [u8; N],
}

/// What tells the formats' searches apart. ggml's `make_qkx2_quants`, and `make_qkx3_quants` with
/// importance weights.
pub(crate) struct AffineSearch {
    /// The largest level.
    pub(crate) max_level: i32,
    /// The guesses spread the range over `max_level + first + step * i` levels ...
    pub(crate) first: f32,
    /// (see `first`)
    pub(crate) step: f32,
    /// ... for i from 0 up to this.
    pub(crate) steps: u8,
    /// Fits are compared by the sum of errors; elsewhere by that of their squares.
    pub(crate) absolute: bool,
    /// Guesses are limited before they are rounded, not after: see `guess`.
    pub(crate) limit_first: bool,
}

impl AffineSearch {
    /// The search with importance weights, which all formats with mins have in common.
    pub(crate) const fn weighted(max_level: i32) -> AffineSearch {
        AffineSearch { max_level, first: -0.9, step: 0.05, steps: 36, absolute: false, limit_first: true }
    }

    pub(crate) fn fit<const N: usize>(&self, x: &[f32; N], weights: &[f32; N]) -> Affine<N> {
        let (mut min, mut max) = (x[0], x[0]);
        // Both start from the first weight and not from 0: the sign of a zero reaches Q4_1's min.
        let mut sum_w = weights[0];
        let mut sum_x = weights[0] * x[0];
        for (&x, &w) in x.iter().zip(weights).skip(1) {
            if x < min {
                min = x;
            }
            if x > max {
                max = x;
            }
            sum_w += w;
            sum_x += w * x;
        }
        if min > 0.0 {
            min = 0.0; // zero is always within the range: mins are stored without a sign
        }
        if max <= min {
            return Affine { scale: 0.0, min: -min, levels: [0; N] };
        }

        let inverse = self.max_level as f32 / (max - min);
        let mut scale = 1.0 / inverse;
        let mut levels = x.map(|x| nearest_even(inverse * (x - min)).clamp(0, self.max_level) as u8);
        let mut least = self.error(x, weights, &levels, scale, min);

        for step in 0..=self.steps {
            // `min` is the best fit's so far, so a fit that wins moves the guesses after it.
            let inverse = self.spread(step) / (max - min);
            let guess = x.map(|x| self.guess(inverse * (x - min)));
            let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
            for ((&x, &w), &l) in x.iter().zip(weights).zip(&guess) {
                let l = f32::from(l);
                sum_l += w * l;
                sum_l2 += w * l * l;
                sum_xl += w * l * x;
            }
            // Least squares for these levels: two equations, solved by Cramer's rule.
            let determinant = sum_w * sum_l2 - sum_l * sum_l;
            if determinant > 0.0 {
                let mut fit_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
                let mut fit_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
                if fit_min > 0.0 {
                    fit_min = 0.0;
                    fit_scale = sum_xl / sum_l2;
                }
                let error = self.error(x, weights, &guess, fit_scale, fit_min);
                if error < least {
                    (least, scale, min, levels) = (error, fit_scale, fit_min, guess);
                }
            }
        }
        Affine { scale, min: -min, levels }
    }

    /// Over how many levels a guess spreads the range.
    pub(crate) fn spread(&self, step: u8) -> f32 {
        self.first + self.step * f32::from(step) + self.max_level as f32
    }

    /// The level nearest to `x`.
    ///
    /// `x` is out of `nearest_even`'s range when a fit's min has come close to `max`, and infinite for
    /// denormal weights. ggml limits it beforehand in one of its two searches only; the levels then
    /// differ, though no input is known where that fit wins and the bytes do, too.
    fn guess(&self, x: f32) -> u8 {
        let max = self.max_level as f32;
        if !self.limit_first {
            nearest_even(x).clamp(0, self.max_level) as u8
        } else if x > 0.0 {
            nearest_even(if x < max { x } else { max }) as u8
        } else {
            0
        }
    }

    fn error<const N: usize>(
        &self,
        x: &[f32; N],
        weights: &[f32; N],
        levels: &[u8; N],
        scale: f32,
        min: f32,
    ) -> f32 {
        let mut error = 0.0;
        for ((&x, &w), &level) in x.iter().zip(weights).zip(levels) {
            let difference = scale * f32::from(level) + min - x;
            error += w * if self.absolute { difference.abs() } else { difference * difference };
        }
        error
    }
}
