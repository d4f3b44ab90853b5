/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "fvd": the Fast Virtual Disk format, whose metadata goes through one buffered journal.
 *
 *                       data.c                         map.c
 *      guest's write  ---------------> what is it? --> table, bitmap: what memory knows, what is journaled, what is
 *           |                           |              durable
 *           |    store.c                | a new chunk, a block that was in the base until now
 *           |    chunks, zeros, who     v
 *           |    is where on the disk  FvdJChange ----> journal-buf.c: buffers ----> the journal, half by half
 *           v                                              | flush: group commit        |
 *      data file <-- head and tail copied from the base    | a half is full             v
 *                                                          +-------> checkpoint.c: pages of table and bitmap, epoch
 *
 * Why it is fast: a write that allocates costs its data and some bytes of a record in memory.  A flush writes all records
 * since the last one in one piece, and is one flush of the file.  Table and bitmap are written when half a journal is
 * full, in the background, a page once for all its changes.
 *
 * One write that brings a block into the image, and a flush.  "|" is a flush that must have returned.
 *
 *      step                                            power fails after it: opened again, the image has
 *  t1  | clean_shutdown = 0 (first change only)        what it had
 *  t2  | place of a new chunk zeroed, where needed     what it had; the chunk is free again
 *  t3  data written, with what is copied               what it had
 *  t4  the guest is told                               what it had: nothing was promised
 *  t5  | data flushed                                  what it had; not for records without bits
 *  t6  records written                                 a whole record: the new data; torn or absent: what it had
 *  t7  | flushed; the guest's flush succeeds           the new data
 *  t8  | a checkpoint: pages                           the new data
 *  t9  | and the epoch                                 the new data; the record is void
 *
 * The rules F1 to F10 are those of docs/formats/fvd.rst, "Order of writes"; the files have their own besides: D data.c,
 * ST store.c, SW base/soft.c, J journal-buf.c, MP map.c, R layout/jrecord.h.
 *
 * This file: the image's life.  An image is settled, which means closed cleanly on disk, whenever nothing is under way
 * and it is closed or reopened; it is begun again by the next change.
 */
#include <errno.h>
#include <inttypes.h>
#include "aio/aio.h"
#include "block/drivers/drivers.h"
#include "block/drivers/fvd/fvd-int.h"
#include "block/drivers/fvd/image/image.h"
#include "block/drivers/fvd/storage/command.h"
#include "block/io/io.h"
#include "block/open/open.h"
#include "trace-fvd.h"
#include "util/osdep.h"

/* A journal's buffer: a page at least; more than this is more than a half of a journal of the default size. */
#define JOURNAL_BUFFER_MIN   (4 * KiB)
#define JOURNAL_BUFFER_MAX   (8 * MiB)
/* An hour: longer, and nothing is written without a flush. */
#define JOURNAL_INTERVAL_MAX (3600 * INT64_C(1000))
#define NS_PER_MS            INT64_C(1000000)

/* --------------------------------------------------------------------------------------------- open */

/* Requests to children are made in the node's own AioContext. */
AioContext *coroutine_fn fvd_co_go_home(BlockDriverState *bs)
{
    AioContext *here = qemu_get_current_aio_context();

    if (here != bs->aio_context) {
        aio_co_reschedule_self(bs->aio_context);
    }
    return here;
}

void coroutine_fn fvd_co_go_back(BlockDriverState *bs, AioContext *there)
{
    if (there != bs->aio_context) {
        aio_co_reschedule_self(there);
    }
}

static int journal_options(const BlockdevOptionsFvd *o, int64_t *ret_size, int64_t *ret_ns,
                           Error **errp)
{
    int64_t size = o->has_journal_buffer_size ? o->journal_buffer_size : FVD_DEF_BUF_SIZE;
    int64_t ms =
        o->has_journal_interval ? o->journal_interval : FVD_CLEAN_BUF_PERIOD_NS / NS_PER_MS;

    if (size < JOURNAL_BUFFER_MIN || size > JOURNAL_BUFFER_MAX || !QEMU_IS_ALIGNED(size, 4 * KiB)) {
        error_setg(errp,
                   "journal-buffer-size is %" PRId64
                   ", it must be a multiple of 4096, from %" PRId64 " to %" PRId64,
                   size, (int64_t)JOURNAL_BUFFER_MIN, (int64_t)JOURNAL_BUFFER_MAX);
        return -EINVAL;
    }
    if (ms < 1 || ms > JOURNAL_INTERVAL_MAX) {
        error_setg(errp,
                   "journal-interval is %" PRId64 ", it must be from 1 to %" PRId64 " milliseconds",
                   ms, JOURNAL_INTERVAL_MAX);
        return -EINVAL;
    }
    *ret_size = size;
    *ret_ns = ms * NS_PER_MS;
    return 0;
}

