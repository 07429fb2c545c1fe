//! This file answers: what does each mistake look like to the operator?

use proptest::prelude::*;

use super::*;
use crate::token::Algorithm;

/// A disk and an environment with a few things on them.
pub(super) struct Disk;

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
fn mistakes_in_issuers() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "audience = \"wss://live.example.com\"\n",
            "",
            "line 1: issuer[0].audience: is missing: without it a token made for another service of this issuer would be accepted here",
        ),
        (
            "\"wss://live.example.com\"",
            "[]",
            "line 3: issuer[0].audience: must name at least one audience: without it a token made for another service of this issuer would be accepted here",
        ),
        (
            RS256,
            "algorithms = []",
            "line 4: issuer[0].algorithms: must name at least one algorithm: a token must not choose how it is verified",
        ),
        (RS256, "", "line 1: issuer[0].algorithms: is missing: which algorithms its tokens may be signed with"),
        (
            RS256,
            "algorithms = [\"RS256\", \"HS256\"]",
            "line 4: issuer[0].algorithms: mixes HMAC with public-key algorithms: whoever knows the public key could then sign tokens with it as an HMAC secret",
        ),
        (
            RS256,
            "algorithms = [\n  \"RS256\",\n  \"RS265\",\n]",
            "line 6: issuer[0].algorithms[1]: `RS265` is not accepted; expected `HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `EdDSA`, `Ed25519`; did you mean `RS256`?",
        ),
        (
            RS256,
            "algorithms = \"none\"",
            "line 4: issuer[0].algorithms: `none` is not accepted; expected `HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `EdDSA`, `Ed25519`",
        ),
        (
            KEYS,
            "",
            "line 1: issuer[0].keys: is missing: where its keys come from, such as { jwks_url = \"https://…\" }",
        ),
        (
            KEYS,
            "keys = { secret = { env = \"WS_SECRET\" } }",
            "line 5: issuer[0].keys: holds a secret, which no public-key algorithm can use",
        ),
        (
            KEYS,
            "keys = { jwks_file = \"jwks.json\", jwks_url = \"https://x.example\" }",
            "line 5: issuer[0].keys: needs exactly one of `jwks_url`, `jwks_file`, `jwks`, `public_key`, `public_key_file`, `public_keys`, `secret`, `secrets`",
        ),
        (
            KEYS,
            "keys = { jwks_file = \"jwks.json\", kid = \"x\" }",
            "line 5: issuer[0].keys.kid: does not belong beside `jwks_file`",
        ),
        (
            KEYS,
            "keys = { jwks_url = \"http://id.example.com/jwks\" }",
            "line 5: issuer[0].keys.jwks_url: is plain http: whoever sits on the network could give us their keys (loopback is free)",
        ),
        (
            KEYS,
            "keys = { jwks_file = \"gone.json\" }",
            "line 5: issuer[0].keys.jwks_file: file `gone.json`: no such file",
        ),
        (KEYS, "keys = { jwks = \"x\" }", "line 5: issuer[0].keys: the key set is no JSON"),
        (
            KEYS,
            "keys = { jwks = {} }",
            "line 5: issuer[0].keys: the key set is no object with a list of `keys` (RFC 7517 section 5)",
        ),
        (KEYS, "keys = { jwks = { keys = [] } }", "line 5: issuer[0].keys: the key set must hold 1 to 256 keys"),
        (
            KEYS,
            "keys = { public_key_file = \"private.pem\" }",
            "line 5: issuer[0].keys: this is a private key: give the public one, and treat this one as spent if it was shared",
        ),
        (
            KEYS,
            "keys = { public_key_file = \"public.pem\", algorithm = \"ES256\" }",
            "line 5: issuer[0].keys.algorithm: is not one of the issuer's `algorithms`",
        ),
        (
            KEYS,
            "keys = { public_keys = [{ text = \"a\", kid = \"1\" }, { text = \"b\", kid = \"1\" }] }",
            "line 5: issuer[0].keys.public_keys[1].kid: another key of this issuer has this id: a token must name exactly one",
        ),
        (
            KEYS,
            "keys = { public_key = \"p\", not_after = 253402300800 }",
            "line 5: issuer[0].keys.not_after: is past the year 9999: it is written in seconds since 1970",
        ),
        (
            "issuer = \"https://id.example.com\"",
            "issuer = \"\"",
            "line 2: issuer[0].issuer: must have 1 to 1024 bytes, but has 0",
        ),
        (KEYS, &format!("{KEYS}\nleeway = 301"), "line 6: issuer[0].leeway: must be from 0 to 5m, but is 301s"),
        (
            KEYS,
            &format!("{KEYS}\nexpiry_leeway = \"1h\""),
            "line 6: issuer[0].expiry_leeway: must be from 0 to 5m, but is 1h",
        ),
        (KEYS, &format!("{KEYS}\nleeway = -1"), "line 6: issuer[0].leeway: must not be negative, but is -1"),
        (
            KEYS,
            &format!("{KEYS}\nleeway = nan"),
            "line 6: issuer[0].leeway: expected whole seconds, or a text such as `500ms`, `30s`, `5m`, `24h` or `7d`, found a number with a fraction",
        ),
        (
            KEYS,
            &format!("{KEYS}\nmax_lifetime = 0"),
            "line 6: issuer[0].max_lifetime: must be from 1s to 366d, but is 0",
        ),
        (
            KEYS,
            &format!("{KEYS}\nprofile = \"rfc9068\"\ntyp = \"JWT\""),
            "line 7: issuer[0].typ: the profile `rfc9068` already says which `typ` a token has",
        ),
        (
            ISSUER,
            &format!("{ISSUER}{ISSUER}"),
            "line 7: issuer[1].issuer: another issuer has this name: whose keys would count for its tokens?",
        ),
        (
            ISSUER,
            "[sessions]\n",
            "line 4: handshake.credentials: without an [[issuer]] only a cookie that holds a session can be accepted",
        ),
        (ISSUER, "", "neither an [[issuer]] nor [sessions] is configured: nobody could be authenticated"),
        ("[[issuer]]", "[issuer]", "line 1: issuer: expected a list of tables, found a table"),
        (
            HANDSHAKE,
            &format!("{HANDSHAKE}[sessions]\nissuer = \"https://id.example.com\"\n"),
            "line 11: sessions.issuer: an [[issuer]] has this name: a token could then pass for a session of the same subject",
        ),
    ];
    for (line, by, wanted) in cases {
        assert_eq!(replaced(line, by), *wanted);
    }
    let opaque = |name: &str| format!("[[issuer]]\nissuer = \"{name}\"\naudience = [\"a\"]\nopaque = true\n");
    assert_eq!(
        load(&format!("{}{}{HANDSHAKE}", opaque("a"), opaque("b"))).unwrap_err(),
        "line 8: issuer[1].opaque: another issuer is opaque: a token that is no JWT does not say which of them to ask"
    );
    let many: String = (0..65).map(|index| opaque(&index.to_string())).collect();
    assert_eq!(load(&format!("{many}{HANDSHAKE}")).unwrap_err(), "line 1: issuer: at most 64 can be configured");
}

