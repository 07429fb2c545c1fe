/* A whole life with a manual clock: accept, message, deliver, refresh, revoke, expire, poll. */
#include "common.h"

#include <poll.h>

static wsauth_event events[64];
static size_t count;
static int32_t timeout;

static void polled(wsauth_engine *engine)
{
    memset(events, 0x5a, sizeof events);
    IS(wsauth_poll(engine, 0, events, 64, sizeof *events, &count, &timeout), WSAUTH_OK);
}

static int has_quietly(const wsauth_event *event, const char *text)
{
    static char copy[4096];
    snprintf(copy, sizeof copy, "%.*s", (int)event->text.len, (const char *)event->text.ptr);
    return strstr(copy, text) != NULL;
}

static int has(const wsauth_event *event, const char *text)
{
    static char copy[4096];
    snprintf(copy, sizeof copy, "%.*s", (int)event->text.len, (const char *)event->text.ptr);
    if (!strstr(copy, text))
        printf("not in %s: %s\n", copy, text);
    return strstr(copy, text) != NULL;
}

static int readable(wsauth_engine *engine)
{
    int fd = -1;
    struct pollfd wait;
    IS(wsauth_engine_wake_descriptor(engine, 0, &fd), WSAUTH_OK);
    wait.fd = fd;
    wait.events = POLLIN;
    wait.revents = 0;
    return poll(&wait, 1, 0) == 1;
}

static void accepted_and_refused(void)
{
    wsauth_engine *engine = make(CONFIG, 1);
    wsauth_handshake_result out;
    upgrade u;
    char bearer[2048], text[4096], small[8];
    size_t needed;
    wsauth_connection c;

    prepare(&u, token(bearer, "ann", NOW_S + 3600, "\"chat:write\"", ",\"jti\":\"t1\""));
    IS(wsauth_handshake_explain(engine, &u.request, text, sizeof text, &needed), WSAUTH_OK);
    CHECK(strstr(text, "\"passed\"") && !strstr(text, "refused") && needed == strlen(text) + 1);
    IS(wsauth_handshake(engine, &u.request, &out), WSAUTH_OK);
    CHECK(out.connection != 0 && out.progress == WSAUTH_PROGRESS_LIVE && out.http_status == 0);
    CHECK(strcmp(out.subprotocol, "chat.v1") == 0 && out.public_name[0] == 0);
    c = out.connection;
    IS(wsauth_connection_identity(engine, c, text, sizeof text, &needed), WSAUTH_OK);
    CHECK(strstr(text, "\"subject\":\"ann\"") && strstr(text, "\"token_id\":\"t1\"") && needed == strlen(text) + 1);
    CHECK(!strstr(text, "eyJ"));
    IS(wsauth_connection_identity(engine, c, small, sizeof small, &needed), WSAUTH_HANDLED_BUFFER);
    CHECK(small[0] == 0 && needed == strlen(text) + 1);
    IS(wsauth_connection_permissions(engine, c, text, sizeof text, NULL), WSAUTH_OK);
    CHECK(strcmp(text, "[\"chat:write\"]") == 0);

    /* The last signature letter changed. */
    bearer[strlen(bearer) - 2] ^= 1;
    prepare(&u, bearer);
    IS(wsauth_handshake(engine, &u.request, &out), WSAUTH_SIGNATURE_INVALID);
    CHECK(out.connection == 0 && out.progress == 0 && out.http_status == 401 && out.close_code == 4001);
    CHECK(strcmp(out.public_name, "auth_failed") == 0 && strcmp(out.client_action, "relogin") == 0);
    IS(wsauth_refusal_http(WSAUTH_SIGNATURE_INVALID, 0, text, sizeof text, &needed), WSAUTH_OK);
    CHECK(strncmp(text, "HTTP/1.1 401 Unauthorized\r\n", 27) == 0 && strstr(text, "\r\n\r\n{") && !strstr(text, "signature"));
    CHECK(strstr(text, "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n") != NULL && needed == strlen(text) + 1);
    IS(wsauth_handshake_explain(engine, &u.request, text, sizeof text, NULL), WSAUTH_OK);
    CHECK(strstr(text, "signature_invalid") != NULL);

    IS(wsauth_connection_closed(engine, c), WSAUTH_OK);
    IS(wsauth_connection_closed(engine, c), WSAUTH_MISUSE_HANDLE);
    IS(say(engine, c, "{\"type\":\"ping\"}"), WSAUTH_MISUSE_HANDLE);
    IS(wsauth_audit_drain(engine, text, 10, &needed), WSAUTH_HANDLED_BUFFER);
    IS(wsauth_audit_drain(engine, text, sizeof text, &needed), WSAUTH_OK);
    CHECK(strstr(text, "handshake_accepted") && strstr(text, "handshake_refused") && needed == strlen(text) + 1);
    IS(wsauth_audit_drain(engine, text, sizeof text, &needed), WSAUTH_HANDLED_EMPTY);
    IS(wsauth_engine_metrics(engine, NULL, 0, &needed), WSAUTH_HANDLED_BUFFER);
    CHECK(needed > 100);
    wsauth_engine_free(engine);
}

