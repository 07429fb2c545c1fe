//! This file answers: do the sources that are fetched serve when they work, and fail closed when they do not?

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value as Json, json};
use wsauth::audit::{AuditEvent, AuditKind};
use wsauth::config::{Config, NoSecretSource};
use wsauth::lookup::{Answer, Answerer, BackendKind, HttpResponse, Lookup, Question};
use wsauth::secret::EngineSeed;
use wsauth::time::{MonoTime, Now};
use wsauth::{ConnectionId, Engine, EventKind, Progress, Reason, Refreshed, Refusal};

use crate::shared::world::{START, World, key_set, remote_issuer, token_of_fetched};
use crate::shared::{ISSUER, Request, config, tree};

const JWKS: &str = "https://id.example.com/jwks";
const DISCOVERY: &str = "https://id.example.com/.well-known/openid-configuration";
const UNAVAILABLE: Answer = Answer::Unavailable { retry_after_ms: None };
const MINUTE: u64 = 60_000;
const DAY: u64 = 86_400_000;

fn remote(more: Json) -> World {
    let mut all = json!({ "issuer": remote_issuer() });
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    World::new(all)
}

/// An issuer found by discovery, which also takes opaque tokens.
fn discovered_issuer() -> Json {
    let mut issuer = remote_issuer();
    issuer[0]["keys"] = json!({ "discovery_url": DISCOVERY });
    issuer[0]["opaque"] = json!(true);
    issuer[0]["introspection"] = json!({ "method": "bearer", "bearer": { "text": "ours" } });
    issuer
}

fn discovered() -> World {
    remote(json!({ "issuer": discovered_issuer() }))
}

fn response(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    answer_after(status, content_type, body, None)
}

fn answer_after(status: u16, content_type: &str, body: impl Into<Vec<u8>>, retry_after_ms: Option<u32>) -> Answer {
    let content_type = Some(content_type.to_owned());
    Answer::Response(Box::new(HttpResponse { status, content_type, retry_after_ms, body: body.into() }))
}

fn document(members: &Json) -> Answer {
    response(200, "application/json", members.to_string())
}

fn good_document() -> Answer {
    document(&json!({ "issuer": ISSUER, "jwks_uri": JWKS, "introspection_endpoint": "https://id.example.com/ask" }))
}

fn keys(ids: &[&str]) -> Answer {
    response(200, "application/jwk-set+json", key_set(ids))
}

fn answer(world: &World, given: Answer) {
    world.engine.answer(world.lookup(), given, world.now).unwrap();
}

fn token(world: &World, key_id: &str) -> String {
    token_of_fetched(key_id, &world.claims("ann", 3_600, json!({})))
}

/// A world whose keys were fetched, and the cool-down of that is over.
fn fetched(ids: &[&str]) -> World {
    let mut world = remote(json!({}));
    answer(&world, keys(ids));
    world.advance_ms(30_000);
    world.audit();
    world
}

/// When keys are fetched next, from now on.
fn wait(world: &World) -> u64 {
    world.engine.next_fetch().unwrap().since(world.now.mono)
}

/// Sleeps until keys are due and takes the question.
fn next_question(world: &mut World) -> Lookup {
    for _ in 0..10 {
        world.advance_ms(wait(world));
        if let Some(lookup) = world.lookups().pop() {
            return lookup;
        }
    }
    panic!("nothing is asked");
}

/// What the audit says of sources.
fn told(world: &World) -> Vec<(AuditKind, Option<BackendKind>, &'static str)> {
    let of_sources = |event: &AuditEvent| event.backend.is_some();
    let events = world.audit().into_iter().filter(of_sources);
    events.map(|event| (event.kind, event.backend, event.detail.unwrap())).collect()
}

fn kinds(world: &World) -> Vec<AuditKind> {
    told(world).into_iter().map(|(kind, _, _)| kind).collect()
}

#[test]
fn keys_are_asked_for_before_anybody_comes() {
    let world = remote(json!({}));
    assert_eq!(world.engine.missing_keys(), [Arc::from(ISSUER)]);
    assert!(world.engine.next_fetch().is_some_and(|due| due <= world.now.mono));
    assert!(world.engine.lookups_for(Answerer::Host, 9, world.now).is_empty());
    let lookups = world.engine.lookups_for(Answerer::Http, 9, world.now);
    assert!(matches!(&lookups[..], [Lookup { question: Question::Keys { url, .. }, .. }] if **url == *JWKS));
    assert_eq!(world.lookups().len(), 0, "once");
    world.engine.answer(lookups[0].id, keys(&["k1"]), world.now).unwrap();
    assert_eq!(world.engine.missing_keys(), []);
    let id = world.connect(&token(&world, "k1")).unwrap();
    assert!(world.may_say(id, "ping"), "nobody waited");
}

