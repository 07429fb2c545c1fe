//! This file answers: may these sources be asked, and told who we are?

use super::super::place::Place;
use super::super::problem::Problem;
use super::super::types::{ClientAuthentication, Config, IssuerConfig, KeysConfig, ProfileConfig};
use super::issuer::{require_name, require_names};
use super::origin::find_url_problem;
use crate::policy::Permission;

/// The secret of a key set is nowhere in its url, and no other scheme than https reaches beyond loopback.
pub(crate) fn require_source_url(place: Place, url: &str) -> Result<(), Problem> {
    find_url_problem(url).map_or(Ok(()), |what| Err(Problem::new(place, what)))
}

pub(crate) fn require_introspection(place: &Place, issuer: &IssuerConfig) -> Result<(), Problem> {
    let Some(introspection) = &issuer.introspection else { return Ok(()) };
    let place = place.key("introspection");
    if !issuer.opaque {
        let what = "asks about opaque tokens, which this issuer does not take: write `opaque = true`";
        return Err(Problem::new(place, what));
    }
    match (&introspection.url, &issuer.keys) {
        (Some(url), _) => require_source_url(place.key("url"), url)?,
        (None, KeysConfig::Remote(remote)) if remote.discovery => {}
        (None, _) => {
            return Err(Problem::new(place.key("url"), "is missing, and no `discovery_url` says where it is"));
        }
    }
    if introspection.signed && matches!(issuer.keys, KeysConfig::None | KeysConfig::Secrets(_)) {
        let what = "needs public keys of the issuer to verify its answers with";
        return Err(Problem::new(place.key("signed"), what));
    }
    match &introspection.client {
        ClientAuthentication::Basic { id, secret } | ClientAuthentication::Post { id, secret } => {
            require_name(place.key("client_id"), id, 1024)?;
            // RFC 6749 appendix A.2; it travels encoded.
            let fits = is_printable(secret.expose(), |byte| byte.is_ascii_graphic() || *byte == b' ');
            let what = "is not 1 to 4,096 bytes of printable ASCII";
            if fits { Ok(()) } else { Err(Problem::new(place.key("client_secret"), what)) }
        }
        ClientAuthentication::Bearer { token } => require_bearer(place.key("bearer"), token.expose()),
    }
}

pub(crate) fn require_sources(config: &Config) -> Result<(), Problem> {
    if let Some(profile) = &config.profile {
        require_profile(&Place::top("profile"), profile, &config.issuers)?;
    }
    let place = Place::top("lookups").key("proxy");
    match &config.lookups.proxy {
        Some(proxy) if !proxy.starts_with("http://") => {
            Err(Problem::new(place, "is no url such as http://proxy.example.com:3128"))
        }
        Some(proxy) if find_url_problem(&proxy.replacen("http://", "https://", 1)).is_some() => {
            Err(Problem::new(place, "is no host with a port, without user and password"))
        }
        _ => Ok(()),
    }
}

/// Claims that say who somebody is, until when, and what for: no profile has a say in them.
const VERIFIED_ONLY: [&str; 11] = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "sid", "scope", "client_id", "cnf"];

fn require_profile(place: &Place, profile: &ProfileConfig, issuers: &[IssuerConfig]) -> Result<(), Problem> {
    if let Some(url) = &profile.url {
        let place = place.key("url");
        if !url.contains("{subject}") {
            return Err(Problem::new(place, "does not say whom it is about: write `{subject}` where the subject goes"));
        }
        let host = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next()).unwrap_or_default();
        if host.contains('{') {
            return Err(Problem::new(place, "may name the subject after the host only"));
        }
        let url = url.replace("{subject}", "s").replace("{issuer}", "i");
        if url.contains(['{', '}']) {
            return Err(Problem::new(place, "knows `{subject}` and `{issuer}`, and nothing else in braces"));
        }
        require_source_url(place, &url)?;
    }
    if let Some(bearer) = &profile.bearer {
        if profile.url.is_none() {
            return Err(Problem::new(place.key("bearer"), "belongs beside `url`"));
        }
        require_bearer(place.key("bearer"), bearer.expose())?;
    }
    require_name(place.key("permissions_member"), &profile.permissions_member, 128)?;
    require_names(place, "permissions", &profile.permissions, 1024)?;
    require_names(place, "attributes", &profile.attributes, 128)?;
    for (index, name) in profile.attributes.iter().enumerate() {
        let verified = VERIFIED_ONLY.contains(&name.as_str())
            || issuers.iter().any(|issuer| issuer.tenant_claim == *name || issuer.permissions_claims.contains(name));
        if verified {
            let place = place.key("attributes").index(index);
            return Err(Problem::new(place, "is said by a verified credential only, never by a profile"));
        }
    }
    for (index, pattern) in profile.permissions.iter().enumerate() {
        if matches!(pattern.as_str(), "*" | "**") || Permission::parse(pattern.as_str()).is_err() {
            let place = place.key("permissions").index(index);
            return Err(Problem::new(place, "is no permission pattern such as `listing:*:read`"));
        }
    }
    Ok(())
}

fn is_printable(secret: &[u8], allowed: impl Fn(&u8) -> bool) -> bool {
    (1..=4096).contains(&secret.len()) && secret.iter().all(allowed)
}

/// It travels in a header field as it is.
fn require_bearer(place: Place, token: &[u8]) -> Result<(), Problem> {
    if is_printable(token, u8::is_ascii_graphic) {
        Ok(())
    } else {
        Err(Problem::new(place, "is not 1 to 4,096 bytes of printable ASCII without spaces"))
    }
}
