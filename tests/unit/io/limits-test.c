/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A driver with limits never sees a request beyond them; reads without a buffer. */
#include <errno.h>
#include <string.h>
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define DISK_BYTES (512 * KiB)
#define RW         (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)

/* Memory that checks what it is asked. */
typedef struct Strict {
    BlockLimits bl;
    uint8_t *memory;
    int64_t largest;
    unsigned reads, prefetches;
} Strict;

static void check(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                  size_t qiov_offset)
{
    Strict *s = bs->opaque;
    QEMUIOVector part;

    s->largest = MAX(s->largest, bytes);
    g_assert_true(QEMU_IS_ALIGNED(offset | bytes, MAX(s->bl.request_alignment, 1u)));
    g_assert_true(s->bl.max_transfer == 0 ||
                  bytes <= MAX(s->bl.max_transfer, s->bl.request_alignment));
    qemu_iovec_init_slice(&part, qiov, qiov_offset, bytes);
    g_assert_true(s->bl.max_iov == 0 || part.niov <= s->bl.max_iov);
    for (int i = 0; i < part.niov; i++) {
        g_assert_true(
            QEMU_IS_ALIGNED((uintptr_t)part.iov[i].iov_base, MAX(s->bl.min_mem_alignment, 1u)));
    }
    qemu_iovec_destroy(&part);
}

static int coroutine_fn strict_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    Strict *s = bs->opaque;

    check(bs, offset, bytes, qiov, qiov_offset);
    qemu_iovec_from_buf(qiov, qiov_offset, s->memory + offset, bytes);
    s->reads++;
    s->prefetches += !!(flags & BDRV_REQ_PREFETCH);
    return 0;
}

static int coroutine_fn strict_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    check(bs, offset, bytes, qiov, qiov_offset);
    qemu_iovec_to_buf(qiov, qiov_offset, ((Strict *)bs->opaque)->memory + offset, bytes);
    return 0;
}

static void strict_refresh_limits(BlockDriverState *bs)
{
    bs->bl = ((Strict *)bs->opaque)->bl;
}

static void coroutine_fn strict_co_close(BlockDriverState *bs)
{
    g_free(((Strict *)bs->opaque)->memory);
}

static const BlockDriverLife strict_life = {.refresh_limits = strict_refresh_limits,
                                            .co_close = strict_co_close};
static const BlockDriverData strict_data = {.co_preadv = strict_preadv,
                                            .co_pwritev = strict_pwritev};
static const BlockDriver bdrv_strict = {.format_name = "strict",
                                        .is_protocol = true,
                                        .instance_size = sizeof(Strict),
                                        .life = &strict_life,
                                        .data = &strict_data};

static BdrvChild *strict_new(BlockLimits bl)
{
    BlockDriverState *bs = bdrv_new(&bdrv_strict, "strict", &error_abort);
    Strict *s = bs->opaque;

    bs->open_flags = BDRV_O_RDWR;
    bs->total_bytes = DISK_BYTES;
    s->bl = bl;
    s->memory = g_malloc0(DISK_BYTES);
    bdrv_refresh_limits(bs);
    return block_test_user(bs, RW);
}

static void coroutine_fn strict_free(BdrvChild *user)
{
    BlockDriverState *bs = user->bs;

    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

/* One write of many small pieces at odd addresses, and the same read back. */
static void coroutine_fn write_and_read_in_pieces(BdrvChild *user, int64_t offset, int pieces,
                                                  size_t piece)
{
    g_autofree uint8_t *out = g_malloc(pieces * (piece + 1)), *in = g_malloc(pieces * (piece + 1));
    QEMUIOVector q_out, q_in;

    qemu_iovec_init(&q_out, pieces);
    qemu_iovec_init(&q_in, pieces);
    for (int i = 0; i < pieces; i++) {
        memset(out + i * (piece + 1), i % 251 + 1, piece + 1);
        qemu_iovec_add(&q_out, out + i * (piece + 1), piece);
        qemu_iovec_add(&q_in, in + i * (piece + 1), piece);
    }
    g_assert_cmpint(bdrv_co_pwritev(user, offset, q_out.size, &q_out, 0), ==, 0);
    g_assert_cmpint(bdrv_co_preadv(user, offset, q_in.size, &q_in, 0), ==, 0);
    for (int i = 0; i < pieces; i++) {
        g_assert_cmpmem(out + i * (piece + 1), piece, in + i * (piece + 1), piece);
    }
    qemu_iovec_destroy(&q_out);
    qemu_iovec_destroy(&q_in);
}

static void coroutine_fn long_requests_come_in_pieces(void)
{
    BdrvChild *user = strict_new((BlockLimits){.request_alignment = 512, .max_transfer = 10000});

    block_test_co_fill(user, 1000, 100000, 0x5a);
    block_test_co_expect(user, 1000, 100000, 0x5a);
    block_test_co_expect(user, 0, 1000, 0);
    g_assert_cmpint(((Strict *)user->bs->opaque)->largest, ==, 9728);
    strict_free(user);
}

static void coroutine_fn limit_below_a_block_is_a_block(void)
{
    BdrvChild *user = strict_new((BlockLimits){.request_alignment = 4096, .max_transfer = 512});

    block_test_co_fill(user, 1000, 20000, 0x5a);
    block_test_co_expect(user, 1000, 20000, 0x5a);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 2000, 10000, 0), ==, 0);
    block_test_co_expect(user, 2000, 10000, 0);
    strict_free(user);
}

