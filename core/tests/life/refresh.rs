//! This file answers: how does a new token replace the old one, and what if it may not?

use serde_json::json;
use wsauth::{EventKind, Reason, Refreshed, Withheld};

use crate::shared::world::{World, issuer_of_keys, names, token_of_key};

fn chat(more: serde_json::Value) -> World {
    let mut all = json!({ "messages": { "ping": "public", "chat": "chat:write", "admin": "admin:all" } });
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    World::new(all)
}

fn in_band(token: &str) -> String {
    json!({ "type": "token_refresh", "token": token }).to_string()
}

#[test]
fn the_ask_comes_in_its_window_and_at_the_same_time_for_the_same_seed() {
    let ask = |seconds: u64| {
        let mut world = World::new(json!({
            "limits": { "connections_per_address": 100 }, "connection": { "idle": "1d" },
        }));
        let ids: Vec<_> = (0..50).map(|n| world.live(&format!("u{n}"), seconds)).collect();
        let begin = world.now.mono.0;
        world.poll();
        let mut asked = vec![0; ids.len()];
        while world.now.mono.0 < begin + seconds * 1000 - 1 {
            assert!(world.advance_to_next_deadline());
            for (place, id) in ids.iter().enumerate() {
                if world.types(*id).iter().any(|kind| kind == "token_refresh_required") {
                    asked[place] = world.now.mono.0 - begin;
                }
            }
            if asked.iter().all(|at| *at > 0) {
                break;
            }
        }
        asked
    };
    for (seconds, lead) in [(3600, 300_000), (600, 300_000), (100, 50_000), (5, 2_500)] {
        let asked = ask(seconds);
        let end = seconds * 1000 - lead;
        assert!(asked.iter().all(|at| (end - lead / 10..=end).contains(at)), "{seconds}: {asked:?}");
        assert!(asked.iter().any(|at| *at != asked[0]), "they are spread");
        assert_eq!(asked, ask(seconds));
    }
}

#[test]
fn a_refresh_in_band_and_one_by_the_server_do_the_same() {
    for by_server in [true, false] {
        let mut world = chat(json!({}));
        let id = world.live("ann", 600);
        world.run_ms(599_999);
        assert_eq!(world.types(id), ["auth_success", "token_refresh_required"]);
        assert!(!world.may_say(id, "chat"));
        let token = world.token("ann", 900, json!({ "scope": "chat:write" }));
        if by_server {
            let Ok(Refreshed::Committed(diff)) = world.refresh(id, &token) else { panic!() };
            assert_eq!((diff.added, diff.removed), (names("chat:write"), Vec::new()));
        } else {
            assert_eq!(world.say(id, &in_band(&token)), Err(Withheld::Consumed));
        }
        assert!(world.may_say(id, "chat"), "in force when it returned");
        let events = world.take(id);
        let texts: Vec<String> = events
            .iter()
            .filter_map(|kind| match kind {
                EventKind::Send(text) => Some(text.clone()),
                _ => None,
            })
            .collect();
        assert!(texts.iter().any(|text| text.contains("token_refreshed") && text.contains("chat:write")), "{texts:?}");
        assert!(events.iter().any(|kind| matches!(kind, EventKind::PermissionsChanged(_))));
        world.run_ms(500_000);
        assert!(world.may_say(id, "chat"));
        world.run_ms(400_000);
        assert_eq!(world.end(id), Some((Reason::RefreshTimeout, 4005)), "asked again for the new one");
    }
}

#[test]
fn the_same_token_again_succeeds_and_changes_nothing() {
    let mut world = chat(json!({}));
    let token = world.token("ann", 600, json!({}));
    let id = world.connect(&token).unwrap();
    world.run_ms(599_000);
    for _ in 0..5 {
        assert_eq!(world.refresh(id, &token), Ok(Refreshed::Unchanged));
    }
    world.run_ms(1_000);
    assert_eq!(world.end(id), Some((Reason::RefreshTimeout, 4005)));
}

