//! This file answers: what does an issuer's word about an opaque token do, and for how long?

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value as Json, json};
use wsauth::audit::AuditKind;
use wsauth::lookup::{Answer, HttpResponse, Lookup, Question};
use wsauth::{ConnectionId, EventKind, Progress, Reason, Refreshed, Revocation, Withheld};

use crate::shared::world::{START, World, key_set, remote_issuer, token_of_fetched};
use crate::shared::{AUDIENCE, ISSUER, Request, config};

const TOKEN: &str = "opaque-0123456789abcdef";
const ENDPOINT: &str = "https://id.example.com/introspect";

/// An issuer with an endpoint to ask, and fetched keys.
fn issuer(more: Json) -> Json {
    let mut issuer = remote_issuer();
    issuer[0]["opaque"] = json!(true);
    issuer[0]["max_lifetime"] = json!("30d");
    issuer[0]["introspection"] =
        json!({ "url": ENDPOINT, "client_id": "us", "client_secret": { "text": "client-secret" } });
    for (key, value) in more.as_object().unwrap() {
        issuer[0]["introspection"][key] = value.clone();
    }
    issuer
}

fn world_of(introspection: Json, more: Json) -> World {
    let mut all = json!({
        "issuer": issuer(introspection),
        "connection": { "idle": "1d", "max_age": "30d", "max_unauthenticated": 1_000,
            "max_unauthenticated_per_address": 1_000 },
        "limits": { "connections_per_address": 50_000, "connections_per_user": 50_000,
            "messages_per_user": { "count": 1_000_000, "per": "1s", "burst": 1_000_000 } },
        "handshake": {
            "credentials": ["authorization", "first_message"], "trusted_proxies": [], "require_origin": false,
        },
    });
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    World::new(all)
}

fn world() -> World {
    world_of(json!({}), json!({}))
}

/// An answer of the endpoint.
fn http(status: u16, body: &Json) -> Answer {
    Answer::Response(Box::new(HttpResponse {
        status,
        content_type: Some("application/json".to_owned()),
        retry_after_ms: None,
        body: body.to_string().into_bytes(),
    }))
}

/// The token is active for so many seconds from the start.
fn active(subject: &str, until: u64) -> Answer {
    http(
        200,
        &json!({"active": true, "sub": subject, "iss": ISSUER, "aud": AUDIENCE, "iat": START, "exp": START + until}),
    )
}

fn inactive() -> Answer {
    http(200, &json!({"active": false}))
}

impl World {
    /// The questions about the token that wait. Those for keys are not the matter here.
    fn asked(&self) -> Vec<Lookup> {
        let is_about = |lookup: &Lookup| matches!(lookup.question, Question::Introspection { .. });
        let lookups: Vec<_> = self.lookups().into_iter().filter(is_about).collect();
        for lookup in &lookups {
            assert!(
                matches!(&lookup.question, Question::Introspection { url: Some(url), token, .. }
                    if **url == *ENDPOINT && token.expose() == TOKEN.as_bytes()),
                "{lookup:?}"
            );
        }
        lookups
    }

    /// Answers the only question that waits.
    fn say_of_token(&self, answer: Answer) {
        let lookups = self.asked();
        assert_eq!(lookups.len(), 1);
        self.engine.answer(lookups[0].id, answer, self.now).unwrap();
    }

    /// A live connection of the token.
    fn opaque(&mut self, answer: Answer) -> ConnectionId {
        let id = self.connect(TOKEN).unwrap();
        self.say_of_token(answer);
        assert!(self.may_say(id, "ping"));
        id
    }

    /// Runs second by second and answers each question; returns how many there were and the end, if it came.
    fn live_through(&mut self, id: ConnectionId, seconds: u64, answer: impl Fn(u64) -> Answer) -> (usize, Option<u64>) {
        let mut asked = 0;
        for second in 1..=seconds {
            self.run_ms(1_000);
            for lookup in self.asked() {
                asked += 1;
                self.engine.answer(lookup.id, answer(second), self.now).unwrap();
            }
            if !self.may_say(id, "ping") {
                return (asked, Some(second));
            }
        }
        (asked, None)
    }
}

