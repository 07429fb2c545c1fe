//! This file answers: which key does this JWK describe?

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::key::Key;
use super::pem::{Curve, PublicNumbers};
use super::ring::Trust;
use crate::token::{Algorithm, Family, is_key_id};

/// Members that only a private key has (RFC 7518 sections 6.2.2 and 6.3.2).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// Makes a key from one JWK (RFC 7517), for an issuer that allows `algorithms`.
///
/// The key serves the one algorithm its `alg` names; without `alg`, the one on the list that fits its `kty` and
/// `crv`. Refused: a `use` other than `sig`, `key_ops` without `verify`, an `alg` that is unknown, not allowed or
/// does not fit, private members, secrets from elsewhere than the operator's disk, numbers that are not strict
/// base64url of full length, and what [`Key`] refuses. The text is for the operator.
pub(crate) fn parse_jwk(jwk: &Map<String, Value>, algorithms: &[Algorithm], trust: Trust) -> Result<Key, String> {
    require_purpose(jwk)?;
    if PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
        return Err("it is a private key".to_owned());
    }
    let key_id = match jwk.get("kid") {
        None => None,
        Some(Value::String(id)) if is_key_id(id) => Some(id.as_str()),
        Some(_) => return Err("`kid` is not 1 to 256 bytes of clean text".to_owned()),
    };
    let key = match text(jwk, "kty")? {
        "oct" => {
            if trust == Trust::Remote {
                return Err("a secret does not belong in a public key set".to_owned());
            }
            let secret = Zeroizing::new(number(jwk, "k")?);
            Key::from_secret(&secret, select_algorithm(jwk, Family::Secret, algorithms)?)
        }
        kty => {
            if jwk.contains_key("k") {
                return Err("it is a secret and a public key at once".to_owned());
            }
            let numbers = parse_numbers(kty, jwk)?;
            Key::from_numbers(&numbers, select_algorithm(jwk, numbers.family(), algorithms)?)
        }
    };
    Ok(key?.named(key_id))
}

fn parse_numbers(kty: &str, jwk: &Map<String, Value>) -> Result<PublicNumbers, String> {
    match kty {
        "RSA" => Ok(PublicNumbers::Rsa { modulus: number(jwk, "n")?, exponent: number(jwk, "e")? }),
        "EC" => {
            let curve = match text(jwk, "crv")? {
                "P-256" => Curve::P256,
                "P-384" => Curve::P384,
                "P-521" => Curve::P521,
                _ => return Err("`crv` is not P-256, P-384 or P-521".to_owned()),
            };
            let (x, y) = (number(jwk, "x")?, number(jwk, "y")?);
            if x.len() != curve.coordinate_bytes() || y.len() != curve.coordinate_bytes() {
                return Err("`x` or `y` has not the full length".to_owned());
            }
            Ok(PublicNumbers::Ec { curve, point: [&[4][..], &x, &y].concat() })
        }
        "OKP" if text(jwk, "crv")? == "Ed25519" => Ok(PublicNumbers::Ed25519(number(jwk, "x")?)),
        "OKP" => Err("`crv` is not Ed25519".to_owned()),
        _ => Err("`kty` is not RSA, EC, OKP or oct".to_owned()),
    }
}

/// Both members that limit a key must allow verification (RFC 7517 sections 4.2 and 4.3).
fn require_purpose(jwk: &Map<String, Value>) -> Result<(), String> {
    if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
        return Err("`use` is not `sig`".to_owned());
    }
    let Some(operations) = jwk.get("key_ops") else { return Ok(()) };
    let operations: Option<Vec<&str>> = operations.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let fits = operations.is_some_and(|list| {
        list.contains(&"verify") && list.iter().all(|operation| matches!(*operation, "verify" | "sign"))
    });
    if fits { Ok(()) } else { Err("`key_ops` is not a list with `verify` in it and nothing unrelated".to_owned()) }
}

