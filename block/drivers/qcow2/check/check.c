/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check of an image, and its repair.
 *
 *      header --> active L1, snapshots' L1s --> L2 tables --> clusters      walk.c
 *             --> snapshot table, bitmaps, LUKS header                      tables.c
 *             --> refcount table --> refcount blocks                        tables.c
 *                                         |
 *      each of these counts what it refers to: Counts (counts.h)
 *                                         |
 *      counts in the file against counts that were found                    compare.c
 *        too high: a leak; too low: an error; nought, or no block: a rebuild          rebuild.c (place.h)
 *      the flags in the tables against the counts                           copied.c
 *
 * Messages are QEMU's, so that who reads them, or a program, finds what is known.  Memory is counts.h's, a table or two,
 * and the L1 and refcount tables, which have limits.
 *
 *   CK1  Without a repair nothing is written.
 *   CK2  An entry that loses its place is durable before counts go down, counts before flags are set, and all of it
 *        before the header says that the image is clean: a repair that is cut short is done again.
 *   CK3  A new refcount structure lies where nothing lies that the header leads to, and is durable before the header
 *        names it; the old one is given back afterwards, as leaks.
 *   CK4  If a table cannot be read, nobody knows what it refers to: then no count goes down, and nothing is placed but
 *        behind the end of the file.
 *   CK5  Entries are mended only in what looks like a table, where no other table is: what an entry that is wrong leads
 *        to may be somebody's data.
 *   CK6  The bits "dirty" and "corrupt" are cleared only when nothing wrong is left.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include "block/drivers/qcow2/check/check-int.h"
#include "block/drivers/qcow2/image/image.h"
#include "block/io/io.h"
#include "util/log.h"
#include "util/osdep.h"

/* -------------------------------------------------------------------------------------------- words */

static void G_GNUC_PRINTF(3, 0) vsay(Check *c, const char *before, const char *fmt, va_list ap)
{
    g_autofree char *text = NULL, *line = NULL;

    if (!c->result->message) {
        return;
    }
    text = g_strdup_vprintf(fmt, ap);
    line = g_strconcat(before, *before && *text != ':' ? " " : "", text, NULL);
    c->result->message(c->result->opaque, line);
}

void qcow2_check_say(Check *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsay(c, "", fmt, ap);
    va_end(ap);
}

bool qcow2_check_found(Check *c, bool mendable, const char *fmt, ...)
{
    bool mend = mendable && (c->fix & BDRV_FIX_ERRORS);
    va_list ap;

    if (mend) {
        c->result->corruptions_fixed++;
    } else {
        c->result->corruptions++;
    }
    va_start(ap, fmt);
    vsay(c, mend ? "Repairing" : "ERROR", fmt, ap);
    va_end(ap);
    return mend;
}

/* --------------------------------------------------------------------------------------------- file */

int coroutine_fn qcow2_check_co_write(Check *c, int64_t offset, int64_t bytes, const void *data)
{
    Qcow2State *s = c->bs->opaque;
    int ret = bdrv_co_pwrite(c->file, offset, bytes, data, 0);

    if (ret < 0) {
        qcow2_check_say(c, "ERROR could not write at offset 0x%" PRIx64 ": %s", offset,
                        g_strerror(-ret));
        c->result->check_errors++;
        return ret;
    }
    if (s->l2) {
        int64_t page = offset & ~(qcow2_cache_page_bytes(s->l2) - 1);

        qcow2_cache_forget(s->l2, page, offset + bytes - page);
    }
    c->unflushed = true;
    return 0;
}

int coroutine_fn qcow2_check_co_flush(Check *c)
{
    int ret = c->unflushed ? bdrv_co_flush(c->file->bs) : 0;

    if (ret < 0) {
        qcow2_check_say(c, "ERROR could not flush: %s", g_strerror(-ret));
        c->result->check_errors++;
        return ret;
    }
    c->unflushed = false;
    return 0;
}

void *coroutine_fn qcow2_check_co_read(Check *c, int64_t offset, int64_t bytes)
{
    int error;
    void *table = qcow2_co_load_table(c->file, offset, bytes, &error);

    if (!table) {
        qcow2_check_say(c, "ERROR could not read a table at offset 0x%" PRIx64 ": %s", offset,
                        g_strerror(-error));
        c->result->check_errors++;
        c->unseen = true;
    }
    return table;
}

