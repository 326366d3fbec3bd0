//! Where a GGUF comes from, in keys of its own: the program's version, the options that change bytes, and the hashes
//! of what was read besides weights. Nothing in them depends on where files lie or on how the work is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::config::read_capped;
use crate::convert::Request;
use crate::error::{Error, Result};
use crate::gguf::{Metadata, Value};
use crate::hash::sha256;
use crate::recipe::{FfnPad, FileType};

/// This program's version, as in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The largest file that is hashed whole: no tokenizer and no importance matrix is longer.
const MAX_BYTES: u64 = 24 << 20;

/// The files that a model is made from besides its weights, each with its hash, by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs(BTreeMap<String, (PathBuf, String)>);

impl Inputs {
    /// Hashes all that a request names.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of(request: &Request) -> Result<Inputs> {
        let mut inputs = Inputs::default();
        let folder = &request.model.folder;
        inputs.add("config", &folder.join("config.json"))?;
        let tokenizer = ["tokenizer.model", "tokenizer.json"].map(|name| folder.join(name));
        if let Some(tokenizer) = tokenizer.iter().find(|file| file.exists()) {
            inputs.add("tokenizer", tokenizer)?;
        }
        if let Some(imatrix) = &request.imatrix {
            inputs.add("imatrix", imatrix)?;
        }
        if let Some(template) = &request.given.chat_template {
            inputs.add("chat_template", template)?;
        }
        for (number, lora) in request.model.lora.iter().enumerate() {
            inputs.add(&format!("lora.{number}"), &lora.folder.join("adapter_config.json"))?;
        }
        Ok(inputs)
    }

    fn add(&mut self, what: &str, file: &Path) -> Result<()> {
        let bytes = read_capped(file, MAX_BYTES)?.ok_or_else(|| Error::input(file, "", "no such file"))?;
        self.0.insert(what.to_owned(), (file.to_owned(), sha256(&bytes)));
        Ok(())
    }

    /// The keys of the GGUF.
    pub fn keys(&self, options: &str) -> Metadata {
        let key = |name: &str, value: &str| (format!("glm2llama.{name}"), Value::String(value.to_owned()));
        let hashes = self.0.iter().map(|(what, (_, hash))| key(&format!("sha256.{what}"), hash));
        [key("version", VERSION), key("options", options)].into_iter().chain(hashes).collect()
    }

    /// Each file with its hash.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.0.values().map(|(file, hash)| (file.as_path(), hash.as_str()))
    }
}

/// The options that change a file's bytes, in one order and without the names of files.
pub fn options(request: &Request, file_type: FileType) -> String {
    let mut options = vec![format!("--type {file_type}")];
    let name = |value: &dyn std::fmt::Display, option: &str| format!("--{option} {value}");
    let possible = |value: Option<clap::builder::PossibleValue>| {
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    };
    if request.pad != FfnPad::default() {
        options.push(name(&possible(request.pad.to_possible_value()), "ffn-pad"));
    }
    let overrides = &request.overrides;
    if overrides.pure {
        options.push("--pure".to_owned());
    }
    options.extend(overrides.output.map(|format| name(&format, "output-tensor-type")));
    options.extend(overrides.token_embedding.map(|format| name(&format, "token-embedding-type")));
    let pattern =
        |(pattern, format): &(regex::Regex, quant::Format)| format!("--tensor-type {pattern}={format}");
    options.extend(overrides.tensors.iter().map(pattern));
    if let Some(ratio) = request.model.rope_ratio {
        options.push(name(&possible(ratio.to_possible_value()), "rope-ratio-applies-to"));
    }
    options.extend(request.model.lora.iter().map(|lora| format!("--lora ={}", lora.scale)));
    options.extend(request.imatrix.iter().map(|_| "--imatrix".to_owned()));
    options.extend(request.split_max_bytes.map(|bytes| name(&bytes, "split-max-size")));
    options.join(" ")
}
