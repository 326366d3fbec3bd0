//! Where a GGUF comes from, in keys of its own: the program's version, the options that decide its bytes, and the
//! hashes of the model's config and tokenizer.
//!
//! Nothing in them depends on where files lie or on how the work is done. Adapters are left out: a file made with them
//! merged on the way is that of a checkpoint merged beforehand, byte for byte. The receipt has them.

use std::fmt::Display;
use std::path::Path;

use crate::error::Result;
use crate::gguf::{Metadata, Value};
use crate::hash::sha256_of;
use crate::recipe::{FfnPad, FileType};
use crate::remap::RopeRatio;
use crate::request::{Quality, Request};

/// This program's version, as in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The keys that are the same in every output.
///
/// # Errors
/// When a file cannot be read.
pub fn keys(model: &Path) -> Result<Metadata> {
    let mut keys = vec![key("version", VERSION)];
    keys.push(key("sha256.config", &sha256_of(&model.join("config.json"))?.1));
    let tokenizer = ["tokenizer.model", "tokenizer.json"].map(|name| model.join(name));
    if let Some(tokenizer) = tokenizer.iter().find(|file| file.exists()) {
        keys.push(key("sha256.tokenizer", &sha256_of(tokenizer)?.1));
    }
    Ok(keys)
}

/// The key of one output: its options.
pub fn options_key(request: &Request, file_type: FileType) -> (String, Value) {
    key("options", &options(request, file_type))
}

/// The keys of a file whose levels were chosen by measurements on a text: how, and the text's SHA-256.
pub fn quality_keys(quality: &str, calibration: &str) -> Metadata {
    vec![key("quality", quality), key("sha256.calibration", calibration)]
}

fn key(name: &str, value: &str) -> (String, Value) {
    (format!("glm2llama.{name}"), Value::String(value.to_owned()))
}

/// In one order and without the names of files; options that set a key show in that key.
fn options(request: &Request, file_type: FileType) -> String {
    let option = |name: &str, value: &dyn Display| format!("--{name} {value}");
    let mut options = vec![match request.vocab_only {
        true => "--vocab-only".to_owned(),
        false => option("type", &file_type),
    }];
    options.extend(match request.pad {
        FfnPad::Auto => None,
        FfnPad::On => Some("--ffn-pad on".to_owned()),
        FfnPad::Off => Some("--ffn-pad off".to_owned()),
    });
    let overrides = &request.overrides;
    options.extend(overrides.pure.then(|| "--pure".to_owned()));
    options.extend(overrides.output.map(|format| option("output-tensor-type", &format)));
    options.extend(overrides.token_embedding.map(|format| option("token-embedding-type", &format)));
    for (pattern, format) in &overrides.tensors {
        options.push(format!("--tensor-type {pattern}={format}"));
    }
    options.extend(request.model.rope_ratio.map(|ratio| match ratio {
        RopeRatio::Base => "--rope-ratio-applies-to base".to_owned(),
        RopeRatio::Positions => "--rope-ratio-applies-to positions".to_owned(),
    }));
    options.extend(request.imatrix.as_ref().map(|_| "--imatrix".to_owned()));
    options.extend(match request.quality {
        Quality::Fast => None,
        Quality::Good => Some("--quality good".to_owned()),
        Quality::Best => Some("--quality best".to_owned()),
    });
    options.extend(request.calibration_tokens.map(|tokens| option("calibration-tokens", &tokens)));
    options.extend(request.split_max_bytes.map(|bytes| option("split-max-size", &bytes)));
    options.join(" ")
}
