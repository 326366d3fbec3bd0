//! The model card of a conversion.

use super::{Job, Outputs};
use crate::error::{Error, Result};
use crate::model_card::{Listed, ModelCard};
use crate::ollama;

impl Job {
    /// Says so where the card has no licence.
    pub(super) fn note_licence(&mut self) {
        let about = self.outputs.first().and_then(|output| output.about.as_ref());
        if about.is_some_and(|about| about.licence.is_unknown()) {
            self.notes.push(
                "--card: the checkpoint's folder names no licence, so the card has none: add it before you upload"
                    .to_owned(),
            );
        }
    }

    /// Writes the model card that was asked for, when the files are filled. `qualities`: for each output what was found
    /// of its predictions, or nothing of any; `verified`: every weight was compared.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_card(&self, outputs: &mut Outputs, qualities: &[String], verified: bool) -> Result<()> {
        let Outputs { blank_card, hashes, .. } = outputs;
        let Some(mut card) = blank_card.take() else { return Ok(()) };
        let no_output = || Error::Internal("a model card of no file".to_owned());
        let first = self.outputs.first().ok_or_else(no_output)?;
        let about = first.about.as_ref().ok_or_else(no_output)?;
        let mut files = Vec::new();
        for (i, output) in self.outputs.iter().enumerate() {
            for path in output.paths() {
                let (_, bytes, sha256) =
                    hashes.iter().find(|(file, ..)| *file == path).ok_or_else(no_output)?;
                files.push(Listed {
                    name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    file_type: output.recipe.file_type.to_string(),
                    bytes: *bytes,
                    bits_per_weight: output.bits_per_weight(&self.model),
                    sha256: sha256.clone(),
                    quality: qualities.get(i).cloned(),
                });
            }
        }
        let model_card = ModelCard {
            name: self.model.name.full(),
            about,
            base: self.request.model.published.as_ref(),
            merged: !self.request.model.lora.is_empty(),
            verified,
            context: self.model.config.seq_length,
            first: files.first().map(|file| file.name.clone()).ok_or_else(no_output)?,
            files,
            modelfile: first.modelfile.as_ref().map(|(path, _)| path.clone()),
            ollama_name: ollama::suggested_for(&first.path),
        };
        card.write_all(model_card.text().as_bytes())?;
        outputs.card = Some(card);
        Ok(())
    }
}
