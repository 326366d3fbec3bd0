//! Formats chosen for a size: what each would cost is measured, and the bytes go where they gain most.

use std::time::{Duration, Instant};

use quant::Format;

use super::Job;
use crate::allocate::{Variant, allocate, smallest_two};
use crate::calibrate::{self, Costs, How, Trial};
use crate::error::{Error, Result};
use crate::gguf::{ALIGNMENT, Metadata, Split, Value};
use crate::metadata;
use crate::model::Model;
use crate::pipeline;
use crate::provenance;
use crate::recipe::{Budget, Recipe, candidates};
use crate::remap::{Plan, Target};
use crate::request::{Quality, Request};
use crate::watch::Watch;

/// Formats that are to be chosen, or were.
#[derive(Clone, Debug)]
pub struct FormatChoice {
    /// What was asked for.
    pub budget: Budget,
    /// The same in bytes, of all files.
    pub most_bytes: u64,
    /// What was found out.
    pub outcome: Option<Outcome>,
    /// The formats that each tensor may take.
    pub(super) trials: Vec<Trial>,
    /// The keys of the file, but for what the formats decide.
    keys: Metadata,
}

/// What the chosen formats come to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The mean divergence of predictions that the chosen formats bring with plain rounding, in nats a token: measured
    /// on the calibration text, or guessed by the weights alone.
    pub divergence: f64,
    /// Whether the model was run for it.
    pub measured: bool,
    /// How long that took.
    pub took: Duration,
    /// What is left of the size that was asked for.
    pub unused_bytes: u64,
}

impl FormatChoice {
    /// Begins a choice with every tensor in its smallest format; the keys are added when they are known.
    pub(super) fn begin(
        request: &Request,
        model: &Model,
        budget: Budget,
        ffn: usize,
    ) -> (FormatChoice, Recipe) {
        let (plan, config) = (&model.plan, &model.config);
        let trial = |target: &Target| Trial {
            columns: target.padded_shape(ffn).1,
            formats: candidates(target, ffn, &request.overrides, config),
        };
        let trials: Vec<Trial> = plan.tensors.iter().map(trial).collect();
        let first = trials.iter().map(|trial| trial.formats.first().copied().unwrap_or(Format::F32));
        let recipe = Recipe::of_formats(first.collect(), ffn, plan);
        let most_bytes = budget.bytes(plan.parameters());
        (FormatChoice { budget, most_bytes, outcome: None, trials, keys: Metadata::new() }, recipe)
    }

    /// Takes the keys of the file, and refuses a budget that the smallest formats are over.
    pub(super) fn with_keys(mut self, keys: Metadata, split: &Split) -> Result<FormatChoice> {
        self.keys = keys;
        let unknown: Vec<Costs> = self.trials.iter().map(|trial| vec![0.0; trial.formats.len()]).collect();
        let variants = self.variants(split, &unknown);
        let [least, second] = smallest_two(&variants);
        let rest = overhead(split, &variants);
        if self.most_bytes >= rest + least {
            return Ok(self);
        }
        let (option, value) = self.budget.option();
        let in_bytes = match self.budget {
            Budget::Bytes(_) => String::new(),
            Budget::BitsPerWeight(_) => format!(", which is {} bytes", self.most_bytes),
        };
        let next = match second > least {
            true => format!("; the next larger may have {} bytes", rest + second),
            false => String::new(),
        };
        Err(Error::Usage(format!(
            "--{option} {value}: found less than any file of this model has{in_bytes}, expected at least {}, every \
             tensor in its smallest format{next}",
            rest + least
        )))
    }

    /// What each tensor may take, and what that costs; for one without a choice, what it has.
    fn variants(&self, split: &Split, costs: &[Costs]) -> Vec<Vec<Variant>> {
        let of_tensor = |((trial, info), costs): ((&Trial, &crate::gguf::TensorInfo), &Costs)| {
            let rows = info.shape.iter().rev().skip(1).product::<usize>() as u64;
            let row_bytes =
                |format: Format| format.row_bytes(trial.columns).expect("a candidate's blocks fit its rows");
            let variant = |(format, cost): (&Format, &f64)| Variant {
                bytes: aligned(rows * row_bytes(*format) as u64),
                cost: *cost,
            };
            match trial.formats.is_empty() {
                true => vec![Variant { bytes: aligned(info.bytes), cost: 0.0 }],
                false => trial.formats.iter().zip(costs).map(variant).collect(),
            }
        };
        self.trials.iter().zip(split.tensors()).zip(costs).map(of_tensor).collect()
    }
}

