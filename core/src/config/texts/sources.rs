//! This file answers: what do mistakes in sources look like, and what is read of good ones?

use super::super::types::{ClientAuthentication, KeysConfig};
use super::{HANDSHAKE, ISSUER, KEYS, load, problem, replaced};

const INTROSPECTION: &str = "opaque = true\nintrospection = { url = \"https://id.example.com/ask\", \
                             client_id = \"ws\", client_secret = { env = \"WS_SECRET\" } }\n";

#[test]
fn mistakes_in_introspection() {
    let cases = [
        (
            "opaque = true\n",
            "",
            "line 6: issuer[0].introspection: asks about opaque tokens, which this issuer does not take: write `opaque = true`",
        ),
        (
            "url = \"https://id.example.com/ask\", ",
            "",
            "line 7: issuer[0].introspection.url: is missing, and no `discovery_url` says where it is",
        ),
        (
            "https://id.example.com/ask",
            "http://id.example.com/ask",
            "line 7: issuer[0].introspection.url: is plain http: whoever sits on the network could answer in its place (loopback is free)",
        ),
        (
            "client_id = \"ws\", ",
            "",
            "line 7: issuer[0].introspection.client_id: is missing: who we are at the introspection endpoint",
        ),
        (", client_secret = { env = \"WS_SECRET\" }", "", "line 7: issuer[0].introspection.client_secret: is missing"),
        (
            "{ env = \"WS_SECRET\" }",
            "\"hunter2\"",
            "line 7: issuer[0].introspection.client_secret: a secret is not written here: use { env = \"NAME\" } or { file = \"path\" }, or { text = \"…\" } where nothing is at stake",
        ),
        (
            "{ env = \"WS_SECRET\" }",
            "{ text = \"a\\tb\" }",
            "line 7: issuer[0].introspection.client_secret: is not 1 to 4,096 bytes of printable ASCII",
        ),
        (
            "client_id = \"ws\"",
            "method = \"bearer\", client_id = \"ws\"",
            "line 7: issuer[0].introspection.client_id: does not belong to this `method`",
        ),
        (
            "client_id = \"ws\"",
            "bearer = { env = \"WS_SECRET\" }",
            "line 7: issuer[0].introspection.bearer: does not belong to this `method`",
        ),
        (
            "client_id = \"ws\"",
            "client_id = \"ws\", cache = \"2m\"",
            "line 7: issuer[0].introspection.cache: must be from 1s to 1m, but is 2m",
        ),
    ];
    for (text, by, wanted) in cases {
        assert!(INTROSPECTION.contains(text), "{text}");
        let introspection = INTROSPECTION.replacen(text, by, 1);
        assert_eq!(load(&format!("{ISSUER}{introspection}{HANDSHAKE}")).unwrap_err(), wanted);
    }
    let keyless = format!("{ISSUER}{}{HANDSHAKE}", INTROSPECTION.replace("client_id", "signed = true, client_id"));
    let keyless = keyless.replace(KEYS, "").replace("algorithms = [\"RS256\"]\n", "");
    let wanted = "line 6: issuer[0].introspection.signed: needs public keys of the issuer to verify its answers with";
    assert_eq!(load(&keyless).unwrap_err(), wanted);
}

