//! This file answers: which scheme, host and port does this text name?

use std::net::{Ipv4Addr, Ipv6Addr};

use super::authority::parse_authority;

/// `https://` + 253 bytes of name + `:65535`.
const MAX_BYTES: usize = 8 + 253 + 6;

/// An origin as the triple of RFC 6454 section 4, in one canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// `https` rather than `http`; no other scheme is known here.
    pub(super) secure: bool,
    /// Lower case; IPv6 in brackets and in its short form.
    pub(super) host: String,
    /// The written port, or the scheme's own.
    pub(super) port: u16,
}

/// Reads the ASCII serialization of an origin (RFC 6454 section 6.2), and nothing beside it: no path, no list, no
/// trailing dot, no user. Letters in any case. Underscores stand in names, since browsers send such hosts; a hyphen
/// may not begin or end a label. Names are never mapped: an international name comes as its A-label.
///
/// The error completes the sentence "origin `x` ..." for the operator. Cost: at most 267 bytes are looked at.
pub(super) fn parse_site(bytes: &[u8]) -> Result<Site, &'static str> {
    if bytes.len() > MAX_BYTES {
        return Err("is too long");
    }
    if !bytes.is_ascii() {
        return Err("is not ASCII; write an international name as its A-label (xn--...)");
    }
    let (secure, rest) = if let Some(rest) = strip_scheme(bytes, b"https://") {
        (true, rest)
    } else if let Some(rest) = strip_scheme(bytes, b"http://") {
        (false, rest)
    } else {
        return Err("does not begin with https:// (an Origin names the page, never ws:// or wss://)");
    };
    if rest.iter().any(|byte| b"/?#@\\".contains(byte)) {
        return Err("has a path, query, fragment or user; write scheme, host and port only");
    }
    let authority = parse_authority(rest).ok_or("has no host, or a port that is not 0 to 65535")?;
    let default = if secure { 443 } else { 80 };
    Ok(Site { secure, host: parse_host(authority.host)?, port: authority.port.unwrap_or(default) })
}

fn strip_scheme<'a>(bytes: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn parse_host(host: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(host).map_err(|_| "is not ASCII")?;
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| "has a malformed IPv6 address")?;
        return Ok(format!("[{address}]"));
    }
    if text.ends_with('.') {
        return Err("has a trailing dot");
    }
    if text.len() > 253 {
        return Err("is too long");
    }
    let host = text.to_ascii_lowercase();
    for label in host.split('.') {
        require_label(label)?;
    }
    // What ends in a number is an address to every browser; 127.1 and 0x7f.1 have only one right spelling.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err("has a malformed IPv4 address");
    }
    Ok(host)
}

fn require_label(label: &str) -> Result<(), &'static str> {
    if label.is_empty() || label.len() > 63 {
        return Err("has a label that is empty or longer than 63 bytes");
    }
    if label.contains('*') {
        return Err("has a `*` that is not its whole first label");
    }
    if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err("has a character no host name has");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("has a label that begins or ends with a hyphen");
    }
    match label.strip_prefix("xn--") {
        Some(encoded) if decode_punycode(encoded).is_none() => Err("has a malformed A-label"),
        _ => Ok(()),
    }
}

/// Decodes what stands behind `xn--` (RFC 3492 section 6.2), in lower case. `None` for what does not decode, and for
/// what holds no character beyond ASCII: such a label is a disguise of another one.
fn decode_punycode(encoded: &str) -> Option<Vec<char>> {
    let (basic, digits) = encoded.rsplit_once('-').unwrap_or(("", encoded));
    if digits.is_empty() || (basic.is_empty() && digits.len() != encoded.len()) {
        return None;
    }
    let mut decoded: Vec<char> = basic.chars().collect();
    let mut digits = digits.bytes();
    let (mut code, mut at, mut bias) = (128u32, 0u32, 72u32);
    while digits.len() > 0 {
        let before = at;
        let (mut weight, mut step) = (1u32, 36u32);
        loop {
            let digit = match digits.next()? {
                letter @ b'a'..=b'z' => u32::from(letter.wrapping_sub(b'a')),
                number @ b'0'..=b'9' => u32::from(number.wrapping_sub(b'0')).wrapping_add(26),
                _ => return None,
            };
            at = at.checked_add(digit.checked_mul(weight)?)?;
            let threshold = step.saturating_sub(bias).clamp(1, 26);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(36u32.checked_sub(threshold)?)?;
            step = step.checked_add(36)?;
        }
        let length = u32::try_from(decoded.len()).ok()?.checked_add(1)?;
        bias = adapt_bias(at.checked_sub(before)?, length, before == 0)?;
        code = code.checked_add(at.checked_div(length)?)?;
        at = at.checked_rem(length)?;
        let character = char::from_u32(code).filter(|character| !character.is_control())?;
        decoded.insert(usize::try_from(at).ok()?, character);
        at = at.checked_add(1)?;
    }
    Some(decoded)
}

