//! This file answers: does a decision that has returned hold for every thread's next call?
//!
//! One thread writes down what it did after the call returned; the others read that before they call. No clock and
//! no sleep: the order comes from the atomics.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use serde_json::json;
use shared::world::{World, issuer_of_keys, key_set, metric, names, remote_issuer, token_of_fetched, token_of_key};
use shared::{ISSUER, Request, config};
use wsauth::time::Now;
use wsauth::{ConnectionId, Engine, Payload, Revocation};

const PEERS: usize = 24;
const ROUNDS: u64 = 40;

/// What is known of one peer. A version goes up by one before a change (odd: it is under way) and by one after it.
struct Peer {
    id: ConnectionId,
    revoked: AtomicBool,
    closed: AtomicBool,
    version: AtomicU64,
    /// Whether `a` is permitted.
    permitted: AtomicBool,
    /// A refresh has begun, which puts the permissions of the token in force: nothing is claimed of them any more.
    refreshed: AtomicBool,
}

struct Scene {
    engine: Engine,
    now: Now,
    peers: Vec<Peer>,
    tokens: Vec<String>,
    next: Vec<String>,
    done: AtomicBool,
    allowed: AtomicUsize,
}

fn scene() -> Scene {
    let ample = json!({ "count": 1_000_000, "per": "1s", "burst": 1_000_000 });
    let more = json!({
        "messages": { "ping": "public", "a": "p:a", "room": "room:{room}:x" },
        "deliveries": { "news": "public", "a": "p:a" },
        "limits": {
            "connections_per_address": 100_000, "connections_per_user": 100_000,
            "messages_per_user": ample, "control_per_user": ample,
        },
    });
    let world = World::of(&config(more));
    let token = |n: usize, generation: &str, life| {
        let claims = json!({ "jti": format!("t{n}{generation}"), "sid": format!("s{n}"), "scope": "p:a room:1:x" });
        world.token(&format!("u{n}"), life, claims)
    };
    let tokens: Vec<_> = (0..PEERS).map(|n| token(n, "", 600)).collect();
    let next: Vec<_> = (0..PEERS).map(|n| token(n, "+", 900)).collect();
    let peers = tokens
        .iter()
        .map(|token| Peer {
            id: world.connect(token).unwrap(),
            revoked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            version: AtomicU64::new(0),
            permitted: AtomicBool::new(true),
            refreshed: AtomicBool::new(false),
        })
        .collect();
    let now = world.now;
    let (done, allowed) = (AtomicBool::new(false), AtomicUsize::new(0));
    Scene { engine: world.engine, now, peers, tokens, next, done, allowed }
}

impl Scene {
    fn say(&self, id: ConnectionId, text: &str) -> bool {
        self.engine.message(id, Payload::Text(text.as_bytes()), self.now).is_ok()
    }

