//! This file answers: what does another configuration change, and for whom?

use serde_json::json;
use wsauth::{EventKind, Reason};

use crate::shared::world::{World, names};
use crate::shared::{config, token};

#[test]
fn new_rules_hold_for_the_next_call_of_every_connection() {
    let mut world = World::new(json!({ "messages": { "ping": "public", "chat": "chat:write" } }));
    let id = world.connect(&world.token("ann", 600, json!({ "scope": "chat:write" }))).unwrap();
    assert!(world.may_say(id, "chat"));
    let next = json!({
        "messages": { "chat": "chat:admin", "fresh": "chat:write" }, "deliveries": { "news": "public" },
    });
    world.reload(&config(next)).unwrap();
    assert!(!world.may_say(id, "chat") && !world.may_say(id, "ping"));
    assert!(world.may_say(id, "fresh"));
    assert!(world.engine.authorize_delivery(id, "news", &[], world.now).is_ok());
    world.run_ms(600_000);
    assert_eq!(world.end(id), Some((Reason::RefreshTimeout, 4005)), "its time stays");
}

#[test]
fn permissions_set_before_a_reload_hold_after_it() {
    let world = World::new(json!({ "messages": { "chat": "chat:write" } }));
    let id = world.live("ann", 600);
    world.engine.set_permissions(id, &names("chat:write"), world.now).unwrap();
    world.reload(&config(json!({ "messages": { "ping": "public", "chat": "chat:write" } }))).unwrap();
    assert!(world.may_say(id, "chat"));
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let world = World::new(json!({}));
    let id = world.live("ann", 600);
    for bad in [
        json!({ "messages": { "auth": "public" } }),
        json!({ "messages": { "x": "a::b" } }),
        json!({ "nonsense": 1 }),
        json!({ "issuer": [] , "messages": {} , "limits": { "strikes": 0 } }),
    ] {
        assert!(world.reload(&config(bad.clone())).is_err(), "{bad}");
        assert!(world.may_say(id, "ping"));
    }
}

fn elsewhere() -> serde_json::Value {
    let mut config =
        config(json!({ "messages": { "ping": "public", "chat": "chat:write" }, "deliveries": { "news": "public" } }));
    config["issuer"][0]["issuer"] = json!("https://other.example.com");
    config
}

#[test]
fn who_was_vouched_for_by_an_issuer_that_is_gone_can_do_nothing_more() {
    let world = || {
        let world = World::new(json!({ "deliveries": { "news": "public" } }));
        let id = world.live("ann", 600);
        world.reload(&elsewhere()).unwrap();
        (world, id)
    };
    let (mut spoke, id) = world();
    assert_eq!(spoke.refusal(id, r#"{"type":"ping"}"#), Some(Reason::Revoked));
    assert_eq!(spoke.end(id), Some((Reason::Revoked, 4006)));
    let (mut heard, id) = world();
    assert!(heard.engine.authorize_delivery(id, "news", &[], heard.now).is_err());
    assert_eq!(heard.end(id), Some((Reason::Revoked, 4006)));
    let (set, id) = world();
    let _ = set.engine.set_permissions(id, &names("chat:write"), set.now);
    assert!(!set.may_say(id, "chat"), "new permissions are no new issuer");
    let (fresh, id) = world();
    assert!(fresh.refresh(id, &fresh.token("ann", 900, json!({}))).is_err());
    assert!(!fresh.may_say(id, "ping"));
    assert_eq!(
        fresh.connect(&token(&json!({ "sub": "ann", "exp": 1_800_000_600u64 }))).unwrap_err().reason.row().http,
        401
    );
}

#[test]
fn lower_limits_hold_for_newcomers_at_once() {
    let mut world = World::new(json!({}));
    let ids: Vec<_> = (0..3).map(|n| world.live(&format!("u{n}"), 600)).collect();
    world.reload(&config(json!({ "limits": { "connections_per_address": 2 } }))).unwrap();
    let token = world.token("late", 600, json!({}));
    assert!(world.connect(&token).is_err());
    assert!(ids.iter().all(|id| world.may_say(*id, "ping")));
    world.close(ids[0]);
    assert!(world.connect(&token).is_err());
    world.close(ids[1]);
    assert!(world.connect(&token).is_ok());
}

#[test]
fn close_codes_follow_the_configuration_of_the_moment() {
    let mut world = World::new(json!({}));
    let id = world.live("ann", 600);
    world.reload(&config(json!({ "close": { "profile": "graphql-ws" } }))).unwrap();
    world.run_ms(600_000);
    let events = world.take(id);
    assert!(events.iter().any(|kind| matches!(kind, EventKind::Close { code: 4403, .. })), "{events:?}");
}
