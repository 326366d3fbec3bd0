//! Refuses work whose parts were not made for one another, before a byte of it is read or written.
//!
//! The program makes them together. A caller of the library can mix them, and would get wrong weights.

use std::fmt::Display;
use std::path::Path;

use super::Work;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::lora::Lora;
use crate::remap::{Source, Span, Target};
use crate::sink::Shape;

pub(super) fn refuse_mixed(work: &Work, outputs: &[Vec<Shape>]) -> Result<()> {
    let Work { plan, checkpoint, importance, lora, .. } = *work;
    if !checkpoint.files().eq(&plan.files) {
        let file = first_file(checkpoint);
        let of = plan.files.first().map_or("no file".to_owned(), |file| file.display().to_string());
        return Err(Error::file_mismatch(file, "a checkpoint", format!("that of the plan, {of}")));
    }
    plan.tensors.iter().try_for_each(|target| check_target(target, checkpoint, lora))?;
    let spans = || plan.tensors.iter().flat_map(|target| target.parts(0..target.rows));
    let unused = |name: &&str| !plan.tensors.is_empty() && spans().all(|(span, _)| span.tensor != **name);
    if let Some(name) = lora.tensors().find(unused) {
        let found = "an adapter's factors for a tensor that the plan does not use";
        return Err(Error::mismatch(
            first_file(checkpoint),
            name,
            found,
            "the adapter that the model was opened with",
        ));
    }
    let count = plan.tensors.len();
    if let Some(importance) = importance {
        require("importance weights", importance.len(), count, importance.len() == count)?;
    }
    for shapes in outputs {
        require("an output's tensors", shapes.len(), count, shapes.len() == count)?;
        for (number, (target, shape)) in plan.tensors.iter().zip(shapes).enumerate() {
            let Target { name, rows, columns, .. } = target;
            require(name, shape.rows, format!("{rows} rows in the output"), shape.rows >= *rows)?;
            let expected = format!("{columns} columns in the output");
            require(name, shape.columns, expected, shape.columns >= *columns)?;
            let weights =
                work.importance_of(number).map_or(shape.columns, |importance| importance.given().len());
            require(name, weights, "importance weights for each column", weights >= shape.columns)?;
        }
    }
    Ok(())
}

/// The target's values fill it, and its rows are those of the checkpoint's tensors.
fn check_target(target: &Target, checkpoint: &Checkpoint, lora: &Lora) -> Result<()> {
    let found = match &target.source {
        Source::Values(values) => {
            let columns = target.columns;
            return require(
                &target.name,
                values.len(),
                format!("a vector of {} values", target.rows),
                values.len() == target.rows && columns == 1,
            );
        }
        Source::Rows(spans) => {
            spans.iter().try_for_each(|span| check_span(span, target, checkpoint, lora))?;
            spans.iter().map(|span| span.rows.len()).sum::<usize>()
        }
    };
    require(&target.name, found, format!("{} rows", target.rows), found == target.rows)
}

fn check_span(span: &Span, target: &Target, checkpoint: &Checkpoint, lora: &Lora) -> Result<()> {
    let Span { tensor: name, stored, rows } = span;
    let file = first_file(checkpoint);
    if checkpoint.tensors().get(name) != Some(stored) {
        let expected = "the tensor that the plan was made for";
        return Err(Error::mismatch(file, name, "another, or none", expected));
    }
    if rows.end > stored.rows() || stored.columns() != target.columns || stored.dtype != target.dtype() {
        let found = format!("rows {rows:?} of shape {:?}, {}", stored.shape, stored.dtype);
        let expected = format!("rows of {} columns, {}, for {}", target.columns, target.dtype(), target.name);
        return Err(Error::mismatch(file, name, found, expected));
    }
    if !lora.fits(name, stored) {
        let expected = format!("those of an adapter for shape {:?}", stored.shape);
        return Err(Error::mismatch(file, name, "an adapter's factors of another shape", expected));
    }
    Ok(())
}

/// For messages: a checkpoint has at least one file.
fn first_file(checkpoint: &Checkpoint) -> &Path {
    checkpoint.files().next().unwrap_or(Path::new(""))
}

