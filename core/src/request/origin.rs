//! This file answers: may a page of this origin open a WebSocket here?

use super::rules::HandshakeRules;
use super::site::{Site, parse_site};
use super::upgrade::Upgrade;
use crate::config::CredentialSource;
use crate::decision::Reason;

/// The allowed origins, compiled.
#[derive(Clone, Debug)]
pub(crate) struct OriginRules {
    rules: Vec<OriginRule>,
}

#[derive(Clone, Debug)]
struct OriginRule {
    site: Site,
    /// For `*.`: the registrable domain that the wildcard stays within.
    below: Option<String>,
}

/// What the Origin said. Whether a missing one matters depends on the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OriginState<'a> {
    /// Present and allowed, as the peer wrote it.
    Allowed(&'a str),
    /// Not present: no browser, or a very private one.
    Missing,
}

impl OriginRules {
    /// Compiles `scheme://host[:port]` and `scheme://*.host[:port]`. An empty list allows no page at all.
    ///
    /// Refuses what would let strangers in: `*`, `null`, plain http outside loopback, a wildcard over a public suffix
    /// or an address, and anything that is no bare origin. Errors are sentences for the operator.
    pub(crate) fn compile(origins: &[String]) -> Result<OriginRules, String> {
        let compile = |text: &String| compile_rule(text).map_err(|problem| format!("origin `{text}` {problem}"));
        Ok(OriginRules { rules: origins.iter().map(compile).collect::<Result<_, _>>()? })
    }

    fn allows(&self, site: &Site) -> bool {
        self.rules.iter().any(|rule| rule.matches(site))
    }
}

/// Requires that an Origin, where one is present, is allowed. Compared as scheme, host and port (RFC 6454 section 5).
///
/// # Refusals
///
/// - `OriginRepeated`: two lines, even equal ones.
/// - `OriginRefused`: malformed, or not allowed.
pub(crate) fn require_origin<'a>(upgrade: Upgrade<'a>, rules: &HandshakeRules) -> Result<OriginState<'a>, Reason> {
    let mut values = upgrade.values("origin");
    let Some(value) = values.next() else { return Ok(OriginState::Missing) };
    if values.next().is_some() {
        return Err(Reason::OriginRepeated);
    }
    let site = parse_site(value).map_err(|_| Reason::OriginRefused)?;
    let text = std::str::from_utf8(value).map_err(|_| Reason::OriginRefused)?;
    if rules.origins.allows(&site) { Ok(OriginState::Allowed(text)) } else { Err(Reason::OriginRefused) }
}

impl<'a> OriginState<'a> {
    /// The origin, where one was sent and allowed.
    pub(crate) fn origin(self) -> Option<&'a str> {
        match self {
            OriginState::Allowed(origin) => Some(origin),
            OriginState::Missing => None,
        }
    }

    /// Requires an Origin where the credential needs one (RULES 9): a cookie always, since browsers attach it by
    /// themselves; every other by `require_origin`. `None` for a connection that authenticates by first message.
    ///
    /// # Refusals
    ///
    /// - `OriginMissing`.
    pub(crate) fn require_for(self, source: Option<CredentialSource>, rules: &HandshakeRules) -> Result<(), Reason> {
        let needed = rules.require_origin || source == Some(CredentialSource::Cookie);
        if needed && self == OriginState::Missing { Err(Reason::OriginMissing) } else { Ok(()) }
    }
}

impl OriginRule {
    fn matches(&self, site: &Site) -> bool {
        if (site.secure, site.port) != (self.site.secure, self.site.port) {
            return false;
        }
        let Some(registrable) = &self.below else { return site.host == self.site.host };
        // Whole labels only: what is left of the base ends at a dot and is not empty.
        let labels = site.host.strip_suffix(self.site.host.as_str()).and_then(|labels| labels.strip_suffix('.'));
        // A public suffix may lie below the base (s3.amazonaws.com below amazonaws.com): its tenants are strangers.
        labels.is_some_and(|labels| !labels.is_empty()) && psl::domain_str(&site.host) == Some(registrable.as_str())
    }
}

