//! What measuring takes, counted beforehand: the arithmetic that nearly all the time goes into, and the largest memory
//! where that is not the second moments'.

use quant::Format;

use super::WINDOW;
use super::layout::{MomentLayout, PROGRAM, WORKER, WORKERS, running};
use super::refine::{DAMPINGS, TRIED_ROWS as REFINED_ROWS};
use super::runs::{equally_wide, quantized};
use super::sample::held_out;
use super::sensitivity::MOST_WINDOWS;
use super::trial::{TRIED_ROWS, Trial};
use crate::model::Model;
use crate::remap::{InBlock, Part, Slot, Target};
use crate::sink::Shape;

/// The arithmetic of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// Multiplications and additions in products of matrices.
    pub operations: f64,
    /// Weights that are rounded to a format.
    pub rounded: Vec<Rounded>,
}

/// So many weights rounded in one way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounded {
    /// To what.
    pub format: Format,
    /// With feedback and descent inside a panel of columns; what goes on between panels is in the products.
    pub feedback: bool,
    /// How many.
    pub weights: f64,
}

/// Factors of each matrix's moments: one a damping, and about every second time one again for the whole matrix.
const FACTORS: f64 = 1.5 * DAMPINGS.len() as f64;
/// Columns between two products of matrices.
const PANEL: f64 = 256.0;

impl Cost {
    /// Both, one behind the other.
    #[must_use]
    pub fn and(mut self, other: Cost) -> Cost {
        self.operations += other.operations;
        self.rounded.extend(other.rounded);
        self
    }

    fn round(&mut self, format: Format, feedback: bool, weights: f64) {
        let same = |known: &&mut Rounded| (known.format, known.feedback) == (format, feedback);
        match self.rounded.iter_mut().find(same) {
            Some(known) => known.weights += weights,
            None => self.rounded.push(Rounded { format, feedback, weights }),
        }
    }
}

fn size(target: &Target) -> f64 {
    (target.rows * target.columns) as f64
}

/// One run on so many tokens, without the output layer.
fn forward(model: &Model, tokens: usize) -> f64 {
    let (config, tokens) = (&model.config, tokens as f64);
    let in_layers = model.plan.tensors.iter().filter(|target| target.slot.layer().is_some());
    let weights: f64 = in_layers.filter(|target| model.plan.multiplies(target)).map(size).sum();
    // Attention multiplies a window's tokens with one another, before the later ones are left out.
    let attention = 2.0 * (config.num_attention_heads * config.head_dim * WINDOW.min(tokens as usize)) as f64;
    2.0 * tokens * (weights + attention * config.num_layers as f64)
}

/// What [`importance`](super::importance) costs, with rounding by it to the shapes of each output.
pub fn of_importance(model: &Model, outputs: &[Vec<Shape>], tokens: usize) -> Cost {
    let mut cost = Cost { operations: forward(model, tokens), rounded: Vec::new() };
    for shape in outputs.iter().flatten().filter(|shape| shape.format.is_quantized()) {
        cost.round(shape.format, false, (shape.rows * shape.columns) as f64);
    }
    cost
}

/// Memory of [`importance`](super::importance), in bytes.
pub fn importance_bytes(model: &Model, tokens: usize) -> u64 {
    (PROGRAM + WORKERS * WORKER + running(model, tokens)) as u64
}

/// What all formats of all tensors come to, for some rows.
fn tried(trials: &[Trial]) -> f64 {
    let tried = |trial: &Trial| (TRIED_ROWS * trial.columns * trial.formats.len()) as f64;
    trials.iter().map(tried).sum()
}

/// What [`divergences`](super::divergences) costs.
pub fn of_divergences(model: &Model, trials: &[Trial], tokens: usize) -> Cost {
    let tokens = tokens.min(MOST_WINDOWS * WINDOW);
    let outside = model.plan.tensors.iter().filter(|target| target.slot.layer().is_none());
    let output: f64 = outside.filter(|target| model.plan.multiplies(target)).map(size).sum();
    let operations =
        3.0 * (forward(model, tokens) + 2.0 * output * tokens as f64) + 2.0 * tried(trials) * tokens as f64;
    let mut cost = Cost { operations, rounded: Vec::new() };
    for trial in trials {
        let weights = (TRIED_ROWS * trial.columns) as f64;
        let quantized = trial.formats.iter().filter(|format| format.is_quantized());
        quantized.for_each(|format| cost.round(*format, false, weights));
    }
    cost
}

