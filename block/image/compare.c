/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compare: do two images show the same to a guest?
 *
 *     a   | data      | zeros        | data |              pieces end where either answer ends
 *     b   | data  | zeros | data     | data | data |
 *          both    a      b's data    both    the rest of
 *          read    read   read        read    the longer one: read
 *
 * What both know to be zeros is not read, so that two sparse images of terabytes are compared by their data.
 *
 * IC1  A range of zeros is compared as such only where the answer says "zeros".  "Not allocated" is no
 *      content: the chain below has been asked too.
 * IC2  What both have comes first, then the length, then the rest of the longer one: an early difference is
 *      reported as what it is, and a warning about lengths is not lost behind it.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/image/image-int.h"
#include "util/osdep.h"

/* What strict compares of a block status: "sector allocation", not where it lies. */
#define STRICT_STATUS (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED)

typedef struct Side {
    struct Compare *c;
    BlockBackend *blk;
    int64_t length;
    uint8_t *buf;
    /* The range whose status is known. */
    int64_t known_until;
    int status;
    /* A read of both sides at once. */
    int64_t offset, bytes;
    int ret;
} Side;

typedef struct Compare {
    const ImageCompareArgs *args;
    ImageCompareResult *result;
    ImageTeam team;
    Side side[2];
    int64_t total; /* of the longer one */
} Compare;

/* The status of @s at @offset, which stays good up to s->known_until. */
static int coroutine_fn learn_status(Compare *c, Side *s, int64_t offset, Error **errp)
{
    int64_t pnum;

    if (offset < s->known_until) {
        return 0;
    }
    s->status =
        blk_co_block_status_above(s->blk, NULL, offset, s->length - offset, &pnum, NULL, NULL);
    if (s->status >= 0 && pnum == 0) {
        s->status = -EIO; /* it has become shorter */
    }
    if (s->status < 0) {
        c->result->failed_image = s - c->side;
        c->result->failed_at = offset;
        c->result->status_failed = true;
        error_setg_errno(errp, -s->status, "Sector allocation test failed at offset %" PRId64,
                         offset);
        return s->status;
    }
    s->known_until = offset + pnum;
    return 0;
}

static void coroutine_fn read_side(void *opaque)
{
    Side *s = opaque;

    s->ret = blk_co_pread(s->blk, s->offset, s->bytes, s->buf, 0);
    image_team_leave(&s->c->team);
}

/* Reads the sides of @mask, at once. */
static int coroutine_fn read_sides(Compare *c, unsigned mask, int64_t offset, int64_t bytes,
                                   Error **errp)
{
    for (int i = 0; i < 2; i++) {
        c->side[i].ret = 0;
        if (mask & 1 << i) {
            c->side[i].offset = offset;
            c->side[i].bytes = bytes;
            image_team_start(&c->team, read_side, &c->side[i]);
        }
    }
    image_team_wait(&c->team);
    for (int i = 0; i < 2; i++) {
        if (c->side[i].ret < 0) {
            c->result->failed_image = i;
            c->result->failed_at = offset;
            error_setg_errno(errp, -c->side[i].ret, "Error while reading offset %" PRId64, offset);
            return c->side[i].ret;
        }
    }
    return 0;
}

static void differs(Compare *c, ImageDifference difference, int64_t offset)
{
    c->result->difference = difference;
    c->result->offset = offset;
}

/*
 * Reads a piece from the sides of @mask; a side that is not read has zeros.  At most a chunk of it.
 * Return: how much was compared, or negative errno.
 */
static int64_t coroutine_fn compare_by_reading(Compare *c, unsigned mask, int64_t offset,
                                               int64_t bytes, Error **errp)
{
    int64_t n = MIN(bytes, IMAGE_CHUNK_BYTES), same;
    int ret = read_sides(c, mask, offset, n, errp);

    if (ret < 0) {
        return ret;
    }
    same = mask == 3   ? image_equal_bytes(c->side[0].buf, c->side[1].buf, n)
           : mask == 1 ? image_zero_bytes(c->side[0].buf, n)
                       : image_zero_bytes(c->side[1].buf, n);
    if (same < n) {
        differs(c, IMAGE_CONTENT_DIFFERS, offset + same);
    }
    return n;
}

