//! Which type to take: `glm2llama plan` without `--type`, and `plan --fit`.

use serde::Serialize;

use super::memory::run_bytes;
use super::print::{gigabytes, json, out};
use glm2llama::config::GlmConfig;
use glm2llama::convert::{Job, Output};
use glm2llama::error::{Error, Result};
use glm2llama::recipe::FileType;
use glm2llama::system::machine_memory_bytes;
use glm2llama::verify::Grade;

/// The contexts that the table tells the memory of, in tokens.
const CONTEXTS: [usize; 3] = [4096, 8192, 32768];

/// `--fit` asks for room for this context, or for the model's own when that is shorter, in tokens.
const FIT_CONTEXT: usize = 8192;

/// One row of the table; in JSON the data of a `type` line.
#[derive(Serialize)]
struct Candidate {
    file_type: String,
    bytes: u64,
    bits_per_weight: f64,
    /// What a program needs to run the file, for each context of [`CONTEXTS`] that the model has.
    memory_bytes: Vec<(usize, u64)>,
    /// The same for the context of `--fit`.
    fit_bytes: u64,
    mean_kl: f64,
    quality: &'static str,
}

/// What was asked for and found; in JSON the data of a `choice` line.
#[derive(Serialize)]
struct Choice {
    /// What it has to fit into, given or this machine's, in bytes.
    limit_bytes: Option<u64>,
    context: usize,
    /// The best type that fits into what was given.
    file_type: Option<String>,
}

