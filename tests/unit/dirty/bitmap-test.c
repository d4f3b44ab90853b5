/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dirty bitmaps, DB1 to DB5 of block/dirty/dirty-bitmap.c. */
#include <glib.h>
#include "block/dirty/dirty-bitmap.h"
#include "tests/unit/backend/test-node.h"

#define SIZE (1 << 20)

/* What the io room does at the end of a write. */
static void guest_write(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BdrvWriteObserver *obs;

    QLIST_FOREACH (obs, &bs->write_observers, list) {
        obs->written(obs, offset, bytes);
    }
}

#define expect_error(err, text)                           \
    do {                                                  \
        g_assert_nonnull(err);                            \
        g_assert_cmpstr(error_get_pretty(err), ==, text); \
        error_free_or_abort(&(err));                      \
    } while (0)

static void coroutine_fn a_write_is_marked_where_it_touched(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(bs, 4096, "b", &error_abort);

    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 0);
    guest_write(bs, 4095, 2); /* DB1 */
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 8192);
    g_assert_true(bdrv_dirty_bitmap_get(b, 0));
    g_assert_true(bdrv_dirty_bitmap_get(b, 8191));
    g_assert_false(bdrv_dirty_bitmap_get(b, 8192));
    bdrv_disable_dirty_bitmap(b);
    guest_write(bs, 65536, 1);
    g_assert_false(bdrv_dirty_bitmap_get(b, 65536));
    bdrv_enable_dirty_bitmap(b);
    guest_write(bs, SIZE - 1, 100); /* behind the end: clipped */
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 8192 + 4096);
    bdrv_release_dirty_bitmap(b);
    g_assert_null(bdrv_find_dirty_bitmap(bs, "b"));
    guest_write(bs, 0, 1);
    bdrv_co_unref(bs);
}

static void coroutine_fn a_successor_takes_the_marks_of_a_frozen_bitmap(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(bs, 4096, "b", &error_abort);
    Error *err = NULL;

    guest_write(bs, 0, 1);
    bdrv_dirty_bitmap_create_successor(b, &error_abort);
    g_assert_true(bdrv_dirty_bitmap_busy(b)); /* DB5 */
    g_assert_true(bdrv_dirty_bitmap_recording(b));
    g_assert_false(bdrv_dirty_bitmap_enabled(b));
    guest_write(bs, 8192, 1);
    g_assert_false(bdrv_dirty_bitmap_get(b, 8192));
    g_assert_cmpint(bdrv_dirty_bitmap_check(b, BDRV_BITMAP_DEFAULT, &err), ==, -EBUSY);
    expect_error(err, "Bitmap 'b' is currently in use by another operation and cannot be used");
    g_assert_cmpint(bdrv_dirty_bitmap_create_successor(b, &err), ==, -EBUSY);
    error_free_or_abort(&err);

    /* The job succeeded: only what came since remains. */
    g_assert_true(bdrv_dirty_bitmap_abdicate(b, &error_abort) == b);
    g_assert_false(bdrv_dirty_bitmap_get(b, 0));
    g_assert_true(bdrv_dirty_bitmap_get(b, 8192));
    g_assert_false(bdrv_dirty_bitmap_busy(b));

    /* The job failed: nothing is forgotten. */
    bdrv_dirty_bitmap_create_successor(b, &error_abort);
    guest_write(bs, 16384, 1);
    g_assert_true(bdrv_reclaim_dirty_bitmap(b, &error_abort) == b);
    g_assert_true(bdrv_dirty_bitmap_get(b, 8192));
    g_assert_true(bdrv_dirty_bitmap_get(b, 16384));

    g_assert_null(bdrv_dirty_bitmap_abdicate(b, &err));
    error_free_or_abort(&err);
    bdrv_co_unref(bs); /* DB3: takes the bitmap with it */
}

