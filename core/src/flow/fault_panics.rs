//! This file answers: what is left of the engine after a panic under any lock of any call?
//!
//! Each call is made again and again, and panics at the first, the second, the third lock that it takes, until it gets
//! through: once as soon as it holds the lock, once when it lets it go. What must hold then is always the same.

#[path = "../../tests/shared/mod.rs"]
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value as Json, json};

use self::shared::world::{START, World, names, opaque_issuer};
use self::shared::{ISSUER, config};
use crate::audit::{AuditEvent, AuditKind};
use crate::connection::State;
use crate::decision::Reason;
use crate::dirty::inject;
use crate::limit::Fingerprint;
use crate::lookup::Answer;
use crate::revocation::RevocationRule;
use crate::{ConnectionId, EventKind, Revocation, Withheld};

const PING: &str = r#"{"type":"ping"}"#;
const JOIN: &str = r#"{"type":"join","room":"blue"}"#;

/// Everybody a call may meet.
struct Stage {
    world: World,
    /// Live, by a token with id and session.
    ann: ConnectionId,
    /// Live, and nobody's business.
    bob: ConnectionId,
    /// Live, vouched for by a source.
    carl: ConnectionId,
    /// Waits for its first message.
    stranger: ConnectionId,
    /// Waits for its source.
    waiting: ConnectionId,
    /// Revoked.
    eve: String,
    /// All of them come from here.
    address: Fingerprint,
}

fn stage() -> Stage {
    let mut world = World::of(&settings());
    let eve = world.token("eve", 86_000, json!({}));
    let subject = Revocation::Subject { issuer: ISSUER, subject: "eve", issued_before: None };
    world.engine.revoke(subject, world.now);
    let claims = json!({ "scope": "room:blue:join room:blue:read", "jti": "t1", "sid": "s1" });
    let ann = world.connect(&world.token("ann", 3_600, claims)).unwrap();
    let bob = world.live("bob", 3_600);
    let carl = world.connect("opaque-of-carl").unwrap();
    let vouched = Box::new(world.vouched("carl", 3_600));
    world.engine.answer(world.lookup(), Answer::Vouched(vouched), world.now).unwrap();
    let stranger = world.stranger().unwrap();
    let waiting = world.connect("opaque-of-wendy").unwrap();
    world.poll();
    world.audit();
    let peer = world.engine.table.find(bob).unwrap().lock(bob).unwrap().peer.address;
    let address = world.engine.hash.address(peer.key(64).as_bytes());
    Stage { world, ann, bob, carl, stranger, waiting, eve, address }
}

fn settings() -> Json {
    config(json!({
        "issuer": opaque_issuer(),
        "handshake": {
            "credentials": ["authorization", "first_message"], "trusted_proxies": [], "require_origin": false,
        },
        "messages": { "ping": "public", "join": "room:{room}:join" },
        "deliveries": { "room": "room:{room}:read" },
        "limits": { "connections_per_address": 100 },
        "connection": { "idle": "1d", "shards": 2 },
    }))
}

impl Stage {
    fn all(&self) -> [ConnectionId; 5] {
        [self.ann, self.bob, self.carl, self.stranger, self.waiting]
    }

    fn wendy(&self, answer: Answer) {
        let lookup = self.world.lookups().last().map(|lookup| lookup.id);
        let _ = self.world.engine.answer(lookup.unwrap(), answer, self.world.now);
    }
}

type Call = fn(&mut Stage);

/// What a call returned is of no interest: it gets through, or it panics.
fn done<T>(_: T) {}

