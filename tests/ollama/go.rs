//! Go's own `text/template` against the model, and against Jinja.

use std::io::Write;
use std::process::{Command, Stdio};

use minijinja::context;
use minijinja::value::Serde;
use serde_json::{Value, json};

use super::given::{GIVEN, REFUSED};
use super::{shape_of, written};

/// Conversations of another kind than those that the program tries.
fn chats() -> Vec<Value> {
    let texts = [
        "你好",
        "",
        " \n Sure.",
        "\n好的，\n明天见。 ",
        "a {{ .Content }} \"b\" \"\"\"",
        "   ",
        "<|user|> [INST]",
        "é\u{301}👍🏽",
        "\t",
        "'{'",
    ];
    let mut chats = Vec::new();
    for roles in [
        "u", "uau", "suau", "uauauau", "uatau", "suatatau", "uttu", "ua", "sua", "uata", "uaus", "au",
        "sauau",
    ] {
        for shift in 0..texts.len() {
            let messages: Vec<Value> = roles
                .chars()
                .enumerate()
                .map(|(i, role)| {
                    let role = match role {
                        's' => "system",
                        'u' => "user",
                        'a' => "assistant",
                        _ => "tool",
                    };
                    json!({"role": role, "content": texts[(shift + 3 * i) % texts.len()]})
                })
                .collect();
            chats.push(Value::Array(messages));
        }
    }
    chats
}

fn pairs(chat: &Value) -> Vec<(&str, &str)> {
    let messages = chat.as_array().unwrap();
    messages.iter().map(|m| (m["role"].as_str().unwrap(), m["content"].as_str().unwrap())).collect()
}

/// What transformers gives, or none when the template refuses the chat.
fn render(jinja: &str, chat: &Value) -> Option<String> {
    let mut environment = minijinja::Environment::new();
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |problem: String| -> Result<(), minijinja::Error> {
        Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, problem))
    });
    let values = context! {
        messages => Serde(chat), add_generation_prompt => true, bos_token => "", eos_token => "<|endoftext|>",
    };
    environment.render_str(jinja, values).ok()
}

/// The results of the Go program for (Modelfile, chats).
fn go(tasks: &Value) -> Option<Vec<Vec<Value>>> {
    let run = Command::new("go")
        .args(["run", "."])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ollama/go"))
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut run = match run {
        Ok(run) => run,
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "no `go` on PATH: {e}");
            eprintln!("skipped: no `go` on PATH: {e}");
            return None;
        }
    };
    run.stdin.take().unwrap().write_all(tasks.to_string().as_bytes()).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn go_gives_the_text_of_the_model_and_of_jinja() {
    let chats = chats();
    let mut given: Vec<(String, String, &str)> =
        GIVEN.iter().map(|given| (given.name.to_owned(), given.jinja.to_owned(), given.added)).collect();
    for (name, jinja, added) in super::families() {
        given.push((name.to_owned(), jinja, added));
    }
    for (name, jinja, _) in &given {
        if let Err(e) = shape_of(jinja) {
            eprintln!("{name}: {e}")
        }
    }
    let tasks: Vec<Value> =
        given.iter().map(|(_, jinja, _)| json!({"modelfile": written(jinja).text, "chats": chats})).collect();
    let Some(results) = go(&Value::Array(tasks)) else { return };
    for ((name, jinja, added), results) in given.iter().zip(results) {
        let shape = shape_of(jinja).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut compared = 0;
        for (chat, result) in chats.iter().zip(results) {
            let pairs = pairs(chat);
            match (shape.render(&pairs), result["error"].as_str()) {
                (Some(text), None) => assert_eq!(result["text"].as_str().unwrap(), text, "{name}: {chat}"),
                (None, Some(error)) => {
                    assert!(error.contains("no place for this message"), "{name}: {error}")
                }
                (found, error) => panic!("{name}: {chat}: {found:?} and {error:?}"),
            }
            // Replies come back as they came in a history, and are continued at the end.
            let mut meant = chat.clone();
            for message in meant.as_array_mut().unwrap() {
                let content = message["content"].as_str().unwrap();
                if message["role"] == "assistant" && !added.is_empty() {
                    message["content"] = json!(content.trim_start_matches([' ', '\n', '\t']));
                }
            }
            let continued = pairs.last().unwrap().0 == "assistant";
            if let (false, None, Some(jinja)) = (continued, result["error"].as_str(), render(jinja, &meant)) {
                assert_eq!(result["text"].as_str().unwrap(), jinja + added, "{name}: {chat}");
                compared += 1;
            }
        }
        assert!(compared >= 30, "{name}: only {compared} chats have a text to compare");
    }
}

#[test]
fn what_has_no_shape_gets_no_template_and_a_line_that_says_so() {
    for (name, jinja, reason) in REFUSED {
        let modelfile = written(jinja);
        assert!(!modelfile.text.contains("TEMPLATE \""), "{name}: {}", modelfile.text);
        let warning = modelfile.warning.expect(name);
        assert!(warning.contains(reason), "{name}: {warning}");
        assert!(!warning.contains('\n'), "{warning}");
    }
}
