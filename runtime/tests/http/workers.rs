//! This file answers: what do the threads that ask do to the server, and the sources to the threads?

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use wsauth::config::{Config, SecretSource};
use wsauth::lookup::{Answer, Question, Vouched};
use wsauth::request::{Header, Peer, Upgrade};
use wsauth::time::WallTime;
use wsauth::{Admitted, ConnectionId, Event, EventKind, Payload, Progress, Reason, Refusal};
use wsauth_runtime::{Clock, Guard, ManualClock, Resolver};

use crate::script::{Script, eventually, in_time, response};

/// Names and blocked signals of our threads.
pub(crate) fn threads(prefix: &str) -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let field =
        |status: &str, name: &str| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
    statuses
        .filter_map(|status| {
            let blocked = u64::from_str_radix(&field(&status, "SigBlk:")?, 16).ok()?;
            Some((field(&status, "Name:")?, blocked))
        })
        .filter(|(name, _)| name.starts_with(prefix))
        .collect()
}

pub(crate) fn wait_a_moment(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

fn black_hole() -> Script {
    Script::raw(|stream, _| {
        wait_a_moment(60_000);
        drop(stream);
    })
}

/// A token of `issuer` that nobody signed, which is found out only with the issuer's keys.
fn unknown(issuer: &str) -> String {
    let now = Clock::system().fine().wall.as_secs();
    let encode = |text: String| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    let claims =
        format!(r#"{{"iss":"{issuer}","aud":"wss://live.example.com","sub":"ann","iat":{now},"exp":{}}}"#, now + 600);
    format!("{}.{}.{}", encode(r#"{"alg":"ES256","kid":"k"}"#.to_owned()), encode(claims), "A".repeat(86))
}

fn handshake(guard: &Guard, token: &str) -> Result<Admitted, Refusal> {
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
    guard.handshake(0, &Upgrade { method: b"GET", target: b"/", headers: &headers, peer })
}

/// A handshake that something must be found out for.
fn begin(guard: &Guard, token: &str) -> ConnectionId {
    let admitted = handshake(guard, token).unwrap();
    assert_eq!(admitted.progress, Progress::Authenticating);
    admitted.connection
}

/// Keys at `url` for the issuers of these numbers, and one issuer with a secret of our own.
fn many(url: &str, issuers: Range<usize>) -> Config {
    struct Secret;
    impl SecretSource for Secret {
        fn env(&self, _: &str) -> Result<Vec<u8>, String> {
            Ok(b"a secret of at least thirty-two bytes".to_vec())
        }
        fn file(&self, _: &str) -> Result<Vec<u8>, String> {
            Err("no files".to_owned())
        }
    }
    let mut text = String::from(
        r#"
        [[issuer]]
        issuer = "https://local.example.com"
        audience = ["wss://live.example.com"]
        algorithms = ["HS256"]
        keys = { secret = { env = "SECRET" } }
        "#,
    );
    for n in issuers {
        text.push_str(&format!(
            r#"
            [[issuer]]
            issuer = "https://remote{n}.example.com"
            audience = ["wss://live.example.com"]
            algorithms = ["ES256"]
            keys = {{ jwks_url = "{url}/{n}" }}
            "#
        ));
    }
    text.push_str(
        r#"
        [handshake]
        origins = ["https://app.example.com"]
        credentials = ["authorization"]
        require_origin = false
        trusted_proxies = []
        lookup_deadline = "1s"

        [messages]
        "chat.send" = "chat:write"

        [limits]
        messages_per_user = { count = 60000, per = "1m", burst = 20000 }

        [lookups]
        workers = 2
        queue = 64
        "#,
    );
    Config::from_toml(&text, &Secret).unwrap()
}

fn local_token() -> String {
    let now = Clock::system().fine().wall.as_secs();
    let claims = serde_json::json!({
        "iss": "https://local.example.com", "aud": "wss://live.example.com", "sub": "bob",
        "iat": now, "exp": now + 3600, "permissions": ["chat:write"],
    });
    let key = jsonwebtoken::EncodingKey::from_secret(b"a secret of at least thirty-two bytes");
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

#[test]
fn workers_start_with_the_first_question_and_block_every_signal() {
    let script = Script::saying(response(500, "", b""));
    let local = Guard::new(many(&script.url(), 0..0), Clock::system()).unwrap();
    assert_eq!(handshake(&local, &local_token()).unwrap().progress, Progress::Live);
    assert_eq!(threads("wsauth").len(), 0, "where nothing is fetched there is nobody to fetch it");
    let guard = Guard::new(many(&script.url(), 0..1), Clock::system()).unwrap();
    assert_eq!(threads("wsauth").len(), 0);
    let pending = begin(&guard, &unknown("https://remote0.example.com"));
    eventually("both workers", || threads("wsauth-lookup").len() == 2);
    // All but KILL and STOP, which nobody can block.
    let all = 0x7fff_ffff & !(1 << 8) & !(1 << 18);
    for (name, blocked) in threads("wsauth") {
        assert_eq!(blocked & 0x7fff_ffff, all, "{name}");
    }
    assert!(matches!(events_of(&guard, &[pending])[0].kind, EventKind::Refused { .. }));
    drop(guard);
    eventually("no worker", || threads("wsauth-lookup").is_empty());
    assert_eq!(script.requests().len(), 1);
}

#[test]
fn workers_that_all_hang_hold_up_neither_messages_nor_handshakes() {
    let hole = black_hole();
    let guard = Guard::new(many(&hole.url(), 0..20), Clock::system()).unwrap();
    let live = handshake(&guard, &local_token()).unwrap();
    assert_eq!(live.progress, Progress::Live);
    let mut pending = Vec::new();
    for n in 0..8 {
        pending.push(begin(&guard, &unknown(&format!("https://remote{n}.example.com"))));
    }
    eventually("every worker hangs", || hole.connections() >= 2);
    for _ in 0..10_000 {
        assert!(guard.message(live.connection, Payload::Text(br#"{"type":"chat.send"}"#)).is_ok());
    }
    let events = in_time(|| events_of(&guard, &pending));
    for event in events {
        let EventKind::Refused { refusal, .. } = event.kind else { panic!("{event:?}") };
        let unavailable = [Reason::SourceUnavailable, Reason::AuthenticationUnavailable];
        assert!(unavailable.contains(&refusal.reason), "{refusal:?}");
    }
    assert!(guard.message(live.connection, Payload::Text(br#"{"type":"chat.send"}"#)).is_ok());
    in_time(|| drop(guard));
}

fn events_of(guard: &Guard, connections: &[ConnectionId]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut batch = Vec::new();
    eventually("every handshake ends", || {
        guard.poll(0, 64, &mut batch).unwrap();
        events.extend(batch.drain(..).filter(|event| connections.contains(&event.connection)));
        events.len() == connections.len()
    });
    events
}

#[test]
fn a_full_queue_is_unavailable_at_once() {
    let hole = black_hole();
    let mut config = many(&hole.url(), 0..4);
    (config.lookups.workers, config.lookups.queue) = (1, 1);
    // Time stands still: nothing here is refused because its deadline came.
    let clock = ManualClock::new(Clock::system().fine().wall.0);
    let guard = Guard::with_clock(config, clock).unwrap();
    let mut refused = 0;
    for n in 0..4 {
        match handshake(&guard, &unknown(&format!("https://remote{n}.example.com"))) {
            Ok(admitted) => assert_eq!(admitted.progress, Progress::Authenticating),
            Err(refusal) => {
                assert_eq!(refusal.reason, Reason::SourceUnavailable);
                refused += 1;
            }
        }
        eventually("the worker hangs", || hole.connections() == 1);
    }
    let mut events = Vec::new();
    guard.poll(0, 16, &mut events).unwrap();
    for event in events {
        let EventKind::Refused { refusal, .. } = event.kind else { panic!("{event:?}") };
        assert_eq!(refusal.reason, Reason::SourceUnavailable);
        refused += 1;
    }
    // One is at the worker and one in the queue, unless both came before the worker had looked.
    assert!((2..=3).contains(&refused), "{refused}");
    assert_eq!(hole.connections(), 1);
}

struct Host(AtomicUsize);

impl Resolver for Host {
    fn resolve(&self, question: &Question) -> Answer {
        self.0.fetch_add(1, Ordering::SeqCst);
        match question {
            Question::Introspection { .. } => Answer::Vouched(Box::new(Vouched {
                subject: "ann".to_owned(),
                expiry: WallTime::from_secs(Clock::system().fine().wall.as_secs() + 600),
                issued_at: None,
                token_id: None,
                session_id: None,
                client_id: None,
                tenant: None,
                permissions: Vec::new(),
                claims: serde_json::Map::new(),
            })),
            _ => Answer::Unavailable { retry_after_ms: None },
        }
    }
}

#[test]
fn the_host_is_asked_what_has_no_url_and_everything_where_it_said_so() {
    for by_host in [false, true] {
        let script = Script::saying(response(500, "", b""));
        let mut config = many(&script.url(), 0..1);
        config.issuers[0].opaque = true;
        config.lookups.by_host = by_host;
        let guard = Guard::new(config, Clock::system()).unwrap();
        begin(&guard, &unknown("https://remote0.example.com"));
        begin(&guard, "opaque-0123456789");
        let pulled: Vec<bool> = guard.lookups(16).iter().map(|lookup| lookup.question.url().is_some()).collect();
        assert_eq!(pulled, if by_host { vec![true, false] } else { vec![false] });
        if by_host {
            assert_eq!((script.connections(), threads("wsauth").len()), (0, 0));
        } else {
            eventually("the url is asked", || script.requests().len() == 1);
        }
        // On workers, with a resolver of the host's.
        let host = Arc::new(Host(AtomicUsize::new(0)));
        assert!(guard.drive_with(Arc::clone(&host) as Arc<dyn Resolver>));
        assert!(!guard.drive_with(Arc::clone(&host) as Arc<dyn Resolver>), "the first one stays");
        let opaque = begin(&guard, "opaque-9876543210");
        let mut seen = Vec::new();
        eventually("the host vouches", || {
            guard.poll(0, 16, &mut seen).unwrap();
            seen.iter().any(|event| event.connection == opaque && event.kind == EventKind::Ready)
        });
        assert_eq!(host.0.load(Ordering::SeqCst), 1);
        assert_eq!(script.connections(), usize::from(!by_host));
    }
}

#[test]
fn a_reload_asks_at_the_new_place() {
    let (first, second) = (Script::saying(response(500, "", b"")), Script::saying(response(500, "", b"")));
    let guard = Guard::new(many(&first.url(), 0..1), Clock::system()).unwrap();
    let pending = begin(&guard, &unknown("https://remote0.example.com"));
    events_of(&guard, &[pending]);
    guard.reload(many(&second.url(), 1..2)).unwrap();
    // It waits for the answer, or comes after it.
    let _ = handshake(&guard, &unknown("https://remote1.example.com"));
    eventually("the new place is asked", || second.requests().len() == 1);
    // And leaves it to the host when that is what it says.
    let mut host = many(&first.url(), 2..3);
    host.lookups.by_host = true;
    guard.reload(host).unwrap();
    begin(&guard, &unknown("https://remote2.example.com"));
    assert_eq!(guard.lookups(16).len(), 1);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[test]
fn the_end_of_a_guard_ends_what_its_workers_wait_for() {
    let hole = Script::raw(|mut stream, _| {
        use std::io::Read;
        // Until we hang up.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let guard = Guard::new(many(&hole.url(), 0..8), Clock::system()).unwrap();
    for n in 0..8 {
        begin(&guard, &unknown(&format!("https://remote{n}.example.com")));
    }
    eventually("every worker waits", || hole.connections() == 2);
    // A configuration before the present one is not forgotten.
    guard.reload(many(&hole.url(), 0..8)).unwrap();
    in_time(|| drop(guard));
    assert!(threads("wsauth-lookup").is_empty());
    assert_eq!(hole.connections(), 2, "nothing more was asked");
}