fn aligned(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}

/// What is in the files beside the tensors; in `split` all tensors have their first variant.
fn overhead(split: &Split, variants: &[Vec<Variant>]) -> u64 {
    let tensors: u64 = variants.iter().filter_map(|variants| Some(variants.first()?.bytes)).sum();
    split.total_bytes().saturating_sub(tensors)
}

impl Job {
    /// Whether [`Job::choose`] has something to do.
    pub fn chooses(&self) -> bool {
        self.choice.is_some()
    }

    /// Chooses the formats for the size that was asked for, to be done before anything that asks for the outputs. With
    /// `good` and `best` the model is run for it.
    ///
    /// # Errors
    /// When the checkpoint cannot be read, the model does not compute numbers, or the user stops the run.
    pub fn choose(&mut self, options: pipeline::Options, watch: &dyn Watch) -> Result<()> {
        let (Some(choice), Some(output)) = (&self.choice, self.outputs.first()) else { return Ok(()) };
        if self.refined.is_some() {
            let problem = "Job::choose: found blocks for other formats, expected Job::measure after it";
            return Err(Error::Usage(problem.to_owned()));
        }
        let started = Instant::now();
        let how = How { threads: options.threads, backend: options.backend };
        let (model, trials) = (&self.model, choice.trials.as_slice());
        let costs = match &self.sample {
            Some(sample) => calibrate::divergences(model, sample, trials, how, watch)?,
            None => calibrate::guesses(model, &self.importance, trials, how, watch)?,
        };
        let costs = never_worse(costs);
        let took = started.elapsed();
        let variants = choice.variants(&output.split, &costs);
        let mut room = choice.most_bytes.saturating_sub(overhead(&output.split, &variants));
        let fault = || Error::Internal("no formats fit a size that was checked".to_owned());
        let (recipe, split, keys, divergence) = loop {
            let allocation = allocate(&variants, room).ok_or_else(fault)?;
            let formats = choice.trials.iter().zip(&allocation.chosen);
            let formats =
                formats.map(|(trial, &number)| trial.formats.get(number).copied().unwrap_or(Format::F32));
            let recipe = Recipe::of_formats(formats.collect(), output.recipe.ffn, &self.model.plan);
            let mut keys = choice.keys.clone();
            // What the user says of the type stands.
            if !self.request.given.overrides.iter().any(|given| given.key == "general.file_type") {
                let file_type = Value::U32(recipe.file_type.number());
                metadata::set(&mut keys, vec![("general.file_type".to_owned(), file_type)]);
            }
            let split =
                Split::new(keys.clone(), recipe.shapes(&self.model.plan), self.request.split_max_bytes)?;
            match split.total_bytes().checked_sub(choice.most_bytes) {
                None | Some(0) => break (recipe, split, keys, allocation.cost),
                // Cut in more files, it has more headers.
                Some(over) => room = room.checked_sub(over).ok_or_else(fault)?,
            }
        };
        let outcome = Outcome {
            divergence,
            measured: self.sample.is_some(),
            took,
            unused_bytes: choice.most_bytes - split.total_bytes(),
        };
        if let (Some(choice), Some(output)) = (&mut self.choice, self.outputs.first_mut()) {
            let more = output.split.files.len() == 1 && split.files.len() > 1;
            (output.recipe, output.split) = (recipe, split);
            (choice.outcome, choice.keys) = (Some(outcome), keys);
            if more {
                output.modelfile = None;
                self.note_split();
            }
        }
        self.check_targets() // there may be more parts
    }
}

/// Sums of measurements are no exact order: a tensor's larger format never counts as worse than a smaller one.
fn never_worse(mut costs: Vec<Costs>) -> Vec<Costs> {
    for costs in &mut costs {
        let mut least = f64::INFINITY;
        for cost in costs {
            least = least.min(*cost);
            *cost = least;
        }
    }
    costs
}

/// What the file says of it.
pub(super) fn keys(request: &Request, plan: &Plan) -> Metadata {
    request.target.map_or_else(Metadata::new, |budget| {
        let by = match request.quality {
            Quality::Fast => "the weights' errors",
            Quality::Good | Quality::Best => "measured sensitivity",
        };
        provenance::target_keys(budget.bytes(plan.parameters()), by)
    })
}
