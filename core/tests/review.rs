//! What a review of the flows found and what must not come back, each told as a server would see it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

mod shared;

use serde_json::{Value as Json, json};
use shared::{ISSUER, Request, config, engine, token};
use wsauth::audit::AuditKind;
use wsauth::lookup::{Answer, Lookup, Question, Vouched};
use wsauth::request::{Header, Peer, Upgrade};
use wsauth::time::{Now, WallTime};
use wsauth::{ConnectionId, Engine, Event, EventKind, Payload, Progress, Reason, Refreshed, Revocation, Withheld};

const START: u64 = 1_800_000_000;

/// So many milliseconds after the start.
fn at(ms: u64) -> Now {
    Now::new(START * 1_000 + ms, 1_000 + ms)
}

fn claims(more: Json) -> String {
    let mut claims = json!({ "sub": "u", "iat": START, "exp": START + 3_600, "jti": "t1" });
    for (key, value) in more.as_object().unwrap() {
        claims[key] = value.clone();
    }
    token(&claims)
}

fn open(engine: &Engine, token: &str, now: Now) -> ConnectionId {
    Request::new().bearer(token).send(engine, now).unwrap().connection
}

fn poll(engine: &Engine, now: Now) -> Vec<EventKind> {
    let mut events = Vec::new();
    while engine.poll(0, now, 100, &mut events).unwrap().more {}
    events.into_iter().map(|event: Event| event.kind).collect()
}

/// The reason for which the server is told to close.
fn close_reason(events: &[EventKind]) -> Option<Reason> {
    events.iter().find_map(|event| match event {
        EventKind::Close { refusal, .. } | EventKind::Refused { refusal, .. } => Some(refusal.reason),
        _ => None,
    })
}

fn vouched(expiry: u64, permissions: &[&str]) -> Answer {
    Answer::Vouched(Box::new(Vouched {
        subject: "u".into(),
        expiry: WallTime(START * 1_000 + expiry),
        issued_at: Some(START),
        token_id: None,
        session_id: None,
        client_id: None,
        tenant: None,
        permissions: permissions.iter().map(|text| (*text).to_owned()).collect(),
        claims: serde_json::Map::new(),
    }))
}

fn only_lookup(engine: &Engine, now: Now) -> Lookup {
    let mut lookups = engine.lookups(9, now);
    assert_eq!(lookups.len(), 1);
    lookups.remove(0)
}

/// Takes opaque tokens, also as a first message.
fn opaque() -> Json {
    let mut all = config(json!({
        "handshake": {
            "credentials": ["authorization", "first_message"],
            "trusted_proxies": [],
            "require_origin": false,
        },
        "messages": { "ping": "public", "chat.send": "chat:write" },
    }));
    all["issuer"][0]["opaque"] = json!(true);
    all
}

/// A live connection whose opaque token ends after `expiry`.
fn open_vouched(engine: &Engine, expiry: u64, permissions: &[&str]) -> ConnectionId {
    let id = open(engine, "opaque-0123456789abcdef", at(0));
    let lookup = only_lookup(engine, at(0));
    engine.answer(lookup.id, vouched(expiry, permissions), at(0)).unwrap();
    assert_eq!(poll(engine, at(0))[0], EventKind::Ready);
    id
}

fn say(engine: &Engine, id: ConnectionId, text: &str, now: Now) -> Result<(), Withheld> {
    engine.message(id, Payload::Text(text.as_bytes()), now).map(|_| ())
}

#[test]
fn a_shard_that_nobody_polls_takes_no_connection() {
    let engine = engine(&config(json!({}))).unwrap();
    let request = Request::new().bearer(&claims(json!({})));
    let headers: Vec<Header<'_>> = request.headers.iter().map(|(name, value)| Header { name, value }).collect();
    let upgrade = Upgrade { method: b"GET", target: b"/ws", headers: &headers, peer: Peer::Ip(request.peer) };
    assert_eq!(engine.handshake(1, &upgrade, at(0)).unwrap_err().reason, Reason::MisuseArgument);
    assert_eq!(engine.connections(), 0);
}