/// The one algorithm the key shall serve.
fn select_algorithm(jwk: &Map<String, Value>, family: Family, allowed: &[Algorithm]) -> Result<Algorithm, String> {
    if jwk.contains_key("alg") {
        let algorithm = Algorithm::parse(text(jwk, "alg")?).ok_or("`alg` is not an algorithm we know")?;
        if algorithm.family() != family {
            return Err("`alg` does not fit the kind of key".to_owned());
        }
        if !allowed.contains(&algorithm) {
            return Err(format!("{} is not one of the issuer's algorithms", algorithm.name()));
        }
        return Ok(algorithm);
    }
    select_fitting(family, allowed)
}

/// The one algorithm of the list that fits this kind of key.
pub(crate) fn select_fitting(family: Family, allowed: &[Algorithm]) -> Result<Algorithm, String> {
    let mut fitting = allowed.iter().filter(|algorithm| algorithm.family() == family);
    let Some(first) = fitting.next() else {
        return Err("none of the issuer's algorithms fits this kind of key".to_owned());
    };
    match fitting.find(|other| *other != first) {
        None => Ok(*first),
        Some(other) => Err(format!(
            "it names no algorithm, and both {} and {} would fit: a key serves one",
            first.name(),
            other.name()
        )),
    }
}

fn text<'j>(jwk: &'j Map<String, Value>, name: &str) -> Result<&'j str, String> {
    jwk.get(name).and_then(Value::as_str).ok_or_else(|| format!("`{name}` is absent or no text"))
}

