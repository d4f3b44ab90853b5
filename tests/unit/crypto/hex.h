/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hex.h - bytes of a test vector */
#ifndef TESTS_UNIT_CRYPTO_HEX_H
#define TESTS_UNIT_CRYPTO_HEX_H

#include <string.h>
#include <glib.h>

/* As many bytes as there are digits for; returns how many. */
static inline size_t from_hex(const char *text, uint8_t *ret)
{
    size_t n = strlen(text) / 2;

    for (size_t i = 0; i < n; i++) {
        ret[i] = (uint8_t)(g_ascii_xdigit_value(text[2 * i]) << 4 |
                           g_ascii_xdigit_value(text[2 * i + 1]));
    }
    return n;
}

static inline void assert_hex(const uint8_t *bytes, const char *text)
{
    GString *s = g_string_new(NULL);

    for (size_t i = 0; i < strlen(text) / 2; i++) {
        g_string_append_printf(s, "%02x", bytes[i]);
    }
    g_assert_cmpstr(s->str, ==, text);
    g_string_free(s, TRUE);
}

#endif
