//! `config.json` -> the validated facts of one ChatGLM model.
//!
//! Every field that changes what the model computes is read here, and refused here when the Llama
//! layout has no place for it. Nothing is decided by the folder's name.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What the rest of the program needs to know of a ChatGLM model. Field names follow the checkpoint's.
#[derive(Clone, Debug, PartialEq)]
pub struct GlmConfig {
    /// Where it was read from, for error messages.
    pub file: PathBuf,
    /// `_name_or_path`, or empty: users rename models, so it is a hint at most.
    pub name_or_path: String,
    /// Number of transformer blocks.
    pub num_layers: usize,
    /// Width of the residual stream, h.
    pub hidden_size: usize,
    /// Width of the feed-forward network, f, unpadded.
    pub ffn_hidden_size: usize,
    /// Query heads, n.
    pub num_attention_heads: usize,
    /// Key and value heads, g.
    pub num_kv_heads: usize,
    /// Query, key and value rows are grouped by head, `[n, 3, d]` (`multi_query_attention: false`).
    pub qkv_by_head: bool,
    /// Values of one head, d (`kv_channels`).
    pub head_dim: usize,
    /// The fused projection has a bias (`add_qkv_bias`).
    pub qkv_bias: bool,
    /// Rows of the embedding and of the output layer (`padded_vocab_size`).
    pub padded_vocab_size: usize,
    /// Longest context, in tokens (`seq_length`).
    pub seq_length: usize,
    /// The epsilon of every RMS norm.
    pub layernorm_epsilon: f32,
    /// `rope_ratio`, 1 when absent.
    pub rope_ratio: f64,
    /// The embedding serves as the output layer too.
    pub tie_word_embeddings: bool,
}

/// A ChatGLM config has 2 kB: far more is not one, and is not read. Parsed, JSON takes up to 16 times its bytes.
const MAX_BYTES: u64 = 1 << 20;

impl GlmConfig {
    /// Reads `config.json` in the checkpoint's folder.
    ///
    /// # Errors
    /// When it is absent, not a ChatGLM config, or has a field that the Llama layout cannot express.
    pub fn load(folder: &Path) -> Result<GlmConfig> {
        let file = folder.join("config.json");
        let text = match read_capped(&file, MAX_BYTES)? {
            Some(text) => text,
            None => return Err(missing(folder, &file)),
        };
        let value: Value = serde_json::from_slice(&text)
            .map_err(|e| Error::input(&file, "", format!("is not valid JSON: {e}")))?;
        match value {
            Value::Object(map) => parse(&Fields { file: &file, map: &map }),
            _ => Err(Error::input(&file, "", "expected a JSON object")),
        }
    }
}

fn missing(folder: &Path, file: &Path) -> Error {
    if !folder.exists() {
        Error::input(folder, "", "no such folder, expected one with a ChatGLM checkpoint")
    } else if !folder.is_dir() {
        Error::input(folder, "", "found a file, expected the folder of a ChatGLM checkpoint")
    } else {
        Error::input(file, "", "not found, expected the folder of a ChatGLM checkpoint")
    }
}

/// Reads a whole small file; `None` when there is none, an error when it is over `max` bytes.
///
/// Only regular files are opened: a named pipe that nobody writes to would be waited for without end.
pub(crate) fn read_capped(file: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    let length = match fs::metadata(file) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return Err(Error::mismatch(file, "", "no regular file", "one")),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(Error::io(file, "read")(e)),
    };
    let opened = fs::File::open(file).map_err(Error::io(file, "open"))?;
    let mut bytes = Vec::with_capacity(length.min(max) as usize + 1); // at most the cap; one more to see the end
    opened.take(max + 1).read_to_end(&mut bytes).map_err(Error::io(file, "read"))?;
    if bytes.len() as u64 > max {
        return Err(Error::mismatch(file, "", format!("over {max} bytes"), "a small file"));
    }
    Ok(Some(bytes))
}

