//! Two small models that have learned seven conversations in the authors' own token format: the developers' data.

use std::fs;

use serde_json::{Value, json};

use super::server::{Request, Server, program};
use crate::support::command::convert;
use crate::support::{Dir, copy_files, shared};

/// A request, the conversation that it continues, and the reply that the model has learned.
struct Case {
    conversation: usize,
    request: Request,
    reply: String,
}

struct Model {
    _folder: Dir,
    server: Server,
    learned: Value,
    /// The tools that it knows, as JSON.
    tools: String,
    cases: Vec<Case>,
}

fn model(name: &str, tokenizer: &str, family: &str, between: &str) -> Option<Model> {
    let program = program()?;
    let source = shared(&format!("data/models/{name}"))?;
    let folder = Dir::new();
    copy_files(&source, folder.path());
    fs::copy(shared(&format!("data/tokenizer/{tokenizer}"))?, folder.join("tokenizer.model"))
        .expect("copied");
    for file in ["tokenizer_config.json", "generation_config.json"] {
        let file = shared(&format!("data/family/{family}"))?.join(file);
        if file.exists() {
            fs::copy(&file, folder.join(file.file_name().expect("a name"))).expect("copied");
        }
    }
    let gguf = folder.join("model.gguf");
    convert(folder.path(), "F32", &gguf, &["--verify"]);
    let text = fs::read(source.join("conversations.json")).expect("readable");
    let learned: Value = serde_json::from_slice(&text).expect("JSON");
    let tools = serde_json::from_slice::<Tools>(&text).expect("JSON").tools.get().to_owned();
    let cases = cases(&learned, &tools, between);
    Some(Model { server: Server::start(&program, &gguf), _folder: folder, learned, tools, cases })
}

#[derive(serde::Deserialize)]
struct Tools {
    tools: Box<serde_json::value::RawValue>,
}

/// `between`: what stands between the line break behind a tool's name and its arguments.
fn cases(learned: &Value, tools: &str, between: &str) -> Vec<Case> {
    let text = |name: &str| learned["texts"][name].as_str().expect("a text").to_owned();
    let user = |name: &str| json!({"role": "user", "content": text(name)});
    let said = |content: String| json!({"role": "assistant", "content": content});
    let call = format!("get_weather\n{between}{}", text("CALL"));
    let result = json!({"role": "tool", "tool_call_id": "1", "content": text("R")});
    let arguments = json!({"city": "北京"});
    let called = |content: Value, arguments: Value| {
        let function = json!({"name": "get_weather", "arguments": arguments});
        json!({"role": "assistant", "content": content, "tool_calls": [{"id": "1", "type": "function", "function": function}]})
    };
    let mut cases = Vec::new();
    let mut add = |conversation, messages: Vec<Value>, tools: Option<&str>, reply: String| {
        let request = Request { tools: tools.map(str::to_owned), ..Request::of(json!(messages)) };
        cases.push(Case { conversation, request, reply });
    };
    add(0, vec![user("U1")], None, text("A1"));
    // As it came, and with what files of earlier versions left before it.
    for before in ["", "\n", " \n ", "\n\n"] {
        for after in ["", " ", "\n"] {
            let answer = said(format!("{before}{}{after}", text("A1")));
            add(1, vec![user("U1"), answer, user("U2")], None, text("A2"));
        }
    }
    add(2, vec![user("U2")], None, text("A2"));
    add(3, vec![user("W")], Some(tools), call.clone());
    // The call comes back as the client read it, or as the text that it got.
    for sent in [
        called(Value::Null, json!(arguments.to_string())),
        called(json!(""), json!("{\"city\": \"北京\"}")),
        called(json!(call), json!(arguments.to_string())),
        said(call.clone()),
        said(format!(" {call}\n")),
    ] {
        add(4, vec![user("W"), sent, result.clone()], Some(tools), text("A3"));
    }
    add(5, vec![user("U2")], Some(tools), text("A2"));
    add(6, vec![json!({"role": "system", "content": text("SYSTEM")}), user("U1")], None, text("A1"));
    cases
}

/// Prompts have the ids of the authors' code, and replies are the learned answers, whole and streamed.
fn talks_as_it_learned(model: &Model) {
    for case in &model.cases {
        let prompt = model.server.prompt(&case.request);
        let expected = &model.learned["conversations"][case.conversation]["prompt_ids"];
        assert_eq!(json!(model.server.ids(&prompt, true)), *expected, "{prompt:?}");
        for stream in [false, true] {
            let reply = model.server.chat(&case.request, stream);
            let found = (reply.text.as_str(), reply.finish.as_str(), reply.calls);
            assert_eq!(found, (case.reply.as_str(), "stop", false), "{:?} stream: {stream}", case.request);
        }
    }
}

fn hello() -> Request {
    Request::of(json!([{"role": "user", "content": "你好"}]))
}

/// JSON mode ends in JSON, with a schema and without, and beside tools.
fn keeps_to_json(model: &Model) {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    for format in [
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}),
        json!({"type": "json_object", "schema": schema}),
    ] {
        let request = Request { more: json!({"response_format": format}), ..hello() };
        let reply = model.server.chat(&request, false);
        let json: Value = serde_json::from_str(&reply.text).unwrap_or_else(|e| panic!("{e}: {reply:?}"));
        assert!(json["a"].is_i64(), "{reply:?}");
    }
    let open = Request { more: json!({"response_format": {"type": "json_object"}}), ..hello() };
    assert!(model.server.chat(&open, false).text.starts_with('{'));
}

/// No request with tools fails, whatever is asked of them.
fn bears_every_use_of_tools(model: &Model) {
    let second = r#"{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}"#;
    let tools = format!("{}, {second}]", model.tools.trim_end_matches(']'));
    for question in ["U1", "U2", "W"] {
        for more in [
            json!({}),
            json!({"tool_choice": "auto"}),
            json!({"tool_choice": "none"}),
            json!({"parallel_tool_calls": true}),
        ] {
            let messages = json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": model.learned["texts"][question]},
            ]);
            let request = Request { messages, tools: Some(tools.clone()), more };
            for stream in [false, true] {
                let reply = model.server.chat(&request, stream);
                assert!(!reply.text.trim().is_empty(), "{request:?} stream: {stream}: {reply:?}");
            }
        }
    }
}

fn all(model: &Model) {
    talks_as_it_learned(model);
    keeps_to_json(model);
    bears_every_use_of_tools(model);
}

#[test]
fn chatglm3_talks_as_it_learned() {
    if let Some(model) = model("scripted-chatglm3", "chatglm3.model", "chatglm3-6b", " ") {
        all(&model);
    }
}

#[test]
fn glm4_talks_as_it_learned() {
    if let Some(model) = model("scripted-glm4", "glm4.tiktoken", "glm-4-9b-chat", "") {
        all(&model);
    }
}
