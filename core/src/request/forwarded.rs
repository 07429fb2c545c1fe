//! This file answers: which addresses does a forwarded header name?

use std::net::{IpAddr, Ipv6Addr};

use super::authority::parse_authority;
use super::upgrade::is_token;

/// `[` + the longest IPv6 text + `]:65535`.
const MAX_HOP_BYTES: usize = 1 + 45 + 7;

/// The one header believed from trusted proxies, and its grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ForwardedHeader {
    /// `x-forwarded-for`: addresses parted by commas, the nearest last.
    List,
    /// `forwarded` (RFC 7239).
    Forwarded,
    /// Any other: one line with one address.
    Single(String),
}

impl ForwardedHeader {
    /// By its name, which must be a field name; errors are sentences for the operator.
    pub(super) fn compile(name: &str) -> Result<ForwardedHeader, String> {
        if !is_token(name.as_bytes()) {
            return Err(format!("forwarded_header `{name}` is not a field name"));
        }
        Ok(match name.to_ascii_lowercase().as_str() {
            "x-forwarded-for" => ForwardedHeader::List,
            "forwarded" => ForwardedHeader::Forwarded,
            other => ForwardedHeader::Single(other.to_owned()),
        })
    }

    /// The field's name, in lower case.
    pub(super) fn name(&self) -> &str {
        match self {
            ForwardedHeader::List => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
            ForwardedHeader::Single(name) => name,
        }
    }
}

/// Reads one address: IPv4 or IPv6, bare, in brackets, or with a port. IPv4-mapped IPv6 becomes IPv4.
///
/// `None` for zones, octal, names, `unknown` and everything else. At most 53 bytes are looked at.
pub(super) fn parse_hop(item: &[u8]) -> Option<IpAddr> {
    let item = item.trim_ascii();
    if item.len() > MAX_HOP_BYTES {
        return None;
    }
    let text = std::str::from_utf8(item).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let host = std::str::from_utf8(parse_authority(item)?.host).ok()?;
    match host.strip_prefix('[') {
        Some(host) => {
            host.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical())
        }
        None => host.parse().ok().map(IpAddr::V4),
    }
}

/// The hops of one `Forwarded` line, left to right; `None` stands for an element without a readable `for`.
/// The whole line is `None` when it breaks the grammar, since then nobody can tell where an element ends.
///
/// One pass; at most one hop for each four bytes.
pub(super) fn parse_forwarded(line: &[u8]) -> Option<Vec<Option<IpAddr>>> {
    let mut hops = Vec::new();
    let mut rest = line;
    let mut node: Option<&[u8]> = None;
    loop {
        let at = rest.iter().position(|byte| *byte == b'=')?;
        let (name, value) = rest.split_at_checked(at)?;
        let name = name.trim_ascii();
        let (value, behind) = split_value(value.strip_prefix(b"=")?)?;
        if !is_token(name) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"for") && node.replace(value).is_some() {
            return None;
        }
        match behind.trim_ascii_start() {
            [b';', more @ ..] => rest = more,
            [b',', more @ ..] => {
                hops.push(node.take().and_then(parse_hop));
                rest = more;
            }
            [] => {
                hops.push(node.and_then(parse_hop));
                return Some(hops);
            }
            _ => return None,
        }
    }
}

/// A quoted string without escapes, or everything up to a separator: proxies write bare `1.2.3.4:80` as well.
fn split_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if let [b'"', quoted @ ..] = bytes {
        let end = quoted.iter().position(|byte| *byte == b'"')?;
        let (value, rest) = quoted.split_at_checked(end)?;
        return (!value.contains(&b'\\')).then_some((value, rest.strip_prefix(b"\"")?));
    }
    let end = bytes.iter().position(|byte| b";, \t\"".contains(byte)).unwrap_or(bytes.len());
    bytes.split_at_checked(end).filter(|(value, _)| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(text: &str) -> Option<String> {
        parse_hop(text.as_bytes()).map(|address| address.to_string())
    }

    fn hops(line: &str) -> Option<Vec<String>> {
        let hops = parse_forwarded(line.as_bytes())?;
        Some(hops.into_iter().map(|hop| hop.map_or("?".into(), |address| address.to_string())).collect())
    }

    #[test]
    fn addresses_are_read_in_every_form_proxies_write() {
        for (text, address) in [
            ("203.0.113.9", "203.0.113.9"),
            (" 203.0.113.9:51234\t", "203.0.113.9"),
            ("2001:0DB8:0001:0002:0000:0000:0000:0001", "2001:db8:1:2::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("[::FFFF:c633:6407]:0", "198.51.100.7"),
        ] {
            assert_eq!(hop(text).as_deref(), Some(address), "{text}");
        }
    }

    #[test]
    fn everything_else_is_unreadable() {
        for text in [
            "",
            " ",
            "unknown",
            "_hidden",
            "not-an-ip",
            "1.2.3",
            "1.2.3.256",
            "010.1.1.1",
            "1.2.3.4:",
            "1.2.3.4:x",
            "1.2.3.4:99999",
            "[1.2.3.4]",
            "[::1",
            "::1]",
            "[::1]x",
            "fe80::1%eth0",
            "1.2.3.4 5.6.7.8",
            "\"1.2.3.4\"",
            "1.2.3.4/8",
            "0x7f.0.0.1",
            "2001:db8::1:443:443:443:443:443:443",
            "é",
        ] {
            assert_eq!(hop(text), None, "{text}");
        }
        assert_eq!(parse_hop(&[b'1'; 100_000]), None);
        assert_eq!(parse_hop(b"\xff"), None);
    }

    #[test]
    fn forwarded_lines_are_read_by_their_grammar() {
        for (line, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", vec!["192.0.2.60"]),
            ("For=\"[2001:db8:cafe::17]:4711\"", vec!["2001:db8:cafe::17"]),
            ("for=192.0.2.43, FOR=198.51.100.17:80", vec!["192.0.2.43", "198.51.100.17"]),
            ("by=\"a;b,c\" ; for=192.0.2.43 ,for=unknown", vec!["192.0.2.43", "?"]),
            ("proto=https, for=\"_x\"", vec!["?", "?"]),
        ] {
            let expected: Vec<String> = expected.into_iter().map(String::from).collect();
            assert_eq!(hops(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_forwarded_line_out_of_grammar_has_no_hops() {
        for line in [
            "",
            "for",
            "for=",
            "=1.2.3.4",
            "for=1.2.3.4;",
            "for=1.2.3.4,",
            ",for=1.2.3.4",
            "for=1.2.3.4 for=5.6.7.8",
            "for =1.2.3.4 x",
            "for=1.2.3.4;for=5.6.7.8",
            "for=\"1.2.3.4",
            "for=\"1.2.3.4\"x",
            "for=\"1.2\\.3.4\"",
            "f(r=1.2.3.4",
            // An open quote that reaches for what the next proxy appends.
            "for=1.2.3.4;x=\", for=\"[2001:db8::1]\"",
            "for=1.2.3.4;x=\", for=203.0.113.9",
        ] {
            assert_eq!(hops(line), None, "{line}");
        }
    }

    #[test]
    fn the_header_decides_the_grammar() {
        assert_eq!(ForwardedHeader::compile("X-Forwarded-For"), Ok(ForwardedHeader::List));
        assert_eq!(ForwardedHeader::compile("Forwarded"), Ok(ForwardedHeader::Forwarded));
        assert_eq!(ForwardedHeader::compile("CF-Connecting-IP").unwrap().name(), "cf-connecting-ip");
        assert!(ForwardedHeader::compile("x forwarded").unwrap_err().contains("`x forwarded`"));
    }
}
