//! This file answers: what does this answer of an introspection endpoint say about the token?
//!
//! Exactly two things are words: `active` that is the boolean true, with claims that pass like those of a token, and
//! `active` that is the boolean false. Everything else is silence, and silence is never a no and never a yes.

use serde_json::{Map, Value};

use super::HttpResponse;
use crate::config::{ClientAuthentication, IntrospectionConfig};
use crate::decision::Reason;
use crate::keys::Issuer;
use crate::time::Now;
use crate::token::facts::{Facts, Presence, require_facts};
use crate::token::json::{Bounds, parse_object};
use crate::token::numeric_date::NumericDate;
use crate::token::{Unverified, verify_signature};

/// Longest body in bytes, whoever read it (REQUIREMENTS R-INT-04).
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;

/// The `typ` of a signed answer (RFC 9701 section 5), which no token has.
const SIGNED: &str = "token-introspection+jwt";

/// Why an answer vouches for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotVouched {
    /// The token is refused: not active, or active but not as we need it.
    Refused(Reason),
    /// This is no answer to be trusted.
    Silent {
        /// When another try may work, in milliseconds, where the endpoint said so.
        retry_after_ms: Option<u32>,
    },
    /// The endpoint does not take our own credentials (RFC 7662 section 2.3). No fault of the token's.
    CredentialsRejected,
    /// It is signed with a key that is not in the issuer's set, or the set is too old; it can be fetched anew.
    KeysNeeded,
}

/// Not an answer: nothing is known, and nothing was said of when to try again.
const SILENT: NotVouched = NotVouched::Silent { retry_after_ms: None };

impl From<Reason> for NotVouched {
    fn from(reason: Reason) -> NotVouched {
        NotVouched::Refused(reason)
    }
}

/// Judges one response: status, media type, size, form, signature where there is one, `active`, then the claims
/// against the issuer's configuration as if a token said them (RFC 7662 section 2.2, RFC 9701 section 5).
///
/// # Refusals
///
/// [`Reason::TokenInactive`]; [`Reason::TokenType`] and [`Reason::TokenBound`] for what is no bearer access token;
/// those of [`require_facts`]. Anything that is no answer is [`NotVouched::Silent`].
pub(crate) fn judge_response(response: &HttpResponse, issuer: &Issuer, now: Now) -> Result<Facts, NotVouched> {
    let Some(introspection) = &issuer.config().introspection else { return Err(SILENT) };
    match response.status {
        200 => {}
        401 | 403 => return Err(NotVouched::CredentialsRejected),
        _ => return Err(NotVouched::Silent { retry_after_ms: response.retry_after_ms }),
    }
    if response.body.len() > MAX_BODY_BYTES {
        return Err(SILENT);
    }
    let members = match media_type(response.content_type.as_deref().unwrap_or_default()) {
        Some(Form::Signed) => parse_signed(&response.body, issuer, introspection, now)?,
        Some(Form::Plain) if !introspection.signed => parse(&response.body)?,
        _ => return Err(SILENT),
    };
    match members.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Err(Reason::TokenInactive.into()),
        _ => return Err(SILENT),
    }
    require_bearer(&members)?;
    Ok(require_facts(members, issuer.config(), Presence::INTROSPECTION, now.wall)?)
}

#[derive(Clone, Copy)]
enum Form {
    Plain,
    Signed,
}

/// Parameters are ignored: JSON has no other charset than UTF-8 (RFC 8259 section 11), and a body in another is no
/// JSON.
fn media_type(text: &str) -> Option<Form> {
    let name = text.split(';').next().unwrap_or_default().trim_matches([' ', '\t']);
    if name.eq_ignore_ascii_case("application/json") {
        Some(Form::Plain)
    } else if name.eq_ignore_ascii_case("application/token-introspection+jwt") {
        Some(Form::Signed)
    } else {
        None
    }
}

fn parse(body: &[u8]) -> Result<Map<String, Value>, NotVouched> {
    parse_object(body, Bounds::TOKEN).map_err(|_| SILENT)
}

