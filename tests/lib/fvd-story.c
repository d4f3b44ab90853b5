/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fvd-story.h: the life of an image, and its guests. */
#include <errno.h>
#include <inttypes.h>
#include "coro/sleep.h"
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-story.h"
#include "tests/lib/test-faulty.h"
#include "tests/lib/test-slow.h"
#include "util/osdep.h"

#define GUESTS      5
#define DELAY_NS    30
/* The largest request of a guest, in sectors; one in a few dozen is larger. */
#define SECTORS_MAX 24

/* ------------------------------------------------------------------------------------------------- life */

FvdStory *fvd_story_new(uint32_t seed, unsigned wants)
{
    FvdStory *s = g_new0(FvdStory, 1);

    s->seed = seed;
    s->wants = wants;
    s->rand = g_rand_new_with_seed(seed);
    fvd_story_make_image(s);
    s->model = sector_model_new(s->shape.disk_bytes / SECTOR_MODEL_BYTES,
                                s->shape.base_bytes / SECTOR_MODEL_BYTES);
    s->length = s->next_length = s->shape.start_bytes;
    s->bitmaps = g_ptr_array_new_with_free_func(fvd_story_bitmap_free);
    s->stored = g_malloc0(MAX(s->shape.base_bytes / SECTOR_MODEL_BYTES, 1));
    s->written = g_malloc0(MAX(s->shape.base_bytes / SECTOR_MODEL_BYTES, 1));
    s->gone = g_malloc0(MAX(s->shape.base_bytes / SECTOR_MODEL_BYTES, 1));
    return s;
}

void coroutine_fn fvd_story_free(FvdStory *s)
{
    fvd_disks_free(&s->disks);
    sector_model_free(s->model);
    g_ptr_array_unref(s->bitmaps);
    g_free(s->written);
    g_free(s->stored);
    g_free(s->gone);
    g_rand_free(s->rand);
    g_free(s);
}

BlockDriverState *coroutine_fn fvd_story_co_open_on(FvdStory *s, const char *node_name,
                                                    const FvdDisks *on, bool read_only,
                                                    Error **errp)
{
    g_autofree char *of_base =
        on->base ? g_strdup_printf("'%s'", on->base->node_name) : g_strdup("null");
    g_autofree char *of_data =
        on->data ? g_strdup_printf(", 'data-file': '%s'", on->data->node_name) : NULL;
    bool keeps = s->wants & FVD_STORY_COPY_ON_READ && !read_only;
    g_autofree char *text = g_strdup_printf(
        "{'driver': 'fvd', 'node-name': '%s', 'file': '%s', 'backing': %s%s,"
        " 'read-only': %s, 'discard': 'unmap', 'journal-interval': 1,"
        " 'journal-buffer-size': %d, 'copy-on-read': %s}",
        node_name, on->disk->node_name, of_base, of_data ? of_data : "",
        read_only ? "true" : "false", 4096 << (s->seed % 3), keeps ? "true" : "false");
    g_autofree char *json = g_strdelimit(g_steal_pointer(&text), "'", '"');
    g_autoptr(BlockdevOptions) opts = block_test_options("%s", json);

    return bdrv_co_open(opts, errp);
}

int coroutine_fn fvd_story_co_check(FvdStory *s, const FvdDisks *on, BdrvCheckResult *ret,
                                    unsigned fix, Error **errp)
{
    g_autofree char *of_data =
        on->data ? g_strdup_printf(", 'data-file': '%s'", on->data->node_name) : g_strdup("");
    g_autofree char *name =
        g_strdup_printf("json:{'driver': 'fvd', 'file': '%s', 'backing': null, 'read-only': %s%s}",
                        on->disk->node_name, fix ? "false" : "true", of_data);
    BdrvOpenFileArgs args = {.filename = name, .check = true};
    BlockDriverState *bs = bdrv_co_open_file(&args, errp);
    BdrvChild *user;
    int err;

    if (!bs) {
        return -EIO;
    }
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ |
                                   (fix ? BLK_PERM_WRITE | BLK_PERM_RESIZE : (uint64_t)0));
    err = bs->drv->image->co_check(bs, ret, fix, errp);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    return err;
}

