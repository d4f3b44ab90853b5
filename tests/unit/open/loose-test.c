/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options with gaps: what is said is obeyed, and what is not said is found out. */
#include <string.h>
#include "block/open/open.h"
#include "qapi/type.h"
#include "tests/unit/open/toy.h"
#include "util/osdep.h"

static BdrvOpenFileArgs args; /* but for the file name; each test begins with zeros */

static BlockDriverState *coroutine_fn open_options(const char *options, Error **errp)
{
    args.filename = options;
    args.is_options = *options != 'j';
    return bdrv_co_open_file(&args, errp);
}

static void coroutine_fn fails(const char *options, const char *message)
{
    Error *err = NULL;

    g_assert_null(open_options(options, &err));
    toy_expect_error(&err, message);
    g_assert_cmpuint(toy_count_nodes(), ==, 0); /* O1 */
}

/* @tree: drivers from top to bottom, "raw file" */
static BlockDriverState *coroutine_fn becomes(const char *options, const char *tree)
{
    BlockDriverState *bs = open_options(options, &error_abort);
    g_auto(GStrv) drivers = g_strsplit(tree, " ", -1);
    BlockDriverState *at = bs;

    for (size_t i = 0; drivers[i]; i++) {
        g_assert_nonnull(at);
        g_assert_cmpstr(at->drv->format_name, ==, drivers[i]);
        at = child_bs(at->file);
    }
    g_assert_null(at);
    return bs;
}

static void coroutine_fn closes(BlockDriverState *bs)
{
    bdrv_co_unref(bs);
    g_assert_cmpuint(toy_count_nodes(), ==, 0); /* L2: nothing is left of what was looked at */
    args = (BdrvOpenFileArgs){0};
}

static void coroutine_fn protocol_from_the_name(void)
{
    static const char *const options[] = {
        "driver=raw,file.filename=dir/plain",
        "driver=raw,filename=dir/plain",
        "driver=raw,file.driver=file,file.filename=dir/plain",
        "json:{\"driver\":\"raw\",\"file\":{\"filename\":\"dir/plain\"}}",
        "json:{\"driver\":\"raw\",\"file.filename\":\"dir/plain\"}",
        "json:{\"driver\":\"raw\",\"file.filename\":\"file:dir/plain\",\"file.driver\":\"file\"}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(options) - 1; i++) {
        BlockDriverState *bs = becomes(options[i], "raw file");

        g_assert_cmpstr(bs->filename, ==, "dir/plain");
        closes(bs);
    }
    /* L1: with a driver the name is the driver's affair. */
    BlockDriverState *bs = becomes(options[ARRAY_SIZE(options) - 1], "raw file");

    g_assert_cmpstr(bs->filename, ==, "file:dir/plain");
    closes(bs);
    bs = becomes("driver=raw,file.filename=nbd://host/disk", "raw nbd");
    g_assert_cmpstr(bs->filename, ==, "inet host 10809 disk");
    closes(bs);
}

static void coroutine_fn format_by_probing(void)
{
    closes(becomes("file.filename=plain", "raw file"));
    closes(becomes("filename=plain", "raw file"));
    closes(becomes("json:{\"file\":{\"driver\":\"file\",\"filename\":\"plain\"}}", "raw file"));
    args.format = "raw";
    closes(becomes("json:{\"file\":{\"filename\":\"MAGIC\"}}", "raw file"));
}

static void coroutine_fn what_is_said_is_obeyed(void)
{
    BlockDriverState *bs;

    args.read_only = args.force_share = args.cache_direct = true;
    args.node_name = "disk";
    bs = becomes("driver=raw,file.filename=plain", "raw file");
    g_assert_cmpstr(bs->node_name, ==, "disk");
    g_assert_true(bs->read_only && bs->force_share && bs->file->bs->read_only);
    g_assert_true(bs->open_flags & BDRV_O_NOCACHE);
    closes(bs);

    args.read_only = args.cache_direct = true;
    bs = becomes("driver=raw,read-only=off,cache.direct=off,file.filename=plain", "raw file");
    g_assert_false(bs->read_only || bs->file->bs->read_only);
    g_assert_false(bs->open_flags & BDRV_O_NOCACHE);
    closes(bs);

    args.read_only = true;
    bs = becomes(
        "json:{\"file.filename\":\"plain\",\"read-only\":true,\"cache\":{\"no-flush\":true}}",
        "raw file");
    g_assert_true(bs->open_flags & BDRV_O_NO_FLUSH);
    closes(bs);
}

static void coroutine_fn nonsense_is_refused(void)
{
    g_autoptr(GString) deep = g_string_new("json:");

    fails("driver=nosuch,file.filename=plain", "Unknown driver 'nosuch'");
    fails("driver=raw,file.driver=nosuch,file.filename=plain", "Unknown driver 'nosuch'");
    fails("driver=raw,file.filename=plain,bogus=1", "bogus");
    fails("driver=raw", "file");
    fails("read-only=on", "Must specify either driver or file");
    fails("ghost", "ghost");
    fails("driver=raw,file=ghost", "ghost");
    fails("driver=raw,file.read-only=on", "Must specify either driver or file");
    fails("file.filename=dir/unreadable", "determining its format");
    fails("json:{\"driver\":\"raw\"", "Could not parse the JSON options");
    fails("json:[]", "JSON object");
    fails("json:7", "JSON object");
    fails("json:{\"file\":7,\"driver\":\"raw\"}", "Cannot find device");
    fails("json:{\"file\":7,\"file.filename\":\"x\"}", "inconsistently");
    for (int i = 0; i < QAPI_NESTING_MAX + 2; i++) {
        g_string_append(deep, "{\"file\":");
    }
    g_string_append(deep, "7");
    for (int i = 0; i < QAPI_NESTING_MAX + 2; i++) {
        g_string_append(deep, "}");
    }
    fails(deep->str, "nested too deeply");
}

static void add(void)
{
    toy_register();
    block_test_add("/open/loose/the protocol comes from the name", protocol_from_the_name);
    block_test_add("/open/loose/the format is probed", format_by_probing);
    block_test_add("/open/loose/what is said is obeyed (L1)", what_is_said_is_obeyed);
    block_test_add("/open/loose/nonsense is refused and nothing stays open", nonsense_is_refused);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
