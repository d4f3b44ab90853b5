/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checkpoint.c - table, bitmap and the state in the header: from the file at open, back into it while it is used
 *
 * What sector 6 says of an image, and who changes it:
 *
 *      clean, the journal is void <------------------------------------+
 *          |                                                           |
 *          | fvd_co_begin_changes(): the first change    fvd_co_settle(): all records durable, all pages
 *          v                                             written, flush (F7); and a recovery, after a replay
 *      not clean, stable_journal_epoch is that of the first filling    |
 *          |    ^                                                      |
 *          |    | a checkpoint: pages, flush, epoch, flush (F5)        |
 *          +----+------------------------------------------------------+
 *
 * Each arrow is one write of one sector, with a flush before it and one after it.  An image that nobody changed stays
 * as it was, whoever had it open; only dirty bitmaps that were changed, though the disk was not, are stored.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/fvd/fvd-int.h"
#include "block/drivers/fvd/layout/replay.h"
#include "block/io/io.h"
#include "trace-fvd.h"
#include "util/osdep.h"

/* Pages that follow each other go out in one write of at most this. */
#define PAGES_AT_ONCE 64
/*
 * Epochs that are left for one session's fillings: a filling is a page at least, and so many pages are 16 TiB of
 * journal.
 */
#define EPOCHS_LEFT   (UINT64_C(1) << 32)

void fvd_fail(FvdState *s)
{
    if (!s->failed) {
        trace_fvd_fail(s->bs->node_name);
    }
    s->failed = true;
    if (s->journal) {
        fvd_journal_fail(s->journal);
    }
}

int coroutine_fn fvd_co_flush_node(FvdState *s, BlockDriverState *bs)
{
    int ret = bdrv_co_flush(bs);

    if (ret < 0) {
        fvd_fail(s);
    }
    return ret;
}

static int coroutine_fn write_state(FvdState *s)
{
    uint8_t *buf = qemu_try_blockalign(s->bs->file->bs, FVD_SECTOR_BYTES);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    fvd_header_encode_sector(&s->header, FVD_SECTOR_STATE, buf);
    ret =
        bdrv_co_pwrite(s->bs->file, FVD_SECTOR_STATE * FVD_SECTOR_BYTES, FVD_SECTOR_BYTES, buf, 0);
    qemu_vfree(buf);
    trace_fvd_write_state(s->bs->node_name, s->header.clean_shutdown,
                          s->header.stable_journal_epoch, ret);
    return ret < 0 ? ret : fvd_co_flush_node(s, s->bs->file->bs);
}

/* Two at once could land in either order, and the older one is not true any more (F5). */
int coroutine_fn fvd_co_write_state(FvdState *s)
{
    int ret;

    qemu_co_mutex_lock(&s->state_lock);
    ret = write_state(s);
    qemu_co_mutex_unlock(&s->state_lock);
    return ret;
}

/* ------------------------------------------------------------------------------------------- pages */

/* Of the run of pages from @page on as many as follow each other in the file, at most PAGES_AT_ONCE. */
static int coroutine_fn write_run(FvdState *s, unsigned half, int64_t page, uint8_t *buf,
                                  int64_t *ret_next)
{
    int64_t at, bytes = fvd_map_copy_page(s->map, half, page, buf, &at), first = page;
    int ret;

    while (bytes == (page - first + 1) * FVD_MAP_PAGE && page - first + 1 < PAGES_AT_ONCE &&
           fvd_map_next_page(s->map, half, page + 1) == page + 1) {
        int64_t next_at, more = fvd_map_copy_page(s->map, half, page + 1, buf + bytes, &next_at);

        if (next_at != at + bytes) {
            fvd_map_mark_page(s->map, half, page + 1); /* the bitmap's first: in the next run */
            break;
        }
        bytes += more;
        page++;
    }
    ret = bdrv_co_pwrite(s->bs->file, at, bytes, buf, 0);
    trace_fvd_write_pages(s->bs->node_name, half, first, at, bytes, ret);
    *ret_next = page + 1;
    return ret;
}