fn parse(fields: &Fields) -> Result<GlmConfig> {
    fields.require_chatglm()?;
    for (key, default, expected, why) in EXPRESSIBLE {
        if fields.flag(key, default)? != expected {
            let found = !expected;
            return Err(fields.wrong(key, found, format_args!("{expected}: {why}")));
        }
    }
    for key in ["pre_seq_len", "quantization_bit"] {
        if fields.count_or(key, 0)? > 0 {
            return Err(fields.wrong(key, fields.text(key), refusal(key)));
        }
    }
    let rotary_percent = fields.number_or("rotary_percent", 0.5)?;
    if rotary_percent != 0.5 {
        return Err(fields.wrong("rotary_percent", rotary_percent, "0.5: ChatGLM rotates half of each head"));
    }

    let num_attention_heads = fields.size("num_attention_heads", 1 << 16)?;
    let qkv_by_head = !fields.flag("multi_query_attention", false)?;
    let num_kv_heads =
        if qkv_by_head { num_attention_heads } else { fields.size("multi_query_group_num", 1 << 16)? };
    if !num_attention_heads.is_multiple_of(num_kv_heads) {
        let expected = format!("a divisor of num_attention_heads, {num_attention_heads}");
        return Err(fields.wrong("multi_query_group_num", num_kv_heads, expected));
    }
    let head_dim = fields.size("kv_channels", 1 << 16)?;
    if !head_dim.is_multiple_of(4) {
        return Err(fields.wrong(
            "kv_channels",
            head_dim,
            "a multiple of 4: half of a head is rotated, in pairs",
        ));
    }
    let layernorm_epsilon = fields.number_or("layernorm_epsilon", 1e-5)? as f32;
    if !(layernorm_epsilon > 0.0 && layernorm_epsilon < 1.0) {
        return Err(fields.wrong("layernorm_epsilon", layernorm_epsilon, "a small positive number"));
    }
    let rope_ratio = fields.number_or("rope_ratio", 1.0)?;
    if !(1e-3..=1e9).contains(&rope_ratio) {
        return Err(fields.wrong("rope_ratio", rope_ratio, "a number from 0.001 to 1e9"));
    }
    Ok(GlmConfig {
        file: fields.file.to_owned(),
        name_or_path: fields.map.get("_name_or_path").and_then(Value::as_str).unwrap_or("").to_owned(),
        num_layers: fields.size("num_layers", 1 << 12)?,
        hidden_size: fields.size("hidden_size", 1 << 24)?,
        ffn_hidden_size: fields.size("ffn_hidden_size", 1 << 24)?,
        num_attention_heads,
        num_kv_heads,
        qkv_by_head,
        head_dim,
        qkv_bias: fields.flag("add_qkv_bias", false)?,
        padded_vocab_size: fields.size("padded_vocab_size", 1 << 24)?,
        seq_length: fields.size("seq_length", 1 << 31)?,
        layernorm_epsilon,
        rope_ratio,
        // The authors' model class never ties them, whatever the field says.
        tie_word_embeddings: false,
    })
}

/// Fields with one value that the Llama layout expresses: key, the authors' default, that value, why.
const EXPRESSIBLE: [(&str, bool, bool, &str); 6] = [
    ("add_bias_linear", false, false, "the Llama layout has no bias on the linear layers"),
    ("rmsnorm", true, true, "the Llama layout has RMS norms only"),
    ("post_layer_norm", true, true, "the Llama layout always has a final norm"),
    ("apply_residual_connection_post_layernorm", false, false, "Llama's residual starts before the norm"),
    ("interleaved_qkv", false, false, "another order of the fused projection's rows"),
    ("original_rope", true, true, "another rotation"),
];

fn refusal(key: &str) -> &'static str {
    match key {
        "pre_seq_len" => {
            "none: P-Tuning v2 adds a trained prefix to every layer's keys and values, \
             which the Llama layout has no place for"
        }
        _ => "none: the weights were quantized already; convert the original float checkpoint instead",
    }
}

