//! What is measured before the weights are quantized, where the quality asks for it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use quant::{Backend, Format};

use super::Job;
use crate::calibrate::{self, How, MomentLayout, REFINEMENT_TOKENS, Sample, Store};
use crate::error::{Error, Result};
use crate::gguf::Metadata;
use crate::hash::sha256;
use crate::importance::Importance;
use crate::model::Model;
use crate::output;
use crate::pipeline::{self, Ready};
use crate::recipe::{Budget, budgeted_ffn, padded_ffn};
use crate::remap::{Plan, Role};
use crate::request::{Quality, Request};
use crate::sink::Shape;
use crate::watch::Watch;
use crate::{metadata, provenance};

/// Refuses what cannot be meant, before a file is opened.
pub(super) fn refuse_contradictions(request: &Request) -> Result<()> {
    let usage = |problem: &str| Err(Error::Usage(problem.to_owned()));
    if let Some((option, _)) = request.target.map(Budget::option) {
        let others = [
            (!request.types.is_empty(), "--type", "formats are chosen for the size"),
            (request.vocab_only, "--vocab-only", "a file with weights"),
            (request.overrides.pure, "--pure", "formats that may differ"),
        ];
        if let Some((_, other, expected)) = others.into_iter().find(|(given, ..)| *given) {
            return usage(&format!("--{option}: found it with {other}, expected one of the two: {expected}"));
        }
    }
    if request.memory.is_some() && request.quality != Quality::Best {
        return usage("--memory: found it without --quality best, whose second moments it is for");
    }
    if request.quality == Quality::Fast {
        if !request.calibration.is_empty() {
            return usage(
                "--calibration: found it with --quality fast, expected good or best, which measure on it",
            );
        }
        if request.calibration_tokens.is_some() {
            return usage(
                "--calibration-tokens: found it with --quality fast, expected good or best, which measure",
            );
        }
        return Ok(());
    }
    if request.imatrix.is_some() {
        return usage(
            "--imatrix: found it with --quality good or best, which measure their own: give one of the two",
        );
    }
    if request.vocab_only {
        return usage("--vocab-only: found it with --quality good or best, expected a file with weights");
    }
    Ok(())
}

/// The text to measure on; none where nothing is to be measured.
pub(super) fn sample(request: &Request, model: &Model) -> Result<Option<Sample>> {
    let reads_twice = request.quality != Quality::Fast || request.target.is_some();
    if model.checkpoint.is_remote() && reads_twice {
        let expected = "one in a folder, for its weights are read more than once: --keep DIR stores it there";
        let file = model.checkpoint.main_file();
        let found = match request.target {
            None => "weights on a hub, with --quality good or best",
            Some(_) => "weights on a hub, with a size to choose formats for",
        };
        return Err(Error::file_mismatch(file, found, expected));
    }
    let most = match request.quality {
        Quality::Fast => return Ok(None),
        Quality::Good => calibrate::importance_tokens(model.plan.parameters()),
        Quality::Best => REFINEMENT_TOKENS,
    };
    let sample =
        Sample::new(&model.tokenizer, &request.calibration, request.calibration_tokens.unwrap_or(most))?;
    if request.quality == Quality::Best {
        calibrate::refuse_short(&sample)?;
    }
    Ok(Some(sample))
}

/// Refuses to measure for formats that nothing measured changes; a matrix that was given may serve other files too, so
/// there a word will do.
pub(super) fn without_effect(request: &Request, formats: &[Format]) -> Result<Option<String>> {
    let option = match request.quality {
        Quality::Fast if request.imatrix.is_none() => return Ok(None),
        Quality::Fast => "--imatrix".to_owned(),
        quality => format!("--quality {}", quality.name()),
    };
    let best = request.quality == Quality::Best;
    let takes = |format: &Format| format.is_quantized() && (best || *format != Format::Q8_0);
    if request.vocab_only || formats.iter().any(takes) {
        return Ok(None);
    }
    let kinds = if best { "F32, F16 and BF16" } else { "F32, F16, BF16 and Q8_0" };
    let problem = format!("{option}: changes nothing in {kinds}");
    match request.quality {
        Quality::Fast => Ok(Some(problem)),
        _ => Err(Error::Usage(format!("{problem}, expected a type of fewer bits, or --quality fast"))),
    }
}

/// How much of the second moments is held together, so that the run keeps to its memory.
pub(super) fn layout(request: &Request, model: &Model, sample: Option<&Sample>) -> Result<MomentLayout> {
    let (Some(bytes), Some(sample)) = (request.memory, sample) else { return Ok(MomentLayout::default()) };
    let ffn = budgeted_ffn(request.pad, &model.config);
    MomentLayout::within(model, ffn, sample.tokens.len(), bytes).map_err(|least| too_little(bytes, least))
}

/// A bound that nothing keeps to.
fn too_little(bytes: u64, least: u64) -> Error {
    Error::Usage(format!(
        "--memory {bytes}: found less than this run takes, expected at least {least} bytes, or fewer \
         --calibration-tokens"
    ))
}

/// What the file says of the measurement: the keys that llama-quantize writes, and this program's own.
pub(super) fn keys(sample: &Sample, plan: &Plan, quality: Quality) -> Metadata {
    let entries = plan.tensors.iter().filter(|target| target.role() != Role::Vector).count();
    let mut keys = metadata::measured_keys(&sample.name, entries, sample.windows());
    keys.extend(provenance::quality_keys(quality.name(), &sample.hash));
    keys
}

