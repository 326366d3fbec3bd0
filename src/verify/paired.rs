//! Which of some files is closer to their checkpoint: the divergence of each, on the same windows of a text, and how sure
//! the ratio of two is.

use super::function;
use super::{Finding, Function, Pair, Position, SourceVocabulary, Spelling, weights};
use crate::error::{Error, Result};
use crate::hash::below;
use crate::watch::{Step, Watch};

/// Tokens of a window, prefix included: as many as llama.cpp's own tools take.
const WINDOW: usize = 512;
/// A shorter text is cut into so many windows: of fewer, an interval says nothing.
const FEWEST_WINDOWS: usize = 8;
/// Tokens of text that the shortest window has.
const SHORTEST_WINDOW: usize = 32;
/// Tokens that are run at a time: memory grows with them.
const AT_A_TIME: usize = 2048;
/// Draws of the bootstrap.
const DRAWS: usize = 10_000;
/// The part of the draws that the interval leaves out on each side.
const TAIL: f64 = 0.025;

/// A file and others on the same text.
#[derive(Clone, Debug)]
pub struct Paired {
    /// Tokens of a window, prefix included.
    pub window: usize,
    /// The mean divergence of each file in each window, in nats: a list for each window.
    pub windows: Vec<Vec<f64>>,
    /// All predictions of each file, the first one's first.
    pub functions: Vec<Function>,
    /// The first file's divergence as a part of each other's.
    pub ratios: Vec<Ratio>,
}

/// A ratio of two means, and the interval that holds it with 95 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The ratio over all windows.
    pub value: f64,
    /// 25 of 1,000 draws of as many windows are below.
    pub low: f64,
    /// 25 of 1,000 are above.
    pub high: f64,
}

/// What a ratio says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// The first file is closer to the checkpoint.
    First,
    /// The second is.
    Second,
    /// The interval holds 1: other windows may have told the contrary.
    Neither,
}

impl Pair {
    /// Runs the checkpoint, this file and the others on the windows of a text, of which at most `most` tokens are taken.
    ///
    /// # Errors
    /// When one of them cannot be run, is of another model than the checkpoint or predicts what is no number; when the
    /// text is too short.
    pub fn paired(&self, others: &[&Pair], text: &str, most: usize, watch: &dyn Watch) -> Result<Paired> {
        let pairs = [&[self], others].concat();
        pairs.iter().try_for_each(|pair| pair.refuse_another_model())?;
        if matches!(self.vocabulary, SourceVocabulary::None) {
            Spelling::of(&self.file)?; // without one the tokens would be of no text
        }
        let (tokens, prefix) = self.encode(text, most.saturating_add(2))?;
        let (prefix, text) = tokens.split_at(prefix);
        let text = &text[..text.len().min(most)];
        let length = (text.len() / FEWEST_WINDOWS).min(WINDOW - prefix.len());
        if length < SHORTEST_WINDOW {
            let least = FEWEST_WINDOWS * SHORTEST_WINDOW;
            return Err(Error::Usage(format!(
                "found {} tokens, expected at least {least}: too short a text, or too few --tokens",
                text.len()
            )));
        }
        let window = prefix.len() + length;
        let windows: Vec<u32> =
            text.chunks_exact(length).flat_map(|text| prefix.iter().chain(text).copied()).collect();
        let mut positions = vec![Vec::new(); pairs.len()];
        let parts = windows.chunks((AT_A_TIME / window).max(1) * window);
        let count = parts.len() as u64;
        for (part, tokens) in (0..).zip(parts) {
            let watch = Part { watch, part, count };
            let run = function::run(self.source(), &pairs, tokens, window, &watch)?;
            for ((all, found), pair) in positions.iter_mut().zip(run).zip(&pairs) {
                for text in found?.chunks(window) {
                    // The text's own tokens are predicted from the last token of the prefix on.
                    all.extend(text.iter().skip(prefix.len().saturating_sub(1)).copied());
                }
                pair.refuse_no_numbers(all)?;
            }
        }
        let scored = window - prefix.len().saturating_sub(1);
        let mean = |window: &[Position]| window.iter().map(|at| at.kl).sum::<f64>() / window.len() as f64;
        let of_file = |all: &Vec<Position>| all.chunks(scored).map(mean).collect::<Vec<f64>>();
        let kls: Vec<Vec<f64>> = positions.iter().map(of_file).collect();
        let (first, rest) = kls.split_at(1);
        let pair = |(other, this): (&f64, &f64)| [*this, *other];
        let pairs_with =
            |other: &Vec<f64>| other.iter().zip(first.iter().flatten()).map(pair).collect::<Vec<_>>();
        let ratios = rest.iter().map(|other| Ratio::of(&pairs_with(other))).collect();
        let count = kls.first().map_or(0, Vec::len);
        let windows =
            (0..count).map(|i| kls.iter().filter_map(|kls| kls.get(i).copied()).collect()).collect();
        let vocabulary = self.config.padded_vocab_size;
        let functions = positions.into_iter().map(|all| Function::new(all, 0, vocabulary)).collect();
        Ok(Paired { window, windows, functions, ratios })
    }