static void plan_faults(FvdStory *s, TestFaultyPlan *ret_plan)
{
    const unsigned all =
        TEST_FAULTY_READ | TEST_FAULTY_WRITE | TEST_FAULTY_FLUSH | TEST_FAULTY_TRUNCATE;
    const TestFaultyPlan plans[] = {
        {0},
        {.ops = TEST_FAULTY_FLUSH, .one_in = 6, .most = 1, .error = EIO},
        {.ops = TEST_FAULTY_WRITE, .one_in = 30, .most = 2, .error = EIO},
        {.ops = TEST_FAULTY_WRITE, .one_in = 6, .error = EIO},
        {.ops = TEST_FAULTY_WRITE | TEST_FAULTY_TRUNCATE, .one_in = 8, .error = ENOSPC},
        {.ops = TEST_FAULTY_TRUNCATE, .one_in = 2, .error = ENOSPC},
        {.ops = TEST_FAULTY_READ, .one_in = 10, .error = EIO},
        {.ops = all, .one_in = 40, .error = EIO},
        {.ops = all, .one_in = 20, .most = 1, .error = EIO},
    };

    *ret_plan = plans[g_rand_int_range(s->rand, 0, ARRAY_SIZE(plans))];
}

/* The node that the image is on, and the one below that fails; both are the story's. */
static BlockDriverState *slow_disk(FvdStory *s, const char *name, BlockDriverState *disk,
                                   const TestFaultyPlan *plan, BlockDriverState **ret_faulty)
{
    g_autofree char *slow = g_strdup_printf("slow-%s", name);
    g_autofree char *faulty = g_strdup_printf("faulty-%s", name);

    if (!disk) {
        return NULL;
    }
    if (s->wants & FVD_STORY_FAULTS) {
        *ret_faulty = disk = test_faulty_new(faulty, disk, s->rand);
        test_faulty_set(disk, plan);
    }
    return test_slow_new(slow, disk, s->rand, DELAY_NS);
}

bool fvd_story_had_faults(const FvdStory *s)
{
    return (s->faulty.disk && test_faulty_count(s->faulty.disk)) ||
           (s->faulty.data && test_faulty_count(s->faulty.data));
}

/* Without power, or on a disk that fails, everything may; else nothing may, but for a lack of space. */
static bool may_fail(const FvdStory *s)
{
    return test_cut_is_off(s->disks.disk) || fvd_story_had_faults(s);
}

