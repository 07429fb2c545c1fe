//! This file answers: whose word is taken over TLS, and what happens to any other?

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use rustls::{ServerConnection, StreamOwned};
use wsauth::config::TlsConfig;
use wsauth::lookup::HttpResponse;
use wsauth::secret::Secret;
use wsauth_runtime::{Clock, Guard, HttpResolver, StartError};

use crate::certificates::{Authority, Certified, self_signed};
use crate::script::{CLIENT_SECRET, Script, ask, config, in_time, introspection, keys, read_request, response};

fn at(script: &Script) -> String {
    format!("https://localhost:{}", script.address.port())
}

fn ask_with(script: &Script, tls: TlsConfig) -> Option<HttpResponse> {
    let mut config = config(&at(script));
    config.issuers[0].tls = tls;
    in_time(|| ask(&HttpResolver::from_config(&config).unwrap(), &introspection(&at(script))))
}

fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig { authorities: Some(authority.pem()), client: None }
}

fn ok(_: &str) -> Option<Vec<u8>> {
    Some(response(200, "", b"{}"))
}

#[test]
fn an_authority_of_ones_own_is_accepted_and_only_that_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let script = Script::secure(authority.certify("localhost", 2999).server(None), ok);
    assert_eq!(ask_with(&script, trusting(&authority)).unwrap().status, 200);
    assert!(ask_with(&script, trusting(&other)).is_none());
    assert!(ask_with(&script, TlsConfig::default()).is_none(), "the operating system does not know it");
    assert_eq!(script.requests().len(), 1);
}

#[test]
fn an_address_is_certified_as_one() {
    let authority = Authority::new();
    let script = Script::secure(authority.certify("127.0.0.1", 2999).server(None), ok);
    let url = format!("https://{}", script.address);
    let mut config = config(&url);
    config.issuers[0].tls = trusting(&authority);
    assert!(ask(&HttpResolver::from_config(&config).unwrap(), &keys(&url)).is_some());
}

#[test]
fn expired_misnamed_and_self_signed_certificates_are_refused() {
    let authority = Authority::new();
    let own = self_signed("localhost");
    let cases: [(&str, &Certified, TlsConfig); 4] = [
        ("expired", &authority.certify("localhost", 2001), trusting(&authority)),
        ("wrong name", &authority.certify("id.example.com", 2999), trusting(&authority)),
        ("self-signed", &own, trusting(&authority)),
        ("self-signed, for the system", &own, TlsConfig::default()),
    ];
    for (what, certified, tls) in cases {
        let script = Script::secure(certified.server(None), ok);
        assert!(ask_with(&script, tls).is_none(), "{what}");
        assert_eq!(script.requests(), [""; 0], "{what}: nothing was said");
    }
}

#[test]
fn nothing_is_ever_said_in_the_clear() {
    // A plain server, an alert that wants an older protocol, and one that hangs up.
    for answer in [&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"[..], b"\x15\x03\x01\x00\x02\x02\x46", b""] {
        let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let tell = Arc::clone(&heard);
        let script = Script::raw(move |mut stream, _| {
            let mut first = vec![0; 4096];
            let read = stream.read(&mut first).unwrap();
            first.truncate(read);
            tell.lock().unwrap().push(first);
            let _ = stream.write_all(answer);
        });
        assert!(ask_with(&script, trusting(&Authority::new())).is_none());
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 1, "and it is not tried again");
        assert_eq!(heard[0][..2], [0x16, 3], "a TLS handshake");
    }
}

#[test]
fn our_certificate_is_shown_where_it_is_demanded() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let ours = clients.certify("guard.example.com", 2999);
    let script = Script::secure(authority.certify("localhost", 2999).server(Some(&clients)), ok);
    let client = Some((ours.chain.clone(), Secret::new(ours.key.clone())));
    let tls = TlsConfig { client, ..trusting(&authority) };
    assert_eq!(ask_with(&script, tls).unwrap().status, 200);
    assert!(ask_with(&script, trusting(&authority)).is_none(), "none was shown");
    let stranger = Authority::new().certify("guard.example.com", 2999);
    let client = Some((stranger.chain, Secret::new(stranger.key)));
    assert!(ask_with(&script, TlsConfig { client, ..trusting(&authority) }).is_none());
    assert_eq!(script.requests().len(), 1);
}

#[test]
fn a_body_without_a_length_must_end_with_a_goodbye() {
    let authority = Authority::new();
    for goodbye in [true, false] {
        let server = Arc::new(authority.certify("localhost", 2999).server(None));
        let script = Script::raw(move |stream, _| {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&server)).unwrap(), stream);
            if read_request(&mut stream).is_some() {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"active\":true}").unwrap();
                if goodbye {
                    stream.conn.send_close_notify();
                }
                let _ = stream.flush();
            }
        });
        assert_eq!(ask_with(&script, trusting(&authority)).is_some(), goodbye);
    }
}

#[test]
fn certificates_that_cannot_be_used_stop_the_start_and_name_the_issuer() {
    let good = Authority::new().certify("guard.example.com", 2999);
    let other = Authority::new().certify("guard.example.com", 2999);
    let client = |chain: &[u8], key: &[u8]| TlsConfig {
        authorities: Some(Authority::new().pem()),
        client: Some((chain.to_vec(), Secret::new(key.to_vec()))),
    };
    let authorities = |pem: &[u8]| TlsConfig { authorities: Some(pem.to_vec()), client: None };
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for tls in [
        authorities(b""),
        authorities(b"hunter2"),
        authorities(broken),
        authorities(&[Authority::new().pem(), broken.to_vec()].concat()),
        client(b"hunter2", &good.key),
        client(&good.chain, b"hunter2"),
        client(&good.chain, &good.chain),
        client(&good.chain, &other.key),
    ] {
        let mut config = config("https://id.example.com");
        config.issuers[0].tls = tls.clone();
        let error = Guard::new(config.clone(), Clock::system()).unwrap_err();
        assert!(matches!(error, StartError::Source { .. }), "{error:?}");
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(text.contains("https://id.example.com"), "{text}");
            assert!(!text.contains("hunter2") && !text.contains(CLIENT_SECRET), "{text}");
        }
        // A profile's as well, and a reload is refused as a whole.
        let profile = config.profile.as_mut().unwrap();
        profile.tls = std::mem::take(&mut config.issuers[0].tls);
        let guard = Guard::new(crate::script::config("https://id.example.com"), Clock::system()).unwrap();
        assert!(guard.reload(config).unwrap_err().to_string().starts_with("profile: "));
        assert!(guard.config().profile.as_ref().unwrap().tls.authorities.is_none(), "the old one stays");
    }
}
