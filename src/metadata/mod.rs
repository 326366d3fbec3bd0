//! Config, vocabulary and recipe -> the keys of the GGUF, and what the model card and the user say of it.

mod card;
mod file;
mod front_matter;
mod known_keys;
mod model_id;
mod overrides;

use std::collections::HashMap;

use crate::config::GlmConfig;
use crate::error::{Error, Result};
use crate::gguf::{ALIGNMENT, Metadata, Value};
use crate::imatrix::ImportanceMatrix;
use crate::model::Model;
use crate::model_name::ModelName;
use crate::recipe::Recipe;
use crate::remap::Rope;
use crate::tokenizer::{Vocabulary, VocabularyKind};
pub use card::Card;
pub use file::load as load_file;
pub use overrides::Override;

/// The version of the block formats, `general.quantization_version`.
const QUANTIZATION_VERSION: u32 = 2;

/// What the keys of one output are made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The model, with what the user decides about it.
    pub model: &'a Model,
    /// The formats.
    pub recipe: &'a Recipe,
    /// The importance matrix that they use.
    pub imatrix: Option<&'a ImportanceMatrix>,
    /// Where the file comes from.
    pub origin: &'a Metadata,
    /// What the model card says.
    pub card: &'a Metadata,
    /// What the user says.
    pub given: &'a Metadata,
    /// What the user says last.
    pub overrides: &'a [Override],
}

/// All keys, and a warning of each override whose key looks like a typo.
///
/// Where several parts have a key, the last of these counts: what a runtime asks for, the importance matrix, the origin,
/// the card, the user's words, the user's overrides.
///
/// # Errors
/// When an override does not fit the key's type.
pub fn assemble(parts: Parts) -> Result<(Metadata, Vec<String>)> {
    let mut keys = asked_for(parts.model, parts.recipe)?;
    let imatrix = parts.imatrix.map(imatrix_keys).unwrap_or_default();
    for part in [&imatrix, parts.origin, parts.card, parts.given] {
        set(&mut keys, part.clone());
    }
    let typos = known_keys::typos(&keys, parts.overrides);
    parts.overrides.iter().try_for_each(|given| given.apply(&mut keys))?;
    Ok((keys, typos))
}

/// Everything a runtime asks for.
fn asked_for(model: &Model, recipe: &Recipe) -> Result<Metadata> {
    let mut keys = Keys { config: &model.config, keys: Vec::new() };
    keys.general(&model.name, recipe);
    keys.model(&model.rope, recipe)?;
    keys.tokenizer(&model.tokenizer.vocabulary);
    Ok(keys.keys)
}

/// What `llama-quantize` writes of the importance matrix; of the file its name only, so that the bytes do not depend on
/// where it lies.
fn imatrix_keys(imatrix: &ImportanceMatrix) -> Metadata {
    let key = |name: &str| format!("quantize.imatrix.{name}");
    let file = imatrix.file.file_name().unwrap_or_default().to_string_lossy();
    let mut keys = vec![
        (key("file"), Value::String(file.into_owned())),
        (key("entries_count"), Value::U32(imatrix.entries.len() as u32)), // bounded by the file's size
    ];
    keys.extend(imatrix.dataset.clone().map(|dataset| (key("dataset"), Value::String(dataset))));
    if imatrix.chunks > 0 {
        keys.push((key("chunks_count"), Value::U32(imatrix.chunks)));
    }
    keys
}

/// The same of an importance matrix that was measured on the way: the text's name stands for the file's.
pub fn measured_keys(text: &str, entries: usize, chunks: usize) -> Metadata {
    let key = |name: &str, value: Value| (format!("quantize.imatrix.{name}"), value);
    let number = |count: usize| Value::U32(u32::try_from(count).unwrap_or(u32::MAX));
    vec![
        key("file", Value::String("measured by glm2llama".to_owned())),
        key("entries_count", number(entries)),
        key("dataset", Value::String(text.to_owned())),
        key("chunks_count", number(chunks)),
    ]
}