bool coroutine_fn fvd_story_co_open(FvdStory *s)
{
    TestFaultyPlan plan = {0};
    Error *err = NULL;

    if (s->wants & FVD_STORY_FAULTS) {
        plan_faults(s, &plan);
    }
    s->failed = s->resizing = false;
    s->slow.disk = slow_disk(s, "disk", s->disks.disk, &plan, &s->faulty.disk);
    s->slow.data = slow_disk(s, "data", s->disks.data, &plan, &s->faulty.data);
    if (s->disks.base) {
        s->slow.base = test_slow_new("slow-base", s->disks.base, s->rand, DELAY_NS);
    }
    memset(s->written, 0, s->shape.base_bytes / SECTOR_MODEL_BYTES);
    memset(s->stored, 0, s->shape.base_bytes / SECTOR_MODEL_BYTES);
    s->image = fvd_story_co_open_on(s, "image", &s->slow, false, &err);
    if (!s->image) {
        if (!may_fail(s)) {
            g_error("SEED=%u: the image cannot be opened: %s", s->seed, error_get_pretty(err));
        }
        error_free(err);
        return false;
    }
    s->user =
        block_test_user(s->image, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    if (s->wants & FVD_STORY_BITMAPS) {
        fvd_story_co_begin_bitmaps(s);
    }
    return true;
}

bool coroutine_fn fvd_story_co_close(FvdStory *s)
{
    bool had_faults;

    if (s->image) {
        block_test_co_user_free(s->user);
        bdrv_co_unref(s->image);
    }
    had_faults = fvd_story_had_faults(s);
    fvd_story_end_bitmaps(s);
    s->closed_well = !had_faults && !test_cut_is_off(s->disks.disk);
    s->power_went |= !s->closed_well;
    fvd_disks_free(&s->slow);
    fvd_disks_free(&s->faulty);
    s->image = NULL;
    return had_faults;
}

/* ------------------------------------------------------------------------------------------------ guests */

/* What is in the disk now and will be. */
static int64_t sectors_now(const FvdStory *s)
{
    return MIN(s->length, s->next_length) / SECTOR_MODEL_BYTES;
}

static void choose_range(FvdStory *s, int64_t *ret_first, int64_t *ret_n)
{
    int64_t n = sectors_now(s), most = MIN(SECTORS_MAX, n);

    switch (g_rand_int_range(s->rand, 0, 24)) {
    case 0:
        most = n;
        break;
    case 1 ... 12:
        most = MIN(most, 3);
        break;
    default:
        break;
    }
    *ret_n = g_rand_int_range(s->rand, 1, most + 1);
    *ret_first = g_rand_int_range(s->rand, 0, n - *ret_n + 1);
    if (g_rand_boolean(s->rand)) { /* where others are, too */
        *ret_first %= MAX(n / 8, 1);
        *ret_n = MIN(*ret_n, n - *ret_first);
    }
}

/* Somebody is about to write here, and with it what else is in these blocks. */
static void mark_written(FvdStory *s, int64_t first, int64_t n)
{
    int64_t block = s->shape.block_size / SECTOR_MODEL_BYTES;
    int64_t from = first / block * block;
    int64_t to = MIN(ROUND_UP(first + n, block), s->shape.base_bytes / SECTOR_MODEL_BYTES);

    if (from < to) {
        memset(s->written + from, 1, to - from);
    }
}

static int outcome(FvdStory *s, const char *what, int ret)
{
    if (ret < 0 && ret != -ENOSPC && !may_fail(s)) {
        g_error("SEED=%u: a %s failed with %d", s->seed, what, ret);
    }
    return ret;
}

/* @failed: as it was when the request began. */
static int outcome_after(FvdStory *s, const char *what, bool failed, int ret)
{
    if (failed && ret >= 0) {
        g_error("SEED=%u: a %s succeeded, after a flush had failed", s->seed, what);
    }
    return outcome(s, what, ret);
}

static void coroutine_fn one_write(FvdStory *s)
{
    bool fua = g_rand_int_range(s->rand, 0, 10) == 0 && !(s->wants & FVD_STORY_NO_FLUSH);
    bool failed = s->failed;
    g_autofree uint8_t *buf = NULL;
    SectorModelOp op;
    int64_t first, n;
    int ret;

    choose_range(s, &first, &n);
    buf = g_malloc(n * SECTOR_MODEL_BYTES);
    mark_written(s, first, n);
    sector_model_write_begin(s->model, SECTOR_MODEL_WRITE, first, n, &op);
    sector_model_fill(buf, op.id, first, n);
    ret = bdrv_co_pwrite(s->user, first * SECTOR_MODEL_BYTES, n * SECTOR_MODEL_BYTES, buf,
                         fua ? BDRV_REQ_FUA : 0);
    sector_model_write_end(s->model, &op, outcome_after(s, "write", failed, ret), fua);
}

static void coroutine_fn one_zeroes(FvdStory *s, SectorModelKind kind)
{
    BdrvRequestFlags flags = g_rand_boolean(s->rand) ? BDRV_REQ_MAY_UNMAP : 0;
    SectorModelOp op;
    int64_t first, n, offset, bytes;
    int ret;

    choose_range(s, &first, &n);
    if (s->shape.chunk_size && g_rand_boolean(s->rand)) { /* whole chunks */
        int64_t per = s->shape.chunk_size / SECTOR_MODEL_BYTES;

        first = first / per * per;
        n = MIN(ROUND_UP(n, per), sectors_now(s) - first);
    }
    offset = first * SECTOR_MODEL_BYTES;
    bytes = n * SECTOR_MODEL_BYTES;
    mark_written(s, first, n);
    sector_model_write_begin(s->model, kind, first, n, &op);
    ret = kind == SECTOR_MODEL_DISCARD ? bdrv_co_pdiscard(s->user, offset, bytes)
                                       : bdrv_co_pwrite_zeroes(s->user, offset, bytes, flags);
    sector_model_write_end(s->model, &op, outcome(s, "write of zeroes", ret), false);
}

static void coroutine_fn one_read(FvdStory *s)
{
    g_autofree uint8_t *buf = NULL;
    SectorModelRead *read;
    int64_t first, n, bad;
    int ret;

    choose_range(s, &first, &n);
    buf = g_malloc(n * SECTOR_MODEL_BYTES);
    read = sector_model_read_begin(s->model, first, n);
    ret = bdrv_co_pread(s->user, first * SECTOR_MODEL_BYTES, n * SECTOR_MODEL_BYTES, buf, 0);
    if (outcome(s, "read", ret) < 0) {
        sector_model_read_drop(read);
        return;
    }
    bad = sector_model_read_end(s->model, read, buf);
    if (bad >= 0) {
        g_error("SEED=%u: a read finds %u in sector %" PRId64, s->seed,
                sector_model_id(buf + (bad - first) * SECTOR_MODEL_BYTES, bad), bad);
    }
}

static void coroutine_fn one_flush(FvdStory *s)
{
    uint32_t began = sector_model_flush_begin(s->model);
    bool failed = s->failed;
    int ret = outcome_after(s, "flush", failed, bdrv_co_flush(s->image));

    if (ret < 0 && !may_fail(s)) {
        g_error("SEED=%u: a flush failed with %d", s->seed, ret);
    }
    s->failed |= ret < 0;
    sector_model_flush_end(s->model, began, ret);
}

/* What is cut off is as zeroes that were written: a disk that grows again shows them. */
static void coroutine_fn one_resize(FvdStory *s)
{
    int64_t to = g_rand_int_range(s->rand, 1, s->shape.disk_bytes / SECTOR_MODEL_BYTES + 1);
    int64_t now = s->length / SECTOR_MODEL_BYTES;
    SectorModelOp op;
    Error *err = NULL;
    int ret;

    if (s->resizing) {
        return;
    }
    s->resizing = true;
    if (g_rand_boolean(s->rand)) { /* a little */
        to = MAX(MIN(now - 8 + to % 17, s->shape.disk_bytes / SECTOR_MODEL_BYTES), 1);
    }
    s->next_length = to * SECTOR_MODEL_BYTES;
    if (to < now) {
        mark_written(s, to, now - to);
        sector_model_write_begin(s->model, SECTOR_MODEL_ZEROES, to, now - to, &op);
    }
    ret = bdrv_co_truncate(s->user, s->next_length, true, PREALLOC_MODE_OFF, 0, &err);
    if (ret < 0 && !may_fail(s)) {
        g_error("SEED=%u: from %" PRId64 " to %" PRId64 " sectors: %s", s->seed, now, to,
                error_get_pretty(err));
    }
    error_free(err);
    if (to < now) {
        sector_model_write_end(s->model, &op, ret, true);
    }
    if (ret >= 0) {
        s->length = s->next_length;
    }
    s->resizing = ret < 0; /* either is its length, until it is opened again */
}

static void coroutine_fn one_op(FvdStory *s)
{
    bool gives_back = s->wants & FVD_STORY_GIVE_BACK;
    int flushes = s->wants & FVD_STORY_FLUSH_STORM ? 12 : s->wants & FVD_STORY_NO_FLUSH ? 0 : 4;
    int dice = g_rand_int_range(s->rand, 0, 14 + flushes + (gives_back ? 14 : 0));

    if (s->wants & FVD_STORY_COPY_ON_READ && g_rand_int_range(s->rand, 0, 3) == 0) {
        one_read(s);
        return;
    }
    if (s->wants & FVD_STORY_BITMAPS && g_rand_int_range(s->rand, 0, 20) == 0) {
        fvd_story_co_remove_bitmap(s);
        return;
    }
    if (s->wants & FVD_STORY_RESIZE && g_rand_int_range(s->rand, 0, 8) == 0) {
        one_resize(s);
        return;
    }

    switch (dice) {
    case 0:
    case 1:
        one_read(s);
        break;
    case 2:
        one_zeroes(s, SECTOR_MODEL_ZEROES);
        break;
    case 3:
        one_zeroes(s, SECTOR_MODEL_DISCARD);
        break;
    case 4 ... 13:
        one_write(s);
        break;
    default:
        if (dice < 14 + flushes) {
            one_flush(s);
        } else {
            one_zeroes(s, dice & 1 ? SECTOR_MODEL_ZEROES : SECTOR_MODEL_DISCARD);
        }
        break;
    }
}

static void coroutine_fn guest_entry(void *opaque)
{
    FvdStory *s = opaque;

    while (s->ops_left-- > 0 && !test_cut_is_off(s->disks.disk)) {
        one_op(s);
        if (g_rand_int_range(s->rand, 0, s->wants & FVD_STORY_NO_FLUSH ? 5 : 20) == 0) {
            qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 3000000)); /* the journal's timer runs */
        } else {
            qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 2 * DELAY_NS));
        }
    }
    s->running--;
}

