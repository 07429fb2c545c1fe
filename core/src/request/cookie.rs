//! This file answers: which value does the configured cookie have?

use super::rules::HandshakeRules;
use super::upgrade::Upgrade;
use crate::config::CredentialSource;
use crate::decision::Reason;

/// Longest cookie, name and value together (RFC 6265bis section 5.6).
const MAX_COOKIE_BYTES: usize = 4096;

/// Finds the value of the configured cookie, its name compared byte by byte (RFC 6265 section 4.2); the value is not
/// judged. A name that stands twice with equal values is one cookie.
///
/// # Refusals
///
/// - `CredentialAmbiguous`: the name stands with different values, or beside a second Cookie line.
/// - `TokenTooLarge`: name and value over 4,096 bytes.
pub(super) fn find_cookie<'a>(upgrade: Upgrade<'a>, rules: &HandshakeRules) -> Result<Option<&'a [u8]>, Reason> {
    if !rules.has(CredentialSource::Cookie) {
        return Ok(None);
    }
    let mut found: Option<&[u8]> = None;
    let mut lines = 0usize;
    for line in upgrade.values("cookie") {
        lines = lines.saturating_add(1);
        for pair in line.split(|byte| *byte == b';') {
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let name = parts.next().unwrap_or_default().trim_ascii();
            let Some(value) = parts.next().map(<[u8]>::trim_ascii) else { continue };
            if name != rules.cookie_name.as_bytes() {
                continue;
            }
            if name.len().saturating_add(value.len()) > MAX_COOKIE_BYTES {
                return Err(Reason::TokenTooLarge);
            }
            if found.replace(value).is_some_and(|before| before != value) {
                return Err(Reason::CredentialAmbiguous);
            }
        }
    }
    // A browser sends one Cookie line; with two, another reader may see another cookie than we do.
    if found.is_some() && lines > 1 { Err(Reason::CredentialAmbiguous) } else { Ok(found) }
}

/// RFC 6265 section 4.1.1: visible ASCII without `"`, `,`, `;` and `\`.
pub(super) fn is_cookie_octet(byte: &u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(byte)
}

#[cfg(test)]
mod tests {
    use super::super::rules::tests::rules;
    use super::super::upgrade::Header;
    use super::super::upgrade::tests::upgrade;
    use super::*;

    fn find(lines: &[&str]) -> Result<Option<String>, Reason> {
        let rules = rules(|config| config.credentials = vec![CredentialSource::Cookie]);
        let headers: Vec<Header<'_>> =
            lines.iter().map(|line| Header { name: b"cOOKIE", value: line.as_bytes() }).collect();
        let found = find_cookie(upgrade("/", &headers), &rules)?;
        Ok(found.map(|value| String::from_utf8(value.to_vec()).unwrap()))
    }

    #[test]
    fn cookies_are_found_by_their_exact_name() {
        let cookie = |value: &str| find(&[value]);
        for value in [
            "__Host-ws=a.b.c",
            "a=b; __Host-ws=a.b.c; c=d",
            "x; =y;__Host-ws=a.b.c;",
            "__Host-ws=a.b.c; __Host-ws=a.b.c",
        ] {
            assert_eq!(cookie(value), Ok(Some("a.b.c".into())), "{value}");
        }
        for value in ["", "__host-ws=a", "__Host-wsx=a", "x__Host-ws=a", "__Host-ws", "=__Host-ws=a", "a=__Host-ws=b"] {
            assert_eq!(cookie(value), Ok(None), "{value}");
        }
        assert_eq!(cookie("__Host-ws=a; __Host-ws=b"), Err(Reason::CredentialAmbiguous));
        assert_eq!(cookie("__Host-ws=a; __Host-ws="), Err(Reason::CredentialAmbiguous));
        assert_eq!(cookie(&format!("__Host-ws={}", "a".repeat(4087))).map(|found| found.is_some()), Ok(true));
        assert_eq!(cookie(&format!("__Host-ws={}", "a".repeat(4088))), Err(Reason::TokenTooLarge));
    }

    #[test]
    fn two_cookie_lines_refuse_when_either_names_the_cookie() {
        let cookies = |first: &str, second: &str| find(&[first, second]);
        assert_eq!(cookies("__Host-ws=a", "__Host-ws=x"), Err(Reason::CredentialAmbiguous));
        assert_eq!(cookies("__Host-ws=a", "__Host-ws=a"), Err(Reason::CredentialAmbiguous));
        assert_eq!(cookies("b=1", "__Host-ws=a"), Err(Reason::CredentialAmbiguous));
        assert_eq!(cookies("a=1", "b=2"), Ok(None));
    }

    #[test]
    fn a_source_that_is_not_listed_is_not_read() {
        let headers = [Header { name: b"cookie", value: b"__Host-ws=a" }];
        assert_eq!(find_cookie(upgrade("/", &headers), &rules(|_| ())), Ok(None));
    }

    #[test]
    fn cookie_characters_are_those_of_the_rfc() {
        assert!(b"!#$%&'()*+-./09:<=>?@AZ[]^_`az{|}~".iter().all(is_cookie_octet));
        assert!(!b"\",;\\ \t\0\x7f\xff".iter().any(is_cookie_octet));
    }
}