    /// All ways to be allowed something, one after the other.
    fn try_all(&self, peer: &Peer, turn: usize) {
        let over = peer.revoked.load(Ordering::SeqCst) || peer.closed.load(Ordering::SeqCst);
        let version = peer.version.load(Ordering::SeqCst);
        let permitted = peer.permitted.load(Ordering::SeqCst);
        let (allowed, needs_a) = match turn % 6 {
            0 => (self.say(peer.id, r#"{"type":"ping"}"#), false),
            1 => (self.say(peer.id, r#"{"type":"a"}"#), true),
            2 => (self.engine.authorize_delivery(peer.id, "news", &[], self.now).is_ok(), false),
            3 => (self.engine.authorize_delivery(peer.id, "a", &[], self.now).is_ok(), true),
            4 => {
                let mut allowed = Vec::new();
                self.engine.authorize_deliveries(&[peer.id], "a", &[], self.now, &mut allowed).unwrap();
                (!allowed.is_empty(), true)
            }
            _ => (self.engine.authorize(peer.id, "a", &[], self.now).is_ok(), true),
        };
        assert!(!(over && allowed), "allowed after its end had returned");
        let still = version.is_multiple_of(2) && version == peer.version.load(Ordering::SeqCst);
        if needs_a && still && !permitted && !peer.refreshed.load(Ordering::SeqCst) {
            assert!(!allowed, "allowed after its permission was taken");
        }
        self.allowed.fetch_add(usize::from(allowed), Ordering::Relaxed);
    }

    fn set_permissions(&self, peer: &Peer, permitted: bool) {
        peer.version.fetch_add(1, Ordering::SeqCst);
        let set = names(if permitted { "p:a" } else { "" });
        let outcome = self.engine.set_permissions(peer.id, &set, self.now);
        if outcome.is_ok() {
            peer.permitted.store(permitted, Ordering::SeqCst);
            peer.version.fetch_add(1, Ordering::SeqCst);
        }
        // A peer that ended keeps its odd version: nothing is claimed of its permissions any more.
    }

    fn revoke(&self, place: usize, kind: u64) {
        let peer = &self.peers[place];
        let (token, next, session, subject) =
            (format!("t{place}"), format!("t{place}+"), format!("s{place}"), format!("u{place}"));
        let revoke = |what| {
            self.engine.revoke(what, self.now);
        };
        match kind % 4 {
            0 => revoke(Revocation::Session { issuer: ISSUER, session_id: &session }),
            1 => revoke(Revocation::Subject { issuer: ISSUER, subject: &subject, issued_before: None }),
            2 => {
                revoke(Revocation::Token { issuer: ISSUER, token_id: &next });
                revoke(Revocation::Token { issuer: ISSUER, token_id: &token });
                // A refresh between the two cannot have moved it to what was revoked first.
            }
            _ => {
                revoke(Revocation::Session { issuer: ISSUER, session_id: &session });
                revoke(Revocation::Connection(peer.id));
            }
        }
        peer.revoked.store(true, Ordering::SeqCst);
    }
}

#[test]
fn what_has_returned_holds_for_every_later_call_of_every_thread() {
    let mut allowed = 0;
    for round in 0..ROUNDS {
        let scene = scene();
        std::thread::scope(|scope| {
            for reader in 0..3 {
                let scene = &scene;
                scope.spawn(move || {
                    let mut turn = reader;
                    while !scene.done.load(Ordering::SeqCst) {
                        scene.try_all(&scene.peers[turn * 7 % PEERS], turn / PEERS + turn);
                        turn += 1;
                    }
                    for peer in &scene.peers {
                        (0..6).for_each(|turn| scene.try_all(peer, turn));
                    }
                });
            }
            scope.spawn(|| {
                let mut events = Vec::new();
                while !scene.done.load(Ordering::SeqCst) {
                    scene.engine.poll(0, scene.now, 64, &mut events).unwrap();
                    events.clear();
                }
            });
            // Comes in with the very tokens that are being revoked.
            let newcomers = scope.spawn(|| {
                let mut entered: Vec<(usize, ConnectionId)> = Vec::new();
                let mut turn = 0;
                while !scene.done.load(Ordering::SeqCst) {
                    let place = turn * 5 % PEERS;
                    let revoked = scene.peers[place].revoked.load(Ordering::SeqCst);
                    let request = Request::new().bearer(&scene.tokens[place]);
                    if entered.len() < 200
                        && let Ok(admitted) = request.send(&scene.engine, scene.now)
                    {
                        assert!(!revoked, "let in after the revocation had returned");
                        entered.push((place, admitted.connection));
                    }
                    turn += 1;
                    let Some((place, id)) = entered.get(turn % entered.len().max(1)) else { continue };
                    let revoked = scene.peers[*place].revoked.load(Ordering::SeqCst);
                    assert!(!(scene.say(*id, r#"{"type":"ping"}"#) && revoked), "it came in and stayed");
                }
                entered
            });
            let changes = scope.spawn(|| {
                for turn in 0..PEERS * 4 {
                    let peer = &scene.peers[(turn * 11 + round as usize) % PEERS];
                    scene.set_permissions(peer, turn % 3 == 0);
                }
            });
            let refreshes = scope.spawn(|| {
                let mut committed = Vec::new();
                for turn in 0..PEERS {
                    let place = (turn * 13 + round as usize) % PEERS;
                    let peer = &scene.peers[place];
                    peer.refreshed.store(true, Ordering::SeqCst);
                    if scene.engine.refresh(peer.id, scene.next[place].as_bytes(), scene.now).is_ok() {
                        committed.push(place);
                    }
                }
                committed
            });
            let ends = scope.spawn(|| {
                for turn in 0..PEERS {
                    let place = (turn * 17 + round as usize * 3) % PEERS;
                    let kind = round + turn as u64;
                    if kind % 5 == 4 {
                        assert!(scene.engine.closed(scene.peers[place].id, scene.now));
                        scene.peers[place].closed.store(true, Ordering::SeqCst);
                    } else {
                        scene.revoke(place, kind);
                    }
                    std::thread::yield_now();
                }
            });
            changes.join().unwrap();
            let committed = refreshes.join().unwrap();
            ends.join().unwrap();
            scene.done.store(true, Ordering::SeqCst);
            for place in committed {
                assert!(!scene.say(scene.peers[place].id, r#"{"type":"ping"}"#), "a refresh outlived its revocation");
            }
            for (place, id) in newcomers.join().unwrap() {
                let revoked = scene.peers[place].revoked.load(Ordering::SeqCst);
                assert_eq!(scene.say(id, r#"{"type":"ping"}"#), !revoked);
                assert!(scene.engine.closed(id, scene.now));
            }
        });
        for peer in &scene.peers {
            let closed = scene.engine.closed(peer.id, scene.now);
            assert_eq!(closed, !peer.closed.load(Ordering::SeqCst));
        }
        assert_eq!(scene.engine.connections(), 0);
        assert_eq!(shared::world::metric(&scene.engine, "wsauth_tracked_addresses"), 0);
        allowed += scene.allowed.load(Ordering::Relaxed);
    }
    assert!(allowed > 1_000, "the readers read: {allowed}");
}

/// Of many threads that say `closed`, exactly one gives back.
#[test]
fn exactly_one_closed_gives_back() {
    for _ in 0..200 {
        let world = World::new(json!({ "limits": { "connections_per_address": 2 } }));
        let token = world.token("ann", 600, json!({}));
        let id = world.connect(&token).unwrap();
        let other = world.connect(&token).unwrap();
        let given = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| given.fetch_add(usize::from(world.engine.closed(id, world.now)), Ordering::SeqCst));
            }
        });
        assert_eq!(given.load(Ordering::SeqCst), 1);
        assert!(world.connect(&token).is_ok());
        assert!(world.connect(&token).is_err(), "one permit came back, not more");
        assert!(world.engine.closed(other, world.now));
    }
}

/// A budget that many threads spend is no larger for it.
#[test]
fn threads_share_one_budget() {
    for _ in 0..50 {
        let world = World::new(json!({ "limits": { "messages_per_user": { "count": 1, "per": "60s", "burst": 20 } } }));
        let ids: Vec<_> = (0..4).map(|_| world.live("ann", 600)).collect();
        let passed = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for id in &ids {
                let (passed, world) = (&passed, &world);
                scope.spawn(move || {
                    for _ in 0..20 {
                        passed.fetch_add(usize::from(world.may_say(*id, "ping")), Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(passed.load(Ordering::SeqCst), 20);
    }
}

/// RULES 4 and 33: a token found in the cache is looked up among the revocations like one that was just verified.
#[test]
fn a_revocation_wins_over_any_number_of_handshakes_with_a_kept_token() {
    let ample = json!({ "connections_per_address": 100_000, "connections_per_user": 100_000 });
    let world = World::of(&config(json!({ "issuer": remote_issuer(), "limits": ample })));
    assert!(world.engine.load_keys(ISSUER, &key_set(&["k1"]), world.now));
    for round in 0..ROUNDS {
        let claims = world.claims("ann", 600, json!({ "jti": format!("t{round}") }));
        let token = token_of_fetched("k1", &claims);
        let (come, revoked) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut late = 0;
                    while late < 20 {
                        let over = revoked.load(Ordering::SeqCst);
                        late += usize::from(over);
                        come.fetch_add(1, Ordering::SeqCst);
                        let Ok(admitted) = Request::new().bearer(&token).send(&world.engine, world.now) else {
                            continue;
                        };
                        assert!(!over, "let in after its revocation had returned");
                        let id = admitted.connection;
                        let over = revoked.load(Ordering::SeqCst);
                        let allowed = world.engine.message(id, Payload::Text(br#"{"type":"ping"}"#), world.now).is_ok();
                        assert!(!(over && allowed), "live after its revocation had returned");
                        world.engine.closed(id, world.now);
                    }
                });
            }
            while come.load(Ordering::SeqCst) < 30 {
                std::thread::yield_now();
            }
            let _ =
                world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: &format!("t{round}") }, world.now);
            revoked.store(true, Ordering::SeqCst);
        });
        assert!(Request::new().bearer(&token).send(&world.engine, world.now).is_err());
    }
    let count = |result: &str| metric(&world.engine, &format!("wsauth_cache_total{{result=\"{result}\"}}"));
    assert!(count("hit") > 10 * count("miss"), "most were found");
}

/// X60: one of two configurations at a time, and never a half of each. Key and origin change together, and the places
/// of the message types with them.
#[test]
fn no_decision_mixes_two_configurations() {
    let of = |place: usize| {
        let name = ["a", "b"][place];
        let mut deliveries = json!({ "heard": "have", "unheard": "lack" });
        if place == 1 {
            deliveries["another"] = json!("lack");
        }
        config(json!({
            "issuer": issuer_of_keys(&[name]),
            "handshake": { "credentials": ["authorization"], "trusted_proxies": [],
                "origins": [format!("https://{name}.example.com")] },
            "deliveries": deliveries,
            "limits": { "connections_per_address": 100_000, "connections_per_user": 100_000 },
        }))
    };
    let world = World::of(&of(0));
    let token = |name: &str| token_of_key(name, &world.claims("ann", 600, json!({ "scope": "have" })));
    let tokens = [token("a"), token("b")];
    let enter = |origin: usize, key: usize| {
        let origin = ["https://a.example.com", "https://b.example.com"][origin];
        let request = Request::new().with("Origin", origin).bearer(&tokens[key]);
        request.send(&world.engine, world.now).ok().map(|admitted| admitted.connection)
    };
    let live = enter(0, 0).unwrap();
    let may_hear = |what| world.engine.authorize_delivery(live, what, &[], world.now).is_ok();
    let (done, heard) = (AtomicBool::new(false), AtomicUsize::new(0));
    let entered = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert!(may_hear("heard"), "permitted by both");
                assert!(!may_hear("unheard") && !may_hear("another"), "by neither");
                heard.fetch_add(1, Ordering::SeqCst);
            }
        });
        for (place, entered) in entered.iter().enumerate() {
            let (done, enter, world) = (&done, &enter, &world);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(enter(place, 1 - place), None, "the key of one and the origin of the other");
                    if let Some(id) = enter(place, place) {
                        world.engine.closed(id, world.now);
                        entered.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let enough = || {
            let entered = entered.iter().map(|count| count.load(Ordering::SeqCst)).min().unwrap();
            entered > 100 && heard.load(Ordering::SeqCst) > 1_000
        };
        for turn in 0..20_000 {
            world.reload(&of(turn % 2)).unwrap();
            assert!(world.reload(&config(json!({ "messages": { "auth": "public" } }))).is_err(), "the old one stays");
            if turn > 500 && enough() {
                break;
            }
        }
        done.store(true, Ordering::SeqCst);
        assert!(enough(), "the readers read");
    });
}
