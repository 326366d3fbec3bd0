//! With the real tokenizer, llama.cpp makes the original's ids of texts and chats, and stops where it should.

use std::collections::BTreeSet;
use std::fs;

use crate::support::command::convert;
use crate::support::{Checkpoint, Dir, shared};
use llama_runtime::{Model, Runtime, require_runtime};
use serde_json::{Value, json};

/// A converted checkpoint with ChatGLM3's whole vocabulary and next to no weights.
fn full_vocabulary(runtime: Runtime) -> Option<Model> {
    converted(runtime, "data/tokenizer/chatglm3.model", 65024, "chatglm3-6b")
}

/// The same with GLM-4's.
fn glm4_vocabulary(runtime: Runtime) -> Option<Model> {
    converted(runtime, "data/tokenizer/glm4.tiktoken", 151552, "glm-4-9b-chat")
}

fn converted(runtime: Runtime, tokenizer: &str, vocab: usize, family: &str) -> Option<Model> {
    let tokenizer = shared(tokenizer)?;
    let config = shared(&format!("data/family/{family}/tokenizer_config.json"))?;
    let shape =
        Checkpoint { layers: 1, hidden: 32, heads: 1, kv_heads: 1, ffn: 32, vocab, ..Checkpoint::tiny() };
    let folder = Dir::new();
    shape.write(folder.path(), &tokenizer).expect("written");
    fs::write(folder.join("tokenizer_config.json"), fs::read(config).expect("readable")).expect("written");
    let gguf = folder.join("model.gguf");
    convert(folder.path(), "F16", &gguf, &[]);
    Some(runtime.load(&gguf).expect("llama.cpp loads it"))
}

/// The texts or chats with the original tokenizer's ids.
fn golden(file: &str, kind: &str) -> Option<Vec<Value>> {
    let file = fs::read(shared(&format!("golden/{file}_tokens.json"))?).expect("a readable file");
    let mut golden: Value = serde_json::from_slice(&file).expect("JSON");
    let Value::Array(cases) = golden[kind].take() else { panic!("{kind} are a list") };
    assert!(!cases.is_empty());
    Some(cases)
}

fn ids(case: &Value) -> Vec<i32> {
    serde_json::from_value(case["ids"].clone()).expect("a list of ids")
}

/// The prompt that a runtime with Jinja makes.
fn render(template: &str, messages: &Value) -> String {
    let mut environment = minijinja::Environment::new();
    environment.add_template("chat", template).expect("a template");
    let context = json!({ "messages": messages, "add_generation_prompt": true });
    let context = minijinja::value::Serde(context);
    environment.get_template("chat").and_then(|template| template.render(context)).expect("a prompt")
}

#[test]
fn texts_get_the_original_ids() {
    let runtime = require_runtime!();
    let (Some(model), Some(texts)) = (full_vocabulary(runtime), golden("chatglm3", "texts")) else { return };
    for case in texts {
        let text = case["text"].as_str().expect("a text");
        // Names of control tokens in a text are text. Nothing is added in front or behind.
        for add_special in [false, true] {
            assert_eq!(model.tokenize(text, add_special, false), ids(&case), "{text:?}");
        }
    }
}

#[test]
fn chats_get_the_original_ids() {
    let runtime = require_runtime!();
    let (Some(model), Some(chats)) = (full_vocabulary(runtime), golden("chatglm3", "chats")) else { return };
    let template = model.chat_template().expect("a template");
    for case in chats {
        let prompt = render(&template, &case["messages"]);
        for add_special in [false, true] {
            assert_eq!(model.tokenize(&prompt, add_special, true), ids(&case), "{prompt:?}");
        }
    }
}

/// Programs without Jinja let llama.cpp guess the template; it must not take it for another model's.
#[test]
fn llama_cpp_without_jinja_makes_the_same_prompt() {
    let runtime = require_runtime!();
    let (Some(model), Some(chats)) = (full_vocabulary(runtime), golden("chatglm3", "chats")) else { return };
    let template = model.chat_template().expect("a template");
    let mut compared = 0;
    for case in &chats {
        let messages = case["messages"].as_array().expect("a list");
        // It knows no metadata, and puts a space before an empty content.
        let plain = |m: &Value| m.get("metadata").is_none() && m["content"] != "";
        if messages.iter().all(plain) {
            let text = |m: &'_ Value, key: &str| m[key].as_str().expect("a text").to_owned();
            let chat: Vec<_> = messages.iter().map(|m| (text(m, "role"), text(m, "content"))).collect();
            let chat: Vec<_> = chat.iter().map(|(role, content)| (&role[..], &content[..])).collect();
            let prompt = runtime.builtin_template(&template, &chat, true).expect("a known template");
            assert_eq!(prompt, render(&template, &case["messages"]));
            compared += 1;
        }
    }
    assert!(compared >= 4, "only {compared} chats were compared");
}

#[test]
fn generation_ends_on_the_authors_tokens() {
    let runtime = require_runtime!();
    let Some(model) = full_vocabulary(runtime) else { return };
    // </s>, <|user|>, <|observation|>
    assert_eq!(model.end_of_generation(), BTreeSet::from([2, 64795, 64797]));
}

/// llama.cpp looks for special tokens inside words too, and `people` contains the name of one.
#[test]
fn a_chat_keeps_its_words_whole() {
    let runtime = require_runtime!();
    let Some(model) = full_vocabulary(runtime) else { return };
    let template = model.chat_template().expect("a template");
    for content in ["people love philosophy", "eop sop", "人eop"] {
        let prompt = render(&template, &json!([{ "role": "user", "content": content }]));
        let words = model.tokenize(content, false, false);
        let expected = [&[64790, 64792, 64795, 30910, 13][..], &words, &[64796]].concat();
        assert_eq!(model.tokenize(&prompt, true, true), expected, "{content}");
    }
}

#[test]
fn glm4_texts_get_the_original_ids() {
    let runtime = require_runtime!();
    let (Some(model), Some(texts)) = (glm4_vocabulary(runtime), golden("glm4", "texts")) else { return };
    for case in texts {
        let text = case["text"].as_str().expect("a text");
        for add_special in [false, true] {
            assert_eq!(model.tokenize(text, add_special, false), ids(&case), "{text:?}");
        }
    }
    // Words that tiktoken finds as a whole only.
    assert_eq!(model.tokenize("你好 美国 参考", true, false), [109377, 105192, 99855]);
    // [gMASK], <sop>, <|user|>, and <|assistant|> at the end.
    let prompt = render(
        &model.chat_template().expect("a template"),
        &json!([{ "role": "user", "content": "hello world" }]),
    );
    assert_eq!(model.tokenize(&prompt, true, true), [151331, 151333, 151336, 198, 14978, 1879, 151337]);
    // <|endoftext|>, <|user|>, <|observation|>
    assert_eq!(model.end_of_generation(), BTreeSet::from([151329, 151336, 151338]));
}