#[test]
fn an_engine_without_fetched_keys_fetches_nothing() {
    let world = World::new(json!({}));
    assert_eq!((world.engine.next_fetch(), world.engine.next_deadline(0)), (None, None));
    assert_eq!((world.engine.missing_keys(), world.lookups().len()), (vec![], 0));
}

#[test]
fn a_poll_of_shard_0_asks_what_is_due_and_wakes_whoever_asks_others() {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let text = config(json!({ "issuer": remote_issuer(), "connection": { "shards": 2 } }));
    let config = Config::from_tree(&tree(&text), &NoSecretSource).unwrap();
    let wake = move |shard| {
        assert_eq!(shard, 0);
        count.fetch_add(1, Ordering::Relaxed);
    };
    let engine = Engine::new(config, &EngineSeed::new([7; 32]), Box::new(wake)).unwrap();
    let now = Now::new(START * 1_000, 5_000);
    assert_eq!(engine.next_deadline(0), Some(MonoTime(0)), "at once");
    assert_eq!(engine.next_deadline(1), None);
    assert_eq!(engine.poll(1, now, 9, &mut Vec::new()).unwrap().next_deadline, None);
    assert_eq!(woken.load(Ordering::Relaxed), 0);
    let polled = engine.poll(0, now, 9, &mut Vec::new()).unwrap();
    assert_eq!(polled.next_deadline, Some(MonoTime(7_000)), "when the question is given up");
    assert_eq!(engine.next_deadline(0), polled.next_deadline);
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    let lookup = engine.lookups(9, now).pop().unwrap();
    engine.answer(lookup.id, UNAVAILABLE, now).unwrap();
    assert!(woken.load(Ordering::Relaxed) > 1, "the next try is earlier than whoever sleeps knows");
}

#[test]
fn a_handshake_asks_what_is_due_even_where_nobody_polls() {
    let world = remote(json!({}));
    assert!(Request::new().send(&world.engine, world.now).is_err());
    assert_eq!(world.metric("wsauth_pending_lookups"), 1);
}

#[test]
fn keys_are_fetched_again_up_to_a_tenth_before_they_are_old() {
    let mut issuers = remote_issuer();
    let mut other = issuers[0].clone();
    other["issuer"] = json!("https://other.example.com");
    issuers.as_array_mut().unwrap().push(other);
    let mut first = remote(json!({ "issuer": issuers }));
    let mut waits = Vec::new();
    for lookup in first.lookups() {
        first.engine.answer(lookup.id, keys(&["k1"]), first.now).unwrap();
    }
    for _ in 0..8 {
        let lookup = next_question(&mut first);
        waits.push(lookup.deadline.0);
        first.engine.answer(lookup.id, keys(&["k1"]), first.now).unwrap();
    }
    assert!(waits.windows(2).all(|pair| pair[0] != pair[1]), "two issuers are not asked in one moment: {waits:?}");

    let mut world = remote(json!({}));
    let mut twin = remote(json!({}));
    let mut seen = Vec::new();
    for _ in 0..20 {
        for world in [&mut world, &mut twin] {
            let lookup = next_question(world);
            world.engine.answer(lookup.id, keys(&["k1"]), world.now).unwrap();
        }
        assert_eq!(wait(&world), wait(&twin), "by the seed alone");
        assert!((540_000..=600_000).contains(&wait(&world)), "{}", wait(&world));
        seen.push(wait(&world));
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 15, "each time another: {seen:?}");
}

#[test]
fn a_failed_fetch_is_tried_again_after_1_s_and_less_and_less_often() {
    // Without a breaker in between, which has rules of its own.
    for given in [Some(UNAVAILABLE), None] {
        let mut world = remote(json!({ "lookups": { "breaker_failures": 1_000 } }));
        let mut lookup = world.lookups().pop().unwrap();
        for most in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000] {
            match &given {
                Some(given) => world.engine.answer(lookup.id, given.clone(), world.now).unwrap(),
                None => {
                    assert_eq!(wait(&world), 2_000, "until it is given up");
                    world.advance_ms(2_000);
                    assert_eq!(world.lookups().len(), 0);
                }
            }
            assert!((most - most / 4..=most).contains(&wait(&world)), "{most}: {}", wait(&world));
            world.advance_ms(wait(&world) - 1);
            assert_eq!(world.lookups().len(), 0);
            world.advance_ms(1);
            lookup = world.lookups().pop().unwrap();
        }
        world.engine.answer(lookup.id, keys(&["k1"]), world.now).unwrap();
        assert!(wait(&world) >= 540_000);
        let lookup = next_question(&mut world);
        world.engine.answer(lookup.id, UNAVAILABLE, world.now).unwrap();
        assert!(wait(&world) <= 1_000, "from the beginning");
    }
}

