//! This file answers: which keys does this key set hold?

use serde_json::Value;

use super::jwk::parse_jwk;
use super::key::Key;
use super::ring::Trust;
use crate::token::Algorithm;
use crate::token::json::{Bounds, parse_list};

/// Largest key set document in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 512 * 1024;

/// Most keys in one document.
pub const MAX_KEYS: usize = 256;

/// Room for certificate chains beside each key.
const BOUNDS: Bounds = Bounds { depth: 8, members: MAX_KEYS * 64 };

/// Reads a JWK set (RFC 7517 section 5): the keys that can be used, and for each other one a text for the operator.
///
/// A bad or unknown key never spoils the others. Two keys of one id that are not the same key for the same
/// algorithm are both left out. The whole document is refused when it is no such set, too large, or (trusted with
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
    let (mut keys, mut skipped) = (Vec::new(), Vec::new());
    for (number, jwk) in (1u32..).zip(&list) {
        let key = match jwk {
            None => Err("a name stands twice in it".to_owned()),
            Some(Value::Object(jwk)) => parse_jwk(jwk, algorithms, trust),
            Some(_) => Err("it is no object".to_owned()),
        };
        match key {
            Ok(key) => keys.push(key),
            Err(why) => skipped.push(format!("key {number} skipped: {why}")),
        }
    }
    let repeated = remove_repeated(&mut keys);
    skipped.extend(repeated);
    Ok((keys, skipped))
}

fn is_mixed(list: &[Option<Value>]) -> bool {
    let mut kinds = list.iter().flatten().filter_map(|jwk| jwk.get("kty").and_then(Value::as_str));
    let secrets = kinds.clone().any(|kty| kty == "oct");
    secrets && kinds.any(|kty| kty != "oct")
}

/// Keeps one of identical keys, and none of different keys that share an id.
fn remove_repeated(keys: &mut Vec<Key>) -> Vec<String> {
    let mut skipped: Vec<String> = Vec::new();
    let mut kept: Vec<Key> = Vec::new();
    let mut refused: Vec<String> = Vec::new();
    for key in keys.drain(..) {
        if kept.iter().any(|other| other.same(&key) && other.key_id() == key.key_id()) {
            continue;
        }
        match key.key_id() {
            Some(id) if refused.iter().any(|other| other == id) => {}
            Some(id) if kept.iter().any(|other| other.key_id() == Some(id)) => {
                skipped.push(format!("key `{id}` skipped: two different keys have this id"));
                refused.push(id.to_owned());
            }
            _ => kept.push(key),
        }
    }
    kept.retain(|key| key.key_id().is_none_or(|id| refused.iter().all(|other| other != id)));
    *keys = kept;
    skipped
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Trust, parse_jwks};
    use crate::token::Algorithm::{ES256, Ed25519, HS256, RS256};

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
        assert_eq!(read(&[okp("a"), okp("a"), ec("b")], Trust::Remote), Ok((vec!["a".into(), "b".into()], 0)));
        let three = [okp("a"), ec("a"), okp("a"), ec("b")];
        assert_eq!(read(&three, Trust::Remote), Ok((vec!["b".into()], 1)));
        let reversed = [ec("a"), okp("a"), ec("a"), ec("a")];
        assert_eq!(read(&reversed, Trust::Remote), Ok((vec![], 1)));
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
