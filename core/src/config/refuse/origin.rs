//! This file answers: is this origin, or the url of this key set, safe to believe?

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::place::{Place, shown};
use super::super::problem::Problem;

/// Refuses an allowed origin that would let strangers in: `*`, `null`, plain http outside loopback, a wildcard
/// over a domain that strangers can register names under, and whatever browsers never send (RFC 6454 section 6.1).
pub(crate) fn require_origin(place: Place, text: &str, cookies: bool) -> Result<(), Problem> {
    let refuse = |what: &str| Err(Problem::new(place.clone(), format_args!("`{}` {what}", shown(text))));
    if text == "*" {
        return refuse(if cookies {
            "allows every page on the web to open this socket with its visitor's cookie"
        } else {
            "allows every page on the web: list the origins of your pages"
        });
    }
    if text == "null" {
        return refuse("is what sandboxed frames and local files of anybody send");
    }
    let Some(url) = Url::parse(text) else {
        return refuse("is no origin such as https://app.example.com");
    };
    match url.scheme {
        "https" => {}
        "http" if url.is_loopback() => {}
        "http" => return refuse("is plain http: whoever sits on the network can write such a page (loopback is free)"),
        "ws" | "wss" => return refuse("is the socket: an origin is where the page comes from, such as https://…"),
        _ => return refuse("is no https origin"),
    }
    if !url.rest.is_empty() {
        return refuse("has a path: an origin ends after its host and port");
    }
    if url.user {
        return refuse("holds an `@`: an origin has no user");
    }
    if url.host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return refuse("is not in lower case, which is how browsers send it");
    }
    match url.host.strip_prefix("*.") {
        Some(parent) => require_wildcard(&place, text, parent),
        None if url.is_host() => Ok(()),
        None => refuse("has no valid host name"),
    }
}

fn require_wildcard(place: &Place, text: &str, parent: &str) -> Result<(), Problem> {
    let refuse = |what: &str| Err(Problem::new(place.clone(), format_args!("`{}` {what}", shown(text))));
    if !is_name(parent) || looks_like_address(parent) {
        return refuse("has a `*` that is not one whole label before a domain");
    }
    // The list's default rule makes every last label a suffix, so `*.com` and `*.internal` fall here too. It also has
    // rules such as `*.kobe.jp`: then every name below is a suffix.
    let child = format!("a.{parent}");
    if psl::domain_str(parent).is_none() || psl::suffix_str(&child) == Some(child.as_str()) {
        return refuse("covers a public suffix: anybody can register a name under it");
    }
    Ok(())
}

/// What is wrong with the url of a source that is fetched; `None` when it may be asked. What stands before an `@` may
/// be a password: the text repeats nothing of the url.
pub(crate) fn find_url_problem(text: &str) -> Option<&'static str> {
    let Some(url) = Url::parse(text).filter(|_| text.len() <= 2048) else {
        return Some("is no url such as https://id.example.com/jwks");
    };
    if url.user {
        return Some("carries a user or a password, which belong elsewhere");
    }
    if url.rest.contains('#') || url.rest.contains('\\') {
        return Some("holds a `#` or a `\\`");
    }
    if !url.is_host() {
        return Some("has no valid host name");
    }
    match url.scheme {
        "https" => None,
        "http" if url.is_loopback() => None,
        "http" => Some("is plain http: whoever sits on the network could answer in its place (loopback is free)"),
        _ => Some("is neither https nor, on loopback, http"),
    }
}

/// The same for a url that a document fetched from `from` names: on top of it a stranger's document must not lead to
/// our own machine.
pub(crate) fn find_named_url_problem(text: &str, from: &str) -> Option<&'static str> {
    let on_loopback = |text: &str| Url::parse(text).is_some_and(|url| url.is_loopback());
    find_url_problem(text)
        .or_else(|| (on_loopback(text) && !on_loopback(from)).then_some("leads from another machine to this one"))
}