static void coroutine_fn memory_at_odd_addresses_is_replaced(void)
{
    BdrvChild *user = strict_new((BlockLimits){.request_alignment = 512, .min_mem_alignment = 512});

    write_and_read_in_pieces(user, 4096, 8, 511);
    write_and_read_in_pieces(user, 4096, 1, 8192);
    write_and_read_in_pieces(user, 4097, 100, 1001);
    strict_free(user);
}

static void coroutine_fn too_many_pieces_of_memory_are_joined(void)
{
    BdrvChild *user = strict_new((BlockLimits){.request_alignment = 1, .max_iov = 16});

    write_and_read_in_pieces(user, 0, 16, 100);
    write_and_read_in_pieces(user, 0, 17, 100);
    write_and_read_in_pieces(user, 5, 1024, 100);
    strict_free(user);
    user = strict_new((BlockLimits){.request_alignment = 512, .max_iov = 16});
    write_and_read_in_pieces(user, 5, 16, 100); /* head and tail are two more */
    strict_free(user);
}

static void coroutine_fn reads_without_a_buffer_read(void)
{
    BdrvChild *user = strict_new(
        (BlockLimits){.request_alignment = 512, .min_mem_alignment = 512, .max_transfer = 65536});
    Strict *s = user->bs->opaque;

    g_assert_cmpint(bdrv_co_preadv(user, 0, 4096, NULL, BDRV_REQ_PREFETCH), ==, 0);
    g_assert_cmpuint(s->reads, ==, 1);
    g_assert_cmpuint(s->prefetches, ==, 1);
    g_assert_cmpint(bdrv_co_preadv(user, 1000, 300001, NULL, BDRV_REQ_PREFETCH), ==, 0);
    g_assert_cmpuint(s->prefetches, ==, s->reads);
    g_assert_cmpint(bdrv_co_preadv(user, DISK_BYTES - 1, 4096, NULL, BDRV_REQ_PREFETCH), ==, 0);
    g_assert_cmpint(bdrv_co_preadv(user, 0, 4096, NULL, 0), ==, -EINVAL);
    g_assert_cmpuint(user->bs->in_flight, ==, 0);
    strict_free(user);
}

static void coroutine_fn reading_ahead_of_much_takes_little_memory(void)
{
    BlockDriverState *bs = test_ram_new("disk", 64 * GiB);
    BdrvChild *user = block_test_user(bs, RW);

    g_assert_cmpint(bdrv_co_preadv(user, 0, 64 * MiB, NULL, BDRV_REQ_PREFETCH), ==, 0);
    g_assert_cmpuint(test_ram_counts(bs)->reads, >, 1);
    g_assert_cmpuint(test_ram_counts(bs)->bytes_read, ==, 64 * MiB);
    test_ram_set_error(bs, TEST_RAM_READ, 32 * MiB, 1, EIO, -1);
    g_assert_cmpint(bdrv_co_preadv(user, 0, 64 * MiB, NULL, BDRV_REQ_PREFETCH), ==, -EIO);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn ranges_that_cannot_be_are_refused(void)
{
    BdrvChild *user = strict_new((BlockLimits){.request_alignment = 512});
    uint8_t buf[16];
    static const int64_t bad[][2] = {{-1, 1},
                                     {0, -1},
                                     {INT64_MAX, 1},
                                     {INT64_MAX - 10, 16},
                                     {BDRV_MAX_LENGTH, 1},
                                     {1, BDRV_MAX_LENGTH}};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        QEMUIOVector qiov;

        qemu_iovec_init_buf(&qiov, buf, sizeof(buf));
        g_assert_cmpint(bdrv_co_preadv(user, bad[i][0], bad[i][1], &qiov, 0), ==, -EIO);
        g_assert_cmpint(bdrv_co_pwritev(user, bad[i][0], bad[i][1], &qiov, 0), ==, -EIO);
        g_assert_cmpint(bdrv_co_pwrite_zeroes(user, bad[i][0], bad[i][1], 0), ==, -EIO);
        g_assert_cmpint(bdrv_co_pdiscard(user, bad[i][0], bad[i][1]), ==, -EIO);
    }
    strict_free(user);
}

static void coroutine_fn disk_of_unknown_length_is_not_read_as_zeros(void)
{
    BdrvChild *user = strict_new((BlockLimits){.request_alignment = 512});
    uint8_t buf[16];

    user->bs->total_bytes = -EIO; /* the last question for it failed */
    g_assert_cmpint(bdrv_co_pread(user, 0, 16, buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_pwrite(user, 0, 16, buf, 0), ==, -EIO);
    strict_free(user);
}

static void add(void)
{
    block_test_add("/io/limits/long requests come in pieces", long_requests_come_in_pieces);
    block_test_add("/io/limits/a limit below one block counts as one block",
                   limit_below_a_block_is_a_block);
    block_test_add("/io/limits/memory at odd addresses is replaced",
                   memory_at_odd_addresses_is_replaced);
    block_test_add("/io/limits/too many pieces of memory are joined",
                   too_many_pieces_of_memory_are_joined);
    block_test_add("/io/limits/a read without a buffer reads", reads_without_a_buffer_read);
    block_test_add("/io/limits/reading ahead of much takes little memory",
                   reading_ahead_of_much_takes_little_memory);
    block_test_add("/io/limits/ranges that cannot be are refused",
                   ranges_that_cannot_be_are_refused);
    block_test_add("/io/limits/a disk of unknown length is not read as zeros",
                   disk_of_unknown_length_is_not_read_as_zeros);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
