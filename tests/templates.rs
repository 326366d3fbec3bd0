//! Chat templates of fine-tunes and where folders keep them: what `convert`, `verify` and `export-hf` make of them.

use std::fs;
use std::path::Path;

use crate::support::gguf::{self, Gguf};
use crate::support::tokenizers::tiktoken;
use crate::support::{Checkpoint, Cmd, Dir};
use serde_json::{Value, json};

const TURNS: &str = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}\
    {% if add_generation_prompt %}<|assistant|>{% endif %}";
const WARNING: &str = "warning: the folder's chat template is not the published one, and is kept";

fn remove(folder: &Path, name: &str) {
    fs::remove_file(folder.join(name)).expect("removed");
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).expect("written");
}

/// What came of a folder.
struct Made {
    template: String,
    exported: String,
    printed: String,
    verdict: String,
}

fn made(model: &Path, more: &[&str]) -> Made {
    let out = Dir::new();
    let file = out.join("m.gguf");
    let convert = Cmd::new("convert").arg(model).args(&["--type", "Q8_0", "--output"]).arg(&file);
    let printed = convert.args(more).succeed().stderr;
    let judged = Cmd::new("verify").arg(model).arg(&file).args(&["--tokens", "8"]).run();
    let folder = out.join("hf");
    Cmd::new("export-hf").arg(model).arg(&folder).arg("--quiet").succeed();
    let bytes = fs::read(folder.join("tokenizer_config.json")).expect("read");
    let config: Value = serde_json::from_slice(&bytes).expect("JSON");
    let template = match Gguf::read(&file).meta.get("tokenizer.chat_template") {
        Some(gguf::Value::Text(text)) => text.clone(),
        other => panic!("{other:?}"),
    };
    Made {
        template,
        exported: config["chat_template"].as_str().expect("a text").to_owned(),
        printed,
        verdict: judged.stdout,
    }
}

/// What a fine-tune does otherwise than its base must not be lost.
#[test]
fn a_chatglm3_with_a_format_of_its_own_keeps_it() {
    let model = Checkpoint::tiny().folder();
    let authors = made(model.path(), &[]);
    assert!(!authors.printed.contains(WARNING), "{}", authors.printed);
    for own in [
        format!("[gMASK]sop<|system|>\n You are a nurse.{TURNS}"),
        format!("[gMASK]sop{}", TURNS.replace("|>\n", "|>: ")),
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}".to_owned(),
    ] {
        write(model.path(), "chat_template.jinja", &own);
        let kept = made(model.path(), &[]);
        assert!(kept.template == own && kept.exported == own, "{own}");
        assert!(kept.printed.contains(WARNING), "{}", kept.printed);
        assert!(kept.printed.contains("chat template: the model's own, kept"), "{}", kept.printed);
        assert!(kept.verdict.contains("the same model, within"), "{}", kept.verdict);
        let given = made(model.path(), &["--chat-template", "chatglm3"]);
        assert!(!given.printed.contains(WARNING) && given.template == authors.template);
        assert!(given.verdict.contains("another chat template"), "{}", given.verdict);
    }
    // White space alone is no format: the authors' code has none of it.
    for same in [format!("[gMASK]sop{TURNS}"), format!("[gMASK]sop{}", TURNS.replace("|>\n", "|> \n "))] {
        write(model.path(), "chat_template.jinja", &same);
        let replaced = made(model.path(), &[]);
        assert!(replaced.template == authors.template && replaced.exported == authors.template, "{same}");
        assert!(!replaced.printed.contains(WARNING), "{}", replaced.printed);
        assert!(replaced.verdict.contains("the same model, within"), "{}", replaced.verdict);
    }
}

/// Behind the five special tokens of ChatGLM2, of which ChatGLM3 has nine.
#[test]
fn a_chatglm2_with_added_roles_stays_one() {
    let model = Checkpoint::tiny().folder();
    for (file, text) in [
        ("added_tokens.json", json!({"<|user|>": 905, "<|assistant|>": 906})),
        (
            "tokenizer_config.json",
            json!({"added_tokens_decoder": {
                "907": {"content": "<|user|>", "special": true}, "908": {"content": "<|end|>", "special": true},
            }}),
        ),
    ] {
        write(model.path(), "tokenizer_config.json", "{}");
        write(model.path(), file, &text.to_string());
        let found = made(model.path(), &[]);
        assert!(
            found.printed.contains("roles: five special tokens, no roles (ChatGLM2)"),
            "{}",
            found.printed
        );
        assert!(found.printed.contains("its roles are not where ChatGLM3 has them"), "{}", found.printed);
        assert!(found.verdict.contains("the same model, within"), "{}", found.verdict);
        let _ = fs::remove_file(model.join("added_tokens.json"));
    }
}

#[test]
fn a_template_is_found_wherever_the_folder_has_it() {
    let model = Checkpoint::tiny().folder();
    tiktoken(model.path(), 900);
    let own = "<own>{{ messages[0]['content'] }}";
    let named =
        json!({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": own}]});
    let object = json!({"chat_template": {"default": own, "tool_use": "t"}});
    for (file, text, source) in [
        ("chat_template.json", json!({"chat_template": own}), "chat_template.json"),
        ("tokenizer_config.json", json!({"chat_template": own}), "tokenizer_config.json"),
        ("tokenizer_config.json", named, "tokenizer_config.json: \"default\" of the 2 it has"),
        ("chat_template.json", object, "chat_template.json: \"default\" of the 2 it has"),
    ] {
        write(model.path(), "tokenizer_config.json", "{}");
        write(model.path(), file, &text.to_string());
        let found = made(model.path(), &[]);
        assert!(found.template == own && found.exported == own, "{file}: {}", found.template);
        assert!(
            found.printed.lines().any(|line| line.ends_with(&format!("from {source}"))),
            "{}",
            found.printed
        );
        assert!(found.verdict.contains("the same model, within"), "{}", found.verdict);
        let _ = fs::remove_file(model.join("chat_template.json"));
    }
    remove(model.path(), "tokenizer_config.json");
}
