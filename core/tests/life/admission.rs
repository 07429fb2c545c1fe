//! This file answers: who is let in, how many, and who gives what back?

use serde_json::json;
use wsauth::audit::AuditKind;
use wsauth::{EventKind, Payload, Progress, Reason, Withheld};

use crate::shared::Request;
use crate::shared::world::{START, World};

fn first_message(more: serde_json::Value) -> World {
    let mut all = json!({ "handshake": {
        "credentials": ["authorization", "first_message"], "trusted_proxies": [], "require_origin": false,
    }});
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    World::new(all)
}

#[test]
fn an_admitted_peer_is_told_who_it_is_and_until_when() {
    let mut world = World::new(json!({}));
    let id = world.live("ann", 3600);
    let texts = world.texts(id);
    assert_eq!(texts.len(), 1);
    assert_eq!(texts[0]["type"], "auth_success");
    assert_eq!(texts[0]["user"]["id"], "ann");
    assert_eq!(texts[0]["expires_at"], START + 3600);
    let refresh_at = texts[0]["refresh_at"].as_u64().unwrap();
    assert!((START + 3600 - 330..=START + 3600 - 300).contains(&refresh_at), "{refresh_at}");
    assert_eq!(&*world.engine.identity(id).unwrap().subject, "ann");
    assert_eq!(world.poll(), 0, "told once");
}

#[test]
fn an_address_holds_ten_and_each_closed_frees_exactly_one() {
    let mut world = World::new(json!({}));
    let ids: Vec<_> = (0..10).map(|n| world.live(&format!("user{n}"), 60)).collect();
    let token = world.token("late", 60, json!({}));
    let refusal = world.connect(&token).unwrap_err();
    assert_eq!((refusal.reason, refusal.row().http), (Reason::AddressConnections, 429));
    let elsewhere = Request::new().bearer(&token).from("203.0.113.8");
    assert!(elsewhere.send(&world.engine, world.now).is_ok());

    assert!(world.close(ids[0]));
    assert!(!world.close(ids[0]), "once");
    assert!(world.connect(&token).is_ok());
    assert_eq!(world.connect(&token).unwrap_err().reason, Reason::AddressConnections);
}

#[test]
fn a_refused_handshake_holds_nothing() {
    let world = World::new(json!({ "limits": { "connections_per_address": 1 } }));
    for _ in 0..20 {
        assert_eq!(world.connect("not.a.token").unwrap_err().reason.row().http, 401);
    }
    assert_eq!(world.engine.connections(), 0);
    world.live("ann", 60);
}

#[test]
fn a_connection_on_a_shard_that_does_not_exist_is_refused() {
    let world = World::new(json!({}));
    let token = format!("Bearer {}", world.token("ann", 60, json!({})));
    let request = Request::new().with("Authorization", token);
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| wsauth::request::Header { name, value }).collect();
    let peer = wsauth::request::Peer::Ip(request.peer);
    let upgrade = wsauth::request::Upgrade { method: b"GET", target: b"/ws", headers: &headers, peer };
    let refusal = world.engine.handshake(1, &upgrade, world.now).unwrap_err();
    assert_eq!(refusal.reason, Reason::MisuseArgument, "nobody would ever serve its deadlines");
    assert_eq!(world.engine.connections(), 0);
}

#[test]
fn a_server_that_forgets_closed_gets_the_permit_back_after_thirty_seconds() {
    let mut world = World::new(json!({ "limits": { "connections_per_address": 1 } }));
    let id = world.live("ann", 60);
    world.run_ms(60_000);
    assert_eq!(world.end(id), Some((Reason::RefreshTimeout, 4005)));
    world.run_ms(29_999);
    let token = world.token("bob", 60, json!({}));
    assert_eq!(world.connect(&token).unwrap_err().reason, Reason::AddressConnections);
    world.audit();
    world.run_ms(1);
    assert!(world.trail().iter().any(|(kind, _)| *kind == AuditKind::ConnectionLeaked));
    assert!(!world.close(id), "it is gone");
    assert!(world.connect(&token).is_ok());
}

