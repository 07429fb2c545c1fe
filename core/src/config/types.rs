//! This file answers: what can be configured, and what holds when nothing is written?

use std::fmt;

use ipnet::IpNet;

use crate::secret::Secret;
use crate::token::Algorithm;

/// The whole configuration of one engine. Made by [`Config::from_toml`](super::Config::from_toml) or
/// [`Config::from_tree`](super::Config::from_tree), which refuse what is dangerous; made by hand, it must pass
/// [`require_safe`](super::Config::require_safe).
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Who may vouch for a token.
    pub issuers: Vec<IssuerConfig>,
    /// Cookie sessions, when configured.
    pub sessions: Option<SessionsConfig>,
    /// Who adds permissions and attributes to a verified identity, when configured.
    pub profile: Option<ProfileConfig>,
    /// Who fetches what the engine must ask for, and within which bounds.
    pub lookups: LookupsConfig,
    /// What a handshake must look like.
    pub handshake: HandshakeConfig,
    /// What a message must look like.
    pub message: MessageConfig,
    /// Message type to what it needs, in the order written.
    pub messages: Vec<(String, RuleConfig)>,
    /// Delivery type to what it needs, in the order written.
    pub deliveries: Vec<(String, RuleConfig)>,
    /// How long a connection lives.
    pub connection: ConnectionConfig,
    /// How a token is replaced on a live connection.
    pub refresh: RefreshConfig,
    /// How much one peer may do.
    pub limits: LimitsConfig,
    /// Guessing of credentials.
    pub brute_force: BruteForceConfig,
    /// Close codes.
    pub close: CloseConfig,
    /// Revocation.
    pub revocation: RevocationConfig,
    /// Bounds of the audit queue.
    pub audit: AuditConfig,
}

/// One issuer and its keys.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// The exact `iss`.
    pub issuer: String,
    /// The audiences that name us; a token must name at least one.
    pub audience: Vec<String>,
    /// The algorithms allowed, never empty.
    pub algorithms: Vec<Algorithm>,
    /// Its keys.
    pub keys: KeysConfig,
    /// Claims whose values become permissions. Default `["permissions", "scope"]`.
    pub permissions_claims: Vec<String>,
    /// The `typ` a token must have; `None` accepts absent, `JWT` and `at+jwt`.
    pub typ: Option<String>,
    /// RFC 9068 in full: `typ` at+jwt and every claim of section 2.2.
    pub rfc9068: bool,
    /// Further claims that must be present, such as `jti`.
    pub required_claims: Vec<String>,
    /// The longest lifetime (`exp - iat`, or `exp - now` without `iat`) in milliseconds. Default 24 h.
    pub max_lifetime_ms: u64,
    /// Clock difference allowed for `nbf` and `iat`, in milliseconds. Default 30 s.
    pub leeway_ms: u64,
    /// Clock difference allowed for `exp` at the handshake, in milliseconds. Default 0.
    pub expiry_leeway_ms: u64,
    /// Takes the tokens that are no JWT.
    pub opaque: bool,
    /// Whether `*` in the permissions of a token is a wildcard. Default false: such permissions are dropped.
    pub wildcards: bool,
    /// The claim that names the tenant. Default `tenant`.
    pub tenant_claim: String,
    /// How the issuer is asked about a token (RFC 7662); needs `opaque`.
    pub introspection: Option<IntrospectionConfig>,
    /// Certificates for the connections to this issuer.
    pub tls: TlsConfig,
}

/// Where an issuer's keys come from. Exactly one kind. `Debug` shows no document, since it may hold secrets.
#[derive(Clone)]
pub enum KeysConfig {
    /// Shared secrets: the current one, then at most one previous.
    Secrets(Vec<SecretKeyConfig>),
    /// Public keys written into the configuration.
    Public(Vec<PublicKeyConfig>),
    /// A key set document (RFC 7517), already read.
    Jwks {
        /// The document.
        document: Vec<u8>,
        /// Whether secret (`oct`) keys in it are accepted; only for documents from the operator's disk.
        allow_secrets: bool,
    },
    /// A key set that the driver fetches: the engine asks for it with a `Keys` lookup. The core never connects.
    Remote(RemoteKeysConfig),
    /// No local keys: this issuer only takes opaque tokens.
    None,
}