fn number(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD.decode(text(jwk, name)?).map_err(|_| format!("`{name}` is not strict base64url"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Trust, parse_jwk};
    use crate::keys::Key;
    use crate::token::Algorithm::{self, ES256, ES384, Ed25519, HS256, HS384, PS256, RS256};

    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    const OKP: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn ec() -> Value {
        json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y, "kid": "k", "use": "sig", "alg": "ES256"})
    }

    fn read(jwk: &Value, algorithms: &[Algorithm], trust: Trust) -> Result<Key, String> {
        parse_jwk(jwk.as_object().unwrap(), algorithms, trust)
    }

    /// `base` with one member replaced, or removed when null.
    fn with(mut base: Value, name: &str, value: Value) -> Value {
        let map = base.as_object_mut().unwrap();
        if value.is_null() {
            map.remove(name)
        } else {
            map.insert(name.to_owned(), value)
        };
        base
    }

    #[test]
    fn a_key_serves_the_algorithm_it_names_or_the_only_one_that_fits() {
        let key = read(&ec(), &[ES256, ES384], Trust::Remote).unwrap();
        assert_eq!((key.algorithm(), key.key_id()), (ES256, Some("k")));
        let unnamed = with(with(with(ec(), "alg", Value::Null), "use", Value::Null), "kid", Value::Null);
        let key = read(&unnamed, &[ES256, ES256, RS256], Trust::Remote).unwrap();
        assert_eq!((key.algorithm(), key.key_id()), (ES256, None));
        assert!(key.id().starts_with("key-"));
        let okp = json!({"kty": "OKP", "crv": "Ed25519", "x": OKP, "alg": "EdDSA", "x5t": "ignored"});
        assert_eq!(read(&okp, &[Ed25519], Trust::Remote).unwrap().algorithm(), Ed25519);
    }

    #[test]
    fn several_fitting_algorithms_are_told_apart_by_the_operator() {
        let secret = json!({"kty": "oct", "k": "A".repeat(86)});
        let text = read(&secret, &[HS256, HS384], Trust::Local).unwrap_err();
        assert_eq!(text, "it names no algorithm, and both HS256 and HS384 would fit: a key serves one");
        assert!(read(&secret, &[HS384], Trust::Local).is_ok());
    }

    #[test]
    fn each_member_must_allow_it() {
        for (name, value) in [
            ("use", json!("enc")),
            ("use", json!(["sig"])),
            ("key_ops", json!(["sign"])),
            ("key_ops", json!(["encrypt"])),
            ("key_ops", json!(["verify", "encrypt"])),
            ("key_ops", json!(["sign, verify"])),
            ("key_ops", json!("verify")),
            ("key_ops", json!([])),
            ("alg", json!("ES384")),
            ("alg", json!("RS256")),
            ("alg", json!("ES521")),
            ("alg", json!("none")),
            ("alg", json!(7)),
            ("kid", json!("")),
            ("kid", json!(7)),
            ("kid", json!("a\r\nb")),
            ("kty", json!("RSA")),
            ("kty", json!("ec")),
            ("kty", Value::Null),
            ("crv", json!("P-384")),
            ("crv", json!("secp256k1")),
            ("x", json!(format!("{X}="))),
            ("x", json!(X.trim_start_matches('f'))),
            ("x", json!(format!("AA{X}"))),
            ("x", json!(Y)),
            ("y", json!("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a1")),
            ("y", Value::Null),
            ("d", json!("AAAA")),
            ("k", json!("AAAA")),
        ] {
            assert!(read(&with(ec(), name, value.clone()), &[ES256], Trust::Local).is_err(), "{name} {value}");
        }
        assert!(read(&with(ec(), "key_ops", json!(["verify"])), &[ES256], Trust::Remote).is_ok());
        assert!(read(&ec(), &[RS256, PS256], Trust::Remote).is_err());
        assert!(read(&ec(), &[], Trust::Remote).is_err());
    }

    #[test]
    fn secrets_come_from_the_operator_and_are_long_enough() {
        let oct = |bytes: usize| json!({"kty": "oct", "alg": "HS256", "k": "A".repeat(bytes * 4 / 3)});
        assert!(read(&oct(33), &[HS256], Trust::Local).is_ok());
        assert!(read(&oct(33), &[HS256], Trust::Remote).is_err());
        assert!(read(&oct(30), &[HS256], Trust::Local).is_err());
        assert!(read(&json!({"kty": "oct", "alg": "HS256", "k": ""}), &[HS256], Trust::Local).is_err());
        assert!(read(&json!({"kty": "oct", "alg": "RS256", "k": "A".repeat(64)}), &[RS256], Trust::Local).is_err());
    }

    #[test]
    fn ed25519_keys_of_small_order_and_second_spellings_are_refused() {
        use base64::Engine;
        let okp = |raw: [u8; 32]| {
            let x = super::URL_SAFE_NO_PAD.encode(raw);
            read(&json!({"kty": "OKP", "crv": "Ed25519", "x": x}), &[Ed25519], Trust::Remote)
        };
        let mut raw = [0; 32];
        assert!(okp(raw).unwrap_err().contains("small order"));
        raw[31] = 0x80;
        assert!(okp(raw).unwrap_err().contains("small order"));
        raw = [0; 32];
        raw[0] = 1;
        assert!(okp(raw).is_err());
        raw = [0xff; 32];
        assert!(okp(raw).unwrap_err().contains("canonical"));
        raw[31] = 0x7f;
        for (low, text) in [(0xec, "small order"), (0xed, "canonical"), (0xee, "canonical")] {
            raw[0] = low;
            assert!(okp(raw).unwrap_err().contains(text), "{low:x}");
        }
        assert!(read(&json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}), &[Ed25519], Trust::Remote).is_err());
        assert!(read(&json!({"kty": "OKP", "crv": "Ed448", "x": OKP}), &[Ed25519], Trust::Remote).is_err());
    }

    #[test]
    fn a_key_shows_its_id_and_nothing_else() {
        let secret =
            json!({"kty": "oct", "alg": "HS256", "kid": "s", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"});
        assert_eq!(format!("{:?}", read(&secret, &[HS256], Trust::Local).unwrap()), "Key(HS256 \"s\")");
    }
}
