//! This file answers: do two engines of one process know nothing of each other?

use serde_json::json;
use wsauth::{Reason, Revocation};

use crate::shared::world::{World, key_set, remote_issuer, token_of_fetched};
use crate::shared::{ISSUER, config};

/// X63.
#[test]
fn two_engines_in_one_process_share_nothing() {
    let settings = || {
        json!({
            "issuer": remote_issuer(),
            "limits": { "connections_per_user": 2, "user_policy": "reject",
                "messages_per_user": { "count": 1, "per": "60s", "burst": 3 } },
        })
    };
    let (mut one, two) = (World::new(settings()), World::new(settings()));
    let token = token_of_fetched("k1", &one.claims("ann", 600, json!({})));
    assert!(one.engine.load_keys(ISSUER, &key_set(&["k1"]), one.now));
    let here = one.connect(&token).unwrap();
    // The other one has no keys yet, though the token was found good here.
    let there = two.connect(&token).unwrap();
    assert!(!two.may_say(there, "ping"));
    two.engine.answer(two.lookup(), wsauth::lookup::Answer::Keys(key_set(&["k1"])), two.now).unwrap();

    while one.may_say(here, "ping") {}
    assert!(two.may_say(there, "ping"), "a budget spent there is not spent here");
    let _ = one.connect(&token).unwrap();
    assert!(one.connect(&token).is_err(), "the third of one user");
    let _ = two.connect(&token).unwrap();

    let subject = Revocation::Subject { issuer: ISSUER, subject: "ann", issued_before: None };
    assert_eq!(one.engine.revoke(subject, one.now).closed, 2);
    assert_eq!(one.end(here).map(|(reason, _)| reason), Some(Reason::Revoked));
    assert!(two.may_say(there, "ping"));
    one.reload(&config(json!({ "messages": { "other": "public" } }))).unwrap();
    assert!(two.may_say(there, "ping"));
}