    /// Norms and biases are exact in every file of a model: others are of another model, or of another training.
    fn refuse_another_model(&self) -> Result<()> {
        match weights::other_vector(self)? {
            None => Ok(()),
            Some(Finding { subject, problem }) => Err(Error::input(
                self.file.path(),
                subject,
                format!(
                    "{problem}: this file is not of the checkpoint {}, and only files of one checkpoint can be \
                     compared (`verify` tells more)",
                    self.folder.display()
                ),
            )),
        }
    }

    fn refuse_no_numbers(&self, positions: &[Position]) -> Result<()> {
        let Some(at) = positions.iter().find(|at| at.kl.is_nan()) else { return Ok(()) };
        let source = at.source_surprise.is_some_and(f64::is_nan);
        let file = if source { self.checkpoint.main_file() } else { self.file.path() };
        Err(Error::file(file, "has predictions that are no numbers: it is damaged"))
    }
}

/// One of several runs, which are of the same length.
struct Part<'a> {
    watch: &'a dyn Watch,
    part: u64,
    count: u64,
}

impl Watch for Part<'_> {
    fn advanced(&self, step: &Step) {
        let done = self.part * step.total + step.done;
        self.watch.advanced(&Step { done, total: self.count * step.total, ..*step });
    }

    fn stopped(&self) -> bool {
        self.watch.stopped()
    }
}

impl Ratio {
    /// The ratio of the sums of pairs, with the interval of a bootstrap over the pairs: the same for the same pairs.
    fn of(pairs: &[[f64; 2]]) -> Ratio {
        let draw = |number: usize| {
            let first = number * pairs.len();
            let numbers = first..first + pairs.len();
            quotient(numbers.map(|i| pairs[below(i as u64, pairs.len())]))
        };
        let mut draws: Vec<f64> = (0..DRAWS).map(draw).collect();
        draws.sort_by(f64::total_cmp);
        let tail = (TAIL * DRAWS as f64) as usize; // a whole number
        Ratio { value: quotient(pairs.iter().copied()), low: draws[tail], high: draws[DRAWS - 1 - tail] }
    }

    /// The file that the whole interval is for.
    pub fn closer(&self) -> Closer {
        if self.high < 1.0 {
            Closer::First
        } else if self.low > 1.0 {
            Closer::Second
        } else {
            Closer::Neither
        }
    }
}

/// The sum of the first numbers by that of the second: 1 where both are nothing.
fn quotient(pairs: impl Iterator<Item = [f64; 2]>) -> f64 {
    let [first, second] = pairs.fold([0.0; 2], |[a, b], [x, y]| [a + x, b + y]);
    if first == second { 1.0 } else { first / second }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::fraction;

    #[test]
    fn equal_pairs_have_a_ratio_of_one_and_no_interval() {
        for pairs in [[[0.25, 0.25]; 9], [[0.0, 0.0]; 9]] {
            let ratio = Ratio::of(&pairs);
            assert_eq!(ratio, Ratio { value: 1.0, low: 1.0, high: 1.0 });
            assert_eq!(ratio.closer(), Closer::Neither);
        }
    }

    /// What differs by the same factor in each window is sure, however much the windows differ.
    #[test]
    fn windows_are_paired() {
        let pairs: Vec<[f64; 2]> = (1..=16).map(|i| [0.5 * f64::from(i * i), f64::from(i * i)]).collect();
        let ratio = Ratio::of(&pairs);
        assert!((ratio.value - 0.5).abs() < 1e-12 && (ratio.high - ratio.low).abs() < 1e-12, "{ratio:?}");
        assert_eq!(ratio.closer(), Closer::First);
        let turned: Vec<[f64; 2]> = pairs.iter().map(|&[a, b]| [b, a]).collect();
        assert_eq!(Ratio::of(&turned).closer(), Closer::Second);
        assert_eq!(Ratio::of(&[[1.0, 0.0]; 8]).closer(), Closer::Second, "infinitely further");
    }

    /// The standard error of a ratio is known for many windows: that of its residuals' mean.
    #[test]
    fn the_interval_is_as_wide_as_theory_says() {
        let pairs: Vec<[f64; 2]> =
            (0..400).map(|i| [fraction(2 * i + 7), 0.5 + fraction(2 * i + 8)]).collect();
        let ratio = Ratio::of(&pairs);
        let n = pairs.len() as f64;
        let second = pairs.iter().map(|pair| pair[1]).sum::<f64>() / n;
        let squares: f64 = pairs.iter().map(|[a, b]| (a - ratio.value * b).powi(2)).sum();
        let error = (squares / (n - 1.0) / n).sqrt() / second;
        let width = (ratio.high - ratio.low) / (2.0 * 1.96 * error);
        assert!((width - 1.0).abs() < 0.05, "{width}");
        assert!(ratio.low < ratio.value && ratio.value < ratio.high);
    }
}
