/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "qcow2": QEMU's image format, versions 2 and 3.  The chapter is docs/devel/qcow2.rst, which has the rules Q1 to Q14.
 *
 *      guest's request
 *           |
 *           v                          page of an L2 table                host clusters
 *      read.c write.c zero.c --> map.c -----------------> cache/    write.c ----------> alloc/
 *           |                                                |                            |
 *           |  data                                          +-------- commit.c ----------+
 *           v                                                          | flush: data, counts, tables, in an order
 *      file, or data file  <-------------------------------------------+
 *
 * This file: the image's life.  An image that is opened for writing is as it was until its first change (begin.c).
 */
#include <errno.h>
#include <inttypes.h>
#include "aio/aio.h"
#include "block/drivers/drivers.h"
#include "block/drivers/qcow2/check/check.h"
#include "block/drivers/qcow2/compress/compress.h"
#include "block/drivers/qcow2/image/image.h"
#include "block/drivers/qcow2/qcow2-int.h"
#include "block/io/io.h"
#include "block/open/open.h"
#include "util/osdep.h"

AioContext *coroutine_fn qcow2_co_go_home(BlockDriverState *bs)
{
    AioContext *here = qemu_get_current_aio_context();

    if (here != bs->aio_context) {
        aio_co_reschedule_self(bs->aio_context);
    }
    return here;
}

void coroutine_fn qcow2_co_go_back(BlockDriverState *bs, AioContext *there)
{
    if (there != bs->aio_context) {
        aio_co_reschedule_self(there);
    }
}

/* --------------------------------------------------------------------------------------------- open */

/* A data file's name is relative to the image that names it. */
static BdrvChild *coroutine_fn open_named_data_file(BlockDriverState *bs, const char *name,
                                                    Error **errp)
{
    g_autofree char *path = bdrv_path_beside(bs->filename, name);
    BdrvOpenFileArgs args = {
        .filename = path,
        .format = "raw",
        .read_only = bs->read_only,
        .cache_direct = bs->open_flags & BDRV_O_NOCACHE,
        .cache_no_flush = bs->open_flags & BDRV_O_NO_FLUSH,
        .discard_unmap = true,
        .force_share = bs->force_share,
    };
    BlockDriverState *node;
    BdrvChild *child;

    /* Options, or another protocol, could name anything: that is not for who wrote the image to choose. */
    if (strchr(name, ':')) {
        error_setg(errp, "The data file that the qcow2 image names, '%s', is no file name", name);
        return NULL;
    }
    node = bdrv_co_open_named_file(&args, errp);
    if (!node) {
        return NULL;
    }
    child =
        bdrv_open_child(bs, &(BlockdevRef){.type = QTYPE_QSTRING, .u.reference = node->node_name},
                        "data-file", BDRV_CHILD_DATA, errp);
    bdrv_co_unref(node);
    return child;
}

static int coroutine_fn open_data_file(BlockDriverState *bs, const BlockdevOptionsQcow2 *o,
                                       Error **errp)
{
    Qcow2State *s = bs->opaque;

    if (!qcow2_header_has_data_file(&s->header)) {
        if (o->data_file) {
            error_setg(errp, "'data-file' can only be set for images with an external data file");
            return -EINVAL;
        }
        s->data = bs->file;
        return 0;
    }
    if (o->data_file) {
        s->data = bdrv_open_child(bs, o->data_file, "data-file", BDRV_CHILD_DATA, errp);
    } else if (s->header.data_file && s->header.data_file[0]) {
        s->data = open_named_data_file(bs, s->header.data_file, errp);
    } else {
        error_setg(errp, "'data-file' is required for this image");
    }
    return s->data ? 0 : -EINVAL;
}

static int check_writable(const Qcow2Header *h, Error **errp)
{
    if (h->incompatible & QCOW2_INCOMPATIBLE_CORRUPT) {
        error_setg(errp, "qcow2: Image is corrupt; cannot be opened read/write");
        return -EACCES;
    }
    return 0;
}

static int check_header(BlockDriverState *bs, Error **errp)
{
    const Qcow2Header *h = &((Qcow2State *)bs->opaque)->header;

    if (h->crypt_method != QCOW2_CRYPT_NONE && !(bs->open_flags & BDRV_O_CHECK)) {
        error_setg(errp, "The qcow2 image is encrypted, which is not supported");
        return -ENOTSUP;
    }
    return bs->read_only || (bs->open_flags & BDRV_O_CHECK) ? 0 : check_writable(h, errp);
}

