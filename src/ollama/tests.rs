use super::*;
use crate::config::TensorNaming;
use crate::config::tests::chatglm3_config as config;
use crate::tokenizer::{ChatFormat, Sampling, VocabularyKind};

fn context(config: &GlmConfig) -> String {
    let sizes = [config.num_layers, config.num_kv_heads, config.head_dim];
    Kept::new(sizes, config.seq_length).context()
}

/// With tokens that control, of which the last ends a text.
fn tokenizer(control: &[&str]) -> Tokenizer {
    let vocabulary = Vocabulary {
        tokens: control.iter().map(|text| (*text).to_owned()).collect(),
        types: vec![TokenType::Control; control.len()],
        eos: control.len().checked_sub(1).and_then(|last| u32::try_from(last).ok()),
        ..Vocabulary::default()
    };
    Tokenizer {
        vocabulary,
        chat: ChatFormat::Own,
        sampling: Sampling { temperature: 0.8, top_p: 1.0 },
        decisions: Vec::new(),
        lost_ends: None,
        other_template: false,
    }
}

const EDGE: &str = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}<|assistant|>";
const TOKENS: [&str; 7] =
    ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "[gMASK]", "<sop>", "<|endoftext|>"];

fn written(jinja: &str) -> Modelfile {
    modelfile("m.gguf", Some(jinja), &tokenizer(&TOKENS), &config()).unwrap()
}

fn stops_of(jinja: &str) -> Vec<String> {
    let lines = written(jinja).text;
    lines.lines().filter_map(|line| line.strip_prefix("PARAMETER stop ")).map(str::to_owned).collect()
}

/// The whole file, as Go has been seen to fill it in.
#[test]
fn a_modelfile_names_file_template_stops_and_settings() {
    let begin = r#"{{ define "begin" }}{{ if . }}{{ if eq (slice . 0 1) " " "\n" "\t" "\r" "\v" "\f" }}"#
        .to_owned()
        + r#"{{ template "begin" (slice . 1) }}{{ else }}{{ . }}{{ end }}{{ end }}{{ end }}"#;
    let expected = format!(
        r#"FROM ./m.gguf
TEMPLATE """{begin}{{{{ range $i, $_ := .Messages }}}}{{{{ $rest := slice $.Messages $i }}}}{{{{ if eq .Role "user" }}}}<|user|>
{{{{ .Content }}}}{{{{ else if eq .Role "assistant" }}}}<|assistant|>
{{{{ template "begin" .Content }}}}{{{{ else if eq .Role "system" }}}}<|system|>
{{{{ .Content }}}}{{{{ else if eq .Role "tool" }}}}<|tool|>
{{{{ .Content }}}}{{{{ else }}}}{{{{ slice "the chat template has no place for this message" 999 }}}}{{{{ end }}}}{{{{ if and (eq (len $rest) 1) (ne .Role "assistant") }}}}<|assistant|>
{{{{ end }}}}{{{{ end }}}}"""
PARAMETER stop "<|user|>"
PARAMETER stop "<|system|>"
PARAMETER stop "<|endoftext|>"
PARAMETER temperature 0.8
PARAMETER top_p 1
# Ollama up to 0.32.9 has 1.1 here, which the authors do not: it makes a model avoid words it needs.
PARAMETER repeat_penalty 1
# 8192 tokens are all that the model reads: at 28 KiB each, 0.22 GiB beside the weights.
PARAMETER num_ctx 8192
"#
    );
    assert_eq!(written(EDGE), Modelfile { text: expected, warning: None });
}

#[test]
fn a_template_that_ollama_cannot_follow_is_left_out_with_a_reason() {
    let modelfile = written("{% for m in messages %}{{ m.content | upper }}{% endfor %}");
    let warning = modelfile.warning.unwrap();
    assert!(
        warning.contains("no TEMPLATE: it leaves out a message of role user, or changes it; write one"),
        "{warning}"
    );
    assert!(
        modelfile.text.starts_with("FROM ./m.gguf\n# No TEMPLATE could be worked out"),
        "{}",
        modelfile.text
    );
    assert!(modelfile.text.contains("PARAMETER stop \"<|endoftext|>\"\n"), "{}", modelfile.text);
}

#[test]
fn a_base_model_continues_the_prompt() {
    let begins = |tokens: &[&str]| {
        let text = modelfile("m.gguf", None, &tokenizer(tokens), &config()).unwrap().text;
        text.lines().nth(1).unwrap().to_owned()
    };
    assert_eq!(begins(&TOKENS), "TEMPLATE \"\"\"[gMASK]<sop>{{ .Prompt }}\"\"\"");
    assert_eq!(begins(&["<|user|>"]), "TEMPLATE \"\"\"{{ .Prompt }}\"\"\"");
    // GLM-Edge has the tokens, and begins no text with them.
    let edge = GlmConfig { naming: TensorNaming::Glm, hidden_size: 3072, ..config() };
    let text = modelfile("m.gguf", None, &tokenizer(&TOKENS), &edge).unwrap().text;
    assert_eq!(text.lines().nth(1), Some("TEMPLATE \"\"\"{{ .Prompt }}\"\"\""));
}

