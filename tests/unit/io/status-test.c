/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Block status: odd ends, filters, backing files that are shorter than their overlay. */
#include <errno.h>
#include <inttypes.h>
#include "tests/lib/block-test.h"
#include "tests/lib/test-cow.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define CLUSTER (64 * KiB)
#define BLOCK   TEST_RAM_BLOCK
#define RW      (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)

/* raw as far as block status goes: a window at an offset in its child. */
static int coroutine_fn window_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                      int64_t bytes, int64_t *pnum, int64_t *map,
                                      BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset + CLUSTER;
    *file = bs->file->bs;
    return BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
}

static const BlockDriverLife plain_life = {0};
static const BlockDriverData window_data = {.co_block_status = window_status};
static const BlockDriverData filter_data = {0};
static const BlockDriver window = {
    .format_name = "window", .life = &plain_life, .data = &window_data};
static const BlockDriver filter = {
    .format_name = "pass", .is_filter = true, .life = &plain_life, .data = &filter_data};

static BlockDriverState *above(const BlockDriver *drv, BlockDriverState *below, int64_t length)
{
    BlockDriverState *bs = bdrv_new(drv, NULL, &error_abort);

    bs->open_flags = BDRV_O_RDWR | BDRV_O_UNMAP;
    bs->total_bytes = length;
    bdrv_attach_child(bs, below, "file",
                      drv->is_filter ? BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY
                                     : BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY,
                      &error_abort);
    bdrv_refresh_limits(bs);
    return bs;
}

/* "offset+pnum flags" of each piece of the range, as one string. */
static char *coroutine_fn story(BlockDriverState *bs, bool chain, int64_t offset, int64_t end)
{
    GString *s = g_string_new(NULL);

    while (offset < end) {
        int64_t pnum;
        int ret =
            chain ? bdrv_co_block_status_above(bs, NULL, offset, end - offset, &pnum, NULL, NULL)
                  : bdrv_co_block_status(bs, offset, end - offset, &pnum, NULL, NULL);

        g_assert_cmpint(ret, >=, 0);
        g_assert_cmpint(pnum, <=, end - offset);
        g_string_append_printf(
            s, "%s%" PRId64 "+%" PRId64 "%s%s%s%s", s->len ? " " : "", offset, pnum,
            ret & BDRV_BLOCK_DATA ? "d" : "", ret & BDRV_BLOCK_ZERO ? "z" : "",
            ret & BDRV_BLOCK_ALLOCATED ? "a" : "", ret & BDRV_BLOCK_EOF ? "e" : "");
        if (pnum == 0) {
            g_assert_true(ret & BDRV_BLOCK_EOF);
            break;
        }
        offset += pnum;
    }
    return g_string_free(s, FALSE);
}

static void coroutine_fn tells(BlockDriverState *bs, bool chain, int64_t offset, int64_t end,
                               const char *expected)
{
    g_autofree char *s = story(bs, chain, offset, end);

    g_assert_cmpstr(s, ==, expected);
}

static void poke(BlockDriverState *ram, int64_t offset, int64_t bytes)
{
    test_ram_poke_pattern(ram, offset, bytes, 1);
}

static void coroutine_fn odd_ends_are_cut_to_what_was_asked(void)
{
    BlockDriverState *bs = test_ram_new("disk", 10000);

    test_ram_set_alignment(bs, 512);
    poke(bs, 4096, 4096);
    tells(bs, false, 0, 10000, "0+4096za 4096+4096da 8192+1808zae");
    tells(bs, false, 4097, 4099, "4097+2da");
    tells(bs, false, 1, 4097, "1+4095za 4096+1da");
    tells(bs, false, 9999, 10000, "9999+1zae");
    tells(bs, false, 9999, 20000, "9999+1zae 10000+0e");
    tells(bs, false, 10000, 10001, "10000+0e");
    bdrv_co_unref(bs);
}

static void coroutine_fn ranges_that_cannot_be_are_refused(void)
{
    BlockDriverState *bs = test_ram_new("disk", 4096);
    int64_t pnum = 7;

    g_assert_cmpint(bdrv_co_block_status(bs, -1, 1, &pnum, NULL, NULL), ==, -EIO);
    g_assert_cmpint(pnum, ==, 0);
    g_assert_cmpint(bdrv_co_block_status(bs, 0, -1, &pnum, NULL, NULL), ==, -EIO);
    g_assert_cmpint(bdrv_co_block_status(bs, INT64_MAX, INT64_MAX, &pnum, NULL, NULL), ==, -EIO);
    pnum = 7;
    g_assert_cmpint(bdrv_co_is_allocated(bs, -1, 1, &pnum), ==, -EIO);
    g_assert_cmpint(pnum, ==, 0);
    bdrv_co_unref(bs);
}

