/* This file answers: what does a complete guarded server on libwebsockets look like?
 *
 * The chat of a real-estate site: one thread, subscriptions by listing, deliveries asked about one by one. Every
 * decision about who may do what is wsauth's; door.c asks it about upgrades, this file about messages and time,
 * peer.c about deliveries, and chat.c only keeps the application.
 *
 * Arguments: the configuration file and a port (0 takes any). It prints `listening 127.0.0.1:PORT`, then one line of
 * JSON per audit event. Lines on standard input: `revoke ISSUER SUBJECT`, `session ID SUBJECT SECONDS PERMISSION...`,
 * `logout ID` and `quit`. */
#include <libwebsockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wsauth.h>

#include "chat.h"
#include "door.h"
#include "peer.h"
#include "store.h"

#define MAX_EVENTS 64
/* How often the audit is printed, and how long a quitting server waits for its peers. */
#define AUDIT_US (20 * LWS_US_PER_MS)
#define QUIT_US LWS_US_PER_SEC

static volatile sig_atomic_t interrupted;

/* What wsauth says about a complete message. */
static void decide(struct peer *peer)
{
    wsauth_result result =
        wsauth_message(peer->server->engine, peer->id,
                       peer->message_binary ? WSAUTH_PAYLOAD_BINARY : WSAUTH_PAYLOAD_TEXT,
                       (const uint8_t *)peer->message, peer->message_len, NULL);

    if (result == WSAUTH_HANDLED_HOLD) {
        /* Read no more, and offer it again after WSAUTH_EVENT_READY. */
        peer->held = true;
        lws_rx_flow_control(peer->wsi, 0);
        return;
    }
    if (result == WSAUTH_OK && !peer->message_binary)
        chat_message(peer, peer->message, peer->message_len);
    /* All else is answered by wsauth_poll. */
    peer->message_len = 0;
}

static int receive(struct peer *peer, const void *in, size_t len)
{
    struct lws *wsi = peer->wsi;

    if (peer->close_code != 0)
        return 0; /* It is being closed: nothing it says is heard. */
    if (lws_is_first_fragment(wsi))
        peer->message_binary = lws_frame_is_binary(wsi) != 0;
    if (peer->held || !peer_gather(peer, in, len)) {
        peer_end(peer, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, "message_too_large", 17);
        return 0;
    }
    if (lws_is_final_fragment(wsi))
        decide(peer);
    return 0;
}

/* Finds the peer of a request that door.c made; nothing else can reach this vhost. */
static int confirm(struct server *server, struct lws *wsi)
{
    char target[32];
    struct peer *peer = NULL;

    if (lws_hdr_copy(wsi, target, sizeof target, WSI_TOKEN_GET_URI) == 17)
        peer = peer_find(server, strtoull(target + 1, NULL, 16));
    if (peer == NULL || (peer->wsi != NULL && peer->wsi != wsi))
        return -1;
    peer->wsi = wsi;
    lws_set_opaque_user_data(wsi, peer);
    return 0;
}

/* Answers with the subprotocol that wsauth chose: libwebsockets was not told which were offered, so it adds none. */
static int add_subprotocol(struct peer *peer, struct lws_process_html_args *args)
{
    unsigned char **at = (unsigned char **)&args->p;

    if (peer->subprotocol[0] == '\0')
        return 0;
    return lws_add_http_header_by_name(peer->wsi, (const unsigned char *)"sec-websocket-protocol:",
                                       (const unsigned char *)peer->subprotocol, (int)strlen(peer->subprotocol), at,
                                       *at + args->max_len);
}

static int opened(struct peer *peer)
{
    uint16_t code = peer->close_code;

    peer->open = true;
    if (code != 0) {
        peer->close_code = 0;
        peer_end(peer, code, peer->close_text, strlen(peer->close_text));
    } else if (peer->first != NULL) {
        lws_callback_on_writable(peer->wsi);
    }
    return 0;
}

static int live_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct server *server = lws_context_user(lws_get_context(wsi));
    struct peer *peer = lws_get_opaque_user_data(wsi);

    (void)user;
    if (reason == LWS_CALLBACK_HTTP_CONFIRM_UPGRADE)
        return confirm(server, wsi);
    if (peer == NULL)
        return reason == LWS_CALLBACK_HTTP ? -1 : 0;
    switch (reason) {
    case LWS_CALLBACK_ADD_HEADERS:
        return add_subprotocol(peer, in);
    case LWS_CALLBACK_ESTABLISHED:
        return opened(peer);
    case LWS_CALLBACK_RECEIVE:
        return receive(peer, in, len);
    case LWS_CALLBACK_RECEIVE_PONG:
        wsauth_connection_touch(server->engine, peer->id);
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return peer_write(peer);
    case LWS_CALLBACK_CLOSED:
        peer->open = false;
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        /* The last word on this socket, also where the upgrade never completed. */
        lws_set_opaque_user_data(wsi, NULL);
        peer_free(peer);
        return 0;
    default:
        return 0;
    }
}

