//! This file answers: is this path, on this Host, served here?

use std::borrow::Cow;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode;

use super::authority::{Authority, parse_authority};
use super::query;
use super::upgrade::{Lines, Upgrade};
use crate::decision::Reason;

/// The paths and hosts of one engine.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    paths: Vec<PathRule>,
    hosts: Vec<HostRule>,
}

#[derive(Clone, Debug)]
enum PathRule {
    Exact(String),
    /// The prefix, with its last slash.
    Below(String),
}

#[derive(Clone, Debug)]
struct HostRule {
    host: String,
    /// Absent: every port.
    port: Option<u16>,
}

impl Places {
    /// Compiles `paths` (exact, or ending in `/*`) and `hosts` (`name` or `name:port`); empty lists serve everything.
    ///
    /// Errors are sentences for the operator.
    pub(crate) fn compile(paths: &[String], hosts: &[String]) -> Result<Places, String> {
        let paths = paths.iter().map(|path| compile_path(path)).collect::<Result<_, _>>()?;
        let hosts = hosts.iter().map(|host| compile_host(host)).collect::<Result<_, _>>()?;
        Ok(Places { paths, hosts })
    }

    /// Requires a path that means the same to every reader and matches a rule, byte by byte.
    ///
    /// `/ws/*` matches `/ws/` and everything below it, never `/ws`.
    ///
    /// # Refusals
    ///
    /// - `RequestMalformed`: the path would change when a router decodes or resolves it: a `.` or `..` segment, also
    ///   escaped or with `;` behind it, a backslash, a control byte, an escape that decodes to another escape.
    /// - `PathUnknown`: no rule matches.
    pub(super) fn require_path(&self, path: &[u8]) -> Result<(), Reason> {
        if !is_plain_path(path) {
            return Err(Reason::RequestMalformed);
        }
        let served = self.paths.is_empty()
            || self.paths.iter().any(|rule| match rule {
                PathRule::Exact(exact) => path == exact.as_bytes(),
                PathRule::Below(prefix) => path.starts_with(prefix.as_bytes()),
            });
        if served { Ok(()) } else { Err(Reason::PathUnknown) }
    }

    /// Requires exactly one well-formed Host, and one of ours when hosts are configured (against DNS rebinding).
    ///
    /// # Refusals
    ///
    /// - `RequestMalformed`: absent, repeated or not `host [ ":" port ]`.
    /// - `HostRefused`: not listed. Letters compare in any case; a trailing dot is another name.
    pub(super) fn require_host(&self, upgrade: Upgrade<'_>) -> Result<(), Reason> {
        let Lines::One(value) = upgrade.single("host") else {
            return Err(Reason::RequestMalformed);
        };
        let host = parse_host_field(value).ok_or(Reason::RequestMalformed)?;
        let served = self.hosts.is_empty()
            || self.hosts.iter().any(|rule| {
                rule.host.as_bytes().eq_ignore_ascii_case(host.host) && (rule.port.is_none() || rule.port == host.port)
            });
        if served { Ok(()) } else { Err(Reason::HostRefused) }
    }
}

fn compile_path(path: &str) -> Result<PathRule, String> {
    let (text, below) = match path.strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (path, false),
    };
    let written = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"*?#".contains(&byte));
    if !written || !is_plain_path(text.as_bytes()) || (below && !text.ends_with('/')) {
        return Err(format!(
            "path `{path}`: write `/name`, or `/name/*` for everything below, in ASCII without `?`, `#`, `..`"
        ));
    }
    Ok(if below { PathRule::Below(text.into()) } else { PathRule::Exact(text.into()) })
}

fn compile_host(host: &str) -> Result<HostRule, String> {
    let Some(parsed) = parse_host_field(host.as_bytes()) else {
        return Err(format!("host `{host}`: write `name` or `name:port`, without scheme, path or wildcard"));
    };
    Ok(HostRule { host: String::from_utf8_lossy(parsed.host).into_owned(), port: parsed.port })
}

fn parse_host_field(value: &[u8]) -> Option<Authority<'_>> {
    let authority = parse_authority(value)?;
    let known = match authority.host {
        [b'[', address @ .., b']'] => std::str::from_utf8(address).ok()?.parse::<Ipv6Addr>().is_ok(),
        name => name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte)),
    };
    known.then_some(authority)
}

/// Whether no later reader can see another path in these bytes than we do.
fn is_plain_path(path: &[u8]) -> bool {
    if !query::escapes_are_whole(path) {
        return false;
    }
    let decoded: Cow<'_, [u8]> = percent_decode(path).into();
    !decoded.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\')
        && !query::has_escape(&decoded)
        && !decoded.split(|byte| *byte == b'/').any(|segment| {
            // `..;x` is `..` to servers that cut path parameters.
            matches!(segment.split(|byte| *byte == b';').next(), Some(b"." | b".."))
        })
}

