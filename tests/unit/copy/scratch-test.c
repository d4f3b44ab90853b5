/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scratch files: how large, where, and that nothing is left of them. */
#include <errno.h>
#include <glib/gstdio.h>
#include "block/copy/scratch.h"
#include "block/drivers/drivers.h"
#include "tests/lib/block-test.h"
#include "util/osdep.h"

static void test_share(void)
{
    g_assert_cmpint(scratch_share(10 * GiB, 4 * GiB), ==, 3 * GiB);
    g_assert_cmpint(scratch_share(100 * GiB, 50 * GiB), ==, 50 * GiB - 100 * GiB / 100 * 5);
    g_assert_cmpint(scratch_share(10 * GiB, 1 * GiB), ==, 0);
    g_assert_cmpint(scratch_share(10 * GiB, 0), ==, 0);
    g_assert_cmpint(scratch_share(INT64_MAX, INT64_MAX), >, INT64_MAX / 100 * 94);
}

static void test_limit(void)
{
    g_autoptr(Error) err = NULL;
    int64_t bytes = 0;

    g_assert_cmpint(scratch_limit("/nowhere/at/all", 123, &bytes, &error_abort), ==, 0);
    g_assert_cmpint(bytes, ==, 123);
    g_assert_cmpint(scratch_limit("/", -1, &bytes, &error_abort), ==, 0);
    g_assert_cmpint(bytes, >=, 0);
    bytes = 17;
    g_assert_cmpint(scratch_limit("/nowhere/at/all", -1, &bytes, &err), ==, -ENOENT);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Cannot tell the free space of the scratch folder '/nowhere/at/all': "
                    "No such file or directory");
    g_assert_cmpint(bytes, ==, 17);
}

/* The folder shows nothing, neither while it is open nor after. */
static void expect_empty(const char *folder)
{
    GDir *dir = g_dir_open(folder, 0, NULL);

    g_assert_nonnull(dir);
    g_assert_null(g_dir_read_name(dir));
    g_dir_close(dir);
}

static void coroutine_fn test_a_scratch_has_no_name(void)
{
    g_autofree char *folder = block_test_path("scratch");
    BlockDriverState *bs;
    BdrvChild *user;

    g_assert_cmpint(g_mkdir(folder, 0700), ==, 0);
    bs = scratch_co_open(folder, qemu_get_aio_context(), &error_abort);
    expect_empty(folder);
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    block_test_co_fill(user, 3 * MiB, 1 * MiB, 's');
    block_test_co_expect(user, 3 * MiB, 1 * MiB, 's');
    expect_empty(folder);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    expect_empty(folder);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
}

static void coroutine_fn test_a_folder_that_is_not_there_is_named(void)
{
    Error *err = NULL;

    g_assert_null(scratch_co_open("/nowhere/at/all", qemu_get_aio_context(), &err));
    g_assert_cmpstr(
        error_get_pretty(err), ==,
        "Could not make a scratch file in '/nowhere/at/all': No such file or directory");
    error_free(err);
}

static void add_tests(void)
{
    bdrv_file_register();
    g_test_add_func("/copy/scratch/a scratch leaves a reserve free", test_share);
    g_test_add_func("/copy/scratch/a limit is the user's or the folder's", test_limit);
    block_test_add("/copy/scratch/a scratch has no name", test_a_scratch_has_no_name);
    block_test_add("/copy/scratch/a folder that is not there is named",
                   test_a_folder_that_is_not_there_is_named);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
