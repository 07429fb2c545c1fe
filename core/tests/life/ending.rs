//! This file answers: when does a connection end by itself, and with which code?

use serde_json::json;
use wsauth::{Reason, Revocation, Withheld};

use crate::shared::world::{World, names};

#[test]
fn over_means_either_clock() {
    let world = || {
        let world = World::new(json!({ "messages": { "ping": "public" }, "deliveries": { "news": "public" } }));
        let id = world.live("ann", 600);
        (world, id)
    };
    let (mut now, id) = world();
    now.advance_ms(599_999);
    assert!(now.may_say(id, "ping"));
    now.advance_ms(1);
    assert_eq!(now.refusal(id, r#"{"type":"ping"}"#), Some(Reason::Expired), "nobody polled: it was never asked");

    let (mut back, id) = world();
    back.step_wall(-86_400_000);
    back.advance_ms(600_000);
    assert!(!back.may_say(id, "ping"), "a clock set back extends nothing");

    let (mut forth, id) = world();
    forth.step_wall(600_000);
    assert!(forth.engine.authorize_delivery(id, "news", &[], forth.now).is_err());
    forth.step_wall(-600_000);
    assert!(!forth.may_say(id, "ping"), "once over it stays over");
}

#[test]
fn unasked_is_4002_asked_is_4005_refused_is_4004() {
    let mut world = World::new(json!({}));
    let unasked = world.live("ann", 600);
    world.advance_ms(600_000);
    assert!(matches!(world.say(unasked, r#"{"type":"ping"}"#), Err(Withheld::Close(_))));
    assert_eq!(world.end(unasked), Some((Reason::Expired, 4002)));

    let asked = world.live("bob", 600);
    let refused = world.live("cid", 600);
    world.run_ms(599_000);
    assert_eq!(world.types(asked), ["auth_success", "token_refresh_required"]);
    assert!(world.refresh(refused, "bad").is_err());
    assert_eq!(world.types(refused), ["auth_success", "token_refresh_required", "token_refresh_failed"]);
    world.run_ms(1_000);
    assert_eq!(world.end(asked), Some((Reason::RefreshTimeout, 4005)));
    assert_eq!(world.end(refused), Some((Reason::RefreshFailed, 4004)));
}

#[test]
fn an_attempt_refused_before_the_ask_is_no_answer_to_it() {
    let mut world = World::new(json!({}));
    let id = world.live("ann", 600);
    assert!(world.refresh(id, "bad").is_err());
    world.run_ms(600_000);
    assert_eq!(world.end(id), Some((Reason::RefreshTimeout, 4005)));
}

#[test]
fn revoked_comes_before_everything_and_replaces_what_was_not_told() {
    let mut world = World::new(json!({}));
    let id = world.live("ann", 600);
    world.advance_ms(600_000);
    assert_eq!(world.refusal(id, r#"{"type":"ping"}"#), Some(Reason::Expired));
    assert_eq!(world.engine.revoke(Revocation::Connection(id), world.now).closed, 1);
    assert_eq!(world.end(id), Some((Reason::Revoked, 4006)));

    let told = world.live("bob", 600);
    world.run_ms(600_000);
    assert_eq!(world.end(told), Some((Reason::RefreshTimeout, 4005)));
    assert_eq!(world.engine.revoke(Revocation::Connection(told), world.now).closed, 0);
    assert_eq!(world.poll(), 0, "the reason is written once");
}

#[test]
fn of_what_is_due_together_the_first_in_the_order_is_told() {
    // Expiry, maximum age and idle in the same millisecond.
    let mut world = World::new(json!({ "connection": { "idle": "10m", "max_age": "10m" } }));
    let id = world.live("ann", 600);
    world.run_ms(600_000);
    assert_eq!(world.end(id), Some((Reason::RefreshTimeout, 4005)));

    let mut world = World::new(json!({ "connection": { "idle": "10m", "max_age": "10m" } }));
    let id = world.live("ann", 3600);
    world.run_ms(600_000);
    assert_eq!(world.end(id), Some((Reason::MaxAge, 4013)));
}

#[test]
fn idle_is_no_delivered_message_no_refresh_no_pong() {
    let mut world = World::new(json!({ "connection": { "idle": "60s" }, "deliveries": { "news": "public" } }));
    let idle = world.live("ann", 3600);
    let talks = world.live("bob", 3600);
    let pongs = world.live("cid", 3600);
    let junk = world.live("dan", 3600);
    let hears = world.live("eve", 3600);
    for _ in 0..2 {
        world.run_ms(40_000);
        assert!(world.may_say(talks, "ping"));
        assert!(world.engine.touch(pongs, world.now));
        assert!(!world.may_say(junk, "unknown"));
        let _ = world.engine.authorize_delivery(hears, "news", &[], world.now);
    }
    for (id, end) in [(idle, true), (talks, false), (pongs, false), (junk, true), (hears, true)] {
        assert_eq!(world.end(id), end.then_some((Reason::Inactive, 4003)));
    }
    let expected = world.now.mono;
    world.run_ms(60_000);
    assert_eq!(world.end(talks), Some((Reason::Inactive, 4003)));
    assert_eq!(world.now.mono, expected.plus(60_000));
}

#[test]
fn deliveries_keep_a_stream_alive_where_that_is_written() {
    let mut world = World::new(json!({
        "connection": { "idle": "60s", "count_deliveries": true }, "deliveries": { "news": "public" },
    }));
    let hears = world.live("ann", 3600);
    for _ in 0..5 {
        world.run_ms(40_000);
        assert!(world.engine.authorize_delivery(hears, "news", &[], world.now).is_ok());
    }
    assert_eq!(world.end(hears), None);
}

/// Somebody who sends refused messages all the time must not put off what is due.
#[test]
fn refused_junk_postpones_no_deadline() {
    let flood = |config, seconds: u64, life: u64| {
        let mut world = World::new(config);
        let id = world.live("ann", life);
        for _ in 0..seconds * 2 {
            world.run_ms(250);
            let _ = world.say(id, r#"{"type":"unknown"}"#);
            let _ = world.say(id, r#"{"type":"unknown"}"#);
            world.run_ms(250);
        }
        world.take(id)
    };
    let limits = json!({ "messages_per_user": { "count": 100000, "per": "1s", "burst": 100000 } });
    let idle = flood(json!({ "connection": { "idle": "10s" }, "limits": limits }), 12, 3600);
    assert!(format!("{idle:?}").contains("Inactive"), "{idle:?}");
    let age = flood(json!({ "connection": { "max_age": "10s" }, "limits": limits }), 12, 3600);
    assert!(format!("{age:?}").contains("MaxAge"), "{age:?}");
    let ask = flood(json!({ "limits": limits }), 12, 20);
    assert!(format!("{ask:?}").contains("token_refresh_required"), "{ask:?}");
}

#[test]
fn age_ends_a_connection_that_refreshes_for_ever() {
    let mut world = World::new(json!({ "connection": { "max_age": "1h" } }));
    let id = world.live("ann", 1800);
    world.run_ms(1_500_000);
    world.refresh(id, &world.token("ann", 86_400, json!({}))).unwrap();
    world.run_ms(1_000_000);
    assert!(world.may_say(id, "ping"));
    assert_eq!(world.end(id), None);
    world.run_ms(1_100_000);
    assert_eq!(world.end(id), Some((Reason::MaxAge, 4013)));
}

#[test]
fn lifetimes_of_five_seconds_and_of_ten_years_both_work() {
    let mut world = World::new(json!({ "connection": { "max_age": "30d", "idle": "7d" } }));
    let short = world.live("ann", 5);
    world.run_ms(2_500);
    assert_eq!(world.types(short), ["auth_success", "token_refresh_required"]);
    assert!(world.may_say(short, "ping"));
    world.run_ms(2_500);
    assert_eq!(world.end(short), Some((Reason::RefreshTimeout, 4005)));

    let decade = world.live("bob", 10 * 365 * 86_400);
    for _ in 0..5 {
        world.run_ms(5 * 86_400_000);
        assert!(world.may_say(decade, "ping"));
    }
    assert_eq!(world.types(decade), ["auth_success"]);
}

#[test]
fn the_graphql_profile_speaks_its_own_codes() {
    let world = World::new(json!({ "close": { "profile": "graphql-ws", "map": { "4013": 4999 } } }));
    for (reason, code) in [
        (Reason::CredentialMissing, 4401),
        (Reason::Expired, 4403),
        (Reason::Revoked, 4403),
        (Reason::RefreshTimeout, 4403),
        (Reason::AuthenticationTimeout, 4408),
        (Reason::MessageRate, 4429),
        (Reason::ProtocolError, 4400),
        (Reason::MaxAge, 4999),
    ] {
        assert_eq!(world.engine.close_code(reason), code, "{reason:?}");
    }
    let mut world = world;
    let id = world.live("ann", 600);
    world.engine.revoke(Revocation::Connection(id), world.now);
    assert_eq!(world.end(id), Some((Reason::Revoked, 4403)));
}

#[test]
fn the_ended_can_do_nothing_any_more() {
    let mut world = World::new(json!({ "deliveries": { "news": "public" } }));
    let id = world.live("ann", 600);
    world.engine.revoke(Revocation::Connection(id), world.now);
    let reason = Some(Reason::Revoked);
    assert_eq!(world.refusal(id, r#"{"type":"ping"}"#), reason);
    assert_eq!(world.refresh(id, &world.token("ann", 900, json!({}))).err(), reason);
    let set = world.engine.set_permissions(id, &names("a"), world.now);
    assert_eq!(set.unwrap_err().reason, Reason::Revoked);
    let delivery = world.engine.authorize_delivery(id, "news", &[], world.now);
    assert_eq!(delivery.unwrap_err().reason, Reason::Revoked);
    assert!(!world.engine.touch(id, world.now));
    assert_eq!(world.end(id), Some((Reason::Revoked, 4006)));
    assert!(world.close(id));
}

#[test]
fn the_fine_clock_is_asked_for_in_the_last_second() {
    let mut world = World::new(json!({}));
    let id = world.live("ann", 600);
    world.advance_ms(599_000);
    assert!(!world.engine.is_near_expiry(id, world.now));
    world.advance_ms(1);
    assert!(world.engine.is_near_expiry(id, world.now));
}
