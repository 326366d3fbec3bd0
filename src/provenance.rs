//! Where a GGUF comes from, in keys of its own: the program's version, the options that decide its bytes, and the
//! hashes of the model's config and tokenizer.
//!
//! Nothing in them depends on where files lie or on how the work is done. Adapters are left out: a file made with them
//! merged on the way is that of a checkpoint merged beforehand, byte for byte. The receipt has them.

use std::path::Path;

use crate::error::Result;
use crate::gguf::{Metadata, Value};
use crate::hash::sha256_of;
use crate::recipe::{FfnPad, FileType};
use crate::remap::RopeRatio;
use crate::request::Request;

/// This program's version, as in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The keys that every output of a request has.
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

fn key(name: &str, value: &str) -> (String, Value) {
    (format!("glm2llama.{name}"), Value::String(value.to_owned()))
}

/// In one order and without the names of files; options that set a key show in that key.
fn options(request: &Request, file_type: FileType) -> String {
    let kind = if request.vocab_only { "--vocab-only".to_owned() } else { format!("--type {file_type}") };
    let mut options = vec![kind];
    let name = |value: &dyn std::fmt::Display, option: &str| format!("--{option} {value}");
    options.extend(match request.pad {
        FfnPad::Auto => None,
        FfnPad::On => Some("--ffn-pad on".to_owned()),
        FfnPad::Off => Some("--ffn-pad off".to_owned()),
    });
    let overrides = &request.overrides;
    if overrides.pure {
        options.push("--pure".to_owned());
    }
    options.extend(overrides.output.map(|format| name(&format, "output-tensor-type")));
    options.extend(overrides.token_embedding.map(|format| name(&format, "token-embedding-type")));
    let pattern =
        |(pattern, format): &(regex::Regex, quant::Format)| format!("--tensor-type {pattern}={format}");
    options.extend(overrides.tensors.iter().map(pattern));
    options.extend(request.model.rope_ratio.map(|ratio| {
        let ratio = match ratio {
            RopeRatio::Base => "base",
            RopeRatio::Positions => "positions",
        };
        name(&ratio, "rope-ratio-applies-to")
    }));
    options.extend(request.imatrix.iter().map(|_| "--imatrix".to_owned()));
    options.extend(request.split_max_bytes.map(|bytes| name(&bytes, "split-max-size")));
    options.join(" ")
}
