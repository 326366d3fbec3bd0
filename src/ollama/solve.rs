//! Takes the texts between two messages apart, into what follows the one and what precedes the other.

use std::collections::{BTreeMap, BTreeSet};

use super::shape::{Kind, ROUND, ROUND_FROM_ZERO};

/// What comes next in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Next {
    Kind(Kind),
    /// The answer that is asked for.
    End,
}

/// A text between two contents, as it was found.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    /// `None` at the beginning.
    pub previous: Option<Kind>,
    pub next: Next,
    /// The number of the user's message, if that is what comes next.
    pub round: usize,
    pub text: String,
}

/// After each kind of message; before each; before the first message's content.
pub(super) type Texts = (BTreeMap<Kind, String>, BTreeMap<Next, String>, BTreeMap<Kind, String>);

/// `stops`: what follows a last message when no answer is asked for; the edges agree with these, or it fails.
///
/// # Errors
/// When a text depends on more than the two messages that it is between.
pub(super) fn solve(mut edges: Vec<Edge>, stops: &BTreeMap<Kind, String>) -> Result<Texts, String> {
    number(&mut edges)?;
    let mut first = BTreeMap::new();
    let mut between: BTreeMap<(Kind, Next), String> = BTreeMap::new();
    for edge in edges {
        let known = match (edge.previous, edge.next) {
            (None, Next::Kind(kind)) => first.entry(kind).or_insert_with(|| edge.text.clone()),
            (None, Next::End) => continue,
            (Some(kind), next) => between.entry((kind, next)).or_insert_with(|| edge.text.clone()),
        };
        if *known != edge.text {
            return Err(
                "what it writes around a message depends on more than the messages beside it".to_owned()
            );
        }
    }
    let (after, before) = split(&between, &first, stops)?;
    Ok((after, before, first))
}

/// Puts a mark where the user's messages are numbered.
fn number(edges: &mut [Edge]) -> Result<(), String> {
    let asked = |edge: &&Edge| edge.previous == Some(Kind::Assistant) && edge.next == Next::Kind(Kind::User);
    let (Some(second), Some(third)) = (
        edges.iter().filter(asked).find(|edge| edge.round == 2),
        edges.iter().filter(asked).find(|edge| edge.round == 3),
    ) else {
        return Ok(());
    };
    if second.text == third.text {
        return Ok(());
    }
    let tail = common_suffix([second.text.as_str(), third.text.as_str()].into_iter()).to_owned();
    for (mark, less) in [(ROUND, 0), (ROUND_FROM_ZERO, 1)] {
        let marked = |edge: &Edge| {
            let number = edge.round.checked_sub(less)?.to_string();
            let head = edge.text.strip_suffix(tail.as_str())?.strip_suffix(number.as_str())?;
            Some(format!("{head}{mark}{tail}"))
        };
        let texts: Option<Vec<String>> =
            edges.iter().filter(|edge| edge.next == Next::Kind(Kind::User)).map(marked).collect();
        if let Some(texts) = texts {
            let to_user = edges.iter_mut().filter(|edge| edge.next == Next::Kind(Kind::User));
            to_user.zip(texts).for_each(|(edge, text)| edge.text = text);
            return Ok(());
        }
    }
    Err("what it writes around a message depends on its place".to_owned())
}

type Split = (BTreeMap<Kind, String>, BTreeMap<Next, String>);

/// Each text is what follows the one message and then what precedes the other. Where nothing tells the border, the
/// most that texts have in common at their ends is what precedes.
fn split(
    between: &BTreeMap<(Kind, Next), String>,
    first: &BTreeMap<Kind, String>,
    stops: &BTreeMap<Kind, String>,
) -> Result<Split, String> {
    let mut after: BTreeMap<Kind, String> = BTreeMap::new();
    let mut before: BTreeMap<Next, String> = BTreeMap::new();
    let failed = || "what it writes around a message depends on the messages beside it".to_owned();
    loop {
        // What is known spreads over the texts that share it.
        loop {
            let known = after.len() + before.len();
            for ((previous, next), text) in between {
                match (after.get(previous), before.get(next)) {
                    (Some(a), Some(b)) if *text != format!("{a}{b}") => return Err(failed()),
                    (Some(a), None) => {
                        before.insert(*next, text.strip_prefix(a.as_str()).ok_or_else(failed)?.to_owned());
                    }
                    (None, Some(b)) => {
                        after.insert(*previous, text.strip_suffix(b.as_str()).ok_or_else(failed)?.to_owned());
                    }
                    _ => {}
                }
            }
            if after.len() + before.len() == known {
                break;
            }
        }
        let open: BTreeSet<Kind> =
            between.keys().map(|(previous, _)| *previous).filter(|kind| !after.contains_key(kind)).collect();
        let Some(kind) = open.first() else { break };
        if let Some((kind, stop)) = open.iter().find_map(|kind| Some((*kind, stops.get(kind)?))) {
            after.insert(kind, stop.clone());
            continue;
        }
        // The text that most kinds of messages come before.
        let count = |next: &Next| between.keys().filter(|(_, other)| other == next).count();
        let next = between.keys().filter(|(previous, _)| previous == kind).map(|(_, next)| *next);
        let Some(next) = next.max_by_key(count) else { break };
        let texts = between.iter().filter(|((_, other), _)| *other == next).map(|(_, text)| text.as_str());
        let opening =
            first.iter().filter(|(kind, _)| Next::Kind(**kind) == next).map(|(_, text)| text.as_str());
        before.insert(next, common_suffix(texts.chain(opening)).to_owned());
    }
    Ok((after, before))
}

/// The longest text that all end in.
fn common_suffix<'a>(mut texts: impl Iterator<Item = &'a str>) -> &'a str {
    let Some(mut common) = texts.next() else { return "" };
    for text in texts {
        let same = common.chars().rev().zip(text.chars().rev()).take_while(|(a, b)| a == b);
        let bytes: usize = same.map(|(c, _)| c.len_utf8()).sum();
        common = common.get(common.len() - bytes..).unwrap_or_default();
    }
    common
}
