//! This file answers: what becomes of a handshake whose answer must be fetched?
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails this way fails, as it should"
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;
use support::{Server, config, echo, serve, wall_secs};
use wsauth::lookup::{Answer, Question, Vouched};
use wsauth::request::{Header, Peer, Upgrade};
use wsauth::time::WallTime;
use wsauth::{Admitted, Event, EventKind, Progress, Reason};
use wsauth_runtime::tungstenite::AcceptOptions;
use wsauth_runtime::{Clock, Guard, ManualClock, Resolver};

/// Answers as the token says.
#[derive(Default)]
struct Scripted {
    asked: AtomicUsize,
    released: Mutex<bool>,
    release: Condvar,
}

impl Scripted {
    fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.release.notify_all();
    }
}

impl Resolver for Scripted {
    fn resolve(&self, question: &Question) -> Answer {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let Question::Introspection { token, .. } = question else { panic!("not asked here") };
        match token.expose() {
            b"good-0123456789" | b"slow-0123456789" => {
                if token.expose().starts_with(b"slow") {
                    thread::sleep(Duration::from_millis(300));
                }
                Answer::Vouched(Box::new(Vouched {
                    subject: "ann".to_owned(),
                    expiry: WallTime::from_secs(wall_secs() + 600),
                    issued_at: Some(wall_secs()),
                    token_id: None,
                    session_id: None,
                    client_id: None,
                    tenant: None,
                    permissions: vec!["chat:write".to_owned()],
                    claims: serde_json::Map::new(),
                }))
            }
            b"bad-0123456789" => Answer::Inactive,
            b"panic-0123456789" => panic!("as the test wants"),
            _ => {
                let mut released = self.released.lock().unwrap();
                while !*released {
                    released = self.release.wait(released).unwrap();
                }
                Answer::Inactive
            }
        }
    }
}