#[test]
fn a_server_that_never_polls_degrades_and_does_not_leak() {
    let mut world = World::new(json!({ "limits": { "connections_per_address": 1 } }));
    world.live("ann", 60);
    world.advance_ms(60_000);
    let token = world.token("bob", 600, json!({}));
    assert_eq!(world.connect(&token).unwrap_err().reason, Reason::AddressConnections);
    world.advance_ms(30_000);
    assert!(world.connect(&token).is_ok(), "a handshake serves what is due");
}

#[test]
fn a_user_beyond_the_limit_takes_the_place_of_the_oldest() {
    let mut world = World::new(json!({ "limits": { "connections_per_user": 2 } }));
    let ids: Vec<_> = (0..3).map(|_| world.live("ann", 600)).collect();
    let other = world.live("bob", 600);
    assert_eq!(world.end(ids[0]), Some((Reason::Evicted, 4009)));
    assert!(!world.may_say(ids[0], "ping"));
    for id in [ids[1], ids[2], other] {
        assert!(world.may_say(id, "ping"));
    }
}

#[test]
fn a_user_beyond_the_limit_is_refused_where_that_is_written() {
    let mut world = World::new(json!({ "limits": { "connections_per_user": 2, "user_policy": "reject" } }));
    let first = world.live("ann", 600);
    world.live("ann", 600);
    let token = world.token("ann", 600, json!({}));
    let refusal = world.connect(&token).unwrap_err();
    assert_eq!((refusal.reason, refusal.row().http), (Reason::UserConnections, 429));
    assert_eq!(world.engine.connections(), 2);
    world.close(first);
    assert!(world.connect(&token).is_ok());
}

#[test]
fn strangers_have_a_pool_of_their_own() {
    let mut world = first_message(json!({
        "connection": { "max_unauthenticated": 3, "max_unauthenticated_per_address": 2 },
    }));
    let first = world.stranger().unwrap();
    world.stranger().unwrap();
    assert_eq!(world.stranger().unwrap_err().reason, Reason::UnauthenticatedConnections);
    let elsewhere = Request::new().from("203.0.113.8");
    assert!(elsewhere.send(&world.engine, world.now).is_ok());
    let third_place = Request::new().from("203.0.113.9");
    assert_eq!(third_place.send(&world.engine, world.now).unwrap_err().reason, Reason::UnauthenticatedConnections);
    world.live("ann", 600);
    assert_eq!(world.metric("wsauth_unauthenticated_connections"), 3);

    let auth = json!({ "type": "auth", "token": world.token("bob", 600, json!({})) }).to_string();
    assert_eq!(world.say(first, &auth), Err(Withheld::Consumed));
    assert_eq!(world.metric("wsauth_unauthenticated_connections"), 2, "it left the pool");
    assert!(world.stranger().is_ok());
    assert!(world.may_say(first, "ping"));
    assert_eq!(world.types(first), ["auth_success"]);
}

#[test]
fn the_first_message_must_authenticate() {
    for text in [r#"{"type":"ping"}"#, "", "{", r#"{"type":"token_refresh","token":"x"}"#, r#"{"type":"auth"}"#] {
        let mut world = first_message(json!({}));
        let id = world.stranger().unwrap();
        assert!(matches!(world.say(id, text), Err(Withheld::Close(_))), "{text}");
        assert_eq!(world.end(id).unwrap().1, 4001, "{text}");
    }
    let mut world = first_message(json!({}));
    let id = world.stranger().unwrap();
    let auth = json!({ "type": "auth", "token": world.token("ann", 60, json!({})) }).to_string();
    assert!(matches!(world.engine.message(id, Payload::Binary(auth.as_bytes()), world.now), Err(Withheld::Close(_))));
    assert_eq!(world.end(id).unwrap().1, 4001);
}

#[test]
fn the_first_message_has_ten_seconds() {
    let mut world = first_message(json!({}));
    let id = world.stranger().unwrap();
    world.run_ms(9_999);
    assert_eq!(world.end(id), None);
    world.run_ms(1);
    assert_eq!(world.end(id), Some((Reason::AuthenticationTimeout, 4010)));
    let auth = json!({ "type": "auth", "token": world.token("ann", 60, json!({})) }).to_string();
    assert!(matches!(world.say(id, &auth), Err(Withheld::Close(_))));
}

