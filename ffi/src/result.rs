//! This file answers: which number stands for which result?
//!
//! The numbers of `wsauth::Reason`, literal because cbindgen reads source; a test holds both against each other.

/// What a call came to. 0 is yes, everything else is no; the thousands say which kind of no.
#[allow(non_camel_case_types, reason = "named as in C")]
pub type wsauth_result = u32;

/// Yes: let in, deliver, send. For calls that decide nothing: done.
pub const WSAUTH_OK: u32 = 0;
/// A control message for wsauth, or one of the client's that wsauth answers. Nothing to deliver; all is well.
pub const WSAUTH_HANDLED_CONSUMED: u32 = 10001;
/// The connection is still being authenticated: stop reading, or offer the message again after WSAUTH_EVENT_READY.
pub const WSAUTH_HANDLED_HOLD: u32 = 10002;
/// The buffer is too small. Nothing was taken; *needed says how large it must be.
pub const WSAUTH_HANDLED_BUFFER: u32 = 10003;
/// Nothing is waiting.
pub const WSAUTH_HANDLED_EMPTY: u32 = 10004;
/// Somebody must be asked first; the outcome comes as an event.
pub const WSAUTH_HANDLED_PENDING: u32 = 10005;
/// The connection handle is stale, closed or was never issued.
pub const WSAUTH_MISUSE_HANDLE: u32 = 11001;
/// An argument of the call is not valid.
pub const WSAUTH_MISUSE_ARGUMENT: u32 = 11002;
/// The server gave no usable peer address.
pub const WSAUTH_MISUSE_PEER: u32 = 11003;
/// The shard is being polled by another thread.
pub const WSAUTH_MISUSE_BUSY: u32 = 11004;
/// The blocking form was called where it would stop an event loop.
pub const WSAUTH_MISUSE_BLOCKING: u32 = 11005;
/// An internal fault was caught; the call decided nothing.
pub const WSAUTH_FAULT_PANIC: u32 = 12001;
/// An internal invariant did not hold; the call decided nothing.
pub const WSAUTH_FAULT_INTERNAL: u32 = 12002;
/// The configuration was refused.
pub const WSAUTH_CONFIG_INVALID: u32 = 13001;
/// No credential in any configured place.
pub const WSAUTH_CREDENTIAL_MISSING: u32 = 14001;
/// More than one credential in one request.
pub const WSAUTH_CREDENTIAL_AMBIGUOUS: u32 = 14002;
/// The field that carries the credential is malformed.
pub const WSAUTH_CREDENTIAL_MALFORMED: u32 = 14003;
/// A token stands in the query, which is not switched on.
pub const WSAUTH_CREDENTIAL_SOURCE_DISABLED: u32 = 14004;
/// The token is longer than the limit.
pub const WSAUTH_TOKEN_TOO_LARGE: u32 = 14010;
/// The token is not three strict base64url parts.
pub const WSAUTH_TOKEN_MALFORMED: u32 = 14011;
/// The token header is not one strict JSON object.
pub const WSAUTH_TOKEN_HEADER_MALFORMED: u32 = 14012;
/// The algorithm is missing or not allowed for this issuer.
pub const WSAUTH_TOKEN_ALGORITHM: u32 = 14013;
/// The token header carries crit, b64, zip or enc.
pub const WSAUTH_TOKEN_CRITICAL: u32 = 14014;
/// The token header tries to bring its own key.
pub const WSAUTH_TOKEN_KEY_EMBEDDED: u32 = 14015;
/// The token is of another type than this issuer's access tokens.
pub const WSAUTH_TOKEN_TYPE: u32 = 14016;
/// The key id is not a short printable string.
pub const WSAUTH_TOKEN_KEY_ID: u32 = 14017;
/// The token is no JWT and no issuer takes opaque tokens.
pub const WSAUTH_TOKEN_OPAQUE: u32 = 14018;
/// No current key of the issuer has this key id and algorithm.
pub const WSAUTH_KEY_UNKNOWN: u32 = 14020;
/// The token names no key and more than one would fit.
pub const WSAUTH_KEY_AMBIGUOUS: u32 = 14021;
/// The signature does not hold.
pub const WSAUTH_SIGNATURE_INVALID: u32 = 14022;
/// The issuer is not configured.
pub const WSAUTH_ISSUER_UNKNOWN: u32 = 14023;
/// The claims are not one strict JSON object.
pub const WSAUTH_CLAIMS_MALFORMED: u32 = 14030;
/// A required claim is absent.
pub const WSAUTH_CLAIM_MISSING: u32 = 14031;
/// A claim has the wrong type or an impossible value.
pub const WSAUTH_CLAIM_INVALID: u32 = 14032;
/// The token has expired.
pub const WSAUTH_TOKEN_EXPIRED: u32 = 14033;
/// The token is not valid yet.
pub const WSAUTH_TOKEN_NOT_YET_VALID: u32 = 14034;
/// The token was issued in the future.
pub const WSAUTH_TOKEN_ISSUED_IN_FUTURE: u32 = 14035;
/// The token lives longer than this issuer may grant.
pub const WSAUTH_TOKEN_LIFETIME: u32 = 14036;
/// The verified issuer is another than the one the keys belong to.
pub const WSAUTH_ISSUER_MISMATCH: u32 = 14037;
/// The token is meant for another audience.
pub const WSAUTH_AUDIENCE_MISMATCH: u32 = 14038;
/// The subject is absent, empty, too long or not clean text.
pub const WSAUTH_SUBJECT_INVALID: u32 = 14039;
/// The token is bound to a key that was not proved.
pub const WSAUTH_TOKEN_BOUND: u32 = 14040;
/// The token, its session, its subject or its key was revoked.
pub const WSAUTH_TOKEN_REVOKED: u32 = 14041;
/// The new token belongs to another identity.
pub const WSAUTH_IDENTITY_MISMATCH: u32 = 14042;
/// The new token does not live longer than the present one.
pub const WSAUTH_EXPIRY_NOT_LATER: u32 = 14043;
/// The new token grants more, which refresh.widen forbids.
pub const WSAUTH_PERMISSIONS_WIDENED: u32 = 14044;
/// The issuer says that the token is not active.
pub const WSAUTH_TOKEN_INACTIVE: u32 = 14050;
/// No live session has this id.
pub const WSAUTH_SESSION_UNKNOWN: u32 = 14051;
/// The ticket is unknown, used or expired.
pub const WSAUTH_TICKET_UNKNOWN: u32 = 14052;
/// The source that vouches for the credential did not answer.
pub const WSAUTH_SOURCE_UNAVAILABLE: u32 = 14053;
/// The authentication expired.
pub const WSAUTH_EXPIRED: u32 = 15001;
/// The connection was idle for too long.
pub const WSAUTH_INACTIVE: u32 = 15002;
/// The refresh was refused.
pub const WSAUTH_REFRESH_FAILED: u32 = 15003;
/// No new token came in time.
pub const WSAUTH_REFRESH_TIMEOUT: u32 = 15004;
/// The authentication was revoked.
pub const WSAUTH_REVOKED: u32 = 15005;
/// No credential came in time.
pub const WSAUTH_AUTHENTICATION_TIMEOUT: u32 = 15006;
/// The authentication cannot be confirmed at present.
pub const WSAUTH_AUTHENTICATION_UNAVAILABLE: u32 = 15007;
/// The connection reached its maximum age.
pub const WSAUTH_MAX_AGE: u32 = 15008;
/// The peer broke the control protocol.
pub const WSAUTH_PROTOCOL_ERROR: u32 = 15009;
/// The server is going away.
pub const WSAUTH_SHUTDOWN: u32 = 15010;
/// This address holds too many connections.
pub const WSAUTH_ADDRESS_CONNECTIONS: u32 = 16001;
/// This user holds too many connections.
pub const WSAUTH_USER_CONNECTIONS: u32 = 16002;
/// A newer connection of the same user took the place of this one.
pub const WSAUTH_EVICTED: u32 = 16003;
/// Too many connections are waiting to be authenticated.
pub const WSAUTH_UNAUTHENTICATED_CONNECTIONS: u32 = 16004;
/// The user's message budget is spent.
pub const WSAUTH_MESSAGE_RATE: u32 = 16005;
/// Too many authentication messages.
pub const WSAUTH_CONTROL_RATE: u32 = 16006;
/// This address is blocked.
pub const WSAUTH_BLOCKED: u32 = 16007;
/// The server holds as many connections as it can.
pub const WSAUTH_CONNECTIONS_FULL: u32 = 16008;
/// The request is not a well-formed WebSocket upgrade.
pub const WSAUTH_REQUEST_MALFORMED: u32 = 17001;
/// The request has too many or too large fields.
pub const WSAUTH_REQUEST_TOO_LARGE: u32 = 17002;
/// Nothing is served at this path.
pub const WSAUTH_PATH_UNKNOWN: u32 = 17003;
/// The request has no Origin, which this credential needs.
pub const WSAUTH_ORIGIN_MISSING: u32 = 17004;
/// The Origin is not allowed.
pub const WSAUTH_ORIGIN_REFUSED: u32 = 17005;
/// The request has more than one Origin.
pub const WSAUTH_ORIGIN_REPEATED: u32 = 17006;
/// The forwarded client address cannot be read.
pub const WSAUTH_ADDRESS_UNPARSABLE: u32 = 17007;
/// The Host is not one of this server's.
pub const WSAUTH_HOST_REFUSED: u32 = 17008;
/// The message is not one strict JSON object in UTF-8.
pub const WSAUTH_MESSAGE_MALFORMED: u32 = 18001;
/// The message is longer than the limit.
pub const WSAUTH_MESSAGE_TOO_LARGE: u32 = 18002;
/// The message has no type of its own, as a string.
pub const WSAUTH_MESSAGE_TYPE_MISSING: u32 = 18003;
/// A field that a rule reads stands more than once.
pub const WSAUTH_MESSAGE_FIELD_REPEATED: u32 = 18004;
/// No rule allows this message type.
pub const WSAUTH_MESSAGE_TYPE_UNKNOWN: u32 = 18005;
/// A field that a rule reads is absent or not clean text.
pub const WSAUTH_MESSAGE_FIELD_INVALID: u32 = 18006;
/// The identity lacks the permission for this.
pub const WSAUTH_PERMISSION_MISSING: u32 = 18007;
/// Binary messages are not accepted.
pub const WSAUTH_MESSAGE_BINARY: u32 = 18008;
/// The message type is reserved for the server.
pub const WSAUTH_MESSAGE_RESERVED: u32 = 18009;
/// The identity lacks the permission to connect.
pub const WSAUTH_INSUFFICIENT_SCOPE: u32 = 18010;