static void become_read_only(BlockDriverState *bs)
{
    bs->read_only = true;
    bs->open_flags &= ~BDRV_O_RDWR;
}

/* Nothing is written yet. */
static int coroutine_fn open_image(BlockDriverState *bs, const BlockdevOptionsQcow2 *o,
                                   Error **errp)
{
    Qcow2State *s = bs->opaque;
    AioContext *here;
    int ret;

    if (bs->auto_read_only && bs->file->bs->read_only) {
        become_read_only(bs);
    }
    here = qcow2_co_go_home(bs);
    ret = qcow2_co_load_header(bs->file, bs->open_flags & BDRV_O_CHECK, &s->header, errp);
    qcow2_co_go_back(bs, here);
    if (ret < 0) {
        return ret;
    }
    qcow2_header_geometry(&s->header, &s->g);
    ret = check_header(bs, errp);
    if (ret == 0) {
        ret = open_data_file(bs, o, errp);
    }
    if (ret == 0 && bs->auto_read_only && s->data->bs->read_only) {
        become_read_only(bs);
    }
    if (ret == 0) {
        ret = qcow2_options(s, o, bs->open_flags, &s->options, errp);
    }
    if (ret < 0) {
        return ret;
    }
    s->writable = !bs->read_only;
    here = qcow2_co_go_home(bs);
    ret = qcow2_co_load_l1(s, errp);
    qcow2_co_go_back(bs, here);
    return ret;
}

static int coroutine_fn open_backing(BlockDriverState *bs, const BlockdevOptionsQcow2 *o,
                                     Error **errp)
{
    const Qcow2Header *h = &((Qcow2State *)bs->opaque)->header;

    if (h->backing_file) {
        bs->backing_file = g_strdup(h->backing_file);
        bs->backing_format = g_strdup(h->backing_format);
    }
    return bdrv_open_backing(bs, o->backing, errp);
}

static void init_state(BlockDriverState *bs, Qcow2State *s)
{
    s->bs = bs;
    QTAILQ_INIT(&s->ranges);
    qemu_co_mutex_init(&s->table_lock);
    qemu_co_mutex_init(&s->header_lock);
    s->compress = qcow2_compress_new();
    qemu_co_mutex_init(&s->begin_lock);
    qemu_co_rwlock_init(&s->changing);
    qemu_co_queue_init(&s->commit_queue);
}

static void free_state(Qcow2State *s)
{
    qcow2_cache_delete(s->l2);
    qcow2_cache_delete(s->blocks);
    qcow2_alloc_delete(s->alloc);
    qcow2_guard_end(s);
    g_free(s->l1);
    g_free(s->l1_dirty);
    qcow2_header_clear(&s->header);
    qemu_co_mutex_destroy(&s->table_lock);
    qemu_co_mutex_destroy(&s->header_lock);
    qcow2_compress_delete(s->compress);
    qemu_co_mutex_destroy(&s->begin_lock);
    qemu_co_rwlock_destroy(&s->changing);
    qemu_co_queue_destroy(&s->commit_queue);
}

static int coroutine_fn qcow2_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                      Error **errp)
{
    const BlockdevOptionsQcow2 *o = &opts->u.qcow2;
    Qcow2State *s = bs->opaque;
    int ret;

    if (!bdrv_open_child(bs, o->file, "file", BDRV_CHILD_IMAGE, errp)) {
        return -EINVAL;
    }
    init_state(bs, s);
    ret = open_image(bs, o, errp);
    if (ret == 0 && !(bs->open_flags & BDRV_O_CHECK)) {
        ret = open_backing(bs, o, errp);
    }
    if (ret < 0) {
        free_state(s);
        return ret;
    }
    qcow2_new_l2_cache(s);
    qcow2_clean_start(s);
    return 0;
}

static void coroutine_fn qcow2_co_close(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    AioContext *here;

    qcow2_clean_stop(s);
    here = qcow2_co_go_home(bs);
    s->failed |= bs->given_up; /* its file does not answer: what it has is consistent */
    qcow2_co_settle(s);        /* who wants to know has flushed before */
    qcow2_co_go_back(bs, here);
    free_state(s);
}

/* ------------------------------------------------------------------------------------- limits, permissions */

static void qcow2_refresh_limits(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    /* Of bytes, as clients expect of an image; children with larger blocks pad for themselves. */
    bs->bl.request_alignment = 1;
    bs->bl.pwrite_zeroes_alignment = qcow2_subcluster_size(&s->g);
    bs->bl.pdiscard_alignment = qcow2_cluster_size(&s->g);
    bs->supported_write_flags =
        BDRV_REQ_WRITE_UNCHANGED | (s->g.external_data ? 0 : BDRV_REQ_WRITE_COMPRESSED);
    bs->supported_zero_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE;
}