#[cfg(test)]
mod tests {
    use super::super::upgrade::tests::{fields, upgrade};
    use super::super::upgrade::{Header, Peer};
    use super::*;

    fn path(rules: &[&str], path: &str) -> Result<(), Reason> {
        let rules: Vec<String> = rules.iter().map(|rule| rule.to_string()).collect();
        Places::compile(&rules, &[]).unwrap().require_path(path.as_bytes())
    }

    fn host(rules: &[&str], value: &str) -> Result<(), Reason> {
        let rules: Vec<String> = rules.iter().map(|rule| rule.to_string()).collect();
        let headers = [Header { name: b"Host", value: value.as_bytes() }];
        let request = Upgrade { method: b"GET", target: b"/", headers: &headers, peer: Peer::Unix };
        Places::compile(&[], &rules).unwrap().require_host(request)
    }

    #[test]
    fn paths_match_byte_by_byte() {
        assert_eq!(path(&[], "/anything"), Ok(()));
        assert_eq!(path(&["/ws", "/v2/*"], "/ws"), Ok(()));
        for below in ["/v2/", "/v2/a", "/v2/a/b", "/v2/a%2Fb"] {
            assert_eq!(path(&["/ws", "/v2/*"], below), Ok(()), "{below}");
        }
        for other in ["/", "/ws/", "/wsx", "/WS", "/w%73", "/v2", "/v2x", "//ws"] {
            assert_eq!(path(&["/ws", "/v2/*"], other), Err(Reason::PathUnknown), "{other}");
        }
        assert_eq!(path(&["/*"], "/any/thing"), Ok(()));
    }

    #[test]
    fn paths_that_a_router_would_rewrite_are_refused_everywhere() {
        let tricks = [
            "/ws/../admin",
            "/ws/./a",
            "/ws/..",
            "/ws/%2e%2e/admin",
            "/ws/.%2E",
            "/ws/..%2fadmin",
            "/ws/%2e%2e%2fadmin",
            "/ws/..;/admin",
            "/ws/..%3b/admin",
            "/ws/a\\b",
            "/ws/%5c..",
            "/ws/%00",
            "/ws/%0d%0a",
            "/ws/%252e%252e/x",
            "/ws/%7f",
        ];
        for trick in tricks {
            assert_eq!(path(&["/ws/*"], trick), Err(Reason::RequestMalformed), "{trick}");
            assert_eq!(path(&[], trick), Err(Reason::RequestMalformed), "{trick}");
        }
        for fine in ["/ws/...", "/ws/.well-known", "/ws/a..b", "/ws/100%25", "/ws/%C3%A9", "/ws/a;b=1", "/ws//x"] {
            assert_eq!(path(&["/ws/*"], fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn unsafe_path_rules_do_not_compile() {
        for rule in ["", "ws", "/ws*", "*", "/a/*/b", "/ws?x", "/ws#x", "/a/../b", "/é", "/%zz", "/a b"] {
            let problem = Places::compile(&[rule.into()], &[]).unwrap_err();
            assert!(problem.contains(&format!("`{rule}`")), "{problem}");
        }
    }

    #[test]
    fn hosts_compare_in_any_case_with_an_optional_port() {
        let rules = ["ws.example.com", "LIVE.example.com:8443", "[::1]"];
        for fine in ["ws.example.com", "WS.Example.com:9000", "live.example.com:8443", "[::1]:80"] {
            assert_eq!(host(&rules, fine), Ok(()), "{fine}");
        }
        for other in
            ["evil.io", "ws.example.com.", "live.example.com", "live.example.com:80", "x.ws.example.com", "127.0.0.1"]
        {
            assert_eq!(host(&rules, other), Err(Reason::HostRefused), "{other}");
        }
        assert_eq!(host(&[], "whatever_it-is.internal.:1"), Ok(()));
    }

    #[test]
    fn malformed_hosts_are_refused_even_without_a_list() {
        for value in ["", " ", "a b", "a@b", "a/b", "a,b", "a:", "a:x", "[::1", "[evil]", "http://a", "é", "*"] {
            assert_eq!(host(&[], value), Err(Reason::RequestMalformed), "{value}");
        }
        let headers = fields(&[("HOST", b"ws.example.com")]);
        let places = Places::compile(&[], &[]).unwrap();
        assert_eq!(places.require_host(upgrade("/", &headers)), Err(Reason::RequestMalformed));
    }

    #[test]
    fn unsafe_host_rules_do_not_compile() {
        for rule in ["", "*", "*.example.com", "https://a.example", "a.example/", "a.example:x"] {
            assert!(Places::compile(&[], &[rule.into()]).unwrap_err().contains(rule));
        }
    }
}
