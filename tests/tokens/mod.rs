//! The vocabulary arrays and chat templates give the ids of the original tokenizers.
//!
//! The encoders here do what llama.cpp does with a GGUF's arrays, in a few lines and without care for speed. The
//! real vocabularies belong to their publishers and are not in the repository: without them the tests are skipped.

mod bpe;
mod modelfile;
mod spm;

use std::path::Path;

use crate::support::Checkpoint;
use bpe::Bpe;
use glm2llama::config::GlmConfig;
use glm2llama::tokenizer::{self, ChatFormat, Tokenizer};
use llama_runtime::{shared, shared_path};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, context};
use serde_json::{Value, json};
use spm::Spm;

/// A model folder with the tokenizer `vocabulary` and the small files of `family`, under a name that says nothing.
fn load(vocabulary: &Path, family: &str, config: &GlmConfig) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(vocabulary, dir.path().join("tokenizer.model")).unwrap();
    for name in ["tokenizer_config.json", "generation_config.json"] {
        let file = shared_path("data/family").join(family).join(name);
        if file.exists() {
            std::fs::copy(file, dir.path().join(name)).unwrap();
        }
    }
    tokenizer::load(dir.path(), config).unwrap()
}

fn config(vocab: usize, seq_length: usize) -> GlmConfig {
    Checkpoint { name: String::new(), vocab, seq_length, ..Checkpoint::chatglm3_6b() }.glm_config()
}

fn chatglm3() -> Option<Tokenizer> {
    let vocabulary = shared("data/tokenizer/chatglm3.model")?;
    Some(load(&vocabulary, "chatglm3-6b", &config(65024, 8192)))
}

fn glm4() -> Option<Tokenizer> {
    let vocabulary = shared("data/tokenizer/glm4.tiktoken")?;
    Some(load(&vocabulary, "glm-4-9b-chat", &config(151552, 131072)))
}

fn golden(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(shared_path("golden").join(name)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value["ids"].clone()).unwrap()
}

/// Fills in a chat template with the settings that runtimes use.
fn render(template: &str, messages: &Value, tools: Option<&Value>) -> String {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap());
    // minijinja's own escapes what HTML needs; in chat templates the filter is Python's json.dumps.
    environment.add_filter("tojson", tojson);
    let values =
        context! { messages => Serde(messages), tools => tools.map(Serde), add_generation_prompt => true };
    environment.render_str(template, values).unwrap()
}

fn tojson(value: minijinja::Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent = b" ".repeat(options.get("indent")?);
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(&indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(&value, &mut serializer).unwrap();
    Ok(String::from_utf8(bytes).unwrap())
}

#[test]
fn chatglm3_texts_get_the_original_ids() {
    let Some(tokenizer) = chatglm3() else { return };
    let spm = Spm::new(&tokenizer.vocabulary);
    for text in golden("chatglm3_tokens.json")["texts"].as_array().unwrap() {
        let plain = text["text"].as_str().unwrap();
        assert_eq!(spm.encode(plain, false), ids(text), "{plain:?}");
    }
}

#[test]
fn chatglm3_chats_get_the_original_ids() {
    let Some(tokenizer) = chatglm3() else { return };
    assert_eq!(tokenizer.chat, ChatFormat::Roles);
    let spm = Spm::new(&tokenizer.vocabulary);
    let template = tokenizer.vocabulary.chat_template.as_deref().unwrap();
    for chat in golden("chatglm3_tokens.json")["chats"].as_array().unwrap() {
        let text = render(template, &chat["messages"], None);
        assert_eq!(spm.encode(&text, true), ids(chat), "{text:?}");
    }
}

/// Special tokens are looked for inside words as well, and `people` contains the name of one.
#[test]
fn words_that_contain_a_special_tokens_name_stay_whole() {
    let Some(tokenizer) = chatglm3() else { return };
    let spm = Spm::new(&tokenizer.vocabulary);
    for content in ["people love philosophy", "eop sop", "a sophomore's Cleopatra: isopods]", "人eop"] {
        let messages = json!([{"role": "user", "content": content}]);
        let text = render(tokenizer.vocabulary.chat_template.as_deref().unwrap(), &messages, None);
        let expected =
            [&[64790, 64792, 64795, 30910, 13][..], &spm.encode(content, false), &[64796]].concat();
        assert_eq!(spm.encode(&text, true), expected, "{content}");
    }
}

#[test]
fn chatglm3_ends_on_the_authors_three_tokens() {
    let Some(tokenizer) = chatglm3() else { return };
    let vocabulary = &tokenizer.vocabulary;
    assert_eq!([vocabulary.eos, vocabulary.eot, vocabulary.eom], [Some(2), Some(64795), Some(64797)]);
    assert_eq!((vocabulary.bos, vocabulary.unk, vocabulary.pad), (Some(1), Some(0), Some(0)));
    assert_eq!([vocabulary.tokens.len(), vocabulary.scores.len(), vocabulary.types.len()], [65024; 3]);
}

/// The same file serves ChatGLM2, which has no role tokens.
#[test]
fn chatglm2_is_told_apart_and_counts_rounds() {
    let Some(vocabulary) = shared("data/tokenizer/chatglm3.model") else { return };
    let tokenizer = load(&vocabulary, "chatglm2-6b", &config(65024, 32768));
    assert_eq!(tokenizer.chat, ChatFormat::Rounds);
    assert_eq!(tokenizer.vocabulary.tokens[64794], "[PAD64794]");
    assert_eq!((tokenizer.vocabulary.eot, tokenizer.vocabulary.eom), (None, None));
    let first: Vec<String> = tokenizer.decisions.iter().map(ToString::to_string).collect();
    assert_eq!(
        first[0],
        "roles: five special tokens, no roles (ChatGLM2), from name_or_path in tokenizer_config.json"
    );
}

#[test]
fn rounds_are_numbered_by_question() {
    let chat = json!([
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
    ]);
    let text = "[gMASK]sop[Round 1]\n\n问：a\n\n答：b\n\n[Round 2]\n\n问：c\n\n答：";
    assert_eq!(render(&tokenizer::template::ROUNDS, &chat, None), text);
    let chat = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]);
    let text = "[gMASK]sops\n\n[Round 1]\n\n问：a\n\n答：";
    assert_eq!(render(&tokenizer::template::ROUNDS, &chat, None), text);
}

