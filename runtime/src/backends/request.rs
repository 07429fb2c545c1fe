//! This file answers: what does the request for a question look like?

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{self, HeaderValue, Request, Uri};
use wsauth::config::{ClientAuthentication, IntrospectionConfig};
use wsauth::lookup::Question;
use wsauth::secret::Secret;

use super::credential::Credential;

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
    client: Option<Client>,
    /// At the profile endpoint.
    bearer: Option<Credential>,
}

#[derive(Debug)]
struct Client {
    method: Method,
    /// Whether answers must be signed.
    signed: bool,
}

#[derive(Debug)]
enum Method {
    /// In the head.
    Credential(Credential),
    /// In the body.
    Post { id: String, secret: Secret },
}

impl Ourselves {
    /// At an issuer.
    pub(super) fn client(introspection: Option<&IntrospectionConfig>) -> Ourselves {
        let client = introspection.map(|asked| Client { method: Method::of(&asked.client), signed: asked.signed });
        Ourselves { client, bearer: None }
    }

    /// At the profile's source.
    pub(super) fn bearer(token: Option<&Secret>) -> Ourselves {
        Ourselves { client: None, bearer: token.map(|token| Credential::new("Bearer", token.expose())) }
    }

    /// What is put into heads on their way.
    pub(super) fn credential(&self) -> Option<&Credential> {
        match self.client.as_ref().map(|client| &client.method) {
            Some(Method::Credential(credential)) => Some(credential),
            Some(Method::Post { .. }) => None,
            None => self.bearer.as_ref(),
        }
    }
}

impl Method {
    fn of(client: &ClientAuthentication) -> Method {
        match client {
            // RFC 6749 section 2.3.1: encoded as in a form first, so that a colon in the id is no separator.
            ClientAuthentication::Basic { id, secret } => {
                let pair = format!("{}:{}", form(id.as_bytes()), form(secret.expose()));
                Method::Credential(Credential::new("Basic", STANDARD.encode(pair).as_bytes()))
            }
            ClientAuthentication::Post { id, secret } => Method::Post { id: id.clone(), secret: secret.clone() },
            ClientAuthentication::Bearer { token } => Method::Credential(Credential::new("Bearer", token.expose())),
        }
    }
}

/// Builds the request. `None` when the question is not one of HTTP, or we do not know who to be.
pub(super) fn build(question: &Question, url: &Uri, ourselves: &Ourselves) -> Option<Request<Vec<u8>>> {
    let mut request = Request::new(Vec::new());
    *request.uri_mut() = url.clone();
    match question {
        Question::Discovery { .. } | Question::Keys { .. } => drop(request.headers_mut().insert(ACCEPT, JSON)),
        Question::Profile { .. } => {
            request.headers_mut().insert(ACCEPT, JSON);
            if let Some(credential) = &ourselves.bearer {
                request.headers_mut().insert(AUTHORIZATION, credential.placeholder()?);
            }
        }
        Question::Introspection { token, .. } => introspect(&mut request, token, ourselves.client.as_ref()?)?,
        Question::Session { .. } => return None,
    }
    Some(request)
}

/// RFC 7662 section 2.1. The token stands in the body and nowhere else.
fn introspect(request: &mut Request<Vec<u8>>, token: &Secret, client: &Client) -> Option<()> {
    *request.method_mut() = http::Method::POST;
    let accept = if client.signed { SIGNED_FIRST } else { JSON_FIRST };
    request.headers_mut().insert(ACCEPT, accept);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let mut body = format!("token={}&token_type_hint=access_token", form(token.expose()));
    match &client.method {
        Method::Credential(credential) => {
            request.headers_mut().insert(AUTHORIZATION, credential.placeholder()?);
        }
        Method::Post { id, secret } => {
            body.push_str("&client_id=");
            body.push_str(&form(id.as_bytes()));
            body.push_str("&client_secret=");
            body.push_str(&form(secret.expose()));
        }
    }
    *request.body_mut() = body.into_bytes();
    Some(())
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

    fn ourselves(client: ClientAuthentication, signed: bool) -> Ourselves {
        Ourselves::client(Some(&IntrospectionConfig { signed, ..IntrospectionConfig::new("unused", client) }))
    }

    fn ask(ourselves: &Ourselves) -> Request<Vec<u8>> {
        let question = Question::Introspection {
            issuer: "https://id.example.com".into(),
            url: Some("unused".into()),
            token: secret("to ken&active=true+%/é"),
        };
        build(&question, &url(), ourselves).unwrap()
    }

    fn body(request: &Request<Vec<u8>>) -> &str {
        std::str::from_utf8(request.body()).unwrap()
    }

    const TOKEN: &str = "token=to+ken%26active%3Dtrue%2B%25%2F%C3%A9&token_type_hint=access_token";

    #[test]
    fn the_three_ways_to_say_who_we_are() {
        let basic = ourselves(ClientAuthentication::Basic { id: "a:b c".to_owned(), secret: secret("p/w%") }, false);
        let bearer = ourselves(ClientAuthentication::Bearer { token: secret("abc") }, false);
        for (who, value) in [
            // base64 of `a%3Ab+c:p%2Fw%25`.
            (basic, "Basic YSUzQWIrYzpwJTJGdyUyNQ=="),
            (bearer, "Bearer abc"),
        ] {
            let request = ask(&who);
            assert_eq!(body(&request), TOKEN);
            assert_eq!((request.method(), request.uri()), (&http::Method::POST, &url()));
            assert_eq!(request.headers()[CONTENT_TYPE], "application/x-www-form-urlencoded");
            assert_eq!(request.headers()[AUTHORIZATION], "~".repeat(value.len()));
            let debug = format!("{who:?} {request:?}");
            assert!(!debug.contains("YSUz") && !debug.contains("abc") && !debug.contains("p/w"), "{debug}");
        }
        let post = ourselves(ClientAuthentication::Post { id: "a&b".to_owned(), secret: secret("s=t") }, false);
        let request = ask(&post);
        assert!(request.headers().get(AUTHORIZATION).is_none() && post.credential().is_none());
        assert_eq!(body(&request), format!("{TOKEN}&client_id=a%26b&client_secret=s%3Dt"));
    }

    #[test]
    fn signed_answers_are_preferred_only_where_they_are_demanded() {
        let client = || ClientAuthentication::Bearer { token: secret("abc") };
        let accept = |signed| ask(&ourselves(client(), signed)).headers()[ACCEPT].to_str().unwrap().to_owned();
        assert!(accept(true).starts_with("application/token-introspection+jwt, "));
        assert!(accept(false).starts_with("application/json, "));
    }

    #[test]
    fn only_the_profile_sees_its_bearer() {
        let ourselves = Ourselves::bearer(Some(&secret("ours")));
        let issuer: std::sync::Arc<str> = "i".into();
        let profile = Question::Profile { issuer: issuer.clone(), subject: "s".into(), url: Some("u".into()) };
        let keys = Question::Keys { issuer: issuer.clone(), url: "u".into() };
        assert!(build(&profile, &url(), &ourselves).unwrap().headers().contains_key(AUTHORIZATION));
        let request = build(&keys, &url(), &ourselves).unwrap();
        assert_eq!((request.method(), request.headers().len()), (&http::Method::GET, 1));
        assert_eq!(request.headers()[ACCEPT], "application/json");
        let introspection = Question::Introspection { issuer, url: Some("u".into()), token: secret("t") };
        assert!(build(&introspection, &url(), &ourselves).is_none(), "nobody to be");
        assert!(build(&Question::Session { id: secret("s") }, &url(), &ourselves).is_none());
    }
}
