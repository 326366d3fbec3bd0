//! `glm2llama inspect`: a card of what matters, the metadata, and on demand every tensor.

mod card;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value as Json;

use self::card::Card;
pub(super) use self::values::describe;
use super::args::Inspect;
use super::print::{gigabytes, json, out};
use super::table::{self, Side, WIDTH, cut};
use glm2llama::error::{Error, Result, one_line};
use glm2llama::gguf::{GgufFile, StoredTensor, Value};
use glm2llama::units::grouped;

/// Values of an array that are shown without `--all`.
const FIRST_VALUES: usize = 6;
/// Columns of the longest key that others are aligned with.
const LONGEST_KEY: usize = 40;

/// One JSON line: `{"type": ..., "data": ...}`.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Event {
    File { file: PathBuf, version: u32 },
    Card(Card),
    Metadata(Key),
    Tensor(Tensor),
    Summary(Summary),
}

#[derive(Serialize)]
struct Key {
    key: String,
    kind: &'static str,
    /// For an array its first values only, unless all are asked for.
    value: Json,
    /// For an array, how many values it has.
    length: Option<usize>,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    /// `[out, in]`, as in the checkpoint.
    shape: Vec<u64>,
    format: String,
    bytes: u64,
    offset: u64,
    bits_per_weight: f64,
}

#[derive(Serialize)]
struct Summary {
    bytes: u64,
    tensors: usize,
    weights: u64,
    bits_per_weight: f64,
    formats: BTreeMap<String, Size>,
}

#[derive(Default, Serialize)]
struct Size {
    tensors: usize,
    weights: u64,
    bytes: u64,
}

pub(super) fn run(args: &Inspect) -> Result<()> {
    let file = open(&args.file)?;
    if args.template {
        let template = file.text(card::TEMPLATE).ok_or_else(|| {
            Error::mismatch(&args.file, card::TEMPLATE, "none", "a chat template: this model has none")
        })?;
        out(template);
        return Ok(());
    }
    let values = if args.all { usize::MAX } else { FIRST_VALUES };
    let keys = file.metadata.iter().map(|(key, value)| Key::new(key, value, values));
    let tensors = file.tensors.iter().map(Tensor::new);
    let card = Card::new(&file);
    let summary = Summary::new(&file);
    if args.json {
        json(&Event::File { file: args.file.clone(), version: file.version });
        json(&Event::Card(card));
        keys.for_each(|key| json(&Event::Metadata(key)));
        if !args.no_tensors {
            tensors.for_each(|tensor| json(&Event::Tensor(tensor)));
        }
        json(&Event::Summary(summary));
        return Ok(());
    }
    let parts = match file.files() {
        1 => String::new(),
        files => format!(" and its {} other parts", files - 1),
    };
    let size = gigabytes(summary.bytes);
    out(&format!("{}{parts}: GGUF version {}, {size}", args.file.display(), file.version));
    card.lines().iter().for_each(|line| out(line));
    out(&summary.text());
    out("\nmetadata");
    let widest = file.metadata.keys().map(|key| one_line(key).chars().count()).max().unwrap_or(0);
    let widest = widest.min(LONGEST_KEY);
    keys.for_each(|key| {
        let kind = if key.length.is_some() { "" } else { key.kind };
        let line = format!("  {:widest$}  {kind:6}  {}", one_line(&key.key), key.text());
        out(&if args.all { line } else { cut(&line, WIDTH) });
    });
    if args.tensors || args.all {
        out("\ntensors");
        let heads = ["offset", "bytes", "format", "shape", "name"].map(str::to_owned);
        let rows: Vec<[String; 5]> =
            std::iter::once(heads).chain(tensors.map(|tensor| tensor.cells())).collect();
        let sides = [Side::Right, Side::Right, Side::Left, Side::Left, Side::Left];
        table::lines(&rows, sides).iter().for_each(|line| out(line));
    }
    out("\nformats");
    summary.format_lines().iter().for_each(|line| out(line));
    if !args.tensors && !args.all {
        out("\n--tensors lists every tensor, --template prints the chat template");
    }
    Ok(())
}

