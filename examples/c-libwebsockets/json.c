#include "json.h"

#include <string.h>

/* wsauth lets nothing deeper through; this bounds what is read from elsewhere. */
#define MAX_DEPTH 64

struct reader {
    const char *at;
    const char *end;
};

static void skip_space(struct reader *in)
{
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r'))
        in->at++;
}

static bool take(struct reader *in, char wanted)
{
    if (in->at == in->end || *in->at != wanted)
        return false;
    in->at++;
    return true;
}

static bool skip_string(struct reader *in)
{
    if (!take(in, '"'))
        return false;
    while (in->at < in->end) {
        unsigned char byte = (unsigned char)*in->at++;
        if (byte == '"')
            return true;
        if (byte < 0x20)
            return false;
        if (byte == '\\') {
            if (in->at == in->end)
                return false;
            in->at++;
        }
    }
    return false;
}

static bool skip_word(struct reader *in)
{
    const char *from = in->at;

    while (in->at < in->end && (strchr("+-.", *in->at) != NULL || (*in->at >= '0' && *in->at <= '9') ||
                                (*in->at >= 'a' && *in->at <= 'z') || *in->at == 'E') && *in->at != '\0')
        in->at++;
    return in->at > from;
}

static bool skip_value(struct reader *in, int depth)
{
    char open, close;

    skip_space(in);
    if (in->at == in->end || depth > MAX_DEPTH)
        return false;
    open = *in->at;
    if (open == '"')
        return skip_string(in);
    if (open != '{' && open != '[')
        return skip_word(in);
    close = open == '{' ? '}' : ']';
    in->at++;
    skip_space(in);
    if (take(in, close))
        return true;
    do {
        skip_space(in);
        if (open == '{') {
            if (!skip_string(in))
                return false;
            skip_space(in);
            if (!take(in, ':'))
                return false;
        }
        if (!skip_value(in, depth + 1))
            return false;
        skip_space(in);
    } while (take(in, ','));
    return take(in, close);
}

static bool is_named(struct json_value key, const char *name)
{
    char decoded[64];
    size_t len = 0;

    return json_decode(key, decoded, sizeof decoded, &len) && len == strlen(name) && memcmp(decoded, name, len) == 0;
}

bool json_find(const char *text, size_t len, const char *name, struct json_value *value)
{
    struct reader in = {text, text + len};
    bool found = false;

    skip_space(&in);
    if (!take(&in, '{'))
        return false;
    skip_space(&in);
    if (take(&in, '}'))
        return false;
    do {
        struct json_value key, member;

        skip_space(&in);
        key.at = in.at;
        if (!skip_string(&in))
            return false;
        key.len = (size_t)(in.at - key.at);
        skip_space(&in);
        if (!take(&in, ':'))
            return false;
        skip_space(&in);
        member.at = in.at;
        if (!skip_value(&in, 1))
            return false;
        member.len = (size_t)(in.at - member.at);
        if (is_named(key, name)) {
            *value = member;
            found = true;
        }
        skip_space(&in);
    } while (take(&in, ','));
    if (!take(&in, '}'))
        return false;
    skip_space(&in);
    return in.at == in.end && found;
}

static bool hex4(struct reader *in, unsigned *unit)
{
    int i;

    *unit = 0;
    for (i = 0; i < 4; i++) {
        char digit = in->at < in->end ? *in->at++ : '?';

        *unit <<= 4;
        if (digit >= '0' && digit <= '9')
            *unit |= (unsigned)(digit - '0');
        else if (digit >= 'a' && digit <= 'f')
            *unit |= (unsigned)(digit - 'a' + 10);
        else if (digit >= 'A' && digit <= 'F')
            *unit |= (unsigned)(digit - 'A' + 10);
        else
            return false;
    }
    return true;
}

/* A \u escape, in two halves where it is above 0xffff. Half a pair is no character. */
static bool take_character(struct reader *in, unsigned *character)
{
    unsigned low;

    if (!hex4(in, character))
        return false;
    if (*character >= 0xdc00 && *character <= 0xdfff)
        return false;
    if (*character < 0xd800 || *character > 0xdbff)
        return true;
    if (!take(in, '\\') || !take(in, 'u') || !hex4(in, &low) || low < 0xdc00 || low > 0xdfff)
        return false;
    *character = 0x10000 + ((*character - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

static size_t to_utf8(unsigned character, char *out)
{
    if (character < 0x80) {
        out[0] = (char)character;
        return 1;
    }
    if (character < 0x800) {
        out[0] = (char)(0xc0 | character >> 6);
        out[1] = (char)(0x80 | (character & 0x3f));
        return 2;
    }
    if (character < 0x10000) {
        out[0] = (char)(0xe0 | character >> 12);
        out[1] = (char)(0x80 | (character >> 6 & 0x3f));
        out[2] = (char)(0x80 | (character & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | character >> 18);
    out[1] = (char)(0x80 | (character >> 12 & 0x3f));
    out[2] = (char)(0x80 | (character >> 6 & 0x3f));
    out[3] = (char)(0x80 | (character & 0x3f));
    return 4;
}

bool json_decode(struct json_value value, char *out, size_t capacity, size_t *len)
{
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    struct reader in = {value.at, value.at + value.len};

    *len = 0;
    if (value.len < 2 || !take(&in, '"') || in.end[-1] != '"')
        return false;
    in.end--;
    while (in.at < in.end) {
        char bytes[4];
        size_t count = 1;

        bytes[0] = *in.at++;
        if (bytes[0] == '\\') {
            const char *escape;

            if (in.at == in.end)
                return false;
            if (take(&in, 'u')) {
                unsigned character;

                if (!take_character(&in, &character))
                    return false;
                count = to_utf8(character, bytes);
            } else {
                escape = strchr(escapes, *in.at++);
                if (escape == NULL || *escape == '\0')
                    return false;
                bytes[0] = meant[escape - escapes];
            }
        }
        if (count > capacity - *len)
            return false;
        memcpy(out + *len, bytes, count);
        *len += count;
    }
    return true;
}

bool json_is_number(struct json_value value)
{
    return value.len > 0 && (*value.at == '-' || (*value.at >= '0' && *value.at <= '9'));
}
