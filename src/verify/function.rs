//! Both models on the same text: the source by ChatGLM's rules, the file by Llama's.

use std::path::Path;

use super::divergence::{Divergence, Position};
use super::evidence::Evidence;
use super::glm::Glm;
use super::llama::{self, Stock};
use super::{Answer, OutputError, Pair};
use crate::error::Result;
use crate::forward::{Activations, Decoder, Llama, OUTPUT_ROWS};
use crate::watch::Watch;

/// What running both models came to.
#[derive(Clone, Debug)]
pub struct Function {
    /// After each token.
    pub positions: Vec<Position>,
    /// Each token's part of the text: a character of several tokens stands with the last of them.
    pub texts: Vec<String>,
    /// The tokens that each side thinks likeliest after each token: the source, the file.
    pub likeliest: Vec<[String; 2]>,
    /// What the file's matrices make of the checkpoint's inputs, where their levels were chosen for that.
    pub outputs: Vec<OutputError>,
    /// What both say to the same questions, where they were asked.
    pub answers: Vec<Answer>,
    /// Tokens that there are.
    pub vocabulary: usize,
    /// Mean of the divergences, in nats.
    pub mean_kl: f64,
    /// Their median.
    pub median_kl: f64,
    /// 99 of 100 are below.
    pub p99_kl: f64,
    /// The largest of them.
    pub largest_kl: f64,
    /// The part of the positions where both think the same token likeliest.
    pub top_agreement: f64,
    /// The source's perplexity.
    pub source_perplexity: f64,
    /// The file's.
    pub file_perplexity: f64,
    /// The largest difference of two logits.
    pub largest_difference: f32,
}

/// Runs the source and each of the files over the tokens, of which every `window` are a text of their own: the source
/// once, whatever the number of files. A file that cannot be run is no obstacle to the others.
pub(super) fn run(
    mut source: Glm,
    pairs: &[&Pair],
    tokens: &[u32],
    window: usize,
    watch: &dyn Watch,
) -> Result<Vec<Result<Vec<Position>>>> {
    source.window = window;
    let vocabulary = source.vocabulary();
    let mut runs: Vec<Result<Run>> = pairs.iter().map(|pair| Run::new(pair, tokens, window)).collect();
    // A layer is in work once on each side; the output layer is about as much as one more.
    let (layers, sides) = (source.layers() as u64, 1 + runs.len() as u64);
    let total = (layers + 1) * sides;
    let mut a = source.embed(tokens)?;
    for layer in 0..source.layers() {
        a = source.layer(layer, a)?;
        let done = layer as u64 * sides + 1;
        let at = format!("layer {} of {layers}", layer + 1);
        watch.step(&at, done, total)?;
        for (i, run) in (1..).zip(&mut runs) {
            advance(run, |run| run.layer(layer));
            watch.step(&at, done + i, total)?;
        }
    }
    let a = source.last_norm(&a)?;
    for run in &mut runs {
        advance(run, |run| {
            run.x = run.file.last_norm(&run.x)?;
            Ok(())
        });
    }
    for start in (0..vocabulary).step_by(OUTPUT_ROWS) {
        let rows = start..vocabulary.min(start + OUTPUT_ROWS);
        let logits = source.logits(rows.clone(), &a)?;
        for run in &mut runs {
            advance(run, |run| {
                run.divergence.add(start, &logits, &run.file.logits(rows.clone(), &run.x)?);
                Ok(())
            });
        }
        let done = layers * sides + sides * start as u64 / vocabulary.max(1) as u64;
        watch.step("output layer", done, total)?;
    }
    Ok(runs.into_iter().map(|run| run.map(|run| run.divergence.positions())).collect())
}

/// One file on its way through the layers.
struct Run<'a> {
    file: Llama<Stock<'a>>,
    x: Activations,
    divergence: Divergence,
}

impl Run<'_> {
    fn new<'a>(pair: &'a Pair, tokens: &[u32], window: usize) -> Result<Run<'a>> {
        let mut file = llama::open(&pair.file)?;
        llama::refuse_other_sizes(&file, &pair.config)?;
        file.window = window;
        let x = file.embed(tokens)?;
        Ok(Run { file, x, divergence: Divergence::new(tokens, window) })
    }

    fn layer(&mut self, layer: usize) -> Result<()> {
        let x = std::mem::take(&mut self.x);
        self.x = self.file.layer(layer, x)?;
        Ok(())
    }
}

