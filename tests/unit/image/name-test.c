/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names: what would open the same image again. */
#include <unistd.h>
#include "block/drivers/drivers.h"
#include "block/image/info.h"
#include "block/open/open.h"
#include "tests/unit/image/images.h"
#include "util/osdep.h"

static void coroutine_fn expect(BlockDriverState *bs, const char *name)
{
    g_autofree char *have = image_name(bs);

    g_assert_cmpstr(have, ==, name);
}

/* @format has one %s, for the name of a file; so has @name. */
static void coroutine_fn is_called(const char *name, const char *options)
{
    g_autofree char *path = block_test_path("disk.img");
    g_autofree char *want = NULL;
    BlockDriverState *bs;

    g_assert_true(g_file_set_contents(path, "disk", 4, NULL));
    g_assert_cmpint(truncate(path, MiB), ==, 0);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    want = g_strdup_printf(name, path);
    bs = block_test_co_open(options, path);
#pragma GCC diagnostic pop
    expect(bs, want);
    if (g_str_has_prefix(want, "json:")) {
        BdrvOpenFileArgs args = {.filename = want};
        BlockDriverState *again;

        again = bdrv_co_open_file(&args, &error_abort);
        expect(again, want);
        g_assert_cmpint(bdrv_getlength(again), ==, bdrv_getlength(bs));
        bdrv_co_unref(again);
    }
    bdrv_co_unref(bs);
}

static void coroutine_fn files(void)
{
    is_called("%s", "{\"driver\":\"file\",\"filename\":\"%s\"}");
    is_called("%s", "{\"driver\":\"raw\",\"node-name\":\"x\",\"read-only\":true,"
                    "\"file\":{\"driver\":\"file\",\"filename\":\"%s\",\"aio\":\"threads\"}}");
}

static void coroutine_fn windows(void)
{
    is_called("json:{\"driver\": \"raw\", \"offset\": 512, \"size\": 1024, \"file\": "
              "{\"driver\": \"file\", \"filename\": \"%s\"}}",
              "{\"driver\":\"raw\",\"offset\":512,\"size\":1024,"
              "\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}");
    is_called("json:{\"driver\": \"raw\", \"file\": {\"driver\": \"raw\", \"offset\": 512, "
              "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}}",
              "{\"driver\":\"raw\",\"file\":{\"driver\":\"raw\",\"offset\":512,"
              "\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}}");
}

static void coroutine_fn others(void)
{
    BlockDriverState *bs = block_test_co_open("{\"driver\":\"null-co\",\"size\":1048576}");

    expect(bs, "json:{\"driver\": \"null-co\", \"size\": 1048576}");
    bdrv_co_unref(bs);
    bs = block_test_co_open(
        "{\"driver\":\"example\",\"node-name\":\"x\",\"read-only\":true,\"byte\":7}");
    expect(bs, "json:{\"driver\": \"example\", \"byte\": 7}");
    bdrv_co_unref(bs);
}

static void add(void)
{
    bdrv_file_register();
    bdrv_raw_register();
    bdrv_null_register();
    bdrv_example_register();
    block_test_add("/image/name/a file and a raw image of it are called as the file", files);
    block_test_add("/image/name/a part of a file is called by its options, which open it again",
                   windows);
    block_test_add("/image/name/what has no name is called by what changes the data", others);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
