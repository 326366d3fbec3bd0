//! Works out the shape of a chat template from what it makes of small conversations.
//!
//! Every content is a word of its own, so a rendering falls apart into the texts between two contents. Those are
//! taken apart into what follows one kind of message and what precedes another. What comes out is believed only when
//! it gives the template's own text for other conversations too, with contents that templates get wrong.

use std::collections::BTreeMap;

use minijinja::context;

use super::shape::{Empty, Kind, ROUND, ROUND_FROM_ZERO, SPACES, Shape, Turn, kind, numbered};
use super::solve::{Edge, Next, solve};
use crate::jinja;

/// Roles of the conversations that are taken apart; the first two must work, the others are what a template may
/// refuse.
const CHATS: [&str; 18] = [
    "u", "uau", "uauau", "su", "suau", "s", "uasu", "sau", "au", "uat", "uatau", "uattau", "uatatau", "uatu",
    "suatau", "uas", "tau", "atau",
];

const EMPTY: &str = "it treats empty messages in a way that Ollama's templates cannot";

/// A template with the texts that it may ask for.
pub(super) struct Template<'a> {
    pub jinja: &'a str,
    pub bos: &'a str,
    pub eos: &'a str,
}

/// The shape of a template.
///
/// # Errors
/// Why it has none: in words that end a sentence.
pub(super) fn shape(template: &Template) -> Result<Shape, String> {
    if template.jinja.contains([ROUND, ROUND_FROM_ZERO]) {
        return Err("it has characters of the private use area".to_owned());
    }
    let mut problem = String::new();
    // Where a template ends its turns shows best without the generation prompt, but some write that always. And a
    // template that does with tools what has no shape may have one for chats without them.
    for (tools, stops) in [(true, true), (true, false), (false, true), (false, false)] {
        match Probe::new(template, tools, stops).and_then(|probe| probe.shape()) {
            Ok(shape) => return Ok(shape),
            Err(e) => problem = e,
        }
    }
    Err(problem)
}

struct Probe<'a> {
    template: &'a Template<'a>,
    after: BTreeMap<Kind, String>,
    before: BTreeMap<Next, String>,
    /// Before the first message's content, with all that begins the prompt.
    first: BTreeMap<Kind, String>,
    /// White space between the generation prompt and a reply, which the model writes itself.
    written: String,
}

impl Template<'_> {
    pub fn render(&self, messages: &[(&str, &str)], ask: bool) -> Result<String, String> {
        let messages: Vec<_> =
            messages.iter().map(|(role, content)| context! { role => *role, content => *content }).collect();
        let values = context! {
            messages => messages, add_generation_prompt => ask, bos_token => self.bos, eos_token => self.eos,
        };
        jinja::render(self.jinja, values).map_err(|e| format!("it cannot be rendered: {e}"))
    }

    /// The texts before, between and after the contents.
    fn around(&self, messages: &[(&str, &str)], ask: bool) -> Result<Vec<String>, String> {
        let text = self.render(messages, ask)?;
        let mut rest = text.as_str();
        let mut texts = Vec::new();
        for (role, content) in messages.iter().filter(|(_, content)| !content.trim_matches(SPACES).is_empty())
        {
            let word = content.trim_matches(SPACES);
            let (before, after) = rest
                .split_once(word)
                .ok_or(format!("it leaves out a message of role {role}, or changes it"))?;
            if after.contains(word) {
                return Err(format!("it repeats a message of role {role}"));
            }
            texts.push(before.to_owned());
            rest = after;
        }
        texts.push(rest.to_owned());
        Ok(texts)
    }
}

/// Messages of the roles whose letters are given, each with a word of its own.
fn chat(roles: &str) -> Vec<(&'static str, &'static str)> {
    const WORDS: [&str; 10] = [
        "qaprobex", "qbprobex", "qcprobex", "qdprobex", "qeprobex", "qfprobex", "qgprobex", "qhprobex",
        "qiprobex", "qjprobex",
    ];
    let role = |letter| match letter {
        's' => "system",
        'u' => "user",
        'a' => "assistant",
        _ => "tool",
    };
    roles.chars().map(role).zip(WORDS).collect()
}

