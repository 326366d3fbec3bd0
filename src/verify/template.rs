//! The file's chat template, rendered, against the prompt that the authors' code builds.

use minijinja::context;

use super::{Finding, Pair};
use crate::gguf::Value;
use crate::jinja;

pub(super) const KEY: &str = "tokenizer.chat_template";

/// A conversation with what templates get wrong: a system message, turns, an empty line, Chinese, an answer that comes
/// back with the line break which it began with.
const CHAT: [(&str, &str); 4] = [
    ("system", "You are terse."),
    ("user", " 你好，\n\nhow are you?"),
    ("assistant", "\n Fine."),
    ("user", "再见"),
];

/// Renders the template of a ChatGLM2 or 3 and compares it with the authors' code.
pub(super) fn check(pair: &Pair, roles: bool, findings: &mut Vec<Finding>) {
    let chat: &[(&str, &str)] = if roles { &CHAT } else { &CHAT[1..] }; // ChatGLM2 knows no system message
    let expected = if roles { by_roles(chat) } else { by_rounds(chat) };
    let Some(template) = template_of(pair) else {
        findings.push(Finding::new(KEY, "is absent"));
        return;
    };
    findings.extend(differs(template, chat, &expected));
}

/// The template of a GLM-4 or its kin: the model's own, or one that gives the same text, with answers trimmed as the
/// authors' code does before they go into the history.
pub(super) fn check_own(pair: &Pair, own: Option<&str>, findings: &mut Vec<Finding>) {
    let (file, own) = match (template_of(pair), own) {
        (found, own) if found == own => return,
        (None, _) => {
            findings.push(Finding::new(KEY, "is absent"));
            return;
        }
        (Some(file), own) => (file, own),
    };
    let trimmed = CHAT.map(|(role, content)| (role, in_history(role, content)));
    for first in [0, 1] {
        let expected = match own {
            Some(own) => match render(own, &trimmed[first..]) {
                Ok(expected) => expected,
                Err(e) => {
                    let problem =
                        format!("is not the one that comes with the model, which cannot be rendered: {e}");
                    findings.push(Finding::new(KEY, problem));
                    return;
                }
            },
            None => by_glm4(&CHAT[first..]),
        };
        if let Some(finding) = differs(file, &CHAT[first..], &expected) {
            findings.push(finding);
            return;
        }
    }
}

fn template_of(pair: &Pair) -> Option<&str> {
    match pair.file.metadata.get(KEY) {
        Some(Value::String(template)) => Some(template),
        _ => None,
    }
}

fn differs(template: &str, chat: &[(&str, &str)], expected: &str) -> Option<Finding> {
    let found = match render(template, chat) {
        Ok(found) if found == expected => return None,
        Ok(found) => found,
        Err(e) => return Some(Finding::new(KEY, format!("cannot be rendered: {e}"))),
    };
    let same = found.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
    let shown = |text: &str| text.chars().skip(same).take(24).collect::<String>();
    let problem = format!(
        "gives {:?} at character {same} of a test chat, where the authors' code has {:?}",
        shown(&found),
        shown(expected)
    );
    Some(Finding::new(KEY, problem))
}

fn render(template: &str, chat: &[(&str, &str)]) -> Result<String, minijinja::Error> {
    let messages: Vec<_> =
        chat.iter().map(|(role, content)| context! { role => *role, content => *content }).collect();
    jinja::render(template, context! { messages => messages, add_generation_prompt => true })
}

/// The authors' functions strip an answer before it goes into the history.
fn in_history<'a>(role: &str, content: &'a str) -> &'a str {
    if role == "assistant" { content.trim() } else { content }
}

/// `build_chat_input`: a role token and a line of metadata, then the content. Each text is encoded on its own
/// and so starts with SentencePiece's space; the first one's is the tokenizer's own.
fn by_roles(chat: &[(&str, &str)]) -> String {
    let turns = chat.iter().map(|(role, content)| format!("<|{role}|>\n {}", in_history(role, content)));
    format!("[gMASK]sop{}<|assistant|>", turns.collect::<String>())
}

/// GLM-4's `apply_chat_template`: a role token, a line break, the content.
fn by_glm4(chat: &[(&str, &str)]) -> String {
    let turns = chat.iter().map(|(role, content)| format!("<|{role}|>\n{}", in_history(role, content)));
    format!("[gMASK]<sop>{}<|assistant|>", turns.collect::<String>())
}

/// `build_prompt`: numbered rounds.
fn by_rounds(chat: &[(&str, &str)]) -> String {
    let mut prompt = "[gMASK]sop".to_owned();
    for (i, (role, content)) in chat.iter().enumerate() {
        let content = in_history(role, content);
        match i % 2 {
            0 => prompt += &format!("[Round {}]\n\n问：{content}\n\n答：", i / 2 + 1),
            _ => prompt += &format!("{content}\n\n"),
        }
    }
    prompt
}
