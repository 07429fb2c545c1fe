/* This file answers: how does a server bring its own session store? */
#ifndef STORE_H
#define STORE_H

#include <stddef.h>
#include <stdint.h>
#include <wsauth.h>

/* A store in memory, for cookie sessions and opaque tokens: the id is what the client shows. NULL when memory is out. */
struct store *store_new(void);
void store_free(struct store *store);

/* Adds a session: who it belongs to, when it is over, and what it may do, as words of one text. */
void store_add(struct store *store, const char *id, const char *subject, uint64_t expires_at_ms, const char *permissions);

/* Ends a session. Its live connections are found out at their next refresh; wsauth_revoke cuts them off now. */
void store_remove(struct store *store, const char *id);

/* Takes every question that waits and answers it. This store answers at once; one that must ask a database would hand
 * the question to a thread, which may call wsauth_lookup_answer itself. */
void store_answer_all(struct store *store, wsauth_engine *engine);

#endif
