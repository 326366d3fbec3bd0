//! The whole conversion: everything is checked first, then the weights are read once (and before that as often as
//! `good`, `best` and a size need to run the model).

mod card;
mod choice;
mod expected;
mod measure;
mod outputs;
mod prepare;
mod targets;

use std::path::PathBuf;

use crate::calibrate::{MomentLayout, Sample, Store};
use crate::error::{Error, Result};
use crate::gguf::Split;
use crate::importance::Importance;
use crate::input::GuestBook;
use crate::model::Model;
use crate::model_card::About;
use crate::pipeline;
use crate::recipe::Recipe;
use crate::request::Request;
pub use choice::{FormatChoice, Outcome};
pub use outputs::Outputs;

/// A conversion that has passed every check that needs no weights.
///
/// ```
/// use glm2llama::{GgufFile, Job, Options, Request};
///
/// let folder = tempfile::tempdir().unwrap();
/// let output = folder.path().join("tiny.gguf");
/// let request = Request::new("testdata/models/tiny-chatglm3", "Q4_K_M".parse()?);
/// let job = Job::prepare(&Request { output: Some(output.clone()), ..request })?;
/// job.fill(job.create_outputs()?, Options::default(), &())?.publish()?;
///
/// let file = GgufFile::open(&output)?;
/// assert_eq!(file.total_bytes, job.outputs[0].split.total_bytes());
/// assert!(file.metadata.contains_key("glm2llama.version"));
/// # Ok::<(), glm2llama::Error>(())
/// ```
#[derive(Debug)]
pub struct Job {
    /// What to convert.
    pub model: Model,
    /// The text that the model is to be measured on first.
    sample: Option<Sample>,
    /// How much of the second moments `best` holds together.
    layout: MomentLayout,
    /// The formats, where they are to be chosen.
    pub choice: Option<FormatChoice>,
    /// Blocks that were made before the file is filled.
    refined: Option<Store>,
    /// The importance of each tensor of the plan, padded.
    pub importance: Vec<Option<Importance>>,
    /// Matrices that the importance matrix says nothing of.
    pub without_importance: usize,
    /// The files to write.
    pub outputs: Vec<Output>,
    /// What the request and the model card have to be warned of.
    notes: Vec<String>,
    /// What was asked for.
    request: Request,
    /// The files of the model and its adapters.
    guests: GuestBook,
    /// The files that options name.
    given: GuestBook,
}

/// One file to write.
#[derive(Debug)]
pub struct Output {
    /// Its name.
    pub path: PathBuf,
    /// Its formats.
    pub recipe: Recipe,
    /// Its bytes, or those of the files that stand for it.
    pub split: Split,
    /// The Modelfile beside it, with its text.
    pub modelfile: Option<(PathBuf, String)>,
    /// What a model card says of the model, if one is to be written.
    about: Option<About>,
}

impl Job {
    /// What the pipeline works on.
    pub fn work(&self) -> pipeline::Work<'_> {
        pipeline::Work {
            ready: self.refined.as_ref().map(|store| store as &dyn pipeline::Ready),
            plan: &self.model.plan,
            checkpoint: &self.model.checkpoint,
            importance: Some(&self.importance),
            lora: &self.model.lora,
        }
    }

    /// What a user should know before trusting the result.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.model.warnings();
        warnings.extend(self.notes.iter().cloned());
        if self.without_importance > 0 {
            warnings
                .push(format!("{} matrices have no entry in the importance matrix", self.without_importance));
        }
        warnings.extend(self.outputs.iter().filter_map(Output::fallbacks));
        warnings
    }

    /// Says so where a split output has no Modelfile.
    fn note_split(&mut self) {
        if self.request.modelfile && self.outputs.iter().any(|output| output.split.files.len() > 1) {
            self.notes.push("no Modelfile: Ollama imports no split GGUF".to_owned());
        }
    }

    /// What `--strict` asks for: every tensor in the format that the type names.
    ///
    /// # Errors
    /// When a tensor would fall back to another.
    pub fn refuse_fallbacks(&self) -> Result<()> {
        match self.outputs.iter().find_map(Output::fallbacks) {
            None => Ok(()),
            Some(fallbacks) => Err(Error::Usage(format!("{fallbacks} (--strict)"))),
        }
    }
}

impl Output {
    /// The files' names: one, or those of the parts.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.split.paths(&self.path)
    }

    /// Bits of the files for each weight of the model; 0 when there are none.
    pub fn bits_per_weight(&self, model: &Model) -> f64 {
        match model.plan.parameters() {
            0 => 0.0,
            parameters => self.split.total_bytes() as f64 * 8.0 / parameters as f64,
        }
    }

    /// Which tensors do not take the format that the type names, in words.
    fn fallbacks(&self) -> Option<String> {
        let choices = self.recipe.choices.iter().zip(self.split.tensors());
        let fallen: Vec<_> = choices.filter_map(|(choice, info)| Some((info, choice.instead_of?))).collect();
        let (first, instead) = fallen.first()?;
        Some(format!(
            "{}: {} tensors fall back, as {} to {} instead of {instead}, whose blocks do not fit its rows",
            self.path.display(),
            fallen.len(),
            first.name,
            first.format,
        ))
    }
}
