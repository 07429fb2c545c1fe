/* The example of include/wsauth.h, compiled and run. The server around it is made of stand-ins. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "wsauth.h"

/* What your server has: here, enough to run once around. */
static int sent, closed_code;
static wsauth_connection only;
static int server_runs(void) { return closed_code == 0; }
static void server_io(void) {}
static void server_answer(const char *text, size_t len) { sent += (int)len; (void)text; }
static void server_finish_upgrade(wsauth_connection c, const char *protocol) { only = c; (void)protocol; }
static void server_send(wsauth_connection c, const uint8_t *text, size_t len) { sent += (int)len; (void)c; (void)text; }
static void server_close(wsauth_connection c, unsigned code) { closed_code = (int)code; (void)c; }
static void application(wsauth_connection c, const uint8_t *data, size_t len) { sent += (int)len; (void)c; (void)data; }

/* begin */
static void on_upgrade(wsauth_engine *engine, const wsauth_request *request)
{
    wsauth_handshake_result out;
    wsauth_result result = wsauth_handshake(engine, request, &out);
    if (result != WSAUTH_OK) {
        char http[1024];
        if (wsauth_refusal_http(result, out.retry_after_ms, http, sizeof http, NULL) == WSAUTH_OK)
            server_answer(http, strlen(http));
        return;
    }
    server_finish_upgrade(out.connection, out.subprotocol);
}

static void on_message(wsauth_engine *engine, wsauth_connection c, const uint8_t *data, size_t len)
{
    wsauth_result result = wsauth_message(engine, c, WSAUTH_PAYLOAD_TEXT, data, len, NULL);
    if (result == WSAUTH_OK)
        application(c, data, len);
    /* WSAUTH_HANDLED_HOLD: stop reading until WSAUTH_EVENT_READY. Else: poll answers the peer. */
}

static void loop(wsauth_engine *engine)
{
    int fd, timeout = 0;
    if (wsauth_engine_wake_descriptor(engine, 0, &fd) != WSAUTH_OK)
        return;
    while (server_runs()) {
        struct pollfd wait = {fd, POLLIN, 0};
        wsauth_event events[64];
        size_t count = 0, i;
        poll(&wait, 1, timeout);
        server_io(); /* calls on_upgrade and on_message */
        if (wsauth_poll(engine, 0, events, 64, sizeof *events, &count, &timeout) != WSAUTH_OK)
            continue;
        for (i = 0; i < count; i++) {
            if (events[i].kind == WSAUTH_EVENT_SEND)
                server_send(events[i].connection, events[i].text.ptr, events[i].text.len);
            if (events[i].kind == WSAUTH_EVENT_CLOSE || events[i].kind == WSAUTH_EVENT_REFUSED) {
                server_close(events[i].connection, events[i].close_code);
                wsauth_connection_closed(engine, events[i].connection);
            }
        }
    }
}
/* end */

int main(void)
{
    static const char toml[] =
        "[[issuer]]\nissuer = 'https://id.example.com'\naudience = ['live']\nalgorithms = ['HS256']\n"
        "keys = { secrets = [{ text = 'a secret of thirty-two bytes....' }] }\n"
        "[handshake]\ncredentials = ['authorization', 'first_message']\ntrusted_proxies = []\norigins = []\n"
        "require_origin = false\n[messages]\n'chat.send' = 'chat:write'\n";
    static const char *lines[] = {"Host", "live.example.com", "Upgrade", "websocket", "Connection", "Upgrade",
                                  "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="};
    wsauth_field headers[5];
    wsauth_request request = WSAUTH_REQUEST_INIT;
    wsauth_engine *engine;
    char problem[256];
    size_t i;
    if (wsauth_engine_new((const uint8_t *)toml, sizeof toml - 1, &engine, problem, sizeof problem, NULL) != WSAUTH_OK) {
        printf("%s\n", problem);
        return 1;
    }
    for (i = 0; i < 5; i++) {
        headers[i].name.ptr = (const uint8_t *)lines[2 * i];
        headers[i].name.len = strlen(lines[2 * i]);
        headers[i].value.ptr = (const uint8_t *)lines[2 * i + 1];
        headers[i].value.len = strlen(lines[2 * i + 1]);
    }
    request.method.ptr = (const uint8_t *)"GET";
    request.method.len = 3;
    request.target.ptr = (const uint8_t *)"/";
    request.target.len = 1;
    request.headers = headers;
    request.header_count = 5;
    request.peer_kind = WSAUTH_PEER_TEXT;
    request.peer.ptr = (const uint8_t *)"192.0.2.1";
    request.peer.len = 9;
    on_upgrade(engine, &request);
    on_message(engine, only, (const uint8_t *)"{\"type\":\"chat.send\"}", 20);
    loop(engine);
    wsauth_engine_free(engine);
    /* The first message should have been `auth`: nothing reached the application, and the connection was closed. */
    printf("%s: only sent to be closed with 4001: %d %d\n", closed_code == 4001 && sent == 0 ? "ok" : "not ok", sent, closed_code);
    return !(closed_code == 4001 && sent == 0);
}