fn open(path: &Path) -> Result<GgufFile> {
    #[cfg(feature = "hub")]
    if super::hub::is_address(path) {
        return super::hub::gguf(path);
    }
    if path.is_dir() {
        let expected = "a GGUF file: glm2llama plan shows what is in a checkpoint's folder";
        return Err(Error::file_mismatch(path, "a folder", expected));
    }
    GgufFile::open_model(path)
}

impl Key {
    fn new(key: &str, value: &Value, most: usize) -> Key {
        let (kind, length, value) = describe(value, most);
        Key { key: key.to_owned(), kind, value, length }
    }

    fn text(&self) -> String {
        match (&self.value, self.length) {
            (Json::Array(values), Some(length)) => {
                let shown = values.iter().map(one_line).collect::<Vec<_>>();
                let more = if shown.len() < length { ", ..." } else { "" };
                format!("{} x {}: {}{more}", grouped(length as u64), self.kind, shown.join(", "))
            }
            (Json::String(text), _) => one_line(text),
            (other, _) => one_line(other),
        }
    }
}

impl Tensor {
    fn new(tensor: &StoredTensor) -> Tensor {
        Tensor {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            format: tensor.format_name(),
            bytes: tensor.bytes,
            offset: tensor.offset,
            bits_per_weight: bits(tensor.bytes, tensor.weights()),
        }
    }

    fn cells(&self) -> [String; 5] {
        let shape = self.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ");
        [grouped(self.offset), grouped(self.bytes), self.format.clone(), shape, one_line(&self.name)]
    }
}

impl Summary {
    fn new(file: &GgufFile) -> Summary {
        let mut formats: BTreeMap<String, Size> = BTreeMap::new();
        for tensor in &file.tensors {
            let size = formats.entry(tensor.format_name()).or_default();
            size.tensors += 1;
            size.weights = size.weights.saturating_add(tensor.weights());
            size.bytes = size.bytes.saturating_add(tensor.bytes);
        }
        let weights = formats.values().fold(0u64, |sum, size| sum.saturating_add(size.weights));
        Summary {
            bytes: file.total_bytes,
            tensors: file.tensors.len(),
            weights,
            bits_per_weight: bits(file.total_bytes, weights),
            formats,
        }
    }

    fn text(&self) -> String {
        let (tensors, weights) = (grouped(self.tensors as u64), grouped(self.weights));
        let bits = self.bits_per_weight;
        format!("  tensors       {tensors}, of {weights} stored weights of {bits:.2} bits")
    }

    /// Largest first.
    fn format_lines(&self) -> Vec<String> {
        let mut formats: Vec<_> = self.formats.iter().collect();
        let stored: u64 = formats.iter().fold(0u64, |sum, (_, size)| sum.saturating_add(size.bytes));
        formats.sort_by_key(|(_, size)| std::cmp::Reverse(size.bytes));
        let line = |(name, size): &(&String, &Size)| {
            format!(
                "  {name:8} {:4} tensors  {:>10}  {:5.1} %  {:6.3} bits per stored weight",
                size.tensors,
                gigabytes(size.bytes),
                100.0 * size.bytes as f64 / self.bytes.max(1) as f64,
                bits(size.bytes, size.weights)
            )
        };
        let rest = self.bytes.saturating_sub(stored);
        let head = format!(
            "  {:8} {:12}  {:>10}  {:5.1} %  metadata and vocabulary",
            "header",
            "",
            gigabytes(rest),
            100.0 * rest as f64 / self.bytes.max(1) as f64
        );
        formats.iter().map(line).chain([head]).collect()
    }
}

fn bits(bytes: u64, weights: u64) -> f64 {
    bytes as f64 * 8.0 / weights.max(1) as f64
}
