//! The best levels for each matrix: rounding with feedback and descent, damped as held-out tokens say.

use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{Array2, ArrayView2, Axis, concatenate};
use quant::Backend;
use rayon::prelude::*;

use super::layout::{FEWEST_ROWS, MomentLayout, ROWS_AT_A_TIME, Workers};
use super::moments::{Curvatures, Means, Moments};
use super::rounding::{error, plain, with_feedback};
use super::runs::{equally_wide, quantized};
use super::sample::held_out;
use super::squares::layer_done;
use super::store::Store;
use super::trial::read;
use super::weights::{Planned, sizes};
use super::{How, Sample, WINDOW};
use crate::error::{Error, Result};
use crate::forward::{Activations, Decoder, Llama, Matrix, Tensors};
use crate::model::Model;
use crate::remap::Target;
use crate::sink::Shape;
use crate::threads;
use crate::watch::Watch;

/// Parts of the typical square that may be added to the diagonal; 0.01 overfits even on tens of thousands of tokens.
pub(super) const DAMPINGS: [f32; 3] = [0.06, 0.25, 1.0];
/// Rows of a matrix that the damping is chosen on.
pub(super) const TRIED_ROWS: usize = 128;

/// Makes the blocks of every matrix that is multiplied with, for the shapes of each output, and keeps them in the
/// store; `layout`: how much of their inputs' moments is in memory at a time. The model is run once for all outputs
/// whose matrices are equally wide.
///
/// # Errors
/// When the sample is too short to hold anything out, the checkpoint cannot be read, a value is no number on the way,
/// or `watch` stops the run: then the next run with the same store goes on behind the last finished matrix.
pub fn refine(
    model: &Model,
    sample: &Sample,
    outputs: &[Vec<Shape>],
    store: &Store,
    layout: MomentLayout,
    how: How,
    watch: &dyn Watch,
) -> Result<()> {
    let widest = outputs.iter().flatten().map(|shape| shape.columns).max().unwrap_or_default();
    let Workers { threads, rows } = layout.workers(how.threads, widest);
    let pool = threads::workers(threads)?;
    let runs = equally_wide(outputs);
    pool.install(|| {
        for (number, outputs) in runs.iter().enumerate() {
            let refiner = Refiner { model, outputs, store, layout, rows, backend: how.backend, watch };
            refiner.run(sample, (number, runs.len()))?;
            refiner.require_all()?;
        }
        Ok(())
    })
}

/// Refuses a sample that is too short to hold a part of it out.
///
/// # Errors
/// When it has fewer than two whole windows.
pub fn refuse_short(sample: &Sample) -> Result<()> {
    if sample.tokens.len() >= 2 * WINDOW {
        return Ok(());
    }
    let found = format!("{} tokens of {}", sample.tokens.len(), sample.name);
    let expected = format!("{} at least, a part of which is held out", 2 * WINDOW);
    let remedy = "give more text, or a larger --calibration-tokens";
    Err(Error::Usage(format!("--quality best: found {found}, expected {expected}: {remedy}")))
}

struct Refiner<'a> {
    model: &'a Model,
    /// What each of the plan's tensors is in each output.
    outputs: &'a [&'a [Shape]],
    store: &'a Store,
    layout: MomentLayout,
    /// Rows of a matrix that one worker has in hand.
    rows: usize,
    backend: Backend,
    watch: &'a dyn Watch,
}

/// What matrices of the same inputs are refined with.
struct Inputs {
    names: Vec<String>,
    moments: Moments,
    /// Inputs of held-out tokens, `[features, tokens]`.
    held_out: Vec<Activations>,
}

