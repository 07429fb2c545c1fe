//! This file answers: what does a source hear from us?

use crate::script::{
    BEARER, CLIENT_SECRET, Script, TOKEN, ask, discovery, introspection, keys, profile, resolver, response,
};

#[test]
fn a_source_hears_what_its_question_needs_and_no_more() {
    let script = Script::saying(response(200, "Set-Cookie: a=b\r\n", b"{}"));
    let (url, resolver) = (script.url(), resolver(&script.url()));
    for question in [keys(&url), discovery(&url), introspection(&url), profile(&url)] {
        assert_eq!(ask(&resolver, &question).unwrap().status, 200);
    }
    let requests = script.requests();
    let lines: Vec<&str> = requests.iter().map(|request| request.lines().next().unwrap()).collect();
    let wanted = [
        "GET /jwks HTTP/1.1",
        "GET /.well-known/openid-configuration HTTP/1.1",
        "POST /introspect HTTP/1.1",
        "GET /users/ann HTTP/1.1",
    ];
    assert_eq!(lines, wanted);
    for request in &requests {
        let lower = request.to_ascii_lowercase();
        assert!(lower.contains(&format!("user-agent: wsauth/{}\r\n", env!("CARGO_PKG_VERSION"))), "{request}");
        assert!(lower.contains("\r\naccept: application/"), "{request}");
        assert!(!lower.contains("cookie") && !lower.contains("accept-encoding"), "{request}");
    }
    assert_eq!(script.connections(), 2, "one pool of the issuer, one of the profile");
    for (request, has_token, has_bearer, has_client) in [
        (&requests[0], false, false, false),
        (&requests[1], false, false, false),
        (&requests[2], true, false, true),
        (&requests[3], false, true, false),
    ] {
        assert_eq!(request.contains(TOKEN), has_token);
        assert_eq!(request.contains(BEARER), has_bearer);
        assert_eq!(request.to_ascii_lowercase().contains("authorization: basic "), has_client);
        assert!(!request.contains(CLIENT_SECRET), "it is encoded");
        assert!(!request.contains('~'), "no placeholder is left");
    }
}

#[test]
fn the_token_stands_in_the_body_only() {
    let script = Script::saying(response(200, "", b"{}"));
    ask(&resolver(&script.url()), &introspection(&script.url())).unwrap();
    let request = script.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains(TOKEN), "{head}");
    assert_eq!(body, format!("token={TOKEN}&token_type_hint=access_token"));
}

#[test]
fn a_stale_connection_never_brings_another_answer() {
    // Says a second response that nobody asked for, or hangs up after the first.
    for unasked in [true, false] {
        let script = Script::raw(move |mut stream, number| {
            use std::io::Write;
            while let Some(request) = crate::script::read_request(&mut stream) {
                let body = format!("{{\"connection\":{number},\"asked\":\"{}\"}}", request.lines().next().unwrap());
                let mut answer = response(200, "", body.as_bytes());
                if unasked {
                    answer.extend(response(200, "", b"{\"poison\":true}"));
                }
                if stream.write_all(&answer).is_err() || !unasked {
                    return;
                }
            }
        });
        let resolver = resolver(&script.url());
        let (mut answered, mut path) = (0, 0);
        for _ in 0..50 {
            path += 1;
            let question = wsauth::lookup::Question::Keys {
                issuer: crate::script::ISSUER.into(),
                url: format!("{}/{path}", script.url()).into(),
            };
            if let Some(response) = ask(&resolver, &question) {
                let body = String::from_utf8(response.body).unwrap();
                assert!(body.contains(&format!("GET /{path} HTTP/1.1")), "{body}");
                answered += 1;
            }
        }
        assert!(answered > 0);
    }
}

#[test]
fn a_question_for_a_source_that_is_not_configured_is_not_asked() {
    let script = Script::saying(response(200, "", b"{}"));
    let other = crate::script::config("https://id.example.com");
    let resolver = wsauth_runtime::HttpResolver::from_config(&other).unwrap();
    // Plain http to this machine, which only a document of the issuer could have named.
    assert!(ask(&resolver, &keys(&script.url())).is_none());
    let stranger = wsauth::lookup::Question::Keys { issuer: "https://x".into(), url: script.url().into() };
    assert!(ask(&crate::script::resolver(&script.url()), &stranger).is_none());
    assert_eq!(script.connections(), 0);
}

/// A reload may replace the endpoint and our credentials while a question is out.
#[test]
fn a_place_that_is_no_longer_the_configured_one_hears_no_credential_of_ours() {
    let (old, new) = (Script::saying(response(200, "", b"{}")), Script::saying(response(200, "", b"{}")));
    let resolver = resolver(&new.url());
    for question in [introspection(&old.url()), profile(&old.url())] {
        assert!(ask(&resolver, &question).is_none());
    }
    assert_eq!(old.connections(), 0);
}