/// One JSON line: `{"type": ..., "data": ...}`.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Event<'a> {
    FileType(&'a Candidate),
    Choice(&'a Choice),
}

/// Prints a row for each output of the job, the best first; with `fit`, in bytes, names the best that fits.
///
/// # Errors
/// When `fit` is given and no type fits.
pub(super) fn print(job: &Job, fit: Option<u64>, as_json: bool) -> Result<()> {
    let config = &job.model.config;
    let mut candidates: Vec<Candidate> =
        job.outputs.iter().map(|output| Candidate::new(job, output)).collect();
    candidates.sort_by(|a, b| a.mean_kl.total_cmp(&b.mean_kl).then(a.bytes.cmp(&b.bytes)));
    let context = config.seq_length.min(FIT_CONTEXT);
    let best = fit.map(|limit| best(&candidates, limit, context)).transpose()?;
    let limit_bytes = fit.or_else(machine_memory_bytes);
    let choice =
        Choice { limit_bytes, context, file_type: best.map(|candidate| candidate.file_type.clone()) };
    if as_json {
        candidates.iter().for_each(|candidate| json(&Event::FileType(candidate)));
        json(&Event::Choice(&choice));
        return Ok(());
    }
    let contexts = contexts(config);
    out(&heading(&contexts));
    candidates.iter().for_each(|candidate| out(&candidate.line(&choice)));
    choice.notes(&contexts, fit.is_some()).iter().for_each(|line| out(line));
    Ok(())
}

/// The first that fits of those that are ordered by quality.
fn best(candidates: &[Candidate], limit: u64, context: usize) -> Result<&Candidate> {
    let smallest = candidates.iter().min_by_key(|candidate| candidate.fit_bytes);
    let none = || {
        let smallest = smallest.map_or_else(String::new, |smallest| {
            format!(": the smallest, {}, needs {}", smallest.file_type, gigabytes(smallest.fit_bytes))
        });
        let limit = gigabytes(limit);
        Error::Usage(format!(
            "--fit {limit}: no type fits with {} tokens of context{smallest}",
            tokens(context)
        ))
    };
    candidates.iter().find(|candidate| candidate.fit_bytes <= limit).ok_or_else(none)
}

/// Those of the contexts that the model has; its own when it has none of them.
fn contexts(config: &GlmConfig) -> Vec<usize> {
    let known: Vec<usize> = CONTEXTS.into_iter().filter(|&context| context <= config.seq_length).collect();
    if known.is_empty() { vec![config.seq_length] } else { known }
}

fn memory_bytes(file_bytes: u64, config: &GlmConfig, context: usize) -> u64 {
    let values = 2 * (config.num_layers * config.num_kv_heads * config.head_dim) as u64;
    run_bytes(file_bytes, values, config.padded_vocab_size as u64, context as u64).unwrap_or(u64::MAX)
}

impl Candidate {
    fn new(job: &Job, output: &Output) -> Candidate {
        let config = &job.model.config;
        let bytes = output.split.total_bytes();
        let (mean_kl, agreement, perplexity) = measured(output.recipe.file_type);
        let grade = Grade::of(mean_kl, agreement, perplexity / CHECKPOINT_PERPLEXITY);
        let at = |context| memory_bytes(bytes, config, context);
        Candidate {
            file_type: output.recipe.file_type.to_string(),
            bytes,
            bits_per_weight: output.bits_per_weight(&job.model),
            memory_bytes: contexts(config).into_iter().map(|context| (context, at(context))).collect(),
            fit_bytes: at(config.seq_length.min(FIT_CONTEXT)),
            mean_kl,
            quality: grade.name(),
        }
    }

    fn line(&self, choice: &Choice) -> String {
        let memory: String =
            self.memory_bytes.iter().map(|(_, bytes)| format!("{:>10}", gigabytes(*bytes))).collect();
        let mark = match choice.limit_bytes {
            _ if choice.file_type.as_ref() == Some(&self.file_type) => "  <- the best that fits",
            Some(limit) if self.fit_bytes > limit => "  too large",
            _ => "",
        };
        let Candidate { file_type, bytes, bits_per_weight, quality, .. } = self;
        format!("  {file_type:7}{:>10}{bits_per_weight:>7.2}{memory}  {quality:15}{mark}", gigabytes(*bytes))
            .trim_end()
            .to_owned()
    }
}

fn heading(contexts: &[usize]) -> String {
    let memory: String = contexts.iter().map(|&context| format!("{:>10}", tokens(context))).collect();
    format!("  {:7}{:>10}{:>7}{memory}  quality", "type", "file", "bits")
}

/// `32k` and the like.
fn tokens(context: usize) -> String {
    if context.is_multiple_of(1024) { format!("{}k", context / 1024) } else { context.to_string() }
}

impl Choice {
    fn notes(&self, contexts: &[usize], asked: bool) -> Vec<String> {
        let names = contexts.iter().map(|&context| tokens(context)).collect::<Vec<_>>().join(", ");
        let mut notes = vec![
            String::new(),
            format!("  {names}: memory that llama.cpp needs with so many tokens of context"),
            "  quality: by the KL divergence of a small trained model; larger ones lose less".to_owned(),
        ];
        if let Some(limit) = self.limit_bytes {
            let (limit, context) = (gigabytes(limit), tokens(self.context));
            let whose = if asked { "--fit".to_owned() } else { "this machine".to_owned() };
            notes.push(format!("  fits: {whose}, {limit}, with {context} tokens of context"));
        }
        notes
    }
}

/// What a type costs, measured on a trained model of 135 million weights on 512 tokens of English, Chinese and code
/// (docs/verify.md): the mean KL divergence from the checkpoint in nats a token, how often the first choice is the
/// same, and the perplexity, which is 14.77 for the checkpoint. Larger models lose less, in this order.
#[rustfmt::skip]
fn measured(file_type: FileType) -> (f64, f64, f64) {
    match file_type {
        FileType::F32    => (0.0,    1.0,   14.77),
        FileType::F16    => (0.0,    1.0,   14.77),
        FileType::BF16   => (0.0001, 0.988, 14.77),
        FileType::Q8_0   => (0.0019, 0.969, 14.77),
        FileType::Q6_K   => (0.022,  0.908, 15.12),
        FileType::Q5_K_M => (0.055,  0.859, 15.59),
        FileType::Q5_K_S => (0.086,  0.824, 16.24),
        FileType::Q5_1   => (0.091,  0.787, 16.42),
        FileType::Q5_0   => (0.112,  0.797, 16.52),
        FileType::Q4_K_M => (0.192,  0.723, 17.86),
        FileType::IQ4_NL => (0.259,  0.684, 18.39),
        FileType::IQ4_XS => (0.266,  0.678, 17.88),
        FileType::Q4_K_S => (0.283,  0.684, 18.69),
        FileType::Q4_1   => (0.383,  0.617, 20.38),
        FileType::Q4_0   => (0.430,  0.568, 21.13),
        FileType::Q3_K_L => (0.624,  0.523, 25.58),
        FileType::Q3_K_M => (0.856,  0.482, 33.41),
        FileType::Q3_K_S => (1.229,  0.416, 38.89),
        FileType::Q2_K   => (2.850,  0.160, 212.33),
    }
}

/// The perplexity of the checkpoint that [`measured`] is of.
const CHECKPOINT_PERPLEXITY: f64 = 14.77;

#[cfg(test)]
mod tests {

    use super::*;

    /// docs/verify.md has the same figures and grades.
    #[test]
    fn the_documents_have_what_was_measured() {
        let rows: Vec<Vec<&str>> = include_str!("../../docs/verify.md")
            .lines()
            .map(|line| line.split('|').map(str::trim).collect())
            .filter(|cells: &Vec<&str>| cells.len() == 8 && cells[1].parse::<FileType>().is_ok())
            .collect();
        assert_eq!(rows.len(), 18); // F32 is the checkpoint
        for row in rows {
            let number = |cell: &str| cell.trim_end_matches(" %").parse::<f64>().unwrap();
            let (kl, agreement, perplexity) = measured(row[1].parse().unwrap());
            assert!((number(row[3]) - kl).abs() < 6e-4, "{row:?}");
            assert!((number(row[4]) - 100.0 * agreement).abs() < 0.06, "{row:?}");
            assert!((number(row[5]) - perplexity).abs() < 0.006, "{row:?}");
            assert_eq!(
                Grade::of(kl, agreement, perplexity / CHECKPOINT_PERPLEXITY).name(),
                row[6],
                "{row:?}"
            );
        }
    }

    #[test]
    fn a_context_is_named_briefly() {
        assert_eq!([4096, 32768, 5000].map(tokens), ["4k", "32k", "5000"]);
    }
}
