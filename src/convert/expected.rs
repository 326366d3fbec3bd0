//! Estimates what measuring will take, before it starts.

use std::time::Duration;

use super::{Job, Output};
use crate::calibrate::cost::{self, Cost};
use crate::calibrate::{self, How};
use crate::error::Result;
use crate::pipeline;
use crate::recipe::Choice;
use crate::remap::Target;
use crate::request::Quality;
use crate::sink::Shape;

impl Job {
    /// About what measuring takes at most, the program counted; 0 where nothing is measured.
    pub fn measuring_bytes(&self) -> u64 {
        let Some(sample) = &self.sample else { return 0 };
        let (model, tokens) = (&self.model, sample.tokens.len());
        let choosing = self.choice.as_ref();
        let choosing = choosing.map_or(0, |choice| cost::divergences_bytes(model, &choice.trials, tokens));
        let rest = match self.request.quality {
            Quality::Best => self.layout.memory_bytes(model, self.widest_ffn(), tokens),
            Quality::Fast | Quality::Good => cost::importance_bytes(model, tokens),
        };
        rest.max(choosing)
    }

    /// Bytes of disk that the run takes: its files, and for `best` what waits beside them until they are whole.
    pub fn disk_bytes(&self) -> u64 {
        let files: u64 = self.outputs.iter().map(|output| output.split.total_bytes()).sum();
        files + self.refined_bytes(|_, _| false)
    }

    /// What waits for `best`, without that which is there.
    pub(super) fn refined_bytes(&self, made: impl Fn(&str, Shape) -> bool) -> u64 {
        match self.request.quality {
            Quality::Best => cost::refined_bytes(&self.model, &self.shapes(), made),
            Quality::Fast | Quality::Good => 0,
        }
    }

    /// About how long measuring and rounding take on this machine, whose speed is tried for a fraction of a second;
    /// with what was spent on choosing formats, or will be. None where the model is not measured, for then reading and
    /// writing decide.
    ///
    /// # Errors
    /// When there are more threads than the system gives.
    pub fn expected_time(&self, options: pipeline::Options) -> Result<Option<Duration>> {
        let Some(sample) = &self.sample else { return Ok(None) };
        let tokens = sample.tokens.len();
        let how = How { threads: options.threads, backend: options.backend };
        let mut spent = Duration::ZERO;
        let mut cost = Cost::default();
        if let Some(choice) = &self.choice {
            match &choice.outcome {
                Some(outcome) => spent = outcome.took,
                None => cost = cost::of_divergences(&self.model, &choice.trials, tokens),
            }
        }
        let shapes = self.shapes();
        cost = cost.and(match self.request.quality {
            Quality::Best => cost::of_refinement(&self.model, &shapes, self.layout, tokens),
            Quality::Fast | Quality::Good => cost::of_importance(&self.model, &shapes, tokens),
        });
        Ok(Some(spent.saturating_add(calibrate::time(&cost, how)?)))
    }

    /// The largest feed-forward width of an output, padded or not.
    pub(super) fn widest_ffn(&self) -> usize {
        self.outputs.iter().map(|output| output.recipe.ffn).max().unwrap_or_default()
    }

    /// What each of the plan's tensors is in each output.
    pub(super) fn shapes(&self) -> Vec<Vec<Shape>> {
        let of_output = |output: &Output| {
            let targets = self.model.plan.tensors.iter().zip(&output.recipe.choices);
            let shape = |(target, choice): (&Target, &Choice)| {
                let (rows, columns) = target.padded_shape(output.recipe.ffn);
                Shape { format: choice.format, rows, columns }
            };
            targets.map(shape).collect()
        };
        self.outputs.iter().map(of_output).collect()
    }
}
