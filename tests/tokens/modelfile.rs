//! The Modelfile's Go templates give the texts of the Jinja ones; Go itself filled them in (testdata/ollama).

use glm2llama::ollama::modelfile;
use glm2llama::tokenizer::{ChatFormat, Sampling, Tokenizer, Vocabulary, template};
use serde_json::{Value, json};

use super::{golden, ids, render};

fn rendered() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/ollama/rendered.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The stored entry of one format, whose TEMPLATE must still be the program's.
fn format(name: &str, chat: ChatFormat) -> Vec<Value> {
    let rendered = rendered();
    let entry = rendered["formats"].as_array().unwrap().iter().find(|entry| entry["format"] == name).unwrap();
    let sampling = Sampling { temperature: 0.8, top_p: 0.8 };
    let vocabulary = Vocabulary::default();
    let tokenizer = Tokenizer { vocabulary, chat, sampling, evidence: Vec::new(), other_template: false };
    let text = modelfile("m.gguf", &tokenizer).unwrap();
    let stored = format!("\nTEMPLATE \"\"\"{}\"\"\"\n", entry["template"].as_str().unwrap());
    assert!(text.contains(&stored), "{name}: the TEMPLATE changed, see testdata/ollama/README.md\n{text}");
    entry["chats"].as_array().unwrap().clone()
}

/// Jinja asks for an answer always, Ollama's users can also let the last answer be continued.
fn same_texts(chats: &[Value], jinja: &str, end_of_answer: &str) {
    for chat in chats {
        let messages = chat["messages"].as_array().unwrap();
        let mut expected = render(jinja, &chat["messages"], None);
        if messages.last().unwrap()["role"] == "assistant" {
            expected = expected.strip_suffix(end_of_answer).unwrap().to_owned();
        }
        assert_eq!(chat["text"], json!(expected), "{}", chat["messages"]);
    }
}

#[test]
fn chatglm3_texts_are_those_of_the_jinja_template() {
    same_texts(&format("roles", ChatFormat::Roles), &template::ROLES, "<|assistant|>");
}

#[test]
fn chatglm2_texts_are_those_of_the_jinja_template() {
    same_texts(&format("rounds", ChatFormat::Rounds), &template::ROUNDS, "\n\n");
}

/// Its template knows no `tool`; the messages of that role are left to the other formats.
#[test]
fn glm4_texts_are_those_of_the_models_own_template() {
    let mut chats = format("glm4", ChatFormat::Glm4);
    let Some(tokenizer) = super::glm4() else { return };
    chats.retain(|chat| chat["messages"].as_array().unwrap().iter().all(|message| message["role"] != "tool"));
    same_texts(&chats, tokenizer.vocabulary.chat_template.as_deref().unwrap(), "<|assistant|>");
}

#[test]
fn chatglm3_texts_get_the_original_ids() {
    let Some(tokenizer) = super::chatglm3() else { return };
    let spm = super::Spm::new(&tokenizer.vocabulary);
    let stored = format("roles", ChatFormat::Roles);
    let golden = golden("chatglm3_tokens.json");
    let mut found = 0;
    for chat in golden["chats"].as_array().unwrap() {
        for same in stored.iter().filter(|stored| stored["messages"] == chat["messages"]) {
            assert_eq!(spm.encode(same["text"].as_str().unwrap(), true), ids(chat), "{same}");
            found += 1;
        }
    }
    assert_eq!(found, 5);
}
