#include "peer.h"

#include <stdlib.h>
#include <string.h>

#include "chat.h"

/* Seconds a peer has to take what waits for it before its end. */
#define LINGER 2

static struct peer **bucket(struct server *server, wsauth_connection id)
{
    /* Handles differ in their lower bits: those are the slot's number. */
    return &server->peers[(id ^ id >> 32) % PEER_BUCKETS];
}

struct peer *peer_new(struct server *server, const wsauth_handshake_result *accepted)
{
    struct peer *peer = calloc(1, sizeof *peer), **place = bucket(server, accepted->connection);

    if (peer == NULL) {
        wsauth_connection_closed(server->engine, accepted->connection);
        return NULL;
    }
    peer->server = server;
    peer->id = accepted->connection;
    peer->last = &peer->first;
    memcpy(peer->subprotocol, accepted->subprotocol, sizeof peer->subprotocol);
    peer->next = *place;
    *place = peer;
    server->peer_count++;
    return peer;
}

struct peer *peer_find(struct server *server, wsauth_connection id)
{
    struct peer *peer = *bucket(server, id);

    while (peer != NULL && peer->id != id)
        peer = peer->next;
    return peer;
}

static void drop_first(struct peer *peer)
{
    struct waiting *waiting = peer->first;

    peer->first = waiting->next;
    if (peer->first == NULL)
        peer->last = &peer->first;
    peer->waiting--;
    peer->waiting_bytes -= waiting->len;
    free(waiting);
}

void peer_free(struct peer *peer)
{
    struct peer **place = bucket(peer->server, peer->id);

    while (*place != peer)
        place = &(*place)->next;
    *place = peer->next;
    peer->server->peer_count--;
    wsauth_connection_closed(peer->server->engine, peer->id);
    chat_leave(peer);
    while (peer->first != NULL)
        drop_first(peer);
    free(peer->message);
    free(peer);
}

bool peer_gather(struct peer *peer, const void *data, size_t len)
{
    if (len > MAX_MESSAGE - peer->message_len)
        return false;
    if (peer->message_len + len > peer->message_room || peer->message == NULL) {
        size_t room = peer->message_len + len < 1024 ? 1024 : 2 * (peer->message_len + len);
        char *message = realloc(peer->message, room);

        if (message == NULL)
            return false;
        peer->message = message;
        peer->message_room = room;
    }
    if (len > 0)
        memcpy(peer->message + peer->message_len, data, len);
    peer->message_len += len;
    return true;
}

/* Disconnects a peer that does not take what it is sent. */
static void drop(struct peer *peer)
{
    while (peer->first != NULL)
        drop_first(peer);
    peer_end(peer, LWS_CLOSE_STATUS_POLICY_VIOLATION, "slow", 4);
}

void peer_send(struct peer *peer, const char *text, size_t len, const char *delivery, const char *listing,
               size_t listing_len)
{
    struct waiting *waiting;

    if (peer->close_code != 0 || listing_len > sizeof waiting->listing)
        return;
    if (peer->waiting >= MAX_WAITING || len > MAX_WAITING_BYTES - peer->waiting_bytes) {
        drop(peer);
        return;
    }
    waiting = malloc(sizeof *waiting + LWS_PRE + len);
    if (waiting == NULL) {
        drop(peer);
        return;
    }
    waiting->next = NULL;
    waiting->delivery = delivery;
    waiting->listing_len = listing_len;
    if (listing_len > 0)
        memcpy(waiting->listing, listing, listing_len);
    waiting->len = len;
    memcpy(waiting->text + LWS_PRE, text, len);
    *peer->last = waiting;
    peer->last = &waiting->next;
    peer->waiting++;
    peer->waiting_bytes += len;
    if (peer->open)
        lws_callback_on_writable(peer->wsi);
}

void peer_end(struct peer *peer, uint16_t code, const void *text, size_t len)
{
    if (peer->close_code != 0)
        return;
    peer->close_code = code;
    if (len >= sizeof peer->close_text)
        len = sizeof peer->close_text - 1;
    memcpy(peer->close_text, text, len);
    if (peer->open) {
        lws_callback_on_writable(peer->wsi);
        lws_set_timeout(peer->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LINGER);
    }
}

/* Whether it may receive this now, whatever it could when this was queued. */
static bool may_receive(struct peer *peer, const struct waiting *waiting)
{
    wsauth_field field = {{(const uint8_t *)"listing_id", 10}, {(const uint8_t *)waiting->listing, waiting->listing_len}};

    return waiting->delivery == NULL ||
           wsauth_authorize_delivery(peer->server->engine, peer->id, (const uint8_t *)waiting->delivery,
                                     strlen(waiting->delivery), &field, 1) == WSAUTH_OK;
}

int peer_write(struct peer *peer)
{
    if (!peer->open)
        return 0; /* Its close frame is out. */
    while (peer->first != NULL && !may_receive(peer, peer->first))
        drop_first(peer);
    if (peer->first != NULL) {
        struct waiting *waiting = peer->first;
        int written = lws_write(peer->wsi, waiting->text + LWS_PRE, waiting->len, LWS_WRITE_TEXT);

        drop_first(peer);
        if (written < 0)
            return -1;
    }
    if (peer->first != NULL || peer->close_code == 0) {
        if (peer->first != NULL)
            lws_callback_on_writable(peer->wsi);
        return 0;
    }
    /* A frame is being sent: its end may still be in libwebsockets. */
    if (lws_partial_buffered(peer->wsi)) {
        lws_callback_on_writable(peer->wsi);
        return 0;
    }
    peer->open = false;
    lws_close_reason(peer->wsi, (enum lws_close_status)peer->close_code, (unsigned char *)peer->close_text,
                     strlen(peer->close_text));
    return -1;
}
