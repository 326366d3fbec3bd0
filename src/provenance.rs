//! Where a GGUF comes from, in keys of its own: the program's version, the options that decide its bytes, the hashes
//! of the model's config and tokenizer and, of one from a hub, the repository and its commit.
//!
//! Nothing in them depends on where files lie or on how the work is done. Adapters are left out: a file made with them
//! merged on the way is that of a checkpoint merged beforehand, byte for byte. The receipt has them.

use std::fmt::Display;

use crate::config::RopeRatio;
use crate::error::Result;
use crate::gguf::{Metadata, Value};
use crate::input::GuestBook;
use crate::model;
use crate::recipe::{FfnPad, FileType, Overrides};
use crate::request::{Quality, Request};

/// This program's version, as in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The keys that are the same in every output of a model that was opened with these guests.
pub(crate) fn keys(request: &model::ModelSource, guests: &GuestBook) -> Result<Metadata> {
    let folder = &request.folder;
    let mut keys = vec![key("version", VERSION)];
    keys.push(key("sha256.config", &guests.hash(&folder.join("config.json"))?.1));
    let tokenizer = ["tokenizer.model", "tokenizer.json"].map(|name| folder.join(name));
    if let Some(tokenizer) = guests.opened().find(|file| tokenizer.iter().any(|one| one == file)) {
        keys.push(key("sha256.tokenizer", &guests.hash(tokenizer)?.1));
    }
    if let Some(origin) = &request.origin {
        keys.push(key("source.hub", &origin.hub));
        keys.push(key("source.repository", &origin.repository));
        keys.push(key("source.commit", &origin.commit));
    }
    Ok(keys)
}

/// The key of one output: its options.
pub(crate) fn options_key(request: &Request, file_type: FileType) -> (String, Value) {
    key("options", &options(request, file_type))
}

/// The keys of a file whose levels were chosen by measurements on a text: how, and the text's SHA-256.
pub(crate) fn quality_keys(quality: &str, calibration: &str) -> Metadata {
    vec![key("quality", quality), key("sha256.calibration", calibration)]
}

/// The keys of a file whose formats were chosen for its size: how many bytes it may have, and what the choice goes by.
pub(crate) fn target_keys(bytes: u64, by: &str) -> Metadata {
    vec![("glm2llama.target_size".to_owned(), Value::U64(bytes)), key("target_by", by)]
}

fn key(name: &str, value: &str) -> (String, Value) {
    (format!("glm2llama.{name}"), Value::String(value.to_owned()))
}

/// In one order and without the names of files. Every field of a request is named here, so that a new one is in the
/// options or, with a reason, left out.
fn options(request: &Request, file_type: FileType) -> String {
    let Request {
        // For adapters see above; where the model is from is in keys of its own.
        model: model::ModelSource { folder: _, rope_ratio, lora: _, origin: _, published: _, remote: _ },
        types: _,
        target,
        pad,
        overrides: Overrides { pure, output, token_embedding, tensors },
        imatrix,
        quality,
        calibration: _, // its hash has a key of its own
        calibration_tokens,
        memory,
        vocab_only,
        split_max_bytes,
        given: _, // shows in the keys themselves
        // Where files lie, and what is written besides.
        output: _,
        force: _,
        modelfile: _,
        receipt: _,
        card: _,
    } = request;
    let option = |name: &str, value: &dyn Display| format!("--{name} {value}");
    let mut options = vec![match (vocab_only, target) {
        (true, _) => "--vocab-only".to_owned(),
        // Its bytes have a key of their own, of one length: the header's length must not depend on them.
        (false, Some(_)) => "--target-size".to_owned(),
        (false, None) => option("type", &file_type),
    }];
    options.extend(match pad {
        FfnPad::Auto => None,
        FfnPad::On => Some("--ffn-pad on".to_owned()),
        FfnPad::Off => Some("--ffn-pad off".to_owned()),
    });
    options.extend(pure.then(|| "--pure".to_owned()));
    options.extend(output.map(|format| option("output-tensor-type", &format)));
    options.extend(token_embedding.map(|format| option("token-embedding-type", &format)));
    for (pattern, format) in tensors {
        options.push(format!("--tensor-type {pattern}={format}"));
    }
    options.extend(rope_ratio.map(|ratio| match ratio {
        RopeRatio::Base => "--rope-ratio-applies-to base".to_owned(),
        RopeRatio::Positions => "--rope-ratio-applies-to positions".to_owned(),
    }));
    options.extend(imatrix.as_ref().map(|_| "--imatrix".to_owned()));
    let measured = *quality != Quality::Fast;
    options.extend(measured.then(|| option("quality", &quality.name())));
    options.extend(calibration_tokens.map(|tokens| option("calibration-tokens", &tokens)));
    // Left out by the caller where it changes nothing.
    options.extend(memory.map(|bytes| option("memory", &bytes)));
    options.extend(split_max_bytes.map(|bytes| option("split-max-size", &bytes)));
    options.join(" ")
}
