//! Same or not, in one line.

use std::collections::BTreeSet;

use quant::Format;

use super::{Facts, Finding, Function, Weights, template};

/// The answer, and what it rests on.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The file is the same model, within what its formats allow.
    pub same: bool,
    /// What is to blame when it is not.
    pub blame: Vec<Finding>,
    /// The bar for the mean divergence.
    pub max_kl: f64,
    /// One line.
    pub line: String,
}

/// Subjects that the line names.
const NAMED: usize = 4;

impl Verdict {
    /// Judges what was found; `max_kl` replaces the formats' own bar.
    pub fn new(
        weights: &Weights,
        facts: &Facts,
        function: Option<&Function>,
        max_kl: Option<f64>,
    ) -> Verdict {
        let formats: BTreeSet<Format> = weights.tensors.iter().map(|tensor| tensor.format).collect();
        let max_kl = max_kl.unwrap_or_else(|| default_max_kl(&formats));
        let mut blame: Vec<Finding> = facts.findings.iter().chain(&weights.findings).cloned().collect();
        if let Some(function) = function {
            // Not `>`: a divergence that is no number is over every bar.
            let within = function.mean_kl <= max_kl;
            if !within {
                let problem = format!("is {:.6} on average, over {max_kl}", function.mean_kl);
                blame.push(Finding::new("KL divergence", problem));
            }
        }
        let same = blame.is_empty();
        let line = if same {
            let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
            let allow = if names.len() == 1 { "allows" } else { "allow" };
            format!("the same model, within what {} {allow}", join(&names, usize::MAX))
        } else if blame.iter().all(|finding| finding.subject == template::KEY) {
            let problem = blame.first().map_or("", |finding| finding.problem.as_str());
            format!("another chat template: weights and vocabulary are the same, but the template {problem}")
        } else {
            let subjects: BTreeSet<&str> = blame.iter().map(|finding| finding.subject.as_str()).collect();
            let subjects: Vec<&str> = subjects.into_iter().collect();
            format!("not the same model: to blame: {}", join(&subjects, NAMED))
        };
        Verdict { same, blame, max_kl, line }
    }
}

/// A bar for the mean divergence, in nats, by the coarsest format of the file. Generous: the worst there is,
/// 28 layers of random weights, stays below (0.55 for Q4_K_M). The weights are the proof; this bar is for what
/// they cannot show.
fn default_max_kl(formats: &BTreeSet<Format>) -> f64 {
    let bar = |format: &Format| match format {
        Format::F32 => 1e-5,
        Format::F16 => 1e-3,
        Format::BF16 | Format::Q8_0 => 0.02,
        Format::Q6_K => 0.1,
        Format::Q5_0 | Format::Q5_1 | Format::Q5_K => 0.3,
        Format::Q4_0 | Format::Q4_1 | Format::Q4_K | Format::IQ4_NL | Format::IQ4_XS => 1.0,
        Format::Q3_K => 2.0,
        Format::Q2_K => 4.0,
    };
    formats.iter().map(bar).fold(0.0, f64::max)
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
