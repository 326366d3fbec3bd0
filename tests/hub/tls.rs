//! The same over TLS, with a certificate of an authority that only the tests know.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::server::{Server, TOKEN, Wrap};
use super::{command, same_model};
use crate::support::{Checkpoint, Dir, command::convert, tiny_tokenizer};

/// A server's TLS, and its authority's certificate in PEM.
fn tls(names: &[&str]) -> (Wrap, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let wrap: Wrap = Arc::new(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).ok()?;
        Some(Box::new(StreamOwned::new(connection, stream)))
    });
    (wrap, root.pem())
}

/// Serves a folder's files over TLS; the authority's certificate is put into `here`.
pub(crate) fn server(folder: &Path, here: &Path) -> (Server, PathBuf) {
    let (wrap, pem) = tls(&["127.0.0.1", "localhost"]);
    let authority = here.join("authority.pem");
    std::fs::write(&authority, pem).unwrap();
    (Server::wrapped(folder, "https", wrap), authority)
}

#[test]
fn certificates_are_the_systems_matter() {
    let here = Dir::new();
    let shape = Checkpoint { shard_bytes: Some(800_000), ..Checkpoint::tiny() };
    shape.write(&here.join("model"), &tiny_tokenizer()).unwrap();
    let (server, _) = server(&here.join("model"), here.path());
    server.make_private().fault("00002-of-00003.safetensors", super::server::Fault::Cut(200_000), 3);
    let run = |authority: &str| {
        let run = command("convert", &server.url(), here.path()).env("HF_TOKEN", TOKEN);
        let run =
            run.env("SSL_CERT_FILE", here.join(authority)).env_remove("SSL_CERT_DIR").arg("hf://me/private");
        run.args(&["--type", "Q4_K_M", "--quiet", "--output", "m.gguf"])
    };
    run("authority.pem").succeed();
    convert(&here.join("model"), "Q4_K_M", &here.join("local.gguf"), &[]);
    same_model(&here.join("m.gguf"), &here.join("local.gguf"));
    assert!(server.seen().iter().any(|seen| !seen.token) && server.seen().iter().any(|seen| seen.token));

    // An authority that is not this server's.
    std::fs::write(here.join("another.pem"), tls(&["localhost"]).1).unwrap();
    let error = run("another.pem").arg("--force").exit_with(2).stderr;
    assert!(
        error.contains("a certificate of 127.0.0.1 that is not valid") && error.contains("SSL_CERT_FILE"),
        "{error}"
    );
    // No authority at all, and a file that is not there.
    for (name, text) in [("empty.pem", Some("")), ("broken.pem", Some("-----BEGIN")), ("missing.pem", None)] {
        if let Some(text) = text {
            std::fs::write(here.join(name), text).unwrap();
        }
        let error = run(name).arg("--force").exit_with(2).stderr;
        assert!(error.contains(&format!("{name}: found no certificate")), "{error}");
    }
    // A certificate of another host.
    let (wrap, pem) = tls(&["hub.invalid"]);
    std::fs::write(here.join("authority.pem"), pem).unwrap();
    let other = Server::wrapped(&here.join("model"), "https", wrap);
    let run = command("plan", &other.url(), here.path()).env("SSL_CERT_FILE", here.join("authority.pem"));
    let error = run.arg("hf://a/b").exit_with(2).stderr;
    assert!(error.contains("a certificate of 127.0.0.1 that is not valid"), "{error}");
}
