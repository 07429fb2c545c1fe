//! This file answers: what may a profile source add to a verified identity, and what not?

use serde_json::{Value as Json, json};
use wsauth::audit::AuditKind;
use wsauth::lookup::{Answer, HttpResponse, Lookup, LookupId, Question};
use wsauth::request::{Header, Peer, Upgrade};
use wsauth::{ConnectionId, EventKind, Outcome, Progress, Reason, Refreshed, Revocation, Withheld};

use crate::shared::world::{START, World, names, opaque_issuer};
use crate::shared::{ISSUER, Request, config};

const URL: &str = "https://users.example.com/{issuer}/{subject}";

/// What most worlds here have: `a` and `b` need permissions that a profile may add, `admin` one that it may not.
fn settings(profile: Json, more: Json) -> Json {
    let mut all = json!({
        "profile": { "permissions": ["p:*"], "attributes": ["plan", "name"] },
        "messages": { "ping": "public", "a": "p:a", "b": "p:b", "admin": "admin" },
        "connection": { "idle": "1d" },
    });
    for (key, value) in profile.as_object().unwrap() {
        all["profile"][key] = value.clone();
    }
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    all
}

fn world(profile: Json) -> World {
    World::new(settings(profile, json!({})))
}

fn with_sessions(profile: Json, more: Json) -> World {
    let mut all = settings(
        profile,
        json!({
            "sessions": {},
            "handshake": {
                "credentials": ["cookie"], "cookie": { "name": "__Host-ws", "holds": "session" },
                "origins": ["https://app.example.com"], "trusted_proxies": [],
            },
        }),
    );
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    World::new(all)
}

fn open_session(world: &World) -> ConnectionId {
    let request = Request::new().with("Origin", "https://app.example.com").with("Cookie", "__Host-ws=abcdef0123456789");
    request.send(&world.engine, world.now).unwrap().connection
}

/// The profile as the host tells it.
fn told(members: Json) -> Answer {
    let Json::Object(members) = members else { panic!("no object") };
    Answer::Profile(Box::new(members))
}

fn response(status: u16, body: &str) -> Answer {
    let content_type = Some("application/json".to_owned());
    Answer::Response(Box::new(HttpResponse { status, content_type, retry_after_ms: None, body: body.into() }))
}

const UNAVAILABLE: Answer = Answer::Unavailable { retry_after_ms: None };

fn answer(world: &World, answer: Answer) {
    world.engine.answer(world.lookup(), answer, world.now).unwrap();
}

/// Sleeps until something is asked.
fn next(world: &mut World) -> Lookup {
    loop {
        if let Some(lookup) = world.lookups().into_iter().next() {
            return lookup;
        }
        assert!(world.advance_to_next_deadline());
    }
}

fn pending(world: &World, token: &str) -> ConnectionId {
    let admitted = Request::new().bearer(token).send(&world.engine, world.now).unwrap();
    assert_eq!(admitted.progress, Progress::Authenticating);
    admitted.connection
}

/// Live, with this profile.
fn live(world: &World, subject: &str, seconds: u64, members: Json) -> ConnectionId {
    let id = pending(world, &world.token(subject, seconds, json!({})));
    answer(world, told(members));
    assert!(world.may_say(id, "ping"));
    id
}

fn asked_url(world: &World, subject: &str) -> Option<String> {
    let _ = pending(world, &world.token(subject, 600, json!({})));
    let lookups = world.lookups();
    let Question::Profile { issuer, subject: asked, url } = &lookups[0].question else { panic!("{lookups:?}") };
    assert_eq!((&**issuer, &**asked), (ISSUER, subject));
    url.as_ref().map(ToString::to_string)
}

fn failures(world: &World) -> Vec<(Option<Reason>, Option<u64>, String)> {
    let failed = world.audit().into_iter().filter(|event| event.kind == AuditKind::ProfileFailed);
    failed.map(|event| (event.reason, event.count, event.subject.unwrap().to_string())).collect()
}