#[test]
fn an_opaque_token_is_asked_about_and_its_answer_decides() {
    let mut world = world();
    let good = world.connect(TOKEN).unwrap();
    assert_eq!(world.say(good, r#"{"type":"ping"}"#), Err(Withheld::Hold));
    let lookups = world.asked();
    assert_eq!(lookups.len(), 1);
    world.engine.answer(lookups[0].id, active("ann", 600), world.now).unwrap();
    assert!(
        matches!(&world.take(good)[..], [EventKind::Ready, EventKind::Send(text)] if text.contains("auth_success"))
    );
    assert!(world.may_say(good, "ping"));
    let identity = world.engine.identity(good).unwrap();
    assert_eq!((&*identity.subject, &*identity.issuer, &identity.key_id), ("ann", ISSUER, &None));
    assert_eq!((identity.issued_at, identity.expiry.as_secs()), (Some(START), START + 600));
}

#[test]
fn what_is_refused_of_an_answer_has_its_reason_and_silence_is_503() {
    let claims = json!({"active": true, "sub": "ann", "exp": START + 600});
    let with = |key: &str, value: Json| {
        let mut claims = claims.clone();
        claims[key] = value;
        http(200, &claims)
    };
    for (answer, reason) in [
        (inactive(), Reason::TokenInactive),
        (with("exp", json!(START)), Reason::TokenExpired),
        (with("nbf", json!(START + 31)), Reason::TokenNotYetValid),
        (with("aud", json!("x")), Reason::AudienceMismatch),
        (with("cnf", json!({})), Reason::TokenBound),
        (with("active", json!("true")), Reason::SourceUnavailable),
        (http(200, &json!([claims])), Reason::SourceUnavailable),
        (http(302, &claims), Reason::SourceUnavailable),
        (http(401, &claims), Reason::SourceUnavailable),
        (http(500, &claims), Reason::SourceUnavailable),
        (Answer::Keys(key_set(&["k1"])), Reason::SourceUnavailable),
        (Answer::Unavailable { retry_after_ms: None }, Reason::SourceUnavailable),
    ] {
        let mut world = world();
        let id = world.connect(TOKEN).unwrap();
        world.say_of_token(answer.clone());
        assert_eq!(world.end(id).map(|(reason, _)| reason), Some(reason), "{answer:?}");
        assert!(!world.may_say(id, "ping"));
        // Nothing but the plain no is used again.
        let again = world.connect(TOKEN).map(|_| ()).map_err(|refusal| refusal.reason);
        let kept = reason == Reason::TokenInactive;
        assert_eq!(again, if kept { Err(Reason::TokenInactive) } else { Ok(()) }, "{answer:?}");
        assert_eq!(world.asked().len(), usize::from(!kept), "{answer:?}");
    }
}

/// X13: a hot key.
#[test]
fn ten_thousand_handshakes_with_one_token_ask_once() {
    let mut world = world();
    let mut ids: Vec<_> = (0..1_000).map(|_| world.connect(TOKEN).unwrap()).collect();
    let lookups = world.asked();
    assert_eq!(lookups.len(), 1);
    world.engine.answer(lookups[0].id, active("ann", 600), world.now).unwrap();
    for _ in 0..9_000 {
        world.advance_ms(5);
        let admitted = Request::new().bearer(TOKEN).send(&world.engine, world.now).unwrap();
        assert_eq!(admitted.progress, Progress::Live);
        ids.push(admitted.connection);
    }
    assert!(ids.iter().all(|id| world.may_say(*id, "ping")));
    assert_eq!(world.asked().len(), 0);
    assert_eq!(world.metric("wsauth_cache_total{result=\"hit\"}"), 9_000);
}

#[test]
fn many_threads_with_one_token_ask_once_whenever_the_answer_comes() {
    for round in 0..50 {
        let world = world();
        let (asked, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    for lookup in world.asked() {
                        asked.fetch_add(1, Ordering::SeqCst);
                        world.engine.answer(lookup.id, active("ann", 600), world.now).unwrap();
                    }
                }
            });
            let peers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..50 {
                            assert!(Request::new().bearer(TOKEN).send(&world.engine, world.now).is_ok());
                        }
                    })
                })
                .collect();
            peers.into_iter().for_each(|peer| peer.join().unwrap());
            stop.store(true, Ordering::SeqCst);
        });
        assert_eq!(asked.load(Ordering::SeqCst) + world.asked().len(), 1, "round {round}");
    }
}