static void messages_and_deliveries(void)
{
    wsauth_engine *engine = make(CONFIG, 1);
    wsauth_decision decision;
    wsauth_field field;
    wsauth_bytes permission;
    char bearer[2048], text[4096];
    wsauth_connection c[3], allowed[3];
    size_t n = 9;

    c[0] = enter(engine, token(bearer, "ann", NOW_S + 3600, "\"chat:write\",\"chat:read\",\"room:7:join\"", ""), WSAUTH_OK);
    c[1] = enter(engine, token(bearer, "bob", NOW_S + 3600, "\"chat:write\"", ""), WSAUTH_OK);
    c[2] = enter(engine, token(bearer, "cid", NOW_S + 3600, "\"chat:read\"", ""), WSAUTH_OK);
    IS(say(engine, c[0], "{\"type\":\"chat.send\"}"), WSAUTH_OK);
    IS(say(engine, c[0], "{\"type\":\"room.join\",\"room\":7}"), WSAUTH_OK);
    IS(say(engine, c[0], "{\"type\":\"room.join\",\"room\":8}"), WSAUTH_PERMISSION_MISSING);
    IS(wsauth_message(engine, c[0], WSAUTH_PAYLOAD_TEXT, raw("{\"type\":\"no\"}"), 13, &decision), WSAUTH_MESSAGE_TYPE_UNKNOWN);
    CHECK(decision.action == WSAUTH_ACTION_REPLY_QUEUED && decision.public_name[0] != 0);
    IS(wsauth_message(engine, c[0], WSAUTH_PAYLOAD_BINARY, raw("x"), 1, &decision), WSAUTH_MESSAGE_BINARY);
    IS(wsauth_message(engine, c[0], WSAUTH_PAYLOAD_TEXT, raw("{\"type\":\"ping\"}"), 15, &decision), WSAUTH_OK);
    CHECK(decision.action == WSAUTH_ACTION_NONE && decision.close_code == 0 && decision.public_name[0] == 0);
    polled(engine);
    for (n = 0; n < count && !(events[n].connection == c[0] && has_quietly(&events[n], "\"error\"")); n++)
        continue;
    CHECK(n < count && events[n].kind == WSAUTH_EVENT_SEND);
    n = 9;
    CHECK(timeout > 0);

    field.name = view("room");
    field.value = view("7");
    IS(wsauth_authorize(engine, c[0], raw("room.join"), 9, &field, 1, &decision), WSAUTH_OK);
    field.value = view("8");
    IS(wsauth_authorize(engine, c[0], raw("room.join"), 9, &field, 1, &decision), WSAUTH_PERMISSION_MISSING);
    IS(wsauth_authorize(engine, c[1], raw("ping"), 4, NULL, 0, NULL), WSAUTH_OK);
    IS(wsauth_authorize_delivery(engine, c[0], raw("chat.message"), 12, NULL, 0), WSAUTH_OK);
    IS(wsauth_authorize_delivery(engine, c[1], raw("chat.message"), 12, NULL, 0), WSAUTH_PERMISSION_MISSING);
    IS(wsauth_authorize_delivery(engine, c[0], raw("chat"), 4, NULL, 0), WSAUTH_MESSAGE_TYPE_UNKNOWN);
    IS(wsauth_authorize_deliveries(engine, c, 3, raw("chat.message"), 12, NULL, 0, allowed, &n), WSAUTH_OK);
    CHECK(n == 2 && allowed[0] == c[0] && allowed[1] == c[2]);
    /* In place. */
    memcpy(allowed, c, sizeof c);
    IS(wsauth_authorize_deliveries(engine, allowed, 3, raw("chat.message"), 12, NULL, 0, allowed, &n), WSAUTH_OK);
    CHECK(n == 2 && allowed[0] == c[0] && allowed[1] == c[2]);

    permission = view("chat:read");
    IS(wsauth_connection_set_permissions(engine, c[0], &permission, 1), WSAUTH_OK);
    IS(say(engine, c[0], "{\"type\":\"chat.send\"}"), WSAUTH_PERMISSION_MISSING);
    IS(wsauth_subject_set_permissions(engine, raw(ISSUER), sizeof ISSUER - 1, raw("bob"), 3, &permission, 1, &n), WSAUTH_OK);
    CHECK(n == 1);
    IS(wsauth_authorize_delivery(engine, c[1], raw("chat.message"), 12, NULL, 0), WSAUTH_OK);
    IS(wsauth_connection_set_permissions(engine, c[2], NULL, 0), WSAUTH_OK);
    IS(wsauth_authorize_delivery(engine, c[2], raw("chat.message"), 12, NULL, 0), WSAUTH_PERMISSION_MISSING);
    polled(engine);
    for (n = 0; n < count && events[n].kind != WSAUTH_EVENT_PERMISSIONS; n++)
        continue;
    CHECK(n < count && has(&events[n], "\"removed\":["));

    /* A new configuration: ping is gone. */
    IS(wsauth_engine_reload(engine, raw("nonsense"), 8, text, sizeof text, NULL), WSAUTH_CONFIG_INVALID);
    CHECK(strstr(text, "line 1") != NULL);
    IS(say(engine, c[0], "{\"type\":\"ping\"}"), WSAUTH_OK);
    snprintf(text, sizeof text, "%s", CONFIG);
    memcpy(strstr(text, "'ping'"), "'pong'", 6);
    IS(wsauth_engine_reload(engine, raw(text), strlen(text), NULL, 0, NULL), WSAUTH_OK);
    IS(say(engine, c[0], "{\"type\":\"ping\"}"), WSAUTH_MESSAGE_TYPE_UNKNOWN);
    IS(say(engine, c[0], "{\"type\":\"pong\"}"), WSAUTH_OK);
    wsauth_engine_free(engine);
}

