//! This file answers: can any bytes make the engine panic, or allow what they should not?

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use wsauth::Payload;

use crate::shared::Request;
use crate::shared::world::World;

/// A good text with some of its bytes changed, cut out, doubled or put in.
fn mutated(good: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0u8..4);
    prop::collection::vec(edit, 0..4).prop_map(move |edits| {
        let mut bytes = good.to_vec();
        for (index, byte, kind) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        bytes
    })
}

fn world() -> World {
    let ample = json!({ "count": 1_000_000, "per": "1s", "burst": 1_000_000 });
    World::new(json!({
        "messages": { "open": "public", "a": "p:a", "b": "p:b", "room": "room:{room}:x" },
        "limits": { "messages_per_user": ample, "control_per_user": ample },
        "refresh": { "attempts": 10 },
    }))
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        r#"[ \[\]{}":,.a-z0-9\\u-]{0,60}"#.prop_map(String::into_bytes),
        mutated(br#"{"type":"open","n":[1,2,{"x":null}]}"#),
        mutated(br#"{"type":"a"}"#),
        mutated(br#"{"type":"b","type":"a"}"#),
        mutated(br#"{"room":"1","type":"room"}"#),
        mutated(br#"{"type":"token_refresh","token":"x"}"#),
        mutated(br#"{"\u0074ype":"\u0061"}"#),
    ]
}

/// What a lenient reader would allow at most: an object with a permitted type.
fn may(bytes: &[u8]) -> bool {
    let Ok(Json::Object(object)) = serde_json::from_slice(bytes) else { return false };
    match object.get("type").and_then(Json::as_str) {
        Some("open" | "a") => true,
        // An integer fills a pattern as its digits do (RULES 22).
        Some("room") => [json!("1"), json!(1)].iter().any(|room| object.get("room") == Some(room)),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_message_passes_that_a_reader_of_json_would_not_permit(texts in prop::collection::vec(text(), 1..20)) {
        let mut world = world();
        let id = world.connect(&world.token("ann", 600, json!({ "scope": "p:a room:1:x" }))).unwrap();
        for bytes in &texts {
            let passed = world.engine.message(id, Payload::Text(bytes), world.now).is_ok();
            prop_assert!(!passed || may(bytes), "{}", String::from_utf8_lossy(bytes));
            prop_assert!(world.engine.message(id, Payload::Binary(bytes), world.now).is_err());
            if let Ok(name) = std::str::from_utf8(bytes) {
                let passed = world.engine.authorize(id, name, &[(name, name)], world.now).is_ok();
                prop_assert!(!passed || matches!(name, "open" | "a"));
                prop_assert!(world.engine.authorize_delivery(id, name, &[(name, name)], world.now).is_err());
            }
        }
        world.poll();
    }

    /// Only the very token is accepted, not one bit of it may differ.
    #[test]
    fn no_token_passes_but_the_one_that_was_signed(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 0..3),
        noise in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let world = world();
        let good = world.token("ann", 600, json!({})).into_bytes();
        let mut bytes = good.clone();
        for (index, byte, kind) in edits {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        let id = world.live("ann", 300);
        for token in [&bytes, &noise] {
            let genuine = *token == good;
            let outcome = Request::new().with("Authorization", [b"Bearer ", token.as_slice()].concat());
            prop_assert_eq!(outcome.send(&world.engine, world.now).is_ok(), genuine);
            let refreshed = world.engine.refresh(id, token, world.now).is_ok();
            prop_assert_eq!(refreshed, genuine);
        }
    }

    /// Nobody comes in whose request does not carry the token, as it must stand, exactly once.
    #[test]
    fn no_request_passes_without_the_token_in_its_place(
        method in prop_oneof![3 => Just(b"GET".to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..8)],
        target in prop_oneof![2 => Just(b"/ws".to_vec()), 1 => mutated(b"/ws?access_token=x&ticket=y#z"),
            1 => prop::collection::vec(any::<u8>(), 0..60)],
        extra in prop::collection::vec((
            prop_oneof![
                mutated(b"Authorization"), mutated(b"Host"), mutated(b"Origin"), mutated(b"Cookie"),
                mutated(b"Sec-WebSocket-Protocol"), mutated(b"X-Forwarded-For"),
                prop::collection::vec(any::<u8>(), 0..20),
            ],
            prop_oneof![
                mutated(b"Bearer x.y.z"), mutated(b"http://a, b"), mutated(b"wsauth.bearer.x, chat"),
                prop::collection::vec(any::<u8>(), 0..60),
            ],
        ), 0..4),
        carries in any::<bool>(),
    ) {
        let world = world();
        let token = world.token("ann", 600, json!({}));
        let mut request = if carries { Request::new().bearer(&token) } else { Request::new() };
        request.method = method;
        request.target = target;
        request.headers.extend(extra);
        let outcome = request.send(&world.engine, world.now);
        if let Ok(admitted) = &outcome {
            let lines = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization")).count();
            prop_assert!(carries && lines == 1 && request.method == b"GET", "{:?}", request);
            prop_assert!(world.may_say(admitted.connection, "open"));
        } else {
            prop_assert_eq!(world.engine.connections(), 0);
            prop_assert_eq!(world.metric("wsauth_tracked_addresses"), 0);
        }
    }
}
