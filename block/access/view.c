/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The view: a read-only node that shows its source at the instant of an access (rule A3).
 *
 *      [ view ] --"backing"--> [ source ]      read only, as an overlay reads its backing file
 *          +----"scratch"----> [ scratch ]     the stage's, here so that the two move and rest together
 *
 * Nobody makes one but an access: the driver is in no list.  When the access has ended the view answers
 * -EIO to whoever still has it.
 */
#include <errno.h>
#include "block/access/access-int.h"
#include "util/osdep.h"

/* Memory of one read that does not lie on whole units, or whose buffer is in pieces. */
#define VIEW_BOUNCE_BYTES (256 * KiB)

typedef struct ViewState {
    /* Changed quiesced. */
    AccessDisk *disk; /* counted; NULL: the access has ended */
    BdrvChild *source, *scratch;
    /* Fixed. */
    int64_t length;
} ViewState;

/* Everything of a disk is in its home.  Returns where the caller came from, for leave_home(). */
static AioContext *coroutine_fn enter_home(const BlockDriverState *bs)
{
    AioContext *here = qemu_get_current_aio_context(), *home = bs->aio_context;

    if (here != home) {
        aio_co_reschedule_self(home);
    }
    return here;
}

static void coroutine_fn leave_home(AioContext *here)
{
    if (qemu_get_current_aio_context() != here) {
        aio_co_reschedule_self(here);
    }
}

/* Whole units, or up to the end of the disk; beside the disk's users in short pieces, one a turn. */
static int coroutine_fn read_units(AccessDisk *disk, int64_t offset, int64_t bytes, uint8_t *buf)
{
    int ret = 0;

    while (bytes > 0 && ret >= 0) {
        int64_t n = access_turns_piece(disk->turns, bytes), began_ns;

        began_ns = access_turns_co_begin(disk->turns, n, &disk->over);
        if (began_ns < 0) {
            return -EIO;
        }
        ret = stage_co_read(disk->stage, offset, n, buf);
        access_turns_end(disk->turns, n, began_ns);
        offset += n;
        bytes -= n;
        buf += n;
    }
    return disk->over ? -EIO : ret; /* A5, A9 */
}

/* Where in @qiov the next @bytes are, if they are in one piece. */
static void *in_one_piece(const QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    for (int i = 0; i < qiov->niov; i++) {
        size_t len = qiov->iov[i].iov_len;

        if (offset < len) {
            return len - offset >= bytes ? (uint8_t *)qiov->iov[i].iov_base + offset : NULL;
        }
        offset -= len;
    }
    return NULL;
}

static int coroutine_fn read_bounced(AccessDisk *disk, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset)
{
    int64_t unit = stage_unit_bytes(disk->stage), end = offset + bytes;
    int64_t size = MIN(VIEW_BOUNCE_BYTES, QEMU_ALIGN_UP(end, unit) - QEMU_ALIGN_DOWN(offset, unit));
    uint8_t *buf = qemu_try_blockalign(disk->source, size);
    int ret = 0;

    if (!buf) {
        return -ENOMEM;
    }
    while (offset < end && ret >= 0) {
        int64_t start = QEMU_ALIGN_DOWN(offset, unit);
        int64_t stop = MIN(MIN(start + size, QEMU_ALIGN_UP(end, unit)), disk->length);
        int64_t n = MIN(stop, end) - offset;

        ret = read_units(disk, start, stop - start, buf);
        if (ret >= 0) {
            qemu_iovec_from_buf(qiov, qiov_offset, buf + (offset - start), n);
        }
        offset += n;
        qiov_offset += n;
    }
    qemu_vfree(buf);
    return ret;
}

static int coroutine_fn read_at_home(ViewState *s, int64_t offset, int64_t bytes,
                                     QEMUIOVector *qiov, size_t qiov_offset)
{
    AccessDisk *disk = s->disk;
    int64_t unit, inside;
    void *buf;

    if (!disk) {
        return -EIO;
    }
    /* The last block of the disk may reach beyond its end. */
    inside = MAX(MIN(bytes, s->length - offset), 0);
    if (inside < bytes) {
        qemu_iovec_memset(qiov, qiov_offset + inside, 0, bytes - inside);
    }
    if (inside == 0) {
        return 0;
    }
    unit = stage_unit_bytes(disk->stage);
    buf = in_one_piece(qiov, qiov_offset, inside);
    if (buf && offset % unit == 0 && (inside % unit == 0 || offset + inside == s->length)) {
        return read_units(disk, offset, inside, buf);
    }
    return read_bounced(disk, offset, inside, qiov, qiov_offset);
}

static int coroutine_fn view_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    AioContext *here = enter_home(bs);
    int ret = read_at_home(bs->opaque, offset, bytes, qiov, qiov_offset);

    leave_home(here);
    return ret;
}