static void refresh_and_expiry(void)
{
    wsauth_engine *engine = make(CONFIG, 1);
    wsauth_decision decision;
    char bearer[2048], message[4096];
    wsauth_connection c = enter(engine, token(bearer, "ann", NOW_S + 3600, "\"chat:write\"", ""), WSAUTH_OK);
    int32_t before;

    CHECK(readable(engine)); /* as every descriptor at first */
    polled(engine);
    IS(wsauth_engine_timeout(engine, 0, &before), WSAUTH_OK);
    CHECK(before == timeout && timeout > 0);
    CHECK(!readable(engine));
    /* Activity at half time, so that it is not idle. */
    IS(wsauth_clock_set(engine, NOW_S * 1000 + 1700000, 1700000), WSAUTH_OK);
    IS(wsauth_connection_touch(engine, c), WSAUTH_OK);
    IS(wsauth_clock_set(engine, NOW_S * 1000 + 3400000, 3400000), WSAUTH_OK);
    CHECK(readable(engine));
    polled(engine);
    CHECK(count == 1 && events[0].connection == c && events[0].kind == WSAUTH_EVENT_SEND);
    CHECK(has(&events[0], "token_refresh_required"));

    /* Another subject's token is refused and changes nothing. */
    token(bearer, "eve", NOW_S + 7200, "\"chat:write\"", "");
    IS(wsauth_refresh(engine, c, raw(bearer), strlen(bearer), &decision), WSAUTH_IDENTITY_MISMATCH);
    CHECK(decision.action == WSAUTH_ACTION_REPLY_QUEUED && strcmp(decision.public_name, "auth_failed") == 0);
    IS(say(engine, c, "{\"type\":\"chat.send\"}"), WSAUTH_OK);
    /* Its own renews, by message. */
    token(bearer, "ann", NOW_S + 7200, "", "");
    snprintf(message, sizeof message, "{\"type\":\"token_refresh\",\"token\":\"%s\"}", bearer);
    IS(wsauth_message(engine, c, WSAUTH_PAYLOAD_TEXT, raw(message), strlen(message), &decision), WSAUTH_HANDLED_CONSUMED);
    CHECK(decision.action == WSAUTH_ACTION_REPLY_QUEUED && decision.close_code == 0);
    IS(say(engine, c, "{\"type\":\"chat.send\"}"), WSAUTH_PERMISSION_MISSING);
    polled(engine);
    CHECK(count >= 1 && has(&events[0], "token_refreshed"));
    /* And by a call, for one and for all of a subject. */
    token(bearer, "ann", NOW_S + 7300, "\"chat:write\"", "");
    IS(wsauth_refresh(engine, c, raw(bearer), strlen(bearer), NULL), WSAUTH_OK);
    token(bearer, "ann", NOW_S + 7400, "\"chat:write\"", "");
    {
        size_t n = 7;
        IS(wsauth_refresh_subject(engine, raw(bearer), strlen(bearer), &n), WSAUTH_OK);
        CHECK(n == 1);
    }
    IS(say(engine, c, "{\"type\":\"chat.send\"}"), WSAUTH_OK);
    IS(wsauth_connection_touch(engine, c), WSAUTH_OK);

    IS(wsauth_clock_set(engine, NOW_S * 1000 + 5000000, 5000000), WSAUTH_OK);
    IS(wsauth_connection_touch(engine, c), WSAUTH_OK);
    IS(wsauth_clock_set(engine, NOW_S * 1000 + 6500000, 6500000), WSAUTH_OK);
    IS(wsauth_connection_touch(engine, c), WSAUTH_OK);
    /* One millisecond before its end it may; at its end it may not. */
    IS(wsauth_clock_set(engine, (NOW_S + 7400) * 1000 - 1, 7400000 - 1), WSAUTH_OK);
    IS(say(engine, c, "{\"type\":\"chat.send\"}"), WSAUTH_OK);
    IS(wsauth_clock_set(engine, (NOW_S + 7400) * 1000, 7400000), WSAUTH_OK);
    IS(wsauth_message(engine, c, WSAUTH_PAYLOAD_TEXT, raw("{\"type\":\"ping\"}"), 15, &decision), WSAUTH_EXPIRED);
    CHECK(decision.action == WSAUTH_ACTION_CLOSE && decision.close_code == 4002);
    IS(wsauth_authorize_delivery(engine, c, raw("chat.message"), 12, NULL, 0), WSAUTH_EXPIRED);
    polled(engine);
    CHECK(count >= 1 && events[count - 1].kind == WSAUTH_EVENT_CLOSE && events[count - 1].close_code == 4002);
    CHECK(events[count - 1].reason == WSAUTH_EXPIRED && events[count - 1].text.len > 0);
    IS(wsauth_connection_closed(engine, c), WSAUTH_OK);
    polled(engine);
    CHECK(count == 0 && timeout == -1);
    /* Monotonic time does not go back; wall time may. */
    IS(wsauth_clock_set(engine, 0, 7399999), WSAUTH_MISUSE_ARGUMENT);
    IS(wsauth_clock_set(engine, 0, 7400000), WSAUTH_OK);
    wsauth_engine_free(engine);
}

