//! The whole conversion: everything is checked first, then the weights are read once.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::gguf::{Layout, Writer};
use crate::imatrix::ImportanceMatrix;
use crate::model::Model;
use crate::naming::Name;
use crate::output::Pending;
use crate::recipe::{FfnPad, FileType, Recipe, padded_ffn};
use crate::remap::{Plan, Role};
use crate::tokenizer::Tokenizer;
use crate::{metadata, ollama, pipeline};

/// What the user asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The checkpoint's folder.
    pub folder: PathBuf,
    /// One output file each.
    pub types: Vec<FileType>,
    /// The output's name; `{type}` in it stands for the type's name.
    pub output: Option<PathBuf>,
    /// Existing files may be replaced.
    pub force: bool,
    /// Whether to pad the feed-forward network.
    pub pad: FfnPad,
    /// Write a Modelfile beside each output.
    pub modelfile: bool,
    /// An importance matrix to quantize with.
    pub imatrix: Option<PathBuf>,
}

/// A conversion that has passed every check that needs no weights.
#[derive(Debug)]
pub struct Job {
    /// What to convert.
    pub model: Model,
    /// The importance weights of each tensor of the plan, padded.
    pub importance: Vec<Option<Vec<f32>>>,
    /// Matrices that the importance matrix says nothing of.
    pub without_importance: usize,
    /// The files to write.
    pub outputs: Vec<Output>,
    force: bool,
}

/// One file to write.
#[derive(Debug)]
pub struct Output {
    /// Its name.
    pub path: PathBuf,
    /// Its formats.
    pub recipe: Recipe,
    /// Its bytes.
    pub layout: Layout,
    /// The Modelfile beside it, with its text.
    pub modelfile: Option<(PathBuf, String)>,
}

/// The files of a job, created and empty. Dropping them deletes them.
#[derive(Debug)]
pub struct Outputs {
    writers: Vec<Writer>,
    modelfiles: Vec<Pending>,
}

impl Job {
    /// Reads everything but the weights and plans every output.
    ///
    /// # Errors
    /// When anything in the folder does not fit, or the request contradicts itself.
    pub fn prepare(request: &Request) -> Result<Job> {
        let model = Model::open(&request.folder)?;
        let Model { config, plan, tokenizer, name, .. } = &model;
        let imatrix = request.imatrix.as_deref().map(ImportanceMatrix::load).transpose()?;
        let (importance, without_importance) = match &imatrix {
            Some(imatrix) => imatrix.for_plan(plan, padded_ffn(config))?,
            None => (vec![None; plan.tensors.len()], 0),
        };

        let mut outputs: Vec<Output> = Vec::new();
        for &file_type in &request.types {
            let path = output_path(request, name, file_type)?;
            if outputs.iter().any(|other| other.path == path) {
                let message =
                    format!("{}: would be written twice: put {{type}} into --output", path.display());
                return Err(Error::Usage(message));
            }
            let recipe = Recipe::new(file_type, request.pad, plan, config, imatrix.is_some());
            let mut keys = metadata::build(config, &model.rope, &tokenizer.vocabulary, name, &recipe)?;
            keys.extend(imatrix.iter().flat_map(metadata::imatrix_keys));
            let layout = Layout::new(keys, shapes(plan, &recipe))?;
            let modelfile = if request.modelfile { Some(modelfile_beside(&path, tokenizer)?) } else { None };
            outputs.push(Output { path, recipe, layout, modelfile });
        }
        Ok(Job { importance, without_importance, outputs, force: request.force, model })
    }

    /// Creates every output, with its disk space reserved, under a temporary name.
    ///
    /// # Errors
    /// When an output exists, cannot be written, or does not fit its disk.
    pub fn create_outputs(&self) -> Result<Outputs> {
        let mut created = Outputs { writers: Vec::new(), modelfiles: Vec::new() };
        for output in &self.outputs {
            created.writers.push(Writer::create(&output.path, output.layout.clone(), self.force)?);
            if let Some((path, text)) = &output.modelfile {
                let mut modelfile = Pending::create(path, self.force)?;
                modelfile.write_all(text.as_bytes())?;
                created.modelfiles.push(modelfile);
            }
        }
        Ok(created)
    }

    /// Fills the outputs and gives them their names; nothing is left of any when one fails.
    ///
    /// # Errors
    /// When an output cannot be written, a weight is damaged, or the user stops the run.
    pub fn run(
        &self,
        outputs: Outputs,
        options: pipeline::Options,
        watch: &dyn pipeline::Watch,
    ) -> Result<()> {
        let writers = pipeline::run(&self.work(), outputs.writers, options, watch)?;
        self.model.checkpoint.refuse_changed()?;
        writers.into_iter().try_for_each(Writer::finish)?;
        outputs.modelfiles.into_iter().try_for_each(Pending::publish)
    }

    /// What the pipeline works on.
    pub fn work(&self) -> pipeline::Work<'_> {
        pipeline::Work {
            plan: &self.model.plan,
            checkpoint: &self.model.checkpoint,
            importance: &self.importance,
        }
    }

    /// What a user should know before trusting the result.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.model.warnings();
        if self.without_importance > 0 {
            warnings
                .push(format!("{} matrices have no entry in the importance matrix", self.without_importance));
        }
        warnings.extend(self.outputs.iter().filter_map(Output::fallbacks));
        warnings
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
    /// Which tensors do not take the format that the type names, in words.
    fn fallbacks(&self) -> Option<String> {
        let choices = self.recipe.choices.iter().zip(&self.layout.tensors);
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

fn modelfile_beside(gguf: &Path, tokenizer: &Tokenizer) -> Result<(PathBuf, String)> {
    let name = gguf.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::Usage(format!("{}: its name does not fit a Modelfile: give --no-modelfile", gguf.display()))
    })?;
    Ok((gguf.with_extension("Modelfile"), ollama::modelfile(name, tokenizer)?))
}

fn shapes(plan: &Plan, recipe: &Recipe) -> Vec<(String, Vec<usize>, quant::Format)> {
    let targets = plan.tensors.iter().zip(&recipe.choices);
    let shaped = targets.map(|(target, choice)| {
        let (rows, columns) = target.padded_shape(recipe.ffn);
        let shape = if target.role == Role::Vector { vec![rows] } else { vec![rows, columns] };
        (target.name.clone(), shape, choice.format)
    });
    shaped.collect()
}

fn output_path(request: &Request, name: &Name, file_type: FileType) -> Result<PathBuf> {
    let Some(output) = &request.output else { return Ok(PathBuf::from(name.file_name(file_type))) };
    match output.to_str() {
        Some(text) if text.contains("{type}") => {
            Ok(PathBuf::from(text.replace("{type}", &file_type.to_string())))
        }
        _ => Ok(Path::new(output).to_owned()),
    }
}