#[test]
fn mistakes_with_secrets() {
    let with = |algorithms: &str, keys: &str| {
        load(&format!("{ISSUER}{HANDSHAKE}").replacen(RS256, algorithms, 1).replacen(KEYS, keys, 1)).unwrap_err()
    };
    let short = |bytes: usize, least: usize| {
        format!(
            "line 5: issuer[0].keys: the secret has {bytes} bytes and needs {least}, as many as the longest hash of \
             its algorithms (RFC 7518 section 3.2): a shorter one can be guessed"
        )
    };
    let hs256 = "algorithms = [\"HS256\"]";
    let cases: &[(&str, &str, &str)] = &[
        (hs256, "keys = { secret = { env = \"WS_SHORT\" } }", &short(7, 32)),
        (hs256, "keys = { secret = { text = \"\" } }", &short(0, 32)),
        ("algorithms = [\"HS256\", \"HS512\"]", "keys = { secret = { env = \"WS_SECRET\" } }", &short(32, 64)),
        (
            hs256,
            "keys = { secret = \"hunter2hunter2\" }",
            "line 5: issuer[0].keys.secret: a secret is not written here: use { env = \"NAME\" } or { file = \"path\" }, or { text = \"…\" } where nothing is at stake",
        ),
        (
            hs256,
            "keys = { secret = 5 }",
            "line 5: issuer[0].keys.secret: expected a table such as { env = \"NAME\" }, found a whole number",
        ),
        (
            hs256,
            "keys = { secret = { env = \"WS_NONE\" } }",
            "line 5: issuer[0].keys.secret.env: variable `WS_NONE`: not set",
        ),
        (
            hs256,
            "keys = { secret = { file = \"public.pem\" } }",
            "line 5: issuer[0].keys: the secret is a PEM file: a public key is known to everybody and can be no secret",
        ),
        (
            hs256,
            "keys = { public_key_file = \"public.pem\" }",
            "line 5: issuer[0].keys: holds a public key, which everybody knows: it can never be the secret of an HMAC algorithm",
        ),
        (
            hs256,
            KEYS,
            "line 5: issuer[0].keys.jwks_url: is fetched, and a secret that can be fetched is none: use `secret` for HMAC algorithms",
        ),
        (
            hs256,
            "keys = { jwks_file = \"jwks.json\" }",
            "line 5: issuer[0].keys.allow_secrets: HMAC algorithms need a secret: write `allow_secrets = true` if this key set holds one and is yours alone",
        ),
        (
            hs256,
            "keys = { secrets = [] }",
            "line 5: issuer[0].keys.secrets: takes one secret, or two: the current one, then the previous one",
        ),
    ];
    for (algorithms, keys, wanted) in cases {
        assert_eq!(with(algorithms, keys), *wanted);
    }
}