fn require(item: &str, found: impl Display, expected: impl Display, holds: bool) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Usage(format!("{item}: found {found}, expected {expected}")))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::model::{Model, ModelSource};
    use crate::pipeline::{Options, run};
    use crate::sink::Sink;

    const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/models/tiny-chatglm3");
    const OTHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/models/tiny-chatglm3-32k");

    /// Keeps each tensor's bytes, as the checkpoint stores them.
    struct Kept(Vec<Shape>, Vec<Vec<u8>>);

    impl Kept {
        fn new(model: &Model) -> Kept {
            let targets = &model.plan.tensors;
            let shape = |t: &Target| Shape { format: t.dtype().format(), rows: t.rows, columns: t.columns };
            Kept(targets.iter().map(shape).collect(), vec![Vec::new(); targets.len()])
        }
    }

    impl Sink for Kept {
        fn shapes(&self) -> Vec<Shape> {
            self.0.clone()
        }

        fn write(&mut self, tensor: usize, bytes: &[u8]) -> Result<()> {
            self.1[tensor].extend(bytes);
            Ok(())
        }
    }

    fn open(folder: impl Into<PathBuf>) -> Model {
        Model::open(&ModelSource { folder: folder.into(), ..ModelSource::default() }).unwrap()
    }

    /// Runs the model's plan with a checkpoint, its own or another.
    fn run_with(model: &Model, checkpoint: &Checkpoint, output: Kept) -> Result<Vec<Kept>> {
        let work = Work { plan: &model.plan, checkpoint, importance: None, lora: &model.lora, ready: None };
        run(&work, vec![output], Options::default(), &()).map(|(outputs, _)| outputs)
    }

    #[track_caller]
    fn refuses(model: &Model, checkpoint: &Checkpoint, output: Kept, expected: &str) {
        match run_with(model, checkpoint, output) {
            Ok(_) => panic!("not refused"),
            Err(error) => assert!(error.to_string().contains(expected), "{error}"),
        }
    }

    #[test]
    fn a_plan_runs_with_its_own_checkpoint_opened_again() {
        let model = open(TINY);
        let output = run_with(&model, &open(TINY).checkpoint, Kept::new(&model)).unwrap();
        let mut embedding = vec![0; output[0].1[0].len()];
        let tensor = &model.checkpoint.tensors()["transformer.embedding.word_embeddings.weight"];
        model.checkpoint.read_rows(tensor, 0, &mut embedding).unwrap();
        assert_eq!(output[0].1[0], embedding);
    }

    #[test]
    fn a_plan_refuses_another_checkpoint() {
        let model = open(TINY);
        refuses(&model, &open(OTHER).checkpoint, Kept::new(&model), "expected that of the plan");

        // The same file, in which a tensor has another name by now.
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(OTHER).unwrap().map(|entry| entry.unwrap()) {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let copy = open(folder.path());
        let shard = copy.checkpoint.files().next().unwrap().to_owned();
        let bytes = fs::read(&shard).unwrap();
        let (old, new) = (b"final_layernorm", b"other_layernorm");
        let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
        fs::write(&shard, [&bytes[..at], new, &bytes[at + old.len()..]].concat()).unwrap();
        let changed = Checkpoint::open(folder.path()).unwrap();
        refuses(&copy, &changed, Kept::new(&copy), "final_layernorm.weight: found another, or none");
    }

    #[test]
    fn a_changed_plan_and_parts_of_another_model_are_refused() {
        let mut model = open(TINY);
        let embedding = model.plan.tensors[0].clone();
        model.plan.tensors[0].rows -= 1;
        refuses(&model, &model.checkpoint, Kept::new(&model), "token_embd.weight: found");
        let Source::Rows(spans) = &embedding.source else { panic!("computed") };
        let past = Span { rows: 1..spans[0].rows.end + 1, ..spans[0].clone() };
        model.plan.tensors[0] = Target { source: Source::Rows(vec![past]), ..embedding.clone() };
        refuses(&model, &model.checkpoint, Kept::new(&model), "word_embeddings.weight: found rows");
        model.plan.tensors[0] = embedding;
        let mut fewer = Kept::new(&model);
        fewer.0.pop();
        refuses(&model, &model.checkpoint, fewer, "an output's tensors: found");
        let mut lower = Kept::new(&model);
        lower.0[0].rows -= 1;
        refuses(&model, &model.checkpoint, lower, "rows in the output");
    }
}
