//! What is measured before the weights are quantized, where the quality asks for it.

use std::num::NonZero;

use super::Job;
use crate::calibrate::{self, IMPORTANCE_TOKENS, Sample, Step};
use crate::error::{Error, Result};
use crate::gguf::Metadata;
use crate::imatrix::ImportanceMatrix;
use crate::metadata;
use crate::provenance;
use crate::recipe::padded_ffn;
use crate::remap::{Plan, Role};
use crate::request::{Quality, Request};
use crate::tokenizer::Tokenizer;

/// The text to measure on; none where nothing is to be measured.
pub(super) fn sample(request: &Request, tokenizer: &Tokenizer) -> Result<Option<Sample>> {
    let usage = |problem: &str| Err(Error::Usage(problem.to_owned()));
    if request.quality == Quality::Fast {
        return match (request.calibration.is_empty(), request.calibration_tokens) {
            (true, None) => Ok(None),
            (false, _) => {
                usage("--calibration: found it with --quality fast, expected good, which measures on it")
            }
            (true, Some(_)) => {
                usage("--calibration-tokens: found it with --quality fast, expected good, which measures")
            }
        };
    }
    if request.imatrix.is_some() {
        return usage("--imatrix: found it with --quality good, which measures its own: give one of the two");
    }
    if request.vocab_only {
        return usage("--vocab-only: found it with --quality good, expected a file with weights");
    }
    let most = request.calibration_tokens.unwrap_or(IMPORTANCE_TOKENS);
    Sample::new(tokenizer, &request.calibration, most).map(Some)
}

/// What the file says of the measurement: the keys that llama-quantize writes, and this program's own.
pub(super) fn keys(sample: &Sample, plan: &Plan) -> Metadata {
    let embeds_only = plan.tensors.iter().any(|target| target.role == Role::Output);
    let multiplies = |role: Role| role != Role::Vector && !(embeds_only && role == Role::TokenEmbedding);
    let entries = plan.tensors.iter().filter(|target| multiplies(target.role)).count();
    let mut keys = metadata::measured_keys(&sample.name, entries, sample.windows());
    keys.extend(provenance::quality_keys("good", &sample.hash));
    keys
}

impl Job {
    /// Measures the model where the quality asks for it, to be done before [`Job::fill`]: reads all weights once, and
    /// needs memory for a layer's activations. `step` is told how many layers are done.
    ///
    /// # Errors
    /// When the checkpoint cannot be read, the model does not compute numbers, or `step` stops the run.
    pub fn measure(&mut self, threads: NonZero<usize>, step: &Step) -> Result<()> {
        let Some(sample) = &self.sample else { return Ok(()) };
        let matrix = calibrate::importance(&self.model, sample, threads, step)?;
        self.importance = of_plan(&matrix, self)?;
        Ok(())
    }

    /// Whether [`Job::measure`] has something to do.
    pub fn measures(&self) -> bool {
        self.sample.is_some()
    }
}

fn of_plan(matrix: &ImportanceMatrix, job: &Job) -> Result<Vec<Option<Vec<f32>>>> {
    Ok(matrix.for_plan(&job.model.plan, padded_ffn(&job.model.config))?.0)
}
