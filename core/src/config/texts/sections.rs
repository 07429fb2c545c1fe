//! This file answers: what do mistakes in rules and in the life of a connection look like?

use super::{HANDSHAKE, ISSUER, load, problem};

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
