/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Convert: rules CV1 to CV4 of block/image/convert.c. */
#include <errno.h>
#include "aio/timer.h"
#include "tests/unit/image/images.h"
#include "util/osdep.h"

#define SIZE    (8 * MiB)
#define CLUSTER (64 * KiB)

typedef struct Bed {
    BlockDriverState *source_bs, *target_bs;
    BlockBackend *source[3], *target;
    ImageConvertArgs args;
} Bed;

static void bed_begin(Bed *b, BlockDriverState *source, BlockDriverState *target)
{
    *b = (Bed){.source_bs = source, .target_bs = target};
    b->source[0] = images_blk(source, true);
    b->target = images_blk(target, true);
    b->args = (ImageConvertArgs){
        .source = b->source,
        .n_sources = 1,
        .target = b->target,
        .sparse = true,
        .sparse_bytes = IMAGE_SPARSE_DEFAULT,
        .requests = IMAGE_REQUESTS_DEFAULT,
    };
}

static void bed_new(Bed *b, int64_t size)
{
    bed_begin(b, test_ram_new("source", size), test_ram_new("target", size));
}

static void coroutine_fn bed_free(Bed *b)
{
    for (size_t i = 0; i < b->args.n_sources; i++) {
        blk_co_unref(b->source[i]);
    }
    blk_co_unref(b->target);
}

static void coroutine_fn convert(Bed *b)
{
    g_assert_cmpint(image_co_convert(&b->args, &error_abort), ==, 0);
}

static void coroutine_fn same(Bed *b)
{
    g_autofree uint8_t *x = images_co_read(b->source[0]);
    g_autofree uint8_t *y = images_co_read(b->target);
    int64_t length = blk_getlength(b->source[0]);

    g_assert_cmpmem(x, length, y, length);
}

/* CV1 CV4 */
static void coroutine_fn a_target_shows_what_the_sources_show_whatever_it_was(void)
{
    GRand *r = g_rand_new_with_seed(block_test_seed());

    for (int i = 0; i < 80; i++) {
        Bed b;
        size_t n = i % 4 ? 1 : 3;
        int64_t total = 0, size = g_rand_int_range(r, 1, 3 * MiB), end;
        bool was_zero = g_rand_boolean(r);

        bed_begin(&b, test_ram_new("source", size), test_ram_new("target", 10 * MiB));
        for (size_t k = 0; k < n; k++) {
            if (k > 0) {
                b.source[k] = images_blk(test_ram_new(NULL, g_rand_int_range(r, 1, 3 * MiB)), true);
            }
            images_co_scribble(b.source[k], r, 25);
        }
        if (!was_zero) {
            test_ram_poke_pattern(b.target_bs, 0, 10 * MiB, i);
        }
        test_ram_set_delay(b.source_bs, TEST_RAM_READ, g_rand_int_range(r, 0, 1000));
        test_ram_set_delay(b.target_bs, TEST_RAM_WRITE, g_rand_int_range(r, 0, 1000));
        b.args.n_sources = n;
        b.args.target_is_zero = was_zero && g_rand_boolean(r);
        b.args.sparse = g_rand_int_range(r, 0, 4) > 0;
        b.args.sparse_bytes = b.args.sparse ? 512 << g_rand_int_range(r, 0, 8) : 0;
        b.args.requests = g_rand_int_range(r, 1, IMAGE_REQUESTS_MAX + 1);
        b.args.out_of_order = g_rand_boolean(r);
        convert(&b);

        g_autofree uint8_t *got = images_co_read(b.target);

        for (size_t k = 0; k < n; k++) {
            g_autofree uint8_t *want = images_co_read(b.source[k]);
            int64_t length = blk_getlength(b.source[k]);

            g_assert_cmpmem(want, length, got + total, length);
            end = ROUND_UP(total + length, 512);
            g_assert_true(buffer_is_zero(got + total + length, end - total - length));
            total = end;
        }
        if (!b.args.sparse) {
            g_assert_cmpint(test_ram_allocated(b.target_bs), >=, total);
        }
        if (!was_zero) { /* what is behind stays */
            g_autofree uint8_t *was = g_malloc(10 * MiB);
            BlockDriverState *pattern = test_ram_new(NULL, 10 * MiB);

            test_ram_poke_pattern(pattern, 0, 10 * MiB, i);
            test_ram_peek(pattern, 0, was, 10 * MiB);
            g_assert_cmpmem(was + total, 10 * MiB - total, got + total, 10 * MiB - total);
            bdrv_co_unref(pattern);
        }
        bed_free(&b);
    }
    g_rand_free(r);
}

