/* wsauth: who may open a WebSocket, what each message may do, and when the connection must end.
 *
 * Made by admin/header.sh from ffi/src. This page is the contract; it is enough to write a server.
 *
 * WHAT IT IS
 *   Your server keeps its sockets and asks. wsauth_handshake decides an upgrade request, wsauth_message each message
 *   that comes in, wsauth_authorize_delivery each thing you want to send. What wsauth has to say to a peer, and when
 *   a connection must be closed, comes out of wsauth_poll. Say wsauth_connection_closed when a socket is gone.
 *   Tokens expire, are refreshed and revoked, permissions change, budgets run out: all of that is behind these calls.
 *
 * WHAT 0 MEANS
 *   WSAUTH_OK is 0 and is the only yes. Everything else is a no: a refusal, misuse, a caught bug, a number that you do
 *   not know. Permission is only ever in the return value; no struct has it. Assign the result where you declare it:
 *
 *       wsauth_result result = wsauth_message(...);
 *       if (result != WSAUTH_OK) ...
 *
 *   10xxx   handled, nothing to deliver: WSAUTH_HANDLED_CONSUMED (it was for wsauth), _HOLD (still authenticating),
 *           _BUFFER (yours is too small, nothing was taken), _EMPTY (nothing waits), _PENDING (an event will tell)
 *   11xxx   misuse: a NULL engine, a stale handle, bad arguments. Nothing was done.
 *   12xxx   a fault of the library. Nothing was decided, the engine goes on.
 *   13xxx   the configuration   14xxx  the credential   15xxx  the life of the connection
 *   16xxx   a limit             17xxx  the request      18xxx  a message or a permission
 *   wsauth_reason_name(result) names it for your log. The peer may see only the public name and what
 *   wsauth_refusal_http renders: all credential failures look alike to it.
 *
 * WHO OWNS WHAT
 *   The engine is yours: wsauth_engine_new makes it, wsauth_engine_free ends it; a pointer with the usual C rule.
 *   A connection is a 64-bit number, no pointer: one that is stale, closed or was never issued is WSAUTH_MISUSE_HANDLE
 *   and nothing else, in every call. What you pass in is borrowed for the call. What comes out is copied into your
 *   memory, except static names, which live for ever, and the texts of events, which live until the next wsauth_poll of
 *   that shard. There is nothing else to free.
 *
 * POINTERS
 *   A view is a pointer and a length, not NUL-terminated; any bytes. {NULL, 0} is empty, {NULL, n} is misuse, a length
 *   above the bound is refused before the pointer is looked at. Structs that go in begin with their size: start with
 *   WSAUTH_REQUEST_INIT and its kin. Outputs are written first with a value that denies, then with the result; they may
 *   be NULL where it says so. Copied text takes (buffer, capacity, needed): it is written whole, with a NUL, or not at
 *   all, and *needed is the room it takes with its NUL. {NULL, 0} asks for the size. Numbers that go in are checked.
 *
 * THREADS
 *   Any function, from any thread, at any time, on one engine, also on one connection; only one thread polls a shard at
 *   a time, the second gets WSAUTH_MISUSE_BUSY; wsauth_engine_free runs alone. A shard is a reactor's room: with
 *   connection.shards = n, connections opened on a shard are reported by that shard's wsauth_poll and descriptor.
 *   The library calls nothing of yours, installs no handler but one for fork, and touches no signal. It starts threads only
 *   to fetch what the configuration gives a URL (see ASKING), at the first question, with all signals blocked;
 *   wsauth_engine_free stops and joins them. Key sets are asked for at the first wsauth_engine_wake_descriptor, wsauth_poll
 *   of shard 0 or wsauth_handshake, whichever comes first.
 *   No exception and no longjmp may pass through it; none can, since it does not call you.
 *
 * WHAT IT COSTS
 *   A message: one pass over it; without a pattern no lock, no allocation, no system call beyond the clock.
 *   A handshake: one signature, 0.5 to 50 microseconds. Everything an attacker can send is bounded before it is read.
 *   No call but wsauth_engine_free, which joins, blocks or waits for a network.
 *
 * ASKING
 *   Keys by URL, opaque tokens, cookie sessions and profiles: somebody must be asked, and a connection is `authenticating`
 *   while the question is out; then WSAUTH_EVENT_READY or _REFUSED comes.
 *   What has a URL in the configuration the library's own workers fetch. What has none is yours: take it with
 *   wsauth_lookup_next, ask whoever knows, and say wsauth_lookup_answer within its timeout.
 *   With `[lookups] driver = "host"` every question is yours, those with a `url` too, and no thread is ever started: fetch the
 *   url with your own client, https only, following no redirect, and hand the whole response back as WSAUTH_ANSWER_RESPONSE.
 *   The engine judges it like its own. What tokens or client secrets go into the request is up to you then.
 *
 * FORK
 *   A child (of fork, not of a bare clone) gets a fresh engine at its first call: new tables, seeds and descriptors. All
 *   connections of the parent are stale there; take the wake descriptor again. Limits and revocations are per process.
 *   wsauth_engine_free in a child leaves what was copied from the parent alone.
 *
 * SECRETS
 *   No text that comes out holds a token, a session id or a key, except the question of wsauth_lookup_next, which you
 *   should wipe. Handles are no secrets, but nothing for a peer either.
 *
 * EXAMPLE, the whole of a guarded server with one thread
 *   static void on_upgrade(wsauth_engine *engine, const wsauth_request *request)
 *   {
 *       wsauth_handshake_result out;
 *       wsauth_result result = wsauth_handshake(engine, request, &out);
 *       if (result != WSAUTH_OK) {
 *           char http[1024];
 *           if (wsauth_refusal_http(result, out.retry_after_ms, http, sizeof http, NULL) == WSAUTH_OK)
 *               server_answer(http, strlen(http));
 *           return;
 *       }
 *       server_finish_upgrade(out.connection, out.subprotocol);
 *   }
 *
 *   static void on_message(wsauth_engine *engine, wsauth_connection c, const uint8_t *data, size_t len)
 *   {
 *       wsauth_result result = wsauth_message(engine, c, WSAUTH_PAYLOAD_TEXT, data, len, NULL);
 *       if (result == WSAUTH_OK)
 *           application(c, data, len);
 *       // WSAUTH_HANDLED_HOLD: stop reading until WSAUTH_EVENT_READY. Else: poll answers the peer.
 *   }
 *
 *   static void loop(wsauth_engine *engine)
 *   {
 *       int fd, timeout = 0;
 *       if (wsauth_engine_wake_descriptor(engine, 0, &fd) != WSAUTH_OK)
 *           return;
 *       while (server_runs()) {
 *           struct pollfd wait = {fd, POLLIN, 0};
 *           wsauth_event events[64];
 *           size_t count = 0, i;
 *           poll(&wait, 1, timeout);
 *           server_io(); // calls on_upgrade and on_message
 *           if (wsauth_poll(engine, 0, events, 64, sizeof *events, &count, &timeout) != WSAUTH_OK)
 *               continue;
 *           for (i = 0; i < count; i++) {
 *               if (events[i].kind == WSAUTH_EVENT_SEND)
 *                   server_send(events[i].connection, events[i].text.ptr, events[i].text.len);
 *               if (events[i].kind == WSAUTH_EVENT_CLOSE || events[i].kind == WSAUTH_EVENT_REFUSED) {
 *                   server_close(events[i].connection, events[i].close_code);
 *                   wsauth_connection_closed(engine, events[i].connection);
 *               }
 *           }
 *       }
 *   }
 */

