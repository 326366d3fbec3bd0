//! Who asks a hub: its endpoint and token by the environment, and one request at a time.

use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use ureq::Agent;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::address::Hub;
use super::pace::Pace;
use super::proxies::Proxies;
use super::redirect::{self, Site};
use crate::error::{Error, Result};
use crate::provenance::VERSION;
use crate::watch::Watch;

/// Redirects that are followed: a renamed repository, a region, a signed link.
const MOST_HOPS: usize = 6;

/// A hub's endpoint, and what is sent with each request.
#[derive(Debug)]
pub struct Client {
    pub(super) hub: Hub,
    pub(super) pace: Pace,
    agent: Agent,
    proxies: Proxies,
    endpoint: Site,
    token: Option<Token>,
    caller: Caller,
}

/// What a client has to do with whoever runs it.
#[derive(Clone)]
pub struct Caller {
    /// Says whether the run is to stop.
    pub watch: Arc<dyn Watch + Send + Sync>,
    /// Told why nothing comes, when a pause is long.
    pub tell: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for Caller {
    /// Never stops, and tells nobody.
    fn default() -> Caller {
        Caller { watch: Arc::new(()), tell: Arc::new(|_| {}) }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").finish_non_exhaustive()
    }
}

/// A secret, as the headers that it is sent in: it has no way into a message.
struct Token(Vec<(HeaderName, HeaderValue)>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// It may go better the next time, after the time that the hub asks for.
    Again { why: String, wait: Option<Duration> },
    /// It will not.
    Final(Error),
}

/// The answer to a request.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// It came from the endpoint's own host, and not from where a redirect led.
    pub(super) own: bool,
    pub(super) body: Box<dyn Read>,
}

impl Client {
    /// Makes a client by the environment: `HF_ENDPOINT` and `HF_TOKEN`, or `MODELSCOPE_ENDPOINT` and
    /// `MODELSCOPE_API_TOKEN`; `HF_HUB_OFFLINE` forbids it. Nothing is sent yet.
    ///
    /// # Errors
    /// When the network is forbidden, or a variable is not what it should be.
    pub fn new(
        hub: Hub,
        variable: &dyn Fn(&str) -> Option<OsString>,
        pace: Pace,
        caller: Caller,
    ) -> Result<Client> {
        let value = |name: &str| match variable(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => match value.into_string() {
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(_) => Err(Error::Usage(format!("{name}: is not UTF-8 text"))),
            },
        };
        // What is neither of the usual words is taken for the safer one.
        let offline = value("HF_HUB_OFFLINE")?.unwrap_or_default().to_ascii_lowercase();
        if !["", "0", "off", "no", "n", "false", "f"].contains(&offline.as_str()) {
            return Err(Error::Usage(format!(
                "HF_HUB_OFFLINE is set, which forbids the network: unset it, or give a downloaded model's folder or \
                 ORG/NAME instead of {}ORG/NAME",
                hub.prefix()
            )));
        }
        let (endpoint_name, usual) = match hub {
            Hub::HuggingFace => ("HF_ENDPOINT", "https://huggingface.co"),
            Hub::ModelScope => ("MODELSCOPE_ENDPOINT", "https://modelscope.cn"),
        };
        let token_name = token_name(hub);
        let given = value(endpoint_name)?.unwrap_or_else(|| usual.to_owned());
        let endpoint = Site::of_endpoint(&given).ok_or_else(|| {
            // A password is not to be shown.
            let found = if given.contains('@') { "an address with a name" } else { &format!("`{given}`") };
            Error::Usage(format!("{endpoint_name}: found {found}, expected an address such as {usual}"))
        })?;
        let token = match value(token_name)? {
            None => None,
            Some(token) => Some(token_headers(hub, token_name, &token)?),
        };
        if token.is_some() && !endpoint.keeps_secrets() {
            return Err(Error::Usage(format!(
                "{endpoint_name}: found `{given}`, which would get {token_name} unencrypted: give an https:// address, \
                 or unset {token_name}"
            )));
        }
        let roots = roots(&value)?;
        if roots.is_empty() && endpoint.is_encrypted() {
            return Err(Error::Usage(
                "found no certificates of authorities on this system, expected some: install its package \
                 ca-certificates, or name a file of them with SSL_CERT_FILE"
                    .to_owned(),
            ));
        }
        let proxies = Proxies::of(&value)?;
        Ok(Client { hub, pace, agent: agent(pace, &roots), proxies, endpoint, token, caller })
    }

    /// An address on the endpoint; `path` begins with a slash.
    pub(super) fn url(&self, path: &str) -> String {
        self.endpoint.join(path)
    }

    /// The address is on the endpoint's own host.
    pub(super) fn is_own(&self, url: &str) -> bool {
        Site::of(url).is_some_and(|place| place.same_host(&self.endpoint))
    }

    /// The variable that a token is in.
    pub(super) fn token_name(&self) -> &'static str {
        token_name(self.hub)
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Tells the user why nothing comes.
    pub(super) fn tell(&self, message: &str) {
        (self.caller.tell)(message);
    }

    /// Refuses to go on when the user wants the run to stop.
    pub(super) fn go_on(&self) -> Result<()> {
        self.caller.watch.go_on()
    }

