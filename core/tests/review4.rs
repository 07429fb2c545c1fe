//! What a review of the sources found and what must not come back, each told as a server would see it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

mod shared;

use serde_json::{Value as Json, json};
use shared::world::{START, World, remote_issuer};
use shared::{AUDIENCE, ISSUER, config};
use wsauth::Reason;
use wsauth::lookup::{Answer, HttpResponse, Lookup, Question};

const TOKEN: &str = "opaque-0123456789abcdef";

/// An issuer of opaque tokens that is asked there.
fn asked_at(url: &str, more: Json) -> Json {
    let mut issuer = remote_issuer();
    issuer[0]["opaque"] = json!(true);
    issuer[0]["introspection"] = json!({
        "url": url, "client_id": "us", "client_secret": { "text": "client-secret" }, "recheck": "30s",
    });
    let mut all = json!({
        "issuer": issuer,
        "handshake": {
            "credentials": ["authorization", "first_message"], "trusted_proxies": [], "require_origin": false,
        },
    });
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    config(all)
}

fn world() -> World {
    World::of(&asked_at("https://id.example.com/introspect", json!({})))
}

fn says(audience: &str) -> Answer {
    let body = json!({"active": true, "sub": "ann", "iss": ISSUER, "aud": audience, "iat": START, "exp": START + 600});
    Answer::Response(Box::new(HttpResponse {
        status: 200,
        content_type: Some("application/json".to_owned()),
        retry_after_ms: None,
        body: body.to_string().into_bytes(),
    }))
}

/// The questions about tokens that wait.
fn asked(world: &World) -> Vec<Lookup> {
    let is_about = |lookup: &Lookup| matches!(lookup.question, Question::Introspection { .. });
    world.lookups().into_iter().filter(is_about).collect()
}

#[test]
fn whoever_waits_for_a_question_that_is_over_is_told_when_it_is() {
    let mut world = world();
    let early = world.connect(TOKEN).unwrap();
    let first = world.stranger().unwrap();
    let auth = json!({ "type": "auth", "token": TOKEN }).to_string();
    assert!(world.say(first, &auth).is_err());
    world.run_ms(1_999);
    assert_eq!((world.end(early), world.end(first)), (None, None));
    world.run_ms(1);
    for id in [early, first] {
        assert_eq!(world.end(id).map(|(reason, _)| reason), Some(Reason::SourceUnavailable));
    }
}

#[test]
fn an_endpoint_that_was_replaced_while_it_was_asked_lets_nobody_in() {
    let mut world = world();
    let id = world.connect(TOKEN).unwrap();
    let old = asked(&world).remove(0);
    world.reload(&asked_at("https://other.example.com/introspect", json!({}))).unwrap();
    let joined = world.connect(TOKEN).unwrap();
    world.engine.answer(old.id, says(AUDIENCE), world.now).unwrap();
    for id in [id, joined] {
        assert_eq!(world.end(id).map(|(reason, _)| reason), Some(Reason::SourceUnavailable));
    }
    let next = world.connect(TOKEN).unwrap();
    let lookups = asked(&world);
    assert_eq!(&**lookups[0].question.url().unwrap(), "https://other.example.com/introspect");
    world.engine.answer(lookups[0].id, says(AUDIENCE), world.now).unwrap();
    assert!(world.may_say(next, "ping"));
}

#[test]
fn a_token_that_its_source_no_longer_calls_ours_is_not_let_in_by_what_was_said_before() {
    let mut world = world();
    let id = world.connect(TOKEN).unwrap();
    world.engine.answer(asked(&world)[0].id, says(AUDIENCE), world.now).unwrap();
    assert!(world.may_say(id, "ping"));
    let lookups = loop {
        world.run_ms(1_000);
        let lookups = asked(&world);
        if !lookups.is_empty() {
            break lookups;
        }
    };
    assert!(world.connect(TOKEN).is_ok_and(|id| world.may_say(id, "ping")), "the answer of before still holds");
    world.engine.answer(lookups[0].id, says("somebody else"), world.now).unwrap();
    assert_eq!(world.end(id).map(|(reason, _)| reason), Some(Reason::Revoked));
    let again = world.connect(TOKEN).unwrap();
    assert!(!world.may_say(again, "ping"));
    assert_eq!(asked(&world).len(), 1, "its source is asked");
}

#[test]
fn what_a_profile_says_at_a_recheck_is_what_the_application_reads() {
    let profile = json!({ "cache": "1s", "attributes": ["role"] });
    let mut world = World::of(&asked_at("https://id.example.com/introspect", json!({ "profile": profile })));
    let is_profile = |lookup: &Lookup| matches!(lookup.question, Question::Profile { .. });
    let role = |role: &str| {
        let members = json!({ "role": role });
        Answer::Profile(Box::new(members.as_object().unwrap().clone()))
    };
    let answer = |world: &World, said: &str| {
        let mut count = 0;
        for _ in 0..2 {
            for lookup in world.lookups() {
                let answer = match lookup.question {
                    Question::Introspection { .. } => says(AUDIENCE),
                    _ if is_profile(&lookup) => role(said),
                    _ => continue,
                };
                world.engine.answer(lookup.id, answer, world.now).unwrap();
                count += 1;
            }
        }
        count
    };
    let id = world.connect(TOKEN).unwrap();
    assert_eq!(answer(&world, "admin"), 2);
    assert_eq!(world.engine.identity(id).unwrap().claims["role"], "admin");
    let mut count = 0;
    for _ in 0..40 {
        world.run_ms(1_000);
        count += answer(&world, "guest");
    }
    assert_eq!(count, 2, "once for the token and once for its profile");
    assert_eq!(world.engine.identity(id).unwrap().claims["role"], "guest");
    assert!(world.may_say(id, "ping"));
}
