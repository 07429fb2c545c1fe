#include "chat.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"

#define LISTING_BUCKETS 4096
/* Texts kept per listing, and listings they are kept for. */
#define MAX_HISTORY 50
#define MAX_LISTINGS 10000
#define MAX_NAME 128

/* A listing somebody listens to, or about which something was said. */
struct listing {
    struct listing *next; /* in its bucket */
    char name[MAX_NAME];
    size_t name_len;
    char *json; /* the name as it stood in a message, quotes and all */
    struct peer **subscribers;
    size_t subscriber_count, subscriber_room;
    char *said[MAX_HISTORY]; /* a ring of JSON objects */
    size_t said_first, said_count;
};

struct chat {
    struct listing *listings[LISTING_BUCKETS];
    size_t with_history;
};

/* A text that grows. */
struct text {
    char *at;
    size_t len, room;
    bool failed;
};

static void add(struct text *text, const char *more, size_t len)
{
    if (text->failed)
        return;
    if (len >= text->room - text->len) {
        size_t room = 2 * (text->len + len) + 128;
        char *at = realloc(text->at, room);

        if (at == NULL) {
            text->failed = true;
            return;
        }
        text->at = at;
        text->room = room;
    }
    memcpy(text->at + text->len, more, len);
    text->len += len;
    text->at[text->len] = '\0';
}

static void add_word(struct text *text, const char *word)
{
    add(text, word, strlen(word));
}

struct chat *chat_new(void)
{
    return calloc(1, sizeof(struct chat));
}

static void free_listing(struct listing *listing)
{
    size_t i;

    for (i = 0; i < MAX_HISTORY; i++)
        free(listing->said[i]);
    free(listing->subscribers);
    free(listing->json);
    free(listing);
}

void chat_free(struct chat *chat)
{
    size_t i;

    if (chat == NULL)
        return;
    for (i = 0; i < LISTING_BUCKETS; i++) {
        while (chat->listings[i] != NULL) {
            struct listing *listing = chat->listings[i];

            chat->listings[i] = listing->next;
            free_listing(listing);
        }
    }
    free(chat);
}

static struct listing **place_of(struct chat *chat, const char *name, size_t len)
{
    /* FNV-1a. */
    uint32_t hash = 2166136261u;
    struct listing **place;
    size_t i;

    for (i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    place = &chat->listings[hash % LISTING_BUCKETS];
    while (*place != NULL && ((*place)->name_len != len || memcmp((*place)->name, name, len) != 0))
        place = &(*place)->next;
    return place;
}

static struct listing *find_or_make(struct chat *chat, const char *name, size_t len, struct json_value json)
{
    struct listing **place = place_of(chat, name, len), *listing = *place;

