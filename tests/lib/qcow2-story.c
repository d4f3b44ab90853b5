/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See qcow2-story.h. */
#include "tests/lib/qcow2-story.h"
#include <errno.h>
#include <inttypes.h>
#include "block/open/open.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-ram.h"
#include "tests/lib/test-slow.h"
#include "util/osdep.h"

#define GUESTS      6
#define DELAY_NS    30
#define SECTORS_MAX 40

/* ------------------------------------------------------------------------------------------------- image */

static void choose_shape(Qcow2Story *s)
{
    static const int64_t clusters[] = {512, 1024, 4096, 4096, 16384, 65536};

    s->cluster_size = clusters[g_rand_int_range(s->rand, 0, ARRAY_SIZE(clusters))];
    s->version = g_rand_int_range(s->rand, 0, 5) ? 3 : 2;
    if (s->wants & QCOW2_STORY_SUBCLUSTERS) {
        s->cluster_size = g_rand_boolean(s->rand) ? 16384 : 65536;
        s->version = 3;
        s->extended = true;
    }
    s->refcount_bits = s->version == 3 ? 1u << g_rand_int_range(s->rand, 0, 7) : 16;
    s->disk_bytes = g_rand_int_range(s->rand, 20, 700) * SECTOR_MODEL_BYTES;
    if (s->wants & QCOW2_STORY_BASE) {
        s->base_bytes =
            g_rand_int_range(s->rand, 1, (int32_t)(s->disk_bytes / SECTOR_MODEL_BYTES) + 1) *
            SECTOR_MODEL_BYTES;
    }
    s->capacity = 4 * s->disk_bytes + 200 * s->cluster_size + 256 * KiB;
}

static void coroutine_fn make_image(Qcow2Story *s)
{
    g_autofree char *text = g_strdup_printf(
        "{'driver': 'qcow2', 'file': '%s', 'size': %" PRId64 ", 'cluster-size': %" PRId64
        ", 'version': 'v%u', 'refcount-bits': %u, 'extended-l2': %s}",
        s->disk->node_name, s->disk_bytes, s->cluster_size, s->version, s->refcount_bits,
        s->extended ? "true" : "false");
    g_autofree char *json = g_strdelimit(g_steal_pointer(&text), "'", '"');
    json_t *o = json_loads(json, 0, NULL);
    BlockdevCreateOptions *opts = qapi_BlockdevCreateOptions_from_json(o, &error_abort);

    g_assert_cmpint(bdrv_find_format("qcow2")->image->co_create(opts, NULL, &error_abort), ==, 0);
    qapi_free_BlockdevCreateOptions(opts);
    json_decref(o);
}

Qcow2Story *coroutine_fn qcow2_story_new(uint32_t seed, unsigned wants)
{
    Qcow2Story *s = g_new0(Qcow2Story, 1);

    s->seed = seed;
    s->wants = wants;
    s->rand = g_rand_new_with_seed(seed);
    choose_shape(s);
    s->disk = test_cut_new_file("disk", 0, s->capacity);
    make_image(s);
    if (s->base_bytes) {
        g_autofree uint8_t *buf = g_malloc(s->base_bytes);

        s->base = test_ram_new("base", s->base_bytes);
        sector_model_fill(buf, SECTOR_MODEL_BASE, 0, s->base_bytes / SECTOR_MODEL_BYTES);
        test_ram_poke(s->base, 0, buf, s->base_bytes);
    }
    s->model =
        sector_model_new(s->disk_bytes / SECTOR_MODEL_BYTES, s->base_bytes / SECTOR_MODEL_BYTES);
    s->length = s->next_length = s->disk_bytes;
    return s;
}

void coroutine_fn qcow2_story_free(Qcow2Story *s)
{
    bdrv_co_unref(s->disk);
    bdrv_co_unref(s->base);
    sector_model_free(s->model);
    g_rand_free(s->rand);
    g_free(s);
}

