//! The chat templates, in Jinja: `chat/*.jinja`.
//!
//! Plain loops and ifs: every runtime brings its own Jinja, none brings all of it. In the files, line breaks and the
//! space before a line are for the reader, and are taken out: whether an engine keeps a line break after `%}` depends
//! on its settings. A line break of the text is a `'\n'`.
//!
//! What all of them do, and why (seen in llama-server and Ollama):
//!
//! * An earlier answer is trimmed, as the authors' own chat functions do before it goes into the history: the model
//!   begins each with a line break, which clients send back.
//! * `reasoning_content` is written between tags that nothing else uses, in a last message only. No model of the
//!   family has it: a server renders such a message to find out how a reply begins, and with any form found it skips
//!   the white space before the answer. The prompt stays the authors'.
//! * A tool call in the history is written as the authors' code has it. A call that nothing follows comes from no
//!   request: a server renders one to find out how calls look. It gets markers that the model never writes, so that
//!   the server takes what the model writes for text and passes it on, call or answer.
//! * A call may come back as the text that the client got: an answer before a tool's result is one, and such a text
//!   begins with the tool's name, right behind the role.

use std::sync::LazyLock;

use minijinja::context;
use minijinja::value::Serde;
use serde_json::{Value, json};

use crate::jinja;

/// How a model takes a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatFormat {
    /// ChatGLM3: a role token, a line of metadata, the content.
    Roles,
    /// ChatGLM2 and CodeGeeX2: numbered rounds of plain text.
    Rounds,
    /// GLM-4 and CodeGeeX4: role tokens.
    Glm4,
    /// GLM-Edge: GLM-4's roles without a prefix.
    Edge,
    /// A base model: the text is continued.
    Completion,
    /// By the model's own template, of which nothing is known.
    Own,
}

/// ChatGLM3, giving the ids of the authors' `build_chat_input`.
///
/// The authors encode metadata with its line break, and the content, each on its own, and each text starts with
/// SentencePiece's space: hence `\n` and one space. The published templates (`|> \n content`) give other ids.
/// A literal `<|user|>` would make llama.cpp take it for the template of another model; it looks for `[gMASK]sop`.
/// Runtimes pass the tools beside the messages, the authors in the system message: both work.
pub static ROLES: LazyLock<String> = LazyLock::new(|| one_line(include_str!("chat/chatglm3.jinja")));

/// ChatGLM2 and CodeGeeX2, giving the ids of the authors' `build_prompt`.
///
/// They know no system message: one in front is put before the first round as it is. The question always asks for
/// its answer, whether a generation prompt is wanted or not.
pub static ROUNDS: LazyLock<String> = LazyLock::new(|| one_line(include_str!("chat/chatglm2.jinja")));

/// GLM-4, giving the ids of the published template, and of the authors' code where that template says nothing: it
/// reads tools from a message only, where no runtime puts them.
pub static GLM4: LazyLock<String> = LazyLock::new(|| one_line(include_str!("chat/glm4.jinja")));

/// GLM-Edge, giving the text of the published template.
pub static EDGE: LazyLock<String> = LazyLock::new(|| one_line(include_str!("chat/glm-edge.jinja")));

fn one_line(text: &str) -> String {
    text.lines().map(str::trim_start).collect()
}

impl ChatFormat {
    /// The names by which a user may ask for a format.
    pub const NAMES: [(&'static str, ChatFormat); 4] = [
        ("chatglm2", ChatFormat::Rounds),
        ("chatglm3", ChatFormat::Roles),
        ("glm4", ChatFormat::Glm4),
        ("glm-edge", ChatFormat::Edge),
    ];

    /// Its Jinja template; a base model has none, and of a model's own nothing is known here.
    pub fn template(self) -> Option<&'static str> {
        match self {
            ChatFormat::Roles => Some(&ROLES),
            ChatFormat::Rounds => Some(&ROUNDS),
            ChatFormat::Glm4 => Some(&GLM4),
            ChatFormat::Edge => Some(&EDGE),
            ChatFormat::Completion | ChatFormat::Own => None,
        }
    }
}

/// What a conversation is told apart by, in a template that ours may replace: keys of messages and tools, methods of
/// loops. A template with other words does something that no probe can be sure to meet.
const KEYS: [&str; 9] = ["role", "content", "metadata", "tools", "type", "function", "name", "first", "last"];

/// The texts that its conditions may ask for, beside the keys: roles, and the kinds of tools of GLM-4's own template.
const CONSTANTS: [&str; 9] =
    ["system", "user", "assistant", "tool", "observation", "function", "python", "simple_browser", "cogview"];

/// What it may take from outside.
const VARIABLES: [&str; 5] = ["messages", "tools", "add_generation_prompt", "bos_token", "eos_token"];

