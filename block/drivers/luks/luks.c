/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "luks": a disk that is encrypted as LUKS version 1 says.
 *
 *      disk                           0 |===================| length
 *                                       :     encrypted     :
 *      file   0 |--- header, key slots ---|===================|
 *                                    payload_offset
 *
 * or with the header in a file of its own ("header"), and nothing but the disk in "file".
 *
 * What is read and written passes a buffer of ours, so that neither those above see encrypted bytes nor the file
 * gets plain ones.  There are no zeros and no holes: what was never written reads as noise.
 *
 *      image.c    new images, key slots, and what is said of an image      data.c    reads, writes, the length
 */
#include <errno.h>

#include "block/drivers/drivers.h"
#include "block/drivers/luks/luks-int.h"
#include "block/open/open.h"

/* --------------------------------------------------------------------------------------- the header */

/* Key slots are a matter of the main thread, where secrets are; requests are made in the node's home. */
static AioContext *coroutine_fn go_home(BdrvChild *c)
{
    AioContext *home = bdrv_get_aio_context(c->bs), *here = qemu_get_current_aio_context();

    if (home != here) {
        aio_co_reschedule_self(home);
    }
    return here;
}

static void coroutine_fn go_back(AioContext *here)
{
    if (qemu_get_current_aio_context() != here) {
        aio_co_reschedule_self(here);
    }
}

static int coroutine_fn header_read(void *opaque, int64_t offset, void *buf, size_t bytes)
{
    AioContext *here = go_home(opaque);
    int ret = bdrv_co_pread(opaque, offset, (int64_t)bytes, buf, 0);

    go_back(here);
    return ret;
}

static int coroutine_fn header_write(void *opaque, int64_t offset, const void *buf, size_t bytes)
{
    AioContext *here = go_home(opaque);
    int ret = bdrv_co_pwrite(opaque, offset, (int64_t)bytes, buf, 0);

    go_back(here);
    return ret;
}

static int coroutine_fn header_flush(void *opaque)
{
    BdrvChild *c = opaque;
    AioContext *here = go_home(c);
    int ret = bdrv_co_flush(c->bs);

    go_back(here);
    return ret;
}

EncryptionFile luks_header_file(BdrvChild *c)
{
    return (EncryptionFile){
        .co_read = header_read, .co_write = header_write, .co_flush = header_flush, .opaque = c};
}

/* ---------------------------------------------------------------------------------------- open, close */

static int coroutine_fn open_children(BlockDriverState *bs, const BlockdevOptionsLUKS *o,
                                      Error **errp)
{
    LuksState *s = bs->opaque;
    BdrvChildRole role = o->header ? BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY : BDRV_CHILD_IMAGE;
    BdrvChild *file = bdrv_open_child(bs, o->file, "file", role, errp);

    if (!file) {
        return -EINVAL;
    }
    s->header =
        o->header ? bdrv_open_child(bs, o->header, "header", BDRV_CHILD_METADATA, errp) : file;
    return s->header ? 0 : -EINVAL;
}

static int coroutine_fn luks_co_open(BlockDriverState *bs, const BlockdevOptions *opts,
                                     Error **errp)
{
    const BlockdevOptionsLUKS *o = &opts->u.luks;
    LuksState *s = bs->opaque;
    EncryptionOpenArgs args = {.key_secret = o->key_secret,
                               .prefix = "",
                               .no_key = bs->open_flags & BDRV_O_NO_IO,
                               .detached = o->header != NULL,
                               .cancelled = &s->cancelled};
    EncryptionFile file;
    int ret = open_children(bs, o, errp);

    if (ret < 0) {
        return ret;
    }
    file = luks_header_file(s->header);
    s->encryption = encryption_co_open_luks(&file, &args, errp);
    if (!s->encryption) {
        return -EINVAL;
    }
    s->payload_offset = encryption_payload_offset(s->encryption);
    bs->encrypted = true;
    qemu_co_mutex_init(&s->lock);
    qemu_co_queue_init(&s->bounce_queue);
    return 0;
}

static void coroutine_fn luks_co_close(BlockDriverState *bs)
{
    LuksState *s = bs->opaque;

    encryption_free(s->encryption);
    qemu_co_queue_destroy(&s->bounce_queue);
    qemu_co_mutex_destroy(&s->lock);
}

static void luks_cancel_in_flight(BlockDriverState *bs)
{
    LuksState *s = bs->opaque;

    __atomic_store_n(&s->cancelled, true, __ATOMIC_RELAXED);
}

static void luks_refresh_limits(BlockDriverState *bs)
{
    bs->bl.request_alignment = MAX(bs->bl.request_alignment, (uint32_t)BDRV_SECTOR_SIZE);
    bs->bl.max_transfer = LUKS_BOUNCE_BYTES;
    bs->supported_write_flags =
        BDRV_REQ_WRITE_UNCHANGED | (BDRV_REQ_FUA & bs->file->bs->supported_write_flags);
}

/* The key stays what it is: the passphrase has done its work, and is not asked for again. */
static int coroutine_fn luks_co_reopen_prepare(BlockDriverState *bs, const BlockdevOptions *opts,
                                               int flags, void **ret_state, Error **errp)
{
    if (bs->open_flags & BDRV_O_NO_IO) {
        error_setg(errp, "The image was opened without a key");
        return -EACCES;
    }
    return 0;
}

static void luks_reopen_done(BlockDriverState *bs, void *state)
{
}

static int coroutine_fn luks_co_get_info(BlockDriverState *bs, BlockDriverInfo *ret_info)
{
    return bdrv_co_get_info(bs->file->bs, ret_info);
}

static const BlockDriverLife luks_life = {
    .co_open = luks_co_open,
    .co_close = luks_co_close,
    .refresh_limits = luks_refresh_limits,
    .co_reopen_prepare = luks_co_reopen_prepare,
    .reopen_commit = luks_reopen_done,
    .reopen_abort = luks_reopen_done,
    .cancel_in_flight = luks_cancel_in_flight,
};

static const BlockDriverData luks_data = {
    .co_preadv = luks_co_preadv,
    .co_pwritev = luks_co_pwritev,
    .co_getlength = luks_co_getlength,
    .co_truncate = luks_co_truncate,
};

static const BlockDriverImage luks_image = {
    .probe = luks_image_probe,
    .co_create = luks_co_create,
    .create_options = luks_create_options,
    .has_detached_header = true,
    .new_is_noise = true,
    .co_measure = luks_co_measure,
    .co_get_info = luks_co_get_info,
    .co_get_specific_info = luks_co_get_specific_info,
    .co_amend = luks_co_amend,
    .amend_options = luks_amend_options,
};

static BlockDriver bdrv_luks = {
    .format_name = "luks",
    .instance_size = sizeof(LuksState),
    .life = &luks_life,
    .data = &luks_data,
    .image = &luks_image,
};

void bdrv_luks_register(void)
{
    bdrv_register(&bdrv_luks);
}
