//! Everything that is read and decided before the first weight.

use std::path::{Path, PathBuf};

use quant::Format;

use super::{FormatChoice, Job, Output, choice, measure};
use crate::calibrate::{MomentLayout, Sample};
use crate::config::GlmConfig;
use crate::error::{Error, Result};
use crate::gguf::{Metadata, Split, text};
use crate::imatrix::ImportanceMatrix;
use crate::importance::Importance;
use crate::input::{self, GuestBook};
use crate::metadata::{self, Card, Parts};
use crate::model::Model;
use crate::model_card::About;
use crate::model_name::ModelName;
use crate::ollama;
use crate::provenance;
use crate::recipe::{FileType, Mix, Recipe, budgeted_ffn, padded_ffn};
use crate::request::Request;
use crate::tokenizer::{ChatFormat, Tokenizer};

impl Job {
    /// Reads everything but the weights and plans every output.
    ///
    /// # Errors
    /// When anything in the folder does not fit, or the request contradicts itself.
    pub fn prepare(request: &Request) -> Result<Job> {
        let mut notes = Vec::new();
        let folder = &request.model.folder;
        let (opened, mut guests) = input::noted(|| Ok((Model::open(&request.model)?, Card::load(folder))));
        let (mut model, card) = opened?;
        let (options, given) = input::noted(|| Options::read(request, card, &mut model, &mut notes));
        let options = options?;
        let (outputs, more) = input::noted(|| options.outputs(&model, &guests, &mut notes));
        guests.extend(more);
        options.into_job(model, outputs?, notes, guests, given)?.checked(request.memory)
    }

    /// Refuses what only the whole shows, and notes what a user has to be warned of.
    fn checked(mut self, memory: Option<u64>) -> Result<Job> {
        self.refuse_little_memory(memory)?;
        self.check_targets()?;
        self.note_licence();
        self.note_split();
        self.note_parts();
        self.notes.extend(self.misleading_names());
        Ok(self)
    }
}

/// The outputs and, where formats are to be chosen, the choice for the only one.
type Outputs = (Vec<Output>, Option<FormatChoice>);

/// A request, and the files that its options name.
struct Options {
    /// Without a bound on memory where that changes nothing: it is in no file.
    request: Request,
    card: Card,
    /// The user's own words for the metadata.
    given: Metadata,
    imatrix: Option<ImportanceMatrix>,
    /// What the model is to be measured on first.
    sample: Option<Sample>,
    layout: MomentLayout,
}

impl Options {
    /// Reads the files, and puts what the user decides into the model.
    fn read(request: &Request, card: Card, model: &mut Model, notes: &mut Vec<String>) -> Result<Options> {
        if let Some(twice) = request.types.iter().enumerate().find(|(i, t)| request.types[..*i].contains(t)) {
            return Err(Error::Usage(format!("--type {}: given twice", twice.1)));
        }
        measure::refuse_contradictions(request)?;
        let file = request.given.metadata.as_deref();
        let mut given = file.map_or(Ok(Metadata::new()), metadata::load_file)?;
        model.name.given = model_name(request, &mut given)?;
        let imatrix = request.imatrix.as_deref().map(ImportanceMatrix::load).transpose()?;
        apply(request, model, notes)?;
        notes.extend(card.warning.clone());
        let sample = measure::sample(request, model)?;
        notes.extend(sample.as_ref().and_then(Sample::doubt));
        let layout = measure::layout(request, model, sample.as_ref())?;
        let memory = request.memory.filter(|_| !layout.is_default());
        let request = Request { memory, ..request.clone() };
        Ok(Options { request, card, given, imatrix, sample, layout })
    }

    /// The importance of each tensor of the plan, and how many matrices have none.
    fn importance(&self, model: &Model) -> Result<(Vec<Option<Importance>>, usize)> {
        match &self.imatrix {
            Some(imatrix) => imatrix.for_plan(&model.plan, padded_ffn(&model.config)),
            None => Ok((vec![None; model.plan.tensors.len()], 0)),
        }
    }

    fn outputs(&self, model: &Model, guests: &GuestBook, notes: &mut Vec<String>) -> Result<Outputs> {
        let request = &self.request;
        let origin = provenance::keys(&request.model, guests)?;
        if let Some(budget) = request.target {
            let name = budget.to_string();
            let mut ffn = budgeted_ffn(request.pad, &model.config);
            if let Some(whole) =
                Recipe::whole_without_padding(request.pad, &request.overrides, &model.plan, &model.config)
            {
                let width = whole.ffn;
                // Only its bytes are asked for; the output that is made has the same to be warned of.
                let (output, _) = self.output(&name, whole, model, &origin, &mut Vec::new())?;
                if output.split.total_bytes() <= budget.bytes(model.plan.parameters()) {
                    ffn = width;
                }
            }
            let (choice, recipe) = FormatChoice::begin(request, model, budget, ffn);
            let (output, keys) = self.output(&name, recipe, model, &origin, notes)?;
            let choice = choice.with_keys(keys, &output.split)?;
            return Ok((vec![output], Some(choice)));
        }
        let types = match request.vocab_only {
            true => &[FileType::F16], // what a file without weights says, as llama.cpp's does
            false => request.types.as_slice(),
        };
        let output = |&file_type: &FileType| {
            let mix = Mix {
                file_type,
                overrides: &request.overrides,
                importance: self.imatrix.is_some() || self.sample.is_some(),
            };
            let recipe = Recipe::new(mix, request.pad, &model.plan, &model.config);
            let name = if request.vocab_only { "vocab".to_owned() } else { file_type.to_string() };
            Ok(self.output(&name, recipe, model, &origin, notes)?.0)
        };
        let outputs = types.iter().map(output).collect::<Result<Vec<Output>>>()?;
        Ok((outputs, None))
    }