/// X24: what the provider revokes is refused within the time an answer is used again.
#[test]
fn an_active_answer_is_used_for_a_minute_at_most() {
    let mut world = world();
    world.opaque(active("ann", 600));
    world.advance_ms(59_999);
    assert!(world.connect(TOKEN).is_ok());
    assert_eq!(world.asked().len(), 0);
    world.advance_ms(1);
    let late = world.connect(TOKEN).unwrap();
    world.say_of_token(inactive());
    assert_eq!(world.end(late).unwrap().0, Reason::TokenInactive);
    assert_eq!(world.connect(TOKEN).unwrap_err().reason, Reason::TokenInactive);

    let mut world = self::world();
    world.opaque(active("ann", 10));
    world.advance_ms(10_000);
    world.connect(TOKEN).unwrap();
    assert_eq!(world.asked().len(), 1, "never beyond its end");
}

/// X23: a replica of the provider that lags behind.
#[test]
fn an_inactive_answer_is_used_for_ten_seconds_at_most() {
    let mut world = world();
    world.connect(TOKEN).unwrap();
    world.say_of_token(inactive());
    world.advance_ms(9_999);
    assert_eq!(world.connect(TOKEN).unwrap_err().reason, Reason::TokenInactive);
    assert_eq!(world.asked().len(), 0);
    world.advance_ms(1);
    let id = world.connect(TOKEN).unwrap();
    world.say_of_token(active("ann", 600));
    assert!(world.may_say(id, "ping"));

    let world = world_of(json!({ "negative_cache": 0 }), json!({}));
    world.connect(TOKEN).unwrap();
    world.say_of_token(inactive());
    world.connect(TOKEN).unwrap();
    assert_eq!(world.asked().len(), 1, "0 is off");
}

#[test]
fn a_token_that_is_not_valid_yet_is_taken_when_it_is() {
    let mut world = world();
    let early = http(200, &json!({"active": true, "sub": "ann", "nbf": START + 31, "exp": START + 600}));
    let id = world.connect(TOKEN).unwrap();
    world.say_of_token(early.clone());
    assert_eq!(world.end(id).unwrap().0, Reason::TokenNotYetValid);
    world.advance_ms(1_000);
    world.opaque(early);
}

#[test]
fn a_revocation_here_is_stronger_than_a_kept_answer() {
    let mut world = world();
    let id = world.opaque(active("ann", 600));
    let what = Revocation::Subject { issuer: ISSUER, subject: "ann", issued_before: None };
    assert_eq!(world.engine.revoke(what, world.now).closed, 1);
    assert_eq!(world.end(id), Some((Reason::Revoked, 4006)));
    assert_eq!(world.connect(TOKEN).unwrap_err().reason, Reason::TokenRevoked);
    assert_eq!(world.asked().len(), 0);
}

#[test]
fn a_reload_ends_every_kept_answer() {
    let mut world = world();
    world.opaque(active("ann", 600));
    let mut other = issuer(json!({}));
    other[0]["audience"] = json!(["urn:other"]);
    world.reload(&config(json!({ "issuer": other }))).unwrap();
    let id = world.connect(TOKEN).unwrap();
    world.say_of_token(active("ann", 600));
    assert_eq!(world.end(id).unwrap().0, Reason::AudienceMismatch);
}