static void revocations(void)
{
    wsauth_engine *engine = make(CONFIG, 1);
    wsauth_revocation what = WSAUTH_REVOCATION_INIT;
    wsauth_revoked done;
    char a[2048], b[2048];
    wsauth_connection c = enter(engine, token(a, "ann", NOW_S + 3600, "", ",\"jti\":\"t1\",\"iat\":1799999999"), WSAUTH_OK);
    wsauth_connection d = enter(engine, token(b, "bob", NOW_S + 3600, "", ",\"sid\":\"s1\",\"iat\":1799999999"), WSAUTH_OK);

    polled(engine);
    what.kind = WSAUTH_REVOKE_TOKEN;
    what.issuer = view(ISSUER);
    what.name = view("t1");
    IS(wsauth_revoke(engine, &what, &done), WSAUTH_OK);
    CHECK(done.closed == 1 && done.propagated == WSAUTH_PROPAGATED_OFF);
    IS(say(engine, c, "{\"type\":\"ping\"}"), WSAUTH_REVOKED);
    IS(say(engine, d, "{\"type\":\"ping\"}"), WSAUTH_OK);
    enter(engine, a, WSAUTH_TOKEN_REVOKED);
    polled(engine);
    CHECK(count == 1 && events[0].connection == c && events[0].close_code == 4006);
    what.kind = WSAUTH_REVOKE_SESSION;
    what.name = view("s1");
    IS(wsauth_revoke(engine, &what, &done), WSAUTH_OK);
    CHECK(done.closed == 1);
    what.kind = WSAUTH_REVOKE_SUBJECT;
    what.name = view("bob");
    IS(wsauth_revoke(engine, &what, NULL), WSAUTH_OK);
    enter(engine, b, WSAUTH_TOKEN_REVOKED);
    /* What names nothing is refused, not done. */
    what.name = view("");
    IS(wsauth_revoke(engine, &what, &done), WSAUTH_MISUSE_ARGUMENT);
    what.kind = WSAUTH_REVOKE_ISSUER;
    IS(wsauth_revoke(engine, &what, &done), WSAUTH_OK);
    what.kind = WSAUTH_REVOKE_KEY;
    what.name = view("k1");
    IS(wsauth_revoke(engine, &what, &done), WSAUTH_OK);
    what.kind = WSAUTH_REVOKE_CONNECTION;
    what.connection = d;
    IS(wsauth_revoke(engine, &what, &done), WSAUTH_OK);
    wsauth_engine_free(engine);
}

