/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fvd-image - an FVD image that somebody else has made, or has damaged, in the hands of the real driver
 *
 *      input   | settings | place, length, bytes | place, length, bytes | ...        (or the image itself)
 *                   |             |
 *                   v             v
 *      good image of a shape, patched ──▶ check ──▶ open, read ──▶ open for writing, write, flush ──▶ check
 *                                     └─▶ check and repair ──▶ check
 *
 * The image is in memory, and may grow a little.  What must hold: what is called sound can be opened; who opens it for
 * writing finds what a reader found; what was written and flushed is there when it is opened anew, and the image is
 * sound; so it is after a repair that says so.
 */
#include <assert.h>
#include <stdlib.h>
#include "block/drivers/drivers.h"
#include "block/drivers/fvd/layout/header.h"
#include "block/drivers/fvd/layout/jrecord.h"
#include "block/io/io.h"
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-image.h"
#include "tests/lib/test-ram.h"
#include "util/crc32c.h"
#include "util/osdep.h"

/* An image of a few hundred KiB is all that a mistake needs, and as much again to grow. */
#define IMAGE_MAX   (512 * KiB)
#define CAPACITY    (4 * MiB)
#define BASE_BYTES  (48 * KiB)
#define HEAD_BYTES  4
/* place, length */
#define PATCH_BYTES 5
/* As much as is read in one place, and in how many; what is walked of a disk of 2^62 bytes. */
#define PIECE       (4 * KiB)
#define PLACES      8
#define EXTENTS_MAX 512

/* Settings: the shape of the good image, and how it is used. */
enum {
    WITH_BASE = 1 << 0,
    NO_TABLE = 1 << 1,
    CRASHED = 1 << 2, /* clean_shutdown is 0 */
    RIGHT_SUMS =
        1
        << 3, /* checksums of the journal are made right, so that what is behind them is reached */
    COPY_ON_READ = 1 << 4,
    BLOCK_SUMS = 1 << 5,
    REMAP = 1 << 6,
    WITHOUT_BACKING = 1 << 7,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Input {
    const uint8_t *data;
    size_t size;
    unsigned settings;
    uint32_t places; /* where is read and written */
    uint8_t *image;  /* IMAGE_MAX */
    int64_t bytes;
} Input;

/* -------------------------------------------------------------------------------------------- the image */

static void make_good(Input *in)
{
    FvdImageSpec spec = {
        .size = 96 * KiB,
        .chunk_size = 16 * KiB,
        .block_size = 4 * KiB,
        .journal_size = 8 * KiB,
        .grow_unit = 16 * KiB,
        .base_size = in->settings & WITH_BASE ? BASE_BYTES : 0,
        .base_img = in->settings & WITH_BASE ? "b" : NULL,
        .no_table = in->settings & NO_TABLE,
        .incompatible = (in->settings & BLOCK_SUMS ? FVD_INCOMPATIBLE_BLOCK_SUMS : 0) |
                        (in->settings & REMAP ? FVD_INCOMPATIBLE_REMAP : 0),
    };
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);

    fvd_image_header(&spec, h);
    h->clean_shutdown = !(in->settings & CRASHED);
    h->copy_on_read = !!(in->settings & COPY_ON_READ);
    fvd_header_encode(h, in->image);
    memset(in->image + h->table_offset, 0xff, h->table_offset ? h->table_size : 0);
    in->bytes = h->data_offset + 4 * h->chunk_size;
}

static void patch(Input *in, const uint8_t *data, size_t size)
{
    while (size > PATCH_BYTES) {
        uint32_t place = (lduw_le_p(data) | (uint32_t)data[2] << 16) % IMAGE_MAX;
        size_t len = MIN((size_t)lduw_le_p(data + 3), size - PATCH_BYTES);

        len = MIN(len, (size_t)IMAGE_MAX - place);
        memcpy(in->image + place, data + PATCH_BYTES, len);
        in->bytes = MAX(in->bytes, (int64_t)(place + len));
        data += PATCH_BYTES + len;
        size -= PATCH_BYTES + len;
    }
}

static void make_checksums_right(Input *in)
{
    for (int64_t at = 0; at + FVD_JSECTOR_SIZE <= in->bytes; at += FVD_JSECTOR_SIZE) {
        uint8_t *sector = in->image + at;

        if (ldl_le_p(sector + FVD_JTRAILER_OFFSET) == FVD_JTRAILER_TAG) {
            stl_le_p(sector + FVD_JTRAILER_CRC, 0);
            stl_le_p(sector + FVD_JTRAILER_CRC, crc32c(0, sector, FVD_JSECTOR_SIZE));
        }
    }
}

