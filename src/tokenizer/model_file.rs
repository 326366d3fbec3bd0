//! What the file with the vocabulary is: by its name, and by its beginning.

use super::files::Files;
use super::tiktoken;

/// A vocabulary's file, by its format.
pub(super) enum ModelFile {
    /// A SentencePiece model in protobuf: ChatGLM2 and 3.
    SentencePiece,
    /// tiktoken's lines: GLM-4.
    Tiktoken,
    /// `tokenizer.json` of the transformers format: GLM-4 converted for it, GLM-Edge.
    Json,
}

impl ModelFile {
    /// Both kinds of `tokenizer.model` have that name.
    pub(super) fn of(files: &Files) -> ModelFile {
        match files.model_file.extension() {
            Some(end) if end == "json" => ModelFile::Json,
            _ if tiktoken::recognise(&files.model) => ModelFile::Tiktoken,
            _ => ModelFile::SentencePiece,
        }
    }
}