#ifndef WSAUTH_H
#define WSAUTH_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header; wsauth_version_number() is that of the library. */
#define WSAUTH_VERSION_MAJOR 0
#define WSAUTH_VERSION_MINOR 1
#define WSAUTH_VERSION_PATCH 0
#define WSAUTH_VERSION_NUMBER (WSAUTH_VERSION_MAJOR * 1000000 + WSAUTH_VERSION_MINOR * 1000 + WSAUTH_VERSION_PATCH)
#define WSAUTH_VERSION "0.1.0"

/* The compiler warns where a result is not looked at. */
#if defined(__GNUC__) || defined(__clang__)
#define WSAUTH_MUST_CHECK __attribute__((warn_unused_result))
#else
#define WSAUTH_MUST_CHECK
#endif

/* Structs that go in begin with these. They need C99 or C++20 designators nowhere: the size is the first member. */
#define WSAUTH_REQUEST_INIT {sizeof(wsauth_request), 0, {0, 0}, {0, 0}, 0, 0, 0, 0, {0, 0}}
#define WSAUTH_REVOCATION_INIT {sizeof(wsauth_revocation), 0, 0, {0, 0}, {0, 0}, 0}
#define WSAUTH_ANSWER_INIT \
    {sizeof(wsauth_answer), 0, 0, 0, {0, 0}, {0, 0}, 0, 0, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, 0, {0, 0}, {0, 0}}

/* The class of a result: 10 handled, 11 misuse, 12 fault, 13 configuration, 14 credential, 15 the life of the
 * connection, 16 a limit, 17 the upgrade request, 18 a message. 0 for WSAUTH_OK. */
#define WSAUTH_CLASS(result) ((result) / 1000)

/* The ABI. Raised when a program built against an older header would break. */
#define WSAUTH_ABI 1
/* The message is text. */
#define WSAUTH_PAYLOAD_TEXT 1
/* The message is binary. */
#define WSAUTH_PAYLOAD_BINARY 2
/* The peer's address is text: `192.0.2.1`, `2001:db8::1`. */
#define WSAUTH_PEER_TEXT 1
/* The peer's address is a struct sockaddr, as accept and getpeername write it. */
#define WSAUTH_PEER_SOCKADDR 2
/* The peer came over a unix socket; address is {NULL, 0}. */
#define WSAUTH_PEER_UNIX 3
/* Authenticated: finish the upgrade. */
#define WSAUTH_PROGRESS_LIVE 1
/* A question is out: hold the upgrade back until WSAUTH_EVENT_READY or _REFUSED, or accept it and hold messages. */
#define WSAUTH_PROGRESS_AUTHENTICATING 2
/* Finish the upgrade; the first message must authenticate, and wsauth_message takes it. */
#define WSAUTH_PROGRESS_AWAITING_AUTH 3
/* Nothing more to do. */
#define WSAUTH_ACTION_NONE 0
/* Keep the message, or stop reading, until WSAUTH_EVENT_READY. */
#define WSAUTH_ACTION_HOLD 1
/* The peer is answered by the next wsauth_poll. */
#define WSAUTH_ACTION_REPLY_QUEUED 2
/* The connection ends: the next wsauth_poll hands out its WSAUTH_EVENT_CLOSE, or has done so. */
#define WSAUTH_ACTION_CLOSE 3
/* Send `text` as a text message. */
#define WSAUTH_EVENT_SEND 1
/* A connection that was authenticating is live: finish the upgrade, or read on. */
#define WSAUTH_EVENT_READY 2

/* A connection that was authenticating is refused: answer with wsauth_refusal_http, or, where the upgrade was
 * finished already, close with `close_code` and `text`. Then say wsauth_connection_closed. */
#define WSAUTH_EVENT_REFUSED 3
/* Its permissions changed: `text` is `{"added":[...],"removed":[...]}`. Drop what it may no longer receive. */
#define WSAUTH_EVENT_PERMISSIONS 4
/* Close it with `close_code` and `text`. Then say wsauth_connection_closed. */
#define WSAUTH_EVENT_CLOSE 5
/* One connection, by `connection`. Leaves no rule behind: its token may connect again. */
#define WSAUTH_REVOKE_CONNECTION 1
/* One token: `name` is its jti. */
#define WSAUTH_REVOKE_TOKEN 2
/* One login session: `name` is its sid. */
#define WSAUTH_REVOKE_SESSION 3
/* All of one subject's credentials issued at or before `issued_before_s`: `name` is the subject. */
#define WSAUTH_REVOKE_SUBJECT 4
/* All of one issuer's credentials issued at or before `issued_before_s`. */
#define WSAUTH_REVOKE_ISSUER 5
/* All tokens one key signed: `name` is its kid. */
#define WSAUTH_REVOKE_KEY 6
/* There is no bus: the revocation holds in this process. */
#define WSAUTH_PROPAGATED_OFF 0
/* Other nodes hear of it. */
#define WSAUTH_PROPAGATED_YES 1
/* Other nodes could not be reached. */
#define WSAUTH_PROPAGATED_NO 2
/* The key set of `issuer`. Answer with WSAUTH_ANSWER_RESPONSE or _KEYS. */
#define WSAUTH_LOOKUP_KEYS 1

/* Is this opaque token of `issuer` active? Answer with WSAUTH_ANSWER_RESPONSE where there is a `url`, else with
 * _VOUCHED or _INACTIVE. */
#define WSAUTH_LOOKUP_INTROSPECTION 2
/* Is there a live session of this id? `issuer` is empty. Answer with WSAUTH_ANSWER_VOUCHED or _INACTIVE. */
#define WSAUTH_LOOKUP_SESSION 3
/* The discovery document of `issuer` (OpenID Connect Discovery 1.0). Answer with WSAUTH_ANSWER_RESPONSE. */
#define WSAUTH_LOOKUP_DISCOVERY 4

/* What is known of the verified subject `about` of `issuer`? Answer with WSAUTH_ANSWER_RESPONSE where there is a `url`,
 * else with _PROFILE or _INACTIVE. */
#define WSAUTH_LOOKUP_PROFILE 5
/* `document` is the key set, a JWKS. */
#define WSAUTH_ANSWER_KEYS 1
/* The source vouches for the credential: `subject`, `expires_at_ms` and what else it knows. */
#define WSAUTH_ANSWER_VOUCHED 2
/* The source says no: inactive, unknown, ended. */
#define WSAUTH_ANSWER_INACTIVE 3
/* The source did not answer, or not in a way that can be trusted. */
#define WSAUTH_ANSWER_UNAVAILABLE 4

/* The complete HTTP response of the `url` that was asked, whatever it says: `status`, `content_type`, `retry_after_ms`, and
 * the body as `document`. The engine judges it. Follow no redirect: hand it back as it is. Where there was no complete
 * response, or its body is above 1 MiB, say _UNAVAILABLE. */