#[test]
fn stops_are_ends_and_roles_but_not_what_asks_for_the_reply() {
    assert_eq!(stops_of(EDGE), ["\"<|user|>\"", "\"<|system|>\"", "\"<|endoftext|>\""]);
    let plain = "{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}\nA: {% else %}\
        {{ m.content }}\n\n{% endif %}{% endfor %}";
    assert_eq!(stops_of(plain), ["\"Q: \"", "\"<|endoftext|>\""]);
    // A model that writes of HTML must be able to.
    assert!(stops(&tokenizer(&["</s>"]).vocabulary, None).is_empty());
}

/// Fine-tuning may end its texts with an ordinary token, in the spelling of its vocabulary.
#[test]
fn ordinary_tokens_are_stops_as_the_text_that_they_spell() {
    let ends = |kind, tokens: &[&str], types: &[TokenType], eos| {
        let vocabulary = Vocabulary {
            kind,
            tokens: tokens.iter().map(|text| (*text).to_owned()).collect(),
            types: types.to_vec(),
            eos: Some(eos),
            ends: (0..u32::try_from(tokens.len()).unwrap()).collect(),
            ..Vocabulary::default()
        };
        let tokenizer = Tokenizer { vocabulary, ..tokenizer(&[]) };
        let text = modelfile("m.gguf", None, &tokenizer, &config()).unwrap().text;
        let said = text.lines().filter(|line| line.starts_with("PARAMETER stop") || line.contains("no stop"));
        said.map(str::to_owned).collect::<Vec<_>>()
    };
    use TokenType::{Byte, Control, Normal};
    let bpe = VocabularyKind::Bpe { whole_words: true };
    assert_eq!(
        ends(bpe, &["Ċ", "Ġ###", "ĠEND", "å", "<|end|>"], &[Normal, Normal, Normal, Normal, Control], 0),
        [
            "PARAMETER stop \" ###\"",
            "PARAMETER stop \" END\"",
            "PARAMETER stop \"<|end|>\"",
            "# token 0 (\"\\n\") ends a text but is no stop here, where only words can be one: the GGUF has it as an end.",
            "# token 3 ends a text but is no stop here, where only words can be one: replies go on past it.",
        ]
    );
    assert_eq!(
        ends(
            VocabularyKind::SentencePiece,
            &["▁▁", "<0x0A>", "▁完", "<0x23>"],
            &[Normal, Byte, Normal, Byte],
            1
        ),
        [
            "PARAMETER stop \" 完\"",
            "PARAMETER stop \"#\"",
            "# token 0 (\"  \") ends a text but is no stop here, where only words can be one: replies go on past it.",
            "# token 1 (\"\\n\") ends a text but is no stop here, where only words can be one: the GGUF has it as an end.",
        ]
    );
}

#[test]
fn the_context_is_the_models_or_what_a_gibibyte_holds() {
    let tokens = |layers, heads, width, length| {
        let config = GlmConfig {
            num_layers: layers,
            num_kv_heads: heads,
            head_dim: width,
            seq_length: length,
            ..config()
        };
        let text = context(&config);
        let number = text.trim_end().rsplit(' ').next().unwrap();
        number.parse::<usize>().unwrap()
    };
    assert_eq!(tokens(28, 2, 128, 8192), 8192); // ChatGLM3-6B
    assert_eq!(tokens(28, 2, 128, 32768), 32768); // ChatGLM2-6B-32k
    assert_eq!(tokens(28, 2, 128, 131_072), 36 * 1024); // ChatGLM3-6B-128k
    assert_eq!(tokens(40, 2, 128, 131_072), 25 * 1024); // GLM-4-9B
    assert_eq!(tokens(48, 32, 128, 131_072), LEAST_CONTEXT); // a head of keys for each of queries
    assert_eq!(tokens(1, 1, 8, 200), 200);
    assert_eq!(tokens(usize::MAX, 2, 128, 8192), LEAST_CONTEXT);
    let comment = context(&GlmConfig { num_layers: 40, seq_length: 131_072, ..config() });
    let expected = "# 25600 of the 131072 tokens that the model reads, which about 1 GiB holds: at 40 KiB \
        each, 0.98 GiB beside the weights.\nPARAMETER num_ctx 25600\n";
    assert_eq!(comment, expected);
}

#[test]
fn names_with_spaces_are_quoted_and_impossible_ones_refused() {
    assert_eq!(from("my model.gguf").unwrap(), "\"./my model.gguf\"");
    for bad in ["", "a/b.gguf", "a\nSYSTEM b"] {
        assert!(matches!(from(bad), Err(Error::Usage(_))), "{bad:?}");
    }
}
