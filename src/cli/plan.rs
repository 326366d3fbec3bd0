//! `glm2llama plan` and `convert --dry-run`: what a conversion would do. Weights are read for it only where formats are
//! chosen for a size.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::print::{about, gigabytes, json, out};
use super::table::{self, Side, WIDTH};
use super::titles::{Padding, parts, title};
use glm2llama::convert::{Job, Output};
use glm2llama::error::Result;
use glm2llama::gguf::TensorInfo;
use glm2llama::output::free_bytes;
use glm2llama::pipeline::Options;
use glm2llama::recipe::Choice;
use glm2llama::remap::{Source, Span, Target};
use glm2llama::units::grouped;

/// What a run takes beside its buffers and the headers of its files: the program, the vocabulary, threads' stacks.
const BASE_MEMORY_BYTES: u64 = 24 << 20;

/// One JSON line: `{"type": ..., "data": ...}`.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Event<'a> {
    Output(&'a Planned),
    Tensor(&'a Row),
    Summary(&'a Needs),
}

#[derive(Serialize)]
struct Planned {
    file: PathBuf,
    /// The files that stand for it, when it is split.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PathBuf>,
    file_type: String,
    bytes: u64,
    weights: u64,
    bits_per_weight: f64,
    ffn_padding: Option<Padding>,
    /// Tensors whose format is not the one that the type names.
    falling_back: usize,
    #[serde(skip)]
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// What the values come from; none when the mapping computes them.
    sources: Vec<Rows>,
    shape: Vec<usize>,
    padded: bool,
    format: &'static str,
    instead_of: Option<&'static str>,
    bytes: u64,
    offset: u64,
    #[serde(skip)]
    layer: Option<usize>,
}

#[derive(Serialize)]
struct Rows {
    tensor: String,
    first_row: usize,
    rows: usize,
    #[serde(skip)]
    whole: bool,
}

#[derive(Serialize)]
struct Needs {
    source_bytes: u64,
    memory_bytes: u64,
    disk_bytes: u64,
    free_disk_bytes: Option<u64>,
    /// About, on this machine; none where reading and writing decide.
    seconds: Option<f64>,
}

/// Prints the plan of every output; `all`: a row for each tensor and not for each kind of tensor.
///
/// # Errors
/// When there are more threads than the system gives.
pub(super) fn print(job: &Job, options: Options, all: bool, as_json: bool) -> Result<()> {
    let outputs: Vec<Planned> = job.outputs.iter().map(|output| Planned::new(job, output)).collect();
    let needs = Needs::new(job, options)?;
    if as_json {
        for output in &outputs {
            json(&Event::Output(output));
            output.rows.iter().for_each(|row| json(&Event::Tensor(row)));
        }
        json(&Event::Summary(&needs));
        return Ok(());
    }
    for output in &outputs {
        out(&output.heading());
        output.lines(all).iter().for_each(|line| out(line));
        out("");
    }
    out(&needs.text());
    Ok(())
}

impl Planned {
    fn new(job: &Job, output: &Output) -> Planned {
        let targets = job.model.plan.tensors.iter().zip(&output.recipe.choices).zip(output.split.placed());
        let row = |((target, choice), (info, offset)): ((&Target, &Choice), (&TensorInfo, u64))| Row {
            name: info.name.clone(),
            sources: sources(target),
            shape: info.shape.clone(),
            padded: target.padded_shape(output.recipe.ffn) != (target.rows, target.columns),
            format: info.format.name(),
            instead_of: choice.instead_of.map(quant::Format::name),
            bytes: info.bytes,
            offset,
            layer: target.slot.layer(),
        };
        let rows: Vec<Row> = targets.map(row).collect();
        Planned {
            file: output.path.clone(),
            parts: parts(output),
            file_type: output.recipe.file_type.to_string(),
            bytes: output.split.total_bytes(),
            weights: output.split.weights(),
            bits_per_weight: output.bits_per_weight(&job.model),
            ffn_padding: Padding::of(job, output),
            falling_back: rows.iter().filter(|row| row.instead_of.is_some()).count(),
            rows,
        }
    }

    fn heading(&self) -> String {
        let falling = match self.falling_back {
            0 => "\n  nothing falls back".to_owned(),
            n => format!("\n  {n} tensors fall back to a format whose blocks fit their rows"),
        };
        let padding = Padding::line(self.ffn_padding.as_ref());
        format!(
            "{}: {}, {} bytes, {:.2} bits per weight{padding}{falling}",
            title(&self.file, &self.parts),
            self.file_type,
            grouped(self.bytes),
            self.bits_per_weight
        )
    }

    /// Tensor, shape, formats and size, and under it where it comes from: for each tensor, or for each kind of tensor
    /// in all layers.
    fn lines(&self, all: bool) -> Vec<String> {
        let mut kinds: Vec<(String, Vec<&Row>)> = Vec::new();
        for row in &self.rows {
            let name = if all { row.name.clone() } else { row.without_layer(&row.name) };
            match kinds.iter_mut().find(|(known, rows)| *known == name && rows[0].shape == row.shape) {
                Some((_, rows)) => rows.push(row),
                None => kinds.push((name, vec![row])),
            }
        }
        let heads = ["tensor, and what it is made of", "shape", "format", "size"].map(str::to_owned);
        let (cells, origins): (Vec<_>, Vec<_>) =
            kinds.into_iter().map(|(name, rows)| (cells(name, &rows), origin(&rows, all))).unzip();
        let cells: Vec<[String; 4]> = std::iter::once(heads).chain(cells).collect();
        let mut table = table::lines(&cells, [Side::Left, Side::Left, Side::Left, Side::Right]).into_iter();
        let mut lines: Vec<String> = table.next().into_iter().collect();
        table.zip(origins).for_each(|(row, origin)| {
            lines.push(row);
            lines.extend(origin);
        });
        lines
    }
}

/// A row of the table.
fn cells(name: String, rows: &[&Row]) -> [String; 4] {
    let shape = rows[0].shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x "); // there is one
    let formats = counted(rows, |row| Some(row.format.to_owned()));
    [name, shape, formats, gigabytes(rows.iter().map(|row| row.bytes).sum())]
}

/// What stands under a row: the source, and in what it is not as the checkpoint or the type says.
fn origin(rows: &[&Row], all: bool) -> Vec<String> {
    let first = rows[0];
    let source = first.source();
    let source = if all { source } else { first.without_layer(&source) };
    let fallen = counted(rows, |row| Some(format!("{} instead of {}", row.format, row.instead_of?)));
    let padded = if first.padded { "padded" } else { "" };
    let mut lines = vec![format!("    {source}")];
    for note in [padded.to_owned(), fallen].into_iter().filter(|note| !note.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + note.chars().count() <= WIDTH => {
                line.push_str(", ");
                line.push_str(&note);
            }
            _ => lines.push(format!("    {note}")),
        }
    }
    lines
}

/// Each text that rows have, the most frequent first, with their number where there is more than one row.
fn counted(rows: &[&Row], text: impl Fn(&Row) -> Option<String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for text in rows.iter().filter_map(|row| text(row)) {
        *counts.entry(text).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let named = |(text, count)| if rows.len() > 1 { format!("{count} {text}") } else { text };
    counts.into_iter().map(named).collect::<Vec<_>>().join(", ")
}

impl Row {
    /// Without the prefix that all of a checkpoint's tensors have.
    fn source(&self) -> String {
        let Some(Rows { tensor, first_row, rows, whole }) = self.sources.first() else {
            return "(computed)".to_owned();
        };
        let tensor = tensor.strip_prefix("transformer.").unwrap_or(tensor);
        match self.sources.len() {
            1 if *whole => tensor.to_owned(),
            1 => format!("{tensor} {first_row}..{}", first_row + rows),
            parts => format!("{tensor} in {parts} parts"),
        }
    }

    fn without_layer(&self, text: &str) -> String {
        match self.layer {
            Some(layer) => text.replacen(&format!(".{layer}."), ".*.", 1),
            None => text.to_owned(),
        }
    }
}

fn sources(target: &Target) -> Vec<Rows> {
    let Source::Rows(spans) = &target.source else { return Vec::new() };
    let rows = |span: &Span| Rows {
        tensor: span.tensor.clone(),
        first_row: span.rows.start,
        rows: span.rows.len(),
        whole: span.stored.rows() == span.rows.len(),
    };
    spans.iter().map(rows).collect()
}

impl Needs {
    fn new(job: &Job, options: Options) -> Result<Needs> {
        let headers: u64 = job.outputs.iter().map(|output| output.split.header_bytes()).sum();
        let source_bytes = job.work().source_bytes();
        let buffer_bytes = options.memory_bytes as u64;
        let plain = BASE_MEMORY_BYTES + 2 * headers + buffer_bytes.min(2 * source_bytes);
        Ok(Needs {
            source_bytes,
            // The header is held twice, in the layout and in its writer; no more is buffered than there is.
            memory_bytes: plain.max(job.measuring_bytes()),
            disk_bytes: job.disk_bytes(),
            free_disk_bytes: job.outputs.first().and_then(|output| free_bytes(&output.path)),
            seconds: job.expected_time(options)?.map(|time| time.as_secs_f64()),
        })
    }

    fn text(&self) -> String {
        let free = self.free_disk_bytes.map(|bytes| format!(" ({} free)", gigabytes(bytes)));
        let time = self
            .seconds
            .map(|seconds| format!("; takes {} on this machine", about(Duration::from_secs_f64(seconds))));
        format!(
            "reads {}; needs {} of disk{} and about {} of memory{}",
            gigabytes(self.source_bytes),
            gigabytes(self.disk_bytes),
            free.unwrap_or_default(),
            gigabytes(self.memory_bytes),
            time.unwrap_or_default()
        )
    }
}