#define WSAUTH_ANSWER_RESPONSE 5
/* What the server knows of a subject: `claims`, the members that an HTTP source would answer. */
#define WSAUTH_ANSWER_PROFILE 6
/* Yes: let in, deliver, send. For calls that decide nothing: done. */
#define WSAUTH_OK 0
/* A control message for wsauth, or one of the client's that wsauth answers. Nothing to deliver; all is well. */
#define WSAUTH_HANDLED_CONSUMED 10001
/* The connection is still being authenticated: stop reading, or offer the message again after WSAUTH_EVENT_READY. */
#define WSAUTH_HANDLED_HOLD 10002
/* The buffer is too small. Nothing was taken; *needed says how large it must be. */
#define WSAUTH_HANDLED_BUFFER 10003
/* Nothing is waiting. */
#define WSAUTH_HANDLED_EMPTY 10004
/* Somebody must be asked first; the outcome comes as an event. */
#define WSAUTH_HANDLED_PENDING 10005
/* The connection handle is stale, closed or was never issued. */
#define WSAUTH_MISUSE_HANDLE 11001
/* An argument of the call is not valid. */
#define WSAUTH_MISUSE_ARGUMENT 11002
/* The server gave no usable peer address. */
#define WSAUTH_MISUSE_PEER 11003
/* The shard is being polled by another thread. */
#define WSAUTH_MISUSE_BUSY 11004
/* The blocking form was called where it would stop an event loop. */
#define WSAUTH_MISUSE_BLOCKING 11005
/* An internal fault was caught; the call decided nothing. */
#define WSAUTH_FAULT_PANIC 12001
/* An internal invariant did not hold; the call decided nothing. */
#define WSAUTH_FAULT_INTERNAL 12002
/* The configuration was refused. */
#define WSAUTH_CONFIG_INVALID 13001
/* No credential in any configured place. */
#define WSAUTH_CREDENTIAL_MISSING 14001
/* More than one credential in one request. */
#define WSAUTH_CREDENTIAL_AMBIGUOUS 14002
/* The field that carries the credential is malformed. */
#define WSAUTH_CREDENTIAL_MALFORMED 14003
/* A token stands in the query, which is not switched on. */
#define WSAUTH_CREDENTIAL_SOURCE_DISABLED 14004
/* The token is longer than the limit. */
#define WSAUTH_TOKEN_TOO_LARGE 14010
/* The token is not three strict base64url parts. */
#define WSAUTH_TOKEN_MALFORMED 14011
/* The token header is not one strict JSON object. */
#define WSAUTH_TOKEN_HEADER_MALFORMED 14012
/* The algorithm is missing or not allowed for this issuer. */
#define WSAUTH_TOKEN_ALGORITHM 14013
/* The token header carries crit, b64, zip or enc. */
#define WSAUTH_TOKEN_CRITICAL 14014
/* The token header tries to bring its own key. */
#define WSAUTH_TOKEN_KEY_EMBEDDED 14015
/* The token is of another type than this issuer's access tokens. */
#define WSAUTH_TOKEN_TYPE 14016
/* The key id is not a short printable string. */
#define WSAUTH_TOKEN_KEY_ID 14017
/* The token is no JWT and no issuer takes opaque tokens. */
#define WSAUTH_TOKEN_OPAQUE 14018
/* No current key of the issuer has this key id and algorithm. */
#define WSAUTH_KEY_UNKNOWN 14020
/* The token names no key and more than one would fit. */
#define WSAUTH_KEY_AMBIGUOUS 14021
/* The signature does not hold. */
#define WSAUTH_SIGNATURE_INVALID 14022
/* The issuer is not configured. */
#define WSAUTH_ISSUER_UNKNOWN 14023
/* The claims are not one strict JSON object. */
#define WSAUTH_CLAIMS_MALFORMED 14030
/* A required claim is absent. */
#define WSAUTH_CLAIM_MISSING 14031
/* A claim has the wrong type or an impossible value. */
#define WSAUTH_CLAIM_INVALID 14032
/* The token has expired. */
#define WSAUTH_TOKEN_EXPIRED 14033
/* The token is not valid yet. */
#define WSAUTH_TOKEN_NOT_YET_VALID 14034
/* The token was issued in the future. */
#define WSAUTH_TOKEN_ISSUED_IN_FUTURE 14035
/* The token lives longer than this issuer may grant. */
#define WSAUTH_TOKEN_LIFETIME 14036
/* The verified issuer is another than the one the keys belong to. */
#define WSAUTH_ISSUER_MISMATCH 14037
/* The token is meant for another audience. */
#define WSAUTH_AUDIENCE_MISMATCH 14038
/* The subject is absent, empty, too long or not clean text. */
#define WSAUTH_SUBJECT_INVALID 14039
/* The token is bound to a key that was not proved. */
#define WSAUTH_TOKEN_BOUND 14040
/* The token, its session, its subject or its key was revoked. */
#define WSAUTH_TOKEN_REVOKED 14041
/* The new token belongs to another identity. */
#define WSAUTH_IDENTITY_MISMATCH 14042
/* The new token does not live longer than the present one. */
#define WSAUTH_EXPIRY_NOT_LATER 14043
/* The new token grants more, which refresh.widen forbids. */
#define WSAUTH_PERMISSIONS_WIDENED 14044
/* The issuer says that the token is not active. */
#define WSAUTH_TOKEN_INACTIVE 14050
/* No live session has this id. */
#define WSAUTH_SESSION_UNKNOWN 14051
/* The ticket is unknown, used or expired. */
#define WSAUTH_TICKET_UNKNOWN 14052
/* The source that vouches for the credential did not answer. */
#define WSAUTH_SOURCE_UNAVAILABLE 14053
/* The authentication expired. */
#define WSAUTH_EXPIRED 15001
/* The connection was idle for too long. */
#define WSAUTH_INACTIVE 15002
/* The refresh was refused. */
#define WSAUTH_REFRESH_FAILED 15003
/* No new token came in time. */
#define WSAUTH_REFRESH_TIMEOUT 15004
/* The authentication was revoked. */
#define WSAUTH_REVOKED 15005
/* No credential came in time. */
#define WSAUTH_AUTHENTICATION_TIMEOUT 15006
/* The authentication cannot be confirmed at present. */
#define WSAUTH_AUTHENTICATION_UNAVAILABLE 15007
/* The connection reached its maximum age. */
#define WSAUTH_MAX_AGE 15008
/* The peer broke the control protocol. */
#define WSAUTH_PROTOCOL_ERROR 15009
/* The server is going away. */
#define WSAUTH_SHUTDOWN 15010
/* This address holds too many connections. */
#define WSAUTH_ADDRESS_CONNECTIONS 16001
/* This user holds too many connections. */
#define WSAUTH_USER_CONNECTIONS 16002
/* A newer connection of the same user took the place of this one. */
#define WSAUTH_EVICTED 16003
/* Too many connections are waiting to be authenticated. */
#define WSAUTH_UNAUTHENTICATED_CONNECTIONS 16004
/* The user's message budget is spent. */
#define WSAUTH_MESSAGE_RATE 16005
/* Too many authentication messages. */
#define WSAUTH_CONTROL_RATE 16006
/* This address is blocked. */
#define WSAUTH_BLOCKED 16007
/* The server holds as many connections as it can. */
#define WSAUTH_CONNECTIONS_FULL 16008
/* The request is not a well-formed WebSocket upgrade. */
#define WSAUTH_REQUEST_MALFORMED 17001
/* The request has too many or too large fields. */
#define WSAUTH_REQUEST_TOO_LARGE 17002
/* Nothing is served at this path. */
#define WSAUTH_PATH_UNKNOWN 17003
/* The request has no Origin, which this credential needs. */
#define WSAUTH_ORIGIN_MISSING 17004
/* The Origin is not allowed. */
#define WSAUTH_ORIGIN_REFUSED 17005
/* The request has more than one Origin. */
#define WSAUTH_ORIGIN_REPEATED 17006
/* The forwarded client address cannot be read. */
#define WSAUTH_ADDRESS_UNPARSABLE 17007
/* The Host is not one of this server's. */
#define WSAUTH_HOST_REFUSED 17008
/* The message is not one strict JSON object in UTF-8. */
#define WSAUTH_MESSAGE_MALFORMED 18001
/* The message is longer than the limit. */
#define WSAUTH_MESSAGE_TOO_LARGE 18002
/* The message has no type of its own, as a string. */
#define WSAUTH_MESSAGE_TYPE_MISSING 18003
/* A field that a rule reads stands more than once. */
#define WSAUTH_MESSAGE_FIELD_REPEATED 18004
/* No rule allows this message type. */
#define WSAUTH_MESSAGE_TYPE_UNKNOWN 18005
/* A field that a rule reads is absent or not clean text. */
#define WSAUTH_MESSAGE_FIELD_INVALID 18006
/* The identity lacks the permission for this. */
#define WSAUTH_PERMISSION_MISSING 18007
/* Binary messages are not accepted. */
#define WSAUTH_MESSAGE_BINARY 18008
/* The message type is reserved for the server. */
#define WSAUTH_MESSAGE_RESERVED 18009
/* The identity lacks the permission to connect. */
#define WSAUTH_INSUFFICIENT_SCOPE 18010

