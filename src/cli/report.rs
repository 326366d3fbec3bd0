//! What is printed: text for people, JSON lines for programs. Results go to stdout, the rest to stderr.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::chosen::Chosen;
use super::next;
use super::print::{cost, gigabytes, json, note, out, warn, weights};
use super::titles::{Padding, parts, title};
use glm2llama::calibrate::Sample;
use glm2llama::convert::{Job, Output};
use glm2llama::error::{Error, Result, one_line};
use glm2llama::export::Export;
use glm2llama::locate::Located;
use glm2llama::model::Model;
use glm2llama::system::peak_memory_bytes;
use glm2llama::units::grouped;
use glm2llama::watch::Step;

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    Text,
    Json,
    Quiet,
}

/// One JSON line: `{"type": ..., "data": ...}`.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Event<'a> {
    Start(&'a Start),
    Warning {
        message: &'a str,
    },
    Progress {
        tensor: &'a str,
        bytes: u64,
        total_bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        downloaded_bytes: Option<u64>,
        seconds: f64,
    },
    Verified {
        file: &'a Path,
        verdict: &'a str,
    },
    Summary(&'a Summary),
    Chosen(&'a Chosen),
    #[serde(rename = "summary")]
    Exported(&'a Exported),
    #[serde(rename = "summary")]
    Measured(&'a Measured),
}

/// What the run starts from.
#[derive(Serialize)]
struct Start {
    model: String,
    layers: usize,
    parameters: u64,
    source_bytes: u64,
    /// What no single field of the checkpoint tells, and what it was taken from.
    decisions: Vec<String>,
    outputs: Vec<PathBuf>,
}

/// What the run came to.
#[derive(Serialize)]
pub(super) struct Summary {
    outputs: Vec<Written>,
    /// Ollama is handed the file next, without the user.
    #[serde(skip)]
    to_ollama: bool,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

/// What an export came to.
#[derive(Serialize)]
pub(super) struct Exported {
    folder: PathBuf,
    /// Names and lengths.
    files: BTreeMap<String, u64>,
    bytes: u64,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

/// What measuring an importance matrix came to.
#[derive(Serialize)]
pub(super) struct Measured {
    file: PathBuf,
    matrices: usize,
    tokens: usize,
    /// What the text is called, and its SHA-256.
    calibration: String,
    calibration_sha256: String,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    /// The parts, when it was split.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PathBuf>,
    modelfile: Option<PathBuf>,
    file_type: String,
    bytes: u64,
    bits_per_weight: f64,
    /// Tensors of each format.
    formats: BTreeMap<&'static str, usize>,
    ffn_padding: Option<Padding>,
}

impl Report {
    pub(super) fn new(json: bool, quiet: bool) -> Report {
        match (json, quiet) {
            (true, _) => Report::Json,
            (false, true) => Report::Quiet,
            (false, false) => Report::Text,
        }
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self, Report::Text)
    }

    pub(super) fn is_quiet(self) -> bool {
        matches!(self, Report::Quiet)
    }

    /// An event: its text, its JSON line, or nothing.
    fn tell(self, event: &Event, text: impl FnOnce()) {
        match self {
            Report::Text => text(),
            Report::Json => json(event),
            Report::Quiet => {}
        }
    }

    /// Says what the run starts from, what was decided, and what to beware of.
    pub(super) fn start(
        self,
        model: &Model,
        source_bytes: u64,
        outputs: Vec<PathBuf>,
        located: &Located,
        warnings: &[String],
    ) {
        let start = &Start::new(model, source_bytes, outputs, located);
        self.tell(&Event::Start(start), || {
            note(&format!(
                "{}: {} layers, {}, {}",
                start.model,
                start.layers,
                weights(start.parameters),
                gigabytes(start.source_bytes)
            ));
            start.decisions.iter().for_each(|decision| note(&format!("  {decision}")));
        });
        for warning in located.unfinished.iter().chain(warnings) {
            self.warning(warning);
        }
    }

    pub(super) fn warning(self, message: &str) {
        self.tell(&Event::Warning { message }, || warn(message));
    }

    /// What a user should know of the weights before trusting the output; an error where the user wants no doubt.
    pub(super) fn doubt(self, doubt: Option<&str>, strict: bool, located: &Located) -> Result<()> {
        let Some(doubt) = doubt else { return Ok(()) };
        if strict {
            return Err(Error::file(&located.folder, format!("{doubt} (--strict)")));
        }
        self.warning(doubt);
        Ok(())
    }

    /// Formats were chosen for a size.
    pub(super) fn chosen(self, chosen: &Chosen) {
        self.tell(&Event::Chosen(chosen), || note(&chosen.text()));
    }

    /// `--verify` found a file right.
    pub(super) fn verified(self, file: &Path, line: &str) {
        self.tell(&Event::Verified { file, verdict: line }, || out(&format!("{}: {line}", file.display())));
    }

    /// How far a run with `--json` is.
    pub(super) fn progress(self, &Step { at, done, total, downloaded }: &Step, elapsed: Duration) {
        if let Report::Json = self {
            json(&Event::Progress {
                tensor: at,
                bytes: done,
                total_bytes: total,
                downloaded_bytes: downloaded,
                seconds: elapsed.as_secs_f64(),
            });
        }
    }

    pub(super) fn summary(self, summary: &Summary) {
        self.tell(&Event::Summary(summary), || {
            summary.outputs.iter().for_each(|output| out(&output.text()));
            out(&cost(summary.seconds, summary.peak_memory_bytes));
            if let Some(output) = summary.outputs.first().filter(|output| !output.formats.is_empty()) {
                let first = output.parts.first().unwrap_or(&output.file);
                let modelfile = output.modelfile.as_deref().filter(|_| !summary.to_ollama);
                out(&next::steps(first, modelfile));
            }
        });
    }

    pub(super) fn exported(self, exported: &Exported) {
        self.tell(&Event::Exported(exported), || {
            let (folder, files) = (exported.folder.display(), exported.files.len());
            out(&format!("{folder}: {} in {files} files", gigabytes(exported.bytes)));
            out(&cost(exported.seconds, exported.peak_memory_bytes));
        });
    }

    pub(super) fn measured(self, measured: &Measured) {
        self.tell(&Event::Measured(measured), || {
            let Measured { file, matrices, tokens, calibration, .. } = measured;
            let tokens = grouped(*tokens as u64);
            out(&format!("{}: {matrices} matrices, {tokens} tokens of {calibration}", file.display()));
            out(&cost(measured.seconds, measured.peak_memory_bytes));
        });
    }
}

impl Start {
    fn new(model: &Model, source_bytes: u64, outputs: Vec<PathBuf>, located: &Located) -> Start {
        // First which folder a name was taken for.
        let kind = if located.folder.is_dir() { "folder" } else { "from" }; // a hub's is in none
        let how = located.how.iter().map(|how| format!("{kind}: {}", one_line(how)));
        let decisions = model.decisions();
        Start {
            model: model.name.full(),
            layers: model.config.num_layers,
            parameters: model.plan.parameters(),
            source_bytes,
            decisions: how.chain(decisions).collect(),
            outputs,
        }
    }
}

impl Summary {
    pub(super) fn new(job: &Job, elapsed: Duration, to_ollama: bool) -> Summary {
        Summary {
            to_ollama,
            outputs: job.outputs.iter().map(|output| Written::new(job, output)).collect(),
            seconds: elapsed.as_secs_f64(),
            peak_memory_bytes: peak_memory_bytes(),
        }
    }
}

impl Exported {
    pub(super) fn new(export: &Export, elapsed: Duration) -> Exported {
        let files: BTreeMap<String, u64> =
            export.files().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        Exported {
            folder: export.output.clone(),
            bytes: files.values().sum(),
            files,
            seconds: elapsed.as_secs_f64(),
            peak_memory_bytes: peak_memory_bytes(),
        }
    }
}

impl Measured {
    pub(super) fn new(file: &Path, matrices: usize, sample: &Sample, elapsed: Duration) -> Measured {
        Measured {
            file: file.to_owned(),
            matrices,
            tokens: sample.tokens.len(),
            calibration: sample.name.clone(),
            calibration_sha256: sample.hash.clone(),
            seconds: elapsed.as_secs_f64(),
            peak_memory_bytes: peak_memory_bytes(),
        }
    }
}

impl Written {
    fn new(job: &Job, output: &Output) -> Written {
        let mut formats = BTreeMap::new();
        for tensor in output.split.tensors() {
            *formats.entry(tensor.format.name()).or_insert(0) += 1;
        }
        Written {
            file: output.path.clone(),
            parts: parts(output),
            modelfile: output.modelfile.as_ref().map(|(path, _)| path.clone()),
            file_type: output.recipe.file_type.to_string(),
            bytes: output.split.total_bytes(),
            bits_per_weight: output.bits_per_weight(&job.model),
            formats,
            ffn_padding: Padding::of(job, output),
        }
    }

    fn text(&self) -> String {
        let formats: Vec<String> =
            self.formats.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let modelfile = match &self.modelfile {
            Some(path) => format!("\n  for Ollama: {}", path.display()),
            None => String::new(),
        };
        let padding = Padding::line(self.ffn_padding.as_ref());
        let (file, size) = (title(&self.file, &self.parts), gigabytes(self.bytes));
        if formats.is_empty() {
            return format!("{file}: {size}, the vocabulary only");
        }
        let (bits, formats) = (self.bits_per_weight, formats.join(", "));
        format!("{file}: {size}, {bits:.2} bits per weight\n  tensors: {formats}{padding}{modelfile}")
    }
}