/// Whether `text` is a host with an optional port, in lower case, as a Host header carries it.
pub(crate) fn is_authority(text: &str) -> bool {
    split_port(text).is_some_and(is_host) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// The parts of `scheme://host:port/rest` that the checks look at.
struct Url<'a> {
    scheme: &'a str,
    user: bool,
    host: &'a str,
    rest: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Url<'a>> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let (scheme, after) = text.split_once("://")?;
        let end = after.find(['/', '?', '#', '\\']).unwrap_or(after.len());
        let (authority, rest) = after.split_at_checked(end)?;
        let (user, authority) = match authority.rsplit_once('@') {
            Some((_, authority)) => (true, authority),
            None => (false, authority),
        };
        Some(Url { scheme, user, host: split_port(authority)?, rest })
    }

    fn is_host(&self) -> bool {
        is_host(self.host)
    }

    fn is_loopback(&self) -> bool {
        let host = self.host;
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            || bracketed(host).is_some_and(|address| address.is_loopback())
    }
}

/// The host of `host:port`; `None` when the port is none.
fn split_port(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => authority.split_at_checked(colon)?,
        _ => return Some(authority),
    };
    let digits = port.strip_prefix(':')?;
    let valid = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|port| port > 0);
    valid.then_some(host)
}

fn is_host(host: &str) -> bool {
    match host.starts_with('[') {
        true => bracketed(host).is_some(),
        false if looks_like_address(host) => host.parse::<Ipv4Addr>().is_ok(),
        false => is_name(host),
    }
}

/// A name of letters, digits, `-` and `_` in labels of 1 to 63, at most 253 in all, without a last dot.
fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// Browsers read a host whose last label is a number as an IPv4 address.
fn looks_like_address(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|label| label.starts_with(|first: char| first.is_ascii_digit()))
        && host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