#[test]
fn whoever_has_no_room_to_wait_does_not_keep_keys_from_being_asked_for() {
    let mut all = config(json!({ "connection": { "max_unauthenticated_per_address": 1 } }));
    all["issuer"][0]["algorithms"] = json!(["RS256"]);
    all["issuer"][0]["keys"] = json!({ "jwks_url": "https://id.example.com/jwks" });
    all["handshake"]["credentials"] = json!(["authorization", "first_message"]);
    let engine = engine(&all).unwrap();
    let header = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ";
    let unknown = format!("{header}.e30.{}", "A".repeat(342));
    // The fetch ahead of need is over, and its cool-down: nothing is out that could be joined.
    let set = br#"{"keys":[{"kty":"RSA","kid":"b","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}"#;
    assert!(engine.load_keys(all["issuer"][0]["issuer"].as_str().unwrap(), set, at(0)));
    assert_eq!(engine.lookups(9, at(0)).len(), 0);
    assert_eq!(Request::new().send(&engine, at(0)).unwrap().progress, Progress::AwaitingAuth);
    let crowded = Request::new().bearer(&unknown).send(&engine, at(0)).unwrap_err();
    assert_eq!(crowded.reason, Reason::UnauthenticatedConnections);
    let other = Request::new().bearer(&unknown).from("203.0.113.8").send(&engine, at(1)).unwrap();
    assert_eq!(other.progress, Progress::Authenticating);
    assert!(matches!(only_lookup(&engine, at(1)).question, Question::Keys { .. }));
}