/* The image's own wish is no order: where nothing can be written it is left alone. */
static int copy_on_read_option(const BlockdevOptionsFvd *o, const FvdHeader *h, bool writable,
                               bool *ret_on, Error **errp)
{
    if (o->has_copy_on_read && o->copy_on_read && !writable) {
        error_setg(errp, "'copy-on-read' needs an image that is open for writing");
        return -EINVAL;
    }
    *ret_on = o->has_copy_on_read ? o->copy_on_read : h->copy_on_read != 0;
    return 0;
}

static int coroutine_fn read_header(BlockDriverState *bs, FvdHeader *ret_header, Error **errp)
{
    int64_t length = bdrv_getlength(bs->file->bs);
    uint8_t *buf = qemu_blockalign(bs->file->bs, FVD_HEADER_REGION);
    int ret = length < 0 ? length : 0;

    if (ret == 0) {
        ret = bdrv_co_pread(bs->file, 0, FVD_HEADER_REGION, buf, 0);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the header of the FVD image");
    } else {
        ret = fvd_header_decode(buf, MIN(length, FVD_HEADER_REGION), ret_header, errp);
    }
    if (ret >= 0 && !(bs->open_flags & BDRV_O_CHECK)) {
        ret = fvd_header_check_file(ret_header, length, errp);
    }
    qemu_vfree(buf);
    return ret;
}

/* As the header names it. */
static BdrvChild *coroutine_fn open_named_data_file(BlockDriverState *bs, const FvdHeader *h,
                                                    Error **errp)
{
    g_autofree char *path = bdrv_path_beside(bs->filename, h->data_file);
    BdrvOpenFileArgs args = {
        .filename = path,
        .format = h->data_file_fmt[0] ? h->data_file_fmt : "raw",
        .read_only = bs->read_only,
        .cache_direct = bs->open_flags & BDRV_O_NOCACHE,
        .cache_no_flush = bs->open_flags & BDRV_O_NO_FLUSH,
        .discard_unmap = true,
        .force_share = bs->force_share,
    };
    BlockDriverState *node;
    BdrvChild *child;

    /* Options could name any driver, and any node: that is not for who wrote the image to choose. */
    if (g_str_has_prefix(path, "json:")) {
        error_setg(errp, "The data file that the FVD image names, '%s', is no file name", path);
        return NULL;
    }
    node = bdrv_co_open_named_file(&args, errp);
    if (!node) {
        error_prepend(errp, "Could not open the data file: ");
        return NULL;
    }
    child =
        bdrv_open_child(bs, &(BlockdevRef){.type = QTYPE_QSTRING, .u.reference = node->node_name},
                        "data-file", BDRV_CHILD_DATA, errp);
    bdrv_co_unref(node);
    return child;
}

static int coroutine_fn open_data_file(BlockDriverState *bs, const BlockdevOptionsFvd *o,
                                       Error **errp)
{
    FvdState *s = bs->opaque;

    if (!s->header.data_file[0]) {
        if (o->data_file) {
            error_setg(errp, "'data-file' can only be set for images with an external data file");
            return -EINVAL;
        }
        s->data = bs->file;
        return 0;
    }
    s->data = o->data_file ? bdrv_open_child(bs, o->data_file, "data-file", BDRV_CHILD_DATA, errp)
                           : open_named_data_file(bs, &s->header, errp);
    return s->data ? 0 : -EINVAL;
}

static int coroutine_fn open_base(BlockDriverState *bs, const BlockdevOptionsFvd *o, Error **errp)
{
    FvdState *s = bs->opaque;
    const FvdHeader *h = &s->header;

    if (h->base_img[0] && !h->base_img_fully_prefetched) {
        bs->backing_file = g_strdup(h->base_img);
        bs->backing_format = h->base_img_fmt[0] ? g_strdup(h->base_img_fmt) : NULL;
    } else if (o->backing && o->backing->type != QTYPE_QNULL &&
               (!fvd_header_has_bitmap(h) || h->base_img_size == 0)) {
        error_setg(errp, "The FVD image was made without a backing file and can have none");
        return -EINVAL;
    }
    return bdrv_open_backing(bs, o->backing, errp);
}

