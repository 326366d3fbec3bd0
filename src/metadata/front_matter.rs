//! The facts at the head of a model card: the part of YAML that model cards are written in.
//!
//! Keys at the start of a line with a text, a text over several lines, or a list of texts. Whatever else YAML has
//! (maps within lists, anchors, tags) becomes [`Field::Other`], which no fact that is taken from a card needs.

use std::collections::BTreeMap;

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Text(String),
    List(Vec<String>),
    /// Nothing, or `null`.
    Empty,
    /// Something deeper than a list of texts.
    Other,
}

/// Reads what stands between the first line, `---`, and the next such line; `None` when there is nothing.
///
/// # Errors
/// What is wrong with a line, in words.
pub(super) fn parse(card: &str) -> Result<Option<BTreeMap<String, Field>>, String> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Ok(None);
    }
    let mut fields = BTreeMap::new();
    let mut current: Option<(String, Vec<String>)> = None;
    for (number, line) in (2..).zip(lines) {
        if line.trim_end() == "---" {
            fields.extend(current.map(|(key, lines)| (key, value(&lines))));
            return Ok(Some(fields));
        }
        let belongs_to_key =
            line.starts_with([' ', '\t', '#', ']', '}']) || is_item(line) || line.trim().is_empty();
        if belongs_to_key {
            current.iter_mut().for_each(|(_, lines)| lines.push(line.to_owned()));
            continue;
        }
        let key = line.split_once(':').filter(|(_, rest)| rest.is_empty() || rest.starts_with([' ', '\t']));
        let Some((key, rest)) = key else {
            return Err(format!("line {number}: found {line:?}, expected `key: value` or `- item`"));
        };
        fields.extend(current.take().map(|(key, lines)| (key, value(&lines))));
        current = Some((scalar(key).unwrap_or_default(), vec![rest.to_owned()]));
    }
    Err("its front matter has no end, expected a line `---`".to_owned())
}

fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    line == "-" || line.starts_with("- ")
}

/// The lines of one key: what stands behind its colon, and the lines below.
fn value(lines: &[String]) -> Field {
    let (first, below) =
        lines.split_first().map_or(("", &[] as &[String]), |(first, below)| (first.trim(), below));
    let below =
        || below.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = if first.starts_with('#') { "" } else { first };
    if first.starts_with('[') {
        let whole: Vec<&str> = std::iter::once(first).chain(below()).collect();
        return flow_list(&whole.join(" "));
    }
    if let Some(style) = first.strip_prefix(['|', '>']) {
        let separator = if first.starts_with('|') { "\n" } else { " " };
        let plain = style.chars().all(|c| matches!(c, '-' | '+'));
        return if plain { Field::Text(below().collect::<Vec<_>>().join(separator)) } else { Field::Other };
    }
    if first.is_empty() && below().next().is_some() {
        let items =
            below().map(|line| if is_item(line) { scalar(line.trim_start_matches('-')) } else { None });
        return items.collect::<Option<Vec<_>>>().map_or(Field::Other, Field::List);
    }
    let whole: Vec<&str> = std::iter::once(first).chain(below()).collect();
    match scalar(&whole.join(" ")) {
        Some(text) if matches!(text.as_str(), "" | "~" | "null") => Field::Empty,
        Some(text) => Field::Text(text),
        None => Field::Other,
    }
}

/// `[a, "b", c]`
fn flow_list(text: &str) -> Field {
    let text = without_comment(text);
    let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
        return Field::Other;
    };
    if inner.trim().is_empty() {
        return Field::List(Vec::new());
    }
    let items = inner.trim_end().trim_end_matches(',').split(',').map(scalar);
    items.collect::<Option<Vec<_>>>().map_or(Field::Other, Field::List)
}

/// One text, plain or quoted; `None` for anything else.
fn scalar(text: &str) -> Option<String> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('"') {
        let (inner, after) = rest.rsplit_once('"')?;
        return without_comment(after).is_empty().then(|| unescape(inner))?;
    }
    if let Some(rest) = text.strip_prefix('\'') {
        let (inner, after) = rest.rsplit_once('\'')?;
        return without_comment(after).is_empty().then(|| inner.replace("''", "'"));
    }
    let text = without_comment(text);
    let special = text.starts_with(['{', '[', '&', '*', '!', '|', '>', '%', '@', '`']);
    let map = text.ends_with(':') || text.contains(": ");
    (!special && !map).then(|| text.to_owned())
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                c @ ('"' | '\\' | '/') => c,
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

fn without_comment(text: &str) -> &str {
    let text = text.trim();
    if text.starts_with('#') { "" } else { text.split_once(" #").map_or(text, |(text, _)| text.trim_end()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(card: &str) -> BTreeMap<String, Field> {
        parse(&format!("---\n{card}\n---\n# Title\n")).unwrap().unwrap()
    }

    #[test]
    fn texts_and_lists_are_read() {
        let fields = read(
            "license: other # see below\nlicense_name: \"glm-4\"\nlanguage:\n- zh\n  # two\n- 'en'\n\
             tags: [glm, \"chat glm\", ]\ninference: false\nempty:\ndescription: >-\n  two\n  lines\n\
             base_model: THUDM/glm-4-9b\nlong: one\n  two",
        );
        let text = |text: &str| Field::Text(text.to_owned());
        let list = |items: &[&str]| Field::List(items.iter().map(|item| (*item).to_owned()).collect());
        assert_eq!(fields["license"], text("other"));
        assert_eq!(fields["license_name"], text("glm-4"));
        assert_eq!(fields["language"], list(&["zh", "en"]));
        assert_eq!(fields["tags"], list(&["glm", "chat glm"]));
        assert_eq!(fields["inference"], text("false"));
        assert_eq!(fields["empty"], Field::Empty);
        assert_eq!(fields["description"], text("two lines"));
        assert_eq!(fields["base_model"], text("THUDM/glm-4-9b"));
        assert_eq!(fields["long"], text("one two"));
    }

    #[test]
    fn deeper_things_are_left_alone() {
        let fields =
            read("model-index:\n- name: x\n  results:\n    - task: y\na: {b: c}\nd: &e f\nlicense: mit");
        assert_eq!([&fields["model-index"], &fields["a"], &fields["d"]], [&Field::Other; 3]);
        assert_eq!(fields["license"], Field::Text("mit".to_owned()));
    }

    #[test]
    fn a_broken_one_is_an_error_and_none_is_none() {
        assert!(parse("---\nlicense: mit\n").unwrap_err().contains("no end"));
        assert!(parse("---\nlicense mit\n---\n").unwrap_err().starts_with("line 2: found \"license mit\""));
        assert_eq!(parse("# Title\n"), Ok(None));
        assert_eq!(parse(""), Ok(None));
    }
}