/// Puts keys in the place of those that `keys` has, or beside them.
pub fn set(keys: &mut Metadata, more: Metadata) {
    let mut places: HashMap<String, usize> = keys.iter().map(|(key, _)| key.clone()).zip(0..).collect();
    for (key, value) in more {
        match places.get(&key).and_then(|&place| keys.get_mut(place)) {
            Some((_, old)) => *old = value,
            None => {
                places.insert(key.clone(), keys.len());
                keys.push((key, value));
            }
        }
    }
}

struct Keys<'a> {
    config: &'a GlmConfig,
    keys: Metadata,
}

impl Keys<'_> {
    fn general(&mut self, name: &ModelName, recipe: &Recipe) {
        self.text("general.architecture", "llama");
        self.text("general.type", "model");
        self.text("general.name", &name.full());
        self.text("general.basename", &name.basename);
        self.text("general.size_label", &name.size_label);
        if let Some(finetune) = &name.finetune {
            self.text("general.finetune", finetune);
        }
        self.add("general.file_type", Value::U32(recipe.file_type.number()));
        self.add("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
        self.add("general.alignment", Value::U32(ALIGNMENT as u32));
    }

    fn model(&mut self, rope: &Rope, recipe: &Recipe) -> Result<()> {
        let c = self.config;
        self.size("llama.vocab_size", c.padded_vocab_size)?;
        self.size("llama.context_length", c.seq_length)?;
        self.size("llama.embedding_length", c.hidden_size)?;
        self.size("llama.block_count", c.num_layers)?;
        self.size("llama.feed_forward_length", recipe.ffn)?;
        self.size("llama.attention.head_count", c.num_attention_heads)?;
        self.size("llama.attention.head_count_kv", c.num_kv_heads)?;
        self.size("llama.attention.key_length", c.head_dim)?;
        self.size("llama.attention.value_length", c.head_dim)?;
        self.size("llama.rope.dimension_count", c.head_dim)?;
        self.add("llama.rope.freq_base", Value::F32(rope.freq_base));
        self.add("llama.attention.layer_norm_rms_epsilon", Value::F32(c.layernorm_epsilon));
        Ok(())
    }

    fn tokenizer(&mut self, v: &Vocabulary) {
        // Of two names for one pattern of words, llama.cpp looks a whole word up before joining its parts with the first
        // only.
        let (model, pre) = match v.kind {
            VocabularyKind::SentencePiece => ("llama", "default"),
            VocabularyKind::Bpe { whole_words: true } => ("gpt2", "llama-bpe"),
            VocabularyKind::Bpe { whole_words: false } => ("gpt2", "chatglm-bpe"),
        };
        self.text("tokenizer.ggml.model", model);
        self.text("tokenizer.ggml.pre", pre);
        self.add("tokenizer.ggml.tokens", Value::Strings(v.tokens.clone()));
        if !v.scores.is_empty() {
            self.add("tokenizer.ggml.scores", Value::F32s(v.scores.clone()));
        }
        self.add("tokenizer.ggml.token_type", Value::I32s(v.types.iter().map(|&kind| kind as i32).collect()));
        if !v.merges.is_empty() {
            self.add("tokenizer.ggml.merges", Value::Strings(v.merges.clone()));
        }
        let ids = [
            ("bos", v.bos),
            ("eos", v.eos),
            ("unknown", v.unk),
            ("padding", v.pad),
            ("eot", v.eot),
            ("eom", v.eom),
        ];
        for (name, id) in ids {
            if let Some(id) = id {
                self.add(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
            }
        }
        // The chat template writes the prefix itself.
        self.add("tokenizer.ggml.add_bos_token", Value::Bool(false));
        self.add("tokenizer.ggml.add_eos_token", Value::Bool(false));
        self.add("tokenizer.ggml.add_space_prefix", Value::Bool(v.add_space_prefix));
        if let Some(template) = &v.chat_template {
            self.text("tokenizer.chat_template", template);
        }
    }

    fn add(&mut self, key: &str, value: Value) {
        self.keys.push((key.to_owned(), value));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.add(key, Value::String(value.to_owned()));
    }

    fn size(&mut self, key: &str, value: usize) -> Result<()> {
        // The config's sizes have bounds of their own.
        let value =
            u32::try_from(value).map_err(|_| Error::Internal(format!("{key}: {value} does not fit GGUF")))?;
        self.add(key, Value::U32(value));
        Ok(())
    }
}