#[test]
fn no_secret_is_repeated() {
    let places = [
        "keys = { secret = \"hunter2\" }",
        "keys = { secret = { text = \"hunter2\" } }",
        "keys = { secret = { base64 = \"hunter2!\" } }",
        "keys = { secret = [\"hunter2\"] }",
        "keys = { secrets = \"hunter2\" }",
        "keys = { secrets = [\"hunter2\"] }",
        "keys = { secret = { env = \"hunter2 hunter2\" } }",
        "keys = { secret = { env = \"WS_SHORT\" } }",
        "keys = { jwks_url = \"https://me:hunter2@id.example.com/\" }",
        "keys = { jwks = \"hunter2\" }",
        "keys = \"hunter2\"",
        "keys = { secret = { text = \"hunter2 } }",
    ];
    for algorithm in ["HS256", "RS256"] {
        for keys in places {
            let text = format!("{ISSUER}{HANDSHAKE}").replacen("RS256", algorithm, 1).replacen(KEYS, keys, 1);
            let problem = Config::from_toml(&text, &Disk).unwrap_err();
            assert!(!format!("{problem} {problem:?}").contains("hunter2"), "{keys}: {problem}");
        }
    }
    let jwks = "keys = { jwks = { keys = [{ kty = \"oct\", k = \"hunter2\" }] }, allow_secrets = true }";
    let text = format!("{ISSUER}{HANDSHAKE}").replacen("RS256", "HS256", 1).replacen(KEYS, jwks, 1);
    assert!(!format!("{:?}", load(&text).unwrap()).contains("hunter2"));
}

