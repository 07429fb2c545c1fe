//! This file answers: which messages pass, and what does each cost?

use serde_json::json;
use wsauth::{Payload, Reason, Withheld};

use crate::shared::world::World;

fn in_band(token: &str) -> String {
    json!({ "type": "token_refresh", "token": token }).to_string()
}

#[test]
fn only_permitted_types_pass() {
    let world = World::new(json!({ "messages": {
        "ping": "public", "chat": ["chat:write", "chat:admin"], "room": "room:{room}:write", "own": "user:{@sub}:write",
    }}));
    let scope = json!({ "scope": "chat:admin room:blue:write user:ann:write" });
    let id = world.connect(&world.token("ann", 600, scope)).unwrap();
    for (text, reason) in [
        (r#"{"type":"ping"}"#, None),
        (r#"{"type":"chat"}"#, None),
        (r#"{"type":"room","room":"blue"}"#, None),
        (r#"{"type":"own"}"#, None),
        (r#"{"type":"room","room":"red"}"#, Some(Reason::PermissionMissing)),
        (r#"{"type":"room"}"#, Some(Reason::MessageFieldInvalid)),
        (r#"{"type":"room","room":"blue:write:x"}"#, Some(Reason::MessageFieldInvalid)),
        (r#"{"type":"room","room":"blue","room":"red"}"#, Some(Reason::MessageFieldRepeated)),
        (r#"{"type":"unknown"}"#, Some(Reason::MessageTypeUnknown)),
        (r#"{"type":"ping","type":"chat"}"#, Some(Reason::MessageFieldRepeated)),
        (r#"{"a":1}"#, Some(Reason::MessageTypeMissing)),
        ("[]", Some(Reason::MessageMalformed)),
        ("", Some(Reason::MessageMalformed)),
    ] {
        let outcome = world.say(id, text);
        assert_eq!(outcome.err().and_then(|w| w.refusal()).map(|r| r.reason), reason, "{text}");
    }
}

#[test]
fn server_types_and_auth_inbound_break_the_protocol() {
    for name in
        ["auth_success", "token_refresh_required", "token_refreshed", "permissions_changed", "rate_limited", "error"]
    {
        let mut world = World::new(json!({}));
        let id = world.live("ann", 600);
        assert!(matches!(world.say(id, &json!({ "type": name }).to_string()), Err(Withheld::Close(_))), "{name}");
        assert_eq!(world.end(id), Some((Reason::ProtocolError, 4014)), "{name}");
    }
}

#[test]
fn binary_is_denied_or_one_named_type() {
    let world = World::new(json!({}));
    let id = world.live("ann", 600);
    let binary = |world: &World, id| world.engine.message(id, Payload::Binary(b"\0\xff"), world.now);
    let reason = |outcome: Result<_, Withheld>| outcome.err().and_then(Withheld::refusal).map(|refusal| refusal.reason);
    assert_eq!(reason(binary(&world, id)), Some(Reason::MessageBinary));
    let refresh = in_band(&world.token("ann", 900, json!({})));
    let control = world.engine.message(id, Payload::Binary(refresh.as_bytes()), world.now);
    assert_eq!(reason(control), Some(Reason::MessageBinary), "control only in text");

    let world = World::new(json!({ "message": { "binary": "blob" }, "messages": { "blob": "blob:write" } }));
    let may = world.connect(&world.token("ann", 600, json!({ "scope": "blob:write" }))).unwrap();
    let may_not = world.live("bob", 600);
    assert_eq!(reason(binary(&world, may)), None);
    assert_eq!(reason(binary(&world, may_not)), Some(Reason::PermissionMissing));
}

#[test]
fn what_is_not_json_is_named_by_the_server() {
    let world = World::new(json!({ "messages": { "room": "room:{room}:write" } }));
    let id = world.connect(&world.token("ann", 600, json!({ "scope": "room:blue:write" }))).unwrap();
    assert!(world.engine.authorize(id, "room", &[("room", "blue")], world.now).is_ok());
    for (name, fields) in [("room", &[("room", "red")][..]), ("room", &[]), ("auth", &[]), ("token_refresh", &[])] {
        assert!(world.engine.authorize(id, name, fields, world.now).is_err(), "{name}");
    }
    assert!(world.may_say(id, "nothing") || world.engine.connections() == 1, "still open");
}

#[test]
fn the_budget_is_the_users_over_all_connections_and_fills_again() {
    let mut world = World::new(json!({ "limits": { "messages_per_user": { "count": 60, "per": "60s", "burst": 5 } } }));
    let ids = [world.live("ann", 600), world.live("ann", 600)];
    let bob = world.live("bob", 600);
    for n in 0..5 {
        assert!(world.may_say(ids[n % 2], "ping"));
    }
    for id in ids {
        assert_eq!(world.refusal(id, r#"{"type":"ping"}"#), Some(Reason::MessageRate));
    }
    assert!(world.may_say(bob, "ping"));
    let Err(Withheld::Refused(refusal)) = world.say(ids[0], r#"{"type":"ping"}"#) else { panic!() };
    let wait = u64::from(refusal.retry_after_ms.unwrap());
    world.advance_ms(wait - 1);
    assert!(!world.may_say(ids[0], "ping"));
    world.advance_ms(1);
    assert!(world.may_say(ids[0], "ping"), "as soon as it was told");
    world.step_wall(3_600_000);
    assert!(!world.may_say(bob, "ping") || !world.may_say(ids[0], "ping"), "the wall clock fills no budget");
}

#[test]
fn reconnecting_fills_no_budget() {
    let mut world = World::new(json!({ "limits": { "messages_per_user": { "count": 1, "per": "60s", "burst": 3 } } }));
    for round in 0..5 {
        let id = world.live("ann", 600);
        for _ in 0..3 {
            assert_eq!(world.may_say(id, "ping"), round == 0);
        }
        world.close(id);
    }
}

#[test]
fn weight_costs_and_refused_messages_keep_their_charge() {
    let world = World::new(json!({
        "messages": { "ping": "public", "heavy": { "permissions": ["public"], "weight": 4 }, "chat": "chat:write" },
        "limits": { "messages_per_user": { "count": 1, "per": "60s", "burst": 10 } },
    }));
    let id = world.live("ann", 600);
    assert!(world.may_say(id, "heavy"));
    assert!(world.may_say(id, "heavy"));
    assert_eq!(world.refusal(id, r#"{"type":"heavy"}"#), Some(Reason::MessageRate), "8 of 10 spent, 1 before the scan");
    assert_eq!(world.refusal(id, r#"{"type":"chat"}"#), Some(Reason::PermissionMissing));
    assert_eq!(world.refusal(id, r#"{"type":"ping"}"#), Some(Reason::MessageRate));
}

#[test]
fn a_spent_budget_keeps_nobody_from_refreshing() {
    let mut world = World::new(json!({
        "limits": { "messages_per_user": { "count": 1, "per": "60s", "burst": 1 } }, "refresh": { "attempts": 10 },
    }));
    let id = world.live("ann", 600);
    assert!(world.may_say(id, "ping"));
    assert!(!world.may_say(id, "ping"));
    for life in 1..=6 {
        let token = world.token("ann", 600 + life, json!({}));
        assert_eq!(world.say(id, &in_band(&token)), Err(Withheld::Consumed));
    }
    let token = world.token("ann", 700, json!({}));
    assert_eq!(world.refusal(id, &in_band(&token)), Some(Reason::ControlRate), "six a minute");
    world.advance_ms(10_000);
    assert_eq!(world.say(id, &in_band(&token)), Err(Withheld::Consumed));
    let long = json!({ "type": "token_refresh", "token": token, "pad": "x".repeat(16 * 1024) }).to_string();
    assert_eq!(world.refusal(id, &long), Some(Reason::MessageRate), "too long to be looked at for nothing");
}

#[test]
fn a_flood_ends_after_its_strikes() {
    let flood = || {
        World::new(
            json!({ "limits": { "strikes": 10, "messages_per_user": { "count": 1, "per": "3600s", "burst": 1 } } }),
        )
    };
    let mut world = flood();
    let id = world.live("ann", 600);
    assert!(world.may_say(id, "ping"));
    for _ in 0..9 {
        assert!(matches!(world.say(id, r#"{"type":"ping"}"#), Err(Withheld::Refused(_))));
    }
    assert!(matches!(world.say(id, r#"{"type":"ping"}"#), Err(Withheld::Close(_))));
    assert_eq!(world.end(id), Some((Reason::MessageRate, 4008)));

    let mut slow = flood();
    let id = slow.live("ann", 600);
    for _ in 0..30 {
        let _ = slow.say(id, r#"{"type":"ping"}"#);
        slow.advance_ms(7_000);
    }
    assert_eq!(slow.end(id), None, "nine a minute are no flood");
}

#[test]
fn permission_refusals_are_no_strikes() {
    let mut world = World::new(json!({
        "messages": { "chat": "chat:write" },
        "limits": { "strikes": 3, "messages_per_user": { "count": 1000, "per": "1s", "burst": 1000 } },
    }));
    let id = world.live("ann", 600);
    for _ in 0..50 {
        assert_eq!(world.refusal(id, r#"{"type":"chat"}"#), Some(Reason::PermissionMissing));
    }
    assert_eq!(world.end(id), None);
}
