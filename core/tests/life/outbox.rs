//! This file answers: what is the server told, how much at once, and can it overflow?

use serde_json::json;
use wsauth::{EventKind, Reason};

use crate::shared::world::{World, names};

#[test]
fn a_flood_of_refusals_is_one_error_and_one_rate_limited() {
    let mut world = World::new(json!({ "limits": { "messages_per_user": { "count": 1, "per": "60s", "burst": 5 } } }));
    let id = world.live("ann", 600);
    world.take(id);
    for _ in 0..50 {
        let _ = world.say(id, r#"{"type":"unknown"}"#);
    }
    assert_eq!(world.types(id), ["rate_limited", "error"]);
    assert_eq!(world.poll(), 0);
}

#[test]
fn changes_of_permissions_merge_into_one() {
    let mut world = World::new(json!({}));
    let id = world.live("ann", 600);
    world.take(id);
    for set in ["a:1 b:1", "b:1 c:1", "", "c:1 d:1"] {
        world.engine.set_permissions(id, &names(set), world.now).unwrap();
    }
    let events = world.take(id);
    assert_eq!(events.len(), 2, "{events:?}");
    let EventKind::PermissionsChanged(diff) = &events[1] else { panic!("{events:?}") };
    assert_eq!((&diff.added, &diff.removed), (&names("c:1 d:1"), &Vec::new()));

    world.engine.set_permissions(id, &names("x:1"), world.now).unwrap();
    world.engine.set_permissions(id, &names("c:1 d:1"), world.now).unwrap();
    assert_eq!(world.take(id), [], "there and back is nothing");
}

#[test]
fn polls_hand_out_about_as_many_as_asked_for_and_say_that_there_is_more() {
    let world = World::new(json!({ "limits": { "connections_per_address": 100 } }));
    let ids: Vec<_> = (0..50).map(|n| world.live(&format!("u{n}"), 600)).collect();
    let mut events = Vec::new();
    let mut polls = 0;
    loop {
        let before = events.len();
        // The buffer is not emptied in between: `max` is what one poll adds.
        let polled = world.engine.poll(0, world.now, 8, &mut events).unwrap();
        polls += 1;
        assert!(events.len() - before <= 10 && polls < 100);
        if !polled.more {
            break;
        }
    }
    assert_eq!(events.len(), ids.len());
    assert!(polls >= 6);
}

#[test]
fn a_shard_that_does_not_exist_is_misuse() {
    let world = World::new(json!({}));
    assert_eq!(world.engine.poll(1, world.now, 8, &mut Vec::new()), Err(Reason::MisuseArgument));
    assert_eq!(world.engine.next_deadline(1), None);
}

#[test]
fn shards_report_their_own() {
    let world = World::new(json!({ "connection": { "shards": 2 } }));
    world.live("ann", 600);
    let mut events = Vec::new();
    world.engine.poll(1, world.now, 8, &mut events).unwrap();
    assert_eq!((events.len(), world.engine.next_deadline(1)), (0, None));
    world.engine.poll(0, world.now, 8, &mut events).unwrap();
    assert_eq!(events.len(), 1);
}

#[test]
fn ten_thousand_things_for_one_connection_are_a_few_events() {
    let mut world = World::new(json!({ "refresh": { "attempts": 10 } }));
    let id = world.live("ann", 600);
    for n in 0..10_000u64 {
        let _ = world.say(id, r#"{"type":"unknown"}"#);
        world.engine.set_permissions(id, &names(if n % 2 == 0 { "a:1" } else { "a:2" }), world.now).unwrap();
        let _ = world.refresh(id, &world.token("ann", 700 + n, json!({})));
        if n == 50 {
            break;
        }
    }
    assert!(world.take(id).len() <= 8);
}

#[test]
fn the_waker_is_told_of_news_once_until_the_next_poll() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    let config = wsauth::config::Config::from_tree(
        &crate::shared::tree(&crate::shared::config(json!({}))),
        &wsauth::config::NoSecretSource,
    );
    let waker = Box::new(move |_shard| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let seed = wsauth::secret::EngineSeed::new([1; 32]);
    let mut world = World::new(json!({}));
    world.engine = wsauth::Engine::new(config.unwrap(), &seed, waker).unwrap();
    let count = || woken.swap(0, Ordering::Relaxed);
    let id = world.live("ann", 600);
    assert_eq!(count(), 1);
    world.engine.set_permissions(id, &names("a:1"), world.now).unwrap();
    assert_eq!(count(), 0, "awake already");
    world.poll();
    assert_eq!(count(), 0);
    world.engine.set_permissions(id, &names("a:2"), world.now).unwrap();
    assert_eq!(count(), 1);
}
