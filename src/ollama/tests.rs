use super::*;
use crate::config::Layout;
use crate::tokenizer::{ChatFormat, Sampling};

/// ChatGLM3-6B's.
fn config() -> GlmConfig {
    GlmConfig {
        file: "config.json".into(),
        layout: Layout::ChatGlm,
        name_or_path: String::new(),
        num_layers: 28,
        hidden_size: 4096,
        ffn_hidden_size: 13696,
        num_attention_heads: 32,
        num_kv_heads: 2,
        qkv_by_head: false,
        head_dim: 128,
        qkv_bias: true,
        padded_vocab_size: 65024,
        seq_length: 8192,
        layernorm_epsilon: 1e-5,
        rotary_dim: 64,
        rope_base: 10_000.0,
        rope_ratio: 1.0,
        tie_word_embeddings: false,
    }
}

/// With tokens that control, of which the last ends a text.
fn tokenizer(jinja: Option<&str>, control: &[&str]) -> Tokenizer {
    let vocabulary = Vocabulary {
        tokens: control.iter().map(|text| (*text).to_owned()).collect(),
        types: vec![TokenType::Control; control.len()],
        eos: control.len().checked_sub(1).and_then(|last| u32::try_from(last).ok()),
        chat_template: jinja.map(str::to_owned),
        ..Vocabulary::default()
    };
    Tokenizer {
        vocabulary,
        chat: ChatFormat::Own,
        sampling: Sampling { temperature: 0.8, top_p: 1.0 },
        evidence: Vec::new(),
        other_template: false,
    }
}

const EDGE: &str = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}<|assistant|>";
const TOKENS: [&str; 6] =
    ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "[gMASK]", "<|endoftext|>"];

#[test]
fn a_modelfile_names_file_template_stops_and_settings() {
    let modelfile = modelfile("GLM-Edge-Q4_K_M.gguf", &tokenizer(Some(EDGE), &TOKENS), &config()).unwrap();
    println!("{}", modelfile.text);
}

