//! This file answers: can this issuer be trusted with what it was given?

use std::collections::BTreeSet;

use super::super::material::MAX_MATERIAL;
use super::super::place::{Place, shown};
use super::super::problem::Problem;
use super::super::types::{Config, IssuerConfig, KeysConfig, PublicKeyConfig, SecretKeyConfig};
use super::sources::{require_introspection, require_source_url};
use crate::token::Algorithm;

const MAX_ISSUERS: usize = 64;
const MAX_KEYS: usize = 256;
const MAX_NAMES: usize = 64;
/// The last second of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

pub(crate) fn require_issuers(config: &Config) -> Result<(), Problem> {
    if config.issuers.is_empty() && config.sessions.is_none() {
        return Err(Problem::new(Place::default(), super::NOBODY_VOUCHES));
    }
    if config.issuers.len() > MAX_ISSUERS {
        return Err(Problem::new(Place::top("issuer"), format_args!("at most {MAX_ISSUERS} can be configured")));
    }
    let mut names = BTreeSet::new();
    let mut opaque = false;
    for (index, issuer) in config.issuers.iter().enumerate() {
        let place = Place::top("issuer").index(index);
        require_name(place.key("issuer"), &issuer.issuer, 1024)?;
        if !names.insert(issuer.issuer.as_str()) {
            let what = "another issuer has this name: whose keys would count for its tokens?";
            return Err(Problem::new(place.key("issuer"), what));
        }
        if issuer.opaque && std::mem::replace(&mut opaque, true) {
            let what = "another issuer is opaque: a token that is no JWT does not say which of them to ask";
            return Err(Problem::new(place.key("opaque"), what));
        }
        require_issuer(&place, issuer)?;
    }
    if let Some(sessions) = &config.sessions {
        let place = Place::top("sessions").key("issuer");
        require_name(place.clone(), &sessions.issuer, 1024)?;
        if names.contains(sessions.issuer.as_str()) {
            let what = "an [[issuer]] has this name: a token could then pass for a session of the same subject";
            return Err(Problem::new(place, what));
        }
    }
    Ok(())
}

fn require_issuer(place: &Place, issuer: &IssuerConfig) -> Result<(), Problem> {
    if issuer.audience.is_empty() {
        let what = "must name at least one audience: \
                    without it a token made for another service of this issuer would be accepted here";
        return Err(Problem::new(place.key("audience"), what));
    }
    require_names(place, "audience", &issuer.audience, 1024)?;
    require_names(place, "permissions_claims", &issuer.permissions_claims, 128)?;
    require_names(place, "required_claims", &issuer.required_claims, 128)?;
    require_name(place.key("tenant_claim"), &issuer.tenant_claim, 128)?;
    if let Some(typ) = &issuer.typ {
        require_name(place.key("typ"), typ, 128)?;
    }
    require_algorithms(place, issuer)?;
    require_keys(&place.key("keys"), issuer)?;
    require_introspection(place, issuer)
}

fn require_algorithms(place: &Place, issuer: &IssuerConfig) -> Result<(), Problem> {
    let place = place.key("algorithms");
    let keyless = matches!(issuer.keys, KeysConfig::None);
    if keyless && !issuer.algorithms.is_empty() {
        return Err(Problem::new(place, "names algorithms, but the issuer has no `keys` to verify them with"));
    }
    if !keyless && issuer.algorithms.is_empty() {
        let what = "must name at least one algorithm: a token must not choose how it is verified";
        return Err(Problem::new(place, what));
    }
    let hmac = issuer.algorithms.iter().any(|algorithm| hash_bytes(*algorithm).is_some());
    let public = issuer.algorithms.iter().any(|algorithm| hash_bytes(*algorithm).is_none());
    if hmac && public {
        let what = "mixes HMAC with public-key algorithms: \
                    whoever knows the public key could then sign tokens with it as an HMAC secret";
        return Err(Problem::new(place, what));
    }
    Ok(())
}

fn require_keys(place: &Place, issuer: &IssuerConfig) -> Result<(), Problem> {
    let hmac = issuer.algorithms.iter().any(|algorithm| hash_bytes(*algorithm).is_some());
    let refuse = |key: &str, what: &str| Err(Problem::new(place.key(key), what));
    match &issuer.keys {
        KeysConfig::None if issuer.opaque => Ok(()),
        KeysConfig::None => Err(Problem::new(
            place.clone(),
            "is missing: an issuer without keys can only take opaque tokens, with `opaque = true`",
        )),
        KeysConfig::Secrets(_) if !hmac => {
            Err(Problem::new(place.clone(), "holds a secret, which no public-key algorithm can use"))
        }
        KeysConfig::Secrets(secrets) => require_secrets(place, issuer, secrets),
        KeysConfig::Public(_) if hmac => Err(Problem::new(
            place.clone(),
            "holds a public key, which everybody knows: it can never be the secret of an HMAC algorithm",
        )),
        KeysConfig::Public(keys) => require_public_keys(place, issuer, keys),
        KeysConfig::Remote(remote) => {
            let key = if remote.discovery { "discovery_url" } else { "jwks_url" };
            if hmac {
                let what = "is fetched, and a secret that can be fetched is none: use `secret` for HMAC algorithms";
                return refuse(key, what);
            }
            require_source_url(place.key(key), &remote.url)
        }
        KeysConfig::Jwks { allow_secrets: false, .. } if hmac => refuse(
            "allow_secrets",
            "HMAC algorithms need a secret: write `allow_secrets = true` if this key set holds one and is yours alone",
        ),
        KeysConfig::Jwks { document, .. } => require_key_set(place, document),
    }
}

