//! This file answers: which keys exist?
//!
//! One list per table of the configuration. The readers refuse whatever is not in it, and a test holds
//! `docs/config.md` against it.

/// The keys of one table, and the name the documentation gives it.
#[derive(Debug)]
pub(crate) struct Known {
    /// As in the documentation.
    #[cfg_attr(not(test), allow(dead_code, reason = "the test of the documentation reads it"))]
    pub(crate) name: &'static str,
    /// In the order of the documentation.
    pub(crate) keys: &'static [&'static str],
}

pub(crate) const TOP: Known = Known {
    name: "the file",
    keys: &[
        "issuer",
        "sessions",
        "profile",
        "lookups",
        "handshake",
        "message",
        "messages",
        "deliveries",
        "connection",
        "refresh",
        "limits",
        "brute_force",
        "close",
        "revocation",
        "audit",
    ],
};

pub(crate) const ISSUER: Known = Known {
    name: "[[issuer]]",
    keys: &[
        "issuer",
        "audience",
        "algorithms",
        "keys",
        "permissions_claims",
        "typ",
        "profile",
        "required_claims",
        "max_lifetime",
        "leeway",
        "expiry_leeway",
        "opaque",
        "wildcards",
        "tenant_claim",
        "introspection",
        "tls",
    ],
};

pub(crate) const KEYS: Known = Known {
    name: "issuer.keys",
    keys: &[
        "jwks_url",
        "discovery_url",
        "refresh",
        "max_stale",
        "jwks_file",
        "jwks",
        "allow_secrets",
        "public_key",
        "public_key_file",
        "public_keys",
        "secret",
        "secrets",
        "kid",
        "algorithm",
        "not_after",
    ],
};

/// Where bytes come from; also the start of the two lists below.
pub(crate) const MATERIAL: Known =
    Known { name: "a secret", keys: &["env", "file", "text", "base64url", "base64", "encoding"] };

pub(crate) const LISTED_SECRET: Known = Known {
    name: "issuer.keys.secrets",
    keys: &["env", "file", "text", "base64url", "base64", "encoding", "kid", "not_after"],
};

pub(crate) const LISTED_PUBLIC_KEY: Known = Known {
    name: "issuer.keys.public_keys",
    keys: &["env", "file", "text", "base64url", "base64", "encoding", "kid", "algorithm", "not_after"],
};

pub(crate) const INTROSPECTION: Known = Known {
    name: "issuer.introspection",
    keys: &["url", "method", "client_id", "client_secret", "bearer", "cache", "negative_cache", "recheck", "signed"],
};

pub(crate) const TLS: Known = Known { name: "tls", keys: &["ca_file", "certificate_file", "private_key"] };

pub(crate) const PROFILE: Known = Known {
    name: "[profile]",
    keys: &["url", "bearer", "permissions_member", "permissions", "attributes", "cache", "optional", "tls"],
};

pub(crate) const LOOKUPS: Known = Known {
    name: "[lookups]",
    keys: &[
        "driver",
        "workers",
        "queue",
        "connect_timeout",
        "timeout",
        "breaker_failures",
        "breaker_open",
        "proxy",
        "require_keys",
    ],
};

pub(crate) const SESSIONS: Known = Known { name: "[sessions]", keys: &["issuer"] };

pub(crate) const HANDSHAKE: Known = Known {
    name: "[handshake]",
    keys: &[
        "origins",
        "require_origin",
        "credentials",
        "cookie",
        "cookie_beside",
        "subprotocol_prefixes",
        "subprotocols",
        "query_parameter",
        "ticket_parameter",
        "paths",
        "hosts",
        "trusted_proxies",
        "trust_unix_peers",
        "forwarded_header",
        "blocked",
        "required_permissions",
        "authentication_deadline",
        "lookup_deadline",
        "max_token_bytes",
        "max_fields",
        "max_field_bytes",
        "max_fields_bytes",
    ],
};

pub(crate) const COOKIE: Known = Known { name: "handshake.cookie", keys: &["name", "holds"] };

pub(crate) const MESSAGE: Known =
    Known { name: "[message]", keys: &["type_field", "binary", "max_bytes", "max_depth"] };

pub(crate) const RULE: Known = Known { name: "[messages]", keys: &["permissions", "weight"] };

pub(crate) const DELIVERY: Known = Known { name: "[deliveries]", keys: &["permissions"] };

pub(crate) const CONNECTION: Known = Known {
    name: "[connection]",
    keys: &[
        "idle",
        "max_age",
        "count_deliveries",
        "max_connections",
        "max_unauthenticated",
        "max_unauthenticated_per_address",
        "shards",
    ],
};

pub(crate) const REFRESH: Known = Known { name: "[refresh]", keys: &["lead", "attempts", "widen", "on_key_removed"] };

pub(crate) const LIMITS: Known = Known {
    name: "[limits]",
    keys: &[
        "connections_per_address",
        "connections_per_user",
        "user_policy",
        "messages_per_user",
        "control_per_user",
        "strikes",
        "ipv6_prefix",
        "max_tracked",
    ],
};

pub(crate) const RATE: Known = Known { name: "a rate", keys: &["count", "per", "burst"] };

pub(crate) const BRUTE_FORCE: Known =
    Known { name: "[brute_force]", keys: &["alert_above", "window", "block_above", "block_for"] };

pub(crate) const CLOSE: Known = Known { name: "[close]", keys: &["profile", "map"] };

pub(crate) const REVOCATION: Known = Known { name: "[revocation]", keys: &["max_rules"] };

pub(crate) const AUDIT: Known = Known { name: "[audit]", keys: &["max_events"] };

/// Every table, in the order of the documentation.
#[cfg(test)]
pub(crate) const ALL: [&Known; 24] = [
    &TOP,
    &ISSUER,
    &KEYS,
    &MATERIAL,
    &LISTED_SECRET,
    &LISTED_PUBLIC_KEY,
    &INTROSPECTION,
    &TLS,
    &SESSIONS,
    &PROFILE,
    &LOOKUPS,
    &HANDSHAKE,
    &COOKIE,
    &MESSAGE,
    &RULE,
    &DELIVERY,
    &CONNECTION,
    &REFRESH,
    &LIMITS,
    &RATE,
    &BRUTE_FORCE,
    &CLOSE,
    &REVOCATION,
    &AUDIT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_listed_twice_and_no_table_is_left_out() {
        for known in ALL {
            for (position, key) in known.keys.iter().enumerate() {
                assert!(!known.keys[..position].contains(key), "{} {key}", known.name);
            }
        }
        let declared = include_str!("known.rs").lines().filter(|line| {
            line.starts_with("pub(crate) const ") && line.split(" = ").next().is_some_and(|l| l.ends_with(": Known"))
                || line.starts_with("pub(crate) const ") && line.ends_with(": Known =")
        });
        assert_eq!(declared.count(), ALL.len());
    }
}
