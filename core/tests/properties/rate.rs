//! This file answers: can anybody send more than the budget, in any window?

use proptest::prelude::*;
use serde_json::json;
use wsauth::{Reason, Withheld};

use crate::shared::world::World;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// In no window is more delivered than its length earns and the burst allows, over all connections of the user.
    #[test]
    fn no_window_holds_more_than_rate_and_burst(
        count in 1u32..200,
        seconds in 1u64..120,
        burst in 5u32..50,
        arrivals in prop::collection::vec((0u64..3_000, 0usize..2, 1u32..6), 1..200),
    ) {
        let weights: serde_json::Map<_, _> = (1..6)
            .map(|weight| (format!("w{weight}"), json!({ "permissions": ["public"], "weight": weight })))
            .collect();
        let mut world = World::new(json!({ "messages": weights, "limits": {
            "strikes": 10_000,
            "messages_per_user": { "count": count, "per": format!("{seconds}s"), "burst": burst },
        }}));
        let ids = [world.live("ann", 86_400), world.live("ann", 86_400)];
        let mut sent: Vec<(u64, u32)> = Vec::new();
        for (pause, from, weight) in arrivals {
            world.advance_ms(pause);
            let text = json!({ "type": format!("w{weight}") }).to_string();
            match world.say(ids[from], &text) {
                Ok(_) => sent.push((world.now.mono.0, weight)),
                Err(Withheld::Refused(refusal)) => {
                    prop_assert_eq!(refusal.reason, Reason::MessageRate);
                    prop_assert!(refusal.retry_after_ms.is_some());
                }
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }
        for (place, (begin, _)) in sent.iter().enumerate() {
            let mut units = 0;
            for (end, weight) in &sent[place..] {
                units += u64::from(*weight);
                let earned = (end - begin) as f64 * f64::from(count) / (seconds as f64 * 1000.0);
                prop_assert!(units as f64 <= f64::from(burst) + earned + 1e-6, "{} in {} ms", units, end - begin);
            }
        }
    }

    /// Whoever waits as long as it was told, and alone, is served.
    #[test]
    fn the_delay_that_was_told_is_enough_and_not_too_long(count in 1u32..500, seconds in 1u64..100, burst in 1u32..20) {
        let mut world = World::new(json!({ "limits": {
            "messages_per_user": { "count": count, "per": format!("{seconds}s"), "burst": burst },
        }}));
        let id = world.live("ann", 86_400);
        for _ in 0..burst {
            prop_assert!(world.may_say(id, "ping"));
        }
        let Err(Withheld::Refused(refusal)) = world.say(id, r#"{"type":"ping"}"#) else { panic!() };
        let wait = u64::from(refusal.retry_after_ms.unwrap());
        prop_assert!(wait <= (seconds * 1000).div_ceil(u64::from(count)));
        world.advance_ms(wait - 1);
        prop_assert!(!world.may_say(id, "ping"));
        world.advance_ms(1);
        prop_assert!(world.may_say(id, "ping"));
    }
}