/// What a signed answer wraps, once it is proved to be this issuer's answer to us.
fn parse_signed(
    body: &[u8],
    issuer: &Issuer,
    introspection: &IntrospectionConfig,
    now: Now,
) -> Result<Map<String, Value>, NotVouched> {
    let config = issuer.config();
    let answer = Unverified::parse(body, MAX_BODY_BYTES).map_err(|_| SILENT)?;
    if answer.header().typ.as_deref() != Some(SIGNED) || !config.algorithms.contains(&answer.header().algorithm) {
        return Err(SILENT);
    }
    let verified = verify_signature(answer, &issuer.keys(), now.wall).map_err(|reason| match reason {
        Reason::KeyUnknown if issuer.is_remote() => NotVouched::KeysNeeded,
        _ => SILENT,
    })?;
    if !issuer.has_keys(now) {
        return Err(NotVouched::KeysNeeded);
    }
    let mut outer = parse(verified.payload())?;
    let issued_at = outer.get("iat").and_then(|value| NumericDate::parse(value).ok());
    let current = issued_at.is_some_and(|date| date.wall() <= now.wall.plus(config.leeway_ms));
    let theirs = outer.get("iss").and_then(Value::as_str) == Some(&config.issuer);
    if !theirs || !current || !names_us(outer.get("aud"), &config.audience, introspection) {
        return Err(SILENT);
    }
    match outer.remove("token_introspection") {
        Some(Value::Object(members)) => Ok(members),
        _ => Err(SILENT),
    }
}

/// Whether an answer is for us: as the resource that the tokens name, or as the client that asked.
fn names_us(audience: Option<&Value>, ours: &[String], introspection: &IntrospectionConfig) -> bool {
    let client = match &introspection.client {
        ClientAuthentication::Basic { id, .. } | ClientAuthentication::Post { id, .. } => Some(id),
        ClientAuthentication::Bearer { .. } => None,
    };
    let is_us = |name: &str| ours.iter().chain(client).any(|our| our == name);
    match audience {
        Some(Value::String(name)) => is_us(name),
        Some(Value::Array(names)) => {
            names.iter().all(Value::is_string) && names.iter().filter_map(Value::as_str).any(is_us)
        }
        _ => false,
    }
}

