//! What the model is called: `general.*` and the file name, by the GGUF naming convention.
//!
//! Taken from what the model is, not from its folder or `_name_or_path`: those change with every copy.

use crate::config::GlmConfig;

/// The parts of a model's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `general.basename`, `ChatGLM3` for instance.
    pub basename: String,
    /// `general.size_label`, `6B` for instance.
    pub size_label: String,
    /// `general.finetune`: which variant, `32k` for instance.
    pub finetune: Option<String>,
    /// What the user calls it, in the place of the parts.
    pub given: Option<String>,
}

impl Name {
    /// Names a model of the given family and number of parameters.
    pub fn new(family: &str, config: &GlmConfig, parameters: u64) -> Name {
        let finetune = match config.rope_ratio {
            50.0 => Some("32k".to_owned()),
            500.0 => Some("128k".to_owned()),
            _ => None,
        };
        Name {
            basename: family.to_owned(),
            size_label: size_label(config, parameters),
            finetune,
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

/// The published models' own label, or two digits of the number of parameters.
fn size_label(config: &GlmConfig, parameters: u64) -> String {
    match (config.num_layers, config.hidden_size) {
        (28, 4096) => return "6B".to_owned(),
        (40, 4096) => return "9B".to_owned(),
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
    use crate::config::tests::chatglm3_config;

    #[test]
    fn files_are_named_by_the_gguf_convention() {
        let name = Name::new("ChatGLM3", &chatglm3_config(), 6_243_584_000);
        assert_eq!(name.file_name("Q4_K_M"), "ChatGLM3-6B-Q4_K_M.gguf");
        let long = GlmConfig { rope_ratio: 50.0, ..chatglm3_config() };
        assert_eq!(Name::new("ChatGLM3", &long, 1).file_name("F16"), "ChatGLM3-6B-32k-F16.gguf");
        let given = Name { given: Some("My Model/1".to_owned()), ..name };
        assert_eq!(given.file_name("vocab"), "My-Model-1-vocab.gguf");
        let tiny = GlmConfig { num_layers: 2, ..chatglm3_config() };
        assert_eq!(Name::new("ChatGLM3", &tiny, 1_394_000).full(), "ChatGLM3 1.4M");
    }
}
