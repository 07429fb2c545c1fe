//! This file answers: what may be sent to whom?

use serde_json::json;
use wsauth::{Reason, Revocation};

use crate::shared::world::{World, names};

fn rooms() -> World {
    World::new(json!({
        "deliveries": { "news": "public", "room": "room:{room}:read" },
        "limits": { "connections_per_address": 100, "connections_per_user": 100 },
    }))
}

#[test]
fn what_is_not_written_is_denied() {
    let world = World::new(json!({}));
    let id = world.live("ann", 600);
    for name in ["news", "ping", "", "auth_success"] {
        let refusal = world.engine.authorize_delivery(id, name, &[], world.now).unwrap_err();
        assert_eq!(refusal.reason, Reason::MessageTypeUnknown, "{name}");
        let mut allowed = vec![id];
        assert!(world.engine.authorize_deliveries(&[id], name, &[], world.now, &mut allowed).is_err());
        assert_eq!(allowed, [id], "nothing is appended");
    }
}

#[test]
fn the_batch_says_what_the_single_form_says() {
    let world = rooms();
    let readers = ["room:blue:read", "room:red:read", "", "room:blue:read"];
    let mut ids: Vec<_> = readers
        .iter()
        .enumerate()
        .map(|(n, scope)| world.connect(&world.token(&format!("u{n}"), 600, json!({ "scope": scope }))).unwrap())
        .collect();
    ids.push(wsauth::ConnectionId::from_u64(77));
    let mut allowed = Vec::new();
    world.engine.authorize_deliveries(&ids, "room", &[("room", "blue")], world.now, &mut allowed).unwrap();
    assert_eq!(allowed, [ids[0], ids[3]]);
    for id in &ids {
        let single = world.engine.authorize_delivery(*id, "room", &[("room", "blue")], world.now).is_ok();
        assert_eq!(single, allowed.contains(id));
    }
}

#[test]
fn deliveries_are_asked_each_time() {
    let world = rooms();
    let id = world.connect(&world.token("ann", 600, json!({ "scope": "room:blue:read" }))).unwrap();
    let reads = || world.engine.authorize_delivery(id, "room", &[("room", "blue")], world.now).is_ok();
    assert!(reads());
    world.engine.set_permissions(id, &[], world.now).unwrap();
    assert!(!reads());
    world.engine.set_permissions(id, &names("room:blue:read"), world.now).unwrap();
    assert!(reads());
    world.engine.revoke(Revocation::Connection(id), world.now);
    assert!(!reads());
}

#[test]
fn nobody_hears_anything_before_it_is_authenticated() {
    let world = World::new(json!({
        "handshake": { "credentials": ["first_message"], "trusted_proxies": [], "require_origin": false },
        "deliveries": { "news": "public" },
    }));
    let id = world.stranger().unwrap();
    assert!(world.engine.authorize_delivery(id, "news", &[], world.now).is_err());
}

#[test]
fn deliveries_cost_the_peer_nothing() {
    let world = rooms();
    let id = world.live("ann", 600);
    for _ in 0..1_000 {
        assert!(world.engine.authorize_delivery(id, "news", &[], world.now).is_ok());
    }
    assert!(world.may_say(id, "ping"));
}
