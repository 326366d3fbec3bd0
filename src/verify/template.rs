//! The file's chat template, rendered, against the prompt that the authors' code builds.

use minijinja::context;
use minijinja::value::Serde;

use super::{Finding, Pair};
use crate::jinja;

pub(super) const KEY: &str = "tokenizer.chat_template";

/// How every prompt of a GLM-4 begins.
const GLM4_PREFIX: &str = "[gMASK]<sop>";

/// A conversation with what templates get wrong: a system message, turns, an empty line, Chinese, an answer that comes
/// back with the line break which it began with.
const CHAT: [(&str, &str); 4] = [
    ("system", "You are terse."),
    ("user", " 你好，\n\nhow are you?"),
    ("assistant", "\n <think>hm</think>\n\nFine."),
    ("user", "再见"),
];

/// Renders the template of a ChatGLM2 or 3 and compares it with the authors' code; `own`: the model's, which goes
/// before them where it has a format of its own.
pub(super) fn check(pair: &Pair, roles: bool, own: Option<&str>, findings: &mut Vec<Finding>) {
    if own.is_some_and(|own| !is_but_spaced(own, roles)) {
        return check_own(pair, own, findings);
    }
    let chat: &[(&str, &str)] = if roles { &CHAT } else { &CHAT[1..] }; // ChatGLM2 knows no system message
    let expected = if roles { by_roles(chat) } else { by_rounds(chat) };
    let Some(template) = pair.file.text(KEY) else {
        findings.push(Finding::new(KEY, "is absent"));
        return;
    };
    let plain = || render(template, chat);
    let with_tools = || jinja::render(template, tool_chat());
    let problem = differs(plain(), &expected, AUTHORS)
        .or_else(|| roles.then(|| differs(with_tools(), &tools_by_roles(), AUTHORS)).flatten());
    findings.extend(problem);
}

/// Whether a template gives the authors' prompt but for white space, as those do that are published with ChatGLM3.
fn is_but_spaced(own: &str, roles: bool) -> bool {
    let squeezed = |text: &str| text.split_whitespace().collect::<String>();
    let gives = |chat: &[(&str, &str)], expected: &str| {
        render(own, chat).is_ok_and(|text| squeezed(&text) == squeezed(expected))
    };
    let chat = &CHAT[1..];
    if beyond_a_chat(own).is_some() {
        return false;
    }
    let asked = [("user", "a")];
    let values = |tools: bool| {
        let messages = serde_json::json!([{"role": "user", "content": "a"}]);
        let tools: &[serde_json::Value] = if tools { &[tool()] } else { &[] };
        context! { messages => Serde(messages), tools => Serde(tools), add_generation_prompt => true }
    };
    let knows_no_tools = jinja::render(own, values(true)).ok() == jinja::render(own, values(false)).ok();
    let called = [("user", "a"), ("assistant", "x"), ("tool", "r")];
    match roles {
        true => {
            let result = |role: &str| format!("[gMASK]sop<|user|>a<|assistant|>x<|{role}|>r<|assistant|>");
            gives(&CHAT, &by_roles(&CHAT))
                && gives(chat, &by_roles(chat))
                && knows_no_tools
                && (gives(&called, &result("tool")) || gives(&called, &result("observation")))
        }
        false => gives(chat, &by_rounds(chat)) && gives(&asked, &by_rounds(&asked)) && knows_no_tools,
    }
}

/// The template of a GLM-4 or its kin: the model's own, or one that gives the same text, with answers trimmed as the
/// authors' code does before they go into the history.
pub(super) fn check_own(pair: &Pair, own: Option<&str>, findings: &mut Vec<Finding>) {
    let (file, own) = match (pair.file.text(KEY), own) {
        (found, own) if found == own => return,
        (None, _) => {
            findings.push(Finding::new(KEY, "is absent"));
            return;
        }
        (Some(file), own) => (file, own),
    };
    if let Some(word) = own.and_then(beyond_a_chat) {
        let problem = format!("is not the one that comes with the model, which has {word:?}");
        findings.push(Finding::new(KEY, problem));
        return;
    }
    let author = if own.is_some() { "the model's own" } else { AUTHORS };
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
        if let Some(finding) = differs(render(file, &CHAT[first..]), &expected, author) {
            findings.push(finding);
            return;
        }
    }
    // Tools as GLM-4's authors have them, or as the model's own template does; GLM-Edge was not trained on any. A
    // template that gives the bare turns knows no tools.
    let found = jinja::render(file, tool_chat());
    let called = own.and_then(|own| {
        let called = jinja::render(own, tool_chat()).ok();
        if bare_turns(own).contains(&called) { None } else { called }
    });
    let has_prefix = file.starts_with(GLM4_PREFIX);
    match called {
        Some(own) => findings.extend(differs(found, &own, author)),
        None if has_prefix => findings.extend(differs(found, &tools_by_glm4(), AUTHORS)),
        None => {}
    }
}

