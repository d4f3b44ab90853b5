/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image.c - new images, their key slots, and what there is to say of them
 *
 *      step                                   power fails after it: the file holds
 *  n1  | the file is empty                    nothing
 *  n2  it has its length, the slots zeros     nothing
 *  n3  | the header (luks-create.c)           the image, or nothing
 */
#include <errno.h>
#include <string.h>

#include "block/backend/backend.h"
#include "block/drivers/luks/luks-int.h"
#include "block/open/open.h"
#include "crypto/luks.h"
#include "qapi/type.h"

int luks_image_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return luks_probe(buf, len) ? 100 : 0;
}

/* ----------------------------------------------------------------------------------------- creation */

typedef struct Creation {
    const BlockdevCreateOptionsLUKS *o;
    BdrvProgress *progress;
    BlockDriverState *file_bs, *header_bs;
    BlockBackend *file,
        *header; /* the same without a header of its own; file NULL: only a header is made */
    int64_t header_bytes;
} Creation;

static int coroutine_fn create_read(void *opaque, int64_t offset, void *buf, size_t bytes)
{
    return blk_co_pread(opaque, offset, (int64_t)bytes, buf, 0);
}

static int coroutine_fn create_write(void *opaque, int64_t offset, const void *buf, size_t bytes)
{
    return blk_co_pwrite(opaque, offset, (int64_t)bytes, buf, 0);
}

static int coroutine_fn create_flush(void *opaque)
{
    return blk_co_flush(opaque);
}

/* The options that the encryption has, which are the first members of ours. */
static const QCryptoBlockCreateOptionsLUKS *encryption_options(const BlockdevCreateOptionsLUKS *o)
{
    return qapi_BlockdevCreateOptionsLUKS_base(o);
}

static int check_options(Creation *c, Error **errp)
{
    const BlockdevCreateOptionsLUKS *o = c->o;

    if (!o->file && !o->header) {
        error_setg(errp, "Either the parameter 'header' or 'file' must be specified");
        return -EINVAL;
    }
    if (!o->file && o->has_preallocation && o->preallocation != PREALLOC_MODE_OFF) {
        error_setg(errp, "Parameter 'preallocation' requires 'file' to be specified for "
                         "formatting LUKS disk");
        return -EINVAL;
    }
    if (o->has_preallocation && o->preallocation == PREALLOC_MODE_METADATA) {
        error_setg(errp, "Unsupported preallocation mode 'metadata'");
        return -ENOTSUP;
    }
    c->header_bytes = encryption_luks_header_bytes(encryption_options(o), "", errp);
    if (c->header_bytes < 0) {
        return c->header_bytes;
    }
    if (o->size > (uint64_t)(BDRV_MAX_LENGTH - c->header_bytes - BDRV_SECTOR_SIZE)) {
        error_setg(errp, "The requested file size is too large");
        return -EFBIG;
    }
    return 0;
}

/* Held for us alone: what others have open is about to be lost. */
static BlockBackend *coroutine_fn take(const BlockdevRef *ref, BlockDriverState **ret_bs,
                                       Error **errp)
{
    BlockBackend *blk;

    *ret_bs = bdrv_co_open_ref(ref, errp);
    if (!*ret_bs) {
        return NULL;
    }
    blk = blk_new(BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, 0);
    blk_set_desc(blk, "image creation");
    if (bdrv_co_try_change_aio_context(*ret_bs, qemu_get_aio_context(), errp) < 0 ||
        blk_insert_bs(blk, *ret_bs, errp) < 0) {
        blk_co_unref(blk);
        return NULL;
    }
    return blk;
}

static int coroutine_fn open_nodes(Creation *c, Error **errp)
{
    if (c->o->file) {
        c->file = take(c->o->file, &c->file_bs, errp);
        if (!c->file) {
            return -EINVAL;
        }
    }
    c->header = c->o->header ? take(c->o->header, &c->header_bs, errp) : c->file;
    return c->header ? 0 : -EINVAL;
}

/* n1, n2; what a server has, and a device, keeps its length. */
static int coroutine_fn make_length(Creation *c, BlockBackend *blk, int64_t length,
                                    PreallocMode prealloc, Error **errp)
{
    int ret = blk_co_truncate(blk, 0, false, PREALLOC_MODE_OFF, 0, NULL);

    if (ret == -ENOTSUP && prealloc == PREALLOC_MODE_OFF && blk_getlength(blk) >= length) {
        return 0;
    }
    return blk_co_truncate(blk, length, false, prealloc, 0, errp);
}

