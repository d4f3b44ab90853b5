/* SPDX-License-Identifier: GPL-2.0-or-later */
/* jrecord.c - sectors of the journal: making them, and walking what is in them (R1 to R4 at jrecord.h) */
#include "block/drivers/fvd/layout/jrecord.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include "util/crc32c.h"
#include "util/osdep.h"

#define CAPACITY FVD_JSECTOR_CAPACITY

/* A record can follow a record only at such offsets. */
QEMU_BUILD_BUG_ON(FVD_BITMAP_JRECORD_SIZE % 4 || FVD_TABLE_JRECORD_SIZE % 4 || CAPACITY % 4);

/* Of one sector; the checksum's own field counts as zero. */
static uint32_t sector_crc(const uint8_t *sector)
{
    uint8_t copy[FVD_JSECTOR_SIZE];

    memcpy(copy, sector, sizeof(copy));
    stl_le_p(copy + FVD_JTRAILER_CRC, 0);
    return crc32c(0, copy, sizeof(copy));
}

static uint32_t entry_of_word(uint32_t word)
{
    return word == FVD_TABLE_EMPTY ? word : word & ~FVD_TABLE_DIRTY;
}

void fvd_jgeometry_init(FvdJGeometry *g, const FvdHeader *header)
{
    *g = (FvdJGeometry){
        .disk_sectors = header->virtual_disk_size / FVD_SECTOR_BYTES,
        .table_entries = fvd_header_chunks(header),
        .chunks = fvd_header_data_chunks(header),
        .blocks = fvd_header_blocks(header),
        .stable_epoch = header->stable_journal_epoch,
        /* A program that knows version 1 only has changed the state since, and it writes none. */
        .trailers = (header->compatible & FVD_COMPATIBLE_TRAILERS) &&
                    !(header->version == 1 && header->state_crc_wrong),
        .block_sums = header->incompatible & FVD_INCOMPATIBLE_BLOCK_SUMS,
        .remap = header->incompatible & FVD_INCOMPATIBLE_REMAP,
    };
    /* Sizes of what is not there were not checked. */
    if (fvd_header_has_table(header)) {
        g->chunk_sectors = header->chunk_size / FVD_SECTOR_BYTES;
    }
    if (fvd_header_has_bitmap(header)) {
        g->block_sectors = header->block_size / FVD_SECTOR_BYTES;
    }
}

/* ------------------------------------------------------------------------------------ making a sector */

/* What of a change goes into one sector next: a table record, then one for bits; either may be absent. */
typedef struct Piece {
    uint32_t entries; /* in the table record */
    uint32_t advance; /* of these, the ones that need not be said again */
    uint32_t bits;    /* sectors of the disk, or blocks */
    unsigned bytes;   /* of both records; 0: nothing fits */
} Piece;

static bool change_is_done(const FvdJChange *c)
{
    return c->n_chunks == 0 && c->n_sectors == 0 && c->n_blocks == 0;
}

/* Chunks after which a chunk and a block end together (R2).  Blocks have no limit, so this may be large. */
static uint64_t unit_chunks(const FvdJGeometry *g)
{
    uint64_t a = g->block_sectors, b = g->chunk_sectors;

    while (b) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return g->block_sectors / a;
}

bool fvd_jpairs_possible(const FvdJGeometry *g)
{
    /* The record with checksums is the larger one: one block needs four bytes more. */
    unsigned room = CAPACITY - FVD_TABLE_JRECORD_SIZE - FVD_BITMAP_SUM_JRECORD_SIZE - 4;

    return g->block_sectors == 0 || unit_chunks(g) <= room / 4;
}

static Piece piece_of_table(const FvdJChange *c, unsigned room)
{
    Piece p = {0};

    if (room >= FVD_TABLE_JRECORD_SIZE + 4) {
        p.entries = MIN(c->n_chunks, (room - FVD_TABLE_JRECORD_SIZE) / 4);
        p.advance = p.entries;
        p.bytes = FVD_TABLE_JRECORD_SIZE + 4 * p.entries;
    }
    return p;
}

