//! This file answers: does the guarded accept keep the engine's word on real sockets?
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails this way fails, as it should"
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::json;
use support::{Client, ISSUER, config, echo, guard, serve, token, token_at, wall_secs};
use tungstenite::Message;
use wsauth::{Reason, Revocation};
use wsauth_runtime::tungstenite::{AcceptError, AcceptOptions, Ended, GuardedSocket, Refuse, Sender};
use wsauth_runtime::{Clock, Guard, ManualClock};

const SAY: &str = r#"{"type":"chat.send","text":"hi"}"#;

fn say(client: &mut Client) {
    client.0.send(Message::text(SAY)).unwrap();
}

#[test]
fn a_good_token_is_let_in_and_its_messages_are_delivered() {
    let (tell, told) = mpsc::channel();
    let server = serve(guard(), AcceptOptions::default(), move |socket| {
        tell.send(socket.identity().unwrap()).unwrap();
        echo(socket);
    });
    let mut client = server.connect(&token("ann"));
    assert_eq!(&*told.recv().unwrap().subject, "ann");
    say(&mut client);
    assert_eq!(client.json()["text"], "hi");
    client.0.close(None).unwrap();
    while client.0.read().is_ok() {}
    server.wait_for_connections(0);
}

#[test]
fn what_is_not_allowed_never_reaches_the_application() {
    let delivered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&delivered);
    let server = serve(guard(), AcceptOptions::default(), move |mut socket| {
        while socket.read().is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut client = server.connect(&token("ann"));
    client.send(&json!({"type": "chat.admin"}));
    let answer = client.json();
    assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("permission_denied")));
    client.0.send(Message::text("no json")).unwrap();
    assert_eq!(client.json()["type"], "error");
    client.0.send(Message::binary(vec![1, 2, 3])).unwrap();
    assert_eq!(client.json()["type"], "error");
    assert_eq!(delivered.load(Ordering::SeqCst), 0);
}

#[test]
fn a_refusal_is_told_over_http_before_the_upgrade() {
    let server = serve(guard(), AcceptOptions::default(), echo);
    let Err((status, body)) = server.try_connect("not.a.token") else { panic!("let in") };
    assert_eq!((status, &body["code"]), (401, &json!("auth_failed")));
    assert!(matches!(server.refused.recv().unwrap(), AcceptError::Refused(_)));

    let foreign = server.request().header("Origin", "https://evil.example").body(()).unwrap();
    let Err((status, body)) = server.open(foreign) else { panic!("let in") };
    assert_eq!((status, &body["code"]), (403, &json!("origin_refused")));

    let answer = server.raw(b"GET / HTTP/1.1\r\nHost: live.example.com\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("content-type: application/problem+json"), "{answer}");
    assert!(answer.ends_with('}'), "{answer}");
    let answer = server.raw(b"\x16\x03\x01 this is no HTTP\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = server.raw(&[b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 70_000]].concat());
    assert!(answer.starts_with("HTTP/1.1 400 ") || answer.is_empty(), "{answer}");
    assert_eq!(server.guard.connections(), 0);
    let audited = server.guard.audit(100).iter().filter(|event| event.reason == Some(Reason::RequestMalformed)).count();
    assert!(audited >= 2, "unreadable requests are audited too");
}

#[test]
fn a_request_that_never_ends_is_given_up() {
    use std::io::{Read, Write};
    let options = AcceptOptions { request_ms: 200, ..AcceptOptions::default() };
    let server = serve(guard(), options, echo);
    let mut stream = server.stream();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").unwrap();
    assert_eq!(server.refused.recv().unwrap(), AcceptError::TimedOut);
    let mut rest = Vec::new();
    assert!(matches!(stream.read_to_end(&mut rest), Ok(0) | Err(_)));
}

#[test]
fn a_peer_that_is_gone_before_it_is_accepted_is_nobodys_mistake() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let guard = guard();
    let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // Reset, not closed.
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    let (stream, _) = listener.accept().unwrap();
    assert!(matches!(guard.accept(stream), Err(AcceptError::Io(_))));
    assert_eq!(guard.audit(8), []);
}

#[test]
fn accept_then_close_tells_browsers_why_and_holds_nothing() {
    let options = AcceptOptions { refuse: Refuse::AcceptThenClose, ..AcceptOptions::default() };
    let server = serve(guard(), options, echo);
    let request = server
        .request()
        .header("Authorization", "Bearer not.a.token")
        .header("Sec-WebSocket-Protocol", "wsauth.bearer.aGk, chat.v1")
        .body(())
        .unwrap();
    let (socket, response) = tungstenite::client(request, server.stream()).unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "chat.v1", "never the one that carries a token");
    let (code, reason, texts) = Client(socket).until_closed();
    assert!(texts.is_empty());
    assert_eq!(server.guard.connections(), 0);
    let AcceptError::Refused(refusal) = server.refused.recv().unwrap() else { panic!("not refused") };
    assert_eq!((code, reason.as_str()), (refusal.row().close, refusal.row().public));
}

