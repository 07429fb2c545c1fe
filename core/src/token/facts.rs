//! This file answers: do these claims say what an access token for us must say?
//!
//! The same checks serve a token and an introspection answer; [`Presence`] says what each must contain.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::numeric_date::NumericDate;
use super::permissions::parse_permissions;
use crate::config::{CredentialSource, IssuerConfig};
use crate::decision::Reason;
use crate::identity::Identity;
use crate::time::WallTime;

/// Longest identity text in bytes: subject, token id, session, client, tenant.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Which of the facts that identify a token must be there. Those that are there are always checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presence {
    pub(crate) issuer: bool,
    pub(crate) audience: bool,
    pub(crate) expiry: bool,
}

impl Presence {
    /// A token speaks for itself and must say everything.
    pub(crate) const TOKEN: Presence = Presence { issuer: true, audience: true, expiry: true };
    /// An answer of the issuer itself: whom we asked, and for whom, is known (RFC 7662 section 2.2).
    pub(crate) const INTROSPECTION: Presence = Presence { issuer: false, audience: false, expiry: false };
}

/// What claims state, once every check has passed.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) issuer: Arc<str>,
    pub(crate) subject: Arc<str>,
    pub(crate) token_id: Option<Arc<str>>,
    pub(crate) session_id: Option<Arc<str>>,
    pub(crate) client_id: Option<Arc<str>>,
    pub(crate) tenant: Option<Arc<str>>,
    /// Whole seconds, rounded down.
    pub(crate) issued_at: Option<u64>,
    /// Without leeway.
    pub(crate) expiry: Option<WallTime>,
    pub(crate) permissions: Vec<Arc<str>>,
    pub(crate) claims: Map<String, Value>,
}

impl Facts {
    /// The identity that these facts prove, until `expiry`.
    pub(crate) fn into_identity(
        self,
        source: CredentialSource,
        expiry: WallTime,
        key_id: Option<Arc<str>>,
    ) -> Identity {
        Identity {
            issuer: self.issuer,
            subject: self.subject,
            source,
            token_id: self.token_id,
            session_id: self.session_id,
            client_id: self.client_id,
            tenant: self.tenant,
            // A bound token is refused until its proof can be checked.
            confirmation: None,
            key_id,
            issued_at: self.issued_at,
            expiry,
            permissions: self.permissions,
            claims: self.claims,
        }
    }
}

/// Checks every claim that decides, in this order: whose it is and for whom, then when, then the rest; so that
/// "expired" is only ever said of a token that was ours.
///
/// # Refusals
///
/// - [`Reason::ClaimMissing`]: `iss`, `aud`, `exp` or a configured claim is absent.
/// - [`Reason::IssuerMismatch`], [`Reason::AudienceMismatch`]: not byte-equal to what is configured.
/// - [`Reason::TokenBound`]: `cnf` is present (RFC 9449 section 7.1, RFC 8705 section 3).
/// - [`Reason::SubjectInvalid`]: `sub` is absent, empty, over 1 KiB, no string, or holds control characters.
/// - [`Reason::TokenExpired`], [`Reason::TokenNotYetValid`], [`Reason::TokenIssuedInFuture`],
///   [`Reason::TokenLifetime`]: by `wall`, with the issuer's leeways.
/// - [`Reason::ClaimInvalid`]: a claim of the wrong type or an impossible value; never treated as absent.
pub(crate) fn require_facts(
    claims: Map<String, Value>,
    issuer: &IssuerConfig,
    presence: Presence,
    wall: WallTime,
) -> Result<Facts, Reason> {
    require_issuer(&claims, issuer, presence.issuer)?;
    require_audience(&claims, issuer, presence.audience)?;
    if claims.contains_key("cnf") {
        return Err(Reason::TokenBound);
    }
    let subject = claims.get("sub").and_then(clean_text).ok_or(Reason::SubjectInvalid)?;
    let (expiry, issued_at) = require_times(&claims, issuer, presence.expiry, wall)?;
    for name in &issuer.required_claims {
        if claims.get(name).is_none_or(Value::is_null) {
            return Err(Reason::ClaimMissing);
        }
    }
    Ok(Facts {
        issuer: Arc::from(issuer.issuer.as_str()),
        subject,
        token_id: optional_text(&claims, "jti")?,
        session_id: optional_text(&claims, "sid")?,
        client_id: optional_text(&claims, "client_id")?,
        tenant: optional_text(&claims, &issuer.tenant_claim)?,
        issued_at: issued_at.map(|date| date.wall().as_secs()),
        expiry: expiry.map(NumericDate::wall),
        permissions: parse_permissions(&claims, issuer)?,
        claims,
    })
}

