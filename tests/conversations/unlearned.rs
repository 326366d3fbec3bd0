//! Models that have learned nothing: their prompts are the authors' all the same.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::server::{Request, Server, program};
use crate::support::command::convert;
use crate::support::tokenizers::{tiktoken, without_tokenizer};
use crate::support::{Checkpoint, Dir, copy_files, testdata};

/// A part of a prompt: a special token by its name, or a text that the authors encode on its own.
#[derive(Clone, Debug)]
enum Part {
    Special(&'static str),
    Text(String),
}

use Part::{Special, Text};

fn text(text: &str) -> Part {
    Text(text.to_owned())
}

/// Chats and what the authors' code makes of them.
type Chats = Vec<(Value, Vec<Part>)>;

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn said(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

fn system(content: &str) -> Value {
    json!({"role": "system", "content": content})
}

/// Starts a server on the folder's conversion and holds its prompts against the authors'.
fn check(folder: &Path, chats: &Chats) {
    let Some(program) = program() else { return };
    let gguf = folder.join("model.gguf");
    convert(folder, "F16", &gguf, &["--verify"]);
    let server = Server::start(&program, &gguf);
    for (messages, parts) in chats {
        let prompt = server.prompt(&Request::of(messages.clone()));
        let spelt: String = parts
            .iter()
            .map(|part| match part {
                Special(name) => name.to_string(),
                Text(text) => text.clone(),
            })
            .collect();
        assert_eq!(prompt, spelt, "{messages}");
        let ids = server.ids(&prompt, true);
        let expected: Vec<i64> = parts
            .iter()
            .flat_map(|part| match part {
                Special(name) => {
                    let ids = server.ids(name, true);
                    assert_eq!(ids.len(), 1, "{name} is one token");
                    ids
                }
                Text(text) => server.ids(text, false),
            })
            .collect();
        assert_eq!(ids, expected, "{messages}");
        // Nothing was learned: whatever comes, the requests are served.
        server.chat(&Request { more: json!({"max_tokens": 4}), ..Request::of(messages.clone()) }, true);
    }
}

/// ChatGLM2's `build_prompt` writes one text.
#[test]
fn chatglm2_counts_rounds() {
    let folder = Checkpoint { name: "THUDM/chatglm2-6b".to_owned(), ..Checkpoint::tiny() }.folder();
    fs::remove_file(folder.join("tokenizer_config.json")).expect("removed"); // it is ChatGLM3's
    let prompt = |rest: &str| vec![Special("[gMASK"), Special("]sop"), text(rest)];
    check(
        folder.path(),
        &vec![
            (json!([user("hello")]), prompt("[Round 1]\n\n问：hello\n\n答：")),
            (
                json!([user("  a"), said("\n b \n"), user("\nc"), said(""), user("d")]),
                prompt(
                    "[Round 1]\n\n问：  a\n\n答：b\n\n[Round 2]\n\n问：\nc\n\n答：\n\n[Round 3]\n\n问：d\n\n答：",
                ),
            ),
            (json!([system(""), user("a")]), prompt("[Round 1]\n\n问：a\n\n答：")),
            (json!([system("Be brief."), user("a")]), prompt("Be brief.\n\n[Round 1]\n\n问：a\n\n答：")),
        ],
    );
}

/// A turn of GLM-4 and its kin.
fn turn(role: &'static str, content: &str) -> [Part; 2] {
    [Special(role), Text(format!("\n{content}"))]
}

/// Chats in GLM-4's roles; `empty`: what an empty system message gives.
fn by_roles(prefix: &[Part], empty: &[Part]) -> Chats {
    let end = [Special("<|assistant|>")];
    let prompt = |turns: &[&[Part]]| [prefix, &turns.concat(), &end].concat();
    let (user_turn, bot) = (|content: &str| turn("<|user|>", content), |c: &str| turn("<|assistant|>", c));
    vec![
        (json!([user("hello")]), prompt(&[&user_turn("hello")])),
        (
            json!([system("S."), user(" \n a"), said("\n b\n\nc \n"), user("d")]),
            prompt(&[&turn("<|system|>", "S."), &user_turn(" \n a"), &bot("b\n\nc"), &user_turn("d")]),
        ),
        (json!([system(""), user("a")]), prompt(&[empty, &user_turn("a")])),
    ]
}

/// CodeGeeX4 has its format in its tokenizer's code only, and gets GLM-4's.
#[test]
fn codegeex4_without_a_template_talks_as_glm4() {
    let folder = Dir::new();
    copy_files(&testdata("models/tiny-glm4-chat"), folder.path());
    tiktoken(folder.path(), 900);
    fs::write(folder.join("tokenizer_config.json"), r#"{"name_or_path": "THUDM/codegeex4-all-9b"}"#)
        .expect("written");
    check(folder.path(), &by_roles(&[Special("[gMASK]"), Special("<sop>")], &[]));
}

/// GLM-Edge has no prefix; an empty message is written.
#[test]
fn glm_edge_talks_by_its_own_template() {
    let folder = Dir::new();
    copy_files(&testdata("models/tiny-glm-edge"), folder.path());
    assert!(without_tokenizer(folder.path()));
    tiktoken(folder.path(), 900);
    let template = "{% for item in messages %}{% if item['role'] == 'system' %}<|system|>\n{{ item['content'] }}\
        {% elif item['role'] == 'user' %}<|user|>\n{{ item['content'] }}{% elif item['role'] == 'assistant' %}\
        <|assistant|>\n{{ item['content'] }}{% endif %}{% endfor %}<|assistant|>";
    let config = json!({ "chat_template": template });
    fs::write(folder.join("tokenizer_config.json"), config.to_string()).expect("written");
    check(folder.path(), &by_roles(&[], &turn("<|system|>", "")));
}