#[test]
fn retry_after_is_honoured_and_capped() {
    for (given, least, most) in [
        (Answer::Unavailable { retry_after_ms: Some(9_000) }, 9_000, 9_000),
        (answer_after(503, "text/plain", "", Some(9_000)), 9_000, 9_000),
        (answer_after(429, "text/plain", "", Some(3_600_000)), 20_000, 20_000),
        (answer_after(500, "text/plain", "", Some(3_600_000)), 20_000, 20_000),
        (answer_after(503, "text/plain", "", Some(0)), 750, 1_000),
    ] {
        let world = remote(json!({ "lookups": { "breaker_open": "20s" } }));
        answer(&world, given.clone());
        assert!((least..=most).contains(&wait(&world)), "{given:?}: {}", wait(&world));
    }
}

/// X25: the provider is down at the start.
#[test]
fn without_keys_no_token_is_accepted_and_they_come_when_they_can() {
    let mut world = remote(json!({}));
    answer(&world, UNAVAILABLE);
    assert_eq!(world.connect(&token(&world, "k1")).unwrap_err().reason, Reason::SourceUnavailable);
    let mut times = 0;
    while world.now.mono.0 < 1_000_000 + 10 * MINUTE {
        let lookup = next_question(&mut world);
        let id = world.connect(&token(&world, "k1")).unwrap();
        world.engine.answer(lookup.id, response(500, "text/plain", ""), world.now).unwrap();
        assert_eq!(world.end(id), Some((Reason::SourceUnavailable, 4012)), "who waits is told");
        world.close(id);
        times += 1;
    }
    assert!((15..40).contains(&times), "{times}");
    let lookup = next_question(&mut world);
    world.engine.answer(lookup.id, keys(&["k1"]), world.now).unwrap();
    assert!(world.connect(&token(&world, "k1")).is_ok());
}

/// X16, X18, X19, X27, X31.
#[test]
fn what_is_no_good_key_set_changes_nothing() {
    let mut large = b"{\"keys\":[]}".to_vec();
    large.resize(512 * 1024 + 1, b' ');
    let bad = [
        response(500, "application/json", key_set(&["k2"])),
        response(302, "application/json", key_set(&["k2"])),
        response(204, "application/json", ""),
        response(200, "text/html", key_set(&["k2"])),
        response(200, "application/json", "<html>"),
        response(200, "application/json", "[]"),
        response(200, "application/json", ""),
        response(200, "application/json", "{}"),
        response(200, "application/json", "{\"keys\":[]}"),
        response(200, "application/json", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\",\"kid\":\"k2\"}]}"),
        response(200, "application/json", large),
        Answer::Keys(b"{}".to_vec()),
        Answer::Inactive,
    ];
    for given in bad {
        let mut world = fetched(&["k1"]);
        let unknown = world.connect(&token(&world, "k2")).unwrap();
        answer(&world, given.clone());
        assert_eq!(world.end(unknown), Some((Reason::SourceUnavailable, 4012)), "not its fault: {given:?}");
        assert!(world.connect(&token(&world, "k1")).is_ok(), "{given:?}");
        let (kind, backend, detail) = told(&world)[0];
        assert_eq!((kind, backend), (AuditKind::SourceDegraded, Some(BackendKind::Keys)));
        assert_eq!(detail, "its key set could not be fetched: the last good one stays up to its limit");
    }
}

#[test]
fn a_key_set_is_taken_under_any_content_type_but_html() {
    for content_type in ["application/json", "application/jwk-set+json", "application/octet-stream", "text/plain"] {
        let world = remote(json!({}));
        answer(&world, response(200, content_type, key_set(&["k1"])));
        assert!(world.connect(&token(&world, "k1")).is_ok(), "{content_type}");
    }
}