static void coroutine_fn what_cannot_be_made_or_used_is_refused_in_words(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE), *other = test_node_new("o", SIZE / 2);
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(bs, 0, "b", &error_abort);
    BdrvDirtyBitmap *o = bdrv_create_dirty_bitmap(other, 0, "o", &error_abort);
    g_autofree char *name = g_strnfill(BDRV_DIRTY_NAME_MAX + 1, 'x');
    const uint32_t bad[] = {1, 3, 256, 513, 65535};
    Error *err = NULL;

    g_assert_cmpuint(bdrv_dirty_bitmap_granularity(b), ==, BDRV_DIRTY_GRANULARITY_DEFAULT);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        g_assert_null(bdrv_create_dirty_bitmap(bs, bad[i], "c", &err));
        expect_error(err, "Granularity must be power of 2 and at least 512");
    }
    bdrv_release_dirty_bitmap(bdrv_create_dirty_bitmap(bs, 1u << 31, "big", &error_abort));
    g_assert_null(bdrv_create_dirty_bitmap(bs, 0, "b", &err));
    expect_error(err, "Bitmap already exists: b");
    g_assert_null(bdrv_create_dirty_bitmap(bs, 0, "", &err));
    expect_error(err, "Bitmap name cannot be empty");
    g_assert_null(bdrv_create_dirty_bitmap(bs, 0, name, &err));
    g_assert_true(g_str_has_prefix(error_get_pretty(err), "Bitmap name too long: "));
    error_free_or_abort(&err);
    g_assert_null(bdrv_lookup_dirty_bitmap(bs, "zz", &err));
    expect_error(err, "Dirty bitmap 'zz' not found");
    g_assert_false(bdrv_merge_dirty_bitmap(b, o, NULL, &err));
    expect_error(err, "Bitmaps are of different sizes (destination size is 1048576, source size is "
                      "524288) and can't be merged");
    bdrv_dirty_bitmap_set_readonly(b, true);
    g_assert_cmpint(bdrv_dirty_bitmap_check(b, BDRV_BITMAP_ALLOW_RO, NULL), ==, 0);
    bdrv_dirty_bitmap_check(b, BDRV_BITMAP_DEFAULT, &err);
    expect_error(err, "Bitmap 'b' is readonly and cannot be modified");
    bdrv_dirty_bitmap_set_inconsistent(o);
    bdrv_dirty_bitmap_check(o, BDRV_BITMAP_DEFAULT, &err);
    expect_error(err, "Bitmap 'o' is inconsistent and cannot be used");
    bdrv_release_all_dirty_bitmaps(bs);
    g_assert_null(bdrv_dirty_bitmap_next(bs, NULL));
    bdrv_co_unref(bs);
    bdrv_co_unref(other);
}

static void coroutine_fn a_bitmap_follows_the_size_of_its_node(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(bs, 4096, NULL, &error_abort);

    bdrv_dirty_bitmap_create_successor(b, &error_abort);
    guest_write(bs, SIZE - 1, 1);
    bdrv_notify_resized(bs, SIZE / 2); /* DB4 */
    g_assert_cmpint(bdrv_dirty_bitmap_size(b), ==, SIZE / 2);
    bdrv_notify_resized(bs, SIZE * 2);
    guest_write(bs, SIZE * 2 - 1, 1);
    bdrv_reclaim_dirty_bitmap(b, &error_abort);
    g_assert_false(bdrv_dirty_bitmap_get(b, SIZE - 1));
    g_assert_true(bdrv_dirty_bitmap_get(b, SIZE * 2 - 1));
    g_assert_cmpint(bdrv_dirty_bitmap_size(b), ==, SIZE * 2);
    bdrv_co_unref(bs);
}

static void coroutine_fn a_clear_can_be_undone(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    BdrvDirtyBitmap *b = bdrv_create_dirty_bitmap(bs, 4096, "b", &error_abort);
    HBitmap *backup;

    guest_write(bs, 0, 1);
    bdrv_clear_dirty_bitmap(b, &backup);
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 0);
    bdrv_restore_dirty_bitmap(b, backup);
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 4096);
    bdrv_clear_dirty_bitmap(b, NULL);
    g_assert_cmpint(bdrv_get_dirty_count(b), ==, 0);
    bdrv_co_unref(bs);
}

/* The model: one bool a sector. */
#define SECTORS (SIZE / 512)

typedef struct Model {
    BdrvDirtyBitmap *bitmap;
    int64_t granularity;
    bool bits[SECTORS], successor[SECTORS];
    bool frozen;
} Model;

