//! This file answers: for how long can a source hold a worker, and how much can it make it read?

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::certificates::Authority;
use crate::script::{
    Script, ask, config, discovery, in_time, introspection, keys, profile, read_request, resolver, response,
};
use wsauth_runtime::HttpResolver;

#[test]
fn a_black_hole_ends_at_the_timeout() {
    let hole = Script::raw(|stream, _| {
        thread::sleep(Duration::from_secs(60));
        drop(stream);
    });
    let (url, resolver) = (hole.url(), resolver(&hole.url()));
    for question in [keys(&url), discovery(&url), introspection(&url), profile(&url)] {
        assert!(in_time(|| ask(&resolver, &question)).is_none());
    }
    assert_eq!(hole.connections(), 4);
}

#[test]
fn a_server_that_accepts_nobody_ends_at_the_timeout() {
    // The kernel completes connections up to the backlog; the request is never read.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    assert!(in_time(|| ask(&resolver(&url), &keys(&url))).is_none());
    drop(listener);
    assert!(in_time(|| ask(&resolver(&url), &keys(&url))).is_none(), "refused");
}

#[test]
fn each_phase_may_be_late_and_none_for_long() {
    let whole = response(200, "Content-Type: application/json\r\n", b"{\"keys\":[]}");
    for cut in [0, 5, 20, whole.len() - 11, whole.len() - 3] {
        for (pause_ms, comes) in [(50, true), (5_000, false)] {
            let whole = whole.clone();
            let script = Script::raw(move |mut stream, _| {
                if read_request(&mut stream).is_some() {
                    let (first, second) = whole.split_at(cut);
                    stream.write_all(first).unwrap();
                    thread::sleep(Duration::from_millis(pause_ms));
                    let _ = stream.write_all(second);
                }
            });
            let answer = in_time(|| ask(&resolver(&script.url()), &keys(&script.url())));
            assert_eq!(answer.is_some(), comes, "{pause_ms} ms after {cut} bytes");
        }
    }
}

#[test]
fn one_byte_at_a_time_ends_at_the_timeout() {
    for in_body in [false, true] {
        let script = Script::raw(move |mut stream, _| {
            if read_request(&mut stream).is_none() {
                return;
            }
            if in_body {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n").unwrap();
            }
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".iter().cycle() {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        assert!(in_time(|| ask(&resolver(&script.url()), &keys(&script.url()))).is_none(), "in the body: {in_body}");
    }
}

#[test]
fn a_handshake_of_tls_that_drips_ends_at_the_timeout() {
    let script = Script::raw(|mut stream, _| {
        // The head of a long record, then a byte now and then.
        let _ = stream.write_all(&[0x16, 3, 3, 0x40, 0]);
        while stream.write_all(&[2]).is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    let url = format!("https://localhost:{}", script.address.port());
    let mut config = config(&url);
    config.issuers[0].tls.authorities = Some(Authority::new().pem());
    let resolver = HttpResolver::from_config(&config).unwrap();
    assert!(in_time(|| ask(&resolver, &keys(&url))).is_none());
}

#[test]
fn an_endless_body_is_read_up_to_its_cap_and_no_further() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let script = Script::raw(move |mut stream, number| {
        if read_request(&mut stream).is_none() {
            return;
        }
        let head: &[u8] = match number % 3 {
            0 => b"HTTP/1.1 200 OK\r\n\r\n",
            1 => b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        };
        stream.write_all(head).unwrap();
        let block = [b' '; 16 * 1024];
        while stream.write_all(&block).is_ok() {
            counter.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    let resolver = resolver(&script.url());
    let before = peak_kib();
    for _ in 0..9 {
        assert!(in_time(|| ask(&resolver, &keys(&script.url()))).is_none());
    }
    let grown = peak_kib() - before;
    // The cap is 512 KiB; what other tests of this process take at the same time counts as well. Without the cap it
    // would be what loopback carries in nine timeouts, which is gigabytes.
    assert!(grown < 64 * 1024, "{grown} KiB");
    // What the kernel's buffers took from the server is not ours, but it ends too.
    assert!(sent.load(Ordering::SeqCst) < 9 * 32 * 1024 * 1024);
}

/// The most memory this process ever held.
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
