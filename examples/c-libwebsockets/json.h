/* This file answers: what does a JSON message say? Just enough for this server: members of one object. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

/* A value as it stands in the text, quotes and all. It is valid JSON by itself. */
struct json_value {
    const char *at;
    size_t len;
};

/* Finds a member of the object that is the whole text; the last of that name. False when there is none, or when the
 * text is not one JSON object. */
bool json_find(const char *text, size_t len, const char *name, struct json_value *value);

/* Decodes a string into `out`, without a NUL. False when the value is no string or does not fit. */
bool json_decode(struct json_value value, char *out, size_t capacity, size_t *len);

/* Whether the value is a number. */
bool json_is_number(struct json_value value);

#endif