/* What `wsauth_engine` points to. Opaque in C. */
typedef struct wsauth_engine wsauth_engine;

/* What a call came to. 0 is yes, everything else is no; the thousands say which kind of no. */
typedef uint32_t wsauth_result;

/* Bytes that are borrowed. {NULL, 0} is empty; {NULL, n} is misuse. No terminating NUL is wanted or counted. */
typedef struct wsauth_bytes {
  /* The first byte. */
  const uint8_t *ptr;
  /* How many. */
  size_t len;
} wsauth_bytes;

/* A name with a value: a header field of a request, or a field that fills a permission's pattern. */
typedef struct wsauth_field {
  /* The name. */
  struct wsauth_bytes name;
  /* The value; of a header field without the white space around it. */
  struct wsauth_bytes value;
} wsauth_field;

/* An upgrade request as the server received it. Begin with WSAUTH_REQUEST_INIT. */
typedef struct wsauth_request {
  /* sizeof(wsauth_request). 0 is misuse. */
  uint32_t struct_size;
  /* The shard whose wsauth_poll reports this connection. 0 unless `connection.shards` says there are more. */
  uint32_t shard;
  /* The method. */
  struct wsauth_bytes method;
  /* The request target with its query, such as `/ws?room=7`. */
  struct wsauth_bytes target;
  /* Every header line in the order received; a repeated one stands here repeatedly. */
  const struct wsauth_field *headers;
  /* How many. */
  size_t header_count;
  /* WSAUTH_PEER_TEXT, _SOCKADDR or _UNIX. 0 is misuse. */
  uint32_t peer_kind;
  /* 0. */
  uint32_t reserved;
  /* The other end of the socket, from the operating system and never from a header. */
  struct wsauth_bytes peer;
} wsauth_request;

/* A connection. 0 is never one. A value, not a pointer: a stale one is refused. No secret, but nothing for a peer. */
typedef uint64_t wsauth_connection;

/* An accepted handshake, or what to answer over HTTP. */
typedef struct wsauth_handshake_result {
  /* The connection; 0 when refused. */
  wsauth_connection connection;
  /* WSAUTH_PROGRESS_LIVE, _AUTHENTICATING or _AWAITING_AUTH; 0 when refused. */
  uint32_t progress;
  /* Milliseconds until another try can work; 0 where that is not known. */
  uint32_t retry_after_ms;
  /* The HTTP status of the refusal; 0 when accepted. */
  uint16_t http_status;
  /* The close code, for a server that accepts and then closes; 0 when accepted. */
  uint16_t close_code;
  /* 0. */
  uint32_t reserved;
  /* The reason text of that close frame. Static; "" when accepted. */
  const char *public_name;
  /* What the client should do next, as in wsauth_decision. Static; "" when accepted. */
  const char *client_action;
  /* The subprotocol to answer with, NUL-terminated; "" for none. Never the one that carried the token. */
  char subprotocol[256];
} wsauth_handshake_result;

/* What to do besides what the result says. Written at every call, first with a refusal. It has no word on whether
 * something is allowed: only the result has. */
typedef struct wsauth_decision {
  /* WSAUTH_ACTION_NONE, _HOLD, _REPLY_QUEUED or _CLOSE. */
  uint32_t action;
  /* Milliseconds until another try can work; 0 where that is not known. */
  uint32_t retry_after_ms;
  /* The close code under the configured profile; 0 when nothing is refused. */
  uint16_t close_code;
  /* The HTTP status of such a refusal; 0 when nothing is refused. */
  uint16_t http_status;
  /* 0. */
  uint32_t reserved;
  /* The name the peer may see, and the reason text of a close frame. Static; "" when nothing is refused. */
  const char *public_name;
  /* What the client should do next: "refresh", "relogin", "retry", "retry_after", "never". Static; "" when
   * nothing is refused. */
  const char *client_action;
} wsauth_decision;

/* One thing the server must do for one connection. */
typedef struct wsauth_event {
  /* The connection. */
  wsauth_connection connection;
  /* WSAUTH_EVENT_*. Skip kinds you do not know. */
  uint32_t kind;
  /* Why, for _CLOSE and _REFUSED; else 0. */
  wsauth_result reason;
  /* Milliseconds until another try can work; 0 where that is not known. */
  uint32_t retry_after_ms;
  /* The close code, for _CLOSE and _REFUSED; else 0. */
  uint16_t close_code;
  /* 0. */
  uint16_t reserved;
  /* The text, UTF-8; see the kind. Lives until the next wsauth_poll of this shard. */
  struct wsauth_bytes text;
} wsauth_event;

/* What to revoke. Begin with WSAUTH_REVOCATION_INIT. */
typedef struct wsauth_revocation {
  /* sizeof(wsauth_revocation). 0 is misuse. */
  uint32_t struct_size;
  /* WSAUTH_REVOKE_*. */
  uint32_t kind;
  /* For WSAUTH_REVOKE_CONNECTION. */
  wsauth_connection connection;
  /* The issuer, for all others. */
  struct wsauth_bytes issuer;
  /* The token's, session's, subject's or key's name. */
  struct wsauth_bytes name;
  /* Seconds since 1970; a credential issued in that second is refused too. 0 means now. */
  uint64_t issued_before_s;
} wsauth_revocation;