static void first_message(void)
{
    wsauth_engine *engine = make(CONFIG, 1);
    wsauth_handshake_result out;
    upgrade u;
    char bearer[2048], message[4096];

    prepare(&u, NULL);
    IS(wsauth_handshake(engine, &u.request, &out), WSAUTH_OK);
    CHECK(out.progress == WSAUTH_PROGRESS_AWAITING_AUTH);
    IS(wsauth_connection_identity(engine, out.connection, message, sizeof message, NULL), WSAUTH_MISUSE_HANDLE);
    snprintf(message, sizeof message, "{\"type\":\"auth\",\"token\":\"%s\"}", token(bearer, "ann", NOW_S + 600, "", ""));
    IS(say(engine, out.connection, message), WSAUTH_HANDLED_CONSUMED);
    IS(say(engine, out.connection, "{\"type\":\"ping\"}"), WSAUTH_OK);
    polled(engine);
    CHECK(count >= 1 && has(&events[count - 1], "auth_success"));

    /* One that says nothing is closed after ten seconds. */
    IS(wsauth_handshake(engine, &u.request, &out), WSAUTH_OK);
    IS(wsauth_clock_set(engine, NOW_S * 1000 + 10000, 10000), WSAUTH_OK);
    polled(engine);
    CHECK(count == 1 && events[0].kind == WSAUTH_EVENT_CLOSE && events[0].close_code == 4010);
    wsauth_engine_free(engine);
}

