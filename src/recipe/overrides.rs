//! What the user says of the formats, over the mix: llama-quantize's options, in its order.

use quant::Format;
use regex::{Regex, RegexBuilder};

use super::spelling::meant;
use crate::error::{Error, Result};
use crate::remap::{Role, Target};

/// Formats by hand. The default changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Every matrix in the base format (`--pure`).
    pub pure: bool,
    /// `output.weight`, or the embedding where it serves as the output too.
    pub output: Option<Format>,
    /// `token_embd.weight`.
    pub token_embedding: Option<Format>,
    /// Matrices by name: the first pattern that is found in it counts.
    pub tensors: Vec<(Regex, Format)>,
}

impl Overrides {
    /// The format of a matrix, or `None` where the mix decides.
    pub(super) fn format(&self, target: &Target, base: Format, tied: bool) -> Option<Format> {
        let by_pattern = self.tensors.iter().find(|(pattern, _)| pattern.is_match(&target.name));
        let by_role = match target.role() {
            Role::Vector => return None,
            Role::TokenEmbedding => self.token_embedding,
            Role::Output => self.output,
            _ => None,
        };
        let as_output = self.output.filter(|_| tied && target.role() == Role::TokenEmbedding);
        by_role.or(by_pattern.map(|(_, format)| *format)).or(as_output).or(self.pure.then_some(base))
    }

    /// Patterns that no matrix's name matches.
    pub fn unmatched<'a>(&'a self, targets: &'a [Target]) -> impl Iterator<Item = &'a str> {
        let matrices = |pattern: &Regex| {
            let mut names = targets.iter().filter(|target| target.role() != Role::Vector);
            names.any(|target| pattern.is_match(&target.name))
        };
        self.tensors.iter().map(|(pattern, _)| pattern).filter(move |p| !matrices(p)).map(Regex::as_str)
    }
}

/// Reads a `REGEX=TYPE` of `--tensor-type`. As in llama-quantize, capitals do not matter.
///
/// # Errors
/// When there is no `=`, or either side cannot be read.
pub fn parse_tensor_type(text: &str) -> Result<(Regex, Format)> {
    let wrong = |problem: String| Error::Usage(format!("--tensor-type {text}: {problem}"));
    let split = text.rsplit_once('=').filter(|(pattern, _)| !pattern.is_empty());
    let (pattern, name) = split.ok_or_else(|| wrong("expected REGEX=TYPE".to_owned()))?;
    let format = find(name).ok_or_else(|| wrong(unknown(name)))?;
    let built = RegexBuilder::new(pattern).case_insensitive(true).size_limit(1 << 20).build();
    let regex = built.map_err(|e| {
        // The library's message draws an arrow over several lines; its last says what is wrong.
        let message = e.to_string();
        let reason = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
        wrong(format!("found `{pattern}`, expected a regular expression: {reason}"))
    })?;
    Ok((regex, format))
}

/// Reads the format of `option`, in any case.
///
/// # Errors
/// When there is none of that name.
pub fn parse_format(option: &str, name: &str) -> Result<Format> {
    find(name).ok_or_else(|| Error::Usage(format!("{option}: {}", unknown(name))))
}

fn find(name: &str) -> Option<Format> {
    Format::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
}

fn unknown(name: &str) -> String {
    let names = Format::ALL.map(Format::name);
    let meant = meant(name, &names).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    format!("found the type `{name}`, expected one of {}{meant}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remap::{InBlock, Part, Slot, Source};

    fn target(slot: Slot) -> Target {
        Target { name: slot.gguf_name(), slot, rows: 1, columns: 1, source: Source::Values(Vec::new()) }
    }

    #[test]
    fn the_narrower_option_goes_first() {
        let tensors = ["\\.ATTN_V=q6_k", "attn=Q5_K"].map(|text| parse_tensor_type(text).unwrap()).to_vec();
        let overrides = Overrides {
            pure: true,
            output: Some(Format::Q8_0),
            token_embedding: None,
            tensors: [vec![parse_tensor_type("^output=F16").unwrap()], tensors].concat(),
        };
        let format = |slot, tied| overrides.format(&target(slot), Format::Q4_K, tied);
        let block = |tensor| Slot::Block(3, tensor);
        assert_eq!(format(block(InBlock::Weight(Part::Value)), false), Some(Format::Q6_K));
        assert_eq!(format(block(InBlock::Weight(Part::Query)), false), Some(Format::Q5_K));
        assert_eq!(format(block(InBlock::Bias(Part::Query)), false), None);
        assert_eq!(format(Slot::Output, false), Some(Format::Q8_0));
        assert_eq!(format(Slot::TokenEmbedding, false), Some(Format::Q4_K));
        assert_eq!(format(Slot::TokenEmbedding, true), Some(Format::Q8_0));
        let targets = [target(block(InBlock::Weight(Part::Query)))];
        assert_eq!(overrides.unmatched(&targets).collect::<Vec<_>>(), ["^output", "\\.ATTN_V"]);
    }

    #[test]
    fn what_cannot_be_read_is_named_in_one_line() {
        let cases = [
            ("attn_v", "expected REGEX=TYPE"),
            ("=Q4_K", "expected REGEX=TYPE"),
            ("attn_v=Q4_K_M", "found the type `Q4_K_M`, expected one of F32, F16"),
            ("attn_(v=Q4_K", "found `attn_(v`, expected a regular expression: unclosed group"),
            ("(?!x)a=Q4_K", "expected a regular expression: look-around"),
        ];
        for (text, expected) in cases {
            let error = parse_tensor_type(text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
        }
        let error = parse_format("--output-tensor-type", "Q9").unwrap_err().to_string();
        assert!(
            error.starts_with("--output-tensor-type: found the type `Q9`, expected one of F32"),
            "{error}"
        );
    }
}
