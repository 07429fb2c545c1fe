/* This file answers: what does the application do with a message wsauth let through? */
#ifndef CHAT_H
#define CHAT_H

#include "peer.h"

/* Who listens to which listing, and what was said. NULL when memory is out. */
struct chat *chat_new(void);
void chat_free(struct chat *chat);

/* Answers one message that wsauth delivered. */
void chat_message(struct peer *peer, const char *text, size_t len);

/* Takes a peer out of every listing it listens to. */
void chat_leave(struct peer *peer);

#endif