static void coroutine_fn short_backing_file_is_followed_by_zeros(void)
{
    BlockDriverState *base = test_ram_new("base", CLUSTER + BLOCK);
    BlockDriverState *top = test_cow_new("top", 4 * CLUSTER, CLUSTER, base);
    BdrvChild *user = block_test_user(top, RW);

    poke(base, CLUSTER, BLOCK);
    block_test_co_fill(user, 3 * CLUSTER, CLUSTER, 1);
    tells(top, true, 0, 4 * CLUSTER, "0+65536za 65536+4096da 69632+126976za 196608+65536dae");
    tells(top, false, 0, 4 * CLUSTER, "0+196608 196608+65536dae");
    tells(top, true, CLUSTER + BLOCK - 1, CLUSTER + BLOCK + 1, "69631+1da 69632+1za");
    g_assert_cmpint(bdrv_co_is_zero_fast(top, CLUSTER + BLOCK, CLUSTER), ==, 1);
    g_assert_cmpint(bdrv_co_is_zero_fast(top, CLUSTER, CLUSTER), ==, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(top);
    bdrv_co_unref(base);
}

static void coroutine_fn what_a_short_middle_hides_stays_hidden(void)
{
    BlockDriverState *base = test_ram_new("base", 4 * CLUSTER);
    BlockDriverState *mid = test_cow_new("mid", CLUSTER, CLUSTER, base);
    BlockDriverState *top = test_cow_new("top", 4 * CLUSTER, CLUSTER, mid);

    poke(base, 0, 4 * CLUSTER);
    tells(top, true, 0, 4 * CLUSTER, "0+65536da 65536+196608zae");
    bdrv_co_unref(top);
    bdrv_co_unref(mid);
    bdrv_co_unref(base);
}

static void coroutine_fn base_is_not_asked(void)
{
    BlockDriverState *base = test_ram_new("base", 2 * CLUSTER);
    BlockDriverState *top = test_cow_new("top", 2 * CLUSTER, CLUSTER, base);
    int64_t pnum;

    poke(base, 0, CLUSTER);
    test_ram_reset_counts(base);
    g_assert_cmpint(bdrv_co_block_status_above(top, base, 0, 2 * CLUSTER, &pnum, NULL, NULL), ==,
                    BDRV_BLOCK_EOF);
    g_assert_cmpint(pnum, ==, 2 * CLUSTER);
    g_assert_cmpuint(test_ram_counts(base)->statuses, ==, 0);
    g_assert_cmpint(bdrv_co_is_allocated(top, 0, CLUSTER, &pnum), ==, 0);
    bdrv_co_unref(top);
    bdrv_co_unref(base);
}

static void coroutine_fn overlay_without_backing_reads_zeros(void)
{
    BlockDriverState *top = test_cow_new("top", CLUSTER + 1000, CLUSTER, NULL);

    tells(top, true, 0, CLUSTER + 1000, "0+66536ze");
    bdrv_co_unref(top);
}

static void coroutine_fn filter_is_looked_through(void)
{
    BlockDriverState *base = test_ram_new("base", 2 * CLUSTER);
    BlockDriverState *cow = test_cow_new("cow", 2 * CLUSTER, CLUSTER, base);
    BlockDriverState *top = above(&filter, cow, 2 * CLUSTER);
    int64_t pnum;

    poke(base, CLUSTER, CLUSTER);
    tells(top, true, 0, 2 * CLUSTER, "0+65536za 65536+65536dae");
    g_assert_cmpint(bdrv_co_is_allocated(top, CLUSTER, CLUSTER, &pnum), ==, 0);
    bdrv_co_unref(top);
    bdrv_co_unref(cow);
    bdrv_co_unref(base);
}

/* Not a filter, so its chain ends there; the bytes come from the backing file all the same. */
static void coroutine_fn window_over_an_overlay_has_data(void)
{
    BlockDriverState *base = test_ram_new("base", 3 * CLUSTER);
    BlockDriverState *cow = test_cow_new("cow", 3 * CLUSTER, CLUSTER, base);
    BlockDriverState *top = above(&window, cow, 2 * CLUSTER);
    int64_t pnum;
    int ret;

    poke(base, 0, 3 * CLUSTER);
    ret = bdrv_co_block_status_above(top, NULL, 0, CLUSTER, &pnum, NULL, NULL);
    g_assert_cmpint(pnum, ==, CLUSTER);
    g_assert_cmpint(ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_ZERO), ==,
                    BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED);
    bdrv_co_unref(top);
    bdrv_co_unref(cow);
    bdrv_co_unref(base);
}

static void coroutine_fn failing_driver_is_reported(void)
{
    BlockDriverState *bs = test_ram_new("disk", 4096);
    int64_t pnum;

    test_ram_set_error(bs, TEST_RAM_STATUS, 0, 4096, EIO, 1);
    g_assert_cmpint(bdrv_co_block_status(bs, 0, 4096, &pnum, NULL, NULL), ==, -EIO);
    g_assert_cmpuint(bs->in_flight, ==, 0);
    tells(bs, false, 0, 4096, "0+4096zae");
    bdrv_co_unref(bs);
}

static void add(void)
{
    block_test_add("/io/status/odd ends are cut to what was asked",
                   odd_ends_are_cut_to_what_was_asked);
    block_test_add("/io/status/ranges that cannot be are refused",
                   ranges_that_cannot_be_are_refused);
    block_test_add("/io/status/a short backing file is followed by zeros",
                   short_backing_file_is_followed_by_zeros);
    block_test_add("/io/status/what a short middle hides stays hidden",
                   what_a_short_middle_hides_stays_hidden);
    block_test_add("/io/status/the base is not asked", base_is_not_asked);
    block_test_add("/io/status/an overlay without backing reads zeros",
                   overlay_without_backing_reads_zeros);
    block_test_add("/io/status/a filter is looked through", filter_is_looked_through);
    block_test_add("/io/status/a window over an overlay has data", window_over_an_overlay_has_data);
    block_test_add("/io/status/a failing driver is reported", failing_driver_is_reported);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
