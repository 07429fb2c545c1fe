//! This file answers: is this a well-formed, bounded WebSocket upgrade request?

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::rules::HandshakeRules;
use super::{query, subprotocol};
use crate::decision::Reason;

/// Longest request target in bytes; it may carry a ticket or, when switched on, a token.
pub(super) const MAX_TARGET_BYTES: usize = 24 * 1024;
/// Longest field name in bytes.
const MAX_NAME_BYTES: usize = 256;

/// An upgrade request as the server received it, borrowed for one call. Nothing in it is believed.
///
/// `Debug` shows sizes only: targets and fields carry tokens.
#[derive(Clone, Copy)]
pub struct Upgrade<'a> {
    /// The method; only `GET` upgrades. CONNECT (RFC 8441) is refused: its server must map it to HTTP/1.1 fields.
    pub method: &'a [u8],
    /// The request target in origin form, such as `/ws?room=7`.
    pub target: &'a [u8],
    /// Every field line in the order received; a repeated field stands here repeatedly.
    pub headers: &'a [Header<'a>],
    /// Who is at the other end of the socket, from the operating system and never from a header.
    pub peer: Peer,
}

/// One field line, its value without surrounding white space (RFC 9110 section 5.5).
#[derive(Clone, Copy)]
pub struct Header<'a> {
    /// The name, in any case.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// The other end of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address.
    Ip(IpAddr),
    /// A unix socket.
    Unix,
    /// The server could not tell; every handshake is refused as misuse.
    Unknown,
}

/// How often a field stands in the request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lines<'a> {
    /// Never.
    Absent,
    /// Once, with this value.
    One(&'a [u8]),
    /// More than once.
    Repeated,
}

impl<'a> Upgrade<'a> {
    /// The values of all lines of one field, in order. `name` in any case.
    pub fn values<'n>(self, name: &'n str) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, 'n> {
        let wanted = name.as_bytes();
        self.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(wanted)).map(|field| field.value)
    }

    /// The one value of a field that may stand only once.
    pub fn single(self, name: &str) -> Lines<'a> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (None, _) => Lines::Absent,
            (Some(value), None) => Lines::One(value),
            (Some(_), Some(_)) => Lines::Repeated,
        }
    }

    /// The target up to `?`.
    pub fn path(self) -> &'a [u8] {
        self.target.split(|byte| *byte == b'?').next().unwrap_or_default()
    }

    /// The target behind the first `?`.
    pub fn query(self) -> Option<&'a [u8]> {
        let at = self.target.iter().position(|byte| *byte == b'?')?;
        self.target.get(at.saturating_add(1)..)
    }

    /// Requires one well-formed WebSocket upgrade (RFC 6455 section 4.2.1) within the bounds, to a place served here.
    ///
    /// # Refusals
    ///
    /// - `RequestTooLarge`: too many fields, a field, all fields or the target too long, or over 64 subprotocols.
    /// - `RequestMalformed`: method, target, field syntax or an upgrade field is wrong.
    /// - `HostRefused`, `PathUnknown`: not one of ours.
    ///
    /// # Cost
    ///
    /// Linear in the bytes, which are bounded first.
    pub(crate) fn require_shape(self, rules: &HandshakeRules) -> Result<(), Reason> {
        self.require_bounds(rules)?;
        self.require_clean_fields()?;
        self.require_clean_target()?;
        self.require_websocket()?;
        subprotocol::require_offers(self)?;
        rules.places.require_host(self)?;
        rules.places.require_path(self.path())
    }

    fn require_bounds(self, rules: &HandshakeRules) -> Result<(), Reason> {
        // The count first: it bounds the loop.
        if self.headers.len() > rules.max_fields || self.target.len() > MAX_TARGET_BYTES {
            return Err(Reason::RequestTooLarge);
        }
        let mut total = 0usize;
        for field in self.headers {
            if field.name.len() > MAX_NAME_BYTES || field.value.len() > rules.max_field_bytes {
                return Err(Reason::RequestTooLarge);
            }
            total = total.saturating_add(field.name.len()).saturating_add(field.value.len());
        }
        if total > rules.max_fields_bytes { Err(Reason::RequestTooLarge) } else { Ok(()) }
    }

    fn require_clean_fields(self) -> Result<(), Reason> {
        for field in self.headers {
            // Bytes above ASCII may stand in fields nobody here reads; those who read a field judge them again.
            let clean = field.value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
            if !is_token(field.name) || !clean {
                return Err(Reason::RequestMalformed);
            }
        }
        Ok(())
    }

    fn require_clean_target(self) -> Result<(), Reason> {
        let visible = self.target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
        if self.target.starts_with(b"/") && visible && query::escapes_are_whole(self.target) {
            Ok(())
        } else {
            Err(Reason::RequestMalformed)
        }
    }

    fn require_websocket(self) -> Result<(), Reason> {
        let well_formed = self.method == b"GET"
            && self.lists("upgrade", b"websocket")
            && self.lists("connection", b"upgrade")
            && self.single("sec-websocket-version") == Lines::One(b"13")
            && matches!(self.single("sec-websocket-key"), Lines::One(key) if is_nonce(key));
        if well_formed { Ok(()) } else { Err(Reason::RequestMalformed) }
    }

    /// Whether a comma-separated field names `item`, in any case.
    fn lists(self, name: &str, item: &[u8]) -> bool {
        self.values(name)
            .any(|line| line.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(item)))
    }
}

