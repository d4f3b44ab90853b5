/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A refcount structure made anew from what was found.
 *
 *      step                               power fails after it: the file has
 *  r1  new blocks, new table              the old structure, as damaged as it was; the new one lies where nothing was
 *  r2  | flushed                          the same
 *  r3  the header                         the old structure, or the new one; the one that is not is counted as leaked
 */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/check/check-int.h"
#include "block/drivers/qcow2/check/place.h"
#include "block/io/io.h"
#include "util/osdep.h"

static int coroutine_fn write_table(Check *c, const Qcow2Placement *p)
{
    int64_t bytes = (int64_t)(p->clusters << c->g.cluster_bits);
    uint8_t *buf = qemu_try_blockalign(c->file->bs, bytes);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, bytes);
    for (uint64_t i = 0; i < p->entries; i++) {
        stq_be_p(buf + i * sizeof(uint64_t), p->table[i]);
    }
    ret = qcow2_check_co_write(c, (int64_t)p->offset, bytes, buf);
    qemu_vfree(buf);
    return ret;
}

static int coroutine_fn write_structure(Check *c, const Qcow2Placement *p)
{
    int64_t cluster = qcow2_cluster_size(&c->g);
    int ret = 0;

    for (uint64_t i = 0; i < p->entries && ret == 0; i++) {
        if (p->table[i]) {
            ret = qcow2_check_co_write(c, (int64_t)p->table[i], cluster,
                                       qcow2_counts_block(&c->counts, i));
        }
    }
    if (ret == 0) {
        ret = write_table(c, p);
    }
    return ret == 0 ? qcow2_check_co_flush(c) : ret; /* CK3 */
}

int coroutine_fn qcow2_check_co_rebuild(Check *c, Error **errp)
{
    uint64_t from = 0;
    Qcow2Placement p = {0};
    int ret = 0;

    qcow2_check_say(c, "Rebuilding refcount structure");
    if (c->unseen) { /* CK4 */
        from = DIV_ROUND_UP((uint64_t)c->file_bytes, (uint64_t)qcow2_cluster_size(&c->g));
        ret = qcow2_check_co_keep_counts(c);
    }
    if (ret == 0) {
        ret = qcow2_place(&c->counts, from, &p);
    }
    if (ret == 0) {
        ret = write_structure(c, &p);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write a new refcount structure");
    } else {
        c->header.reftable_offset = p.offset;
        c->header.reftable_clusters = (uint32_t)p.clusters;
        ret = qcow2_check_co_store_header(c, errp);
    }
    qcow2_placement_clear(&p);
    if (ret == 0) {
        c->file_bytes = MAX(c->file_bytes, bdrv_getlength(c->file->bs));
    }
    return ret;
}