#[test]
fn first_messages_and_refreshes_find_the_kept_answer() {
    let mut world = world();
    world.opaque(active("ann", 600));
    let first = world.stranger().unwrap();
    let auth = json!({ "type": "auth", "token": TOKEN }).to_string();
    assert_eq!(world.say(first, &auth), Err(Withheld::Consumed));
    assert!(world.may_say(first, "ping"));
    world.engine.load_keys(ISSUER, &key_set(&["k1"]), world.now);
    let jwt = world.connect(&token_of_fetched("k1", &world.claims("ann", 300, json!({})))).unwrap();
    assert!(world.may_say(jwt, "ping"));
    let shorter = world.engine.identity(jwt).unwrap().expiry;
    // The change of keys has ended what was kept.
    assert_eq!(world.refresh(jwt, TOKEN), Ok(Refreshed::Pending));
    world.say_of_token(http(200, &json!({"active": true, "sub": "ann", "exp": START + 600})));
    assert!(world.engine.identity(jwt).unwrap().expiry > shorter);
    assert_eq!(world.refresh(jwt, TOKEN), Ok(Refreshed::Unchanged), "kept");
    assert_eq!(world.asked().len(), 0);
    // All of them are asked about again from here on.
    for (id, _) in [(first, 0), (jwt, 0)] {
        let (_, end) = world.live_through(id, 400, |_| inactive());
        assert!(end.is_some(), "{id:?}");
        assert_eq!(world.end(id), Some((Reason::Revoked, 4006)));
    }
}

#[test]
fn a_token_without_an_end_lives_as_long_as_its_answer_and_is_asked_about_again() {
    let endless = || http(200, &json!({"active": true, "sub": "ann"}));
    let mut world = world();
    let id = world.opaque(endless());
    assert_eq!(world.engine.identity(id).unwrap().expiry, world.now.wall.plus(60_000));
    let (asked, end) = world.live_through(id, 3_600, |_| endless());
    assert_eq!(end, None);
    assert!((60..200).contains(&asked), "{asked}");

    let id = {
        let mut world = self::world();
        let id = world.opaque(endless());
        let unavailable = |_| Answer::Unavailable { retry_after_ms: None };
        assert_eq!(world.live_through(id, 100, unavailable).1, Some(60));
        world.end(id)
    };
    assert_eq!(id, Some((Reason::AuthenticationUnavailable, 4012)));
}

/// R29: the provider revokes, and the socket closes within `recheck` and the time an answer is used again.
#[test]
fn a_revocation_at_the_provider_closes_the_live_socket() {
    for (revoked_at, within) in [(1, 300), (290, 600), (1_000, 1_300)] {
        let mut world = world();
        let id = world.opaque(active("ann", 86_400));
        let answer = |second| if second >= revoked_at { inactive() } else { active("ann", 86_400) };
        let (_, end) = world.live_through(id, 2_000, answer);
        assert!(end.is_some_and(|end| end <= within), "{revoked_at}: {end:?}");
        assert_eq!(world.end(id), Some((Reason::Revoked, 4006)));
    }
}

#[test]
fn live_connections_are_asked_about_again_at_times_of_their_own() {
    let mut world = world();
    let first = world.opaque(active("ann", 86_400));
    let mut ids = vec![first];
    ids.extend((0..99).map(|_| world.connect(TOKEN).unwrap()));
    let mut times = Vec::new();
    for ms in 1..=300 {
        world.run_ms(1_000);
        for lookup in world.asked() {
            times.push(ms);
            world.engine.answer(lookup.id, active("ann", 86_400), world.now).unwrap();
        }
    }
    assert!(times.iter().all(|second| (270..=300).contains(second)), "{times:?}");
    assert_eq!(times.len(), 1, "the others heard what it was told");
    assert!(ids.iter().all(|id| world.may_say(*id, "ping")));
    let (_, end) = world.live_through(first, 400, |_| inactive());
    assert!(end.is_some());
    world.run_ms(60_000);
    assert!(ids.iter().all(|id| !world.may_say(*id, "ping")), "and so does every other");
    assert!(ids.iter().all(|id| world.end(*id) == Some((Reason::Revoked, 4006))));
}

