//! How much each column of a matrix counts while its weights are rounded.

use quant::Format;

/// The columns' weights, none of them negative.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    given: Vec<f32>,
    sharpened: Option<Vec<f32>>,
}

impl Importance {
    /// Weights that hold in every format, as llama.cpp takes them.
    pub fn new(weights: Vec<f32>) -> Importance {
        Importance { given: weights, sharpened: None }
    }

    /// Lets strong columns count for still more in formats of two and three bits. docs/quality.md has the figures: on the
    /// trained models there it makes a file better or leaves it as good, and with four bits and more it gains nothing.
    #[must_use]
    pub fn sharpen(self) -> Importance {
        Importance { sharpened: Some(sharpened(&self.given)), ..self }
    }

    /// The weights as they were given.
    pub fn given(&self) -> &[f32] {
        &self.given
    }

    /// The weights to round to a format with.
    pub fn of(&self, format: Format) -> &[f32] {
        match (&self.sharpened, format) {
            (Some(sharpened), Format::Q2_K | Format::Q3_K) => sharpened,
            _ => &self.given,
        }
    }
}

/// The weights to the power 9/8, the largest unchanged. By square roots, which are the same on every machine.
fn sharpened(weights: &[f32]) -> Vec<f32> {
    let most = weights.iter().copied().fold(0.0, f32::max);
    let sharpen = |&weight: &f32| match weight > 0.0 {
        true => weight * (weight / most).sqrt().sqrt().sqrt(),
        false => weight,
    };
    weights.iter().map(sharpen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_and_three_bits_have_sharpened_weights() {
        let weights = vec![256.0, 1.0, 0.0];
        let (given, sharp) = (Importance::new(weights.clone()), Importance::new(weights.clone()).sharpen());
        for format in Format::ALL {
            let few = [Format::Q2_K, Format::Q3_K].contains(&format);
            let expected = if few { vec![256.0, 0.5, 0.0] } else { weights.clone() };
            assert_eq!((given.of(format), sharp.of(format)), (&weights[..], &expected[..]), "{format}");
        }
        assert_eq!(sharp.given(), weights);
    }

    #[test]
    fn no_weight_leaves_the_numbers_or_changes_its_place() {
        let weights = [f32::MAX, 1e30, 3.0, 2.0, 1e-30, f32::from_bits(1), 0.0];
        let sharp = sharpened(&weights);
        assert!(
            sharp.iter().all(|x| x.is_finite() && *x >= 0.0) && sharp.is_sorted_by(|a, b| a >= b),
            "{sharp:?}"
        );
        let exponent = (sharp[2] / sharp[3]).ln() / 1.5f32.ln();
        assert!((exponent - 1.125).abs() < 1e-4, "{exponent}");
        assert_eq!(sharpened(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
