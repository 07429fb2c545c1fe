/* Makes the calls that ffi/examples/differential writes on standard input, and answers each with one line: the result
 * and every output. Nothing is compared here. The frames are described in ffi/examples/differential/call.rs. */
#include "common.h"

#include <unistd.h>

#define MOST 1024

static wsauth_engine *engine;
static char text[1 << 20];

/* --- Calls in --- */

static uint8_t input[1 << 16], frame[1 << 21];
static size_t input_at, input_end, frame_at, frame_end;

/* What was answered is written before more is waited for. */
static int take(uint8_t *to, size_t len)
{
    while (len > 0) {
        size_t some = input_end - input_at;
        if (some == 0) {
            ssize_t got;
            fflush(stdout);
            got = read(0, input, sizeof input);
            if (got <= 0)
                return 0;
            input_at = 0;
            some = input_end = (size_t)got;
        }
        if (some > len)
            some = len;
        memcpy(to, input + input_at, some);
        input_at += some;
        to += some;
        len -= some;
    }
    return 1;
}

static int next_frame(void)
{
    uint32_t len;
    if (!take((uint8_t *)&len, sizeof len))
        return 0;
    frame_at = 0;
    frame_end = len;
    if (len == 0 || len > sizeof frame || !take(frame, len)) {
        fprintf(stderr, "no frame\n");
        exit(2);
    }
    return 1;
}

static const uint8_t *part(size_t len)
{
    const uint8_t *at = frame + frame_at;
    if (len > frame_end - frame_at) {
        fprintf(stderr, "the frame is too short\n");
        exit(2);
    }
    frame_at += len;
    return at;
}

static uint64_t number(void)
{
    uint64_t value;
    memcpy(&value, part(sizeof value), sizeof value);
    return value;
}

static size_t count_of(size_t most)
{
    uint32_t value;
    memcpy(&value, part(sizeof value), sizeof value);
    if (value > most) {
        fprintf(stderr, "the list is too long\n");
        exit(2);
    }
    return value;
}

static wsauth_bytes bytes(void)
{
    wsauth_bytes view;
    view.len = count_of(sizeof frame);
    view.ptr = part(view.len);
    return view;
}

static size_t fields(wsauth_field *to)
{
    size_t i, count = count_of(MOST);
    for (i = 0; i < count; i++) {
        to[i].name = bytes();
        to[i].value = bytes();
    }
    return count;
}

static size_t texts(wsauth_bytes *to)
{
    size_t i, count = count_of(MOST);
    for (i = 0; i < count; i++)
        to[i] = bytes();
    return count;
}

/* --- Lines out --- */

static void put(const uint8_t *data, size_t len)
{
    static const char *digits = "0123456789abcdef";
    size_t i;
    for (i = 0; i < len; i++) {
        if (data[i] > ' ' && data[i] <= '~' && data[i] != '%') {
            putchar(data[i]);
        } else {
            putchar('%');
            putchar(digits[data[i] >> 4]);
            putchar(digits[data[i] & 15]);
        }
    }
}

static void put_result(wsauth_result result) { printf("%u", (unsigned)result); }

static void put_decision(wsauth_result result, const wsauth_decision *d)
{
    printf("%u %u %u %u %u %s %s", (unsigned)result, (unsigned)d->action, (unsigned)d->retry_after_ms,
           (unsigned)d->http_status, (unsigned)d->close_code, d->public_name, d->client_action);
}

/* A result, and the text that it left in `text`. */
static void put_text(wsauth_result result)
{
    put_result(result);
    if (text[0]) {
        putchar(' ');
        put((const uint8_t *)text, strlen(text));
    }
}

/* --- The calls --- */

static void upgrade_request(char letter)
{
    static wsauth_field headers[MOST];
    const wsauth_request empty = WSAUTH_REQUEST_INIT;
    wsauth_request request = empty;
    wsauth_handshake_result out;
    wsauth_result result;
    request.shard = (uint32_t)number();
    request.method = bytes();
    request.target = bytes();
    request.header_count = fields(headers);
    request.headers = headers;
    request.peer_kind = (uint32_t)number();
    request.peer = bytes();
    if (letter == 'x') {
        put_text(wsauth_handshake_explain(engine, &request, text, sizeof text, NULL));
        return;
    }
    result = wsauth_handshake(engine, &request, &out);
    printf("%u %llx %u %u %u %u %s %s ", (unsigned)result, (unsigned long long)out.connection, (unsigned)out.progress,
           (unsigned)out.retry_after_ms, (unsigned)out.http_status, (unsigned)out.close_code, out.public_name,
           out.client_action);
    put((const uint8_t *)out.subprotocol, strlen(out.subprotocol));
}