/* A node of it; the next use needs it unchanged. */
static BlockDriverState *new_file(const Input *in, const char *name)
{
    BlockDriverState *bs = test_ram_new(name, in->bytes);

    test_ram_set_capacity(bs, CAPACITY);
    test_ram_poke(bs, 0, in->image, in->bytes);
    return bs;
}

/* Files that it names are the nodes 'b' and 'd': nothing is opened by a name. NULL: refused, with a reason. */
static BlockDriverState *coroutine_fn open_image(const Input *in, BlockDriverState *file,
                                                 bool read_only, bool check)
{
    g_autofree FvdHeader *h = g_new0(FvdHeader, 1);
    g_autofree uint8_t *buf = g_malloc(FVD_HEADER_REGION);
    g_autofree char *name = NULL;
    bool has_base = false;
    BdrvOpenFileArgs args = {.check = check};
    BlockDriverState *bs;
    Error *err = NULL;

    test_ram_peek(file, 0, buf, FVD_HEADER_REGION);
    if (fvd_header_decode(buf, FVD_HEADER_REGION, h, NULL) == 0) {
        has_base = (h->base_img[0] && !h->base_img_fully_prefetched) ||
                   (fvd_header_has_bitmap(h) && h->base_img_size > 0);
    }
    name = g_strdup_printf(
        "json:{'driver':'fvd','file':'%s','read-only':%s,'backing':%s,'discard':'unmap'%s}",
        file->node_name, read_only ? "true" : "false",
        has_base && !(in->settings & WITHOUT_BACKING) ? "'b'" : "null",
        h->data_file[0] ? ",'data-file':'d'" : "");
    args.filename = name;
    bs = bdrv_co_open_file(&args, &err);
    assert(!bs == !!err);
    error_free(err);
    return bs;
}

/* ------------------------------------------------------------------------------------------------ uses */

static volatile size_t heard;

static void hear(void *opaque, const char *line)
{
    heard += strlen(line);
}

/* Whether there is nothing wrong, not even what could not be looked at. */
static bool coroutine_fn check(const Input *in, BlockDriverState *file, unsigned fix)
{
    BdrvCheckResult r = {.message = hear};
    BlockDriverState *bs = open_image(in, file, fix == 0, true);
    Error *err = NULL;
    BdrvChild *user;
    int ret;

    if (!bs) {
        return false;
    }
    user = block_test_user(bs, BLK_PERM_CONSISTENT_READ |
                                   (fix ? BLK_PERM_WRITE | BLK_PERM_RESIZE : (uint64_t)0));
    ret = bs->drv->image->co_check(bs, &r, fix, &err);
    assert((ret < 0) == !!err);
    error_free(err);
    if (fix == 0) {
        err = NULL;
        bs->drv->image->co_print_journal(bs, hear, NULL, &err);
        error_free(err);
    }
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    return ret == 0 && r.corruptions == 0 && r.check_errors == 0;
}

static int64_t place_of(const Input *in, unsigned i, int64_t length)
{
    uint64_t mixed = (in->places + i) * UINT64_C(0x9e3779b97f4a7c15);

    /* Most near the begin, where a disk of any size has something. */
    return length > PIECE ? (int64_t)(mixed % (uint64_t)(i % 4 ? MIN(length, 128 * KiB) : length))
                          : 0;
}

/* Bytes that could not be read are 0xee; how many bytes. */
static size_t coroutine_fn read_some(const Input *in, BdrvChild *user, int64_t length, uint8_t *buf)
{
    memset(buf, 0xee, PLACES * PIECE);
    for (unsigned i = 0; i < PLACES; i++) {
        int64_t at = place_of(in, i, length);

        if (bdrv_co_pread(user, at, MIN(PIECE, length - at), buf + i * PIECE, 0) < 0) {
            memset(buf + i * PIECE, 0xee, PIECE);
        }
    }
    return PLACES * PIECE;
}

static void coroutine_fn walk(BlockDriverState *bs, int64_t length)
{
    int64_t at = 0, n;

    for (unsigned i = 0; i < EXTENTS_MAX && at < length; i++) {
        int64_t map = 0;
        BlockDriverState *file = NULL;
        int ret = bdrv_co_block_status(bs, at, length - at, &n, &map, &file);

        if (ret < 0) {
            return;
        }
        assert(n > 0 && n <= length - at);
        at += n;
    }
}

/* False: it is refused. */
static bool coroutine_fn use_read_only(const Input *in, uint8_t *seen)
{
    BlockDriverState *file = new_file(in, "f"), *bs = open_image(in, file, true, false);

    if (bs) {
        int64_t length = bdrv_getlength(bs);
        BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);

        read_some(in, user, length, seen);
        walk(bs, length);
        block_test_co_user_free(user);
        bdrv_co_unref(bs);
    }
    bdrv_co_unref(file);
    return bs;
}

