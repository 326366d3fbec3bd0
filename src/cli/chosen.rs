//! What choosing formats for a size came to.

use std::time::Duration;

use serde::Serialize;

use super::print::about;
use glm2llama::convert::{Job, Outcome};
use glm2llama::error::Result;
use glm2llama::pipeline::Options;
use glm2llama::units::grouped;

/// In JSON the data of a `chosen` line.
#[derive(Serialize)]
pub(super) struct Chosen {
    /// The size that was asked for, in bytes.
    target_bytes: u64,
    /// The size of the file, or of all parts.
    bytes: u64,
    /// The mean divergence that the formats bring, in nats a token.
    divergence: f64,
    /// Whether the model was run for it; a guess otherwise.
    measured: bool,
    seconds: f64,
    /// What measuring and rounding will take besides, about; nothing where the model is not run.
    seconds_left: Option<f64>,
}

impl Chosen {
    /// None where nothing was chosen.
    ///
    /// # Errors
    /// When there are more threads than the system gives.
    pub(super) fn of(job: &Job, options: Options) -> Result<Option<Chosen>> {
        let chosen = job.choice.as_ref().and_then(|choice| Some((choice, choice.outcome.as_ref()?)));
        let Some((choice, outcome)) = chosen else { return Ok(None) };
        let Outcome { divergence, measured, took, unused_bytes } = outcome;
        let all = job.expected_time(options)?;
        Ok(Some(Chosen {
            target_bytes: choice.most_bytes,
            bytes: choice.most_bytes - unused_bytes,
            divergence: *divergence,
            measured: *measured,
            seconds: took.as_secs_f64(),
            seconds_left: all.map(|all| all.saturating_sub(*took).as_secs_f64()),
        }))
    }

    pub(super) fn text(&self) -> String {
        let Chosen { target_bytes, bytes, divergence, measured, seconds, seconds_left } = self;
        let left = seconds_left.map_or_else(String::new, |seconds| {
            format!("; the rest will take {} on this machine", about(Duration::from_secs_f64(seconds)))
        });
        let by = match measured {
            true => format!(
                "by what rounding does to the model's predictions, measured in {seconds:.1} s; mean KL divergence \
                 with plain rounding: about {divergence:.4}{left}"
            ),
            false => "by the errors of the weights alone, which tell little of what they do to the model: \
                      --quality good and best measure that"
                .to_owned(),
        };
        let (bytes, most) = (grouped(*bytes), grouped(*target_bytes));
        format!("formats: chosen for {bytes} of {most} bytes, {by}")
    }
}
