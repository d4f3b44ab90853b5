/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check of an image, and its repair.
 *
 *      header -> journal -> table -> checksums of blocks -> bitmap -> end of the file
 *                   |          |
 *                   |          +-- out of range: the entry becomes EMPTY, and its chunk reads as zeros
 *                   |              twice: the second entry gets a copy; whose data it is nobody can tell, and so
 *                   |              neither loses it
 *                   +------------- damaged sector: void; what only it said is lost
 *
 * Nothing is written before all of it is known, in memory, and then as after a crash: table and bitmap, flush, sector
 * 6 with a clean_shutdown, flush.  A repair that is cut short is done again.
 *
 *   CK1  An image that was not shut down is no damage: its journal is replayed in memory.  Only a repair writes.
 *   CK2  What a check counts as damage and what keeps an image from being opened are the same.
 *   CK3  The end of the file is cut off only when all that is before it is known.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/drivers/fvd/image/image.h"
#include "block/drivers/fvd/image/raw-image.h"
#include "block/drivers/fvd/layout/check.h"
#include "block/io/io.h"
#include "util/osdep.h"

/*
 * Space behind the last chunk that is no leak: the file grows by storage_grow_unit.  What is sensible of that is
 * bounded here as where it grows.
 */
#define GROW_UNIT_MAX (1 * GiB)

typedef struct Check {
    FvdRawImage image;
    FvdJGeometry g;
    BdrvCheckResult *result;
    unsigned fix;
    bool was_dirty;
    bool to_store;  /* table, bitmap or header in memory have been repaired */
    uint32_t used;  /* one more than the highest chunk; those of repairs included */
    GArray *taken;  /* of uint32_t, sorted: chunks in use before repairs; NULL: not asked yet */
    guint taken_at; /* of them, those below next_free */
    uint32_t next_free;
    int64_t fixing; /* corruptions that are repaired when all is stored */
    uint64_t next_epoch;
} Check;

static void G_GNUC_PRINTF(2, 3) say(Check *c, const char *fmt, ...)
{
    g_autofree char *line = NULL;
    va_list ap;

    if (!c->result->message) {
        return;
    }
    va_start(ap, fmt);
    line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    c->result->message(c->result->opaque, line);
}

static void say_damage(void *opaque, const char *line)
{
    say(opaque, "ERROR %s", line);
}

/* One corruption; whether it is to be repaired. */
static bool found(Check *c)
{
    bool repair = c->fix & BDRV_FIX_ERRORS;

    if (repair) {
        c->fixing++;
        c->to_store = true;
    } else {
        c->result->corruptions++;
    }
    return repair;
}

/* -------------------------------------------------------------------------------------------- journal */

static int coroutine_fn check_journal(Check *c, FvdReplay **ret_replay, Error **errp)
{
    FvdRawImage *i = &c->image;
    uint32_t damaged = 0;
    int ret;

    if (!c->was_dirty || !fvd_header_has_journal(&i->header)) {
        return 0;
    }
    ret = fvd_raw_load_journal(i, errp);
    if (ret < 0) {
        return ret;
    }
    ret = fvd_check_journal(i->journal, i->journal_sectors, &c->g, i->table, i->bitmap, say_damage,
                            c, &damaged, ret_replay);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not replay the journal");
        return ret;
    }
    for (uint32_t n = 0; n < damaged; n++) {
        found(c);
    }
    if (damaged && (c->fix & BDRV_FIX_ERRORS)) {
        say(c,
            "Repairing the journal: %" PRIu32 " damaged sectors are void, and what only they said "
            "is lost",
            damaged);
    }
    c->next_epoch = fvd_replay_info(*ret_replay)->next_epoch;
    c->to_store |= (c->fix & BDRV_FIX_ERRORS) != 0; /* who repairs need not replay it again */
    return 0;
}