#[test]
fn a_provider_that_is_away_closes_nobody_before_his_time() {
    let mut world = world();
    let id = world.opaque(active("ann", 1_200));
    let (asked, end) = world.live_through(id, 2_000, |_| http(503, &json!({})));
    assert_eq!(end, Some(1_200));
    assert!(asked > 20, "asked again and again, as the breaker lets: {asked}");
    assert_eq!(world.end(id), Some((Reason::AuthenticationUnavailable, 4012)));
}

/// Whoever invents tokens that the endpoint chokes on must not be able to have it left alone.
#[test]
fn a_thousand_tokens_that_the_endpoint_refuses_to_read_open_no_breaker() {
    let open = "wsauth_sources_left_alone{backend=\"introspection\"}";
    let refuse = |world: &mut World, n: usize, status: u16| {
        let id = world.connect(&format!("garbage-{n}"))?;
        let mut asked = world.lookups();
        asked.retain(|lookup| matches!(lookup.question, Question::Introspection { .. }));
        assert_eq!(asked.len(), 1, "{n}");
        world.engine.answer(asked[0].id, http(status, &json!({"error": "invalid_request"})), world.now).unwrap();
        assert_eq!(world.end(id), Some((Reason::SourceUnavailable, 4012)), "no yes and no no: {status}");
        world.close(id);
        Ok::<(), wsauth::Refusal>(())
    };
    for status in [400, 404, 413, 422] {
        let mut world = world();
        for n in 0..250 {
            refuse(&mut world, n, status).unwrap();
        }
        assert_eq!(world.metric(open), 0, "{status}");
        world.opaque(active("ann", 600));
    }
    // Those that say something of the endpoint itself do, after `breaker_failures` (5).
    for status in [500, 502, 401, 403, 408, 429] {
        let mut world = world();
        for n in 0..5 {
            assert_eq!(world.metric(open), 0, "{status}");
            refuse(&mut world, n, status).unwrap();
        }
        assert_eq!(world.metric(open), 1, "{status}");
        assert_eq!(refuse(&mut world, 5, status).unwrap_err().reason, Reason::SourceUnavailable);
    }
}

/// A handshake may wait for 5 s, but a question is over after 2 s: then there is nothing left to wait for.
#[test]
fn who_waits_for_a_question_that_nobody_answers_is_refused_when_it_is_over() {
    for by_message in [false, true] {
        let mut world = world();
        let id = if by_message {
            let id = world.stranger().unwrap();
            let auth = json!({ "type": "auth", "token": TOKEN }).to_string();
            assert_eq!(world.say(id, &auth), Err(Withheld::Consumed));
            id
        } else {
            world.connect(TOKEN).unwrap()
        };
        let question = world.asked().pop().unwrap();
        assert_eq!(question.deadline.since(world.now.mono), 2_000);
        world.run_ms(1_999);
        assert_eq!(world.end(id), None, "an answer would still be in time");
        world.run_ms(1);
        let events = world.take(id);
        let end = events.iter().find_map(|kind| match kind {
            EventKind::Refused { refusal, code } | EventKind::Close { refusal, code } => Some((refusal, *code)),
            _ => None,
        });
        let (refusal, code) = end.unwrap_or_else(|| panic!("{events:?}"));
        assert_eq!((refusal.reason, code), (Reason::SourceUnavailable, 4012));
        assert_eq!(refusal.http_response().status, 503);
    }
}