impl Job {
    /// Measures the model where the quality asks for it, to be done before [`Job::fill`]: reads all weights once, for
    /// `best` once for each feed-forward width of the outputs, and needs memory for a layer's activations. What `best`
    /// has made stays in a folder beside the first output, for a run that goes on where this one was stopped, until
    /// [`Job::clean_up`].
    ///
    /// # Errors
    /// When the checkpoint cannot be read, the model does not compute numbers, or the user stops the run.
    pub fn measure(&mut self, options: pipeline::Options, watch: &dyn Watch) -> Result<()> {
        let Some(sample) = &self.sample else { return Ok(()) };
        let pipeline::Options { threads, backend, .. } = options;
        if self.request.quality == Quality::Best {
            let Some(first) = self.outputs.first() else { return Ok(()) };
            let store = Store::open(&state_folder(&first.path), &self.run_hash(sample, backend))?;
            let needed = self.refined_bytes(|tensor, shape| store.holds(tensor, shape));
            if let Some(free) = output::free_bytes(&first.path).filter(|free| *free < needed) {
                if store.resumed == 0 {
                    store.remove()?;
                }
                return Err(output::no_space(&first.path, needed, free));
            }
            calibrate::refine(
                &self.model,
                sample,
                &self.shapes(),
                &store,
                self.layout,
                How { threads, backend },
                watch,
            )?;
            self.refined = Some(store);
            let embedding = calibrate::embedding_importance(&self.model, threads)?;
            for (target, importance) in self.model.plan.tensors.iter().zip(&mut self.importance) {
                if target.role() == Role::TokenEmbedding {
                    *importance = embedding.clone().map(Importance::new);
                }
            }
            return Ok(());
        }
        let matrix = calibrate::importance(&self.model, sample, threads, watch)?;
        let (importance, _) = matrix.for_plan(&self.model.plan, padded_ffn(&self.model.config))?;
        self.importance = importance.into_iter().map(|importance| Some(importance?.sharpen())).collect();
        Ok(())
    }

    /// Refuses to fill a file that would say it has what nobody made.
    pub(super) fn refuse_unmeasured(&self) -> Result<()> {
        let chosen = self.choice.as_ref().is_none_or(|choice| choice.outcome.is_some());
        let measured = match self.request.quality {
            Quality::Fast => true,
            Quality::Good => self.importance.iter().any(Option::is_some),
            Quality::Best => self.refined.is_some(),
        };
        if chosen && measured {
            return Ok(());
        }
        let found = if chosen { "weights that were not measured" } else { "formats that were not chosen" };
        Err(Error::Usage(format!(
            "Job::fill: found {found}, expected Job::choose and Job::measure before it"
        )))
    }

    /// Refuses a bound that choosing formats goes over.
    pub(super) fn refuse_little_memory(&self, bound: Option<u64>) -> Result<()> {
        let takes = self.measuring_bytes();
        match bound {
            Some(bytes) if bytes < takes => Err(too_little(bytes, takes)),
            _ => Ok(()),
        }
    }

    /// Says what is split to keep to the memory.
    pub(super) fn note_parts(&mut self) {
        let Some(bytes) = self.request.memory else { return };
        let splits = self.layout.splits(&self.model, self.widest_ffn());
        if !splits.is_empty() {
            self.notes.push(format!(
                "--memory {bytes}: second moments of {}: what columns of two parts have to do with one another is \
                 not known, which costs a little quality",
                splits.join(", ")
            ));
        }
    }

    /// Whether [`Job::measure`] has something to do.
    pub fn measures(&self) -> bool {
        self.sample.is_some()
    }

    /// The folder of what an interrupted run for `best` has finished, where there is one.
    pub fn unfinished(&self) -> Option<PathBuf> {
        let best = self.outputs.first().filter(|_| self.request.quality == Quality::Best);
        best.map(|first| state_folder(&first.path)).filter(|folder| folder.is_dir())
    }

    /// Deletes what only an interrupted run would have needed, once the files have their names.
    ///
    /// # Errors
    /// When that fails.
    pub fn clean_up(self) -> Result<()> {
        self.refined.map_or(Ok(()), Store::remove)
    }

    /// A hash of everything that decides the bytes of refined tensors.
    fn run_hash(&self, sample: &Sample, backend: Backend) -> String {
        let mut text = format!("{} {backend} {:?}", provenance::VERSION, self.request.model);
        for output in &self.outputs {
            let _ = write!(text, " {:?}", provenance::options_key(&self.request, output.recipe.file_type));
        }
        let _ = write!(text, " {} {:?}", sample.hash, sample.tokens); // a String takes whatever comes
        for choice in self.outputs.iter().flat_map(|output| &output.recipe.choices) {
            let _ = write!(text, " {}", choice.format);
        }
        for (file, state) in self.guests.states() {
            let _ = write!(text, " {file:?} {state:?}");
        }
        sha256(text.as_bytes())
    }
}

/// Where finished tensors wait, beside an output.
fn state_folder(output: &Path) -> PathBuf {
    let mut name = OsString::from(".glm2llama-");
    name.push(output.file_name().unwrap_or_default());
    name.push(".best");
    output.with_file_name(name)
}

impl Ready for Store {
    fn read(&self, tensor: &str, shape: Shape, place: Range<usize>, out: &mut Vec<u8>) -> Result<bool> {
        Store::read(self, tensor, shape, place, out)
    }
}
