//! This file answers: which refusals exist, and what is each to the peer, the operator and the client?
//!
//! It is the single source. The faces, `docs/refusals.md` and the close frames are made from it. Numbers are
//! pinned and never reused; the thousands digit is the class.

/// Why something was refused. Stable: new ones are added, numbers and names are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum Reason {
    /// The connection handle is stale, closed or was never issued.
    MisuseHandle = 11001,
    /// An argument of the call is not valid.
    MisuseArgument = 11002,
    /// The server gave no usable peer address.
    MisusePeer = 11003,
    /// The shard is being polled by another thread.
    MisuseBusy = 11004,
    /// The blocking form was called where it would stop an event loop.
    MisuseBlocking = 11005,
    /// An internal fault was caught; the call decided nothing.
    FaultPanic = 12001,
    /// An internal invariant did not hold; the call decided nothing.
    FaultInternal = 12002,
    /// The configuration was refused.
    ConfigInvalid = 13001,
    /// No credential in any configured place.
    CredentialMissing = 14001,
    /// More than one credential in one request.
    CredentialAmbiguous = 14002,
    /// The field that carries the credential is malformed.
    CredentialMalformed = 14003,
    /// A token stands in the query, which is not switched on.
    CredentialSourceDisabled = 14004,
    /// The token is longer than the limit.
    TokenTooLarge = 14010,
    /// The token is not three strict base64url parts.
    TokenMalformed = 14011,
    /// The token header is not one strict JSON object.
    TokenHeaderMalformed = 14012,
    /// The algorithm is missing or not allowed for this issuer.
    TokenAlgorithm = 14013,
    /// The token header carries crit, b64, zip or enc.
    TokenCritical = 14014,
    /// The token header tries to bring its own key.
    TokenKeyEmbedded = 14015,
    /// The token is of another type than this issuer's access tokens.
    TokenType = 14016,
    /// The key id is not a short printable string.
    TokenKeyId = 14017,
    /// The token is no JWT and no issuer takes opaque tokens.
    TokenOpaque = 14018,
    /// No current key of the issuer has this key id and algorithm.
    KeyUnknown = 14020,
    /// The token names no key and more than one would fit.
    KeyAmbiguous = 14021,
    /// The signature does not hold.
    SignatureInvalid = 14022,
    /// The issuer is not configured.
    IssuerUnknown = 14023,
    /// The claims are not one strict JSON object.
    ClaimsMalformed = 14030,
    /// A required claim is absent.
    ClaimMissing = 14031,
    /// A claim has the wrong type or an impossible value.
    ClaimInvalid = 14032,
    /// The token has expired.
    TokenExpired = 14033,
    /// The token is not valid yet.
    TokenNotYetValid = 14034,
    /// The token was issued in the future.
    TokenIssuedInFuture = 14035,
    /// The token lives longer than this issuer may grant.
    TokenLifetime = 14036,
    /// The verified issuer is another than the one the keys belong to.
    IssuerMismatch = 14037,
    /// The token is meant for another audience.
    AudienceMismatch = 14038,
    /// The subject is absent, empty, too long or not clean text.
    SubjectInvalid = 14039,
    /// The token is bound to a key that was not proved.
    TokenBound = 14040,
    /// The token, its session, its subject or its key was revoked.
    TokenRevoked = 14041,
    /// The new token belongs to another identity.
    IdentityMismatch = 14042,
    /// The new token does not live longer than the present one.
    ExpiryNotLater = 14043,
    /// The new token grants more, which refresh.widen forbids.
    PermissionsWidened = 14044,
    /// The issuer says that the token is not active.
    TokenInactive = 14050,
    /// No live session has this id.
    SessionUnknown = 14051,
    /// The ticket is unknown, used or expired.
    TicketUnknown = 14052,
    /// The source that vouches for the credential did not answer.
    SourceUnavailable = 14053,
    /// The authentication expired.
    Expired = 15001,
    /// The connection was idle for too long.
    Inactive = 15002,
    /// The refresh was refused.
    RefreshFailed = 15003,
    /// No new token came in time.
    RefreshTimeout = 15004,
    /// The authentication was revoked.
    Revoked = 15005,
    /// No credential came in time.
    AuthenticationTimeout = 15006,
    /// The authentication cannot be confirmed at present.
    AuthenticationUnavailable = 15007,
    /// The connection reached its maximum age.
    MaxAge = 15008,
    /// The peer broke the control protocol.
    ProtocolError = 15009,
    /// The server is going away.
    Shutdown = 15010,
    /// This address holds too many connections.
    AddressConnections = 16001,
    /// This user holds too many connections.
    UserConnections = 16002,
    /// A newer connection of the same user took the place of this one.
    Evicted = 16003,
    /// Too many connections are waiting to be authenticated.
    UnauthenticatedConnections = 16004,
    /// The user's message budget is spent.
    MessageRate = 16005,
    /// Too many authentication messages.
    ControlRate = 16006,
    /// This address is blocked.
    Blocked = 16007,
    /// The server holds as many connections as it can.
    ConnectionsFull = 16008,
    /// The request is not a well-formed WebSocket upgrade.
    RequestMalformed = 17001,
    /// The request has too many or too large fields.
    RequestTooLarge = 17002,
    /// Nothing is served at this path.
    PathUnknown = 17003,
    /// The request has no Origin, which this credential needs.
    OriginMissing = 17004,
    /// The Origin is not allowed.
    OriginRefused = 17005,
    /// The request has more than one Origin.
    OriginRepeated = 17006,
    /// The forwarded client address cannot be read.
    AddressUnparsable = 17007,
    /// The Host is not one of this server's.
    HostRefused = 17008,
    /// The message is not one strict JSON object in UTF-8.
    MessageMalformed = 18001,
    /// The message is longer than the limit.
    MessageTooLarge = 18002,
    /// The message has no type of its own, as a string.
    MessageTypeMissing = 18003,
    /// A field that a rule reads stands more than once.
    MessageFieldRepeated = 18004,
    /// No rule allows this message type.
    MessageTypeUnknown = 18005,
    /// A field that a rule reads is absent or not clean text.
    MessageFieldInvalid = 18006,
    /// The identity lacks the permission for this.
    PermissionMissing = 18007,
    /// Binary messages are not accepted.
    MessageBinary = 18008,
    /// The message type is reserved for the server.
    MessageReserved = 18009,
    /// The identity lacks the permission to connect.
    InsufficientScope = 18010,
}