impl<'a> Probe<'a> {
    fn new(template: &'a Template<'a>, tools: bool, use_stops: bool) -> Result<Probe<'a>, String> {
        let mut edges: Vec<Edge> = Vec::new();
        let mut stops: BTreeMap<Kind, String> = BTreeMap::new();
        for (i, roles) in CHATS.iter().enumerate().filter(|(_, roles)| tools || !roles.contains('t')) {
            let messages = chat(roles);
            let texts = match template.around(&messages, true) {
                Ok(texts) => texts,
                Err(problem) if i < 2 => return Err(problem),
                Err(_) => continue,
            };
            let kinds: Vec<Kind> = (0..messages.len()).filter_map(|i| kind(&messages, i)).collect();
            let mut round = 0;
            for (j, text) in texts.into_iter().enumerate() {
                let next = kinds.get(j).map_or(Next::End, |kind| Next::Kind(*kind));
                if next == Next::Kind(Kind::User) {
                    round += 1;
                }
                let previous = j.checked_sub(1).and_then(|j| kinds.get(j).copied());
                // What follows an assistant's last message is no text of a prompt: it is to be continued.
                if next != Next::End || previous != Some(Kind::Assistant) {
                    edges.push(Edge { previous, next, round, text });
                }
            }
            if let (true, Some(last)) = (use_stops, kinds.last())
                && let Some(text) = template.around(&messages, false).ok().and_then(|mut texts| texts.pop())
            {
                stops.entry(*last).or_insert(text);
            }
        }
        let (after, before, first) = solve(edges, &stops)?;
        let mut probe = Probe { template, after, before, first, written: String::new() };
        probe.written = probe.written();
        Ok(probe)
    }

    /// A model that begins its replies with a line break has it in the history and not in the prompt.
    fn written(&self) -> String {
        let asked = self.before.get(&Next::End).map_or("", String::as_str);
        let said = self.before.get(&Next::Kind(Kind::Assistant)).map_or("", String::as_str);
        let rest = said.strip_prefix(asked).unwrap_or_default();
        let white = rest.contains('\n') && rest.trim_matches(SPACES).is_empty();
        if white { rest.to_owned() } else { String::new() }
    }

    fn shape(&self) -> Result<Shape, String> {
        let mut turns = BTreeMap::new();
        for kind in [Kind::System, Kind::User, Kind::Assistant, Kind::Call, Kind::Tool] {
            // What the template refuses, Ollama shall refuse too.
            if let Some(turn) = self.turn(kind)? {
                turns.insert(kind, turn);
            }
        }
        // Ollama leaves out the oldest messages of a long conversation, so that any can come first.
        let opening = opening(&turns);
        for (_, turn) in turns.iter_mut().filter(|(kind, _)| **kind != Kind::System) {
            let before = turn.before.as_deref().unwrap_or_default();
            turn.first.get_or_insert_with(|| format!("{opening}{before}"));
        }
        let mut generation = self.before.get(&Next::End).cloned().unwrap_or_default();
        // The line break goes into the prompt, for Ollama hands a reply on as it comes; a space behind it stays with
        // the reply's first word, of whose token it is a part.
        generation += self.written.rfind('\n').and_then(|end| self.written.get(..=end)).unwrap_or_default();
        let shape = Shape { turns, generation };
        self.check(&shape)?;
        Ok(shape)
    }

    /// How one kind of message is treated; none when the template refuses it.
    fn turn(&self, kind: Kind) -> Result<Option<Turn>, String> {
        // A conversation with the kind at its beginning, if it may be there, and one with it elsewhere.
        let (leading, inner): (&str, &[(&str, usize)]) = match kind {
            Kind::System => ("su", &[("uasu", 2), ("su", 0)]),
            Kind::User => ("uau", &[("uauau", 2)]),
            Kind::Assistant => ("au", &[("uauau", 1)]),
            Kind::Call => ("atau", &[("uatau", 1)]),
            Kind::Tool => ("tau", &[("uatau", 2)]),
        };
        let first = self.first.get(&kind).cloned();
        let before = self.before.get(&Next::Kind(kind)).cloned();
        let after = self.after.get(&kind).cloned();
        let place = inner.iter().find(|(roles, _)| self.template.around(&chat(roles), true).is_ok());
        let (Some(after), Some(&(roles, at))) = (after, place) else { return Ok(None) };
        if first.is_none() && before.is_none() {
            return Ok(None);
        }
        let mut turn = Turn { first, before, after, left: false, right: false, empty: Empty::Same };
        (turn.left, turn.right) = self.trimming(roles, at)?;
        let forced = matches!(kind, Kind::Assistant | Kind::Call) && !self.written.is_empty();
        turn.left |= forced;
        turn.empty = self.empty(&turn, leading, (roles, at), forced)?;
        Ok(Some(turn))
    }

    /// Whether white space around a content is cut off, at its beginning and at its end.
    fn trimming(&self, roles: &str, at: usize) -> Result<(bool, bool), String> {
        const WHITE: (&str, &str) = (" \n\t", " \n ");
        let plain = self.template.around(&chat(roles), true)?;
        let mut messages = chat(roles);
        let padded =
            messages.get(at).map(|(_, word)| format!("{}{word}{}", WHITE.0, WHITE.1)).unwrap_or_default();
        if let Some((_, content)) = messages.get_mut(at) {
            *content = &padded;
        }
        let texts = self.template.around(&messages, true)?;
        let (before, after) =
            (texts.get(at).map_or("", String::as_str), texts.get(at + 1).map_or("", String::as_str));
        let (plain_before, plain_after) =
            (plain.get(at).map_or("", String::as_str), plain.get(at + 1).map_or("", String::as_str));
        let cut = |padded: String, text: &str, plain: &str| match text {
            _ if text == plain => Ok(true),
            _ if text == padded => Ok(false),
            _ => Err("it changes white space in a way that Ollama's templates cannot".to_owned()),
        };
        Ok((
            cut(format!("{plain_before}{}", WHITE.0), before, plain_before)?,
            cut(format!("{}{plain_after}", WHITE.1), after, plain_after)?,
        ))
    }

    /// What a message without content comes to.
    fn empty(
        &self,
        turn: &Turn,
        leading: &str,
        (roles, at): (&str, usize),
        forced: bool,
    ) -> Result<Empty, String> {
        let other = match (at, &turn.before) {
            (1.., Some(before)) => Some((before, self.alone(roles, at, "")?)),
            _ => None,
        };
        let first = match &turn.first {
            Some(first) => Some((first, self.alone(leading, 0, "")?)),
            None => None,
        };
        let whole = |before: &str| numbered(before, rounds(roles, at)) + &turn.after;
        let whole_first = |before: &str| numbered(before, 1) + &turn.after;
        let same = other.as_ref().is_none_or(|(before, text)| *text == whole(before))
            && first.as_ref().is_none_or(|(before, text)| *text == whole_first(before));
        if same {
            return Ok(Empty::Same);
        }
        let failed = || EMPTY.to_owned();
        if turn.before.iter().chain(&turn.first).any(|text| text.contains([ROUND, ROUND_FROM_ZERO])) {
            return Err(failed());
        }
        // Is white space alone nothing too? That of a reply which the model itself began with is.
        let blank = match (&other, &first) {
            _ if !turn.left => None,
            _ if forced => None,
            (Some((before, _)), _) => Some((self.alone(roles, at, " \n ")?, whole(before))),
            (None, Some((before, _))) => Some((self.alone(leading, 0, " \n ")?, whole_first(before))),
            (None, None) => None,
        };
        let by_rest = blank.is_none_or(|(text, whole)| text != whole);
        let lead = |(before, text): &(&String, String)| {
            Some(before.strip_prefix(text.strip_suffix(turn.after.as_str())?)?.to_owned())
        };
        let leads: Vec<_> = other.iter().chain(&first).map(lead).collect();
        // Cut at its end alone, a content is asked for as it came.
        if let (true, [Some(lead), rest @ ..]) = (by_rest && (turn.left || !turn.right), leads.as_slice())
            && rest.iter().all(|other| other.as_ref() == Some(lead))
        {
            return Ok(Empty::Without(lead.clone()));
        }
        if turn.left && by_rest {
            return Err(failed());
        }
        Ok(Empty::Text { first: first.map(|(_, text)| text), other: other.map(|(_, text)| text) })
    }

    /// All that the message at `at` comes to with another content, without what its neighbours come to.
    fn alone(&self, roles: &str, at: usize, content: &str) -> Result<String, String> {
        let failed = || EMPTY.to_owned();
        let mut messages = chat(roles);
        let next = kind(&messages, at + 1).map_or(Next::End, Next::Kind);
        let previous = at.checked_sub(1).and_then(|i| kind(&messages, i));
        messages.get_mut(at).ok_or_else(failed)?.1 = content;
        let texts = self.template.around(&messages, true)?;
        let text = texts.get(at).ok_or_else(failed)?.as_str();
        let text = match previous.map(|kind| self.after.get(&kind)) {
            Some(after) => text.strip_prefix(after.ok_or_else(failed)?.as_str()).ok_or_else(failed)?,
            None => text,
        };
        let round = messages.iter().take(at + 2).filter(|(role, _)| *role == "user").count();
        let before = numbered(self.before.get(&next).ok_or_else(failed)?, round);
        text.strip_suffix(before.as_str()).map(str::to_owned).ok_or_else(failed)
    }
}