fn require_secrets(place: &Place, issuer: &IssuerConfig, secrets: &[SecretKeyConfig]) -> Result<(), Problem> {
    if secrets.is_empty() || secrets.len() > 2 {
        let what = "takes one secret, or two: the current one, then the previous one";
        return Err(Problem::new(place.key("secrets"), what));
    }
    let least = issuer.algorithms.iter().filter_map(|algorithm| hash_bytes(*algorithm)).max().unwrap_or(64);
    for (index, key) in secrets.iter().enumerate() {
        // A single secret is written without a list; both forms point at the table of keys.
        let at = if secrets.len() == 1 { place.clone() } else { place.key("secrets").index(index) };
        let length = key.secret.expose().len();
        if length < least {
            let what = format!(
                "the secret has {length} bytes and needs {least}, as many as the longest hash of its algorithms \
                 (RFC 7518 section 3.2): a shorter one can be guessed"
            );
            return Err(Problem::new(at, what));
        }
        if key.secret.expose().starts_with(b"-----BEGIN") {
            let what = "the secret is a PEM file: a public key is known to everybody and can be no secret";
            return Err(Problem::new(at, what));
        }
        require_key_facts(&at, key.key_id.as_deref(), key.not_after)?;
    }
    require_distinct(place, "secrets", secrets.iter().map(|key| key.key_id.as_deref()))
}

fn require_public_keys(place: &Place, issuer: &IssuerConfig, keys: &[PublicKeyConfig]) -> Result<(), Problem> {
    if keys.is_empty() || keys.len() > MAX_KEYS {
        return Err(Problem::new(place.key("public_keys"), format_args!("takes 1 to {MAX_KEYS} keys")));
    }
    for (index, key) in keys.iter().enumerate() {
        let at = if keys.len() == 1 { place.clone() } else { place.key("public_keys").index(index) };
        if key.material.is_empty() {
            return Err(Problem::new(at, "the public key is empty"));
        }
        if key.material.windows(11).any(|window| window == b"PRIVATE KEY") {
            let what = "this is a private key: give the public one, and treat this one as spent if it was shared";
            return Err(Problem::new(at, what));
        }
        if key.algorithm.is_some_and(|algorithm| !issuer.algorithms.contains(&algorithm)) {
            return Err(Problem::new(at.key("algorithm"), "is not one of the issuer's `algorithms`"));
        }
        require_key_facts(&at, key.key_id.as_deref(), key.not_after)?;
    }
    require_distinct(place, "public_keys", keys.iter().map(|key| key.key_id.as_deref()))
}

fn require_key_set(place: &Place, document: &[u8]) -> Result<(), Problem> {
    let refuse = |what: &str| Err(Problem::new(place.clone(), what));
    if document.len() > MAX_MATERIAL {
        return refuse("the key set is longer than 512 KiB");
    }
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(document) else {
        return refuse("the key set is no JSON");
    };
    match json.get("keys").and_then(|keys| keys.as_array()) {
        None => refuse("the key set is no object with a list of `keys` (RFC 7517 section 5)"),
        Some(keys) if keys.is_empty() || keys.len() > MAX_KEYS => refuse("the key set must hold 1 to 256 keys"),
        Some(_) => Ok(()),
    }
}

fn require_key_facts(place: &Place, key_id: Option<&str>, not_after: Option<u64>) -> Result<(), Problem> {
    if let Some(key_id) = key_id {
        require_name(place.key("kid"), key_id, 256)?;
    }
    if not_after.is_some_and(|second| second > LAST_SECOND) {
        return Err(Problem::new(place.key("not_after"), "is past the year 9999: it is written in seconds since 1970"));
    }
    Ok(())
}

fn require_distinct<'a>(
    place: &Place,
    list: &str,
    key_ids: impl Iterator<Item = Option<&'a str>>,
) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for (index, key_id) in key_ids.enumerate() {
        if key_id.is_some_and(|key_id| !seen.insert(key_id)) {
            let what = "another key of this issuer has this id: a token must name exactly one";
            return Err(Problem::new(place.key(list).index(index).key("kid"), what));
        }
    }
    Ok(())
}

pub(crate) fn require_names(place: &Place, key: &str, names: &[String], most: usize) -> Result<(), Problem> {
    if names.len() > MAX_NAMES {
        return Err(Problem::new(place.key(key), format_args!("takes at most {MAX_NAMES} names")));
    }
    names.iter().enumerate().try_for_each(|(index, name)| require_name(place.key(key).index(index), name, most))
}

/// A name that tokens can carry: not empty, bounded, no control characters.
pub(crate) fn require_name(place: Place, name: &str, most: usize) -> Result<(), Problem> {
    if name.is_empty() || name.len() > most {
        return Err(Problem::new(place, format_args!("must have 1 to {most} bytes, but has {}", name.len())));
    }
    if name.chars().any(char::is_control) {
        return Err(Problem::new(place, format_args!("`{}` holds a control character", shown(name))));
    }
    Ok(())
}

/// How many bytes the hash of an HMAC algorithm has; `None` for public-key algorithms.
fn hash_bytes(algorithm: Algorithm) -> Option<usize> {
    match algorithm {
        Algorithm::HS256 => Some(32),
        Algorithm::HS384 => Some(48),
        Algorithm::HS512 => Some(64),
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512
        | Algorithm::ES256
        | Algorithm::ES384
        | Algorithm::ES512
        | Algorithm::Ed25519 => None,
    }
}