#[test]
fn discovery_says_where_the_keys_are_and_is_asked_again_each_time() {
    let mut world = discovered();
    let (first, second) = (world.connect(&token(&world, "k1")).unwrap(), world.connect(&token(&world, "k1")).unwrap());
    let lookup = world.lookups().pop().unwrap();
    assert!(
        matches!(&lookup.question, Question::Discovery { issuer, url } if **issuer == *ISSUER && **url == *DISCOVERY)
    );
    world.advance_ms(1_500);
    world.engine.answer(lookup.id, good_document(), world.now).unwrap();
    assert_eq!(world.poll(), 0, "they wait on");
    let third = world.connect(&token(&world, "k1")).unwrap();
    world.advance_ms(1_500);
    let lookup = world.lookups().pop().unwrap();
    assert!(matches!(&lookup.question, Question::Keys { url, .. } if **url == *JWKS));
    world.engine.answer(lookup.id, keys(&["k1"]), world.now).unwrap();
    for id in [first, second, third] {
        assert!(matches!(world.take(id)[..], [EventKind::Ready, EventKind::Send(_)]));
        assert!(world.may_say(id, "ping"));
    }
    let again = next_question(&mut world);
    assert!(matches!(again.question, Question::Discovery { .. }));
    let moved = document(&json!({ "issuer": ISSUER, "jwks_uri": "https://keys.example.net/new" }));
    world.engine.answer(again.id, moved, world.now).unwrap();
    let lookup = world.lookups().pop().unwrap();
    assert_eq!(&**lookup.question.url().unwrap(), "https://keys.example.net/new");
    world.engine.answer(lookup.id, keys(&["k2"]), world.now).unwrap();
    assert!(world.connect(&token(&world, "k2")).is_ok());
}

#[test]
fn a_bad_discovery_document_refuses_who_waits_and_keeps_what_was_good() {
    let bad = [
        response(302, "application/json", ""),
        response(200, "text/html", json!({ "issuer": ISSUER, "jwks_uri": JWKS }).to_string()),
        document(&json!({ "issuer": "https://id.example.com/", "jwks_uri": JWKS })),
        document(&json!({ "issuer": ISSUER, "jwks_uri": "http://127.0.0.1/jwks" })),
        document(&json!({ "issuer": ISSUER })),
        Answer::Keys(key_set(&["k2"])),
        UNAVAILABLE,
    ];
    for given in bad {
        let mut world = discovered();
        answer(&world, good_document());
        answer(&world, keys(&["k1"]));
        let lookup = next_question(&mut world);
        let id = world.connect(&token(&world, "k2")).unwrap();
        world.engine.answer(lookup.id, given.clone(), world.now).unwrap();
        assert_eq!(world.end(id), Some((Reason::SourceUnavailable, 4012)), "{given:?}");
        assert_eq!(world.lookups().len(), 0, "{given:?}");
        assert!(world.connect(&token(&world, "k1")).is_ok());
        assert!(kinds(&world).contains(&AuditKind::SourceDegraded));
    }
}

#[test]
fn the_handshakes_own_deadline_bounds_the_whole_chain() {
    // Each question has 2 s of its own, the second until 3,999 ms.
    for (deadline, end, reason) in
        [("3s", 3_000, Reason::AuthenticationUnavailable), ("5s", 3_999, Reason::SourceUnavailable)]
    {
        let mut world = remote(json!({ "issuer": discovered_issuer(), "handshake": {
            "credentials": ["authorization"], "trusted_proxies": [], "require_origin": false,
            "lookup_deadline": deadline,
        }}));
        let id = world.connect(&token(&world, "k1")).unwrap();
        world.run_ms(1_999);
        answer(&world, good_document());
        world.run_ms(end - 1_999 - 1);
        assert_eq!(world.end(id), None);
        world.run_ms(1);
        assert_eq!(world.end(id), Some((reason, 4012)), "{deadline}");
    }
}

#[test]
fn an_opaque_token_waits_for_the_endpoint_that_discovery_names() {
    let world = discovered();
    let opaque = "opaque-0123456789abcdef";
    let id = world.connect(opaque).unwrap();
    answer(&world, good_document());
    let mut lookups = world.lookups();
    lookups.sort_by_key(|lookup| lookup.question.url().cloned());
    let [ask, set] = &lookups[..] else { panic!("{lookups:?}") };
    assert!(
        matches!(&ask.question, Question::Introspection { url: Some(url), .. } if **url == *"https://id.example.com/ask")
    );
    assert!(matches!(set.question, Question::Keys { .. }));
    let word = Answer::Vouched(Box::new(world.vouched("ann", 600)));
    world.engine.answer(ask.id, word, world.now).unwrap();
    assert!(world.may_say(id, "ping"));

    let mut nowhere = discovered();
    let id = nowhere.connect(opaque).unwrap();
    answer(&nowhere, document(&json!({ "issuer": ISSUER, "jwks_uri": JWKS })));
    assert_eq!(nowhere.end(id).unwrap().0, Reason::SourceUnavailable);
    assert_eq!(nowhere.connect(opaque).unwrap_err().reason, Reason::SourceUnavailable);
    assert!(told(&nowhere).iter().any(|(_, backend, _)| *backend == Some(BackendKind::Introspection)));
    answer(&nowhere, keys(&["k1"]));
    assert!(nowhere.connect(&token(&nowhere, "k1")).is_ok(), "its keys are another matter");
}

