//! This file answers: how are the sources read that are asked over HTTPS or at the host?

use super::fields::Fields;
use super::known;
use super::material::{self, SecretSource};
use super::place::Place;
use super::problem::Problem;
use super::tree::Value;
use super::types::{ClientAuthentication, IntrospectionConfig, LookupsConfig, ProfileConfig, TlsConfig};
use crate::secret::Secret;

#[derive(Clone, Copy)]
enum Method {
    Basic,
    Post,
    Bearer,
}

/// Reads `issuer.introspection`.
pub(crate) fn introspection(
    place: Place,
    value: &Value,
    source: &dyn SecretSource,
) -> Result<IntrospectionConfig, Problem> {
    let fields = Fields::open(place, value, &known::INTROSPECTION)?;
    let words = [("basic", Method::Basic), ("post", Method::Post), ("bearer", Method::Bearer)];
    let method = fields.word("method", &words)?.unwrap_or(Method::Basic);
    let beside: &[&str] = match method {
        Method::Bearer => &["client_id", "client_secret"],
        Method::Basic | Method::Post => &["bearer"],
    };
    if let Some(key) = beside.iter().find(|key| fields.has(key)) {
        return Err(fields.problem(key, "does not belong to this `method`"));
    }
    let client = match method {
        Method::Bearer => ClientAuthentication::Bearer { token: require_secret(&fields, "bearer", source)? },
        Method::Basic | Method::Post => {
            let Some(id) = fields.text("client_id")? else {
                return Err(fields.problem("client_id", "is missing: who we are at the introspection endpoint"));
            };
            let secret = require_secret(&fields, "client_secret", source)?;
            match method {
                Method::Post => ClientAuthentication::Post { id, secret },
                _ => ClientAuthentication::Basic { id, secret },
            }
        }
    };
    let default = IntrospectionConfig::new("", client);
    Ok(IntrospectionConfig {
        url: fields.text("url")?,
        cache_ms: fields.duration("cache")?.unwrap_or(default.cache_ms),
        negative_cache_ms: fields.duration("negative_cache")?.unwrap_or(default.negative_cache_ms),
        recheck_ms: fields.duration("recheck")?.unwrap_or(default.recheck_ms),
        signed: fields.flag("signed")?.unwrap_or(default.signed),
        client: default.client,
    })
}

/// Reads the `tls` of an issuer or a profile.
pub(crate) fn tls(fields: &Fields<'_>, source: &dyn SecretSource) -> Result<TlsConfig, Problem> {
    let Some(value) = fields.find("tls") else { return Ok(TlsConfig::default()) };
    let fields = Fields::open(fields.at("tls"), value, &known::TLS)?;
    let file = |key: &str| match fields.text(key)? {
        Some(path) => material::read_file(&fields.at(key), &path, source).map(|bytes| Some(bytes.to_vec())),
        None => Ok(None),
    };
    let authorities = file("ca_file")?;
    let client = match (file("certificate_file")?, fields.has("private_key")) {
        (Some(chain), true) => Some((chain, require_secret(&fields, "private_key", source)?)),
        (None, false) => None,
        (Some(_), false) => return Err(fields.problem("private_key", "is missing: the key of the certificate")),
        (None, true) => return Err(fields.problem("certificate_file", "is missing: the certificate of the key")),
    };
    Ok(TlsConfig { authorities, client })
}

/// Reads `[profile]`.
pub(crate) fn profile(place: Place, value: &Value, source: &dyn SecretSource) -> Result<ProfileConfig, Problem> {
    let fields = Fields::open(place, value, &known::PROFILE)?;
    let default = ProfileConfig::default();
    Ok(ProfileConfig {
        url: fields.text("url")?,
        bearer: if fields.has("bearer") { Some(require_secret(&fields, "bearer", source)?) } else { None },
        permissions_member: fields.text("permissions_member")?.unwrap_or(default.permissions_member),
        permissions: fields.texts("permissions")?.unwrap_or_default(),
        attributes: fields.texts("attributes")?.unwrap_or_default(),
        cache_ms: fields.duration("cache")?.unwrap_or(default.cache_ms),
        optional: fields.flag("optional")?.unwrap_or(default.optional),
        tls: tls(&fields, source)?,
    })
}

/// Reads `[lookups]`.
pub(crate) fn lookups(fields: &Fields<'_>) -> Result<LookupsConfig, Problem> {
    let default = LookupsConfig::default();
    Ok(LookupsConfig {
        by_host: fields.word("driver", &[("builtin", false), ("host", true)])?.unwrap_or(default.by_host),
        workers: fields.number("workers")?.unwrap_or(default.workers),
        queue: fields.number("queue")?.unwrap_or(default.queue),
        connect_ms: fields.duration("connect_timeout")?.unwrap_or(default.connect_ms),
        total_ms: fields.duration("timeout")?.unwrap_or(default.total_ms),
        breaker_failures: fields.number("breaker_failures")?.unwrap_or(default.breaker_failures),
        breaker_ms: fields.duration("breaker_open")?.unwrap_or(default.breaker_ms),
        proxy: fields.text("proxy")?,
        require_keys: fields.flag("require_keys")?.unwrap_or(default.require_keys),
    })
}

fn require_secret(fields: &Fields<'_>, key: &str, source: &dyn SecretSource) -> Result<Secret, Problem> {
    let place = fields.at(key);
    let Some(value) = fields.find(key) else { return Err(fields.problem(key, "is missing")) };
    material::require_table(&place, value)?;
    let form = Fields::open(place, value, &known::MATERIAL)?;
    Ok(Secret::new(std::mem::take(&mut *material::read(&form, source)?)))
}