/// The authors append the tools to the system message's content, with four spaces and nothing escaped.
#[test]
fn tools_stand_in_the_system_message() {
    let tools = json!([{"name": "天气 <b>", "parameters": {}}]);
    let shown = "[\n    {\n        \"name\": \"天气 <b>\",\n        \"parameters\": {}\n    }\n]";
    let rest = "<|user|>\n a<|assistant|>";
    let user = json!({"role": "user", "content": "a"});

    let own = json!([{"role": "system", "content": "Answer.", "tools": tools}, user]);
    let expected = format!("[gMASK]sop<|system|>\n Answer.\n{shown}{rest}");
    assert_eq!(render(&tokenizer::template::ROLES, &own, None), expected);
    let beside = json!([{"role": "system", "content": "Answer."}, user]);
    assert_eq!(render(&tokenizer::template::ROLES, &beside, Some(&tools)), expected);

    let silent = json!([{"role": "system", "content": "", "tools": tools}, user]);
    let expected = format!("[gMASK]sop<|system|>\n \n{shown}{rest}");
    assert_eq!(render(&tokenizer::template::ROLES, &silent, None), expected);
    let none = json!([user]);
    let expected = format!(
        "[gMASK]sop<|system|>\n Answer the following questions as best as you can. \
        You have access to the following tools:\n{shown}{rest}"
    );
    assert_eq!(render(&tokenizer::template::ROLES, &none, Some(&tools)), expected);
}

#[test]
fn glm4_texts_get_the_original_ids() {
    let Some(tokenizer) = glm4() else { return };
    let bpe = Bpe::new(&tokenizer.vocabulary);
    for text in golden("glm4_tokens.json")["texts"].as_array().unwrap() {
        let plain = text["text"].as_str().unwrap();
        assert_eq!(bpe.encode(plain), ids(text), "{plain:?}");
    }
}

#[test]
fn glm4_merges_do_what_ranks_do() {
    let Some(tokenizer) = glm4() else { return };
    bpe::joins_like_tiktoken(&tokenizer.vocabulary);
}

#[test]
fn glm4_ends_on_the_authors_three_tokens_and_has_tools_in_its_template() {
    let Some(tokenizer) = glm4() else { return };
    let vocabulary = &tokenizer.vocabulary;
    assert_eq!([vocabulary.eos, vocabulary.eot, vocabulary.eom], [151329, 151336, 151338].map(Some));
    assert_eq!((vocabulary.bos, vocabulary.unk, vocabulary.pad), (Some(151329), None, Some(151329)));
    assert_eq!([vocabulary.tokens.len(), vocabulary.types.len()], [151552; 2]);
    assert_eq!(vocabulary.tokens[151342..151344], ["<|end_of_video|>", "[PAD151343]"]);
    assert_eq!(tokenizer.chat, ChatFormat::Glm4);
    assert_eq!(vocabulary.chat_template.as_ref(), Some(&*tokenizer::template::GLM4));
    assert_eq!((tokenizer.sampling.temperature, tokenizer.sampling.top_p), (0.8, 0.8));
    assert_eq!(tokenizer.decisions.len(), 2, "all ends of the text fit: {:?}", tokenizer.decisions);
}

#[test]
fn glm4_without_a_template_is_a_base_model() {
    let Some(vocabulary) = shared("data/tokenizer/glm4.tiktoken") else { return };
    let tokenizer = load(&vocabulary, "glm-4-9b", &config(151552, 8192));
    assert_eq!((tokenizer.chat, tokenizer.vocabulary.chat_template), (ChatFormat::Completion, None));
}

/// What llama.cpp looks for in a template when it has to do without Jinja.
#[test]
fn llama_cpp_knows_the_template_by_its_text() {
    for (template, format) in
        [(&tokenizer::template::ROLES, "ChatGLM3"), (&tokenizer::template::ROUNDS, "ChatGLM2")]
    {
        assert!(template.contains("[gMASK]sop"), "{format}");
        for other in ["<|user|>", "<|end|>", "[gMASK]<sop>", "[INST]", "<|im_start|>"] {
            assert!(!template.contains(other), "{format}: {other}");
        }
    }
}