fn bracketed(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::problem::ConfigProblem;
    use super::*;

    fn origin(text: &str) -> Result<(), String> {
        require_origin(Place::top("o"), text, true).map_err(|problem| ConfigProblem::from(problem).to_string())
    }

    #[test]
    fn origins_that_are_allowed() {
        for text in [
            "https://app.example.com",
            "https://app.example.com:8443",
            "https://*.example.com",
            "https://*.app.example.co.uk:444",
            "https://192.0.2.1",
            "https://[2001:db8::1]:8443",
            "http://localhost:3000",
            "http://app.localhost",
            "http://127.0.0.1:8080",
            "http://[::1]",
            "https://xn--bcher-kva.example",
            "https://*.corp.internal",
        ] {
            assert_eq!(origin(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn origins_that_are_refused() {
        let cases = [
            ("*", "allows every page on the web to open this socket with its visitor's cookie"),
            ("null", "is what sandboxed frames and local files of anybody send"),
            ("https://*.com", "covers a public suffix: anybody can register a name under it"),
            ("https://*.co.uk", "covers a public suffix: anybody can register a name under it"),
            ("https://*.github.io", "covers a public suffix: anybody can register a name under it"),
            ("https://*.xn--55qx5d.cn", "covers a public suffix: anybody can register a name under it"),
            ("https://*.kobe.jp", "covers a public suffix: anybody can register a name under it"),
            ("http://*.localhost", "covers a public suffix: anybody can register a name under it"),
            ("https://*.internal", "covers a public suffix: anybody can register a name under it"),
            (
                "http://app.example.com",
                "is plain http: whoever sits on the network can write such a page (loopback is free)",
            ),
            (
                "http://127.0.0.1.example.com",
                "is plain http: whoever sits on the network can write such a page (loopback is free)",
            ),
            (
                "http://localhost.example.com",
                "is plain http: whoever sits on the network can write such a page (loopback is free)",
            ),
            ("wss://app.example.com", "is the socket: an origin is where the page comes from, such as https://…"),
            ("ftp://app.example.com", "is no https origin"),
            ("https://app.example.com/", "has a path: an origin ends after its host and port"),
            ("https://app.example.com?x", "has a path: an origin ends after its host and port"),
            ("https://user@app.example.com", "holds an `@`: an origin has no user"),
            ("https://App.example.com", "is not in lower case, which is how browsers send it"),
            ("https://app.example.com.", "has no valid host name"),
            ("https://", "has no valid host name"),
            ("https://a.*.example.com", "has no valid host name"),
            ("https://*", "has no valid host name"),
            ("https://*.", "has a `*` that is not one whole label before a domain"),
            ("https://*.*.example.com", "has a `*` that is not one whole label before a domain"),
            ("https://*.0.2.1", "has a `*` that is not one whole label before a domain"),
            ("https://1.2.3", "has no valid host name"),
            ("https://[::1", "has no valid host name"),
            ("https://[zz]", "has no valid host name"),
            ("https://app.example.com:0", "is no origin such as https://app.example.com"),
            ("https://app.example.com:99999", "is no origin such as https://app.example.com"),
            ("https://app.example.com:+44", "is no origin such as https://app.example.com"),
            ("https://app.example.com:", "is no origin such as https://app.example.com"),
            ("app.example.com", "is no origin such as https://app.example.com"),
            ("https://bücher.example", "is no origin such as https://app.example.com"),
            ("https://a.example https://b.example", "is no origin such as https://app.example.com"),
            ("", "is no origin such as https://app.example.com"),
        ];
        for (text, what) in cases {
            assert_eq!(origin(text), Err(format!("o: `{text}` {what}")));
        }
        let without_cookies = require_origin(Place::top("o"), "*", false).unwrap_err();
        let text = ConfigProblem::from(without_cookies).to_string();
        assert_eq!(text, "o: `*` allows every page on the web: list the origins of your pages");
    }

    #[test]
    fn addresses_of_key_sets() {
        let url = |text: &str| find_url_problem(text).map_or(Ok(()), Err);
        for text in
            ["https://id.example.com/jwks?x=1", "http://localhost:8080/jwks", "http://127.0.0.1/", "https://[::1]"]
        {
            assert_eq!(url(text), Ok(()), "{text}");
        }
        let cases = [
            (
                "http://id.example.com/jwks",
                "is plain http: whoever sits on the network could answer in its place (loopback is free)",
            ),
            ("https://user:hunter2@id.example.com/", "carries a user or a password, which belong elsewhere"),
            ("file:///etc/jwks", "has no valid host name"),
            ("ftp://id.example.com", "is neither https nor, on loopback, http"),
            ("https://id.example.com/#x", "holds a `#` or a `\\`"),
            ("https://id.example.com\\@evil.example/", "holds a `#` or a `\\`"),
            ("https://", "has no valid host name"),
            ("id.example.com", "is no url such as https://id.example.com/jwks"),
            ("https://id.example.com/a b", "is no url such as https://id.example.com/jwks"),
        ];
        for (text, wanted) in cases {
            assert_eq!(url(text), Err(wanted), "{text}");
        }
    }

    #[test]
    fn a_document_from_elsewhere_does_not_lead_to_this_machine() {
        let named = find_named_url_problem;
        let there = "https://id.example.com/.well-known/openid-configuration";
        for text in ["https://id.example.com/jwks", "https://keys.example.net:8443/jwks"] {
            assert_eq!(named(text, there), None);
        }
        for text in ["https://localhost/jwks", "http://127.0.0.1/jwks", "https://[::1]:8443/", "https://a.localhost/"] {
            assert_eq!(named(text, there), Some("leads from another machine to this one"), "{text}");
            assert_eq!(named(text, "http://127.0.0.1:9/d"), None, "{text}");
        }
        assert!(named("http://id.example.com/jwks", there).is_some());
        assert!(named("http://id.example.com/jwks", "http://localhost/d").is_some());
        assert!(named("file:///etc/jwks", there).is_some());
    }

    #[test]
    fn hosts() {
        for text in ["app.example.com", "app.example.com:8443", "[::1]:80", "127.0.0.1", "localhost"] {
            assert!(is_authority(text), "{text}");
        }
        for text in ["", "App.example.com", "https://a", "a/b", "a:", "a:b", "*.example.com", "a b", "[::1"] {
            assert!(!is_authority(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_decided(text in any::<String>(), tail in "[a-z*.:@/\\[\\]0-9-]{0,40}") {
            let _ = require_origin(Place::top("o"), &text, false);
            let _ = require_origin(Place::top("o"), &format!("https://{tail}"), false);
            let _ = find_url_problem(&format!("http://{tail}"));
            let _ = is_authority(&tail);
        }
    }
}