/* Nothing but what is written to the disk can change what is on it.  Else the records must fit into the journal. */
static int check_writable(const FvdState *s, Error **errp)
{
    if (s->write_max > 0) {
        return 0;
    }
    if (!fvd_header_has_journal(&s->header)) {
        error_setg(errp, "The FVD image has no journal and can only be opened read-only");
    } else {
        error_setg(errp,
                   "The journal of the FVD image, of %" PRId64
                   " bytes, is too small for blocks of %" PRId64 " and chunks of %" PRId64
                   ": it can only be opened read-only",
                   s->header.journal_size, s->header.block_size, s->header.chunk_size);
    }
    return -ENOTSUP;
}

static void become_read_only(BlockDriverState *bs)
{
    bs->read_only = true;
    bs->open_flags &= ~BDRV_O_RDWR;
}

/* What is in the image's own file; nothing is written yet. */
static int coroutine_fn open_image(BlockDriverState *bs, const BlockdevOptionsFvd *o, Error **errp)
{
    FvdState *s = bs->opaque;
    AioContext *here;
    int ret;

    if (bs->auto_read_only && bs->file->bs->read_only) {
        become_read_only(bs);
    }
    here = fvd_co_go_home(bs);
    ret = read_header(bs, &s->header, errp);
    fvd_co_go_back(bs, here);
    if (ret < 0) {
        return ret;
    }
    ret = open_data_file(bs, o, errp);
    if (ret < 0) {
        return ret;
    }
    if (bs->auto_read_only && s->data->bs->read_only) {
        become_read_only(bs);
    }
    s->local_path = fvd_local_path(s->data->bs);
    ret = fvd_grow_command_new(bs, o->storage_grow_command, s->local_path, &s->grow_command, errp);
    if (ret < 0) {
        return ret;
    }
    if (bs->open_flags & BDRV_O_CHECK) {
        return 0; /* table and bitmap may be damaged: there is no map, and nobody reads the disk */
    }
    here = fvd_co_go_home(bs);
    ret = fvd_co_load(s, errp);
    if (ret >= 0) {
        ret = fvd_co_bitmaps_open(s, errp);
    }
    fvd_co_go_back(bs, here);
    if (ret < 0) {
        return ret;
    }
    s->write_max = fvd_write_max(&s->header, &s->geometry);
    if (!bs->read_only && bs->auto_read_only && s->write_max == 0) {
        become_read_only(bs);
    }
    return bs->read_only ? 0 : check_writable(s, errp);
}

static void free_state(FvdState *s)
{
    fvd_map_delete(s->map);
    s->map = NULL;
    fvd_bitmap_dir_free(s->bitmaps);
    s->bitmaps = NULL;
    qemu_co_mutex_destroy(&s->begin_lock);
    qemu_co_rwlock_destroy(&s->changing);
    qemu_co_mutex_destroy(&s->grow_lock);
    qemu_co_queue_destroy(&s->punched);
    fvd_sums_free(s);
    qemu_co_mutex_destroy(&s->state_lock);
    fvd_grow_command_free(g_steal_pointer(&s->grow_command));
    g_clear_pointer(&s->local_path, g_free);
}

static int coroutine_fn fvd_co_open(BlockDriverState *bs, const BlockdevOptions *opts, Error **errp)
{
    const BlockdevOptionsFvd *o = &opts->u.fvd;
    FvdState *s = bs->opaque;
    AioContext *here;
    int ret = journal_options(o, &s->journal_buffer_size, &s->journal_interval_ns, errp);

    if (ret < 0) {
        return ret;
    }
    s->bs = bs;
    QTAILQ_INIT(&s->ranges);
    QSIMPLEQ_INIT(&s->holes);
    if (!bdrv_open_child(bs, o->file, "file", BDRV_CHILD_IMAGE, errp)) {
        return -EINVAL;
    }
    qemu_co_mutex_init(&s->begin_lock);
    qemu_co_rwlock_init(&s->changing);
    qemu_co_mutex_init(&s->grow_lock);
    qemu_co_queue_init(&s->punched);
    fvd_sums_init(s);
    qemu_co_mutex_init(&s->state_lock);
    ret = open_image(bs, o, errp);
    if (ret == 0) {
        ret = copy_on_read_option(o, &s->header, !bs->read_only, &s->copy_on_read, errp);
    }
    if (ret == 0 && !(bs->open_flags & BDRV_O_CHECK)) {
        ret = open_base(bs, o, errp);
    }
    if (ret == 0 && !bs->read_only && s->recovery_due) {
        here = fvd_co_go_home(bs);
        ret = fvd_co_begin_changes(s, false);
        fvd_co_go_back(bs, here);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not bring the FVD image up to date");
        }
    }
    trace_fvd_open(bs->node_name, s->header.virtual_disk_size, bs->read_only,
                   s->header.clean_shutdown, ret);
    s->writable = !bs->read_only;
    if (ret < 0) {
        free_state(s);
    }
    return ret;
}

