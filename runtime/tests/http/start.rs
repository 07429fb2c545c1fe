//! This file answers: what is fetched before the first handshake, and what never?

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use wsauth_runtime::{Clock, Guard, StartError};

use crate::script::{ISSUER, Script, config, eventually, in_time, response};
use crate::workers::{threads, wait_a_moment};

/// A key set with one RSA key (RFC 7517 appendix A.1).
fn key_set() -> Vec<u8> {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3o\
             knjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHz\
             u6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8\
             awapJzKnqDKgw";
    let key = json!({"kty": "RSA", "kid": "a", "alg": "RS256", "use": "sig", "n": n, "e": "AQAB"});
    json!({ "keys": [key] }).to_string().into_bytes()
}

fn requiring(url: &str) -> wsauth::config::Config {
    let mut config = config(url);
    config.lookups.require_keys = true;
    config
}

#[test]
fn required_keys_are_there_when_the_guard_is_and_no_thread_was_started() {
    let script = Script::saying(response(200, "Content-Type: application/json\r\n", &key_set()));
    let guard = Guard::new(requiring(&script.url()), Clock::system()).unwrap();
    assert!(script.requests()[0].starts_with("GET /jwks HTTP/1.1\r\n"));
    assert_eq!(threads("wsauth-lookup").len(), 0);
    // A child process does not wait for what its parent had at the start.
    drop(script);
    assert!(guard.fresh().is_ok());
}

#[test]
fn keys_are_fetched_before_anybody_comes() {
    let script = Script::saying(response(200, "Content-Type: application/json\r\n", &key_set()));
    let guard = Guard::new(config(&script.url()), Clock::system()).unwrap();
    assert_eq!(threads("wsauth-lookup").len(), 0, "a guard that is made may be forked still");
    guard.prefetch();
    eventually("the key set is fetched", || !script.requests().is_empty());
}

#[test]
fn keys_that_come_at_the_second_try_are_in_time() {
    let asked = AtomicUsize::new(0);
    let script = Script::answering(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Some(response(503, "", b"")),
        _ => Some(response(200, "", &key_set())),
    });
    assert!(Guard::new(requiring(&script.url()), Clock::system()).is_ok());
}

#[test]
fn without_required_keys_there_is_no_guard_and_the_issuer_is_named() {
    let hole = Script::raw(|stream, _| {
        wait_a_moment(60_000);
        drop(stream);
    });
    let urls = [
        Script::saying(response(500, "", &key_set())).url(),
        Script::saying(response(302, "Location: /other\r\n", &key_set())).url(),
        Script::saying(response(200, "", b"{\"keys\":[]}")).url(),
        Script::saying(response(200, "", b"<html>")).url(),
        hole.url(),
    ];
    for url in urls {
        let error = in_time(|| Guard::new(requiring(&url), Clock::system())).unwrap_err();
        let StartError::Source { name, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*name, format!("issuer `{ISSUER}`"));
    }
}

#[test]
fn a_host_that_answers_itself_is_asked_for_nothing() {
    let script = Script::saying(response(200, "", &key_set()));
    let mut config = requiring(&script.url());
    config.lookups.by_host = true;
    assert!(Guard::new(config, Clock::system()).is_ok());
    assert_eq!(script.connections(), 0);
}

#[test]
fn making_a_guard_connects_nowhere_and_starts_nothing() {
    let script = Script::saying(response(200, "", &key_set()));
    let guard = Guard::new(config(&script.url()), Clock::system()).unwrap();
    guard.reload(config(&script.url())).unwrap();
    let _fresh = guard.fresh().unwrap();
    assert_eq!((script.connections(), threads("wsauth").len()), (0, 0));
}

#[test]
fn required_keys_may_be_where_a_discovery_document_says() {
    let own: std::sync::Arc<std::sync::OnceLock<String>> = std::sync::Arc::default();
    let url = std::sync::Arc::clone(&own);
    let script = Script::answering(move |request| {
        let body = if request.starts_with("GET /jwks ") {
            key_set()
        } else {
            json!({"issuer": ISSUER, "jwks_uri": format!("{}/jwks", url.get().unwrap())}).to_string().into_bytes()
        };
        Some(response(200, "Content-Type: application/json\r\n", &body))
    });
    own.set(script.url()).unwrap();
    let mut config = requiring(&script.url());
    let wsauth::config::KeysConfig::Remote(keys) = &mut config.issuers[0].keys else { panic!("not fetched") };
    (keys.url, keys.discovery) = (format!("{}/.well-known/openid-configuration", script.url()), true);
    let guard = Guard::new(config, Clock::system()).unwrap();
    assert_eq!(script.requests().len(), 2);
    assert_eq!(threads("wsauth-lookup").len(), 0);
    drop(guard);
}
