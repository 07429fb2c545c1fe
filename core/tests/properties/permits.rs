//! This file answers: does everything come back that a connection held, however it went?

use proptest::prelude::*;
use serde_json::json;
use wsauth::lookup::Answer;
use wsauth::{ConnectionId, Revocation};

use crate::shared::world::{World, names, opaque_issuer};
use crate::shared::{ISSUER, Request};

#[derive(Clone, Debug)]
enum Step {
    Connect(u8, u64, u8),
    Bad(u8),
    Stranger(u8),
    Opaque(u8),
    Auth(usize, u8, bool),
    Answer(u8),
    Refresh(usize, u8, u64),
    OpaqueRefresh(usize),
    SetPermissions(usize, u8),
    Revoke(u8),
    Cut(usize),
    Closed(usize),
    Flood(usize),
    Poll,
    Advance(u64),
    Reload(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..4, 1u64..600, 0u8..3).prop_map(|(subject, life, address)| Step::Connect(subject, life, address)),
        2 => (0u8..3).prop_map(Step::Bad),
        4 => (0u8..3).prop_map(Step::Stranger),
        4 => (0u8..3).prop_map(Step::Opaque),
        5 => (any::<usize>(), 0u8..4, any::<bool>()).prop_map(|(at, subject, good)| Step::Auth(at, subject, good)),
        5 => (0u8..6).prop_map(Step::Answer),
        3 => (any::<usize>(), 0u8..4, 1u64..900).prop_map(|(at, subject, life)| Step::Refresh(at, subject, life)),
        2 => any::<usize>().prop_map(Step::OpaqueRefresh),
        2 => (any::<usize>(), 0u8..4).prop_map(|(at, mask)| Step::SetPermissions(at, mask)),
        1 => (0u8..4).prop_map(Step::Revoke),
        2 => any::<usize>().prop_map(Step::Cut),
        4 => any::<usize>().prop_map(Step::Closed),
        2 => any::<usize>().prop_map(Step::Flood),
        4 => Just(Step::Poll),
        4 => prop_oneof![0u64..3_000, 0u64..100_000].prop_map(Step::Advance),
        1 => any::<bool>().prop_map(Step::Reload),
    ]
}

fn config(plain: bool) -> serde_json::Value {
    crate::shared::config(json!({
        "issuer": opaque_issuer(),
        "handshake": {
            "credentials": ["authorization", "first_message"], "trusted_proxies": [], "require_origin": false,
        },
        "messages": if plain { json!({ "ping": "public" }) } else { json!({ "ping": "p:a", "pong": "p:b" }) },
        "connection": { "max_connections": 12, "max_unauthenticated": 4, "max_unauthenticated_per_address": 2 },
        "limits": { "connections_per_address": 5, "connections_per_user": 3, "strikes": 5,
            "user_policy": if plain { "reject" } else { "evict_oldest" } },
    }))
}

fn address(number: u8) -> String {
    format!("203.0.113.{}", number + 1)
}

