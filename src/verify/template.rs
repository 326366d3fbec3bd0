//! The file's chat template, rendered, against the prompt that the authors' code builds.

use minijinja::context;

use super::{Finding, Pair};
use crate::gguf::Value;
use crate::jinja;

const KEY: &str = "tokenizer.chat_template";

/// A conversation with what templates get wrong: a system message, turns, an empty line, Chinese.
const CHAT: [(&str, &str); 4] = [
    ("system", "You are terse."),
    ("user", "你好，\n\nhow are you?"),
    ("assistant", "Fine."),
    ("user", "再见"),
];

/// Renders the template and compares.
pub(super) fn check(pair: &Pair, roles: bool, findings: &mut Vec<Finding>) {
    let Some(Value::String(template)) = pair.file.metadata.get(KEY) else {
        findings.push(Finding::new(KEY, "is absent"));
        return;
    };
    let chat: &[(&str, &str)] = if roles { &CHAT } else { &CHAT[1..] }; // ChatGLM2 knows no system message
    match render(template, chat) {
        Err(e) => findings.push(Finding::new(KEY, format!("cannot be rendered: {e}"))),
        Ok(found) => {
            let expected = if roles { by_roles(chat) } else { by_rounds(chat) };
            if found != expected {
                let same = found.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
                let shown = |text: &str| text.chars().skip(same).take(24).collect::<String>();
                let problem = format!(
                    "gives {:?} at character {same} of a test chat, where the authors' code has {:?}",
                    shown(&found),
                    shown(&expected)
                );
                findings.push(Finding::new(KEY, problem));
            }
        }
    }
}

fn render(template: &str, chat: &[(&str, &str)]) -> Result<String, minijinja::Error> {
    let messages: Vec<_> =
        chat.iter().map(|(role, content)| context! { role => *role, content => *content }).collect();
    jinja::render(template, context! { messages => messages, add_generation_prompt => true })
}

/// `build_chat_input`: a role token and a line of metadata, then the content. Each text is encoded on its own
/// and so starts with SentencePiece's space; the first one's is the tokenizer's own.
fn by_roles(chat: &[(&str, &str)]) -> String {
    let turns = chat.iter().map(|(role, content)| format!("<|{role}|>\n {content}"));
    format!("[gMASK]sop{}<|assistant|>", turns.collect::<String>())
}

/// `build_prompt`: numbered rounds.
fn by_rounds(chat: &[(&str, &str)]) -> String {
    let mut prompt = "[gMASK]sop".to_owned();
    for (i, (_, content)) in chat.iter().enumerate() {
        match i % 2 {
            0 => prompt += &format!("[Round {}]\n\n问：{content}\n\n答：", i / 2 + 1),
            _ => prompt += &format!("{content}\n\n"),
        }
    }
    prompt
}
