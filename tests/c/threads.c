/* Many threads on one engine, all calls at once. Run under TSan as well. */
#include "common.h"

#include <pthread.h>

enum { THREADS = 8, ROUNDS = 400 };

static wsauth_engine *engine;
static wsauth_connection seen[THREADS];
static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;
static int wrong[THREADS], delivered[THREADS];

#define EXPECT(condition, result) expect(me, (condition) ? 1 : 0, (result), __LINE__)

static void expect(int me, int good, wsauth_result result, int line)
{
    if (good)
        return;
    if (wrong[me]++ < 3)
        printf("thread %d: threads.c:%d: %u %s\n", me, line, (unsigned)result, wsauth_reason_name(result));
}


/* What a call may say; anything else is wrong. */
static int ok_or(wsauth_result result, wsauth_result a, wsauth_result b)
{
    return result == WSAUTH_OK || result == a || result == b;
}

static wsauth_connection share(int me, wsauth_connection mine)
{
    wsauth_connection other;
    pthread_mutex_lock(&seen_lock);
    seen[me] = mine;
    other = seen[(me + 1) % THREADS] ? seen[(me + 1) % THREADS] : mine;
    pthread_mutex_unlock(&seen_lock);
    return other;
}

static void *work(void *argument)
{
    int me = (int)(size_t)argument, round;
    char bearer[2048], subject[16], text[65536];
    upgrade u;
    wsauth_event events[8];
    wsauth_decision decision;
    snprintf(subject, sizeof subject, "u%d", me % 3);
    token(bearer, subject, NOW_S + 3600, "\"chat:write\",\"chat:read\",\"room:7:join\"", "");
    prepare(&u, bearer);
    for (round = 0; round < ROUNDS; round++) {
        wsauth_handshake_result out;
        wsauth_connection other, both[2];
        wsauth_revocation what = WSAUTH_REVOCATION_INIT;
        size_t n;
        wsauth_result result = wsauth_handshake(engine, &u.request, &out);
        EXPECT(result == WSAUTH_OK, result);
        if (result != WSAUTH_OK)
            continue;
        other = share(me, out.connection);
        both[0] = out.connection;
        both[1] = other;
        result = wsauth_message(engine, out.connection, WSAUTH_PAYLOAD_TEXT, raw("{\"type\":\"chat.send\"}"), 20, &decision);
        delivered[me] += result == WSAUTH_OK;
        EXPECT(ok_or(result, WSAUTH_REVOKED, WSAUTH_MISUSE_HANDLE), result);
        result = say(engine, other, "{\"type\":\"room.join\",\"room\":7}");
        EXPECT(ok_or(result, WSAUTH_REVOKED, WSAUTH_MISUSE_HANDLE), result);
        result = wsauth_authorize_deliveries(engine, both, 2, raw("chat.message"), 12, NULL, 0, both, &n);
        EXPECT(result == WSAUTH_OK && n <= 2, result);
        (void)!wsauth_connection_identity(engine, other, text, sizeof text, NULL);
        (void)!wsauth_refresh(engine, out.connection, raw(bearer), strlen(bearer), NULL);
        result = wsauth_poll(engine, 0, events, 8, sizeof *events, &n, NULL);
        EXPECT(ok_or(result, WSAUTH_MISUSE_BUSY, WSAUTH_OK), result);
        if (round % 10 == 3) {
            what.kind = WSAUTH_REVOKE_CONNECTION;
            what.connection = other;
            result = wsauth_revoke(engine, &what, NULL);
            EXPECT(result == WSAUTH_OK, result);
            /* What begins after that is not decided on the old state. */
            result = say(engine, other, "{\"type\":\"ping\"}");
            EXPECT(result != WSAUTH_OK, result);
        }
        if (round % 50 == 7) {
            result = wsauth_engine_reload(engine, raw(CONFIG), strlen(CONFIG), NULL, 0, NULL);
            EXPECT(result == WSAUTH_OK, result);
            result = wsauth_engine_metrics(engine, text, sizeof text, NULL);
            EXPECT(result == WSAUTH_OK, result);
            (void)!wsauth_audit_drain(engine, text, sizeof text, NULL);
        }
        if (me == 0)
            EXPECT(wsauth_clock_set(engine, NOW_S * 1000 + (uint64_t)round, (uint64_t)round) == WSAUTH_OK, 0);
        result = wsauth_connection_closed(engine, out.connection);
        EXPECT(ok_or(result, WSAUTH_MISUSE_HANDLE, WSAUTH_OK), result);
        result = say(engine, out.connection, "{\"type\":\"ping\"}");
        EXPECT(result == WSAUTH_MISUSE_HANDLE, result);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    size_t i;
    engine = make(CONFIG, 1);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        if (wrong[i] != 0)
            printf("thread %d: %d wrong\n", (int)i, wrong[i]);
        CHECK(wrong[i] == 0);
        CHECK(delivered[i] > ROUNDS / 2);
    }
    wsauth_engine_free(engine);
    return summary("threads");
}
