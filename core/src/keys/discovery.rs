//! This file answers: where are this issuer's keys, by its own discovery document?
//!
//! OpenID Connect Discovery 1.0 section 4. The document only says where to ask; it vouches for nothing.

use std::sync::Arc;

use serde_json::Value;

use crate::config::find_named_url_problem;
use crate::lookup::HttpResponse;
use crate::token::json::{Bounds, parse_object};

/// Largest discovery document in bytes.
pub const MAX_DISCOVERY_BYTES: usize = 64 * 1024;

/// Documents of large providers hold some hundred values, two deep.
const BOUNDS: Bounds = Bounds { depth: 8, members: 4_096 };

/// What a discovery document says that we read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// Where the key set is.
    pub jwks_uri: Arc<str>,
    /// Where tokens are asked about (RFC 8414 section 2), if it says so.
    pub introspection_endpoint: Option<Arc<str>>,
}

/// Reads the answer to the question for a discovery document: `issuer`'s, asked for at `from`.
///
/// Refused, with a fixed sentence that repeats nothing of it: a status other than 200, a type other than
/// `application/json`, more than 64 KiB, anything but one strict JSON object, another `issuer`, and a `jwks_uri` (or
/// an `introspection_endpoint`) that is missing or could not be configured either, or that leads to this machine
/// though the document came from another.
pub fn parse_discovery(response: &HttpResponse, issuer: &str, from: &str) -> Result<Discovered, &'static str> {
    if response.status != 200 {
        return Err("the discovery document was not served: its status is not 200");
    }
    if !response.content_type.as_deref().is_some_and(|text| is_media_type(text, "application/json")) {
        return Err("the discovery document is not application/json");
    }
    if response.body.len() > MAX_DISCOVERY_BYTES {
        return Err("the discovery document is larger than 64 KiB");
    }
    let document =
        parse_object(&response.body, BOUNDS).map_err(|_| "the discovery document is no strict JSON object")?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("the discovery document is of another issuer");
    }
    let find = |name: &str| match document.get(name) {
        None => Ok(None),
        Some(value) => match value.as_str().filter(|url| find_named_url_problem(url, from).is_none()) {
            Some(url) => Ok(Some(Arc::from(url))),
            None => Err("the discovery document names a url that must not be asked"),
        },
    };
    let jwks_uri = find("jwks_uri")?.ok_or("the discovery document names no `jwks_uri`")?;
    Ok(Discovered { jwks_uri, introspection_endpoint: find("introspection_endpoint")? })
}

/// Finds the key set in the answer to the question for it; [`Issuer::load_keys`](super::Issuer::load_keys) checks it.
///
/// Refused: a status other than 200, and a page for people. Providers serve key sets under several types, so no one
/// type is asked for.
pub fn find_key_set(response: &HttpResponse) -> Result<&[u8], &'static str> {
    if response.status != 200 {
        return Err("the key set was not served: its status is not 200");
    }
    if response.content_type.as_deref().is_some_and(|text| is_media_type(text, "text/html")) {
        return Err("the key set is a page of HTML");
    }
    Ok(&response.body)
}