    if (listing != NULL)
        return listing;
    listing = calloc(1, sizeof *listing);
    if (listing == NULL || (listing->json = malloc(json.len + 1)) == NULL) {
        free(listing);
        return NULL;
    }
    memcpy(listing->json, json.at, json.len);
    listing->json[json.len] = '\0';
    memcpy(listing->name, name, len);
    listing->name_len = len;
    *place = listing;
    return listing;
}

/* Forgets a listing nobody listens to and nothing was said about. */
static void tidy(struct chat *chat, struct listing *listing)
{
    if (listing->subscriber_count == 0 && listing->said_count == 0) {
        *place_of(chat, listing->name, listing->name_len) = listing->next;
        free_listing(listing);
    }
}

static void reply(struct peer *peer, struct text *text)
{
    if (!text->failed)
        peer_send(peer, text->at, text->len, NULL, NULL, 0);
    free(text->at);
}

static void bad_request(struct peer *peer)
{
    struct text text = {0};

    add_word(&text, "{\"type\":\"bad_request\",\"field\":\"listing_id\"}");
    reply(peer, &text);
}

/* Sends to the subscribers. A subscription is a wish, not a right: peer_write asks wsauth about each of them. */
static void deliver(struct listing *listing, const char *type, struct text *text)
{
    size_t i;

    if (!text->failed) {
        for (i = 0; i < listing->subscriber_count; i++)
            peer_send(listing->subscribers[i], text->at, text->len, type, listing->name, listing->name_len);
    }
    free(text->at);
}

static bool is_subscribed(const struct peer *peer, const struct listing *listing)
{
    size_t i;

    for (i = 0; i < peer->subscriptions; i++) {
        if (peer->subscribed[i] == listing)
            return true;
    }
    return false;
}

static bool subscribe(struct peer *peer, struct listing *listing)
{
    if (is_subscribed(peer, listing))
        return true;
    if (peer->subscriptions == MAX_SUBSCRIPTIONS)
        return false;
    if (listing->subscriber_count == listing->subscriber_room) {
        size_t room = 2 * listing->subscriber_room + 4;
        struct peer **subscribers = realloc(listing->subscribers, room * sizeof(struct peer *));

        if (subscribers == NULL)
            return false;
        listing->subscribers = subscribers;
        listing->subscriber_room = room;
    }
    listing->subscribers[listing->subscriber_count++] = peer;
    peer->subscribed[peer->subscriptions++] = listing;
    return true;
}

void chat_leave(struct peer *peer)
{
    while (peer->subscriptions > 0) {
        struct listing *listing = peer->subscribed[--peer->subscriptions];
        size_t i = 0;

        while (listing->subscribers[i] != peer)
            i++;
        listing->subscribers[i] = listing->subscribers[--listing->subscriber_count];
        tidy(peer->server->chat, listing);
    }
}

/* {"from":...,"text":...}: who speaks is what the credential says, never what the message says. */
static bool add_said(struct peer *peer, struct text *said, struct json_value what)
{
    char *identity = NULL;
    size_t needed = 0;
    struct json_value subject;
    bool known = false;

    if (wsauth_connection_identity(peer->server->engine, peer->id, NULL, 0, &needed) == WSAUTH_HANDLED_BUFFER)
        identity = malloc(needed);
    if (identity != NULL &&
        wsauth_connection_identity(peer->server->engine, peer->id, identity, needed, &needed) == WSAUTH_OK)
        known = json_find(identity, strlen(identity), "subject", &subject);
    if (known) {
        add_word(said, "\"from\":");
        add(said, subject.at, subject.len);
        add_word(said, ",\"text\":");
        add(said, what.at, what.len);
        add_word(said, "}");
    }
    free(identity);
    return known && !said->failed;
}

static void keep(struct chat *chat, struct listing *listing, const struct text *said)
{
    size_t index = (listing->said_first + listing->said_count) % MAX_HISTORY;
    char *copy;

    if (listing->said_count == 0 && chat->with_history == MAX_LISTINGS)
        return;
    copy = malloc(said->len + 2);
    if (copy == NULL)
        return;
    copy[0] = '{';
    memcpy(copy + 1, said->at, said->len + 1);
    if (listing->said_count == 0)
        chat->with_history++;
    if (listing->said_count == MAX_HISTORY) {
        free(listing->said[index]);
        listing->said_first = (listing->said_first + 1) % MAX_HISTORY;
    } else {
        listing->said_count++;
    }
    listing->said[index] = copy;
}

static void say(struct peer *peer, struct listing *listing, struct json_value what)
{
    struct text said = {0}, text = {0};

    if (add_said(peer, &said, what)) {
        keep(peer->server->chat, listing, &said);
        add_word(&text, "{\"type\":\"chat.message\",\"listing_id\":");
        add_word(&text, listing->json);
        add_word(&text, ",");
        add(&text, said.at, said.len);
        deliver(listing, "chat.message", &text);
    }
    free(said.at);
}

static void tell_history(struct peer *peer, struct listing *listing)
{
    struct text text = {0};
    size_t i;

    add_word(&text, "{\"type\":\"chat.history\",\"listing_id\":");
    add_word(&text, listing->json);
    add_word(&text, ",\"messages\":[");
    for (i = 0; i < listing->said_count; i++) {
        if (i > 0)
            add_word(&text, ",");
        add_word(&text, listing->said[(listing->said_first + i) % MAX_HISTORY]);
    }
    add_word(&text, "]}");
    reply(peer, &text);
}

static void update(struct listing *listing, struct json_value price)
{
    struct text text = {0};

    add_word(&text, "{\"type\":\"listing.changed\",\"listing_id\":");
    add_word(&text, listing->json);
    add_word(&text, ",\"price\":");
    add(&text, price.at, price.len);
    add_word(&text, "}");
    deliver(listing, "listing.changed", &text);
}

static void confirm(struct peer *peer, struct listing *listing)
{
    struct text text = {0};

    if (!subscribe(peer, listing)) {
        bad_request(peer);
        return;
    }
    add_word(&text, "{\"type\":\"listing.subscribed\",\"listing_id\":");
    add_word(&text, listing->json);
    add_word(&text, "}");
    reply(peer, &text);
}

void chat_message(struct peer *peer, const char *text, size_t len)
{
    struct chat *chat = peer->server->chat;
    struct json_value value, id;
    struct listing *listing;
    char type[64], name[MAX_NAME];
    size_t type_len = 0, name_len = 0;

    if (!json_find(text, len, "listing_id", &id) || !json_decode(id, name, sizeof name, &name_len) || name_len == 0) {
        bad_request(peer);
        return;
    }
    if (!json_find(text, len, "type", &value) || !json_decode(value, type, sizeof type - 1, &type_len))
        return;
    type[type_len] = '\0';
    listing = find_or_make(chat, name, name_len, id);
    if (listing == NULL)
        return;
    if (strcmp(type, "listing.subscribe") == 0) {
        confirm(peer, listing);
    } else if (strcmp(type, "chat.send") == 0) {
        if (!json_find(text, len, "text", &value) || *value.at != '"')
            value = (struct json_value){"\"\"", 2};
        say(peer, listing, value);
    } else if (strcmp(type, "chat.history") == 0) {
        tell_history(peer, listing);
    } else if (strcmp(type, "listing.update") == 0) {
        if (!json_find(text, len, "price", &value) || !json_is_number(value))
            value = (struct json_value){"null", 4};
        update(listing, value);
    } /* What else the configuration allows is unknown to this program. */
    tidy(chat, listing);
}