/// The format that may take a template's place: it gives the same text for chats, and the template does nothing of
/// its own with tools. Judged by what the template does: editions differ in how they are written. One that could do
/// more than the probes show is kept.
pub(super) fn recognise(template: &str) -> Option<ChatFormat> {
    let formats = || ChatFormat::NAMES.into_iter().map(|(_, format)| format);
    if let Some(ours) = formats().find(|format| format.template() == Some(template)) {
        return Some(ours);
    }
    if !is_plain(template) {
        return None;
    }
    formats().find(|format| gives(template, *format, |text| text))
}

/// Whether a template gives a format's text but for white space: the published templates of ChatGLM3, whose editions
/// differ in it, put it where the authors' code has none, and so do those that tools of fine-tuning write.
pub(super) fn is_but_spaced(template: &str, format: ChatFormat) -> bool {
    let without = |text: String| text.split_whitespace().collect();
    format.template() == Some(template) || (is_plain(template) && gives(template, format, without))
}

/// Whether a template gives the text of a format for all probes, `as_read`: or what is left of the two texts.
fn gives(template: &str, format: ChatFormat, as_read: fn(String) -> String) -> bool {
    let ours = format.template().unwrap_or_default();
    let text = |jinja: &str, chat: &Value, tools: Option<&Value>| text(jinja, chat, tools).map(as_read);
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let same = |chat: &Value| text(template, chat, None).is_some_and(|t| Some(t) == text(ours, chat, None));
    let of_tools = |chat: &Value| {
        let offered = text(template, chat, Some(&tools));
        offered == text(template, chat, None) || offered == text(ours, chat, Some(&tools))
    };
    let calls = call_of_a_tool();
    let called = text(template, &calls, None);
    // The published templates know neither calls nor their results, which are nothing to them, or a role like any.
    let without = text(template, &without_call(None), None);
    let as_user = text(template, &without_call(Some("user")), None);
    let bare =
        as_user.map(|text| text.replacen("<|user|>", "<|tool|>", 2).replacen("<|tool|>", "<|user|>", 1));
    probes().iter().all(|chat| same(chat) && of_tools(chat))
        && (called == text(ours, &calls, None) || (called.is_some() && [without, bare].contains(&called)))
}

/// Whether nothing in it asks for what the probes do not have.
fn is_plain(template: &str) -> bool {
    let known = |word: &String| KEYS.contains(&word.as_str());
    let constant = |word: &String| known(word) || CONSTANTS.contains(&word.as_str());
    jinja::words(template)
        .is_some_and(|words| words.keys.iter().all(known) && words.constants.iter().all(constant))
        && jinja::variables(template)
            .is_some_and(|names| names.iter().all(|name| VARIABLES.contains(&name.as_str())))
}

fn text(template: &str, messages: &Value, tools: Option<&Value>) -> Option<String> {
    let (bos_token, eos_token) = ("<bos>", "<eos>"); // a template that writes them is none of ours
    let messages = Serde(messages);
    let context = match tools.map(Serde) {
        Some(tools) => context! { messages, tools, bos_token, eos_token, add_generation_prompt => true },
        None => context! { messages, bos_token, eos_token, add_generation_prompt => true },
    };
    jinja::render(template, context).ok()
}

/// Chats that tell formats apart: with a system message and without, several rounds, space around a question, an
/// answer with its reasoning.
fn probes() -> [Value; 4] {
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let long = (0..24).map(|i| turn(["user", "assistant"][i % 2], &format!("{i}")));
    [
        json!([turn("user", "你好")]),
        json!([
            turn("user", " \n two  lines\n\nof \"it\" "),
            turn("assistant", "好的。\n\nYes."),
            turn("user", "{{ more }}"),
            turn("assistant", "<think>\nhm\n</think>\n\nNo."),
            turn("user", "?"),
        ]),
        json!(
            [turn("system", " Be terse.\n"), turn("user", "a"), turn("assistant", "b"), turn("user", "c"),]
        ),
        long.collect(),
    ]
}

/// A call of a tool and its result, as runtimes hand them on.
fn call_of_a_tool() -> Value {
    let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}});
    json!([
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "name": "f", "content": "r"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ])
}

