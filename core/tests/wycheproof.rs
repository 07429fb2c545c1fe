//! This file answers: do we agree with Wycheproof on every signature, MAC and key?
//!
//! The JOSE files go through the JWS layer as whole tokens; the files of single primitives through the key that a
//! JWK, a DER or a secret becomes. Where a label is wrong, `wycheproof_errata.json` says so and why.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wsauth::config::{IssuerConfig, KeysConfig, TlsConfig};
use wsauth::keys::{Key, KeyRing, Trust};
use wsauth::time::WallTime;
use wsauth::token::{Algorithm, Family, Unverified, verify_signature};

const NOW: WallTime = WallTime::from_secs(1_800_000_000);

/// What a file came to: tests that agree, and how many of them were accepted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    run: usize,
    accepted: usize,
}

fn read(path: &str) -> Value {
    let path = format!("{}/../tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn issuer(algorithms: Vec<Algorithm>) -> IssuerConfig {
    IssuerConfig {
        issuer: "https://id.example/".to_owned(),
        audience: vec!["urn:ws".to_owned()],
        algorithms,
        keys: KeysConfig::None,
        permissions_claims: Vec::new(),
        typ: None,
        rfc9068: false,
        required_claims: Vec::new(),
        max_lifetime_ms: 1,
        leeway_ms: 0,
        expiry_leeway_ms: 0,
        opaque: false,
        wildcards: false,
        tenant_claim: "tenant".to_owned(),
        introspection: None,
        tls: TlsConfig::default(),
    }
}

/// The widest list an operator could write for this key: all of its side that the key itself leaves open.
fn algorithms_for(jwk: &Value) -> Vec<Algorithm> {
    let secret = jwk["kty"] == "oct";
    let side = Algorithm::ALL.into_iter().filter(|algorithm| algorithm.is_mac() == secret);
    if jwk["alg"].is_string() {
        return side.collect();
    }
    let family = match (jwk["kty"].as_str(), jwk["crv"].as_str()) {
        (Some("RSA"), _) => Family::Rsa,
        (Some("EC"), Some("P-256")) => Family::P256,
        (Some("EC"), Some("P-521")) => Family::P521,
        other => panic!("{other:?}"),
    };
    side.filter(|algorithm| algorithm.family() == family).take(1).collect()
}

/// The whole JWS layer: document, key, token, signature.
fn accepts(keys: &Value, token: &str) -> bool {
    let document = if keys["keys"].is_array() { keys.clone() } else { json!({ "keys": [keys] }) };
    let first = &document["keys"][0];
    let issuer = issuer(algorithms_for(first));
    let trust = if first["kty"] == "oct" { Trust::Local } else { Trust::Remote };
    let Ok((ring, _)) = KeyRing::from_jwks(document.to_string().as_bytes(), &issuer, trust) else { return false };
    let token = Unverified::parse(token.as_bytes(), 16 * 1024);
    token.and_then(|token| verify_signature(token, &ring, NOW)).is_ok()
}

fn run_jose(file: &str) -> Count {
    let errata = read("wycheproof_errata.json");
    let errata: BTreeMap<u64, &str> = list(&errata, "errata")
        .iter()
        .filter(|entry| entry["file"] == file)
        .map(|entry| (entry["tcId"].as_u64().unwrap(), entry["wsauth"].as_str().unwrap()))
        .collect();
    let mut count = Count::default();
    for group in list(&read(&format!("wycheproof/{file}")), "testGroups") {
        let keys = if group["public"].is_null() { &group["private"] } else { &group["public"] };
        for test in list(group, "tests") {
            let id = test["tcId"].as_u64().unwrap();
            let expected = errata.get(&id).copied().unwrap_or(test["result"].as_str().unwrap());
            let accepted = accepts(keys, test["jws"].as_str().unwrap());
            assert_eq!(accepted, expected == "valid", "{file} {id} {}", test["comment"]);
            count.run += 1;
            count.accepted += usize::from(accepted);
        }
    }
    count
}

#[test]
fn json_web_signatures() {
    // 46 labelled valid, less six wrong labels, and two that are valid in truth.
    assert_eq!(run_jose("json_web_signature_test.json"), Count { run: 401, accepted: 42 });
}

#[test]
fn json_web_keys() {
    assert_eq!(run_jose("json_web_key_test.json"), Count { run: 26, accepted: 5 });
}

#[test]
fn tokens_refused_for_their_keys_alg_verify_without_it() {
    let mut positives = 0;
    for group in list(&read("wycheproof/json_web_signature_test.json"), "testGroups") {
        for test in list(group, "tests") {
            let algorithm = match test["tcId"].as_u64().unwrap() {
                346 | 350 => Algorithm::PS384,
                347 | 351 => Algorithm::ES512,
                _ => continue,
            };
            let mut jwk = group["public"].clone();
            jwk.as_object_mut().unwrap().remove("alg");
            let document = json!({ "keys": [jwk] }).to_string();
            let (ring, _) = KeyRing::from_jwks(document.as_bytes(), &issuer(vec![algorithm]), Trust::Remote).unwrap();
            let token = Unverified::parse(test["jws"].as_str().unwrap().as_bytes(), 16 * 1024).unwrap();
            assert!(verify_signature(token, &ring, NOW).is_ok());
            positives += 1;
        }
    }
    assert_eq!(positives, 4);
}

/// The key of a group in each of its spellings: DER, PEM, and JWK where there is one. All must agree.
fn public_keys(group: &Value, algorithm: Algorithm) -> Vec<Result<Key, &'static str>> {
    let der = hex(&group["publicKeyDer"]);
    let pem = group["publicKeyPem"].as_str().unwrap();
    [der.as_slice(), pem.as_bytes()].map(|material| Key::from_public(material, algorithm)).into()
}