/* What a revocation did. */
typedef struct wsauth_revoked {
  /* Connections closed in this process. */
  uint64_t closed;
  /* WSAUTH_PROPAGATED_*. */
  uint32_t propagated;
  /* 0. */
  uint32_t reserved;
} wsauth_revoked;

/* A question that the server can answer and wsauth cannot. Its views point into the buffer given. */
typedef struct wsauth_lookup {
  /* Answer with this. */
  uint64_t id;
  /* WSAUTH_LOOKUP_*. */
  uint32_t kind;
  /* Milliseconds until an answer is of no use. */
  uint32_t timeout_ms;
  /* The issuer; empty for a session. */
  struct wsauth_bytes issuer;
  /* What is asked about: the token, the session id, or the subject; empty for keys and discovery. The first two are
   * secrets. */
  struct wsauth_bytes about;
  /* Where it is asked over HTTP, as the configuration has it; empty where the server knows. */
  struct wsauth_bytes url;
} wsauth_lookup;

/* An answer. Begin with WSAUTH_ANSWER_INIT. Whoever makes one has verified it. */
typedef struct wsauth_answer {
  /* sizeof(wsauth_answer). 0 is misuse. */
  uint32_t struct_size;
  /* WSAUTH_ANSWER_*. */
  uint32_t kind;
  /* For _UNAVAILABLE and _RESPONSE: milliseconds until another try can work; 0 where that is not known. */
  uint32_t retry_after_ms;
  /* For _RESPONSE: the HTTP status, 100 to 999. */
  uint32_t status;
  /* For _KEYS: the document; for _RESPONSE: the body. At most 1 MiB. */
  struct wsauth_bytes document;
  /* For _VOUCHED: who it is; 1 to 1,024 bytes of UTF-8 without control characters. */
  struct wsauth_bytes subject;
  /* For _VOUCHED: when the credential is over, in milliseconds since 1970. 0 is long over. */
  uint64_t expires_at_ms;
  /* When it was issued, in seconds since 1970; 0 where that is not known. */
  uint64_t issued_at_s;
  /* The token's id; empty for none. So with the next three. */
  struct wsauth_bytes token_id;
  /* The login session. */
  struct wsauth_bytes session_id;
  /* The client the token was issued to. */
  struct wsauth_bytes client_id;
  /* The tenant. */
  struct wsauth_bytes tenant;
  /* Permissions, at most 256. */
  const struct wsauth_bytes *permissions;
  /* How many. */
  size_t permission_count;
  /* For _VOUCHED, further claims; for _PROFILE, all members: one JSON object of at most 64 KiB, empty for none. */
  struct wsauth_bytes claims;
  /* For _RESPONSE: the value of Content-Type; empty when there is none, or more than one. */
  struct wsauth_bytes content_type;
} wsauth_answer;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/* The version of the library: WSAUTH_VERSION_NUMBER of the header it was made with.
 *
 * @return major * 1000000 + minor * 1000 + patch.
 * Ownership: nothing is kept.
 * Threads: any.
 * Cost: none.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK uint32_t wsauth_version_number(void);

/* The version of the library as text, such as "0.1.0".
 *
 * @return Static text.
 * Ownership: the library's; never freed.
 * Threads: any.
 * Cost: none.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK const char *wsauth_version(void);

/* The ABI of the library. A program works with it when this is the WSAUTH_ABI it was compiled with.
 *
 * @return WSAUTH_ABI.
 * Ownership: nothing is kept.
 * Threads: any.
 * Cost: none.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK uint32_t wsauth_abi(void);

/* Makes an engine of a TOML text; docs/config.md describes it. Secrets that it names come from environment and
 * files.
 *
 * @param toml, len                   The text, UTF-8, at most 1 MiB.
 * @param engine                      Receives the engine, or NULL when there is none.
 * @param problem, capacity, needed   Receives what is wrong, as one sentence with its line. Cut where it does not fit;
 *                                    *needed is then above capacity. Holds no secret. May be NULL, 0, NULL.
 * @return WSAUTH_OK, WSAUTH_CONFIG_INVALID, or misuse.
 * Ownership: the engine is yours; free it with wsauth_engine_free. Nothing else is kept.
 * Threads: any.
 * Cost: parses every key and compiles every rule: milliseconds. Starts no thread, opens no socket.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_engine_new(const uint8_t *toml,
                                size_t len,
                                struct wsauth_engine **engine,
                                char *problem,
                                size_t capacity,
                                size_t *needed);

/* Makes an engine of a TOML file of at most 1 MiB. Files that it names by relative paths are looked for beside it, now
 * and at each reload.
 *
 * @param path, len                   The path, bytes as the operating system takes them.
 * @param engine                      As for wsauth_engine_new.
 * @param problem, capacity, needed   As for wsauth_engine_new.
 * @return WSAUTH_OK, WSAUTH_CONFIG_INVALID (also when the file cannot be read), or misuse.
 * Ownership: the engine is yours; free it with wsauth_engine_free. Nothing else is kept.
 * Threads: any.
 * Cost: as wsauth_engine_new, and reads files.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_engine_new_from_file(const uint8_t *path,
                                          size_t len,
                                          struct wsauth_engine **engine,
                                          char *problem,
                                          size_t capacity,
                                          size_t *needed);

/* Makes an engine for tests. It takes time from wsauth_clock_set and nowhere else, and all its randomness is
 * constant: never serve with it. Its monotonic clock begins at 0.
 *
 * @param toml, len                   As for wsauth_engine_new.
 * @param wall_ms                     Milliseconds since 1970.
 * @param engine                      As for wsauth_engine_new.
 * @param problem, capacity, needed   As for wsauth_engine_new.
 * @return WSAUTH_OK, WSAUTH_CONFIG_INVALID, or misuse.
 * Ownership: the engine is yours; free it with wsauth_engine_free. Nothing else is kept.
 * Threads: any.
 * Cost: as wsauth_engine_new.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_engine_new_manual(const uint8_t *toml,
                                       size_t len,
                                       uint64_t wall_ms,
                                       struct wsauth_engine **engine,
                                       char *problem,
                                       size_t capacity,
                                       size_t *needed);

/* Ends an engine. No other call on it may run or follow; connections need not be closed before. NULL is fine.
 *
 * @param engine  The engine, or NULL.
 * @return Nothing.
 * Ownership: the engine and every view it handed out are gone, its wake descriptors closed.
 * Threads: any one.
 * Cost: frees everything; milliseconds for a million connections.
 * Since: 0.1.0 */
void wsauth_engine_free(struct wsauth_engine *engine);

