/* A child gets an engine of its own; the parent's goes on undisturbed. */
#include "common.h"

#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static wsauth_engine *shared;
static volatile int stop;

static int wait_for(pid_t child)
{
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int in_child(wsauth_engine *engine, const char *bearer, wsauth_connection parents, int parents_fd)
{
    static upgrade u;
    static wsauth_handshake_result out;
    int fd = -1;
    /* Before anything else the old handle is stale. */
    if (say(engine, parents, "{\"type\":\"ping\"}") != WSAUTH_MISUSE_HANDLE)
        return 1;
    if (wsauth_engine_wake_descriptor(engine, 0, &fd) != WSAUTH_OK || fd == parents_fd)
        return 2;
    prepare(&u, bearer);
    if (wsauth_handshake(engine, &u.request, &out) != WSAUTH_OK)
        return 3;
    if (say(engine, out.connection, "{\"type\":\"ping\"}") != WSAUTH_OK)
        return 4;
    if (out.connection == parents)
        return 5;
    if (wsauth_connection_closed(engine, parents) != WSAUTH_MISUSE_HANDLE)
        return 6;
    wsauth_engine_free(engine);
    return 0;
}

static void *busy(void *unused)
{
    char bearer[2048];
    static upgrade u;
    static wsauth_handshake_result out;
    wsauth_event events[16];
    size_t count;
    (void)unused;
    prepare(&u, token(bearer, "busy", (unsigned long long)time(NULL) + 3600, "\"chat:write\"", ""));
    while (!stop) {
        if (wsauth_handshake(shared, &u.request, &out) == WSAUTH_OK) {
            (void)!say(shared, out.connection, "{\"type\":\"chat.send\"}");
            wsauth_connection_closed(shared, out.connection);
        }
        (void)!wsauth_poll(shared, 0, events, 16, sizeof *events, &count, NULL);
        (void)!wsauth_engine_reload(shared, raw(CONFIG), strlen(CONFIG), NULL, 0, NULL);
    }
    return NULL;
}

/* How often to fork under load may be given: under valgrind each takes long. */
int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 100;
    char bearer[2048];
    wsauth_connection c;
    pthread_t thread;
    int i, fd, clean = 0;
    unsigned long long soon = (unsigned long long)time(NULL) + 3600;

    shared = make(CONFIG, 0);
    c = enter(shared, token(bearer, "ann", soon, "", ""), WSAUTH_OK);
    IS(wsauth_engine_wake_descriptor(shared, 0, &fd), WSAUTH_OK);
    for (i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(in_child(shared, bearer, c, fd));
        CHECK(wait_for(child) == 0);
        IS(say(shared, c, "{\"type\":\"ping\"}"), WSAUTH_OK);
    }
    /* A child of a child. */
    {
        pid_t child = fork();
        if (child == 0) {
            if (say(shared, c, "{\"type\":\"ping\"}") != WSAUTH_MISUSE_HANDLE)
                _exit(1);
            child = fork();
            if (child == 0)
                _exit(in_child(shared, bearer, c, -2));
            _exit(wait_for(child));
        }
        CHECK(wait_for(child) == 0);
    }
    /* Forks while another thread is in the middle of everything. */
    CHECK(pthread_create(&thread, NULL, busy, NULL) == 0);
    for (i = 0; i < rounds; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            _exit(in_child(shared, bearer, c, fd));
        }
        {
            int code = wait_for(child);
            clean += code == 0;
            if (code != 0)
                printf("child %d: %d\n", i, code);
        }
    }
    stop = 1;
    pthread_join(thread, NULL);
    CHECK(clean == rounds);
    IS(say(shared, c, "{\"type\":\"ping\"}"), WSAUTH_OK);
    /* Freed without a call in the child. */
    {
        pid_t child = fork();
        if (child == 0) {
            wsauth_engine_free(shared);
            _exit(0);
        }
        CHECK(wait_for(child) == 0);
    }
    wsauth_engine_free(shared);
    return summary("fork");
}