#[test]
fn the_agreed_subprotocol_is_echoed() {
    let subprotocols = r#"subprotocols = ["chat.v2"]"#;
    let guard = Guard::new(config(r#"["authorization"]"#, subprotocols), Clock::system()).unwrap();
    let (tell, told) = mpsc::channel();
    let server = serve(guard, AcceptOptions::default(), move |socket| {
        tell.send(socket.subprotocol().map(str::to_owned)).unwrap();
        echo(socket);
    });
    let request = server
        .request()
        .header("Authorization", format!("Bearer {}", token("ann")))
        .header("Sec-WebSocket-Protocol", "chat.v1, chat.v2")
        .body(())
        .unwrap();
    let (_socket, response) = tungstenite::client(request, server.stream()).unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "chat.v2");
    assert_eq!(told.recv().unwrap().as_deref(), Some("chat.v2"));
}

#[test]
fn a_refresh_in_band_is_answered_and_never_delivered() {
    let server = serve(guard(), AcceptOptions::default(), echo);
    let mut client = server.connect(&token_at(wall_secs(), "ann", 600, &["chat:write"]));
    client.send(&json!({"type": "token_refresh", "token": token("ann")}));
    let refreshed = client.json();
    assert_eq!((&refreshed["type"], &refreshed["added"]), (&json!("token_refreshed"), &json!(["chat:read"])));
    client.send(&json!({"type": "token_refresh", "token": token("bob")}));
    assert_eq!(client.json()["type"], "token_refresh_failed");
    say(&mut client);
    assert_eq!(client.json()["text"], "hi", "the old grant stays in force");
}

#[test]
fn lost_permissions_stop_messages_and_deliveries_at_once() {
    let (tell, senders) = mpsc::channel::<Sender>();
    let guard = guard();
    let (observed, observer) = mpsc::channel();
    let observed = std::sync::Mutex::new(observed);
    guard.observe(Arc::new(move |_, diff| observed.lock().unwrap().send(diff.removed.clone()).unwrap()));
    let server = serve(guard, AcceptOptions::default(), move |socket| {
        tell.send(socket.sender()).unwrap();
        echo(socket);
    });
    let mut client = server.connect(&token("ann"));
    let sender = senders.recv().unwrap();
    assert_eq!(server.guard.publish([&sender, &sender], "chat.message", &[], r#"{"n":1}"#), 1);
    assert_eq!(client.json()["n"], 1);
    assert_eq!(server.guard.publish([&sender], "no.such", &[], "{}"), 0);
    assert_eq!(sender.deliver("no.such", &[], "{}").unwrap_err().reason, Reason::MessageTypeUnknown);

    assert_eq!(server.guard.set_subject_permissions(ISSUER, "ann", &["chat:write".into()]), 1);
    assert_eq!(server.guard.publish([&sender], "chat.message", &[], r#"{"n":2}"#), 0);
    assert_eq!(sender.deliver("chat.message", &[], "{}").unwrap_err().reason, Reason::PermissionMissing);
    let changed = client.json();
    assert_eq!((&changed["type"], &changed["removed"]), (&json!("permissions_changed"), &json!(["chat:read"])));
    assert_eq!(observer.recv().unwrap(), ["chat:read".into()]);
    say(&mut client);
    assert_eq!(client.json()["text"], "hi", "what is left still works");
}

#[test]
fn revocation_closes_a_reader_that_waits() {
    let (tell, ended) = mpsc::channel();
    let server = serve(guard(), AcceptOptions::default(), move |mut socket| {
        let end = loop {
            if let Err(end) = socket.read() {
                break end;
            }
        };
        tell.send((end, socket.identity(), socket.deliver("chat.message", &[], "late"))).unwrap();
    });
    let mut client = server.connect(&token("ann"));
    let mut other = server.connect(&token("bob"));
    let what = Revocation::Subject { issuer: ISSUER, subject: "ann", issued_before: None };
    assert_eq!(server.guard.revoke(what).closed, 1);
    let (code, reason, texts) = client.until_closed();
    assert_eq!((code, reason.as_str(), texts.len()), (4006, "revoked", 0));
    let (end, _, late) = ended.recv().unwrap();
    assert!(matches!(end, Ended::Refused { refusal, code: 4006 } if refusal.reason == Reason::Revoked), "{end:?}");
    assert!(late.is_err(), "nothing is sent after the close frame");
    server.wait_for_connections(1);
    other.send(&json!({"type": "chat.admin"}));
    assert_eq!(other.json()["type"], "error", "others live on");
}

#[test]
fn a_peer_that_does_not_answer_the_close_frame_is_hung_up() {
    let (tell, ended) = mpsc::channel();
    let options = AcceptOptions { close_ms: 200, ..AcceptOptions::default() };
    let server = serve(guard(), options, move |mut socket| {
        while socket.read().is_ok() {}
        tell.send(()).unwrap();
    });
    let mut client = server.connect(&token("ann"));
    server.guard.revoke(Revocation::Subject { issuer: ISSUER, subject: "ann", issued_before: None });
    // The client neither reads nor answers; it even goes on talking.
    say(&mut client);
    ended.recv_timeout(Duration::from_secs(20)).unwrap();
    server.wait_for_connections(0);
}

#[test]
fn a_token_that_runs_out_ends_the_connection() {
    let server = serve(guard(), AcceptOptions::default(), echo);
    let mut client = server.connect(&token_at(wall_secs(), "ann", 3, &["chat:write"]));
    let (code, _, texts) = client.until_closed();
    assert_eq!(code, 4005, "asked, and no token came");
    assert!(texts.iter().any(|text| text["type"] == "token_refresh_required"), "{texts:?}");
    server.wait_for_connections(0);
}

#[test]
fn a_manual_clock_ends_it_as_soon_as_it_is_moved() {
    let clock = ManualClock::new(1_800_000_000_000);
    let guard = Guard::with_clock(config(r#"["authorization"]"#, ""), clock.clone()).unwrap();
    let server = serve(guard, AcceptOptions::default(), echo);
    let mut client = server.connect(&token_at(1_800_000_000, "ann", 1500, &["chat:write"]));
    clock.advance_ms(1_490_000);
    assert_eq!(client.json()["type"], "token_refresh_required");
    client.send(&json!({"type": "token_refresh", "token": token_at(1_800_001_490, "ann", 60, &["chat:write"])}));
    assert_eq!(client.json()["type"], "token_refreshed");
    clock.advance_ms(60_000);
    assert!(matches!(client.until_closed().0, 4002 | 4005));
}

#[test]
fn a_flood_is_refused_and_then_closed() {
    let delivered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&delivered);
    let server = serve(guard(), AcceptOptions::default(), move |mut socket| {
        while socket.read().is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut client = server.connect(&token("ann"));
    for _ in 0..300 {
        if client.0.send(Message::text(SAY)).is_err() {
            break;
        }
    }
    let (code, reason, texts) = client.until_closed();
    assert_eq!((code, reason.as_str()), (4008, "rate_limited"));
    assert!(texts.iter().any(|text| text["type"] == "rate_limited"), "{texts:?}");
    let delivered = delivered.load(Ordering::SeqCst);
    assert!((20..=80).contains(&delivered), "{delivered} of a burst of 20");
}

#[test]
fn a_first_message_authenticates_or_ends_it() {
    let guard = Guard::new(config(r#"["first_message"]"#, ""), Clock::system()).unwrap();
    let server = serve(guard, AcceptOptions::default(), echo);
    let open = || server.open(server.request().body(()).unwrap()).unwrap();
    let mut client = open();
    client.send(&json!({"type": "auth", "token": token("ann")}));
    assert_eq!(client.json()["type"], "auth_success");
    say(&mut client);
    assert_eq!(client.json()["text"], "hi");

    let mut early = open();
    say(&mut early);
    let (code, _, texts) = early.until_closed();
    assert_eq!((code, texts.len()), (4001, 0));
    let mut wrong = open();
    wrong.send(&json!({"type": "auth", "token": "not.a.token"}));
    assert_eq!(wrong.until_closed().0, 4001);
    server.wait_for_connections(1);
}

#[test]
fn messages_that_are_too_long_or_not_websocket_end_with_the_standard_code() {
    let server = serve(guard(), AcceptOptions::default(), echo);
    let mut client = server.connect(&token("ann"));
    let long = "x".repeat(200_000);
    let _ = client.0.send(Message::text(long));
    assert_eq!(client.until_closed().0, 1009);

    let mut client = server.connect(&token("ann"));
    // An unmasked text frame, which a client must not send.
    std::io::Write::write_all(client.0.get_mut(), b"\x81\x02hi").unwrap();
    assert_eq!(client.until_closed().0, 1002);
    server.wait_for_connections(0);
}

#[test]
fn a_handler_that_returns_or_panics_closes_and_gives_back() {
    let server = serve(guard(), AcceptOptions::default(), |mut socket: GuardedSocket| match socket.read() {
        Ok(message) if message.to_text().unwrap().contains("panic") => panic!("as the test wants"),
        _ => {}
    });
    let mut client = server.connect(&token("ann"));
    say(&mut client);
    assert_eq!(client.until_closed().0, 1000);
    let mut client = server.connect(&token("ann"));
    client.send(&json!({"type": "chat.send", "text": "panic"}));
    assert_eq!(client.until_closed().0, 1011);
    server.wait_for_connections(0);
}

#[test]
fn a_peer_that_does_not_read_is_cut_off_and_holds_nobody_up() {
    let (tell, senders) = mpsc::channel::<Sender>();
    let options = AcceptOptions { stall_ms: 300, max_pending_bytes: 256 * 1024, ..AcceptOptions::default() };
    let server = serve(guard(), options, move |socket| {
        tell.send(socket.sender()).unwrap();
        echo(socket);
    });
    let mut reads = server.connect(&token("ann"));
    let good = senders.recv().unwrap();
    let _deaf = server.connect(&token("bob"));
    let deaf = senders.recv().unwrap();
    // More than the kernel's buffers and ours take together.
    let text = json!({"fill": "x".repeat(60_000)}).to_string();
    let reader = thread::spawn(move || {
        let mut got = 0;
        while reads.json().get("last").is_none() {
            got += 1;
        }
        got
    });
    let mut sent = 0;
    for _ in 0..2_000 {
        if !deaf.is_open() {
            break;
        }
        server.guard.publish([&good, &deaf], "chat.message", &[], &text);
        sent += 1;
        thread::sleep(Duration::from_millis(1));
    }
    assert!(!deaf.is_open(), "still taken after {sent} texts");
    good.deliver("chat.message", &[], r#"{"last":true}"#).unwrap();
    assert_eq!(reader.join().unwrap(), sent);
    server.wait_for_connections(0);
}

#[test]
fn frames_of_many_threads_never_mix() {
    let (tell, senders) = mpsc::channel::<Sender>();
    let server = serve(guard(), AcceptOptions::default(), move |socket| {
        tell.send(socket.sender()).unwrap();
        echo(socket);
    });
    let mut client = server.connect(&token("ann"));
    let sender = senders.recv().unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let sender = sender.clone();
            thread::spawn(move || {
                for n in 0..250 {
                    let fill = "x".repeat(n * 7);
                    let text = json!({"writer": writer, "n": n, "fill": fill}).to_string();
                    sender.deliver("chat.message", &[], &text).unwrap();
                }
            })
        })
        .collect();
    // Pongs of the reading thread go through the same socket.
    for _ in 0..10 {
        client.0.send(Message::Ping(vec![7].into())).unwrap();
    }
    let mut next = [0; 4];
    for _ in 0..1_000 {
        let text = client.json();
        let writer = text["writer"].as_u64().unwrap() as usize;
        assert_eq!(text["n"], next[writer], "each writer's own order holds");
        next[writer] += 1;
    }
    assert_eq!(next, [250; 4]);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

#[test]
fn going_away_tells_everybody() {
    let server = serve(guard(), AcceptOptions::default(), echo);
    let mut client = server.connect(&token("ann"));
    assert_eq!(server.guard.close_all(), 1);
    assert_eq!(client.until_closed().0, 1001);
    server.wait_for_connections(0);
}

#[test]
fn the_pump_ends_with_the_last_guard() {
    let observer: wsauth_runtime::Observer = Arc::new(|_, _| ());
    let guard = guard();
    guard.observe(Arc::clone(&observer));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    drop(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let (stream, _) = listener.accept().unwrap();
    assert!(guard.accept(stream).is_err());
    drop(guard);
    assert_eq!(Arc::strong_count(&observer), 1, "what the pump held is gone");
}

#[test]
fn the_application_may_close() {
    let (tell, ended) = mpsc::channel();
    let server = serve(guard(), AcceptOptions::default(), move |mut socket| {
        socket.read().unwrap();
        socket.close(3001, "enough");
        assert!(!socket.reply("late"));
        tell.send(socket.read().unwrap_err()).unwrap();
    });
    let mut client = server.connect(&token("ann"));
    say(&mut client);
    assert_eq!(client.until_closed(), (3001, "enough".to_owned(), Vec::new()));
    assert_eq!(ended.recv().unwrap(), Ended::Closed { code: 3001 });
}
