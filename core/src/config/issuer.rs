//! This file answers: how are an issuer and its keys read?

use super::fields::{Fields, expected};
use super::known;
use super::material::{self, SecretSource};
use super::place::Place;
use super::problem::Problem;
use super::sources;
use super::tree::{Kind, Value};
use super::types::{IssuerConfig, KeysConfig, PublicKeyConfig, RemoteKeysConfig, SecretKeyConfig, SessionsConfig};
use crate::secret::Secret;
use crate::token::Algorithm;

/// The names algorithms are written with.
pub(crate) const ALGORITHMS: [(&str, Algorithm); 14] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("ES512", Algorithm::ES512),
    ("EdDSA", Algorithm::Ed25519),
    ("Ed25519", Algorithm::Ed25519),
];

/// Reads one `[[issuer]]`.
pub(crate) fn issuer(place: Place, value: &Value, source: &dyn SecretSource) -> Result<IssuerConfig, Problem> {
    let fields = Fields::open(place, value, &known::ISSUER)?;
    let Some(name) = fields.text("issuer")? else {
        return Err(fields.problem("issuer", "is missing: the exact `iss` of its tokens"));
    };
    let Some(audience) = fields.texts("audience")? else {
        return Err(fields.problem(
            "audience",
            "is missing: without it a token made for another service of this issuer would be accepted here",
        ));
    };
    let opaque = fields.flag("opaque")?.unwrap_or(false);
    let keys = match fields.find("keys") {
        Some(value) => keys(fields.at("keys"), value, source)?,
        None if opaque => KeysConfig::None,
        None => {
            let what = "is missing: where its keys come from, such as { jwks_url = \"https://…\" }";
            return Err(fields.problem("keys", what));
        }
    };
    let algorithms = match fields.words("algorithms", &ALGORITHMS)? {
        Some(algorithms) => algorithms,
        None if matches!(keys, KeysConfig::None) => Vec::new(),
        None => {
            let what = "is missing: which algorithms its tokens may be signed with";
            return Err(fields.problem("algorithms", what));
        }
    };
    let mut issuer = IssuerConfig { audience, algorithms, opaque, ..IssuerConfig::new(&name, &[], &[], keys) };
    issuer.rfc9068 = fields.word("profile", &[("jwt", false), ("rfc9068", true)])?.unwrap_or(issuer.rfc9068);
    issuer.typ = fields.text("typ")?;
    if issuer.rfc9068 && issuer.typ.is_some() {
        return Err(fields.problem("typ", "the profile `rfc9068` already says which `typ` a token has"));
    }
    issuer.permissions_claims = fields.texts("permissions_claims")?.unwrap_or(issuer.permissions_claims);
    issuer.required_claims = fields.texts("required_claims")?.unwrap_or(issuer.required_claims);
    issuer.max_lifetime_ms = fields.duration("max_lifetime")?.unwrap_or(issuer.max_lifetime_ms);
    issuer.leeway_ms = fields.duration("leeway")?.unwrap_or(issuer.leeway_ms);
    issuer.expiry_leeway_ms = fields.duration("expiry_leeway")?.unwrap_or(issuer.expiry_leeway_ms);
    issuer.wildcards = fields.flag("wildcards")?.unwrap_or(issuer.wildcards);
    issuer.tenant_claim = fields.text("tenant_claim")?.unwrap_or(issuer.tenant_claim);
    issuer.introspection = match fields.find("introspection") {
        Some(value) => Some(sources::introspection(fields.at("introspection"), value, source)?),
        None => None,
    };
    issuer.tls = sources::tls(&fields, source)?;
    Ok(issuer)
}

/// Reads `[sessions]`.
pub(crate) fn sessions(place: Place, value: &Value) -> Result<SessionsConfig, Problem> {
    let fields = Fields::open(place, value, &known::SESSIONS)?;
    let default = SessionsConfig::default();
    Ok(SessionsConfig { issuer: fields.text("issuer")?.unwrap_or(default.issuer) })
}

/// The kinds of keys, of which an issuer has exactly one, and what may stand beside each.
const KINDS: [(&str, &[&str]); 9] = [
    ("jwks_url", &["refresh", "max_stale"]),
    ("discovery_url", &["refresh", "max_stale"]),
    ("jwks_file", &["allow_secrets"]),
    ("jwks", &["allow_secrets"]),
    ("public_key", &["kid", "algorithm", "not_after"]),
    ("public_key_file", &["kid", "algorithm", "not_after"]),
    ("public_keys", &[]),
    ("secret", &["kid", "not_after"]),
    ("secrets", &[]),
];