/// Memory of [`divergences`](super::divergences), in bytes: what waits for the way back, and a layer's.
pub fn divergences_bytes(model: &Model, trials: &[Trial], tokens: usize) -> u64 {
    let tokens = tokens.min(MOST_WINDOWS * WINDOW);
    let config = &model.config;
    let waiting = 2 * config.num_layers * config.hidden_size * tokens;
    let layer = 4.0 * tried(trials) / config.num_layers.max(1) as f64;
    let activations = |tokens: usize| 4 * tokens * (3 * config.ffn_hidden_size + 4 * config.hidden_size);
    (PROGRAM + waiting + activations(tokens).max(2 * activations(WINDOW) + layer as usize)) as u64
}

/// What [`refine`](super::refine) costs, with rounding what it leaves.
pub fn of_refinement(model: &Model, outputs: &[Vec<Shape>], layout: MomentLayout, tokens: usize) -> Cost {
    let runs = equally_wide(outputs);
    runs.iter().fold(Cost::default(), |cost, run| cost.and(of_run(model, run, layout, tokens)))
}

/// Bytes of the matrices that [`refine`](super::refine) makes and keeps on disk until they are in their files, without
/// those that are made already.
pub fn refined_bytes(model: &Model, outputs: &[Vec<Shape>], made: impl Fn(&str, Shape) -> bool) -> u64 {
    let outputs: Vec<&[Shape]> = outputs.iter().map(Vec::as_slice).collect();
    let multiplied =
        model.plan.tensors.iter().enumerate().filter(|(_, target)| model.plan.multiplies(target));
    let shapes = multiplied.flat_map(|(number, target)| {
        quantized(&outputs, number).into_iter().map(|shape| (target.name.as_str(), shape))
    });
    let bytes =
        |shape: Shape| (shape.rows * shape.format.row_bytes(shape.columns).unwrap_or_default()) as u64;
    shapes.filter(|(name, shape)| !made(name, *shape)).map(|(_, shape)| bytes(shape)).sum()
}

/// What one run for equally wide outputs costs.
fn of_run(model: &Model, outputs: &[&[Shape]], layout: MomentLayout, tokens: usize) -> Cost {
    let mut cost = Cost { operations: forward(model, tokens), rounded: Vec::new() };
    let held = (held_out(tokens / WINDOW).len() * WINDOW) as f64;
    for (number, target) in model.plan.tensors.iter().enumerate() {
        let shapes = quantized(outputs, number);
        let Some(shape) = shapes.first() else { continue };
        let (rows, columns) = (target.rows as f64, shape.columns as f64);
        if !model.plan.multiplies(target) {
            shapes.iter().for_each(|shape| cost.round(shape.format, false, rows * columns));
            continue;
        }
        let parts: Vec<f64> = layout.parts(shape.columns).iter().map(|part| part.len() as f64).collect();
        let squares: f64 = parts.iter().map(|width| width * width).sum();
        let cubes: f64 = parts.iter().map(|width| width * width * width).sum();
        let tried = rows.min(REFINED_ROWS as f64);
        let all = rows + DAMPINGS.len() as f64 * tried;
        for shape in &shapes {
            // Half of a square for the feedback, one for the gradient, one and a half for the sweeps; less the panels.
            cost.operations += 2.0 * all * (3.0 * squares - 2.0 * PANEL * columns).max(PANEL * columns);
            cost.operations += (DAMPINGS.len() + 1) as f64 * 2.0 * tried * columns * held;
            cost.round(shape.format, true, all * columns);
            cost.round(shape.format, false, tried * columns);
        }
        // Of the matrices of the same inputs, the first.
        let weight = |part| InBlock::Weight(part);
        let later = [weight(Part::Key), weight(Part::Value), InBlock::Up];
        if !matches!(target.slot, Slot::Block(_, place) if later.contains(&place)) {
            let seen = tokens as f64 - held;
            cost.operations += seen * (squares + PANEL * columns) + FACTORS * cubes / 3.0;
        }
    }
    cost
}