/// A token that is bound to a key, or is no access token at all, is active as well.
fn require_bearer(members: &Map<String, Value>) -> Result<(), Reason> {
    match members.get("token_type") {
        None => Ok(()),
        Some(Value::String(name))
            if ["bearer", "access_token"].iter().any(|taken| name.eq_ignore_ascii_case(taken)) =>
        {
            Ok(())
        }
        Some(Value::String(name)) if ["dpop", "pop"].iter().any(|bound| name.eq_ignore_ascii_case(bound)) => {
            Err(Reason::TokenBound)
        }
        Some(_) => Err(Reason::TokenType),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{MAX_BODY_BYTES, NotVouched, SILENT, judge_response};
    use crate::config::{ClientAuthentication, IntrospectionConfig, IssuerConfig, KeysConfig, RemoteKeysConfig};
    use crate::decision::Reason;
    use crate::keys::Issuers;
    use crate::lookup::HttpResponse;
    use crate::secret::Secret;
    use crate::time::{Now, WallTime};
    use crate::token::Algorithm;
    use crate::token::facts::Facts;
    use crate::token::tests::{issuer, signed};

    const NOW: u64 = 1_800_000_000;
    const PLAIN: &str = "application/json";
    const SIGNED: &str = "application/token-introspection+jwt";

    fn opaque() -> IssuerConfig {
        let client = ClientAuthentication::Basic { id: "us".to_owned(), secret: Secret::new(b"s".to_vec()) };
        let introspection = IntrospectionConfig::new("https://id.example/introspect", client);
        IssuerConfig { opaque: true, introspection: Some(introspection), ..issuer() }
    }

    fn response(content_type: &str, body: impl Into<Vec<u8>>) -> HttpResponse {
        let content_type = Some(content_type.to_owned());
        HttpResponse { status: 200, content_type, retry_after_ms: None, body: body.into() }
    }

    fn judge_as(config: IssuerConfig, response: &HttpResponse) -> Result<Facts, NotVouched> {
        let issuers = Issuers::from_config(&[config]).unwrap();
        judge_response(response, issuers.get(0).unwrap(), Now::new(NOW * 1000, 1_000))
    }

    fn judge(content_type: &str, body: impl Into<Vec<u8>>) -> Result<Facts, NotVouched> {
        judge_as(opaque(), &response(content_type, body))
    }

    fn active() -> Value {
        json!({"active": true, "sub": "ann", "iss": "https://id.example/", "aud": "urn:ws", "exp": NOW + 600,
            "iat": NOW - 60, "scope": "b a", "client_id": "c1", "token_type": "Bearer"})
    }

    /// [`active`] with members replaced; a JSON null removes, the string "NULL" stands for null.
    fn changed(mut base: Value, members: Value) -> Value {
        let map = base.as_object_mut().unwrap();
        for (name, value) in members.as_object().unwrap() {
            match value.as_str() {
                _ if value.is_null() => map.remove(name),
                Some("NULL") => map.insert(name.clone(), Value::Null),
                _ => map.insert(name.clone(), value.clone()),
            };
        }
        base
    }

    fn judge_members(members: Value) -> Result<(), NotVouched> {
        judge(PLAIN, changed(active(), members).to_string()).map(|_| ())
    }

    const fn refused(reason: Reason) -> Result<(), NotVouched> {
        Err(NotVouched::Refused(reason))
    }

    #[test]
    fn an_active_answer_states_facts_and_names_of_its_own_are_no_matter() {
        let members = json!({"jti": "t", "sid": "s", "tenant": "acme", "username": "ann@example.com"});
        let facts = judge(PLAIN, changed(active(), members).to_string()).unwrap();
        assert_eq!((&*facts.issuer, &*facts.subject), ("https://id.example/", "ann"));
        let texts = [&facts.token_id, &facts.session_id, &facts.client_id, &facts.tenant];
        assert_eq!(texts.map(|text| text.as_deref()), [Some("t"), Some("s"), Some("c1"), Some("acme")]);
        assert_eq!((facts.issued_at, facts.expiry), (Some(NOW - 60), Some(WallTime::from_secs(NOW + 600))));
        assert_eq!(facts.permissions.iter().map(|text| &**text).collect::<Vec<_>>(), ["a", "b"]);
        let facts = judge(PLAIN, r#" {"active":true,"sub":"ann"} "#).unwrap();
        assert_eq!((facts.expiry, facts.issued_at, facts.permissions.len()), (None, None, 0));
    }

    #[test]
    fn only_the_two_booleans_are_words() {
        assert_eq!(judge_members(json!({"active": false})), refused(Reason::TokenInactive));
        assert_eq!(judge(PLAIN, r#"{"active":false}"#).err(), Some(NotVouched::Refused(Reason::TokenInactive)));
        for value in [json!("true"), json!("false"), json!(1), json!(0), json!([true]), json!({}), json!("NULL")] {
            assert_eq!(judge_members(json!({ "active": value })), Err(SILENT), "{value}");
        }
        assert_eq!(judge_members(json!({"active": null, "Active": true, "active ": true})), Err(SILENT), "absent");
    }

    #[test]
    fn a_body_is_one_strict_json_object_or_silence() {
        let good = active().to_string();
        let long = |pad: usize| changed(active(), json!({"pad": "x".repeat(pad)})).to_string();
        let fits = MAX_BODY_BYTES - long(0).len();
        assert!(judge(PLAIN, long(fits)).is_ok());
        let deep =
            |depth: usize| format!(r#"{{"active":true,"sub":"a","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(judge(PLAIN, deep(31)).is_ok());
        for body in [
            String::new(),
            " ".to_owned(),
            "null".to_owned(),
            "true".to_owned(),
            "\"active\"".to_owned(),
            format!("[{good}]"),
            format!("\u{feff}{good}"),
            format!("{good}{good}"),
            format!("{good}x"),
            format!("{good},"),
            good.replace("true", "TRUE"),
            good.replace('"', "'"),
            good.replacen('{', r#"{"active":false,"#, 1),
            good.replacen('{', r#"{"\u0061ctive":false,"#, 1),
            good.replacen('{', r#"{"x":{"y":1,"y":2},"#, 1),
            good.replacen('}', ",}", 1),
            good.replacen('{', "{/**/", 1),
            good.strip_suffix('}').unwrap().to_owned(),
            "<html>login</html>".to_owned(),
            long(fits + 1),
            deep(32),
            format!(r#"{{"active":true,"x":{}"#, "[".repeat(20_000)),
        ] {
            assert_eq!(judge(PLAIN, body.as_str()).err(), Some(SILENT), "{body:.80}");
        }
        let wide: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(judge("application/json; charset=utf-16", wide).err(), Some(SILENT));
        let mut broken = good.clone().into_bytes();
        broken[good.find("ann").unwrap()] = 0xff;
        assert_eq!(judge(PLAIN, broken).err(), Some(SILENT));
    }

    #[test]
    fn the_media_type_is_json_whatever_its_parameters() {
        let good = active().to_string();
        for taken in [
            "application/json",
            "application/json;charset=UTF-8",
            "application/json ; charset=\"utf-8\"",
            "Application/JSON; x=1",
            " application/json",
        ] {
            assert!(judge(taken, good.as_str()).is_ok(), "{taken}");
        }
        for other in [
            "",
            ";",
            "text/html",
            "text/json",
            "application/jsonp",
            "application/json-seq",
            "application/problem+json",
            "application/jwt",
            "application/jose+json",
            "text/html; application/json",
            "application/json, text/html",
            "application/json text/html",
            "application /json",
            SIGNED,
        ] {
            assert_eq!(judge(other, good.as_str()).err(), Some(SILENT), "{other}");
        }
        let unnamed = HttpResponse { content_type: None, ..response("", good) };
        assert_eq!(judge_as(opaque(), &unnamed).err(), Some(SILENT));
    }

    #[test]
    fn only_status_200_speaks_and_401_and_403_are_about_us() {
        let status = |status: u16| {
            let good = response(PLAIN, active().to_string());
            judge_as(opaque(), &HttpResponse { status, retry_after_ms: Some(7), ..good }).map(|_| ())
        };
        assert_eq!(status(200), Ok(()));
        for code in [401, 403] {
            assert_eq!(status(code), Err(NotVouched::CredentialsRejected));
        }
        for code in
            [0, 100, 201, 202, 203, 204, 206, 300, 301, 302, 304, 307, 308, 400, 404, 407, 429, 500, 502, 503, 999]
        {
            assert_eq!(status(code), Err(NotVouched::Silent { retry_after_ms: Some(7) }), "{code}");
        }
    }

    #[test]
    fn what_the_issuer_calls_active_must_still_be_ours_and_current() {
        use Reason::{
            AudienceMismatch, ClaimInvalid, IssuerMismatch, SubjectInvalid, TokenBound, TokenExpired,
            TokenIssuedInFuture, TokenLifetime, TokenNotYetValid, TokenType,
        };
        for (members, reason) in [
            (json!({"iss": "https://id.example"}), IssuerMismatch),
            (json!({"iss": ["https://id.example/"]}), ClaimInvalid),
            (json!({"iss": "NULL"}), ClaimInvalid),
            (json!({"aud": "urn:x"}), AudienceMismatch),
            (json!({"aud": "us"}), AudienceMismatch),
            (json!({"aud": ["urn:x"]}), AudienceMismatch),
            (json!({"aud": []}), ClaimInvalid),
            (json!({"aud": ["urn:ws", 1]}), ClaimInvalid),
            (json!({"aud": "NULL"}), ClaimInvalid),
            (json!({"sub": null}), SubjectInvalid),
            (json!({"sub": ""}), SubjectInvalid),
            (json!({"sub": 7}), SubjectInvalid),
            (json!({"sub": "a\nb"}), SubjectInvalid),
            (json!({"exp": NOW}), TokenExpired),
            (json!({"exp": 0, "iat": null}), TokenExpired),
            (json!({"exp": (NOW + 600).to_string()}), ClaimInvalid),
            (json!({"exp": "NULL"}), ClaimInvalid),
            (json!({"exp": -1, "iat": null}), TokenExpired),
            (json!({"exp": NOW + 90_000}), TokenLifetime),
            (json!({"nbf": NOW + 31}), TokenNotYetValid),
            (json!({"nbf": "0"}), ClaimInvalid),
            (json!({"iat": NOW + 31}), TokenIssuedInFuture),
            (json!({"iat": "NULL"}), ClaimInvalid),
            (json!({"cnf": {"jkt": "x"}}), TokenBound),
            (json!({"cnf": "NULL"}), TokenBound),
            (json!({"token_type": "DPoP"}), TokenBound),
            (json!({"token_type": "refresh_token"}), TokenType),
            (json!({"token_type": "id_token"}), TokenType),
            (json!({"token_type": "Bearer "}), TokenType),
            (json!({"token_type": ""}), TokenType),
            (json!({"token_type": "NULL"}), TokenType),
            (json!({"token_type": ["Bearer"]}), TokenType),
            (json!({"jti": 7}), ClaimInvalid),
            (json!({"client_id": ""}), ClaimInvalid),
        ] {
            assert_eq!(judge_members(members.clone()), refused(reason), "{members}");
        }
        for members in [
            json!({"iss": null, "aud": null, "exp": null, "iat": null}),
            json!({"aud": ["x", "urn:other"]}),
            json!({"nbf": NOW + 30}),
            json!({"token_type": "bearer"}),
            json!({"token_type": "access_token"}),
            json!({"token_type": null}),
            json!({"scope": 7}),
        ] {
            assert_eq!(judge_members(members.clone()), Ok(()), "{members}");
        }
        let strict = IssuerConfig { required_claims: vec!["jti".to_owned()], ..opaque() };
        let outcome = judge_as(strict, &response(PLAIN, active().to_string()));
        assert_eq!(outcome.err(), Some(NotVouched::Refused(Reason::ClaimMissing)));
    }

    fn outer() -> Value {
        json!({"iss": "https://id.example/", "aud": "urn:ws", "iat": NOW - 1, "token_introspection": active()})
    }

    fn header() -> Value {
        json!({"alg": "HS256", "typ": "token-introspection+jwt"})
    }

    fn judge_signed(head: &Value, outer: &Value) -> Result<(), NotVouched> {
        judge(SIGNED, signed(head, &outer.to_string())).map(|_| ())
    }

    #[test]
    fn a_signed_answer_is_judged_by_what_it_wraps() {
        assert_eq!(judge_signed(&header(), &outer()), Ok(()));
        let wrapping = |members: Value| {
            let inner = changed(active(), members);
            judge_signed(&header(), &changed(outer(), json!({ "token_introspection": inner })))
        };
        assert_eq!(wrapping(json!({"active": false})), refused(Reason::TokenInactive));
        assert_eq!(wrapping(json!({"active": "true"})), Err(SILENT));
        assert_eq!(wrapping(json!({"aud": "urn:x"})), refused(Reason::AudienceMismatch));
        assert_eq!(wrapping(json!({"exp": NOW})), refused(Reason::TokenExpired));
        assert_eq!(wrapping(json!({"cnf": {}})), refused(Reason::TokenBound));
        // What stands beside it says nothing, neither good nor bad.
        let beside = json!({"active": false, "sub": "root", "exp": 1, "cnf": {}, "scope": "admin"});
        assert_eq!(judge_signed(&header(), &changed(outer(), beside)), Ok(()));
        let inside = changed(active(), json!({"sub": null}));
        let lifted = changed(outer(), json!({"sub": "root", "token_introspection": inside}));
        assert_eq!(judge_signed(&header(), &lifted), refused(Reason::SubjectInvalid));
    }

    #[test]
    fn a_signed_answer_is_this_issuers_answer_to_us() {
        for members in [
            json!({"iss": null}),
            json!({"iss": "https://id.example"}),
            json!({"iss": ["https://id.example/"]}),
            json!({"aud": null}),
            json!({"aud": "urn:x"}),
            json!({"aud": []}),
            json!({"aud": [["urn:ws"]]}),
            json!({"aud": ["urn:ws", 7]}),
            json!({"aud": {"urn:ws": 1}}),
            json!({"iat": null}),
            json!({"iat": "NULL"}),
            json!({"iat": (NOW - 1).to_string()}),
            json!({"iat": NOW + 31}),
            json!({"token_introspection": null}),
            json!({"token_introspection": "NULL"}),
            json!({"token_introspection": true}),
            json!({"token_introspection": [active()]}),
            json!({"token_introspection": active().to_string()}),
            json!({"token_introspection": null, "active": true, "sub": "ann"}),
        ] {
            assert_eq!(judge_signed(&header(), &changed(outer(), members.clone())), Err(SILENT), "{members}");
        }
        for members in [json!({"aud": "us"}), json!({"aud": ["x", "urn:other"]}), json!({"iat": NOW + 30})] {
            assert_eq!(judge_signed(&header(), &changed(outer(), members.clone())), Ok(()), "{members}");
        }
    }

    #[test]
    fn only_the_issuers_signature_over_the_right_type_counts() {
        for head in [
            json!({"alg": "HS256"}),
            json!({"alg": "HS256", "typ": "JWT"}),
            json!({"alg": "HS256", "typ": "at+jwt"}),
            json!({"alg": "HS256", "typ": "Token-Introspection+jwt"}),
            json!({"alg": "HS256", "typ": "application/token-introspection+jwt"}),
            json!({"alg": "none", "typ": "token-introspection+jwt"}),
            json!({"alg": "HS384", "typ": "token-introspection+jwt"}),
            json!({"alg": "HS256", "typ": "token-introspection+jwt", "crit": ["exp"]}),
            json!({"alg": "HS256", "typ": "token-introspection+jwt", "jwk": {}}),
        ] {
            assert_eq!(judge_signed(&head, &outer()), Err(SILENT), "{head}");
        }
        let good = signed(&header(), &outer().to_string());
        let good = std::str::from_utf8(&good).unwrap();
        assert!(judge(SIGNED, good).is_ok());
        let (input, signature) = good.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { "B" } else { "A" };
        let rest: String = signature.chars().skip(1).collect();
        for body in [
            format!("{input}."),
            input.to_owned(),
            format!("{input}.{other}{rest}"),
            format!("{good}\n"),
            format!("\"{good}\""),
            String::new(),
            active().to_string(),
            format!("{good}.{}", "A".repeat(MAX_BODY_BYTES)),
        ] {
            assert_eq!(judge(SIGNED, body.as_str()).err(), Some(SILENT), "{body:.60}");
        }
        let twice = outer().to_string().replacen('{', r#"{"iss":"https://id.example/","#, 1);
        assert_eq!(judge(SIGNED, signed(&header(), &twice)).err(), Some(SILENT));
        assert_eq!(judge(SIGNED, signed(&header(), "[]")).err(), Some(SILENT));
        assert_eq!(judge(PLAIN, good).err(), Some(SILENT), "the media type says which it is");
        let wrong = IssuerConfig { algorithms: vec![Algorithm::RS256], keys: KeysConfig::None, ..opaque() };
        assert_eq!(judge_as(wrong, &response(SIGNED, good)).err(), Some(SILENT));
    }

    #[test]
    fn where_answers_must_be_signed_others_are_silence() {
        let mut config = opaque();
        config.introspection.as_mut().unwrap().signed = true;
        assert_eq!(judge_as(config.clone(), &response(PLAIN, active().to_string())).err(), Some(SILENT));
        assert_eq!(judge_as(config.clone(), &response(PLAIN, r#"{"active":false}"#)).err(), Some(SILENT));
        let good = signed(&header(), &outer().to_string());
        assert!(judge_as(config, &response(SIGNED, good)).is_ok());
    }

    #[test]
    fn a_key_that_is_not_there_yet_is_asked_for() {
        let good = response(SIGNED, signed(&header(), &outer().to_string()));
        let remote =
            IssuerConfig { keys: KeysConfig::Remote(RemoteKeysConfig::new("https://id.example/jwks")), ..opaque() };
        assert_eq!(judge_as(remote, &good).err(), Some(NotVouched::KeysNeeded));
        let none = IssuerConfig { keys: KeysConfig::None, ..opaque() };
        assert_eq!(judge_as(none, &good).err(), Some(SILENT));
    }

    #[test]
    fn a_bearer_client_has_no_name_to_be_answered_to() {
        let mut config = opaque();
        let token = Secret::new(b"t".to_vec());
        config.introspection.as_mut().unwrap().client = ClientAuthentication::Bearer { token };
        let to_us = changed(outer(), json!({"aud": "us"}));
        let outcome = judge_as(config, &response(SIGNED, signed(&header(), &to_us.to_string())));
        assert_eq!(outcome.err(), Some(SILENT));
    }

    proptest::proptest! {
        #[test]
        fn any_response_survives(
            status in 190u16..210, signed: bool, body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        ) {
            let response = HttpResponse { status, ..response(if signed { SIGNED } else { PLAIN }, body) };
            proptest::prop_assert!(judge_as(opaque(), &response).is_err());
        }
    }
}