bool qcow2_check_is_in_file(Check *c, uint64_t offset, uint64_t bytes)
{
    uint64_t cluster = (uint64_t)qcow2_cluster_size(&c->g);

    /* The last cluster of a file may be a part of one. */
    if (offset >= (uint64_t)c->file_bytes + cluster || bytes > (uint64_t)c->file_bytes + cluster ||
        offset + bytes >= (uint64_t)c->file_bytes + cluster) {
        qcow2_check_say(c,
                        "ERROR: counting reference for region exceeding the end of the file by one "
                        "cluster or more: offset 0x%" PRIx64 " size 0x%" PRIx64,
                        offset, bytes);
        return false;
    }
    return true;
}

bool qcow2_check_count(Check *c, uint64_t offset, uint64_t bytes)
{
    uint64_t first, last;

    if (!bytes) {
        return true;
    }
    if (!qcow2_check_is_in_file(c, offset, bytes)) {
        return false;
    }
    first = offset >> c->g.cluster_bits;
    last = (offset + bytes - 1) >> c->g.cluster_bits;
    for (uint64_t i = first; i <= last; i++) {
        if (!qcow2_counts_add(&c->counts, i)) {
            qcow2_check_say(c,
                            "ERROR: overflow cluster offset=0x%" PRIx64 "\n"
                            "Use qblk-img amend to increase the refcount entry width or qblk-img "
                            "convert to create a clean copy if the image cannot be opened for "
                            "writing",
                            i << c->g.cluster_bits);
            c->result->corruptions++;
        }
    }
    return true;
}

int coroutine_fn qcow2_check_co_store_header(Check *c, Error **errp)
{
    int64_t cluster = qcow2_cluster_size(&c->g);
    uint8_t *buf = qemu_try_blockalign(c->file->bs, cluster);
    int ret = buf ? qcow2_header_encode(&c->header, buf, errp) : -ENOMEM;

    if (ret == 0) {
        ret = bdrv_co_pwrite(c->file, 0, cluster, buf, 0);
        ret = ret < 0 ? ret : bdrv_co_flush(c->file->bs);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not write the qcow2 header");
        }
    }
    qemu_vfree(buf);
    return MIN(ret, 0);
}

/* ------------------------------------------------------------------------------------------- course */

static int coroutine_fn count_references(Check *c)
{
    const Qcow2Header *h = &c->header;
    int ret;

    qcow2_check_count(c, 0, (uint64_t)qcow2_cluster_size(&c->g));
    c->next_host = 0;
    c->result->total_clusters = DIV_ROUND_UP((int64_t)h->size, qcow2_cluster_size(&c->g));
    c->result->allocated_clusters = c->result->fragmented_clusters = 0;
    c->result->compressed_clusters = 0;
    ret = qcow2_check_co_walk(c, h->l1_offset, h->l1_size, true);
    if (ret == 0) {
        ret = qcow2_check_co_snapshots(c);
    }
    if (ret < 0) {
        return ret;
    }
    if (h->has_crypto && !qcow2_check_count(c, h->crypto_offset, h->crypto_bytes)) {
        c->result->corruptions++;
    }
    qcow2_check_co_bitmaps(c);
    qcow2_check_co_refcounts(c);
    return 0;
}

/* As an image whose refcount blocks are good, but for some leaks: those of the structure that was replaced. */
static int coroutine_fn rebuild(Check *c, Error **errp)
{
    BdrvCheckResult *r = c->result;
    int64_t corruptions = r->corruptions, leaks = r->leaks, leaks_fixed = r->leaks_fixed;
    int ret = qcow2_check_co_rebuild(c, errp);

    if (ret < 0) {
        return ret;
    }
    r->corruptions = r->leaks = 0;
    c->rebuild = false;
    qcow2_counts_reset(&c->counts);
    ret = qcow2_check_co_load(c, errp);
    if (ret == 0) {
        ret = count_references(c);
    }
    if (ret == 0) {
        c->fix &= ~(unsigned)BDRV_FIX_ERRORS;
        ret = qcow2_check_co_compare(c);
        c->fix |= BDRV_FIX_ERRORS;
    }
    if (ret < 0) {
        return ret;
    }
    r->corruptions_fixed += MAX(corruptions - r->corruptions, 0);
    r->leaks_fixed = leaks_fixed + MAX(leaks - r->leaks, 0);
    return 0;
}

static int coroutine_fn compare(Check *c, unsigned fix, Error **errp)
{
    BdrvCheckResult before = *c->result;
    int ret;

    c->fix = 0;
    ret = qcow2_check_co_compare(c);
    c->fix = fix;
    if (ret < 0 || !fix ||
        (!c->rebuild && c->result->corruptions == before.corruptions &&
         c->result->leaks == before.leaks)) {
        return ret;
    }
    if (c->rebuild && !(fix & BDRV_FIX_ERRORS)) {
        qcow2_check_say(c, "ERROR need to rebuild refcount structures");
        error_setg(errp, "%s", g_strerror(EIO));
        return -EIO;
    }
    ret = qcow2_check_co_flush(c); /* CK2 */
    if (ret < 0 || c->rebuild) {
        return ret < 0 ? ret : rebuild(c, errp);
    }
    c->result->corruptions = before.corruptions;
    c->result->leaks = before.leaks;
    return qcow2_check_co_compare(c);
}

