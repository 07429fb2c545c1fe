//! This file answers: which keys does this key set hold?

use serde_json::{Map, Value};

use super::jwk::parse_jwk;
use super::key::Key;
use super::ring::Trust;
use crate::token::Algorithm;
use crate::token::json::{Bounds, parse_list};

/// Largest key set document in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 512 * 1024;

/// Most keys in one document.
pub const MAX_KEYS: usize = 256;

/// The members that make a key what it is (RFC 7518 section 6).
const MATERIAL: [&str; 7] = ["kty", "crv", "x", "y", "n", "e", "k"];

/// Room for certificate chains beside each key.
const BOUNDS: Bounds = Bounds { depth: 8, members: MAX_KEYS * 64 };

/// Reads a JWK set (RFC 7517 section 5): the keys that can be used, and for each other one a text for the operator.
///
/// A bad or unknown key never spoils the others. An id that two different keys claim is left out altogether; one key
/// under one id twice counts once, with the first of its algorithms. The whole document is refused when it is no such set, too large, or (trusted with
/// secrets) mixes secrets and public keys, since then the kind of key would be up to the token.
pub(crate) fn parse_jwks(
    document: &[u8],
    algorithms: &[Algorithm],
    trust: Trust,
) -> Result<(Vec<Key>, Vec<String>), String> {
    if document.len() > MAX_DOCUMENT_BYTES {
        return Err("the key set is larger than 512 KiB".to_owned());
    }
    let list = parse_list(document, "keys", MAX_KEYS, BOUNDS)
        .map_err(|_| "not a JSON object with an array `keys` of at most 256 keys".to_owned())?;
    if trust == Trust::Local && is_mixed(&list) {
        return Err("the key set mixes secrets and public keys".to_owned());
    }
    let (mut keys, mut skipped) = (Vec::<Key>::new(), Vec::new());
    for (number, jwk) in (1u32..).zip(&list) {
        let key = match jwk {
            None => Err("a name stands twice in it".to_owned()),
            Some(Value::Object(jwk)) if is_contested(jwk, &list) => Err("another key has the same `kid`".to_owned()),
            Some(Value::Object(jwk)) => parse_jwk(jwk, algorithms, trust),
            Some(_) => Err("it is no object".to_owned()),
        };
        match key {
            Ok(key) if keys.iter().any(|other| other.same(&key) && other.key_id() == key.key_id()) => {}
            // What is left of equal ids is the same material twice; a key serves one algorithm.
            Ok(key) if key.key_id().is_some() && keys.iter().any(|other| other.key_id() == key.key_id()) => {
                skipped.push(format!("key {number} skipped: the key serves another algorithm already"));
            }
            Ok(key) => keys.push(key),
            Err(why) => skipped.push(format!("key {number} skipped: {why}")),
        }
    }
    Ok((keys, skipped))
}

/// Whether another key of the set claims the same id with other material: then the id names neither, and it does not
/// matter which of them could be used. Keys that say they are for encryption claim nothing.
fn is_contested(jwk: &Map<String, Value>, list: &[Option<Value>]) -> bool {
    let Some(id) = jwk.get("kid") else { return false };
    let signs = |jwk: &Map<String, Value>| jwk.get("use").is_none_or(|purpose| purpose == "sig");
    let differs = |other: &Map<String, Value>| MATERIAL.iter().any(|name| jwk.get(*name) != other.get(*name));
    let others = list.iter().flatten().filter_map(Value::as_object);
    signs(jwk) && others.filter(|other| other.get("kid") == Some(id)).any(|other| signs(other) && differs(other))
}

