//! What rounding may do to a model's predictions, by the weights alone: for when the model is not run.

use rayon::prelude::*;

use super::How;
use super::trial::{Costs, TRIED_ROWS, Trial, errors, read, spread};
use super::weights::Planned;
use crate::error::Result;
use crate::forward::Tensors;
use crate::importance::Importance;
use crate::model::Model;
use crate::remap::{Role, Target};
use crate::threads;
use crate::watch::Watch;

/// The divergence, in nats a token, that a relative squared error of 1 would bring if divergences grew so simply: in one
/// kind of matrix of all layers together, in the embedding, or in the output layer. A rough guess from a trained model of
/// 135 million weights, where Q4_K cost 0.037 in all layers and 0.0053 in the embedding, and Q6_K 0.0030 in the output
/// layer; their relative squared errors are taken as 0.005 and 0.00035, which was not measured there. The seven kinds of a
/// layer are taken to be alike, which they are not: to tell them apart the model has to be run.
fn gain(role: Role) -> f64 {
    match role {
        Role::Vector => 0.0,
        Role::Output => 8.6,
        Role::TokenEmbedding
        | Role::AttnQK
        | Role::AttnV
        | Role::AttnOutput
        | Role::FfnGateUp
        | Role::FfnDown => 1.0,
    }
}

/// For each format of each of the plan's tensors, its relative squared error times what such errors of its kind brought
/// in another model. `importance`: a weight for each column of a tensor, where there are any.
///
/// # Errors
/// When the checkpoint cannot be read, or `watch` stops the run.
pub fn guesses(
    model: &Model,
    importance: &[Option<Importance>],
    trials: &[Trial],
    how: How,
    watch: &dyn Watch,
) -> Result<Vec<Costs>> {
    let pool = threads::workers(how.threads)?;
    let nobody = |_: &[&str], _: &crate::forward::Activations| Ok(());
    let tensors = Planned::new(model, &nobody);
    let layers = model.config.num_layers.max(1) as f64;
    let cost = |(target, (trial, importance)): (&Target, (&Trial, &Option<Importance>))| {
        if trial.formats.is_empty() {
            return Ok(Vec::new());
        }
        watch.go_on()?;
        let matrix = tensors.matrix(&target.name, Some(target.rows), target.columns)?;
        let rows = read(matrix.as_ref(), &spread(target.rows, TRIED_ROWS), trial.columns)?;
        let given = importance.as_ref().map(Importance::given);
        let importance = given.map(|weights| &weights[..trial.columns.min(weights.len())]);
        let weighted = |values: &[f32]| -> f64 {
            let weight = |at: usize| importance.map_or(1.0, |weights| f64::from(weights[at % trial.columns]));
            let square = |(at, x): (usize, &f32)| weight(at) * f64::from(*x) * f64::from(*x);
            values.iter().enumerate().map(square).sum()
        };
        let whole = weighted(&rows);
        let share = target.slot.layer().map_or(1.0, |_| 1.0 / layers);
        let scale = if whole > 0.0 { gain(target.role()) * share / whole } else { 0.0 };
        let errors = errors(how.backend, trial, &rows, importance)?;
        Ok(errors.iter().map(|errors| scale * weighted(errors.as_slice().unwrap_or_default())).collect())
    };
    let work: Vec<_> = model.plan.tensors.iter().zip(trials.iter().zip(importance)).collect();
    pool.install(|| work.into_par_iter().map(cost).collect())
}