BlockDriverState *coroutine_fn qcow2_story_co_open_on(Qcow2Story *s, const char *node_name,
                                                      BlockDriverState *disk, bool read_only,
                                                      Error **errp)
{
    bool small = s->wants & QCOW2_STORY_SMALL_CACHE;
    g_autofree char *backing =
        s->base ? g_strdup_printf("'%s'", s->base->node_name) : g_strdup("null");
    g_autofree char *text = g_strdup_printf(
        "{'driver': 'qcow2', 'node-name': '%s', 'file': '%s', 'backing': %s, 'read-only': %s,"
        " 'discard': '%s'%s}",
        node_name, disk->node_name, backing, read_only ? "true" : "false",
        s->seed % 2 ? "unmap" : "ignore",
        small ? ", 'l2-cache-size': 1024, 'l2-cache-entry-size': 512" : "");
    g_autofree char *json = g_strdelimit(g_steal_pointer(&text), "'", '"');
    g_autoptr(BlockdevOptions) opts = block_test_options("%s", json);

    return bdrv_co_open(opts, errp);
}

bool coroutine_fn qcow2_story_co_open(Qcow2Story *s)
{
    Error *err = NULL;

    s->slow = test_slow_new("slow-disk", s->disk, s->rand, DELAY_NS);
    s->image = qcow2_story_co_open_on(s, "image", s->slow, false, &err);
    if (!s->image) {
        if (!test_cut_is_off(s->disk)) {
            g_error("SEED=%u: the image cannot be opened: %s", s->seed, error_get_pretty(err));
        }
        error_free(err);
        qcow2_story_co_close(s);
        return false;
    }
    s->user =
        block_test_user(s->image, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    return true;
}

void coroutine_fn qcow2_story_co_close(Qcow2Story *s)
{
    if (s->image) {
        block_test_co_user_free(s->user);
        bdrv_co_unref(s->image);
    }
    bdrv_co_unref(s->slow);
    s->image = s->slow = NULL;
}

/* ------------------------------------------------------------------------------------------------ guests */

static int64_t sectors_now(const Qcow2Story *s)
{
    return MIN(s->length, s->next_length) / SECTOR_MODEL_BYTES;
}

static void choose_range(Qcow2Story *s, int64_t *ret_first, int64_t *ret_n)
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
    *ret_n = g_rand_int_range(s->rand, 1, (int32_t)most + 1);
    *ret_first = g_rand_int_range(s->rand, 0, (int32_t)(n - *ret_n) + 1);
    if (g_rand_boolean(s->rand)) { /* where others are, too */
        *ret_first %= MAX(n / 8, 1);
        *ret_n = MIN(*ret_n, n - *ret_first);
    }
}

/* Without power everything may fail; else nothing may, but for a lack of space. */
static int outcome(Qcow2Story *s, const char *what, int ret)
{
    if (ret < 0 && ret != -ENOSPC && !test_cut_is_off(s->disk)) {
        g_error("SEED=%u: a %s failed with %d", s->seed, what, ret);
    }
    return ret;
}

static void coroutine_fn one_write(Qcow2Story *s)
{
    bool fua = g_rand_int_range(s->rand, 0, 10) == 0 && !(s->wants & QCOW2_STORY_NO_FLUSH);
    g_autofree uint8_t *buf = NULL;
    SectorModelOp op;
    int64_t first, n;
    int ret;

    choose_range(s, &first, &n);
    buf = g_malloc(n * SECTOR_MODEL_BYTES);
    sector_model_write_begin(s->model, SECTOR_MODEL_WRITE, first, n, &op);
    sector_model_fill(buf, op.id, first, n);
    ret = bdrv_co_pwrite(s->user, first * SECTOR_MODEL_BYTES, n * SECTOR_MODEL_BYTES, buf,
                         fua ? BDRV_REQ_FUA : 0);
    sector_model_write_end(s->model, &op, outcome(s, "write", ret), fua);
}

static void coroutine_fn one_zeroes(Qcow2Story *s, SectorModelKind kind)
{
    BdrvRequestFlags flags = g_rand_boolean(s->rand) ? BDRV_REQ_MAY_UNMAP : 0;
    int64_t first, n, offset, bytes, per = s->cluster_size / SECTOR_MODEL_BYTES;
    SectorModelOp op;
    int ret;

    if (kind == SECTOR_MODEL_DISCARD && s->version == 2 && s->base) {
        kind = SECTOR_MODEL_ZEROES; /* what is discarded shows the base again */
    }
    choose_range(s, &first, &n);
    if (g_rand_boolean(s->rand)) { /* whole clusters */
        first = first / per * per;
        n = MIN(ROUND_UP(n, per), sectors_now(s) - first);
    }
    offset = first * SECTOR_MODEL_BYTES;
    bytes = n * SECTOR_MODEL_BYTES;
    sector_model_write_begin(s->model, kind, first, n, &op);
    ret = kind == SECTOR_MODEL_DISCARD ? bdrv_co_pdiscard(s->user, offset, bytes)
                                       : bdrv_co_pwrite_zeroes(s->user, offset, bytes, flags);
    sector_model_write_end(s->model, &op, outcome(s, "write of zeroes", ret), false);
}

