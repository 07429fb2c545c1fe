/* This file answers: what does the server keep about one connection? */
#ifndef PEER_H
#define PEER_H

#include <libwebsockets.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wsauth.h>

#define PEER_BUCKETS 4096
#define MAX_SUBSCRIPTIONS 100
/* Longest message, as [message] max_bytes of wsauth by default. */
#define MAX_MESSAGE 65536
/* What may wait for a slow peer; then it is disconnected. */
#define MAX_WAITING 1024
#define MAX_WAITING_BYTES (4u << 20)

struct door;
struct listing;
struct peer;

struct server {
    wsauth_engine *engine;
    struct lws_context *context;
    struct lws_vhost *live; /* where upgrades that were decided are finished; nothing listens there */
    struct peer *peers[PEER_BUCKETS];
    size_t peer_count;
    struct chat *chat;
    struct store *store;
    lws_sorted_usec_list_t timer;
    int doors;
    bool quitting;
};

/* A text that waits until libwebsockets can write. */
struct waiting {
    struct waiting *next;
    const char *delivery; /* its type in [deliveries]; NULL for answers and for what wsauth says */
    char listing[128];
    size_t listing_len;
    size_t len;
    unsigned char text[]; /* LWS_PRE bytes of room, then the text */
};

struct peer {
    struct server *server;
    wsauth_connection id;
    struct peer *next; /* in its bucket */
    struct door *door; /* while its upgrade is not finished */
    struct lws *wsi;   /* after that */
    bool open;         /* the upgrade was answered */
    char subprotocol[256];

    char *message; /* what has come of a message */
    size_t message_len, message_room;
    bool message_binary;
    bool held; /* it is complete and wsauth said to hold it */

    struct waiting *first, **last;
    size_t waiting, waiting_bytes;
    uint16_t close_code; /* not 0: close it when everything was written */
    char close_text[124];

    struct listing *subscribed[MAX_SUBSCRIPTIONS];
    size_t subscriptions;
};

/* Makes the peer of a connection that wsauth accepted. NULL when memory is out; then the connection is given back. */
struct peer *peer_new(struct server *server, const wsauth_handshake_result *accepted);

/* Finds it, or NULL. */
struct peer *peer_find(struct server *server, wsauth_connection id);

/* Says wsauth_connection_closed and frees it. The one place that does either. */
void peer_free(struct peer *peer);

/* Appends what came of a message. False when it is longer than MAX_MESSAGE. */
bool peer_gather(struct peer *peer, const void *data, size_t len);

/* Queues a text; libwebsockets calls back when it can be written. `delivery` is NULL, or wsauth is asked at that
 * moment whether the peer may receive it: what waited may have been forbidden meanwhile. */
void peer_send(struct peer *peer, const char *text, size_t len, const char *delivery, const char *listing,
               size_t listing_len);

/* Closes it when everything queued was written, or after 2 s. The first reason counts. */
void peer_end(struct peer *peer, uint16_t code, const void *text, size_t len);

/* Writes one queued text, or the close frame. Only for LWS_CALLBACK_SERVER_WRITEABLE, whose value it returns. */
int peer_write(struct peer *peer);

#endif