impl fmt::Debug for KeysConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeysConfig::Secrets(secrets) => f.debug_tuple("Secrets").field(secrets).finish(),
            KeysConfig::Public(keys) => f.debug_tuple("Public").field(keys).finish(),
            KeysConfig::Jwks { document, allow_secrets } => {
                write!(f, "Jwks({} bytes, allow_secrets: {allow_secrets})", document.len())
            }
            KeysConfig::Remote(remote) => f.debug_tuple("Remote").field(remote).finish(),
            KeysConfig::None => f.write_str("None"),
        }
    }
}

/// A key set that is fetched, and for how long it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteKeysConfig {
    /// Where the key set is, or the OpenID discovery document that says where.
    pub url: String,
    /// Whether `url` is a discovery document (OpenID Connect Discovery 1.0 section 4).
    pub discovery: bool,
    /// Fetched again after this long, in milliseconds. Default 10 min.
    pub refresh_ms: u64,
    /// The last good set vouches for this long after it was fetched, in milliseconds. Default 24 h.
    pub max_stale_ms: u64,
}

/// How an issuer is asked about a token (RFC 7662).
#[derive(Clone, Debug)]
pub struct IntrospectionConfig {
    /// The endpoint; `None`: the one that the discovery document names.
    pub url: Option<String>,
    /// How we authenticate to it.
    pub client: ClientAuthentication,
    /// Longest time an active answer is used again, in milliseconds, and the life of one without `exp`. Default 60 s.
    pub cache_ms: u64,
    /// Longest time an inactive answer is used again, in milliseconds. Default 10 s.
    pub negative_cache_ms: u64,
    /// The token of a live connection is asked about again after this long, in milliseconds. Default 5 min.
    pub recheck_ms: u64,
    /// Whether answers must be signed (RFC 9701), by a key of this issuer's set. Default false: both forms are taken.
    pub signed: bool,
}

/// How we authenticate to an introspection endpoint. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub enum ClientAuthentication {
    /// HTTP Basic with the form-encoded id and secret (RFC 6749 section 2.3.1).
    Basic {
        /// The client id.
        id: String,
        /// The client secret.
        secret: Secret,
    },
    /// `client_id` and `client_secret` in the body (RFC 6749 section 2.3.1).
    Post {
        /// The client id.
        id: String,
        /// The client secret.
        secret: Secret,
    },
    /// A bearer token of our own (RFC 6750 section 2.1).
    Bearer {
        /// The token.
        token: Secret,
    },
}

/// Certificates for connections to one source, as PEM text. `Debug` shows none.
#[derive(Clone, Default)]
pub struct TlsConfig {
    /// The only authorities trusted; `None`: those of the operating system.
    pub authorities: Option<Vec<u8>>,
    /// Our certificate chain (RFC 8705), and its private key.
    pub client: Option<(Vec<u8>, Secret)>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, client) = (self.authorities.is_some(), self.client.is_some());
        write!(f, "TlsConfig(own authorities: {own}, client certificate: {client})")
    }
}

/// Who adds permissions and attributes to a verified identity: an HTTP endpoint that answers JSON for a subject, or
/// the host.
#[derive(Clone, Debug)]
pub struct ProfileConfig {
    /// Where it is asked; `{subject}` and `{issuer}` stand for the percent-encoded names. `None`: the host answers.
    pub url: Option<String>,
    /// Bearer token sent with the request.
    pub bearer: Option<Secret>,
    /// Member of the answer that lists permissions. Default `permissions`.
    pub permissions_member: String,
    /// Permissions that it may add, as permission patterns. Default: none.
    pub permissions: Vec<String>,
    /// Members of the answer that become attributes. Default: none.
    pub attributes: Vec<String>,
    /// How long an answer is used again, in milliseconds. Default 60 s.
    pub cache_ms: u64,
    /// Whether a connection may open without it when it cannot be had. Default false: refused as unavailable.
    pub optional: bool,
    /// Certificates for the connections to it.
    pub tls: TlsConfig,
}