fn keys(place: Place, value: &Value, source: &dyn SecretSource) -> Result<KeysConfig, Problem> {
    let fields = Fields::open(place, value, &known::KEYS)?;
    let written: Vec<_> = KINDS.iter().filter(|(kind, _)| fields.has(kind)).collect();
    let [(kind, beside)] = written.as_slice() else {
        let names: Vec<String> = KINDS.iter().map(|(kind, _)| format!("`{kind}`")).collect();
        return Err(Problem::new(fields.place(), format_args!("needs exactly one of {}", names.join(", "))));
    };
    for (key, _, _) in fields.each() {
        if key != *kind && !beside.contains(&key) {
            return Err(fields.problem(key, format_args!("does not belong beside `{kind}`")));
        }
    }
    let Some(value) = fields.find(kind) else { return Err(fields.problem(kind, "is missing")) };
    let place = fields.at(kind);
    let allow_secrets = fields.flag("allow_secrets")?.unwrap_or(false);
    Ok(match *kind {
        "jwks_url" | "discovery_url" => {
            let default = RemoteKeysConfig::new(&fields.text(kind)?.unwrap_or_default());
            KeysConfig::Remote(RemoteKeysConfig {
                discovery: *kind == "discovery_url",
                refresh_ms: fields.duration("refresh")?.unwrap_or(default.refresh_ms),
                max_stale_ms: fields.duration("max_stale")?.unwrap_or(default.max_stale_ms),
                ..default
            })
        }
        "jwks_file" => {
            let path = fields.text(kind)?.unwrap_or_default();
            KeysConfig::Jwks { document: material::read_file(&place, &path, source)?.to_vec(), allow_secrets }
        }
        "jwks" => KeysConfig::Jwks { document: inline_jwks(place, value)?, allow_secrets },
        "public_key" => {
            KeysConfig::Public(vec![public_key(&fields, fields.text(kind)?.unwrap_or_default().into_bytes())?])
        }
        "public_key_file" => {
            let path = fields.text(kind)?.unwrap_or_default();
            let material = material::read_file(&place, &path, source)?.to_vec();
            KeysConfig::Public(vec![public_key(&fields, material)?])
        }
        "public_keys" => {
            let mut keys = Vec::new();
            for (place, value) in fields.tables(kind)? {
                let fields = Fields::open(place, value, &known::LISTED_PUBLIC_KEY)?;
                let material = material::read(&fields, source)?.to_vec();
                keys.push(public_key(&fields, material)?);
            }
            KeysConfig::Public(keys)
        }
        "secret" => {
            material::require_table(&place, value)?;
            let form = Fields::open(place, value, &known::MATERIAL)?;
            KeysConfig::Secrets(vec![secret_key(&fields, &form, source)?])
        }
        _ => {
            let mut secrets = Vec::new();
            for (place, value) in fields.tables(kind)? {
                material::require_table(&place, value)?;
                let fields = Fields::open(place, value, &known::LISTED_SECRET)?;
                secrets.push(secret_key(&fields, &fields, source)?);
            }
            KeysConfig::Secrets(secrets)
        }
    })
}

fn inline_jwks(place: Place, value: &Value) -> Result<Vec<u8>, Problem> {
    match &value.kind {
        Kind::String(text) => Ok(text.clone().into_bytes()),
        Kind::Table(_) => match value.to_json() {
            Some(json) => Ok(json.to_string().into_bytes()),
            None => Err(Problem::new(place, "nested too deep, or holds a number that JSON has not")),
        },
        _ => Err(expected(place, "a key set as a table or as JSON text", value)),
    }
}

fn public_key(fields: &Fields<'_>, material: Vec<u8>) -> Result<PublicKeyConfig, Problem> {
    Ok(PublicKeyConfig {
        material,
        key_id: fields.text("kid")?,
        algorithm: fields.word("algorithm", &ALGORITHMS)?,
        not_after: fields.number("not_after")?,
    })
}

fn secret_key(fields: &Fields<'_>, form: &Fields<'_>, source: &dyn SecretSource) -> Result<SecretKeyConfig, Problem> {
    let mut bytes = material::read(form, source)?;
    Ok(SecretKeyConfig {
        secret: Secret::new(std::mem::take(&mut *bytes)),
        key_id: fields.text("kid")?,
        not_after: fields.number("not_after")?,
    })
}
