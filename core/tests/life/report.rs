//! This file answers: does the operator hear of each decision, in the audit and in the metrics?

use serde_json::json;
use wsauth::audit::AuditKind;
use wsauth::{Reason, Revocation};

use crate::shared::world::{World, names};
use crate::shared::{ISSUER, Request, config};

#[test]
fn each_decision_leaves_its_event() {
    let mut world = World::new(json!({}));
    let heard = |world: &World, kind, reason| {
        let trail = world.trail();
        assert_eq!(trail, [(kind, reason)], "one event, of one kind");
    };
    let id = world.live("ann", 600);
    heard(&world, AuditKind::HandshakeAccepted, None);
    let reason = world.connect("bad").unwrap_err().reason;
    heard(&world, AuditKind::HandshakeRefused, Some(reason));
    let _ = world.say(id, r#"{"type":"unknown"}"#);
    heard(&world, AuditKind::MessageRefused, Some(Reason::MessageTypeUnknown));
    let _ = world.refresh(id, "bad");
    heard(&world, AuditKind::RefreshRefused, Some(reason));
    world.refresh(id, &world.token("ann", 900, json!({}))).unwrap();
    heard(&world, AuditKind::Refreshed, None);
    world.engine.set_permissions(id, &names("a:1"), world.now).unwrap();
    heard(&world, AuditKind::PermissionsChanged, None);
    world.reload(&config(json!({}))).unwrap();
    heard(&world, AuditKind::Reloaded, None);
    world.run_ms(890_000);
    heard(&world, AuditKind::RefreshAsked, None);
    world.close(id);
    heard(&world, AuditKind::Closed, None);
    world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t" }, world.now);
    heard(&world, AuditKind::Revoked, None);
}

#[test]
fn a_handshake_refused_by_a_revocation_never_was_a_connection() {
    let world = World::new(json!({}));
    world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t" }, world.now);
    world.audit();
    assert!(world.connect(&world.token("ann", 600, json!({ "jti": "t" }))).is_err());
    assert_eq!(world.trail(), [(AuditKind::HandshakeRefused, Some(Reason::TokenRevoked))]);
    assert_eq!(world.metric("wsauth_closed_clean_total"), 0);
}

#[test]
fn refused_messages_are_counted_once_a_second_for_each_reason() {
    let mut world = World::new(json!({
        "messages": { "chat": "chat:write" },
        "limits": { "messages_per_user": { "count": 100000, "per": "1s", "burst": 100000 } },
    }));
    let id = world.live("ann", 600);
    world.run_ms(10);
    world.audit();
    for _ in 0..100 {
        let _ = world.say(id, r#"{"type":"unknown"}"#);
    }
    world.run_ms(400);
    for _ in 0..70 {
        let _ = world.say(id, r#"{"type":"chat"}"#);
    }
    world.run_ms(1_200);
    let counts: Vec<_> =
        world.audit().iter().map(|event| (event.kind, event.reason.unwrap(), event.count.unwrap())).collect();
    assert_eq!(
        counts,
        [
            (AuditKind::MessageRefused, Reason::MessageTypeUnknown, 1),
            (AuditKind::MessageRefused, Reason::PermissionMissing, 1),
            (AuditKind::MessageRefused, Reason::MessageTypeUnknown, 99),
            (AuditKind::MessageRefused, Reason::PermissionMissing, 69),
        ]
    );
}

#[test]
fn what_was_only_counted_is_told_at_the_end() {
    let mut world = World::new(json!({}));
    let id = world.live("ann", 600);
    world.audit();
    for _ in 0..3 {
        let _ = world.engine.authorize_delivery(id, "none", &[], world.now);
        let _ = world.say(id, r#"{"type":"unknown"}"#);
    }
    world.close(id);
    let total: u64 = world
        .audit()
        .iter()
        .filter(|event| event.kind == AuditKind::MessageRefused)
        .filter_map(|event| event.count)
        .sum();
    assert_eq!(total, 3);
}

#[test]
fn an_address_that_fails_too_often_is_told_once_a_window_and_blocked_where_that_is_written() {
    let mut world = World::new(json!({ "brute_force": {
        "alert_above": 5, "window": "60s", "block_above": 8, "block_for": "120s",
    }}));
    let count = |world: &World, kind| world.trail().iter().filter(|(found, _)| *found == kind).count();
    for _ in 0..8 {
        assert_ne!(world.connect("a.b.c").unwrap_err().reason, Reason::Blocked);
    }
    assert_eq!(count(&world, AuditKind::AlertBruteForce), 1);
    assert_eq!(world.metric("wsauth_alerts_total"), 1);
    assert_ne!(world.connect("a.b.c").unwrap_err().reason, Reason::Blocked);
    assert_eq!(count(&world, AuditKind::Blocked), 1);
    let token = world.token("ann", 600, json!({}));
    let refusal = world.connect(&token).unwrap_err();
    assert_eq!((refusal.reason, refusal.row().http), (Reason::Blocked, 403));
    assert!(Request::new().bearer(&token).from("203.0.113.8").send(&world.engine, world.now).is_ok());
    world.advance_ms(119_999);
    assert!(world.connect(&token).is_err());
    world.advance_ms(1);
    assert!(world.connect(&token).is_ok());
}

#[test]
fn honest_failures_alert_and_never_block() {
    let mut world = World::new(json!({ "brute_force": { "alert_above": 5, "window": "60s", "block_above": 5 } }));
    let expired = world.token("ann", 60, json!({}));
    world.advance_ms(60_000);
    for _ in 0..20 {
        assert_eq!(world.connect(&expired).unwrap_err().reason, Reason::TokenExpired);
    }
    let trail = world.trail();
    assert!(trail.iter().any(|(kind, _)| *kind == AuditKind::AlertBruteForce));
    assert!(trail.iter().all(|(kind, _)| *kind != AuditKind::Blocked));
}

#[test]
fn metrics_count_what_was_decided() {
    let mut world = World::new(json!({ "deliveries": { "news": "public" } }));
    let id = world.live("ann", 600);
    assert!(world.may_say(id, "ping"));
    let _ = world.say(id, r#"{"type":"unknown"}"#);
    let _ = world.engine.authorize_delivery(id, "news", &[], world.now);
    world.refresh(id, &world.token("ann", 900, json!({}))).unwrap();
    let _ = world.connect("a.b.c");
    for (series, value) in [
        ("wsauth_messages_total{outcome=\"delivered\"}", 1),
        ("wsauth_refusals_total{stage=\"message\",reason=\"message_type_unknown\"}", 1),
        ("wsauth_deliveries_total", 1),
        ("wsauth_refreshes_total", 1),
        ("wsauth_handshakes_accepted_total{source=\"authorization\"}", 1),
        ("wsauth_connections", 1),
        ("wsauth_tracked_addresses", 1),
        ("wsauth_tracked_users", 1),
    ] {
        assert_eq!(world.metric(series), value, "{series}");
    }
    world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t" }, world.now);
    assert_eq!(world.metric("wsauth_revocation_rules"), 1);
    world.close(id);
    assert_eq!(world.metric("wsauth_connections"), 0);
    assert_eq!(world.metric("wsauth_closed_clean_total"), 1);
    assert_eq!(world.metric("wsauth_tracked_addresses"), 0);
}