/* It waited for an answer and may go on. */
static void ready(struct peer *peer)
{
    if (peer->door != NULL) {
        door_open(peer->door);
    } else if (peer->held) {
        peer->held = false;
        decide(peer);
        if (!peer->held)
            lws_rx_flow_control(peer->wsi, 1);
    }
}

static void obey_event(struct server *server, const wsauth_event *event)
{
    struct peer *peer = peer_find(server, event->connection);

    if (peer == NULL)
        return;
    switch (event->kind) {
    case WSAUTH_EVENT_SEND:
        peer_send(peer, (const char *)event->text.ptr, event->text.len, NULL, NULL, 0);
        break;
    case WSAUTH_EVENT_READY:
        ready(peer);
        break;
    case WSAUTH_EVENT_REFUSED:
    case WSAUTH_EVENT_CLOSE:
        if (peer->door != NULL)
            door_refuse(peer->door, event->reason, event->retry_after_ms);
        else
            peer_end(peer, event->close_code, event->text.ptr, event->text.len);
        break;
    default: /* WSAUTH_EVENT_PERMISSIONS: subscriptions may stay, since each delivery is asked about. */
        break;
    }
}

/* Does what wsauth wants done: when its descriptor is readable and when its timer is due. */
static void serve(struct server *server)
{
    wsauth_event events[MAX_EVENTS];
    size_t count = 0, i;
    int32_t timeout_ms = -1;

    store_answer_all(server->store, server->engine);
    if (wsauth_poll(server->engine, 0, events, MAX_EVENTS, sizeof events[0], &count, &timeout_ms) != WSAUTH_OK)
        return;
    for (i = 0; i < count; i++)
        obey_event(server, &events[i]);
    lws_sul_cancel(&server->timer);
    if (timeout_ms >= 0) {
        lws_usec_t us = (lws_usec_t)timeout_ms * LWS_US_PER_MS;

        lws_sul_schedule(server->context, 0, &server->timer, server->timer.cb, us > 0 ? us : 1);
    }
}

static void on_timer(lws_sorted_usec_list_t *timer)
{
    serve(lws_container_of(timer, struct server, timer));
}

static int wake_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    (void)user;
    (void)in;
    (void)len;
    if (reason == LWS_CALLBACK_RAW_RX_FILE)
        serve(lws_context_user(lws_get_context(wsi)));
    return 0;
}

static void print_audit(struct server *server)
{
    char lines[16384];

    while (wsauth_audit_drain(server->engine, lines, sizeof lines, NULL) == WSAUTH_OK)
        fputs(lines, stdout);
    fflush(stdout);
}

static void revoke_subject(struct server *server, const char *issuer, const char *subject)
{
    wsauth_revocation what = WSAUTH_REVOCATION_INIT;

    what.kind = WSAUTH_REVOKE_SUBJECT;
    what.issuer.ptr = (const uint8_t *)issuer;
    what.issuer.len = strlen(issuer);
    what.name.ptr = (const uint8_t *)subject;
    what.name.len = strlen(subject);
    if (wsauth_revoke(server->engine, &what, NULL) != WSAUTH_OK)
        fprintf(stderr, "revoke: refused\n");
}

/* One line of the operator's. */
static void obey_line(struct server *server, char *line)
{
    char *rest = line, *word = strtok_r(rest, " \t\r", &rest), *first = strtok_r(rest, " \t\r", &rest);
    char *second = strtok_r(rest, " \t\r", &rest);

    if (word != NULL && strcmp(word, "quit") == 0) {
        interrupted = 1;
    } else if (word != NULL && strcmp(word, "revoke") == 0 && second != NULL) {
        revoke_subject(server, first, second);
    } else if (word != NULL && strcmp(word, "session") == 0 && second != NULL) {
        char *seconds = strtok_r(rest, " \t\r", &rest);
        uint64_t life = seconds == NULL ? 0 : strtoull(seconds, NULL, 10);

        store_add(server->store, first, second, ((uint64_t)time(NULL) + life) * 1000, rest == NULL ? "" : rest);
    } else if (word != NULL && strcmp(word, "logout") == 0 && first != NULL) {
        store_remove(server->store, first);
    } else if (word != NULL) {
        fprintf(stderr, "commands: revoke ISSUER SUBJECT, session ID SUBJECT SECONDS PERMISSION..., logout ID, quit\n");
    }
}

/* Standard input. Its end leaves the server running. */
static int operator_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    static char line[4096];
    static size_t filled;
    struct server *server = lws_context_user(lws_get_context(wsi));
    char *end;
    ssize_t got;

    (void)user;
    (void)in;
    (void)len;
    if (reason != LWS_CALLBACK_RAW_RX_FILE)
        return 0;
    got = read(STDIN_FILENO, line + filled, sizeof line - 1 - filled);
    if (got <= 0)
        return -1;
    filled += (size_t)got;
    line[filled] = '\0';
    while ((end = strchr(line, '\n')) != NULL) {
        *end = '\0';
        obey_line(server, line);
        filled = strlen(end + 1);
        memmove(line, end + 1, filled + 1);
    }
    if (filled == sizeof line - 1)
        filled = 0; /* No command is that long. */
    return 0;
}

