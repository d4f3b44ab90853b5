/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images by their file names, and probing. */
#include <errno.h>
#include "block/open/open.h"
#include "tests/unit/open/toy.h"
#include "util/osdep.h"

static BlockDriverState *coroutine_fn open_file(const char *filename, const char *format,
                                                Error **errp)
{
    BdrvOpenFileArgs args = {.filename = filename, .format = format, .read_only = true};

    return bdrv_co_open_file(&args, errp);
}

static void coroutine_fn fails(const char *message, const char *filename, const char *format)
{
    Error *err = NULL;

    g_assert_null(open_file(filename, format, &err));
    toy_expect_error(&err, message);
    g_assert_cmpuint(toy_count_nodes(), ==, 0); /* O1 */
}

static void coroutine_fn name_becomes_a_tree(void)
{
    BdrvOpenFileArgs args = {.filename = "file:dir/plain",
                             .format = "raw",
                             .node_name = "disk",
                             .read_only = true,
                             .cache_direct = true,
                             .force_share = true};
    BlockDriverState *bs = bdrv_co_open_file(&args, &error_abort);

    g_assert_cmpstr(bs->node_name, ==, "disk");
    g_assert_cmpstr(bs->file->bs->drv->format_name, ==, "file");
    g_assert_cmpstr(bs->filename, ==, "dir/plain");
    g_assert_cmpint(bs->refcnt, ==, 1);
    g_assert_cmpint(bs->file->bs->refcnt, ==, 1);
    g_assert_true(bs->read_only && bs->force_share && bs->file->bs->force_share);
    g_assert_true(bs->file->bs->open_flags & BDRV_O_NOCACHE);
    bdrv_co_unref(bs);
    g_assert_cmpuint(toy_count_nodes(), ==, 0);
}

static void coroutine_fn unknown_contents_are_raw(void)
{
    BlockDriverState *bs = open_file("plain", NULL, &error_abort);

    g_assert_cmpstr(bs->drv->format_name, ==, "raw");
    bdrv_co_unref(bs);
}

static void coroutine_fn surest_driver_wins(void)
{
    static const char *const names[][2] = {
        {"MAGIC", "magic"}, {"MAGNUM", "weak2"}, {"plain", "raw"}};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        BlockDriverState *bs = open_file(names[i][0], "raw", &error_abort);
        BlockDriver *drv = bdrv_co_probe(bs->file, names[i][0], &error_abort);

        if (i == 1) { /* of two that are equally sure, either */
            g_assert_true(g_str_has_prefix(drv->format_name, "weak"));
        } else {
            g_assert_cmpstr(drv->format_name, ==, names[i][1]);
        }
        bdrv_co_unref(bs);
    }
}

static void coroutine_fn json_is_options(void)
{
    BlockDriverState *bs = open_file("json:{\"driver\":\"raw\",\"file\":{\"driver\":\"null-co\"}}",
                                     NULL, &error_abort);

    g_assert_cmpstr(bs->file->bs->drv->format_name, ==, "null-co");
    bdrv_co_unref(bs);
    fails("JSON", "json:{'driver'", NULL);
    fails("driver", "json:{}", NULL);
}

static void coroutine_fn nbd_uri_is_a_server(void)
{
    static const char *const uris[][2] = {
        {"nbd://host/disk", "inet host 10809 disk"},
        {"nbd://10.0.0.1:10810", "inet 10.0.0.1 10810 "},
        {"nbd://[::1]:7/a%20b/c", "inet ::1 7 a b/c"},
        {"nbd+unix:///disk?socket=/run/a%26b", "unix /run/a&b  disk"},
        {"nbd+unix://?socket=s", "unix s  "},
        {"nbd+vsock://3:9/x", "vsock 3 9 x"},
        {"nbd+tcp://host:7/x", "inet host 7 x"},
        {"nbd:host:7", "inet host 7 "},
        {"nbd:[::1]:7:exportname=a b:c", "inet ::1 7 a b:c"},
        {"nbd:unix:/run/s", "unix /run/s  "},
        {"nbd:unix:s:exportname=x", "unix s  x"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(uris); i++) {
        BlockDriverState *bs = open_file(uris[i][0], "raw", &error_abort);

        g_assert_cmpstr(bs->file->bs->drv->format_name, ==, "nbd");
        g_assert_cmpstr(bs->filename, ==, uris[i][1]);
        bdrv_co_unref(bs);
    }
    fails("TLS is not supported", "nbds://host/disk", "raw");
    fails("TLS is not supported", "nbds+unix:///?socket=s", "raw");
    fails("needs the parameter 'socket' and no other", "nbd+unix:///disk", "raw");
    fails("needs the parameter 'socket' and no other", "nbd+unix:///?socket=s&a=b", "raw");
    fails("has no host", "nbd+unix://host/disk?socket=s", "raw");
    fails("has a host and no parameters", "nbd:///disk", "raw");
    fails("has a host and no parameters", "nbd://host/disk?socket=s", "raw");
    fails("a user and a fragment", "nbd://me@host/", "raw");
    fails("NBD URI", "nbd://host:port/", "raw");
    fails("no address of an NBD server", "nbd:", "raw");
    fails("no address of an NBD server", "nbd:host", "raw");
    fails("no address of an NBD server", "nbd::7", "raw");
    fails("no address of an NBD server", "nbd:[::1]", "raw");
}

static void coroutine_fn nonsense_is_refused(void)
{
    fails("requires a file name", "", "raw");
    fails("requires a file name", "file:", "raw");
    fails("Unknown driver 'nosuch'", "plain", "nosuch");
    fails("'file' is a protocol", "plain", "file");
    fails("Could not read image 'dir/unreadable' for determining its format", "dir/unreadable",
          NULL);
}

static void coroutine_fn image_cannot_be_made_of_everything(void)
{
    BlockCreateArgs args = {.filename = "x", .size = 512};
    Error *err = NULL;

    g_assert_cmpint(bdrv_co_create_image("nosuch", &args, &err), ==, -EINVAL);
    toy_expect_error(&err, "Unknown file format 'nosuch'");
    g_assert_cmpint(bdrv_co_create_image("magic", &args, &err), ==, -ENOTSUP);
    toy_expect_error(&err, "does not support image creation");
}

static void add(void)
{
    toy_register();
    block_test_add("/open/file/a name becomes a tree of format and protocol", name_becomes_a_tree);
    block_test_add("/open/file/unknown contents are raw", unknown_contents_are_raw);
    block_test_add("/open/file/the surest driver wins", surest_driver_wins);
    block_test_add("/open/file/json: is options", json_is_options);
    block_test_add("/open/file/an NBD URI is a server and an export", nbd_uri_is_a_server);
    block_test_add("/open/file/nonsense is refused and nothing stays open", nonsense_is_refused);
    block_test_add("/open/file/an image is made only by drivers that can",
                   image_cannot_be_made_of_everything);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