fn server(credentials: &str, workers: usize) -> (Server, Arc<Scripted>) {
    let mut config = config(credentials, r#"lookup_deadline = "1s""#);
    config.lookups.workers = workers;
    let guard = Guard::new(config, Clock::system()).unwrap();
    let resolver = Arc::new(Scripted::default());
    assert!(guard.drive_with(Arc::clone(&resolver) as Arc<dyn Resolver>));
    assert!(!guard.drive_with(Arc::clone(&resolver) as Arc<dyn Resolver>), "the first one stays");
    (serve(guard, AcceptOptions::default(), echo), resolver)
}

fn ask(guard: &Guard, token: &str) -> Admitted {
    let bearer = format!("Bearer {token}");
    let headers = [
        Header { name: b"Host", value: b"live.example.com" },
        Header { name: b"Upgrade", value: b"websocket" },
        Header { name: b"Connection", value: b"Upgrade" },
        Header { name: b"Sec-WebSocket-Version", value: b"13" },
        Header { name: b"Sec-WebSocket-Key", value: b"dGhlIHNhbXBsZSBub25jZQ==" },
        Header { name: b"Authorization", value: bearer.as_bytes() },
    ];
    let peer = Peer::Ip([127, 0, 0, 1].into());
    guard.handshake(0, &Upgrade { method: b"GET", target: b"/", headers: &headers, peer }).unwrap()
}

fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

#[test]
fn the_answer_decides_before_the_upgrade_is_answered() {
    let (server, resolver) = server(r#"["authorization"]"#, 1);
    let mut admitted = Vec::new();
    for token in ["good-0123456789", "slow-0123456789"] {
        let mut client = server.connect(token);
        client.send(&json!({"type": "chat.send", "text": "hi"}));
        assert_eq!(client.json()["text"], "hi");
        admitted.push(client);
    }
    let refused = |token| server.try_connect(token).err().map(|(status, body)| (status, body["code"].clone()));
    assert_eq!(refused("bad-0123456789"), Some((401, json!("auth_failed"))));
    assert_eq!(refused("panic-0123456789"), Some((503, json!("unavailable"))));
    assert_eq!(refused("hang-0123456789"), Some((503, json!("unavailable"))), "at the lookup deadline");
    // The only worker hangs; a question behind it ends at its own deadline.
    assert_eq!(refused("other-0123456789"), Some((503, json!("unavailable"))));
    server.wait_for_connections(admitted.len());
    resolver.release();
    assert!(server.try_connect("good-0123456789").is_ok(), "the worker came back");
}

#[test]
fn a_first_message_that_must_be_looked_up_holds_the_next_one() {
    let (server, _) = server(r#"["first_message"]"#, 4);
    let mut client = server.open(server.request().body(()).unwrap()).unwrap();
    client.send(&json!({"type": "auth", "token": "slow-0123456789"}));
    client.send(&json!({"type": "chat.send", "text": "held"}));
    assert_eq!(client.json()["type"], "auth_success");
    assert_eq!(client.json()["text"], "held");
    let mut client = server.open(server.request().body(()).unwrap()).unwrap();
    client.send(&json!({"type": "auth", "token": "bad-0123456789"}));
    assert_eq!(client.until_closed().0, 4001);
}

#[test]
fn a_full_queue_is_unavailable_at_once() {
    // Time stands still: nothing here is refused because its deadline came.
    let clock = ManualClock::new(wall_secs() * 1000);
    let mut config = config(r#"["authorization"]"#, "");
    (config.lookups.workers, config.lookups.queue) = (1, 1);
    let guard = Guard::with_clock(config, clock).unwrap();
    let resolver = Arc::new(Scripted::default());
    guard.drive_with(Arc::clone(&resolver) as Arc<dyn Resolver>);
    let mut events = Vec::new();
    assert_eq!(ask(&guard, "hang-0-0123456789").progress, Progress::Authenticating);
    while resolver.asked.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let _queued = ask(&guard, "hang-1-0123456789");
    guard.poll(0, 16, &mut events).unwrap();
    assert_eq!(events, [], "one at the worker, one in the queue");
    let third = ask(&guard, "hang-2-0123456789").connection;
    guard.poll(0, 16, &mut events).unwrap();
    let [Event { connection, kind: EventKind::Refused { refusal, .. } }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((*connection, refusal.reason), (third, Reason::SourceUnavailable));
    resolver.release();
}

#[test]
fn workers_start_with_the_first_question_and_end_with_the_guard() {
    let mut config = config(r#"["authorization"]"#, "");
    config.lookups.workers = 3;
    let guard = Guard::new(config, Clock::system()).unwrap();
    let resolver = Arc::new(Scripted::default());
    guard.drive_with(Arc::clone(&resolver) as Arc<dyn Resolver>);
    assert_eq!(Arc::strong_count(&resolver), 2);
    assert_eq!(ask(&guard, "good-0123456789").progress, Progress::Authenticating);
    let mut events = Vec::new();
    while events.is_empty() {
        guard.poll(0, 16, &mut events).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(events[0].kind, EventKind::Ready);
    assert!(threads_named("wsauth-lookup") >= 3);
    drop(guard);
    assert_eq!(Arc::strong_count(&resolver), 1, "the workers are joined, and what they held is gone");
}

/// Takes only what it knows.
struct Choosy(Scripted);

impl Resolver for Choosy {
    fn resolve(&self, question: &Question) -> Answer {
        self.0.resolve(question)
    }

    fn takes(&self, question: &Question) -> bool {
        matches!(question, Question::Introspection { token, .. } if token.expose().starts_with(b"good"))
    }
}

fn until_event(guard: &Guard) -> Event {
    let mut events = Vec::new();
    while events.is_empty() {
        guard.poll(0, 1, &mut events).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    events.swap_remove(0)
}

#[test]
fn what_the_resolver_does_not_take_waits_for_the_host() {
    let guard = Guard::new(config(r#"["authorization"]"#, ""), Clock::system()).unwrap();
    guard.drive_with(Arc::new(Choosy(Scripted::default())));
    let mine = ask(&guard, "mine-0123456789").connection;
    let good = ask(&guard, "good-0123456789").connection;
    let event = until_event(&guard);
    assert_eq!((event.connection, event.kind), (good, EventKind::Ready));
    let lookups = guard.lookups(9);
    let [lookup] = lookups.as_slice() else { panic!("{lookups:?}") };
    assert!(guard.lookups(9).is_empty(), "each goes to one");
    guard.answer(lookup.id, Answer::Inactive).unwrap();
    while until_event(&guard).connection != mine {}
}

#[test]
fn a_question_left_to_the_host_is_not_handed_out_late() {
    let clock = ManualClock::new(wall_secs() * 1000);
    let guard = Guard::with_clock(config(r#"["authorization"]"#, ""), clock.clone()).unwrap();
    guard.drive_with(Arc::new(Choosy(Scripted::default())));
    let _asked = ask(&guard, "mine-0123456789");
    clock.advance_ms(2_000);
    assert!(guard.lookups(9).is_empty());
}

/// Stops the driver it is asked by, once it is released.
struct Stopping {
    scripted: Scripted,
    guard: Mutex<Option<Guard>>,
}

impl Resolver for Stopping {
    fn resolve(&self, question: &Question) -> Answer {
        let answer = self.scripted.resolve(question);
        self.guard.lock().unwrap().take().unwrap().stop_driver();
        answer
    }
}

#[test]
fn a_stopped_driver_refuses_what_waits_and_what_comes() {
    // Time stands still: nothing here is refused because its deadline came.
    let clock = ManualClock::new(wall_secs() * 1000);
    let mut config = config(r#"["authorization"]"#, "");
    config.lookups.workers = 1;
    let guard = Guard::with_clock(config, clock).unwrap();
    let resolver = Arc::new(Stopping { scripted: Scripted::default(), guard: Mutex::new(Some(guard.clone())) });
    guard.drive_with(Arc::clone(&resolver) as Arc<dyn Resolver>);
    let asked = ask(&guard, "hang-0-0123456789").connection;
    while resolver.scripted.asked.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let queued = ask(&guard, "hang-1-0123456789").connection;
    resolver.scripted.release();
    let mut events = Vec::new();
    while events.len() < 2 {
        guard.poll(0, 16, &mut events).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    let late = ask(&guard, "good-0123456789").connection;
    guard.poll(0, 16, &mut events).unwrap();
    let reason_of = |connection| {
        let event = events.iter().find(|event| event.connection == connection).unwrap();
        let EventKind::Refused { refusal, .. } = &event.kind else { panic!("{event:?}") };
        refusal.reason
    };
    assert_eq!(reason_of(asked), Reason::TokenInactive, "the resolver had it, and answered");
    assert_eq!(reason_of(queued), Reason::SourceUnavailable);
    assert_eq!(reason_of(late), Reason::SourceUnavailable);
    assert_eq!(resolver.scripted.asked.load(Ordering::SeqCst), 1);
    guard.stop_driver();
}