static void coroutine_fn one_read(Qcow2Story *s)
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

static void coroutine_fn one_flush(Qcow2Story *s)
{
    uint32_t began = sector_model_flush_begin(s->model);
    int ret = outcome(s, "flush", bdrv_co_flush(s->image));

    sector_model_flush_end(s->model, began, ret);
}

/* What is cut off is as zeroes that were written: a disk that grows again shows them. */
static void coroutine_fn one_resize(Qcow2Story *s)
{
    int64_t all = s->disk_bytes / SECTOR_MODEL_BYTES, now = s->length / SECTOR_MODEL_BYTES;
    int64_t to = g_rand_int_range(s->rand, 1, (int32_t)all + 1);
    SectorModelOp op;
    Error *err = NULL;
    int ret;

    if (s->resizing) {
        return;
    }
    s->resizing = true;
    s->next_length = to * SECTOR_MODEL_BYTES;
    if (to < now) {
        sector_model_write_begin(s->model, SECTOR_MODEL_ZEROES, to, now - to, &op);
    }
    ret = bdrv_co_truncate(s->user, s->next_length, true, PREALLOC_MODE_OFF, 0, &err);
    outcome(s, "change of size", ret);
    error_free(err);
    if (to < now) {
        sector_model_write_end(s->model, &op, ret, true);
    }
    if (ret >= 0) {
        s->length = s->next_length;
    }
    s->resizing = false;
}

static void coroutine_fn one_op(Qcow2Story *s)
{
    int flushes = s->wants & QCOW2_STORY_FLUSH_STORM ? 12 : s->wants & QCOW2_STORY_NO_FLUSH ? 0 : 4;
    int dice =
        g_rand_int_range(s->rand, 0, 14 + flushes + (s->wants & QCOW2_STORY_GIVE_BACK ? 14 : 0));

    if (s->wants & QCOW2_STORY_RESIZE && g_rand_int_range(s->rand, 0, 8) == 0) {
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
    Qcow2Story *s = opaque;

    while (s->ops_left-- > 0 && !test_cut_is_off(s->disk)) {
        one_op(s);
        qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 2 * DELAY_NS));
    }
    s->running--;
}

uint8_t *coroutine_fn qcow2_story_co_read_all(Qcow2Story *s, BdrvChild *user)
{
    uint8_t *buf = g_malloc0(s->disk_bytes);
    int64_t length = bdrv_getlength(user->bs);

    g_assert_cmpint(length, <=, s->disk_bytes);
    if (bdrv_co_pread(user, 0, length, buf, 0) < 0) {
        g_free(buf);
        return NULL;
    }
    return buf;
}

/* With nothing in flight what is read is what will be read. */
static void coroutine_fn look_around(Qcow2Story *s)
{
    SectorModelRead *read = sector_model_read_begin(s->model, 0, sector_model_sectors(s->model));
    g_autofree uint8_t *buf = qcow2_story_co_read_all(s, s->user);
    int64_t bad;

    if (!buf) {
        outcome(s, "read", -EIO);
        sector_model_read_drop(read);
        return;
    }
    bad = sector_model_read_end(s->model, read, buf);
    if (bad >= 0) {
        g_error("SEED=%u: sector %" PRId64 " is %u", s->seed, bad,
                sector_model_id(buf + bad * SECTOR_MODEL_BYTES, bad));
    }
    sector_model_seen(s->model, buf);
}

void coroutine_fn qcow2_story_co_run(Qcow2Story *s, unsigned ops)
{
    s->ops_left = (int)ops;
    s->running = GUESTS;
    for (int i = 0; i < GUESTS; i++) {
        qemu_coroutine_enter(qemu_coroutine_create(guest_entry, s));
    }
    while (s->running > 0) {
        qemu_co_sleep_ns(1000);
    }
    if (!test_cut_is_off(s->disk)) {
        look_around(s);
    }
}