#[test]
fn a_token_that_does_not_live_longer_or_belongs_to_another_is_refused() {
    let all = json!({ "jti": "t1", "sid": "s1", "tenant": "a", "client_id": "c1" });
    let with = |key: &str, value: serde_json::Value| {
        let mut changed = all.clone();
        changed[key] = value;
        changed
    };
    let mut world = chat(json!({ "refresh": { "attempts": 10 } }));
    let id = world.connect(&world.token("ann", 600, all.clone())).unwrap();
    for (claims, seconds, reason) in [
        (with("jti", json!("t2")), 600, Reason::ExpiryNotLater),
        (with("jti", json!("t2")), 599, Reason::ExpiryNotLater),
        (with("sub", json!("bob")), 900, Reason::IdentityMismatch),
        (with("sid", json!("s2")), 900, Reason::IdentityMismatch),
        (with("tenant", json!("b")), 900, Reason::IdentityMismatch),
        (with("client_id", json!("c2")), 900, Reason::IdentityMismatch),
        (json!({ "sid": "s1", "tenant": "a" }), 900, Reason::IdentityMismatch),
        (with("aud", json!("elsewhere")), 900, Reason::AudienceMismatch),
    ] {
        let token = world.token("ann", seconds, claims.clone());
        assert_eq!(world.refresh(id, &token), Err(reason), "{claims}");
        assert_eq!(world.types(id).last().map(String::as_str), Some("token_refresh_failed"));
    }
    assert!(world.refresh(id, &world.token("ann", 900, with("jti", json!("t3")))).is_ok());

    // What only the new one has binds as well.
    let bare = world.live("cid", 600);
    assert_eq!(world.refresh(bare, &world.token("cid", 900, json!({ "sid": "x" }))), Err(Reason::IdentityMismatch));
}

#[test]
fn a_refused_refresh_changes_no_permission_and_no_deadline() {
    let mut world = chat(json!({}));
    let id = world.connect(&world.token("ann", 600, json!({ "scope": "chat:write" }))).unwrap();
    world.run_ms(599_000);
    assert!(world.refresh(id, &world.token("bob", 900, json!({ "scope": "admin:all" }))).is_err());
    assert!(world.may_say(id, "chat") && !world.may_say(id, "admin"));
    assert_eq!(world.engine.permissions(id).unwrap(), names("chat:write"));
    world.run_ms(999);
    assert!(world.may_say(id, "chat"));
    world.run_ms(1);
    assert!(!world.may_say(id, "chat"));
}

#[test]
fn wider_permissions_are_refused_where_that_is_written() {
    let world = chat(json!({ "refresh": { "widen": false } }));
    let id = world.connect(&world.token("ann", 600, json!({ "scope": "chat:write" }))).unwrap();
    let wider = world.token("ann", 900, json!({ "scope": "chat:write admin:all" }));
    assert_eq!(world.refresh(id, &wider), Err(Reason::PermissionsWidened));
    assert!(!world.may_say(id, "admin"));
    assert!(world.refresh(id, &world.token("ann", 900, json!({}))).is_ok(), "less is fine");
    assert!(!world.may_say(id, "chat"));
}

