/* Links an installed libwsauth and has it decide: consumer */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wsauth.h>

static const char config[] = "[[issuer]]\n"
                             "issuer = \"https://id.example.com\"\n"
                             "audience = [\"wss://live.example.com\"]\n"
                             "algorithms = [\"HS256\"]\n"
                             "keys = { secrets = [{ env = \"CONSUMER_SECRET\" }] }\n"
                             "[handshake]\n"
                             "origins = [\"https://app.example.com\"]\n"
                             "credentials = [\"authorization\"]\n"
                             "trusted_proxies = []\n";

static wsauth_bytes view(const char *text)
{
    wsauth_bytes bytes;

    bytes.ptr = (const uint8_t *)text;
    bytes.len = strlen(text);
    return bytes;
}

int main(void)
{
    static const char *const lines[][2] = {{"Host", "live.example.com"},
                                           {"Upgrade", "websocket"},
                                           {"Connection", "Upgrade"},
                                           {"Sec-WebSocket-Version", "13"},
                                           {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
                                           {"Origin", "https://app.example.com"}};
    wsauth_request request = WSAUTH_REQUEST_INIT;
    wsauth_handshake_result out;
    wsauth_engine *engine = NULL;
    wsauth_field headers[6];
    wsauth_result result;
    char problem[512];
    size_t i;

    setenv("CONSUMER_SECRET", "a secret of no less than 32 bytes", 1);
    if (wsauth_abi() != WSAUTH_ABI || wsauth_version_number() != WSAUTH_VERSION_NUMBER) {
        fprintf(stderr, "header %s, library %s\n", WSAUTH_VERSION, wsauth_version());
        return 1;
    }
    result = wsauth_engine_new((const uint8_t *)config, strlen(config), &engine, problem, sizeof problem, NULL);
    if (result != WSAUTH_OK) {
        fprintf(stderr, "%s\n", problem);
        return 1;
    }
    for (i = 0; i < 6; i++) {
        headers[i].name = view(lines[i][0]);
        headers[i].value = view(lines[i][1]);
    }
    request.method = view("GET");
    request.target = view("/live");
    request.headers = headers;
    request.header_count = 6;
    request.peer_kind = WSAUTH_PEER_TEXT;
    request.peer = view("192.0.2.1");
    result = wsauth_handshake(engine, &request, &out);
    wsauth_engine_free(engine);
    printf("wsauth %s: %s\n", wsauth_version(), wsauth_reason_name(result));
    return result == WSAUTH_CREDENTIAL_MISSING && out.http_status == 401 ? 0 : 1;
}