#[test]
fn a_profile_adds_permissions_and_attributes_once_the_token_is_verified() {
    let mut world = world(json!({}));
    let id = pending(&world, &world.token("ann", 600, json!({ "scope": "p:b" })));
    assert_eq!(world.say(id, r#"{"type":"a"}"#), Err(Withheld::Hold));
    assert!(world.engine.identity(id).is_none());
    answer(&world, told(json!({ "permissions": ["p:a"], "plan": { "name": "pro" }, "other": 1 })));
    let events = world.take(id);
    assert!(matches!(&events[..], [EventKind::Ready, EventKind::Send(text)] if text.contains("auth_success")));
    assert!(world.may_say(id, "a") && world.may_say(id, "b"));
    let identity = world.engine.identity(id).unwrap();
    assert_eq!(identity.permissions, names("p:a p:b"));
    assert_eq!(identity.claims["plan"], json!({ "name": "pro" }));
    assert!(!identity.claims.contains_key("other"));
}

#[test]
fn without_a_profile_section_nobody_is_asked() {
    let world = World::new(json!({}));
    let admitted = Request::new().bearer(&world.token("ann", 600, json!({}))).send(&world.engine, world.now).unwrap();
    assert_eq!(admitted.progress, Progress::Live);
    assert!(world.lookups().is_empty());
}

/// `...userDetails` over the verified facts (REQUIREMENTS section 9).
#[test]
fn a_profile_cannot_say_who_somebody_is_or_until_when() {
    let mut world = world(json!({}));
    let id = live(
        &world,
        "ann",
        600,
        json!({
            "sub": "bob", "userId": "bob", "iss": "https://evil", "exp": 99_999_999_999_u64, "scope": "p:b admin",
            "jti": "x", "sid": "x", "client_id": "x", "tenant": "x", "aud": "x", "cnf": {}, "plan": "pro",
        }),
    );
    let identity = world.engine.identity(id).unwrap();
    assert_eq!((&*identity.issuer, &*identity.subject), (ISSUER, "ann"));
    assert_eq!(identity.expiry.as_secs(), START + 600);
    assert_eq!(
        (&identity.token_id, &identity.session_id, &identity.client_id, &identity.tenant),
        (&None, &None, &None, &None)
    );
    let claims: Vec<_> = identity.claims.keys().map(String::as_str).collect();
    assert_eq!(claims, ["aud", "exp", "iat", "iss", "plan", "sub"]);
    assert_eq!(identity.claims["sub"], "ann");
    assert!(identity.permissions.is_empty());
    assert!(!world.may_say(id, "b") && !world.may_say(id, "admin"));
    world.run_ms(600_000);
    assert_eq!(world.end(id).unwrap().0, Reason::RefreshTimeout, "at the token's own end");
}

#[test]
fn a_verified_claim_wins_over_an_attribute() {
    for verified in [json!("basic"), json!(null)] {
        let world = world(json!({}));
        let id = pending(&world, &world.token("ann", 600, json!({ "plan": verified })));
        answer(&world, told(json!({ "plan": "pro", "name": "Ann" })));
        let identity = world.engine.identity(id).unwrap();
        assert_eq!((&identity.claims["plan"], &identity.claims["name"]), (&verified, &json!("Ann")));
    }
}

#[test]
fn a_profile_cannot_add_a_permission_that_its_list_does_not_cover() {
    let world = world(json!({ "permissions": ["p:a", "q:*"] }));
    let id = live(
        &world,
        "ann",
        600,
        json!({ "permissions": ["p:a", "p:b", "admin", "*", "**", "q:*", "q:**", "q:1", "q:1:2"] }),
    );
    assert_eq!(world.engine.permissions(id).unwrap(), names("p:a q:1"));
    assert!(world.may_say(id, "a") && !world.may_say(id, "b") && !world.may_say(id, "admin"));
}

#[test]
fn permissions_needed_to_connect_may_come_from_the_profile() {
    for (members, outcome) in
        [(json!({ "permissions": "p:a" }), None), (json!({}), Some((Reason::InsufficientScope, 4007)))]
    {
        let handshake = json!({
            "credentials": ["authorization"], "trusted_proxies": [], "require_origin": false,
            "required_permissions": ["p:a"],
        });
        let mut world = World::new(settings(json!({}), json!({ "handshake": handshake })));
        let id = pending(&world, &world.token("ann", 600, json!({})));
        answer(&world, told(members));
        assert_eq!(world.end(id), outcome);
    }
}

#[test]
fn token_and_profile_together_have_at_most_256_permissions() {
    let scope: Vec<_> = (0..200).map(|n| format!("t:{n}")).collect();
    let list = |count: usize| (0..count).map(|n| format!("p:{n}")).collect::<Vec<_>>();
    for (count, optional) in [(56, false), (57, false), (57, true)] {
        let mut world = world(json!({ "optional": optional }));
        let id = pending(&world, &world.token("ann", 600, json!({ "permissions": scope })));
        answer(&world, told(json!({ "permissions": list(count) })));
        match (count, optional) {
            (56, _) => assert_eq!(world.engine.permissions(id).unwrap().len(), 256),
            (_, true) => assert_eq!(world.engine.permissions(id).unwrap().len(), 200),
            _ => assert_eq!(world.end(id), Some((Reason::SourceUnavailable, 4012))),
        }
        let wanted = if count == 56 { 0 } else { 1 };
        assert_eq!(failures(&world).len(), wanted);
    }
}

#[test]
fn no_subject_changes_the_url_that_is_asked() {
    let base = "https://users.example.com/https%3A%2F%2Fid.example.com/";
    for (subject, encoded) in [
        ("ann", "ann"),
        ("../../admin?x=1#", "..%2F..%2Fadmin%3Fx%3D1%23"),
        ("a@evil.example:80", "a%40evil.example%3A80"),
        ("{issuer}%2e\\", "%7Bissuer%7D%252e%5C"),
        ("\u{e9} ", "%C3%A9%20"),
    ] {
        let world = world(json!({ "url": URL }));
        assert_eq!(asked_url(&world, subject), Some(format!("{base}{encoded}")));
    }
    assert_eq!(asked_url(&world(json!({})), "../x"), None, "the host knows");
}

/// Encoded or not, some reader of the url would take a step up.
#[test]
fn a_subject_that_is_a_step_in_the_path_is_not_asked_about() {
    for subject in [".", ".."] {
        let strict = world(json!({ "url": URL }));
        let refusal = strict.connect(&strict.token(subject, 600, json!({}))).unwrap_err();
        assert_eq!(refusal.reason, Reason::SourceUnavailable);
        assert!(strict.lookups().is_empty());
        assert_eq!(failures(&strict), [(Some(Reason::SourceUnavailable), Some(1), subject.to_owned())]);
        let query = world(json!({ "url": "https://users.example.com/?of={subject}" }));
        assert_eq!(asked_url(&query, subject), Some(format!("https://users.example.com/?of={subject}")));
    }
}

#[test]
fn an_http_source_answers_200_with_json_or_404_for_nobody() {
    for (given, outcome) in [
        (response(200, r#"{"permissions":["p:a"]}"#), Ok(true)),
        (response(404, "gone"), Ok(false)),
        (response(200, "{}"), Ok(false)),
        (response(200, r#"{"permissions":["p:a"],"permissions":["p:a"]}"#), Err(4012)),
        (response(200, r#"["p:a"]"#), Err(4012)),
        (response(302, r#"{"permissions":["p:a"]}"#), Err(4012)),
        (response(403, "{}"), Err(4012)),
        (response(500, "{}"), Err(4012)),
        (UNAVAILABLE, Err(4012)),
        (Answer::Keys(b"{}".to_vec()), Err(4012)),
        (Answer::Vouched(Box::new(world(json!({})).vouched("ann", 600))), Err(4012)),
    ] {
        let mut world = world(json!({ "url": URL }));
        let id = pending(&world, &world.token("ann", 600, json!({})));
        answer(&world, given.clone());
        match outcome {
            Ok(allowed) => {
                assert_eq!((world.may_say(id, "ping"), world.may_say(id, "a")), (true, allowed), "{given:?}")
            }
            Err(code) => assert_eq!(world.end(id), Some((Reason::SourceUnavailable, code)), "{given:?}"),
        }
    }
}

#[test]
fn a_profile_that_must_be_had_refuses_when_it_cannot() {
    let mut world = world(json!({}));
    let id = pending(&world, &world.token("ann", 600, json!({})));
    answer(&world, Answer::Unavailable { retry_after_ms: Some(7_000) });
    let events = world.take(id);
    let [EventKind::Refused { refusal, code }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((refusal.reason, refusal.retry_after_ms, *code), (Reason::SourceUnavailable, Some(7_000), 4012));
    assert_eq!(refusal.row().http, 503);
    assert_eq!(failures(&world), [(Some(Reason::SourceUnavailable), Some(1), "ann".to_owned())]);
}

/// Nobody may send our clients away for a day.
#[test]
fn what_is_made_of_a_retry_after_is_capped() {
    let mut world = world(json!({}));
    let id = pending(&world, &world.token("ann", 600, json!({})));
    answer(&world, Answer::Unavailable { retry_after_ms: Some(86_400_000) });
    let events = world.take(id);
    let [EventKind::Refused { refusal, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(refusal.retry_after_ms, Some(30_000));
}

#[test]
fn an_optional_profile_is_done_without_and_that_is_audited() {
    for given in [UNAVAILABLE, told(json!({ "permissions": 7 }))] {
        let mut world = world(json!({ "optional": true }));
        let id = pending(&world, &world.token("ann", 600, json!({ "scope": "p:b" })));
        answer(&world, given);
        assert!(world.may_say(id, "b") && !world.may_say(id, "a"));
        assert!(matches!(world.take(id)[0], EventKind::Ready));
        assert_eq!(failures(&world), [(Some(Reason::SourceUnavailable), Some(1), "ann".to_owned())]);
        // What could not be had is not remembered.
        let _ = pending(&world, &world.token("ann", 600, json!({})));
        assert_eq!(world.lookups().len(), 1);
    }
}

#[test]
fn who_is_not_answered_for_in_time_is_refused_or_goes_without() {
    for optional in [false, true] {
        let mut world = world(json!({ "optional": optional }));
        let id = pending(&world, &world.token("ann", 600, json!({})));
        world.run_ms(1_999);
        assert_eq!(world.say(id, r#"{"type":"ping"}"#), Err(Withheld::Hold));
        world.run_ms(1);
        assert_eq!(world.may_say(id, "ping"), optional);
        let end = (!optional).then_some((Reason::SourceUnavailable, 4012));
        assert_eq!(world.end(id), end);
        assert_eq!(failures(&world).len(), 1);
    }
}

#[test]
fn a_handshake_deadline_shorter_than_a_lookup_is_kept() {
    let handshake = json!({
        "credentials": ["authorization"], "trusted_proxies": [], "require_origin": false, "lookup_deadline": "1s",
    });
    let mut world = World::new(settings(json!({ "optional": true }), json!({ "handshake": handshake })));
    let id = pending(&world, &world.token("ann", 600, json!({})));
    world.run_ms(1_000);
    assert!(world.may_say(id, "ping"), "without, at the deadline");
}

#[test]
fn a_subject_that_its_source_calls_disabled_is_refused_even_where_the_profile_is_optional() {
    for optional in [false, true] {
        let mut world = world(json!({ "optional": optional }));
        let id = pending(&world, &world.token("ann", 600, json!({})));
        answer(&world, Answer::Inactive);
        assert_eq!(world.end(id), Some((Reason::TokenInactive, 4001)));
        assert_eq!(failures(&world), [(Some(Reason::TokenInactive), Some(1), "ann".to_owned())]);
    }
}

#[test]
fn two_connections_of_one_subject_ask_once_and_a_third_asks_nothing() {
    let mut world = world(json!({ "cache": "60s" }));
    let tokens = [world.token("ann", 600, json!({})), world.token("ann", 700, json!({}))];
    let ids = tokens.map(|token| pending(&world, &token));
    let other = pending(&world, &world.token("bob", 600, json!({})));
    let lookups = world.lookups();
    assert_eq!(lookups.len(), 2, "one a subject");
    world.engine.answer(lookups[0].id, told(json!({ "permissions": "p:a" })), world.now).unwrap();
    assert!(ids.iter().all(|id| world.may_say(*id, "a")));
    assert_eq!(world.say(other, r#"{"type":"a"}"#), Err(Withheld::Hold));
    world.advance_ms(59_999);
    let third = world.live("ann", 600);
    assert!(world.may_say(third, "a"));
    assert!(world.lookups().is_empty());
    world.step_wall(-3_600_000);
    world.advance_ms(1);
    let _ = pending(&world, &world.token("ann", 600, json!({})));
    assert_eq!(world.lookups().len(), 1, "the cache is over by the monotonic clock");
    world.poll();
}

#[test]
fn a_reload_forgets_what_was_known_and_distrusts_what_is_asked() {
    let mut world = world(json!({ "url": URL }));
    let id = pending(&world, &world.token("ann", 600, json!({})));
    answer(&world, response(200, r#"{"permissions":["p:a"]}"#));
    assert!(world.may_say(id, "a"));
    let late = pending(&world, &world.token("bob", 600, json!({})));
    let lookup = world.lookup();
    let elsewhere = json!({ "url": "https://others.example.com/{subject}" });
    world.reload(&config(settings(elsewhere, json!({})))).unwrap();
    world.engine.answer(lookup, response(200, r#"{"permissions":["p:a"]}"#), world.now).unwrap();
    assert_eq!(world.end(late), Some((Reason::SourceUnavailable, 4012)));
    let _ = pending(&world, &world.token("ann", 600, json!({})));
    assert_eq!(world.lookups().len(), 1);
    // No source any more: nothing to wait for, and nothing added.
    let last = pending(&world, &world.token("cid", 600, json!({})));
    let lookup = world.lookup();
    world.reload(&config(json!({ "messages": { "ping": "public", "a": "p:a" } }))).unwrap();
    world.engine.answer(lookup, response(200, r#"{"permissions":["p:a"]}"#), world.now).unwrap();
    assert!(world.may_say(last, "ping") && !world.may_say(last, "a"));
}

#[test]
fn who_is_revoked_while_the_profile_is_awaited_is_refused() {
    for what in [
        Revocation::Subject { issuer: ISSUER, subject: "ann", issued_before: None },
        Revocation::Token { issuer: ISSUER, token_id: "t" },
    ] {
        let mut world = world(json!({}));
        let token = world.token("ann", 600, json!({ "jti": "t" }));
        let id = pending(&world, &token);
        world.engine.revoke(what, world.now);
        answer(&world, told(json!({ "permissions": "p:a" })));
        assert!(!world.may_say(id, "ping"));
        assert_eq!(world.end(id), Some((Reason::TokenRevoked, 4001)));
        let _ = world.engine.revoke(what, world.now);
        world.run_ms(60_000);
        assert_eq!(world.connect(&token).unwrap_err().reason, Reason::TokenRevoked);
        assert!(world.lookups().is_empty(), "who is revoked is not asked about");
    }
}

#[test]
fn a_connection_cut_off_while_its_profile_is_awaited_hears_nothing_of_it() {
    let mut world = world(json!({}));
    let id = pending(&world, &world.token("ann", 600, json!({})));
    world.engine.revoke(Revocation::Connection(id), world.now);
    answer(&world, told(json!({})));
    assert_eq!(world.end(id), Some((Reason::Revoked, 4006)));
    assert!(world.engine.identity(id).is_none());
    let id = pending(&world, &world.token("bob", 600, json!({})));
    world.engine.revoke(Revocation::Connection(id), world.now);
    world.run_ms(30_000);
    assert!(failures(&world).is_empty(), "nobody waits any more");
}

#[test]
fn a_token_that_expires_while_the_profile_is_awaited_is_refused_by_either_clock() {
    for (step, passed) in [(0, 1_000), (-3_600_000, 1_000), (1_000, 0)] {
        for optional in [false, true] {
            let mut world = world(json!({ "optional": optional }));
            let id = pending(&world, &world.token("ann", 1, json!({})));
            world.step_wall(step);
            world.advance_ms(passed);
            answer(&world, told(json!({})));
            assert!(!world.may_say(id, "ping"));
            assert_eq!(world.end(id), Some((Reason::TokenExpired, 4002)), "{step}");
        }
    }
}

#[test]
fn an_issuer_removed_while_the_profile_is_awaited_vouches_for_nobody() {
    let mut world = World::new(settings(json!({}), json!({ "issuer": opaque_issuer() })));
    let id = pending(&world, "opaque-0123456789abcdef");
    let word = world.vouched("ann", 600);
    answer(&world, Answer::Vouched(Box::new(word)));
    let lookup = world.lookup();
    let mut other = opaque_issuer();
    other[0]["issuer"] = json!("https://other.example.com");
    world.reload(&config(settings(json!({}), json!({ "issuer": other })))).unwrap();
    world.engine.answer(lookup, told(json!({})), world.now).unwrap();
    assert_eq!(world.end(id).unwrap().0, Reason::IssuerUnknown);
}

#[test]
fn who_leaves_while_the_profile_is_awaited_gives_everything_back() {
    let mut world = World::new(settings(json!({}), json!({ "limits": { "connections_per_address": 3 } })));
    for _ in 0..20 {
        let token = world.token("ann", 600, json!({}));
        let ids: Vec<_> = (0..3).map(|_| pending(&world, &token)).collect();
        assert_eq!(world.connect(&token).unwrap_err().reason, Reason::AddressConnections);
        assert_eq!(world.metric("wsauth_unauthenticated_connections"), 3);
        for id in ids {
            assert!(world.close(id) && !world.close(id));
        }
        assert_eq!(world.metric("wsauth_unauthenticated_connections"), 0);
        assert_eq!(world.metric("wsauth_connections"), 0);
        assert_eq!(world.metric("wsauth_tracked_addresses"), 0);
    }
    answer(&world, told(json!({})));
    assert_eq!(world.poll(), 0);
}

#[test]
fn a_first_message_waits_for_the_profile_too_and_a_second_breaks_the_protocol() {
    let handshake = json!({ "credentials": ["first_message"], "trusted_proxies": [], "require_origin": false });
    let mut world = World::new(settings(json!({}), json!({ "handshake": handshake })));
    let id = world.stranger().unwrap();
    let auth = json!({ "type": "auth", "token": world.token("ann", 600, json!({})) }).to_string();
    assert_eq!(world.say(id, &auth), Err(Withheld::Consumed));
    assert_eq!(world.say(id, r#"{"type":"ping"}"#), Err(Withheld::Hold));
    answer(&world, told(json!({ "permissions": "p:a" })));
    let events = world.take(id);
    assert!(matches!(&events[..], [EventKind::Send(_), EventKind::Ready]), "{events:?}");
    assert!(world.may_say(id, "a"));
    assert!(world.say(id, &auth).is_err());
    assert_eq!(world.end(id), Some((Reason::ProtocolError, 4014)));
}

#[test]
fn an_opaque_token_and_a_session_get_their_profile_after_their_source_vouched() {
    let world = with_sessions(json!({}), json!({}));
    let id = open_session(&world);
    let word = world.vouched("ann", 600);
    answer(&world, Answer::Vouched(Box::new(word)));
    assert_eq!(world.say(id, r#"{"type":"a"}"#), Err(Withheld::Hold));
    answer(&world, told(json!({ "permissions": "p:a" })));
    assert!(world.may_say(id, "a"));

    let world = World::new(settings(json!({}), json!({ "issuer": opaque_issuer() })));
    let id = pending(&world, "opaque-0123456789abcdef");
    let word = world.vouched("ann", 600);
    answer(&world, Answer::Vouched(Box::new(word)));
    answer(&world, told(json!({ "permissions": "p:a" })));
    assert!(world.may_say(id, "a"));
}

#[test]
fn a_refresh_waits_for_the_profile_and_the_old_grant_stays_meanwhile() {
    let mut world = world(json!({}));
    let id = live(&world, "ann", 600, json!({ "permissions": "p:a", "plan": "pro" }));
    world.take(id);
    world.advance_ms(60_000);
    assert_eq!(world.refresh(id, &world.token("ann", 900, json!({ "scope": "t" }))), Ok(Refreshed::Pending));
    assert!(world.may_say(id, "a"));
    answer(&world, told(json!({ "permissions": "p:b" })));
    assert!(!world.may_say(id, "a") && world.may_say(id, "b"));
    let texts = world.texts(id);
    assert_eq!(
        (&texts[0]["type"], &texts[0]["added"], &texts[0]["removed"]),
        (&json!("token_refreshed"), &json!(["p:b", "t"]), &json!(["p:a"]))
    );
    let identity = world.engine.identity(id).unwrap();
    assert_eq!(identity.expiry, world.now.wall.plus(900_000));
    assert!(!identity.claims.contains_key("plan"), "what the profile does not say any more is gone");
}

#[test]
fn a_refresh_without_a_profile_is_refused_as_unavailable_and_is_no_attempt() {
    for answered in [true, false] {
        let mut world = world(json!({}));
        let id = live(&world, "ann", 600, json!({ "permissions": "p:a" }));
        world.advance_ms(60_000);
        for _ in 0..5 {
            world.take(id);
            assert_eq!(world.refresh(id, &world.token("ann", 900, json!({}))), Ok(Refreshed::Pending));
            if answered {
                answer(&world, UNAVAILABLE);
            } else {
                world.run_ms(2_000);
                assert_eq!(world.lookups().len(), 0);
            }
            let texts = world.texts(id);
            assert_eq!((&texts[0]["type"], &texts[0]["attempts_left"]), (&json!("token_refresh_failed"), &json!(3)));
            assert!(world.may_say(id, "a"));
        }
        assert_eq!(world.engine.identity(id).unwrap().expiry.as_secs(), START + 600);
    }
}

#[test]
fn a_refresh_goes_on_without_an_optional_profile_and_what_it_added_is_gone() {
    let mut world = world(json!({ "optional": true }));
    let id = live(&world, "ann", 600, json!({ "permissions": "p:a", "plan": "pro" }));
    world.advance_ms(60_000);
    world.refresh(id, &world.token("ann", 900, json!({}))).unwrap();
    answer(&world, UNAVAILABLE);
    let identity = world.engine.identity(id).unwrap();
    assert_eq!(identity.expiry, world.now.wall.plus(900_000));
    assert!(identity.permissions.is_empty() && !identity.claims.contains_key("plan"));
    assert!(!world.may_say(id, "a"));
    assert_eq!(failures(&world).len(), 1);
    assert!(world.end(id).is_none());
}

#[test]
fn a_subject_disabled_before_its_refresh_keeps_nothing_but_its_time() {
    let mut world = world(json!({}));
    let id = live(&world, "ann", 600, json!({}));
    world.advance_ms(60_000);
    for _ in 0..3 {
        world.refresh(id, &world.token("ann", 900, json!({}))).unwrap();
        answer(&world, Answer::Inactive);
    }
    assert_eq!(world.end(id), Some((Reason::RefreshFailed, 4004)));
}

/// RULES 28, although the claims in force are more than the token's.
#[test]
fn the_same_token_again_changes_nothing_and_asks_nothing() {
    let mut world = world(json!({}));
    let token = world.token("ann", 600, json!({}));
    let id = pending(&world, &token);
    answer(&world, told(json!({ "permissions": "p:a", "plan": "pro" })));
    world.advance_ms(61_000);
    assert_eq!(world.refresh(id, &token), Ok(Refreshed::Unchanged));
    assert!(world.lookups().is_empty());
    assert!(world.may_say(id, "a"));
    assert_eq!(world.engine.identity(id).unwrap().claims["plan"], "pro");
    let other = world.token("ann", 400, json!({}));
    assert_eq!(world.refresh(id, &other), Err(Reason::ExpiryNotLater));
    assert_eq!(world.refresh(id, &world.token("bob", 900, json!({}))), Err(Reason::IdentityMismatch));
    assert!(world.lookups().is_empty(), "what is refused anyway is not asked about");
    world.poll();
}

#[test]
fn a_refresh_revoked_while_its_profile_is_awaited_changes_nothing() {
    let mut world = world(json!({}));
    let id = live(&world, "ann", 600, json!({ "permissions": "p:a" }));
    world.advance_ms(60_000);
    world.refresh(id, &world.token("ann", 900, json!({ "jti": "next" }))).unwrap();
    world.engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "next" }, world.now);
    answer(&world, told(json!({ "permissions": "p:b" })));
    assert!(world.may_say(id, "a") && !world.may_say(id, "b"));
    world.advance_ms(61_000);
    world.refresh(id, &world.token("ann", 900, json!({}))).unwrap();
    world.engine.revoke(Revocation::Subject { issuer: ISSUER, subject: "ann", issued_before: None }, world.now);
    answer(&world, told(json!({ "permissions": "p:b" })));
    assert_eq!(world.end(id), Some((Reason::Revoked, 4006)));
}

#[test]
fn of_two_refreshes_the_later_counts_whichever_waits_for_its_profile() {
    let mut world = World::new(settings(json!({}), json!({ "issuer": opaque_issuer() })));
    let id = live(&world, "ann", 600, json!({}));
    world.advance_ms(60_000);
    // Both wait for the same profile.
    world.refresh(id, &world.token("ann", 800, json!({}))).unwrap();
    world.refresh(id, &world.token("ann", 900, json!({}))).unwrap();
    answer(&world, told(json!({})));
    assert_eq!(world.engine.identity(id).unwrap().expiry, world.now.wall.plus(900_000));
    // The later one waits for its source: the profile of the earlier one is of no use.
    world.advance_ms(61_000);
    world.refresh(id, &world.token("ann", 1_000, json!({}))).unwrap();
    let profile = world.lookup();
    world.refresh(id, "opaque-0123456789abcdef").unwrap();
    let source = world.lookup();
    world.engine.answer(profile, told(json!({ "permissions": "p:a" })), world.now).unwrap();
    assert!(!world.may_say(id, "a"));
    let word = world.vouched("ann", 2_000);
    world.engine.answer(source, Answer::Vouched(Box::new(word)), world.now).unwrap();
    assert!(world.may_say(id, "a"));
    assert_eq!(world.engine.identity(id).unwrap().expiry, world.now.wall.plus(2_000_000));
}

#[test]
fn a_token_that_waits_for_its_profile_takes_the_place_of_one_that_waits_for_its_source() {
    let mut world = World::new(settings(json!({}), json!({ "issuer": opaque_issuer() })));
    let id = live(&world, "ann", 600, json!({}));
    world.advance_ms(61_000);
    world.refresh(id, "opaque-0123456789abcdef").unwrap();
    let source = world.lookup();
    world.refresh(id, &world.token("ann", 900, json!({}))).unwrap();
    let profile = world.lookup();
    let word = world.vouched("ann", 800);
    world.engine.answer(source, Answer::Vouched(Box::new(word)), world.now).unwrap();
    world.engine.answer(profile, told(json!({})), world.now).unwrap();
    assert_eq!(world.types(id), ["auth_success", "token_refreshed"]);
    assert_eq!(world.engine.identity(id).unwrap().expiry, world.now.wall.plus(900_000));
    // And one that is in force already makes those that wait pointless.
    world.advance_ms(61_000);
    world.refresh(id, &world.token("ann", 1_000, json!({}))).unwrap();
    let late = world.lookup();
    let token = world.token("ann", 2_000, json!({}));
    assert_eq!(world.engine.refresh_subject(token.as_bytes(), world.now), Ok(1));
    world.engine.answer(late, told(json!({})), world.now).unwrap();
    assert_eq!(world.types(id), ["token_refreshed"], "and no failure");
}

#[test]
fn a_profile_that_came_with_a_refresh_is_the_one_kept() {
    let mut world = world(json!({ "cache": "1s" }));
    let id = live(&world, "ann", 600, json!({ "permissions": "p:a" }));
    world.advance_ms(60_000);
    world.refresh(id, &world.token("ann", 900, json!({}))).unwrap();
    answer(&world, told(json!({ "permissions": "p:b" })));
    world.advance_ms(2_000);
    let token = world.token("ann", 1_200, json!({}));
    assert_eq!(world.engine.refresh_subject(token.as_bytes(), world.now), Ok(1));
    assert!(!world.may_say(id, "a") && world.may_say(id, "b"));
}

#[test]
fn a_profile_that_came_when_the_source_confirmed_is_the_one_kept() {
    let mut world = World::new(settings(json!({ "cache": "1s" }), json!({ "issuer": opaque_issuer() })));
    let id = pending(&world, "opaque-0123456789abcdef");
    let word = world.vouched("ann", 600);
    answer(&world, Answer::Vouched(Box::new(word)));
    answer(&world, told(json!({ "permissions": "p:a" })));
    let lookup = next(&mut world);
    let word = world.vouched("ann", 900);
    world.engine.answer(lookup.id, Answer::Vouched(Box::new(word)), world.now).unwrap();
    answer(&world, told(json!({ "permissions": "p:b" })));
    world.advance_ms(2_000);
    let token = world.token("ann", 1_200, json!({}));
    assert_eq!(world.engine.refresh_subject(token.as_bytes(), world.now), Ok(1));
    assert!(!world.may_say(id, "a") && world.may_say(id, "b"));
}

#[test]
fn what_a_profile_gains_at_a_refresh_is_left_out_where_widening_is_refused() {
    for widen in [true, false] {
        let mut world = World::new(settings(json!({}), json!({ "refresh": { "widen": widen } })));
        let id = live(&world, "ann", 600, json!({ "permissions": "p:a" }));
        world.advance_ms(61_000);
        world.refresh(id, &world.token("ann", 900, json!({}))).unwrap();
        answer(&world, told(json!({ "permissions": "p:a p:b" })));
        assert!(world.may_say(id, "a"), "taken, as the client asked for nothing more");
        assert_eq!(world.may_say(id, "b"), widen);
        assert_eq!(world.engine.identity(id).unwrap().expiry, world.now.wall.plus(900_000));
        world.advance_ms(1_000);
        let wider = world.refresh(id, &world.token("ann", 1_000, json!({ "scope": "p:c" })));
        assert_eq!(wider.is_ok(), widen, "a token that grants more is refused as ever");
    }
}

#[test]
fn refresh_subject_adds_the_profile_that_each_connection_keeps() {
    let mut world = World::new(settings(json!({ "cache": "1s" }), json!({})));
    let id = live(&world, "ann", 600, json!({ "permissions": "p:a", "plan": "pro" }));
    world.advance_ms(60_000);
    let token = world.token("ann", 900, json!({}));
    assert_eq!(world.engine.refresh_subject(token.as_bytes(), world.now), Ok(1));
    assert!(world.lookups().is_empty());
    assert!(world.may_say(id, "a"));
    assert_eq!(world.engine.identity(id).unwrap().claims["plan"], "pro");
    // Another connection learnt more since: the newer profile counts for both.
    world.advance_ms(60_000);
    let other = live(&world, "ann", 900, json!({ "permissions": "p:b", "plan": "pro" }));
    world.advance_ms(500);
    let token = world.token("ann", 1_000, json!({}));
    assert_eq!(world.engine.refresh_subject(token.as_bytes(), world.now), Ok(2));
    for id in [id, other] {
        assert!(!world.may_say(id, "a") && world.may_say(id, "b"));
    }
    // What the configuration does not allow any more is not added again.
    let narrow = settings(json!({ "permissions": ["p:z"], "attributes": [] }), json!({}));
    world.reload(&config(narrow)).unwrap();
    world.advance_ms(1_000);
    let token = world.token("ann", 1_100, json!({}));
    assert_eq!(world.engine.refresh_subject(token.as_bytes(), world.now), Ok(2));
    assert!(!world.may_say(id, "b"));
    assert!(!world.engine.identity(id).unwrap().claims.contains_key("plan"));
}

#[test]
fn a_session_confirmed_again_gets_its_profile_again() {
    let mut world = with_sessions(json!({}), json!({}));
    let id = open_session(&world);
    let word = world.vouched("ann", 600);
    answer(&world, Answer::Vouched(Box::new(word)));
    answer(&world, told(json!({ "permissions": "p:a" })));
    let lookup = next(&mut world);
    let word = world.vouched("ann", 900);
    world.engine.answer(lookup.id, Answer::Vouched(Box::new(word)), world.now).unwrap();
    let asked = next(&mut world);
    assert!(matches!(asked.question, Question::Profile { .. }));
    assert!(world.may_say(id, "a"), "until it is answered");
    world.engine.answer(asked.id, told(json!({ "permissions": "p:b" })), world.now).unwrap();
    assert!(!world.may_say(id, "a") && world.may_say(id, "b"));
    assert_eq!(world.engine.identity(id).unwrap().expiry, world.now.wall.plus(900_000));
}

/// Lives on, answering sessions with a good word and profiles as told; how it ended.
fn live_on(world: &mut World, id: ConnectionId, seconds: u64, profile: &Answer) -> Option<(Reason, u16)> {
    for _ in 0..seconds {
        world.run_ms(1_000);
        for lookup in world.lookups() {
            let given = match lookup.question {
                Question::Profile { .. } => profile.clone(),
                _ => Answer::Vouched(Box::new(world.vouched("ann", 900))),
            };
            world.engine.answer(lookup.id, given, world.now).unwrap();
            for lookup in world.lookups() {
                world.engine.answer(lookup.id, profile.clone(), world.now).unwrap();
            }
        }
    }
    world.end(id)
}

#[test]
fn a_session_confirmed_without_its_profile_stays_as_it_was_and_ends_with_4012() {
    for (optional, given, ends) in [
        (false, UNAVAILABLE, Some((Reason::AuthenticationUnavailable, 4012))),
        (true, UNAVAILABLE, None),
        (true, Answer::Inactive, Some((Reason::Revoked, 4006))),
        (false, told(json!({ "permissions": "p:a" })), None),
    ] {
        let mut world = with_sessions(json!({ "optional": optional }), json!({}));
        let id = open_session(&world);
        let word = world.vouched("ann", 600);
        answer(&world, Answer::Vouched(Box::new(word)));
        answer(&world, told(json!({ "permissions": "p:a" })));
        assert_eq!(
            live_on(&mut world, id, 599, &given).is_some(),
            ends.is_some_and(|(reason, _)| reason == Reason::Revoked)
        );
        let kept = !optional || ends.is_some();
        if ends.is_none_or(|(reason, _)| reason != Reason::Revoked) {
            assert_eq!(world.may_say(id, "a"), kept, "an optional profile is done without");
            assert_eq!(live_on(&mut world, id, 2, &given), ends);
        } else {
            assert!(!world.may_say(id, "ping"));
        }
    }
}

/// The word of a source about somebody else must not wait for a profile that may never come.
#[test]
fn a_session_that_became_another_users_is_cut_off_before_any_profile_is_asked() {
    let mut world = with_sessions(json!({}), json!({}));
    let id = open_session(&world);
    let word = world.vouched("ann", 600);
    answer(&world, Answer::Vouched(Box::new(word)));
    answer(&world, told(json!({})));
    let lookup = next(&mut world);
    let word = world.vouched("bob", 900);
    world.engine.answer(lookup.id, Answer::Vouched(Box::new(word)), world.now).unwrap();
    assert_eq!(world.end(id), Some((Reason::Revoked, 4006)));
    assert!(world.lookups().is_empty());
}

#[test]
fn a_refresh_that_waits_for_its_profile_is_not_displaced_by_the_source_that_is_asked_again() {
    let mut world = World::new(settings(json!({}), json!({ "issuer": opaque_issuer() })));
    let id = pending(&world, "opaque-0123456789abcdef");
    let word = world.vouched("ann", 600);
    answer(&world, Answer::Vouched(Box::new(word)));
    answer(&world, told(json!({})));
    let lookup = next(&mut world);
    world.refresh(id, &world.token("ann", 2_000, json!({}))).unwrap();
    let profile = world.lookup();
    let word = world.vouched("ann", 900);
    world.engine.answer(lookup.id, Answer::Vouched(Box::new(word)), world.now).unwrap();
    world.engine.answer(profile, told(json!({ "permissions": "p:a" })), world.now).unwrap();
    assert!(world.may_say(id, "a"));
    assert_eq!(world.engine.identity(id).unwrap().expiry.as_secs(), world.now.wall.as_secs() + 2_000);
}

#[test]
fn permissions_set_by_the_host_hold_over_the_profile_until_the_next_refresh() {
    let mut world = world(json!({}));
    let id = live(&world, "ann", 600, json!({ "permissions": "p:a" }));
    world.engine.set_permissions(id, &names("p:b"), world.now).unwrap();
    assert!(!world.may_say(id, "a") && world.may_say(id, "b"));
    world.advance_ms(61_000);
    world.refresh(id, &world.token("ann", 900, json!({}))).unwrap();
    answer(&world, told(json!({ "permissions": "p:a" })));
    assert!(world.may_say(id, "a") && !world.may_say(id, "b"));
}

#[test]
fn explain_says_that_a_profile_must_be_asked_for() {
    let world = world(json!({}));
    let token = world.token("ann", 600, json!({}));
    let explain = |world: &World| {
        let bearer = format!("Bearer {token}");
        let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Request::new().headers;
        headers.push((b"Authorization".to_vec(), bearer.into_bytes()));
        let headers: Vec<_> = headers.iter().map(|(name, value)| Header { name, value }).collect();
        let peer = Peer::Ip([203, 0, 113, 7].into());
        let upgrade = Upgrade { method: b"GET", target: b"/ws", headers: &headers, peer };
        world.engine.explain(&upgrade, world.now)
    };
    let steps = explain(&world);
    let last = steps.last().unwrap();
    assert_eq!((last.name, last.outcome), ("profile", Outcome::NeedsLookup));
    assert!(world.lookups().is_empty(), "explaining asks nobody");
    let _ = live(&world, "ann", 600, json!({ "permissions": "p:a" }));
    let steps = explain(&world);
    let permissions = steps.iter().find(|step| step.name == "permissions").unwrap();
    assert_eq!((permissions.outcome, permissions.detail.as_str()), (Outcome::Passed, "p:a"));
}

#[test]
fn a_late_answer_changes_nothing() {
    let mut world = world(json!({}));
    let id = pending(&world, &world.token("ann", 600, json!({})));
    let lookup: LookupId = world.lookup();
    world.run_ms(2_000);
    assert_eq!(world.engine.answer(lookup, told(json!({})), world.now), Err(Reason::MisuseHandle));
    assert_eq!(world.end(id), Some((Reason::SourceUnavailable, 4012)));
}

#[test]
fn too_many_questions_refuse_or_go_without() {
    for optional in [false, true] {
        let mut world = world(json!({ "optional": optional }));
        for n in 0..10_000 {
            let id = pending(&world, &world.token(&format!("u{n}"), 600, json!({})));
            assert!(world.close(id));
        }
        let token = world.token("last", 600, json!({}));
        match world.connect(&token) {
            Ok(id) => assert!(optional && world.may_say(id, "ping")),
            Err(refusal) => assert!(!optional && refusal.reason == Reason::SourceUnavailable),
        }
    }
}
