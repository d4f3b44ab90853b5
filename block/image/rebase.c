/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rebase: another backing file, and the same disk.
 *
 *     image    | data |         |        |         |       what it has itself does not matter
 *     old      |   x  |  AAAA   |  BBBB  |  0000   |
 *     new      |   y  |  AAAA   |  CCCC  |  0000   |
 *     image    | data |         |  BBBB  |         |       what would change is copied, whole clusters of it
 *
 * IR1  The image is written while the old file is below it: what is around a short write comes from there.
 * IR2  The order is: copied, flushed, and then the image says that its backing file is another (durably).  Before
 *      that the image shows the same as ever, whatever happens; it only has become larger.
 * IR3  Behind its end a backing file shows zeros.  The old one may be shorter than the new one: zeros of the old
 *      are written where the new one has something.
 * IR4  Where no layer of the old chain above a common base has anything, both show that base: nothing is read.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/image/image-int.h"
#include "block/image/info.h"
#include "util/osdep.h"

/* What differs is copied in pieces of the image's clusters; where it has none, of this. */
#define UNIT_DEFAULT (64 * KiB)

/* A backing file: the old one or the new one. */
typedef struct Side {
    struct Rebase *r;
    BlockBackend *blk; /* NULL: there is none, and zeros */
    int64_t length;
    uint8_t *buf;
    bool zero; /* the piece is: not read */
    int64_t offset, bytes;
    int ret;
} Side;

typedef struct Rebase {
    const ImageRebaseArgs *args;
    BlockDriverState *common; /* IR4: of the old chain; NULL: none is known */
    int64_t length, unit;
    ImageTeam team;
    Side old, new;
} Rebase;

/* Is the piece zeros on this side?  Shortens *bytes to what is of one kind. */
static int coroutine_fn learn_zero(Side *s, int64_t offset, int64_t *bytes)
{
    int64_t pnum;
    int status;

    s->zero = !s->blk || offset >= s->length; /* IR3 */
    if (s->zero) {
        return 0;
    }
    *bytes = MIN(*bytes, s->length - offset);
    status = blk_co_block_status_above(s->blk, NULL, offset, *bytes, &pnum, NULL, NULL);
    if (status < 0 || pnum == 0) {
        return status < 0 ? status : -EIO;
    }
    *bytes = MIN(*bytes, pnum);
    s->zero = status & BDRV_BLOCK_ZERO;
    return 0;
}

/* 1: old and new are the same layer there (IR4).  Shortens *bytes. */
static int coroutine_fn is_common(Rebase *r, int64_t offset, int64_t *bytes)
{
    int64_t pnum, length;
    int status;

    if (!r->common || offset >= r->old.length) {
        return 0;
    }
    length = bdrv_getlength(r->common);
    if (length < 0) {
        return (int)length;
    }
    status = blk_co_block_status_above(r->old.blk, r->common, offset,
                                       MIN(*bytes, r->old.length - offset), &pnum, NULL, NULL);
    if (status < 0 || pnum == 0) {
        return status < 0 ? status : -EIO;
    }
    *bytes = MIN(*bytes, pnum);
    return !(status & BDRV_BLOCK_ALLOCATED);
}

static void coroutine_fn read_side(void *opaque)
{
    Side *s = opaque;

    s->ret = blk_co_pread(s->blk, s->offset, s->bytes, s->buf, 0);
    image_team_leave(&s->r->team);
}

static int coroutine_fn read_sides(Rebase *r, int64_t offset, int64_t bytes, Error **errp)
{
    Side *side[] = {&r->old, &r->new};

    for (size_t i = 0; i < ARRAY_SIZE(side); i++) {
        side[i]->ret = 0;
        side[i]->offset = offset;
        side[i]->bytes = bytes;
        if (side[i]->zero) {
            memset(side[i]->buf, 0, bytes);
        } else {
            image_team_start(&r->team, read_side, side[i]);
        }
    }
    image_team_wait(&r->team);
    for (size_t i = 0; i < ARRAY_SIZE(side); i++) {
        if (side[i]->ret < 0) {
            error_setg_errno(errp, -side[i]->ret, "error while reading from %s backing file",
                             i ? "new" : "old");
            return side[i]->ret;
        }
    }
    return 0;
}

/* How far from @pos units are all equal, or all different. */
static int64_t same_kind(const Rebase *r, int64_t offset, int64_t pos, int64_t bytes,
                         bool *ret_differs)
{
    int64_t begin = pos;

    while (pos < bytes) {
        int64_t n = MIN(r->unit - (offset + pos) % r->unit, bytes - pos);
        bool differs = memcmp(r->old.buf + pos, r->new.buf + pos, n) != 0;

        if (pos == begin) {
            *ret_differs = differs;
        } else if (differs != *ret_differs) {
            break;
        }
        pos += n;
    }
    return pos - begin;
}

/* IR1 */
static int coroutine_fn write_run(Rebase *r, int64_t offset, int64_t pos, int64_t bytes)
{
    const uint8_t *buf = r->old.buf + pos;

    if (buffer_is_zero(buf, bytes)) {
        return blk_co_pwrite_zeroes(r->args->image, offset + pos, bytes, 0);
    }
    return blk_co_pwrite(r->args->image, offset + pos, bytes, buf, 0);
}

/* At most a chunk.  Return: how much, or negative errno. */
static int64_t coroutine_fn copy_what_differs(Rebase *r, int64_t offset, int64_t bytes,
                                              Error **errp)
{
    int64_t n = MIN(bytes, IMAGE_CHUNK_BYTES - offset % IMAGE_CHUNK_BYTES), run;
    int ret = read_sides(r, offset, n, errp);

    for (int64_t pos = 0; ret >= 0 && pos < n; pos += run) {
        bool differs = false;

        run = same_kind(r, offset, pos, n, &differs);
        ret = differs ? write_run(r, offset, pos, run) : 0;
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Error while writing to the image at offset %" PRId64,
                             offset + pos);
        }
    }
    return ret < 0 ? ret : n;
}