static void coroutine_fn holes_are_neither_read_nor_written(void)
{
    Bed b;
    uint8_t *buf = g_malloc(MiB);

    bed_new(&b, 8 * TiB);
    memset(buf, 1, MiB);
    memset(buf + 100 * KiB, 0, 300 * KiB); /* and zeros in data become a hole */
    g_assert_cmpint(blk_co_pwrite(b.source[0], 5 * TiB, MiB, buf, 0), >=, 0);
    b.args.target_is_zero = true;
    test_ram_reset_counts(b.source_bs);
    convert(&b);
    g_assert_cmpint(test_ram_counts(b.source_bs)->bytes_read, ==, MiB);
    g_assert_cmpint(test_ram_counts(b.target_bs)->zeroes, ==, 0);
    g_assert_cmpint(test_ram_allocated(b.target_bs), ==, MiB - 300 * KiB);
    bed_free(&b);
    g_free(buf);
}

/* A target with old data, and one that cannot write zeros: CV4. */
static void coroutine_fn old_data_of_the_target_is_overwritten_by_zeros(void)
{
    for (int plain = 0; plain < 2; plain++) {
        Bed b;

        bed_new(&b, SIZE);
        test_ram_poke_pattern(b.target_bs, MiB, 2 * MiB, 1);
        test_ram_set_no_zeroes(b.target_bs, plain);
        convert(&b);
        same(&b);
        if (!plain) {
            g_assert_cmpint(test_ram_allocated(b.target_bs), ==, 0);
            g_assert_cmpint(test_ram_counts(b.target_bs)->bytes_written, ==, 0);
        }
        bed_free(&b);
    }
}

static int64_t last_write;
static unsigned writes_back;

static void watch_writes(void *opaque, unsigned op, int64_t offset, int64_t bytes, bool begins)
{
    if (op == TEST_RAM_WRITE && begins) {
        writes_back += offset < last_write;
        last_write = offset;
    }
}

static void coroutine_fn writes_are_in_order_unless_told_otherwise(void)
{
    for (int ooo = 0; ooo < 2; ooo++) {
        Bed b;

        bed_new(&b, SIZE);
        test_ram_poke_pattern(b.source_bs, 0, SIZE, 1);
        test_ram_set_watch(b.target_bs, watch_writes, NULL);
        last_write = writes_back = 0;
        b.args.out_of_order = ooo;
        b.args.requests = 4;
        test_ram_set_delay(b.target_bs, TEST_RAM_WRITE, 1000);
        test_ram_set_delay(b.source_bs, TEST_RAM_READ, 100);
        test_ram_reset_counts(b.target_bs);
        convert(&b);
        same(&b);
        g_assert_true(ooo || writes_back == 0);
        g_assert_cmpint(test_ram_counts(b.target_bs)->in_flight_max, ==, ooo ? 4 : 1);
        bed_free(&b);
    }
}

static Error *convert_error;
static int convert_ret;
static bool convert_ended;

static void coroutine_fn convert_beside(void *opaque)
{
    Bed *b = opaque;

    convert_ret = image_co_convert(&b->args, &convert_error);
    convert_ended = true;
}

static void coroutine_fn start_beside(Bed *b)
{
    convert_ended = false;
    convert_ret = 1;
    qemu_coroutine_enter(qemu_coroutine_create(convert_beside, b));
}

/* CV2 */
static void coroutine_fn a_slow_first_piece_is_waited_for_and_memory_is_bounded(void)
{
    Bed b;

    bed_new(&b, 16 * MiB);
    test_ram_poke_pattern(b.source_bs, 0, 16 * MiB, 1);
    test_ram_hold(b.source_bs, TEST_RAM_READ, 0, MiB);
    b.args.requests = 4;
    test_ram_set_watch(b.target_bs, watch_writes, NULL);
    last_write = writes_back = 0;
    start_beside(&b);
    block_test_co_settle();
    g_assert_false(convert_ended);
    g_assert_cmpint(test_ram_counts(b.target_bs)->writes, ==, 0);
    g_assert_cmpint(test_ram_counts(b.source_bs)->bytes_read, <=, 4 * MiB);
    test_ram_release(b.source_bs);
    while (!convert_ended) {
        block_test_co_settle();
    }
    g_assert_cmpint(convert_ret, ==, 0);
    g_assert_cmpint(writes_back, ==, 0);
    same(&b);
    bed_free(&b);
}

