//! This file answers: what does the engine ask of others, and what does each answer mean?

use serde_json::json;
use wsauth::audit::AuditKind;
use wsauth::lookup::{Answer, LookupId, Question};
use wsauth::{EventKind, Progress, Reason, Refreshed, Revocation, Withheld};

use crate::shared::world::{START, World, key_set, opaque_issuer, remote_issuer, token_of_fetched};
use crate::shared::{ISSUER, Request, config};

const PING: &str = r#"{"type":"ping"}"#;

fn remote(more: serde_json::Value) -> World {
    let mut all = json!({ "issuer": remote_issuer() });
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    World::new(all)
}

fn opaque() -> World {
    World::new(json!({ "issuer": opaque_issuer(), "connection": { "idle": "1d" } }))
}

fn sessions() -> World {
    sessions_beside(config(json!({}))["issuer"].clone())
}

fn sessions_beside(issuer: serde_json::Value) -> World {
    World::new(session_config(issuer))
}

/// No breaker stands between the engine and a store that fails.
fn sessions_never_left_alone() -> World {
    let mut all = session_config(config(json!({}))["issuer"].clone());
    all["lookups"] = json!({ "breaker_failures": 1_000 });
    World::new(all)
}

fn session_config(issuer: serde_json::Value) -> serde_json::Value {
    json!({
        "issuer": issuer,
        "sessions": {},
        "handshake": {
            "credentials": ["cookie"], "cookie": { "name": "__Host-ws", "holds": "session" },
            "origins": ["https://app.example.com"], "trusted_proxies": [],
        },
    })
}

fn with_session(world: &World, id: &str) -> Result<wsauth::Admitted, wsauth::Refusal> {
    let request = Request::new().with("Origin", "https://app.example.com").with("Cookie", format!("__Host-ws={id}"));
    request.send(&world.engine, world.now)
}

/// Sleeps until something is asked.
fn next_lookup(world: &mut World) -> LookupId {
    loop {
        if let Some(lookup) = world.lookups().first() {
            return lookup.id;
        }
        assert!(world.advance_to_next_deadline());
    }
}

fn vouch(world: &World, subject: &str, seconds: u64) {
    let vouched = Box::new(world.vouched(subject, seconds));
    world.engine.answer(world.lookup(), Answer::Vouched(vouched), world.now).unwrap();
}

#[test]
fn keys_are_fetched_once_for_all_who_wait() {
    let mut world = remote(json!({}));
    let tokens: Vec<_> = ["ann", "bob"].map(|name| token_of_fetched("k1", &world.claims(name, 600, json!({})))).into();
    let ids: Vec<_> = tokens
        .iter()
        .map(|token| {
            let admitted = Request::new().bearer(token).send(&world.engine, world.now).unwrap();
            assert_eq!(admitted.progress, Progress::Authenticating);
            admitted.connection
        })
        .collect();
    assert_eq!(world.say(ids[0], PING), Err(Withheld::Hold));
    assert!(world.engine.authorize_delivery(ids[0], "x", &[], world.now).is_err());
    let lookups = world.lookups();
    assert_eq!(lookups.len(), 1);
    assert!(matches!(&lookups[0].question, Question::Keys { issuer, .. } if &**issuer == ISSUER));
    assert_eq!(lookups[0].deadline, world.now.mono.plus(2_000));
    assert_eq!(world.poll(), 0);
    world.engine.answer(lookups[0].id, Answer::Keys(key_set(&["k1"])), world.now).unwrap();
    for id in &ids {
        let events = world.take(*id);
        assert!(matches!(&events[..], [EventKind::Ready, EventKind::Send(text)] if text.contains("auth_success")));
        assert!(world.may_say(*id, "ping"));
    }
    let again = Request::new().bearer(&tokens[0]).send(&world.engine, world.now).unwrap();
    assert_eq!(again.progress, Progress::Live);
    assert_eq!(world.engine.answer(lookups[0].id, Answer::Inactive, world.now), Err(Reason::MisuseHandle));
}