impl Refiner<'_> {
    /// The run of this number, of so many.
    fn run(&self, sample: &Sample, run: (usize, usize)) -> Result<()> {
        refuse_short(sample)?;
        let windows: Vec<&[u32]> = sample.tokens.chunks(WINDOW).collect();
        let whole = windows.iter().filter(|window| window.len() == WINDOW).count();
        let held = held_out(whole);
        let seen: Vec<usize> = (0..whole).filter(|i| !held.contains(i)).collect();
        let batch =
            |numbers: &[usize]| -> Vec<u32> { numbers.iter().flat_map(|&i| windows[i]).copied().collect() };
        let tokens: Vec<(bool, Vec<u32>)> = seen
            .chunks(self.layout.windows)
            .map(|numbers| (false, batch(numbers)))
            .chain(held.chunks(self.layout.windows).map(|numbers| (true, batch(numbers))))
            .collect();

        let found: Mutex<Vec<Inputs>> = Mutex::new(Vec::new());
        let holding = Mutex::new(false);
        let observe = |names: &[&str], x: &Activations| {
            let holds = *holding.lock().unwrap_or_else(PoisonError::into_inner);
            self.observe(&mut found.lock().unwrap_or_else(PoisonError::into_inner), names, x, holds)
        };
        let llama =
            Llama { tensors: Planned::new(self.model, &observe), sizes: sizes(self.model), window: WINDOW };
        let hold = |holds: bool| *holding.lock().unwrap_or_else(PoisonError::into_inner) = holds;
        let take = || std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        let mut batches: Vec<(bool, Activations)> =
            tokens.iter().map(|(holds, tokens)| Ok((*holds, llama.embed(tokens)?))).collect::<Result<_>>()?;
        for layer in 0..llama.layers() {
            for (holds, x) in &mut batches {
                self.watch.go_on()?;
                hold(*holds);
                *x = llama.layer(layer, std::mem::replace(x, Array2::zeros((0, 0))))?;
            }
            for inputs in take() {
                self.refine_all(&llama.tensors, inputs)?;
            }
            layer_done(self.model, layer, run, self.watch)?;
        }
        let name = llama.output_name();
        for (holds, x) in &batches {
            hold(*holds);
            observe(&[name], &llama.last_norm(x)?)?;
        }
        take().into_iter().try_for_each(|inputs| self.refine_all(&llama.tensors, inputs))
    }

    /// What was not made would be rounded plainly, without a word.
    fn require_all(&self) -> Result<()> {
        let plan = &self.model.plan;
        let multiplied = plan.tensors.iter().filter(|target| plan.multiplies(target));
        match multiplied.map(|target| &target.name).find(|name| self.wanted(name).is_some()) {
            None => Ok(()),
            Some(name) => Err(Error::Internal(format!("{name}: was not made"))),
        }
    }

    /// The shapes that a matrix is still to be made in.
    fn wanted(&self, name: &str) -> Option<(&Target, Vec<Shape>)> {
        let at = self.model.plan.tensors.iter().position(|target| target.name == name)?;
        let mut shapes = quantized(self.outputs, at);
        shapes.retain(|shape| !self.store.holds(name, *shape));
        (!shapes.is_empty()).then_some((&self.model.plan.tensors[at], shapes))
    }

    fn observe(&self, found: &mut Vec<Inputs>, names: &[&str], x: &Activations, holds: bool) -> Result<()> {
        if let Some(at) = x.iter().position(|x| !x.is_finite()) {
            let found = format!("input {} to be no finite number", at / x.ncols().max(1));
            return Err(Error::mismatch(
                self.model.checkpoint.main_file(),
                names[0],
                found,
                "finite activations",
            ));
        }
        let wanted: Vec<(&str, usize)> =
            names.iter().filter_map(|name| Some((*name, self.wanted(name)?.1[0].columns))).collect();
        let Some(width) = wanted.iter().map(|(_, columns)| *columns).max() else { return Ok(()) };
        let at = found.iter().position(|inputs| inputs.names[0] == wanted[0].0).unwrap_or_else(|| {
            let names = wanted.iter().map(|(name, _)| (*name).to_owned()).collect();
            found.push(Inputs {
                names,
                moments: Moments::new(self.layout.parts(width)),
                held_out: Vec::new(),
            });
            found.len() - 1
        });
        match holds {
            true => found[at].held_out.push(x.clone()),
            false => found[at].moments.add(x),
        }
        Ok(())
    }

    /// Refines the matrices of the same inputs: all are tried with each damping, then made with the best.
    fn refine_all(&self, tensors: &Planned, mut inputs: Inputs) -> Result<()> {
        let views: Vec<ArrayView2<f32>> = inputs.held_out.iter().map(|x| x.view()).collect();
        let held_out = concatenate(Axis(1), &views)
            .map_err(|_| Error::Internal("held-out inputs of different widths".to_owned()))?;
        drop(views);
        inputs.held_out.clear();
        let means = inputs.moments.finish();
        let mut matrices = Vec::new();
        for name in &inputs.names {
            let Some((target, shapes)) = self.wanted(name) else { continue };
            let matrix: Arc<dyn Matrix> = tensors.matrix(name, Some(target.rows), target.columns)?.into();
            let step = (target.rows / TRIED_ROWS).max(1);
            let rows: Vec<usize> = (0..target.rows).step_by(step).take(TRIED_ROWS).collect();
            let tried: Arc<[f32]> = read(matrix.as_ref(), &rows, shapes[0].columns)?.into();
            for shape in shapes {
                let plain = plain(self.backend, shape, &means, &tried)?;
                let best = error(shape, &tried, &plain, &held_out)?;
                let (matrix, tried) = (Arc::clone(&matrix), Arc::clone(&tried));
                matrices.push(Candidate { target, shape, matrix, tried, best, damping: None });
            }
        }
        let mut state = State { moments: Some(inputs.moments), curvatures: None };
        for damping in DAMPINGS {
            let Some(curvatures) = state.damped(&means, damping) else { continue };
            for candidate in &mut matrices {
                let blocks = self.tried(candidate, curvatures)?;
                let error = error(candidate.shape, &candidate.tried, &blocks, &held_out)?;
                if error < candidate.best {
                    (candidate.best, candidate.damping) = (error, Some(damping));
                }
            }
        }
        // The last factor is there already.
        for damping in DAMPINGS.into_iter().rev() {
            for candidate in matrices.iter().filter(|candidate| candidate.damping == Some(damping)) {
                let gone = || Error::Internal("a factor that was there is gone".to_owned());
                let curvatures = state.damped(&means, damping).ok_or_else(gone)?;
                self.make(candidate, |rows| with_feedback(self.backend, candidate.shape, curvatures, rows))?;
            }
        }
        let without = matrices.iter().filter(|candidate| candidate.damping.is_none());
        for candidate in without {
            self.make(candidate, |rows| plain(self.backend, candidate.shape, &means, rows))?;
        }
        Ok(())
    }

    /// The rows that are tried, with feedback.
    fn tried(&self, Candidate { shape, tried, .. }: &Candidate, curvatures: &Curvatures) -> Result<Vec<u8>> {
        let rows = tried.par_chunks(FEWEST_ROWS * shape.columns);
        let blocks = rows.map(|rows| {
            self.watch.go_on()?;
            with_feedback(self.backend, *shape, curvatures, rows)
        });
        Ok(blocks.collect::<Result<Vec<_>>>()?.concat())
    }

    /// Makes all rows of a matrix, and keeps them.
    fn make(&self, candidate: &Candidate, quantize: impl Fn(&[f32]) -> Result<Vec<u8>> + Sync) -> Result<()> {
        let Candidate { target, shape, matrix, .. } = candidate;
        let mut made = self.store.begin(&target.name, *shape)?;
        for start in (0..target.rows).step_by(ROWS_AT_A_TIME) {
            let end = target.rows.min(start + ROWS_AT_A_TIME);
            let starts: Vec<usize> = (start..end).step_by(self.rows).collect();
            let blocks: Vec<Vec<u8>> = starts
                .into_par_iter()
                .map(|start| {
                    self.watch.go_on()?;
                    let rows: Vec<usize> = (start..end.min(start + self.rows)).collect();
                    quantize(&read(matrix.as_ref(), &rows, shape.columns)?)
                })
                .collect::<Result<_>>()?;
            blocks.iter().try_for_each(|blocks| made.add(blocks))?;
        }
        made.finish()
    }
}

/// One matrix in one shape, and the best that was found on some of its rows.
struct Candidate<'a> {
    target: &'a Target,
    shape: Shape,
    matrix: Arc<dyn Matrix + 'a>,
    tried: Arc<[f32]>,
    /// The mean square of what its outputs are off, on held-out tokens.
    best: f64,
    /// None: rounded as ggml does, with the squares for importance.
    damping: Option<f32>,
}

/// Moments with the factor of one damping, or without any; one matrix in memory for all.
struct State {
    moments: Option<Moments>,
    curvatures: Option<(f32, Curvatures)>,
}

impl State {
    fn damped(&mut self, means: &Means, damping: f32) -> Option<&Curvatures> {
        if self.curvatures.as_ref().is_none_or(|(there, _)| *there != damping) {
            let before = self.curvatures.take().map(|(_, curvatures)| Moments::again(curvatures));
            match self.moments.take().or(before)?.damped(means, damping) {
                Ok(curvatures) => self.curvatures = Some((damping, curvatures)),
                Err(moments) => self.moments = Some(moments),
            }
        }
        self.curvatures.as_ref().filter(|(there, _)| *there == damping).map(|(_, curvatures)| curvatures)
    }
}
