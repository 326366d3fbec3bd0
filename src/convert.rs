//! The whole conversion: everything is checked first, then the weights are read once.

mod measure;
mod outputs;
mod targets;

use std::path::{Path, PathBuf};

use crate::calibrate::{Sample, Store};
use crate::config::GlmConfig;
use crate::error::{Error, Result};
use crate::gguf::{Metadata, Split, Value};
use crate::imatrix::ImportanceMatrix;
use crate::input::read_capped;
use crate::metadata::Card;
use crate::model::Model;
use crate::naming::Name;
use crate::provenance;
use crate::receipt::Before;
use crate::recipe::{FileType, Mix, Recipe, padded_ffn};
use crate::remap::{Plan, Role};
use crate::request::Request;
use crate::tokenizer::{ChatFormat, Evidence, Tokenizer};
use crate::{metadata, ollama, pipeline};
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
    /// Blocks that were made before the file is filled.
    refined: Option<Store>,
    /// The importance weights of each tensor of the plan, padded.
    pub importance: Vec<Option<Vec<f32>>>,
    /// Matrices that the importance matrix says nothing of.
    pub without_importance: usize,
    /// The files to write.
    pub outputs: Vec<Output>,
    /// What the request and the model card have to be warned of.
    notes: Vec<String>,
    /// What was asked for.
    request: Request,
    /// The small files as they were before they were read.
    before: Before,
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
}

impl Job {
    /// Reads everything but the weights and plans every output.
    ///
    /// # Errors
    /// When anything in the folder does not fit, or the request contradicts itself.
    pub fn prepare(request: &Request) -> Result<Job> {
        if let Some(twice) = request.types.iter().enumerate().find(|(i, t)| request.types[..*i].contains(t)) {
            return Err(Error::Usage(format!("--type {}: given twice", twice.1)));
        }
        let before = Before::reading(request);
        let mut model = Model::open(&request.model)?;
        let mut card = Card::load(&request.model.folder);
        let mut given =
            request.given.metadata.as_deref().map_or(Ok(Metadata::new()), metadata::load_given)?;
        if let Some(name) = &request.given.model_name {
            metadata::set(&mut given, vec![("general.name".to_owned(), Value::String(name.clone()))]);
        }
        model.name.given = given.iter().find_map(|(key, value)| match value {
            Value::String(name) if key == "general.name" => Some(name.clone()),
            _ => None,
        });
        if model.name.given.as_deref().is_some_and(|name| name.trim().is_empty()) {
            return Err(Error::Usage(
                "general.name: found a blank name, expected one for the file too".to_owned(),
            ));
        }
        if let Some(file) = &request.given.chat_template {
            take_chat_template(&mut model.tokenizer, file)?;
        }
        let idle = request.overrides.idle(&model.plan.tensors);
        let mut notes: Vec<String> =
            idle.map(|pattern| format!("--tensor-type {pattern}: matches the name of no matrix")).collect();
        if request.vocab_only {
            model.plan.tensors.clear();
        }
        notes.extend(card.warning.take());
        let Model { config, plan, tokenizer, name, .. } = &model;
        let sample = measure::sample(request, tokenizer)?;
        let imatrix = request.imatrix.as_deref().map(ImportanceMatrix::load).transpose()?;
        let (importance, without_importance) = match &imatrix {
            Some(imatrix) => imatrix.for_plan(plan, padded_ffn(config))?,
            None => (vec![None; plan.tensors.len()], 0),
        };

        let origin = provenance::keys(&request.model.folder)?;
        let mut outputs: Vec<Output> = Vec::new();
        let vocabulary = [FileType::F16]; // what a file without weights says, as llama.cpp's does
        for &file_type in if request.vocab_only { &vocabulary } else { request.types.as_slice() } {
            let path = output_path(request, name, file_type)?;
            let mix = Mix {
                file_type,
                overrides: &request.overrides,
                importance: imatrix.is_some() || sample.is_some(),
            };
            let recipe = Recipe::new(mix, request.pad, plan, config);
            let mut keys = metadata::build(config, &model.rope, &tokenizer.vocabulary, name, &recipe)?;
            keys.extend(imatrix.iter().flat_map(metadata::imatrix_keys));
            keys.extend(sample.iter().flat_map(|sample| measure::keys(sample, plan, request.quality)));
            keys.extend(origin.iter().cloned());
            keys.push(provenance::options_key(request, file_type));
            metadata::set(&mut keys, card.keys.clone());
            metadata::set(&mut keys, given.clone());
            if outputs.is_empty() {
                notes.extend(metadata::typos(&keys, &request.given.override_kv));
            }
            request.given.override_kv.iter().try_for_each(|text| metadata::override_kv(&mut keys, text))?;
            // The keys may have been given another than the tokenizer's.
            let jinja = keys.iter().find_map(|(key, value)| match value {
                Value::String(text) if key == "tokenizer.chat_template" => Some(text.clone()),
                _ => None,
            });
            let split = Split::new(keys, shapes(plan, &recipe), request.split_max_bytes)?;
            let mut output = Output { path, recipe, split, modelfile: None };
            if request.modelfile && !request.vocab_only && output.split.files.len() == 1 {
                let (modelfile, warning) =
                    modelfile_beside(&output.path, jinja.as_deref(), tokenizer, config)?;
                output.modelfile = modelfile;
                notes.extend(warning.filter(|warning| !notes.contains(warning)));
            }
            outputs.push(output);
        }
        if request.modelfile && outputs.iter().any(|output| output.split.files.len() > 1) {
            notes.push("no Modelfile: Ollama imports no split GGUF".to_owned());
        }
        if request.receipt.is_some() {
            model.checkpoint.record_hashes();
        }
        let request = request.clone();
        let mut job = Job {
            sample,
            refined: None,
            importance,
            without_importance,
            outputs,
            notes,
            request,
            before,
            model,
        };
        job.check_targets()?;
        job.notes.extend(job.misleading_names());
        Ok(job)
    }