/// What a conversation begins with before its first question's own text.
fn opening(turns: &BTreeMap<Kind, Turn>) -> String {
    let user = turns.get(&Kind::User);
    let opening = user.and_then(|turn| turn.first.as_deref()?.strip_suffix(turn.before.as_deref()?));
    opening.unwrap_or_default().to_owned()
}

/// The number of the user's message that is or precedes the message at `at`.
fn rounds(roles: &str, at: usize) -> usize {
    roles.chars().take(at + 1).filter(|role| *role == 'u').count()
}

/// Contents that templates get wrong: empty ones, white space, braces, quotes, thoughts, other languages.
const CONTENTS: [&str; 16] = [
    "Hello there",
    "",
    "你好，世界。",
    "\n\nafter a blank line",
    " ",
    "  two spaces\n  and a line \n",
    "a \"quoted\" {{ word }} {% raw %} 'x' \"\"\" {",
    "<think>\nhm\n</think>\n\nyes",
    "\n",
    "a\\nb\ttab <b>&amp;</b>",
    "[1, 2]",
    " \n ok",
    "</think>",
    "0",
    "User: hi\nAssistant: no",
    "# 标题\r\n* 一",
];

impl Probe<'_> {
    /// Whether a shape gives the template's own text.
    fn check(&self, shape: &Shape) -> Result<(), String> {
        let ends = self.written.rfind('\n').map_or("", |end| self.written.get(..=end).unwrap_or_default());
        for roles in CHATS.iter().chain(&["uauauauau", "suauau"]) {
            let plain = chat(roles);
            if plain
                .iter()
                .enumerate()
                .any(|(i, _)| kind(&plain, i).is_none_or(|kind| !shape.turns.contains_key(&kind)))
            {
                continue;
            }
            for shift in 0..CONTENTS.len() {
                let mut messages = plain.clone();
                // Neighbours get contents that are not neighbours in the list, and every message gets every content.
                for (i, message) in messages.iter_mut().enumerate() {
                    if shift > 0 {
                        message.1 =
                            CONTENTS.get((shift + 5 * i) % CONTENTS.len()).copied().unwrap_or_default();
                    }
                }
                let Some(found) = shape.render(&messages) else { continue };
                // Where the model writes the white space before its replies itself, a reply that comes back with it
                // is meant without: the template then gives what the model was trained on.
                let expected: Vec<_> = messages
                    .iter()
                    .map(|(role, content)| match *role {
                        "assistant" if !self.written.is_empty() => {
                            (*role, content.trim_start_matches(SPACES))
                        }
                        _ => (*role, *content),
                    })
                    .collect();
                // A conversation that the template refuses has no text to compare.
                let Ok(expected) = self.template.render(&expected, true) else { continue };
                if let Some((gives, roles)) = first_difference(&(expected + ends), &found) {
                    return Err(format!(
                        "it gives {gives:?} where the messages' roles alone would give {roles:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The beginnings of what differs, if anything does.
fn first_difference(a: &str, b: &str) -> Option<(String, String)> {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let rest = |text: &str| text.chars().skip(same).take(24).collect::<String>();
    (a != b).then(|| (rest(a), rest(b)))
}