fn require_issuer(claims: &Map<String, Value>, issuer: &IssuerConfig, required: bool) -> Result<(), Reason> {
    match claims.get("iss") {
        None if required => Err(Reason::ClaimMissing),
        None => Ok(()),
        Some(Value::String(text)) if *text == issuer.issuer => Ok(()),
        Some(Value::String(_)) => Err(Reason::IssuerMismatch),
        Some(_) => Err(Reason::ClaimInvalid),
    }
}

fn require_audience(claims: &Map<String, Value>, issuer: &IssuerConfig, required: bool) -> Result<(), Reason> {
    let named: Vec<&str> = match claims.get("aud") {
        None if required => return Err(Reason::ClaimMissing),
        None => return Ok(()),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) if !list.is_empty() => {
            list.iter().map(Value::as_str).collect::<Option<_>>().ok_or(Reason::ClaimInvalid)?
        }
        Some(_) => return Err(Reason::ClaimInvalid),
    };
    let ours = named.iter().any(|text| issuer.audience.iter().any(|audience| audience == text));
    if ours { Ok(()) } else { Err(Reason::AudienceMismatch) }
}

fn require_times(
    claims: &Map<String, Value>,
    issuer: &IssuerConfig,
    expiry_required: bool,
    wall: WallTime,
) -> Result<(Option<NumericDate>, Option<NumericDate>), Reason> {
    let date = |name: &str| claims.get(name).map(NumericDate::parse).transpose();
    let (expiry, not_before, issued_at) = (date("exp")?, date("nbf")?, date("iat")?);
    if expiry.is_none() && expiry_required {
        return Err(Reason::ClaimMissing);
    }
    // A life that ends before it begins: one of the two is not what it says.
    if expiry.is_some_and(|end| [not_before, issued_at].into_iter().flatten().any(|start| end < start)) {
        return Err(Reason::ClaimInvalid);
    }
    if expiry.is_some_and(|end| wall >= end.wall().plus(issuer.expiry_leeway_ms)) {
        return Err(Reason::TokenExpired);
    }
    let latest = wall.plus(issuer.leeway_ms);
    if not_before.is_some_and(|start| start.wall() > latest) {
        return Err(Reason::TokenNotYetValid);
    }
    if issued_at.is_some_and(|start| start.wall() > latest) {
        return Err(Reason::TokenIssuedInFuture);
    }
    if let Some(end) = expiry {
        let lifetime = issued_at.map_or_else(|| end.wall().since(wall), |start| end.since(start));
        if lifetime > issuer.max_lifetime_ms {
            return Err(Reason::TokenLifetime);
        }
    }
    Ok((expiry, issued_at))
}

fn optional_text(claims: &Map<String, Value>, name: &str) -> Result<Option<Arc<str>>, Reason> {
    claims.get(name).map(|value| clean_text(value).ok_or(Reason::ClaimInvalid)).transpose()
}

/// A string of 1 byte to 1 KiB without control characters: what may become part of an identity, a log or a C string.
fn clean_text(value: &Value) -> Option<Arc<str>> {
    let text = value.as_str()?;
    let clean = (1..=MAX_TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    clean.then(|| Arc::from(text))
}