fn is_mixed(list: &[Option<Value>]) -> bool {
    let mut kinds = list.iter().flatten().filter_map(|jwk| jwk.get("kty").and_then(Value::as_str));
    let secrets = kinds.clone().any(|kty| kty == "oct");
    secrets && kinds.any(|kty| kty != "oct")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Trust, parse_jwks};
    use crate::token::Algorithm::{ES256, Ed25519, HS256, PS256, RS256};

    fn okp(kid: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": kid})
    }

    fn ec(kid: &str) -> Value {
        json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0", "kid": kid})
    }

    fn oct(kid: &str) -> Value {
        json!({"kty": "oct", "alg": "HS256", "k": "A".repeat(64), "kid": kid})
    }

    fn read(keys: &[Value], trust: Trust) -> Result<(Vec<String>, usize), String> {
        let document = json!({"keys": keys}).to_string();
        let algorithms = if trust == Trust::Local { vec![HS256] } else { vec![ES256, Ed25519, RS256] };
        let (keys, skipped) = parse_jwks(document.as_bytes(), &algorithms, trust)?;
        Ok((keys.iter().map(|key| key.id().to_string()).collect(), skipped.len()))
    }

    #[test]
    fn bad_and_unknown_keys_are_skipped_one_by_one() {
        let keys = [
            json!({"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA", "kid": "pq"}),
            json!({"kty": "RSA", "kid": "broken"}),
            okp("good"),
            oct("secret"),
            json!(7),
            json!(null),
        ];
        assert_eq!(read(&keys, Trust::Remote), Ok((vec!["good".to_owned()], 5)));
        let text = format!(r#"{{"keys":[{{"kty":"OKP","kty":"EC"}},{}],"x":[]}}"#, okp("good"));
        let (keys, skipped) = parse_jwks(text.as_bytes(), &[Ed25519], Trust::Remote).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(skipped, ["key 1 skipped: a name stands twice in it"]);
    }

    #[test]
    fn one_id_names_one_key() {
        let with = |mut jwk: Value, name: &str, value: &str| {
            jwk[name] = json!(value);
            jwk
        };
        assert_eq!(read(&[okp("a"), okp("a"), ec("b")], Trust::Remote), Ok((vec!["a".into(), "b".into()], 0)));
        assert_eq!(read(&[okp("a"), ec("a"), okp("a"), ec("b")], Trust::Remote), Ok((vec!["b".into()], 3)));
        assert_eq!(read(&[ec("a"), okp("a"), ec("a"), ec("a")], Trust::Remote), Ok((vec![], 4)));
        let broken = with(okp("a"), "x", "not=strict");
        assert_eq!(read(&[okp("a"), broken.clone()], Trust::Remote), Ok((vec![], 2)), "an unusable rival is a rival");
        assert_eq!(read(&[okp("a"), with(ec("a"), "use", "enc")], Trust::Remote), Ok((vec!["a".into()], 1)));
    }

    #[test]
    fn one_key_serves_one_algorithm() {
        let rsa = |alg: &str| json!({"kty": "RSA", "kid": "a", "alg": alg, "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
        let document = json!({"keys": [rsa("RS256"), rsa("PS256"), rsa("RS256")]}).to_string();
        let (keys, skipped) = parse_jwks(document.as_bytes(), &[RS256, PS256], Trust::Remote).unwrap();
        assert_eq!((keys.len(), keys[0].algorithm(), skipped.len()), (1, RS256, 1));
    }

    #[test]
    fn secrets_and_public_keys_do_not_mix() {
        assert_eq!(read(&[oct("a")], Trust::Local), Ok((vec!["a".into()], 0)));
        assert!(read(&[oct("a"), ec("b")], Trust::Local).is_err());
        assert!(read(&[ec("b"), oct("a")], Trust::Local).is_err());
    }

    #[test]
    fn the_document_has_bounds() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}{}"#, "null", "\u{feff}{\"keys\":[]}"] {
            assert!(parse_jwks(text.as_bytes(), &[Ed25519], Trust::Remote).is_err(), "{text}");
        }
        let many = |count: usize| (0..count).map(|n| okp(&n.to_string())).collect::<Vec<_>>();
        assert_eq!(read(&many(256), Trust::Remote).unwrap().0.len(), 256);
        assert!(read(&many(257), Trust::Remote).is_err());
        let padding = |bytes: usize| format!("{{\"keys\":[]{}}}", " ".repeat(bytes - 11));
        assert!(parse_jwks(padding(512 * 1024).as_bytes(), &[], Trust::Remote).is_ok());
        assert!(parse_jwks(padding(512 * 1024 + 1).as_bytes(), &[], Trust::Remote).is_err());
    }
}