/// What the client should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Get a new token, then connect again.
    Refresh,
    /// The user must log in again.
    Relogin,
    /// Connect again, with back-off.
    Retry,
    /// Connect again, not before the given delay.
    RetryAfter,
    /// Trying the same again cannot work.
    Never,
}

impl Action {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Refresh => "refresh",
            Action::Relogin => "relogin",
            Action::Retry => "retry",
            Action::RetryAfter => "retry_after",
            Action::Never => "never",
        }
    }
}

/// The family of a reason: its number divided by a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 11: the calling server used the library wrongly.
    Misuse,
    /// 12: the library failed.
    Fault,
    /// 13: the configuration.
    Configuration,
    /// 14: the credential.
    Credential,
    /// 15: the life of the connection.
    Connection,
    /// 16: a limit.
    Limit,
    /// 17: the upgrade request.
    Request,
    /// 18: a message or a permission.
    Message,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The stable name, for hosts, audit and metrics.
    pub name: &'static str,
    /// The name the peer sees. Credential reasons share one, so that nothing can be probed.
    pub public: &'static str,
    /// The HTTP status of a refused handshake.
    pub http: u16,
    /// The close code in the profile `default`.
    pub close: u16,
    /// What the client should do next.
    pub action: Action,
    /// One sentence for the operator.
    pub text: &'static str,
}

