//! This file answers: what do mistakes in the handshake look like?

use super::{BEARER, HANDSHAKE, ISSUER, ORIGINS, load, problem, replaced};

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