fn compile_rule(text: &str) -> Result<OriginRule, &'static str> {
    if text == "*" {
        return Err("would let every site connect; list the origins of your own pages");
    }
    if text == "null" {
        return Err("is what sandboxed frames and local files send; any site can send it");
    }
    let wildcard =
        text.split_once("://").and_then(|(scheme, rest)| Some(format!("{scheme}://{}", rest.strip_prefix("*.")?)));
    let site = parse_site(wildcard.as_deref().unwrap_or(text).as_bytes())?;
    if !site.secure && !is_loopback(&site.host) {
        return Err("is plain http outside loopback; anyone on the way could speak for it");
    }
    let below = match wildcard {
        Some(_) => Some(
            find_registrable(&site.host)
                .ok_or("is a wildcard over a public suffix or an address; strangers can get names below it")?,
        ),
        None => None,
    };
    Ok(OriginRule { site, below })
}

/// The registrable domain of a name whose subdomains all belong to one owner.
fn find_registrable(base: &str) -> Option<String> {
    if base.starts_with('[') || base.parse::<std::net::Ipv4Addr>().is_ok() {
        return None;
    }
    // The list also has rules such as `*.kobe.jp`: then every name below the base is a public suffix.
    let child = format!("a.{base}");
    if psl::suffix_str(&child) == Some(child.as_str()) {
        return None;
    }
    psl::domain_str(base).map(str::to_owned)
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    address || host == "[::1]" || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rules::tests::rules;
    use super::super::upgrade::Header;
    use super::super::upgrade::tests::upgrade;
    use super::*;

    fn origin_of(allowed: &[&str], sent: &[&str]) -> Result<bool, Reason> {
        let rules = rules(|config| config.origins = allowed.iter().map(|text| text.to_string()).collect());
        let headers: Vec<Header<'_>> =
            sent.iter().map(|value| Header { name: b"oRIGIN", value: value.as_bytes() }).collect();
        require_origin(upgrade("/", &headers), &rules).map(|state| state.origin().is_some())
    }

    const ALLOWED: &[&str] = &["https://app.example.com", "https://*.tenant.example.com", "http://localhost:3000"];

    #[test]
    fn allowed_origins_pass() {
        for origin in [
            "https://app.example.com",
            "https://app.example.com:443",
            "https://APP.example.com",
            "http://localhost:3000",
            "https://acme.tenant.example.com",
            "https://eu.acme.tenant.example.com",
            "https://a_b.tenant.example.com",
        ] {
            assert_eq!(origin_of(ALLOWED, &[origin]), Ok(true), "{origin}");
        }
        assert_eq!(origin_of(&["https://app.example.com:8443"], &["https://app.example.com:8443"]), Ok(true));
        assert_eq!(origin_of(ALLOWED, &[]), Ok(false));
    }

    #[test]
    fn other_origins_are_refused() {
        for origin in [
            "https://evil.io",
            "http://app.example.com",
            "https://app.example.com:8443",
            "wss://app.example.com",
            "https://tenant.example.com",
            "https://eviltenant.example.com",
            "https://.tenant.example.com",
            "https://*.tenant.example.com",
            "https://acme.tenant.example.com.evil.io",
            "https://acme.tenant.example.com:8443",
            "http://acme.tenant.example.com",
            "https://appxexample.com",
            "https://app.example.com.",
            "https://app.example.com/",
            "https://app.example.com@evil.io",
            "https://evil.io#.tenant.example.com",
            "https://evil.io/.tenant.example.com",
            "https://evil.io?.tenant.example.com",
            "https://evil.io\0.tenant.example.com",
            "https://x%2etenant.example.com",
            "https://app.example.com https://evil.io",
            "https://xn--a.tenant.example.com",
            "https://аpp.example.com",
            "http://localhost",
            "null",
            "",
            "https://",
            "file://",
            "https://a_b.tenant.example.com:99999",
        ] {
            assert_eq!(origin_of(ALLOWED, &[origin]), Err(Reason::OriginRefused), "{origin}");
        }
        assert_eq!(origin_of(&[], &["https://app.example.com"]), Err(Reason::OriginRefused));
    }

    #[test]
    fn two_lines_are_refused_even_when_equal() {
        assert_eq!(origin_of(ALLOWED, &["https://app.example.com"; 2]), Err(Reason::OriginRepeated));
        assert_eq!(origin_of(ALLOWED, &["https://app.example.com", ""]), Err(Reason::OriginRepeated));
    }

    #[test]
    fn a_wildcard_stops_where_strangers_begin() {
        let allowed = &["https://*.amazonaws.com"];
        assert_eq!(origin_of(allowed, &["https://console.amazonaws.com"]), Ok(true));
        assert_eq!(origin_of(allowed, &["https://evil.s3.amazonaws.com"]), Err(Reason::OriginRefused));
    }

    #[test]
    fn unsafe_rules_do_not_compile_and_say_why() {
        for (rule, why) in [
            ("*", "every site"),
            ("null", "sandboxed"),
            ("https://*.com", "public suffix"),
            ("https://*.co.uk", "public suffix"),
            ("https://*.github.io", "public suffix"),
            ("https://*.kobe.jp", "public suffix"),
            ("https://*.ck", "public suffix"),
            ("https://*.internal", "public suffix"),
            ("https://*.127.0.0.1", "address"),
            ("https://*.[::1]", "address"),
            ("https://*", "first label"),
            ("https://*.*.example.com", "first label"),
            ("https://a*.example.com", "first label"),
            ("https://a.*.example.com", "first label"),
            ("https://*.", "no host"),
            ("http://app.example.com", "plain http"),
            ("http://*.example.com", "plain http"),
            ("http://128.0.0.1", "plain http"),
            ("wss://app.example.com", "https://"),
            ("app.example.com", "https://"),
            ("https://app.example.com/", "path"),
            ("https://user@app.example.com", "user"),
            ("https://app.example.com.", "trailing dot"),
            ("https://bücher.example", "A-label"),
            ("https://xn--bcher-.example", "hyphen"),
            ("https://xn--bcher-k.example", "malformed A-label"),
            ("", "https://"),
        ] {
            let problem = OriginRules::compile(&[rule.into()]).unwrap_err();
            assert!(problem.starts_with(&format!("origin `{rule}` ")) && problem.contains(why), "{problem}");
        }
        for rule in [
            "http://localhost",
            "http://127.8.8.8:80",
            "http://[::1]:3000",
            "http://app.localhost",
            "https://*.a.co.uk",
        ] {
            assert!(OriginRules::compile(&[rule.into()]).is_ok(), "{rule}");
        }
    }

    #[test]
    fn a_missing_origin_is_judged_by_the_credential() {
        use CredentialSource::*;
        let lax = rules(|config| config.require_origin = Some(false));
        let strict = rules(|config| config.require_origin = Some(true));
        for source in [Authorization, Subprotocol, Query, Ticket, FirstMessage] {
            assert_eq!(OriginState::Missing.require_for(Some(source), &lax), Ok(()));
            assert_eq!(OriginState::Missing.require_for(Some(source), &strict), Err(Reason::OriginMissing));
        }
        assert_eq!(OriginState::Missing.require_for(Some(Cookie), &lax), Err(Reason::OriginMissing));
        assert_eq!(OriginState::Missing.require_for(None, &lax), Ok(()));
        assert_eq!(OriginState::Allowed("https://app.example.com").require_for(Some(Cookie), &strict), Ok(()));
    }

    proptest! {
        #[test]
        fn a_wildcard_matches_whole_labels_and_never_the_parent(host in "([a-wyz0-9-]{0,4}\\.?){0,3}(tenant\\.example\\.com)?") {
            let got = origin_of(&["https://*.tenant.example.com"], &[&format!("https://{host}")]);
            let below = host.strip_suffix(".tenant.example.com");
            let labels = |name: &str| {
                name.split('.').all(|label| {
                    !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
                })
            };
            prop_assert_eq!(got.is_ok(), below.is_some_and(labels), "{}", host);
        }
    }
}
