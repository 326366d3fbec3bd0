//! One row of weights against its source.

use quant::Format;

use super::bounds::{Levels, Tolerance};

/// What the comparison of many weights comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Weights compared.
    pub weights: u64,
    /// Of these, how many are outside what the format allows.
    pub outside: u64,
    /// Largest absolute error.
    pub largest: f32,
    /// Largest error as a part of the allowed one.
    pub largest_use: f32,
    /// Row and column in the file's tensor where that is.
    pub worst: (usize, usize),
    /// Sums of squares, of errors and of source weights.
    pub error_squares: f64,
    pub source_squares: f64,
    /// Weights of the padding, how many of them are not zero, and how many have an effect even where zero
    /// multiplies what they make.
    pub padding: u64,
    pub padding_nonzero: u64,
    pub padding_too_large: u64,
}

/// Not only NaN times zero is NaN: with weights over F16's largest, activations could overflow.
pub(super) const LARGEST_F16: f32 = 65504.0;

impl Counts {
    pub(super) fn add(&mut self, other: &Counts) {
        self.weights += other.weights;
        self.outside += other.outside;
        self.largest = self.largest.max(other.largest);
        if other.largest_use > self.largest_use {
            (self.largest_use, self.worst) = (other.largest_use, other.worst);
        }
        self.error_squares += other.error_squares;
        self.source_squares += other.source_squares;
        self.padding += other.padding;
        self.padding_nonzero += other.padding_nonzero;
        self.padding_too_large += other.padding_too_large;
    }

    /// Weights that have no source: they must be zero.
    pub(super) fn add_padding(&mut self, stored: &[f32]) {
        self.padding += stored.len() as u64;
        self.padding_nonzero += stored.iter().filter(|&&weight| weight != 0.0).count() as u64;
        let bounded = stored.iter().filter(|weight| weight.abs() <= LARGEST_F16).count();
        self.padding_too_large += (stored.len() - bounded) as u64;
    }
}

/// Compares rows of one tensor, and keeps the buffers for it.
pub(super) struct Comparer {
    format: Format,
    tolerance: Tolerance,
    stored: Vec<f32>,
    low: Vec<f32>,
    high: Vec<f32>,
    ends: Vec<u8>,
}

impl Comparer {
    /// Holds levels no longer to the nearest.
    pub(super) fn any_level(mut self) -> Comparer {
        self.tolerance = self.tolerance.any_level();
        self
    }

    /// For rows of `columns` weights in the file.
    pub(super) fn new(format: Format, importance: bool, columns: usize) -> Comparer {
        let stored = vec![0.0; columns];
        let (low, high) = (stored.clone(), stored.clone());
        Comparer { format, tolerance: Tolerance::of(format, importance), stored, low, high, ends: Vec::new() }
    }

    /// Adds a row: `bytes` as the file stores it, `source` what it should be; what is longer is padding.
    ///
    /// # Errors
    /// When the lengths do not fit.
    pub(super) fn add(
        &mut self,
        row: usize,
        bytes: &[u8],
        source: &[f32],
        counts: &mut Counts,
    ) -> Result<(), quant::Error> {
        if source.len() > self.stored.len() {
            let expected = self.stored.len();
            return Err(quant::Error::Length { what: "source", expected, found: source.len() });
        }
        quant::dequantize(self.format, bytes, &mut self.stored)?;
        match self.tolerance {
            Tolerance::Exact => self.each(row, source, counts, |_| 0.0),
            Tolerance::Rounding { relative, absolute } => {
                self.each(row, source, counts, |x| x.abs() * relative + absolute);
            }
            Tolerance::Levels(levels) => {
                self.find_ends(levels, bytes)?;
                self.levels(row, levels, source, counts);
            }
        }
        counts.add_padding(self.stored.get(source.len()..).unwrap_or_default());
        Ok(())
    }

    fn each(&self, row: usize, source: &[f32], counts: &mut Counts, allowed: impl Fn(f32) -> f32) {
        for (column, (&x, &stored)) in source.iter().zip(&self.stored).enumerate() {
            let error = (stored - x).abs();
            counts.count(row, column, x, error, part(error, allowed(x)));
        }
    }

    /// Dequantizes the row with all levels lowest, and highest.
    fn find_ends(&mut self, levels: Levels, bytes: &[u8]) -> Result<(), quant::Error> {
        let block = self.format.block_bytes();
        for (end, out) in [(levels.ends.0, &mut self.low), (levels.ends.1, &mut self.high)] {
            self.ends.clear();
            self.ends.extend_from_slice(bytes);
            for block in self.ends.chunks_exact_mut(block) {
                block[levels.bytes.0..levels.bytes.1].fill(end);
            }
            quant::dequantize(self.format, &self.ends, out)?;
        }
        Ok(())
    }

    fn levels(&self, row: usize, levels: Levels, source: &[f32], counts: &mut Counts) {
        let len = self.format.block_len();
        for (block, source) in source.chunks(len).enumerate() {
            let start = block * len;
            let largest = source.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let far = levels.far * largest + levels.absolute;
            // No bound holds a block that was lost where importance weights allow any error.
            let stored = &self.stored[start..start + source.len()];
            let nothing = stored.iter().all(|&weight| weight == 0.0);
            let lost = nothing && levels.keeps_something && largest > 4.0 * levels.absolute;
            let rounding = levels.near_rounding * largest + levels.absolute;
            for (i, &x) in source.iter().enumerate() {
                let column = start + i;
                let (a, b) = (self.low[column], self.high[column]); // a scale may be negative
                let nearest_end = x.max(a.min(b)).min(a.max(b));
                let stored = stored[i];
                let near = levels.near * (b - a).abs() + rounding;
                let error = (stored - x).abs();
                let used = part(error, far).max(part((stored - nearest_end).abs(), near));
                let used = if lost { used.max(2.0) } else { used };
                counts.count(row, column, x, error, used);
            }
        }
    }
}

impl Counts {
    fn count(&mut self, row: usize, column: usize, x: f32, error: f32, used: f32) {
        self.weights += 1;
        self.outside += u64::from(used > 1.0);
        if used > self.largest_use {
            (self.largest_use, self.worst) = (used, (row, column));
        }
        let error = if error.is_nan() { f32::INFINITY } else { error };
        self.largest = self.largest.max(error);
        self.error_squares += f64::from(error) * f64::from(error);
        self.source_squares += f64::from(x) * f64::from(x);
    }
}

/// An error as a part of the allowed one; what is no number is outside.
fn part(error: f32, allowed: f32) -> f32 {
    if error == 0.0 {
        0.0
    } else if error <= allowed {
        error / allowed
    } else {
        // Above 1, also for an error that is no number or an tolerance of nothing.
        (error / allowed).max(f32::MIN_POSITIVE).max(1.0 + f32::EPSILON)
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