/// The same without the call, and its result in another role, or nowhere.
fn without_call(result: Option<&str>) -> Value {
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let before = [turn("user", "a"), turn("assistant", "")];
    let after = [turn("assistant", "b"), turn("user", "c")];
    before.into_iter().chain(result.map(|role| turn(role, "r"))).chain(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_template_is_ours_but_for_white_space() {
        let published = "{% for message in messages %}{% if loop.first %}[gMASK]sop<|{{ message['role'] }}|> \n \
            {{ message['content'] }}{% else %}<|{{ message['role'] }}|> \n {{ message['content'] }}{% endif %}\
            {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
        for same in [published.to_owned(), published.replace("|> \n ", "|>\n"), ROLES.clone()] {
            assert!(is_but_spaced(&same, ChatFormat::Roles), "{same}");
            assert!(!is_but_spaced(&same, ChatFormat::Rounds), "{same}");
        }
        for other in [
            published.replace("assistant", "bot"),
            published.replace("[gMASK]sop", "[gMASK]sop<|system|>\n You are a nurse."),
            published.replace("{% for", "{% if tools %}{{ tools | tojson }}{% endif %}{% for"),
            published.replace("{{ message['content'] }}", "{{ message['content'].split('</think>')[-1] }}"),
            published.replace("<|assistant|>", "<|assistant|>{{ eos_token }}"),
            published
                .replace("{% else %}", "{% elif message['role'] == 'tool' %}<|observation|>RES:{% else %}"),
        ] {
            assert!(!is_but_spaced(&other, ChatFormat::Roles), "{other}");
        }
        assert!(is_but_spaced(&ROUNDS, ChatFormat::Rounds));
    }

    #[test]
    fn a_template_is_known_by_what_it_does() {
        for (name, format) in ChatFormat::NAMES {
            assert_eq!(recognise(format.template().unwrap()), Some(format), "{name}");
        }
        let glm4 = "[gMASK]<sop>{% for item in messages %}{% if item['content'] %}<|{{ item['role'] }}|>\n\
            {{ item['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
        assert_eq!(recognise(glm4), Some(ChatFormat::Glm4));
        let with_metadata = glm4.replace("|>\n", "|>{{ item['metadata'] }}\n");
        assert_eq!(recognise(&with_metadata), Some(ChatFormat::Glm4));
        for edge in [
            "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}<|assistant|>",
            "{% for m in messages %}{% if m['role'] == 'system' %}<|system|>\n{{ m['content'] }}\
                {% elif m['role'] == 'user' %}<|user|>\n{{ m['content'] }}{% elif m['role'] == 'assistant' %}\
                <|assistant|>\n{{ m['content'] }}{% endif %}{% endfor %}<|assistant|>",
        ] {
            assert_eq!(recognise(edge), Some(ChatFormat::Edge), "{edge}");
            let result =
                edge.replace("{% endfor", "{% if m['role'] == 'tool' %}<|tool|>\nR{% endif %}{% endfor");
            assert_eq!(recognise(&result), None, "{result}");
        }
        let edge = glm4.trim_start_matches("[gMASK]<sop>");
        assert_eq!(recognise(edge), Some(ChatFormat::Edge));
        for other in [
            glm4.replace("|>\n", "|>\n "),
            glm4.replace("|assistant|>", "|assistant|>\n<think>"),
            glm4.replace("{% for", "<|system|>\nYou are a nurse.{% for"),
            glm4.replace("{% for", "{% if tools %}{{ tools | tojson }}{% endif %}{% for"),
            glm4.replace("{{ item['content'] }}", "{{ item['content'] | trim }}"),
            glm4.replace("{% endif %}{% endfor", "{{ eos_token }}{% endif %}{% endfor"),
            glm4.replace("{{ item['content'] }}", "{{ item['content'].split('</think>')[-1] }}"),
            glm4.replace(
                "|assistant|>{% endif %}",
                "|assistant|>{% if enable_thinking %}<think>{% endif %}{% endif %}",
            ),
            glm4.replace(
                "{% if item",
                "{% if item['role'] == 'tool' %}<|observation|>\nRES:{{ item['content'] }}{% elif item",
            ),
            glm4.replace("{% if item", "{% if item['tool_calls'] %}<|assistant|>CALL{% elif item"),
            glm4.replace("{% if item", "{% if item['image'] %}<|begin_of_image|>{% endif %}{% if item"),
            glm4.replace("{% if item", "{% if loop.index == 40 %}<|system|>\nBe brief{% endif %}{% if item"),
            glm4.replace(
                "{% if item",
                "{% if item['content'] == 'help' %}<|system|>\nHelp.{% endif %}{% if item",
            ),
            glm4.replace("{% if item", "{% if '/no_think' in item['content'] %}x{% endif %}{% if item"),
            glm4.replace("in messages", "in messages[-20:]"),
            glm4.replace("{{ item['content'] }}", "{{ item.get('text', item['content']) }}"),
            "{% if".to_owned(),
        ] {
            assert_eq!(recognise(&other), None, "{other}");
        }
    }

    #[test]
    fn arguments_of_a_chatglm3_are_pythons() {
        let arguments =
            json!({"o": {"a": true, "b": null, "c": "it's", "n": 2}, "l": [1, "x", false], "e": {}});
        let call = json!({"type": "function", "function": {"name": "f", "arguments": arguments}});
        let chat = json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "r"},
        ]);
        let text = text(&ROLES, &chat, None).unwrap();
        for part in ["o={'a': True, 'b': None, 'c': 'it\\'s', 'n': 2}", "l=[1, 'x', False]", "e={}"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_template_is_one_line_without_what_verify_would_not_run() {
        for (name, format) in ChatFormat::NAMES {
            let template = format.template().unwrap();
            assert!(!template.contains('\n') && !template.contains("  "), "{name}: {template}");
            assert!(template.ends_with("%}"), "{name}");
        }
    }
}