#[test]
fn mistakes_in_fetched_keys_profile_and_lookups() {
    for (line, by, wanted) in [
        (
            KEYS,
            "keys = { discovery_url = \"ftp://id.example.com\" }",
            "line 5: issuer[0].keys.discovery_url: is neither https nor, on loopback, http",
        ),
        (
            KEYS,
            "keys = { jwks_url = \"https://id.example.com/jwks\", refresh = 1 }",
            "line 5: issuer[0].keys.refresh: must be from 30s to 1d, but is 1s",
        ),
        (
            KEYS,
            "keys = { jwks_url = \"https://id.example.com/jwks\", max_stale = \"9m\" }",
            "line 5: issuer[0].keys.max_stale: must be from 10m to 1d, but is 9m",
        ),
        (
            KEYS,
            &format!("{KEYS}\ntls = {{ certificate_file = \"public.pem\" }}"),
            "line 6: issuer[0].tls.private_key: is missing: the key of the certificate",
        ),
        (
            KEYS,
            &format!("{KEYS}\ntls = {{ ca_file = \"none.pem\" }}"),
            "line 6: issuer[0].tls.ca_file: file `none.pem`: no such file",
        ),
    ] {
        assert_eq!(replaced(line, by), wanted);
    }
    for (rest, wanted) in [
        (
            "[profile]\nurl = \"https://users.example.com/\"\n",
            "line 11: profile.url: does not say whom it is about: write `{subject}` where the subject goes",
        ),
        (
            "[profile]\nurl = \"https://{subject}.example.com/\"\n",
            "line 11: profile.url: may name the subject after the host only",
        ),
        (
            "[profile]\npermissions = \"**\"\n",
            "line 11: profile.permissions[0]: is no permission pattern such as `listing:*:read`",
        ),
        (
            "[profile]\nurl = \"https://u.example.com/{subject}/{tenant}\"\n",
            "line 11: profile.url: knows `{subject}` and `{issuer}`, and nothing else in braces",
        ),
        ("[profile]\nbearer = { env = \"WS_SECRET\" }\n", "line 11: profile.bearer: belongs beside `url`"),
        ("[lookups]\nworkers = 0\n", "line 11: lookups.workers: must be from 1 to 64, but is 0"),
        ("[lookups]\ntimeout = \"3s\"\n", "line 11: lookups.timeout: must be from 50ms to 2s, but is 3s"),
        (
            "[lookups]\nproxy = \"socks5://a:1\"\n",
            "line 11: lookups.proxy: is no url such as http://proxy.example.com:3128",
        ),
        (
            "[lookups]\nproxy = \"http://u:hunter2@a:1\"\n",
            "line 11: lookups.proxy: is no host with a port, without user and password",
        ),
    ] {
        assert_eq!(problem(rest), wanted);
    }
}

#[test]
fn a_profile_has_no_say_in_what_was_verified() {
    let verified =
        ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "sid", "scope", "client_id", "cnf", "permissions", "tenant"];
    let wanted = "line 11: profile.attributes[1]: is said by a verified credential only, never by a profile";
    for name in verified {
        assert_eq!(problem(&format!("[profile]\nattributes = [\"plan\", \"{name}\"]\n")), wanted, "{name}");
    }
    let claims = format!("{KEYS}\npermissions_claims = \"roles\"\ntenant_claim = \"org\"");
    for (name, refused) in [("roles", true), ("org", true), ("tenant", false), ("permissions", false)] {
        let text = format!("{}{HANDSHAKE}[profile]\nattributes = \"{name}\"\n", ISSUER.replace(KEYS, &claims));
        assert_eq!(load(&text).is_err(), refused, "{name}");
    }
}

#[test]
fn good_sources_are_read() {
    let keys =
        "keys = { discovery_url = \"https://id.example.com/.well-known/openid-configuration\", refresh = \"5m\" }";
    let rest = "[profile]\nurl = \"https://u.example.com/{issuer}/{subject}\"\nbearer = { env = \"WS_SECRET\" }\n\
                permissions = [\"listing:*:read\"]\nattributes = \"plan\"\noptional = true\n\
                [lookups]\ndriver = \"host\"\nproxy = \"http://proxy.example.com:3128\"\n";
    let discovered = INTROSPECTION.replace("url = \"https://id.example.com/ask\", ", "method = \"post\", ");
    let config = load(&format!("{}{discovered}{HANDSHAKE}{rest}", ISSUER.replace(KEYS, keys))).unwrap();
    let issuer = &config.issuers[0];
    let KeysConfig::Remote(remote) = &issuer.keys else { panic!("not remote") };
    assert_eq!((remote.discovery, remote.refresh_ms, remote.max_stale_ms), (true, 300_000, 86_400_000));
    let introspection = issuer.introspection.as_ref().unwrap();
    assert_eq!((&introspection.url, introspection.recheck_ms), (&None, 300_000));
    let ClientAuthentication::Post { id, secret } = &introspection.client else { panic!("not post") };
    assert_eq!((id.as_str(), secret.expose()), ("ws", &b"0123456789abcdef0123456789abcdef"[..]));
    let profile = config.profile.as_ref().unwrap();
    assert_eq!((profile.permissions.len(), profile.attributes.len(), profile.optional), (1, 1, true));
    assert!(config.lookups.by_host);
    let shown = format!("{config:?}");
    assert!(!shown.contains("0123456789abcdef"), "{shown}");
}
