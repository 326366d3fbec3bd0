//! Prints a shape as a Go template, the language of Ollama's `TEMPLATE`.
//!
//! Go has no trim: a template that calls itself cuts one character at a time. It cannot count either: the rounds are
//! counted by the length of a text. What Jinja refuses fails here too, with the reason in the text that Go shows.
//! `.Tools` stays out: Ollama would promise its users tool calls, which it cannot read in the way these models write
//! them, and from 0.30 on it would take this template instead of the GGUF's own, which has the tools.

use super::shape::{Empty, Kind, ROUND, ROUND_FROM_ZERO, Shape, Turn};

const REFUSED: &str = "{{ slice \"the chat template has no place for this message\" 999 }}";
const SPACE: &str = r#"" " "\n" "\t" "\r" "\v" "\f""#;

impl Shape {
    /// The same as a Go template.
    pub fn to_go(&self) -> String {
        let prefix = self.prefix();
        let call = self.turns.get(&Kind::Call).filter(|call| self.turns.get(&Kind::Assistant) != Some(call));
        let counts = self.turns.values().any(|turn| {
            turn.first.iter().chain(&turn.before).any(|text| text.contains([ROUND, ROUND_FROM_ZERO]))
        });
        let mut text = self.cutters();
        text += &literal(&prefix);
        if counts {
            text += "{{ $round := \"\" }}";
        }
        text += "{{ range $i, $_ := .Messages }}{{ $rest := slice $.Messages $i }}";
        if call.is_some() {
            text += "{{ $call := false }}{{ if and (eq .Role \"assistant\") (gt (len $rest) 1) }}\
                {{ $call = eq (index $rest 1).Role \"tool\" }}{{ end }}";
        }
        let roles = [
            (Kind::User, "eq .Role \"user\""),
            (Kind::Call, "$call"),
            (Kind::Assistant, "eq .Role \"assistant\""),
            (Kind::System, "eq .Role \"system\""),
            (Kind::Tool, "eq .Role \"tool\""),
        ];
        let mut word = "if";
        for (kind, condition) in roles {
            let Some(turn) = self.turns.get(&kind).filter(|_| kind != Kind::Call || call.is_some()) else {
                continue;
            };
            text += &format!("{{{{ {word} {condition} }}}}");
            if counts && kind == Kind::User {
                text += "{{ $round = printf \"%s.\" $round }}";
            }
            text += &message(turn, kind, &prefix);
            word = "else if";
        }
        text += &format!("{{{{ else }}}}{REFUSED}{{{{ end }}}}");
        if !self.generation.is_empty() {
            text += "{{ if and (eq (len $rest) 1) (ne .Role \"assistant\") }}";
            text += &literal(&self.generation);
            text += "{{ end }}";
        }
        text + "{{ end }}"
    }

    /// What every prompt begins with, whoever speaks first.
    fn prefix(&self) -> String {
        let begins = |prefix: &&str| {
            let empty = self.turns.values().filter_map(|turn| match &turn.empty {
                Empty::Text { first, .. } => first.as_ref(),
                _ => None,
            });
            self.turns
                .values()
                .filter_map(|turn| turn.first.as_ref())
                .chain(empty)
                .all(|text| text.starts_with(prefix))
        };
        let candidates = self.turns.values().filter_map(|turn| {
            let before = turn.before.as_deref().unwrap_or_default();
            turn.first.as_deref()?.strip_suffix(before)
        });
        candidates.filter(begins).max_by_key(|prefix| prefix.len()).unwrap_or_default().to_owned()
    }

    /// The templates that write a content without white space at its ends, or what precedes it and then that.
    fn cutters(&self) -> String {
        let mut text = String::new();
        let mut names: Vec<String> = Vec::new();
        let assistant = self.turns.get(&Kind::Assistant);
        for (kind, turn) in self.turns.iter().filter(|(_, turn)| turn.left) {
            if *kind == Kind::Call && assistant == Some(turn) {
                continue; // written as any other of the assistant's messages
            }
            let (name, lead) = cutter(turn, *kind);
            if names.contains(&name) {
                continue;
            }
            let rest = if turn.right { "{{ template \"end\" . }}" } else { "{{ . }}" };
            text += &format!(
                "{{{{ define \"{name}\" }}}}{{{{ if . }}}}{{{{ if eq (slice . 0 1) {SPACE} }}}}\
                {{{{ template \"{name}\" (slice . 1) }}}}{{{{ else }}}}{lead}{rest}\
                {{{{ end }}}}{{{{ end }}}}{{{{ end }}}}"
            );
            names.push(name);
        }
        if self.turns.values().any(|turn| turn.right) {
            text += &format!(
                "{{{{ define \"end\" }}}}{{{{ if . }}}}{{{{ $last := len (slice . 1) }}}}\
                {{{{ if eq (slice . $last) {SPACE} }}}}{{{{ template \"end\" (slice . 0 $last) }}}}\
                {{{{ else }}}}{{{{ . }}}}{{{{ end }}}}{{{{ end }}}}{{{{ end }}}}"
            );
        }
        text
    }
}