impl Reason {
    /// Every reason, in the order of its number.
    pub const ALL: &'static [Reason] = &[
        Reason::MisuseHandle,
        Reason::MisuseArgument,
        Reason::MisusePeer,
        Reason::MisuseBusy,
        Reason::MisuseBlocking,
        Reason::FaultPanic,
        Reason::FaultInternal,
        Reason::ConfigInvalid,
        Reason::CredentialMissing,
        Reason::CredentialAmbiguous,
        Reason::CredentialMalformed,
        Reason::CredentialSourceDisabled,
        Reason::TokenTooLarge,
        Reason::TokenMalformed,
        Reason::TokenHeaderMalformed,
        Reason::TokenAlgorithm,
        Reason::TokenCritical,
        Reason::TokenKeyEmbedded,
        Reason::TokenType,
        Reason::TokenKeyId,
        Reason::TokenOpaque,
        Reason::KeyUnknown,
        Reason::KeyAmbiguous,
        Reason::SignatureInvalid,
        Reason::IssuerUnknown,
        Reason::ClaimsMalformed,
        Reason::ClaimMissing,
        Reason::ClaimInvalid,
        Reason::TokenExpired,
        Reason::TokenNotYetValid,
        Reason::TokenIssuedInFuture,
        Reason::TokenLifetime,
        Reason::IssuerMismatch,
        Reason::AudienceMismatch,
        Reason::SubjectInvalid,
        Reason::TokenBound,
        Reason::TokenRevoked,
        Reason::IdentityMismatch,
        Reason::ExpiryNotLater,
        Reason::PermissionsWidened,
        Reason::TokenInactive,
        Reason::SessionUnknown,
        Reason::TicketUnknown,
        Reason::SourceUnavailable,
        Reason::Expired,
        Reason::Inactive,
        Reason::RefreshFailed,
        Reason::RefreshTimeout,
        Reason::Revoked,
        Reason::AuthenticationTimeout,
        Reason::AuthenticationUnavailable,
        Reason::MaxAge,
        Reason::ProtocolError,
        Reason::Shutdown,
        Reason::AddressConnections,
        Reason::UserConnections,
        Reason::Evicted,
        Reason::UnauthenticatedConnections,
        Reason::MessageRate,
        Reason::ControlRate,
        Reason::Blocked,
        Reason::ConnectionsFull,
        Reason::RequestMalformed,
        Reason::RequestTooLarge,
        Reason::PathUnknown,
        Reason::OriginMissing,
        Reason::OriginRefused,
        Reason::OriginRepeated,
        Reason::AddressUnparsable,
        Reason::HostRefused,
        Reason::MessageMalformed,
        Reason::MessageTooLarge,
        Reason::MessageTypeMissing,
        Reason::MessageFieldRepeated,
        Reason::MessageTypeUnknown,
        Reason::MessageFieldInvalid,
        Reason::PermissionMissing,
        Reason::MessageBinary,
        Reason::MessageReserved,
        Reason::InsufficientScope,
    ];

    /// This reason's row of the table.
    #[rustfmt::skip]
    pub const fn row(self) -> Row {
        match self {
            Reason::MisuseHandle => row("misuse_handle", "misuse", 500, 4014, Action::Never, "the connection handle is stale, closed or was never issued"),
            Reason::MisuseArgument => row("misuse_argument", "misuse", 500, 4014, Action::Never, "an argument of the call is not valid"),
            Reason::MisusePeer => row("misuse_peer", "misuse", 500, 4014, Action::Never, "the server gave no usable peer address"),
            Reason::MisuseBusy => row("misuse_busy", "misuse", 500, 4014, Action::Never, "the shard is being polled by another thread"),
            Reason::MisuseBlocking => row("misuse_blocking", "misuse", 500, 4014, Action::Never, "the blocking form was called where it would stop an event loop"),
            Reason::FaultPanic => row("fault_panic", "unavailable", 503, 4012, Action::RetryAfter, "an internal fault was caught; the call decided nothing"),
            Reason::FaultInternal => row("fault_internal", "unavailable", 503, 4012, Action::RetryAfter, "an internal invariant did not hold; the call decided nothing"),
            Reason::ConfigInvalid => row("config_invalid", "misuse", 500, 4014, Action::Never, "the configuration was refused"),
            Reason::CredentialMissing => row("credential_missing", "auth_failed", 401, 4001, Action::Relogin, "no credential in any configured place"),
            Reason::CredentialAmbiguous => row("credential_ambiguous", "invalid_request", 400, 4001, Action::Never, "more than one credential in one request"),
            Reason::CredentialMalformed => row("credential_malformed", "invalid_request", 400, 4001, Action::Never, "the field that carries the credential is malformed"),
            Reason::CredentialSourceDisabled => row("credential_source_disabled", "invalid_request", 400, 4001, Action::Never, "a token stands in the query, which is not switched on"),
            Reason::TokenTooLarge => row("token_too_large", "auth_failed", 401, 4001, Action::Relogin, "the token is longer than the limit"),
            Reason::TokenMalformed => row("token_malformed", "auth_failed", 401, 4001, Action::Relogin, "the token is not three strict base64url parts"),
            Reason::TokenHeaderMalformed => row("token_header_malformed", "auth_failed", 401, 4001, Action::Relogin, "the token header is not one strict JSON object"),
            Reason::TokenAlgorithm => row("token_algorithm", "auth_failed", 401, 4001, Action::Relogin, "the algorithm is missing or not allowed for this issuer"),
            Reason::TokenCritical => row("token_critical", "auth_failed", 401, 4001, Action::Relogin, "the token header carries crit, b64, zip or enc"),
            Reason::TokenKeyEmbedded => row("token_key_embedded", "auth_failed", 401, 4001, Action::Relogin, "the token header tries to bring its own key"),
            Reason::TokenType => row("token_type", "auth_failed", 401, 4001, Action::Relogin, "the token is of another type than this issuer's access tokens"),
            Reason::TokenKeyId => row("token_key_id", "auth_failed", 401, 4001, Action::Relogin, "the key id is not a short printable string"),
            Reason::TokenOpaque => row("token_opaque", "auth_failed", 401, 4001, Action::Relogin, "the token is no JWT and no issuer takes opaque tokens"),
            Reason::KeyUnknown => row("key_unknown", "auth_failed", 401, 4001, Action::Relogin, "no current key of the issuer has this key id and algorithm"),
            Reason::KeyAmbiguous => row("key_ambiguous", "auth_failed", 401, 4001, Action::Relogin, "the token names no key and more than one would fit"),
            Reason::SignatureInvalid => row("signature_invalid", "auth_failed", 401, 4001, Action::Relogin, "the signature does not hold"),
            Reason::IssuerUnknown => row("issuer_unknown", "auth_failed", 401, 4001, Action::Relogin, "the issuer is not configured"),
            Reason::ClaimsMalformed => row("claims_malformed", "auth_failed", 401, 4001, Action::Relogin, "the claims are not one strict JSON object"),
            Reason::ClaimMissing => row("claim_missing", "auth_failed", 401, 4001, Action::Relogin, "a required claim is absent"),
            Reason::ClaimInvalid => row("claim_invalid", "auth_failed", 401, 4001, Action::Relogin, "a claim has the wrong type or an impossible value"),
            Reason::TokenExpired => row("token_expired", "token_expired", 401, 4002, Action::Refresh, "the token has expired"),
            Reason::TokenNotYetValid => row("token_not_yet_valid", "auth_failed", 401, 4001, Action::RetryAfter, "the token is not valid yet"),
            Reason::TokenIssuedInFuture => row("token_issued_in_future", "auth_failed", 401, 4001, Action::RetryAfter, "the token was issued in the future"),
            Reason::TokenLifetime => row("token_lifetime", "auth_failed", 401, 4001, Action::Relogin, "the token lives longer than this issuer may grant"),
            Reason::IssuerMismatch => row("issuer_mismatch", "auth_failed", 401, 4001, Action::Relogin, "the verified issuer is another than the one the keys belong to"),
            Reason::AudienceMismatch => row("audience_mismatch", "auth_failed", 401, 4001, Action::Relogin, "the token is meant for another audience"),
            Reason::SubjectInvalid => row("subject_invalid", "auth_failed", 401, 4001, Action::Relogin, "the subject is absent, empty, too long or not clean text"),
            Reason::TokenBound => row("token_bound", "auth_failed", 401, 4001, Action::Relogin, "the token is bound to a key that was not proved"),
            Reason::TokenRevoked => row("token_revoked", "auth_failed", 401, 4001, Action::Relogin, "the token, its session, its subject or its key was revoked"),
            Reason::IdentityMismatch => row("identity_mismatch", "auth_failed", 401, 4004, Action::Relogin, "the new token belongs to another identity"),
            Reason::ExpiryNotLater => row("expiry_not_later", "auth_failed", 401, 4004, Action::Refresh, "the new token does not live longer than the present one"),
            Reason::PermissionsWidened => row("permissions_widened", "auth_failed", 403, 4004, Action::Relogin, "the new token grants more, which refresh.widen forbids"),
            Reason::TokenInactive => row("token_inactive", "auth_failed", 401, 4001, Action::Relogin, "the issuer says that the token is not active"),
            Reason::SessionUnknown => row("session_unknown", "auth_failed", 401, 4001, Action::Relogin, "no live session has this id"),
            Reason::TicketUnknown => row("ticket_unknown", "auth_failed", 401, 4001, Action::Relogin, "the ticket is unknown, used or expired"),
            Reason::SourceUnavailable => row("source_unavailable", "unavailable", 503, 4012, Action::RetryAfter, "the source that vouches for the credential did not answer"),
            Reason::Expired => row("expired", "expired", 401, 4002, Action::Refresh, "the authentication expired"),
            Reason::Inactive => row("inactive", "inactive", 408, 4003, Action::Retry, "the connection was idle for too long"),
            Reason::RefreshFailed => row("refresh_failed", "refresh_failed", 401, 4004, Action::Relogin, "the refresh was refused"),
            Reason::RefreshTimeout => row("refresh_timeout", "refresh_timeout", 401, 4005, Action::Refresh, "no new token came in time"),
            Reason::Revoked => row("revoked", "revoked", 401, 4006, Action::Relogin, "the authentication was revoked"),
            Reason::AuthenticationTimeout => row("authentication_timeout", "authentication_timeout", 408, 4010, Action::Retry, "no credential came in time"),
            Reason::AuthenticationUnavailable => row("authentication_unavailable", "unavailable", 503, 4012, Action::RetryAfter, "the authentication cannot be confirmed at present"),
            Reason::MaxAge => row("max_age", "max_age", 401, 4013, Action::Retry, "the connection reached its maximum age"),
            Reason::ProtocolError => row("protocol_error", "protocol_error", 400, 4014, Action::Never, "the peer broke the control protocol"),
            Reason::Shutdown => row("shutdown", "shutdown", 503, 1001, Action::Retry, "the server is going away"),
            Reason::AddressConnections => row("address_connections", "connection_limit", 429, 4009, Action::RetryAfter, "this address holds too many connections"),
            Reason::UserConnections => row("user_connections", "connection_limit", 429, 4009, Action::RetryAfter, "this user holds too many connections"),
            Reason::Evicted => row("evicted", "connection_limit", 429, 4009, Action::Never, "a newer connection of the same user took the place of this one"),
            Reason::UnauthenticatedConnections => row("unauthenticated_connections", "connection_limit", 429, 4009, Action::RetryAfter, "too many connections are waiting to be authenticated"),
            Reason::MessageRate => row("message_rate", "rate_limited", 429, 4008, Action::RetryAfter, "the user's message budget is spent"),
            Reason::ControlRate => row("control_rate", "rate_limited", 429, 4008, Action::RetryAfter, "too many authentication messages"),
            Reason::Blocked => row("blocked", "forbidden", 403, 4008, Action::RetryAfter, "this address is blocked"),
            Reason::ConnectionsFull => row("connections_full", "unavailable", 503, 4012, Action::RetryAfter, "the server holds as many connections as it can"),
            Reason::RequestMalformed => row("request_malformed", "invalid_request", 400, 4014, Action::Never, "the request is not a well-formed WebSocket upgrade"),
            Reason::RequestTooLarge => row("request_too_large", "invalid_request", 400, 4014, Action::Never, "the request has too many or too large fields"),
            Reason::PathUnknown => row("path_unknown", "not_found", 404, 4014, Action::Never, "nothing is served at this path"),
            Reason::OriginMissing => row("origin_missing", "origin_refused", 403, 4011, Action::Never, "the request has no Origin, which this credential needs"),
            Reason::OriginRefused => row("origin_refused", "origin_refused", 403, 4011, Action::Never, "the Origin is not allowed"),
            Reason::OriginRepeated => row("origin_repeated", "invalid_request", 400, 4011, Action::Never, "the request has more than one Origin"),
            Reason::AddressUnparsable => row("address_unparsable", "invalid_request", 400, 4014, Action::Never, "the forwarded client address cannot be read"),
            Reason::HostRefused => row("host_refused", "invalid_request", 400, 4014, Action::Never, "the Host is not one of this server's"),
            Reason::MessageMalformed => row("message_malformed", "invalid_message", 400, 4014, Action::Never, "the message is not one strict JSON object in UTF-8"),
            Reason::MessageTooLarge => row("message_too_large", "invalid_message", 400, 4014, Action::Never, "the message is longer than the limit"),
            Reason::MessageTypeMissing => row("message_type_missing", "invalid_message", 400, 4014, Action::Never, "the message has no type of its own, as a string"),
            Reason::MessageFieldRepeated => row("message_field_repeated", "invalid_message", 400, 4014, Action::Never, "a field that a rule reads stands more than once"),
            Reason::MessageTypeUnknown => row("message_type_unknown", "permission_denied", 403, 4007, Action::Never, "no rule allows this message type"),
            Reason::MessageFieldInvalid => row("message_field_invalid", "invalid_message", 400, 4014, Action::Never, "a field that a rule reads is absent or not clean text"),
            Reason::PermissionMissing => row("permission_missing", "permission_denied", 403, 4007, Action::Never, "the identity lacks the permission for this"),
            Reason::MessageBinary => row("message_binary", "invalid_message", 400, 4014, Action::Never, "binary messages are not accepted"),
            Reason::MessageReserved => row("message_reserved", "protocol_error", 400, 4014, Action::Never, "the message type is reserved for the server"),
            Reason::InsufficientScope => row("insufficient_scope", "insufficient_scope", 403, 4007, Action::Relogin, "the identity lacks the permission to connect"),
        }
    }

    /// The stable number.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The stable name.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The family.
    pub const fn class(self) -> Class {
        match self.number() / 1000 {
            11 => Class::Misuse,
            12 => Class::Fault,
            13 => Class::Configuration,
            14 => Class::Credential,
            15 => Class::Connection,
            16 => Class::Limit,
            17 => Class::Request,
            _ => Class::Message,
        }
    }

    /// The sentence the peer may read: the same for all reasons with one public name.
    pub fn public_text(self) -> &'static str {
        match self.row().public {
            "auth_failed" => "authentication failed",
            "token_expired" => "the token has expired",
            "unavailable" => "authentication is unavailable at present",
            "invalid_request" => "the request is not valid",
            "invalid_message" => "the message is not valid",
            "permission_denied" => "permission denied",
            "insufficient_scope" => "the token does not allow this",
            "origin_refused" => "this origin is not allowed",
            "connection_limit" => "too many connections",
            "rate_limited" => "too many messages",
            "forbidden" => "forbidden",
            "not_found" => "not found",
            "misuse" => "internal server error",
            _ => self.row().text,
        }
    }
}

