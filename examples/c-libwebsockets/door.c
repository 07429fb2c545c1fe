#include "door.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* The configured bounds of wsauth are lower. */
#define MAX_HEAD (96 * 1024)
#define MAX_LINES 256
/* Seconds for a request to be complete and decided. */
#define PATIENCE 10
/* Requests that are being read or decided at one time. */
#define MAX_DOORS 2048

struct door {
    struct server *server;
    struct lws *wsi;
    struct peer *peer; /* once wsauth accepted, until libwebsockets has the socket */
    char *bytes;       /* what the client sent: the head, and what came behind it */
    size_t len, room;
    size_t head_len; /* 0 while it is not complete */
    char key[32]; /* Sec-WebSocket-Key */
    bool refused;
    char answer[LWS_PRE + 1024];
    size_t answer_len;
};

/* A request line and its fields, pointing into the head. */
struct head {
    wsauth_bytes method, target;
    wsauth_field fields[MAX_LINES];
    size_t field_count;
};

static wsauth_bytes view(const char *from, const char *to)
{
    wsauth_bytes bytes = {(const uint8_t *)from, (size_t)(to - from)};

    return bytes;
}

static const char *find(const char *from, const char *end, char wanted)
{
    const char *at = memchr(from, wanted, (size_t)(end - from));

    return at == NULL ? end : at;
}

/* Splits a head that ends in an empty line. Only CR LF ends a line, and a field stands on one line. What names and
 * values may hold is judged by wsauth. */
static bool split(const char *at, const char *end, struct head *head)
{
    const char *eol = find(at, end, '\r'), *first = find(at, eol, ' '), *second;

    if (first == eol || eol[1] != '\n')
        return false;
    second = find(first + 1, eol, ' ');
    if (eol - second != 9 || memcmp(second, " HTTP/1.1", 9) != 0)
        return false;
    head->method = view(at, first);
    head->target = view(first + 1, second);
    head->field_count = 0;
    for (at = eol + 2; end - at > 2; at = eol + 2) {
        const char *colon, *from, *to;

        eol = find(at, end, '\r');
        colon = find(at, eol, ':');
        if (eol[1] != '\n' || colon == eol || head->field_count == MAX_LINES)
            return false;
        from = colon + 1;
        to = eol;
        while (from < to && (*from == ' ' || *from == '\t'))
            from++;
        while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
            to--;
        head->fields[head->field_count].name = view(at, colon);
        head->fields[head->field_count++].value = view(from, to);
    }
    return true;
}

static void keep_key(struct door *door, const wsauth_field *field)
{
    static const char name[] = "sec-websocket-key";

    if (field->name.len == sizeof name - 1 &&
        strncasecmp((const char *)field->name.ptr, name, field->name.len) == 0 && field->value.len < sizeof door->key)
        memcpy(door->key, field->value.ptr, field->value.len);
}

/* Lets libwebsockets finish the upgrade on a second descriptor of the same socket, by a request of our own: the
 * connection's handle is its target, so that live_callback finds the peer. What came behind the head goes along.
 * The door's own descriptor must be closed next. */
static void hand_over(struct door *door)
{
    struct server *server = door->server;
    struct peer *peer = door->peer;
    wsauth_connection id = peer->id;
    size_t behind = door->len - door->head_len;
    char *request = malloc(512 + behind);
    struct lws *wsi = NULL;
    int fd = -1, len = 0;

    door->peer = NULL;
    peer->door = NULL;
    if (request != NULL) {
        len = snprintf(request, 512,
                       "GET /%016llx HTTP/1.1\r\nHost: live\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
                       (unsigned long long)id, door->key);
        memcpy(request + len, door->bytes + door->head_len, behind);
        fd = dup(lws_get_socket_fd(door->wsi));
    }
    if (fd >= 0) /* It may call live_callback before it returns, and close the socket. */
        wsi = lws_adopt_socket_vhost_readbuf(server->live, fd, request, (size_t)len + behind);
    free(request);
    peer = peer_find(server, id);
    if (peer != NULL && peer->wsi == NULL) {
        if (wsi == NULL) {
            peer_free(peer);
        } else {
            peer->wsi = wsi;
            lws_set_opaque_user_data(wsi, peer);
        }
    }
}

static void refuse(struct door *door, wsauth_result reason, uint32_t retry_after_ms)
{
    door->refused = true;
    if (wsauth_refusal_http(reason, retry_after_ms, door->answer + LWS_PRE, sizeof door->answer - LWS_PRE,
                            &door->answer_len) != WSAUTH_OK)
        door->answer_len = 0;
    else
        door->answer_len--; /* its NUL */
    lws_callback_on_writable(door->wsi);
}

