/* Header and library agree: every macro with its function, every size with the layout that was promised. */
#include "common.h"

typedef struct {
    wsauth_result number;
    const char *name;
} named;

int main(void)
{
    static const named known[] = {
#include "reasons.inc"
    };
    size_t i;
    CHECK(wsauth_version_number() == WSAUTH_VERSION_NUMBER);
    CHECK(WSAUTH_VERSION_NUMBER == WSAUTH_VERSION_MAJOR * 1000000 + WSAUTH_VERSION_MINOR * 1000 + WSAUTH_VERSION_PATCH);
    CHECK(strcmp(wsauth_version(), WSAUTH_VERSION) == 0);
    CHECK(wsauth_abi() == WSAUTH_ABI);

    /* Every #define of a result reads back as its own name. */
    CHECK(sizeof known / sizeof *known > 80);
    for (i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(wsauth_reason_name(known[i].number), known[i].name) != 0)
            printf("%u is %s\n", (unsigned)known[i].number, wsauth_reason_name(known[i].number));
        CHECK(strcmp(wsauth_reason_name(known[i].number), known[i].name) == 0);
        CHECK(wsauth_reason_text(known[i].number)[0] != 0);
        if (WSAUTH_CLASS(known[i].number) > 10) {
            CHECK(wsauth_reason_public_name(known[i].number)[0] != 0 && wsauth_reason_public_text(known[i].number)[0] != 0);
            CHECK(wsauth_reason_action(known[i].number)[0] != 0);
            CHECK(wsauth_reason_http_status(known[i].number) >= 400 && wsauth_reason_http_status(known[i].number) < 600);
            CHECK(wsauth_reason_close_code(known[i].number) == 1001 || wsauth_reason_close_code(known[i].number) >= 4000);
        } else {
            CHECK(wsauth_reason_http_status(known[i].number) == 0 && wsauth_reason_close_code(known[i].number) == 0);
            CHECK(wsauth_reason_public_name(known[i].number)[0] == 0);
        }
    }
    CHECK(WSAUTH_OK == 0);
    CHECK(strcmp(wsauth_reason_name(4711), "unknown") == 0);

    /* The layout on 64 bits. Changing one of these breaks the ABI: raise WSAUTH_ABI and the SONAME. */
    if (sizeof(void *) == 8) {
        CHECK(sizeof(wsauth_result) == 4 && sizeof(wsauth_connection) == 8);
        CHECK(sizeof(wsauth_bytes) == 16 && sizeof(wsauth_field) == 32);
        CHECK(sizeof(wsauth_request) == 80 && offsetof(wsauth_request, peer) == 64);
        CHECK(sizeof(wsauth_decision) == 32 && offsetof(wsauth_decision, public_name) == 16);
        CHECK(sizeof(wsauth_handshake_result) == 296 && offsetof(wsauth_handshake_result, subprotocol) == 40);
        CHECK(sizeof(wsauth_event) == 40 && offsetof(wsauth_event, text) == 24);
        CHECK(sizeof(wsauth_revocation) == 56 && sizeof(wsauth_revoked) == 16);
        CHECK(sizeof(wsauth_lookup) == 64 && sizeof(wsauth_answer) == 176);
    }
    return summary("abi");
}