#[test]
fn the_third_refused_attempt_closes_at_once() {
    let mut world = chat(json!({}));
    let id = world.live("ann", 600);
    assert_eq!(world.say(id, &in_band("bad")), Err(Withheld::Consumed));
    assert_eq!(world.say(id, r#"{"type":"token_refresh"}"#), Err(Withheld::Consumed), "no token is an attempt too");
    let left: Vec<u64> = world.texts(id).iter().filter_map(|text| text["attempts_left"].as_u64()).collect();
    assert_eq!(left, [1], "one answer a poll");
    assert!(matches!(world.say(id, &in_band("bad")), Err(Withheld::Close(_))));
    assert_eq!(world.end(id), Some((Reason::RefreshFailed, 4004)));
}

#[test]
fn a_committed_refresh_begins_a_new_count() {
    let world = chat(json!({}));
    let id = world.live("ann", 600);
    for life in [700, 800, 900] {
        assert!(world.refresh(id, "bad").is_err());
        assert!(world.refresh(id, "bad").is_err());
        assert!(world.refresh(id, &world.token("ann", life, json!({}))).is_ok());
    }
    assert!(world.may_say(id, "ping"));
}

#[test]
fn one_token_over_http_refreshes_its_sessions_connections_and_hurts_no_other() {
    let mut world = chat(json!({}));
    let session = |world: &World, sid: &str, seconds| world.token("ann", seconds, json!({ "sid": sid }));
    let mine: Vec<_> = (0..2).map(|_| world.connect(&session(&world, "s1", 600)).unwrap()).collect();
    let other = world.connect(&session(&world, "s2", 600)).unwrap();
    let ahead = world.connect(&session(&world, "s1", 86_000)).unwrap();
    for seconds in [700, 800, 900, 1000] {
        let token = session(&world, "s1", seconds);
        assert_eq!(world.engine.refresh_subject(token.as_bytes(), world.now), Ok(2));
    }
    for id in [other, ahead] {
        assert!(world.may_say(id, "ping"), "not theirs: no attempt");
        assert_eq!(world.types(id), ["auth_success"]);
    }
    world.run_ms(600_000);
    assert!(mine.iter().all(|id| world.may_say(*id, "ping")));
    assert!(!world.may_say(other, "ping"));
    assert_eq!(world.engine.refresh_subject(b"bad", world.now).unwrap_err().row().public, "auth_failed");
}

#[test]
fn set_permissions_holds_until_the_next_refresh() {
    let mut world = chat(json!({}));
    let id = world.live("ann", 600);
    let diff = world.engine.set_permissions(id, &names("chat:write"), world.now).unwrap();
    assert_eq!((diff.added, diff.removed), (names("chat:write"), Vec::new()));
    assert!(world.may_say(id, "chat"), "in force when it returned");
    let same = world.engine.set_permissions(id, &names("chat:write chat:write"), world.now).unwrap();
    assert!(same.is_empty());
    assert_eq!(world.types(id), ["auth_success", "permissions_changed"]);
    world.engine.set_permissions(id, &[], world.now).unwrap();
    assert!(!world.may_say(id, "chat"));
    world.engine.set_permissions(id, &names("admin:all"), world.now).unwrap();
    world.refresh(id, &world.token("ann", 900, json!({ "scope": "chat:write" }))).unwrap();
    assert!(world.may_say(id, "chat") && !world.may_say(id, "admin"));

    let many: Vec<_> = (0..257).map(|n| std::sync::Arc::from(format!("p:{n}"))).collect();
    assert_eq!(world.engine.set_permissions(id, &many, world.now).unwrap_err().reason, Reason::MisuseArgument);
}

#[test]
fn the_subject_form_reaches_all_of_one_subject() {
    let world = chat(json!({}));
    let ann = [world.live("ann", 600), world.live("ann", 600)];
    let bob = world.live("bob", 600);
    let set =
        |subject| world.engine.set_subject_permissions(crate::shared::ISSUER, subject, &names("chat:write"), world.now);
    assert_eq!((set("ann"), set("nobody")), (2, 0));
    assert!(ann.iter().all(|id| world.may_say(*id, "chat")));
    assert!(!world.may_say(bob, "chat"));
}

/// The only connection of a small server must be able to change what it may do.
#[test]
fn a_full_server_can_still_refresh_and_change_permissions() {
    let world = chat(json!({
        "connection": { "max_connections": 1, "max_unauthenticated": 1, "max_unauthenticated_per_address": 1 },
    }));
    let id = world.live("ann", 600);
    assert!(world.refresh(id, &world.token("ann", 900, json!({ "scope": "chat:write" }))).is_ok());
    assert!(world.may_say(id, "chat"));
    assert!(world.engine.set_permissions(id, &names("admin:all"), world.now).is_ok());
    assert!(world.may_say(id, "admin") && !world.may_say(id, "chat"));
}

#[test]
fn a_removed_key_asks_its_connections_out_of_turn() {
    let two = json!({ "issuer": issuer_of_keys(&["old", "new"]) });
    let mut world = World::new(two);
    let claims = world.claims("ann", 3600, json!({}));
    let by_old = world.connect(&token_of_key("old", &claims)).unwrap();
    let by_new = world.connect(&token_of_key("new", &claims)).unwrap();
    world.poll();
    world.reload(&crate::shared::config(json!({ "issuer": issuer_of_keys(&["new"]) }))).unwrap();
    assert!(world.connect(&token_of_key("old", &claims)).is_err(), "new handshakes at once");
    assert_eq!(world.types(by_old), ["auth_success", "token_refresh_required"]);
    assert_eq!(world.types(by_new), ["auth_success"]);
    assert!(world.may_say(by_old, "ping"));
    world.run_ms(299_999);
    assert!(world.may_say(by_old, "ping"));
    world.run_ms(1);
    assert_eq!(world.end(by_old), Some((Reason::RefreshTimeout, 4005)));
    assert!(world.may_say(by_new, "ping"));
}

#[test]
fn a_removed_key_closes_at_once_where_that_is_written() {
    let mut world =
        World::new(json!({ "issuer": issuer_of_keys(&["old", "new"]), "refresh": { "on_key_removed": "close" } }));
    let claims = world.claims("ann", 3600, json!({}));
    let by_old = world.connect(&token_of_key("old", &claims)).unwrap();
    let config = json!({ "issuer": issuer_of_keys(&["new"]), "refresh": { "on_key_removed": "close" } });
    world.reload(&crate::shared::config(config)).unwrap();
    assert!(!world.may_say(by_old, "ping"));
    assert_eq!(world.end(by_old), Some((Reason::Revoked, 4006)));
}

#[test]
fn a_key_removed_twice_extends_nothing() {
    let with = |keys: &[&str]| crate::shared::config(json!({ "issuer": issuer_of_keys(keys) }));
    let mut world = World::of(&with(&["old", "new"]));
    let id = world.connect(&token_of_key("old", &world.claims("ann", 3600, json!({})))).unwrap();
    for _ in 0..2 {
        world.reload(&with(&["new"])).unwrap();
        world.run_ms(200_000);
        world.reload(&with(&["old", "new"])).unwrap();
    }
    assert_eq!(world.end(id), Some((Reason::RefreshTimeout, 4005)));
}