/* The files are the image's alone while it is written. */
static void qcow2_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role, uint64_t perm,
                             uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    bdrv_default_perms(bs, c, role & BDRV_CHILD_COW ? role : BDRV_CHILD_IMAGE, perm, shared, nperm,
                       nshared);
    if (!(role & BDRV_CHILD_COW) && bs->auto_read_only && c->bs->read_only) {
        *nperm &= ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE); /* so will the image be */
    }
}

/* ------------------------------------------------------------------------------------------- reopen */

typedef struct Reopened {
    Qcow2Options options;
    bool writable;
} Reopened;

static int coroutine_fn qcow2_co_reopen_prepare(BlockDriverState *bs, const BlockdevOptions *opts,
                                                int flags, void **ret_state, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Reopened next = {.writable = flags & BDRV_O_RDWR};
    AioContext *here;
    int ret = qcow2_options(s, &opts->u.qcow2, flags, &next.options, errp);

    if (ret == 0 && next.writable && !s->writable) {
        ret = check_writable(&s->header, errp);
    }
    if (ret < 0) {
        return ret;
    }
    here = qcow2_co_go_home(bs);
    ret = qcow2_co_settle(s);
    qcow2_co_go_back(bs, here);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not bring the qcow2 image up to date");
        return ret;
    }
    *ret_state = g_memdup2(&next, sizeof(next));
    return 0;
}

static void qcow2_reopen_commit(BlockDriverState *bs, void *state)
{
    Qcow2State *s = bs->opaque;
    Reopened *next = state;

    s->options = next->options;
    s->writable = next->writable;
    qcow2_new_l2_cache(s);
    qcow2_clean_start(s);
    g_free(next);
}

static void qcow2_reopen_abort(BlockDriverState *bs, void *state)
{
    g_free(state);
}

/* ---------------------------------------------------------------------------------------------- about */

static int64_t coroutine_fn qcow2_co_getlength(BlockDriverState *bs)
{
    return (int64_t)((Qcow2State *)bs->opaque)->header.size;
}

static int coroutine_fn qcow2_co_get_info(BlockDriverState *bs, BlockDriverInfo *ret_info)
{
    Qcow2State *s = bs->opaque;

    ret_info->cluster_size = qcow2_cluster_size(&s->g);
    ret_info->is_dirty = s->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY;
    return 0;
}

static int qcow2_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return qcow2_header_probe(buf, len);
}

static const BlockDriverLife qcow2_life = {
    .co_open = qcow2_co_open,
    .co_close = qcow2_co_close,
    .refresh_limits = qcow2_refresh_limits,
    .child_perm = qcow2_child_perm,
    .co_reopen_prepare = qcow2_co_reopen_prepare,
    .reopen_commit = qcow2_reopen_commit,
    .reopen_abort = qcow2_reopen_abort,
};

static const BlockDriverData qcow2_data = {
    .co_preadv = qcow2_co_preadv,
    .co_pwritev = qcow2_co_pwritev,
    .co_pwrite_zeroes = qcow2_co_pwrite_zeroes,
    .co_pdiscard = qcow2_co_pdiscard,
    .co_flush = qcow2_co_flush,
    .flushes_children = true,
    .co_truncate = qcow2_co_truncate,
    .co_block_status = qcow2_co_block_status,
    .co_getlength = qcow2_co_getlength,
};

static const BlockDriverImage qcow2_image = {
    .probe = qcow2_probe,
    .co_create = qcow2_co_create,
    .create_options = qcow2_create_options,
    .has_data_file = true,
    .co_get_info = qcow2_co_get_info,
    .co_get_specific_info = qcow2_co_get_specific_info,
    .co_check = qcow2_co_check,
    .co_measure = qcow2_co_measure,
    .co_amend = qcow2_co_amend,
    .amend_options = qcow2_amend_options,
    .co_change_backing_file = qcow2_co_change_backing_file,
};

static BlockDriver bdrv_qcow2 = {
    .format_name = "qcow2",
    .supports_backing = true,
    .supports_compression = true,
    .instance_size = sizeof(Qcow2State),
    .life = &qcow2_life,
    .data = &qcow2_data,
    .image = &qcow2_image,
};

void bdrv_qcow2_register(void)
{
    bdrv_register(&bdrv_qcow2);
}
