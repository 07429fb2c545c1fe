//! This file answers: do the tokens printed in the RFCs verify?
//!
//! RFC 7515 appendix A, RFC 7520 sections 4.1 to 4.4, RFC 8037 appendix A.4, and two examples of jwt.io.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use wsauth::Reason;
use wsauth::config::{IssuerConfig, KeysConfig, TlsConfig};
use wsauth::keys::{KeyRing, Trust};
use wsauth::time::WallTime;
use wsauth::token::{Algorithm, Unverified, verify_signature};

const NOW: WallTime = WallTime::from_secs(1_300_819_379);

fn read(path: &str) -> Value {
    let path = format!("{}/../tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn issuer(algorithm: Algorithm) -> IssuerConfig {
    IssuerConfig {
        issuer: "joe".to_owned(),
        audience: vec!["urn:ws".to_owned()],
        algorithms: vec![algorithm],
        keys: KeysConfig::None,
        permissions_claims: Vec::new(),
        typ: None,
        rfc9068: false,
        required_claims: Vec::new(),
        max_lifetime_ms: u64::MAX,
        leeway_ms: 0,
        expiry_leeway_ms: 0,
        opaque: false,
        wildcards: false,
        tenant_claim: "tenant".to_owned(),
        introspection: None,
        tls: TlsConfig::default(),
    }
}

/// The payload, if the token verifies under this public or secret JWK.
fn payload(jwk: &Value, algorithm: &str, token: &str) -> Result<Vec<u8>, String> {
    let algorithm = Algorithm::parse(algorithm).ok_or("no algorithm we know")?;
    let trust = if algorithm.is_mac() { Trust::Local } else { Trust::Remote };
    let document = json!({ "keys": [jwk] }).to_string();
    let (ring, _) = KeyRing::from_jwks(document.as_bytes(), &issuer(algorithm), trust)?;
    let token = Unverified::parse(token.as_bytes(), 16 * 1024).map_err(|reason| reason.name().to_owned())?;
    let verified = verify_signature(token, &ring, NOW).map_err(|reason| reason.name().to_owned())?;
    Ok(verified.payload().to_vec())
}

#[test]
fn rfc_7515_and_8037() {
    let mut verified = 0;
    for example in read("rfc/rfc_examples.json").as_array().unwrap() {
        let id = example["id"].as_str().unwrap();
        let token = example["token"].as_str().unwrap();
        let result = payload(&example["jwk"], example["alg"].as_str().unwrap(), token);
        let part = token.split('.').nth(1).unwrap();
        match id {
            "rfc7515-A.5" => {
                assert_eq!(result, Err("no algorithm we know".to_owned()));
                assert_eq!(Unverified::parse(token.as_bytes(), 16_384).unwrap_err(), Reason::TokenMalformed);
                let signed = Unverified::parse(format!("{token}AAAA").as_bytes(), 16_384).map(|_| ());
                assert_eq!(signed, Err(Reason::TokenAlgorithm));
            }
            // Its secret has 19 bytes.
            "jwtio-old" => assert!(result.unwrap_err().contains("shorter than the 32 bytes")),
            _ => {
                assert_eq!(result.unwrap(), URL_SAFE_NO_PAD.decode(part).unwrap(), "{id}");
                verified += 1;
            }
        }
    }
    assert_eq!(verified, 6);
}

#[test]
fn an_example_with_claims_reaches_the_claims() {
    let examples = read("rfc/rfc_examples.json");
    let example = &examples[0];
    let document = json!({ "keys": [example["jwk"]] }).to_string();
    let issuer = issuer(Algorithm::HS256);
    let (ring, _) = KeyRing::from_jwks(document.as_bytes(), &issuer, Trust::Local).unwrap();
    let token = Unverified::parse(example["token"].as_str().unwrap().as_bytes(), 16_384).unwrap();
    let verified = verify_signature(token, &ring, NOW).unwrap();
    // RFC 7515's token names no audience and no subject: genuine, and still not for us.
    assert_eq!(verified.require_claims(&issuer, NOW).unwrap_err(), Reason::ClaimMissing);
}

#[test]
fn rfc_7520_and_the_cookbook() {
    let files = [
        "jws/4_1.rsa_v15_signature.json",
        "jws/4_2.rsa-pss_signature.json",
        "jws/4_3.ecdsa_signature.json",
        "jws/4_4.hmac-sha2_integrity_protection.json",
        "curve25519/jws.json",
    ];
    let mut verified = 0;
    for file in files {
        let example = read(&format!("cookbook/{file}"));
        let (input, token) = (&example["input"], example["output"]["compact"].as_str().unwrap());
        let algorithm = input["alg"].as_str().unwrap();
        let mut jwk = input["key"].clone();
        if jwk["kty"] != "oct" {
            assert!(payload(&jwk, algorithm, token).unwrap_err().contains("private"), "{file}");
        }
        for private in ["d", "p", "q", "dp", "dq", "qi"] {
            jwk.as_object_mut().unwrap().remove(private);
        }
        let expected = input["payload"].as_str().unwrap().as_bytes();
        assert_eq!(payload(&jwk, algorithm, token).unwrap(), expected, "{file}");
        verified += 1;
    }
    assert_eq!(verified, 5);
}

#[test]
fn a_detached_token_is_refused() {
    let example = read("cookbook/jws/4_5.signature_with_detached_content.json");
    let result = payload(&example["input"]["key"], "HS256", example["output"]["compact"].as_str().unwrap());
    assert_eq!(result, Err("signature_invalid".to_owned()));
}