/// The config's fields, read with errors that name file, key, found and expected.
struct Fields<'a> {
    file: &'a Path,
    map: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn require_chatglm(&self) -> Result<()> {
        let model_type = self.get("model_type");
        if model_type.and_then(Value::as_str) == Some("chatglm") {
            return Ok(());
        }
        let names_chatglm = |value: &Value| value.as_str().is_some_and(|s| s.starts_with("ChatGLM"));
        let by_class =
            self.get("architectures").and_then(Value::as_array).is_some_and(|a| a.iter().any(names_chatglm));
        if model_type.is_none() && by_class {
            return Ok(());
        }
        Err(self.wrong("model_type", self.text("model_type"), "\"chatglm\""))
    }

    /// The value, where `null` counts as absent (as Python's `None` does).
    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The value as it stands in the file, shortened.
    fn text(&self, key: &str) -> String {
        match self.get(key) {
            None => "nothing".to_owned(),
            Some(value) => {
                let text = value.to_string();
                if text.len() <= 60 {
                    text
                } else {
                    format!("{}...", text.chars().take(60).collect::<String>())
                }
            }
        }
    }

    fn wrong(&self, key: &str, found: impl std::fmt::Display, expected: impl std::fmt::Display) -> Error {
        Error::mismatch(self.file, key, found, expected)
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(key, self.text(key), "true or false")),
        }
    }

    fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(key, self.text(key), "a number")),
        }
    }

    fn count_or(&self, key: &str, default: u64) -> Result<u64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_u64().ok_or_else(|| self.wrong(key, self.text(key), "a whole number")),
        }
    }

    /// A required size, from 1 to `max`.
    fn size(&self, key: &str, max: u64) -> Result<usize> {
        let found = self.get(key).and_then(Value::as_u64).filter(|n| (1..=max).contains(n));
        found
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| self.wrong(key, self.text(key), format_args!("a whole number from 1 to {max}")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// ChatGLM3-6B's, for tests elsewhere.
    pub(crate) fn chatglm3_config() -> GlmConfig {
        parse_with("rope_ratio", 1.into()).unwrap()
    }

    fn chatglm3() -> Map<String, Value> {
        let text = r#"{"_name_or_path": "THUDM/chatglm3-6b", "model_type": "chatglm",
            "add_bias_linear": false, "add_qkv_bias": true, "apply_residual_connection_post_layernorm": false,
            "ffn_hidden_size": 13696, "hidden_size": 4096, "kv_channels": 128, "layernorm_epsilon": 1e-05,
            "multi_query_attention": true, "multi_query_group_num": 2, "num_attention_heads": 32,
            "num_layers": 28, "original_rope": true, "padded_vocab_size": 65024, "post_layer_norm": true,
            "rmsnorm": true, "seq_length": 8192, "tie_word_embeddings": false}"#;
        serde_json::from_str(text).unwrap()
    }

    fn parse_with(key: &str, value: Value) -> Result<GlmConfig> {
        let mut map = chatglm3();
        map.insert(key.to_owned(), value);
        parse(&Fields { file: Path::new("m/config.json"), map: &map })
    }

    #[test]
    fn chatglm3_is_read() {
        let config = parse_with("rope_ratio", 50.into()).unwrap();
        assert_eq!((config.num_layers, config.num_kv_heads, config.head_dim), (28, 2, 128));
        assert!(config.qkv_bias && !config.qkv_by_head);
        assert_eq!(config.rope_ratio, 50.0);
    }

    #[test]
    fn what_llama_cannot_express_is_refused_by_name() {
        let cases: [(&str, Value); 16] = [
            ("model_type", "llama".into()),
            ("add_bias_linear", true.into()),
            ("rmsnorm", false.into()),
            ("post_layer_norm", false.into()),
            ("apply_residual_connection_post_layernorm", true.into()),
            ("interleaved_qkv", true.into()),
            ("original_rope", false.into()),
            ("rotary_percent", 1.into()),
            ("pre_seq_len", 128.into()),
            ("quantization_bit", 4.into()),
            ("multi_query_group_num", 3.into()),
            ("kv_channels", 126.into()),
            ("num_layers", (-1).into()),
            ("hidden_size", u64::MAX.into()),
            ("rope_ratio", "50".into()),
            ("layernorm_epsilon", 0.into()),
        ];
        for (key, value) in cases {
            let error = parse_with(key, value).unwrap_err().to_string();
            assert!(error.starts_with(&format!("m/config.json: {key}: found ")), "{error}");
            assert!(error.contains(", expected "), "{error}");
        }
    }

    #[test]
    fn null_means_the_default() {
        assert_eq!(
            parse_with("pre_seq_len", Value::Null).unwrap(),
            parse_with("quantization_bit", 0.into()).unwrap()
        );
    }
}
