//! This file answers: what crosses the border?
//!
//! Every type of the ABI. cbindgen reads this source, so everything is literal: no macros, no re-exports. Numbers
//! that come in are integers and are checked; a Rust enum from C would be undefined behaviour.
#![allow(non_camel_case_types, reason = "named as in C")]

use std::ffi::c_char;

use crate::result::wsauth_result;

/// The ABI. Raised when a program built against an older header would break.
pub const WSAUTH_ABI: u32 = 1;

/// The message is text.
pub const WSAUTH_PAYLOAD_TEXT: u32 = 1;
/// The message is binary.
pub const WSAUTH_PAYLOAD_BINARY: u32 = 2;

/// The peer's address is text: `192.0.2.1`, `2001:db8::1`.
pub const WSAUTH_PEER_TEXT: u32 = 1;
/// The peer's address is a struct sockaddr, as accept and getpeername write it.
pub const WSAUTH_PEER_SOCKADDR: u32 = 2;
/// The peer came over a unix socket; address is {NULL, 0}.
pub const WSAUTH_PEER_UNIX: u32 = 3;

/// Authenticated: finish the upgrade.
pub const WSAUTH_PROGRESS_LIVE: u32 = 1;
/// A question is out: hold the upgrade back until WSAUTH_EVENT_READY or _REFUSED, or accept it and hold messages.
pub const WSAUTH_PROGRESS_AUTHENTICATING: u32 = 2;
/// Finish the upgrade; the first message must authenticate, and wsauth_message takes it.
pub const WSAUTH_PROGRESS_AWAITING_AUTH: u32 = 3;

/// Nothing more to do.
pub const WSAUTH_ACTION_NONE: u32 = 0;
/// Keep the message, or stop reading, until WSAUTH_EVENT_READY.
pub const WSAUTH_ACTION_HOLD: u32 = 1;
/// The peer is answered by the next wsauth_poll.
pub const WSAUTH_ACTION_REPLY_QUEUED: u32 = 2;
/// The connection ends: the next wsauth_poll hands out its WSAUTH_EVENT_CLOSE, or has done so.
pub const WSAUTH_ACTION_CLOSE: u32 = 3;

/// Send `text` as a text message.
pub const WSAUTH_EVENT_SEND: u32 = 1;
/// A connection that was authenticating is live: finish the upgrade, or read on.
pub const WSAUTH_EVENT_READY: u32 = 2;
/// A connection that was authenticating is refused: answer with wsauth_refusal_http, or, where the upgrade was
/// finished already, close with `close_code` and `text`. Then say wsauth_connection_closed.
pub const WSAUTH_EVENT_REFUSED: u32 = 3;
/// Its permissions changed: `text` is `{"added":[...],"removed":[...]}`. Drop what it may no longer receive.
pub const WSAUTH_EVENT_PERMISSIONS: u32 = 4;
/// Close it with `close_code` and `text`. Then say wsauth_connection_closed.
pub const WSAUTH_EVENT_CLOSE: u32 = 5;

/// One connection, by `connection`. Leaves no rule behind: its token may connect again.
pub const WSAUTH_REVOKE_CONNECTION: u32 = 1;
/// One token: `name` is its jti.
pub const WSAUTH_REVOKE_TOKEN: u32 = 2;
/// One login session: `name` is its sid.
pub const WSAUTH_REVOKE_SESSION: u32 = 3;
/// All of one subject's credentials issued at or before `issued_before_s`: `name` is the subject.
pub const WSAUTH_REVOKE_SUBJECT: u32 = 4;
/// All of one issuer's credentials issued at or before `issued_before_s`.
pub const WSAUTH_REVOKE_ISSUER: u32 = 5;
/// All tokens one key signed: `name` is its kid.
pub const WSAUTH_REVOKE_KEY: u32 = 6;

/// There is no bus: the revocation holds in this process.
pub const WSAUTH_PROPAGATED_OFF: u32 = 0;
/// Other nodes hear of it.
pub const WSAUTH_PROPAGATED_YES: u32 = 1;
/// Other nodes could not be reached.
pub const WSAUTH_PROPAGATED_NO: u32 = 2;