/* Puts another configuration in force, as a whole; a bad one is refused and the old one stays. Live connections keep
 * their credential, and what they may do follows the new rules from their next message. Bounds of tables and the
 * number of shards stay as they were.
 *
 * @param engine                      The engine.
 * @param toml, len                   The text, UTF-8, at most 1 MiB.
 * @param problem, capacity, needed   As for wsauth_engine_new.
 * @return WSAUTH_OK, WSAUTH_CONFIG_INVALID, or misuse.
 * Ownership: nothing is kept.
 * Threads: any, while other calls run. A fork waits for it.
 * Cost: as wsauth_engine_new.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_engine_reload(const struct wsauth_engine *engine,
                                   const uint8_t *toml,
                                   size_t len,
                                   char *problem,
                                   size_t capacity,
                                   size_t *needed);

/* The descriptor that becomes readable when a shard has events, questions or an earlier deadline. Put it into poll,
 * epoll or an event loop, level-triggered; never read, write or close it: wsauth_poll makes it unreadable. Ask again
 * after a fork. Whoever asks serves: key sets that have a URL are fetched from now on, before the first client needs
 * them, by the library's workers. Take it in the process that serves, after the last fork.
 *
 * @param engine      The engine.
 * @param shard       The shard; 0 where there is one.
 * @param descriptor  Receives it, or -1.
 * @return WSAUTH_OK, misuse, or WSAUTH_FAULT_INTERNAL when the process is out of descriptors.
 * Ownership: the engine's.
 * Threads: any. May start the workers.
 * Cost: one system call the first time; does not wait for a network.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_engine_wake_descriptor(const struct wsauth_engine *engine,
                                            uint32_t shard,
                                            int *descriptor);

/* How long a shard can wait for its next wsauth_poll, if its descriptor does not become readable earlier.
 *
 * @param engine      The engine.
 * @param shard       The shard.
 * @param timeout_ms  Receives milliseconds, -1 for ever: as poll and epoll_wait take it.
 * @return WSAUTH_OK or misuse.
 * Ownership: nothing is kept.
 * Threads: any.
 * Cost: one lock of the shard's, one clock reading.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_engine_timeout(const struct wsauth_engine *engine,
                                    uint32_t shard,
                                    int32_t *timeout_ms);

/* Counters and gauges in the Prometheus text format. Labels come from closed sets.
 *
 * @param engine                     The engine.
 * @param buffer, capacity, needed   Receives the text.
 * @return WSAUTH_OK, WSAUTH_HANDLED_BUFFER, or misuse.
 * Ownership: copied out.
 * Threads: any.
 * Cost: formats some kilobytes.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_engine_metrics(const struct wsauth_engine *engine,
                                    char *buffer,
                                    size_t capacity,
                                    size_t *needed);

/* Sets both clocks of an engine made with wsauth_engine_new_manual. The wall clock may be stepped in both directions.
 *
 * @param engine   The engine.
 * @param wall_ms  Milliseconds since 1970.
 * @param mono_ms  Monotonic milliseconds since the engine was made. Earlier than before is misuse.
 * @return WSAUTH_OK or misuse; then nothing has changed.
 * Ownership: nothing is kept.
 * Threads: any.
 * Cost: makes the wake descriptors readable.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_clock_set(const struct wsauth_engine *engine,
                               uint64_t wall_ms,
                               uint64_t mono_ms);

/* Decides an upgrade request. Call it before the upgrade is answered.
 *
 * @param engine   The engine.
 * @param request  The request, begun with WSAUTH_REQUEST_INIT.
 * @param out      Receives the connection, or what to answer: pass the result and retry_after_ms on to
 *                 wsauth_refusal_http, or accept and close with close_code and public_name.
 * @return WSAUTH_OK: finish the upgrade as out->progress says, and call wsauth_connection_closed when the socket is gone,
 *         also when the upgrade never completes. Anything else: nothing is held.
 * Ownership: nothing is kept, everything is copied out.
 * Threads: any.
 * Cost: one signature: 0.5 microseconds (HMAC) to 50 (ES256); before it only shape, address and Origin are looked at.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_handshake(const struct wsauth_engine *engine,
                               const struct wsauth_request *request,
                               struct wsauth_handshake_result *out);

/* Renders the complete HTTP/1.1 response that refuses an upgrade: status line, header fields, body. Write it to the
 * socket and close. It holds only public text.
 *
 * @param result                     What wsauth_handshake returned, or the reason of WSAUTH_EVENT_REFUSED.
 * @param retry_after_ms             From the same place; 0 where that is not known.
 * @param buffer, capacity, needed   Receives the response and a NUL; *needed counts the NUL. 1,024 bytes are enough.
 * @return WSAUTH_OK, WSAUTH_HANDLED_BUFFER, or misuse, also when `result` refuses nothing.
 * Ownership: copied out.
 * Threads: any.
 * Cost: formats half a kilobyte.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_refusal_http(wsauth_result result,
                                  uint32_t retry_after_ms,
                                  char *buffer,
                                  size_t capacity,
                                  size_t *needed);

/* Judges a request step by step without admitting it: nothing is charged, counted or audited. For operators.
 *
 * @param engine                     The engine.
 * @param request                    The request, begun with WSAUTH_REQUEST_INIT.
 * @param buffer, capacity, needed   Receives a JSON array, a step an element: {"step", "outcome": "passed" | "refused" |
 *                                   "needs_lookup", "reason", "code", "detail"}. Holds no token.
 * @return WSAUTH_OK when it was judged, which admits nobody; WSAUTH_HANDLED_BUFFER; misuse.
 * Ownership: copied out.
 * Threads: any.
 * Cost: as wsauth_handshake, and formats.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_handshake_explain(const struct wsauth_engine *engine,
                                       const struct wsauth_request *request,
                                       char *buffer,
                                       size_t capacity,
                                       size_t *needed);

/* Decides whether one inbound message may reach the application. Call it once a message, after reassembly and before
 * the application sees it. Deliver only if the result is WSAUTH_OK.
 *
 * @param engine      The engine.
 * @param connection  From wsauth_handshake. A stale one is WSAUTH_MISUSE_HANDLE and delivers nothing.
 * @param kind        WSAUTH_PAYLOAD_TEXT or WSAUTH_PAYLOAD_BINARY.
 * @param data, len   The whole message.
 * @param decision    Receives what to do besides. May be NULL: wsauth_poll says everything that must be done.
 * @return WSAUTH_OK to deliver; WSAUTH_HANDLED_CONSUMED or _HOLD; a refusal: the connection lives on, unless
 *         decision->action is WSAUTH_ACTION_CLOSE.
 * Ownership: nothing is kept, nothing is handed out.
 * Threads: any, also on one connection.
 * Cost: one pass over the message. No lock, no allocation and no system call for types without a pattern.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_message(const struct wsauth_engine *engine,
                             wsauth_connection connection,
                             uint32_t kind,
                             const uint8_t *data,
                             size_t len,
                             struct wsauth_decision *decision);

/* Decides for what is not JSON: you name the type, and the fields that its permission's pattern reads. Charged like a
 * message.
 *
 * @param engine              The engine.
 * @param connection          The connection.
 * @param type, type_len      The message type, as in [messages].
 * @param fields, field_count Names and values, at most 32, UTF-8.
 * @param decision            As for wsauth_message.
 * @return As wsauth_message.
 * Ownership: nothing is kept, nothing is handed out.
 * Threads: any, also on one connection.
 * Cost: no allocation and no system call; a type with a pattern takes that connection's own lock.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_authorize(const struct wsauth_engine *engine,
                               wsauth_connection connection,
                               const uint8_t *type,
                               size_t type_len,
                               const struct wsauth_field *fields,
                               size_t field_count,
                               struct wsauth_decision *decision);

/* Decides whether one connection may receive this. Ask at each delivery, not at subscription. Send only if the result
 * is WSAUTH_OK.
 *
 * @param engine              The engine.
 * @param connection          The connection.
 * @param type, type_len      The delivery's type, as in [deliveries].
 * @param fields, field_count Names and values that its pattern reads, at most 32, UTF-8.
 * @return WSAUTH_OK to send, or a refusal. Costs the peer nothing; if its connection must end, wsauth_poll says so.
 * Ownership: nothing is kept.
 * Threads: any, also on one connection.
 * Cost: no allocation and no system call; a type with a pattern takes that connection's own lock.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_authorize_delivery(const struct wsauth_engine *engine,
                                        wsauth_connection connection,
                                        const uint8_t *type,
                                        size_t type_len,
                                        const struct wsauth_field *fields,
                                        size_t field_count);

/* The same for a fan-out: writes those of the connections that may receive it, in order.
 *
 * @param engine              The engine.
 * @param connections, count  The connections, at most 65,536.
 * @param type, type_len      The delivery's type.
 * @param fields, field_count Names and values that its pattern reads, at most 32, UTF-8.
 * @param allowed             Room for `count` connections; may be `connections` itself.
 * @param allowed_count       Receives how many were written. Send to these only.
 * @return WSAUTH_OK when each was decided, also if none may receive it; WSAUTH_MESSAGE_TYPE_UNKNOWN; misuse.
 * Ownership: nothing is kept.
 * Threads: any.
 * Cost: one allocation of 16 bytes a connection, one clock reading.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_authorize_deliveries(const struct wsauth_engine *engine,
                                          const wsauth_connection *connections,
                                          size_t count,
                                          const uint8_t *type,
                                          size_t type_len,
                                          const struct wsauth_field *fields,
                                          size_t field_count,
                                          wsauth_connection *allowed,
                                          size_t *allowed_count);

/* Takes what the server must do on one shard: serves deadlines, then writes events. Call it when the shard's wake
 * descriptor is readable and when the timeout has passed. In order: do what each event says.
 *
 * @param engine      The engine.
 * @param shard       The shard; 0 where there is one.
 * @param events      Room for `capacity` events.
 * @param capacity    At least 1; no more than 4,096 are written.
 * @param event_size  sizeof(wsauth_event).
 * @param count       Receives how many were written.
 * @param timeout_ms  Receives milliseconds until the next call at the latest, -1 for ever, 0 when more waits already: as
 *                    poll and epoll_wait take it. May be NULL.
 * @return WSAUTH_OK, also for no events; WSAUTH_MISUSE_BUSY while another thread polls this shard; misuse.
 * Ownership: the texts are the engine's and live until the next call for this shard.
 * Threads: one a shard at a time.
 * Cost: up to 1,024 deadlines; an allocation a text.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_poll(const struct wsauth_engine *engine,
                          uint32_t shard,
                          struct wsauth_event *events,
                          size_t capacity,
                          size_t event_size,
                          size_t *count,
                          int32_t *timeout_ms);

/* Says that a connection's socket is gone. Call it for every accepted handshake, whatever came between: it gives back
 * permits. The handle is stale from then on.
 *
 * @param engine      The engine.
 * @param connection  The connection.
 * @return WSAUTH_OK once; WSAUTH_MISUSE_HANDLE later and for what was never issued, which changes nothing.
 * Ownership: nothing is kept.
 * Threads: any.
 * Cost: short locks.
 * Since: 0.1.0 */