impl fmt::Debug for Upgrade<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade")
            .field("target_bytes", &self.target.len())
            .field("headers", &self.headers.len())
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({} + {} bytes)", self.name.len(), self.value.len())
    }
}

impl fmt::Debug for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lines::Absent => f.write_str("Absent"),
            Lines::One(value) => write!(f, "One({} bytes)", value.len()),
            Lines::Repeated => f.write_str("Repeated"),
        }
    }
}

/// A `token` of RFC 9110 section 5.6.2.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Base64 of exactly 16 bytes.
fn is_nonce(key: &[u8]) -> bool {
    let mut bytes = [0u8; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut bytes) == Ok(16)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::rules::tests::rules;
    use super::super::{find_client_address, find_credential, require_origin, select_subprotocol};
    use super::*;
    use crate::config::{CredentialSource, HandshakeConfig};

    /// The fields of a plain upgrade, then `more`.
    pub(crate) fn fields<'a>(more: &[(&'a str, &'a [u8])]) -> Vec<Header<'a>> {
        let plain: [(&str, &[u8]); 5] = [
            ("Host", b"ws.example.com"),
            ("Upgrade", b"websocket"),
            ("Connection", b"Upgrade"),
            ("Sec-WebSocket-Version", b"13"),
            ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        plain.iter().chain(more).map(|(name, value)| Header { name: name.as_bytes(), value }).collect()
    }

    /// An upgrade of `target` from a public address.
    pub(crate) fn upgrade<'a>(target: &'a str, headers: &'a [Header<'a>]) -> Upgrade<'a> {
        Upgrade { method: b"GET", target: target.as_bytes(), headers, peer: Peer::Ip([203, 0, 113, 7].into()) }
    }

    fn shape(headers: &[Header<'_>]) -> Result<(), Reason> {
        upgrade("/ws", headers).require_shape(&rules(|_| ()))
    }

    fn without(name: &str) -> Vec<Header<'static>> {
        fields(&[]).into_iter().filter(|field| field.name != name.as_bytes()).collect()
    }

    #[test]
    fn a_plain_upgrade_passes_and_names_ignore_case() {
        assert_eq!(shape(&fields(&[])), Ok(()));
        let mut headers = without("Connection");
        headers.extend([
            Header { name: b"connection", value: b"keep-alive" },
            Header { name: b"CONNECTION", value: b"foo ,\tuPGRADE" },
            Header { name: b"User-Agent", value: b"caf\xc3\xa9\t1" },
        ]);
        assert_eq!(shape(&headers), Ok(()));
    }

    #[test]
    fn other_methods_are_refused() {
        let headers = fields(&[]);
        for method in [&b"POST"[..], b"get", b"CONNECT", b"", b"GET "] {
            let request = Upgrade { method, ..upgrade("/ws", &headers) };
            assert_eq!(request.require_shape(&rules(|_| ())), Err(Reason::RequestMalformed));
        }
    }

    #[test]
    fn each_upgrade_field_is_needed_once() {
        for name in ["Host", "Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key"] {
            assert_eq!(shape(&without(name)), Err(Reason::RequestMalformed), "{name}");
        }
        let twice: [(&str, &[u8]); 3] = [
            ("host", b"ws.example.com"),
            ("sec-websocket-version", b"13"),
            ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for extra in twice {
            assert_eq!(shape(&fields(&[extra])), Err(Reason::RequestMalformed), "{}", extra.0);
        }
    }

    #[test]
    fn upgrade_fields_are_exact() {
        let wrong: [(&str, &[u8]); 9] = [
            ("Upgrade", b"websockets"),
            ("Connection", b"keep-alive"),
            ("Sec-WebSocket-Version", b"8"),
            ("Sec-WebSocket-Version", b"13, 8"),
            ("Sec-WebSocket-Key", b""),
            ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ"),
            ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZTE="),
            ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZR=="),
            ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==="),
        ];
        for (name, value) in wrong {
            let mut headers = without(name);
            headers.push(Header { name: name.as_bytes(), value });
            assert_eq!(shape(&headers), Err(Reason::RequestMalformed), "{name}: {value:?}");
        }
    }

    #[test]
    fn controls_in_a_field_are_refused() {
        for value in [&b"a\r\nX-User: admin"[..], b"a\0", b"a\n", b"\x7f", b"\x1b[0m"] {
            assert_eq!(shape(&fields(&[("X-Any", value)])), Err(Reason::RequestMalformed), "{value:?}");
        }
        for name in ["", "X Any", "X-Any:", "X\r\nY", "X\0", "é", ":path"] {
            assert_eq!(shape(&fields(&[(name, b"a")])), Err(Reason::RequestMalformed), "{name:?}");
        }
    }

    #[test]
    fn every_bound_holds_at_its_edge() {
        let edge = |config: &mut HandshakeConfig| {
            config.max_fields = 7;
            config.max_field_bytes = 100;
            config.max_fields_bytes = 300;
        };
        let at = |headers: &[Header<'_>]| upgrade("/ws", headers).require_shape(&rules(edge));
        let (long, longer) = ([b'a'; 100], [b'a'; 101]);
        assert_eq!(at(&fields(&[("a", b""), ("a", b"")])), Ok(()));
        assert_eq!(at(&fields(&[("a", b""), ("a", b""), ("a", b"")])), Err(Reason::RequestTooLarge));
        assert_eq!(at(&fields(&[("a", &long)])), Ok(()));
        assert_eq!(at(&fields(&[("a", &longer)])), Err(Reason::RequestTooLarge));
        let total: usize = fields(&[]).iter().map(|field| field.name.len() + field.value.len()).sum();
        let rest = vec![b'a'; 300 - total - 102];
        assert_eq!(at(&fields(&[("a", &long), ("a", &rest)])), Ok(()));
        let rest = vec![b'a'; 300 - total - 101];
        assert_eq!(at(&fields(&[("a", &long), ("a", &rest)])), Err(Reason::RequestTooLarge));
        let name = "a".repeat(257);
        assert_eq!(shape(&fields(&[(&name, b"")])), Err(Reason::RequestTooLarge));
    }

    #[test]
    fn targets_are_in_origin_form_and_bounded() {
        let headers = fields(&[]);
        let on = |target: &str| upgrade(target, &headers).require_shape(&rules(|_| ()));
        for target in ["/", "/ws", "/ws?", "/ws?a=%2F&b", "/a%20b/c"] {
            assert_eq!(on(target), Ok(()), "{target}");
        }
        let fragment = "/ws#token=a";
        for target in
            ["", "*", "ws", "http://a.example/ws", fragment, "/a b", "/a\tb", "/\0", "/é", "/%", "/%z1", "/?a=%4"]
        {
            assert_eq!(on(target), Err(Reason::RequestMalformed), "{target}");
        }
        assert_eq!(on(&format!("/{}", "a".repeat(MAX_TARGET_BYTES - 1))), Ok(()));
        assert_eq!(on(&format!("/{}", "a".repeat(MAX_TARGET_BYTES))), Err(Reason::RequestTooLarge));
    }

    #[test]
    fn path_and_query_part_at_the_first_question_mark() {
        let request = upgrade("/ws?a=1?b", &[]);
        assert_eq!((request.path(), request.query()), (&b"/ws"[..], Some(&b"a=1?b"[..])));
        let request = upgrade("/ws", &[]);
        assert_eq!((request.path(), request.query()), (&b"/ws"[..], None));
    }

    #[test]
    fn debug_shows_no_bytes_of_the_peer() {
        let headers = fields(&[("Authorization", b"Bearer hunter2")]);
        let shown = format!("{:?} {headers:?}", upgrade("/ws?ticket=hunter2", &headers));
        assert!(!shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
        assert!(!format!("{:?}", upgrade("/", &headers).single("authorization")).contains("104"));
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        let known =
            ["host", "origin", "authorization", "cookie", "sec-websocket-protocol", "x-forwarded-for", "forwarded"];
        prop_oneof![
            4 => proptest::sample::select(known.to_vec()).prop_map(|name| name.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
        ]
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        let likely = "(Bearer |__Host-ws=|wsauth\\.bearer\\.|https://|for=|\\[|\"|;|,|=|xn--|[a-z0-9.:-]{1,6}){0,6}";
        prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), likely.prop_map(String::into_bytes)]
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            method in value(),
            target in prop_oneof![value(), "/[a-z%.?&=0-9]{0,40}(token|ticket|%7e|%)?=?".prop_map(String::into_bytes)],
            lines in proptest::collection::vec((name(), value()), 0..12),
            forwarded in proptest::sample::select(vec!["x-forwarded-for", "forwarded", "x-real-ip"]),
        ) {
            let headers: Vec<Header<'_>> = lines.iter().map(|(name, value)| Header { name, value }).collect();
            let rules = rules(|config| {
                use CredentialSource::*;
                config.credentials = vec![Authorization, Cookie, Subprotocol, Query, Ticket];
                config.forwarded_header = forwarded.into();
                config.trusted_proxies = vec!["0.0.0.0/0".parse().unwrap()];
            });
            let request =
                Upgrade { method: &method, target: &target, headers: &headers, peer: Peer::Ip([10, 0, 0, 1].into()) };
            // Each is called whatever the others said: order is the flow's, safety is each file's own.
            let _ = request.require_shape(&rules);
            let _ = find_client_address(request, &rules);
            let _ = require_origin(request, &rules);
            let _ = find_credential(request, &rules);
            let _ = select_subprotocol(request, &rules);
        }
    }
}