static void model_mark(Model *m, int64_t offset, int64_t bytes)
{
    int64_t start = QEMU_ALIGN_DOWN(offset, m->granularity);
    int64_t end = MIN(QEMU_ALIGN_UP(offset + bytes, m->granularity), SIZE);

    memset((m->frozen ? m->successor : m->bits) + start / 512, true, (end - start) / 512);
}

static void model_check(Model *m)
{
    int64_t at = 0;

    while (at < SIZE) {
        int64_t pnum;
        bool dirty = bdrv_dirty_bitmap_status(m->bitmap, at, SIZE - at, &pnum);

        g_assert_cmpint(pnum, >, 0);
        for (int64_t i = at / 512; i < (at + pnum) / 512; i++) {
            g_assert_cmpint(m->bits[i], ==, dirty);
        }
        at += pnum;
    }
}

static void model_step(Model *m, Model *other, GRand *rand)
{
    switch (g_rand_int_range(rand, 0, 5)) {
    case 0:
        if (!m->frozen) {
            bdrv_dirty_bitmap_create_successor(m->bitmap, &error_abort);
            memset(m->successor, 0, sizeof(m->successor));
            m->frozen = true;
        }
        break;
    case 1:
        if (m->frozen) {
            bool keep = g_rand_boolean(rand);

            if (keep) {
                bdrv_reclaim_dirty_bitmap(m->bitmap, &error_abort);
            } else {
                bdrv_dirty_bitmap_abdicate(m->bitmap, &error_abort);
            }
            for (int i = 0; i < SECTORS; i++) {
                m->bits[i] = m->successor[i] || (keep && m->bits[i]);
            }
            m->frozen = false;
        }
        break;
    case 2:
        if (!m->frozen && !other->frozen) {
            bdrv_merge_dirty_bitmap(m->bitmap, other->bitmap, NULL, &error_abort);
            for (int i = 0; i < SECTORS; i++) {
                if (other->bits[i]) {
                    model_mark(m, i * 512, 512);
                }
            }
        }
        break;
    case 3:
        if (!m->frozen && g_rand_int_range(rand, 0, 8) == 0) {
            bdrv_clear_dirty_bitmap(m->bitmap, NULL);
            memset(m->bits, 0, sizeof(m->bits));
        }
        break;
    default: {
        int64_t start = g_rand_int_range(rand, 0, SIZE / m->granularity) * m->granularity;
        int64_t bytes = MIN(m->granularity * g_rand_int_range(rand, 1, 8), SIZE - start);

        bdrv_reset_dirty_bitmap(m->bitmap, start, bytes);
        memset(m->bits + start / 512, 0, bytes / 512);
        break;
    }
    }
}

static void coroutine_fn random_commands_and_writes_agree_with_a_model(void)
{
    BlockDriverState *bs = test_node_new("n", SIZE);
    g_autoptr(GRand) rand = g_rand_new_with_seed(test_seed());
    Model *m = g_new0(Model, 2);

    for (int i = 0; i < 2; i++) {
        m[i].granularity = 512 << g_rand_int_range(rand, 0, 10);
        m[i].bitmap = bdrv_create_dirty_bitmap(bs, m[i].granularity, NULL, &error_abort);
    }
    for (int step = 0; step < 3000; step++) {
        int64_t offset = g_rand_int_range(rand, 0, SIZE);
        int64_t bytes =
            MIN(g_rand_int_range(rand, 1, 1 << g_rand_int_range(rand, 1, 16)), SIZE - offset);
        int which = g_rand_boolean(rand);

        guest_write(bs, offset, bytes);
        model_mark(&m[0], offset, bytes);
        model_mark(&m[1], offset, bytes);
        model_step(&m[which], &m[!which], rand);
        model_check(&m[which]);
    }
    g_free(m);
    bdrv_co_unref(bs);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    aio_init(AIO_ENGINE_AUTO, &error_abort);
#define TEST(name) g_test_add_data_func("/dirty/" #name, (gconstpointer)name, test_run_body)
    TEST(a_write_is_marked_where_it_touched);
    TEST(a_successor_takes_the_marks_of_a_frozen_bitmap);
    TEST(what_cannot_be_made_or_used_is_refused_in_words);
    TEST(a_bitmap_follows_the_size_of_its_node);
    TEST(a_clear_can_be_undone);
    TEST(random_commands_and_writes_agree_with_a_model);
    ret = g_test_run();
    aio_cleanup();
    return ret;
}
