//! How far two models' predictions are apart, from their logits, a block of the vocabulary at a time.

use crate::forward::Activations;

/// The two predictions after one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Kullback-Leibler divergence of the file's prediction from the source's, in nats.
    pub kl: f64,
    /// Both think the same token likeliest.
    pub same_top: bool,
    /// The token that each thinks likeliest: the source, the file.
    pub likeliest: [u32; 2],
    /// Minus the logarithm of what the source gives the token that does follow; none after the last.
    pub source_surprise: Option<f64>,
    /// The same for the file.
    pub file_surprise: Option<f64>,
    /// Largest difference of two logits.
    pub largest_difference: f32,
}

/// Sums over the vocabulary so far, for every token.
pub(super) struct Divergence {
    sums: Vec<Sums>,
    /// The token that follows each.
    next: Vec<Option<u32>>,
}

/// Softmax sums are kept relative to the largest logit so far, so that they never overflow.
#[derive(Clone, Copy)]
struct Sums {
    source: Softmax,
    file: Softmax,
    /// Sum of exp(source - largest) * (source - file).
    weighted: f64,
    largest_difference: f32,
    next: Option<(f32, f32)>,
}

#[derive(Clone, Copy)]
struct Softmax {
    largest: f32,
    top: usize,
    sum: f64,
}

impl Softmax {
    const EMPTY: Softmax = Softmax { largest: f32::NEG_INFINITY, top: 0, sum: 0.0 };

    /// Adds a logit; returns its part of the sum, and what earlier parts have to be multiplied by.
    fn add(&mut self, logit: f32, id: usize) -> (f64, f64) {
        let mut rescale = 1.0;
        if logit > self.largest {
            rescale = (f64::from(self.largest) - f64::from(logit)).exp();
            (self.largest, self.top) = (logit, id);
        }
        let part = (f64::from(logit) - f64::from(self.largest)).exp();
        self.sum = self.sum * rescale + part;
        (part, rescale)
    }

    fn log_sum(&self) -> f64 {
        f64::from(self.largest) + self.sum.ln()
    }
}

impl Divergence {
    /// Begins the divergence over tokens of which every `window` are a text of their own: nothing follows the last of one.
    pub(super) fn new(tokens: &[u32], window: usize) -> Divergence {
        let empty = Sums {
            source: Softmax::EMPTY,
            file: Softmax::EMPTY,
            weighted: 0.0,
            largest_difference: 0.0,
            next: None,
        };
        let next = tokens
            .chunks(window)
            .flat_map(|text| text.iter().skip(1).copied().map(Some).chain([None]))
            .collect();
        Divergence { sums: vec![empty; tokens.len()], next }
    }

    /// Adds both models' logits of the vocabulary's tokens from `first` on.
    pub(super) fn add(&mut self, first: usize, source: &Activations, file: &Activations) {
        for (i, (source, file)) in source.outer_iter().zip(file.outer_iter()).enumerate() {
            let id = first + i;
            for (((sums, next), &a), &b) in self.sums.iter_mut().zip(&self.next).zip(source).zip(file) {
                sums.add(id, a, b);
                if *next == u32::try_from(id).ok() {
                    sums.next = Some((a, b));
                }
            }
        }
    }

    pub(super) fn positions(&self) -> Vec<Position> {
        self.sums.iter().map(Sums::position).collect()
    }
}

impl Sums {
    fn add(&mut self, id: usize, a: f32, b: f32) {
        let (part, rescale) = self.source.add(a, id);
        self.file.add(b, id);
        self.weighted = self.weighted * rescale + part * (f64::from(a) - f64::from(b));
        // NaN must show, and `max` would drop it.
        let difference = (a - b).abs();
        if difference > self.largest_difference || difference.is_nan() {
            self.largest_difference = difference;
        }
    }

    fn position(&self) -> Position {
        let (source, file) = (self.source.log_sum(), self.file.log_sum());
        let kl = self.weighted / self.source.sum - source + file;
        Position {
            kl: if kl < 0.0 { 0.0 } else { kl }, // rounding; a NaN stays
            same_top: self.source.top == self.file.top,
            likeliest: [self.source.top, self.file.top].map(|id| u32::try_from(id).unwrap_or(u32::MAX)),
            source_surprise: self.next.map(|(a, _)| source - f64::from(a)),
            file_surprise: self.next.map(|(_, b)| file - f64::from(b)),
            largest_difference: self.largest_difference,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// The definition, in two passes.
    fn plain_kl(a: &[f32], b: &[f32]) -> f64 {
        let softmax = |x: &[f32]| {
            let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
            x.iter().map(|&x| f64::from(x).exp() / sum).collect::<Vec<_>>()
        };
        softmax(a).iter().zip(softmax(b)).map(|(p, q)| p * (p / q).ln()).sum()
    }

    #[test]
    fn blocks_give_what_the_definition_gives() {
        let a: Vec<f32> = (0..50).map(|i| ((i * 37 % 50) as f32 - 20.0) / 7.0).collect();
        let b: Vec<f32> = a.iter().enumerate().map(|(i, x)| x + (i % 3) as f32 * 0.3).collect();
        let column = |x: &[f32]| Array2::from_shape_vec((x.len(), 1), x.to_vec()).expect("a column");
        let mut divergence = Divergence::new(&[7], 1);
        divergence.next = vec![Some(33)];
        for start in [0, 20, 40] {
            let end = (start + 20).min(50);
            divergence.add(start, &column(&a[start..end]), &column(&b[start..end]));
        }
        let position = divergence.positions()[0];
        assert!((position.kl - plain_kl(&a, &b)).abs() < 1e-6, "{position:?}");
        let log_sum = a.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        assert!((position.source_surprise.expect("33 follows") - (log_sum - f64::from(a[33]))).abs() < 1e-9);
        assert!((position.largest_difference - 0.6).abs() < 1e-6);
    }
}