static Piece piece_with_bits(const FvdJChange *c, const FvdJGeometry *g, unsigned room)
{
    Piece p = {.bits = c->n_sectors, .bytes = FVD_BITMAP_JRECORD_SIZE};
    unsigned heads = FVD_BITMAP_JRECORD_SIZE + (c->n_chunks ? FVD_TABLE_JRECORD_SIZE + 4 : 0);

    if (room < heads) {
        return (Piece){0};
    }
    if (c->n_chunks == 0) {
        return p;
    }
    p.entries = MIN(c->n_chunks, (room - FVD_BITMAP_JRECORD_SIZE - FVD_TABLE_JRECORD_SIZE) / 4);
    if (p.entries < c->n_chunks) {
        uint64_t edge = QEMU_ALIGN_DOWN((uint64_t)c->first_chunk + p.entries, unit_chunks(g));
        uint64_t edge_sector = edge * g->chunk_sectors;

        if (edge <= c->first_chunk) {
            return (Piece){0};
        }
        p.entries = edge - c->first_chunk;
        p.bits = edge_sector <= c->first_sector
                     ? 0
                     : MIN((uint64_t)c->n_sectors, edge_sector - c->first_sector);
    }
    p.advance = p.entries;
    p.bytes = FVD_TABLE_JRECORD_SIZE + 4 * p.entries + (p.bits ? FVD_BITMAP_JRECORD_SIZE : 0);
    return p;
}

/* How many of the change's entries are of chunks below @chunk. */
static uint32_t entries_below(const FvdJChange *c, uint64_t chunk)
{
    return chunk <= c->first_chunk ? 0 : MIN((uint64_t)c->n_chunks, chunk - c->first_chunk);
}

static Piece piece_with_sums(const FvdJChange *c, const FvdJGeometry *g, unsigned room)
{
    Piece p = {0};
    unsigned heads = FVD_BITMAP_SUM_JRECORD_SIZE + (c->n_chunks ? FVD_TABLE_JRECORD_SIZE : 0);
    uint32_t words;

    if (room < heads + 4) {
        return p;
    }
    words = (room - heads) / 4;
    p.bits = MIN(c->n_blocks, words);
    if (c->n_chunks) {
        uint64_t end;

        for (;; p.bits--) {
            if (p.bits == 0) {
                return (Piece){0};
            }
            end = (c->first_block + p.bits) * g->block_sectors;
            p.entries = entries_below(c, DIV_ROUND_UP(end, g->chunk_sectors));
            if (p.entries + p.bits <= words) {
                break;
            }
        }
        /* A chunk with blocks that are still to come is said again beside them. */
        p.advance = p.bits == c->n_blocks ? p.entries : entries_below(c, end / g->chunk_sectors);
    }
    p.bytes = (p.entries ? FVD_TABLE_JRECORD_SIZE + 4 * p.entries : 0) +
              FVD_BITMAP_SUM_JRECORD_SIZE + 4 * p.bits;
    return p;
}

static Piece next_piece(const FvdJChange *c, const FvdJGeometry *g, unsigned room)
{
    if (c->n_sectors) {
        return piece_with_bits(c, g, room);
    }
    return c->n_blocks ? piece_with_sums(c, g, room) : piece_of_table(c, room);
}

static void change_advance(FvdJChange *c, const Piece *p)
{
    /* What a change has none of may be NULL. */
    if (p->advance) {
        c->entries += p->advance;
        c->first_chunk += p->advance;
        c->n_chunks -= p->advance;
    }
    if (c->n_sectors) {
        c->first_sector += p->bits;
        c->n_sectors -= p->bits;
    } else if (p->bits) {
        c->first_block += p->bits;
        c->sums += p->bits;
        c->n_blocks -= p->bits;
    }
}

/* Sectors that are begun for @c when @room bytes are left in one; @most is when to stop counting. */
static uint32_t sectors_begun(FvdJChange c, const FvdJGeometry *g, unsigned room, uint32_t most)
{
    uint32_t begun = 0;

    while (!change_is_done(&c)) {
        Piece p = next_piece(&c, g, room);

        if (p.bytes) {
            change_advance(&c, &p);
            room -= p.bytes;
        } else {
            assert(room < CAPACITY);
            if (++begun >= most) {
                break;
            }
            room = CAPACITY;
        }
    }
    return begun;
}

uint32_t fvd_jchange_sectors(const FvdJChange *change, const FvdJGeometry *g)
{
    return sectors_begun(*change, g, 0, UINT32_MAX);
}

void fvd_jsector_start(FvdJSector *s, uint8_t *buf)
{
    memset(buf, 0, FVD_JSECTOR_SIZE); /* R1 */
    *s = (FvdJSector){.buf = buf};
}

static uint8_t *take(FvdJSector *s, unsigned bytes)
{
    uint8_t *at = s->buf + s->used;

    assert(bytes <= CAPACITY - s->used);
    s->used += bytes;
    return at;
}

