//! The expressions of a modelling file that decide the rotation, found in its text.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The published name of the number.
pub(super) const RATIO: &str = "rope_ratio";

/// What a file does to the base and to the positions.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rotation {
    /// By what it multiplies the base: [`RATIO`], or names of a fine-tune's own.
    pub(super) base: Vec<String>,
    /// By what it divides positions, or angles, which is the same.
    pub(super) positions: Vec<String>,
    /// Numbers that it has for the base, other than the published 10000.
    pub(super) literals: Vec<f64>,
    /// What it does to the base otherwise, as it stands there.
    pub(super) odd: Vec<String>,
}

type Pattern = LazyLock<Regex>;

/// A pattern; BASE in it stands for the names of the base, NUMBER for a literal, NAME for a dotted name.
fn regex(pattern: &str) -> Regex {
    let pattern = pattern
        .replace("BASE", r"(?:(?:self|config)\.)*(?:rope_theta|(?:rope_|rotary_)?base)")
        .replace("NUMBER", r"\d[\d_]*(?:\.\d*)?(?:[eE]\+?\d+)?")
        .replace("NAME", r"[A-Za-z_][\w.]*");
    Regex::new(&pattern).expect("a valid expression")
}

// Texts in quotes hide comments' signs, and comments hide quotes: whichever begins first counts.
static QUOTED: Pattern =
    LazyLock::new(|| regex(r#"(?s)""".*?"""|'''.*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#[^\n]*"#));
// The base, or the published number for it, times a name; and the name first.
static TIMES: Pattern = LazyLock::new(|| regex(r"(?:\bBASE|\b10000(?:\.0?)?)\*=?(NAME)([^\n]{0,2})"));
static TIMES_BASE: Pattern = LazyLock::new(|| regex(r"(?m)(^|[^\w.])(NAME)\*BASE\b([^\n]{0,2})"));
// Nothing else may be done to it.
static ASSIGNED: Pattern = LazyLock::new(|| regex(r"(?m)^BASE(?::\w+)?(\*\*|[*/+-]?)=([^=\n][^\n]*)$"));
static PLAIN: Pattern = LazyLock::new(|| regex(r"^(?:BASE|NUMBER)$"));
// A default of a parameter, a value, or the number in the formula itself.
static LITERAL: Pattern = LazyLock::new(|| regex(r"(?m)\bBASE(?::\w+)?=(NUMBER)(?:[,)]|$)"));
static POWER: Pattern = LazyLock::new(|| regex(r"\((NUMBER)\*\*\("));
// Positions, or what the angles of all positions are multiples of, times or divided by a name or number.
static SCALED: Pattern = LazyLock::new(|| {
    let names =
        r"\b(?:self\.)?(?:seq_idx|seq_ids|position_ids?|positions?|pos|t|inv_freq|freqs?|theta|idx_theta)";
    // Two numbers at most: a third is a step, and the list one of a head's values.
    let range = r"\barange\((?:\w+=)?[\w.+]+(?:,[\w.+]+)?(?:,\w+=[\w.]+)*,?\)";
    let over = r"(/=?|\*=?\(1(?:\.0?)?/|\*=?)";
    regex(&format!(r"(?:{names}|{range})(?:\.\w+\([^()\n]*\))*{over}(NAME|NUMBER)([^\n]{{0,2}})"))
});

/// Statements without comments and the texts of strings, one a line, without space that separates no words.
pub(super) fn of(source: &str) -> String {
    let bare = QUOTED.replace_all(source, |text: &Captures| match text[0].starts_with('#') {
        true => "",
        false => "\"\"",
    });
    let mut code = String::with_capacity(bare.len());
    let (mut depth, mut space) = (0_usize, false);
    for c in bare.replace("\\\n", " ").chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '\n' if depth == 0 => {
                code.push('\n');
                space = false;
                continue;
            }
            _ => {}
        }
        if c.is_whitespace() {
            space = true;
            continue;
        }
        let word = |c: char| c.is_alphanumeric() || c == '_';
        if space && word(c) && code.ends_with(word) {
            code.push(' ');
        }
        code.push(c);
        space = false;
    }
    code
}

impl Rotation {
    /// Searches code as [`of`] leaves it.
    pub(super) fn of(code: &str) -> Rotation {
        let mut found = Rotation::default();
        for times in TIMES.captures_iter(code) {
            found.take(code, &times, &times[1], "(", &times[2]);
        }
        for times in TIMES_BASE.captures_iter(code) {
            found.take(code, &times, &times[2], &times[1], &times[3]);
        }
        for scaled in SCALED.captures_iter(code) {
            let (divided, by) = (scaled[1].contains('/'), &scaled[2]);
            match scaling(by) {
                Some(by) if divided && ends(&scaled[3]) => push(&mut found.positions, by),
                None if !by.starts_with(|c: char| c.is_ascii_digit()) => {} // the width of a head, or the angles
                _ => push(&mut found.odd, line(code, &scaled)),
            }
        }
        for assigned in ASSIGNED.captures_iter(code) {
            let value = &assigned[2];
            let value = value.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(value);
            let known = match &assigned[1] {
                "" => [&PLAIN, &TIMES, &TIMES_BASE].iter().any(|pattern| is_all(pattern, value)),
                "*" => scaling(value).is_some(),
                _ => false,
            };
            if !known {
                push(&mut found.odd, assigned[0].to_owned());
            }
        }
        for literal in LITERAL.captures_iter(code).chain(POWER.captures_iter(code)) {
            let number = literal[1].replace('_', "").parse().ok();
            // A base of another kind, as that of a number's digits, is small.
            if let Some(number) = number.filter(|&number: &f64| number >= 1000.0 && number != 10_000.0)
                && !found.literals.contains(&number)
            {
                found.literals.push(number);
            }
        }
        found
    }

    /// Takes a product with the base down: understood when it is one of these two alone.
    fn take(&mut self, code: &str, product: &Captures, name: &str, before: &str, after: &str) {
        match scaling(name) {
            Some(by) if ends(after) && matches!(before, "" | "=" | "(" | ",") => push(&mut self.base, by),
            _ => push(&mut self.odd, line(code, product)),
        }
    }
}

/// The line that a match begins in.
fn line(code: &str, found: &Captures) -> String {
    let at = found.get(0).map_or(0, |found| found.start());
    let start = code[..at].rfind('\n').map_or(0, |end| end + 1);
    code[start..].lines().next().unwrap_or_default().to_owned()
}

/// The number that a statement gives to a name, if all that do give the same.
pub(super) fn number_of(code: &str, name: &str) -> Option<f64> {
    let mut values = code.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let first: f64 = values.next()?.replace('_', "").parse().ok()?;
    values.all(|value| value.replace('_', "").parse() == Ok(first)).then_some(first)
}

/// The name by which a product scales, if it is the published one or says that it is such a number.
fn scaling(name: &str) -> Option<String> {
    let last = name.rsplit('.').next().unwrap_or(name);
    if last == RATIO {
        return Some(RATIO.to_owned());
    }
    ["ratio", "scal", "factor", "alpha"].iter().any(|part| last.contains(part)).then(|| name.to_owned())
}

/// Whether an expression is over before this text: it is no power, call or other operand.
fn ends(after: &str) -> bool {
    after.is_empty() || after.starts_with([')', ',', ']', ':', ';'])
}

fn is_all(pattern: &Pattern, text: &str) -> bool {
    pattern.find(text).is_some_and(|found| found.range() == (0..text.len()))
}

fn push(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}
