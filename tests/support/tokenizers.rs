//! Small tokenizers of GLM-4's kind, for checkpoints whose own is not in the repository.

use std::fs;
use std::path::Path;

/// The folder holds no vocabulary.
pub fn without_tokenizer(folder: &Path) -> bool {
    !folder.join("tokenizer.model").exists() && !folder.join("tokenizer.json").exists()
}

/// Writes a tiktoken vocabulary of `ranks` tokens: all bytes, then pairs of letters. The special tokens follow them,
/// so the published lists of their ids are replaced.
pub fn tiktoken(folder: &Path, ranks: usize) {
    let letters = || b'a'..=b'z';
    let pairs = letters().flat_map(|first| letters().map(move |second| vec![first, second]));
    let tokens = (0..=255).map(|byte| vec![byte]).chain(pairs).take(ranks);
    let lines: Vec<String> =
        tokens.enumerate().map(|(rank, token)| format!("{} {rank}\n", base64(&token))).collect();
    assert_eq!(lines.len(), ranks, "there are not so many pairs");
    fs::write(folder.join("tokenizer.model"), lines.concat()).expect("written");
    let template = "[gMASK]<sop>{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\
        {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
    let config = serde_json::json!({ "chat_template": template });
    fs::write(folder.join("tokenizer_config.json"), config.to_string()).expect("written");
    let _ = fs::remove_file(folder.join("generation_config.json"));
    let file = folder.join("config.json");
    let Ok(text) = fs::read_to_string(&file) else { return };
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    if config.get("eos_token_id").is_some() {
        config["eos_token_id"] = serde_json::json!([ranks, ranks + 7, ranks + 9]);
        fs::write(&file, config.to_string()).expect("written");
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| -> String {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        let letter = |i: usize| match i <= chunk.len() {
            true => char::from(LETTERS[(bits >> (18 - 6 * i) & 63) as usize]),
            false => '=',
        };
        (0..4).map(letter).collect()
    };
    bytes.chunks(3).map(group).collect()
}