const fn row(
    name: &'static str,
    public: &'static str,
    http: u16,
    close: u16,
    action: Action,
    text: &'static str,
) -> Row {
    Row { name, public, http, close, action, text }
}

/// A refusal: the reason, and for how long to stay away where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Milliseconds until another try can work.
    pub retry_after_ms: Option<u32>,
}

impl Refusal {
    /// A refusal with a delay.
    pub const fn after(reason: Reason, retry_after_ms: u64) -> Refusal {
        let ms = if retry_after_ms > u32::MAX as u64 { u32::MAX } else { retry_after_ms as u32 };
        Refusal { reason, retry_after_ms: Some(ms) }
    }

    /// The row of its reason.
    pub const fn row(self) -> Row {
        self.reason.row()
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal { reason, retry_after_ms: None }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().text)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Action, Reason};

    #[test]
    fn every_reason_has_its_own_number_and_name() {
        let numbers: HashSet<u16> = Reason::ALL.iter().map(|reason| reason.number()).collect();
        let names: HashSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(numbers.len(), Reason::ALL.len());
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(Reason::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
    }

    #[test]
    fn what_the_peer_sees_is_a_legal_close_frame_and_gives_nothing_away() {
        for reason in Reason::ALL {
            let row = reason.row();
            assert!(row.close == 1001 || (4001..=4014).contains(&row.close), "{}", row.name);
            assert!(matches!(row.http, 400 | 401 | 403 | 404 | 408 | 429 | 500 | 503), "{}", row.name);
            assert!(row.public.len() <= 123 && row.public.is_ascii());
            if (14010..=14052).contains(&reason.number()) && *reason != Reason::TokenExpired {
                assert_eq!(row.public, "auth_failed", "{}", row.name);
            }
            if row.http == 503 || row.http == 429 {
                let stays = matches!(*reason, Reason::Evicted | Reason::Shutdown);
                assert!(stays || row.action == Action::RetryAfter, "{}", row.name);
            }
        }
    }
}
