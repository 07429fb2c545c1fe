#include "store.h"

#include <libwebsockets.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_SESSIONS 10000
#define MAX_PERMISSIONS 32

struct session {
    struct session *next;
    char id[256];
    uint64_t expires_at_ms, issued_at_s;
    char subject[256];
    char permissions[1024];
};

struct store {
    struct session *first;
    size_t count;
};

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct store *store_new(void)
{
    return calloc(1, sizeof(struct store));
}

void store_free(struct store *store)
{
    while (store != NULL && store->first != NULL) {
        struct session *next = store->first->next;

        free(store->first);
        store->first = next;
    }
    free(store);
}

/* In a time that does not tell how much of a guess was right. */
static bool is(const struct session *session, const void *id, size_t len)
{
    return strlen(session->id) == len && lws_timingsafe_bcmp(session->id, id, (uint32_t)len) == 0;
}

static struct session **place_of(struct store *store, const void *id, size_t len)
{
    struct session **place = &store->first;

    while (*place != NULL && !is(*place, id, len))
        place = &(*place)->next;
    return place;
}

void store_add(struct store *store, const char *id, const char *subject, uint64_t expires_at_ms, const char *permissions)
{
    struct session *session = calloc(1, sizeof *session);

    if (session == NULL || store->count == MAX_SESSIONS || strlen(id) >= sizeof session->id ||
        strlen(subject) >= sizeof session->subject || strlen(permissions) >= sizeof session->permissions) {
        free(session);
        return;
    }
    store_remove(store, id);
    session->expires_at_ms = expires_at_ms;
    session->issued_at_s = now_ms() / 1000;
    strcpy(session->id, id);
    strcpy(session->subject, subject);
    strcpy(session->permissions, permissions);
    session->next = store->first;
    store->first = session;
    store->count++;
}

void store_remove(struct store *store, const char *id)
{
    struct session **place = place_of(store, id, strlen(id)), *session = *place;

    if (session == NULL)
        return;
    *place = session->next;
    store->count--;
    free(session);
}

static wsauth_bytes view(const char *text)
{
    wsauth_bytes bytes = {(const uint8_t *)text, strlen(text)};

    return bytes;
}

/* The words of a text. */
static size_t split(char *text, wsauth_bytes words[MAX_PERMISSIONS])
{
    char *rest = text, *word;
    size_t count = 0;

    while (count < MAX_PERMISSIONS && (word = strtok_r(rest, " ", &rest)) != NULL)
        words[count++] = view(word);
    return count;
}

static void answer(struct store *store, wsauth_engine *engine, const wsauth_lookup *lookup)
{
    wsauth_answer answer = WSAUTH_ANSWER_INIT;
    wsauth_bytes words[MAX_PERMISSIONS];
    char permissions[1024];
    wsauth_result result;

    answer.kind = WSAUTH_ANSWER_UNAVAILABLE; /* It has no keys. */
    if (lookup->kind == WSAUTH_LOOKUP_SESSION || lookup->kind == WSAUTH_LOOKUP_INTROSPECTION) {
        struct session *session = *place_of(store, lookup->about.ptr, lookup->about.len);

        answer.kind = WSAUTH_ANSWER_INACTIVE;
        if (session != NULL && session->expires_at_ms > now_ms()) {
            strcpy(permissions, session->permissions);
            answer.kind = WSAUTH_ANSWER_VOUCHED;
            answer.subject = view(session->subject);
            answer.expires_at_ms = session->expires_at_ms;
            answer.issued_at_s = session->issued_at_s;
            answer.permissions = words;
            answer.permission_count = split(permissions, words);
        }
    }
    result = wsauth_lookup_answer(engine, lookup->id, &answer);
    if (WSAUTH_CLASS(result) == 11 && result != WSAUTH_MISUSE_HANDLE)
        lwsl_err("an answer was refused: %s\n", wsauth_reason_name(result));
}

void store_answer_all(struct store *store, wsauth_engine *engine)
{
    char buffer[32768];
    wsauth_lookup lookup;
    bool asked = false;

    while (wsauth_lookup_next(engine, &lookup, buffer, sizeof buffer, NULL) == WSAUTH_OK) {
        answer(store, engine, &lookup);
        asked = true;
    }
    if (asked)
        lws_explicit_bzero(buffer, sizeof buffer); /* It held session ids. */
}