/// X29, R-JWK-05.
#[test]
fn ten_thousand_unknown_keys_cost_one_question_a_cool_down() {
    let mut world = fetched(&["k1"]);
    let good = token(&world, "k1");
    let mut asked = 0;
    for n in 0..10_000u32 {
        let bad = token(&world, &format!("x{n}"));
        match Request::new()
            .bearer(&bad)
            .from(&format!("198.51.{}.{}", n / 250, n % 250))
            .send(&world.engine, world.now)
        {
            Ok(admitted) => assert_eq!(admitted.progress, Progress::Authenticating),
            Err(refusal) => assert_eq!(refusal.reason, Reason::KeyUnknown),
        }
        for lookup in world.lookups() {
            asked += 1;
            world.engine.answer(lookup.id, keys(&["k1"]), world.now).unwrap();
        }
        if n % 100 == 0 {
            let admitted = Request::new().bearer(&good).send(&world.engine, world.now).unwrap();
            assert_eq!(admitted.progress, Progress::Live, "valid tokens are not affected");
            world.close(admitted.connection);
        }
        world.advance_ms(3);
    }
    assert_eq!(asked, 1, "in thirty seconds");
    let next = token(&world, "another");
    assert!(world.connect(&next).is_ok());
    assert_eq!(world.lookups().len(), 1, "and one in the next thirty");
}

/// The fetch ahead of need counts.
#[test]
fn an_unknown_key_right_after_a_fetch_asks_nothing() {
    let mut world = remote(json!({}));
    answer(&world, keys(&["k1"]));
    world.advance_ms(29_999);
    assert_eq!(world.connect(&token(&world, "k2")).unwrap_err().reason, Reason::KeyUnknown);
    assert_eq!(world.lookups().len(), 0);
    world.advance_ms(1);
    assert!(world.connect(&token(&world, "k2")).is_ok());
    assert_eq!(world.lookups().len(), 1);
}

/// X30, X28.
#[test]
fn a_key_refused_before_is_accepted_once_it_is_published() {
    let mut world = fetched(&["k1"]);
    let early = world.connect(&token(&world, "k2")).unwrap();
    answer(&world, keys(&["k1"]));
    assert_eq!(world.end(early), Some((Reason::KeyUnknown, 4001)));
    assert_eq!(world.connect(&token(&world, "k2")).unwrap_err().reason, Reason::KeyUnknown);
    let lookup = next_question(&mut world);
    world.engine.answer(lookup.id, keys(&["k2"]), world.now).unwrap();
    assert!(world.connect(&token(&world, "k2")).is_ok(), "at once");
    world.advance_ms(1);
    assert_eq!(world.connect(&token(&world, "k1")).unwrap_err().reason, Reason::KeyUnknown, "and the old one is gone");
}

/// X26, R-JWK-06.
#[test]
fn the_last_good_set_vouches_up_to_its_limit_and_not_longer() {
    let mut world = World::new(json!({
        "issuer": remote_issuer(), "connection": { "idle": "7d", "max_age": "7d" },
    }));
    answer(&world, keys(&["k1"]));
    world.audit();
    let start = world.now;
    while world.now.mono.since(start.mono) < DAY - 10_000 {
        let lookup = next_question(&mut world);
        world.engine.answer(lookup.id, response(500, "text/plain", ""), world.now).unwrap();
    }
    let live = token_of_fetched("k1", &world.claims("ann", 86_000, json!({})));
    let live = world.connect(&live).unwrap();
    assert!(told(&world).iter().all(|(_, _, detail)| !detail.contains("older")));
    world.advance_ms(DAY - 1 - world.now.mono.since(start.mono));
    assert!(world.connect(&token(&world, "k1")).is_ok());
    world.advance_ms(1);
    world.poll();
    let stale = told(&world);
    assert!(stale.iter().any(|(_, _, detail)| detail.contains("older than its limit")), "{stale:?}");
    for key_id in ["k1", "k2"] {
        let reason = match world.connect(&token(&world, key_id)) {
            Ok(id) => {
                answer(&world, UNAVAILABLE);
                world.end(id).unwrap().0
            }
            Err(refusal) => refusal.reason,
        };
        assert_eq!(reason, Reason::SourceUnavailable, "{key_id}: known or not");
    }
    assert!(world.may_say(live, "ping"), "whoever is in stays in");
    let lookup = next_question(&mut world);
    world.engine.answer(lookup.id, keys(&["k1"]), world.now).unwrap();
    assert!(world.connect(&token(&world, "k1")).is_ok());
    assert_eq!(kinds(&world).last(), Some(&AuditKind::SourceRecovered));
}

