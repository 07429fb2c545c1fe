//! This file answers: what happened, and who needs to know?
//!
//! Events are values. Where they go - a file, a collector - is decided outside; the core only keeps a bounded
//! queue of them. What a peer merely said stands in [`UnverifiedText`], which cannot break a line, a terminal or
//! a parser; what was verified stands in plain fields.

mod queue;
mod refusals;
mod text;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use self::queue::AuditQueue;
pub(crate) use self::refusals::Refusals;
use self::text::{write_json_string, write_time};
use crate::config::CredentialSource;
use crate::decision::Reason;
use crate::limit::hash::Fingerprint;
use crate::lookup::BackendKind;
use crate::time::WallTime;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuditKind {
    /// A connection was authenticated.
    HandshakeAccepted,
    /// A connection was not let in.
    HandshakeRefused,
    /// Messages of one connection were refused for one reason; carries the count.
    MessageRefused,
    /// Deliveries to one connection were refused for one reason; carries the count.
    DeliveryRefused,
    /// A new token was committed.
    Refreshed,
    /// A new token was refused.
    RefreshRefused,
    /// The client was asked for a new token.
    RefreshAsked,
    /// A connection ended.
    Closed,
    /// A token, session, subject, issuer or key was revoked; carries the number of connections closed.
    Revoked,
    /// What a live connection may do has changed.
    PermissionsChanged,
    /// One address failed too often; carries the count.
    AlertBruteForce,
    /// One address was blocked; carries the count.
    Blocked,
    /// The server never said that a connection we ended is gone.
    ConnectionLeaked,
    /// A verified subject's profile could not be had, or says that the subject is disabled; carries how many
    /// connections waited for it.
    ProfileFailed,
    /// Keys of an issuer were replaced; carries their number.
    KeysLoaded,
    /// The configuration was replaced.
    Reloaded,
    /// A source does not answer as it should; the detail says what holds meanwhile.
    SourceDegraded,
    /// It does again.
    SourceRecovered,
    /// A source refuses our own credentials; at most once in five minutes for each.
    AlertCredentialsRejected,
    /// A table reached its bound; the detail says which and what follows.
    LimitAlarm,
    /// The library failed and denied.
    Fault,
    /// Events were lost because nobody drained the queue; carries the count.
    EventsDropped,
}

impl AuditKind {
    /// The name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            AuditKind::HandshakeAccepted => "handshake_accepted",
            AuditKind::HandshakeRefused => "handshake_refused",
            AuditKind::MessageRefused => "message_refused",
            AuditKind::DeliveryRefused => "delivery_refused",
            AuditKind::Refreshed => "refreshed",
            AuditKind::RefreshRefused => "refresh_refused",
            AuditKind::RefreshAsked => "refresh_asked",
            AuditKind::Closed => "closed",
            AuditKind::Revoked => "revoked",
            AuditKind::PermissionsChanged => "permissions_changed",
            AuditKind::AlertBruteForce => "alert_brute_force",
            AuditKind::Blocked => "blocked",
            AuditKind::ConnectionLeaked => "connection_leaked",
            AuditKind::ProfileFailed => "profile_failed",
            AuditKind::KeysLoaded => "keys_loaded",
            AuditKind::Reloaded => "reloaded",
            AuditKind::SourceDegraded => "source_degraded",
            AuditKind::SourceRecovered => "source_recovered",
            AuditKind::AlertCredentialsRejected => "alert_credentials_rejected",
            AuditKind::LimitAlarm => "limit_alarm",
            AuditKind::Fault => "fault",
            AuditKind::EventsDropped => "events_dropped",
        }
    }
}

/// Text that nobody vouched for: printable ASCII, at most 256 bytes.
///
/// Every other byte is written `\xNN` and a backslash `\\`, so the original can be read back; what does not fit
/// is cut and ends in `...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedText(String);

impl UnverifiedText {
    /// The most bytes of it.
    pub const MAX_BYTES: usize = 256;

    /// Makes any bytes safe to log.
    pub fn new(bytes: &[u8]) -> UnverifiedText {
        UnverifiedText(text::escape(bytes, UnverifiedText::MAX_BYTES))
    }

    /// The path of a request target, without its query: there may be a token or a ticket in it.
    pub fn path(target: &[u8]) -> UnverifiedText {
        let path = target.split(|byte| matches!(byte, b'?' | b'#')).next();
        UnverifiedText::new(path.unwrap_or_default())
    }

