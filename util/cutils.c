/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cutils.c - numbers, sizes and names as users write them; and text that grows */
#include "util/cutils.h"
#include "util/osdep.h"
#include "util/textbuf.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

/* What every number function does with the end of its number. */
static int number_end(const char *nptr, const char *end, const char **endptr, int r)
{
    if (endptr) {
        *endptr = end;
    }
    if (end == nptr || (!endptr && *end)) {
        return -EINVAL;
    }
    return r;
}

static const char *skip_space(const char *nptr)
{
    while (g_ascii_isspace(*nptr)) {
        nptr++;
    }
    return nptr;
}

int qemu_strtoi64(const char *nptr, const char **endptr, int base, int64_t *ret_value)
{
    long long value;
    char *end;
    int r;

    QEMU_BUILD_BUG_ON(sizeof(long long) != sizeof(int64_t));
    errno = 0;
    value = strtoll(nptr, &end, base);
    r = number_end(nptr, end, endptr, errno == ERANGE ? -ERANGE : 0);
    *ret_value = r == -EINVAL ? 0 : value;
    return r;
}

int qemu_strtoi(const char *nptr, const char **endptr, int base, int *ret_value)
{
    int64_t value;
    int r = qemu_strtoi64(nptr, endptr, base, &value);

    if (value < INT_MIN || value > INT_MAX) {
        *ret_value = value < 0 ? INT_MIN : INT_MAX;
        return -ERANGE;
    }
    *ret_value = (int)value;
    return r;
}

int qemu_strtou64(const char *nptr, const char **endptr, int base, uint64_t *ret_value)
{
    unsigned long long value;
    char *end;
    int r;

    errno = 0;
    value = strtoull(nptr, &end, base);
    r = errno == ERANGE ? -ERANGE : 0;
    /* strtoull() negates: "-1" would be UINT64_MAX. */
    if (*skip_space(nptr) == '-' && value != 0) {
        value = 0;
        r = -ERANGE;
    }
    r = number_end(nptr, end, endptr, r);
    *ret_value = r == -EINVAL ? 0 : value;
    return r;
}

/* The multiplier of a suffix, or 0. */
static uint64_t size_suffix(char suffix)
{
    static const char suffixes[] = "BKMGTPE";
    const char *found = suffix ? strchr(suffixes, g_ascii_toupper(suffix)) : NULL;

    return found ? UINT64_C(1) << (10 * (found - suffixes)) : 0;
}

/* Digits that can change the outcome: 2^60 times 10^-19 is less than one byte. */
#define FRACTION_DIGITS 18

/*
 * A decimal number with a fraction.  The parts stay integers: a double would round sizes above
 * 2^53.  @ret_fraction is in units of 10^-FRACTION_DIGITS.
 */
static const char *parse_decimal(const char *nptr, uint64_t *ret_whole, uint64_t *ret_fraction,
                                 bool *ret_has_fraction, bool *ret_overflow)
{
    const char *digit = nptr;
    uint64_t whole = 0;
    uint64_t fraction = 0;
    bool overflow = false;
    int digits = 0;
    bool any;

    for (; g_ascii_isdigit(*digit); digit++) {
        overflow |= __builtin_mul_overflow(whole, 10, &whole);
        overflow |= __builtin_add_overflow(whole, (uint64_t)(*digit - '0'), &whole);
    }
    any = digit != nptr;
    *ret_has_fraction = *digit == '.';
    if (*digit == '.') {
        const char *point = digit++;

        for (; g_ascii_isdigit(*digit); digit++) {
            any = true;
            if (digits < FRACTION_DIGITS) {
                fraction = fraction * 10 + (uint64_t)(*digit - '0');
                digits++;
            }
        }
        if (digit == point + 1 && !any) {
            return nptr;
        }
    }
    for (; digits < FRACTION_DIGITS; digits++) {
        fraction *= 10;
    }
    *ret_whole = whole;
    *ret_fraction = fraction;
    *ret_overflow = overflow;
    return any ? digit : nptr;
}

/* whole.fraction times @unit, rounded down; false when it does not fit. */
static bool scale_decimal(uint64_t whole, uint64_t fraction, uint64_t unit, uint64_t *ret_bytes)
{
    const unsigned __int128 one = UINT64_C(1000000000000000000); /* 10^FRACTION_DIGITS */
    unsigned __int128 bytes = (unsigned __int128)whole * unit;

    bytes += (unsigned __int128)fraction * unit / one;
    if (bytes > UINT64_MAX) {
        return false;
    }
    *ret_bytes = (uint64_t)bytes;
    return true;
}

