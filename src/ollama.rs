//! The Modelfile for Ollama, which does not read the Jinja template of a model that it does not know.
//!
//! Ollama tokenizes the filled-in template with the special tokens in it, and adds no beginning of text.

use crate::error::{Error, Result};
use crate::tokenizer::{ChatFormat, Tokenizer};

/// Go templates that give the texts of the Jinja ones for system, user and assistant messages.
///
/// A last message of the assistant is to be continued, so nothing follows it. `.Tools` stays out: Ollama would
/// then promise its users tool calls, which it cannot read in the way that ChatGLM writes them.
const ROLES: &str = "[gMASK]sop{{ range $i, $_ := .Messages }}\
    {{ if eq .Role \"tool\" }}<|observation|>{{ else }}<|{{ .Role }}|>{{ end }}\n\
    {{ if .Content }} {{ .Content }}{{ end }}\
    {{ if and (eq (len (slice $.Messages $i)) 1) (ne .Role \"assistant\") }}<|assistant|>{{ end }}\
    {{ end }}";

/// Go templates cannot add: the rounds are counted by the length of a text.
const ROUNDS: &str = "[gMASK]sop{{ $rounds := \"\" }}{{ range $i, $_ := .Messages }}\
    {{ if eq .Role \"user\" }}{{ $rounds = printf \"%s.\" $rounds }}[Round {{ len $rounds }}]\n\n\
    问：{{ .Content }}\n\n\
    答：{{ else }}{{ .Content }}\
    {{ if or (ne .Role \"assistant\") (gt (len (slice $.Messages $i)) 1) }}\n\n{{ end }}\
    {{ end }}{{ end }}";

/// GLM-4 puts nothing between line break and content, and leaves out messages without content.
const GLM4: &str = "[gMASK]<sop>{{ range $i, $_ := .Messages }}{{ if .Content }}\
    {{ if eq .Role \"tool\" }}<|observation|>{{ else }}<|{{ .Role }}|>{{ end }}\n\
    {{ .Content }}{{ end }}\
    {{ if and (eq (len (slice $.Messages $i)) 1) (ne .Role \"assistant\") }}<|assistant|>{{ end }}\
    {{ end }}";

const COMPLETION: &str = "[gMASK]<sop>{{ .Prompt }}";

/// The Modelfile to stand beside the file `gguf_name`.
pub fn modelfile(gguf_name: &str, tokenizer: &Tokenizer) -> Result<String> {
    let template = match tokenizer.chat {
        ChatFormat::Roles => Some(ROLES),
        ChatFormat::Rounds => Some(ROUNDS),
        ChatFormat::Glm4 => Some(GLM4),
        ChatFormat::Completion => Some(COMPLETION),
        ChatFormat::Edge | ChatFormat::Own => None,
    };
    // Generation also ends on the GGUF's own tokens; the stops hold where a text spells them out.
    let stops: &[&str] = match tokenizer.chat {
        ChatFormat::Roles => &["<|user|>", "<|observation|>", "<|system|>"],
        ChatFormat::Glm4 => &["<|user|>", "<|observation|>", "<|system|>", "<|endoftext|>"],
        ChatFormat::Rounds => &["[Round "],
        ChatFormat::Edge | ChatFormat::Completion | ChatFormat::Own => &[],
    };
    let mut text = format!("FROM {}\n", from(gguf_name)?);
    if let Some(template) = template {
        text += &format!("TEMPLATE \"\"\"{template}\"\"\"\n");
    }
    for stop in stops {
        text += &format!("PARAMETER stop \"{stop}\"\n");
    }
    text += &format!("PARAMETER temperature {}\n", tokenizer.sampling.temperature);
    text += &format!("PARAMETER top_p {}\n", tokenizer.sampling.top_p);
    Ok(text)
}

/// Ollama takes the rest of the line, without space at its ends and without one pair of quotes around it.
fn from(gguf_name: &str) -> Result<String> {
    if gguf_name.is_empty() || gguf_name.contains(['/', '\\']) || gguf_name.contains(char::is_control) {
        return Err(Error::Usage(format!("cannot name {gguf_name:?} in a Modelfile")));
    }
    let path = format!("./{gguf_name}");
    Ok(if gguf_name.contains(char::is_whitespace) { format!("\"{path}\"") } else { path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{Sampling, Vocabulary};

    fn tokenizer(chat: ChatFormat) -> Tokenizer {
        let sampling = Sampling { temperature: 0.8, top_p: 1.0 };
        Tokenizer {
            vocabulary: Vocabulary::default(),
            chat,
            sampling,
            evidence: Vec::new(),
            other_template: false,
        }
    }

    #[test]
    fn a_modelfile_names_file_template_stops_and_sampling() {
        let text = modelfile("ChatGLM3-6B-Q4_K_M.gguf", &tokenizer(ChatFormat::Roles)).unwrap();
        assert!(text.starts_with("FROM ./ChatGLM3-6B-Q4_K_M.gguf\nTEMPLATE \"\"\"[gMASK]sop{{"), "{text}");
        let end = "{{ end }}\"\"\"\n\
            PARAMETER stop \"<|user|>\"\n\
            PARAMETER stop \"<|observation|>\"\n\
            PARAMETER stop \"<|system|>\"\n\
            PARAMETER temperature 0.8\n\
            PARAMETER top_p 1\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_model_with_a_template_of_its_own_leaves_it_to_ollama() {
        let text = modelfile("m.gguf", &tokenizer(ChatFormat::Own)).unwrap();
        assert_eq!(text, "FROM ./m.gguf\nPARAMETER temperature 0.8\nPARAMETER top_p 1\n");
    }

    #[test]
    fn names_with_spaces_are_quoted_and_impossible_ones_refused() {
        assert_eq!(from("my model.gguf").unwrap(), "\"./my model.gguf\"");
        for bad in ["", "a/b.gguf", "a\nSYSTEM b"] {
            assert!(matches!(from(bad), Err(Error::Usage(_))), "{bad:?}");
        }
    }
}
