//! What a chat template comes to when it treats each message by its role and its place alone.
//!
//! [`Shape::render`] is the model that probes hold against the Jinja template, and `go` prints the same as a Go
//! template; that the two agree is what `tests/ollama` shows with Go itself.

use std::collections::BTreeMap;

/// Stands in the texts of a shape for the number of the user's messages so far, this one included.
pub(super) const ROUND: char = '\u{E000}';
/// The same without this one.
pub(super) const ROUND_FROM_ZERO: char = '\u{E001}';
/// What is cut where content is trimmed. Jinja's engines differ on spaces that are not ASCII, and Go sees bytes.
pub(super) const SPACES: [char; 6] = [' ', '\n', '\t', '\r', '\u{b}', '\u{c}'];

/// What a message is to a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    System,
    User,
    Assistant,
    /// An assistant's message that a tool's follows.
    Call,
    Tool,
}

/// What stands around the content of one kind of message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Before the content of the first message, with all that begins the prompt; none where the template refuses it.
    pub first: Option<String>,
    /// Before that of any other.
    pub before: Option<String>,
    /// After the content.
    pub after: String,
    /// White space is cut off the content's beginning.
    pub left: bool,
    /// And off its end.
    pub right: bool,
    /// What there is when there is no content.
    pub empty: Empty,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Empty {
    /// What stands before it and after it.
    Same,
    /// Another text for the whole message, as the first one and elsewhere.
    Text { first: Option<String>, other: Option<String> },
    /// The end of what stands before it is left out, also when nothing is left of it after the trimming.
    Without(String),
}

/// How a model's chat template makes a prompt of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub(super) turns: BTreeMap<Kind, Turn>,
    /// Asks for an answer.
    pub(super) generation: String,
}

impl Shape {
    /// The prompt for messages of (role, content), neighbours of one role already joined; none when the template
    /// refuses one of them. The content of a last message of the assistant is to be continued: nothing follows it.
    pub fn render(&self, messages: &[(&str, &str)]) -> Option<String> {
        let mut text = String::new();
        let mut round = 0;
        for (i, (_, content)) in messages.iter().enumerate() {
            let kind = kind(messages, i)?;
            let turn = self.turns.get(&kind)?;
            if kind == Kind::User {
                round += 1;
            }
            let begins =
                |first: &Option<String>, other: &Option<String>| if i == 0 { first } else { other }.clone();
            let continued = i + 1 == messages.len() && kind == Kind::Assistant;
            let after = if continued { "" } else { turn.after.as_str() };
            let kept = turn.cut(content);
            let before = || begins(&turn.first, &turn.before);
            let (before, kept, after) = match &turn.empty {
                Empty::Text { first, other } if content.is_empty() => (begins(first, other)?, "", ""),
                Empty::Without(lead) if kept.is_empty() => {
                    (before()?.strip_suffix(lead.as_str())?.to_owned(), "", after)
                }
                _ => (before()?, kept, after),
            };
            text += &numbered(&before, round);
            text += kept;
            text += &numbered(after, round);
        }
        if messages.last().is_none_or(|(role, _)| *role != "assistant") {
            text += &self.generation;
        }
        Some(text)
    }
}

impl Turn {
    /// The content as the template takes it.
    pub fn cut<'a>(&self, content: &'a str) -> &'a str {
        let content = if self.left { content.trim_start_matches(SPACES) } else { content };
        if self.right { content.trim_end_matches(SPACES) } else { content }
    }
}

/// What the message number `i` is; none for a role that no template of these models knows.
pub(super) fn kind(messages: &[(&str, &str)], i: usize) -> Option<Kind> {
    match messages.get(i)?.0 {
        "system" => Some(Kind::System),
        "user" => Some(Kind::User),
        "assistant" if messages.get(i + 1).is_some_and(|(role, _)| *role == "tool") => Some(Kind::Call),
        "assistant" => Some(Kind::Assistant),
        "tool" => Some(Kind::Tool),
        _ => None,
    }
}

/// With the number at its place.
pub(super) fn numbered(text: &str, round: usize) -> String {
    text.replace(ROUND, &round.to_string()).replace(ROUND_FROM_ZERO, &round.saturating_sub(1).to_string())
}

impl Shape {
    /// The texts that others' messages begin with and that end the model's own; and those that begin its own.
    pub(super) fn markers(&self) -> (Vec<&str>, Vec<&str>) {
        let before = |kind: &Kind| self.turns.get(kind)?.before.as_deref();
        let others = [Kind::User, Kind::Tool, Kind::System].iter().filter_map(before);
        let ends = self.turns.get(&Kind::Assistant).map(|turn| turn.after.as_str());
        let own =
            before(&Kind::Assistant).into_iter().chain(before(&Kind::Call)).chain([self.generation.as_str()]);
        (others.chain(ends).collect(), own.collect())
    }

    /// What ends a reply where no token does: what follows it, or the line that the next question begins with, up to
    /// a number in it.
    pub(super) fn next_question(&self) -> Option<String> {
        let after = self.turns.get(&Kind::Assistant)?.after.trim_matches(SPACES);
        let before = self.turns.get(&Kind::User)?.before.as_deref()?.trim_start_matches(SPACES);
        let line = if after.is_empty() { before } else { after }.lines().next()?;
        let marker = line.split([ROUND, ROUND_FROM_ZERO]).next()?;
        (!marker.trim().is_empty()).then(|| marker.to_owned())
    }
}