/* Whether all was written and flushed. */
static bool coroutine_fn write_some(const Input *in, BdrvChild *user, int64_t length)
{
    g_autofree uint8_t *buf = g_malloc(PIECE);
    int64_t at = place_of(in, 1, length), zeroed = place_of(in, 2, length);
    int64_t given = place_of(in, 3, length);

    memset(buf, 0xa5, PIECE);
    return bdrv_co_pwrite_zeroes(user, zeroed, MIN(PIECE, length - zeroed), 0) == 0 &&
           bdrv_co_pdiscard(user, given, MIN(PIECE, length - given)) == 0 &&
           bdrv_co_pwrite(user, at, MIN(PIECE, length - at), buf, 0) == 0 &&
           bdrv_co_flush(user->bs) == 0;
}

/* @seen: what a reader has seen.  True: used for writing without a fault, and @seen is what is there now. */
static bool coroutine_fn use_for_writing(const Input *in, BlockDriverState *file, uint8_t *seen)
{
    g_autofree uint8_t *now = g_malloc(PLACES * PIECE);
    BlockDriverState *bs = open_image(in, file, false, false);
    bool good = false;

    if (bs) {
        int64_t length = bdrv_getlength(bs);
        BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);

        read_some(in, user, length, now);
        if (memcmp(now, seen, PLACES * PIECE)) {
            abort(); /* who writes finds something else than who reads */
        }
        good = length > 0 && write_some(in, user, length);
        read_some(in, user, length, seen);
        walk(bs, length);
        block_test_co_user_free(user);
        bdrv_co_unref(bs);
    }
    return good;
}

static void coroutine_fn use(const Input *in)
{
    g_autofree uint8_t *seen = g_malloc(PLACES * PIECE), *again = g_malloc(PLACES * PIECE);
    BlockDriverState *file = new_file(in, "f");
    bool sound = check(in, file, 0), opened;

    if (check(in, file, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS) && !check(in, file, 0)) {
        abort(); /* repaired, it was said */
    }
    bdrv_co_unref(file);
    opened = use_read_only(in, seen);
    if (sound && !opened) {
        abort(); /* nothing was wrong with it */
    }
    if (!opened) {
        return;
    }
    file = new_file(in, "f");
    if (use_for_writing(in, file, seen)) {
        BlockDriverState *bs = open_image(in, file, true, false);
        BdrvChild *user;

        if (!bs || (sound && !check(in, file, 0))) {
            abort(); /* what was sound, and used without a fault, is damaged now */
        }
        user = block_test_user(bs, BLK_PERM_CONSISTENT_READ);
        read_some(in, user, bdrv_getlength(bs), again);
        if (memcmp(again, seen, PLACES * PIECE)) {
            abort(); /* what was flushed is not there */
        }
        block_test_co_user_free(user);
        bdrv_co_unref(bs);
    }
    bdrv_co_unref(file);
}

static uint8_t base_bytes[BASE_BYTES];

static void coroutine_fn use_entry(void *opaque)
{
    const Input *in = opaque;
    BlockDriverState *base = test_ram_new("b", BASE_BYTES);
    BlockDriverState *data = test_ram_new("d", IMAGE_MAX);

    test_ram_poke(base, 0, base_bytes, BASE_BYTES);
    test_ram_set_capacity(data, CAPACITY);
    use(in);
    bdrv_co_unref(base);
    bdrv_co_unref(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    Input in = {.data = data, .size = size};

    if (!ready) {
        aio_init(AIO_ENGINE_AUTO, &error_abort);
        bdrv_fvd_register();
        for (int i = 0; i < BASE_BYTES; i++) {
            base_bytes[i] = (uint8_t)(i % 251 + 1);
        }
        ready = true;
    }
    if (size < HEAD_BYTES) {
        return 0;
    }
    in.settings = data[0];
    in.places = data[1];
    in.image = g_malloc0(IMAGE_MAX);
    if (size >= HEAD_BYTES + FVD_HEADER_BYTES) {
        in.bytes = MIN(size - HEAD_BYTES, IMAGE_MAX);
        memcpy(in.image, data + HEAD_BYTES, in.bytes);
    } else {
        make_good(&in);
        patch(&in, data + HEAD_BYTES, size - HEAD_BYTES);
    }
    if (in.settings & RIGHT_SUMS) {
        make_checksums_right(&in);
    }
    aio_run_co(use_entry, &in);
    g_free(in.image);
    return 0;
}