/* Blocks that are in the image if their data is as it was recorded.  Wrong ones are no damage. */
static int coroutine_fn check_sums(Check *c, FvdReplay *replay, Error **errp)
{
    uint32_t most = fvd_jsums_max(&c->g);
    FvdReplaySum sum;
    int ret = 0;

    while (ret == 0 && replay && fvd_replay_next_sum(replay, &sum)) {
        uint32_t crc;

        if (bdrv_progress_cancelled(c->result->progress)) {
            error_setg(errp, "The check was cancelled");
            return -ECANCELED;
        }
        if (most-- == 0) {
            say(c,
                "ERROR The journal has more than %" PRIu32
                " blocks that count by their checksums alone",
                fvd_jsums_max(&c->g));
            found(c); /* a repair leaves the rest in the base */
            break;
        }
        ret = fvd_raw_block_crc(&c->image, sum.block, &crc);
        if (ret < 0) {
            say(c, "ERROR Could not read block %" PRIu64 ": %s", sum.block, g_strerror(-ret));
            c->result->check_errors++;
            ret = 0;
        } else if (crc == sum.crc) {
            c->image.bitmap[sum.block / 8] |= 1u << (sum.block % 8);
        }
    }
    return ret;
}

/* ---------------------------------------------------------------------------------------------- table */

static void set_entry(Check *c, uint32_t entry, uint32_t chunk)
{
    c->image.table[entry] = cpu_to_le32(chunk);
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* Where dirty bitmaps may be is in use, too. */
static uint32_t bitmaps_end(const Check *c)
{
    const FvdHeader *h = &c->image.header;
    int64_t end = MAX(fvd_header_bitmaps_end(h) - h->data_offset, 0);

    return fvd_header_has_table(h)
               ? (uint32_t)MIN(end / h->chunk_size + !!(end % h->chunk_size), c->g.chunks)
               : 0;
}

/* The lowest chunk that no entry names; c->g.chunks or more: there is none. */
static uint32_t take_free(Check *c)
{
    if (!c->taken) {
        c->taken = g_array_new(false, false, sizeof(uint32_t));
        for (uint32_t i = 0; i < c->g.table_entries; i++) {
            uint32_t word = le32_to_cpu(c->image.table[i]), chunk = word & ~FVD_TABLE_DIRTY;

            if (word != FVD_TABLE_EMPTY) {
                g_array_append_val(c->taken, chunk);
            }
        }
        g_array_sort(c->taken, compare_u32);
        c->next_free = bitmaps_end(c);
    }
    while (c->taken_at < c->taken->len) {
        uint32_t chunk = g_array_index(c->taken, uint32_t, c->taken_at);

        if (chunk > c->next_free) {
            break;
        }
        c->next_free += chunk == c->next_free;
        c->taken_at++;
    }
    return c->next_free++;
}

static void coroutine_fn repair_twice(Check *c, const FvdFault *f)
{
    uint32_t to = take_free(c);
    Error *err = NULL;

    if (to >= c->g.chunks) {
        say(c, "ERROR Table entry %" PRIu32 " is not repaired: there is no chunk left for its copy",
            f->entry);
        c->fixing--;
        c->result->corruptions++;
        return;
    }
    if (fvd_raw_copy_chunk(&c->image, f->chunk, to, &err) < 0) {
        say(c, "ERROR Table entry %" PRIu32 " is not repaired: %s", f->entry,
            error_get_pretty(err));
        error_free(err);
        c->fixing--;
        c->result->corruptions++;
        return;
    }
    c->used = MAX(c->used, to + 1);
    set_entry(c, f->entry, to);
    say(c,
        "Repairing table entry %" PRIu32 ": it gets a copy, chunk %" PRIu32
        "; which of the two entries the data belongs to nobody can tell",
        f->entry, to);
}

static void coroutine_fn check_fault(Check *c, const FvdFault *f)
{
    bool repair = found(c);

    if (f->kind == FVD_FAULT_OUT_OF_RANGE) {
        say(c, "ERROR Table entry %" PRIu32 " is chunk %" PRIu32 ", they must be below %" PRIu32,
            f->entry, f->chunk, c->g.chunks);
        if (repair) {
            set_entry(c, f->entry, FVD_TABLE_EMPTY);
            say(c, "Repairing table entry %" PRIu32 ": it is EMPTY, and reads as zeros", f->entry);
        }
        return;
    }
    say(c, "ERROR Table entries %" PRIu32 " and %" PRIu32 " are both chunk %" PRIu32, f->other,
        f->entry, f->chunk);
    if (repair) {
        repair_twice(c, f);
    }
}

static int coroutine_fn check_table(Check *c, Error **errp)
{
    FvdTableCheck table;
    int ret = fvd_check_table(c->image.table, c->g.table_entries, c->g.chunks, &table);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not check the table");
    } else {
        c->used = MAX(table.used, bitmaps_end(c));
        for (guint i = 0; i < table.faults->len; i++) {
            check_fault(c, &g_array_index(table.faults, FvdFault, i));
        }
        c->result->total_clusters = c->g.table_entries;
        c->result->allocated_clusters = table.allocated;
        c->result->fragmented_clusters = table.fragmented;
    }
    fvd_table_check_clear(&table);
    return ret;
}

