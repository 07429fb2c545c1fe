//! This file answers: where does the host end and the port begin?

/// `host [ ":" port ]`, split but not judged: what a host may look like differs between its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// Never empty; an IPv6 address keeps its brackets.
    pub(super) host: &'a [u8],
    /// The port, where one is written.
    pub(super) port: Option<u16>,
}

/// Splits `host [ ":" port ]`; `None` for an empty host, an empty port or anything behind the port.
///
/// One pass, no allocation.
pub(super) fn parse_authority(bytes: &[u8]) -> Option<Authority<'_>> {
    let end = if bytes.starts_with(b"[") {
        bytes.iter().position(|byte| *byte == b']')?.saturating_add(1)
    } else {
        bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len())
    };
    let (host, rest) = bytes.split_at_checked(end)?;
    let port = match rest {
        [] => None,
        [b':', digits @ ..] => Some(parse_port(digits)?),
        _ => return None,
    };
    (!host.is_empty()).then_some(Authority { host, port })
}

/// Reads a decimal port without sign and without leading zeros, so that one port has one spelling.
fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || (digits.len() > 1 && digits.starts_with(b"0")) {
        return None;
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Option<(&str, Option<u16>)> {
        parse_authority(text.as_bytes()).map(|found| (std::str::from_utf8(found.host).unwrap(), found.port))
    }

    #[test]
    fn host_and_port_are_split_where_they_meet() {
        assert_eq!(split("a.example"), Some(("a.example", None)));
        assert_eq!(split("a.example:8443"), Some(("a.example", Some(8443))));
        assert_eq!(split("[::1]"), Some(("[::1]", None)));
        assert_eq!(split("[::1]:65535"), Some(("[::1]", Some(65535))));
    }

    #[test]
    fn a_port_has_one_spelling_and_nothing_behind_it() {
        for text in ["", ":1", "a:", "a:0443", "a:65536", "a:99999", "a:+1", "a:1 ", "a:1:2", "[::1", "[::1]x", "::1"] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