fn jwk_ring(group: &Value, algorithm: Algorithm) -> Option<Result<KeyRing, String>> {
    let jwk = ["publicKeyJwk", "keyJwk"].into_iter().map(|name| &group[name]).find(|jwk| jwk.is_object())?;
    let document = json!({ "keys": [jwk] }).to_string();
    Some(KeyRing::from_jwks(document.as_bytes(), &issuer(vec![algorithm]), Trust::Remote).map(|(ring, _)| ring))
}

/// Runs a file of one primitive. RSA keys with the exponent 3 are refused as keys, whatever they signed.
fn run_public(file: &str, algorithm: Algorithm) -> Count {
    let mut count = Count::default();
    for group in list(&read(&format!("wycheproof/{file}")), "testGroups") {
        let fit = group["publicKey"]["publicExponent"].as_str().is_none_or(|exponent| exponent != "03");
        let keys = public_keys(group, algorithm);
        let ring = jwk_ring(group, algorithm);
        assert!(keys.iter().all(|key| key.is_ok() == fit) && ring.iter().all(|ring| ring.is_ok() == fit), "{file}");
        let from_jwk = ring.iter().flatten().flat_map(|ring| ring.select_key(Some("none"), algorithm, NOW).unwrap());
        let keys: Vec<&Key> = keys.iter().flatten().chain(from_jwk).collect();
        for test in list(group, "tests") {
            let (message, signature) = (hex(&test["msg"]), hex(&test["sig"]));
            for key in &keys {
                let accepted = key.verify_bytes(&message, &signature).is_ok();
                assert_eq!(accepted, test["result"] == "valid", "{file} {} {}", test["tcId"], test["comment"]);
            }
            count.run += 1;
            count.accepted += usize::from(test["result"] == "valid" && fit);
        }
    }
    count
}

#[test]
fn ecdsa_p256() {
    let count = run_public("ecdsa_secp256r1_sha256_p1363_test.json", Algorithm::ES256);
    assert_eq!(count, Count { run: 262, accepted: 173 });
}

#[test]
fn ecdsa_p384() {
    let count = run_public("ecdsa_secp384r1_sha384_p1363_test.json", Algorithm::ES384);
    assert_eq!(count, Count { run: 280, accepted: 193 });
}

#[test]
fn ed25519() {
    assert_eq!(run_public("ed25519_test.json", Algorithm::Ed25519), Count { run: 151, accepted: 88 });
}

#[test]
fn rsa_pkcs1() {
    // One "acceptable" signature lacks the NULL in its DigestInfo: refused. Two valid ones are of exponent 3.
    assert_eq!(run_public("rsa_signature_2048_sha256_test.json", Algorithm::RS256), Count { run: 259, accepted: 7 });
}

#[test]
fn rsa_pss() {
    assert_eq!(run_public("rsa_pss_2048_sha256_mgf1_32_test.json", Algorithm::PS256), Count { run: 108, accepted: 63 });
}

/// Of the labels, a JWS takes only tags of full length, and only secrets of at least that length.
fn run_mac(file: &str, algorithm: Algorithm, hash_bits: u64) -> Count {
    let mut count = Count::default();
    for group in list(&read(&format!("wycheproof/{file}")), "testGroups") {
        let full = group["tagSize"] == hash_bits;
        let long = group["keySize"].as_u64().unwrap() >= hash_bits;
        for test in list(group, "tests") {
            let key = Key::from_secret(&hex(&test["key"]), algorithm);
            assert_eq!(key.is_ok(), long, "{file} {}", test["tcId"]);
            let accepted = key.is_ok_and(|key| key.verify_bytes(&hex(&test["msg"]), &hex(&test["tag"])).is_ok());
            assert_eq!(accepted, test["result"] == "valid" && full && long, "{file} {}", test["tcId"]);
            count.run += 1;
            count.accepted += usize::from(accepted);
        }
    }
    count
}

#[test]
fn hmac() {
    let expected = || Count { run: 174, accepted: 30 };
    assert_eq!(run_mac("hmac_sha256_test.json", Algorithm::HS256, 256), expected());
    assert_eq!(run_mac("hmac_sha384_test.json", Algorithm::HS384, 384), expected());
    assert_eq!(run_mac("hmac_sha512_test.json", Algorithm::HS512, 512), expected());
}