/* --------------------------------------------------------------------------------- header and bitmap */

/*
 * No damage by itself: a header of several sectors cannot be changed in one write, and the checksums are in the last;
 * and whoever does not know version 2 leaves them wrong.  So this is a word, and no error.
 */
static void check_header_sums(Check *c)
{
    const FvdHeader *h = &c->image.header;
    const char *which = h->geometry_crc_wrong ? "geometry_crc" : "state_crc";

    if (!h->geometry_crc_wrong && !h->state_crc_wrong) {
        return;
    }
    say(c, "%s is not that of the header: %s", which,
        h->version == 1 ? "a program that does not know it has written there"
                        : "power has failed while it was changed, or it is damaged");
    if (c->fix) {
        c->to_store = true;
        say(c, "Repairing %s: the header is taken as it is", which);
    }
}

/* Those behind the last block mean nothing, and a disk over a base that was made smaller leaves them: no damage. */
static void check_bitmap(Check *c)
{
    uint8_t bits = fvd_check_tail_bits(c->image.bitmap, c->g.blocks);

    if (bits && (c->fix & BDRV_FIX_ERRORS)) {
        c->image.bitmap[c->g.blocks / 8] &= ~bits;
        c->to_store = true;
        say(c, "Repairing the bitmap: bits behind its last block, %" PRIu64 ", are cleared",
            c->g.blocks - 1);
    }
}

/* ------------------------------------------------------------------------------------ end of the file */

static int64_t region_end(int64_t offset, int64_t size)
{
    return offset ? offset + size : 0;
}

/* In the file that has the data. */
static int64_t needed_end(const Check *c)
{
    const FvdHeader *h = &c->image.header;
    int64_t end = h->data_offset + (fvd_header_has_table(h) ? (int64_t)c->used * h->chunk_size
                                                            : h->virtual_disk_size);

    end = MAX(end, fvd_header_bitmaps_end(h));
    if (c->image.data == c->image.file) {
        end = MAX(end, region_end(h->bitmap_offset, h->bitmap_size));
        end = MAX(end, region_end(h->table_offset, h->table_size));
        end = MAX(end, region_end(h->journal_offset, h->journal_size));
    }
    return end;
}

/* A device, or what a server has, is as long as it is: what is behind the image takes nothing from anybody. */
static bool has_fixed_length(BlockDriverState *bs)
{
    while (!bs->drv->is_protocol && bs->file) {
        bs = bs->file->bs;
    }
    return !bs->drv->data->co_truncate || strcmp(bs->drv->format_name, "host_device") == 0;
}

static void coroutine_fn check_end(Check *c)
{
    const FvdHeader *h = &c->image.header;
    int64_t end = needed_end(c), unit = fvd_header_has_table(h) ? h->chunk_size : MiB;
    int64_t usual = MIN(h->storage_grow_unit, (uint64_t)GROW_UNIT_MAX);
    int64_t behind = c->image.data_length - end, leaks;
    Error *err = NULL;

    c->result->image_end_offset = end;
    if (behind <= usual || has_fixed_length(c->image.data->bs)) {
        return;
    }
    leaks = DIV_ROUND_UP(behind, unit);
    say(c, "Leaked: %" PRId64 " bytes behind the last chunk in use", behind);
    if (!(c->fix & BDRV_FIX_LEAKS) || c->result->corruptions) { /* CK3 */
        c->result->leaks += leaks;
        return;
    }
    if (bdrv_co_truncate(c->image.data, end, true, PREALLOC_MODE_OFF, 0, &err) < 0) {
        say(c, "ERROR They are not cut off: %s", error_get_pretty(err));
        error_free(err);
        c->result->leaks += leaks;
        return;
    }
    say(c, "Repairing the end of the file: it is cut off");
    c->result->leaks_fixed += leaks;
}

