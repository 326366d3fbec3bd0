//! The whole conversion: everything is checked first, then the weights are read once.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::gguf::{Metadata, Split, SplitWriter, Value};
use crate::hash::sha256;
use crate::imatrix::ImportanceMatrix;
use crate::input::read_capped;
use crate::metadata::Card;
use crate::model::Model;
use crate::naming::Name;
use crate::output::Pending;
use crate::provenance;
use crate::receipt::{Before, Receipt};
use crate::recipe::{FileType, Mix, Recipe, padded_ffn};
use crate::remap::{Plan, Role};
use crate::request::Request;
use crate::tokenizer::{ChatFormat, Evidence, Tokenizer};
use crate::{metadata, ollama, pipeline};

/// A conversion that has passed every check that needs no weights.
///
/// ```
/// use glm2llama::convert::Job;
/// use glm2llama::gguf::GgufFile;
/// use glm2llama::model;
/// use glm2llama::pipeline::{DEFAULT_MEMORY_BYTES, Options, Watch};
/// use glm2llama::request::Request;
///
/// struct Nobody;
/// impl Watch for Nobody {
///     fn advanced(&self, _tensor: usize, _bytes: u64) {}
///     fn stopped(&self) -> bool {
///         false
///     }
/// }
///
/// let folder = tempfile::tempdir().unwrap();
/// let output = folder.path().join("tiny.gguf");
/// let job = Job::prepare(&Request {
///     model: model::Request { folder: "testdata/models/tiny-chatglm3".into(), ..Default::default() },
///     types: vec!["Q4_K_M".parse()?],
///     output: Some(output.clone()),
///     ..Default::default()
/// })?;
/// let options = Options {
///     threads: 1.try_into().unwrap(),
///     memory_bytes: DEFAULT_MEMORY_BYTES,
///     backend: quant::Backend::detect(),
/// };
/// job.fill(job.create_outputs()?, options, &Nobody)?.publish()?;
///
/// let file = GgufFile::open(&output)?;
/// assert_eq!(file.total_bytes, job.outputs[0].split.total_bytes());
/// assert!(file.metadata.contains_key("glm2llama.version"));
/// # Ok::<(), glm2llama::error::Error>(())
/// ```
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
    /// What the request and the model card have to be warned of.
    notes: Vec<String>,
    /// Where the receipt goes, with what it says so far.
    receipt: Option<(PathBuf, Receipt)>,
    /// The small files as they were before they were read.
    before: Before,
    force: bool,
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

/// The files of a job, created and empty. Dropping them deletes them.
#[derive(Debug)]
pub struct Outputs {
    writers: Vec<SplitWriter>,
    modelfiles: Vec<Pending>,
    receipt: Option<Pending>,
}

impl Job {
    /// Reads everything but the weights and plans every output.
    ///
    /// # Errors
    /// When anything in the folder does not fit, or the request contradicts itself.
    pub fn prepare(request: &Request) -> Result<Job> {
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
        if let Some(file) = &request.given.chat_template {
            take_chat_template(&mut model.tokenizer, file)?;
        }
        if request.vocab_only {
            model.plan.tensors.clear();
        }
        let idle = request.overrides.idle(&model.plan.tensors);
        let mut notes: Vec<String> =
            idle.map(|pattern| format!("--tensor-type {pattern}: matches the name of no matrix")).collect();
        notes.extend(card.warning.take());
        let Model { config, plan, tokenizer, name, .. } = &model;
        let imatrix = request.imatrix.as_deref().map(ImportanceMatrix::load).transpose()?;
        let (importance, without_importance) = match &imatrix {
            Some(imatrix) => imatrix.for_plan(plan, padded_ffn(config))?,
            None => (vec![None; plan.tensors.len()], 0),
        };

        let origin = provenance::keys(&request.model.folder)?;
        let mut outputs: Vec<Output> = Vec::new();
        let vocabulary = [FileType::F16]; // what a file without weights says, as llama.cpp's does
        for &file_type in if request.vocab_only { &vocabulary } else { request.types.as_slice() } {
            let path = output_path(request, name, file_type);
            if outputs.iter().any(|other| other.path == path) {
                let message =
                    format!("{}: would be written twice: put {{type}} into --output", path.display());
                return Err(Error::Usage(message));
            }
            let mix = Mix { file_type, overrides: &request.overrides, importance: imatrix.is_some() };
            let recipe = Recipe::new(mix, request.pad, plan, config);
            let mut keys = metadata::build(config, &model.rope, &tokenizer.vocabulary, name, &recipe)?;
            keys.extend(imatrix.iter().flat_map(metadata::imatrix_keys));
            keys.extend(origin.iter().cloned());
            keys.push(provenance::options_key(request, file_type));
            metadata::set(&mut keys, card.keys.clone());
            metadata::set(&mut keys, given.clone());
            request.given.override_kv.iter().try_for_each(|text| metadata::override_kv(&mut keys, text))?;
            let split = Split::new(keys, shapes(plan, &recipe), request.split_max_bytes)?;
            let mut output = Output { path, recipe, split, modelfile: None };
            if request.modelfile && !request.vocab_only {
                output.modelfile = Some(modelfile_beside(&output, tokenizer)?);
            }
            outputs.push(output);
        }
        let receipt = match &request.receipt {
            Some(file) => {
                model.checkpoint.record_hashes();
                Some((file.clone(), Receipt::begin(request, &model.checkpoint, model.lora.files())?))
            }
            None => None,
        };
        let force = request.force;
        Ok(Job { importance, without_importance, outputs, notes, receipt, before, force, model })
    }

