/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests of every alignment, on nodes of every alignment, against a plain array. */
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define DISK_BYTES (256 * KiB)

static void fill_random(GRand *r, uint8_t *buf, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i++) {
        buf[i] = g_rand_int(r);
    }
}

/* One request at a random place, done to the node and to the model. */
static void coroutine_fn one_step(GRand *r, BdrvChild *user, uint8_t *model, uint8_t *buf)
{
    int64_t offset = g_rand_int_range(r, 0, DISK_BYTES);
    int64_t bytes = g_rand_int_range(r, 0, MIN(DISK_BYTES - offset, 20000) + 1);

    switch (g_rand_int_range(r, 0, 5)) {
    case 0:
        g_assert_cmpint(bdrv_co_pread(user, offset, bytes, buf, 0), ==, 0);
        g_assert_cmpmem(buf, bytes, model + offset, bytes);
        break;
    case 1:
        g_assert_cmpint(bdrv_co_pwrite_zeroes(user, offset, bytes, 0), ==, 0);
        memset(model + offset, 0, bytes);
        break;
    case 2:
        g_assert_cmpint(bdrv_co_pwrite_zeroes(user, offset, bytes, BDRV_REQ_MAY_UNMAP), ==, 0);
        memset(model + offset, 0, bytes);
        break;
    default:
        fill_random(r, buf, bytes);
        g_assert_cmpint(
            bdrv_co_pwrite(user, offset, bytes, buf, g_rand_boolean(r) ? BDRV_REQ_FUA : 0), ==, 0);
        memcpy(model + offset, buf, bytes);
        break;
    }
}

static void coroutine_fn random_requests(uint32_t align, bool no_zeroes)
{
    GRand *r = g_rand_new_with_seed(block_test_seed() + align);
    BlockDriverState *bs = test_ram_new("disk", DISK_BYTES);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    g_autofree uint8_t *model = g_malloc0(DISK_BYTES);
    g_autofree uint8_t *whole = g_malloc0(DISK_BYTES);
    g_autofree uint8_t *buf = g_malloc0(DISK_BYTES);

    test_ram_set_alignment(bs, align);
    test_ram_set_no_zeroes(bs, no_zeroes);
    for (int i = 0; i < 3000; i++) {
        one_step(r, user, model, buf);
    }
    test_ram_peek(bs, 0, whole, DISK_BYTES);
    g_assert_cmpmem(whole, DISK_BYTES, model, DISK_BYTES);
    g_assert_cmpuint(bs->in_flight, ==, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    g_rand_free(r);
}

static void coroutine_fn test_requests_of_every_alignment_do_what_an_array_does(void)
{
    for (uint32_t align = 1; align <= 64 * KiB; align *= align == 1 ? 512 : 8) {
        random_requests(align, false);
        random_requests(align, true);
    }
}

static void coroutine_fn test_a_request_outside_the_disk_is_refused(void)
{
    BlockDriverState *bs = test_ram_new("disk", DISK_BYTES);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    uint8_t buf[1024] = {1};

    g_assert_cmpint(bdrv_co_pwrite(user, DISK_BYTES, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(user, DISK_BYTES - 512, 1024, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(user, -512, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pread(user, -1, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pread(user, INT64_MAX - 100, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, DISK_BYTES - 512, INT64_MAX, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pdiscard(user, DISK_BYTES, 512), ==, -EIO);
    g_assert_cmpuint(test_ram_counts(bs)->writes, ==, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

/* Driver blocks reach behind the end of an image of odd length; what is there reads as zeros. */
static void coroutine_fn test_the_last_block_of_an_odd_disk_is_padded_with_zeros(void)
{
    BlockDriverState *bs = test_ram_new("disk", DISK_BYTES + 700);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    uint8_t buf[700], back[700];

    test_ram_set_alignment(bs, 4096);
    memset(buf, 0xab, sizeof(buf));
    g_assert_cmpint(bdrv_co_pwrite(user, DISK_BYTES, 700, buf, 0), ==, 0);
    g_assert_cmpint(bdrv_co_pread(user, DISK_BYTES, 700, back, 0), ==, 0);
    g_assert_cmpmem(buf, 700, back, 700);
    g_assert_cmpint(bdrv_getlength(bs), ==, DISK_BYTES + 700);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void add_tests(void)
{
    block_test_add("/io/align/requests of every alignment do what an array does",
                   test_requests_of_every_alignment_do_what_an_array_does);
    block_test_add("/io/align/a request outside the disk is refused",
                   test_a_request_outside_the_disk_is_refused);
    block_test_add("/io/align/the last block of an odd disk is padded with zeros",
                   test_the_last_block_of_an_odd_disk_is_padded_with_zeros);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
