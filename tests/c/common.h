/* What the C tests share: counting, tokens, requests. */
#ifndef WSAUTH_TESTS_COMMON_H
#define WSAUTH_TESTS_COMMON_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wsauth.h"

#if defined(__GNUC__)
#define MAYBE_UNUSED __attribute__((unused))
#else
#define MAYBE_UNUSED
#endif

static MAYBE_UNUSED int passed, failed;

#define CHECK(condition) check((condition) ? 1 : 0, #condition, __FILE__, __LINE__)

static MAYBE_UNUSED void check(int good, const char *what, const char *file, int line)
{
    if (good) {
        passed++;
    } else {
        failed++;
        printf("%s:%d: not so: %s\n", file, line, what);
    }
}

#define IS(call, expected) is((call), (expected), #call, __FILE__, __LINE__)

static MAYBE_UNUSED void is(wsauth_result result, wsauth_result expected, const char *what, const char *file, int line)
{
    if (result == expected) {
        passed++;
    } else {
        failed++;
        printf("%s:%d: %s: %u %s, not %u %s\n", file, line, what, (unsigned)result, wsauth_reason_name(result),
               (unsigned)expected, wsauth_reason_name(expected));
    }
}

static MAYBE_UNUSED int summary(const char *name)
{
    printf("%s: %d passed, %d failed\n", name, passed, failed);
    return failed != 0;
}

static MAYBE_UNUSED wsauth_bytes view(const char *text)
{
    wsauth_bytes bytes;
    bytes.ptr = (const uint8_t *)text;
    bytes.len = strlen(text);
    return bytes;
}

static MAYBE_UNUSED const uint8_t *raw(const char *text) { return (const uint8_t *)text; }

/* --- SHA-256 and HMAC (FIPS 180-4, RFC 2104), so that the tests can sign tokens --- */

typedef struct {
    uint32_t h[8];
    uint8_t block[64];
    uint64_t len;
} sha256;