/* How far clusters from @first on have something captured. */
static int64_t staged_until(const Stage *stage, int64_t first, int64_t end)
{
    while (first < end && stage_next_cluster(stage, first, first + 1) == first) {
        first++;
    }
    return first;
}

static int coroutine_fn status_at_home(ViewState *s, int64_t offset, int64_t bytes, int64_t *pnum)
{
    AccessDisk *disk = s->disk;
    int64_t first = offset / ACCESS_CLUSTER_BYTES, staged;
    int ret;

    if (!disk || disk->over) {
        return -EIO;
    }
    bytes = MIN(bytes, s->length - offset);
    ret = bdrv_co_block_status_above(disk->source, NULL, offset, bytes, pnum, NULL, NULL);
    /* A3: from here on no yield. */
    if (disk->over) { /* A5, A9 */
        return -EIO;
    }
    if (ret < 0) {
        return ret;
    }
    staged =
        stage_next_cluster(disk->stage, first, DIV_ROUND_UP(offset + *pnum, ACCESS_CLUSTER_BYTES));
    if (staged == first) {
        int64_t end = DIV_ROUND_UP(offset + bytes, ACCESS_CLUSTER_BYTES);

        end = staged_until(disk->stage, first, end) * ACCESS_CLUSTER_BYTES;
        *pnum = MIN(end, offset + bytes) - offset;
        return BDRV_BLOCK_DATA;
    }
    if (staged > first) {
        *pnum = MIN(*pnum, staged * ACCESS_CLUSTER_BYTES - offset);
    }
    ret &= BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO;
    return ret ? ret : BDRV_BLOCK_DATA;
}

static int coroutine_fn view_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                             int64_t bytes, int64_t *pnum, int64_t *map,
                                             BlockDriverState **file)
{
    AioContext *here = enter_home(bs);
    int ret = status_at_home(bs->opaque, offset, bytes, pnum);

    leave_home(here);
    return ret;
}

static int64_t coroutine_fn view_co_getlength(BlockDriverState *bs)
{
    ViewState *s = bs->opaque;

    return s->length;
}

static void view_refresh_limits(BlockDriverState *bs)
{
    ViewState *s = bs->opaque;

    bs->bl.request_alignment = s->source ? s->source->bs->bl.request_alignment : 1;
    /* We make requests of our own, and what is below splits them. */
    bs->bl.max_transfer = 0;
    bs->bl.max_iov = 0;
    bs->bl.max_in_flight = ACCESS_READ_REQUESTS;
}

static void view_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, uint64_t perm,
                            uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    if (role & BDRV_CHILD_COW) {
        /* Whether anybody reads the view or not: captures read the source.  Its size the access itself keeps. */
        *nperm = BLK_PERM_CONSISTENT_READ;
        *nshared = BLK_PERM_ALL;
    } else {
        *nperm = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE;
        *nshared = 0;
    }
}

static const BlockDriverLife view_life = {
    .refresh_limits = view_refresh_limits,
    .child_perm = view_child_perm,
};

static const BlockDriverData view_data = {
    .co_preadv = view_co_preadv,
    .co_block_status = view_co_block_status,
    .co_getlength = view_co_getlength,
};

static const BlockDriver bdrv_view = {
    .format_name = "backup-access",
    .instance_size = sizeof(ViewState),
    .life = &view_life,
    .data = &view_data,
};

int coroutine_fn access_view_co_new(AccessDisk *disk, Error **errp)
{
    BlockDriverState *bs = bdrv_new(&bdrv_view, NULL, errp);
    ViewState *s = bs->opaque;

    bs->read_only = true;
    s->length = disk->length;
    s->source = bdrv_attach_child(bs, disk->source, "backing", BDRV_CHILD_COW, errp);
    /* A1: also below the source. */
    if (!s->source || bdrv_child_unshare_below(s->source, BLK_PERM_WRITE, errp) < 0) {
        bdrv_co_unref(bs);
        return -EPERM;
    }
    bdrv_refresh_limits(bs);
    bdrv_co_refresh_total(bs);
    s->disk = g_atomic_rc_box_acquire(disk);
    disk->view = bs;
    return 0;
}

BdrvChild *access_view_source(BlockDriverState *view)
{
    return ((ViewState *)view->opaque)->source;
}

BdrvChild *access_view_add_scratch(BlockDriverState *view, BlockDriverState *scratch, Error **errp)
{
    ViewState *s = view->opaque;

    s->scratch = bdrv_attach_child(view, scratch, "scratch", BDRV_CHILD_DATA, errp);
    return s->scratch;
}

void coroutine_fn access_view_co_detach(BlockDriverState *view)
{
    ViewState *s = view->opaque;
    AccessDisk *disk = s->disk;

    bdrv_co_drained_begin(view);
    s->disk = NULL;
    bdrv_co_unref_child(view, g_steal_pointer(&s->scratch));
    bdrv_co_unref_child(view, g_steal_pointer(&s->source));
    bdrv_co_drained_end(view);
    access_disk_release(disk);
}