    fn into_job(
        self,
        model: Model,
        (outputs, choice): Outputs,
        mut notes: Vec<String>,
        guests: GuestBook,
        given: GuestBook,
    ) -> Result<Job> {
        let trials = choice.iter().flat_map(|choice| &choice.trials).flat_map(|trial| &trial.formats);
        let formats = outputs.iter().flat_map(|output| &output.recipe.choices).map(|choice| &choice.format);
        let formats: Vec<Format> = formats.chain(trials).copied().collect();
        notes.extend(measure::without_effect(&self.request, &formats)?);
        let (importance, without_importance) = self.importance(&model)?;
        let Options { request, sample, layout, .. } = self;
        let refined = None;
        Ok(Job {
            model,
            sample,
            layout,
            choice,
            refined,
            importance,
            without_importance,
            outputs,
            notes,
            request,
            guests,
            given,
        })
    }

    /// One output with its keys; `type_name` is what stands for `{type}` in its name.
    fn output(
        &self,
        type_name: &str,
        recipe: Recipe,
        model: &Model,
        origin: &Metadata,
        notes: &mut Vec<String>,
    ) -> Result<(Output, Metadata)> {
        let Options { request, card, given, imatrix, sample, .. } = self;
        let Model { config, plan, tokenizer, name, .. } = model;
        let path = output_path(request, name, type_name)?;
        let mut origin = origin.clone();
        origin.push(provenance::options_key(request, recipe.file_type));
        origin.extend(sample.iter().flat_map(|sample| measure::keys(sample, plan, request.quality)));
        origin.extend(choice::keys(request, plan));
        let (keys, warnings) = metadata::assemble(Parts {
            model,
            recipe: &recipe,
            imatrix: imatrix.as_ref(),
            origin: &origin,
            card: &card.keys,
            given,
            overrides: &request.given.overrides,
        })?;
        // The keys may have been given another than the tokenizer's.
        let jinja = text(&keys, "tokenizer.chat_template").map(str::to_owned);
        let split = Split::new(keys.clone(), recipe.shapes(plan), request.split_max_bytes)?;
        let beside = match request.modelfile && !request.vocab_only && split.files.len() == 1 {
            true => modelfile_beside(&path, jinja.as_deref(), tokenizer, config)?,
            false => (None, None),
        };
        for warning in warnings.into_iter().chain(beside.1) {
            if !notes.contains(&warning) {
                notes.push(warning); // once for all outputs
            }
        }
        let about = request.card.as_ref().map(|_| about(&keys, request, tokenizer)).transpose()?;
        Ok((Output { path, recipe, split, modelfile: beside.0, about }, keys))
    }
}

/// What the user calls the model: the option, or else the metadata, from which it is taken, for a model's name decides
/// its file's name too.
fn model_name(request: &Request, given: &mut Metadata) -> Result<Option<String>> {
    let name = request.given.model_name.clone().or_else(|| text(given, "general.name").map(str::to_owned));
    if name.as_deref().is_some_and(|name| name.trim().is_empty()) {
        return Err(Error::Usage(
            "general.name: found a blank name, expected one for the file too".to_owned(),
        ));
    }
    if name.is_some() {
        given.retain(|(key, _)| key != "general.name");
    }
    Ok(name)
}

/// Puts what the user decides into the model.
fn apply(request: &Request, model: &mut Model, notes: &mut Vec<String>) -> Result<()> {
    if let Some(file) = &request.given.chat_template {
        take_chat_template(&mut model.tokenizer, file)?;
    }
    let unmatched = request.overrides.unmatched(&model.plan.tensors);
    notes.extend(unmatched.map(|pattern| format!("--tensor-type {pattern}: matches the name of no matrix")));
    if request.vocab_only {
        model.plan.tensors.clear();
    }
    if request.receipt.is_some() && !model.checkpoint.is_remote() {
        model.checkpoint.record_hashes();
    }
    Ok(())
}

/// What a card says of a model with these keys.
fn about(keys: &Metadata, request: &Request, tokenizer: &Tokenizer) -> Result<About> {
    let vocabulary = &tokenizer.vocabulary;
    let name = |id: Option<u32>| id.and_then(|id| vocabulary.text(id)).unwrap_or_default().into_owned();
    About::new(keys, &request.model.folder, name(vocabulary.bos), name(vocabulary.eos))
}

/// The Modelfile beside a GGUF, and what it has to be warned of. A GGUF without a name, which is refused when it is
/// created, has none.
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

fn output_path(request: &Request, name: &ModelName, type_name: &str) -> Result<PathBuf> {
    let Some(output) = &request.output else { return Ok(PathBuf::from(name.file_name(type_name))) };
    match output.to_str() {
        Some(text) => Ok(PathBuf::from(text.replace("{type}", type_name))),
        None if output.to_string_lossy().contains("{type}") => {
            Err(Error::file_mismatch(output, "{type} in a name that is not UTF-8", "UTF-8 around it"))
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
        Some((_, format)) => {
            (format, format.template().expect("a format with a name has a template").to_owned())
        }
        None => (ChatFormat::Own, template_text(file)?),
    };
    tokenizer.take_template(format, text, &file.display().to_string());
    Ok(())
}

fn template_text(file: &Path) -> Result<String> {
    if !input::is_there(file) {
        let names = ChatFormat::NAMES.map(|(name, _)| name).join(", ");
        return Err(Error::file_mismatch(
            file,
            "no such file",
            format!("a chat template, or one of {names}"),
        ));
    }
    input::text(file, LARGEST_TEMPLATE)
}
