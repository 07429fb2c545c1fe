//! This file answers: what holds when nothing is written?

use super::types::{
    AuditConfig, BruteForceConfig, ClientAuthentication, CloseConfig, CloseProfile, ConnectionConfig, CookieHolds,
    HandshakeConfig, IntrospectionConfig, IssuerConfig, KeysConfig, LimitsConfig, LookupsConfig, MessageConfig,
    ProfileConfig, RateConfig, RefreshConfig, RemoteKeysConfig, RevocationConfig, RuleConfig, SecretKeyConfig,
    SessionsConfig, TlsConfig, UserLimitPolicy,
};
use crate::secret::Secret;
use crate::token::Algorithm;

pub(crate) const SECOND: u64 = 1000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

impl IssuerConfig {
    /// An issuer with the default for everything else.
    pub fn new(issuer: &str, audience: &[&str], algorithms: &[Algorithm], keys: KeysConfig) -> IssuerConfig {
        IssuerConfig {
            issuer: issuer.to_owned(),
            audience: audience.iter().map(|name| (*name).to_owned()).collect(),
            algorithms: algorithms.to_vec(),
            keys,
            permissions_claims: vec!["permissions".to_owned(), "scope".to_owned()],
            typ: None,
            rfc9068: false,
            required_claims: Vec::new(),
            max_lifetime_ms: DAY,
            leeway_ms: 30 * SECOND,
            expiry_leeway_ms: 0,
            opaque: false,
            wildcards: false,
            tenant_claim: "tenant".to_owned(),
            introspection: None,
            tls: TlsConfig::default(),
        }
    }
}

impl IssuerConfig {
    /// Whether it signs with a private key, and not with a shared secret.
    pub(crate) fn has_public_keys(&self) -> bool {
        self.algorithms.iter().any(|algorithm| !algorithm.is_mac())
    }
}

impl RemoteKeysConfig {
    /// The key set at `url`, with the default for everything else.
    pub fn new(url: &str) -> RemoteKeysConfig {
        RemoteKeysConfig { url: url.to_owned(), discovery: false, refresh_ms: 10 * MINUTE, max_stale_ms: DAY }
    }
}

impl IntrospectionConfig {
    /// The endpoint at `url`, with the default for everything else.
    pub fn new(url: &str, client: ClientAuthentication) -> IntrospectionConfig {
        IntrospectionConfig {
            url: Some(url.to_owned()),
            client,
            cache_ms: MINUTE,
            negative_cache_ms: 10 * SECOND,
            recheck_ms: 5 * MINUTE,
            signed: false,
        }
    }
}

impl Default for ProfileConfig {
    fn default() -> ProfileConfig {
        ProfileConfig {
            url: None,
            bearer: None,
            permissions_member: "permissions".to_owned(),
            permissions: Vec::new(),
            attributes: Vec::new(),
            cache_ms: MINUTE,
            optional: false,
            tls: TlsConfig::default(),
        }
    }
}

impl Default for LookupsConfig {
    fn default() -> LookupsConfig {
        LookupsConfig {
            by_host: false,
            workers: 4,
            queue: 256,
            connect_ms: SECOND,
            total_ms: 2 * SECOND,
            breaker_failures: 5,
            breaker_ms: 30 * SECOND,
            proxy: None,
            require_keys: false,
        }
    }
}

impl SecretKeyConfig {
    /// A secret without a key id and without an end.
    pub fn new(secret: Secret) -> SecretKeyConfig {
        SecretKeyConfig { secret, key_id: None, not_after: None }
    }
}

impl Default for SessionsConfig {
    fn default() -> SessionsConfig {
        SessionsConfig { issuer: "session".to_owned() }
    }
}

/// The limits of R37, no credential and no origin: nobody is let in until both are written.
impl Default for HandshakeConfig {
    fn default() -> HandshakeConfig {
        HandshakeConfig {
            origins: Vec::new(),
            require_origin: None,
            credentials: Vec::new(),
            cookie_name: "__Host-ws".to_owned(),
            cookie_holds: CookieHolds::Session,
            cookie_beside_ignored: false,
            subprotocol_prefixes: vec!["wsauth.bearer.".to_owned()],
            subprotocols: Vec::new(),
            query_parameter: "access_token".to_owned(),
            ticket_parameter: "ticket".to_owned(),
            paths: Vec::new(),
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            trust_unix_peers: false,
            forwarded_header: "x-forwarded-for".to_owned(),
            blocked: Vec::new(),
            required_permissions: Vec::new(),
            authentication_deadline_ms: 10 * SECOND,
            lookup_deadline_ms: 5 * SECOND,
            max_token_bytes: 16 << 10,
            max_fields: 128,
            max_field_bytes: 24 << 10,
            max_fields_bytes: 64 << 10,
        }
    }
}

impl Default for MessageConfig {
    fn default() -> MessageConfig {
        MessageConfig { type_field: "type".to_owned(), binary_type: None, max_bytes: 64 << 10, max_depth: 32 }
    }
}

impl RuleConfig {
    /// Whether the rule asks for no permission.
    pub fn is_public(&self) -> bool {
        matches!(self.permissions.as_slice(), [word] if word == "public")
    }
}

impl Default for ConnectionConfig {
    fn default() -> ConnectionConfig {
        ConnectionConfig {
            idle_ms: 30 * MINUTE,
            max_age_ms: DAY,
            count_deliveries: false,
            max_connections: 1 << 20,
            max_unauthenticated: 1000,
            max_unauthenticated_per_address: 10,
            shards: 1,
        }
    }
}

impl Default for RefreshConfig {
    fn default() -> RefreshConfig {
        RefreshConfig { lead_ms: 300 * SECOND, attempts: 3, widen: true, close_on_key_removed: false }
    }
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig {
            connections_per_address: 10,
            connections_per_user: 20,
            user_policy: UserLimitPolicy::EvictOldest,
            messages_per_user: RateConfig { count: 100, per_ms: MINUTE, burst: 20 },
            control_per_user: RateConfig { count: 6, per_ms: MINUTE, burst: 6 },
            strikes: 100,
            ipv6_prefix: 64,
            max_tracked: 1 << 20,
        }
    }
}

impl Default for BruteForceConfig {
    fn default() -> BruteForceConfig {
        BruteForceConfig { alert_above: 10, window_ms: 5 * MINUTE, block_above: None, block_ms: 5 * MINUTE }
    }
}

impl Default for CloseConfig {
    fn default() -> CloseConfig {
        CloseConfig { profile: CloseProfile::Default, map: Vec::new() }
    }
}

impl Default for RevocationConfig {
    fn default() -> RevocationConfig {
        RevocationConfig { max_rules: 100_000 }
    }
}

impl Default for AuditConfig {
    fn default() -> AuditConfig {
        AuditConfig { max_events: 65_536 }
    }
}
