//! This file answers: is every JWT attack of the corpus refused, and every control accepted?
//!
//! Revocation is judged elsewhere; its tokens are genuine here, and counted apart.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use wsauth::config::{CredentialSource, IssuerConfig, KeysConfig, PublicKeyConfig, SecretKeyConfig, TlsConfig};
use wsauth::keys::Issuers;
use wsauth::secret::Secret;
use wsauth::time::WallTime;
use wsauth::token::{Algorithm, verify_token};

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn keys(config: &Value) -> KeysConfig {
    if let Some(secret) = config["hmac_secret_b64u"].as_str() {
        let secret = Secret::new(URL_SAFE_NO_PAD.decode(secret).unwrap());
        KeysConfig::Secrets(vec![SecretKeyConfig { secret, key_id: None, not_after: None }])
    } else if let Some(pem) = config["public_key_pem"].as_str() {
        let material = pem.as_bytes().to_vec();
        KeysConfig::Public(vec![PublicKeyConfig { material, key_id: None, algorithm: None, not_after: None }])
    } else {
        let document = config["jwks"].to_string().into_bytes();
        KeysConfig::Jwks { document, allow_secrets: config["jwks_trust"] == "local" }
    }
}

fn issuer(own: &Value, common: &Value) -> IssuerConfig {
    let leeway_ms = common["leeway"].as_u64().unwrap() * 1000;
    let scope_claims = &common["scope_claims"];
    IssuerConfig {
        issuer: own["issuer"].as_str().unwrap().to_owned(),
        audience: texts(&own["audience"]),
        algorithms: texts(&own["algorithms"]).iter().filter_map(|name| Algorithm::parse(name)).collect(),
        keys: keys(own),
        permissions_claims: if scope_claims.is_array() { texts(scope_claims) } else { vec!["scope".to_owned()] },
        typ: common["require_typ"].as_str().map(str::to_owned),
        rfc9068: false,
        required_claims: if common["require_jti"] == true { vec!["jti".to_owned()] } else { Vec::new() },
        max_lifetime_ms: common["max_lifetime"].as_u64().map_or(u64::MAX, |seconds| seconds * 1000),
        leeway_ms,
        expiry_leeway_ms: leeway_ms,
        opaque: false,
        wildcards: false,
        tenant_claim: "tenant".to_owned(),
        introspection: None,
        tls: TlsConfig::default(),
    }
}

/// Accepted, with the scope that the vector asks for; a configuration that is refused refuses the token.
fn accepts(vector: &Value) -> bool {
    let config = &vector["config"];
    let configs: Vec<IssuerConfig> = match config["issuers"].as_array() {
        Some(issuers) => issuers.iter().map(|own| issuer(own, config)).collect(),
        None => vec![issuer(config, config)],
    };
    let Ok(issuers) = Issuers::from_config(&configs) else { return false };
    let most = config["max_token_bytes"].as_u64().unwrap_or(16 * 1024) as usize;
    let now = WallTime::from_secs(config["now"].as_u64().unwrap());
    let Ok(claims) = verify_token(vector["token"].as_str().unwrap().as_bytes(), &issuers, most, now) else {
        return false;
    };
    let identity = claims.into_identity(CredentialSource::Authorization);
    config["required_scope"].as_str().is_none_or(|scope| identity.permissions.iter().any(|held| &**held == scope))
}

#[test]
fn the_corpus() {
    let path = format!("{}/../tests/vectors/attacks.jsonl", env!("CARGO_MANIFEST_DIR"));
    let (mut accepted, mut refused, mut revoked) = (0, 0, 0);
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let id = vector["id"].as_str().unwrap();
        if vector["kind"] != "jwt" {
            continue;
        }
        let revocation = ["revoked_jti", "revoke_before", "revoked_token_sha256"]
            .iter()
            .any(|name| !vector["config"][name].is_null());
        let wanted = vector["expected"] == "accept";
        if revocation && !wanted {
            revoked += 1;
            continue;
        }
        assert_eq!(accepts(&vector), wanted, "{id}: {}", vector["why"]);
        if wanted { accepted += 1 } else { refused += 1 }
    }
    assert_eq!((accepted, refused, revoked), (41, 142, 5));
}