/// R-INT-07: we are the ones who are wrong.
#[test]
fn our_own_wrong_credentials_raise_an_alarm_and_blame_nobody() {
    let mut world = world_of(json!({}), json!({ "brute_force": { "alert_above": 2 } }));
    let alarms = |world: &World| {
        let events = world.audit();
        assert!(events.iter().all(|event| event.kind != AuditKind::AlertBruteForce));
        let alarms: Vec<_> =
            events.into_iter().filter(|event| event.kind == AuditKind::AlertCredentialsRejected).collect();
        assert!(alarms.iter().all(|event| event.issuer.as_deref() == Some(ISSUER) && event.address.is_none()));
        alarms.len()
    };
    for status in [401, 403, 401, 403, 401] {
        let id = world.connect(TOKEN).unwrap();
        world.say_of_token(http(status, &json!({"active": true, "sub": "ann"})));
        let events = world.take(id);
        let [EventKind::Refused { refusal, .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!((refusal.reason, refusal.http_response().status), (Reason::SourceUnavailable, 503));
        world.close(id);
    }
    assert_eq!(alarms(&world), 1);
    world.advance_ms(300_000);
    world.connect(TOKEN).unwrap();
    world.say_of_token(http(401, &json!({})));
    assert_eq!(alarms(&world), 1, "once in five minutes");
}

#[test]
fn retry_after_is_told_up_to_its_cap() {
    for (told, heard) in [(None, 1_000), (Some(7_000), 7_000), (Some(3_600_000), 30_000)] {
        let mut world = world();
        let id = world.connect(TOKEN).unwrap();
        let busy = HttpResponse { status: 429, content_type: None, retry_after_ms: told, body: Vec::new() };
        world.say_of_token(Answer::Response(Box::new(busy)));
        let events = world.take(id);
        let [EventKind::Refused { refusal, .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!((refusal.reason, refusal.retry_after_ms), (Reason::SourceUnavailable, Some(heard)));
    }
}

fn signed_answer(key_id: &str) -> Answer {
    let claims = json!({ "iss": ISSUER, "aud": "us", "iat": START,
        "token_introspection": { "active": true, "sub": "ann", "exp": START + 600 } });
    let token = wrap(key_id, &claims);
    let content_type = Some("application/token-introspection+jwt".to_owned());
    Answer::Response(Box::new(HttpResponse {
        status: 200,
        content_type,
        retry_after_ms: None,
        body: token.into_bytes(),
    }))
}

fn wrap(key_id: &str, claims: &Json) -> String {
    crate::shared::world::signed_by_fetched(
        &json!({ "alg": "EdDSA", "kid": key_id, "typ": "token-introspection+jwt" }),
        key_id,
        claims,
    )
}

#[test]
fn a_signed_answer_waits_for_its_key_and_the_key_is_asked_for() {
    let mut world = world_of(json!({ "signed": true }), json!({}));
    assert!(world.engine.load_keys(ISSUER, &key_set(&["k2"]), world.now));
    world.lookups();
    world.advance_ms(30_000);
    let id = world.connect(TOKEN).unwrap();
    world.say_of_token(signed_answer("k1"));
    assert_eq!(world.end(id).unwrap().0, Reason::SourceUnavailable, "not yet");
    let lookups = world.lookups();
    assert!(matches!(&lookups[..], [lookup] if matches!(&lookup.question, Question::Keys { .. })), "{lookups:?}");
    world.engine.answer(lookups[0].id, Answer::Keys(key_set(&["k1"])), world.now).unwrap();
    let id = world.opaque(signed_answer("k1"));
    assert_eq!(world.engine.identity(id).unwrap().key_id, None, "its source vouches, not a key");
    // The key is asked for at most once a cool-down.
    assert!(world.engine.load_keys(ISSUER, &key_set(&["k2"]), world.now));
    world.connect(TOKEN).unwrap();
    world.say_of_token(signed_answer("k1"));
    assert_eq!(world.lookups().len(), 0);
    assert!(world.may_say(id, "ping"), "what was vouched for stays until it is asked about again");
}

#[test]
fn an_algorithm_that_a_reload_took_off_the_list_signs_no_answer_either() {
    let mut world = world();
    world.engine.load_keys(ISSUER, &key_set(&["k1"]), world.now);
    let id = world.opaque(signed_answer("k1"));
    let mut other = issuer(json!({}));
    other[0]["algorithms"] = json!(["RS256"]);
    world.reload(&config(json!({ "issuer": other }))).unwrap();
    assert!(world.may_say(id, "ping"));
    let id = world.connect(TOKEN).unwrap();
    world.say_of_token(signed_answer("k1"));
    assert_eq!(world.end(id).unwrap().0, Reason::SourceUnavailable, "its key was fetched before");
}

#[test]
fn a_host_that_answers_itself_is_kept_only_where_an_endpoint_is_configured() {
    for configured in [true, false] {
        let mut issuer = issuer(json!({}));
        if !configured {
            issuer[0].as_object_mut().unwrap().remove("introspection");
        }
        let world = world_of(json!({}), json!({ "issuer": issuer }));
        let id = world.connect(TOKEN).unwrap();
        let asked = || {
            let mut lookups = world.lookups();
            lookups.retain(|lookup| matches!(lookup.question, Question::Introspection { .. }));
            lookups
        };
        let lookups = asked();
        assert_eq!(lookups[0].question.url().is_some(), configured);
        let word = world.vouched("ann", 600);
        world.engine.answer(lookups[0].id, Answer::Vouched(Box::new(word)), world.now).unwrap();
        assert!(world.may_say(id, "ping"));
        let id = world.connect(TOKEN).unwrap();
        let lookups = asked();
        assert_eq!(lookups.len(), usize::from(!configured));
        for lookup in lookups {
            let answer = http(200, &json!({"active": true, "sub": "ann"}));
            world.engine.answer(lookup.id, answer, world.now).unwrap();
        }
        assert_eq!(world.may_say(id, "ping"), configured, "no response is judged where no endpoint was to be asked");
    }
}

#[test]
fn explaining_a_handshake_neither_fills_nor_reads_what_is_kept() {
    let world = world();
    world.engine.load_keys(ISSUER, &key_set(&["k1"]), world.now);
    let token = token_of_fetched("k1", &world.claims("ann", 600, json!({})));
    let count =
        || world.metric("wsauth_cache_total{result=\"hit\"}") + world.metric("wsauth_cache_total{result=\"miss\"}");
    for _ in 0..3 {
        assert!(!Request::new().bearer(&token).explain(&world.engine, world.now).is_empty());
    }
    assert_eq!(count(), 0);
    world.connect(&token).unwrap();
    world.connect(&token).unwrap();
    assert_eq!((count(), world.metric("wsauth_cache_total{result=\"hit\"}")), (2, 1));
}

#[test]
fn a_verified_token_that_is_found_again_is_judged_like_the_first_time() {
    let mut world = world_of(json!({}), json!({ "messages": { "ping": "public", "a": "p:a" } }));
    world.engine.load_keys(ISSUER, &key_set(&["k1"]), world.now);
    let claims = world.claims("ann", 600, json!({ "jti": "t1", "scope": "p:a" }));
    let token = token_of_fetched("k1", &claims);
    let ids: Vec<_> = (0..3).map(|_| world.connect(&token).unwrap()).collect();
    assert!(ids.iter().all(|id| world.may_say(*id, "a")));
    let first = world.stranger().unwrap();
    assert_eq!(world.say(first, &json!({ "type": "auth", "token": token }).to_string()), Err(Withheld::Consumed));
    let identity = world.engine.identity(first).unwrap();
    assert_eq!(identity.source, wsauth::config::CredentialSource::FirstMessage, "where it stood this time");
    assert_eq!(world.refresh(ids[0], &token), Ok(Refreshed::Unchanged));
    assert_eq!(world.metric("wsauth_cache_total{result=\"miss\"}"), 1);
    let what = Revocation::Token { issuer: ISSUER, token_id: "t1" };
    assert_eq!(world.engine.revoke(what, world.now).closed, 4);
    assert_eq!(world.connect(&token).unwrap_err().reason, Reason::TokenRevoked);

    // A key that goes takes what it signed along at once, and so does the end of the token.
    let other = token_of_fetched("k1", &world.claims("bob", 600, json!({})));
    world.connect(&other).unwrap();
    world.advance_ms(599_999);
    assert!(world.connect(&other).is_ok());
    world.advance_ms(1);
    assert_eq!(world.connect(&other).unwrap_err().reason, Reason::TokenExpired);
    let third = token_of_fetched("k1", &world.claims("cat", 600, json!({})));
    world.connect(&third).unwrap();
    world.engine.load_keys(ISSUER, &key_set(&["k2"]), world.now);
    let id = world.connect(&third).unwrap();
    assert!(!world.may_say(id, "ping"), "its key is asked for");
}