fn run(steps: &[Step]) -> (World, Vec<ConnectionId>) {
    let mut world = World::of(&config(true));
    let mut ids: Vec<ConnectionId> = Vec::new();
    for step in steps {
        let at = |at: &usize| ids.get(at % ids.len().max(1)).copied().unwrap_or(ConnectionId::from_u64(5));
        let send = |request: Request, from: u8| request.from(&address(from)).send(&world.engine, world.now);
        match step {
            Step::Connect(subject, life, from) => {
                let token = world.token(&format!("u{subject}"), *life, json!({ "jti": format!("t{subject}") }));
                ids.extend(send(Request::new().bearer(&token), *from).map(|admitted| admitted.connection));
            }
            Step::Bad(from) => assert!(send(Request::new().bearer("a.b.c"), *from).is_err()),
            Step::Stranger(from) => ids.extend(send(Request::new(), *from).map(|admitted| admitted.connection)),
            Step::Opaque(from) => {
                let token = format!("opaque-0123456789-{from}");
                ids.extend(send(Request::new().bearer(&token), *from).map(|admitted| admitted.connection));
            }
            Step::Auth(place, subject, good) => {
                let token =
                    if *good { world.token(&format!("u{subject}"), 60, json!({})) } else { "opaque-1234567890".into() };
                let _ = world.say(at(place), &json!({ "type": "auth", "token": token }).to_string());
            }
            Step::Answer(kind) => {
                for lookup in world.lookups() {
                    let answer = match kind {
                        0 => Answer::Inactive,
                        1 => Answer::Unavailable { retry_after_ms: None },
                        2 => Answer::Keys(b"{}".to_vec()),
                        _ => Answer::Vouched(Box::new(world.vouched(&format!("u{kind}"), 300))),
                    };
                    let _ = world.engine.answer(lookup.id, answer, world.now);
                }
            }
            Step::Refresh(place, subject, life) => {
                let _ = world.refresh(
                    at(place),
                    &world.token(&format!("u{subject}"), *life, json!({ "jti": life.to_string() })),
                );
            }
            Step::OpaqueRefresh(place) => {
                let _ = world.refresh(at(place), "opaque-abcdefghijkl");
            }
            Step::SetPermissions(place, mask) => {
                let set = ["", "p:a", "p:b", "p:a p:b"][usize::from(*mask)];
                let _ = world.engine.set_permissions(at(place), &names(set), world.now);
            }
            Step::Revoke(subject) => {
                world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: &format!("t{subject}") }, world.now);
            }
            Step::Cut(place) => {
                world.engine.revoke(Revocation::Connection(at(place)), world.now);
            }
            Step::Closed(place) => {
                let id = at(place);
                world.close(id);
            }
            Step::Flood(place) => {
                for _ in 0..30 {
                    let _ = world.say(at(place), r#"{"type":"ping"}"#);
                }
            }
            Step::Poll => {
                world.poll();
            }
            Step::Advance(ms) => world.advance_ms(*ms),
            Step::Reload(plain) => world.reload(&config(*plain)).unwrap(),
        }
    }
    (world, ids)
}

fn require_empty(world: &World) {
    for gauge in ["wsauth_connections", "wsauth_unauthenticated_connections", "wsauth_tracked_addresses"] {
        assert_eq!(world.metric(gauge), 0, "{gauge}");
    }
    assert_eq!(world.engine.connections(), 0);
}

/// As many as there may be come in again.
fn fill(world: &World) {
    let mut admitted = 0;
    for n in 0..12u8 {
        let token = world.token(&format!("fresh{}", n / 3), 60, json!({}));
        let request = Request::new().bearer(&token).from(&address(n / 5));
        let _ = request.send(&world.engine, world.now).unwrap();
        admitted += 1;
    }
    assert_eq!((admitted, world.metric("wsauth_connections")), (12, 12));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn closing_everything_gives_everything_back(steps in prop::collection::vec(step(), 1..100)) {
        let (mut world, ids) = run(&steps);
        for id in ids {
            world.close(id);
        }
        require_empty(&world);
        world.advance_ms(2_000);
        prop_assert_eq!(world.lookups().len(), 0);
        prop_assert_eq!(world.metric("wsauth_pending_lookups"), 0);
        prop_assert_eq!(world.poll(), 0, "nothing is owed");
        world.reload(&config(true)).unwrap();
        fill(&world);
    }

    /// The same without a single `closed`: what the engine ended comes back thirty seconds later.
    #[test]
    fn a_server_that_never_says_closed_gets_everything_back_too(steps in prop::collection::vec(step(), 1..60)) {
        let (mut world, _) = run(&steps);
        world.run_ms(86_400_000);
        require_empty(&world);
        world.reload(&config(true)).unwrap();
        fill(&world);
    }
}