    /// Creates every output, with its disk space reserved, under a temporary name.
    ///
    /// # Errors
    /// When an output exists, cannot be written, or does not fit its disk.
    pub fn create_outputs(&self) -> Result<Outputs> {
        let mut created = Outputs { writers: Vec::new(), modelfiles: Vec::new(), receipt: None };
        if let Some((path, _)) = &self.receipt {
            created.receipt = Some(Pending::create(path, self.force)?);
        }
        for output in &self.outputs {
            let mut writer = SplitWriter::create(&output.path, &output.split, self.force)?;
            if self.receipt.is_some() {
                writer.record_hashes();
            }
            created.writers.push(writer);
            if let Some((path, text)) = &output.modelfile {
                let mut modelfile = Pending::create(path, self.force)?;
                modelfile.write_all(text.as_bytes())?;
                created.modelfiles.push(modelfile);
            }
        }
        Ok(created)
    }

    /// Fills the outputs, which keep their temporary names; nothing is left of any when one fails.
    ///
    /// # Errors
    /// When an output cannot be written, a weight is damaged, or the user stops the run.
    pub fn fill(
        &self,
        outputs: Outputs,
        options: pipeline::Options,
        watch: &dyn pipeline::Watch,
    ) -> Result<Outputs> {
        let Outputs { writers, modelfiles, mut receipt } = outputs;
        let writers = pipeline::run(&self.work(), writers, options, watch)?;
        if let (Some(file), Some((_, begun))) = (&mut receipt, &self.receipt) {
            file.write_all(self.finish_receipt(begun.clone(), &writers)?.to_json().as_bytes())?;
        }
        self.model.checkpoint.refuse_changed()?;
        self.before.refuse_changed()?;
        Ok(Outputs { writers, modelfiles, receipt })
    }

    fn finish_receipt(&self, mut receipt: Receipt, writers: &[SplitWriter]) -> Result<Receipt> {
        receipt.add_shards(&self.model.checkpoint)?;
        for (file, bytes, hash) in writers.iter().flat_map(SplitWriter::hashes) {
            receipt.add_output(file, bytes, hash);
        }
        for (file, text) in self.outputs.iter().filter_map(|output| output.modelfile.as_ref()) {
            receipt.add_output(file, text.len() as u64, Some(sha256(text.as_bytes())));
        }
        Ok(receipt)
    }

    /// What the pipeline works on.
    pub fn work(&self) -> pipeline::Work<'_> {
        pipeline::Work {
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

impl Outputs {
    /// For each output, the names that its files will have, and where they are until then.
    pub fn files(&self) -> impl Iterator<Item = Vec<(&Path, &Path)>> {
        self.writers.iter().map(SplitWriter::files)
    }

    /// Gives the files their names.
    ///
    /// # Errors
    /// When a file is not full, or the system cannot sync or rename.
    pub fn publish(self) -> Result<()> {
        self.writers.into_iter().try_for_each(SplitWriter::finish)?;
        self.modelfiles.into_iter().chain(self.receipt).try_for_each(Pending::publish)
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

fn modelfile_beside(output: &Output, tokenizer: &Tokenizer) -> Result<(PathBuf, String)> {
    let paths = output.paths();
    let gguf = paths.first().unwrap_or(&output.path);
    let name = gguf.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::Usage(format!("{}: its name does not fit a Modelfile: give --no-modelfile", gguf.display()))
    })?;
    Ok((output.path.with_extension("Modelfile"), ollama::modelfile(name, tokenizer)?))
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

fn output_path(request: &Request, name: &Name, file_type: FileType) -> PathBuf {
    let type_name = if request.vocab_only { "vocab".to_owned() } else { file_type.to_string() };
    let Some(output) = &request.output else { return PathBuf::from(name.file_name(&type_name)) };
    match output.to_str() {
        Some(text) if text.contains("{type}") => PathBuf::from(text.replace("{type}", &type_name)),
        _ => Path::new(output).to_owned(),
    }
}

/// Templates have a few kilobytes.
const LARGEST_TEMPLATE: u64 = 1 << 20;

fn take_chat_template(tokenizer: &mut Tokenizer, file: &Path) -> Result<()> {
    let bytes = read_capped(file, LARGEST_TEMPLATE)?.ok_or_else(|| Error::input(file, "", "no such file"))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::input(file, "", "is not UTF-8 text"))?;
    tokenizer.vocabulary.chat_template = Some(text);
    tokenizer.chat = ChatFormat::Own;
    let source = file.display().to_string();
    tokenizer.evidence.retain(|evidence| evidence.subject != "chat template");
    tokenizer.evidence.push(Evidence {
        subject: "chat template",
        choice: "the given one".to_owned(),
        source,
    });
    Ok(())
}