/// X32, RULES 2.
#[test]
fn a_wall_clock_that_is_set_makes_no_key_set_younger() {
    for (wall_step, mono) in [(DAY as i64, 31_000), (-3_600_000 - DAY as i64, DAY)] {
        let mut world = remote(json!({}));
        answer(&world, keys(&["k1"]));
        world.advance_ms(mono);
        world.step_wall(wall_step);
        let id = world.connect(&token(&world, "k1")).unwrap();
        answer(&world, UNAVAILABLE);
        assert_eq!(world.end(id), Some((Reason::SourceUnavailable, 4012)), "{wall_step} {mono}");
    }
    let mut world = remote(json!({}));
    answer(&world, keys(&["k1"]));
    world.step_wall(-3_600_000);
    assert!(world.connect(&token(&world, "k1")).is_ok(), "an hour back is no day");
}

#[test]
fn a_refresh_under_keys_too_old_is_unavailable_and_no_attempt() {
    let mut world = World::new(json!({ "issuer": remote_issuer(), "connection": { "idle": "7d", "max_age": "7d" } }));
    answer(&world, keys(&["k1"]));
    world.advance_ms(DAY - 1);
    let id = world.connect(&token(&world, "k1")).unwrap();
    answer(&world, UNAVAILABLE);
    world.advance_ms(30_001);
    let next = token_of_fetched("k1", &world.claims("ann", 7_200, json!({})));
    assert_eq!(world.refresh(id, &next), Ok(Refreshed::Pending));
    answer(&world, UNAVAILABLE);
    for _ in 0..5 {
        assert_eq!(world.refresh(id, &next), Err(Reason::SourceUnavailable));
    }
    assert!(world.may_say(id, "ping"), "three attempts would have ended it");
    world.advance_ms(30_000);
    assert_eq!(world.refresh(id, &next), Ok(Refreshed::Pending));
    answer(&world, keys(&["k1"]));
    assert!(world.types(id).contains(&"token_refreshed".to_owned()));
}

#[test]
fn each_degraded_state_of_keys_is_told_once() {
    let mut world = remote(json!({ "lookups": { "breaker_failures": 3 } }));
    for _ in 0..10 {
        let lookup = next_question(&mut world);
        world.engine.answer(lookup.id, UNAVAILABLE, world.now).unwrap();
    }
    let first = told(&world);
    let details: Vec<_> = first.iter().map(|(_, _, detail)| *detail).collect();
    assert_eq!(
        details,
        [
            "its key set could not be fetched: its tokens are refused until it is",
            "it failed again and again, or asked for it: it is left alone for a while",
        ]
    );
    assert!(first.iter().all(|(kind, _, _)| *kind == AuditKind::SourceDegraded));
    let lookup = next_question(&mut world);
    world.engine.answer(lookup.id, keys(&["k1"]), world.now).unwrap();
    assert_eq!(told(&world), [(AuditKind::SourceRecovered, Some(BackendKind::Keys), "its key set was fetched again")]);
}