static void lookups(void)
{
    static const char *toml = "[[issuer]]\nissuer = '" ISSUER "'\naudience = ['live']\nopaque = true\n"
                              "[handshake]\ncredentials = ['authorization']\ntrusted_proxies = []\nrequire_origin = false\n"
                              "[messages]\n'ping' = 'public'\n'chat.send' = 'chat:write'\n";
    wsauth_engine *engine = make(toml, 1);
    wsauth_lookup lookup;
    wsauth_answer answer = WSAUTH_ANSWER_INIT;
    wsauth_decision decision;
    wsauth_handshake_result out;
    wsauth_bytes permission = view("chat:write");
    upgrade u;
    char buffer[1024], text[2048];
    size_t needed;
    wsauth_connection c;

    IS(wsauth_lookup_next(engine, &lookup, buffer, sizeof buffer, NULL), WSAUTH_HANDLED_EMPTY);
    prepare(&u, "opaque-0123456789abcdef");
    IS(wsauth_handshake(engine, &u.request, &out), WSAUTH_OK);
    c = out.connection;
    CHECK(out.progress == WSAUTH_PROGRESS_AUTHENTICATING);
    IS(wsauth_message(engine, c, WSAUTH_PAYLOAD_TEXT, raw("{\"type\":\"ping\"}"), 15, &decision), WSAUTH_HANDLED_HOLD);
    CHECK(decision.action == WSAUTH_ACTION_HOLD);
    CHECK(wsauth_authorize_delivery(engine, c, raw("x"), 1, NULL, 0) != WSAUTH_OK);
    /* A buffer too small loses nothing. */
    IS(wsauth_lookup_next(engine, &lookup, buffer, 10, &needed), WSAUTH_HANDLED_BUFFER);
    CHECK(lookup.id == 0 && needed == sizeof ISSUER - 1 + 23 + 1);
    IS(wsauth_lookup_next(engine, &lookup, buffer, needed, NULL), WSAUTH_OK);
    CHECK(lookup.kind == WSAUTH_LOOKUP_INTROSPECTION && lookup.timeout_ms > 0 && lookup.timeout_ms <= 2000);
    CHECK(lookup.issuer.len == sizeof ISSUER - 1 && memcmp(lookup.issuer.ptr, ISSUER, lookup.issuer.len) == 0);
    CHECK(lookup.about.len == 23 && memcmp(lookup.about.ptr, "opaque-0123456789abcdef", 23) == 0);
    IS(wsauth_lookup_next(engine, &lookup, buffer, sizeof buffer, NULL), WSAUTH_HANDLED_EMPTY);
    CHECK(lookup.id == 0);

    /* Once more, to have its id; then the answers. */
    IS(wsauth_lookup_answer(engine, 12345, &answer), WSAUTH_MISUSE_ARGUMENT);
    answer.kind = WSAUTH_ANSWER_VOUCHED;
    IS(wsauth_lookup_answer(engine, 12345, &answer), WSAUTH_MISUSE_HANDLE);
    prepare(&u, "opaque-second-0123456789");
    IS(wsauth_handshake(engine, &u.request, &out), WSAUTH_OK);
    IS(wsauth_lookup_next(engine, &lookup, buffer, sizeof buffer, NULL), WSAUTH_OK);
    answer.subject = view("ann");
    answer.expires_at_ms = (NOW_S + 600) * 1000;
    answer.permissions = &permission;
    answer.permission_count = 1;
    answer.claims = view("[]");
    IS(wsauth_lookup_answer(engine, lookup.id, &answer), WSAUTH_MISUSE_ARGUMENT);
    answer.claims = view("{\"name\":\"Ann\"}");
    answer.tenant = view("t1");
    IS(wsauth_lookup_answer(engine, lookup.id, &answer), WSAUTH_OK);
    IS(wsauth_lookup_answer(engine, lookup.id, &answer), WSAUTH_MISUSE_HANDLE);
    polled(engine);
    CHECK(count >= 1 && events[0].kind == WSAUTH_EVENT_READY && events[0].connection == out.connection);
    CHECK(events[0].reason == 0 && events[0].text.len == 0);
    IS(say(engine, out.connection, "{\"type\":\"chat.send\"}"), WSAUTH_OK);
    IS(wsauth_connection_identity(engine, out.connection, text, sizeof text, NULL), WSAUTH_OK);
    CHECK(strstr(text, "\"name\":\"Ann\"") && strstr(text, "\"tenant\":\"t1\""));
    /* A refresh whose source must be asked. */
    IS(wsauth_refresh(engine, out.connection, raw("opaque-third-0123456789"), 23, NULL), WSAUTH_HANDLED_PENDING);
    IS(wsauth_lookup_next(engine, &lookup, buffer, sizeof buffer, NULL), WSAUTH_OK);
    answer.kind = WSAUTH_ANSWER_INACTIVE;
    IS(wsauth_lookup_answer(engine, lookup.id, &answer), WSAUTH_OK);
    polled(engine);
    CHECK(count == 1 && has(&events[0], "token_refresh_failed"));

    /* The first one's source says nothing in time. */
    IS(wsauth_clock_set(engine, NOW_S * 1000 + 6000, 6000), WSAUTH_OK);
    polled(engine);
    CHECK(count >= 1 && events[0].kind == WSAUTH_EVENT_REFUSED && events[0].connection == c && events[0].close_code != 0);
    IS(wsauth_refusal_http(events[0].reason, events[0].retry_after_ms, text, sizeof text, NULL), WSAUTH_OK);
    CHECK(strncmp(text, "HTTP/1.1 503", 12) == 0 || strncmp(text, "HTTP/1.1 408", 12) == 0);
    wsauth_engine_free(engine);
}

