/* wsauth-vectors: decides attack vectors through the C ABI.
 *
 * Reads lines of words on stdin; a word is hexadecimal bytes, `-` for none. Prints one line a vector.
 *   begin ID             a new vector
 *   config NOW_MS TOML   makes the engine
 *   revoke KIND ISSUER NAME BEFORE
 *   request METHOD TARGET PEER, header NAME VALUE ..., handshake
 *   vouch EXPIRES_MS ISSUED SUBJECT SESSION CLIENT TENANT PERMISSION ...
 *   respond STATUS CONTENT_TYPE BODY
 *   message DATA, refresh TOKEN
 *   end                  prints the ID and the name of the first result that was not WSAUTH_OK, or `accepted` */
#include "common.h"

enum { MAX_WORDS = 64, MAX_HEADERS = 4096 };

static char *words[MAX_WORDS];
static wsauth_bytes values[MAX_WORDS];
static int word_count;

static wsauth_engine *engine;
static wsauth_request request;
static wsauth_field headers[MAX_HEADERS];
static size_t header_count;
static wsauth_connection connection;
static wsauth_result result;

/* Everything a vector's lines point to lives until its end. */
static char *kept[8192];
static size_t kept_count;

static char *line_in(void)
{
    size_t len = 0, room = 1 << 16;
    char *line = (char *)malloc(room);
    int c;
    while (line && (c = getchar()) != EOF && c != '\n') {
        if (len + 1 == room)
            line = (char *)realloc(line, room *= 2);
        if (line)
            line[len++] = (char)c;
    }
    if (!line || (len == 0 && feof(stdin))) {
        free(line);
        return NULL;
    }
    line[len] = 0;
    return line;
}

static int nibble(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/* Decodes in place: the bytes are shorter than their digits. */
static wsauth_bytes decode(char *word)
{
    wsauth_bytes bytes;
    size_t i, n = strcmp(word, "-") == 0 ? 0 : strlen(word) / 2;
    for (i = 0; i < n; i++)
        word[i] = (char)(nibble(word[2 * i]) << 4 | nibble(word[2 * i + 1]));
    bytes.ptr = n ? (const uint8_t *)word : NULL;
    bytes.len = n;
    return bytes;
}

static void split(char *line)
{
    char *word;
    word_count = 0;
    for (word = strtok(line, " "); word && word_count < MAX_WORDS; word = strtok(NULL, " "))
        words[word_count++] = word;
}

static void note(wsauth_result next)
{
    if (result == WSAUTH_OK)
        result = next;
}

static void handshake(void)
{
    wsauth_handshake_result out;
    request.headers = headers;
    request.header_count = header_count;
    note(wsauth_handshake(engine, &request, &out));
    connection = out.connection;
}

static void vouch(void)
{
    wsauth_answer answer = WSAUTH_ANSWER_INIT;
    wsauth_lookup lookup;
    char buffer[32768];
    answer.kind = WSAUTH_ANSWER_VOUCHED;
    answer.expires_at_ms = strtoull(words[1], NULL, 10);
    answer.issued_at_s = strtoull(words[2], NULL, 10);
    answer.subject = values[3];
    answer.session_id = values[4];
    answer.client_id = values[5];
    answer.tenant = values[6];
    answer.permissions = values + 7;
    answer.permission_count = (size_t)word_count - 7;
    note(wsauth_lookup_next(engine, &lookup, buffer, sizeof buffer, NULL));
    note(wsauth_lookup_answer(engine, lookup.id, &answer));
}

/* The engine judges the response; its verdict is an event. */
static void respond(void)
{
    wsauth_answer answer = WSAUTH_ANSWER_INIT;
    wsauth_lookup lookup;
    wsauth_event events[8];
    char buffer[32768];
    size_t i, count = 0, verdicts = 0;
    answer.kind = WSAUTH_ANSWER_RESPONSE;
    answer.status = (uint32_t)strtoul(words[1], NULL, 10);
    answer.content_type = values[2];
    answer.document = values[3];
    note(wsauth_lookup_next(engine, &lookup, buffer, sizeof buffer, NULL));
    if (lookup.kind != WSAUTH_LOOKUP_INTROSPECTION || lookup.url.len == 0)
        note(WSAUTH_FAULT_INTERNAL);
    note(wsauth_lookup_answer(engine, lookup.id, &answer));
    note(wsauth_poll(engine, 0, events, 8, sizeof *events, &count, NULL));
    for (i = 0; i < count; i++) {
        if (events[i].kind == WSAUTH_EVENT_REFUSED)
            note(events[i].reason);
        if (events[i].kind == WSAUTH_EVENT_READY || events[i].kind == WSAUTH_EVENT_REFUSED)
            verdicts++;
    }
    if (verdicts != 1)
        note(WSAUTH_FAULT_INTERNAL);
}

static int is_verb(const char *verb) { return strcmp(words[0], verb) == 0; }

int main(void)
{
    const wsauth_request no_request = WSAUTH_REQUEST_INIT;
    char *line, *id = NULL;
    while ((line = line_in()) != NULL) {
        int i;
        kept[kept_count++] = line;
        split(line);
        if (word_count == 0)
            continue;
        for (i = 1; i < word_count; i++)
            if (!(is_verb("begin") || ((is_verb("config") || is_verb("vouch") || is_verb("respond")) && i == 1) || (is_verb("vouch") && i == 2) ||
                  (is_verb("revoke") && (i == 1 || i == 4))))
                values[i] = decode(words[i]);
        if (is_verb("begin")) {
            id = words[1];
            engine = NULL;
            connection = 0;
            header_count = 0;
            request = no_request;
            result = WSAUTH_OK;
        } else if (is_verb("config")) {
            char problem[256];
            note(wsauth_engine_new_manual(values[2].ptr, values[2].len, strtoull(words[1], NULL, 10), &engine, problem,
                                          sizeof problem, NULL));
        } else if (is_verb("revoke")) {
            wsauth_revocation what = WSAUTH_REVOCATION_INIT;
            what.kind = (uint32_t)strtoul(words[1], NULL, 10);
            what.issuer = values[2];
            what.name = values[3];
            what.issued_before_s = strtoull(words[4], NULL, 10);
            note(wsauth_revoke(engine, &what, NULL));
        } else if (is_verb("request")) {
            request.method = values[1];
            request.target = values[2];
            request.peer_kind = WSAUTH_PEER_TEXT;
            request.peer = values[3];
        } else if (is_verb("header") && header_count < MAX_HEADERS) {
            headers[header_count].name = values[1];
            headers[header_count++].value = values[2];
        } else if (is_verb("handshake")) {
            handshake();
        } else if (is_verb("vouch")) {
            vouch();
        } else if (is_verb("respond")) {
            respond();
        } else if (is_verb("message")) {
            note(wsauth_message(engine, connection, WSAUTH_PAYLOAD_TEXT, values[1].ptr, values[1].len, NULL));
        } else if (is_verb("refresh")) {
            note(wsauth_refresh(engine, connection, values[1].ptr, values[1].len, NULL));
        } else if (is_verb("end")) {
            printf("%s %s\n", id, result == WSAUTH_OK ? "accepted" : wsauth_reason_name(result));
            wsauth_engine_free(engine);
            while (kept_count > 0)
                free(kept[--kept_count]);
        } else {
            return 2;
        }
    }
    return 0;
}