    /// The safe text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One event. Fields that do not apply are `None`.
///
/// No field takes a token, a session id, a ticket or a secret.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AuditEvent {
    /// What happened.
    pub kind: AuditKind,
    /// When.
    pub time: WallTime,
    /// Why, where something was refused or ended.
    pub reason: Option<Reason>,
    /// The connection's handle.
    pub connection: Option<u64>,
    /// The issuer, verified or configured.
    pub issuer: Option<Arc<str>>,
    /// The subject, verified.
    pub subject: Option<Arc<str>>,
    /// Where the credential stood.
    pub source: Option<CredentialSource>,
    /// Which kind of source it is about.
    pub backend: Option<BackendKind>,
    /// Eight hex digits of a keyed hash of the token: tells tokens apart, leads back to none.
    pub token_fingerprint: Option<String>,
    /// The client's address, as the trusted proxies tell it.
    pub address: Option<IpAddr>,
    /// How many.
    pub count: Option<u64>,
    /// Permissions that were added, their number.
    pub added: Option<u64>,
    /// Permissions that were removed, their number.
    pub removed: Option<u64>,
    /// A fixed sentence of the library.
    pub detail: Option<&'static str>,
    /// What the request said of its Origin.
    pub unverified_origin: Option<UnverifiedText>,
    /// What the request asked for, without the query.
    pub unverified_path: Option<UnverifiedText>,
    /// The issuer that a refused token named.
    pub unverified_issuer: Option<UnverifiedText>,
    /// The subject that a refused token named.
    pub unverified_subject: Option<UnverifiedText>,
    /// The key that a refused token named.
    pub unverified_key_id: Option<UnverifiedText>,
    /// The type that a refused message named.
    pub unverified_type: Option<UnverifiedText>,
}

impl AuditEvent {
    /// An event with nothing but its kind and time.
    pub fn new(kind: AuditKind, time: WallTime) -> AuditEvent {
        AuditEvent {
            kind,
            time,
            reason: None,
            connection: None,
            issuer: None,
            subject: None,
            source: None,
            backend: None,
            token_fingerprint: None,
            address: None,
            count: None,
            added: None,
            removed: None,
            detail: None,
            unverified_origin: None,
            unverified_path: None,
            unverified_issuer: None,
            unverified_subject: None,
            unverified_key_id: None,
            unverified_type: None,
        }
    }

    /// Names the token without giving it away.
    pub(crate) fn set_token(&mut self, fingerprint: Fingerprint) {
        self.token_fingerprint = Some(fingerprint.hex8());
    }

    /// Whether it tells that all went well. A full queue drops these first.
    pub fn is_success(&self) -> bool {
        match self.kind {
            AuditKind::HandshakeAccepted
            | AuditKind::Refreshed
            | AuditKind::RefreshAsked
            | AuditKind::PermissionsChanged
            | AuditKind::KeysLoaded
            | AuditKind::SourceRecovered
            | AuditKind::Reloaded => true,
            AuditKind::Closed => self.reason.is_none(),
            AuditKind::HandshakeRefused
            | AuditKind::MessageRefused
            | AuditKind::DeliveryRefused
            | AuditKind::RefreshRefused
            | AuditKind::Revoked
            | AuditKind::AlertBruteForce
            | AuditKind::Blocked
            | AuditKind::ConnectionLeaked
            | AuditKind::SourceDegraded
            | AuditKind::AlertCredentialsRejected
            | AuditKind::ProfileFailed
            | AuditKind::LimitAlarm
            | AuditKind::Fault
            | AuditKind::EventsDropped => false,
        }
    }

    /// One JSON object on one line, without the line's end. ASCII only: everything else is `\uNNNN`.
    ///
    /// `time` is RFC 3339 in UTC with milliseconds; `connection` is 16 hex digits, since JSON numbers do not
    /// carry 64 bits.
    pub fn to_json(&self) -> String {
        let mut line = Line(String::with_capacity(256));
        line.text("event", self.kind.name());
        line.text("result", if self.is_success() { "success" } else { "failure" });
        if let Some(reason) = self.reason {
            line.text("reason", reason.name());
            line.number("code", u64::from(reason.number()));
        }
        if let Some(connection) = self.connection {
            line.text("connection", &format!("{connection:016x}"));
        }
        line.optional("issuer", self.issuer.as_deref());
        line.optional("subject", self.subject.as_deref());
        line.optional("source", self.source.map(source_name));
        line.optional("backend", self.backend.map(BackendKind::name));
        line.optional("token_fingerprint", self.token_fingerprint.as_deref());
        if let Some(address) = self.address {
            line.text("address", &address.to_string());
        }
        for (name, number) in [("count", self.count), ("added", self.added), ("removed", self.removed)] {
            if let Some(number) = number {
                line.number(name, number);
            }
        }
        line.optional("detail", self.detail);
        for (name, text) in [
            ("unverified_origin", &self.unverified_origin),
            ("unverified_path", &self.unverified_path),
            ("unverified_issuer", &self.unverified_issuer),
            ("unverified_subject", &self.unverified_subject),
            ("unverified_key_id", &self.unverified_key_id),
            ("unverified_type", &self.unverified_type),
        ] {
            line.optional(name, text.as_ref().map(UnverifiedText::as_str));
        }
        line.finish(self.time)
    }
}

