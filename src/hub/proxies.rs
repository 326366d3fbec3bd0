//! Which proxy an address is asked for through, as curl and Python's programs decide it.
//!
//! `HTTPS_PROXY` is for addresses by https, `HTTP_PROXY` for those by http, `ALL_PROXY` for both where the other is not
//! set, and `NO_PROXY` names hosts that are asked directly. Each may be in lower case.

use std::net::IpAddr;

use ureq::Proxy;

use super::redirect::Site;
use crate::error::{Error, Result};

/// The user's proxies.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    direct: Vec<Direct>,
}

/// Hosts that are asked directly.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    All,
    /// A host and those below it, perhaps at one port only.
    Host(String, Option<u16>),
    /// Addresses that begin with so many of these bits.
    Network(IpAddr, u32),
}

impl Proxies {
    /// # Errors
    /// When a variable names no proxy. Its value is not printed: a password may be in it.
    pub(super) fn of(value: &dyn Fn(&str) -> Result<Option<String>>) -> Result<Proxies> {
        let either = |name: &'static str| {
            let lower = name.to_ascii_lowercase();
            Ok(match value(&lower)? {
                Some(text) => Some((lower, text)),
                None => value(name)?.map(|text| (name.to_owned(), text)),
            })
        };
        let all = either("ALL_PROXY")?;
        let proxy = |name: &'static str| {
            let Some((name, text)) = either(name)?.or_else(|| all.clone()) else { return Ok(None) };
            let proxy = Proxy::new(&text).map_err(|_| {
                let expected = "http://HOST:PORT, https:// or socks5://";
                Error::Usage(format!("{name}: found an address that is no proxy's, expected {expected}"))
            });
            proxy.map(Some)
        };
        let direct = either("NO_PROXY")?.map_or_else(Vec::new, |(_, text)| direct(&text));
        Ok(Proxies { https: proxy("HTTPS_PROXY")?, http: proxy("HTTP_PROXY")?, direct })
    }

    /// The proxy for a place, if it is not asked directly.
    pub(super) fn to(&self, site: &Site) -> Option<&Proxy> {
        let proxy = if site.is_encrypted() { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !self.direct.iter().any(|direct| direct.is(site)))
    }
}

/// What `NO_PROXY` lists, by commas or spaces: a host with a dot before it, or a star, is meant with those below it, and
/// so is one without.
fn direct(text: &str) -> Vec<Direct> {
    let entries = text.split([',', ' ', ';']).map(str::trim).filter(|entry| !entry.is_empty());
    let parsed = entries.map(|entry| {
        if entry == "*" {
            return Direct::All;
        }
        if let Some((address, bits)) = entry.split_once('/')
            && let (Ok(address), Ok(bits)) = (address.parse(), bits.parse())
        {
            return Direct::Network(address, bits);
        }
        let (host, port) = match entry.rsplit_once(':') {
            // An address of IPv6 has colons of its own, and stands in brackets before a port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
            _ => (entry, None),
        };
        Direct::Host(plain(host.trim_start_matches('*').trim_matches('.')), port)
    });
    parsed.collect()
}

/// A host without the brackets of an IPv6 address, in small letters.
fn plain(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

impl Direct {
    fn is(&self, site: &Site) -> bool {
        let found = plain(site.host().trim_end_matches('.'));
        match self {
            Direct::All => true,
            Direct::Host(host, port) => {
                let below = found.strip_suffix(host.as_str());
                let same = below.is_some_and(|below| below.is_empty() || below.ends_with('.'));
                same && port.is_none_or(|port| port == site.port())
            }
            Direct::Network(network, bits) => match (network, found.parse()) {
                (IpAddr::V4(network), Ok(IpAddr::V4(found))) => {
                    let differing = network.to_bits() ^ found.to_bits();
                    differing.leading_zeros() >= *bits
                }
                (IpAddr::V6(network), Ok(IpAddr::V6(found))) => {
                    let differing = network.to_bits() ^ found.to_bits();
                    differing.leading_zeros() >= *bits
                }
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies> {
        let value = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, value)| (*value).to_owned()))
        };
        Proxies::of(&value)
    }

    /// The host of the proxy that an address is asked for through.
    fn through(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let proxies = proxies(variables).unwrap();
        proxies.to(&Site::of(url).unwrap()).map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn each_scheme_has_its_own_and_one_may_serve_both() {
        let both = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2")];
        assert_eq!(through(&both, "https://a/x").as_deref(), Some("s:1"));
        assert_eq!(through(&both, "http://a/x").as_deref(), Some("p:2"));
        assert_eq!(through(&both[..1], "http://a"), None);
        assert_eq!(through(&both[1..], "https://a"), None);
        let all = [("all_proxy", "socks5://me:secret@all:3"), ("https_proxy", "http://s")];
        assert_eq!(through(&all, "http://a").as_deref(), Some("all:3"));
        assert_eq!(through(&all, "https://a").as_deref(), Some("s:80"));
        for (name, value) in [("HTTPS_PROXY", "me:secret@ftp://x"), ("all_proxy", "gopher://me:secret@x")] {
            let error = proxies(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}: found")) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn hosts_that_are_asked_directly() {
        let is = |list: &str, host: &str| {
            through(&[("ALL_PROXY", "http://p:1"), ("no_proxy", list)], &format!("https://{host}/x"))
                .is_none()
        };
        for list in ["hub.example", ".hub.example", "*.hub.example", "x, HUB.example", "a hub.example."] {
            assert!(is(list, "hub.example") && is(list, "cdn.hub.example:8443"), "{list}");
            assert!(!is(list, "myhub.example") && !is(list, "hub.example.org"), "{list}");
        }
        assert!(is("*", "a") && is("127.0.0.1", "127.0.0.1:9") && is("10.0.0.0/8", "10.200.3.4"));
        assert!(is("hub:8443", "hub:8443") && !is("hub:8443", "hub") && is("hub:443", "hub"));
        assert!(is("[::1]:443", "[::1]") && is("::1", "[::1]") && is("fd00::/8", "[fd12::1]"));
        assert!(!is("10.0.0.0/8", "11.0.0.1") && !is("", "a") && !is(",", "a") && !is("10.0.0.0/8", "ten"));
        assert!(is("0.0.0.0/0", "1.2.3.4") && !is("1.2.3.4/32", "1.2.3.5"));
    }
}