#[test]
fn a_bad_key_set_changes_nothing_and_keys_can_be_put_in_before() {
    let mut world = remote(json!({}));
    assert!(!world.engine.load_keys(ISSUER, b"<html>", world.now));
    assert!(!world.engine.load_keys("https://other", &key_set(&["k1"]), world.now));
    assert!(world.engine.load_keys(ISSUER, &key_set(&["k1"]), world.now));
    let id = world.connect(&token_of_fetched("k1", &world.claims("ann", 600, json!({})))).unwrap();
    assert!(!world.engine.load_keys(ISSUER, b"{}", world.now));
    assert!(world.may_say(id, "ping"));
    assert!(world.engine.load_keys(ISSUER, &key_set(&["k2"]), world.now));
    assert_eq!(world.types(id), ["auth_success", "token_refresh_required"], "its key is gone");
}

#[test]
fn an_unknown_key_is_asked_for_once_a_cool_down() {
    let mut world = remote(json!({}));
    assert!(world.engine.load_keys(ISSUER, &key_set(&["k1"]), world.now));
    let unknown = token_of_fetched("k2", &world.claims("ann", 600, json!({})));
    let id = world.connect(&unknown).unwrap();
    world.engine.answer(world.lookup(), Answer::Keys(key_set(&["k1"])), world.now).unwrap();
    assert_eq!(world.end(id), Some((Reason::KeyUnknown, 4001)));
    world.advance_ms(29_999);
    assert_eq!(world.connect(&unknown).unwrap_err().reason, Reason::KeyUnknown);
    assert_eq!(world.lookups().len(), 0);
    world.advance_ms(1);
    assert!(world.connect(&unknown).is_ok());
    assert_eq!(world.lookups().len(), 1);
}

/// Whoever fills the pool of the unauthenticated must not use up the one question a cool-down.
#[test]
fn a_refused_newcomer_spends_no_cool_down() {
    let mut world = remote(json!({ "connection": { "max_unauthenticated": 1, "max_unauthenticated_per_address": 1 },
        "handshake": {
            "credentials": ["authorization", "first_message"], "trusted_proxies": [], "require_origin": false,
        },
    }));
    assert!(world.engine.load_keys(ISSUER, &key_set(&["k1"]), world.now));
    assert_eq!(world.lookups().len(), 0, "no fetch ahead of need is out, which could be joined");
    let attacker = world.stranger().unwrap();
    let unknown = token_of_fetched("k2", &world.claims("ann", 600, json!({})));
    assert_eq!(world.connect(&unknown).unwrap_err().reason, Reason::UnauthenticatedConnections);
    world.close(attacker);
    assert!(world.connect(&unknown).is_ok(), "the key may be asked for");
    assert_eq!(world.lookups().len(), 1);
}

