//! Words as a shell takes them.

/// In quotes where a shell would take it apart: in double ones, which Windows' shells know too, unless those would not
/// keep it together.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./\\:+,@%=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false if word.contains(['"', '$', '`', '!']) => format!("'{}'", word.replace('\'', "'\\''")),
        false => format!("\"{word}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted("my models/a.gguf"), "\"my models/a.gguf\"");
        assert_eq!(quoted("it's $1.gguf"), "'it'\\''s $1.gguf'");
        assert_eq!(quoted("模型/a.gguf"), "模型/a.gguf");
        assert_eq!(quoted(""), "\"\"");
    }
}