static void message(void)
{
    wsauth_decision decision;
    wsauth_connection connection = number();
    uint32_t kind = (uint32_t)number();
    wsauth_bytes data = bytes();
    wsauth_result result = wsauth_message(engine, connection, kind, data.ptr, data.len, &decision);
    put_decision(result, &decision);
}

static void authorize(char letter)
{
    static wsauth_field list[MOST];
    wsauth_decision decision;
    wsauth_connection connection = number();
    wsauth_bytes type = bytes();
    size_t count = fields(list);
    if (letter == 'd') {
        put_result(wsauth_authorize_delivery(engine, connection, type.ptr, type.len, list, count));
    } else {
        wsauth_result result = wsauth_authorize(engine, connection, type.ptr, type.len, list, count, &decision);
        put_decision(result, &decision);
    }
}

static void deliver_many(void)
{
    static wsauth_field list[MOST];
    static wsauth_connection connections[MOST];
    wsauth_bytes type;
    wsauth_result result;
    size_t i, field_count, allowed = 9, count = count_of(MOST);
    for (i = 0; i < count; i++)
        connections[i] = number();
    type = bytes();
    field_count = fields(list);
    result = wsauth_authorize_deliveries(engine, connections, count, type.ptr, type.len, list, field_count, connections,
                                         &allowed);
    printf("%u %zu", (unsigned)result, allowed);
    for (i = 0; i < allowed; i++)
        printf(" %llx", (unsigned long long)connections[i]);
}

static void poll_shard(void)
{
    static uint8_t room[4096 * 64];
    uint32_t shard = (uint32_t)number();
    size_t i, capacity = (size_t)number(), size = (size_t)number(), count = 9;
    int32_t timeout = 9;
    wsauth_result result;
    if (size > 0 && capacity > sizeof room / size) {
        fprintf(stderr, "too much room\n");
        exit(2);
    }
    result = wsauth_poll(engine, shard, (wsauth_event *)(void *)room, capacity, size, &count, &timeout);
    printf("%u %zu %d", (unsigned)result, count, (int)timeout);
    for (i = 0; i < count; i++) {
        wsauth_event event;
        memcpy(&event, room + i * size, sizeof event);
        printf(" | %llx %u %u %u %u ", (unsigned long long)event.connection, (unsigned)event.kind, (unsigned)event.reason,
               (unsigned)event.retry_after_ms, (unsigned)event.close_code);
        put(event.text.ptr, event.text.len);
    }
}

static void permit(char letter)
{
    static wsauth_bytes list[MOST];
    size_t count, changed = 9;
    if (letter == 'g') {
        wsauth_connection connection = number();
        count = texts(list);
        put_result(wsauth_connection_set_permissions(engine, connection, list, count));
    } else {
        wsauth_bytes issuer = bytes(), subject = bytes();
        wsauth_result result;
        count = texts(list);
        result = wsauth_subject_set_permissions(engine, issuer.ptr, issuer.len, subject.ptr, subject.len, list, count,
                                                &changed);
        printf("%u %zu", (unsigned)result, changed);
    }
}

static void refresh(char letter)
{
    wsauth_bytes token;
    wsauth_result result;
    if (letter == 'r') {
        wsauth_decision decision;
        wsauth_connection connection = number();
        token = bytes();
        result = wsauth_refresh(engine, connection, token.ptr, token.len, &decision);
        put_decision(result, &decision);
    } else {
        size_t count = 9;
        token = bytes();
        result = wsauth_refresh_subject(engine, token.ptr, token.len, &count);
        printf("%u %zu", (unsigned)result, count);
    }
}

static void revoke(void)
{
    const wsauth_revocation empty = WSAUTH_REVOCATION_INIT;
    wsauth_revocation what = empty;
    wsauth_revoked out;
    wsauth_result result;
    what.kind = (uint32_t)number();
    what.connection = number();
    what.issuer = bytes();
    what.name = bytes();
    what.issued_before_s = number();
    result = wsauth_revoke(engine, &what, &out);
    printf("%u %llu %u", (unsigned)result, (unsigned long long)out.closed, (unsigned)out.propagated);
}

