//! This file answers: who is cut off, and from when on?

use serde_json::json;
use wsauth::{Propagated, Reason, Revocation};

use crate::shared::ISSUER;
use crate::shared::world::{START, World, issuer_of_keys, token_of_key};

/// Every kind hits the live at once and keeps the same credential out; others are not touched.
#[test]
fn each_kind_hits_what_it_names() {
    let kinds = [
        Revocation::Token { issuer: ISSUER, token_id: "t1" },
        Revocation::Session { issuer: ISSUER, session_id: "s1" },
        Revocation::Subject { issuer: ISSUER, subject: "ann", issued_before: None },
        Revocation::Issuer { issuer: ISSUER, issued_before: Some(START) },
        Revocation::Key { issuer: ISSUER, key_id: "k1" },
    ];
    for kind in kinds {
        let mut world = World::new(json!({ "issuer": issuer_of_keys(&["k1", "k2"]) }));
        let hit = token_of_key("k1", &world.claims("ann", 600, json!({ "jti": "t1", "sid": "s1" })));
        let id = world.connect(&hit).unwrap();
        world.advance_ms(1_000);
        let spared = token_of_key("k2", &world.claims("bob", 600, json!({ "jti": "t2", "sid": "s2" })));
        let other = world.connect(&spared).unwrap();
        let revoked = world.engine.revoke(kind, world.now);
        assert_eq!((revoked.closed, revoked.propagated), (1, Propagated::Off), "{kind:?}");
        assert!(!world.may_say(id, "ping"), "{kind:?}");
        assert_eq!(world.end(id), Some((Reason::Revoked, 4006)));
        assert_eq!(world.connect(&hit).unwrap_err().reason, Reason::TokenRevoked, "{kind:?}");
        assert!(world.may_say(other, "ping") && world.connect(&spared).is_ok(), "{kind:?}");
        assert_eq!(world.engine.revoke(kind, world.now).closed, 0);
    }
}

#[test]
fn another_issuers_names_are_not_ours() {
    let world = World::new(json!({}));
    let id = world.connect(&world.token("ann", 600, json!({ "jti": "t", "sid": "s" }))).unwrap();
    for kind in [
        Revocation::Token { issuer: "https://other", token_id: "t" },
        Revocation::Token { issuer: ISSUER, token_id: "s" },
        Revocation::Session { issuer: ISSUER, session_id: "t" },
        Revocation::Subject { issuer: "https://other", subject: "ann", issued_before: None },
        Revocation::Issuer { issuer: "https://other", issued_before: None },
        Revocation::Key { issuer: ISSUER, key_id: "" },
        Revocation::Connection(wsauth::ConnectionId::from_u64(1)),
    ] {
        assert_eq!(world.engine.revoke(kind, world.now).closed, 0, "{kind:?}");
    }
    assert!(world.may_say(id, "ping"));
}

#[test]
fn one_connection_can_be_cut_off_and_may_come_again() {
    let mut world = World::new(json!({}));
    let token = world.token("ann", 600, json!({}));
    let id = world.connect(&token).unwrap();
    assert_eq!(world.engine.revoke(Revocation::Connection(id), world.now).closed, 1);
    assert_eq!(world.end(id), Some((Reason::Revoked, 4006)));
    assert!(world.connect(&token).is_ok());
}

#[test]
fn a_cut_off_compares_whole_seconds_and_equal_refuses() {
    for (cut, refused) in [(START - 1, false), (START, true), (START + 1, true)] {
        let world = World::new(json!({}));
        let token = world.token("ann", 600, json!({ "iat": START as f64 + 0.0 }));
        let id = world.connect(&token).unwrap();
        let kind = Revocation::Subject { issuer: ISSUER, subject: "ann", issued_before: Some(cut) };
        assert_eq!(world.engine.revoke(kind, world.now).closed, usize::from(refused), "{cut}");
        assert_eq!(world.may_say(id, "ping"), !refused);
        assert_eq!(world.connect(&token).is_err(), refused);
    }
    let mut world = World::new(json!({}));
    world.advance_ms(400);
    let kind = Revocation::Subject { issuer: ISSUER, subject: "ann", issued_before: None };
    world.engine.revoke(kind, world.now);
    world.advance_ms(599);
    assert!(world.connect(&world.token("ann", 600, json!({}))).is_err(), "issued in the same second");
    world.advance_ms(1);
    assert!(world.connect(&world.token("ann", 600, json!({}))).is_ok(), "log in again");
}

#[test]
fn a_token_without_a_second_of_issue_is_hit_by_every_cut_off() {
    let world = World::new(json!({}));
    let claims = json!({ "sub": "ann", "exp": START + 600 });
    let id = world.connect(&crate::shared::token(&claims)).unwrap();
    let kind = Revocation::Subject { issuer: ISSUER, subject: "ann", issued_before: Some(1) };
    assert_eq!(world.engine.revoke(kind, world.now).closed, 1);
    assert!(!world.may_say(id, "ping"));
}

#[test]
fn a_revoked_token_refreshes_nothing_and_a_refreshed_one_is_found_under_its_new_names() {
    let world = World::new(json!({}));
    let id = world.connect(&world.token("ann", 600, json!({ "jti": "t1" }))).unwrap();
    world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t2" }, world.now);
    assert_eq!(world.refresh(id, &world.token("ann", 700, json!({ "jti": "t2" }))), Err(Reason::TokenRevoked));
    assert!(world.refresh(id, &world.token("ann", 800, json!({ "jti": "t3" }))).is_ok());
    assert_eq!(world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t1" }, world.now).closed, 0);
    assert!(world.may_say(id, "ping"), "the old token is not what it stands on");
    assert_eq!(world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t3" }, world.now).closed, 1);
    assert!(!world.may_say(id, "ping"));
}

#[test]
fn strangers_can_be_cut_off_one_by_one_and_are_looked_up_when_they_say_who_they_are() {
    let mut world = World::new(json!({ "handshake": {
        "credentials": ["first_message"], "trusted_proxies": [], "require_origin": false,
    }}));
    let auth = json!({ "type": "auth", "token": world.token("ann", 600, json!({ "jti": "t" })) }).to_string();
    let cut = world.stranger().unwrap();
    assert_eq!(world.engine.revoke(Revocation::Connection(cut), world.now).closed, 1);
    assert_eq!(world.end(cut), Some((Reason::Revoked, 4006)));
    let late = world.stranger().unwrap();
    world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t" }, world.now);
    assert!(world.say(late, &auth).is_err());
    assert_eq!(world.end(late), Some((Reason::TokenRevoked, 4001)));
}

#[test]
fn a_full_table_refuses_more_and_never_less() {
    let mut world =
        World::new(json!({ "revocation": { "max_rules": 4 }, "limits": { "connections_per_address": 50 } }));
    let live: Vec<_> = (0..8)
        .map(|n| world.connect(&world.token(&format!("u{n}"), 600, json!({ "jti": format!("t{n}") }))).unwrap())
        .collect();
    for (n, id) in live.iter().enumerate() {
        world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: &format!("t{n}") }, world.now);
        assert!(!world.may_say(*id, "ping"));
    }
    for n in 0..8 {
        let token = world.token(&format!("u{n}"), 600, json!({ "jti": format!("t{n}") }));
        assert!(world.connect(&token).is_err(), "t{n} stays revoked");
    }
    assert!(world.trail().iter().any(|(kind, _)| kind.name() == "limit_alarm"));
    assert!(live.iter().all(|id| world.end(*id) == Some((Reason::Revoked, 4006))));
}
