//! What Ollama takes as a model's name: `[HOST/][USER/]NAME[:TAG]`.

use std::path::Path;

use crate::error::{Error, Result};

/// In characters, of each part.
const LONGEST: usize = 80;

/// Whether Ollama takes a name. It takes capitals too, and knows a model by them and without.
///
/// # Errors
/// When it does not, with a name that it would.
pub fn check_name(name: &str) -> Result<()> {
    let (path, tag) = match name.rsplit_once(':') {
        // A host may have a port.
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let parts: Vec<&str> = path.split('/').collect();
    let fits = match parts.as_slice() {
        [model] => is_part(model),
        [user, model] => is_user(user) && is_part(model),
        [host, user, model] => is_host(host) && is_user(user) && is_part(model),
        _ => false,
    };
    if fits && tag.is_none_or(is_part) {
        return Ok(());
    }
    let instead = suggested_name(name.rsplit(['/', '\\']).next().unwrap_or_default());
    Err(Error::Usage(format!(
        "{name:?}: is no name for Ollama, expected letters, digits, '-', '_' and '.', such as {instead} or \
         {instead}:TAG"
    )))
}

/// A name that Ollama takes, made of a text such as a file's name without its end: in small letters, as its own models
/// have.
fn suggested_name(text: &str) -> String {
    let kept: String =
        text.to_lowercase().chars().map(|c| if is_letter(c) { c } else { '-' }).take(LONGEST).collect();
    let parts: Vec<&str> = kept.split('.').filter(|part| !part.is_empty()).collect();
    let name = parts.join(".");
    let name = name.trim_matches(['-', '_', '.']);
    if name.is_empty() { "my-model".to_owned() } else { name.to_owned() }
}

/// A file's name as a model's.
pub fn suggested_for(file: &Path) -> String {
    suggested_name(&file.file_stem().unwrap_or_default().to_string_lossy())
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn is_part(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    begins && text.len() <= LONGEST && text.chars().all(is_letter) && !text.contains("..")
}

fn is_user(text: &str) -> bool {
    is_part(text) && !text.contains('.')
}

fn is_host(text: &str) -> bool {
    let host = text.split_once(':').map_or(text, |(host, port)| match port.parse::<u16>() {
        Ok(_) => host,
        Err(_) => "",
    });
    is_part(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_ollama_takes() {
        let long = "a".repeat(80);
        for name in [
            "chatglm3",
            "ChatGLM3-6B",
            "_x",
            "glm-4:9b-q4_K_M",
            "me/tune",
            "me/tune:v1.2",
            "example.org/me/tune",
            "localhost:5000/me/tune:latest",
            &long,
        ] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "a".repeat(81);
        for name in [
            "",
            " ",
            "my model",
            "模型",
            "-x",
            ".x",
            "a:",
            ":b",
            "a:b:c",
            "a/",
            "/a",
            "a//b",
            "a.b/c",
            "w/x/y/z",
            "a..b",
            "host:port/me/x",
            "a+b",
            "x@y",
            "./a",
            &long,
        ] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.contains("is no name for Ollama"), "{name}: {error}");
        }
        assert!(
            check_name("Mein Modell")
                .unwrap_err()
                .to_string()
                .contains("such as mein-modell or mein-modell:TAG")
        );
        assert!(check_name("模型").unwrap_err().to_string().contains("such as my-model"));
    }

    #[test]
    fn what_is_suggested_is_taken() {
        for text in [
            "out/我的 Model.v2",
            "模型",
            "",
            "a..b",
            "..",
            "A B  C",
            "-x-",
            &"é".repeat(100),
            &"x".repeat(100),
        ] {
            let name = suggested_name(text);
            assert!(check_name(&name).is_ok(), "{text}: {name}");
        }
        assert_eq!(suggested_for(Path::new("out/我的 Model.v2.gguf")), "model.v2");
    }
}