/* What durable records have changed; not flushed.  A failure is for ever, so that nobody needs the marks again. */
static int coroutine_fn write_pages(FvdState *s, unsigned half)
{
    uint8_t *buf = qemu_try_blockalign(s->bs->file->bs, PAGES_AT_ONCE * FVD_MAP_PAGE);
    int64_t page = 0;
    int ret = buf ? 0 : -ENOMEM;

    while (ret >= 0 && (page = fvd_map_next_page(s->map, half, page)) >= 0) {
        ret = write_run(s, half, page, buf, &page);
    }
    qemu_vfree(buf);
    if (ret < 0) {
        fvd_fail(s);
    }
    return ret;
}

/* ----------------------------------------------------------------------------------- the journal's owner */

static int coroutine_fn flush_data(void *opaque)
{
    FvdState *s = opaque;

    return fvd_co_flush_node(s, s->data->bs);
}

static int coroutine_fn flush_files(void *opaque)
{
    return fvd_co_flush_files(opaque);
}

/* F5, F6 */
static int coroutine_fn checkpoint(void *opaque, unsigned half, FvdJTicket upto,
                                   uint64_t stable_epoch)
{
    FvdState *s = opaque;
    int ret = write_pages(s, half);

    if (ret >= 0) {
        ret = fvd_co_flush_node(s, s->bs->file->bs);
    }
    if (ret >= 0) {
        s->header.stable_journal_epoch = stable_epoch;
        ret = fvd_co_write_state(s);
    }
    trace_fvd_checkpoint(s->bs->node_name, half, upto, stable_epoch, ret);
    return ret;
}

static void record_durable(void *opaque, FvdJTicket upto)
{
    FvdState *s = opaque;

    fvd_map_durable(s->map, upto);
    fvd_holes_durable(s, upto);
    fvd_sums_durable(s, upto);
}

static void gather(void *opaque)
{
    fvd_sums_gather(opaque, false);
}

static const FvdJournalOps journal_ops = {
    .co_flush_data = flush_data,
    .co_flush = flush_files,
    .co_checkpoint = checkpoint,
    .record_durable = record_durable,
    .gather = gather,
};

/* ------------------------------------------------------------------------------------ begin and settle */

/*
 * The state, without the bits that say of something in the file that it goes with the disk's contents: these are going
 * to be others.  Also where memory has none of them any more: a write that failed may have left them in the file.
 */
static int coroutine_fn clear_autoclear(FvdState *s)
{
    int ret;

    s->header.autoclear &= s->bitmaps ? FVD_AUTOCLEAR_BITMAPS : 0; /* the epoch says it of these */
    ret = fvd_co_write_state(s);
    if (ret >= 0) {
        s->autoclear_due = false;
    }
    return ret;
}

/*
 * F2, F6: where it was not the power that went, but the process, records and the blocks whose checksums are right may be
 * in the host's memory only.
 */
static int coroutine_fn make_replayed_durable(FvdState *s)
{
    int ret = fvd_co_flush_node(s, s->data->bs);

    return ret < 0 || s->data == s->bs->file ? ret : fvd_co_flush_node(s, s->bs->file->bs);
}

/* All of table and bitmap as memory has it; the journal says nothing any more. */
static int coroutine_fn recover(FvdState *s)
{
    int ret = make_replayed_durable(s);

    for (int64_t page = 0; page < fvd_map_pages(s->map); page++) {
        fvd_map_mark_page(s->map, 0, page);
    }
    ret = ret < 0 ? ret : write_pages(s, 0);
    if (ret >= 0) {
        ret = fvd_co_flush_node(s, s->bs->file->bs);
    }
    if (ret >= 0) {
        s->header.stable_journal_epoch = s->next_epoch;
        s->header.clean_shutdown = 1;
        ret = clear_autoclear(s);
    }
    trace_fvd_recover(s->bs->node_name, fvd_map_pages(s->map), s->next_epoch, ret);
    if (ret >= 0) {
        s->recovery_due = false;
        s->next_epoch++;
    }
    return ret;
}

