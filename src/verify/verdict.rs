//! Faithful or not, in one line; and how good, which decides nothing unless the user sets a bar.

use std::collections::BTreeSet;

use quant::Format;

use super::{Facts, Finding, Function, OutputError, Quality, Weights, template};

/// The two answers, and what they rest on.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The file is the checkpoint's model: each weight within what its format allows, metadata, vocabulary and
    /// template right, and no worse than the user's bar.
    pub same: bool,
    /// What is to blame when it is not; what explains the others stands first.
    pub blame: Vec<Finding>,
    /// How good its predictions are, where the models were run.
    pub quality: Option<Quality>,
    /// The user's bar for the mean divergence.
    pub max_kl: Option<f64>,
    /// One line: the first answer.
    pub line: String,
    /// The same without the answer, for where that stands already.
    pub reason: String,
}

/// What the user's bar is for.
const DIVERGENCE: &str = "KL divergence";
const OTHER: &str = "not the same model: ";
/// Subjects that the line names.
const NAMED: usize = 4;
/// Sizes of which one that differs makes another model.
const SIZES: [&str; 3] = ["llama.block_count", "llama.embedding_length", "llama.vocab_size"];

impl Verdict {
    /// Judges what was found; `max_kl`: the highest mean divergence that passes, where the user sets one.
    pub fn new(
        weights: &Weights,
        facts: &Facts,
        function: Option<&Function>,
        max_kl: Option<f64>,
    ) -> Verdict {
        let mut blame: Vec<Finding> = facts.findings.iter().chain(&weights.findings).cloned().collect();
        if let Some(function) = function {
            blame.extend(function.outputs.iter().filter_map(OutputError::finding));
            blame.extend(no_numbers(function));
            // Not `>`: a divergence that is no number is over every bar.
            blame.extend(max_kl.filter(|&bar| function.mean_kl > bar || function.mean_kl.is_nan()).map(
                |bar| {
                    let problem = format!("is {:.6} on average, over the bar of {bar}", function.mean_kl);
                    Finding::new(DIVERGENCE, problem)
                },
            ));
        }
        let rank = |finding: &Finding| match SIZES.iter().position(|size| *size == finding.subject) {
            Some(place) => place,
            None => SIZES.len() + usize::from(finding.subject.starts_with("blk.")),
        };
        blame.sort_by_key(rank);
        let (answer, reason) = words(weights, facts.tokens.is_some(), &blame);
        let (same, line) = (blame.is_empty(), format!("{answer}{reason}"));
        Verdict { same, blame, quality: function.map(Quality::of), max_kl, line, reason }
    }

    /// Whether nothing is to blame but that the user's bar is lower: the file is faithful all the same.
    pub fn is_over_bar_only(&self) -> bool {
        !self.same && is_over_bar_only(&self.blame)
    }
}

/// The answer and its reason, in a sentence; `tokens`: the vocabulary was compared too.
fn words(weights: &Weights, tokens: bool, blame: &[Finding]) -> (&'static str, String) {
    let another = blame.iter().find(|finding| SIZES.contains(&finding.subject.as_str()));
    if blame.is_empty() {
        let formats: BTreeSet<Format> = weights.tensors.iter().map(|tensor| tensor.format).collect();
        let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
        let allow = if names.len() == 1 { "allows" } else { "allow" };
        ("faithful: ", format!("the same model, within what {} {allow}", join(&names, usize::MAX)))
    } else if is_over_bar_only(blame) {
        let problem = blame.first().map_or("", |finding| finding.problem.as_str());
        ("over the bar: ", format!("the same model, but its {DIVERGENCE} {problem}"))
    } else if blame.iter().all(|finding| finding.subject == template::KEY) {
        let problem = blame.first().map_or("", |finding| finding.problem.as_str());
        let same = if tokens { "weights and vocabulary are" } else { "the weights are" };
        ("", format!("another chat template: {same} the same, but the template {problem}"))
    } else if let Some(Finding { subject, problem }) = another {
        (OTHER, format!("this is another one, or its sizes are wrong: {subject} {problem}"))
    } else {
        let subjects: BTreeSet<&str> = blame.iter().map(|finding| finding.subject.as_str()).collect();
        let subjects: Vec<&str> = subjects.into_iter().collect();
        (OTHER, format!("failed: {}", join(&subjects, NAMED)))
    }
}

fn is_over_bar_only(blame: &[Finding]) -> bool {
    blame.iter().all(|finding| finding.subject == DIVERGENCE)
}

/// Predictions that are no numbers where the checkpoint's are: no weight within its bounds does that.
fn no_numbers(function: &Function) -> Option<Finding> {
    let wrong = function.source_perplexity.is_finite() && !function.mean_kl.is_finite();
    wrong.then(|| Finding::new("predictions", "of the file are no numbers, where the checkpoint's are"))
}

/// `a, b and c`, or `a, b and 7 more`.
fn join(names: &[&str], most: usize) -> String {
    let shown = names.len().min(most);
    let more = names.len() - shown;
    match (names, more) {
        ([], _) => String::new(),
        ([one], _) => (*one).to_owned(),
        ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
        _ => format!("{} and {more} more", names[..shown].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_as_people_do() {
        assert_eq!(join(&["a"], 4), "a");
        assert_eq!(join(&["a", "b", "c"], 4), "a, b and c");
        assert_eq!(join(&["a", "b", "c", "d", "e", "f"], 4), "a, b, c, d and 2 more");
    }
}