static void put_table(FvdJSector *s, const FvdJChange *c, uint32_t entries, const FvdJGeometry *g)
{
    uint8_t *at = take(s, FVD_TABLE_JRECORD_SIZE + 4 * entries);

    stl_le_p(at, FVD_TABLE_JRECORD);
    stq_le_p(at + 4, c->epoch);
    stl_le_p(at + 12, entries);
    stl_le_p(at + 16, c->first_chunk);
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t entry = entry_of_word(le32_to_cpu(c->entries[i]));

        assert(entry == FVD_TABLE_EMPTY || entry < g->chunks);
        stl_le_p(at + FVD_TABLE_JRECORD_SIZE + 4 * i, entry);
    }
}

static void put_bits(FvdJSector *s, const FvdJChange *c, uint32_t bits)
{
    uint8_t *at;

    if (c->n_sectors) {
        at = take(s, FVD_BITMAP_JRECORD_SIZE);
        stl_le_p(at, FVD_BITMAP_JRECORD);
        stl_le_p(at + 4, bits);
        stq_le_p(at + 8, c->first_sector);
        return;
    }
    at = take(s, FVD_BITMAP_SUM_JRECORD_SIZE + 4 * bits);
    stl_le_p(at, FVD_BITMAP_SUM_JRECORD);
    stl_le_p(at + 4, bits);
    stq_le_p(at + 8, c->first_block);
    for (uint32_t i = 0; i < bits; i++) {
        stl_le_p(at + FVD_BITMAP_SUM_JRECORD_SIZE + 4 * i, c->sums[i]);
    }
}

bool fvd_jsector_put(FvdJSector *s, FvdJChange *change, const FvdJGeometry *g)
{
    assert(!change->n_sectors || !change->n_blocks);
    assert((!change->n_sectors && !change->n_blocks) || g->block_sectors);
    if (sectors_begun(*change, g, CAPACITY - s->used, 1) > 0 &&
        sectors_begun(*change, g, 0, 2) == 1) {
        return false; /* R3 */
    }
    while (!change_is_done(change)) {
        Piece p = next_piece(change, g, CAPACITY - s->used);

        if (!p.bytes) {
            assert(s->used > 0);
            return false;
        }
        if (p.entries) {
            put_table(s, change, p.entries, g);
        }
        if (p.bits) {
            put_bits(s, change, p.bits);
        }
        change_advance(change, &p);
    }
    return true;
}

void fvd_jsector_finish(FvdJSector *s, uint64_t epoch, uint64_t sequence)
{
    /* The word behind the records is zero, EMPTY_JRECORD, since the start. */
    stl_le_p(s->buf + FVD_JTRAILER_OFFSET, FVD_JTRAILER_TAG);
    stq_le_p(s->buf + FVD_JTRAILER_EPOCH, epoch);
    stq_le_p(s->buf + FVD_JTRAILER_SEQUENCE, sequence);
    stl_le_p(s->buf + FVD_JTRAILER_CRC, sector_crc(s->buf));
    s->buf = NULL;
}

/* ----------------------------------------------------------------------------------- reading a sector */

FvdJSectorHead fvd_jsector_head(const uint8_t *sector, const FvdJGeometry *g)
{
    FvdJSectorHead head = {.kind = FVD_JSECTOR_OK};
    bool tag = ldl_le_p(sector + FVD_JTRAILER_OFFSET) == FVD_JTRAILER_TAG;

    head.has_trailer = tag && ldl_le_p(sector + FVD_JTRAILER_CRC) == sector_crc(sector);
    if (head.has_trailer) {
        head.epoch = ldq_le_p(sector + FVD_JTRAILER_EPOCH);
        head.sequence = ldq_le_p(sector + FVD_JTRAILER_SEQUENCE);
    }
    if (ldl_le_p(sector) == FVD_EMPTY_JRECORD) {
        head.kind = FVD_JSECTOR_EMPTY;
    } else if (tag && !head.has_trailer) {
        head.kind = FVD_JSECTOR_VOID_TORN;
    } else if (!tag) {
        head.kind = g->trailers ? FVD_JSECTOR_VOID_NO_TRAILER : FVD_JSECTOR_NO_TRAILER;
    } else if (head.epoch < g->stable_epoch) {
        head.kind = FVD_JSECTOR_VOID_OLD;
    }
    return head;
}

void fvd_jiter_start(FvdJIter *it, const uint8_t *sector, uint32_t number,
                     const FvdJSectorHead *head, const FvdJGeometry *g)
{
    *it = (FvdJIter){
        .sector = sector,
        .number = number,
        .g = g,
        .end = head->has_trailer ? FVD_JTRAILER_OFFSET : FVD_JSECTOR_SIZE,
        .has_trailer = head->has_trailer,
    };
}

