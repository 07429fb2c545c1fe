/* Wrong use of every export in every argument position: an error each time, and nothing else. Built against a library
 * with the feature test-panic. */
#include "common.h"

#include <limits.h>

#ifdef __cplusplus
extern "C" {
#endif
void wsauth_test_panic_next(void);
void wsauth_test_panic_under_lock(void);
#ifdef __cplusplus
}
#endif

static wsauth_engine *engine, *none;
static wsauth_connection live;
static upgrade up;
static wsauth_handshake_result shaken;
static wsauth_decision decision;
static wsauth_event events[4];
static wsauth_revocation what;
static wsauth_revoked revoked;
static wsauth_lookup lookup;
static wsauth_answer answer;
static wsauth_field field;
static wsauth_bytes permission;
static wsauth_connection allowed[2];
static char text[65536], bearer[2048];
static size_t n;
static int fd;
static int32_t timeout;

#define MISUSE WSAUTH_MISUSE_ARGUMENT
#define HANDLE WSAUTH_MISUSE_HANDLE

/* A pointer that must not be followed: the length beside it is refused first. */
static const uint8_t *nowhere(void) { return (const uint8_t *)(size_t)16; }

static void engines(void)
{
    wsauth_engine *made = engine;
    IS(wsauth_engine_new(NULL, 3, &made, text, sizeof text, &n), MISUSE);
    CHECK(made == NULL && text[0] == 0);
    IS(wsauth_engine_new(NULL, 0, &made, text, sizeof text, &n), WSAUTH_CONFIG_INVALID);
    CHECK(made == NULL && text[0] != 0 && n == strlen(text) + 1);
    IS(wsauth_engine_new(raw(CONFIG), strlen(CONFIG), NULL, text, sizeof text, &n), MISUSE);
    IS(wsauth_engine_new(raw(CONFIG), strlen(CONFIG), &made, NULL, 5, &n), MISUSE);
    IS(wsauth_engine_new(nowhere(), SIZE_MAX, &made, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_new(nowhere(), 1024 * 1024 + 1, &made, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_new(raw("\xff"), 1, &made, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_new(raw("a = 1"), 5, &made, text, 4, &n), WSAUTH_CONFIG_INVALID);
    CHECK(strlen(text) == 3 && n > 4);
    IS(wsauth_engine_new(raw("a = 1"), 5, &made, text, 1, &n), WSAUTH_CONFIG_INVALID);
    CHECK(text[0] == 0);
    IS(wsauth_engine_new_manual(NULL, 3, 0, &made, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_new_manual(raw(CONFIG), strlen(CONFIG), 0, NULL, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_new_from_file(NULL, 3, &made, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_new_from_file(NULL, 0, &made, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_new_from_file(raw("a\0b"), 3, &made, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_new_from_file(nowhere(), SIZE_MAX, &made, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_new_from_file(raw("/no/such/file"), 13, &made, text, sizeof text, NULL), WSAUTH_CONFIG_INVALID);
    IS(wsauth_engine_new_from_file(raw("/dev/zero"), 9, &made, NULL, 0, NULL), WSAUTH_CONFIG_INVALID);
    IS(wsauth_engine_new_from_file(raw("x"), 1, NULL, NULL, 0, NULL), MISUSE);
    CHECK(made == NULL);
    wsauth_engine_free(NULL);

    IS(wsauth_engine_reload(none, raw(CONFIG), strlen(CONFIG), NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_reload(engine, NULL, 1, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_reload(engine, nowhere(), SIZE_MAX, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_reload(engine, raw("\xc0\x80"), 2, NULL, 0, NULL), MISUSE);
    IS(wsauth_engine_reload(engine, raw(CONFIG), strlen(CONFIG), NULL, 1, NULL), MISUSE);
    fd = 7;
    IS(wsauth_engine_wake_descriptor(none, 0, &fd), MISUSE);
    CHECK(fd == -1);
    IS(wsauth_engine_wake_descriptor(engine, 0, NULL), MISUSE);
    IS(wsauth_engine_wake_descriptor(engine, 1, &fd), MISUSE);
    IS(wsauth_engine_wake_descriptor(engine, 256, &fd), MISUSE);
    IS(wsauth_engine_wake_descriptor(engine, UINT_MAX, &fd), MISUSE);
    timeout = 7;
    IS(wsauth_engine_timeout(none, 0, &timeout), MISUSE);
    CHECK(timeout == 0);
    IS(wsauth_engine_timeout(engine, 0, NULL), MISUSE);
    IS(wsauth_engine_timeout(engine, 1, &timeout), MISUSE);
    IS(wsauth_engine_metrics(none, text, sizeof text, &n), MISUSE);
    IS(wsauth_engine_metrics(engine, NULL, 1, &n), MISUSE);
    IS(wsauth_engine_metrics(engine, text, 0, NULL), WSAUTH_HANDLED_BUFFER);
    IS(wsauth_clock_set(none, 1, 1), MISUSE);
    IS(wsauth_clock_set(engine, 1, UINT64_MAX), MISUSE);
    {
        wsauth_engine *real = make(CONFIG, 0);
        IS(wsauth_clock_set(real, 1, 1), MISUSE);
        wsauth_engine_free(real);
    }
}

static void handshakes(void)
{
    static wsauth_field many[2000];
    static char longest[300];
    wsauth_request good;
    size_t i;
    prepare(&up, bearer);
    good = up.request;
    memset(&shaken, 0x5a, sizeof shaken);
    IS(wsauth_handshake(none, &up.request, &shaken), MISUSE);
    CHECK(shaken.connection == 0 && shaken.progress == 0 && shaken.http_status == 500 && shaken.subprotocol[0] == 0);
    IS(wsauth_handshake(engine, NULL, &shaken), MISUSE);
    IS(wsauth_handshake(engine, &up.request, NULL), MISUSE);
    for (i = 0; i < 4; i++) {
        static const uint32_t sizes[] = {0, 4, sizeof(wsauth_request) - 1, sizeof(wsauth_request) + 8};
        up.request.struct_size = sizes[i];
        IS(wsauth_handshake(engine, &up.request, &shaken), MISUSE);
        IS(wsauth_handshake_explain(engine, &up.request, text, sizeof text, NULL), MISUSE);
    }
#define WITH(change, expected) \
    up.request = good; \
    change; \
    IS(wsauth_handshake(engine, &up.request, &shaken), expected); \
    CHECK(shaken.connection == 0 && shaken.http_status >= 400)
    WITH(up.request.shard = 1, MISUSE);
    WITH(up.request.shard = UINT_MAX, MISUSE);
    WITH(up.request.method.ptr = NULL, MISUSE);
    WITH(up.request.method.len = SIZE_MAX, WSAUTH_REQUEST_TOO_LARGE);
    WITH(up.request.method.len = 0, WSAUTH_REQUEST_MALFORMED);
    WITH(up.request.target.ptr = NULL, MISUSE);
    WITH((up.request.target.ptr = nowhere(), up.request.target.len = SIZE_MAX / 2), WSAUTH_REQUEST_TOO_LARGE);
    WITH(up.request.headers = NULL, MISUSE);
    WITH((up.request.headers = (const wsauth_field *)(const void *)nowhere(), up.request.header_count = SIZE_MAX), WSAUTH_REQUEST_TOO_LARGE);
    WITH(up.request.header_count = 0, WSAUTH_REQUEST_MALFORMED);
    WITH((up.request.headers = many, up.request.header_count = 1000), WSAUTH_REQUEST_TOO_LARGE);
    WITH(up.request.peer_kind = 0, WSAUTH_MISUSE_PEER);
    WITH(up.request.peer_kind = 4, WSAUTH_MISUSE_PEER);
    WITH(up.request.peer_kind = WSAUTH_PEER_SOCKADDR, WSAUTH_MISUSE_PEER);
    WITH(up.request.peer_kind = WSAUTH_PEER_UNIX, WSAUTH_MISUSE_PEER);
    WITH(up.request.peer.ptr = NULL, MISUSE);
    WITH(up.request.peer.len = 0, WSAUTH_MISUSE_PEER);
    WITH(up.request.peer.len = 129, WSAUTH_MISUSE_PEER);
    WITH(up.request.peer = view("\xff\xfe"), WSAUTH_MISUSE_PEER);
#undef WITH
    up.request = good;
    up.headers[0].name.ptr = NULL;
    IS(wsauth_handshake(engine, &up.request, &shaken), MISUSE);
    up.headers[0].name = view("Host");
    up.headers[0].value.len = SIZE_MAX;
    IS(wsauth_handshake(engine, &up.request, &shaken), WSAUTH_REQUEST_TOO_LARGE);
    prepare(&up, bearer);
    IS(wsauth_handshake_explain(none, &up.request, text, sizeof text, &n), MISUSE);
    IS(wsauth_handshake_explain(engine, NULL, text, sizeof text, &n), MISUSE);
    IS(wsauth_handshake_explain(engine, &up.request, NULL, 1, &n), MISUSE);
    IS(wsauth_handshake_explain(engine, &up.request, text, 8, &n), WSAUTH_HANDLED_BUFFER);
    CHECK(text[0] == 0 && n > 8);

    IS(wsauth_refusal_http(WSAUTH_OK, 0, text, sizeof text, &n), MISUSE);
    IS(wsauth_refusal_http(WSAUTH_HANDLED_HOLD, 0, text, sizeof text, &n), MISUSE);
    IS(wsauth_refusal_http(WSAUTH_TOKEN_EXPIRED, 0, NULL, 9, &n), MISUSE);
    IS(wsauth_refusal_http(WSAUTH_TOKEN_EXPIRED, 0, text, 9, &n), WSAUTH_HANDLED_BUFFER);
    IS(wsauth_refusal_http(WSAUTH_TOKEN_EXPIRED, 0, NULL, 0, NULL), WSAUTH_HANDLED_BUFFER);
    IS(wsauth_refusal_http(99999, UINT_MAX, text, sizeof text, &n), WSAUTH_OK);
    CHECK(strncmp(text, "HTTP/1.1 503 ", 13) == 0);

    /* The peer chooses the subprotocol where none is configured; one that does not fit is refused. */
    {
        wsauth_engine *open;
        char toml[4096];
        snprintf(toml, sizeof toml, "%s", CONFIG);
        memcpy(strstr(toml, "subprotocols = ['chat.v1']"), "subprotocols = []         ", 26);
        open = make(toml, 1);
        memset(longest, 'a', 255);
        prepare(&up, bearer);
        up.headers[5].value = view(longest);
        IS(wsauth_handshake(open, &up.request, &shaken), WSAUTH_OK);
        CHECK(strlen(shaken.subprotocol) == 255);
        longest[255] = 'a';
        up.headers[5].value = view(longest);
        IS(wsauth_handshake(open, &up.request, &shaken), WSAUTH_REQUEST_TOO_LARGE);
        CHECK(shaken.connection == 0);
        wsauth_engine_free(open);
    }
}

static void of_connections(void)
{
    /* 0, never issued, closed, another generation, all bits. */
    wsauth_connection stale[5], closed;
    size_t i;
    prepare(&up, bearer);
    IS(wsauth_handshake(engine, &up.request, &shaken), WSAUTH_OK);
    closed = shaken.connection;
    IS(wsauth_connection_closed(engine, closed), WSAUTH_OK);
    stale[0] = 0;
    stale[1] = 42;
    stale[2] = closed;
    stale[3] = live + 1;
    stale[4] = UINT64_MAX;
    for (i = 0; i < 5; i++) {
        wsauth_connection c = stale[i];
        IS(wsauth_message(engine, c, WSAUTH_PAYLOAD_TEXT, raw("{\"type\":\"ping\"}"), 15, &decision), HANDLE);
        CHECK(decision.action == WSAUTH_ACTION_NONE && decision.http_status == 500);
        IS(wsauth_authorize(engine, c, raw("ping"), 4, NULL, 0, &decision), HANDLE);
        IS(wsauth_authorize_delivery(engine, c, raw("chat.message"), 12, NULL, 0), HANDLE);
        IS(wsauth_authorize_deliveries(engine, &c, 1, raw("chat.message"), 12, NULL, 0, allowed, &n), WSAUTH_OK);
        CHECK(n == 0);
        IS(wsauth_refresh(engine, c, raw(bearer), strlen(bearer), &decision), HANDLE);
        IS(wsauth_connection_closed(engine, c), HANDLE);
        IS(wsauth_connection_touch(engine, c), HANDLE);
        IS(wsauth_connection_set_permissions(engine, c, NULL, 0), HANDLE);
        IS(wsauth_connection_identity(engine, c, text, sizeof text, &n), HANDLE);
        CHECK(text[0] == 0 && n == 0);
        IS(wsauth_connection_permissions(engine, c, text, sizeof text, &n), HANDLE);
    }
    IS(wsauth_connection_closed(none, live), MISUSE);
    IS(wsauth_connection_touch(none, live), MISUSE);
    IS(wsauth_connection_identity(none, live, text, sizeof text, &n), MISUSE);
    IS(wsauth_connection_identity(engine, live, NULL, 1, &n), MISUSE);
    IS(wsauth_connection_identity(engine, live, text, 1, &n), WSAUTH_HANDLED_BUFFER);
    IS(wsauth_connection_permissions(none, live, text, sizeof text, &n), MISUSE);
    IS(wsauth_connection_permissions(engine, live, NULL, 1, &n), MISUSE);
    IS(wsauth_connection_permissions(engine, live, text, 1, &n), WSAUTH_HANDLED_BUFFER);
    permission = view("a:b");
    IS(wsauth_connection_set_permissions(none, live, &permission, 1), MISUSE);
    IS(wsauth_connection_set_permissions(engine, live, NULL, 1), MISUSE);
    IS(wsauth_connection_set_permissions(engine, live, (const wsauth_bytes *)(const void *)nowhere(), 257), MISUSE);
    permission = view("\xff");
    IS(wsauth_connection_set_permissions(engine, live, &permission, 1), MISUSE);
    permission.ptr = NULL;
    IS(wsauth_connection_set_permissions(engine, live, &permission, 1), MISUSE);
    IS(wsauth_subject_set_permissions(none, raw("i"), 1, raw("s"), 1, NULL, 0, &n), MISUSE);
    IS(wsauth_subject_set_permissions(engine, NULL, 1, raw("s"), 1, NULL, 0, &n), MISUSE);
    IS(wsauth_subject_set_permissions(engine, raw("i"), 0, raw("s"), 1, NULL, 0, &n), MISUSE);
    IS(wsauth_subject_set_permissions(engine, raw("i"), 1, NULL, 1, NULL, 0, &n), MISUSE);
    IS(wsauth_subject_set_permissions(engine, raw("i"), 1, raw("s"), 0, NULL, 0, &n), MISUSE);
    IS(wsauth_subject_set_permissions(engine, raw("i"), 1, raw("s"), 1, NULL, 1, &n), MISUSE);
    IS(wsauth_subject_set_permissions(engine, raw("i"), 1, raw("s"), 1, NULL, 0, NULL), WSAUTH_OK);
}

static void messages(void)
{
    const char *ping = "{\"type\":\"ping\"}";
    IS(wsauth_message(none, live, WSAUTH_PAYLOAD_TEXT, raw(ping), 15, &decision), MISUSE);
    IS(wsauth_message(engine, live, 0, raw(ping), 15, &decision), MISUSE);
    IS(wsauth_message(engine, live, 3, raw(ping), 15, &decision), MISUSE);
    IS(wsauth_message(engine, live, WSAUTH_PAYLOAD_TEXT, NULL, 15, &decision), MISUSE);
    IS(wsauth_message(engine, live, WSAUTH_PAYLOAD_TEXT, NULL, 0, &decision), WSAUTH_MESSAGE_MALFORMED);
    IS(wsauth_message(engine, live, WSAUTH_PAYLOAD_TEXT, nowhere(), SIZE_MAX, &decision), WSAUTH_MESSAGE_TOO_LARGE);
    CHECK(decision.http_status != 0 && decision.public_name[0] != 0 && decision.client_action[0] != 0);
    IS(wsauth_message(engine, live, WSAUTH_PAYLOAD_TEXT, raw("{\"type\":\"ping\",\"a\":\"\xff\"}"), 23, NULL), WSAUTH_MESSAGE_MALFORMED);
    field.name = view("room");
    field.value = view("7");
    IS(wsauth_authorize(none, live, raw("ping"), 4, NULL, 0, &decision), MISUSE);
    IS(wsauth_authorize(engine, live, NULL, 4, NULL, 0, &decision), MISUSE);
    IS(wsauth_authorize(engine, live, NULL, 0, NULL, 0, &decision), WSAUTH_MESSAGE_TYPE_UNKNOWN);
    IS(wsauth_authorize(engine, live, nowhere(), SIZE_MAX, NULL, 0, &decision), MISUSE);
    IS(wsauth_authorize(engine, live, raw("\xff"), 1, NULL, 0, &decision), MISUSE);
    IS(wsauth_authorize(engine, live, raw("ping"), 4, NULL, 1, &decision), MISUSE);
    IS(wsauth_authorize(engine, live, raw("ping"), 4, (const wsauth_field *)(const void *)nowhere(), 33, &decision), MISUSE);
    field.value = view("\xed\xa0\x80");
    IS(wsauth_authorize(engine, live, raw("ping"), 4, &field, 1, &decision), MISUSE);
    IS(wsauth_authorize_delivery(engine, live, raw("chat.message"), 12, &field, 1), MISUSE);
    field.value.ptr = NULL;
    IS(wsauth_authorize(engine, live, raw("ping"), 4, &field, 1, &decision), MISUSE);
    IS(wsauth_authorize_delivery(none, live, raw("chat.message"), 12, NULL, 0), MISUSE);
    IS(wsauth_authorize_delivery(engine, live, NULL, 12, NULL, 0), MISUSE);
    IS(wsauth_authorize_delivery(engine, live, raw("chat.message"), SIZE_MAX, NULL, 0), MISUSE);
    IS(wsauth_authorize_delivery(engine, live, raw("chat.message"), 12, NULL, 1), MISUSE);
    n = 7;
    IS(wsauth_authorize_deliveries(none, &live, 1, raw("chat.message"), 12, NULL, 0, allowed, &n), MISUSE);
    CHECK(n == 0);
    IS(wsauth_authorize_deliveries(engine, NULL, 1, raw("chat.message"), 12, NULL, 0, allowed, &n), MISUSE);
    IS(wsauth_authorize_deliveries(engine, NULL, 0, raw("chat.message"), 12, NULL, 0, NULL, &n), WSAUTH_OK);
    IS(wsauth_authorize_deliveries(engine, (const wsauth_connection *)(const void *)nowhere(), 65537, raw("chat.message"), 12, NULL, 0, allowed, &n), MISUSE);
    IS(wsauth_authorize_deliveries(engine, &live, 1, NULL, 12, NULL, 0, allowed, &n), MISUSE);
    IS(wsauth_authorize_deliveries(engine, &live, 1, raw("chat.message"), 12, NULL, 1, allowed, &n), MISUSE);
    IS(wsauth_authorize_deliveries(engine, &live, 1, raw("chat.message"), 12, NULL, 0, NULL, &n), MISUSE);
    IS(wsauth_authorize_deliveries(engine, &live, 1, raw("chat.message"), 12, NULL, 0, allowed, NULL), MISUSE);
    IS(wsauth_refresh(none, live, raw(bearer), strlen(bearer), &decision), MISUSE);
    IS(wsauth_refresh(engine, live, NULL, 5, &decision), MISUSE);
    IS(wsauth_refresh(engine, live, nowhere(), SIZE_MAX, &decision), WSAUTH_TOKEN_TOO_LARGE);
    IS(wsauth_refresh_subject(none, raw(bearer), strlen(bearer), &n), MISUSE);
    IS(wsauth_refresh_subject(engine, NULL, 5, &n), MISUSE);
    IS(wsauth_refresh_subject(engine, nowhere(), SIZE_MAX, &n), WSAUTH_TOKEN_TOO_LARGE);
    CHECK(wsauth_refresh_subject(engine, raw("x"), 1, NULL) != WSAUTH_OK);
}

static void the_rest(void)
{
    const wsauth_revocation empty = WSAUTH_REVOCATION_INIT;
    const wsauth_answer unanswered = WSAUTH_ANSWER_INIT;
    uint32_t kind;
    n = 7;
    timeout = 7;
    IS(wsauth_poll(none, 0, events, 4, sizeof *events, &n, &timeout), MISUSE);
    CHECK(n == 0 && timeout == 0);
    IS(wsauth_poll(engine, 1, events, 4, sizeof *events, &n, &timeout), MISUSE);
    IS(wsauth_poll(engine, UINT_MAX, events, 4, sizeof *events, &n, &timeout), MISUSE);
    IS(wsauth_poll(engine, 0, NULL, 4, sizeof *events, &n, &timeout), MISUSE);
    IS(wsauth_poll(engine, 0, events, 0, sizeof *events, &n, &timeout), MISUSE);
    IS(wsauth_poll(engine, 0, events, 4, 0, &n, &timeout), MISUSE);
    IS(wsauth_poll(engine, 0, events, 4, sizeof *events - 1, &n, &timeout), MISUSE);
    IS(wsauth_poll(engine, 0, events, 4, 1025, &n, &timeout), MISUSE);
    IS(wsauth_poll(engine, 0, events, 4, sizeof *events, NULL, &timeout), MISUSE);
    IS(wsauth_poll(engine, 0, events, 4, sizeof *events, &n, NULL), WSAUTH_OK);

    what = empty;
    IS(wsauth_revoke(none, &what, &revoked), MISUSE);
    IS(wsauth_revoke(engine, NULL, &revoked), MISUSE);
    for (kind = 0; kind <= 8; kind++) {
        what = empty;
        what.kind = kind;
        IS(wsauth_revoke(engine, &what, &revoked), MISUSE);
        what.struct_size = 0;
        IS(wsauth_revoke(engine, &what, &revoked), MISUSE);
        what = empty;
        what.kind = kind;
        what.issuer = view("\xff");
        IS(wsauth_revoke(engine, &what, NULL), MISUSE);
        what.issuer = view("i");
        what.name.len = 1;
        IS(wsauth_revoke(engine, &what, NULL), MISUSE);
    }

    IS(wsauth_lookup_next(none, &lookup, text, sizeof text, &n), MISUSE);
    IS(wsauth_lookup_next(engine, NULL, text, sizeof text, &n), MISUSE);
    IS(wsauth_lookup_next(engine, &lookup, NULL, 1, &n), MISUSE);
    IS(wsauth_lookup_next(engine, &lookup, NULL, 0, &n), WSAUTH_HANDLED_EMPTY);
    answer = unanswered;
    answer.kind = WSAUTH_ANSWER_INACTIVE;
    IS(wsauth_lookup_answer(none, 1, &answer), MISUSE);
    IS(wsauth_lookup_answer(engine, 1, NULL), MISUSE);
    IS(wsauth_lookup_answer(engine, 1, &answer), HANDLE);
    answer.struct_size = 8;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    for (kind = 0; kind <= 7; kind += 7) {
        answer = unanswered;
        answer.kind = kind;
        IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    }
    answer = unanswered;
    answer.kind = WSAUTH_ANSWER_KEYS;
    answer.document.len = SIZE_MAX;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer.document.len = 4;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer = unanswered;
    answer.kind = WSAUTH_ANSWER_RESPONSE;
    for (kind = 0; kind < 5; kind++) {
        static const uint32_t statuses[] = {0, 99, 1000, 65736, UINT_MAX};
        answer.status = statuses[kind];
        IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    }
    answer.status = 200;
    IS(wsauth_lookup_answer(engine, 1, &answer), HANDLE);
    answer.content_type = view("\xff");
    IS(wsauth_lookup_answer(engine, 1, &answer), HANDLE);
    answer.content_type.ptr = NULL;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer.content_type.ptr = nowhere();
    answer.content_type.len = SIZE_MAX;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer.content_type = view("application/json");
    answer.document.len = 1;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer.document.ptr = nowhere();
    answer.document.len = 1024 * 1024 + 1;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer = unanswered;
    answer.kind = WSAUTH_ANSWER_PROFILE;
    IS(wsauth_lookup_answer(engine, 1, &answer), HANDLE);
    for (kind = 0; kind < 4; kind++) {
        static const char *members[] = {"[]", "{\"a\":", "null", "{\"a\":\"\xff\"}"};
        answer.claims = view(members[kind]);
        IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    }
    answer.claims.ptr = NULL;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer.claims.ptr = nowhere();
    answer.claims.len = 64 * 1024 + 1;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer = unanswered;
    answer.kind = WSAUTH_ANSWER_VOUCHED;
    answer.subject = view("\xff");
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer.subject = view("ann");
    answer.permission_count = 1;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer.permission_count = 257;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer.permission_count = 0;
    answer.claims = view("{\"a\":");
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);
    answer.claims = view("{}");
    answer.tenant.len = 1;
    IS(wsauth_lookup_answer(engine, 1, &answer), MISUSE);

    IS(wsauth_keys_load(none, raw("i"), 1, raw("{}"), 2), MISUSE);
    IS(wsauth_keys_load(engine, NULL, 1, raw("{}"), 2), MISUSE);
    IS(wsauth_keys_load(engine, raw("i"), SIZE_MAX, raw("{}"), 2), MISUSE);
    IS(wsauth_keys_load(engine, raw("i"), 1, NULL, 2), MISUSE);
    IS(wsauth_keys_load(engine, raw("i"), 1, nowhere(), SIZE_MAX), MISUSE);
    IS(wsauth_keys_load(engine, raw("i"), 1, raw("{}"), 2), WSAUTH_KEY_UNKNOWN);
    IS(wsauth_audit_drain(none, text, sizeof text, &n), MISUSE);
    IS(wsauth_audit_drain(engine, NULL, 1, &n), MISUSE);
    IS(wsauth_audit_drain(engine, text, 1, NULL), WSAUTH_HANDLED_BUFFER);
}

/* The next call panics inside; outputs deny, the call is refused, and the one after it is decided as ever. */
#define PANICS(call) \
    wsauth_test_panic_next(); \
    IS(call, WSAUTH_FAULT_PANIC); \
    IS(say(engine, live, "{\"type\":\"ping\"}"), WSAUTH_OK)

static void panics(void)
{
    wsauth_engine *made = engine;
    const wsauth_revocation empty = WSAUTH_REVOCATION_INIT;
    const wsauth_answer unanswered = WSAUTH_ANSWER_INIT;
    what = empty;
    answer = unanswered;
    prepare(&up, bearer);
    PANICS(wsauth_engine_new(raw(CONFIG), strlen(CONFIG), &made, text, sizeof text, &n));
    CHECK(made == NULL);
    PANICS(wsauth_engine_new_manual(raw(CONFIG), strlen(CONFIG), 0, &made, text, sizeof text, &n));
    PANICS(wsauth_engine_new_from_file(raw("x"), 1, &made, text, sizeof text, &n));
    PANICS(wsauth_engine_reload(engine, raw(CONFIG), strlen(CONFIG), NULL, 0, NULL));
    PANICS(wsauth_engine_wake_descriptor(engine, 0, &fd));
    CHECK(fd == -1);
    PANICS(wsauth_engine_timeout(engine, 0, &timeout));
    PANICS(wsauth_engine_metrics(engine, text, sizeof text, &n));
    PANICS(wsauth_clock_set(engine, 0, 0));
    memset(&shaken, 0x5a, sizeof shaken);
    PANICS(wsauth_handshake(engine, &up.request, &shaken));
    CHECK(shaken.connection == 0 && shaken.progress == 0 && shaken.http_status == 503 && shaken.close_code == 4012);
    PANICS(wsauth_handshake_explain(engine, &up.request, text, sizeof text, &n));
    PANICS(wsauth_refusal_http(WSAUTH_EXPIRED, 0, text, sizeof text, &n));
    PANICS(wsauth_message(engine, live, WSAUTH_PAYLOAD_TEXT, raw("{}"), 2, &decision));
    CHECK(decision.action == WSAUTH_ACTION_NONE && decision.http_status == 503 && decision.public_name[0] != 0);
    PANICS(wsauth_authorize(engine, live, raw("ping"), 4, NULL, 0, &decision));
    PANICS(wsauth_authorize_delivery(engine, live, raw("chat.message"), 12, NULL, 0));
    PANICS(wsauth_authorize_deliveries(engine, &live, 1, raw("chat.message"), 12, NULL, 0, allowed, &n));
    CHECK(n == 0);
    PANICS(wsauth_refresh(engine, live, raw(bearer), strlen(bearer), &decision));
    PANICS(wsauth_refresh_subject(engine, raw(bearer), strlen(bearer), &n));
    PANICS(wsauth_connection_closed(engine, live));
    PANICS(wsauth_connection_touch(engine, live));
    PANICS(wsauth_connection_set_permissions(engine, live, NULL, 0));
    PANICS(wsauth_subject_set_permissions(engine, raw("i"), 1, raw("s"), 1, NULL, 0, &n));
    PANICS(wsauth_connection_identity(engine, live, text, sizeof text, &n));
    PANICS(wsauth_connection_permissions(engine, live, text, sizeof text, &n));
    PANICS(wsauth_poll(engine, 0, events, 4, sizeof *events, &n, &timeout));
    CHECK(n == 0);
    PANICS(wsauth_revoke(engine, &what, &revoked));
    PANICS(wsauth_lookup_next(engine, &lookup, text, sizeof text, &n));
    PANICS(wsauth_lookup_answer(engine, 1, &answer));
    PANICS(wsauth_keys_load(engine, raw("i"), 1, raw("{}"), 2));
    PANICS(wsauth_audit_drain(engine, text, sizeof text, &n));
    wsauth_test_panic_next();
    CHECK(wsauth_reason_name(WSAUTH_EXPIRED)[0] == 0);
    CHECK(strcmp(wsauth_reason_name(WSAUTH_EXPIRED), "expired") == 0);
    /* The operator hears of it. */
    IS(wsauth_audit_drain(engine, text, sizeof text, &n), WSAUTH_OK);
    CHECK(strstr(text, "\"event\":\"fault\"") != NULL);
}

/* A call that panics in the middle of a connection ends that connection, and no other. */
static void panics_under_a_lock(void)
{
    wsauth_connection other;
    size_t at, closed = 0;
    token(bearer, "bob", NOW_S + 3600, "\"chat:read\"", "");
    other = enter(engine, bearer, WSAUTH_OK);
    wsauth_test_panic_under_lock();
    IS(wsauth_connection_permissions(engine, live, text, sizeof text, &n), WSAUTH_FAULT_PANIC);
    IS(wsauth_engine_timeout(engine, 0, &timeout), WSAUTH_OK);
    CHECK(timeout == 0);
    do {
        IS(wsauth_poll(engine, 0, events, 4, sizeof *events, &n, &timeout), WSAUTH_OK);
        for (at = 0; at < n; at++) {
            if (events[at].kind == WSAUTH_EVENT_CLOSE) {
                closed++;
                CHECK(events[at].connection == live && events[at].close_code == 4012);
                CHECK(events[at].reason == WSAUTH_AUTHENTICATION_UNAVAILABLE);
            }
        }
    } while (n > 0);
    CHECK(closed == 1);
    IS(say(engine, live, "{\"type\":\"ping\"}"), WSAUTH_AUTHENTICATION_UNAVAILABLE);
    IS(say(engine, other, "{\"type\":\"ping\"}"), WSAUTH_OK);
    IS(wsauth_audit_drain(engine, text, sizeof text, &n), WSAUTH_OK);
    CHECK(strstr(text, "in the middle of this connection") != NULL);
    IS(wsauth_connection_closed(engine, live), WSAUTH_OK);
}

int main(void)
{
    engine = make(CONFIG, 1);
    token(bearer, "ann", NOW_S + 3600, "\"chat:read\"", "");
    live = enter(engine, bearer, WSAUTH_OK);
    engines();
    handshakes();
    of_connections();
    messages();
    the_rest();
    IS(say(engine, live, "{\"type\":\"ping\"}"), WSAUTH_OK);
    panics();
    panics_under_a_lock();
    /* Freed with connections open. */
    wsauth_engine_free(engine);
    return summary("misuse");
}
