/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the file to memory, when an image is opened. */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/image/image.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* What is read to learn how large a cluster is; and a header of most images whole. */
#define FIRST_BYTES (4 * KiB)

void *coroutine_fn qcow2_co_load_table(BdrvChild *file, int64_t offset, int64_t bytes,
                                       int *ret_error)
{
    int64_t length = bdrv_getlength(file->bs), there = MAX(0, MIN(bytes, length - offset));
    uint8_t *buf;
    int ret = 0;

    if (length < 0) {
        *ret_error = (int)length;
        return NULL;
    }
    buf = qemu_try_blockalign(file->bs, MAX(bytes, 1));
    if (!buf) {
        *ret_error = -ENOMEM;
        return NULL;
    }
    memset(buf + there, 0, bytes - there);
    if (there) {
        ret = bdrv_co_pread(file, offset, there, buf, 0);
    }
    if (ret < 0) {
        qemu_vfree(buf);
        *ret_error = ret;
        return NULL;
    }
    return buf;
}

static int coroutine_fn decode_first(BdrvChild *file, int64_t bytes, bool damaged, Qcow2Header *ret,
                                     Error **errp)
{
    int64_t length = bdrv_getlength(file->bs);
    int error;
    uint8_t *buf = qcow2_co_load_table(file, 0, bytes, &error);

    if (!buf) {
        error_setg_errno(errp, -error, "Could not read qcow2 header");
        return error;
    }
    error = damaged ? qcow2_header_decode_damaged(buf, MIN(bytes, length), ret, errp)
                    : qcow2_header_decode(buf, MIN(bytes, length), ret, errp);
    qemu_vfree(buf);
    return error;
}

int coroutine_fn qcow2_co_load_header(BdrvChild *file, bool damaged, Qcow2Header *ret, Error **errp)
{
    int64_t length = bdrv_getlength(file->bs), cluster_size;
    int error;
    uint8_t *buf = qcow2_co_load_table(file, 0, FIRST_BYTES, &error);

    if (!buf) {
        error_setg_errno(errp, -error, "Could not read qcow2 header");
        return error;
    }
    error = qcow2_header_peek(buf, MIN(FIRST_BYTES, length), &cluster_size, errp);
    qemu_vfree(buf);
    return error < 0 ? error : decode_first(file, cluster_size, damaged, ret, errp);
}

int coroutine_fn qcow2_co_load_l1(Qcow2State *s, Error **errp)
{
    const Qcow2Header *h = &s->header;
    int64_t bytes = ROUND_UP((int64_t)h->l1_size * (int64_t)sizeof(uint64_t), BDRV_SECTOR_SIZE);
    int error;
    uint8_t *buf = qcow2_co_load_table(s->bs->file, (int64_t)h->l1_offset, bytes, &error);

    if (!buf) {
        error_setg_errno(errp, -error, "Could not read L1 table");
        return error;
    }
    s->l1_entries = h->l1_size;
    s->l1 = g_new(uint64_t, MAX(h->l1_size, 1u));
    for (uint32_t i = 0; i < h->l1_size; i++) {
        s->l1[i] = ldq_be_p(buf + (size_t)i * sizeof(uint64_t));
    }
    s->l1_dirty = g_new0(unsigned long, bytes / BDRV_SECTOR_SIZE / (8 * sizeof(long)) + 1);
    qemu_vfree(buf);
    return 0;
}

void qcow2_new_l2_cache(Qcow2State *s)
{
    Qcow2CacheConfig config = {
        .file = s->bs->file,
        .page_bytes = s->options.l2_page_bytes,
        .max_pages = s->options.l2_cache_bytes / s->options.l2_page_bytes,
        .shared = !s->writable,
        .make_room = s->writable ? qcow2_co_make_l2_room : NULL,
        .opaque = s,
    };

    qcow2_cache_delete(s->l2);
    s->l2 = qcow2_cache_new(&config);
}