/// The name of the template that writes the content of such a message, and what that writes before it.
fn cutter(turn: &Turn, kind: Kind) -> (String, String) {
    match &turn.empty {
        Empty::Without(lead) if !lead.is_empty() => (format!("{kind:?}").to_lowercase(), literal(lead)),
        _ => (if turn.right { "trim" } else { "begin" }.to_owned(), String::new()),
    }
}

/// One message: what precedes it, its content, what follows it.
fn message(turn: &Turn, kind: Kind, prefix: &str) -> String {
    let content = match (turn.left, turn.right) {
        (false, false) => "{{ .Content }}".to_owned(),
        (true, _) => format!("{{{{ template \"{}\" .Content }}}}", cutter(turn, kind).0),
        (false, true) => "{{ template \"end\" .Content }}".to_owned(),
    };
    // An assistant's last message is to be continued.
    let after = match kind {
        Kind::Assistant if !turn.after.is_empty() => {
            format!("{{{{ if gt (len $rest) 1 }}}}{}{{{{ end }}}}", literal(&turn.after))
        }
        _ => literal(&turn.after),
    };
    match &turn.empty {
        Empty::Same => begins(&turn.first, &turn.before, prefix, "") + &content + &after,
        Empty::Without(lead) => {
            // Where content is cut, the template that cuts it writes the rest of what stands before it.
            let content = match turn.left {
                true => content,
                false => format!("{{{{ if .Content }}}}{}{content}{{{{ end }}}}", literal(lead)),
            };
            begins(&turn.first, &turn.before, prefix, lead) + &content + &after
        }
        Empty::Text { first, other } => {
            let full = begins(&turn.first, &turn.before, prefix, "") + &content + &after;
            let empty = begins(first, other, prefix, "");
            let otherwise = if empty.is_empty() { empty } else { format!("{{{{ else }}}}{empty}") };
            format!("{{{{ if .Content }}}}{full}{otherwise}{{{{ end }}}}")
        }
    }
}

/// What a first message and any other begins with, without `lead`; `prefix` is written already.
fn begins(first: &Option<String>, other: &Option<String>, prefix: &str, lead: &str) -> String {
    let bare = |text: &Option<String>| {
        text.as_deref().map(|text| text.strip_suffix(lead).unwrap_or(text).to_owned())
    };
    let first = bare(first).map(|text| text.strip_prefix(prefix).unwrap_or(&text).to_owned());
    let other = bare(other);
    if first == other {
        return first.map_or(REFUSED.to_owned(), |text| literal(&text));
    }
    match (first, other) {
        (Some(first), Some(other)) => {
            if let Some(opening) = first.strip_suffix(other.as_str()) {
                return format!("{{{{ if not $i }}}}{}{{{{ end }}}}{}", literal(opening), literal(&other));
            }
            if let Some(opening) = other.strip_suffix(first.as_str()) {
                return format!("{{{{ if $i }}}}{}{{{{ end }}}}{}", literal(opening), literal(&first));
            }
            format!("{{{{ if $i }}}}{}{{{{ else }}}}{}{{{{ end }}}}", literal(&other), literal(&first))
        }
        (Some(first), None) => format!("{{{{ if $i }}}}{REFUSED}{{{{ end }}}}{}", literal(&first)),
        (None, Some(other)) => format!("{{{{ if not $i }}}}{REFUSED}{{{{ end }}}}{}", literal(&other)),
        (None, None) => REFUSED.to_owned(),
    }
}

/// A text that Go writes as it is. The Modelfile ends at three quotes and drops what cannot be printed.
fn literal(text: &str) -> String {
    let plain = |c: char| c == '\n' || c == '\'' || c == '\\' || (c != '"' && c.escape_debug().count() == 1);
    let mut written = String::new();
    for piece in text.split_inclusive([ROUND, ROUND_FROM_ZERO]) {
        let (piece, number) = match piece.chars().next_back() {
            Some(ROUND) => (piece.trim_end_matches(ROUND), "{{ len $round }}"),
            Some(ROUND_FROM_ZERO) => (piece.trim_end_matches(ROUND_FROM_ZERO), "{{ len (slice $round 1) }}"),
            _ => (piece, ""),
        };
        if piece.chars().all(plain) && !piece.contains("{{") && !piece.ends_with('{') {
            written += piece;
        } else {
            written += "{{ \"";
            written.extend(piece.chars().map(|c| match c {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                c if plain(c) => c.to_string(),
                c => format!("\\U{:08x}", c as u32),
            }));
            written += "\" }}";
        }
        written += number;
    }
    written
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn texts_that_go_or_a_modelfile_would_misread_are_quoted() {
        for (text, written) in [
            ("<|user|>\n", "<|user|>\n"),
            ("it's \\ and {one}", "it's \\ and {one}"),
            ("{", "{{ \"{\" }}"),
            ("a {{ b }}", "{{ \"a {{ b }}\" }}"),
            ("say \"no\"\n", "{{ \"say \\\"no\\\"\\n\" }}"),
            ("\u{3000}\t\r", "{{ \"\\U00003000\\U00000009\\U0000000d\" }}"),
            ("[Round \u{e000}]", "[Round {{ len $round }}]"),
        ] {
            assert_eq!(literal(text), written);
        }
    }
}