static bool goes_on(Compare *c, int64_t offset, int64_t end)
{
    image_progress(&c->args->watch, offset, c->total);
    return c->result->difference == IMAGE_IDENTICAL && offset < end &&
           !image_is_cancelled(&c->args->watch);
}

/* IC1 */
static int coroutine_fn compare_common(Compare *c, int64_t end, Error **errp)
{
    Side *a = &c->side[0], *b = &c->side[1];
    int64_t offset = 0, n;

    while (goes_on(c, offset, end)) {
        int ret = learn_status(c, a, offset, errp);

        ret = ret < 0 ? ret : learn_status(c, b, offset, errp);
        if (ret < 0) {
            return ret;
        }
        if (c->args->strict && (a->status & STRICT_STATUS) != (b->status & STRICT_STATUS)) {
            differs(c, IMAGE_STATUS_DIFFERS, offset);
            break;
        }
        unsigned mask =
            (a->status & BDRV_BLOCK_ZERO ? 0 : 1) | (b->status & BDRV_BLOCK_ZERO ? 0 : 2);

        n = MIN(MIN(a->known_until, b->known_until), end) - offset;
        if (mask) {
            n = compare_by_reading(c, mask, offset, n, errp);
        }
        if (n < 0) {
            return n;
        }
        offset += n;
    }
    return 0;
}

/* The rest of the longer one must be zeros. */
static int coroutine_fn compare_rest(Compare *c, int64_t offset, Error **errp)
{
    int i = c->side[0].length > c->side[1].length ? 0 : 1;
    Side *s = &c->side[i];

    while (goes_on(c, offset, s->length)) {
        int64_t n = learn_status(c, s, offset, errp);

        if (n == 0) {
            n = s->known_until - offset;
            if (!(s->status & BDRV_BLOCK_ZERO)) {
                n = compare_by_reading(c, 1 << i, offset, n, errp);
            }
        }
        if (n < 0) {
            return n;
        }
        offset += n;
    }
    return 0;
}

static int coroutine_fn compare_images(Compare *c, Error **errp)
{
    const ImageCompareArgs *args = c->args;
    int64_t common = MIN(c->side[0].length, c->side[1].length);
    int ret;

    c->total = MAX(c->side[0].length, c->side[1].length);
    if (args->strict && common != c->total) {
        c->result->difference = IMAGE_SIZES_DIFFER;
        return 0;
    }
    ret = compare_common(c, common, errp); /* IC2 */
    if (ret == 0 && c->result->difference == IMAGE_IDENTICAL && common != c->total &&
        !image_is_cancelled(&args->watch)) {
        c->result->other_size = true;
        ret = compare_rest(c, common, errp);
    }
    if (ret == 0 && c->result->difference == IMAGE_IDENTICAL && image_is_cancelled(&args->watch)) {
        ret = image_cancelled(errp);
    }
    return ret;
}

static int prepare(Compare *c, Error **errp)
{
    for (int i = 0; i < 2; i++) {
        Side *s = &c->side[i];

        s->c = c;
        s->blk = c->args->image[i];
        s->length = blk_getlength(s->blk);
        if (s->length < 0) {
            c->result->failed_image = i;
            error_setg_errno(errp, -s->length, "Can't get size");
            return s->length;
        }
        s->buf = qemu_try_blockalign(blk_bs(s->blk), IMAGE_CHUNK_BYTES);
        if (!s->buf) {
            error_setg(errp, "Not enough memory");
            return -ENOMEM;
        }
    }
    return 0;
}

int coroutine_fn image_co_compare(const ImageCompareArgs *args, ImageCompareResult *result,
                                  Error **errp)
{
    Compare c = {.args = args, .result = result};
    int ret;

    *result = (ImageCompareResult){.failed_image = -1};
    ret = prepare(&c, errp);
    if (ret == 0) {
        ret = compare_images(&c, errp);
    }
    qemu_vfree(c.side[0].buf);
    qemu_vfree(c.side[1].buf);
    return ret;
}
