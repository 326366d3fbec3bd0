//! What to type after a conversion.

use std::path::Path;

use glm2llama::ollama;
use glm2llama::system::quoted;

/// The two lines: Ollama's, where there is a Modelfile for it, and llama-server's. `first`: the file to load.
pub(super) fn steps(first: &Path, modelfile: Option<&Path>) -> String {
    let ollama = modelfile
        .map(|modelfile| format!("  next: {}\n", ollama_create(&ollama::suggested_for(first), modelfile)));
    let server = format!("llama-server --jinja -m {}", quoted(&first.display().to_string()));
    let before = if ollama.is_some() { "    or: " } else { "  next: " };
    format!("{}{before}{server}", ollama.unwrap_or_default())
}

/// What makes a model of Ollama's of a Modelfile, and runs it.
pub(super) fn ollama_create(name: &str, modelfile: &Path) -> String {
    format!("ollama create {name} -f {} && ollama run {name}", quoted(&modelfile.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_are_named_with_their_files() {
        let text =
            steps(Path::new("ChatGLM3-6B-Q4_K_M.gguf"), Some(Path::new("ChatGLM3-6B-Q4_K_M.Modelfile")));
        assert_eq!(
            text,
            "  next: ollama create chatglm3-6b-q4_k_m -f ChatGLM3-6B-Q4_K_M.Modelfile && ollama run chatglm3-6b-q4_k_m\n    \
             or: llama-server --jinja -m ChatGLM3-6B-Q4_K_M.gguf"
        );
        assert_eq!(steps(Path::new("a.gguf"), None), "  next: llama-server --jinja -m a.gguf");
    }
}
