//! Models straight from a hub: a server of the tests' own on loopback behaves as the hubs do, and as badly.
#![cfg(unix)] // caches made of links, which Windows has only for some, and signals

mod commands;
mod environment;
mod faults;
mod hostile;
mod overlap;
pub mod server;
mod stored;
mod tls;

use std::path::{Path, PathBuf};

use crate::support::{Checkpoint, Cmd, Dir, testdata, tiny_tokenizer};
use server::Server;

/// A checkpoint of three shards, converted from its folder and from a server.
pub(crate) struct Hub {
    pub(crate) dir: Dir,
    pub(crate) server: Server,
    /// The certificate of the authority that vouches for the server.
    pub(crate) authority: Option<PathBuf>,
}

impl Hub {
    pub(crate) fn new() -> Hub {
        let dir = Dir::new();
        let shape = Checkpoint { shard_bytes: Some(800_000), ..Checkpoint::tiny() };
        shape.write(&dir.join("model"), &tiny_tokenizer()).expect("written");
        let server = Server::start(&dir.join("model"));
        Hub { dir, server, authority: None }
    }

    /// The same hub behind TLS.
    pub(crate) fn over_tls(self) -> Hub {
        let (server, authority) = tls::server(&self.model(), self.dir.path());
        Hub { server, authority: Some(authority), ..self }
    }

    pub(crate) fn of(model: &str) -> Hub {
        let dir = Dir::new();
        let folder = dir.join("model");
        crate::support::copy_files(&testdata(&format!("models/{model}")), &folder);
        if folder.join("config.json").exists() && crate::support::tokenizers::without_tokenizer(&folder) {
            crate::support::tokenizers::tiktoken(&folder, 900);
        }
        let server = Server::start(&dir.join("model"));
        Hub { dir, server, authority: None }
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.dir.join("model")
    }

    /// A command whose hubs are the server, and whose caches are empty.
    pub(crate) fn command(&self, name: &str) -> Cmd {
        let command = command(name, &self.server.url(), self.dir.path());
        match &self.authority {
            None => command,
            Some(file) => command.env("SSL_CERT_FILE", file).env_remove("SSL_CERT_DIR"),
        }
    }
}

pub(crate) fn command(name: &str, url: &str, folder: &Path) -> Cmd {
    let mut command = Cmd::new(name)
        .env("HF_ENDPOINT", url)
        .env("MODELSCOPE_ENDPOINT", url)
        .env("HF_HUB_CACHE", folder.join("no-hf-cache"))
        .env("MODELSCOPE_CACHE", folder.join("no-ms-cache"))
        .env("TMPDIR", folder.join("no-tmp")) // nothing is put there
        .current_dir(folder);
    let proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
    for name in ["HF_TOKEN", "MODELSCOPE_API_TOKEN", "HF_HUB_OFFLINE"].into_iter().chain(proxies) {
        command = command.env_remove(name).env_remove(&name.to_lowercase());
    }
    command
}

/// The same tensors and the same metadata, but for what says how the file was made.
#[track_caller]
pub(crate) fn same_model(a: &Path, b: &Path) {
    let [a, b] = [a, b].map(crate::support::gguf::Gguf::read);
    assert_eq!(a.model_meta(), b.model_meta());
    assert_eq!(a.tensors, b.tensors);
}