/// RFC 3492 section 6.1.
fn adapt_bias(delta: u32, length: u32, first: bool) -> Option<u32> {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta = delta.checked_add(delta.checked_div(length)?)?;
    let mut bias = 0u32;
    while delta > 455 {
        delta /= 35;
        bias = bias.checked_add(36)?;
    }
    bias.checked_add(delta.checked_mul(36)?.checked_div(delta.checked_add(38)?)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn site(text: &str) -> Option<(bool, String, u16)> {
        parse_site(text.as_bytes()).ok().map(|site| (site.secure, site.host, site.port))
    }

    #[test]
    fn one_origin_has_one_form() {
        let app = Some((true, "app.example.com".into(), 443));
        for text in ["https://app.example.com", "https://app.example.com:443", "HTTPS://App.Example.COM"] {
            assert_eq!(site(text), app, "{text}");
        }
        assert_eq!(site("http://localhost"), Some((false, "localhost".into(), 80)));
        assert_eq!(site("http://127.0.0.1:3000"), Some((false, "127.0.0.1".into(), 3000)));
        assert_eq!(site("https://[0:0::1]:8443"), Some((true, "[::1]".into(), 8443)));
        assert_eq!(site("https://a_b.example.com"), Some((true, "a_b.example.com".into(), 443)));
    }

    #[test]
    fn everything_beside_the_triple_is_refused() {
        let wrong = [
            "",
            "null",
            "*",
            "https://",
            "https:///",
            "file://",
            "wss://app.example.com",
            "app.example.com",
            "//a.example",
            "https:/a.example",
            "https://a.example/",
            "https://a.example@evil.io",
            "https://a.example#x",
            "https://a.example?x",
            "https://a.example.",
            "https://.a.example",
            "https://a..example",
            "https://a.example https://b.example",
            "https://a.example,https://b.example",
            " https://a.example",
            "https://a.example ",
            "https://x%2ea.example",
            "https://evil.io\0.a.example",
            "https://evil.io\\.a.example",
            "https://*.a.example",
            "https://-a.example",
            "https://a-.example",
            "https://bücher.example",
            "https://a.example:",
            "https://a.example:99999",
            "https://a.example:0443",
            "https://a.example:-1",
            "https://127.1",
            "https://0x7f.0x1",
            "https://1.2.3.04",
            "https://a.256",
            "https://[::1",
            "https://::1",
            "https://[::1%25eth0]",
            "https://[127.0.0.1]",
            "https://a.example:443:1",
        ];
        for text in wrong {
            assert_eq!(site(text), None, "{text}");
        }
    }

    #[test]
    fn lengths_hold_at_their_edges() {
        let label = "a".repeat(63);
        assert!(site(&format!("https://{label}.example")).is_some());
        assert!(site(&format!("https://a{label}.example")).is_none());
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert!(site(&format!("https://{name}:65535")).is_some());
        assert!(site(&format!("https://{name}a")).is_none());
        assert!(site(&format!("https://{}example.com", "a.".repeat(50_000))).is_none());
    }

    #[test]
    fn a_labels_must_decode_to_something_international() {
        let decode = |text| decode_punycode(text).map(|decoded| decoded.into_iter().collect::<String>());
        assert_eq!(decode("bcher-kva").as_deref(), Some("bücher"));
        assert_eq!(decode("n3h").as_deref(), Some("☃"));
        assert_eq!(decode("ihqwcrb4cv8a8dqg056pqjye").as_deref(), Some("他们为什么不说中文"));
        assert_eq!(decode("egbpdaj6bu4bxfgehfvwxn").as_deref(), Some("ليهمابتكلموشعربي؟"));
        assert_eq!(decode("proprostnemluvesky-uyb24dma41a").as_deref(), Some("pročprostěnemluvíčesky"));
        for disguise in ["", "-", "example-", "a-", "-kva", "a--", "99999999", "a", "bcher-kv_"] {
            assert_eq!(decode(disguise), None, "{disguise}");
        }
        assert!(site("https://xn--bcher-kva.example").is_some());
        assert!(site("https://XN--BCHER-KVA.example").is_some());
        assert!(site("https://xn--example-.com").is_none());
        assert!(site("https://a.xn--.com").is_none());
    }

    proptest! {
        #[test]
        fn what_is_read_writes_back_to_itself(text in "https?://[a-zA-Z0-9_.-]{1,12}(:[0-9]{1,5})?") {
            if let Ok(read) = parse_site(text.as_bytes()) {
                let scheme = if read.secure { "https" } else { "http" };
                let written = format!("{scheme}://{}:{}", read.host, read.port);
                prop_assert_eq!(parse_site(written.as_bytes()), Ok(read));
            }
        }

        #[test]
        fn punycode_of_any_letters_ends(text in "[a-z0-9-]{0,59}") {
            if let Some(decoded) = decode_punycode(&text) {
                prop_assert!(decoded.iter().any(|character| !character.is_ascii()));
            }
        }
    }
}
