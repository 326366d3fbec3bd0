//! Models that answer: greedily, by the file's own chat template and ends of text.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use minijinja::context;
use ndarray::{Axis, Slice};

use super::spelling::{Spelling, Utf8};
use super::{llama, template};
use crate::error::{Error, Result};
use crate::forward::{Decoder, OUTPUT_ROWS, Past};
use crate::gguf::{GgufFile, Value};
use crate::jinja;
use crate::watch::Watch;

/// What both models said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What they were asked.
    pub question: String,
    /// What the checkpoint says.
    pub source: String,
    /// What the file says.
    pub file: String,
}

/// How an answer came about.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Tokens of the question in its template.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub tokens: usize,
    /// The model ended it, and not the limit.
    pub ended: bool,
    /// Until the first token stood.
    pub prompt_took: Duration,
    /// For those that followed.
    pub took: Duration,
}

/// Asks a GGUF file a question and hands each piece of the answer, `most` tokens at most, to `hear`.
///
/// # Errors
/// When the file is no llama model, has no template or vocabulary, or cannot be read; and those of `hear`.
pub fn ask(
    file: &GgufFile,
    question: &str,
    most: usize,
    watch: &dyn Watch,
    hear: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Said> {
    let spelling = Spelling::of(file)?;
    let prompt = prompt(file, &spelling, question)?;
    let mut text = Utf8::default();
    speak(file.path(), &llama::open(file)?, &prompt, &spelling.ends, most, watch, &mut |token| {
        hear(&text.push(&spelling.bytes(token)))
    })
}

/// Attention takes memory by the square of a prompt, and a template may come from a stranger.
const MOST_PROMPT: usize = 4096;

/// The ids of a question in the file's template.
pub(super) fn prompt(file: &GgufFile, spelling: &Spelling, question: &str) -> Result<Vec<u32>> {
    let at_fault = |problem: String| Error::input(file.path(), template::KEY, problem);
    let Some(template) = file.text(template::KEY) else {
        return Err(at_fault("is absent, and without it nothing can be asked".to_owned()));
    };
    let messages = [context! { role => "user", content => question }];
    let id = |name: &str| u32::try_from(file.unsigned(&format!("tokenizer.ggml.{name}_token_id"))?).ok();
    let text = |name: &str| id(name).map_or_else(String::new, |id| spelling.name(id));
    let values = context! {
        messages => messages, add_generation_prompt => true, bos_token => text("bos"), eos_token => text("eos"),
    };
    let prompt = jinja::render(template, values).map_err(|e| at_fault(format!("cannot be rendered: {e}")))?;
    let mut ids = spelling.encode(&prompt);
    // llama.cpp puts it there unless the template did.
    let begins = matches!(file.metadata.get("tokenizer.ggml.add_bos_token"), Some(Value::Bool(true)));
    if let Some(bos) = id("bos").filter(|bos| begins && ids.first() != Some(bos)) {
        ids.insert(0, bos);
    }
    if ids.len() > MOST_PROMPT {
        return Err(at_fault(format!(
            "makes {} tokens of a question, expected at most {MOST_PROMPT}",
            ids.len()
        )));
    }
    Ok(ids)
}

/// Runs a model from one likeliest token to the next. `of`: the file that it is in.
///
/// # Errors
/// When no prediction is a number, or it cannot be read; and those of `hear`.
pub(super) fn speak(
    of: &Path,
    model: &dyn Decoder,
    prompt: &[u32],
    ends: &BTreeSet<u32>,
    most: usize,
    watch: &dyn Watch,
    hear: &mut dyn FnMut(u32) -> Result<()>,
) -> Result<Said> {
    let started = Instant::now();
    let mut said = Said {
        prompt_tokens: prompt.len(),
        tokens: 0,
        ended: false,
        prompt_took: Duration::ZERO,
        took: Duration::ZERO,
    };
    let (mut past, mut next) = (Past::default(), prompt.to_vec());
    while said.tokens < most && !next.is_empty() {
        let token = likeliest_after(model, &next, &mut past, watch)?
            .ok_or_else(|| Error::file(of, "is damaged: no prediction of its model is a number"))?;
        if said.prompt_took.is_zero() {
            said.prompt_took = started.elapsed();
        }
        said.ended = ends.contains(&token);
        if said.ended {
            break;
        }
        said.tokens += 1;
        hear(token)?;
        next = vec![token];
    }
    said.took = started.elapsed().saturating_sub(said.prompt_took);
    Ok(said)
}

/// The likeliest token after these, which follow those of `past`; none when no logit is a number.
fn likeliest_after(
    model: &dyn Decoder,
    tokens: &[u32],
    past: &mut Past,
    watch: &dyn Watch,
) -> Result<Option<u32>> {
    let mut x = model.embed(tokens)?;
    for layer in 0..model.layers() {
        watch.go_on()?;
        x = model.layer_after(layer, x, past)?;
    }
    let last = x.ncols().saturating_sub(1);
    let x = model.last_norm(&x.slice_axis(Axis(1), Slice::from(last..)).to_owned())?;
    let vocabulary = model.vocabulary();
    let mut best = (f32::NEG_INFINITY, None);
    for start in (0..vocabulary).step_by(OUTPUT_ROWS) {
        let logits = model.logits(start..vocabulary.min(start + OUTPUT_ROWS), &x)?;
        for (id, &logit) in (start..).zip(&logits) {
            if logit > best.0 {
                best = (logit, u32::try_from(id).ok());
            }
        }
    }
    Ok(best.1)
}
