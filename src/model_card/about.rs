//! What the checkpoint says of itself and the GGUF's keys have: licence, languages, chat template.

use std::path::Path;

use super::licence::Licence;
use crate::error::Result;
use crate::gguf::{Metadata, Value, text};

/// What a card says of the model, whatever its files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    pub licence: Licence,
    pub languages: Vec<String>,
    pub template: Option<String>,
    /// The texts of the tokens that begin and end a text, which templates ask for.
    pub bos: String,
    pub eos: String,
}

impl About {
    /// Takes it from a GGUF's keys, which have the checkpoint's own card and the user's words, and the licence, where
    /// they have none, from the file that the folder has of it.
    ///
    /// # Errors
    /// When that file cannot be read.
    pub(crate) fn new(keys: &Metadata, folder: &Path, bos: String, eos: String) -> Result<About> {
        let languages = keys.iter().find_map(|(key, value)| match value {
            Value::Strings(all) if key == "general.languages" => Some(all.clone()),
            _ => None,
        });
        let template = text(keys, "tokenizer.chat_template").map(str::to_owned);
        let licence = Licence::new(&|key| text(keys, key).map(str::to_owned), folder)?;
        Ok(About { licence, languages: languages.unwrap_or_default(), template, bos, eos })
    }
}
