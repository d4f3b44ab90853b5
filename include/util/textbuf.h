/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * textbuf.h - a string that grows: what every *_to_text() function prints into
 *
 * TEXTBUF_INIT or zeroes make an empty one.  Always NUL terminated once printed to.  Not locked.
 */
#ifndef UTIL_TEXTBUF_H
#define UTIL_TEXTBUF_H

#include <stdarg.h>
#include <stddef.h>
#include <glib.h>

typedef struct TextBuf {
    char *text; /* NULL while nothing was printed */
    size_t length;
    size_t allocated;
} TextBuf;

#define TEXTBUF_INIT \
    {                \
        0            \
    }

void textbuf_printf(TextBuf *buf, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void textbuf_vprintf(TextBuf *buf, const char *fmt, va_list ap) G_GNUC_PRINTF(2, 0);
void textbuf_append(TextBuf *buf, const char *text);
void textbuf_append_bytes(TextBuf *buf, const void *bytes, size_t length);
/* The text so far, "" if none; borrowed until the next call. */
const char *textbuf_str(const TextBuf *buf);
/* Empty, memory kept. */
void textbuf_reset(TextBuf *buf);
/* Take the text (g_free); the buffer is empty afterwards. */
char *textbuf_steal(TextBuf *buf);
void textbuf_destroy(TextBuf *buf);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(TextBuf, textbuf_destroy)

#endif