#[test]
fn mistakes_in_the_handshake() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "trusted_proxies = []\n",
            "",
            "line 6: handshake.trusted_proxies: is missing: write [] when clients connect directly, or the networks of your proxies; it decides whose word is taken for a client's address",
        ),
        (
            HANDSHAKE,
            "",
            "handshake.credentials: is missing: where a credential may stand, such as [\"authorization\", \"ticket\"]",
        ),
        (
            BEARER,
            "credentials = []",
            "line 8: handshake.credentials: must name at least one place: nobody could show a credential",
        ),
        (
            BEARER,
            "credentials = [\"authorization\", \"cookies\"]",
            "line 8: handshake.credentials[1]: `cookies` is not accepted; expected `authorization`, `cookie`, `subprotocol`, `query`, `ticket`, `first_message`; did you mean `cookie`?",
        ),
        (
            BEARER,
            "credentials = [\"cookie\"]",
            "line 6: handshake.cookie.holds: is missing: whether the cookie holds a `token` or a `session`",
        ),
        (
            BEARER,
            "credentials = [\"cookie\"]\ncookie = { holds = \"session\" }",
            "line 9: handshake.cookie.holds: is `session`, but [sessions] is not configured: no session could be looked up",
        ),
        (
            BEARER,
            "credentials = [\"cookie\"]\ncookie = { name = \"a b\", holds = \"token\" }",
            "line 9: handshake.cookie.name: must be 1 to 128 letters, digits or marks that HTTP allows in a name",
        ),
        (
            BEARER,
            &format!("{BEARER}\ncookie = {{ holds = \"token\" }}"),
            "line 9: handshake.cookie: is never read: `credentials` does not list \"cookie\"",
        ),
        (
            ORIGINS,
            "origins = [\"https://*.co.uk\"]",
            "line 7: handshake.origins[0]: `https://*.co.uk` covers a public suffix: anybody can register a name under it",
        ),
        (
            ORIGINS,
            "origins = \"*\"",
            "line 7: handshake.origins[0]: `*` allows every page on the web: list the origins of your pages",
        ),
        (
            "trusted_proxies = []",
            "trusted_proxies = [\"0.0.0.0/0\"]",
            "line 9: handshake.trusted_proxies[0]: `0.0.0.0/0` trusts everybody: any client could then choose the address it is limited by",
        ),
        (
            "trusted_proxies = []",
            "trusted_proxies = [\"10.0.0.1/8\"]",
            "line 9: handshake.trusted_proxies[0]: `10.0.0.1/8` has bits set behind its prefix: write 10.0.0.0/8",
        ),
        (
            "trusted_proxies = []",
            "trusted_proxies = [\"::ffff:10.0.0.0/104\"]",
            "line 9: handshake.trusted_proxies[0]: `::ffff:10.0.0.0/104` is IPv4 written as IPv6 and would never match: write it as IPv4",
        ),
        (
            "trusted_proxies = []",
            "trusted_proxies = [\"10.0.0.1\", \"proxy\"]",
            "line 9: handshake.trusted_proxies[1]: `proxy` is no address and no network such as 10.0.0.0/8",
        ),
    ];
    for (line, by, wanted) in cases {
        assert_eq!(replaced(line, by), *wanted);
    }
    let no_origin = |credentials: &str| {
        let text = format!("{ISSUER}{HANDSHAKE}").replacen(ORIGINS, "origins = []", 1);
        load(&text.replacen(BEARER, &format!("credentials = [\"{credentials}\"]\ncookie_beside = \"refuse\""), 1))
    };
    assert!(no_origin("authorization").is_ok());
    assert!(no_origin("first_message").is_ok());
    assert_eq!(
        no_origin("ticket").unwrap_err(),
        "line 7: handshake.origins: must name the origins of your pages: a ticket is bound to the page it was issued to"
    );
    assert!(no_origin("subprotocol").unwrap_err().contains("so nobody could connect"));
    let cookie = "credentials = [\"cookie\"]\ncookie = { holds = \"token\" }";
    let without = format!("{ISSUER}{HANDSHAKE}").replacen(ORIGINS, "", 1).replacen(BEARER, cookie, 1);
    assert_eq!(
        load(&without).unwrap_err(),
        "line 6: handshake.origins: must name the origins of your pages: browsers send cookies for any page, and only the origin tells yours from a stranger's"
    );
    let star = format!("{ISSUER}{HANDSHAKE}").replacen(ORIGINS, "origins = [\"*\"]", 1).replacen(BEARER, cookie, 1);
    assert!(load(&star).unwrap_err().contains("with its visitor's cookie"));
}

#[test]
fn mistakes_in_the_rest_of_the_handshake() {
    let cases = [
        ("require_origin = \"yes\"", "require_origin: expected true or false, found a text"),
        ("paths = [\"live\"]", "paths[0]: `live` is no path such as /live or /live/*"),
        ("paths = [\"/a/*/b\"]", "paths[0]: `/a/*/b` is no path such as /live or /live/*"),
        ("paths = [\"/a?b\"]", "paths[0]: `/a?b` is no path such as /live or /live/*"),
        (
            "hosts = [\"https://a.example\"]",
            "hosts[0]: `https://a.example` is no host such as live.example.com or live.example.com:8443, in lower case",
        ),
        ("query_parameter = \"a&b\"", "query_parameter: must be 1 to 64 letters, digits, `-`, `.`, `_` or `~`"),
        (
            "ticket_parameter = \"access_token\"",
            "ticket_parameter: is also the `query_parameter`: a token and a ticket could not be told apart",
        ),
        (
            "subprotocols = [\"WSAUTH.bearer.x\"]",
            "subprotocols[0]: `WSAUTH.bearer.x` begins like the item that carries the token, which is never echoed",
        ),
        (
            "required_permissions = [\"a:{b}\"]",
            "required_permissions[0]: `a:{b}` is filled from a message, and a handshake has none",
        ),
        ("max_token_bytes = 16385", "max_token_bytes: must be from 256 bytes to 16 KiB, but is 16385 bytes"),
        ("max_fields = 129", "max_fields: must be from 8 to 128, but is 129"),
        ("max_field_bytes = 1024", "max_token_bytes: is longer than `max_field_bytes`, the field that carries it"),
        ("lookup_deadline = 6", "lookup_deadline: must be from 100ms to 5s, but is 6s"),
        ("authentication_deadline = 0", "authentication_deadline: must be from 1s to 1m, but is 0"),
    ];
    for (line, wanted) in cases {
        let problem = problem(&format!("{line}\n"));
        let (number, what) = problem.split_once(": handshake.").unwrap_or_else(|| panic!("{problem}"));
        assert_eq!(what, wanted);
        assert!(number == "line 10" || line.starts_with("max_field_bytes"), "{problem}");
    }
}

