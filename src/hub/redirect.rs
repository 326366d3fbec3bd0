//! Addresses: which host they are on, and where a redirect leads to.

use ureq::http::Uri;

/// An address up to its host and port, with what an endpoint may have behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    https: bool,
    host: String,
    port: u16,
    /// Without a slash at its end.
    path: String,
}

impl Site {
    /// None where the text is no address of the web.
    pub(super) fn of(url: &str) -> Option<Site> {
        let uri: Uri = url.parse().ok()?;
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None; // a name and a password do not belong there
        }
        let host = authority.host().to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        (!host.is_empty()).then(|| Site {
            https,
            host,
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// An endpoint; without a scheme it is meant with encryption.
    pub(super) fn of_endpoint(text: &str) -> Option<Site> {
        let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        Site::of(&whole).filter(|_| !text.contains(['?', '#']))
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn same_host(&self, other: &Site) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }

    /// By https.
    pub(super) fn is_encrypted(&self) -> bool {
        self.https
    }

    /// Nobody on the way can read what is sent there.
    pub(super) fn keeps_secrets(&self) -> bool {
        self.https || ["localhost", "127.0.0.1", "[::1]"].contains(&self.host.as_str())
    }

    /// The address of a path, which begins with a slash.
    pub(super) fn join(&self, path: &str) -> String {
        let Site { https, host, port, path: before } = self;
        let (scheme, usual) = if *https { ("https", 443) } else { ("http", 80) };
        let port = if *port == usual { String::new() } else { format!(":{port}") };
        format!("{scheme}://{host}{port}{before}{path}")
    }
}

/// Where a redirect leads. None where that is no address, or gives up the encryption of the one before.
pub(super) fn follow(from: &str, location: &str) -> Option<String> {
    let place = Site::of(from)?;
    let root = Site { path: String::new(), ..place.clone() };
    let location = location.trim().split('#').next()?;
    let to = match location.find([':', '/', '?']).map(|at| location.as_bytes()[at]) {
        _ if location.starts_with("//") => {
            format!("{}:{location}", if place.https { "https" } else { "http" })
        }
        Some(b':') => location.to_owned(), // it has a scheme
        _ if location.is_empty() => return None,
        _ => root.join(&beside(&place.path, location)),
    };
    Site::of(&to).filter(|next| next.https || !place.https).map(|_| to)
}

/// The path of a location that has no host, from that of the address before.
fn beside(from: &str, location: &str) -> String {
    let (to, query) = location.find('?').map_or((location, ""), |at| location.split_at(at));
    if to.is_empty() {
        return format!("{}{query}", if from.is_empty() { "/" } else { from });
    }
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let whole = if to.starts_with('/') { to.to_owned() } else { format!("{folder}/{to}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/').skip(1) {
        match part {
            "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_keep_the_encryption() {
        let from = "https://hub.example/THUDM/m/resolve/main/config.json";
        for (location, expected) in [
            ("/zai-org/m?x=1", Some("https://hub.example/zai-org/m?x=1")),
            ("//cdn.example/m", Some("https://cdn.example/m")),
            ("https://cdn.example:8443/m?sig=a%2Fb", Some("https://cdn.example:8443/m?sig=a%2Fb")),
            ("http://cdn.example/m", None),
            ("ftp://cdn.example/m", None),
            ("elsewhere", Some("https://hub.example/THUDM/m/resolve/main/elsewhere")),
            ("../v2/config.json?a=b/c:d", Some("https://hub.example/THUDM/m/resolve/v2/config.json?a=b/c:d")),
            ("/../../x#part", Some("https://hub.example/x")),
            ("?again", Some("https://hub.example/THUDM/m/resolve/main/config.json?again")),
            ("", None),
            ("file:///etc/passwd", None),
            ("https://me:secret@cdn.example/m", None),
        ] {
            assert_eq!(follow(from, location).as_deref(), expected, "{location}");
        }
        assert_eq!(follow("http://127.0.0.1:1/a", "/b").as_deref(), Some("http://127.0.0.1:1/b"));
    }

    #[test]
    fn endpoints_may_have_a_path_and_no_scheme() {
        let join = |text: &str| Site::of_endpoint(text).map(|place| place.join("/api"));
        assert_eq!(join("https://Hub.example/hf/").as_deref(), Some("https://hub.example/hf/api"));
        assert_eq!(join("www.modelscope.cn").as_deref(), Some("https://www.modelscope.cn/api"));
        assert_eq!(join("http://127.0.0.1:9").as_deref(), Some("http://127.0.0.1:9/api"));
        for text in ["", "https://", "file:///etc", "https://a b", "https://u:p@a", "https://a/?b"] {
            assert_eq!(join(text), None, "{text}");
        }
        let same = |a: &str, b: &str| Site::of(a).unwrap().same_host(&Site::of(b).unwrap());
        assert!(same("https://a/x", "https://A:443/y") && !same("https://a", "http://a"));
        assert!(!same("https://a", "https://b.a") && !same("http://a:1", "http://a:2"));
        assert!(!Site::of("http://a").unwrap().keeps_secrets());
    }
}