    /// One GET with its redirects. The token goes to the endpoint's own host, and never behind a redirect.
    ///
    /// # Errors
    /// When there is no answer; an answer that says no is one.
    pub(super) fn get(&self, url: &str, range: Option<String>, file: &Path) -> Result<Answer, Fault> {
        let mut url = url.to_owned();
        for hop in 0..=MOST_HOPS {
            let site = Site::of(&url);
            let token = self.token.as_ref().filter(|_| hop == 0 && self.is_own(&url));
            // A proxy would read a token that goes without encryption to an endpoint on this machine.
            let may_pass = |site: &&Site| token.is_none() || site.is_encrypted();
            let proxy = site.as_ref().filter(may_pass).and_then(|site| self.proxies.to(site));
            let mut request = self.agent.get(&url).config().proxy(proxy.cloned()).build();
            request = request.header(header::ACCEPT_ENCODING, "identity");
            if let Some(range) = &range {
                request = request.header(header::RANGE, range);
            }
            if let Some(Token(headers)) = token {
                request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            }
            let response = request.call().map_err(|error| no_answer(&error, &url, file))?;
            let status = response.status().as_u16();
            let (head, body) = response.into_parts();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                let body = Box::new(body.into_reader());
                let own = self.is_own(&url);
                return Ok(Answer { status, headers: head.headers, own, body });
            }
            let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| redirect::follow(&url, location));
            url = next.ok_or_else(|| {
                let expected = "an address that is as safe as the one before it";
                Fault::Final(Error::file_mismatch(
                    file,
                    format!("a redirect by {} to nowhere", host(&url)),
                    expected,
                ))
            })?;
        }
        Err(Fault::Final(Error::file_mismatch(
            file,
            format!("over {MOST_HOPS} redirects"),
            "the file itself",
        )))
    }
}

fn token_name(hub: Hub) -> &'static str {
    match hub {
        Hub::HuggingFace => "HF_TOKEN",
        Hub::ModelScope => "MODELSCOPE_API_TOKEN",
    }
}

/// The system's own authorities, or those that the environment names. What of them cannot be read vouches for nobody.
fn roots(value: &dyn Fn(&str) -> Result<Option<String>>) -> Result<Vec<Certificate<'static>>> {
    let (file, folder) = (value("SSL_CERT_FILE")?, value("SSL_CERT_DIR")?);
    let found = match (&file, &folder) {
        (None, None) => rustls_native_certs::load_native_certs(),
        (file, folder) => rustls_native_certs::load_certs_from_paths(
            file.as_ref().map(Path::new),
            folder.as_ref().map(Path::new),
        ),
    };
    if let (true, Some(path)) = (found.certs.is_empty(), file.or(folder)) {
        let expected = "one with certificates in PEM, by SSL_CERT_FILE or SSL_CERT_DIR";
        return Err(Error::file_mismatch(Path::new(&path), "no certificate", expected));
    }
    Ok(found.certs.iter().map(|root| Certificate::from_der(root).to_owned()).collect())
}

fn agent(pace: Pace, roots: &[Certificate<'static>]) -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(roots))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .user_agent(format!("glm2llama/{VERSION}"))
        .http_status_as_error(false)
        .max_redirects(0) // followed here, without the token
        .max_redirects_will_error(false)
        .timeout_resolve(Some(pace.stall))
        .timeout_connect(Some(pace.stall))
        .timeout_send_request(Some(pace.stall))
        .timeout_recv_response(Some(pace.stall)) // of its head alone
        .timeout_per_read(Some(pace.stall)) // of each read: a whole file has as long as it takes
        .timeout_per_write(Some(pace.stall))
        .proxy(None); // each request has its own
    Agent::new_with_config(config.build())
}

/// ModelScope takes a token as the cookie of a session too, and its older services only so.
fn token_headers(hub: Hub, name: &str, token: &str) -> Result<Token> {
    let mut texts = vec![(header::AUTHORIZATION, format!("Bearer {token}"))];
    if hub == Hub::ModelScope {
        texts.push((header::COOKIE, format!("m_session_id={token}")));
    }
    let fits =
        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !b";,\"".contains(&byte));
    let headers = texts.into_iter().map(|(header, text)| {
        let mut value = HeaderValue::from_str(&text)
            .ok()
            .filter(|_| fits)
            .ok_or_else(|| Error::Usage(format!("{name}: found characters that no token has")))?;
        value.set_sensitive(true);
        Ok((header, value))
    });
    Ok(Token(headers.collect::<Result<_>>()?))
}

/// No answer at all. Of a signed link only the host is named.
fn no_answer(error: &ureq::Error, url: &str, file: &Path) -> Fault {
    let host = host(url);
    if let Some(problem) = bad_certificate(error) {
        let expected = "one of an authority that this system trusts (SSL_CERT_FILE names others)";
        let found = format!("a certificate of {host} that is not valid ({problem})");
        return Fault::Final(Error::file_mismatch(file, found, expected));
    }
    let why = match error {
        ureq::Error::Timeout(_) => format!("{host} does not answer"),
        ureq::Error::HostNotFound => format!("{host}: no such host: is the network there?"),
        ureq::Error::BadUri(_) => format!("{host}: not an address"),
        other => format!("{host}: {other}"),
    };
    Fault::Again { why, wait: None }
}

/// What is wrong with the server's certificate, when that is why there is no answer.
fn bad_certificate(error: &ureq::Error) -> Option<&rustls::CertificateError> {
    let error = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref()?,
        _ => return None,
    };
    match error {
        rustls::Error::InvalidCertificate(problem) => Some(problem),
        _ => None,
    }
}

/// The host of an address, for messages.
pub(super) fn host(url: &str) -> String {
    Site::of(url).map_or_else(|| "the hub".to_owned(), |place| place.host().to_owned())
}
