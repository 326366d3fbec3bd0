//! The importance matrix: the mean square of each input column of every matrix, and what stands for it in the embedding.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ndarray::Axis;
use rayon::prelude::*;

use super::weights::{Planned, sizes};
use super::{Sample, WINDOW, embedding};
use crate::error::{Error, Result};
use crate::forward::{Activations, Decoder, Llama};
use crate::imatrix::ImportanceMatrix;
use crate::model::Model;
use crate::remap::Target;
use crate::threads;
use crate::watch::Watch;

/// Tells how far the run of this number is, of so many: so many of the layers.
pub(super) fn layer_done(
    model: &Model,
    layer: usize,
    (run, runs): (usize, usize),
    watch: &dyn Watch,
) -> Result<()> {
    let layers = model.config.num_layers;
    let at = format!("layer {} of {layers}", layer + 1);
    parts_done(model, (run * layers + layer + 1, runs * layers), &at, watch)
}

/// Tells how far a run is: so many of all parts, as if they were so many of the checkpoint's bytes.
pub(super) fn parts_done(
    model: &Model,
    (done, all): (usize, usize),
    at: &str,
    watch: &dyn Watch,
) -> Result<()> {
    let bytes = |target: &Target| (target.rows * target.columns * target.dtype().bytes()) as u64;
    let total: u64 = model.plan.tensors.iter().map(bytes).sum();
    watch.step(at, total * done as u64 / all.max(1) as u64, total)
}

/// Measures the importance of every column of the matrices, on the sample's tokens. Threads change no bit of it.
///
/// # Errors
/// When the checkpoint cannot be read, a value is no number on the way, or `watch` stops the run.
pub fn importance(
    model: &Model,
    sample: &Sample,
    threads: NonZero<usize>,
    watch: &dyn Watch,
) -> Result<ImportanceMatrix> {
    let pool = threads::workers(threads)?;
    pool.install(|| measure(model, sample, watch))
}

fn measure(model: &Model, sample: &Sample, watch: &dyn Watch) -> Result<ImportanceMatrix> {
    let entries: Mutex<BTreeMap<String, Vec<f32>>> = Mutex::new(BTreeMap::new());
    let observe = |names: &[&str], x: &Activations| {
        let means = mean_squares(x);
        if let Some(at) = means.iter().position(|mean| !mean.is_finite()) {
            let found = format!("input {at} to be {} on average", means[at]);
            return Err(Error::mismatch(model.checkpoint.main_file(), names[0], found, "finite activations"));
        }
        let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.extend(names.iter().map(|name| ((*name).to_owned(), means.clone())));
        Ok(())
    };
    let llama = Llama { tensors: Planned::new(model, &observe), sizes: sizes(model), window: WINDOW };
    let mut x = llama.embed(&sample.tokens)?;
    for layer in 0..llama.layers() {
        x = llama.layer(layer, x)?;
        layer_done(model, layer, (0, 1), watch)?;
    }
    observe(&[llama.output_name()], &llama.last_norm(&x)?)?;
    let of_embedding = embedding::importance(&llama)?;
    drop(llama);
    let mut entries = entries.into_inner().unwrap_or_else(PoisonError::into_inner);
    entries.extend(of_embedding.map(|importance| ("token_embd.weight".to_owned(), importance)));
    Ok(ImportanceMatrix {
        file: PathBuf::new(),
        entries,
        dataset: Some(format!("{}, SHA-256 {}", sample.name, sample.hash)),
        chunks: u32::try_from(sample.windows()).unwrap_or(u32::MAX),
    })
}

/// The mean square of each feature over the tokens; summed in f64, in the tokens' order, so that threads change nothing.
pub(super) fn mean_squares(x: &Activations) -> Vec<f32> {
    let tokens = x.ncols().max(1) as f64;
    let mean = |row: ndarray::ArrayView1<f32>| {
        (row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / tokens) as f32
    };
    let rows: Vec<_> = x.axis_iter(Axis(0)).collect();
    rows.into_par_iter().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::forward::{Tensors, embed, rms_norm, vector};
    use crate::model::ModelSource;

    #[test]
    fn the_first_layers_inputs_are_the_normed_embeddings() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/models/tiny-chatglm3");
        let model = Model::open(&ModelSource { folder, ..ModelSource::default() }).unwrap();
        let sample = Sample { tokens: (5..25).collect(), name: String::new(), hash: String::new() };
        let matrix = importance(&model, &sample, NonZero::<usize>::MIN, &()).unwrap();
        let layers = model.config.num_layers;
        assert_eq!(matrix.entries.len(), 7 * layers + 2);

        let tensors = Planned::new(&model, &|_, _| Ok(()));
        let hidden = model.config.hidden_size;
        let x = embed(tensors.matrix("token_embd.weight", None, hidden).unwrap().as_ref(), &sample.tokens)
            .unwrap();
        let norm =
            vector(tensors.matrix("blk.0.attn_norm.weight", Some(hidden), 1).unwrap().as_ref()).unwrap();
        let x = rms_norm(&x, &norm, model.config.layernorm_epsilon);
        for (column, mean) in matrix.entries["blk.0.attn_k.weight"].iter().enumerate() {
            let expected = x.row(column).iter().map(|x| x * x).sum::<f32>() / 20.0;
            assert!((mean - expected).abs() <= 1e-5 * expected, "{column}: {mean} {expected}");
        }
        struct Impatient;
        impl Watch for Impatient {
            fn stopped(&self) -> bool {
                true
            }
        }
        let stopped = importance(&model, &sample, NonZero::<usize>::MIN, &Impatient);
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }
}