#[test]
fn a_second_auth_breaks_the_protocol() {
    let mut world = first_message(json!({}));
    let auth = json!({ "type": "auth", "token": world.token("ann", 60, json!({})) }).to_string();
    for id in [world.live("ann", 60), world.stranger().unwrap()] {
        let _ = world.say(id, &auth);
        assert!(matches!(world.say(id, &auth), Err(Withheld::Close(_))));
        assert_eq!(world.end(id), Some((Reason::ProtocolError, 4014)));
    }
}

#[test]
fn the_server_may_give_up_in_any_state_once() {
    let mut world = first_message(json!({}));
    let stranger = world.stranger().unwrap();
    let live = world.live("ann", 60);
    let ending = world.live("bob", 60);
    world.engine.revoke(wsauth::Revocation::Connection(ending), world.now);
    for id in [stranger, live, ending] {
        assert!(world.close(id));
        assert!(!world.close(id));
        assert!(!world.may_say(id, "ping"));
    }
    assert_eq!(world.poll(), 0, "nothing is owed to the gone");
    assert_eq!(world.metric("wsauth_unauthenticated_connections"), 0);
    assert_eq!(world.metric("wsauth_tracked_addresses"), 0);
}

#[test]
fn paths_are_served_or_not() {
    let world = World::new(json!({ "handshake": {
        "credentials": ["authorization"], "trusted_proxies": [], "require_origin": false, "paths": ["/live/*"],
    }}));
    let token = world.token("ann", 60, json!({}));
    let mut request = Request::new().bearer(&token);
    let refusal = request.send(&world.engine, world.now).unwrap_err();
    assert_eq!((refusal.reason, refusal.row().http), (Reason::PathUnknown, 404));
    request.target = b"/live/1".to_vec();
    assert_eq!(request.send(&world.engine, world.now).unwrap().progress, Progress::Live);
}

#[test]
fn required_permissions_gate_the_connection_itself() {
    let world = World::new(json!({ "handshake": {
        "credentials": ["authorization"], "trusted_proxies": [], "require_origin": false,
        "required_permissions": ["live:connect"],
    }}));
    let refusal = world.connect(&world.token("ann", 60, json!({}))).unwrap_err();
    assert_eq!((refusal.reason, refusal.row().http), (Reason::InsufficientScope, 403));
    let id = world.connect(&world.token("ann", 60, json!({ "scope": "live:connect" }))).unwrap();
    assert!(world.may_say(id, "ping"));
}

#[test]
fn peers_do_not_learn_which_check_failed() {
    let world = World::new(json!({}));
    let bodies: Vec<String> = [
        "a.b.c".to_owned(),
        format!("{}x", world.token("ann", 60, json!({}))),
        world.token("ann", 60, json!({ "aud": "other" })),
        world.token("ann", 60, json!({ "iss": "https://other" })),
    ]
    .iter()
    .map(|token| world.connect(token).unwrap_err().row().public.to_owned())
    .collect();
    assert!(bodies.iter().all(|public| public == "auth_failed"), "{bodies:?}");
    let expired = world.token("ann", 60, json!({ "iat": START - 100, "exp": START - 50 }));
    assert_eq!(world.connect(&expired).unwrap_err().row().public, "token_expired");
}

#[test]
fn stale_and_never_issued_handles_are_errors() {
    let mut world = World::new(json!({}));
    let id = world.live("ann", 60);
    world.close(id);
    let next = world.live("ann", 60);
    assert_ne!(id, next);
    for bad in [id, wsauth::ConnectionId::from_u64(0), wsauth::ConnectionId::from_u64(u64::MAX)] {
        assert_eq!(world.refusal(bad, r#"{"type":"ping"}"#), Some(Reason::MisuseHandle));
        assert_eq!(world.refresh(bad, "x"), Err(Reason::MisuseHandle));
        assert!(!world.engine.touch(bad, world.now));
        assert!(world.engine.identity(bad).is_none());
        assert!(world.engine.is_near_expiry(bad, world.now));
    }
    assert!(world.take(next).iter().all(|kind| matches!(kind, EventKind::Send(_))));
}
