//! This file answers: what if the clock lies?

use proptest::prelude::*;
use serde_json::json;
use wsauth::time::Now;
use wsauth::{Reason, Revocation};

use crate::shared::world::World;
use crate::shared::{ISSUER, Request};

const HOUR: i64 = 3_600_000;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

fn refused(world: &World, token: &str) -> Option<Reason> {
    world.connect(token).err().map(|refusal| refusal.reason)
}

fn logout(world: &World, subject: &str) {
    let what = Revocation::Subject { issuer: ISSUER, subject, issued_before: None };
    assert!(world.engine.revoke(what, world.now).closed <= 1);
}

#[test]
fn a_clock_set_back_an_hour_revives_nothing() {
    let mut world = World::new(json!({}));
    let over = world.live("ann", 600);
    world.run_ms(600_000);
    assert!(!world.may_say(over, "ping"));
    let token = world.token("bob", 7_200, json!({}));
    let bob = world.connect(&token).unwrap();
    logout(&world, "bob");
    world.step_wall(-HOUR);
    assert!(!world.may_say(over, "ping") && !world.may_say(bob, "ping"));
    assert_eq!(refused(&world, &token), Some(Reason::TokenIssuedInFuture));
    let reissued = world.token("bob", 7_200, json!({}));
    assert_eq!(refused(&world, &reissued), Some(Reason::TokenRevoked), "issued before the cut-off, so says its clock");
    world.run_ms(2 * 3_600_000);
    assert_eq!(refused(&world, &reissued), Some(Reason::TokenExpired));
}

#[test]
fn a_clock_ten_years_ahead_ends_what_lives_and_is_forgotten_when_set_right() {
    let mut world = World::new(json!({}));
    let (token, gone) = (world.token("ann", 7_200, json!({})), world.token("bob", 7_200, json!({})));
    let (ann, bob) = (world.connect(&token).unwrap(), world.connect(&gone).unwrap());
    logout(&world, "bob");
    world.step_wall(TEN_YEARS);
    world.run_ms(1_000);
    assert!(!world.may_say(ann, "ping"));
    assert!(world.close(ann) && world.close(bob));
    assert_eq!(refused(&world, &token), Some(Reason::TokenExpired));
    world.step_wall(-TEN_YEARS);
    world.run_ms(1_000);
    let again = world.connect(&token).unwrap();
    assert!(world.may_say(again, "ping"));
    assert_eq!(refused(&world, &gone), Some(Reason::TokenRevoked), "what was revoked stays so");
    assert!(world.close(again));
    assert_eq!(world.engine.connections(), 0);
}

#[test]
fn an_hour_that_never_was_fires_nothing_twice() {
    let mut world = World::new(json!({}));
    let id = world.live("ann", 1_500);
    world.run_ms(1_200_000);
    // A leap second repeated, and a clock slewed back and forth, while the refresh is due.
    for step in [-1_000, 500, -499, 999, -1_000, 1_000] {
        world.step_wall(step);
        world.run_ms(1_000);
    }
    let asked = world.types(id).iter().filter(|kind| *kind == "token_refresh_required").count();
    assert_eq!(asked, 1);
    world.run_ms(300_000);
    assert_eq!(world.end(id), Some((Reason::RefreshTimeout, 4005)));
}

#[test]
fn the_first_message_after_a_suspended_night_is_judged_by_the_wall_clock() {
    let mut world = World::new(json!({}));
    let id = world.live("ann", 3_600);
    // The monotonic clock stood still for eight hours.
    world.step_wall(8 * HOUR);
    assert_eq!(world.refusal(id, r#"{"type":"ping"}"#), Some(Reason::Expired));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// 1970, 2106, the end of time: denied or decided, never a panic.
    #[test]
    fn any_time_is_survived(
        times in proptest::collection::vec(
            (
                prop_oneof![Just(0), Just(4_294_967_296_000), Just(u64::MAX), 0..u64::MAX],
                prop_oneof![Just(0), Just(u64::MAX), 0..u64::MAX],
            ),
            1..12,
        ),
    ) {
        let mut world = World::new(json!({}));
        let token = world.token("ann", 600, json!({}));
        let id = world.connect(&token).unwrap();
        let mut latest = world.now.mono.0;
        for (wall, mono) in times {
            latest = latest.max(mono);
            world.now = Now::new(wall, latest);
            let over = wall >= 1_800_000_600_000 || latest >= 1_000_000 + 600_000;
            prop_assert!(!(over && world.may_say(id, "ping")));
            let _ = Request::new().bearer(&token).send(&world.engine, world.now);
            let _ = world.refresh(id, &token);
            let _ = world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t" }, world.now);
            world.poll();
            let _ = world.audit();
        }
    }
}