static void coroutine_fn fvd_co_close(BlockDriverState *bs)
{
    FvdState *s = bs->opaque;
    AioContext *here = fvd_co_go_home(bs);

    if (bs->given_up && s->journal) {
        fvd_fail(s); /* its file does not answer: what the file says is true, with the journal */
    }
    fvd_co_settle(s, NULL); /* who wants to know has flushed before */
    fvd_co_go_back(bs, here);
    free_state(s);
}

/* What waits for a child's server ends in the child. */
static void fvd_cancel_in_flight(BlockDriverState *bs)
{
    fvd_grow_command_cancel(((FvdState *)bs->opaque)->grow_command);
}

/* ------------------------------------------------------------------------------------- limits, permissions */

static void fvd_refresh_limits(BlockDriverState *bs)
{
    FvdState *s = bs->opaque;

    /*
     * Of bytes, as clients expect of an image; children with larger blocks pad for themselves, and the disk's length
     * need not be a multiple of theirs.
     */
    bs->bl.request_alignment = 1;
    bs->bl.max_transfer = s->write_max;
    bs->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED;
    bs->supported_zero_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
}

/* Both files are the image's alone while it is written. */
static void fvd_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, uint64_t perm,
                           uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    const uint64_t changes = BLK_PERM_WRITE | BLK_PERM_RESIZE;

    bdrv_default_perms(bs, c, role & BDRV_CHILD_COW ? role : BDRV_CHILD_IMAGE, perm, shared, nperm,
                       nshared);
    if (!(role & BDRV_CHILD_COW) && bs->auto_read_only && c->bs->read_only) {
        *nperm &= ~changes; /* the image is going to be read-only, too */
    }
}

/* ------------------------------------------------------------------------------------------- reopen */

typedef struct Reopened {
    int64_t journal_buffer_size, journal_interval_ns;
    bool copy_on_read;
    FvdGrowCommand *grow_command;
} Reopened;

static int coroutine_fn fvd_co_reopen_prepare(BlockDriverState *bs, const BlockdevOptions *opts,
                                              int flags, void **ret_state, Error **errp)
{
    FvdState *s = bs->opaque;
    Reopened next;
    FvdBitmapDir *bitmaps;
    AioContext *here;
    int ret =
        journal_options(&opts->u.fvd, &next.journal_buffer_size, &next.journal_interval_ns, errp);

    if (ret == 0) {
        ret = copy_on_read_option(&opts->u.fvd, &s->header, flags & BDRV_O_RDWR, &next.copy_on_read,
                                  errp);
    }
    if (ret == 0 && (flags & BDRV_O_RDWR)) {
        ret = check_writable(s, errp);
    }
    if (ret < 0) {
        return ret;
    }
    ret = fvd_grow_command_new(bs, opts->u.fvd.storage_grow_command, s->local_path,
                               &next.grow_command, errp);
    if (ret < 0) {
        return ret;
    }
    bitmaps = fvd_bitmaps_gather(s);
    here = fvd_co_go_home(bs);
    ret = fvd_co_settle(s, bitmaps);
    fvd_co_go_back(bs, here);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not bring the FVD image up to date");
        fvd_grow_command_free(next.grow_command);
        return ret;
    }
    fvd_bitmaps_stored(s);
    *ret_state = g_memdup2(&next, sizeof(next));
    return 0;
}

static void fvd_reopen_commit(BlockDriverState *bs, void *state)
{
    FvdState *s = bs->opaque;
    Reopened *next = state;

    s->journal_buffer_size = next->journal_buffer_size;
    s->journal_interval_ns = next->journal_interval_ns;
    s->copy_on_read = next->copy_on_read;
    fvd_grow_command_free(s->grow_command);
    s->grow_command = next->grow_command;
    fvd_bitmaps_reopened(s);
    g_free(next);
}