static uint32_t rotr(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

static void sha256_block(sha256 *s)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64], v[8];
    int i;
    for (i = 0; i < 16; i++)
        w[i] = (uint32_t)s->block[4 * i] << 24 | (uint32_t)s->block[4 * i + 1] << 16 |
               (uint32_t)s->block[4 * i + 2] << 8 | s->block[4 * i + 3];
    for (; i < 64; i++)
        w[i] = w[i - 16] + (rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ (w[i - 15] >> 3)) + w[i - 7] +
               (rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ (w[i - 2] >> 10));
    memcpy(v, s->h, sizeof v);
    for (i = 0; i < 64; i++) {
        uint32_t a = v[7] + (rotr(v[4], 6) ^ rotr(v[4], 11) ^ rotr(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
        uint32_t b = (rotr(v[0], 2) ^ rotr(v[0], 13) ^ rotr(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += a;
        v[0] = a + b;
    }
    for (i = 0; i < 8; i++)
        s->h[i] += v[i];
}

static void sha256_init(sha256 *s)
{
    static const uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->h, h, sizeof h);
    s->len = 0;
}

static void sha256_add(sha256 *s, const uint8_t *data, size_t len)
{
    size_t i;
    for (i = 0; i < len; i++) {
        s->block[s->len++ % 64] = data[i];
        if (s->len % 64 == 0)
            sha256_block(s);
    }
}

static void sha256_end(sha256 *s, uint8_t *out)
{
    static const uint8_t one = 0x80, zero = 0;
    uint64_t bits = s->len * 8;
    uint8_t tail[8];
    int i;
    sha256_add(s, &one, 1);
    while (s->len % 64 != 56)
        sha256_add(s, &zero, 1);
    for (i = 0; i < 8; i++)
        tail[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_add(s, tail, 8);
    for (i = 0; i < 32; i++)
        out[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

#define SECRET "a secret of thirty-two bytes...."

static void hmac(const char *data, size_t len, uint8_t *out)
{
    uint8_t inner[64] = {0}, outer[64], digest[32];
    sha256 s;
    int i;
    memcpy(inner, SECRET, sizeof SECRET - 1);
    for (i = 0; i < 64; i++) {
        outer[i] = inner[i] ^ 0x5c;
        inner[i] ^= 0x36;
    }
    sha256_init(&s);
    sha256_add(&s, inner, 64);
    sha256_add(&s, (const uint8_t *)data, len);
    sha256_end(&s, digest);
    sha256_init(&s);
    sha256_add(&s, outer, 64);
    sha256_add(&s, digest, 32);
    sha256_end(&s, out);
}

static size_t base64url(const uint8_t *data, size_t len, char *out)
{
    static const char *letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t i, n = 0;
    for (i = 0; i < len; i += 3) {
        uint32_t word = (uint32_t)data[i] << 16 | (i + 1 < len ? (uint32_t)data[i + 1] << 8 : 0) | (i + 2 < len ? data[i + 2] : 0);
        out[n++] = letters[word >> 18];
        out[n++] = letters[word >> 12 & 63];
        if (i + 1 < len)
            out[n++] = letters[word >> 6 & 63];
        if (i + 2 < len)
            out[n++] = letters[word & 63];
    }
    out[n] = 0;
    return n;
}

#define ISSUER "https://id.example.com"
#define NOW_S 1800000000ull

/* Signs a token of ISSUER; `more` is further claims, such as ",\"jti\":\"1\"". */
static MAYBE_UNUSED const char *token(char *out, const char *subject, unsigned long long expires, const char *permissions,
                                      const char *more)
{
    char claims[1024];
    uint8_t digest[32];
    size_t n = base64url((const uint8_t *)"{\"alg\":\"HS256\",\"typ\":\"JWT\"}", 27, out);
    int len = snprintf(claims, sizeof claims,
                       "{\"iss\":\"" ISSUER "\",\"aud\":\"live\",\"sub\":\"%s\",\"exp\":%llu,\"permissions\":[%s]%s}", subject,
                       expires, permissions, more);
    out[n++] = '.';
    n += base64url((const uint8_t *)claims, (size_t)len, out + n);
    hmac(out, n, digest);
    out[n] = '.';
    base64url(digest, 32, out + n + 1);
    return out;
}

static MAYBE_UNUSED const char *CONFIG =
    "[[issuer]]\nissuer = '" ISSUER "'\naudience = ['live']\nalgorithms = ['HS256']\nmax_lifetime = '40d'\n"
    "permissions_claims = ['permissions']\nkeys = { secrets = [{ text = '" SECRET "' }] }\n"
    "[handshake]\ncredentials = ['authorization', 'first_message']\ntrusted_proxies = []\nrequire_origin = false\n"
    "subprotocols = ['chat.v1']\n"
    "[messages]\n'ping' = 'public'\n'chat.send' = 'chat:write'\n'room.join' = 'room:{room}:join'\n"
    "[deliveries]\n'chat.message' = 'chat:read'\n'room.event' = 'room:{room}:join'\n"
    "[limits]\nconnections_per_address = 100000\nconnections_per_user = 100000\n"
    "messages_per_user = { count = 100000, per = '1s', burst = 100000 }\n";

/* An upgrade request with a bearer token; `credential` NULL leaves it out. */
typedef struct {
    wsauth_request request;
    wsauth_field headers[8];
    char bearer[4096];
} upgrade;

static MAYBE_UNUSED void prepare(upgrade *u, const char *credential)
{
    static const char *lines[] = {"Host", "live.example.com", "Upgrade", "websocket", "Connection", "Upgrade",
                                  "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==",
                                  "Sec-WebSocket-Protocol", "chat.v1"};
    const wsauth_request empty = WSAUTH_REQUEST_INIT;
    size_t n;
    u->request = empty;
    u->request.method = view("GET");
    u->request.target = view("/");
    for (n = 0; n < 6; n++) {
        u->headers[n].name = view(lines[2 * n]);
        u->headers[n].value = view(lines[2 * n + 1]);
    }
    if (credential) {
        snprintf(u->bearer, sizeof u->bearer, "Bearer %s", credential);
        u->headers[n].name = view("Authorization");
        u->headers[n++].value = view(u->bearer);
    }
    u->request.headers = u->headers;
    u->request.header_count = n;
    u->request.peer_kind = WSAUTH_PEER_TEXT;
    u->request.peer = view("192.0.2.1");
}

static MAYBE_UNUSED wsauth_engine *make(const char *toml, int manual)
{
    wsauth_engine *engine = NULL;
    char problem[512];
    wsauth_result result =
        manual ? wsauth_engine_new_manual(raw(toml), strlen(toml), NOW_S * 1000, &engine, problem, sizeof problem, NULL)
               : wsauth_engine_new(raw(toml), strlen(toml), &engine, problem, sizeof problem, NULL);
    if (result != WSAUTH_OK) {
        printf("no engine: %u %s\n", (unsigned)result, problem);
        exit(2);
    }
    return engine;
}

static MAYBE_UNUSED wsauth_connection enter(wsauth_engine *engine, const char *credential, wsauth_result expected)
{
    static wsauth_handshake_result out;
    static upgrade u;
    prepare(&u, credential);
    IS(wsauth_handshake(engine, &u.request, &out), expected);
    return out.connection;
}

static MAYBE_UNUSED wsauth_result say(wsauth_engine *engine, wsauth_connection connection, const char *text)
{
    return wsauth_message(engine, connection, WSAUTH_PAYLOAD_TEXT, raw(text), strlen(text), NULL);
}

#endif