/// The next step of a file that has not failed yet.
fn advance(run: &mut Result<Run>, step: impl FnOnce(&mut Run) -> Result<()>) {
    if let Err(error) = run.as_mut().map_or(Ok(()), step) {
        *run = Err(error);
    }
}

/// All logits of the checkpoint, `[tokens, vocabulary]`.
///
/// # Errors
/// When the checkpoint cannot be read, or has no such tokens.
pub fn source_logits(folder: &Path, tokens: &[u32], watch: &dyn Watch) -> Result<Vec<f32>> {
    let config = crate::config::GlmConfig::load(folder)?;
    let checkpoint = crate::checkpoint::Checkpoint::open(folder)?;
    let pieces = super::Pieces::read(folder, config.padded_vocab_size)?;
    let evidence = Evidence::read(folder, &config, pieces.as_ref(), None)?;
    all_logits(&Glm::new(&config, &checkpoint, &evidence), tokens, watch)
}

/// All logits of a GGUF file, `[tokens, vocabulary]`.
///
/// # Errors
/// When the file is no llama model, cannot be read, or has no such tokens.
pub fn file_logits(file: &Path, tokens: &[u32], watch: &dyn Watch) -> Result<Vec<f32>> {
    let file = crate::gguf::GgufFile::open_model(file)?;
    all_logits(&llama::open(&file)?, tokens, watch)
}

/// All logits, token by token: `[tokens, vocabulary]`.
fn all_logits(decoder: &dyn Decoder, tokens: &[u32], watch: &dyn Watch) -> Result<Vec<f32>> {
    let mut x = decoder.embed(tokens)?;
    for layer in 0..decoder.layers() {
        x = decoder.layer(layer, x)?;
        let (number, layers) = (layer as u64 + 1, decoder.layers() as u64);
        watch.step(&format!("layer {number} of {layers}"), number, layers)?;
    }
    let x = decoder.last_norm(&x)?;
    let vocabulary = decoder.vocabulary();
    let mut all = vec![0.0; tokens.len() * vocabulary];
    for start in (0..vocabulary).step_by(OUTPUT_ROWS) {
        let block = decoder.logits(start..vocabulary.min(start + OUTPUT_ROWS), &x)?;
        for ((row, token), logit) in block.indexed_iter() {
            all[token * vocabulary + start + row] = *logit;
        }
    }
    Ok(all)
}

impl Function {
    /// Sums up; of the positions' tokens the first `prefix` are not text.
    pub(super) fn new(positions: Vec<Position>, prefix: usize, vocabulary: usize) -> Function {
        let mut kls: Vec<f64> = positions.iter().map(|position| position.kl).collect();
        kls.sort_by(f64::total_cmp);
        let count = positions.len().max(1) as f64;
        let quantile = |part: f64| {
            let index = (part * (kls.len().saturating_sub(1)) as f64).round() as usize; // within the list
            kls.get(index).copied().unwrap_or(0.0)
        };
        // The text's own tokens are predicted from the last token of the prefix on.
        let text = positions.get(prefix.saturating_sub(1)..).unwrap_or_default();
        let perplexity = |surprise: fn(&Position) -> Option<f64>| {
            let surprises: Vec<f64> = text.iter().filter_map(surprise).collect();
            (surprises.iter().sum::<f64>() / surprises.len().max(1) as f64).exp()
        };
        let largest = |a: f32, b: &Position| {
            let b = b.largest_difference;
            if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
        };
        Function {
            mean_kl: kls.iter().sum::<f64>() / count,
            median_kl: quantile(0.5),
            p99_kl: quantile(0.99),
            largest_kl: kls.last().copied().unwrap_or(0.0),
            top_agreement: positions.iter().filter(|position| position.same_top).count() as f64 / count,
            source_perplexity: perplexity(|position| position.source_surprise),
            file_perplexity: perplexity(|position| position.file_surprise),
            largest_difference: positions.iter().fold(0.0, largest),
            texts: Vec::new(),
            likeliest: Vec::new(),
            outputs: Vec::new(),
            answers: Vec::new(),
            vocabulary,
            positions,
        }
    }
}
