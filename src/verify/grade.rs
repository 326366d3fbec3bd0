//! How good a faithful file is: one word for how near its predictions stay to the checkpoint's.

use super::Function;

/// How near a file's predictions are to the checkpoint's, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// What a reader of its answers could not tell from the checkpoint.
    NearlyLossless,
    /// The usual price of four or five bits.
    Good,
    /// Other words now and then.
    Noticeable,
    /// Other answers.
    Poor,
    /// No longer the language model that it was.
    Unusable,
}

/// The grade, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Judged.
    Graded(Grade),
    /// The checkpoint's own predictions of the text are no better than chance: of random weights, or of a text that
    /// is none to it. A divergence from such predictions says nothing of a trained model's.
    Chance,
    /// Fewer positions than a mean needs.
    TooShort,
}

/// Fewer positions than this are no sample.
const FEWEST: usize = 32;

/// What each grade allows at most of mean divergence in nats, at least of agreement, at most of the ratio of
/// perplexities. Anchored in a trained model of 135 million weights (docs/verify.md has its figures): larger models
/// lose less at the same format.
const SCALE: [(Grade, f64, f64, f64); 4] = [
    (Grade::NearlyLossless, 0.03, 0.87, 1.02),
    (Grade::Good, 0.22, 0.70, 1.20),
    (Grade::Noticeable, 0.55, 0.55, 1.60),
    (Grade::Poor, 1.5, 0.30, 4.0),
];

impl Grade {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Grade::NearlyLossless => "nearly lossless",
            Grade::Good => "good",
            Grade::Noticeable => "noticeable",
            Grade::Poor => "poor",
            Grade::Unusable => "unusable",
        }
    }

    /// The best grade that allows a mean divergence in nats, a share of positions with the same first choice, and a
    /// ratio of perplexities; what is no number is allowed by none.
    pub fn of(kl: f64, agreement: f64, perplexities: f64) -> Grade {
        let allows = |&&(_, most_kl, least_agreement, most_perplexities): &&(Grade, f64, f64, f64)| {
            kl <= most_kl && agreement >= least_agreement && perplexities <= most_perplexities
        };
        SCALE.iter().find(allows).map_or(Grade::Unusable, |(grade, ..)| *grade)
    }
}

impl Quality {
    /// Judges what running both models came to.
    pub fn of(function: &Function) -> Quality {
        if function.positions.len() < FEWEST {
            return Quality::TooShort;
        }
        // Random predictions are on average wrong by as much as a guess among all tokens, or more.
        let predicts = function.source_perplexity < 0.5 * function.vocabulary as f64;
        if !predicts {
            return Quality::Chance;
        }
        let perplexities = function.file_perplexity / function.source_perplexity;
        Quality::Graded(Grade::of(function.mean_kl, function.top_agreement, perplexities))
    }

    /// The grade, where there is one.
    pub fn grade(self) -> Option<Grade> {
        match self {
            Quality::Graded(grade) => Some(grade),
            Quality::Chance | Quality::TooShort => None,
        }
    }

    /// The word, or why there is none.
    pub fn words(self) -> &'static str {
        match self {
            Quality::Graded(grade) => grade.name(),
            Quality::Chance => "no judgement: the checkpoint itself predicts no better than chance",
            Quality::TooShort => "no judgement: fewer than 32 tokens are no sample",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of docs/verify.md: the trained model on 512 tokens of the page.
    #[test]
    fn the_trained_models_types_have_the_grades_of_the_documents() {
        for (kl, agreement, perplexities, grade) in [
            (0.0, 1.0, 1.0, Grade::NearlyLossless),
            (f64::NAN, 1.0, 1.0, Grade::Unusable),
            (0.01, 0.95, f64::INFINITY, Grade::Unusable),
        ] {
            assert_eq!(Grade::of(kl, agreement, perplexities), grade, "{kl}");
        }
    }
}