/// Who fetches what the engine must ask for, and within which bounds.
#[derive(Clone, Debug)]
pub struct LookupsConfig {
    /// Whether the server itself answers every lookup; else what has a URL is fetched for it. Default false.
    pub by_host: bool,
    /// Threads that fetch. Default 4.
    pub workers: usize,
    /// Lookups waiting for one of them; one more is refused as unavailable. Default 256.
    pub queue: usize,
    /// Time to find an address, and time to connect, in milliseconds. Default 1 s.
    pub connect_ms: u64,
    /// Time for one fetch from its first to its last byte, in milliseconds. Default 2 s.
    pub total_ms: u64,
    /// Failures in a row after which a source is left alone for a while. Default 5.
    pub breaker_failures: u32,
    /// The longest time a source is left alone, and the most that is made of a `Retry-After`, in milliseconds.
    /// Default 30 s.
    pub breaker_ms: u64,
    /// The HTTP proxy; `None`: none, whatever the environment says.
    pub proxy: Option<String>,
    /// Whether the start fails while a key set cannot be fetched. Default false: its tokens are refused meanwhile.
    pub require_keys: bool,
}

/// A shared secret.
#[derive(Clone, Debug)]
pub struct SecretKeyConfig {
    /// The secret.
    pub secret: Secret,
    /// Its key id, when tokens name it.
    pub key_id: Option<String>,
    /// When it stops, in seconds since 1970.
    pub not_after: Option<u64>,
}

/// A public key.
#[derive(Clone, Debug)]
pub struct PublicKeyConfig {
    /// PEM text or DER bytes of a SubjectPublicKeyInfo.
    pub material: Vec<u8>,
    /// Its key id, when tokens name it.
    pub key_id: Option<String>,
    /// The one algorithm it serves, when the issuer allows more than one that would fit.
    pub algorithm: Option<Algorithm>,
    /// When it stops, in seconds since 1970.
    pub not_after: Option<u64>,
}

/// Cookie sessions. The store is whoever answers `Session` lookups.
#[derive(Clone, Debug)]
pub struct SessionsConfig {
    /// Issuer name that session identities carry. Default `session`.
    pub issuer: String,
}

/// Places where a credential may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialSource {
    /// `Authorization: Bearer` (RFC 6750 section 2.1).
    Authorization,
    /// The configured cookie.
    Cookie,
    /// A `Sec-WebSocket-Protocol` item with a configured prefix.
    Subprotocol,
    /// The query parameter (RFC 6750 section 2.3), discouraged.
    Query,
    /// A one-use ticket in the query.
    Ticket,
    /// The first message on the open connection.
    FirstMessage,
}

/// What the configured cookie holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieHolds {
    /// A token.
    Token,
    /// A session id.
    Session,
}

/// What a handshake must look like.
#[derive(Clone, Debug)]
pub struct HandshakeConfig {
    /// Origins allowed: `https://app.example.com`, `https://*.example.com`. Checked at load.
    pub origins: Vec<String>,
    /// Whether a request without Origin is refused; `None` derives it from the credentials (RULES 9).
    pub require_origin: Option<bool>,
    /// Where a credential may stand.
    pub credentials: Vec<CredentialSource>,
    /// Name of the cookie. Default `__Host-ws`.
    pub cookie_name: String,
    /// What it holds.
    pub cookie_holds: CookieHolds,
    /// An explicit credential wins over the cookie instead of refusing both.
    pub cookie_beside_ignored: bool,
    /// Prefixes of the subprotocol that carries the token. Default `["wsauth.bearer."]`.
    pub subprotocol_prefixes: Vec<String>,
    /// Real subprotocols the server speaks, in order of preference; empty: the first offered is echoed.
    pub subprotocols: Vec<String>,
    /// Name of the query parameter that carries the token. Default `access_token`.
    pub query_parameter: String,
    /// Name of the query parameter that carries the ticket. Default `ticket`.
    pub ticket_parameter: String,
    /// Paths served; empty: every path. A trailing `/*` matches everything below.
    pub paths: Vec<String>,
    /// Hosts served; empty: every Host.
    pub hosts: Vec<String>,
    /// Proxies whose forwarded header is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether peers on a unix socket are believed like a trusted proxy.
    pub trust_unix_peers: bool,
    /// The one header read from trusted proxies, lower case. Default `x-forwarded-for`.
    pub forwarded_header: String,
    /// Addresses that are always refused.
    pub blocked: Vec<IpNet>,
    /// Permissions an identity must hold, all of them, to connect at all.
    pub required_permissions: Vec<String>,
    /// How long a peer may take to authenticate by first message, in milliseconds. Default 10 s.
    pub authentication_deadline_ms: u64,
    /// How long one handshake may wait for its lookups, in milliseconds. Default 5 s.
    pub lookup_deadline_ms: u64,
    /// Longest token in bytes. Default 16 KiB.
    pub max_token_bytes: usize,
    /// Most header fields. Default 128.
    pub max_fields: usize,
    /// Longest field value in bytes. Default 24 KiB.
    pub max_field_bytes: usize,
    /// Most bytes of all fields. Default 64 KiB.
    pub max_fields_bytes: usize,
}

