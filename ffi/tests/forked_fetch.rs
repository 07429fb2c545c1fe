//! This file answers: does a child process ask its sources by itself, and leave its parent's questions alone?
//!
//! It stands here because to fork is unsafe, and this is the one crate that may.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that fails this way fails, as it should"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use wsauth::config::Config;
use wsauth::request::{Header, Peer, Upgrade};
use wsauth::{EventKind, Reason};
use wsauth_runtime::{Clock, Guard, SystemSecrets};

const CHILDREN: usize = 64;

fn config(issuer: &str, url: &str) -> Config {
    let text = format!(
        r#"
        [[issuer]]
        issuer = "https://{issuer}.example.com"
        audience = ["a"]
        algorithms = ["ES256"]
        keys = {{ jwks_url = "{url}" }}

        [handshake]
        origins = ["https://app.example.com"]
        credentials = ["authorization"]
        require_origin = false
        trusted_proxies = []
        "#
    );
    Config::from_toml(&text, &SystemSecrets::new()).unwrap()
}

/// A handshake that needs the issuer's keys, until it ends. True when it was refused for want of them.
fn ask(guard: &Guard) -> bool {
    // {"alg":"ES256","kid":"k"}: nobody knows the key yet.
    let bearer = format!("Bearer eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.e30.{}", "A".repeat(86));
    let headers = [
        Header { name: b"Host", value: b"live.example.com" },
        Header { name: b"Upgrade", value: b"websocket" },
        Header { name: b"Connection", value: b"Upgrade" },
        Header { name: b"Sec-WebSocket-Version", value: b"13" },
        Header { name: b"Sec-WebSocket-Key", value: b"dGhlIHNhbXBsZSBub25jZQ==" },
        Header { name: b"Authorization", value: bearer.as_bytes() },
    ];
    let request = Upgrade { method: b"GET", target: b"/", headers: &headers, peer: Peer::Ip([127, 0, 0, 1].into()) };
    let admitted = match guard.handshake(0, &request) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.reason == Reason::SourceUnavailable,
    };
    let mut events = Vec::new();
    for _ in 0..4_000 {
        guard.poll(0, 16, &mut events).unwrap();
        if let Some(event) = events.iter().find(|event| event.connection == admitted.connection) {
            return matches!(&event.kind, EventKind::Refused { refusal, .. } if refusal.reason == Reason::SourceUnavailable);
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Counts who asked for what, and has nothing for anybody.
fn serve() -> (String, Arc<Mutex<BTreeMap<String, usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let counts = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counts) = (stream.unwrap(), Arc::clone(&counts));
            thread::spawn(move || {
                let reader = BufReader::new(stream.try_clone().unwrap());
                for line in reader.lines().map_while(Result::ok) {
                    if let Some(path) = line.strip_prefix("GET ") {
                        let path = path.split(' ').next().unwrap().to_owned();
                        *counts.lock().unwrap().entry(path).or_default() += 1;
                    }
                    if line.is_empty() && stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, asked)
}

#[test]
fn children_ask_by_themselves_and_their_parent_goes_on() {
    let (url, asked) = serve();
    // Its workers run, and a connection of theirs is kept for the next question.
    let guard = Guard::new(config("id", &format!("{url}/parent-0")), Clock::system()).unwrap();
    assert!(ask(&guard));
    // Locks of a guard are taken and given back all the time.
    let stop = Arc::new(AtomicBool::new(false));
    let (busy, stopped) = (guard.clone(), Arc::clone(&stop));
    let busy = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            let _ = busy.metrics();
            thread::sleep(Duration::from_micros(100));
        }
    });
    let mut children = Vec::new();
    for n in 0..CHILDREN {
        let own = config("id", &format!("{url}/child-{n}"));
        // SAFETY: the child runs the code below, which uses no lock of another thread's, and ends with `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let asked = catch_unwind(AssertUnwindSafe(|| {
                let fresh = guard.fresh().unwrap();
                fresh.reload(own).unwrap();
                ask(&fresh)
            }));
            // SAFETY: ends this process; nothing of the parent's is dropped.
            unsafe { libc::_exit(i32::from(!asked.unwrap_or(false))) };
        }
        assert!(pid > 0);
        children.push(pid);
    }
    for pid in children {
        let mut status = -1;
        // SAFETY: `status` is valid for the call.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0, "every child was answered");
    }
    guard.reload(config("other", &format!("{url}/parent-1"))).unwrap();
    assert!(ask(&guard));
    stop.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    drop(guard);
    let asked = asked.lock().unwrap();
    // What has failed is fetched again ahead of need, so the counts are a matter of time.
    let mut wanted: BTreeSet<String> = (0..CHILDREN).map(|n| format!("/child-{n}")).collect();
    wanted.extend(["/parent-0".to_owned(), "/parent-1".to_owned()]);
    assert_eq!(asked.keys().cloned().collect::<BTreeSet<_>>(), wanted);
}