#[test]
fn mistakes_in_rules() {
    let cases = [
        ("\"auth\" = \"public\"", "messages.auth: is reserved for control messages, which never reach the application"),
        (
            "\"error\" = \"public\"",
            "messages.error: is reserved for control messages, which never reach the application",
        ),
        ("x = []", "messages.x: names no permission: leave the type out to deny it, or write \"public\""),
        ("x = {}", "messages.x.permissions: is missing: what the type needs, or \"public\""),
        (
            "x = true",
            "messages.x: expected a permission, a list of permissions, or a table with `permissions`, found true or false",
        ),
        (
            "x = [\"public\", \"a\"]",
            "messages.x: lists \"public\" beside other permissions: any of them is enough, so the others would mean nothing",
        ),
        ("x = \"a::b\"", "messages.x: `a::b` has an empty segment"),
        ("x = \"\"", "messages.x: `` has an empty segment"),
        ("x = \"a b\"", "messages.x: `a b` has a segment that is not 1 to 128 letters, digits or `._~@/+-`"),
        ("x = \"a{b}\"", "messages.x: `a{b}` has a field that does not fill its whole segment"),
        (
            "x = \"a:{}\"",
            "messages.x: `a:{}` has a field that is not `@sub` and not 1 to 128 letters, digits, `_`, `-` or `$`",
        ),
        (
            "x = \"a:{@iss}\"",
            "messages.x: `a:{@iss}` has a field that is not `@sub` and not 1 to 128 letters, digits, `_`, `-` or `$`",
        ),
        (
            "x = \"a:*\"",
            "messages.x: `a:*` asks for a wildcard: wildcards are what a peer may hold, a rule names what it needs",
        ),
        (
            "\"chat.send\" = { permissions = \"a\", weight = 21 }",
            "messages.\"chat.send\".weight: must be from 1 to the burst of `limits.messages_per_user`, or the message could never pass: 20, but is 21",
        ),
        (
            "x = { permissions = \"a\", weight = 0 }",
            "messages.x.weight: must be from 1 to the burst of `limits.messages_per_user`, or the message could never pass: 20, but is 0",
        ),
        ("\"a\\nb\" = \"p\"", "messages.\"a\\nb\": a type holds no control characters"),
    ];
    for (line, wanted) in cases {
        assert_eq!(problem(&format!("[messages]\n{line}\n")), format!("line 11: {wanted}"));
    }
    let many = |count: usize| (0..count).map(|index| format!("t{index} = \"p\"\n")).collect::<String>();
    let fits = format!("{ISSUER}{HANDSHAKE}[messages]\n{}[deliveries]\n{}", many(1000), many(24));
    assert!(load(&fits).is_ok());
    assert_eq!(
        problem(&format!("[messages]\n{}[deliveries]\n{}", many(1000), many(25))),
        "line 10: messages: at most 1024 types can be configured, together with [deliveries]"
    );
}