/* Sectors without a trailer have no epoch that would make them void: an old program's are overwritten. */
static int coroutine_fn forget_old_journal(FvdState *s)
{
    int ret =
        bdrv_co_pwrite_zeroes(s->bs->file, s->header.journal_offset, s->header.journal_size, 0);

    if (ret >= 0) {
        ret = fvd_co_flush_node(s, s->bs->file->bs);
    }
    if (ret >= 0 && s->header.has_ext) {
        s->header.compatible |= FVD_COMPATIBLE_TRAILERS;
        s->geometry.trailers = true;
    }
    return ret;
}

static int coroutine_fn begin(FvdState *s)
{
    FvdJournalConfig config = {
        .node = s->bs,
        .metadata = s->bs->file,
        .offset = s->header.journal_offset,
        .size = s->header.journal_size,
        .start_epoch = s->next_epoch,
        .start_sequence = s->next_sequence,
        .def_buf_size = s->journal_buffer_size,
        .clean_buf_period_ns = s->journal_interval_ns,
        .ops = &journal_ops,
        .opaque = s,
    };
    int ret = 0;

    if (!(s->header.compatible & FVD_COMPATIBLE_TRAILERS)) {
        ret = forget_old_journal(s);
    }
    if (ret < 0) {
        return ret;
    }
    ret = fvd_co_store_start(s);
    if (ret < 0) {
        return ret;
    }
    s->header.stable_journal_epoch = s->next_epoch;
    s->header.clean_shutdown = 0;
    s->bitmaps_valid = false;
    ret = clear_autoclear(s); /* F1 */
    trace_fvd_begin_changes(s->bs->node_name, s->next_epoch, ret);
    if (ret < 0) {
        return ret;
    }
    config.geometry = s->geometry;
    config.geometry.stable_epoch = s->next_epoch;
    s->journal = fvd_journal_new(&config);
    for (unsigned i = 0; i < s->drained; i++) {
        fvd_journal_drain_begin(s->journal);
    }
    return 0;
}

int coroutine_fn fvd_co_begin_changes(FvdState *s, bool journaled)
{
    int ret = 0;

    if (s->failed) {
        return -EIO;
    }
    if (!s->recovery_due && !s->autoclear_due && (s->journal || !journaled)) {
        return 0;
    }
    qemu_co_mutex_lock(&s->begin_lock);
    if (s->failed) {
        ret = -EIO;
    }
    if (ret == 0 && s->recovery_due) {
        ret = recover(s);
    }
    if (ret == 0 && journaled && !s->journal) {
        ret = begin(s);
    }
    if (ret == 0 && s->autoclear_due) {
        ret = clear_autoclear(s); /* in its place: only the disk's contents change */
    }
    qemu_co_mutex_unlock(&s->begin_lock);
    return ret;
}

/* Nobody has changed the image, and the state in memory is that of the file. */
static int coroutine_fn settle_bitmaps(FvdState *s, FvdBitmapDir *bitmaps)
{
    int ret = fvd_co_bitmaps_store(s, bitmaps, s->header.stable_journal_epoch);

    ret = ret < 0 ? ret : fvd_co_write_state(s);
    if (ret < 0) {
        fvd_fail(s);
    } else {
        s->bitmaps_valid = s->bitmaps && s->header.clean_shutdown;
    }
    return ret;
}

