/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See block-test.h: nodes from options, through the open room. */
#include <string.h>
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "util/osdep.h"

static BlockdevOptions *options_va(const char *format, va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(format, ap);
    json_error_t json_error;
    json_t *json = json_loads(text, 0, &json_error);
    BlockdevOptions *opts;

    if (!json) {
        g_error("Options '%s': %s", text, json_error.text);
    }
    opts = qapi_BlockdevOptions_from_json(json, &error_abort);
    json_decref(json);
    return opts;
}

BlockdevOptions *block_test_options(const char *format, ...)
{
    BlockdevOptions *opts;
    va_list ap;

    va_start(ap, format);
    opts = options_va(format, ap);
    va_end(ap);
    return opts;
}

BlockDriverState *coroutine_fn block_test_co_open(const char *format, ...)
{
    g_autoptr(BlockdevOptions) opts = NULL;
    va_list ap;

    va_start(ap, format);
    opts = options_va(format, ap);
    va_end(ap);
    return bdrv_co_open(opts, &error_abort);
}

void coroutine_fn block_test_co_open_fails(const char *message, const char *format, ...)
{
    g_autoptr(BlockdevOptions) opts = NULL;
    Error *err = NULL;
    va_list ap;

    va_start(ap, format);
    opts = options_va(format, ap);
    va_end(ap);
    g_assert_null(bdrv_co_open(opts, &err));
    g_assert_nonnull(err);
    if (!strstr(error_get_pretty(err), message)) {
        g_error("Expected '%s', got '%s'", message, error_get_pretty(err));
    }
    error_free(err);
}
