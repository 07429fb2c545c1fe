//! This file answers: while a source is gone, who is refused, who goes on, and who hears of it?
//!
//! The cells that all sources share of the table "Degraded, on purpose" in `docs/sources.md`.

use serde_json::{Value as Json, json};
use wsauth::audit::AuditKind;
use wsauth::lookup::{Answer, BackendKind, HttpResponse, Question};
use wsauth::{ConnectionId, Reason, Refusal};

use crate::shared::world::{START, World, key_set, opaque_issuer, remote_issuer, token_of_fetched};
use crate::shared::{Request, config, token};

const KINDS: [BackendKind; 4] =
    [BackendKind::Keys, BackendKind::Introspection, BackendKind::Sessions, BackendKind::Profile];
/// An issuer whose keys are at hand.
const LOCAL: &str = "https://local.example.com";
const UNAVAILABLE: Answer = Answer::Unavailable { retry_after_ms: None };

fn world(kind: BackendKind) -> World {
    let mut all = json!({ "connection": { "idle": "1d" }, "deliveries": { "news": "public" } });
    match kind {
        BackendKind::Keys => {
            let mut local = config(json!({}))["issuer"][0].clone();
            local["issuer"] = json!(LOCAL);
            all["issuer"] = remote_issuer();
            all["issuer"].as_array_mut().unwrap().push(local);
        }
        BackendKind::Introspection => {
            all["issuer"] = opaque_issuer();
            all["issuer"][0]["introspection"] = json!({
                "url": "https://id.example.com/introspect", "client_id": "us", "client_secret": { "text": "secret" },
            });
        }
        BackendKind::Profile => {
            all["profile"] = json!({ "url": "https://users.example.com/{subject}", "permissions": ["p:*"] });
        }
        _ => {
            all["sessions"] = json!({});
            all["handshake"] = json!({
                "credentials": ["cookie"], "cookie": { "name": "__Host-ws", "holds": "session" },
                "origins": ["https://app.example.com"], "trusted_proxies": [],
            });
        }
    }
    World::new(all)
}

/// A peer for whom this source must be asked; but the first came by an issuer whose keys need not be fetched.
fn enter(world: &World, kind: BackendKind, n: usize) -> Result<ConnectionId, Refusal> {
    let claims = |world: &World| world.claims(&format!("u{n}"), 3_600, json!({}));
    match kind {
        BackendKind::Keys if n == 0 => world.connect(&token(&world.claims("u0", 3_600, json!({ "iss": LOCAL })))),
        BackendKind::Keys => world.connect(&token_of_fetched("k1", &claims(world))),
        BackendKind::Introspection => world.connect(&format!("opaque-0123456789abcdef-{n}")),
        BackendKind::Profile => world.connect(&token(&claims(world))),
        _ => {
            let cookie = format!("__Host-ws=session-0123456789-{n}");
            let request = Request::new().with("Origin", "https://app.example.com").with("Cookie", cookie);
            request.send(&world.engine, world.now).map(|admitted| admitted.connection)
        }
    }
}

fn http(body: impl Into<Vec<u8>>) -> Answer {
    let content_type = Some("application/json".to_owned());
    Answer::Response(Box::new(HttpResponse { status: 200, content_type, retry_after_ms: None, body: body.into() }))
}

fn good(world: &World, question: &Question) -> Answer {
    let active = |subject: &str| -> Json { json!({ "active": true, "sub": subject, "exp": START + 7_200 }) };
    match question {
        Question::Keys { .. } => http(key_set(&["k1"])),
        Question::Introspection { token, .. } => {
            http(active(&format!("of-{}", String::from_utf8_lossy(token.expose()))).to_string())
        }
        Question::Profile { .. } => http("{}"),
        Question::Session { .. } => Answer::Vouched(Box::new(world.vouched("ann", 3_600))),
        Question::Discovery { .. } => panic!("nothing is discovered here"),
    }
}

fn answer_all(world: &World, mut answer: impl FnMut(&Question) -> Answer) {
    for lookup in world.lookups() {
        world.engine.answer(lookup.id, answer(&lookup.question), world.now).unwrap();
    }
}

/// Whether the audit says this of the source, since it was last asked.
fn told(world: &World, kind: AuditKind, backend: BackendKind) -> bool {
    world.audit().iter().any(|event| (event.kind, event.backend) == (kind, Some(backend)))
}

#[test]
fn a_source_that_is_gone_refuses_newcomers_leaves_the_live_alone_and_is_told() {
    for kind in KINDS {
        let mut world = world(kind);
        let live = enter(&world, kind, 0).unwrap();
        if kind != BackendKind::Keys {
            answer_all(&world, |question| good(&world, question));
        }
        assert!(world.may_say(live, "ping"), "{kind:?}");
        assert!(!told(&world, AuditKind::SourceDegraded, kind));
        for n in 1..9 {
            world.run_ms(31_000);
            answer_all(&world, |_| UNAVAILABLE);
            let refused = match enter(&world, kind, n) {
                Ok(id) => {
                    answer_all(&world, |_| UNAVAILABLE);
                    assert!(!world.may_say(id, "ping"), "{kind:?}");
                    let (reason, code) = world.end(id).unwrap();
                    assert_eq!(code, 4012);
                    world.close(id);
                    Refusal::from(reason)
                }
                Err(refusal) => refusal,
            };
            assert_eq!((refused.reason, refused.row().http), (Reason::SourceUnavailable, 503), "{kind:?}");
            assert_eq!(refused.row().public, "unavailable");
            assert!(world.may_say(live, "ping"), "{kind:?}: what is live is decided from memory");
            assert!(world.engine.authorize_delivery(live, "news", &[], world.now).is_ok());
        }
        assert!(enter(&world, kind, 9).is_err(), "{kind:?}: it is left alone, so nobody waits for it");
        assert_eq!(world.lookups().len(), 0);
        assert!(told(&world, AuditKind::SourceDegraded, kind), "{kind:?}");

        for _ in 0..60 {
            world.run_ms(1_000);
            answer_all(&world, |question| good(&world, question));
        }
        let back = enter(&world, kind, 10).unwrap();
        answer_all(&world, |question| good(&world, question));
        assert!(world.may_say(back, "ping") && world.may_say(live, "ping"), "{kind:?}");
        assert!(told(&world, AuditKind::SourceRecovered, kind), "{kind:?}");
    }
}

/// X14: who asked first is nobody special.
#[test]
fn whoever_asked_first_may_leave_and_the_others_get_their_answer() {
    for kind in KINDS {
        let mut world = world(kind);
        let (first, second) = (enter(&world, kind, 1).unwrap(), enter(&world, kind, 1).unwrap());
        let lookups = world.lookups();
        assert_eq!(lookups.len(), 1, "{kind:?}: they wait for one question");
        assert!(world.close(first));
        let answer = good(&world, &lookups[0].question);
        world.engine.answer(lookups[0].id, answer, world.now).unwrap();
        assert!(world.may_say(second, "ping"), "{kind:?}");
        assert_eq!(
            world.say(first, r#"{"type":"ping"}"#).unwrap_err().refusal().map(|refusal| refusal.reason),
            Some(Reason::MisuseHandle)
        );
    }
}
