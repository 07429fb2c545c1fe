/* This file answers: may this upgrade request come in? */
#ifndef DOOR_H
#define DOOR_H

#include "peer.h"

/* The protocol of the listening vhost. libwebsockets 4.1 would cost a guarded server three things if it read the
 * request itself: it hangs up where Sec-WebSocket-Protocol is longer than 127 bytes, which is every token; it lists
 * no fields that it does not know; and its hook cannot wait. So the request is read here, wsauth sees every line of
 * it, and libwebsockets gets a short request that is already decided. */
int door_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);

/* A connection that was authenticating is live: finishes its upgrade. */
void door_open(struct door *door);

/* It is refused: answers over HTTP. */
void door_refuse(struct door *door, wsauth_result reason, uint32_t retry_after_ms);

#endif
