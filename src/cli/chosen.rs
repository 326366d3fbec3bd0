//! What choosing formats for a size came to.

use serde::Serialize;

use glm2llama::convert::{Job, Outcome};
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
    /// What measuring for the levels will take besides, about.
    seconds_left: f64,
}

impl Chosen {
    /// None where nothing was chosen.
    pub(super) fn of(job: &Job) -> Option<Chosen> {
        let choice = job.choice.as_ref()?;
        let Outcome { divergence, measured, took, left, unused_bytes } = choice.outcome.as_ref()?;
        Some(Chosen {
            target_bytes: choice.most_bytes,
            bytes: choice.most_bytes - unused_bytes,
            divergence: *divergence,
            measured: *measured,
            seconds: took.as_secs_f64(),
            seconds_left: left.as_secs_f64(),
        })
    }

    pub(super) fn text(&self) -> String {
        let Chosen { target_bytes, bytes, divergence, measured, seconds, seconds_left } = self;
        let by = match measured {
            true => format!(
                "by what rounding does to the model's predictions, measured in {seconds:.1} s; mean KL divergence \
                 with plain rounding: about {divergence:.4}; measuring for the levels will take about {seconds_left:.0} s"
            ),
            false => "by the errors of the weights alone, which tell little of what they do to the model: \
                      --quality good and best measure that"
                .to_owned(),
        };
        let (bytes, most) = (grouped(*bytes), grouped(*target_bytes));
        format!("formats: chosen for {bytes} of {most} bytes, {by}")
    }
}