static void coroutine_fn prefetch_entry(void *opaque)
{
    FvdStory *s = opaque;

    fvd_story_co_prefetch(s);
    s->running--;
}

uint8_t *coroutine_fn fvd_story_co_read_all(FvdStory *s, BdrvChild *user)
{
    uint8_t *buf = g_malloc0(s->shape.disk_bytes);
    int64_t length = bdrv_getlength(user->bs);

    g_assert_cmpint(length, <=, s->shape.disk_bytes);
    if (bdrv_co_pread(user, 0, length, buf, 0) < 0) {
        g_free(buf);
        return NULL;
    }
    return buf;
}

/* With nothing in flight what is read is what will be read. */
static void coroutine_fn look_around(FvdStory *s)
{
    SectorModelRead *read = sector_model_read_begin(s->model, 0, sector_model_sectors(s->model));
    g_autofree uint8_t *buf = fvd_story_co_read_all(s, s->user);
    int64_t bad;

    if (!buf) {
        outcome(s, "read", -EIO); /* the journal's timer runs, and power may go at what it writes */
        sector_model_read_drop(read);
        return;
    }
    bad = sector_model_read_end(s->model, read, buf);
    if (bad >= 0) {
        g_error("SEED=%u: %u is in sector %" PRId64, s->seed,
                sector_model_id(buf + bad * SECTOR_MODEL_BYTES, bad), bad);
    }
    sector_model_seen(s->model, buf);
}

void coroutine_fn fvd_story_co_run(FvdStory *s, unsigned ops)
{
    s->ops_left = ops;
    s->running = GUESTS;
    for (int i = 0; i < GUESTS; i++) {
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(guest_entry, s));
    }
    if (s->wants & FVD_STORY_PREFETCH && s->disks.base) {
        s->running++;
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(prefetch_entry, s));
    }
    while (s->running > 0) {
        qemu_co_sleep_ns(100);
    }
    if (!test_cut_is_off(s->disks.disk) &&
        !s->resizing) { /* of two lengths what is seen may not stay */
        look_around(s);
    }
}
