//! This file answers: what does this answer of an introspection endpoint say about the token?
//!
//! Exactly two things are words: `active` that is the boolean true, with claims that pass like those of a token, and
//! `active` that is the boolean false. Everything else is silence, and silence is never a no and never a yes.

use serde_json::{Map, Value};

use super::HttpResponse;
use crate::config::{ClientAuthentication, IntrospectionConfig};
use crate::decision::Reason;
use crate::keys::Issuer;
use crate::time::WallTime;
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
    /// It is signed with a key that is not in the issuer's set, which can be fetched anew.
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
pub(crate) fn judge_response(response: &HttpResponse, issuer: &Issuer, wall: WallTime) -> Result<Facts, NotVouched> {
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
        Some(Form::Signed) => parse_signed(&response.body, issuer, introspection, wall)?,
        Some(Form::Plain) if !introspection.signed => parse(&response.body)?,
        _ => return Err(SILENT),
    };
    match members.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Err(Reason::TokenInactive.into()),
        _ => return Err(SILENT),
    }
    require_bearer(&members)?;
    Ok(require_facts(members, issuer.config(), Presence::INTROSPECTION, wall)?)
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
    wall: WallTime,
) -> Result<Map<String, Value>, NotVouched> {
    let config = issuer.config();
    let answer = Unverified::parse(body, MAX_BODY_BYTES).map_err(|_| SILENT)?;
    if answer.header().typ.as_deref() != Some(SIGNED) || !config.algorithms.contains(&answer.header().algorithm) {
        return Err(SILENT);
    }
    let verified = verify_signature(answer, &issuer.keys(), wall).map_err(|reason| match reason {
        Reason::KeyUnknown if issuer.is_remote() => NotVouched::KeysNeeded,
        _ => SILENT,
    })?;
    let mut outer = parse(verified.payload())?;
    let issued_at = outer.get("iat").and_then(|value| NumericDate::parse(value).ok());
    let current = issued_at.is_some_and(|date| date.wall() <= wall.plus(config.leeway_ms));
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
