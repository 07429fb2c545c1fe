//! This file answers: is this signed text an access token that is valid for us now?

use std::sync::Arc;

use serde_json::{Map, Value};

use super::facts::{Facts, Presence, require_facts};
use super::json::{Bounds, parse_object};
use super::signature::Verified;
use crate::config::{CredentialSource, IssuerConfig};
use crate::decision::Reason;
use crate::identity::Identity;
use crate::time::WallTime;

/// Proven facts of one token. Made only by [`Verified::require_claims`].
#[derive(Clone, Debug)]
pub struct Claims {
    facts: Facts,
    expiry: WallTime,
    key_id: Arc<str>,
}

/// The media type of access tokens (RFC 9068 section 2.1).
const ACCESS_TOKEN: &str = "at+jwt";

/// Claims that mark another kind of token: OIDC ID tokens, security events and logout tokens (RFC 8417),
/// introspection answers (RFC 9701).
const OTHER_KINDS: [&str; 5] = ["nonce", "at_hash", "c_hash", "events", "token_introspection"];

impl Verified {
    /// Judges type, issuer, audience, subject, times and permissions against the issuer's configuration.
    ///
    /// # Refusals
    ///
    /// - [`Reason::ClaimsMalformed`]: the payload is not one strict JSON object.
    /// - [`Reason::TokenType`]: another `typ` than configured, or the shape of another kind of token.
    /// - [`Reason::ClaimMissing`], [`Reason::ClaimInvalid`]: a required claim is absent; a claim is of the wrong type.
    /// - [`Reason::IssuerMismatch`], [`Reason::AudienceMismatch`], [`Reason::SubjectInvalid`],
    ///   [`Reason::TokenBound`]: not from them, not for us, not clean, or bound to a key that was not proved.
    /// - [`Reason::TokenExpired`], [`Reason::TokenNotYetValid`], [`Reason::TokenIssuedInFuture`],
    ///   [`Reason::TokenLifetime`]: by `wall`.
    pub fn require_claims(self, issuer: &IssuerConfig, wall: WallTime) -> Result<Claims, Reason> {
        require_typ(self.typ(), issuer)?;
        let claims = parse_object(self.payload(), Bounds::TOKEN).map_err(|_| Reason::ClaimsMalformed)?;
        require_kind(self.typ(), &claims)?;
        if issuer.rfc9068 && ["client_id", "iat", "jti"].iter().any(|name| !claims.contains_key(*name)) {
            return Err(Reason::ClaimMissing);
        }
        let facts = require_facts(claims, issuer, Presence::TOKEN, wall)?;
        let expiry = facts.expiry.ok_or(Reason::ClaimMissing)?;
        Ok(Claims { facts, expiry, key_id: Arc::clone(self.key_id()) })
    }
}

impl Claims {
    /// The issuer that vouches.
    pub fn issuer(&self) -> &Arc<str> {
        &self.facts.issuer
    }

    /// The subject.
    pub fn subject(&self) -> &Arc<str> {
        &self.facts.subject
    }

    /// When the token ends, without leeway, rounded down to the millisecond.
    pub fn expiry(&self) -> WallTime {
        self.expiry
    }

    /// The identity that these claims prove.
    pub fn into_identity(self, source: CredentialSource) -> Identity {
        self.facts.into_identity(source, self.expiry, Some(self.key_id))
    }
}

/// Whether two `typ` values name the same media type (RFC 7515 section 4.1.9): case is ignored, `application/` may
/// be left out.
fn same_media_type(one: &str, other: &str) -> bool {
    fn short(typ: &str) -> &str {
        match typ.split_once('/') {
            Some((tree, rest)) if tree.eq_ignore_ascii_case("application") && !rest.contains('/') => rest,
            _ => typ,
        }
    }
    short(one).eq_ignore_ascii_case(short(other))
}

fn require_typ(typ: Option<&str>, issuer: &IssuerConfig) -> Result<(), Reason> {
    let is = |wanted: &str| typ.is_some_and(|typ| same_media_type(wanted, typ));
    let fits = match issuer.typ.as_deref() {
        Some(wanted) => is(wanted),
        None => typ.is_none() || is(ACCESS_TOKEN) || is("JWT"),
    };
    if fits && (!issuer.rfc9068 || is(ACCESS_TOKEN)) { Ok(()) } else { Err(Reason::TokenType) }
}