static void fvd_reopen_abort(BlockDriverState *bs, void *state)
{
    Reopened *next = state;

    fvd_grow_command_free(next->grow_command);
    g_free(next);
}

/* -------------------------------------------------------------------------------------------- quiesce */

static void set_drained(FvdState *s, bool on)
{
    s->drained += on ? 1 : -1;
    if (s->journal) {
        (on ? fvd_journal_drain_begin : fvd_journal_drain_end)(s->journal);
    }
}

static void coroutine_fn drain_begin_entry(void *opaque)
{
    FvdState *s = opaque;

    set_drained(s, true);
    bdrv_dec_in_flight(s->bs);
}

static void coroutine_fn drain_end_entry(void *opaque)
{
    FvdState *s = opaque;

    set_drained(s, false);
    bdrv_dec_in_flight(s->bs);
}

/*
 * The journal is made, and rests, in the home AioContext.  Who goes there later, to close, comes later: those who go to
 * one AioContext arrive in the order in which they went.
 */
static void go_and_set_drained(BlockDriverState *bs, bool on)
{
    if (qemu_get_current_aio_context() == bs->aio_context) {
        set_drained(bs->opaque, on);
        return;
    }
    bdrv_inc_in_flight(bs);
    aio_co_schedule(bs->aio_context,
                    qemu_coroutine_create(on ? drain_begin_entry : drain_end_entry, bs->opaque));
}

static void fvd_drain_begin(BlockDriverState *bs)
{
    go_and_set_drained(bs, true);
}

static void fvd_drain_end(BlockDriverState *bs)
{
    go_and_set_drained(bs, false);
}

/* ---------------------------------------------------------------------------------------------- about */

static int64_t coroutine_fn fvd_co_getlength(BlockDriverState *bs)
{
    return ((FvdState *)bs->opaque)->header.virtual_disk_size;
}

static int coroutine_fn fvd_co_get_info(BlockDriverState *bs, BlockDriverInfo *ret_info)
{
    FvdState *s = bs->opaque;

    ret_info->cluster_size = fvd_header_has_table(&s->header)    ? s->header.chunk_size
                             : fvd_header_has_bitmap(&s->header) ? s->header.block_size
                                                                 : 0;
    ret_info->is_dirty = s->recovery_due;
    return 0;
}

static int fvd_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return fvd_header_probe(buf, len);
}

static const BlockDriverLife fvd_life = {
    .co_open = fvd_co_open,
    .co_close = fvd_co_close,
    .refresh_limits = fvd_refresh_limits,
    .child_perm = fvd_child_perm,
    .co_reopen_prepare = fvd_co_reopen_prepare,
    .reopen_commit = fvd_reopen_commit,
    .reopen_abort = fvd_reopen_abort,
    .drain_begin = fvd_drain_begin,
    .drain_end = fvd_drain_end,
    .cancel_in_flight = fvd_cancel_in_flight,
};

static const BlockDriverData fvd_data = {
    .co_preadv = fvd_co_preadv,
    .co_pwritev = fvd_co_pwritev,
    .co_pwrite_zeroes = fvd_co_pwrite_zeroes,
    .co_pdiscard = fvd_co_pdiscard,
    .co_flush = fvd_co_flush,
    .flushes_children = true,
    .co_block_status = fvd_co_block_status,
    .co_getlength = fvd_co_getlength,
    .co_truncate = fvd_co_truncate,
};

static const BlockDriverImage fvd_image = {
    .probe = fvd_probe,
    .co_create = fvd_co_create,
    .co_measure = fvd_co_measure,
    .create_options = fvd_create_options,
    .has_data_file = true,
    .has_backing_size = true,
    .co_get_info = fvd_co_get_info,
    .co_get_specific_info = fvd_co_get_specific_info,
    .co_check = fvd_co_check,
    .co_amend = fvd_co_amend,
    .amend_options = fvd_amend_options,
    .co_change_backing_file = fvd_co_change_backing_file,
    .co_make_empty = fvd_co_make_empty,
    .co_print_journal = fvd_co_print_journal,
};

static BlockDriver bdrv_fvd = {
    .format_name = "fvd",
    .supports_backing = true,
    .instance_size = sizeof(FvdState),
    .life = &fvd_life,
    .data = &fvd_data,
    .image = &fvd_image,
    .prefetch = &fvd_prefetch,
    .bitmaps = &fvd_bitmaps,
};

void bdrv_fvd_register(void)
{
    bdrv_register(&bdrv_fvd);
}