/// Whose prompt it is to be, where the model brings no template that says so.
const AUTHORS: &str = "the authors' code";

/// The first word in a template by which it does more than put roles and contents, and tools, into a row: no test chat
/// can be sure to meet what it does.
fn beyond_a_chat(own: &str) -> Option<String> {
    const WORDS: &str = "role content metadata tools type function name first last system user assistant tool \
        observation python simple_browser cogview messages add_generation_prompt bos_token eos_token";
    let words = jinja::words(own).unwrap_or_default();
    let names = jinja::variables(own).unwrap_or_default();
    let all = words.keys.into_iter().chain(words.constants).chain(names);
    all.into_iter().find(|word| !WORDS.split(' ').any(|known| known == word))
}

/// What the tool chat comes to in a template that knows no tools: the result is left out, or a turn like a question.
fn bare_turns(own: &str) -> [Option<String>; 2] {
    let render = |result: Option<serde_json::Value>| {
        let turns = [("user", "a".into()), ("assistant", serde_json::Value::Null)];
        let messages = turns.map(|(role, content)| serde_json::json!({"role": role, "content": content}));
        let messages: Vec<_> = messages.into_iter().chain(result).collect();
        jinja::render(own, context! { messages => Serde(messages), add_generation_prompt => true }).ok()
    };
    let as_question = render(Some(serde_json::json!({"role": "user", "content": "r"})));
    let as_tool = as_question.map(|text| match text.rsplit_once("<|user|>") {
        Some((before, after)) => format!("{before}<|tool|>{after}"),
        None => text,
    });
    [render(None), as_tool]
}

/// `author`: who builds the expected prompt.
fn differs(found: Result<String, minijinja::Error>, expected: &str, author: &str) -> Option<Finding> {
    let found = match found {
        Ok(found) if found == expected => return None,
        Ok(found) => found,
        Err(e) => return Some(Finding::new(KEY, format!("cannot be rendered: {e}"))),
    };
    let same = found.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
    let shown = |text: &str| text.chars().skip(same).take(24).collect::<String>();
    let problem = format!(
        "gives {:?} at character {same} of a test chat, where {author} has {:?}",
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
    format!("{GLM4_PREFIX}{}<|assistant|>", turns.collect::<String>())
}

/// The tool that the tool chat offers.
fn tool() -> serde_json::Value {
    serde_json::json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}})
}

/// A question, the call of a tool, and its result.
fn tool_chat() -> minijinja::Value {
    let call = serde_json::json!({"type": "function", "function": {"name": "f", "arguments": {"c": "天"}}});
    let messages = serde_json::json!([
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "content": "r"},
    ]);
    context! { messages => Serde(messages), tools => Serde([tool()]), add_generation_prompt => true }
}

/// `json.dumps(value, indent=4, ensure_ascii=False)`.
fn json(value: &serde_json::Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer).expect("a JSON value can be written to memory");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// ChatGLM3's tools stand in a system message; a call is the tool's name as metadata, then Python.
fn tools_by_roles() -> String {
    format!(
        "[gMASK]sop<|system|>\n Answer the following questions as best as you can. \
         You have access to the following tools:\n{}<|user|>\n a\
         <|assistant|>f\n ```python\ntool_call(c='天')\n```<|observation|>\n r<|assistant|>",
        json(&serde_json::json!([tool()]))
    )
}

/// GLM-4's have a heading each; a call is the tool's name as metadata, then JSON.
fn tools_by_glm4() -> String {
    format!(
        "[gMASK]<sop><|system|>\n你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，\
         你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具\n\n## f\n\n{}\n\
         在调用上述函数时，请使用 Json 格式表示调用的参数。<|user|>\na\
         <|assistant|>f\n{{\"c\": \"天\"}}<|observation|>\nr<|assistant|>",
        json(&tool()["function"])
    )
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