static int coroutine_fn make_files(Creation *c, Error **errp)
{
    int64_t size = ROUND_UP((int64_t)c->o->size, BDRV_SECTOR_SIZE);
    PreallocMode prealloc = c->o->has_preallocation ? c->o->preallocation : PREALLOC_MODE_OFF;
    int ret;

    if (c->header != c->file) {
        ret = make_length(c, c->header, c->header_bytes, PREALLOC_MODE_OFF, errp);
        if (ret == 0 && c->file) {
            ret = make_length(c, c->file, size, prealloc, errp);
        }
    } else {
        ret = make_length(c, c->file, c->header_bytes + size, prealloc, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (bdrv_co_is_zero_fast(blk_bs(c->header), 0, c->header_bytes) != 1) {
        ret = blk_co_pwrite_zeroes(c->header, 0, c->header_bytes, BDRV_REQ_MAY_UNMAP);
    }
    if (ret == 0) {
        ret = blk_co_flush(c->header);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not clear the space of the LUKS header");
    }
    return ret;
}

static void coroutine_fn close_nodes(Creation *c)
{
    if (c->header && c->header != c->file) {
        blk_co_unref(c->header);
    }
    if (c->file) {
        blk_co_unref(c->file);
    }
    bdrv_co_unref(c->header_bs);
    bdrv_co_unref(c->file_bs);
}

int coroutine_fn luks_co_create(const BlockdevCreateOptions *opts, BdrvProgress *progress,
                                Error **errp)
{
    Creation c = {.o = &opts->u.luks, .progress = progress};
    int ret = open_nodes(&c, errp);

    if (ret == 0) {
        ret = check_options(&c, errp);
    }
    if (ret == 0) {
        ret = make_files(&c, errp);
    }
    if (ret == 0) {
        EncryptionFile file = {.co_read = create_read,
                               .co_write = create_write,
                               .co_flush = create_flush,
                               .opaque = c.header};
        EncryptionCreateArgs args = {.opts = encryption_options(c.o),
                                     .prefix = "",
                                     .detached = c.o->header != NULL,
                                     .cancelled = progress ? &progress->cancelled : NULL};

        ret = encryption_co_create_luks(&file, &args, errp);
    }
    close_nodes(&c);
    return ret;
}

BlockMeasureInfo *coroutine_fn luks_co_measure(const BlockdevCreateOptions *opts,
                                               BlockDriverState *in, BdrvProgress *progress,
                                               Error **errp)
{
    const BlockdevCreateOptionsLUKS *o = &opts->u.luks;
    int64_t header = encryption_luks_header_bytes(encryption_options(o), "", errp);
    BlockMeasureInfo *info;

    if (header < 0) {
        return NULL;
    }
    info = g_new0(BlockMeasureInfo, 1);
    info->required = info->fully_allocated = header + ROUND_UP((int64_t)o->size, BDRV_SECTOR_SIZE);
    return info;
}

const BdrvCreateOption luks_create_options[] = {
    {"key-secret", "str", "ID of the secret that provides the keyslot passphrase"},
    {"cipher-alg", "str", "Name of encryption cipher algorithm"},
    {"cipher-mode", "str", "Name of encryption cipher mode"},
    {"ivgen-alg", "str", "Name of IV generator algorithm"},
    {"ivgen-hash-alg", "str", "Name of IV generator hash algorithm"},
    {"hash-alg", "str", "Name of encryption hash algorithm"},
    {"iter-time", "num", "Time to spend in PBKDF in milliseconds"},
    {"detached-header", "bool (on/off)", "Create a detached LUKS header"},
    {"preallocation", "str", "Preallocation mode (allowed values: off, falloc, full)"},
    {NULL, NULL, NULL},
};

/* -------------------------------------------------------------------------------------------- info */

ImageInfoSpecific *coroutine_fn luks_co_get_specific_info(BlockDriverState *bs, Error **errp)
{
    LuksState *s = bs->opaque;
    ImageInfoSpecific *specific = g_new0(ImageInfoSpecific, 1);

    specific->type = IMAGE_INFO_SPECIFIC_KIND_LUKS;
    specific->u.luks.data = encryption_luks_info(s->encryption);
    return specific;
}

/* ------------------------------------------------------------------------------------------- amend */

const BdrvCreateOption luks_amend_options[] = {
    {"iter-time", "num", "Time to spend in PBKDF in milliseconds"},
    {"keyslot", "num", "Select a single keyslot to modify explicitly"},
    {"new-secret", "str", "New secret to set in the matching keyslots. Empty string to erase"},
    {"old-secret", "str", "Select all keyslots that match this password"},
    {"state", "str", "Select new state of affected keyslots (active/inactive)"},
    {NULL, NULL, NULL},
};

int coroutine_fn luks_co_amend(BlockDriverState *bs, json_t *options, bool force,
                               BdrvProgress *progress, Error **errp)
{
    LuksState *s = bs->opaque;
    AioContext *home = qemu_get_current_aio_context(), *main = qemu_get_aio_context();
    EncryptionFile file = luks_header_file(s->header);
    QCryptoBlockAmendOptionsLUKS *o;
    int ret;

    if (bs->read_only) {
        error_setg(errp, "The image is read-only");
        return -EACCES;
    }
    o = qapi_from_keyval(&qapi_type_QCryptoBlockAmendOptionsLUKS, options, errp);
    if (!o) {
        return -EINVAL;
    }
    if (home != main) {
        aio_co_reschedule_self(main);
    }
    ret = encryption_co_amend_luks(s->encryption, &file, o, force,
                                   progress ? &progress->cancelled : &s->cancelled, errp);
    if (home != main) {
        aio_co_reschedule_self(home);
    }
    qapi_free_QCryptoBlockAmendOptionsLUKS(o);
    return ret;
}
