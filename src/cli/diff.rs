//! `glm2llama diff`: what one GGUF file has and another has not.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use super::args::Diff;
use super::inspect::describe;
use super::print::{gigabytes, out};
use super::table::{WIDTH, cut};
use glm2llama::error::{Result, one_line};
use glm2llama::gguf::{GgufFile, StoredTensor, Value};
use glm2llama::units::grouped;

/// Bytes of a tensor that are compared at a time.
const BUFFER: usize = 1 << 20;
/// Tensors that are named; a conversion to another type changes nearly all.
const MOST_TENSORS: usize = 20;

/// Prints every difference; the code is 1 when there is one.
pub(super) fn run(args: &Diff) -> Result<ExitCode> {
    let (a, b) = (GgufFile::open_model(&args.a)?, GgufFile::open_model(&args.b)?);
    let metadata = metadata(&a, &b);
    let tensors = tensors(&a, &b)?;
    metadata.iter().for_each(|line| out(line));
    tensors.iter().take(MOST_TENSORS).for_each(|line| out(line));
    if tensors.len() > MOST_TENSORS {
        out(&format!("  and {} more tensors", grouped((tensors.len() - MOST_TENSORS) as u64)));
    }
    let (keys, count) = (metadata.len(), tensors.len());
    if keys + count == 0 {
        out("no difference: the same metadata, and the same tensors to the byte");
        return Ok(ExitCode::SUCCESS);
    }
    let (before, after) = (gigabytes(a.total_bytes), gigabytes(b.total_bytes));
    let counted = |count: usize, what: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{} {what}{plural}", grouped(count as u64))
    };
    let (keys, tensors) = (counted(keys, "key"), counted(count, "tensor"));
    out(&format!("{keys} and {tensors} differ; {before} and {after}"));
    Ok(ExitCode::from(1))
}

fn metadata(a: &GgufFile, b: &GgufFile) -> Vec<String> {
    let keys: BTreeSet<&String> = a.metadata.keys().chain(b.metadata.keys()).collect();
    let differs = |key: &&String| a.metadata.get(*key) != b.metadata.get(*key);
    let line = |key: &String| {
        let shown = |file: &GgufFile| file.metadata.get(key).map_or_else(|| "absent".to_owned(), shown);
        changed(&one_line(key), &shown(a), &shown(b))
    };
    keys.into_iter().filter(differs).map(line).collect()
}

fn shown(value: &Value) -> String {
    let (kind, length, json) = describe(value, 4);
    let text = one_line(json.to_string());
    let count = length.map_or_else(String::new, |length| format!("{} x ", grouped(length as u64)));
    format!("{count}{kind} {text}")
}

/// On one line, or, where that is too long, on three.
fn changed(name: &str, before: &str, after: &str) -> String {
    let line = format!("  {name}: {before} -> {after}");
    if line.chars().count() <= WIDTH {
        return line;
    }
    let most = WIDTH - 7;
    format!("  {name}:\n       {}\n    -> {}", cut(before, most), cut(after, most))
}

fn tensors(a: &GgufFile, b: &GgufFile) -> Result<Vec<String>> {
    let (of_a, of_b) = (by_name(a), by_name(b));
    let names: BTreeSet<&str> = of_a.keys().chain(of_b.keys()).copied().collect();
    let mut lines = Vec::new();
    for name in names {
        let problem = match (of_a.get(name), of_b.get(name)) {
            (Some(_), None) => Some("is only in the first".to_owned()),
            (None, Some(_)) => Some("is only in the second".to_owned()),
            (Some(&x), Some(&y)) => difference((a, x), (b, y))?,
            (None, None) => None,
        };
        lines.extend(problem.map(|problem| format!("  {}: {problem}", one_line(name))));
    }
    Ok(lines)
}

fn by_name(file: &GgufFile) -> BTreeMap<&str, &StoredTensor> {
    file.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect()
}

fn difference(
    (a, x): (&GgufFile, &StoredTensor),
    (b, y): (&GgufFile, &StoredTensor),
) -> Result<Option<String>> {
    if (&x.shape, x.ggml_type) != (&y.shape, y.ggml_type) {
        let shape = |tensor: &StoredTensor| {
            let sizes = tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ");
            format!("{} {sizes}", tensor.format_name())
        };
        return Ok(Some(format!("{} -> {}", shape(x), shape(y))));
    }
    let mut start = 0;
    let (mut left, mut right) = (vec![0; BUFFER], vec![0; BUFFER]);
    while start < x.bytes {
        let length = usize::try_from(x.bytes - start).map_or(BUFFER, |rest| rest.min(BUFFER));
        a.read(x, start, &mut left[..length])?;
        b.read(y, start, &mut right[..length])?;
        if let Some(at) = left[..length].iter().zip(&right[..length]).position(|(p, q)| p != q) {
            let (place, bytes) = (grouped(start + at as u64), grouped(x.bytes));
            return Ok(Some(format!("other bytes, the first at {place} of {bytes}")));
        }
        start += length as u64;
    }
    Ok(None)
}