/// What a message must look like.
#[derive(Clone, Debug)]
pub struct MessageConfig {
    /// Name of the field that holds the type. Default `type`.
    pub type_field: String,
    /// The message type under which binary frames are judged; `None` denies them.
    pub binary_type: Option<String>,
    /// Longest message in bytes. Default 64 KiB.
    pub max_bytes: usize,
    /// Deepest JSON. Default 32.
    pub max_depth: usize,
}

/// What one message type needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleConfig {
    /// Any of these permissions is enough. The single word `public` needs none.
    pub permissions: Vec<String>,
    /// What the message costs from the budget. Default 1.
    pub weight: u32,
}

/// How long a connection lives.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// Closed after this long without activity, in milliseconds. Default 30 min.
    pub idle_ms: u64,
    /// Closed at this age, in milliseconds. Default 24 h.
    pub max_age_ms: u64,
    /// Whether a permitted delivery counts as activity. Default false.
    pub count_deliveries: bool,
    /// Most connections. Default 1 Mi.
    pub max_connections: usize,
    /// Most connections waiting to be authenticated. Default 1,000.
    pub max_unauthenticated: usize,
    /// Most of these from one address. Default 10.
    pub max_unauthenticated_per_address: usize,
    /// Shards: outboxes and wheels. Default 1.
    pub shards: usize,
}

/// How a token is replaced on a live connection.
#[derive(Clone, Debug)]
pub struct RefreshConfig {
    /// The longest time before expiry at which a refresh is asked, in milliseconds. Default 300 s.
    pub lead_ms: u64,
    /// Refused attempts until the connection closes. Default 3.
    pub attempts: u32,
    /// Whether the new token may grant more. Default true.
    pub widen: bool,
    /// Whether connections close at once when their key is removed. Default false: they are asked to refresh.
    pub close_on_key_removed: bool,
}

/// A rate: `count` units per `per_ms`, and at most `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateConfig {
    /// Units per period.
    pub count: u32,
    /// The period in milliseconds.
    pub per_ms: u64,
    /// Units that may come at once.
    pub burst: u32,
}

/// What happens when a user opens one connection too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserLimitPolicy {
    /// The oldest connection is closed.
    EvictOldest,
    /// The new one is refused.
    Reject,
}

/// How much one peer may do.
#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// Live connections per client address. Default 10.
    pub connections_per_address: u32,
    /// Live connections per user. Default 20.
    pub connections_per_user: u32,
    /// What happens at the user limit.
    pub user_policy: UserLimitPolicy,
    /// Messages per user, over all their connections. Default 100 a minute, burst 20.
    pub messages_per_user: RateConfig,
    /// `auth` and `token_refresh` per connection's user. Default 6 a minute.
    pub control_per_user: RateConfig,
    /// Rate refusals within 60 s after which the connection is closed. Default 100.
    pub strikes: u32,
    /// Prefix length under which IPv6 clients count as one. Default 64.
    pub ipv6_prefix: u8,
    /// Most addresses and most users tracked. Default 1 Mi.
    pub max_tracked: usize,
}

/// Guessing of credentials.
#[derive(Clone, Debug)]
pub struct BruteForceConfig {
    /// Refusals of one address within the window above which an alert is raised. Default 10.
    pub alert_above: u32,
    /// The window in milliseconds. Default 5 min.
    pub window_ms: u64,
    /// Guesses within the window above which the address is blocked; `None` never blocks.
    pub block_above: Option<u32>,
    /// How long a block lasts in milliseconds. Default 5 min.
    pub block_ms: u64,
}

/// A close-code profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseProfile {
    /// 4001 to 4014.
    Default,
    /// The codes that graphql-ws clients understand.
    GraphqlWs,
}

/// Close codes.
#[derive(Clone, Debug)]
pub struct CloseConfig {
    /// The profile.
    pub profile: CloseProfile,
    /// Own codes: profile code to code sent.
    pub map: Vec<(u16, u16)>,
}

/// Revocation.
#[derive(Clone, Debug)]
pub struct RevocationConfig {
    /// Most rules. Default 100,000.
    pub max_rules: usize,
}

/// Audit.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// Most events waiting to be drained. Default 65,536.
    pub max_events: usize,
}