/// The key set of `issuer`. Answer with WSAUTH_ANSWER_RESPONSE or _KEYS.
pub const WSAUTH_LOOKUP_KEYS: u32 = 1;
/// Is this opaque token of `issuer` active? Answer with WSAUTH_ANSWER_RESPONSE where there is a `url`, else with
/// _VOUCHED or _INACTIVE.
pub const WSAUTH_LOOKUP_INTROSPECTION: u32 = 2;
/// Is there a live session of this id? `issuer` is empty. Answer with WSAUTH_ANSWER_VOUCHED or _INACTIVE.
pub const WSAUTH_LOOKUP_SESSION: u32 = 3;
/// The discovery document of `issuer` (OpenID Connect Discovery 1.0). Answer with WSAUTH_ANSWER_RESPONSE.
pub const WSAUTH_LOOKUP_DISCOVERY: u32 = 4;
/// What is known of the verified subject `about` of `issuer`? Answer with WSAUTH_ANSWER_RESPONSE where there is a `url`,
/// else with _PROFILE or _INACTIVE.
pub const WSAUTH_LOOKUP_PROFILE: u32 = 5;

/// `document` is the key set, a JWKS.
pub const WSAUTH_ANSWER_KEYS: u32 = 1;
/// The source vouches for the credential: `subject`, `expires_at_ms` and what else it knows.
pub const WSAUTH_ANSWER_VOUCHED: u32 = 2;
/// The source says no: inactive, unknown, ended.
pub const WSAUTH_ANSWER_INACTIVE: u32 = 3;
/// The source did not answer, or not in a way that can be trusted.
pub const WSAUTH_ANSWER_UNAVAILABLE: u32 = 4;
/// The complete HTTP response of the `url` that was asked, whatever it says: `status`, `content_type`, `retry_after_ms`, and
/// the body as `document`. The engine judges it. Follow no redirect: hand it back as it is. Where there was no complete
/// response, or its body is above 1 MiB, say _UNAVAILABLE.
pub const WSAUTH_ANSWER_RESPONSE: u32 = 5;
/// What the server knows of a subject: `claims`, the members that an HTTP source would answer.
pub const WSAUTH_ANSWER_PROFILE: u32 = 6;

/// A connection. 0 is never one. A value, not a pointer: a stale one is refused. No secret, but nothing for a peer.
pub type wsauth_connection = u64;

/// Bytes that are borrowed. {NULL, 0} is empty; {NULL, n} is misuse. No terminating NUL is wanted or counted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsauth_bytes {
    /// The first byte.
    pub ptr: *const u8,
    /// How many.
    pub len: usize,
}

/// A name with a value: a header field of a request, or a field that fills a permission's pattern.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsauth_field {
    /// The name.
    pub name: wsauth_bytes,
    /// The value; of a header field without the white space around it.
    pub value: wsauth_bytes,
}

/// An upgrade request as the server received it. Begin with WSAUTH_REQUEST_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsauth_request {
    /// sizeof(wsauth_request). 0 is misuse.
    pub struct_size: u32,
    /// The shard whose wsauth_poll reports this connection. 0 unless `connection.shards` says there are more.
    pub shard: u32,
    /// The method.
    pub method: wsauth_bytes,
    /// The request target with its query, such as `/ws?room=7`.
    pub target: wsauth_bytes,
    /// Every header line in the order received; a repeated one stands here repeatedly.
    pub headers: *const wsauth_field,
    /// How many.
    pub header_count: usize,
    /// WSAUTH_PEER_TEXT, _SOCKADDR or _UNIX. 0 is misuse.
    pub peer_kind: u32,
    /// 0.
    pub reserved: u32,
    /// The other end of the socket, from the operating system and never from a header.
    pub peer: wsauth_bytes,
}

/// What to do besides what the result says. Written at every call, first with a refusal. It has no word on whether
/// something is allowed: only the result has.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsauth_decision {
    /// WSAUTH_ACTION_NONE, _HOLD, _REPLY_QUEUED or _CLOSE.
    pub action: u32,
    /// Milliseconds until another try can work; 0 where that is not known.
    pub retry_after_ms: u32,
    /// The close code under the configured profile; 0 when nothing is refused.
    pub close_code: u16,
    /// The HTTP status of such a refusal; 0 when nothing is refused.
    pub http_status: u16,
    /// 0.
    pub reserved: u32,
    /// The name the peer may see, and the reason text of a close frame. Static; "" when nothing is refused.
    pub public_name: *const c_char,
    /// What the client should do next: "refresh", "relogin", "retry", "retry_after", "never". Static; "" when
    /// nothing is refused.
    pub client_action: *const c_char,
}

