//! This file answers: what does the request for a question look like?

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{HeaderValue, Method, Request, Uri};
use wsauth::config::ClientAuthentication;
use wsauth::lookup::Question;
use wsauth::secret::Secret;

/// What `application/x-www-form-urlencoded` leaves as it is, but for the space.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_').remove(b' ');

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const SIGNED_FIRST: HeaderValue =
    HeaderValue::from_static("application/token-introspection+jwt, application/json;q=0.5");
const JSON_FIRST: HeaderValue = HeaderValue::from_static("application/json, application/token-introspection+jwt;q=0.5");

/// Who we are at one source.
#[derive(Debug, Default)]
pub(super) struct Ourselves {
    /// At the introspection endpoint.
    pub(super) client: Option<ClientAuthentication>,
    /// Whether its answers must be signed.
    pub(super) signed: bool,
    /// At the profile endpoint.
    pub(super) bearer: Option<Secret>,
}

/// Builds the request. `None` when the question is not one of HTTP, or we do not know who to be.
pub(super) fn build(question: &Question, url: &Uri, ourselves: &Ourselves) -> Option<Request<Vec<u8>>> {
    let mut request = Request::new(Vec::new());
    *request.uri_mut() = url.clone();
    match question {
        Question::Discovery { .. } | Question::Keys { .. } => drop(request.headers_mut().insert(ACCEPT, JSON)),
        Question::Profile { .. } => {
            request.headers_mut().insert(ACCEPT, JSON);
            if let Some(token) = &ourselves.bearer {
                request.headers_mut().insert(AUTHORIZATION, authorization("Bearer", token.expose())?);
            }
        }
        Question::Introspection { token, .. } => introspect(&mut request, token, ourselves)?,
        Question::Session { .. } => return None,
    }
    Some(request)
}

/// RFC 7662 section 2.1. The token stands in the body and nowhere else.
fn introspect(request: &mut Request<Vec<u8>>, token: &Secret, ourselves: &Ourselves) -> Option<()> {
    *request.method_mut() = Method::POST;
    let accept = if ourselves.signed { SIGNED_FIRST } else { JSON_FIRST };
    request.headers_mut().insert(ACCEPT, accept);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let mut body = format!("token={}&token_type_hint=access_token", form(token.expose()));
    let authorization = match ourselves.client.as_ref()? {
        // RFC 6749 section 2.3.1: encoded as in a form first, so that a colon in the id is no separator.
        ClientAuthentication::Basic { id, secret } => {
            let pair = format!("{}:{}", form(id.as_bytes()), form(secret.expose()));
            Some(authorization("Basic", STANDARD.encode(pair).as_bytes())?)
        }
        ClientAuthentication::Bearer { token } => Some(authorization("Bearer", token.expose())?),
        ClientAuthentication::Post { id, secret } => {
            body.push_str("&client_id=");
            body.push_str(&form(id.as_bytes()));
            body.push_str("&client_secret=");
            body.push_str(&form(secret.expose()));
            None
        }
    };
    if let Some(authorization) = authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    *request.body_mut() = body.into_bytes();
    Some(())
}

fn authorization(scheme: &str, credential: &[u8]) -> Option<HeaderValue> {
    let mut text = format!("{scheme} ").into_bytes();
    text.extend_from_slice(credential);
    let mut value = HeaderValue::from_bytes(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn form(bytes: &[u8]) -> String {
    percent_encode(bytes, FORM).to_string().replace(' ', "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> Uri {
        Uri::from_static("https://id.example.com/introspect")
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    fn ask(client: ClientAuthentication, signed: bool) -> Request<Vec<u8>> {
        let question = Question::Introspection {
            issuer: "https://id.example.com".into(),
            url: Some("unused".into()),
            token: secret("to ken&active=true+%/é"),
        };
        build(&question, &url(), &Ourselves { client: Some(client), signed, bearer: None }).unwrap()
    }

    fn body(request: &Request<Vec<u8>>) -> &str {
        std::str::from_utf8(request.body()).unwrap()
    }

    const TOKEN: &str = "token=to+ken%26active%3Dtrue%2B%25%2F%C3%A9&token_type_hint=access_token";

    #[test]
    fn the_three_ways_to_say_who_we_are() {
        let basic = ask(ClientAuthentication::Basic { id: "a:b c".to_owned(), secret: secret("p/w%") }, false);
        // base64 of `a%3Ab+c:p%2Fw%25`.
        assert_eq!(basic.headers()[AUTHORIZATION], "Basic YSUzQWIrYzpwJTJGdyUyNQ==");
        assert_eq!(body(&basic), TOKEN);
        let post = ask(ClientAuthentication::Post { id: "a&b".to_owned(), secret: secret("s=t") }, false);
        assert!(post.headers().get(AUTHORIZATION).is_none());
        assert_eq!(body(&post), format!("{TOKEN}&client_id=a%26b&client_secret=s%3Dt"));
        let bearer = ask(ClientAuthentication::Bearer { token: secret("abc") }, false);
        assert_eq!(bearer.headers()[AUTHORIZATION], "Bearer abc");
        assert_eq!(body(&bearer), TOKEN);
        for request in [basic, post, bearer] {
            assert_eq!((request.method(), request.uri()), (&Method::POST, &url()));
            assert_eq!(request.headers()[CONTENT_TYPE], "application/x-www-form-urlencoded");
            let debug = format!("{:?}", request.headers());
            assert!(!debug.contains("Basic YS") && !debug.contains("abc"), "{debug}");
        }
    }

    #[test]
    fn signed_answers_are_preferred_only_where_they_are_demanded() {
        let client = || ClientAuthentication::Bearer { token: secret("abc") };
        let accept = |signed| ask(client(), signed).headers()[ACCEPT].to_str().unwrap().to_owned();
        assert!(accept(true).starts_with("application/token-introspection+jwt, "));
        assert!(accept(false).starts_with("application/json, "));
    }

    #[test]
    fn only_the_profile_sees_its_bearer() {
        let ourselves = Ourselves { client: None, signed: false, bearer: Some(secret("ours")) };
        let issuer: std::sync::Arc<str> = "i".into();
        let profile = Question::Profile { issuer: issuer.clone(), subject: "s".into(), url: Some("u".into()) };
        let keys = Question::Keys { issuer: issuer.clone(), url: "u".into() };
        assert_eq!(build(&profile, &url(), &ourselves).unwrap().headers()[AUTHORIZATION], "Bearer ours");
        let request = build(&keys, &url(), &ourselves).unwrap();
        assert_eq!((request.method(), request.headers().len()), (&Method::GET, 1));
        assert_eq!(request.headers()[ACCEPT], "application/json");
        let introspection = Question::Introspection { issuer, url: Some("u".into()), token: secret("t") };
        assert!(build(&introspection, &url(), &ourselves).is_none(), "nobody to be");
        assert!(build(&Question::Session { id: secret("s") }, &url(), &ourselves).is_none());
    }
}
