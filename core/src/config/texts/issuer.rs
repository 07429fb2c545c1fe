//! This file answers: what do mistakes in issuers and their keys look like?

use super::super::Config;
use super::{Disk, HANDSHAKE, ISSUER, KEYS, RS256, load, replaced};

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
            "line 5: issuer[0].keys: needs exactly one of `jwks_url`, `discovery_url`, `jwks_file`, `jwks`, `public_key`, `public_key_file`, `public_keys`, `secret`, `secrets`",
        ),
        (
            KEYS,
            "keys = { jwks_file = \"jwks.json\", kid = \"x\" }",
            "line 5: issuer[0].keys.kid: does not belong beside `jwks_file`",
        ),
        (
            KEYS,
            "keys = { jwks_url = \"http://id.example.com/jwks\" }",
            "line 5: issuer[0].keys.jwks_url: is plain http: whoever sits on the network could answer in its place (loopback is free)",
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
            "line 6: issuer[0].max_lifetime: must be from 1s to 36600d, but is 0",
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
