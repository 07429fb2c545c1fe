//! This file answers: how does a refused handshake look over HTTP?

use serde_json::json;

use crate::decision::{Class, Reason, Refusal};

/// An HTTP response that refuses an upgrade (RFC 6750 section 3, RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRefusal {
    /// The status code.
    pub status: u16,
    /// Header fields to send, in order.
    pub headers: Vec<(&'static str, String)>,
    /// The body, `application/problem+json`.
    pub body: String,
}

impl Refusal {
    /// Renders this refusal for a peer whose upgrade is refused. Holds only public text: no reason that could
    /// be probed, no byte of the request.
    pub fn http_response(self) -> HttpRefusal {
        let row = self.row();
        let mut headers =
            vec![("Content-Type", "application/problem+json".to_owned()), ("Cache-Control", "no-store".to_owned())];
        if let Some(challenge) = self.challenge() {
            headers.push(("WWW-Authenticate", challenge.to_owned()));
        }
        let mut body = json!({
            "title": self.reason.public_text(),
            "status": row.http,
            "code": row.public,
            "action": row.action.name(),
        });
        if row.http == 429 || row.http == 503 {
            let seconds = self.retry_after_seconds();
            headers.push(("Retry-After", seconds.to_string()));
            if let Some(object) = body.as_object_mut() {
                object.insert("retry_after".to_owned(), json!(seconds));
            }
        }
        HttpRefusal { status: row.http, headers, body: body.to_string() }
    }

    /// The delay in whole seconds, rounded up; one second where none is known.
    pub fn retry_after_seconds(self) -> u32 {
        self.retry_after_ms.unwrap_or(1000).div_ceil(1000).max(1)
    }

    fn challenge(self) -> Option<&'static str> {
        match (self.reason, self.row().http) {
            (Reason::CredentialMissing, 401) => Some("Bearer"),
            (Reason::InsufficientScope, _) => Some("Bearer error=\"insufficient_scope\""),
            (_, 401) => Some("Bearer error=\"invalid_token\""),
            (reason, 400) if reason.class() == Class::Credential => Some("Bearer error=\"invalid_request\""),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::decision::{Reason, Refusal};

    fn header(refusal: Refusal, name: &str) -> Option<String> {
        refusal.http_response().headers.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    #[test]
    fn the_challenge_follows_rfc_6750() {
        let challenge = |reason: Reason| header(reason.into(), "WWW-Authenticate");
        assert_eq!(challenge(Reason::CredentialMissing).as_deref(), Some("Bearer"));
        assert_eq!(challenge(Reason::SignatureInvalid).as_deref(), Some("Bearer error=\"invalid_token\""));
        assert_eq!(challenge(Reason::CredentialAmbiguous).as_deref(), Some("Bearer error=\"invalid_request\""));
        assert_eq!(challenge(Reason::InsufficientScope).as_deref(), Some("Bearer error=\"insufficient_scope\""));
        assert_eq!(challenge(Reason::OriginRefused), None);
    }

    #[test]
    fn limits_and_outages_say_when_to_come_back() {
        assert_eq!(header(Refusal::after(Reason::AddressConnections, 1_500), "Retry-After").as_deref(), Some("2"));
        assert_eq!(header(Reason::SourceUnavailable.into(), "Retry-After").as_deref(), Some("1"));
        assert_eq!(header(Reason::OriginRefused.into(), "Retry-After"), None);
    }

    #[test]
    fn credential_reasons_look_alike_from_outside() {
        let one = Refusal::from(Reason::SignatureInvalid).http_response();
        for reason in [Reason::KeyUnknown, Reason::AudienceMismatch, Reason::TokenRevoked, Reason::SessionUnknown] {
            assert_eq!(Refusal::from(reason).http_response(), one);
        }
        assert!(one.body.contains("auth_failed") && !one.body.contains("signature"));
    }
}
