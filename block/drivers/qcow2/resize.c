/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk of another size; nobody else changes anything meanwhile.
 *
 *      larger      a larger L1 table elsewhere, if need be: written, durable, then named by the header (Q3, Q7)
 *      smaller     clusters and tables behind the new end are given back, the header says the size
 */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/image/image.h"
#include "block/drivers/qcow2/qcow2-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

#define L1_PIECE_BYTES 512

typedef struct NewSize {
    uint64_t size;
    uint64_t l1_offset;
    uint32_t l1_size;
} NewSize;

static void set_size(Qcow2Header *next, const void *opaque)
{
    const NewSize *z = opaque;

    next->size = z->size;
    next->l1_offset = z->l1_offset;
    next->l1_size = z->l1_size;
}

static int check_size(const Qcow2State *s, int64_t size, Error **errp)
{
    if (size % BDRV_SECTOR_SIZE) {
        error_setg(errp, "The new size must be a multiple of %" PRId64, BDRV_SECTOR_SIZE);
        return -EINVAL;
    }
    if (size > INT64_MAX - qcow2_l2_span(&s->g) ||
        qcow2_l1_entries(&s->g, (uint64_t)size) > QCOW2_L1_BYTES_MAX / sizeof(uint64_t)) {
        error_setg(errp, "The image size is too large (try using a larger cluster size)");
        return -EFBIG;
    }
    if (s->header.nb_snapshots) {
        error_setg(errp, "Can't resize an image which has snapshots");
        return -ENOTSUP;
    }
    if (s->header.has_bitmaps) {
        error_setg(errp, "Can't resize an image which has persistent bitmaps");
        return -ENOTSUP;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------- larger */

static int64_t l1_bytes(uint32_t entries)
{
    return ROUND_UP((int64_t)entries * (int64_t)sizeof(uint64_t), L1_PIECE_BYTES);
}

static int64_t l1_clusters(const Qcow2State *s, uint32_t entries)
{
    return qcow2_cluster_end(&s->g, l1_bytes(entries)) >> s->g.cluster_bits;
}

static int coroutine_fn write_l1(Qcow2State *s, int64_t offset, const uint64_t *l1,
                                 uint32_t entries)
{
    int64_t bytes = (int64_t)(l1_clusters(s, entries) << s->g.cluster_bits);
    uint8_t *buf = qemu_try_blockalign(s->bs->file->bs, bytes);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, bytes);
    for (uint32_t i = 0; i < entries; i++) {
        stq_be_p(buf + (size_t)i * sizeof(uint64_t), l1[i]);
    }
    ret = bdrv_co_pwrite(s->bs->file, offset, bytes, buf, 0);
    qemu_vfree(buf);
    return ret;
}

static void use_l1(Qcow2State *s, uint64_t *l1, uint32_t entries)
{
    g_free(s->l1);
    g_free(s->l1_dirty);
    s->l1 = l1;
    s->l1_entries = entries;
    s->l1_dirty =
        g_new0(unsigned long, l1_bytes(entries) / L1_PIECE_BYTES / (8 * sizeof(long)) + 1);
    s->l1_is_dirty = false;
}

/* A table with room for @entries, with what is in memory; all that it names is durable. */
static int coroutine_fn grow_l1(Qcow2State *s, NewSize *z)
{
    uint32_t entries = z->l1_size;
    int64_t old_clusters = l1_clusters(s, s->l1_entries);
    uint64_t *l1 = g_new0(uint64_t, entries);
    uint64_t old = s->header.l1_offset;
    Qcow2Run run;
    int ret;

    memcpy(l1, s->l1, s->l1_entries * sizeof(uint64_t));
    ret = qcow2_co_take_all(s->alloc, l1_clusters(s, entries), &run);
    if (ret == 0) {
        z->l1_offset = (uint64_t)run.offset;
        ret = write_l1(s, run.offset, l1, entries);
    }
    if (ret == 0) {
        s->unordered = true;
        qcow2_alloc_set_unstable(s->alloc);
        ret = qcow2_co_commit(s);
    }
    if (ret == 0) {
        ret = qcow2_co_write_blocks(s); /* Q1: also where no table was dirty */
    }
    if (ret == 0) {
        ret = bdrv_co_flush(s->bs->file->bs);
    }
    if (ret == 0) {
        ret = qcow2_co_change_header(s, set_size, z);
    }
    if (ret < 0) {
        g_free(l1);
        return ret;
    }
    if (s->l1_entries) {
        qcow2_give_back(s->alloc, (int64_t)old, old_clusters, s->options.discard_other);
    }
    use_l1(s, l1, entries);
    return 0;
}

/* What the backing file has behind the old end is not to be seen: zeros, before the header says the new size. */
static int coroutine_fn hide_backing(Qcow2State *s, int64_t size)
{
    int64_t old = (int64_t)s->header.size;
    int64_t backing = qcow2_has_backing(s) ? bdrv_getlength(s->bs->backing->bs) : 0;
    int ret;

    if (backing < 0) {
        return (int)backing;
    }
    if (backing <= old) {
        return 0;
    }
    ret = qcow2_co_make_zeros(s, old, MIN(size, backing) - old);
    return ret == 0 ? qcow2_co_commit(s) : ret;
}

/* The file of the data, which has the disk's length at least. */
static int coroutine_fn grow_data_file(Qcow2State *s, int64_t size, PreallocMode prealloc,
                                       Error **errp)
{
    PreallocMode mode = prealloc == PREALLOC_MODE_METADATA ? PREALLOC_MODE_OFF : prealloc;

    if (s->data == s->bs->file || bdrv_getlength(s->data->bs) >= size) {
        return 0;
    }
    return bdrv_co_truncate(s->data, size, false, mode, 0, errp);
}

static int coroutine_fn grow(Qcow2State *s, int64_t size, PreallocMode prealloc, Error **errp)
{
    NewSize z = {
        .size = s->header.size,
        .l1_offset = s->header.l1_offset,
        .l1_size = (uint32_t)MAX((uint64_t)s->l1_entries, qcow2_l1_entries(&s->g, (uint64_t)size)),
    };
    int ret = grow_data_file(s, size, prealloc, errp);

    if (ret < 0) {
        return ret;
    }
    if (z.l1_size > s->l1_entries) {
        ret = grow_l1(s, &z);
    }
    if (ret == 0) {
        ret = hide_backing(s, size);
    }
    if (ret == 0 && prealloc != PREALLOC_MODE_OFF) {
        ret = qcow2_co_preallocate(s, (int64_t)s->header.size, size, prealloc);
        ret = ret == 0 ? qcow2_co_commit(s) : ret;
    }
    if (ret == 0) {
        z.size = (uint64_t)size;
        ret = qcow2_co_change_header(s, set_size, &z);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to grow the image");
    }
    return ret;
}

/* ------------------------------------------------------------------------------------------- smaller */

/* What becomes of entries behind the new end, and of tables of nothing else. */
typedef enum Qcow2Drop {
    QCOW2_DROP_DATA, /* zeros, which hide the backing file */
    QCOW2_DROP_ALL,  /* nothing, and nothing is left of the tables */
} Qcow2Drop;

static void drop_entries(Qcow2State *s, const Qcow2Slot *slot, Qcow2Drop what)
{
    for (uint32_t i = 0; i < slot->n; i++) {
        Qcow2Entry entry = qcow2_slot_get(s, slot, i), next = {0};

        if (what == QCOW2_DROP_DATA) {
            next = qcow2_entry_zero_plain(&s->g);
        }
        if ((entry.word == next.word && entry.subclusters == next.subclusters) ||
            (what == QCOW2_DROP_DATA && !entry.word && !entry.subclusters)) {
            continue;
        }
        qcow2_slot_set(s, slot, i, next);
        if (entry.word && !qcow2_entry_check(&s->g, entry)) {
            qcow2_give_back_entry(s, entry, s->options.discard_request);
        }
    }
}

/* From @at to the end of what one table maps. */
static int coroutine_fn drop_in_table(Qcow2State *s, int64_t at, int64_t end, Qcow2Drop what)
{
    while (at < end) {
        Qcow2Slot slot;
        int ret = qcow2_co_slot(s, at, true, &slot);

        if (ret < 0) {
            return ret;
        }
        drop_entries(s, &slot, what);
        qcow2_cache_put(slot.page);
        at += (int64_t)slot.n << s->g.cluster_bits;
    }
    return 0;
}

/* Nobody reads or writes there. */
static int coroutine_fn drop_behind(Qcow2State *s, int64_t size, Qcow2Drop what)
{
    int64_t span = qcow2_l2_span(&s->g), at = qcow2_cluster_end(&s->g, size);
    uint64_t kept = qcow2_l1_entries(&s->g, (uint64_t)size), index;

    for (; (index = qcow2_l1_index(&s->g, at)) < s->l1_entries; at = (at & ~(span - 1)) + span) {
        int64_t table;
        int ret;

        if (!(s->l1[index] & QCOW2_HOST_OFFSET_MASK)) {
            continue;
        }
        ret = drop_in_table(s, at, (at & ~(span - 1)) + span, what);
        if (ret < 0) {
            return ret;
        }
        table = (int64_t)(s->l1[index] & QCOW2_HOST_OFFSET_MASK);
        if (index >= kept && what == QCOW2_DROP_ALL) {
            qcow2_cache_forget(s->l2, table, qcow2_cluster_size(&s->g));
            qcow2_l1_set(s, (uint32_t)index, 0);
            qcow2_give_back(s->alloc, table, 1, s->options.discard_request);
        }
    }
    return 0;
}

/*
 * What is behind the end is gone durably before the header says so: it must not come back when the disk grows again.  But
 * as long as the header has the old size, the backing file must not show there either: zeros hide it (not in version 2:
 * there the header goes first, and a crash right after it leaves what a larger disk would show again).
 */
static int coroutine_fn shrink_tables(Qcow2State *s, int64_t size)
{
    NewSize z = {
        .size = (uint64_t)size, .l1_offset = s->header.l1_offset, .l1_size = s->l1_entries};
    bool hide = qcow2_has_backing(s);
    int ret = 0;

    if (!hide || s->g.version >= 3) {
        ret = drop_behind(s, size, hide ? QCOW2_DROP_DATA : QCOW2_DROP_ALL);
        if (ret == 0) {
            ret = qcow2_co_commit(s);
        }
    }
    if (ret == 0) {
        ret = qcow2_co_change_header(s, set_size, &z);
    }
    if (ret == 0 && hide) {
        ret = drop_behind(s, size, QCOW2_DROP_ALL);
    }
    return ret;
}

static int coroutine_fn shrink(Qcow2State *s, int64_t size, Error **errp)
{
    int64_t in_last = MIN(qcow2_cluster_end(&s->g, size), (int64_t)s->header.size) - size;
    Qcow2Range r;
    int ret = in_last > 0 ? qcow2_co_make_zeros(s, size, in_last) : 0;

    qcow2_co_range_begin(s, &r, QCOW2_RANGE_FREE, size, INT64_MAX);
    if (ret == 0) {
        ret = shrink_tables(s, size);
    }
    qcow2_range_end(s, &r);
    if (ret == 0 && s->data != s->bs->file) {
        return bdrv_co_truncate(s->data, size, false, PREALLOC_MODE_OFF, 0, errp);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to shrink the image");
    }
    return ret;
}

int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                   PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    Qcow2State *s = bs->opaque;
    int ret = qcow2_co_begin(s, errp);

    if (ret < 0) {
        return ret;
    }
    qemu_co_rwlock_wrlock(&s->changing);
    ret = check_size(s, offset, errp);
    if (ret == 0 && offset > (int64_t)s->header.size) {
        ret = grow(s, offset, prealloc, errp);
    } else if (ret == 0 && prealloc != PREALLOC_MODE_OFF) {
        error_setg(errp, "Preallocation can't be used for shrinking an image");
        ret = -EINVAL;
    } else if (ret == 0 && offset < (int64_t)s->header.size) {
        ret = shrink(s, offset, errp);
    }
    qemu_co_rwlock_unlock(&s->changing);
    return ret;
}