/// Whether a `Content-Type` names this type, whatever its parameters (RFC 9110 section 8.3.1).
fn is_media_type(text: &str, wanted: &str) -> bool {
    text.split(';').next().is_some_and(|name| name.trim_matches([' ', '\t']).eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Discovered, MAX_DISCOVERY_BYTES, find_key_set, parse_discovery};
    use crate::lookup::HttpResponse;

    const ISSUER: &str = "https://id.example.com";
    const FROM: &str = "https://id.example.com/.well-known/openid-configuration";

    fn response(body: impl AsRef<[u8]>) -> HttpResponse {
        let content_type = Some("application/json".to_owned());
        HttpResponse { status: 200, content_type, retry_after_ms: None, body: body.as_ref().to_vec() }
    }

    fn document() -> Value {
        json!({
            "issuer": ISSUER,
            "jwks_uri": "https://id.example.com/jwks",
            "introspection_endpoint": "https://id.example.com/introspect",
            "response_types_supported": ["code"],
            "mtls_endpoint_aliases": { "token_endpoint": "https://mtls.id.example.com/token" },
        })
    }

    fn read(response: &HttpResponse) -> Result<Discovered, &'static str> {
        parse_discovery(response, ISSUER, FROM)
    }

    /// The usual document with one member changed, or taken out.
    fn with(name: &str, value: Value) -> Result<Discovered, &'static str> {
        let mut changed = document();
        match value {
            Value::Null => drop(changed.as_object_mut().unwrap().remove(name)),
            value => changed[name] = value,
        }
        read(&response(changed.to_string()))
    }

    #[test]
    fn a_good_document_says_where_to_ask() {
        let found = read(&response(document().to_string())).unwrap();
        assert_eq!(&*found.jwks_uri, "https://id.example.com/jwks");
        assert_eq!(found.introspection_endpoint.as_deref(), Some("https://id.example.com/introspect"));
        assert_eq!(with("introspection_endpoint", Value::Null).unwrap().introspection_endpoint, None);
        for content_type in ["Application/JSON", "application/json; charset=utf-8", "application/json ;x=y"] {
            let typed = HttpResponse { content_type: Some(content_type.into()), ..response(document().to_string()) };
            assert!(read(&typed).is_ok(), "{content_type}");
        }
    }

    #[test]
    fn only_a_status_of_200_and_json_count() {
        for status in [0, 201, 204, 206, 301, 302, 304, 401, 404, 429, 500, 503] {
            assert!(read(&HttpResponse { status, ..response(document().to_string()) }).is_err(), "{status}");
        }
        for content_type in [None, Some(""), Some("text/html"), Some("application/jsonp"), Some("text/json")] {
            let content_type = content_type.map(str::to_owned);
            assert!(read(&HttpResponse { content_type, ..response(document().to_string()) }).is_err());
        }
    }

    #[test]
    fn only_one_strict_object_of_bounded_size_counts() {
        let good = document().to_string();
        let doubled = good.replacen('{', r#"{"jwks_uri":"https://evil.example/","#, 1);
        let deep = good.replacen('{', &format!(r#"{{"x":{}1{},"#, "[".repeat(8), "]".repeat(8)), 1);
        for bad in ["", "[]", "{}", "null", "<html>", &format!("{good}{good}"), &doubled, &deep] {
            assert!(read(&response(bad)).is_err(), "{bad}");
        }
        let padded = |bytes: usize| response(format!("{good}{}", " ".repeat(bytes - good.len())));
        assert!(read(&padded(MAX_DISCOVERY_BYTES)).is_ok());
        assert!(read(&padded(MAX_DISCOVERY_BYTES + 1)).is_err());
    }

    #[test]
    fn the_issuer_is_the_configured_one_byte_for_byte() {
        for other in [json!("https://id.example.com/"), json!("HTTPS://id.example.com"), json!([ISSUER]), Value::Null] {
            assert_eq!(with("issuer", other), Err("the discovery document is of another issuer"));
        }
    }

    #[test]
    fn it_sends_us_nowhere_that_could_not_be_configured() {
        for url in [
            json!("http://id.example.com/jwks"),
            json!("https://localhost/jwks"),
            json!("http://169.254.169.254/"),
            json!("https://user:pw@id.example.com/jwks"),
            json!("file:///etc/passwd"),
            json!(""),
            json!(7),
        ] {
            for name in ["jwks_uri", "introspection_endpoint"] {
                assert!(with(name, url.clone()).is_err(), "{name} {url}");
            }
        }
        assert!(with("jwks_uri", Value::Null).is_err());
        let local = json!({ "issuer": ISSUER, "jwks_uri": "http://127.0.0.1:8080/jwks" }).to_string();
        assert!(parse_discovery(&response(&local), ISSUER, "http://localhost:8080/d").is_ok());
    }

    #[test]
    fn a_key_set_comes_under_any_type_but_a_page() {
        for content_type in [None, Some("application/jwk-set+json"), Some("application/octet-stream")] {
            let content_type = content_type.map(str::to_owned);
            assert_eq!(find_key_set(&HttpResponse { content_type, ..response("x") }), Ok(&b"x"[..]));
        }
        let page = HttpResponse { content_type: Some("text/HTML; charset=utf-8".into()), ..response("x") };
        assert!(find_key_set(&page).is_err());
        for status in [204, 302, 404, 500] {
            assert!(find_key_set(&HttpResponse { status, ..response("x") }).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_decided(status in prop::sample::select(vec![200u16, 500]), body in any::<Vec<u8>>(), text in ".*") {
            let answer = HttpResponse { status, content_type: Some(text), retry_after_ms: None, body };
            let _ = read(&answer);
            let _ = find_key_set(&answer);
        }
    }
}
