/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The header, from memory into the file (Q7). */
#include <errno.h>
#include "block/drivers/qcow2/qcow2-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* With the header's lock. */
static int coroutine_fn write_header(Qcow2State *s, const Qcow2Header *h)
{
    int64_t cluster = qcow2_cluster_size(&s->g);
    uint8_t *buf = qemu_try_blockalign(s->bs->file->bs, cluster);
    int ret = buf ? qcow2_header_encode(h, buf, NULL) : -ENOMEM;

    if (ret == 0) {
        ret = bdrv_co_pwrite(s->bs->file, 0, cluster, buf, 0);
    }
    qemu_vfree(buf);
    if (ret == 0) {
        ret = bdrv_co_flush(s->bs->file->bs);
        s->failed |= ret < 0; /* Q10 */
    }
    return MIN(ret, 0);
}

int coroutine_fn qcow2_co_change_header(Qcow2State *s, Qcow2HeaderChange *change,
                                        const void *opaque)
{
    Qcow2Header next;
    int ret;

    qemu_co_mutex_lock(&s->header_lock);
    qcow2_header_copy(&s->header, &next);
    change(&next, opaque);
    ret = write_header(s, &next);
    if (ret == 0) {
        Qcow2Header old = s->header;

        s->header = next;
        next = old;
    }
    qcow2_header_clear(&next);
    qemu_co_mutex_unlock(&s->header_lock);
    return ret;
}
