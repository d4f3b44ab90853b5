/* SPDX-License-Identifier: GPL-2.0-or-later */
/* json-string.c - what a quoted string means: escapes, and text that is UTF-8 */
#include "json-lexer.h"

#include <string.h>

/* Characters that Unicode keeps for no use, beside surrogates and what is too large. */
static bool is_character(gunichar c)
{
    bool noncharacter = (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe;

    return c > 0 && c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff) && !noncharacter;
}

/* Four hexadecimal digits; -1 if they are not. */
static int hex4(const char *p, const char *end)
{
    int value = 0;

    if (end - p < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int digit = g_ascii_xdigit_value(p[i]);

        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

/* At @p, behind "\u".  Return: where it goes on; NULL and *errp set. */
static const char *decode_u(const char *p, const char *end, GString *out, Error **errp)
{
    const char *digits = p;
    int high = hex4(p, end);
    gunichar c = high < 0 ? 0 : high;

    p += 4;
    if (high >= 0xd800 && high <= 0xdbff && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
        int low = hex4(p + 2, end);

        if (low >= 0xdc00 && low <= 0xdfff) {
            c = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        }
    }
    if (!is_character(c)) {
        /* The closing quote, if the digits end early, is in the message too. */
        error_setg(errp, "JSON parse error, \\u%.*s is not a valid Unicode character",
                   (int)MIN(4, end + 1 - digits), digits);
        return NULL;
    }
    g_string_append_unichar(out, c);
    return p;
}

/* At @p, behind the backslash. */
static const char *decode_escape(const char *p, const char *end, GString *out, Error **errp)
{
    static const char from[] = "\"'\\/bfnrt";
    static const char to[] = "\"'\\/\b\f\n\r\t";
    const char *found = *p ? strchr(from, *p) : NULL;

    if (*p == 'u') {
        return decode_u(p + 1, end, out, errp);
    }
    if (!found) {
        error_setg(errp, "JSON parse error, invalid escape sequence in string");
        return NULL;
    }
    g_string_append_c(out, to[found - from]);
    return p + 1;
}

/* One character of UTF-8. */
static const char *decode_utf8(const char *p, const char *end, GString *out, Error **errp)
{
    gunichar c = g_utf8_get_char_validated(p, end - p);
    const char *next;

    if (!is_character(c)) { /* also for the two values that mean an error */
        error_setg(errp, "JSON parse error, invalid UTF-8 sequence in string");
        return NULL;
    }
    next = g_utf8_next_char(p);
    g_string_append_len(out, p, next - p);
    return next;
}

char *json_string_decode(const char *token, size_t n, Error **errp)
{
    const char *p = token + 1, *end = token + n - 1;
    GString *out = g_string_sized_new(n);

    while (p && p < end) {
        if (*p == '\\') {
            p = decode_escape(p + 1, end, out, errp);
        } else if ((unsigned char)*p < 0x80) {
            g_string_append_c(out, *p++);
        } else {
            p = decode_utf8(p, end, out, errp);
        }
    }
    return g_string_free(out, p == NULL);
}