    /// What the pipeline works on.
    pub fn work(&self) -> pipeline::Work<'_> {
        pipeline::Work {
            ready: self.refined.as_ref().map(|store| store as &dyn pipeline::Ready),
            plan: &self.model.plan,
            checkpoint: &self.model.checkpoint,
            importance: &self.importance,
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

/// None beside what has no name: that is refused when it is to be created. With what is to be warned of.
fn modelfile_beside(
    gguf: &Path,
    jinja: Option<&str>,
    tokenizer: &Tokenizer,
    config: &GlmConfig,
) -> Result<Beside> {
    let Some(name) = gguf.file_name() else { return Ok((None, None)) };
    let name = name.to_str().ok_or_else(|| {
        Error::Usage(format!("{}: its name does not fit a Modelfile: give --no-modelfile", gguf.display()))
    })?;
    let modelfile = ollama::modelfile(name, jinja, tokenizer, config)?;
    Ok((Some((gguf.with_extension("Modelfile"), modelfile.text)), modelfile.warning))
}

/// A Modelfile with its path, and a warning.
type Beside = (Option<(PathBuf, String)>, Option<String>);

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
    let type_name = if request.vocab_only { "vocab".to_owned() } else { file_type.to_string() };
    let Some(output) = &request.output else { return Ok(PathBuf::from(name.file_name(&type_name))) };
    match output.to_str() {
        Some(text) => Ok(PathBuf::from(text.replace("{type}", &type_name))),
        None if output.to_string_lossy().contains("{type}") => {
            Err(Error::mismatch(output, "", "{type} in a name that is not UTF-8", "UTF-8 around it"))
        }
        None => Ok(output.clone()),
    }
}

/// Templates have a few kilobytes.
const LARGEST_TEMPLATE: u64 = 1 << 20;

/// Takes the template of a file, or that of a format which the user names.
fn take_chat_template(tokenizer: &mut Tokenizer, file: &Path) -> Result<()> {
    let named = ChatFormat::NAMES.into_iter().find(|(name, _)| file.as_os_str() == *name && !file.exists());
    let (format, text) = match named {
        Some((_, format)) => (format, format.template().unwrap_or_default().to_owned()),
        None => (ChatFormat::Own, template_text(file)?),
    };
    tokenizer.vocabulary.chat_template = Some(text);
    tokenizer.chat = format;
    tokenizer.other_template = false;
    let source = file.display().to_string();
    tokenizer.evidence.retain(|evidence| evidence.subject != "chat template");
    tokenizer.evidence.push(Evidence {
        subject: "chat template",
        choice: "the given one".to_owned(),
        source,
    });
    Ok(())
}

fn template_text(file: &Path) -> Result<String> {
    let bytes = read_capped(file, LARGEST_TEMPLATE)?.ok_or_else(|| {
        let names = ChatFormat::NAMES.map(|(name, _)| name).join(", ");
        Error::mismatch(file, "", "no such file", format!("a chat template, or one of {names}"))
    })?;
    String::from_utf8(bytes).map_err(|_| Error::input(file, "", "is not UTF-8 text"))
}