/* CV2 CV3 */
static void coroutine_fn an_error_ends_it_and_names_side_and_place(void)
{
    for (int is_write = 0; is_write < 2; is_write++) {
        for (int ooo = 0; ooo < 2; ooo++) {
            Bed b;
            Error *err = NULL;

            bed_new(&b, 32 * MiB);
            test_ram_poke_pattern(b.source_bs, 0, 32 * MiB, 1);
            b.args.out_of_order = ooo;
            test_ram_set_error(is_write ? b.target_bs : b.source_bs,
                               is_write ? TEST_RAM_WRITE : TEST_RAM_READ, 3 * MiB + 5, 1, EIO, -1);
            g_assert_cmpint(image_co_convert(&b.args, &err), ==, -EIO);
            g_assert_cmpstr(error_get_pretty(err), ==,
                            is_write ? "error while writing at byte 3145728: Input/output error"
                                     : "error while reading at byte 3145728: Input/output error");
            error_free_or_abort(&err);
            g_assert_cmpint(test_ram_counts(b.target_bs)->bytes_written, <=, 20 * MiB);
            bed_free(&b);
        }
    }
}

static void coroutine_fn a_flush_that_fails_is_an_error(void)
{
    Bed b;
    Error *err = NULL;

    bed_new(&b, SIZE);
    test_ram_poke_pattern(b.source_bs, 0, SIZE, 1);
    test_ram_set_error(b.target_bs, TEST_RAM_FLUSH, 0, SIZE, EIO, -1);
    g_assert_cmpint(image_co_convert(&b.args, &err), ==, -EIO);
    error_free_or_abort(&err);
    test_ram_set_error(b.target_bs, 0, 0, 0, 0, 0);
    bed_free(&b);
}

static void coroutine_fn a_target_that_is_too_small_is_refused(void)
{
    Bed b;
    Error *err = NULL;

    bed_begin(&b, test_ram_new("source", SIZE + 1), test_ram_new("target", SIZE));
    g_assert_cmpint(image_co_convert(&b.args, &err), ==, -ENOSPC);
    error_free_or_abort(&err);
    g_assert_cmpint(test_ram_counts(b.target_bs)->writes, ==, 0);
    bed_free(&b);
}

static int64_t lost_bytes, lost_first;

static void note_lost(void *opaque, int64_t offset, int64_t bytes, int error)
{
    g_assert_cmpint(error, ==, EIO);
    lost_first = lost_bytes ? lost_first : offset;
    lost_bytes += bytes;
}

static void coroutine_fn salvage_loses_the_sectors_that_cannot_be_read_and_no_more(void)
{
    Bed b;
    g_autofree uint8_t *want = g_malloc(SIZE);

    bed_new(&b, SIZE);
    test_ram_poke_pattern(b.source_bs, 0, SIZE, 1);
    test_ram_poke_pattern(b.target_bs, 0, SIZE, 2);
    test_ram_peek(b.source_bs, 0, want, SIZE);
    memset(want + 3 * MiB + 1024, 0, 1024);
    test_ram_set_error(b.source_bs, TEST_RAM_READ, 3 * MiB + 1030, 1000, EIO, -1);
    b.args.salvage = true;
    b.args.lost = note_lost;
    lost_bytes = 0;
    convert(&b);
    g_assert_cmpint(lost_bytes, ==, 1024);
    g_assert_cmpint(lost_first, ==, 3 * MiB + 1024);

    g_autofree uint8_t *got = images_co_read(b.target);

    g_assert_cmpmem(want, SIZE, got, SIZE);
    bed_free(&b);
}

static void coroutine_fn an_interrupted_conversion_writes_no_more(void)
{
    for (unsigned at = 1; at < 40; at++) {
        ImagesWatch w = {.cancel_at = at};
        Bed b;
        Error *err = NULL;
        int64_t written;

        bed_new(&b, 16 * MiB);
        test_ram_poke_pattern(b.source_bs, 0, 16 * MiB, 1);
        b.args.watch = images_watch(&w);
        b.args.out_of_order = at % 2;
        g_assert_cmpint(image_co_convert(&b.args, &err), ==, -ECANCELED);
        error_free_or_abort(&err);
        written = test_ram_counts(b.target_bs)->bytes_written;
        g_assert_cmpint(written, <, 16 * MiB);
        block_test_co_settle();
        g_assert_cmpint(test_ram_counts(b.target_bs)->bytes_written, ==, written);
        bed_free(&b);
    }
}

