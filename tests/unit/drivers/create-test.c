/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images by their file names: who makes what, and what is there when one of them fails. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/drivers/drivers.h"
#include "block/open/open.h"
#include "qapi/json-parser.h"
#include "tests/lib/block-test.h"
#include "util/osdep.h"

static int coroutine_fn make(const char *format, const char *name, int64_t size,
                             const char *options, Error **errp)
{
    json_t *o = options ? json_parse_string(options, &error_abort) : NULL;
    BlockCreateArgs args = {.filename = name, .size = size, .options = o};
    int ret = bdrv_co_create_image(format, &args, errp);

    json_decref(o);
    return ret;
}

static void coroutine_fn make_fails(const char *message, const char *format, const char *name,
                                    int64_t size, const char *options)
{
    Error *err = NULL;

    g_assert_cmpint(make(format, name, size, options, &err), <, 0);
    if (!strstr(error_get_pretty(err), message)) {
        g_error("expected '%s', got '%s'", message, error_get_pretty(err));
    }
    error_free(err);
}

static void expect_file(const char *name, int64_t size, int64_t min_allocated)
{
    struct stat st;

    g_assert_cmpint(stat(name, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, size);
    g_assert_cmpint(st.st_blocks * 512, >=, min_allocated);
    if (min_allocated == 0) { /* the first block is stored */
        g_assert_cmpint(st.st_blocks * 512, <=, size ? 64 * KiB : 0);
        g_assert_cmpint(st.st_blocks, >=, size ? 1 : 0);
    }
}

static void coroutine_fn raw_images_get_their_space_as_told(void)
{
    static const char *const formats[] = {"raw", "file"};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        g_autofree char *name = block_test_path("a.img");

        g_assert_cmpint(make(formats[i], name, 3 * MiB + 512, NULL, &error_abort), ==, 0);
        expect_file(name, 3 * MiB + 512, 0);
        make(formats[i], name, 3 * MiB, "{'preallocation':'falloc'}", &error_abort);
        expect_file(name, 3 * MiB, 3 * MiB);
        make(formats[i], name, 2 * MiB, "{'preallocation':'full'}", &error_abort);
        expect_file(name, 2 * MiB, 2 * MiB);
        make(formats[i], name, 0, NULL, &error_abort); /* what was there goes */
        expect_file(name, 0, 0);
        unlink(name);
        make_fails("metadata", formats[i], name, MiB, "{'preallocation':'nonsense-metadata'}");
        make_fails("Unsupported preallocation mode", formats[i], name, MiB,
                   "{'preallocation':'metadata'}");
        g_assert_cmpint(access(name, F_OK), !=, 0); /* C1 */
    }
}

static void coroutine_fn what_cannot_be_made_leaves_nothing(void)
{
    g_autofree char *name = block_test_path("b.img"), *file = g_strdup_printf("file:%s", name);

    make_fails("Invalid parameter 'cluster_size'", "raw", name, MiB, "{'cluster_size':'64k'}");
    make_fails("Image creation needs a size parameter", "raw", name, -1, NULL);
    make_fails("at most", "raw", name, INT64_MAX, NULL);
    make_fails("is served by another program", "raw", "nbd://localhost/", MiB, NULL);
    make_fails("Could not create '/nonexistent/x'", "raw", "/nonexistent/x", MiB, NULL);
    g_assert_cmpint(access(name, F_OK), !=, 0);
    BlockCreateArgs args = {.filename = name, .size = MiB, .backing_file = "base"};
    Error *err = NULL;
    g_assert_cmpint(bdrv_co_create_image("raw", &args, &err), ==, -ENOTSUP);
    g_assert_cmpstr(error_get_pretty(err), ==, "Backing file not supported for file format 'raw'");
    error_free(err);
    /* One that was there before stays. */
    make("raw", file, MiB, NULL, &error_abort);
    make_fails("Unsupported preallocation mode", "raw", name, MiB, "{'preallocation':'metadata'}");
    g_assert_cmpint(access(name, F_OK), ==, 0);
}

static void coroutine_fn a_cancelled_image_is_not_there(void)
{
    g_autofree char *name = block_test_path("c.img");
    json_t *options = json_pack("{s:s}", "preallocation", "full");
    BdrvProgress progress = {.cancelled = true};
    BlockCreateArgs args = {
        .filename = name, .size = 128 * MiB, .options = options, .progress = &progress};
    Error *err = NULL;

    g_assert_cmpint(bdrv_co_create_image("raw", &args, &err), ==, -ECANCELED);
    error_free(err);
    err = NULL;
    g_assert_cmpint(access(name, F_OK), !=, 0);
    g_assert_cmpint(bdrv_co_create_image("file", &args, &err), ==, -ECANCELED);
    error_free(err);
    g_assert_cmpint(access(name, F_OK), !=, 0);
    json_decref(options);
}

static void expect_beside(const char *image, const char *name, const char *path)
{
    g_autofree char *got = bdrv_path_beside(image, name);

    g_assert_cmpstr(got, ==, path);
}

static void coroutine_fn names_in_images_are_relative_to_them(void)
{
    expect_beside("/images/a", "b", "/images/b");
    expect_beside("images/a", "../b", "images/../b");
    expect_beside("a", "b", "b");
    expect_beside("/images/a", "/b", "/b");
    expect_beside("/images/a", "nbd://host/b", "nbd://host/b");
    expect_beside("", "b", "b");
}

static void add(void)
{
    bdrv_file_register();
    bdrv_raw_register();
    block_test_add("/drivers/create/raw images get their space as told",
                   raw_images_get_their_space_as_told);
    block_test_add("/drivers/create/what cannot be made leaves nothing",
                   what_cannot_be_made_leaves_nothing);
    block_test_add("/drivers/create/a cancelled image is not there",
                   a_cancelled_image_is_not_there);
    block_test_add("/drivers/create/names in images are relative to them",
                   names_in_images_are_relative_to_them);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
