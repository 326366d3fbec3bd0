//! The whole conversion: everything is checked first, then the weights are read once.

use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::config::GlmConfig;
use crate::error::{Error, Result};
use crate::gguf::{Layout, Writer};
use crate::imatrix::ImportanceMatrix;
use crate::modelling::Modelling;
use crate::naming::Name;
use crate::output::Pending;
use crate::recipe::{FfnPad, FileType, Recipe, padded_ffn};
use crate::remap::{Plan, Role, Rope, RopeRatio};
use crate::tokenizer::{self, ChatFormat, Tokenizer};
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
    /// The model's config.
    pub config: GlmConfig,
    /// The opened weights.
    pub checkpoint: Checkpoint,
    /// The mapping.
    pub plan: Plan,
    /// What the modelling file told.
    pub modelling: Modelling,
    /// The vocabulary and where it is from.
    pub tokenizer: Tokenizer,
    /// The model's name.
    pub name: Name,
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
        let config = GlmConfig::load(&request.folder)?;
        let checkpoint = Checkpoint::open(&request.folder)?;
        let modelling = Modelling::load(&request.folder, &config)?;
        let rope = Rope::new(&config, modelling.rope_ratio);
        let plan = Plan::new(&config, &rope, &checkpoint)?;
        let tokenizer = tokenizer::load(&request.folder, &config)?;
        let imatrix = request.imatrix.as_deref().map(ImportanceMatrix::load).transpose()?;
        let (importance, without_importance) = match &imatrix {
            Some(imatrix) => imatrix.for_plan(&plan, padded_ffn(&config))?,
            None => (vec![None; plan.tensors.len()], 0),
        };
        let name = Name::new(family(tokenizer.chat), &config, plan.parameters());

        let mut outputs: Vec<Output> = Vec::new();
        for &file_type in &request.types {
            let path = output_path(request, &name, file_type)?;
            if outputs.iter().any(|other| other.path == path) {
                let message =
                    format!("{}: would be written twice: put {{type}} into --output", path.display());
                return Err(Error::Usage(message));
            }
            let recipe = Recipe::new(file_type, request.pad, &plan, &config, imatrix.is_some());
            let mut keys = metadata::build(&config, &rope, &tokenizer.vocabulary, &name, &recipe)?;
            keys.extend(imatrix.iter().flat_map(metadata::imatrix_keys));
            let layout = Layout::new(keys, shapes(&plan, &recipe))?;
            let modelfile = if request.modelfile { Some(modelfile_beside(&path, &tokenizer)?) } else { None };
            outputs.push(Output { path, recipe, layout, modelfile });
        }
        Ok(Job {
            config,
            checkpoint,
            plan,
            modelling,
            tokenizer,
            name,
            importance,
            without_importance,
            outputs,
            force: request.force,
        })
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
        writers.into_iter().try_for_each(Writer::finish)?;
        outputs.modelfiles.into_iter().try_for_each(Pending::publish)
    }

    /// What the pipeline works on.
    pub fn work(&self) -> pipeline::Work<'_> {
        pipeline::Work { plan: &self.plan, checkpoint: &self.checkpoint, importance: &self.importance }
    }

    /// What a user should know before trusting the result.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(position) = self.modelling.log_scaled_from {
            warnings.push(format!(
                "the checkpoint's modelling file scales queries by their position from {position} on, \
                 which the Llama layout cannot express: longer contexts will differ"
            ));
        }
        if self.without_importance > 0 {
            warnings
                .push(format!("{} matrices have no entry in the importance matrix", self.without_importance));
        }
        for output in &self.outputs {
            let fallen: Vec<_> =
                output.recipe.choices.iter().filter(|choice| choice.instead_of.is_some()).collect();
            if let Some(first) = fallen.first() {
                let instead = first.instead_of.map_or("", quant::Format::name);
                warnings.push(format!(
                    "{}: {} tensors take {} instead of {instead}, whose blocks do not fit their rows",
                    output.path.display(),
                    fallen.len(),
                    first.format,
                ));
            }
        }
        warnings
    }

    /// What no single field of the checkpoint tells, and what each choice rests on.
    pub fn decisions(&self) -> Vec<String> {
        let mut decisions: Vec<String> = self.tokenizer.evidence.iter().map(ToString::to_string).collect();
        let Modelling { rope_ratio, reason, .. } = &self.modelling;
        let effect = match rope_ratio {
            RopeRatio::Base => "multiplies the frequency base",
            RopeRatio::Positions => "divides the positions",
        };
        if self.config.rope_ratio != 1.0 {
            decisions.push(format!("rope: rope_ratio {} {effect}: {reason}", self.config.rope_ratio));
        }
        decisions
    }
}

fn modelfile_beside(gguf: &Path, tokenizer: &Tokenizer) -> Result<(PathBuf, String)> {
    let name = gguf.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::Usage(format!("{}: its name does not fit a Modelfile: give --no-modelfile", gguf.display()))
    })?;
    Ok((gguf.with_extension("Modelfile"), ollama::modelfile(name, tokenizer)?))
}

/// The family's own spelling of its name.
fn family(chat: ChatFormat) -> &'static str {
    match chat {
        ChatFormat::Roles => "ChatGLM3",
        ChatFormat::Rounds => "ChatGLM2",
        ChatFormat::Glm4 => "GLM-4",
        ChatFormat::Completion | ChatFormat::Own => "ChatGLM",
    }
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
        _ if output.as_os_str().is_empty() => {
            Err(Error::Usage("--output: found nothing, expected a file name".into()))
        }
        _ => Ok(Path::new(output).to_owned()),
    }
}