static void many_events(void)
{
    /* More than the caller has room for: all come, in pieces, and the texts of a piece stand until the next. */
    wsauth_engine *engine = make(CONFIG, 1);
    struct {
        wsauth_event event;
        char newer[24];
    } one;
    char bearer[2048];
    wsauth_connection c;
    int i, seen = 0, closes = 0;
    for (i = 0; i < 5; i++) {
        c = enter(engine, token(bearer, "ann", NOW_S + 3600, "", ""), WSAUTH_OK);
        IS(say(engine, c, "{\"type\":\"no\"}"), WSAUTH_MESSAGE_TYPE_UNKNOWN);
    }
    IS(wsauth_clock_set(engine, (NOW_S + 3600) * 1000, 3600000), WSAUTH_OK);
    do {
        memset(&one, 0x5a, sizeof one);
        IS(wsauth_poll(engine, 0, &one.event, 1, sizeof one, &count, &timeout), WSAUTH_OK);
        seen += (int)count;
        closes += count == 1 && one.event.kind == WSAUTH_EVENT_CLOSE;
        if (count == 1 && one.event.kind == WSAUTH_EVENT_SEND)
            CHECK(one.event.text.ptr[0] == '{' && one.event.text.ptr[one.event.text.len - 1] == '}');
        if (count == 1)
            CHECK(one.newer[0] == 0 && one.newer[23] == 0);
        CHECK(timeout != 0 || readable(engine) || count == 0);
    } while (count == 1);
    CHECK(closes == 5 && seen >= 10);
    wsauth_engine_free(engine);
}

/* What has a URL, where the server fetches by itself. */
static void fetched(void)
{
    static const char *url = "https://id.example.com/jwks";
    static const char *toml = "[[issuer]]\nissuer = '" ISSUER "'\naudience = ['live']\nalgorithms = ['EdDSA']\n"
                              "keys = { jwks_url = 'https://id.example.com/jwks' }\n"
                              "[handshake]\ncredentials = ['authorization']\ntrusted_proxies = []\nrequire_origin = false\n"
                              "[messages]\n'ping' = 'public'\n[lookups]\ndriver = 'host'\n";
    wsauth_engine *engine = make(toml, 1);
    wsauth_answer answer = WSAUTH_ANSWER_INIT;
    wsauth_handshake_result out;
    wsauth_lookup lookup;
    uint8_t signature[64] = {0};
    char buffer[1024], credential[1024];
    static const char *header = "{\"alg\":\"EdDSA\",\"kid\":\"1\"}";
    static const char *claims = "{\"iss\":\"" ISSUER "\",\"aud\":\"live\",\"sub\":\"ann\",\"exp\":1800000600}";
    upgrade u;
    size_t i, len = base64url(raw(header), strlen(header), credential);
    credential[len++] = '.';
    len += base64url(raw(claims), strlen(claims), credential + len);
    credential[len++] = '.';
    base64url(signature, sizeof signature, credential + len);

    prepare(&u, credential);
    IS(wsauth_handshake(engine, &u.request, &out), WSAUTH_OK);
    CHECK(out.progress == WSAUTH_PROGRESS_AUTHENTICATING);
    IS(wsauth_lookup_next(engine, &lookup, buffer, sizeof buffer, NULL), WSAUTH_OK);
    CHECK(lookup.kind == WSAUTH_LOOKUP_KEYS && lookup.about.len == 0);
    CHECK(lookup.issuer.len == sizeof ISSUER - 1 && memcmp(lookup.issuer.ptr, ISSUER, lookup.issuer.len) == 0);
    CHECK(lookup.url.len == strlen(url) && memcmp(lookup.url.ptr, url, lookup.url.len) == 0);
    answer.kind = WSAUTH_ANSWER_RESPONSE;
    answer.status = 503;
    answer.retry_after_ms = 7000;
    answer.content_type = view("text/plain");
    answer.document = view("{\"keys\":[]}");
    IS(wsauth_lookup_answer(engine, lookup.id, &answer), WSAUTH_OK);
    IS(wsauth_lookup_answer(engine, lookup.id, &answer), WSAUTH_MISUSE_HANDLE);
    polled(engine);
    for (i = 0; i < count && events[i].kind != WSAUTH_EVENT_REFUSED; i++)
        ;
    CHECK(i < count && events[i].connection == out.connection && events[i].reason == WSAUTH_SOURCE_UNAVAILABLE);
    wsauth_engine_free(engine);
}

int main(void)
{
    accepted_and_refused();
    messages_and_deliveries();
    refresh_and_expiry();
    revocations();
    first_message();
    lookups();
    fetched();
    many_events();
    return summary("lifecycle");
}
