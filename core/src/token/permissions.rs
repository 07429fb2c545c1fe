//! This file answers: which permissions do these claims grant?

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config::IssuerConfig;
use crate::decision::Reason;

/// Most permissions of one identity.
pub const MAX_PERMISSIONS: usize = 256;

/// Longest permission in bytes that is kept.
const MAX_PERMISSION_BYTES: usize = 1024;

/// Collects the permissions from the issuer's configured claims, sorted, each once.
///
/// A string is split at single spaces and nothing else (RFC 6749 section 3.3); an array of strings is taken element
/// by element. A claim of any other shape grants nothing, as does an element that holds white space or control
/// characters, and a wildcard the issuer may not use (RULES 22). More than 256 are [`Reason::ClaimInvalid`].
pub(crate) fn parse_permissions(claims: &Map<String, Value>, issuer: &IssuerConfig) -> Result<Vec<Arc<str>>, Reason> {
    let mut granted: BTreeSet<&str> = BTreeSet::new();
    for name in &issuer.permissions_claims {
        match claims.get(name) {
            Some(Value::String(text)) => granted.extend(text.split(' ')),
            Some(Value::Array(list)) => {
                let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                granted.extend(texts.unwrap_or_default());
            }
            _ => {}
        }
    }
    granted.retain(|permission| is_grantable(permission, issuer.wildcards));
    if granted.len() > MAX_PERMISSIONS {
        return Err(Reason::ClaimInvalid);
    }
    Ok(granted.into_iter().map(Arc::from).collect())
}

fn is_grantable(permission: &str, wildcards: bool) -> bool {
    if permission.is_empty() || permission.len() > MAX_PERMISSION_BYTES {
        return false;
    }
    if permission.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return false;
    }
    match permission {
        "*" | "**" => false,
        _ => wildcards || !permission.contains('*'),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::parse_permissions;
    use crate::decision::Reason;
    use crate::token::tests::issuer;

    fn granted(claims: Value, wildcards: bool) -> Vec<String> {
        let mut issuer = issuer();
        issuer.wildcards = wildcards;
        let Value::Object(claims) = claims else { panic!() };
        parse_permissions(&claims, &issuer).unwrap().iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn strings_split_at_single_spaces_and_arrays_do_not() {
        assert_eq!(granted(json!({"scope": "b a  b"}), false), ["a", "b"]);
        assert_eq!(granted(json!({"scope": "a", "permissions": ["b", "c:d"]}), false), ["a", "b", "c:d"]);
        assert_eq!(granted(json!({"permissions": ["a b", "c"]}), false), ["c"]);
        assert_eq!(granted(json!({"scope": "a,b"}), false), ["a,b"]);
        for scope in [json!("a\tb"), json!("a\nb"), json!("a\u{a0}b"), json!("a\u{0}"), json!(""), json!(" ")] {
            assert!(granted(json!({"scope": scope}), false).is_empty());
        }
    }

    #[test]
    fn another_shape_grants_nothing() {
        for scope in
            [json!(null), json!(7), json!(true), json!({"a": 1}), json!([["a"]]), json!(["a", 7]), json!([null])]
        {
            assert!(granted(json!({"scope": scope}), true).is_empty());
        }
        assert!(granted(json!({"Scope": "a", "scp": "b"}), true).is_empty());
    }

    #[test]
    fn wildcards_need_leave_and_bare_ones_never_get_it() {
        let claims = json!({"permissions": ["*", "**", "a:*:b", "a:**", "a"]});
        assert_eq!(granted(claims.clone(), false), ["a"]);
        assert_eq!(granted(claims, true), ["a", "a:**", "a:*:b"]);
    }

    #[test]
    fn the_number_is_bounded() {
        let claims = |count: usize| -> Map<String, Value> {
            let list: Vec<Value> = (0..count).map(|n| json!(format!("p{n}"))).collect();
            [("scope".to_owned(), Value::Array(list))].into_iter().collect()
        };
        assert_eq!(parse_permissions(&claims(256), &issuer()).unwrap().len(), 256);
        assert_eq!(parse_permissions(&claims(257), &issuer()), Err(Reason::ClaimInvalid));
    }
}