/* Words for what is at byte @at; the walk is over. */
static int G_GNUC_PRINTF(4, 5) damage(FvdJIter *it, unsigned at, Error **errp, const char *fmt, ...)
{
    g_autofree char *what = NULL;
    va_list ap;

    va_start(ap, fmt);
    what = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    error_setg(errp, "Journal sector %" PRIu32 ", byte %u: %s", it->number, at, what);
    it->at = it->end;
    it->has_trailer = false;
    return -EIO;
}

/* Whether [first, first + count) is within [0, limit). */
static bool is_within(uint64_t first, uint64_t count, uint64_t limit)
{
    return first <= limit && count <= limit - first;
}

static int check_table(FvdJIter *it, const FvdJRecord *r, Error **errp)
{
    if (!is_within(r->first, r->count, it->g->table_entries)) {
        return damage(it, r->at, errp,
                      "table record for entries %" PRIu64 " + %" PRIu32 ", the table has %" PRIu32,
                      r->first, r->count, it->g->table_entries);
    }
    if (r->epoch > FVD_JCOUNT_MAX) {
        return damage(it, r->at, errp, "epoch %" PRIu64 " is too high", r->epoch);
    }
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t entry = fvd_jrecord_entry(r, i);

        if (entry != FVD_TABLE_EMPTY && entry >= it->g->chunks) {
            return damage(it, r->at + FVD_TABLE_JRECORD_SIZE + 4 * i, errp,
                          "entry %" PRIu64 " is chunk %" PRIu32 ", they must be below %" PRIu32,
                          r->first + i, entry, it->g->chunks);
        }
    }
    return 0;
}

static int check_bits(FvdJIter *it, const FvdJRecord *r, Error **errp)
{
    bool plain = r->type == FVD_BITMAP_JRECORD;
    uint64_t first = r->first, count = r->count;

    if (plain && !is_within(first, count, it->g->disk_sectors)) {
        return damage(it, r->at, errp,
                      "bitmap record for sectors %" PRIu64 " + %" PRIu32 ", the disk has %" PRIu64,
                      first, r->count, it->g->disk_sectors);
    }
    if (plain && it->g->blocks) {
        count = fvd_jrecord_blocks(r, it->g, &first);
    }
    if (!is_within(first, count, it->g->blocks) && count) {
        return damage(it, r->at, errp,
                      "bitmap record for blocks %" PRIu64 " + %" PRIu64 ", the bitmap has %" PRIu64,
                      first, count, it->g->blocks);
    }
    return 0;
}

/* Fills in a record from its fixed part, and finds where it ends: 0 if its type is not known. */
static unsigned load_record(const FvdJIter *it, FvdJRecord *r)
{
    const uint8_t *at = it->sector + it->at;
    unsigned left = it->end - it->at, head;

    *r = (FvdJRecord){.type = ldl_le_p(at), .at = it->at};
    switch (r->type) {
    case FVD_BITMAP_JRECORD:
        head = FVD_BITMAP_JRECORD_SIZE;
        break;
    case FVD_TABLE_JRECORD:
        head = FVD_TABLE_JRECORD_SIZE;
        break;
    case FVD_BITMAP_SUM_JRECORD:
        head = it->g->block_sums ? FVD_BITMAP_SUM_JRECORD_SIZE : 0;
        break;
    default:
        head = 0;
    }
    if (head == 0 || head > left) {
        return head;
    }
    if (r->type == FVD_TABLE_JRECORD) {
        r->epoch = ldq_le_p(at + 4);
        r->count = ldl_le_p(at + 12);
        r->first = ldl_le_p(at + 16);
        r->stale = r->epoch < it->g->stable_epoch;
    } else {
        r->count = ldl_le_p(at + 4);
        r->first = ldq_le_p(at + 8);
    }
    r->words = at + head;
    if (r->type == FVD_BITMAP_JRECORD) {
        return head;
    }
    /* Never more than a sector and a word, whatever the count. */
    return head + 4 * MIN(r->count, (uint32_t)FVD_JSECTOR_SIZE / 4);
}

int fvd_jiter_next(FvdJIter *it, FvdJRecord *ret_record, Error **errp)
{
    FvdJRecord r;
    unsigned bytes;
    int ret;

    if (it->at == it->end) {
        return it->has_trailer ? damage(it, it->at, errp, "no end of records before the trailer")
                               : 0;
    }
    if (ldl_le_p(it->sector + it->at) == FVD_EMPTY_JRECORD) {
        return 0;
    }
    bytes = load_record(it, &r);
    if (bytes == 0) {
        return damage(it, it->at, errp, "a record of type 0x%08" PRIx32 " is not known", r.type);
    }
    if (bytes > it->end - it->at) {
        return damage(it, it->at, errp,
                      "a record of type 0x%08" PRIx32 " reaches beyond its sector", r.type);
    }
    if (r.type != FVD_TABLE_JRECORD) {
        ret = check_bits(it, &r, errp);
    } else {
        ret = r.stale ? 0 : check_table(it, &r, errp);
    }
    if (ret < 0) {
        return ret;
    }
    it->at += bytes;
    *ret_record = r;
    return 1;
}