static const struct lws_protocols door_protocols[] = {{"door", door_callback, 0, 0, 0, NULL, 0}, {0}};
static const struct lws_protocols live_protocols[] = {{"live", live_callback, 0, 0, 0, NULL, 0},
                                                      {"wake", wake_callback, 0, 0, 0, NULL, 0},
                                                      {"operator", operator_callback, 0, 0, 0, NULL, 0},
                                                      {0}};
/* Pings after 20 s of silence; a peer that answers is there: see LWS_CALLBACK_RECEIVE_PONG. */
static const lws_retry_bo_t pings = {.secs_since_valid_ping = 20, .secs_since_valid_hangup = 40};

/* A second descriptor for libwebsockets to watch and to close. */
static bool watch(struct server *server, int fd, const char *protocol)
{
    lws_sock_file_fd_type copy;

    copy.filefd = dup(fd);
    return copy.filefd >= 0 &&
           lws_adopt_descriptor_vhost(server->live, LWS_ADOPT_RAW_FILE_DESC, copy, protocol, NULL) != NULL;
}

static bool listen_at(struct server *server, int port)
{
    struct lws_context_creation_info info;
    struct lws_vhost *door;
    int fd;

    memset(&info, 0, sizeof info);
    info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
    info.user = server;
    server->context = lws_create_context(&info);
    if (server->context == NULL)
        return false;
    info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
    info.vhost_name = "live";
    info.protocols = live_protocols;
    info.retry_and_idle_policy = &pings;
    server->live = lws_create_vhost(server->context, &info);
    if (server->live == NULL || wsauth_engine_wake_descriptor(server->engine, 0, &fd) != WSAUTH_OK ||
        !watch(server, fd, "wake"))
        return false;
    watch(server, STDIN_FILENO, "operator");
    info.options |= LWS_SERVER_OPTION_ADOPT_APPLY_LISTEN_ACCEPT_CONFIG;
    info.port = port;
    info.iface = "127.0.0.1";
    info.vhost_name = "door";
    info.protocols = door_protocols;
    info.retry_and_idle_policy = NULL;
    info.listen_accept_role = "raw-skt";
    info.listen_accept_protocol = "door";
    door = lws_create_vhost(server->context, &info);
    if (door == NULL)
        return false;
    printf("listening 127.0.0.1:%d\n", lws_get_vhost_listen_port(door));
    fflush(stdout);
    return true;
}

static void on_audit(lws_sorted_usec_list_t *timer)
{
    (void)timer; /* It only makes lws_service return. */
}

static void interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

static void run(struct server *server)
{
    lws_sorted_usec_list_t audit;
    wsauth_result reason = WSAUTH_SHUTDOWN;
    lws_usec_t end;
    struct peer *peer;
    size_t i;

    memset(&audit, 0, sizeof audit);
    server->timer.cb = on_timer;
    serve(server);
    while (!interrupted) {
        lws_sul_schedule(server->context, 0, &audit, on_audit, AUDIT_US);
        if (lws_service(server->context, 0) < 0)
            break;
        print_audit(server);
    }
    server->quitting = true;
    for (i = 0; i < PEER_BUCKETS; i++) {
        for (peer = server->peers[i]; peer != NULL; peer = peer->next)
            peer_end(peer, (uint16_t)wsauth_reason_close_code(reason), wsauth_reason_public_name(reason),
                     strlen(wsauth_reason_public_name(reason)));
    }
    end = lws_now_usecs() + QUIT_US;
    while (server->peer_count > 0 && lws_now_usecs() < end) {
        lws_sul_schedule(server->context, 0, &audit, on_audit, AUDIT_US);
        if (lws_service(server->context, 0) < 0)
            break;
    }
    lws_sul_cancel(&audit);
    lws_sul_cancel(&server->timer);
}

int main(int count, char **arguments)
{
    static struct server server;
    char problem[1024], *end = NULL;
    long port = count == 3 ? strtol(arguments[2], &end, 10) : -1;
    int status = 1;

    if (port < 0 || port > 65535 || *end != '\0') {
        fprintf(stderr, "usage: server CONFIG PORT\n");
        return 2;
    }
    if (wsauth_abi() != WSAUTH_ABI) {
        fprintf(stderr, "libwsauth %s has another ABI than this program\n", wsauth_version());
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, interrupt);
    signal(SIGTERM, interrupt);
    lws_set_log_level(0, NULL); /* 4.1 logs every adopted socket as an error. */
    if (wsauth_engine_new_from_file((const uint8_t *)arguments[1], strlen(arguments[1]), &server.engine, problem,
                                    sizeof problem, NULL) != WSAUTH_OK) {
        fprintf(stderr, "%s: %s\n", arguments[1], problem);
        return 1;
    }
    server.chat = chat_new();
    server.store = store_new();
    if (server.chat != NULL && server.store != NULL && listen_at(&server, (int)port)) {
        run(&server);
        status = 0;
    }
    lws_context_destroy(server.context); /* Every peer is freed by LWS_CALLBACK_WSI_DESTROY. */
    print_audit(&server);
    wsauth_engine_free(server.engine);
    chat_free(server.chat);
    store_free(server.store);
    return status;
}