wsauth_result wsauth_connection_closed(const struct wsauth_engine *engine,
                                       wsauth_connection connection);

/* Notes that the peer is there, on a pong. Delivered messages are noted anyway.
 *
 * @param engine      The engine.
 * @param connection  The connection.
 * @return WSAUTH_OK, or WSAUTH_MISUSE_HANDLE for what is not live.
 * Ownership: nothing is kept.
 * Threads: any, also on one connection.
 * Cost: one store, one clock reading.
 * Since: 0.1.0 */
wsauth_result wsauth_connection_touch(const struct wsauth_engine *engine,
                                      wsauth_connection connection);

/* Replaces what a live connection may do until its next refresh. In force when this returns.
 *
 * @param engine              The engine.
 * @param connection          The connection.
 * @param permissions, count  The permissions, at most 256, UTF-8.
 * @return WSAUTH_OK, or a refusal, which changes nothing.
 * Ownership: copied.
 * Threads: any.
 * Cost: compiles the set if no connection has it.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_connection_set_permissions(const struct wsauth_engine *engine,
                                                wsauth_connection connection,
                                                const struct wsauth_bytes *permissions,
                                                size_t count);

/* The same for every live connection of a subject.
 *
 * @param engine                The engine.
 * @param issuer, issuer_len    The issuer.
 * @param subject, subject_len  The subject.
 * @param permissions, count    The permissions, at most 256, UTF-8.
 * @param changed               Receives how many connections there were; may be NULL.
 * @return WSAUTH_OK, also when there is none; misuse.
 * Ownership: copied.
 * Threads: any.
 * Cost: the subject's connections.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_subject_set_permissions(const struct wsauth_engine *engine,
                                             const uint8_t *issuer,
                                             size_t issuer_len,
                                             const uint8_t *subject,
                                             size_t subject_len,
                                             const struct wsauth_bytes *permissions,
                                             size_t count,
                                             size_t *changed);

/* Who a connection is: verified facts only.
 *
 * @param engine                     The engine.
 * @param connection                 The connection.
 * @param buffer, capacity, needed   Receives one JSON object: issuer, subject, source, token_id, session_id, client_id,
 *                                   tenant, confirmation, key_id, issued_at and expires_at (seconds since 1970),
 *                                   permissions (the credential's), claims. Absent is null. Holds no token.
 * @return WSAUTH_OK; WSAUTH_HANDLED_BUFFER; WSAUTH_MISUSE_HANDLE for what is stale or not authenticated.
 * Ownership: copied out.
 * Threads: any.
 * Cost: that connection's own lock; formats the claims.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_connection_identity(const struct wsauth_engine *engine,
                                         wsauth_connection connection,
                                         char *buffer,
                                         size_t capacity,
                                         size_t *needed);

/* What a connection may do now: its credential's permissions, or those set since.
 *
 * @param engine                     The engine.
 * @param connection                 The connection.
 * @param buffer, capacity, needed   Receives a JSON array of strings.
 * @return WSAUTH_OK; WSAUTH_HANDLED_BUFFER; WSAUTH_MISUSE_HANDLE for a stale one.
 * Ownership: copied out.
 * Threads: any.
 * Cost: that connection's own lock; formats.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_connection_permissions(const struct wsauth_engine *engine,
                                            wsauth_connection connection,
                                            char *buffer,
                                            size_t capacity,
                                            size_t *needed);

/* Puts a new token in force on a live connection, as one transaction: the peer is told by wsauth_poll. For servers whose
 * clients bring tokens by another way than the `token_refresh` message, which wsauth_message takes.
 *
 * @param engine      The engine.
 * @param connection  The connection.
 * @param token, len  The token.
 * @param decision    Receives what to do besides; may be NULL.
 * @return WSAUTH_OK when it is in force, or was already; WSAUTH_HANDLED_PENDING when its source is asked first; a
 *         refusal, which changes nothing but the count of attempts.
 * Ownership: nothing is kept but a pending token, wiped after.
 * Threads: any.
 * Cost: one signature: 0.5 microseconds (HMAC) to 50 (ES256).
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_refresh(const struct wsauth_engine *engine,
                             wsauth_connection connection,
                             const uint8_t *token,
                             size_t len,
                             struct wsauth_decision *decision);

/* Puts a new token in force on every live connection of its subject: for servers that refresh over HTTP, behind a cookie.
 *
 * @param engine      The engine.
 * @param token, len  The token.
 * @param count       Receives how many connections took it; may be NULL.
 * @return WSAUTH_OK, or a refusal, which changes nothing.
 * Ownership: nothing is kept.
 * Threads: any.
 * Cost: one signature, and the subject's connections.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_refresh_subject(const struct wsauth_engine *engine,
                                     const uint8_t *token,
                                     size_t len,
                                     size_t *count);

/* Cuts off. No call that begins after this has returned is decided on the old state; wsauth_poll says which connections
 * to close.
 *
 * @param engine  The engine.
 * @param what    What to revoke, begun with WSAUTH_REVOCATION_INIT.
 * @param out     Receives what it did; may be NULL.
 * @return WSAUTH_OK, also when nothing was connected; misuse, and nothing is revoked.
 * Ownership: copied.
 * Threads: any.
 * Cost: the connections it hits; for a key a walk over all.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_revoke(const struct wsauth_engine *engine,
                            const struct wsauth_revocation *what,
                            struct wsauth_revoked *out);

/* Takes one question that waits for an answer. Ask after each handshake, message and poll until it says
 * WSAUTH_HANDLED_EMPTY; a configuration with keys of its own and no opaque tokens, sessions or profiles has none. What
 * has a `url` comes only where `lookups.driver` is "host": else the library's own workers ask it.
 *
 * @param engine                     The engine.
 * @param lookup                     Receives the question; its views point into `buffer`.
 * @param buffer, capacity, needed   Room for its texts. 32,768 bytes are enough with the default limits.
 * @return WSAUTH_OK; WSAUTH_HANDLED_EMPTY; WSAUTH_HANDLED_BUFFER, and the question stays; misuse.
 * Ownership: copied out. A token or session id in it is a secret: wipe the buffer after.
 * Threads: any; each question goes to one of them.
 * Cost: short locks, one clock reading.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_lookup_next(const struct wsauth_engine *engine,
                                 struct wsauth_lookup *lookup,
                                 char *buffer,
                                 size_t capacity,
                                 size_t *needed);

/* Answers a question. The outcome for those who waited comes as events of wsauth_poll.
 *
 * @param engine  The engine.
 * @param id      From wsauth_lookup_next.
 * @param answer  The answer, begun with WSAUTH_ANSWER_INIT.
 * @return WSAUTH_OK; WSAUTH_MISUSE_HANDLE for a question that is answered already, late, or was never asked; misuse, and
 *         the question stays.
 * Ownership: copied.
 * Threads: any.
 * Cost: those who waited.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_lookup_answer(const struct wsauth_engine *engine,
                                   uint64_t id,
                                   const struct wsauth_answer *answer);

/* Puts a key set in force for an issuer with `jwks_url`, before any connection asks for it.
 *
 * @param engine              The engine.
 * @param issuer, issuer_len  The issuer.
 * @param document, len       The key set, a JWKS of at most 1 MiB.
 * @return WSAUTH_OK; WSAUTH_KEY_UNKNOWN when the document was bad or the issuer is not such a one, and the old keys stay;
 *         misuse.
 * Ownership: copied.
 * Threads: any.
 * Cost: parses every key.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_keys_load(const struct wsauth_engine *engine,
                               const uint8_t *issuer,
                               size_t issuer_len,
                               const uint8_t *document,
                               size_t len);

/* Takes audit events, oldest first: as many whole lines as fit. Call it now and then until it says
 * WSAUTH_HANDLED_EMPTY; what nobody fetches is dropped beyond audit.max_events, successes first, and counted.
 *
 * @param engine                     The engine.
 * @param buffer, capacity, needed   Receives lines, each one JSON object in ASCII with a line feed, and a NUL; *needed
 *                                   counts everything written and the NUL. 4,096 bytes hold any line. No line holds a
 *                                   token or a secret; what nobody verified stands in fields named unverified_*.
 * @return WSAUTH_OK; WSAUTH_HANDLED_EMPTY; WSAUTH_HANDLED_BUFFER when not even the first line fits, and it stays; misuse.
 * Ownership: copied out.
 * Threads: any; each event goes to one of them.
 * Cost: short locks; formats.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK
wsauth_result wsauth_audit_drain(const struct wsauth_engine *engine,
                                 char *buffer,
                                 size_t capacity,
                                 size_t *needed);

/* The stable name of a result, for logs: "token_expired".
 *
 * @param result  What a call returned.
 * @return Static text; "unknown" for a number that is none.
 * Ownership: the library's; never freed.
 * Threads: any.
 * Cost: one small search.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK const char *wsauth_reason_name(wsauth_result result);

/* One sentence on a result, for the operator.
 *
 * @param result  What a call returned.
 * @return Static text.
 * Ownership: the library's; never freed.
 * Threads: any.
 * Cost: one small search.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK const char *wsauth_reason_text(wsauth_result result);

/* The name the peer may see; the reason text of a close frame. Credential reasons share one.
 *
 * @param result  What a call returned.
 * @return Static text; "" where nothing is refused.
 * Ownership: the library's; never freed.
 * Threads: any.
 * Cost: one small search.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK const char *wsauth_reason_public_name(wsauth_result result);

/* One sentence the peer may read.
 *
 * @param result  What a call returned.
 * @return Static text; "" where nothing is refused.
 * Ownership: the library's; never freed.
 * Threads: any.
 * Cost: one small search.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK const char *wsauth_reason_public_text(wsauth_result result);

/* What the client should do next: "refresh", "relogin", "retry", "retry_after", "never".
 *
 * @param result  What a call returned.
 * @return Static text; "" where nothing is refused.
 * Ownership: the library's; never freed.
 * Threads: any.
 * Cost: one small search.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK const char *wsauth_reason_action(wsauth_result result);

/* The HTTP status of a handshake refused for it.
 *
 * @param result  What a call returned.
 * @return The status; 0 where nothing is refused.
 * Ownership: the library's; never freed.
 * Threads: any.
 * Cost: one small search.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK uint32_t wsauth_reason_http_status(wsauth_result result);

/* The close code for it in the profile `default`. Decisions and events carry the configured one.
 *
 * @param result  What a call returned.
 * @return The code; 0 where nothing is refused.
 * Ownership: the library's; never freed.
 * Threads: any.
 * Cost: one small search.
 * Since: 0.1.0 */
WSAUTH_MUST_CHECK uint32_t wsauth_reason_close_code(wsauth_result result);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* WSAUTH_H */
