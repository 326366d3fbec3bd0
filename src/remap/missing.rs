//! The error on a tensor that is not there: what is there instead, if anything is.

use std::collections::BTreeMap;

use super::is_head;
use crate::checkpoint::Checkpoint;
use crate::error::Error;

/// Names less alike than this have nothing to do with each other.
const ALIKE: f64 = 0.5;

/// `used`: the names of all tensors that the plan needs.
pub(super) fn error<T>(
    used: &BTreeMap<String, T>,
    checkpoint: &Checkpoint,
    name: &str,
    shape: &[usize],
) -> Error {
    // The rope's frequencies are unused in every checkpoint.
    let is_unused = |name: &&str| !used.contains_key(*name) && !name.ends_with("inv_freq");
    let unused = || checkpoint.tensors().keys().map(String::as_str).filter(is_unused);
    let wrapped =
        unused().find(|other| other.strip_suffix(name).is_some_and(|wrapper| wrapper.ends_with('.')));
    let expected = format!("it with shape {shape:?}");
    let file = checkpoint.main_file();
    if let Some(wrapper) = wrapped.and_then(|other| other.strip_suffix(name)) {
        let all = checkpoint.tensors().len();
        let count = checkpoint.tensors().keys().filter(|other| other.starts_with(wrapper)).count();
        let found = format!("no such tensor but {wrapper}{name}");
        let remedy = format!("{count} of {all} names begin with {wrapper}, remove it");
        return Error::mismatch(file, name, found, format!("{expected}: {remedy}"));
    }
    if let Some(head) = unused()
        .find(|other| is_head(other))
        .filter(|_| name.contains("output_layer") || name == "lm_head.weight")
    {
        let found = format!("no such tensor but {head}");
        let reason = "this is a classifier or a reward model, which generates no text";
        return Error::mismatch(file, name, found, format!("{expected}: {reason}"));
    }
    let alike = |other: &str| strsim::normalized_levenshtein(name, other);
    let closest = unused().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    let found = match closest {
        Some(other) if alike(other) >= ALIKE => format!("no such tensor, the closest is {other}"),
        Some(other) => format!("no such tensor, but {other} for instance"),
        None => "no such tensor".to_owned(),
    };
    Error::mismatch(file, name, found, expected)
}