static int coroutine_fn mark_clean(Check *c, Error **errp)
{
    uint64_t bits = QCOW2_INCOMPATIBLE_DIRTY | QCOW2_INCOMPATIBLE_CORRUPT;
    const BdrvCheckResult *r = c->result;
    int ret = qcow2_check_co_flush(c);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not flush what was repaired");
        return ret;
    }
    if (r->corruptions || r->check_errors || !(c->header.incompatible & bits)) { /* CK6 */
        return 0;
    }
    c->header.incompatible &= ~bits;
    return qcow2_check_co_store_header(c, errp);
}

static int coroutine_fn run(Check *c, Error **errp)
{
    unsigned fix = c->fix;
    uint64_t clusters = DIV_ROUND_UP((uint64_t)c->file_bytes, (uint64_t)qcow2_cluster_size(&c->g));
    int ret = qcow2_counts_init(&c->counts, &c->g, clusters + 1);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "No memory for the counts of %" PRIu64 " clusters", clusters);
        return ret;
    }
    ret = qcow2_check_co_load(c, errp);
    if (ret == 0) {
        ret = count_references(c);
    }
    if (ret == 0 && c->drop_bitmaps) {
        ret = qcow2_check_co_store_header(c, errp); /* CK2 */
    }
    if (ret == 0) {
        ret = compare(c, fix, errp);
    }
    if (ret == 0) {
        ret = qcow2_check_co_flush(c); /* CK2 */
    }
    if (ret == 0) {
        ret = qcow2_check_co_copied(c);
    }
    if (ret == 0 && fix) {
        ret = mark_clean(c, errp);
    }
    return ret;
}

/* Memory is what the file is now. */
static void refresh(Check *c)
{
    Qcow2State *s = c->bs->opaque;

    qcow2_header_clear(&s->header);
    qcow2_header_copy(&c->header, &s->header);
    if (c->l1 && s->l1) {
        memcpy(s->l1, c->l1, MIN(s->l1_entries, c->header.l1_size) * sizeof(uint64_t));
    }
}

static int coroutine_fn check(BlockDriverState *bs, BdrvCheckResult *result, unsigned fix,
                              Error **errp)
{
    Qcow2State *s = bs->opaque;
    g_autofree Check *c = g_new0(Check, 1);
    int ret = 0;

    c->bs = bs;
    c->file = bs->file;
    c->result = result;
    c->fix = fix;
    c->g = s->g;
    qcow2_header_copy(&s->header, &c->header);
    c->file_bytes = bdrv_getlength(c->file->bs);
    if (c->file_bytes < 0) {
        ret = (int)c->file_bytes;
        error_setg_errno(errp, -ret, "Could not ask for the length of the file");
    } else {
        ret = run(c, errp);
    }
    if (ret < 0 && errp && !*errp) {
        error_setg_errno(errp, -ret,
                         ret == -ECANCELED ? "The check was cancelled"
                                           : "The image could not be checked");
    }
    if (fix) {
        refresh(c);
    }
    qcow2_counts_clear(&c->counts);
    qcow2_header_clear(&c->header);
    if (c->blocks) {
        g_hash_table_destroy(c->blocks);
    }
    g_free(c->reftable);
    g_free(c->l1);
    return ret;
}

int coroutine_fn qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *result, unsigned fix,
                                Error **errp)
{
    if (!(bs->open_flags & BDRV_O_CHECK)) {
        error_setg(errp, "Node '%s' is used as a disk, and was not opened to be checked",
                   bdrv_get_node_name(bs));
        return -EBUSY;
    }
    return check(bs, result, fix, errp);
}

static void tell(void *opaque, const char *line)
{
    log_message(LOG_LEVEL_INFO, "%s", line);
}

int coroutine_fn qcow2_co_repair_dirty(Qcow2State *s, Error **errp)
{
    BdrvCheckResult result = {.message = tell};
    int ret = check(s->bs, &result, BDRV_FIX_ERRORS | BDRV_FIX_LEAKS, errp);

    if (ret == 0 && (result.corruptions || result.check_errors)) {
        error_setg(errp, "Could not repair dirty image: %" PRId64 " errors are left",
                   result.corruptions + result.check_errors);
        ret = -EACCES;
    }
    return ret;
}