int coroutine_fn fvd_co_settle(FvdState *s, FvdBitmapDir *bitmaps)
{
    g_autoptr(FvdBitmapDir) dir = bitmaps;
    FvdJournal *j = s->journal;
    bool stores = dir;
    int ret;

    if (!j) {
        ret = s->failed ? -EIO : 0;
        if (ret == 0 && dir && (s->bitmaps || dir->entries->len)) {
            ret = settle_bitmaps(s, g_steal_pointer(&dir));
        }
        return ret;
    }
    ret = s->failed ? -EIO : fvd_co_soft_keep(s);
    if (ret < 0) {
        fvd_fail(s);
    }
    fvd_sums_gather(s, true);
    ret = fvd_journal_co_close(j);
    fvd_sums_reset(s);
    fvd_drop_holes(s); /* the journal has failed, or there are none */
    fvd_co_wait_holes(s);
    for (unsigned half = 0; half < FVD_MAP_HALVES && ret >= 0 && !s->failed; half++) {
        ret = write_pages(s, half);
    }
    if (ret >= 0) {
        ret = s->failed ? -EIO : fvd_co_flush_node(s, s->bs->file->bs);
    }
    s->next_epoch = fvd_journal_next_epoch(j);
    s->next_sequence = fvd_journal_next_sequence(j);
    s->journal = NULL;
    fvd_journal_free(j);
    if (ret >= 0 && dir) {
        ret = fvd_co_bitmaps_store(s, g_steal_pointer(&dir), s->next_epoch);
    }
    if (ret >= 0) {
        s->header.stable_journal_epoch = s->next_epoch;
        s->header.clean_shutdown = 1;
        ret = fvd_co_write_state(s); /* F7 */
    }
    if (ret < 0) {
        fvd_fail(s);
    } else {
        s->next_epoch++;
        s->bitmaps_valid = stores && s->bitmaps;
    }
    trace_fvd_settle(s->bs->node_name, s->next_epoch, ret);
    return ret;
}

/* --------------------------------------------------------------------------------------------- load */

static int coroutine_fn read_region(FvdState *s, int64_t offset, int64_t bytes, void *buf,
                                    const char *name, Error **errp)
{
    int ret = bytes ? bdrv_co_pread(s->bs->file, offset, bytes, buf, 0) : 0;

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the %s of the FVD image", name);
    }
    return ret;
}

/* Blocks whose records count only if their data is as they say. */
static int coroutine_fn verify_sums(FvdState *s, FvdReplay *replay, Error **errp)
{
    uint32_t used, most = fvd_jsums_max(&s->geometry);
    FvdReplaySum sum;
    int ret = fvd_table_check(fvd_map_table(s->map), (uint32_t)fvd_header_chunks(&s->header),
                              (uint32_t)fvd_header_data_chunks(&s->header), &used, errp);

    while (ret >= 0 && fvd_replay_next_sum(replay, &sum)) {
        bool right = false;

        if (most-- == 0) { /* S5 */
            error_setg(errp,
                       "More than %" PRIu32
                       " blocks would have to be read to see whether their checksums are right",
                       fvd_jsums_max(&s->geometry));
            return -EIO;
        }
        ret = fvd_co_check_block(s, sum.block, sum.crc, &right);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not read block %" PRIu64 " of the FVD image",
                             sum.block);
        } else if (right) {
            fvd_map_bitmap(s->map)[sum.block / 8] |= (uint8_t)(1u << (sum.block % 8));
        }
        trace_fvd_verify_sum(s->bs->node_name, sum.block, right);
    }
    return ret;
}

static int coroutine_fn apply_journal(FvdState *s, const uint8_t *journal, Error **errp)
{
    g_autoptr(FvdReplay) replay = fvd_replay_new(
        journal, (uint32_t)(s->header.journal_size / FVD_JSECTOR_SIZE), &s->geometry, errp);
    const FvdReplayInfo *info;
    int ret;

    if (!replay) {
        return -EIO;
    }
    ret = fvd_replay_apply(replay, fvd_map_table(s->map), fvd_map_bitmap(s->map), errp);
    if (ret >= 0) {
        ret = verify_sums(s, replay, errp);
    }
    info = fvd_replay_info(replay);
    s->next_epoch = info->next_epoch;
    s->next_sequence = info->next_sequence;
    trace_fvd_replay(s->bs->node_name, info->valid, info->torn, info->next_epoch,
                     info->next_sequence, ret);
    return ret;
}

static int coroutine_fn replay_journal(FvdState *s, Error **errp)
{
    uint8_t *journal = qemu_try_blockalign(s->bs->file->bs, s->header.journal_size);
    int ret;

    if (!journal) {
        error_setg(errp, "There is no memory for a journal of %" PRId64 " bytes",
                   s->header.journal_size);
        return -ENOMEM;
    }
    ret =
        read_region(s, s->header.journal_offset, s->header.journal_size, journal, "journal", errp);
    if (ret >= 0) {
        ret = apply_journal(s, journal, errp);
        if (ret < 0) {
            error_prepend(errp, "The journal of the FVD image cannot be replayed: ");
        }
    }
    qemu_vfree(journal);
    return ret;
}