static void ask(void)
{
    wsauth_lookup lookup;
    wsauth_result result = wsauth_lookup_next(engine, &lookup, text, sizeof text, NULL);
    printf("%u %llu %u %u ", (unsigned)result, (unsigned long long)lookup.id, (unsigned)lookup.kind,
           (unsigned)lookup.timeout_ms);
    put(lookup.issuer.ptr, lookup.issuer.len);
    putchar(' ');
    put(lookup.about.ptr, lookup.about.len);
    putchar(' ');
    put(lookup.url.ptr, lookup.url.len);
}

static void answer(void)
{
    static wsauth_bytes list[MOST];
    const wsauth_answer empty = WSAUTH_ANSWER_INIT;
    wsauth_answer given = empty;
    uint64_t id = number();
    given.kind = (uint32_t)number();
    given.retry_after_ms = (uint32_t)number();
    given.status = (uint32_t)number();
    given.document = bytes();
    given.subject = bytes();
    given.expires_at_ms = number();
    given.issued_at_s = number();
    given.token_id = bytes();
    given.session_id = bytes();
    given.client_id = bytes();
    given.tenant = bytes();
    given.permission_count = texts(list);
    given.permissions = list;
    given.claims = bytes();
    given.content_type = bytes();
    put_result(wsauth_lookup_answer(engine, id, &given));
}

static void audit(void)
{
    wsauth_result result;
    int any = 0;
    put_result(WSAUTH_OK);
    while ((result = wsauth_audit_drain(engine, text, sizeof text, NULL)) == WSAUTH_OK) {
        if (!any++)
            putchar(' ');
        put((const uint8_t *)text, strlen(text));
    }
    if (result != WSAUTH_HANDLED_EMPTY)
        printf(" then %u", (unsigned)result);
}

static void start(void)
{
    wsauth_bytes toml = bytes();
    uint64_t wall = number();
    if (wsauth_engine_new_manual(toml.ptr, toml.len, wall, &engine, text, sizeof text, NULL) != WSAUTH_OK) {
        fprintf(stderr, "no engine: %s\n", text);
        exit(2);
    }
}

static void answer_one(void)
{
    char letter = (char)*part(1);
    wsauth_bytes first, second;
    uint64_t one, two;
    int32_t timeout = 9;
    wsauth_result result;
    text[0] = 0;
    switch (letter) {
    case 'h':
    case 'x': upgrade_request(letter); break;
    case 'm': message(); break;
    case 'a':
    case 'd': authorize(letter); break;
    case 'D': deliver_many(); break;
    case 'p': poll_shard(); break;
    case 't':
        result = wsauth_engine_timeout(engine, (uint32_t)number(), &timeout);
        printf("%u %d", (unsigned)result, (int)timeout);
        break;
    case 'c': put_result(wsauth_connection_closed(engine, number())); break;
    case 'o': put_result(wsauth_connection_touch(engine, number())); break;
    case 'g':
    case 'G': permit(letter); break;
    case 'i': put_text(wsauth_connection_identity(engine, number(), text, sizeof text, NULL)); break;
    case 'I': put_text(wsauth_connection_permissions(engine, number(), text, sizeof text, NULL)); break;
    case 'r':
    case 'R': refresh(letter); break;
    case 'v': revoke(); break;
    case 'q': ask(); break;
    case 'Q': answer(); break;
    case 'k':
        first = bytes();
        second = bytes();
        put_result(wsauth_keys_load(engine, first.ptr, first.len, second.ptr, second.len));
        break;
    case 'w':
        one = number();
        two = number();
        put_result(wsauth_clock_set(engine, one, two));
        break;
    case 'l':
        first = bytes();
        put_text(wsauth_engine_reload(engine, first.ptr, first.len, text, sizeof text, NULL));
        break;
    case 'u': audit(); break;
    case 'M': put_text(wsauth_engine_metrics(engine, text, sizeof text, NULL)); break;
    case 'H':
        one = number();
        two = number();
        put_text(wsauth_refusal_http((wsauth_result)one, (uint32_t)two, text, sizeof text, NULL));
        break;
    default: fprintf(stderr, "no such call: %c\n", letter); exit(2);
    }
    if (frame_at != frame_end) {
        fprintf(stderr, "the frame is too long\n");
        exit(2);
    }
    putchar('\n');
}

int main(void)
{
    if (!next_frame() || *part(1) != '+')
        return 2;
    start();
    while (next_frame())
        answer_one();
    wsauth_engine_free(engine);
    return 0;
}
