//! This file answers: which responses are handed on, and which are none?

use std::net::TcpListener;

use crate::script::{Script, ask, ask_once, config, introspection, keys, resolver, response};
use wsauth_runtime::HttpResolver;

#[test]
fn every_complete_response_is_handed_on_whatever_it_says() {
    for status in [200, 201, 204, 301, 302, 400, 401, 403, 404, 418, 429, 500, 502, 503, 504] {
        let body: &[u8] = if status == 204 { b"" } else { b"{\"a\":1}" };
        let bytes = if status == 204 {
            b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()
        } else {
            response(status, "Content-Type: application/json\r\n", body)
        };
        let answer = ask_once(&bytes).unwrap();
        assert_eq!((answer.status, &*answer.body), (status, body));
    }
    for body in [&b""[..], b"<html></html>", b"[]", b"{\"keys\":", b"\xff\xfe", b"null"] {
        assert_eq!(ask_once(&response(200, "Content-Type: text/html\r\n", body)).unwrap().body, body);
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let there = format!("Location: http://{}/jwks\r\n", trap.local_addr().unwrap());
    for status in [301, 302, 303, 307, 308] {
        let script = Script::saying(response(status, &there, b""));
        let resolver = resolver(&script.url());
        for question in [keys(&script.url()), introspection(&script.url())] {
            assert_eq!(ask(&resolver, &question).unwrap().status, status);
        }
        assert_eq!(script.requests().len(), 2);
    }
    assert_eq!(trap.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody came");
}

#[test]
fn a_response_cut_at_any_byte_is_no_response() {
    let body = br#"{"keys":[{"kty":"RSA","kid":"a"}]}"#;
    let fixed = response(200, "Content-Type: application/json\r\n", body);
    let (first, second) = body.split_at(10);
    let chunked = [
        &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n"[..],
        first,
        format!("\r\n{:x}\r\n", second.len()).as_bytes(),
        second,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    for whole in [fixed, chunked] {
        for length in 0..whole.len() {
            if let Some(answer) = ask_once(&whole[..length]) {
                // Only the empty line after the last chunk may be missing.
                assert_eq!(answer.body, body, "cut at {length} of {}", whole.len());
                assert!(whole.len() - length <= 2, "cut at {length} of {}", whole.len());
            }
        }
        assert_eq!(ask_once(&whole).unwrap().body, body);
    }
}

#[test]
fn a_body_longer_than_its_cap_is_refused() {
    for (of_keys, cap) in [(true, 512 * 1024), (false, 64 * 1024)] {
        for (length, fits) in [(cap, true), (cap + 1, false), (4 * cap, false)] {
            let body = vec![b' '; length];
            let chunk = [format!("{length:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
            let chunked = [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &chunk].concat();
            for whole in [response(200, "", &body), chunked] {
                let script = Script::saying(whole);
                let url = script.url();
                let question = if of_keys { keys(&url) } else { introspection(&url) };
                let answer = ask(&resolver(&url), &question);
                assert_eq!(answer.map(|answer| answer.body.len()), fits.then_some(length));
            }
        }
    }
}

#[test]
fn a_compressed_body_is_never_inflated() {
    // Ten mebibytes of zeros, in ten kibibytes.
    let bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1, 1, 0, 0, 0];
    for encoding in
        ["gzip", "br", "deflate", "zstd", "x-gzip", "gzip, identity", "identity\r\nContent-Encoding: gzip", ""]
    {
        let fields = format!("Content-Encoding: {encoding}\r\n");
        assert!(ask_once(&response(200, &fields, &bomb)).is_none(), "{encoding}");
    }
    assert!(ask_once(&response(200, "Content-Encoding: Identity\r\n", b"{}")).is_some());
}

#[test]
fn garbage_in_chunks_is_refused() {
    for chunks in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffff\r\n{}",
        "fffffffffffffffffffffffffffff\r\n{}",
        "2\r\n{}0\r\n\r\n",
        "2{}\r\n0\r\n\r\n",
        "\r\n\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "3\r\n{}",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert!(ask_once(bytes.as_bytes()).is_none(), "{chunks:?}");
    }
}

#[test]
fn a_wrong_length_is_refused_or_what_is_beyond_it_is_thrown_away() {
    for fields in [
        "Content-Length: 9\r\n",
        "Content-Length: x\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 99999999999999999999999\r\n",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{{}}");
        assert!(ask_once(bytes.as_bytes()).is_none(), "{fields:?}");
    }
    let answer = ask_once(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 500 No\r\n\r\n").unwrap();
    assert_eq!((answer.status, &*answer.body), (200, &b"{}"[..]));
}

#[test]
fn heads_are_bounded_in_size_and_number_of_fields() {
    let many: String = (0..1_000).map(|n| format!("A{n}: b\r\n")).collect();
    assert!(ask_once(&response(200, &many, b"{}")).is_none());
    let long = format!("A: {}\r\n", "b".repeat(17 * 1024));
    assert!(ask_once(&response(200, &long, b"{}")).is_none());
    let fits = format!("A: {}\r\n", "b".repeat(8 * 1024));
    assert!(ask_once(&response(200, &fits, b"{}")).is_some());
    // A head without end.
    assert!(ask_once(&[&b"HTTP/1.1 200 OK\r\n"[..], &b"A: b\r\n".repeat(100_000)].concat()).is_none());
    assert!(ask_once(&vec![b'A'; 1_000_000]).is_none());
}

#[test]
fn what_is_not_http_is_refused() {
    for bytes in [
        &b""[..],
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"\x16\x03\x01\x00\x02\x02\x28",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        assert!(ask_once(bytes).is_none(), "{bytes:?}");
    }
}

#[test]
fn retry_after_is_read_in_both_forms_and_only_when_it_is_one() {
    for (fields, ms) in [
        ("Retry-After: 7\r\n", Some(7_000)),
        ("Retry-After: 86400\r\n", Some(3_600_000)),
        ("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n", Some(3_600_000)),
        ("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Some(0)),
        ("Retry-After: soon\r\n", None),
        ("Retry-After: 7\r\nRetry-After: 8\r\n", None),
        ("", None),
    ] {
        for status in [429, 503] {
            let answer = ask_once(&response(status, fields, b"")).unwrap();
            assert_eq!((answer.status, answer.retry_after_ms), (status, ms), "{fields}");
        }
    }
}

#[test]
fn a_content_type_counts_only_when_it_is_one() {
    let of = |fields: &str| ask_once(&response(200, fields, b"{}")).unwrap().content_type;
    assert_eq!(of("Content-Type: application/json; charset=utf-8\r\n").unwrap(), "application/json; charset=utf-8");
    assert_eq!(of(""), None);
    assert_eq!(of("Content-Type: application/json\r\nContent-Type: text/html\r\n"), None);
}

#[test]
fn a_configured_proxy_carries_everything() {
    let origin = Script::saying(response(200, "", b"{\"from\":\"origin\"}"));
    let there = origin.address;
    let proxy = Script::raw(move |mut stream, _| {
        use std::io::Write;
        let request = crate::script::read_request(&mut stream).unwrap();
        assert!(request.starts_with(&format!("CONNECT {there} HTTP/1.1\r\n")), "{request}");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let mut onward = std::net::TcpStream::connect(there).unwrap();
        let (mut from, mut to) = (onward.try_clone().unwrap(), stream.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut stream, &mut onward);
    });
    let mut config = config(&origin.url());
    config.lookups.proxy = Some(proxy.url());
    let resolver = HttpResolver::from_config(&config).unwrap();
    assert_eq!(ask(&resolver, &keys(&origin.url())).unwrap().body, b"{\"from\":\"origin\"}");
    assert_eq!((proxy.connections(), origin.connections()), (1, 1));
}