#[test]
fn the_audit_names_source_and_issuer() {
    let world = remote(json!({}));
    answer(&world, UNAVAILABLE);
    let event = world.audit().into_iter().find(|event| event.kind == AuditKind::SourceDegraded).unwrap();
    assert_eq!((event.reason, event.issuer.as_deref()), (Some(Reason::SourceUnavailable), Some(ISSUER)));
    let line = event.to_json();
    assert!(line.contains(r#""event":"source_degraded","result":"failure""#), "{line}");
    assert!(line.contains(r#""backend":"keys""#), "{line}");
}

fn sessions(lookups: Json) -> World {
    World::new(json!({
        "sessions": {},
        "lookups": lookups,
        "handshake": {
            "credentials": ["cookie"], "cookie": { "name": "__Host-ws", "holds": "session" },
            "origins": ["https://app.example.com"], "trusted_proxies": [],
        },
    }))
}

fn with_session(world: &World, n: u64) -> Result<ConnectionId, Refusal> {
    let cookie = format!("__Host-ws=session-0123456789-{n}");
    let request = Request::new().with("Origin", "https://app.example.com").with("Cookie", cookie);
    request.from(&format!("198.51.100.{}", n % 250)).send(&world.engine, world.now).map(|admitted| admitted.connection)
}

#[test]
fn a_source_that_fails_again_and_again_is_left_alone_and_tried_by_one() {
    for answered in [true, false] {
        let mut world = sessions(json!({}));
        for n in 0..5 {
            with_session(&world, n).unwrap();
            if answered {
                answer(&world, UNAVAILABLE);
            } else {
                world.advance_ms(2_000);
            }
        }
        let refused = with_session(&world, 5).unwrap_err();
        assert_eq!(refused.reason, Reason::SourceUnavailable);
        let wait = u64::from(refused.retry_after_ms.unwrap());
        assert!((750..=1_000).contains(&wait), "{wait}");
        assert_eq!(world.lookups().len(), 0);
        world.poll();
        assert_eq!(kinds(&world), [AuditKind::SourceDegraded]);
        let open = "wsauth_sources_left_alone{backend=\"sessions\"}";
        assert_eq!(world.metric(open), 1);
        world.advance_ms(wait);
        let tried = with_session(&world, 6).unwrap();
        assert!(with_session(&world, 7).is_err(), "one at a time");
        let joined = with_session(&world, 6).unwrap();
        answer(&world, Answer::Vouched(Box::new(world.vouched("ann", 600))));
        assert!(world.may_say(tried, "ping") && world.may_say(joined, "ping"));
        assert!(with_session(&world, 8).is_ok());
        assert_eq!(kinds(&world), [AuditKind::SourceRecovered]);
        assert_eq!(world.metric(open), 0);
        let count =
            |outcome| world.metric(&format!("wsauth_lookups_total{{backend=\"sessions\",outcome=\"{outcome}\"}}"));
        let bad = if answered { (5, 0) } else { (0, 5) };
        assert_eq!((count("failed"), count("late"), count("answered"), count("refused")), (bad.0, bad.1, 1, 2));
    }
}

/// A no is an answer.
#[test]
fn a_thousand_unknown_sessions_open_no_breaker() {
    let mut world = sessions(json!({}));
    for n in 0..1_000 {
        let id = with_session(&world, n).unwrap();
        answer(&world, Answer::Inactive);
        assert_eq!(world.end(id).unwrap().0, Reason::SessionUnknown);
        world.close(id);
    }
    assert_eq!(kinds(&world), []);
}

#[test]
fn the_fetch_ahead_of_need_leaves_a_failing_source_alone_too() {
    let mut world = remote(json!({ "lookups": { "breaker_open": "1h" } }));
    answer(&world, answer_after(429, "text/plain", "", Some(1_200_000)));
    let start = world.now.mono;
    world.run_ms(1_199_999);
    assert_eq!(world.lookups().len(), 0);
    let refused = world.connect(&token(&world, "k1")).unwrap_err();
    assert_eq!((refused.reason, refused.retry_after_ms), (Reason::SourceUnavailable, Some(1)));
    world.run_ms(1);
    assert_eq!(world.lookups().len(), 1);
    assert_eq!(world.now.mono.since(start), 1_200_000);
}

#[test]
fn what_counts_as_a_failure_of_a_source() {
    let html = || response(200, "text/html", "<html>");
    let cases = [
        (vec![answer_after(429, "text/plain", "", Some(5_000))], 1),
        (vec![answer_after(503, "text/plain", "", Some(5_000))], 1),
        (vec![answer_after(500, "text/plain", "", Some(5_000))], 0),
        (vec![response(429, "text/plain", "")], 0),
        (vec![html(), response(200, "application/json", "{}")], 0),
        (vec![html(), response(200, "application/json", "{}"), UNAVAILABLE], 1),
        (vec![html(), UNAVAILABLE, keys(&["k1"]), html(), UNAVAILABLE], 0),
        (vec![html(), UNAVAILABLE, Answer::Inactive], 1),
    ];
    for (answers, open) in cases {
        let mut world = remote(json!({ "lookups": { "breaker_failures": 3 } }));
        for given in &answers {
            let lookup = next_question(&mut world);
            world.engine.answer(lookup.id, given.clone(), world.now).unwrap();
        }
        assert_eq!(world.metric("wsauth_sources_left_alone{backend=\"keys\"}"), open, "{answers:?}");
    }
    // A document that is good, and a key set that is not.
    let mut world = remote(json!({ "issuer": discovered_issuer(), "lookups": { "breaker_failures": 3 } }));
    for _ in 0..3 {
        let lookup = next_question(&mut world);
        world.engine.answer(lookup.id, good_document(), world.now).unwrap();
        answer(&world, html());
    }
    assert_eq!(world.metric("wsauth_sources_left_alone{backend=\"keys\"}"), 1, "half a fetch is no success");
}

#[test]
fn a_fetch_for_somebody_who_waits_counts_like_one_ahead_of_need() {
    let mut world = fetched(&["k1"]);
    world.connect(&token(&world, "k2")).unwrap();
    assert_eq!((world.lookups().len(), wait(&world)), (1, 2_000));
    world.run_ms(2_000);
    assert_eq!(kinds(&world), [AuditKind::SourceDegraded]);
    assert!(wait(&world) <= 1_000, "tried again, ahead of the next who needs it");
}

/// X17, as far as it concerns key sets.
#[test]
fn a_source_that_refuses_our_credentials_raises_an_alarm_once_in_five_minutes() {
    let mut world = fetched(&["k1"]);
    let alerts =
        |world: &World| kinds(world).iter().filter(|kind| **kind == AuditKind::AlertCredentialsRejected).count();
    let mut rejected = 0;
    let start = world.now.mono;
    while world.now.mono.since(start) < 3_600_000 {
        let lookup = next_question(&mut world);
        let status = if rejected % 2 == 0 { 401 } else { 403 };
        world.engine.answer(lookup.id, response(status, "application/json", "{}"), world.now).unwrap();
        rejected += 1;
    }
    let count = alerts(&world);
    assert!(rejected > 50 && (9..=12).contains(&count), "{rejected} {count}");
    assert!(world.connect(&token(&world, "k1")).is_ok(), "the user is not to blame");
    assert_eq!(world.metric("wsauth_alerts_total"), count as u64);
}

#[test]
fn a_reload_keeps_what_stays_and_fetches_what_is_new() {
    let mut world = fetched(&["k1"]);
    let due = world.engine.next_fetch();
    let mut issuers = remote_issuer();
    world.reload(&config(json!({ "issuer": issuers }))).unwrap();
    assert_eq!((world.engine.next_fetch(), world.lookups().len()), (due, 0));
    let mut other = issuers[0].clone();
    other["issuer"] = json!("https://other.example.com");
    issuers.as_array_mut().unwrap().push(other);
    world.reload(&config(json!({ "issuer": issuers }))).unwrap();
    assert_eq!(world.engine.next_fetch(), Some(world.now.mono));
    assert_eq!(world.engine.missing_keys(), [Arc::from("https://other.example.com")]);
    let lookup = world.lookups().pop().unwrap();
    assert!(matches!(&lookup.question, Question::Keys { issuer, .. } if **issuer == *"https://other.example.com"));
    world.reload(&config(json!({}))).unwrap();
    assert_eq!((world.engine.next_fetch(), world.engine.missing_keys()), (None, vec![]));
    world.advance_ms(10);
    let _ = world.engine.answer(lookup.id, keys(&["k1"]), world.now);
    assert_eq!(world.engine.next_fetch(), None);
}

/// The operator took the old place out: what comes from there late counts for nothing.
#[test]
fn an_answer_from_where_the_keys_were_before_a_reload_is_not_taken() {
    let mut world = remote(json!({}));
    let old = world.lookups().pop().unwrap();
    let mut moved = remote_issuer();
    moved[0]["keys"] = json!({ "jwks_url": "https://new.example.com/jwks" });
    world.reload(&config(json!({ "issuer": moved }))).unwrap();
    world.engine.answer(old.id, keys(&["k1"]), world.now).unwrap();
    assert_eq!(world.engine.missing_keys(), [Arc::from(ISSUER)]);
    let next = next_question(&mut world);
    assert_eq!(&**next.question.url().unwrap(), "https://new.example.com/jwks");
    world.engine.answer(next.id, keys(&["k1"]), world.now).unwrap();
    assert_eq!(world.engine.missing_keys(), []);
}

#[test]
fn the_metrics_say_when_each_key_set_came() {
    let mut issuers = remote_issuer();
    issuers[0]["issuer"] = json!("a \"quoted\" \\ name");
    let world = remote(json!({ "issuer": issuers }));
    let series = "wsauth_key_set_fetched_timestamp_seconds{issuer=\"a \\\"quoted\\\" \\\\ name\"}";
    assert_eq!(world.metric(series), 0);
    answer(&world, keys(&["k1"]));
    assert_eq!(world.metric(series), START);
}

#[test]
fn the_configuration_on_the_page_starts_and_discovers() {
    let page = include_str!("../../../docs/jwks.md");
    let text = page.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let config = Config::from_toml(text, &NoSecretSource).unwrap();
    let engine = Engine::new(config, &EngineSeed::new([7; 32]), Box::new(|_| ())).unwrap();
    let lookups = engine.lookups(9, Now::new(START * 1_000, 0));
    assert!(matches!(&lookups[..], [Lookup { question: Question::Discovery { url, .. }, .. }] if **url == *DISCOVERY));
}