/* One piece at @offset.  Return: how much is done, or negative errno. */
static int64_t coroutine_fn do_piece(Rebase *r, int64_t offset, Error **errp)
{
    int64_t bytes = r->length - offset, pnum;
    int ret = bdrv_co_is_allocated(blk_bs(r->args->image), offset, bytes, &pnum);

    if (ret >= 0 && pnum == 0) {
        ret = -EIO; /* it has become shorter */
    }
    if (ret == 1) {
        return pnum;
    }
    bytes = MIN(bytes, pnum);
    ret = ret < 0 ? ret : is_common(r, offset, &bytes);
    if (ret == 1) {
        return bytes;
    }
    ret = ret < 0 ? ret : learn_zero(&r->old, offset, &bytes);
    ret = ret < 0 ? ret : learn_zero(&r->new, offset, &bytes);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "error while reading image metadata");
        return ret;
    }
    return r->old.zero && r->new.zero ? bytes : copy_what_differs(r, offset, bytes, errp);
}

static int coroutine_fn copy_all(Rebase *r, Error **errp)
{
    const ImageWatch *watch = &r->args->watch;
    int64_t offset = 0;
    int ret;

    while (offset < r->length) {
        int64_t n;

        if (image_is_cancelled(watch)) {
            return image_cancelled(errp);
        }
        n = do_piece(r, offset, errp);
        if (n < 0) {
            return (int)n;
        }
        offset += n;
        image_progress(watch, offset, r->length);
    }
    if (image_is_cancelled(watch)) {
        return image_cancelled(errp);
    }
    ret = blk_co_flush(r->args->image); /* IR2 */
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush the image");
    }
    return ret;
}

/* Do two nodes show the same file?  One that has no name of a file could be any. */
static bool is_same_file(BlockDriverState *a, BlockDriverState *b)
{
    g_autofree char *name_a = image_name(a), *name_b = image_name(b);

    return a == b || (a->filename[0] && !strcmp(a->filename, b->filename) &&
                      !strcmp(a->drv->format_name, b->drv->format_name) && !strcmp(name_a, name_b));
}

/* IR4: the layer of the old chain that is the new backing file, if one is. */
static BlockDriverState *find_common(BlockDriverState *old, BlockBackend *new_backing)
{
    for (BlockDriverState *bs = old; new_backing && bs; bs = bdrv_backing_chain_next(bs)) {
        if (is_same_file(bs, blk_bs(new_backing))) {
            return bs;
        }
    }
    return NULL;
}

static int prepare_side(Rebase *r, Side *s, Error **errp)
{
    s->r = r;
    s->buf = qemu_try_blockalign(blk_bs(r->args->image), IMAGE_CHUNK_BYTES);
    if (!s->buf) {
        error_setg(errp, "Not enough memory");
        return -ENOMEM;
    }
    s->length = s->blk ? blk_getlength(s->blk) : 0;
    if (s->length < 0) {
        error_setg_errno(errp, (int)-s->length, "Could not get the size of a backing file");
        return (int)s->length;
    }
    return 0;
}

static int coroutine_fn prepare(Rebase *r, Error **errp)
{
    BlockDriverState *bs = blk_bs(r->args->image), *old = bdrv_backing_chain_next(bs);
    BlockDriverInfo info = {0};
    int ret;

    r->length = blk_getlength(r->args->image);
    if (r->length < 0) {
        error_setg_errno(errp, (int)-r->length, "Could not get the size of the image");
        return (int)r->length;
    }
    r->unit = bdrv_co_get_info(bs, &info) >= 0 && info.cluster_size > 0 ? info.cluster_size
                                                                        : UNIT_DEFAULT;
    if (old) {
        r->old.blk = blk_new(BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
        if (blk_insert_bs(r->old.blk, old, errp) < 0) {
            return -EPERM;
        }
    }
    r->new.blk = r->args->new_backing;
    r->common = find_common(old, r->new.blk);
    ret = prepare_side(r, &r->old, errp);
    return ret < 0 ? ret : prepare_side(r, &r->new, errp);
}

static int coroutine_fn keep_contents(const ImageRebaseArgs *args, Error **errp)
{
    Rebase r = {.args = args};
    int ret = prepare(&r, errp);

    if (ret == 0) {
        ret = copy_all(&r, errp);
    }
    qemu_vfree(r.old.buf);
    qemu_vfree(r.new.buf);
    if (r.old.blk) {
        blk_co_remove_bs(r.old.blk);
        blk_co_unref(r.old.blk);
    }
    return ret;
}

int coroutine_fn image_co_rebase(const ImageRebaseArgs *args, Error **errp)
{
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(args->image));
    int ret = 0;

    /* Found out before anything is copied. */
    if (!bs->drv->image || !bs->drv->image->co_change_backing_file) {
        error_setg(errp, "Could not change the backing file to '%s': Operation not supported",
                   args->backing_file ? args->backing_file : "");
        return -ENOTSUP;
    }
    if (!args->unsafe) {
        ret = keep_contents(args, errp);
    }
    if (ret == 0) {
        ERRP_GUARD();
        bdrv_inc_in_flight(bs);
        ret = bs->drv->image->co_change_backing_file(bs, args->backing_file, args->backing_format,
                                                     errp);
        bdrv_dec_in_flight(bs);
        if (ret < 0) {
            error_prepend(errp, "Could not change the backing file to '%s': ",
                          args->backing_file ? args->backing_file : "");
        }
    }
    return ret;
}