static int parse_size(const char *nptr, const char **endptr, uint64_t default_unit,
                      uint64_t *ret_bytes)
{
    const char *start = skip_space(nptr);
    const char *end;
    bool negative = *start == '-';
    bool has_fraction = false;
    bool overflow = false;
    uint64_t whole = 0;
    uint64_t fraction = 0;
    uint64_t bytes = 0;
    uint64_t unit;
    int r;

    *ret_bytes = 0;
    if (negative || *start == '+') {
        start++;
    }
    if (start[0] == '0' && (start[1] == 'x' || start[1] == 'X') && g_ascii_isxdigit(start[2])) {
        char *hex_end;

        errno = 0;
        bytes = strtoull(start, &hex_end, 16);
        /* No suffix: "0x1B" would have two meanings. */
        r = number_end(nptr, hex_end, endptr, errno == ERANGE ? -ERANGE : 0);
    } else {
        end = parse_decimal(start, &whole, &fraction, &has_fraction, &overflow);
        if (end == start) {
            return number_end(nptr, nptr, endptr, 0);
        }
        unit = size_suffix(*end);
        if (unit) {
            end++;
        } else {
            unit = default_unit;
        }
        if (has_fraction && unit == 1 && fraction != 0) {
            return number_end(nptr, nptr, endptr, 0); /* half a byte */
        }
        if (overflow || !scale_decimal(whole, fraction, unit, &bytes)) {
            overflow = true;
            bytes = UINT64_MAX;
        }
        r = number_end(nptr, end, endptr, overflow ? -ERANGE : 0);
    }

    if (r != -EINVAL && negative && bytes != 0) {
        return -ERANGE; /* the nearest that fits is 0 */
    }
    *ret_bytes = r == -EINVAL ? 0 : bytes;
    return r;
}

int qemu_strtosz(const char *nptr, const char **endptr, uint64_t *ret_bytes)
{
    return parse_size(nptr, endptr, 1, ret_bytes);
}

int qemu_strtosz_MiB(const char *nptr, const char **endptr, uint64_t *ret_bytes)
{
    return parse_size(nptr, endptr, (uint64_t)MiB, ret_bytes);
}

char *size_to_str(uint64_t bytes)
{
    static const char *const prefixes[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    size_t i = 0;
    double value = (double)bytes;

    /* 999.5 would print as "1e+03". */
    while (value >= 999.5 && i + 1 < ARRAY_SIZE(prefixes)) {
        value /= 1024;
        i++;
    }
    return g_strdup_printf("%0.3g %sB", value, prefixes[i]);
}

bool strstart(const char *str, const char *prefix, const char **ret_rest)
{
    size_t length = strlen(prefix);

    if (strncmp(str, prefix, length) != 0) {
        return false;
    }
    if (ret_rest) {
        *ret_rest = str + length;
    }
    return true;
}

bool id_wellformed(const char *id)
{
    if (!g_ascii_isalpha(id[0])) {
        return false;
    }
    for (size_t i = 1; id[i]; i++) {
        if (!g_ascii_isalnum(id[i]) && !strchr("-._", id[i])) {
            return false;
        }
    }
    return true;
}

/* TextBuf */

#define TEXTBUF_FIRST 64 /* most lines fit; then it doubles */

/* Room for @length more bytes and the NUL. */
static void textbuf_reserve(TextBuf *buf, size_t length)
{
    size_t needed = buf->length + length + 1;

    if (needed > buf->allocated) {
        buf->allocated = MAX(needed, MAX(buf->allocated * 2, TEXTBUF_FIRST));
        buf->text = g_realloc(buf->text, buf->allocated);
    }
}

void textbuf_append_bytes(TextBuf *buf, const void *bytes, size_t length)
{
    textbuf_reserve(buf, length);
    memcpy(buf->text + buf->length, bytes, length);
    buf->length += length;
    buf->text[buf->length] = '\0';
}

void textbuf_append(TextBuf *buf, const char *text)
{
    textbuf_append_bytes(buf, text, strlen(text));
}

void textbuf_vprintf(TextBuf *buf, const char *fmt, va_list ap)
{
    va_list again;
    int length;

    va_copy(again, ap);
    textbuf_reserve(buf, 0);
    length = vsnprintf(buf->text + buf->length, buf->allocated - buf->length, fmt, ap);
    assert(length >= 0);
    if ((size_t)length >= buf->allocated - buf->length) {
        textbuf_reserve(buf, (size_t)length);
        vsnprintf(buf->text + buf->length, buf->allocated - buf->length, fmt, again);
    }
    buf->length += (size_t)length;
    va_end(again);
}

void textbuf_printf(TextBuf *buf, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    textbuf_vprintf(buf, fmt, ap);
    va_end(ap);
}

const char *textbuf_str(const TextBuf *buf)
{
    return buf->text ? buf->text : "";
}

void textbuf_reset(TextBuf *buf)
{
    buf->length = 0;
    if (buf->text) {
        buf->text[0] = '\0';
    }
}

char *textbuf_steal(TextBuf *buf)
{
    char *text = buf->text ? buf->text : g_strdup("");

    *buf = (TextBuf)TEXTBUF_INIT;
    return text;
}

void textbuf_destroy(TextBuf *buf)
{
    g_free(buf->text);
    *buf = (TextBuf)TEXTBUF_INIT;
}
