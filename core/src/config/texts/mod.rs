//! This file answers: what does each mistake look like to the operator?

mod handshake;
mod issuer;
mod sections;
mod sources;

use proptest::prelude::*;

use super::{Config, KeysConfig, NoSecretSource, RateConfig, RuleConfig, SecretSource, Value, known};
use crate::token::Algorithm;

/// A disk and an environment with a few things on them.
struct Disk;

impl SecretSource for Disk {
    fn env(&self, name: &str) -> Result<Vec<u8>, String> {
        match name {
            "WS_SECRET" => Ok(b"0123456789abcdef0123456789abcdef\n".to_vec()),
            "WS_SHORT" => Ok(b"hunter2".to_vec()),
            _ => Err("not set".to_owned()),
        }
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        match path {
            "jwks.json" => Ok(br#"{"keys":[{"kty":"EC","crv":"P-256"}]}"#.to_vec()),
            "public.pem" => Ok(b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n".to_vec()),
            "private.pem" => Ok(b"-----BEGIN PRIVATE KEY-----\nMFkw\n-----END PRIVATE KEY-----\n".to_vec()),
            _ => Err("no such file".to_owned()),
        }
    }
}

const ISSUER: &str = r#"[[issuer]]
issuer = "https://id.example.com"
audience = "wss://live.example.com"
algorithms = ["RS256"]
keys = { jwks_url = "https://id.example.com/jwks" }
"#;

const HANDSHAKE: &str = r#"[handshake]
origins = ["https://app.example.com"]
credentials = ["authorization"]
trusted_proxies = []
"#;

fn load(text: &str) -> Result<Config, String> {
    Config::from_toml(text, &Disk).map_err(|problem| problem.to_string())
}

/// The problem of a text that starts with a good issuer (lines 1 to 5) and handshake (6 to 9).
fn problem(rest: &str) -> String {
    load(&format!("{ISSUER}{HANDSHAKE}{rest}")).unwrap_err()
}

/// The problem when one line of the good text is replaced.
fn replaced(line: &str, by: &str) -> String {
    let good = format!("{ISSUER}{HANDSHAKE}");
    assert!(good.contains(line), "{line}");
    load(&good.replacen(line, by, 1)).unwrap_err()
}

const KEYS: &str = "keys = { jwks_url = \"https://id.example.com/jwks\" }";
const RS256: &str = "algorithms = [\"RS256\"]";
const BEARER: &str = "credentials = [\"authorization\"]";
const ORIGINS: &str = "origins = [\"https://app.example.com\"]";

#[test]
fn the_smallest_text_has_the_defaults_of_the_design() {
    let config = load(&format!("{ISSUER}{HANDSHAKE}")).unwrap();
    let [issuer] = config.issuers.as_slice() else { panic!() };
    assert_eq!(issuer.audience, ["wss://live.example.com"]);
    assert_eq!(issuer.algorithms, [Algorithm::RS256]);
    assert_eq!(issuer.permissions_claims, ["permissions", "scope"]);
    assert_eq!((issuer.leeway_ms, issuer.expiry_leeway_ms, issuer.max_lifetime_ms), (30_000, 0, 86_400_000));
    assert!(!issuer.wildcards && !issuer.opaque && !issuer.rfc9068);
    assert!(config.sessions.is_none() && config.messages.is_empty() && config.deliveries.is_empty());
    assert_eq!(config.handshake.max_token_bytes, 16_384);
    assert_eq!((config.connection.idle_ms, config.connection.max_age_ms), (1_800_000, 86_400_000));
    assert_eq!((config.limits.connections_per_address, config.limits.connections_per_user), (10, 20));
    assert_eq!(config.limits.messages_per_user, RateConfig { count: 100, per_ms: 60_000, burst: 20 });
    assert_eq!((config.refresh.lead_ms, config.refresh.attempts), (300_000, 3));
    assert_eq!((config.brute_force.alert_above, config.brute_force.block_above), (10, None));
    assert_eq!(config.require_safe(), Ok(()));
}

#[test]
fn rules_in_each_form_keep_their_order() {
    let rest = r#"[messages]
"z" = "public"
"chat.send" = ["chat:write", "admin"]
"a" = { permissions = ["listing:{id}:read", "user:{@sub}"], weight = 3 }
[deliveries]
"listing.changed" = "listing:{listing_id}:read"
"#;
    let config = load(&format!("{ISSUER}{HANDSHAKE}{rest}")).unwrap();
    let names: Vec<_> = config.messages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["z", "chat.send", "a"]);
    assert!(config.messages[0].1.is_public());
    assert_eq!(config.messages[1].1, RuleConfig { permissions: vec!["chat:write".into(), "admin".into()], weight: 1 });
    assert_eq!(config.messages[2].1.weight, 3);
    assert_eq!(config.deliveries[0].0, "listing.changed");
}

#[test]
fn keys_in_each_form() {
    let issuer = |algorithm: &str, keys: &str| {
        let text = format!("{ISSUER}{HANDSHAKE}").replacen("RS256", algorithm, 1).replacen(KEYS, keys, 1);
        load(&text).unwrap().issuers.remove(0).keys
    };
    let KeysConfig::Secrets(secrets) = issuer("HS256", r#"keys = { secret = { env = "WS_SECRET" }, kid = "a" }"#)
    else {
        panic!()
    };
    assert_eq!(secrets[0].secret.expose(), b"0123456789abcdef0123456789abcdef");
    assert_eq!(secrets[0].key_id.as_deref(), Some("a"));
    let listed = r#"keys = { secrets = [{ env = "WS_SECRET", kid = "2" },
        { base64url = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", kid = "1", not_after = 1800000000 }] }"#;
    let KeysConfig::Secrets(secrets) = issuer("HS256", listed) else { panic!() };
    assert_eq!((secrets[1].secret.expose()[31], secrets[1].not_after), (31, Some(1_800_000_000)));
    let KeysConfig::Public(keys) = issuer("ES256", r#"keys = { public_key_file = "public.pem" }"#) else { panic!() };
    assert!(keys[0].material.starts_with(b"-----BEGIN PUBLIC KEY"));
    let listed = r#"keys = { public_keys = [{ file = "public.pem", kid = "a", algorithm = "ES256" },
        { text = "-----BEGIN PUBLIC KEY-----", kid = "b" }] }"#;
    let KeysConfig::Public(keys) = issuer("ES256", listed) else { panic!() };
    assert_eq!((keys.len(), keys[0].algorithm), (2, Some(Algorithm::ES256)));
    for form in [
        r#"keys = { jwks_file = "jwks.json" }"#,
        r#"keys = { jwks = '{"keys":[{"kty":"EC","crv":"P-256"}]}' }"#,
        r#"keys = { jwks = { keys = [{ kty = "EC", crv = "P-256" }] } }"#,
    ] {
        let KeysConfig::Jwks { document, allow_secrets: false } = issuer("ES256", form) else { panic!() };
        let json: serde_json::Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(json["keys"][0]["crv"], "P-256", "{form}");
    }
    let opaque = "[[issuer]]\nissuer = \"i\"\naudience = [\"a\"]\nopaque = true\n";
    let config = load(&format!("{opaque}{HANDSHAKE}")).unwrap();
    assert!(matches!(config.issuers[0].keys, KeysConfig::None) && config.issuers[0].opaque);
}

#[test]
fn unknown_keys_name_their_line_and_the_nearest_key() {
    let cookie = "credentials = \"cookie\"\ntrusted_proxies = []\ncookie = { hold = \"token\" }\n";
    let cases = [
        ("handshak = 1\n".to_owned(), "line 1: unknown key `handshak` at the top; did you mean `handshake`?"),
        (
            format!("{ISSUER}[handshake]\norgins = []\ncredentials = [\"query\"]\n"),
            "line 7: unknown key `orgins` in [handshake]; did you mean `origins`?",
        ),
        (
            format!("{ISSUER}[handshake]\n{cookie}"),
            "line 9: unknown key `hold` in [handshake.cookie]; did you mean `holds`?",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(load(&text).unwrap_err(), wanted);
    }
    assert_eq!(
        replaced(RS256, "algoritms = [\"RS256\"]"),
        "line 4: unknown key `algoritms` in issuer[0]; did you mean `algorithms`?"
    );
    assert_eq!(
        problem("[limits]\nmessages_per_user = { count = 1, per = 1, bursts = 2 }\n"),
        "line 11: unknown key `bursts` in [limits.messages_per_user]; did you mean `burst`?"
    );
    assert_eq!(problem("[redis]\nurl = \"x\"\n"), "line 10: unknown key `redis` at the top");
    assert_eq!(
        problem("[deliveries]\nx = { permissions = \"p\", weight = 2 }\n"),
        "line 11: unknown key `weight` in [deliveries.x]"
    );
}

#[test]
fn a_tree_made_by_hand_has_keys_and_no_lines() {
    let root = Value::table(vec![("handshak".to_owned(), Value::table(Vec::new()))]);
    let problem = Config::from_tree(&root, &NoSecretSource).unwrap_err();
    assert_eq!((problem.key.as_str(), problem.line), ("handshak", None));
    assert_eq!(problem.nearest.as_deref(), Some("handshake"));
    assert_eq!(problem.to_string(), "unknown key `handshak` at the top; did you mean `handshake`?");
}

#[test]
fn a_configuration_made_by_hand_goes_through_the_same_checks() {
    assert!(Config::default().require_safe().unwrap_err().to_string().starts_with("neither an [[issuer]]"));
    let mut config = load(&format!("{ISSUER}{HANDSHAKE}")).unwrap();
    config.limits.strikes = 0;
    assert_eq!(config.require_safe().unwrap_err().key, "limits.strikes");
    let mut config = load(&format!("{ISSUER}{HANDSHAKE}")).unwrap();
    config.issuers[0].algorithms.push(Algorithm::HS256);
    assert_eq!(config.require_safe().unwrap_err().key, "issuer[0].algorithms");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_decided(text in any::<String>()) {
        let _ = load(&text);
    }

    /// Text made of the pieces of a configuration reaches further than random text does.
    #[test]
    fn any_heap_of_pieces_is_decided(pieces in prop::collection::vec(piece(), 0..40)) {
        let _ = load(&pieces.concat());
    }

    /// One good line replaced by anything.
    #[test]
    fn any_value_is_decided(line in 1usize..9, value in piece(), text in "\\PC{0,40}") {
        let good = format!("{ISSUER}{HANDSHAKE}");
        let replace = |by: &str| -> String {
            let lines = good.lines().enumerate();
            lines.map(|(index, old)| match (index == line, old.split_once(" = ")) {
                (true, Some((key, _))) => format!("{key} = {by}\n"),
                _ => format!("{old}\n"),
            }).collect()
        };
        let _ = load(&replace(&value));
        let _ = load(&replace(&text));
        let _ = load(&replace(&format!("{text:?}")));
    }
}

fn piece() -> impl Strategy<Value = String> {
    let words = known::ALL.iter().flat_map(|known| known.keys.iter().copied()).collect::<Vec<_>>();
    prop_oneof![
        prop::sample::select(words).prop_map(|key| format!("{key} = ")),
        prop::sample::select(vec![
            "[[issuer]]\n",
            "[handshake]\n",
            "[messages]\n",
            "[limits]\n",
            "[close]\n",
            "[a.b.c]\n",
            "[[issuer.x]]\n",
            "{ ",
            " }\n",
            "[",
            "]\n",
            ", ",
            "\n",
            "\"\"",
            "\"*\"\n",
            "\"public\"\n",
            "1\n",
            "-1\n",
            "nan\n",
            "true\n",
            "1e999\n",
            "\"5m\"\n",
            "99999999999999999999\n",
            "1979-05-27\n",
            "'''",
            "\"\\u0000\"\n",
            "a.b.c.d = ",
        ])
        .prop_map(str::to_owned),
        Just(ISSUER.to_owned()),
        Just(HANDSHAKE.to_owned()),
    ]
}