uint32_t fvd_jrecord_entry(const FvdJRecord *record, uint32_t i)
{
    return entry_of_word(ldl_le_p(record->words + 4 * i));
}

uint32_t fvd_jrecord_sum(const FvdJRecord *record, uint32_t i)
{
    return ldl_le_p(record->words + 4 * i);
}

uint64_t fvd_jrecord_blocks(const FvdJRecord *record, const FvdJGeometry *g, uint64_t *ret_first)
{
    *ret_first = record->first / g->block_sectors;
    if (record->count == 0) {
        return 0;
    }
    return (record->first + record->count - 1) / g->block_sectors - *ret_first + 1;
}

/* ------------------------------------------------------------------------------------------- printing */

typedef struct Printer {
    FvdPrintFn *print;
    void *opaque;
} Printer;

static void G_GNUC_PRINTF(2, 3) print_line(const Printer *p, const char *fmt, ...)
{
    g_autofree char *line = NULL;
    va_list ap;

    va_start(ap, fmt);
    line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    p->print(p->opaque, line);
}

static void print_head(const Printer *p, uint32_t number, const FvdJSectorHead *head)
{
    const char *old = head->kind == FVD_JSECTOR_VOID_OLD ? ", void: old" : "";

    if (head->kind == FVD_JSECTOR_VOID_TORN) {
        print_line(p, "sector %" PRIu32 ": void: torn", number);
    } else if (head->kind == FVD_JSECTOR_VOID_NO_TRAILER) {
        print_line(p, "sector %" PRIu32 ": void: no trailer", number);
    } else if (!head->has_trailer) {
        print_line(p, "sector %" PRIu32 ": no trailer", number);
    } else {
        print_line(p, "sector %" PRIu32 ": epoch=%" PRIu64 " sequence=%" PRIu64 "%s", number,
                   head->epoch, head->sequence, old);
    }
}

static void print_record(const Printer *p, const FvdJRecord *r)
{
    switch (r->type) {
    case FVD_BITMAP_JRECORD:
        print_line(p, "  BITMAP_JRECORD sector_num=%" PRIu64 " nb_sectors=%" PRIu32, r->first,
                   r->count);
        return;
    case FVD_BITMAP_SUM_JRECORD:
        print_line(p, "  BITMAP_SUM_JRECORD block_start=%" PRIu64 " nb_blocks=%" PRIu32, r->first,
                   r->count);
        for (uint32_t i = 0; i < r->count; i++) {
            print_line(p, "    Block %" PRIu64 " has CRC32C 0x%08" PRIx32, r->first + i,
                       fvd_jrecord_sum(r, i));
        }
        return;
    }
    print_line(p,
               "  TABLE_JRECORD epoch=%" PRIu64 " chunk_start=%" PRIu64 " nb_chunks=%" PRIu32 "%s",
               r->epoch, r->first, r->count, r->stale ? ", void: old" : "");
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t entry = fvd_jrecord_entry(r, i);

        if (entry == FVD_TABLE_EMPTY) {
            print_line(p, "    Map chunk %" PRIu64 " to EMPTY", r->first + i);
        } else {
            print_line(p, "    Map chunk %" PRIu64 " to %" PRIu32, r->first + i, entry);
        }
    }
}

void fvd_print_jrecords(const uint8_t *sector, uint32_t number, const FvdJGeometry *g,
                        FvdPrintFn *print, void *opaque)
{
    FvdJSectorHead head = fvd_jsector_head(sector, g);
    Printer p = {print, opaque};
    g_autoptr(Error) err = NULL;
    FvdJRecord record;
    FvdJIter it;

    if (head.kind == FVD_JSECTOR_EMPTY) {
        return;
    }
    print_head(&p, number, &head);
    if (head.kind == FVD_JSECTOR_VOID_TORN) {
        return;
    }
    fvd_jiter_start(&it, sector, number, &head, g);
    while (fvd_jiter_next(&it, &record, &err) > 0) {
        print_record(&p, &record);
    }
    if (err) {
        print_line(&p, "  damage: %s", error_get_pretty(err));
    }
}
