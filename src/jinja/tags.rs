//! The tags of a template, read as the engine's lexer reads them: what they hold is judged before any is run.

use std::sync::LazyLock;

use regex::Regex;

/// What stands between `{%` and `%}`, or `{{` and `}}`, without the marks of white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    pub(super) is_block: bool,
    pub(super) text: &'a str,
}

/// The tags in their order; comments are none. Nothing when a tag, comment or string has no end.
pub(super) fn tags(template: &str) -> Option<Vec<Tag<'_>>> {
    let mut tags = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min() {
        let (kind, inner) = (&rest[start..start + 2], &rest[start + 2..]);
        let end = match kind {
            "{#" => inner.find("#}")?,
            "{%" => end_outside_strings(inner, "%}")?,
            _ => end_outside_strings(inner, "}}")?,
        };
        if kind != "{#" {
            tags.push(Tag { is_block: kind == "{%", text: inner[..end].trim_matches(['-', '+']).trim() });
        }
        rest = &inner[end + 2..];
    }
    Some(tags)
}

fn end_outside_strings(text: &str, end: &str) -> Option<usize> {
    let mut quote: Option<u8> = None;
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match (quote, bytes[i]) {
            (Some(_), b'\\') => i += 1, // the next one is meant as it is
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'\'' | b'"')) => quote = Some(byte),
            (None, _) if bytes[i..].starts_with(end.as_bytes()) => return Some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

/// The tag's text with nothing left in its strings.
pub(super) fn without_strings(tag: &str) -> String {
    static STRINGS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"(?s)'(\\.|[^'\\])*'|"(\\.|[^"\\])*""#).expect("a valid expression"));
    STRINGS.replace_all(tag, "''").into_owned()
}

/// The words by which a template may tell one conversation from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Names behind a dot, and texts in brackets: keys of messages, methods, `loop.first`.
    pub keys: Vec<String>,
    /// Texts and numbers in conditions, and numbers in brackets.
    pub constants: Vec<String>,
}

/// The words of a template; nothing when it cannot be read.
pub fn words(template: &str) -> Option<Words> {
    static KEY: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?s)\.\s*([A-Za-z_]\w*)|\[\s*'([^']*)'\s*\]|\[\s*"([^"]*)"\s*\]"#)
            .expect("a valid expression")
    });
    static CONSTANT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?s)'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)"|\b(\d+)\b"#).expect("a valid expression")
    });
    let group = |found: &regex::Captures| {
        found.iter().skip(1).flatten().next().map(|group| group.as_str().to_owned()).unwrap_or_default()
    };
    let mut words = Words::default();
    for tag in tags(template)? {
        let outside = without_strings(tag.text);
        let dotted = KEY.captures_iter(&outside).filter(|found| found.get(1).is_some());
        words.keys.extend(dotted.map(|found| group(&found)));
        let in_brackets = KEY.captures_iter(tag.text).filter(|found| found.get(1).is_none());
        words.keys.extend(in_brackets.map(|found| group(&found)));
        // A condition may stand in an expression too: `a if b else c`.
        if tag.text.starts_with("if") || tag.text.starts_with("elif") || outside.contains(" if ") {
            words.constants.extend(CONSTANT.captures_iter(tag.text).map(|found| group(&found)));
        }
        // `messages[9]`, `messages[1:]`
        words.constants.extend(outside.split('[').skip(1).filter_map(|rest| {
            let index = rest.split(']').next().unwrap_or_default();
            index.contains(|c: char| c.is_ascii_digit() || c == ':').then(|| index.to_owned())
        }));
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_ends_outside_its_strings() {
        let texts = |template| tags(template).map(|tags| tags.iter().map(|tag| tag.text).collect::<Vec<_>>());
        assert_eq!(
            texts("a {{- '}}' + x -}} b {# {% c %} #}{%+ if y == \"%}\\\"\" %}"),
            Some(vec!["'}}' + x", "if y == \"%}\\\"\"",])
        );
        for open in ["{{ 'a }}", "{% if", "{# x", "{{ \"\\\" }}"] {
            assert_eq!(texts(open), None, "{open}");
        }
    }

    #[test]
    fn keys_and_constants_are_found() {
        let template = "m.no {% if m['role'] == 'user' and loop.index == 9 %}{{ m.image }}{{ 'a.b' }}{% endif %}\
            {{ messages[1:] }}{{ 'x' if m.x else 'y' }}";
        let words = words(template).unwrap();
        let mut keys = words.keys;
        keys.sort();
        assert_eq!(keys, ["image", "index", "role", "x"]);
        assert_eq!(words.constants, ["role", "user", "9", "1:", "x", "y"]);
    }
}