static void coroutine_fn progress_ends_at_the_end(void)
{
    ImagesWatch w = {0};
    Bed b;

    bed_new(&b, SIZE + 100);
    test_ram_poke_pattern(b.source_bs, MiB, 2 * MiB, 1);
    b.args.watch = images_watch(&w);
    convert(&b);
    g_assert_cmpint(w.done, ==, SIZE + 100);
    g_assert_cmpint(w.total, ==, SIZE + 100);
    bed_free(&b);
}

static void coroutine_fn the_rate_is_kept_and_a_cancel_does_not_wait_for_it(void)
{
    ImagesWatch w = {0};
    Bed b;
    Error *err = NULL;
    int64_t began, took;

    qemu_clock_set_virtual(true);
    began = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    bed_new(&b, 4 * MiB);
    test_ram_poke_pattern(b.source_bs, 0, 4 * MiB, 1);
    b.args.bytes_per_second = MiB;
    b.args.watch = images_watch(&w);
    convert(&b);
    same(&b);
    took = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - began;
    g_assert_cmpint(took, >, 3500 * (int64_t)SCALE_MS);
    g_assert_cmpint(took, <, 4500 * (int64_t)SCALE_MS);

    began = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    b.args.bytes_per_second = 1; /* two months */
    w = (ImagesWatch){.cancel_at = 100};
    g_assert_cmpint(image_co_convert(&b.args, &err), ==, -ECANCELED);
    error_free_or_abort(&err);
    took = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - began;
    g_assert_cmpint(took, <, 20000 * (int64_t)SCALE_MS);
    qemu_clock_set_virtual(false);
    bed_free(&b);
}

/* The source and the target are overlays of equal disks; random writes in the layer, random lengths. */
static void coroutine_fn above_a_base_only_what_is_allocated_there_is_copied(void)
{
    GRand *r = g_rand_new_with_seed(block_test_seed());

    for (int i = 0; i < 30; i++) {
        int64_t base_size = g_rand_int_range(r, 1, 64) * 32 * KiB;
        int64_t size = g_rand_int_range(r, 1, 64) * 32 * KiB;
        BlockDriverState *base[2];
        BlockDriverState *overlay[2];
        Bed b;

        for (int k = 0; k < 2; k++) {
            base[k] = test_ram_new(NULL, base_size);
            test_ram_poke_pattern(base[k], 0, base_size, 5);
            overlay[k] = test_cow_new(NULL, size, CLUSTER, base[k]);
        }
        bed_begin(&b, overlay[0], overlay[1]);
        images_co_scribble(b.source[0], r, 4);
        b.args.above = base[0];
        convert(&b);
        same(&b);
        for (int64_t at = 0; at < MIN(size, base_size); at += CLUSTER) {
            if (!test_cow_is_allocated(overlay[0], at)) {
                g_assert_false(test_cow_is_allocated(overlay[1], at));
            }
        }
        bed_free(&b);
        bdrv_co_unref(base[0]);
        bdrv_co_unref(base[1]);
    }
    g_rand_free(r);
}

static void add_tests(void)
{
    blk_init();
    block_test_add("/image/convert/a target shows what the sources show, whatever it was",
                   a_target_shows_what_the_sources_show_whatever_it_was);
    block_test_add("/image/convert/holes are neither read nor written",
                   holes_are_neither_read_nor_written);
    block_test_add("/image/convert/old data of the target is overwritten by zeros",
                   old_data_of_the_target_is_overwritten_by_zeros);
    block_test_add("/image/convert/writes are in order, unless told otherwise",
                   writes_are_in_order_unless_told_otherwise);
    block_test_add("/image/convert/a slow first piece is waited for, and memory is bounded",
                   a_slow_first_piece_is_waited_for_and_memory_is_bounded);
    block_test_add("/image/convert/an error ends it, and names side and place",
                   an_error_ends_it_and_names_side_and_place);
    block_test_add("/image/convert/a flush that fails is an error", a_flush_that_fails_is_an_error);
    block_test_add("/image/convert/a target that is too small is refused",
                   a_target_that_is_too_small_is_refused);
    block_test_add("/image/convert/salvage loses the sectors that cannot be read, and no more",
                   salvage_loses_the_sectors_that_cannot_be_read_and_no_more);
    block_test_add("/image/convert/an interrupted conversion writes no more",
                   an_interrupted_conversion_writes_no_more);
    block_test_add("/image/convert/progress ends at the end", progress_ends_at_the_end);
    block_test_add("/image/convert/the rate is kept, and a cancel does not wait for it",
                   the_rate_is_kept_and_a_cancel_does_not_wait_for_it);
    block_test_add("/image/convert/above a base only what is allocated there is copied",
                   above_a_base_only_what_is_allocated_there_is_copied);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