/// The stable name of a credential source, for audit and metrics.
pub(crate) const fn source_name(source: CredentialSource) -> &'static str {
    match source {
        CredentialSource::Authorization => "authorization",
        CredentialSource::Cookie => "cookie",
        CredentialSource::Subprotocol => "subprotocol",
        CredentialSource::Query => "query",
        CredentialSource::Ticket => "ticket",
        CredentialSource::FirstMessage => "first_message",
    }
}

/// The members of one JSON object after the first. Names are literals and need no escaping.
struct Line(String);

impl Line {
    fn name(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        write_json_string(&mut self.0, value);
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{value}");
    }

    fn finish(self, time: WallTime) -> String {
        let mut line = String::with_capacity(self.0.len().saturating_add(40));
        line.push_str("{\"time\":\"");
        write_time(&mut line, time);
        line.push('"');
        line.push_str(&self.0);
        line.push('}');
        line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{AuditEvent, AuditKind, UnverifiedText};
    use crate::config::CredentialSource;
    use crate::decision::Reason;
    use crate::limit::hash::Fingerprinter;
    use crate::time::WallTime;

    #[test]
    fn a_full_event_is_one_line_with_every_field() {
        let mut event = AuditEvent::new(AuditKind::HandshakeRefused, WallTime(1_795_557_423_123));
        event.reason = Some(Reason::SignatureInvalid);
        event.connection = Some(u64::MAX - 1);
        event.issuer = Some("https://id.example.com".into());
        event.subject = Some("jos\u{e9} \u{1f600}\u{202e}".into());
        event.source = Some(CredentialSource::Cookie);
        event.address = Some("2001:db8::1".parse().unwrap());
        event.count = Some(3);
        event.added = Some(0);
        event.removed = Some(1);
        event.detail = Some("fixed");
        event.set_token(Fingerprinter::new([1, 2]).fingerprint(&[b"token"]));
        event.unverified_origin = Some(UnverifiedText::new(b"https://evil\"\r\n{}"));
        event.unverified_path = Some(UnverifiedText::path(b"/ws?access_token=secret"));
        event.unverified_issuer = Some(UnverifiedText::new(b"i"));
        event.unverified_subject = Some(UnverifiedText::new(b"s"));
        event.unverified_key_id = Some(UnverifiedText::new("k\u{2028}".as_bytes()));
        event.unverified_type = Some(UnverifiedText::new(b"t"));
        let line = event.to_json();
        let digits = event.token_fingerprint.unwrap();
        assert_eq!(digits.len(), 8);
        let expected = concat!(
            r#"{"time":"2026-11-24T21:57:03.123Z","event":"handshake_refused","result":"failure","#,
            r#""reason":"signature_invalid","code":14022,"connection":"fffffffffffffffe","#,
            r#""issuer":"https://id.example.com","subject":"jos\u00e9 \ud83d\ude00\u202e","source":"cookie","#,
            r#""token_fingerprint":"DIGITS","address":"2001:db8::1","count":3,"added":0,"removed":1,"#,
            r#""detail":"fixed","unverified_origin":"https://evil\"\\x0d\\x0a{}","unverified_path":"/ws","#,
            r#""unverified_issuer":"i","unverified_subject":"s","unverified_key_id":"k\\xe2\\x80\\xa8","#,
            r#""unverified_type":"t"}"#,
        );
        assert_eq!(line, expected.replace("DIGITS", &digits));
    }

    #[test]
    fn an_empty_event_has_no_empty_fields() {
        let line = AuditEvent::new(AuditKind::Reloaded, WallTime(0)).to_json();
        assert_eq!(line, r#"{"time":"1970-01-01T00:00:00.000Z","event":"reloaded","result":"success"}"#);
    }

    #[test]
    fn a_close_is_a_success_only_without_a_reason() {
        let mut event = AuditEvent::new(AuditKind::Closed, WallTime(0));
        assert!(event.is_success());
        event.reason = Some(Reason::Revoked);
        assert!(!event.is_success());
    }

    proptest! {
        #[test]
        fn whatever_a_peer_says_is_one_line_that_parses(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            subject in "\\PC{0,40}|[\\x00-\\x{10ffff}]{0,40}",
            ms in any::<u64>(),
        ) {
            let mut event = AuditEvent::new(AuditKind::MessageRefused, WallTime(ms));
            event.subject = Some(subject.as_str().into());
            event.unverified_type = Some(UnverifiedText::new(&bytes));
            let line = event.to_json();
            prop_assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read["subject"].as_str(), Some(subject.as_str()));
            let text = read["unverified_type"].as_str().unwrap();
            prop_assert!(text.len() <= 256 && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        }
    }
}