/// A token that does not say it is an access token must not look like something else (RFC 8725 section 3.12).
fn require_kind(typ: Option<&str>, claims: &Map<String, Value>) -> Result<(), Reason> {
    let explicit = typ.is_some_and(|typ| same_media_type(typ, ACCESS_TOKEN));
    if !explicit && OTHER_KINDS.iter().any(|name| claims.contains_key(*name)) {
        return Err(Reason::TokenType);
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::{Claims, Verified, same_media_type};
    use crate::config::{CredentialSource, IssuerConfig, KeysConfig, SecretKeyConfig, TlsConfig};
    use crate::decision::Reason;
    use crate::keys::KeyRing;
    use crate::secret::Secret;
    use crate::time::WallTime;
    use crate::token::{Algorithm, Unverified, verify_signature};

    const NOW: u64 = 1_800_000_000;
    const SECRET: [u8; 32] = [7; 32];

    /// An issuer with one secret and everything else at its default.
    pub(crate) fn issuer() -> IssuerConfig {
        let secret = SecretKeyConfig { secret: Secret::new(SECRET.to_vec()), key_id: None, not_after: None };
        IssuerConfig {
            issuer: "https://id.example/".to_owned(),
            audience: vec!["urn:ws".to_owned(), "urn:other".to_owned()],
            algorithms: vec![Algorithm::HS256],
            keys: KeysConfig::Secrets(vec![secret]),
            permissions_claims: vec!["permissions".to_owned(), "scope".to_owned()],
            typ: None,
            rfc9068: false,
            required_claims: Vec::new(),
            max_lifetime_ms: 24 * 3_600_000,
            leeway_ms: 30_000,
            expiry_leeway_ms: 0,
            opaque: false,
            wildcards: false,
            tenant_claim: "tenant".to_owned(),
            introspection: None,
            tls: TlsConfig::default(),
        }
    }

    /// A token that [`issuer`] signed.
    pub(crate) fn signed(header: &Value, payload: &str) -> Vec<u8> {
        let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
        let input = format!("{}.{}", encode(&header.to_string()), encode(payload));
        let key = jsonwebtoken::EncodingKey::from_secret(&SECRET);
        let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
        format!("{input}.{signature}").into_bytes()
    }

    fn verified(header: &Value, payload: &str) -> Verified {
        let token = signed(header, payload);
        let (ring, _) = KeyRing::from_config(&issuer()).unwrap();
        verify_signature(Unverified::parse(&token, 1 << 14).unwrap(), &ring, WallTime::from_secs(NOW)).unwrap()
    }

    pub(crate) fn good() -> Value {
        json!({"iss": "https://id.example/", "aud": "urn:ws", "sub": "user", "exp": NOW + 600, "iat": NOW - 60})
    }

    /// [`good`] with members replaced; a JSON null removes, the string "NULL" stands for null.
    fn changed(members: Value) -> Value {
        let mut claims = good();
        for (name, value) in members.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                Value::String(text) if text == "NULL" => {
                    claims.as_object_mut().unwrap().insert(name.clone(), Value::Null)
                }
                _ => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        claims
    }

    fn judge_as(issuer: &IssuerConfig, header: &Value, claims: &Value) -> Result<Claims, Reason> {
        verified(header, &claims.to_string()).require_claims(issuer, WallTime::from_secs(NOW))
    }

    fn judge(members: Value) -> Result<Claims, Reason> {
        judge_as(&issuer(), &json!({"alg": "HS256"}), &changed(members))
    }

    #[test]
    fn good_claims_become_an_identity() {
        let claims = changed(json!({"jti": "t", "sid": "s", "client_id": "c", "tenant": "acme", "scope": "b a",
            "exp": NOW as f64 + 0.5, "iat": NOW as f64 - 0.5, "x": {"y": 1}}));
        let judged = judge_as(&issuer(), &json!({"alg": "HS256", "typ": "JWT"}), &claims).unwrap();
        assert_eq!((&**judged.issuer(), &**judged.subject()), ("https://id.example/", "user"));
        let identity = judged.into_identity(CredentialSource::Cookie);
        assert_eq!((&*identity.issuer, &*identity.subject), ("https://id.example/", "user"));
        assert_eq!(identity.source, CredentialSource::Cookie);
        let texts = [&identity.token_id, &identity.session_id, &identity.client_id, &identity.tenant];
        assert_eq!(texts.map(|text| text.as_deref()), [Some("t"), Some("s"), Some("c"), Some("acme")]);
        assert_eq!(identity.issued_at, Some(NOW - 1), "whole seconds, rounded down");
        assert_eq!(identity.expiry, WallTime(NOW * 1000 + 500));
        assert_eq!(identity.permissions, [Arc::from("a"), Arc::from("b")]);
        assert_eq!(identity.claims["x"]["y"], 1);
        assert!(identity.key_id.unwrap().starts_with("secret-"));
        assert_eq!(identity.confirmation, None);
    }

    #[test]
    fn whose_and_for_whom_is_exact() {
        use Reason::{AudienceMismatch, ClaimInvalid, ClaimMissing, IssuerMismatch, SubjectInvalid, TokenBound};
        let long = "s".repeat(1025);
        for (members, reason) in [
            (json!({"iss": null}), ClaimMissing),
            (json!({"iss": "https://id.example"}), IssuerMismatch),
            (json!({"iss": "https://id.example/x"}), IssuerMismatch),
            (json!({"iss": "HTTPS://id.example/"}), IssuerMismatch),
            (json!({"iss": ""}), IssuerMismatch),
            (json!({"iss": ["https://id.example/"]}), ClaimInvalid),
            (json!({"iss": "NULL"}), ClaimInvalid),
            (json!({"aud": null}), ClaimMissing),
            (json!({"aud": "NULL"}), ClaimInvalid),
            (json!({"aud": []}), ClaimInvalid),
            (json!({"aud": {"urn:ws": 1}}), ClaimInvalid),
            (json!({"aud": ["urn:ws", 7]}), ClaimInvalid),
            (json!({"aud": [["urn:ws"]]}), ClaimInvalid),
            (json!({"aud": ""}), AudienceMismatch),
            (json!({"aud": "*"}), AudienceMismatch),
            (json!({"aud": "URN:ws"}), AudienceMismatch),
            (json!({"aud": "urn:ws2"}), AudienceMismatch),
            (json!({"aud": "urn:ws urn:x"}), AudienceMismatch),
            (json!({"aud": ["a", "b"]}), AudienceMismatch),
            (json!({"sub": null}), SubjectInvalid),
            (json!({"sub": ""}), SubjectInvalid),
            (json!({"sub": 7}), SubjectInvalid),
            (json!({"sub": ["user"]}), SubjectInvalid),
            (json!({"sub": "NULL"}), SubjectInvalid),
            (json!({"sub": "admin\u{0}user"}), SubjectInvalid),
            (json!({"sub": "a\nb"}), SubjectInvalid),
            (json!({"sub": "a\u{85}b"}), SubjectInvalid),
            (json!({"sub": long}), SubjectInvalid),
            (json!({"cnf": {"jkt": "x"}}), TokenBound),
            (json!({"cnf": "NULL"}), TokenBound),
            (json!({"jti": 7}), ClaimInvalid),
            (json!({"jti": ""}), ClaimInvalid),
            (json!({"sid": "NULL"}), ClaimInvalid),
            (json!({"client_id": "a\tb"}), ClaimInvalid),
            (json!({"tenant": ["acme"]}), ClaimInvalid),
        ] {
            assert_eq!(judge(members.clone()).err(), Some(reason), "{members:.80}");
        }
        for members in [
            json!({"aud": ["x", "urn:ws"]}),
            json!({"aud": "urn:other"}),
            json!({"sub": "ünï 名"}),
            json!({"sub": "s".repeat(1024)}),
        ] {
            assert!(judge(members).is_ok());
        }
    }

    #[test]
    fn times_are_judged_to_the_second() {
        use Reason::{ClaimInvalid, ClaimMissing, TokenExpired, TokenIssuedInFuture, TokenLifetime, TokenNotYetValid};
        for (members, reason) in [
            (json!({"exp": null}), ClaimMissing),
            (json!({"exp": "NULL"}), ClaimInvalid),
            (json!({"exp": "1900000000"}), ClaimInvalid),
            (json!({"exp": true}), ClaimInvalid),
            (json!({"exp": 253_402_300_800_u64}), ClaimInvalid),
            (json!({"exp": u64::MAX}), ClaimInvalid),
            (json!({"exp": NOW}), TokenExpired),
            (json!({"exp": NOW - 60}), TokenExpired),
            (json!({"exp": -1, "iat": null}), TokenExpired),
            (json!({"nbf": NOW + 31}), TokenNotYetValid),
            (json!({"nbf": NOW as f64 + 30.001}), TokenNotYetValid),
            (json!({"nbf": "0"}), ClaimInvalid),
            (json!({"nbf": "NULL"}), ClaimInvalid),
            (json!({"iat": NOW + 31}), TokenIssuedInFuture),
            (json!({"iat": [NOW]}), ClaimInvalid),
            (json!({"iat": NOW + 20, "exp": NOW + 10}), ClaimInvalid),
            (json!({"nbf": NOW + 20, "exp": NOW + 10}), ClaimInvalid),
            (json!({"exp": NOW + 86_400 - 59}), TokenLifetime),
            (json!({"exp": NOW + 86_401, "iat": null}), TokenLifetime),
            (json!({"iat": NOW - 86_400}), TokenLifetime),
            (json!({"iat": -62_167_219_200_i64}), TokenLifetime),
        ] {
            assert_eq!(judge(members.clone()).err(), Some(reason), "{members}");
        }
        for members in [
            json!({"exp": NOW + 1}),
            json!({"exp": NOW as f64 + 0.001}),
            json!({"exp": 1.8000006e9}),
            json!({"nbf": NOW + 30}),
            json!({"nbf": 0}),
            json!({"iat": NOW + 30}),
            json!({"iat": null}),
            json!({"exp": NOW + 86_400 - 60}),
            json!({"exp": NOW + 86_400, "iat": null}),
        ] {
            assert!(judge(members.clone()).is_ok(), "{members}");
        }
    }

    #[test]
    fn an_expiry_leeway_admits_but_does_not_lengthen() {
        let lenient = IssuerConfig { expiry_leeway_ms: 60_000, ..issuer() };
        let judge = |exp: u64| judge_as(&lenient, &json!({"alg": "HS256"}), &changed(json!({"exp": exp})));
        assert_eq!(judge(NOW - 59).unwrap().expiry(), WallTime::from_secs(NOW - 59));
        assert_eq!(judge(NOW - 60).err(), Some(Reason::TokenExpired));
    }

    #[test]
    fn typ_is_a_media_type() {
        for (one, other, same) in [
            ("at+jwt", "AT+JWT", true),
            ("at+jwt", "application/at+jwt", true),
            ("Application/AT+jwt", "at+JWT", true),
            ("at+jwt", "xat+jwt", false),
            ("at+jwt", "at+jwt ", false),
            ("at+jwt", "x/at+jwt", false),
            ("at+jwt", "application/application/at+jwt", false),
            ("at+jwt", "application/", false),
        ] {
            assert_eq!(same_media_type(one, other), same, "{other:?}");
        }
        let required = IssuerConfig { typ: Some("at+jwt".to_owned()), ..issuer() };
        let strict = IssuerConfig { rfc9068: true, ..issuer() };
        let full = changed(json!({"client_id": "c", "jti": "t"}));
        for (typ, by_default, by_required) in [
            (Value::Null, true, false),
            (json!("JWT"), true, false),
            (json!("at+jwt"), true, true),
            (json!("application/AT+JWT"), true, true),
            (json!("dpop+jwt"), false, false),
            (json!("token-introspection+jwt"), false, false),
            (json!("logout+jwt"), false, false),
            (json!(""), false, false),
        ] {
            let header = if typ.is_null() { json!({"alg": "HS256"}) } else { json!({"alg": "HS256", "typ": typ}) };
            let verdict = |issuer: &IssuerConfig| judge_as(issuer, &header, &full).map(|_| ()).err();
            let expected = |accepted: bool| (!accepted).then_some(Reason::TokenType);
            assert_eq!(verdict(&issuer()), expected(by_default), "{header}");
            assert_eq!(verdict(&required), expected(by_required), "{header}");
            assert_eq!(verdict(&strict), expected(by_required), "{header}");
        }
        let at = json!({"alg": "HS256", "typ": "at+jwt"});
        for absent in ["client_id", "jti", "iat", "iss", "aud", "exp"] {
            let mut claims = full.clone();
            claims.as_object_mut().unwrap().remove(absent);
            assert_eq!(judge_as(&strict, &at, &claims).err(), Some(Reason::ClaimMissing), "{absent}");
        }
    }

    #[test]
    fn other_kinds_of_token_are_not_access_tokens() {
        for name in ["nonce", "at_hash", "c_hash", "events", "token_introspection"] {
            let claims = changed(json!({ name: "x" }));
            for (typ, refused) in [("JWT", true), ("at+jwt", false)] {
                let judged = judge_as(&issuer(), &json!({"alg": "HS256", "typ": typ}), &claims);
                assert_eq!(judged.err(), refused.then_some(Reason::TokenType), "{name} {typ}");
            }
        }
    }

    #[test]
    fn required_claims_must_say_something() {
        let strict = IssuerConfig { required_claims: vec!["jti".to_owned(), "x".to_owned()], ..issuer() };
        let judge = |members| judge_as(&strict, &json!({"alg": "HS256"}), &changed(members)).err();
        assert_eq!(judge(json!({"jti": "t", "x": false})), None);
        assert_eq!(judge(json!({"jti": "t"})), Some(Reason::ClaimMissing));
        assert_eq!(judge(json!({"jti": "t", "x": "NULL"})), Some(Reason::ClaimMissing));
    }

    #[test]
    fn claims_are_strict_json() {
        let good = good().to_string();
        for payload in [
            String::new(),
            "null".to_owned(),
            "\"x\"".to_owned(),
            format!("[{good}]"),
            format!("{good}x"),
            format!("\u{feff}{good}"),
            good.replacen('{', "{\"sub\":\"admin\",", 1),
            good.replacen('{', "{\"s\\u0075b\":\"admin\",", 1),
            good.replacen('{', "{\"x\":\"\\ud800\",", 1),
        ] {
            let judged = verified(&json!({"alg": "HS256"}), &payload);
            let judged = judged.require_claims(&issuer(), WallTime::from_secs(NOW));
            assert_eq!(judged.err(), Some(Reason::ClaimsMalformed), "{payload:.60}");
        }
    }
}