#[test]
fn unavailable_is_neither_yes_nor_no() {
    let mut world = remote(json!({}));
    let id = world.connect(&token_of_fetched("k1", &world.claims("ann", 600, json!({})))).unwrap();
    let answer = Answer::Unavailable { retry_after_ms: Some(7_000) };
    world.engine.answer(world.lookup(), answer, world.now).unwrap();
    let events = world.take(id);
    let [EventKind::Refused { refusal, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((refusal.reason, refusal.retry_after_ms), (Reason::SourceUnavailable, Some(7_000)));
    assert_eq!(refusal.row().public, "unavailable");
}

#[test]
fn answers_to_another_question_are_no_answers() {
    let mut world = opaque();
    let id = world.connect("opaque-0123456789abcdef").unwrap();
    world.engine.answer(world.lookup(), Answer::Keys(key_set(&["k1"])), world.now).unwrap();
    assert_eq!(world.end(id).unwrap().0, Reason::SourceUnavailable);
    assert!(world.engine.answer(wsauth::lookup::LookupId(99), Answer::Inactive, world.now).is_err());
}

#[test]
fn opaque_tokens_are_introspected_and_inactive_is_no() {
    let mut world = opaque();
    let good = world.connect("opaque-0123456789abcdef").unwrap();
    vouch(&world, "ann", 600);
    assert!(world.may_say(good, "ping"));
    let bad = world.connect("opaque-fedcba9876543210").unwrap();
    world.engine.answer(world.lookup(), Answer::Inactive, world.now).unwrap();
    assert_eq!(world.end(bad), Some((Reason::TokenInactive, 4001)));
    let over = world.connect("opaque-ffffffffffffffff").unwrap();
    vouch(&world, "ann", 0);
    assert_eq!(world.end(over).unwrap().0, Reason::TokenExpired);
    assert!(world.connect("bad.bad.bad").is_err(), "three parts are a JWT");
    assert_eq!(world.lookups().len(), 0, "and never sent to introspection");
}

#[test]
fn late_answers_and_answers_for_the_gone_change_nothing() {
    let mut world = opaque();
    let late = world.connect("opaque-0123456789abcdef").unwrap();
    let lookup = world.lookup();
    let vouched = Answer::Vouched(Box::new(world.vouched("ann", 600)));
    world.advance_ms(2_000);
    assert_eq!(world.engine.answer(lookup, vouched.clone(), world.now), Err(Reason::MisuseHandle));
    assert_eq!(world.end(late), Some((Reason::SourceUnavailable, 4012)), "two seconds for the question");
    assert!(!world.may_say(late, "ping"));

    let gone = world.connect("opaque-0123456789abcdef").unwrap();
    let lookup = world.lookup();
    assert!(world.close(gone));
    world.audit();
    assert!(world.engine.answer(lookup, vouched.clone(), world.now).is_ok());
    assert_eq!((world.poll(), world.trail()), (0, vec![]));

    let cut = world.connect("opaque-0123456789abcdef").unwrap();
    let lookup = world.lookup();
    world.engine.revoke(Revocation::Connection(cut), world.now);
    assert_eq!(world.end(cut), Some((Reason::Revoked, 4006)));
    world.audit();
    assert!(world.engine.answer(lookup, vouched, world.now).is_ok());
    assert!(!world.may_say(cut, "ping"));
    assert_eq!((world.poll(), world.trail()), (0, vec![]), "it was told and audited before");
}

#[test]
fn seventeen_holds_break_the_protocol() {
    let mut world = opaque();
    let id = world.connect("opaque-0123456789abcdef").unwrap();
    for _ in 0..16 {
        assert_eq!(world.say(id, PING), Err(Withheld::Hold));
    }
    assert!(matches!(world.say(id, PING), Err(Withheld::Close(_))));
    let events = world.take(id);
    assert!(matches!(&events[..], [EventKind::Refused { code: 4014, .. }]), "{events:?}");
    vouch(&world, "ann", 600);
    assert!(!world.may_say(id, "ping"));
}

#[test]
fn a_first_message_may_need_a_lookup_too() {
    let mut world = remote(json!({ "handshake": {
        "credentials": ["first_message"], "trusted_proxies": [], "require_origin": false,
    }}));
    let id = world.stranger().unwrap();
    let token = token_of_fetched("k1", &world.claims("ann", 600, json!({})));
    let auth = json!({ "type": "auth", "token": token }).to_string();
    assert_eq!(world.say(id, &auth), Err(Withheld::Consumed));
    assert_eq!(world.say(id, PING), Err(Withheld::Hold));
    world.engine.answer(world.lookup(), Answer::Keys(key_set(&["k1"])), world.now).unwrap();
    assert!(world.may_say(id, "ping"));
    assert_eq!(world.types(id), ["auth_success"], "nobody waits for ready");
}

#[test]
fn a_refresh_may_need_a_lookup_and_the_old_token_holds_meanwhile() {
    let mut world = opaque();
    let id = world.live("ann", 600);
    assert_eq!(world.refresh(id, "opaque-0123456789abcdef"), Ok(Refreshed::Pending));
    assert!(world.may_say(id, "ping"));
    vouch(&world, "ann", 900);
    assert_eq!(world.types(id), ["auth_success", "token_refreshed"]);
    world.run_ms(700_000);
    assert!(world.may_say(id, "ping") || world.end(id).is_none());

    let mut world = opaque();
    let id = world.live("ann", 600);
    world.refresh(id, "opaque-0123456789abcdef").unwrap();
    vouch(&world, "bob", 900);
    assert_eq!(world.types(id), ["auth_success", "token_refresh_failed"]);
    for _ in 0..5 {
        world.refresh(id, "opaque-0123456789abcdef").unwrap();
        world.engine.answer(world.lookup(), Answer::Unavailable { retry_after_ms: None }, world.now).unwrap();
    }
    assert!(world.may_say(id, "ping"), "unavailable is no attempt");
}

/// A client that is told nothing yet may try again; that must not cost it its connection.
#[test]
fn a_second_refresh_takes_the_place_of_the_first() {
    let mut world = remote(json!({}));
    assert!(world.engine.load_keys(ISSUER, &key_set(&["k1"]), world.now));
    let id = world.connect(&token_of_fetched("k1", &world.claims("ann", 600, json!({})))).unwrap();
    let next = token_of_fetched("k2", &world.claims("ann", 900, json!({})));
    for _ in 0..5 {
        assert_eq!(world.refresh(id, &next), Ok(Refreshed::Pending));
    }
    world.engine.answer(world.lookup(), Answer::Keys(key_set(&["k1", "k2"])), world.now).unwrap();
    assert!(world.may_say(id, "ping"));
    assert_eq!(world.types(id), ["auth_success", "token_refreshed"]);

    let mut world = opaque();
    let id = world.live("ann", 600);
    world.refresh(id, "opaque-first-0123456789").unwrap();
    let first = world.lookup();
    world.refresh(id, "opaque-second-0123456789").unwrap();
    let second = world.lookup();
    let word = |seconds| Answer::Vouched(Box::new(world.vouched("ann", seconds)));
    let (early, late) = (word(700), word(800));
    world.engine.answer(first, early, world.now).unwrap();
    world.engine.answer(second, late, world.now).unwrap();
    assert_eq!(world.types(id), ["auth_success", "token_refreshed"]);
    assert_eq!(world.engine.identity(id).unwrap().expiry, world.now.wall.plus(800_000));
}

#[test]
fn a_session_is_asked_for_again_before_it_ends() {
    let mut world = sessions();
    let id = with_session(&world, "abcdef0123456789").unwrap().connection;
    vouch(&world, "ann", 600);
    assert!(world.may_say(id, "ping"));
    world.run_ms(300_000);
    assert!(world.types(id).iter().all(|kind| kind != "token_refresh_required"), "the client holds no token");
    vouch(&world, "ann", 900);
    world.run_ms(500_000);
    assert!(world.may_say(id, "ping"), "the session goes on");
    let lookup = next_lookup(&mut world);
    world.engine.answer(lookup, Answer::Inactive, world.now).unwrap();
    assert_eq!(world.end(id), Some((Reason::Revoked, 4006)), "gone");
}

#[test]
fn a_session_that_cannot_be_confirmed_ends_with_4012_at_its_expiry() {
    for answered in [true, false] {
        let mut world = sessions_never_left_alone();
        let id = with_session(&world, "abcdef0123456789").unwrap().connection;
        vouch(&world, "ann", 600);
        let mut asked = 0;
        for _ in 0..599 {
            world.run_ms(1_000);
            for lookup in world.lookups() {
                asked += 1;
                if answered {
                    let answer = Answer::Unavailable { retry_after_ms: None };
                    world.engine.answer(lookup.id, answer, world.now).unwrap();
                }
            }
            assert!(world.may_say(id, "ping"), "until expiry");
        }
        assert!(asked > 50, "asked again and again: {asked}");
        world.run_ms(1_000);
        assert_eq!(world.end(id), Some((Reason::AuthenticationUnavailable, 4012)), "answered: {answered}");
    }
}

#[test]
fn a_session_that_ends_as_it_said_is_expired() {
    let mut world = sessions();
    let id = with_session(&world, "abcdef0123456789").unwrap().connection;
    let mut word = world.vouched("ann", 600);
    world.engine.answer(world.lookup(), Answer::Vouched(Box::new(word.clone())), world.now).unwrap();
    word.permissions = Vec::new();
    let mut asked = 0;
    for _ in 0..600 {
        world.run_ms(1_000);
        for lookup in world.lookups() {
            asked += 1;
            world.engine.answer(lookup.id, Answer::Vouched(Box::new(word.clone())), world.now).unwrap();
        }
    }
    assert!((2..20).contains(&asked), "after half of what is left, again and again: {asked}");
    assert_eq!(world.end(id), Some((Reason::Expired, 4002)));
}

#[test]
fn a_session_that_became_another_users_is_cut_off() {
    for seconds in [900, 300] {
        let mut world = sessions();
        let id = with_session(&world, "abcdef0123456789").unwrap().connection;
        vouch(&world, "ann", 600);
        world.run_ms(300_000);
        vouch(&world, "bob", seconds);
        assert!(!world.may_say(id, "ping"));
        assert_eq!(world.end(id), Some((Reason::Revoked, 4006)), "{seconds}");
    }
}

/// An answer of the source is no activity of the peer.
#[test]
fn asking_the_source_again_does_not_put_off_idle() {
    let mut world = World::new(json!({
        "connection": { "idle": "320s" },
        "sessions": {},
        "handshake": {
            "credentials": ["cookie"], "cookie": { "name": "__Host-ws", "holds": "session" },
            "origins": ["https://app.example.com"], "trusted_proxies": [],
        },
    }));
    let id = with_session(&world, "abcdef0123456789").unwrap().connection;
    let word = world.vouched("ann", 600);
    world.engine.answer(world.lookup(), Answer::Vouched(Box::new(word.clone())), world.now).unwrap();
    world.run_ms(301_000);
    world.engine.answer(world.lookup(), Answer::Vouched(Box::new(word)), world.now).unwrap();
    world.run_ms(20_000);
    assert_eq!(world.end(id), Some((Reason::Inactive, 4003)));
}

/// The client got itself a token it can refresh: the opaque one is past.
#[test]
fn a_jwt_in_place_of_an_opaque_token_ends_the_asking() {
    let mut world = opaque();
    let id = world.connect("opaque-0123456789abcdef").unwrap();
    vouch(&world, "ann", 600);
    world.refresh(id, &world.token("ann", 3600, json!({}))).unwrap();
    world.take(id);
    let mut asked = 0;
    for _ in 0..330 {
        world.run_ms(10_000);
        asked += world.lookups().len();
    }
    assert_eq!(asked, 0);
    assert_eq!(world.types(id), ["token_refresh_required"]);
}

#[test]
fn an_issuer_removed_while_the_question_was_out_vouches_for_nobody() {
    let mut world = opaque();
    let id = world.connect("opaque-0123456789abcdef").unwrap();
    let lookup = world.lookup();
    let mut other = opaque_issuer();
    other[0]["issuer"] = json!("https://other.example.com");
    world.reload(&config(json!({ "issuer": other }))).unwrap();
    let word = world.vouched("ann", 600);
    world.engine.answer(lookup, Answer::Vouched(Box::new(word)), world.now).unwrap();
    assert!(!world.may_say(id, "ping"));
    assert_eq!(world.end(id).unwrap().0, Reason::IssuerUnknown);
}

#[test]
fn what_is_refused_after_a_lookup_is_audited_once() {
    let mut world = opaque();
    let id = world.connect("opaque-0123456789abcdef").unwrap();
    world.engine.answer(world.lookup(), Answer::Inactive, world.now).unwrap();
    let trail = world.trail();
    let refused = trail.iter().filter(|(kind, _)| *kind == AuditKind::HandshakeRefused).count();
    assert_eq!(refused, 1, "{trail:?}");
    assert!(world.end(id).is_some());
    assert!(world.close(id));
}

/// No issuer bounds the life of a session: what revokes it must outlive it all the same (RULES 31).
#[test]
fn a_revoked_session_of_a_month_stays_revoked() {
    let mut issuer = config(json!({}))["issuer"].clone();
    issuer[0]["max_lifetime"] = json!("1h");
    let mut world = sessions_beside(issuer);
    let month = 30 * 86_400;
    let id = with_session(&world, "abcdef0123456789").unwrap().connection;
    vouch(&world, "ann", month);
    let what = Revocation::Subject { issuer: "session", subject: "ann", issued_before: None };
    assert_eq!(world.engine.revoke(what, world.now).closed, 1);
    world.engine.closed(id, world.now);
    world.advance_ms(20 * 86_400_000);
    let mut word = world.vouched("ann", 86_400);
    word.issued_at = Some(START);
    let id = with_session(&world, "abcdef0123456789").unwrap().connection;
    world.engine.answer(world.lookup(), Answer::Vouched(Box::new(word)), world.now).unwrap();
    assert!(!world.may_say(id, "ping"), "the store was not told");
}

/// Every decision once: a connection that never was live is refused, it does not end as well.
#[test]
fn a_session_that_is_unknown_is_audited_once() {
    let world = sessions();
    let _ = with_session(&world, "abcdef0123456789").unwrap();
    world.engine.answer(world.lookup(), Answer::Inactive, world.now).unwrap();
    let told: Vec<_> = world.engine.audit(9, world.now).into_iter().map(|event| (event.kind, event.reason)).collect();
    assert_eq!(told, [(AuditKind::HandshakeRefused, Some(Reason::SessionUnknown))]);
}

#[test]
fn an_issuer_that_takes_no_opaque_tokens_any_more_vouches_for_none() {
    let mut world = opaque();
    let id = world.connect("opaque-0123456789abcdef").unwrap();
    let lookup = world.lookup();
    world.reload(&config(json!({}))).unwrap();
    let word = world.vouched("ann", 600);
    world.engine.answer(lookup, Answer::Vouched(Box::new(word)), world.now).unwrap();
    assert!(!world.may_say(id, "ping"));
    assert_eq!(world.end(id).unwrap().0, Reason::TokenOpaque);
}

/// The session is not gone because it gained something that the connection may not gain.
#[test]
fn what_a_session_gains_is_left_out_where_widening_is_refused() {
    for widen in [true, false] {
        let mut world = World::new(json!({
            "refresh": { "widen": widen },
            "messages": { "ping": "public", "a": "p:a", "b": "p:b" },
            "sessions": {},
            "handshake": {
                "credentials": ["cookie"], "cookie": { "name": "__Host-ws", "holds": "session" },
                "origins": ["https://app.example.com"], "trusted_proxies": [],
            },
        }));
        let id = with_session(&world, "abcdef0123456789").unwrap().connection;
        let mut word = world.vouched("ann", 600);
        word.permissions = vec!["p:a".to_owned()];
        world.engine.answer(world.lookup(), Answer::Vouched(Box::new(word.clone())), world.now).unwrap();
        world.run_ms(300_000);
        word.permissions.push("p:b".to_owned());
        word.expiry = word.expiry.plus(600_000);
        world.engine.answer(world.lookup(), Answer::Vouched(Box::new(word)), world.now).unwrap();
        world.run_ms(500_000);
        assert!(world.may_say(id, "a"), "longer");
        assert_eq!(world.may_say(id, "b"), widen, "and wider only where that is allowed");
        assert_eq!(world.end(id), None);
    }
}