#[test]
fn mistakes_in_the_life_of_a_connection() {
    let cases = [
        (
            "[message]\nbinary = \"blob\"",
            "message.binary: `blob` is no type of [messages], and what is not listed is denied",
        ),
        (
            "[message]\ntype_field = \"token\"",
            "message.type_field: `token` is the field that carries the token of a control message",
        ),
        ("[message]\nmax_depth = 33", "message.max_depth: must be from 1 to 32, but is 33"),
        ("[connection]\nidle = 0", "connection.idle: must be from 1s to 7d, but is 0"),
        (
            "[connection]\nmax_connections = 1048577",
            "connection.max_connections: must be from 1 to 1048576, but is 1048577",
        ),
        ("[connection]\nshards = 0", "connection.shards: must be from 1 to 256, but is 0"),
        (
            "[connection]\nmax_unauthenticated = 1001",
            "connection.max_unauthenticated: must be from 1 to 1000, but is 1001",
        ),
        ("[refresh]\nattempts = 0", "refresh.attempts: must be from 1 to 10, but is 0"),
        (
            "[refresh]\non_key_removed = \"ignore\"",
            "refresh.on_key_removed: `ignore` is not accepted; expected `refresh`, `close`",
        ),
        (
            "[limits]\nconnections_per_address = 0",
            "limits.connections_per_address: must be from 1 to 1048576, but is 0",
        ),
        ("[limits]\nconnections_per_user = 9999999999", "limits.connections_per_user: 9999999999 is far too large"),
        ("[limits]\nipv6_prefix = 16", "limits.ipv6_prefix: must be from 32 to 128, but is 16"),
        ("[limits]\nmessages_per_user = 100", "limits.messages_per_user: expected a table, found a whole number"),
        (
            "[limits]\nmessages_per_user = { count = 5 }",
            "limits.messages_per_user.per: is missing: the period, such as \"1m\"",
        ),
        (
            "[limits]\nmessages_per_user = { count = 0, per = 1 }",
            "limits.messages_per_user.count: must be from 1 to 1000000, but is 0",
        ),
        (
            "[limits]\ncontrol_per_user = { count = 6, per = \"1w\" }",
            "limits.control_per_user.per: `1w` is no duration; expected whole seconds, or a text such as `500ms`, `30s`, `5m`, `24h` or `7d`",
        ),
        (
            "[brute_force]\nblock_for = \"5m\"",
            "brute_force.block_for: blocks nobody: blocking is off until `block_above` is written",
        ),
        ("[brute_force]\nblock_above = 0", "brute_force.block_above: must be from 1 to 1000000, but is 0"),
        (
            "[close]\nprofile = \"graphql\"",
            "close.profile: `graphql` is not accepted; expected `default`, `graphql-ws`; did you mean `graphql-ws`?",
        ),
        (
            "[close]\nmap = { 4002 = 1006 }",
            "close.map.4002: 1006 may not be sent: a peer may be sent 1000, 1001, 1008, 1011, 1013 or 3000 to 4999",
        ),
        ("[close]\nmap = { 4099 = 4403 }", "close.map.4099: is no code of this profile, so nothing would be mapped"),
        ("[close]\nmap = { x = 4403 }", "close.map.x: `x` is no close code"),
        ("[close]\nmap = { 4002 = \"4403\" }", "close.map.4002: expected a whole number, found a text"),
        ("[close]\nmap = { 4002 = 99999 }", "close.map.4002: 99999 is far too large"),
        ("[revocation]\nmax_rules = 0", "revocation.max_rules: must be from 1 to 1048576, but is 0"),
        ("[audit]\nmax_events = 65537", "audit.max_events: must be from 1 to 65536, but is 65537"),
    ];
    for (text, wanted) in cases {
        assert_eq!(problem(&format!("{text}\n")), format!("line 11: {wanted}"));
    }
    for code in [1000, 1001, 1008, 1011, 1013, 3000, 4999] {
        let text = format!("{ISSUER}{HANDSHAKE}[close]\nmap = {{ 4002 = {code} }}\n");
        assert_eq!(load(&text).unwrap().close.map, [(4002, code)]);
    }
    for code in [999, 1002, 1005, 1006, 1015, 2999, 5000] {
        assert!(problem(&format!("[close]\nmap = {{ 4002 = {code} }}\n")).contains("may not be sent"), "{code}");
    }
    let binary = "[message]\nbinary = \"blob\"\n[messages]\nblob = \"room:{room}\"\n";
    assert_eq!(
        problem(binary),
        "line 11: message.binary: the rule of `blob` is filled from fields, which a binary frame has not"
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
    #![proptest_config(ProptestConfig::with_cases(128))]

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
