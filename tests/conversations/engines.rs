//! The family's templates give one text in every engine that runtimes bring: minijinja, transformers' jinja2,
//! LM Studio's @huggingface/jinja, llama.cpp's own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use glm2llama::jinja;
use glm2llama::tokenizer::ChatFormat;
use minijinja::value::Serde;
use serde_json::{Value, json};

use super::server::{Request, Server, program};
use crate::support::Checkpoint;
use crate::support::command::convert;

/// Every branch of the templates, with what tries engines: quotes, backslashes, Chinese, numbers, null.
fn chats() -> Vec<Value> {
    let user = |content: &str| json!({"role": "user", "content": content});
    let said = |content: &str| json!({"role": "assistant", "content": content});
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "description": "d \"q\" <b>&'天", "parameters": {"type": "object", "properties": {"c": {"type": "string"}}}}});
    let call = |name: &str, arguments: Value| json!({"type": "function", "id": "1", "function": {"name": name, "arguments": arguments}});
    let called = |content: Value, calls: Vec<Value>| json!({"role": "assistant", "content": content, "tool_calls": calls});
    let result = |content: &str| json!({"role": "tool", "tool_call_id": "1", "content": content});
    let odd = json!({"c": "it's \"q\" \\ 天\nnl", "n": 3, "t": true, "u": false, "z": null, "l": [1, "x'y", true, null], "o": {"a": true, "b": null, "c": "d", "n": 2}, "f": 1.5});
    vec![
        json!({"messages": [user("hi")]}),
        json!({"messages": [{"role": "system", "content": ""}, user(" \n a"), said("\n x \n"), user("b")]}),
        json!({"messages": [{"role": "system", "content": "S"}, user("a")], "tools": [tool("f"), tool("g")]}),
        json!({"messages": [user("a")], "tools": [tool("f")]}),
        json!({"messages": [user("a"), called(json!(""), vec![call("f", odd)]), result("r")], "tools": [tool("f")]}),
        json!({"messages": [
            user("a"),
            called(json!("Let me see."), vec![call("f", json!({"c": "x"})), call("g", json!({}))]),
            result("r"), result("q"), said("answer"), user("b"), said(" f\n{\"c\": 1}\n"), result("s"), said("z"), user("c"),
        ], "tools": [tool("f"), tool("g")]}),
        json!({"messages": [
            user("a"), called(json!("\n I use f for this: f\n"), vec![call("f", json!({"c": "x"}))]), result("r"),
            called(json!("\nf\n{\"c\": 1}"), vec![call("f", json!({"c": 1}))]), result("s"),
        ], "tools": [tool("f")]}),
        json!({"messages": [user("a"), said("b"), user("")]}),
        json!({"messages": [user("a"), said("f\n{}"), {"role": "function", "name": "f", "content": "r"}]}),
    ]
}

/// Runs an engine on all jobs; nothing where the program or the engine is not there, which CI does not allow.
fn texts_of(program: &str, script: &str, engine: PathBuf, jobs: &[Value]) -> Option<Vec<String>> {
    if !engine.exists() || Command::new(program).arg("--version").output().is_err() {
        assert!(!llama_runtime::in_ci(), "{program} and {} are needed: run make runtime", engine.display());
        eprintln!("skipped: no {program}, or no {}: run make runtime", engine.display());
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations").join(script);
    let mut child = Command::new(program)
        .arg(script)
        .arg(engine)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("piped").write_all(json!(jobs).to_string().as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{program} failed");
    Some(serde_json::from_slice(&output.stdout).expect("texts"))
}

#[test]
fn every_engine_gives_the_same_text() {
    let mut jobs = Vec::new();
    for (_, format) in ChatFormat::NAMES {
        for mut context in chats() {
            context["add_generation_prompt"] = json!(true);
            jobs.push(json!({"template": format.template(), "context": context}));
        }
    }
    let own = |job: &Value| {
        let template = job["template"].as_str().expect("a text");
        jinja::render(template, minijinja::Value::from(Serde(&job["context"]))).expect("a text")
    };
    let expected: Vec<String> = jobs.iter().map(own).collect();
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime");
    for (program, script, engine) in
        [("python3", "render.py", "jinja-py"), ("node", "render.mjs", "jinja-js/dist/index.js")]
    {
        let Some(texts) = texts_of(program, script, runtime.join(engine), &jobs) else { continue };
        for ((job, found), expected) in jobs.iter().zip(&texts).zip(&expected) {
            assert_eq!(found, expected, "{program}: {job}");
        }
    }
}

#[test]
fn llama_cpp_gives_the_same_text() {
    let Some(program) = program() else { return };
    let folder = Checkpoint::tiny().folder();
    for (name, format) in ChatFormat::NAMES {
        let gguf = folder.join(name);
        convert(folder.path(), "F16", &gguf, &["--chat-template", name]);
        let server = Server::start(&program, &gguf);
        for mut chat in chats() {
            let tools = chat["tools"].is_array().then(|| chat["tools"].to_string());
            // The server takes arguments as a text and hands them to the template as an object.
            let request = Request { tools, ..Request::of(as_a_client_sends(&chat["messages"])) };
            chat["add_generation_prompt"] = json!(true);
            let template = format.template().expect("a template");
            let expected = jinja::render(template, minijinja::Value::from(Serde(&chat))).expect("a text");
            // The server writes a tool's keys in an order of its own; the block of tools is held in learned.rs.
            let compared = |text: &str| match request.tools {
                Some(_) => text.split_once("<|user|>").map_or("", |(_, rest)| rest).to_owned(),
                None => text.to_owned(),
            };
            assert_eq!(compared(&server.prompt(&request)), compared(&expected), "{name}: {chat}");
        }
    }
}

fn as_a_client_sends(messages: &Value) -> Value {
    let mut messages = messages.clone();
    for message in messages.as_array_mut().expect("a list") {
        for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
            let arguments = &mut call["function"]["arguments"];
            *arguments = json!(arguments.to_string());
        }
    }
    messages
}
