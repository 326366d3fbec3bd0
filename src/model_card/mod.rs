//! The model card to upload beside GGUF files: `README.md` as the hubs expect it.
//!
//! It says what is known and nothing else: the licence is the checkpoint's own or is left out, and the base model is
//! named only where the checkpoint was found by its name.

mod about;
mod licence;
mod prompt;

use std::fmt::Write;
use std::path::PathBuf;

use crate::checkpoint::Published;
use crate::provenance::VERSION;
use crate::system::quoted;
use crate::units::{gigabytes, grouped};
pub(crate) use about::About;

/// A file that the card lists.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name, without its folder.
    pub name: String,
    /// The name of its type.
    pub file_type: String,
    /// Its length.
    pub bytes: u64,
    /// Bits of all the output's files for each weight of the model.
    pub bits_per_weight: f64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// How near its predictions are to the checkpoint's, if that was measured.
    pub quality: Option<String>,
}

/// Everything that a card says.
#[derive(Debug)]
pub(crate) struct ModelCard<'a> {
    pub name: String,
    pub about: &'a About,
    pub base: Option<&'a Published>,
    /// Adapters are merged into it.
    pub merged: bool,
    /// Every weight was compared with the checkpoint's.
    pub verified: bool,
    /// Tokens that the model reads.
    pub context: usize,
    pub files: Vec<Listed>,
    /// The files to load with llama.cpp and Ollama.
    pub first: String,
    pub modelfile: Option<PathBuf>,
    /// What Ollama may call it.
    pub ollama_name: String,
}

impl ModelCard<'_> {
    pub(crate) fn text(&self) -> String {
        let mut text = self.front_matter();
        let ModelCard { name, context, .. } = self;
        let of = match self.base {
            Some(base) if self.merged => format!("{}, with adapters merged into it,", base.link()),
            Some(base) => base.link(),
            None => name.clone(),
        };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n# {name}, GGUF\n\nGGUF files of {of} made by glm2llama {VERSION}. Their architecture is Llama: llama.cpp, \
             Ollama, LM Studio and\nwhat is built on them load them like any Llama model. Context: {} tokens.\n",
            grouped(*context as u64)
        );
        text += &self.table();
        text += &self.how_to_run();
        text += &self.about.prompt_format();
        text += &self.about.licence.section();
        text
    }

    fn front_matter(&self) -> String {
        let mut text = "---\n".to_owned();
        if let Some(base) = self.base {
            let relation = if self.merged { "finetune" } else { "quantized" };
            let _ = writeln!(text, "base_model: {}", yaml(&base.repository));
            let _ = writeln!(text, "base_model_relation: {relation}");
        }
        for (key, value) in self.about.licence.fields(self.base) {
            let _ = writeln!(text, "{key}: {}", yaml(&value));
        }
        if !self.about.languages.is_empty() {
            text += "language:\n";
            self.about.languages.iter().for_each(|language| text += &format!("- {}\n", yaml(language)));
        }
        text + "library_name: gguf\npipeline_tag: text-generation\ntags:\n- gguf\n---\n"
    }

    fn table(&self) -> String {
        let graded = self.files.iter().any(|file| file.quality.is_some());
        let column = |text: &str| if graded { format!(" {text} |") } else { String::new() };
        let mut text = format!(
            "\n## Files\n\n| File | Type | Size | Bits per weight |{} SHA-256 |\n|---|---|---|---|{}---|\n",
            column("Quality"),
            if graded { "---|" } else { "" },
        );
        for file in &self.files {
            let Listed { name, file_type, bytes, bits_per_weight, sha256, quality } = file;
            let _ = writeln!(
                text,
                "| {} | {} | {} | {bits_per_weight:.2} |{} `{sha256}` |",
                cell(name),
                cell(file_type),
                gigabytes(*bytes),
                column(&cell(quality.as_deref().unwrap_or_default())),
            );
        }
        if self.verified {
            text += "\nEvery weight of each file was compared with the checkpoint's, and is within what its format allows.\n";
        }
        if graded {
            text += "Quality: how near the file's predictions are to the checkpoint's, on a page of English, Chinese and code.\n";
        }
        text
    }

    fn how_to_run(&self) -> String {
        let ModelCard { first, modelfile, ollama_name, .. } = self;
        let mut text = format!("\n## How to run\n\n```sh\nllama-server --jinja -m {}\n```\n", quoted(first));
        if let Some(modelfile) = modelfile.as_ref().and_then(|path| path.file_name()) {
            let _ = write!(
                text,
                "\nWith Ollama, and the Modelfile beside the file:\n\n```sh\nollama create {ollama_name} -f {}\nollama run \
                 {ollama_name}\n```\n",
                quoted(&modelfile.to_string_lossy())
            );
        }
        text
    }
}

/// A text as a value in YAML: in quotes unless it is plainly a text. `no`, for one, is Norwegian and no "false".
fn yaml(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let words = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let address = text.starts_with("https://") && text.chars().all(|c| c.is_ascii_graphic() && c != '#');
    if (plain && !words.contains(&text.to_ascii_lowercase().as_str())) || address {
        return text.to_owned();
    }
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace(char::is_control, " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests;
