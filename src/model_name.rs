//! What the model is called: `general.*` and the file name, by the GGUF naming convention.
//!
//! Taken from what the model is, not from its folder, which users rename; `_name_or_path` decides only where
//! models differ in nothing else.

use crate::config::GlmConfig;
use crate::tokenizer::ChatFormat;

/// The parts of a model's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// `general.basename`, `ChatGLM3` for instance.
    pub basename: String,
    /// `general.size_label`, `6B` for instance.
    pub size_label: String,
    /// `general.finetune`: which variant, `32k` for instance.
    pub finetune: Option<String>,
    /// What the user calls it, in the place of the parts.
    pub given: Option<String>,
}

impl ModelName {
    /// Names a model by what it is: its tokenizer, its sizes, its number of parameters.
    pub fn new(config: &GlmConfig, chat: ChatFormat, parameters: u64) -> ModelName {
        let basename = basename(config, chat);
        ModelName {
            basename: basename.to_owned(),
            size_label: size_label(config, parameters),
            finetune: finetune(basename, config, chat).map(str::to_owned),
            given: None,
        }
    }

    /// `general.name`: the given name, or the parts with spaces.
    pub fn full(&self) -> String {
        self.given.clone().unwrap_or_else(|| self.joined(" "))
    }

    /// The default name of an output file.
    pub fn file_name(&self, file_type: &str) -> String {
        let stem = match &self.given {
            Some(name) => name.trim().replace([' ', '/'], "-"), // as llama.cpp's converter does
            None => self.joined("-"),
        };
        format!("{stem}-{file_type}.gguf")
    }

    fn joined(&self, separator: &str) -> String {
        let parts = [Some(&self.basename), Some(&self.size_label), self.finetune.as_ref()];
        parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(separator)
    }
}

/// The family's own spelling of its name. Nothing but their name tells the CodeGeeX from their siblings, and nothing
/// but the name depends on it.
fn basename(config: &GlmConfig, chat: ChatFormat) -> &'static str {
    let published = config.name_or_path.to_ascii_lowercase();
    match chat {
        ChatFormat::Rounds if published.contains("codegeex2") => "CodeGeeX2",
        ChatFormat::Rounds => "ChatGLM2",
        ChatFormat::Roles => "ChatGLM3",
        _ if published.contains("codegeex4") => "CodeGeeX4",
        _ if config.is_edge() => "GLM-Edge",
        ChatFormat::Glm4 | ChatFormat::Edge | ChatFormat::Completion | ChatFormat::Own => "GLM-4",
    }
}

/// Which of the published variants.
fn finetune(basename: &str, config: &GlmConfig, chat: ChatFormat) -> Option<&'static str> {
    match basename {
        "ChatGLM2" => (config.rope_ratio == 16.0).then_some("32k"),
        "ChatGLM3" => match config.rope_ratio {
            50.0 => Some("32k"),
            500.0 => Some("128k"),
            _ => config.name_or_path.ends_with("-base").then_some("Base"),
        },
        "CodeGeeX4" => Some("All"),
        "GLM-4" | "GLM-Edge" if chat != ChatFormat::Completion => {
            Some(if config.seq_length == 1 << 20 { "Chat-1M" } else { "Chat" })
        }
        _ => None,
    }
}

/// The published models' own label, or two digits of the number of parameters.
fn size_label(config: &GlmConfig, parameters: u64) -> String {
    match (config.num_layers, config.hidden_size) {
        (28, 4096) => return "6B".to_owned(),
        (40, 4096) => return "9B".to_owned(),
        (28, 2048) => return "1.5B".to_owned(),
        (40, 3072) => return "4B".to_owned(),
        _ => {}
    }
    let (scale, unit) = match parameters {
        1_000_000_000.. => (1e9, "B"),
        1_000_000.. => (1e6, "M"),
        _ => (1e3, "K"),
    };
    let scaled = parameters as f64 / scale;
    if scaled < 10.0 { format!("{scaled:.1}{unit}") } else { format!("{scaled:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TensorNaming;
    use crate::config::tests::chatglm3_config;

    #[test]
    fn files_are_named_by_the_gguf_convention() {
        use ChatFormat::{Completion, Glm4, Roles, Rounds};
        let six = chatglm3_config();
        let nine = GlmConfig { num_layers: 40, seq_length: 131_072, rope_ratio: 500.0, ..six.clone() };
        let named =
            |name: &str, config: &GlmConfig| GlmConfig { name_or_path: name.to_owned(), ..config.clone() };
        let hf = GlmConfig { naming: TensorNaming::Glm, rope_ratio: 1.0, ..nine.clone() };
        for (config, chat, expected) in [
            (six.clone(), Roles, "ChatGLM3-6B"),
            (named("THUDM/chatglm3-6b-base", &six), Roles, "ChatGLM3-6B-Base"),
            (GlmConfig { rope_ratio: 50.0, ..six.clone() }, Roles, "ChatGLM3-6B-32k"),
            (GlmConfig { rope_ratio: 500.0, ..six.clone() }, Roles, "ChatGLM3-6B-128k"),
            (six.clone(), Rounds, "ChatGLM2-6B"),
            (GlmConfig { rope_ratio: 16.0, ..six.clone() }, Rounds, "ChatGLM2-6B-32k"),
            (named("THUDM/codegeex2-6b", &six), Rounds, "CodeGeeX2-6B"),
            (GlmConfig { seq_length: 8192, rope_ratio: 1.0, ..nine.clone() }, Completion, "GLM-4-9B"),
            (nine.clone(), Glm4, "GLM-4-9B-Chat"),
            (GlmConfig { seq_length: 1 << 20, ..nine.clone() }, Glm4, "GLM-4-9B-Chat-1M"),
            (named("THUDM/codegeex4-all-9b", &nine), Glm4, "CodeGeeX4-9B-All"),
            (hf.clone(), Glm4, "GLM-4-9B-Chat"),
            (GlmConfig { num_layers: 28, hidden_size: 2048, ..hf.clone() }, Glm4, "GLM-Edge-1.5B-Chat"),
            (GlmConfig { hidden_size: 3072, ..hf }, Glm4, "GLM-Edge-4B-Chat"),
            (GlmConfig { num_layers: 2, ..six }, Roles, "ChatGLM3-1.4M"),
        ] {
            let name = ModelName::new(&config, chat, 1_394_000);
            assert_eq!(name.file_name("Q4_K_M"), format!("{expected}-Q4_K_M.gguf"));
        }
        assert_eq!(ModelName::new(&nine, Glm4, 1).full(), "GLM-4 9B Chat");
        let given = ModelName { given: Some("My Model/1".to_owned()), ..ModelName::new(&nine, Glm4, 1) };
        assert_eq!(given.file_name("vocab"), "My-Model-1-vocab.gguf");
    }
}