int coroutine_fn fvd_co_load(FvdState *s, Error **errp)
{
    const FvdHeader *h = &s->header;
    int ret;

    fvd_jgeometry_init(&s->geometry, h);
    s->next_epoch = h->stable_journal_epoch + 1;
    s->next_sequence = 1;
    s->free_found = false;
    s->autoclear_due = (h->autoclear & ~(s->bitmaps ? FVD_AUTOCLEAR_BITMAPS : 0)) != 0;
    s->map = fvd_map_new(h, errp);
    if (!s->map) {
        return -ENOMEM;
    }
    ret = read_region(s, h->table_offset, fvd_header_table_bytes(h), fvd_map_table(s->map), "table",
                      errp);
    if (ret >= 0) {
        ret = read_region(s, h->bitmap_offset, fvd_header_bitmap_bytes(h), fvd_map_bitmap(s->map),
                          "bitmap", errp);
    }
    if (ret >= 0 && !h->clean_shutdown && fvd_header_has_journal(h)) {
        s->recovery_due = true;
        ret = replay_journal(s, errp);
    }
    if (ret >= 0) {
        ret = fvd_map_start(s->map, errp);
    }
    if (ret >= 0 && !s->bs->read_only && s->next_epoch > FVD_EPOCH_MAX - EPOCHS_LEFT) {
        error_setg(errp, "The epochs of the journal of the FVD image are used up");
        ret = -ENOTSUP;
    }
    return ret;
}

/* Where a write begins makes a difference of a record in each sector at most. */
static bool need_fits(uint32_t need, uint32_t sectors)
{
    return need + need / 8 + 1 <= sectors;
}

/* Of a write of @bytes, not aligned, with what is copied. */
static bool records_fit(const FvdHeader *h, const FvdJGeometry *g, int64_t bytes)
{
    uint32_t sectors =
        (uint32_t)(h->journal_size / FVD_REGION_ALIGN / 2) * (FVD_REGION_ALIGN / FVD_JSECTOR_SIZE);
    FvdJChange both = {0}, table, bits;
    uint32_t entries[1];
    int64_t blocks = 0, span = bytes;

    if (fvd_header_has_bitmap(h)) {
        blocks = MIN(DIV_ROUND_UP(bytes, h->block_size) + 1, fvd_header_blocks(h));
        span = MAX(span, blocks * h->block_size);
    }
    if (fvd_header_has_table(h)) {
        both.entries = entries; /* counted only */
        both.n_chunks = (uint32_t)MIN(DIV_ROUND_UP(span, h->chunk_size) + 1, fvd_header_chunks(h));
    }
    both.n_sectors = (uint32_t)MIN(blocks * h->block_size / FVD_SECTOR_BYTES,
                                   h->virtual_disk_size / FVD_SECTOR_BYTES);
    if (!both.n_chunks || !both.n_sectors || fvd_jpairs_possible(g)) {
        return need_fits(fvd_jchange_sectors(&both, g), sectors);
    }
    table = bits = both;
    table.n_sectors = 0;
    bits.n_chunks = 0;
    return need_fits(MAX(fvd_jchange_sectors(&table, g), fvd_jchange_sectors(&bits, g)), sectors);
}

int64_t fvd_write_max(const FvdHeader *h, const FvdJGeometry *g)
{
    int64_t bytes = FVD_WRITE_MAX;

    if (!fvd_header_has_journal(h)) {
        return fvd_header_has_table(h) || fvd_header_has_bitmap(h) ? 0 : FVD_WRITE_MAX;
    }
    while (bytes >= FVD_SECTOR_BYTES && !records_fit(h, g, bytes)) {
        bytes /= 2;
    }
    return bytes >= FVD_SECTOR_BYTES ? bytes : 0;
}