#[test]
fn a_hold_after_a_first_message_ends_with_ready() {
    let engine = engine(&opaque()).unwrap();
    let id = Request::new().send(&engine, at(0)).unwrap().connection;
    let auth = r#"{"type":"auth","token":"opaque-0123456789abcdef"}"#;
    assert_eq!(say(&engine, id, auth, at(1)), Err(Withheld::Consumed));
    assert_eq!(say(&engine, id, r#"{"type":"ping"}"#, at(2)), Err(Withheld::Hold));
    let lookup = only_lookup(&engine, at(3));
    engine.answer(lookup.id, vouched(3_600_000, &[]), at(3)).unwrap();
    let events = poll(&engine, at(4));
    assert!(matches!(&events[..], [EventKind::Send(text), EventKind::Ready] if text.contains("auth_success")));
    assert_eq!(say(&engine, id, r#"{"type":"ping"}"#, at(5)), Ok(()));
}

#[test]
fn a_first_message_after_its_time_is_too_late_also_when_nobody_polls() {
    let engine = engine(&opaque()).unwrap();
    let id = Request::new().send(&engine, at(0)).unwrap().connection;
    let auth = format!(r#"{{"type":"auth","token":"{}"}}"#, claims(json!({})));
    let late = say(&engine, id, &auth, at(10_000)).unwrap_err();
    assert_eq!(late, Withheld::Close(Reason::AuthenticationTimeout.into()));
}

#[test]
fn an_answer_about_one_token_is_never_taken_for_another() {
    let engine = engine(&opaque()).unwrap();
    let id = open_vouched(&engine, 3_600_000, &[]);
    assert_eq!(engine.refresh(id, b"opaque-first", at(1)), Ok(Refreshed::Pending));
    assert_eq!(engine.refresh(id, b"opaque-second", at(2)), Ok(Refreshed::Pending));
    let lookups = engine.lookups(9, at(3));
    assert_eq!(lookups.len(), 2);
    // The first was given up for the second: its answer changes nothing, and is no attempt either.
    engine.answer(lookups[0].id, vouched(7_200_000, &["chat:write"]), at(3)).unwrap();
    assert!(engine.permissions(id).unwrap().is_empty());
    assert_eq!(poll(&engine, at(3)), []);
    engine.answer(lookups[1].id, vouched(7_200_000, &["chat:write"]), at(4)).unwrap();
    assert_eq!(engine.permissions(id).unwrap().len(), 1);
    assert_eq!(close_reason(&poll(&engine, at(4))), None);
}

#[test]
fn a_refresh_that_nobody_answers_is_told_and_no_attempt() {
    let engine = engine(&opaque()).unwrap();
    let id = open_vouched(&engine, 3_600_000, &[]);
    for n in 0..5 {
        assert_eq!(engine.refresh(id, b"opaque-first", at(n * 10_000)), Ok(Refreshed::Pending));
        assert_eq!(poll(&engine, at(n * 10_000 + 1_999)), []);
        let events = poll(&engine, at(n * 10_000 + 2_000));
        let [EventKind::Send(text)] = &events[..] else { panic!("{events:?}") };
        assert!(text.contains("token_refresh_failed") && text.contains(r#""attempts_left":3"#), "{text}");
    }
}

#[test]
fn a_token_for_one_session_costs_another_session_of_the_same_user_nothing() {
    let engine = engine(&config(json!({}))).unwrap();
    let mine = open(&engine, &claims(json!({ "sid": "s1" })), at(0));
    let other = open(&engine, &claims(json!({ "sid": "s2", "jti": "t2" })), at(0));
    poll(&engine, at(0));
    for n in 1..6 {
        let next = claims(json!({ "sid": "s1", "exp": START + 3_600 + n, "jti": format!("n{n}") }));
        assert_eq!(engine.refresh_subject(next.as_bytes(), at(n)), Ok(1));
    }
    assert_eq!(close_reason(&poll(&engine, at(9))), None);
    let audit = engine.audit(100, at(9));
    assert!(audit.iter().all(|event| event.kind != AuditKind::RefreshRefused));
    for id in [mine, other] {
        assert_eq!(say(&engine, id, r#"{"type":"ping"}"#, at(9)), Ok(()));
    }
}

#[test]
fn what_a_source_takes_back_is_gone_even_if_the_end_stays_where_it_was() {
    let engine = engine(&opaque()).unwrap();
    let id = open_vouched(&engine, 3_600_000, &["chat:write"]);
    let chat = r#"{"type":"chat.send"}"#;
    assert_eq!(say(&engine, id, chat, at(3_000_000)), Ok(()));
    poll(&engine, at(3_400_000));
    let lookup = only_lookup(&engine, at(3_400_000));
    engine.answer(lookup.id, vouched(3_600_000, &[]), at(3_400_000)).unwrap();
    let refused = say(&engine, id, chat, at(3_400_001)).unwrap_err().refusal().unwrap();
    assert_eq!(refused.reason, Reason::PermissionMissing);
    assert!(poll(&engine, at(3_400_002)).iter().any(|event| matches!(event, EventKind::PermissionsChanged(_))));
}

#[test]
fn a_source_may_move_the_end_nearer_and_is_asked_again_when_it_does_not_move_it() {
    let engine = engine(&opaque()).unwrap();
    let id = open_vouched(&engine, 3_600_000, &[]);
    assert!(engine.touch(id, at(3_000_000)));
    poll(&engine, at(3_400_000));
    let lookup = only_lookup(&engine, at(3_400_000));
    engine.answer(lookup.id, vouched(3_600_000, &[]), at(3_400_000)).unwrap();
    assert_eq!(poll(&engine, at(3_400_001)), [], "nothing changed, nothing is told");
    poll(&engine, at(3_500_000));
    let lookup = only_lookup(&engine, at(3_500_000));
    engine.answer(lookup.id, vouched(3_550_000, &[]), at(3_500_000)).unwrap();
    assert_eq!(say(&engine, id, r#"{"type":"ping"}"#, at(3_549_999)), Ok(()));
    assert!(matches!(say(&engine, id, r#"{"type":"ping"}"#, at(3_550_000)), Err(Withheld::Close(_))));
}

#[test]
fn a_source_that_never_answers_is_why_the_connection_ends() {
    let engine = engine(&opaque()).unwrap();
    let _ = open_vouched(&engine, 600_000, &[]);
    poll(&engine, at(599_000));
    assert_eq!(engine.lookups(9, at(599_000)).len(), 1);
    assert_eq!(close_reason(&poll(&engine, at(600_000))), Some(Reason::AuthenticationUnavailable));
}

#[test]
fn the_source_of_a_silent_connection_does_not_keep_it_from_being_idle() {
    let mut all = opaque();
    all["connection"] = json!({ "idle": "10m" });
    let engine = engine(&all).unwrap();
    let _ = open_vouched(&engine, 400_000, &[]);
    poll(&engine, at(300_000));
    let lookup = only_lookup(&engine, at(300_000));
    engine.answer(lookup.id, vouched(3_600_000, &[]), at(300_000)).unwrap();
    assert_eq!(close_reason(&poll(&engine, at(599_999))), None);
    assert_eq!(close_reason(&poll(&engine, at(600_000))), Some(Reason::Inactive));
}

#[test]
fn a_late_answer_does_not_change_why_a_connection_ends() {
    let engine = engine(&opaque()).unwrap();
    let id = open_vouched(&engine, 600_000, &[]);
    poll(&engine, at(599_000));
    let lookup = only_lookup(&engine, at(599_000));
    assert!(matches!(say(&engine, id, r#"{"type":"ping"}"#, at(600_000)), Err(Withheld::Close(_))));
    engine.answer(lookup.id, Answer::Inactive, at(600_001)).unwrap();
    assert_eq!(close_reason(&poll(&engine, at(600_002))), Some(Reason::AuthenticationUnavailable));
}

#[test]
fn refused_junk_postpones_no_deadline() {
    let engine = engine(&config(json!({
        "connection": { "idle": "1m" },
        "limits": { "messages_per_user": { "count": 1000, "per": "1s", "burst": 1000 } },
    })))
    .unwrap();
    let id = open(&engine, &claims(json!({})), at(0));
    let mut ended = None;
    for ms in (0..120_000).step_by(450) {
        let _ = say(&engine, id, r#"{"type":"unknown"}"#, at(ms));
        ended = ended.or_else(|| close_reason(&poll(&engine, at(ms))).map(|reason| (ms, reason)));
    }
    let (ms, reason) = ended.unwrap();
    assert_eq!(reason, Reason::Inactive);
    assert!((60_000..61_000).contains(&ms), "after {ms} ms");
}

#[test]
fn refusals_are_audited_within_a_second_also_when_another_timer_comes_first() {
    let engine = engine(&config(json!({ "connection": { "idle": "1h" } }))).unwrap();
    let id = open(&engine, &claims(json!({})), at(0));
    for ms in [0, 500] {
        let _ = say(&engine, id, r#"{"type":"unknown"}"#, at(ms));
    }
    poll(&engine, at(600));
    poll(&engine, at(1_000));
    let audit = engine.audit(100, at(1_000));
    let told: u64 =
        audit.iter().filter(|event| event.kind == AuditKind::MessageRefused).filter_map(|event| event.count).sum();
    assert_eq!(told, 2);
}

#[test]
fn a_handshake_refused_for_a_revocation_was_never_a_connection() {
    let engine = engine(&config(json!({}))).unwrap();
    let _ = engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t1" }, at(0));
    let refused = Request::new().bearer(&claims(json!({}))).send(&engine, at(1)).unwrap_err();
    assert_eq!(refused.reason, Reason::TokenRevoked);
    let audit = engine.audit(100, at(1));
    assert!(audit.iter().all(|event| event.kind != AuditKind::Closed));
    assert_eq!(audit.iter().filter(|event| event.kind == AuditKind::HandshakeRefused).count(), 1);
    assert_eq!(engine.connections(), 0);
}

#[test]
fn attempts_before_the_question_do_not_count_after_it() {
    let engine = engine(&config(json!({}))).unwrap();
    let id = open(&engine, &claims(json!({})), at(0));
    assert_eq!(engine.refresh(id, b"junk.junk.junk", at(1)).unwrap_err().reason, Reason::TokenHeaderMalformed);
    poll(&engine, at(1));
    assert!(engine.touch(id, at(3_000_000)));
    let asked = poll(&engine, at(3_350_000));
    assert!(matches!(&asked[..], [.., EventKind::Send(text)] if text.contains("token_refresh_required")), "{asked:?}");
    assert_eq!(close_reason(&poll(&engine, at(3_600_000))), Some(Reason::RefreshTimeout));
}

#[test]
fn events_that_were_not_taken_away_stand_in_no_way() {
    let engine = engine(&config(json!({}))).unwrap();
    let mut events = Vec::new();
    for n in 0..3 {
        open(&engine, &claims(json!({ "jti": format!("t{n}") })), at(n));
        let polled = engine.poll(0, at(n), 1, &mut events).unwrap();
        assert!(!polled.more);
    }
    assert_eq!(events.len(), 3);
}