/* ----------------------------------------------------------------------------------------------- all */

/* What was repaired in memory, and with it what the journal has said. */
static int coroutine_fn store(Check *c, Error **errp)
{
    FvdHeader *h = &c->image.header;
    int ret;

    if (!c->to_store || c->result->corruptions || c->result->check_errors) {
        c->result->corruptions += c->fixing;
        return 0;
    }
    if (c->was_dirty && fvd_header_has_journal(h)) {
        h->stable_journal_epoch = c->next_epoch;
        h->clean_shutdown = 1;
    }
    if (c->was_dirty) {
        h->autoclear &= FVD_AUTOCLEAR_BITMAPS; /* not of this epoch: their names stay */
    }
    if (c->fixing) {
        h->autoclear = 0; /* the disk's contents are not what these bits go with */
    }
    ret = fvd_raw_store(&c->image, errp);
    if (ret == 0) {
        c->result->corruptions_fixed += c->fixing;
    }
    return ret;
}

static int coroutine_fn check_regions(Check *c, Error **errp)
{
    FvdReplay *replay = NULL;
    int ret = fvd_raw_load_maps(&c->image, errp);

    if (ret == 0) {
        fvd_jgeometry_init(&c->g, &c->image.header);
        c->was_dirty = !c->image.header.clean_shutdown;
        ret = check_journal(c, &replay, errp);
    }
    if (ret == 0) {
        check_header_sums(c);
        ret = check_table(c, errp);
    }
    if (ret == 0 && c->result->corruptions == 0) {
        ret = check_sums(c, replay, errp); /* through a table that is right */
    }
    if (ret == 0) {
        check_bitmap(c);
        ret = store(c, errp);
    }
    if (ret == 0) {
        check_end(c);
    }
    fvd_replay_free(replay);
    return ret;
}

int coroutine_fn fvd_co_check(BlockDriverState *bs, BdrvCheckResult *result, unsigned fix,
                              Error **errp)
{
    g_autofree Check *c = g_new0(Check, 1);
    Error *err = NULL;
    int ret;

    if (!(bs->open_flags & BDRV_O_CHECK)) {
        error_setg(errp, "Node '%s' is used as a disk, and was not opened to be checked",
                   bdrv_get_node_name(bs));
        return -EBUSY;
    }
    c->result = result;
    c->fix = fix;
    ret = fvd_raw_open(&c->image, bs, errp);
    if (ret == 0 && fvd_header_check_file(&c->image.header, c->image.file_length, &err) < 0) {
        say(c, "ERROR %s", error_get_pretty(err));
        error_free(err);
        result->corruptions++; /* and nothing can bring back what is not in the file */
    } else if (ret == 0) {
        ret = check_regions(c, errp);
    }
    if (c->taken) {
        g_array_free(c->taken, true);
    }
    fvd_raw_close(&c->image);
    return ret;
}

/* ------------------------------------------------------------------------------------- print journal */

int coroutine_fn fvd_co_print_journal(BlockDriverState *bs,
                                      void (*print)(void *opaque, const char *line), void *opaque,
                                      Error **errp)
{
    g_autofree FvdRawImage *image = g_new0(FvdRawImage, 1);
    FvdJGeometry g;
    int ret = fvd_raw_open(image, bs, errp);

    if (ret == 0) {
        ret = fvd_header_check_file(&image->header, image->file_length, errp);
    }
    if (ret == 0) {
        ret = fvd_raw_load_journal(image, errp);
    }
    if (ret == 0) {
        fvd_jgeometry_init(&g, &image->header);
        if (image->header.clean_shutdown) {
            print(opaque, "The image was shut down cleanly: its journal says nothing any more");
        }
        for (uint32_t i = 0; i < image->journal_sectors; i++) {
            fvd_print_jrecords(image->journal + (size_t)i * FVD_JSECTOR_SIZE, i, &g, print, opaque);
        }
    }
    fvd_raw_close(image);
    return ret;
}
