use super::*;
use crate::gguf::{Metadata, Value};

fn about(keys: &[(&str, &str)], languages: &[&str], folder: &std::path::Path) -> About {
    let mut all: Metadata =
        keys.iter().map(|(key, text)| ((*key).to_owned(), Value::String((*text).to_owned()))).collect();
    let languages: Vec<String> = languages.iter().map(|text| (*text).to_owned()).collect();
    if !languages.is_empty() {
        all.push(("general.languages".to_owned(), Value::Strings(languages)));
    }
    About::new(&all, folder, String::new(), String::new()).unwrap()
}

fn card<'a>(about: &'a About, base: Option<&'a Published>) -> ModelCard<'a> {
    let listed = |name: &str, quality: Option<&str>| Listed {
        name: name.to_owned(),
        file_type: "Q4_K_M".to_owned(),
        bytes: 3_820_000_000,
        bits_per_weight: 4.894,
        sha256: "00ff".to_owned(),
        quality: quality.map(str::to_owned),
    };
    ModelCard {
        name: "ChatGLM3 6B".to_owned(),
        about,
        base,
        merged: false,
        verified: false,
        context: 8192,
        files: vec![listed("a|b.gguf", None)],
        first: "a|b.gguf".to_owned(),
        modelfile: Some(PathBuf::from("out/a b.Modelfile")),
        ollama_name: "a-b".to_owned(),
    }
}

fn front(text: &str) -> Vec<&str> {
    text.strip_prefix("---\n").unwrap().lines().take_while(|line| *line != "---").collect()
}

const FIXED: [&str; 4] = ["library_name: gguf", "pipeline_tag: text-generation", "tags:", "- gguf"];

#[test]
fn what_is_not_known_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let about = about(&[], &[], folder.path());
    let text = card(&about, None).text();
    assert_eq!(front(&text), FIXED);
    assert!(!text.contains("Licence") && !text.contains("Quality"), "{text}");
    assert!(text.contains("GGUF files of ChatGLM3 6B made by"), "{text}");
    assert!(text.contains("| a\\|b.gguf | Q4_K_M | 3.82 GB | 4.89 | `00ff` |"), "{text}");
    assert!(text.contains("llama-server --jinja -m \"a|b.gguf\""), "{text}");
    assert!(text.contains("ollama create a-b -f \"a b.Modelfile\"\nollama run a-b"), "{text}");
    assert!(text.contains("None: a base model"), "{text}");
}

#[test]
fn what_is_known_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let keys = [
        ("general.license", "other"),
        ("general.license.name", "glm-4"),
        ("general.license.link", "LICENSE"),
        (
            "tokenizer.chat_template",
            "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>",
        ),
    ];
    let about = about(&keys, &["zh", "no"], folder.path());
    let base = Published { hub: Published::HUGGING_FACE, repository: "zai-org/glm-4-9b".to_owned() };
    let text = card(&about, Some(&base)).text();
    let expected = [
        "base_model: zai-org/glm-4-9b",
        "base_model_relation: quantized",
        "license: other",
        "license_name: glm-4",
        "license_link: https://huggingface.co/zai-org/glm-4-9b/blob/main/LICENSE",
        "language:",
        "- zh",
        "- \"no\"",
    ];
    assert_eq!(front(&text), [&expected[..], &FIXED].concat());
    assert!(text.contains("[zai-org/glm-4-9b](https://huggingface.co/zai-org/glm-4-9b)"), "{text}");
    assert!(text.contains("```\n<|system|>{system message}<|user|>{question}<|assistant|>\n```"), "{text}");

    let merged = ModelCard { merged: true, ..card(&about, Some(&base)) }.text();
    assert!(merged.contains("base_model_relation: finetune\n"), "{merged}");
    let graded = card(&about, None);
    let files = graded.files.iter().map(|file| Listed { quality: Some("good".to_owned()), ..file.clone() });
    let graded = ModelCard { verified: true, files: files.collect(), ..graded };
    let text = graded.text();
    assert!(text.contains("| Bits per weight | Quality | SHA-256 |\n|---|---|---|---|---|---|\n"), "{text}");
    assert!(text.contains("| 4.89 | good | `00ff` |"), "{text}");
    assert!(text.contains("Every weight of each file was compared"), "{text}");
}

#[test]
fn a_licence_file_is_named_by_its_title_and_only_where_it_has_one() {
    for (file, title, expected) in [
        ("LICENSE", "\n    Apache License\n  Version 2.0", &["license: apache-2.0"][..]),
        ("LICENSE.txt", "MIT License\n\nCopyright", &["license: mit"]),
        ("MODEL_LICENSE", "The ChatGLM3-6B License\n", &["license: other", "license_link: MODEL_LICENSE"]),
        ("LICENSE", "No MIT License at all", &["license: other", "license_link: LICENSE"]),
        ("COPYING", "MIT License", &[]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(file), title).unwrap();
        let about = about(&[], &[], folder.path());
        let text = card(&about, None).text();
        assert_eq!(front(&text), [expected, &FIXED].concat(), "{title}");
        assert_eq!(about.licence.is_unknown(), expected.is_empty());
    }
    // What the model card says goes before.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("LICENSE"), "MIT License").unwrap();
    let about = about(&[("general.license", "apache-2.0")], &[], folder.path());
    assert_eq!(front(&card(&about, None).text())[0], "license: apache-2.0");
}

#[test]
fn values_stay_texts() {
    for text in ["no", "Yes", "null", "1.0", "a: b", "- a", "#x", "a\"b", "", "~", "模型"] {
        assert!(yaml(text).starts_with('"'), "{text}");
    }
    for text in ["mit", "zai-org/chatglm3-6b", "apache-2.0", "https://example.org/a?b=c"] {
        assert_eq!(yaml(text), text);
    }
    assert_eq!(yaml("a\"b\\c\nd"), "\"a\\\"b\\\\c d\"");
}