/* Asks wsauth. Returns what the callback must return. */
static int decide(struct door *door)
{
    struct server *server = door->server;
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof peer;
    wsauth_request request = WSAUTH_REQUEST_INIT;
    wsauth_handshake_result out;
    struct head head;
    size_t i;

    if (!split(door->bytes, door->bytes + door->head_len, &head)) {
        refuse(door, WSAUTH_REQUEST_MALFORMED, 0);
        return 0;
    }
    if (getpeername(lws_get_socket_fd(door->wsi), (struct sockaddr *)&peer, &peer_len) != 0)
        return -1;
    request.method = head.method;
    request.target = head.target;
    request.headers = head.fields;
    request.header_count = head.field_count;
    request.peer_kind = WSAUTH_PEER_SOCKADDR;
    request.peer.ptr = (const uint8_t *)&peer;
    request.peer.len = peer_len;

    wsauth_result result = wsauth_handshake(server->engine, &request, &out);
    if (result != WSAUTH_OK) {
        refuse(door, result, out.retry_after_ms);
        return 0;
    }
    /* wsauth required exactly one, of 24 base64 characters. */
    for (i = 0; i < head.field_count; i++)
        keep_key(door, &head.fields[i]);
    door->peer = peer_new(server, &out);
    if (door->peer == NULL)
        return -1;
    door->peer->door = door;
    if (out.progress == WSAUTH_PROGRESS_AUTHENTICATING)
        return 0; /* WSAUTH_EVENT_READY or _REFUSED will come. */
    hand_over(door);
    return -1;
}

static int receive(struct door *door, const void *in, size_t len)
{
    size_t searched = door->len > 3 ? door->len - 3 : 0;

    if (door->refused)
        return 0;
    if (len > MAX_HEAD - door->len)
        return -1;
    if (door->len + len > door->room) {
        size_t room = 2 * (door->len + len);
        char *bytes = realloc(door->bytes, room);

        if (bytes == NULL)
            return -1;
        door->bytes = bytes;
        door->room = room;
    }
    memcpy(door->bytes + door->len, in, len);
    door->len += len;
    for (; door->head_len == 0 && searched + 4 <= door->len; searched++) {
        if (memcmp(door->bytes + searched, "\r\n\r\n", 4) == 0) {
            door->head_len = searched + 4;
            return decide(door);
        }
    }
    return 0;
}

static int adopt(struct lws *wsi)
{
    struct server *server = lws_context_user(lws_get_context(wsi));
    struct door *door = server->doors < MAX_DOORS && !server->quitting ? calloc(1, sizeof *door) : NULL;

    if (door == NULL)
        return -1;
    server->doors++;
    door->server = server;
    door->wsi = wsi;
    lws_set_opaque_user_data(wsi, door);
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, PATIENCE);
    return 0;
}

static void leave(struct door *door)
{
    door->server->doors--;
    if (door->peer != NULL)
        peer_free(door->peer); /* The client left before it was decided. */
    free(door->bytes);
    free(door);
}

int door_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct door *door = lws_get_opaque_user_data(wsi);

    (void)user;
    switch (reason) {
    case LWS_CALLBACK_RAW_ADOPT:
        return adopt(wsi);
    case LWS_CALLBACK_RAW_RX:
        return door == NULL ? -1 : receive(door, in, len);
    case LWS_CALLBACK_RAW_WRITEABLE:
        if (door == NULL || !door->refused)
            return 0;
        if (door->answer_len > 0)
            lws_write(wsi, (unsigned char *)door->answer + LWS_PRE, door->answer_len, LWS_WRITE_RAW);
        return lws_raw_transaction_completed(wsi);
    case LWS_CALLBACK_RAW_CLOSE:
        if (door != NULL) {
            lws_set_opaque_user_data(wsi, NULL);
            leave(door);
        }
        return 0;
    default:
        return 0;
    }
}

void door_open(struct door *door)
{
    struct lws *wsi = door->wsi;

    hand_over(door);
    /* At once: it must not read what is now the other's. */
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}

void door_refuse(struct door *door, wsauth_result reason, uint32_t retry_after_ms)
{
    struct peer *peer = door->peer;

    door->peer = NULL;
    peer_free(peer);
    refuse(door, reason, retry_after_ms);
}