/// An accepted handshake, or what to answer over HTTP.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsauth_handshake_result {
    /// The connection; 0 when refused.
    pub connection: wsauth_connection,
    /// WSAUTH_PROGRESS_LIVE, _AUTHENTICATING or _AWAITING_AUTH; 0 when refused.
    pub progress: u32,
    /// Milliseconds until another try can work; 0 where that is not known.
    pub retry_after_ms: u32,
    /// The HTTP status of the refusal; 0 when accepted.
    pub http_status: u16,
    /// The close code, for a server that accepts and then closes; 0 when accepted.
    pub close_code: u16,
    /// 0.
    pub reserved: u32,
    /// The reason text of that close frame. Static; "" when accepted.
    pub public_name: *const c_char,
    /// What the client should do next, as in wsauth_decision. Static; "" when accepted.
    pub client_action: *const c_char,
    /// The subprotocol to answer with, NUL-terminated; "" for none. Never the one that carried the token.
    pub subprotocol: [c_char; 256],
}

/// One thing the server must do for one connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsauth_event {
    /// The connection.
    pub connection: wsauth_connection,
    /// WSAUTH_EVENT_*. Skip kinds you do not know.
    pub kind: u32,
    /// Why, for _CLOSE and _REFUSED; else 0.
    pub reason: wsauth_result,
    /// Milliseconds until another try can work; 0 where that is not known.
    pub retry_after_ms: u32,
    /// The close code, for _CLOSE and _REFUSED; else 0.
    pub close_code: u16,
    /// 0.
    pub reserved: u16,
    /// The text, UTF-8; see the kind. Lives until the next wsauth_poll of this shard.
    pub text: wsauth_bytes,
}

/// What to revoke. Begin with WSAUTH_REVOCATION_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsauth_revocation {
    /// sizeof(wsauth_revocation). 0 is misuse.
    pub struct_size: u32,
    /// WSAUTH_REVOKE_*.
    pub kind: u32,
    /// For WSAUTH_REVOKE_CONNECTION.
    pub connection: wsauth_connection,
    /// The issuer, for all others.
    pub issuer: wsauth_bytes,
    /// The token's, session's, subject's or key's name.
    pub name: wsauth_bytes,
    /// Seconds since 1970; a credential issued in that second is refused too. 0 means now.
    pub issued_before_s: u64,
}

/// What a revocation did.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsauth_revoked {
    /// Connections closed in this process.
    pub closed: u64,
    /// WSAUTH_PROPAGATED_*.
    pub propagated: u32,
    /// 0.
    pub reserved: u32,
}

/// A question that the server can answer and wsauth cannot. Its views point into the buffer given.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsauth_lookup {
    /// Answer with this.
    pub id: u64,
    /// WSAUTH_LOOKUP_*.
    pub kind: u32,
    /// Milliseconds until an answer is of no use.
    pub timeout_ms: u32,
    /// The issuer; empty for a session.
    pub issuer: wsauth_bytes,
    /// What is asked about: the token, the session id, or the subject; empty for keys and discovery. The first two are
    /// secrets.
    pub about: wsauth_bytes,
    /// Where it is asked over HTTP, as the configuration has it; empty where the server knows.
    pub url: wsauth_bytes,
}

/// An answer. Begin with WSAUTH_ANSWER_INIT. Whoever makes one has verified it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsauth_answer {
    /// sizeof(wsauth_answer). 0 is misuse.
    pub struct_size: u32,
    /// WSAUTH_ANSWER_*.
    pub kind: u32,
    /// For _UNAVAILABLE and _RESPONSE: milliseconds until another try can work; 0 where that is not known.
    pub retry_after_ms: u32,
    /// For _RESPONSE: the HTTP status, 100 to 999.
    pub status: u32,
    /// For _KEYS: the document; for _RESPONSE: the body. At most 1 MiB.
    pub document: wsauth_bytes,
    /// For _VOUCHED: who it is; 1 to 1,024 bytes of UTF-8 without control characters.
    pub subject: wsauth_bytes,
    /// For _VOUCHED: when the credential is over, in milliseconds since 1970. 0 is long over.
    pub expires_at_ms: u64,
    /// When it was issued, in seconds since 1970; 0 where that is not known.
    pub issued_at_s: u64,
    /// The token's id; empty for none. So with the next three.
    pub token_id: wsauth_bytes,
    /// The login session.
    pub session_id: wsauth_bytes,
    /// The client the token was issued to.
    pub client_id: wsauth_bytes,
    /// The tenant.
    pub tenant: wsauth_bytes,
    /// Permissions, at most 256.
    pub permissions: *const wsauth_bytes,
    /// How many.
    pub permission_count: usize,
    /// For _VOUCHED, further claims; for _PROFILE, all members: one JSON object of at most 64 KiB, empty for none.
    pub claims: wsauth_bytes,
    /// For _RESPONSE: the value of Content-Type; empty when there is none, or more than one.
    pub content_type: wsauth_bytes,
}