/// Every call that takes a lock, and more than one way through most.
const CALLS: &[(&str, Call)] = &[
    ("handshake", |on| done(on.world.connect(&on.world.token("dan", 600, json!({ "jti": "t9", "sid": "s9" }))))),
    ("handshake of one who is known", |on| done(on.world.connect(&on.world.token("bob", 600, json!({}))))),
    ("handshake refused", |on| done(on.world.connect(&on.eve.clone()))),
    ("handshake of a stranger", |on| done(on.world.stranger())),
    ("handshake that asks", |on| done(on.world.connect("opaque-of-dan"))),
    ("message held", |on| done(on.world.say(on.waiting, PING))),
    ("message by pattern", |on| done(on.world.say(on.ann, JOIN))),
    ("message refused", |on| done(on.world.say(on.bob, JOIN))),
    ("message that breaks the protocol", |on| done(on.world.say(on.ann, r#"{"type":"auth","token":"x"}"#))),
    ("message after the end", |on| {
        on.world.advance_ms(3_600_000);
        done(on.world.say(on.ann, PING));
    }),
    ("first message", |on| {
        let token = on.world.token("dan", 600, json!({}));
        done(on.world.say(on.stranger, &json!({ "type": "auth", "token": token }).to_string()));
    }),
    ("first message that asks", |on| done(on.world.say(on.stranger, r#"{"type":"auth","token":"opaque-of-dan"}"#))),
    ("first message refused", |on| done(on.world.say(on.stranger, PING))),
    ("delivery", |on| done(on.world.engine.authorize_delivery(on.ann, "room", &[("room", "blue")], on.world.now))),
    ("delivery refused", |on| {
        done(on.world.engine.authorize_delivery(on.bob, "room", &[("room", "blue")], on.world.now));
    }),
    ("refresh", |on| {
        let token = on.world.token("ann", 7_200, json!({ "jti": "t2", "sid": "s1" }));
        done(on.world.refresh(on.ann, &token));
    }),
    ("refresh refused", |on| done(on.world.refresh(on.ann, &on.eve.clone()))),
    ("refresh that asks", |on| done(on.world.refresh(on.carl, "opaque-of-carl-2"))),
    ("refresh of a subject", |on| {
        let token = on.world.token("bob", 7_200, json!({}));
        done(on.world.engine.refresh_subject(token.as_bytes(), on.world.now));
    }),
    ("permissions", |on| done(on.world.engine.set_permissions(on.ann, &names("a b"), on.world.now))),
    ("permissions of a subject", |on| {
        on.world.engine.set_subject_permissions(ISSUER, "ann", &names("a"), on.world.now);
    }),
    ("revocation of a connection", |on| done(on.world.engine.revoke(Revocation::Connection(on.ann), on.world.now))),
    ("revocation of a token", |on| {
        on.world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t1" }, on.world.now);
    }),
    ("revocation of a session", |on| {
        on.world.engine.revoke(Revocation::Session { issuer: ISSUER, session_id: "s1" }, on.world.now);
    }),
    ("revocation of an issuer", |on| {
        on.world.engine.revoke(Revocation::Issuer { issuer: ISSUER, issued_before: Some(START - 9) }, on.world.now);
    }),
    ("the end", |on| done(on.world.engine.closed(on.ann, on.world.now))),
    ("the end of a stranger", |on| done(on.world.engine.closed(on.stranger, on.world.now))),
    ("poll", |on| {
        done(on.world.refresh(on.ann, &on.eve.clone()));
        on.world.poll();
    }),
    ("poll at a deadline", |on| {
        on.world.advance_ms(3_500_000);
        on.world.poll();
    }),
    ("poll at the end", |on| {
        on.world.advance_ms(3_700_000);
        on.world.poll();
        on.world.advance_ms(60_000);
        on.world.poll();
    }),
    ("answer", |on| on.wendy(Answer::Vouched(Box::new(on.world.vouched("wendy", 600))))),
    ("answer that refuses", |on| on.wendy(Answer::Inactive)),
    ("touch, look, count", |on| {
        on.world.engine.touch(on.ann, on.world.now);
        done((on.world.engine.identity(on.ann), on.world.engine.permissions(on.ann), on.world.engine.metrics()));
    }),
    ("audit", |on| done(on.world.audit())),
    ("reload", |on| {
        on.world.reload(&settings()).unwrap();
        done(on.world.say(on.ann, PING));
    }),
];

#[test]
fn a_panic_under_any_lock_of_any_call_lets_nobody_do_more_than_before() {
    for (name, call) in CALLS {
        for (mode, arm) in
            [("taken", inject::panic_when_taken as fn(Option<u32>)), ("let go", inject::panic_when_let_go)]
        {
            let mut reached = false;
            for skipped in 0.. {
                let mut stage = stage();
                arm(Some(skipped));
                let outcome = catch_unwind(AssertUnwindSafe(|| call(&mut stage)));
                arm(None);
                if outcome.is_ok() {
                    break;
                }
                reached = true;
                require_sound(stage, &format!("{name}, lock {skipped} {mode}"));
            }
            assert!(reached, "{name} takes no lock");
        }
    }
}

/// What dies, how the audit names it, and who goes.
type Loss = (fn(&Stage), &'static str, fn(&Stage) -> Vec<ConnectionId>);

const LOSSES: &[Loss] = &[
    (|on| done(on.world.engine.identity(on.ann)), "in the middle of this connection", |on| vec![on.ann]),
    (|on| done(on.world.engine.audit.len()), "in the audit queue", |_| vec![]),
    (|on| done(on.world.engine.table.extent()), "in the list of free slots", |_| vec![]),
    (|on| done(on.world.engine.brute_force.find_block(on.address, on.world.now.mono)), "in the failures", |_| vec![]),
    (|on| done(on.world.engine.shard(1).unwrap().next_deadline()), "in a shard", |_| vec![]),
    (|on| done(on.world.engine.shard(0).unwrap().next_deadline()), "in a shard", |on| on.all().to_vec()),
    (|on| done(on.world.engine.lookups.len()), "in the lookups", |on| vec![on.waiting]),
    (|on| done(on.world.engine.address_permits.held(on.address)), "in the permits", |on| on.all().to_vec()),
    (
        |on| done(on.world.engine.unauthenticated.held(on.world.engine.hash.everyone())),
        "in the permits",
        |on| vec![on.stranger, on.waiting],
    ),
    (|on| done(on.world.engine.index.find(on.address)), "in the index", |on| on.all().to_vec()),
    (|on| done(on.world.engine.rates.tracked()), "in the budgets", |on| on.all().to_vec()),
    (|on| done(on.world.engine.sets.len()), "in the permission sets", |on| on.all().to_vec()),
    (
        |on| {
            let rule = RevocationRule::Token { issuer: String::new(), token_id: String::new(), subject: None };
            let reach = super::revoke::reach(&on.world.engine, &on.world.engine.rules.get(), on.world.now);
            on.world.engine.revocations.revoke(&rule, reach, on.world.now);
        },
        "in the revocations",
        |on| on.all().to_vec(),
    ),
];

#[test]
fn who_goes_with_a_lock_is_told_4012_once_and_nobody_else() {
    for (lose, detail, who_goes) in LOSSES {
        let mut stage = stage();
        stage.world.take(stage.ann);
        // Owed, and not told before it dies.
        stage.world.engine.set_permissions(stage.ann, &names("a"), stage.world.now).unwrap();
        inject::panic_when_taken(Some(0));
        let died = catch_unwind(AssertUnwindSafe(|| lose(&stage)));
        inject::panic_when_taken(None);
        assert!(died.is_err(), "{detail}");
        let go = who_goes(&stage);
        if go == [stage.ann] {
            // Before anything was repaired, and without a lock.
            let slot = stage.world.engine.table.find(stage.ann).unwrap();
            assert_eq!(slot.record().state(), State::Closing);
            assert!(slot.lock(stage.ann).is_none(), "nobody works on what is half written");
        }
        for id in [stage.ann, stage.bob, stage.carl] {
            assert_eq!(stage.world.may_say(id, "ping"), !go.contains(&id), "{detail}");
        }
        let faults: Vec<AuditEvent> =
            stage.world.audit().into_iter().filter(|event| event.kind == AuditKind::Fault).collect();
        assert_eq!(faults.len(), 1, "{detail}");
        assert!(faults[0].detail.unwrap().contains(detail), "{detail}: {faults:?}");
        if go == [stage.ann] {
            let events = stage.world.take(stage.ann);
            assert!(
                matches!(&events[..], [EventKind::Close { code: 4012, .. }]),
                "nothing else is believed: {events:?}"
            );
            // Taken above.
            continue;
        }
        for id in stage.all() {
            let end = go.contains(&id).then_some((Reason::AuthenticationUnavailable, 4012));
            assert_eq!(stage.world.end(id), end, "{detail}");
        }
        // Those who stay go on as ever, those who come are let in.
        if !go.contains(&stage.stranger) {
            let token = stage.world.token("sam", 600, json!({}));
            let auth = json!({ "type": "auth", "token": token }).to_string();
            assert_eq!(stage.world.say(stage.stranger, &auth), Err(Withheld::Consumed), "{detail}");
        }
        let cut_off = stage.world.connect(&stage.world.token("ann", 600, json!({})));
        assert_eq!(cut_off.is_err(), *detail == "in the revocations", "{detail}");
        assert!(stage.world.connect(&stage.eve).is_err(), "{detail}");
    }
}

#[test]
fn no_deadline_is_lost_with_a_poll_that_panics() {
    for skipped in 0.. {
        let mut stage = stage();
        stage.world.advance_ms(3_600_000);
        inject::panic_when_taken(Some(skipped));
        let outcome = catch_unwind(AssertUnwindSafe(|| stage.world.poll()));
        inject::panic_when_taken(None);
        stage.world.poll();
        // Nobody says a word: only the wheel knows that their time is over.
        for id in stage.all() {
            let slot = stage.world.engine.table.find(id).unwrap();
            assert!(slot.lock(id).unwrap().terminal.is_some(), "lock {skipped}: {id:?}");
        }
        if outcome.is_ok() {
            assert!(skipped > 10);
            return;
        }
    }
}

#[test]
fn whoever_was_ending_when_its_shard_was_lost_is_given_up_in_time() {
    let mut stage = stage();
    stage.world.engine.revoke(Revocation::Connection(stage.ann), stage.world.now);
    stage.world.poll();
    inject::panic_when_taken(Some(0));
    assert!(catch_unwind(AssertUnwindSafe(|| stage.world.engine.shard(0).unwrap().next_deadline())).is_err());
    stage.world.run_ms(30_000);
    assert!(stage.world.engine.table.find(stage.ann).is_none());
}

/// Whatever died: nobody does more than before, all are told, all comes back, newcomers are served.
fn require_sound(mut stage: Stage, what: &str) {
    // Far beyond what a poll that died has said the time is.
    assert_eq!(stage.world.engine.next_deadline(0), Some(crate::time::MonoTime(0)), "{what}: polled at once");
    let may: BTreeSet<ConnectionId> = stage.all().into_iter().filter(|id| stage.world.may_say(*id, "ping")).collect();
    assert!(!may.contains(&stage.stranger) && !may.contains(&stage.waiting), "{what}");
    let (everyone, world) = (stage.all(), &mut stage.world);
    let mut ends = BTreeMap::new();
    let mut told: Vec<_> = Vec::new();
    while world.engine.poll(0, world.now, usize::MAX, &mut told).unwrap().more {}
    for event in told {
        if let EventKind::Close { refusal, code } | EventKind::Refused { refusal, code } = event.kind {
            ends.insert(event.connection, (refusal.reason, code));
        }
    }
    for id in [stage.ann, stage.bob, stage.carl] {
        let Some(slot) = world.engine.table.find(id) else { continue };
        let terminal = slot.lock(id).unwrap().terminal;
        assert_eq!(may.contains(&id), terminal.is_none(), "{what}: {id:?} {terminal:?}");
        assert!(terminal.is_none_or(|terminal| terminal.handed_out), "{what}: {id:?} {terminal:?}");
    }
    for (id, (reason, code)) in &ends {
        let ours = *reason == Reason::AuthenticationUnavailable && *code == 4012;
        let own = [
            Reason::Revoked,
            Reason::Expired,
            Reason::RefreshTimeout,
            Reason::ProtocolError,
            Reason::TokenInactive,
            Reason::AuthenticationTimeout,
            Reason::CredentialMissing,
        ];
        assert!(ours || own.contains(reason), "{what}: {id:?} {reason:?}");
    }
    let faults: Vec<AuditEvent> = world.audit().into_iter().filter(|event| event.kind == AuditKind::Fault).collect();
    assert!(!faults.is_empty() && faults.iter().all(|event| event.detail.is_some()), "{what}");
    assert!(world.connect(&stage.eve).is_err(), "{what}: who was revoked stays so");

    // All who were told, and all who never heard of their handle, are gone in a while; then nothing is held.
    for id in everyone {
        world.engine.closed(id, world.now);
    }
    for _ in 0..40 {
        world.advance_ms(10_000);
        let mut events = Vec::new();
        while world.engine.poll(0, world.now, usize::MAX, &mut events).unwrap().more {}
        for event in events {
            // Handles that a handshake made and nobody was given: the server never says `closed`.
            assert!(!matches!(event.kind, EventKind::Ready), "{what}");
        }
    }
    let orphans: Vec<ConnectionId> = orphans(world);
    for id in &orphans {
        assert!(world.engine.closed(*id, world.now), "{what}");
    }
    assert!(world.lookups().is_empty(), "{what}");
    let engine = &world.engine;
    assert_eq!(engine.connections(), 0, "{what}");
    assert_eq!((engine.address_permits.tracked(), engine.index.len(), engine.lookups.len()), (0, 0, 0), "{what}");
    assert_eq!((engine.unauthenticated.tracked(), engine.unauthenticated_addresses.tracked()), (0, 0), "{what}");
    assert!(engine.sets.len() <= 1, "{what}: {}", engine.sets.len());

    // Newcomers are decided as ever, and one more than fits is not let in.
    let new = world.live("nina", 600);
    assert!(world.may_say(new, "ping") && world.say(new, JOIN).is_err(), "{what}");
    assert_eq!(world.metric("wsauth_connections"), 1, "{what}");
    assert!(world.close(new), "{what}");
    assert!(world.connect(&stage.eve).is_err(), "{what}: who was revoked stays so");
}

/// Connections that stand in the table: those of handshakes that were through when something else of them died.
fn orphans(world: &World) -> Vec<ConnectionId> {
    crate::flow::revoke::all(&world.engine)
}
