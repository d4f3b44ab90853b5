/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * map.c - two truths about one image: that of memory, by which requests go, and that of the storage
 *
 *     take, free, set_fresh           journaled                durable                    copy_page
 *    ----------------------> memory -----------> the log -------------------> committed -----------> file
 *                            table,              runs, in                     what durable
 *                            fresh               their order                  records say
 *
 *   MP1  A checkpoint is made of what is committed, never of what memory says: an entry whose data is under way, or whose
 *        record is in a buffer, would be believed after a crash, and so would a bit.  (F6)
 *   MP2  The committed value of an entry is the table's, unless its bit in "differs" is set: then it is that of "before".
 *        The bit is set before the table's entry changes, and cleared only when both are equal again.  "before" keeps
 *        the value plus one, so that EMPTY is 0 there and memory is touched only where a chunk was given up.
 *   MP3  The log has values, not places to look at: between two records an entry may change in memory, and what is
 *        committed then is what the older of them says.
 *   MP4  A block is in at most one of stale (the file's bitmap) and fresh; journaled is a part of fresh.  What is in the
 *        image is stale or fresh.
 *   MP5  A chunk has one owner.  It is free when neither memory nor anything committed, or still to be committed, names
 *        it: one that a record names when its last record is durable and says something else (F8), one that no record
 *        names at once.
 *   MP6  DIRTY says that no record has the entry as it is.  So an EMPTY one, which has no place for the bit, is journaled
 *        in the step that made it so.
 *   MP7  A page is marked when a record of it becomes durable, for the half this record is in.  Whoever waits for all
 *        records of a half, then writes its pages, has them all.
 *   MP8  Where bits are to be recorded the chunks are those of whole blocks: the rest of a block may be there, fresh, in
 *        chunks that no record has.
 */
#include "block/drivers/fvd/map.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/drivers/fvd/layout/replay.h"
#include "block/drivers/fvd/map-bits.h"
#include "block/drivers/fvd/map-queue.h"

/* Chunks that may be taken again. */
typedef struct FreeRun {
    uint32_t chunk, count;
} FreeRun;

/* A record, or a part of one: entries first + i are chunk + i, or all EMPTY; or blocks. */
typedef struct LogRun {
    uint64_t sequence;
    uint32_t first, count;
    uint32_t chunk;
    bool is_blocks;
    uint8_t half;
} LogRun;

QEMU_BUILD_BUG_ON(sizeof(LogRun) != 24);

struct FvdMap {
    /* Fixed. */
    int64_t disk_bytes, data_offset;
    int64_t chunk_size, block_size;
    int64_t table_offset, bitmap_offset;
    uint32_t chunks; /* of the disk; 0: no table */
    uint32_t blocks; /* bits of the bitmap */
    int64_t table_pages, bitmap_pages;
    int64_t data_chunks; /* what the header has room for */
    bool remap;

    int64_t base_end; /* what is below may be in the base */

    uint32_t *table;   /* memory's, little-endian; DIRTY as in MP6 */
    uint8_t *differs;  /* a bit each entry: MP2 */
    uint32_t *before;  /* host's order, plus one: MP2 */
    uint8_t *stale;    /* committed bits, as in the file */
    uint8_t *fresh;    /* MP4 */
    uint8_t *recorded; /* journaled, not yet durable */
    uint8_t *marks[FVD_MAP_HALVES];

    uint32_t used; /* chunks from here on were never in use */
    uint32_t limit;
    Queue free; /* of FreeRun */
    uint64_t free_chunks;
    Queue log; /* of LogRun; sequences never fall */
    uint64_t last_sequence;
};

/* Making one */

static void *zeros(size_t bytes, bool *failed)
{
    void *memory = g_try_malloc0(MAX(bytes, 1)); /* from the system as zeros: costs nothing yet */

    *failed |= !memory;
    return memory;
}

FvdMap *fvd_map_new(const FvdHeader *h, Error **errp)
{
    FvdMap *m = g_new0(FvdMap, 1);
    bool failed = false;

    m->disk_bytes = h->virtual_disk_size;
    m->data_offset = h->data_offset;
    m->chunk_size = h->chunk_size;
    m->block_size = h->block_size;
    m->table_offset = h->table_offset;
    m->bitmap_offset = h->bitmap_offset;
    m->chunks = (uint32_t)fvd_header_chunks(h); /* FVD_TABLE_USED_MAX: 2^26 */
    m->blocks = (uint32_t)fvd_header_blocks(h); /* FVD_BITMAP_USED_MAX: 2^31 */
    m->table_pages = DIV_ROUND_UP(fvd_header_table_bytes(h), FVD_MAP_PAGE);
    m->bitmap_pages = DIV_ROUND_UP(fvd_header_bitmap_bytes(h), FVD_MAP_PAGE);
    m->data_chunks = fvd_header_data_chunks(h);
    m->limit = (uint32_t)m->data_chunks;
    m->remap = h->incompatible & FVD_INCOMPATIBLE_REMAP;
    m->base_end = h->base_img_fully_prefetched ? 0 : h->base_img_size;
    queue_init(&m->free, sizeof(FreeRun));
    queue_init(&m->log, sizeof(LogRun));

    m->table = zeros((size_t)m->chunks * sizeof(*m->table), &failed);
    m->before = zeros((size_t)m->chunks * sizeof(*m->before), &failed);
    m->differs = zeros(bits_bytes(m->chunks), &failed);
    m->stale = zeros(bits_bytes(m->blocks), &failed);
    m->fresh = zeros(bits_bytes(m->blocks), &failed);
    m->recorded = zeros(bits_bytes(m->blocks), &failed);
    for (unsigned half = 0; half < FVD_MAP_HALVES; half++) {
        m->marks[half] = zeros(bits_bytes((uint64_t)fvd_map_pages(m)), &failed);
    }
    if (failed) {
        error_setg(
            errp, "There is no memory for a table of %" PRId64 " and a bitmap of %" PRId64 " bytes",
            fvd_header_table_bytes(h), fvd_header_bitmap_bytes(h));
        fvd_map_delete(m);
        return NULL;
    }
    memset(m->table, 0xff, (size_t)m->chunks * sizeof(*m->table));
    return m;
}

void fvd_map_delete(FvdMap *m)
{
    if (!m) {
        return;
    }
    for (unsigned half = 0; half < FVD_MAP_HALVES; half++) {
        g_free(m->marks[half]);
    }
    queue_free(&m->free);
    queue_free(&m->log);
    g_free(m->table);
    g_free(m->before);
    g_free(m->differs);
    g_free(m->stale);
    g_free(m->fresh);
    g_free(m->recorded);
    g_free(m);
}

uint32_t *fvd_map_table(FvdMap *m)
{
    return m->chunks ? m->table : NULL;
}

uint8_t *fvd_map_bitmap(FvdMap *m)
{
    return m->blocks ? m->stale : NULL;
}

int fvd_map_start(FvdMap *m, Error **errp)
{
    int ret = fvd_table_check(m->table, m->chunks, (uint32_t)m->data_chunks, &m->used, errp);

    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < m->chunks; i++) {
        if (m->table[i] != FVD_TABLE_EMPTY) { /* the same in either order of bytes */
            m->table[i] &= ~cpu_to_le32(FVD_TABLE_DIRTY);
        }
    }
    for (uint64_t i = m->blocks; i % WORD_BITS; i++) {
        bit_clear(m->stale, i);
    }
    return 0;
}

/* Entries */

static uint32_t entry(const FvdMap *m, uint32_t i)
{
    return le32_to_cpu(m->table[i]);
}

static bool is_dirty(uint32_t value)
{
    return value != FVD_TABLE_EMPTY && (value & FVD_TABLE_DIRTY);
}

static uint32_t committed(const FvdMap *m, uint32_t i)
{
    return bit_get(m->differs, i) ? m->before[i] - 1 : entry(m, i);
}

/* MP2: the entry of memory is @memory, that of the storage @storage. */
static void set_entry(FvdMap *m, uint32_t i, uint32_t memory, uint32_t storage)
{
    m->table[i] = cpu_to_le32(memory);
    if (memory == storage) {
        bit_clear(m->differs, i);
        return;
    }
    if (m->before[i] != storage + 1) { /* reading touches no memory */
        m->before[i] = storage + 1;
    }
    bit_set(m->differs, i);
}

static void check_chunks(const FvdMap *m, uint32_t first, uint32_t n)
{
    assert(first <= m->chunks && n <= m->chunks - first);
}

static void check_blocks(const FvdMap *m, uint32_t first, uint32_t n)
{
    assert(first <= m->blocks && n <= m->blocks - first);
}

/* Reading */

/* Blocks of the base: what is below the end is block / block_size's to say. */
static bool in_base(const FvdMap *m, int64_t offset, int64_t end, int64_t *ret_end)
{
    uint64_t block, next;
    bool base;

    if (offset >= m->base_end) {
        *ret_end = end;
        return false;
    }
    block = (uint64_t)(offset / m->block_size);
    base = !bit_get(m->stale, block) && !bit_get(m->fresh, block);
    next = bits_find(m->stale, m->fresh, block,
                     (uint64_t)DIV_ROUND_UP(MIN(end, m->base_end), m->block_size), base);
    /* A run in the base ends with it.  One in the image that gets there goes on: nothing behind is in the base. */
    if (next * (uint64_t)m->block_size >= (uint64_t)m->base_end) {
        *ret_end = base ? MIN(end, m->base_end) : end;
    } else {
        *ret_end = MIN(end, (int64_t)next * m->block_size);
    }
    return base;
}

/* What is in the image at @offset, and where the chunk ends. */
static FvdMapKind in_chunk(const FvdMap *m, int64_t offset, int64_t end, int64_t *ret_end,
                           int64_t *ret_host)
{
    int64_t i;
    uint32_t value;

    if (!m->chunks) {
        *ret_end = end;
        *ret_host = m->data_offset + offset;
        return FVD_MAP_DATA;
    }
    i = offset / m->chunk_size;
    *ret_end = MIN(end, (i + 1) * m->chunk_size);
    value = entry(m, (uint32_t)i);
    if (value == FVD_TABLE_EMPTY) {
        return FVD_MAP_ZERO;
    }
    *ret_host = m->data_offset + (int64_t)(value & ~FVD_TABLE_DIRTY) * m->chunk_size +
                offset % m->chunk_size;
    return FVD_MAP_DATA;
}

/* How far from @offset on all is of @kind and, if it is data, in one piece that begins at @host. */
static FvdMapKind in_chunks(const FvdMap *m, int64_t offset, int64_t end, int64_t *ret_end,
                            int64_t *ret_host)
{
    int64_t at, host = 0;
    FvdMapKind kind = in_chunk(m, offset, end, &at, &host);

    while (at < end) {
        int64_t next, next_host = 0;

        if (in_chunk(m, at, end, &next, &next_host) != kind ||
            (kind == FVD_MAP_DATA && next_host != host + (at - offset))) {
            break;
        }
        at = next;
    }
    *ret_end = at;
    if (kind == FVD_MAP_DATA) {
        *ret_host = host;
    }
    return kind;
}

FvdMapKind fvd_map_read(const FvdMap *m, int64_t offset, int64_t bytes, int64_t *ret_bytes,
                        int64_t *ret_host)
{
    int64_t end;
    FvdMapKind kind = FVD_MAP_BASE;

    assert(offset >= 0 && bytes > 0 && bytes <= m->disk_bytes - offset);
    if (!in_base(m, offset, offset + bytes, &end)) {
        kind = in_chunks(m, offset, end, &end, ret_host);
    }
    *ret_bytes = end - offset;
    return kind;
}

int64_t fvd_map_place(const FvdMap *m, int64_t offset, int64_t bytes, int64_t *ret_bytes)
{
    int64_t end, host = -1;

    assert(offset >= 0 && bytes > 0 && bytes <= m->disk_bytes - offset);
    in_chunks(m, offset, offset + bytes, &end, &host);
    *ret_bytes = end - offset;
    return host;
}

/* Writing */

static bool block_in_base(const FvdMap *m, int64_t offset)
{
    int64_t end;

    return in_base(m, offset, offset + 1, &end);
}

void fvd_map_write_need(const FvdMap *m, int64_t offset, int64_t bytes, FvdMapNeed *need)
{
    int64_t end = offset + bytes, from = offset, to = end;

    assert(offset >= 0 && bytes > 0 && bytes <= m->disk_bytes - offset);
    *need = (FvdMapNeed){.start = offset, .end = end};
    if (offset < m->base_end) {
        int64_t last = MIN(end, m->base_end) - 1;
        int64_t last_end = MIN((last / m->block_size + 1) * m->block_size, m->base_end);

        if (block_in_base(m, offset)) {
            need->start = offset / m->block_size * m->block_size;
        }
        if (end < last_end && block_in_base(m, last)) {
            need->end = last_end;
        }
        need->first_block = (uint32_t)(offset / m->block_size);
        need->n_blocks = (uint32_t)(last / m->block_size) - need->first_block + 1;
        need->record_bitmap = bits_find(m->stale, m->recorded, need->first_block,
                                        (uint64_t)need->first_block + need->n_blocks,
                                        false) < (uint64_t)need->first_block + need->n_blocks;
        if (need->record_bitmap) { /* MP8 */
            from = offset / m->block_size * m->block_size;
            to = MAX(end, last_end);
        }
    }
    if (m->chunks) {
        need->first_chunk = (uint32_t)(from / m->chunk_size);
        need->n_chunks = (uint32_t)((to - 1) / m->chunk_size) - need->first_chunk + 1;
        for (uint32_t i = 0; i < need->n_chunks; i++) {
            uint32_t value = entry(m, need->first_chunk + i);

            need->n_empty += value == FVD_TABLE_EMPTY;
            need->record_table |= value == FVD_TABLE_EMPTY || is_dirty(value);
        }
    }
}

uint32_t fvd_map_used(const FvdMap *m)
{
    return m->used;
}

void fvd_map_raise_used(FvdMap *m, uint32_t used)
{
    assert(used <= m->data_chunks);
    m->used = MAX(m->used, used);
}

uint64_t fvd_map_available(const FvdMap *m)
{
    return m->free_chunks + (m->limit > m->used ? m->limit - m->used : 0);
}

void fvd_map_set_limit(FvdMap *m, int64_t chunks)
{
    assert(chunks >= 0);
    m->limit = (uint32_t)MIN(chunks, m->data_chunks);
}

/* MP5: nothing names it any more. */
static void release(FvdMap *m, uint32_t chunk)
{
    FreeRun run = {chunk, 1};

    m->free_chunks++;
    if (!queue_is_empty(&m->free)) {
        FreeRun *last = &g_array_index(m->free.array, FreeRun, m->free.array->len - 1);

        if (last->chunk + last->count == chunk) {
            last->count++;
            return;
        }
    }
    g_array_append_val(m->free.array, run);
}

int fvd_map_find_free(FvdMap *m)
{
    bool failed = false;
    uint8_t *named = zeros(bits_bytes(m->used), &failed);
    uint64_t chunk = 0, end;

    if (failed) {
        return -ENOMEM;
    }
    assert(queue_is_empty(&m->free) && queue_is_empty(&m->log));
    for (uint32_t i = 0; i < m->chunks; i++) {
        if (entry(m, i) != FVD_TABLE_EMPTY) {
            bit_set(named, entry(m, i));
        }
    }
    for (; (chunk = bits_find(named, named, chunk, m->used, false)) < m->used; chunk = end) {
        end = bits_find(named, named, chunk, m->used, true);
        g_array_append_vals(m->free.array, &(FreeRun){(uint32_t)chunk, (uint32_t)(end - chunk)}, 1);
        m->free_chunks += end - chunk;
    }
    g_free(named);
    return 0;
}

/* One, given back or new; there is one. */
static uint32_t acquire(FvdMap *m, bool *used_before)
{
    FreeRun *run;
    uint32_t chunk;

    if (queue_is_empty(&m->free)) {
        assert(m->used < m->limit);
        return m->used++;
    }
    *used_before = true;
    run = &g_array_index(m->free.array, FreeRun, m->free.head);
    chunk = run->chunk++;
    m->free_chunks--;
    if (--run->count == 0) {
        queue_drop(&m->free);
    }
    return chunk;
}

uint32_t fvd_map_empty_run(const FvdMap *m, uint32_t first, uint32_t n, uint32_t *ret_first)
{
    uint32_t count = 0;

    check_chunks(m, first, n);
    for (uint32_t i = first; i < first + n; i++) {
        if (entry(m, i) == FVD_TABLE_EMPTY) {
            *ret_first = count++ ? *ret_first : i;
        } else if (count) {
            break;
        }
    }
    return count;
}

int fvd_map_take(FvdMap *m, uint32_t first, uint32_t n, bool *ret_used_before)
{
    uint64_t empty = 0;
    bool used_before = false;

    check_chunks(m, first, n);
    for (uint32_t i = first; i < first + n; i++) {
        empty += entry(m, i) == FVD_TABLE_EMPTY;
    }
    if (empty > fvd_map_available(m)) {
        return -ENOSPC;
    }
    for (uint32_t i = first; i < first + n; i++) {
        if (entry(m, i) == FVD_TABLE_EMPTY) {
            set_entry(m, i, acquire(m, &used_before) | FVD_TABLE_DIRTY, committed(m, i));
        }
    }
    if (ret_used_before) {
        *ret_used_before = used_before;
    }
    return 0;
}

/* The entry becomes EMPTY; whether it was one that no record names. */
static bool give_up(FvdMap *m, uint32_t i)
{
    uint32_t value = entry(m, i);

    set_entry(m, i, FVD_TABLE_EMPTY, committed(m, i));
    if (is_dirty(value)) {
        release(m, value & ~FVD_TABLE_DIRTY);
        return true;
    }
    return false;
}

bool fvd_map_is_dirty(const FvdMap *m, uint32_t i)
{
    check_chunks(m, i, 1);
    return is_dirty(entry(m, i));
}

/* A run of free chunks that ends where those end that were ever in use; or NULL. */
static FreeRun *last_free(FvdMap *m, unsigned *ret_at)
{
    for (unsigned at = m->free.head; at < m->free.array->len; at++) {
        FreeRun *run = &g_array_index(m->free.array, FreeRun, at);

        if (run->chunk + run->count == m->used) {
            *ret_at = at;
            return run;
        }
    }
    return NULL;
}

void fvd_map_untake(FvdMap *m, uint32_t first, uint32_t n, uint32_t untouched)
{
    FreeRun *run;
    unsigned at;

    check_chunks(m, first, n);
    for (uint32_t i = first; i < first + n; i++) {
        if (is_dirty(entry(m, i))) {
            give_up(m, i);
        }
    }
    while (m->used > untouched && (run = last_free(m, &at))) {
        uint32_t count = MIN(run->count, m->used - untouched);

        m->used -= count;
        m->free_chunks -= count;
        run->count -= count;
        if (run->count == 0) {
            g_array_remove_index(m->free.array, at);
        }
    }
}

bool fvd_map_free(FvdMap *m, uint32_t first, uint32_t n)
{
    bool record = false;

    assert(m->remap);
    check_chunks(m, first, n);
    for (uint32_t i = first; i < first + n; i++) {
        if (entry(m, i) != FVD_TABLE_EMPTY) {
            record |= !give_up(m, i);
        }
    }
    return record;
}

bool fvd_map_is_recorded(const FvdMap *m, uint32_t block)
{
    check_blocks(m, block, 1);
    return bit_get(m->stale, block) || bit_get(m->recorded, block);
}

void fvd_map_set_fresh(FvdMap *m, uint32_t first, uint32_t n)
{
    check_blocks(m, first, n);
    for (uint64_t i = first; i < (uint64_t)first + n; i++) {
        if (!bit_get(m->stale, i)) {
            bit_set(m->fresh, i);
        }
    }
}

uint32_t fvd_map_soft_run(const FvdMap *m, uint32_t from, uint32_t *ret_first)
{
    uint64_t at = from, n = 0;

    while ((at = bits_find(m->fresh, m->fresh, at, m->blocks, true)) < m->blocks &&
           bit_get(m->recorded, at)) {
        at++;
    }
    while (at + n < m->blocks && bit_get(m->fresh, at + n) && !bit_get(m->recorded, at + n)) {
        n++;
    }
    *ret_first = (uint32_t)at;
    return (uint32_t)n;
}

void fvd_map_forget_base(FvdMap *m)
{
    m->base_end = 0;
}

/* Journal */

void fvd_map_change(const FvdMap *m, uint32_t first_chunk, uint32_t n_chunks, uint32_t first_block,
                    uint32_t n_blocks, uint64_t epoch, FvdJChange *ret_change)
{
    check_chunks(m, first_chunk, n_chunks);
    check_blocks(m, first_block, n_blocks);
    *ret_change = (FvdJChange){.epoch = epoch};
    if (n_chunks) {
        ret_change->entries = m->table + first_chunk;
        ret_change->first_chunk = first_chunk;
        ret_change->n_chunks = n_chunks;
    }
    if (n_blocks) {
        int64_t start = first_block * m->block_size;
        int64_t end = MIN(start + n_blocks * m->block_size, m->disk_bytes);

        assert((end - start) / FVD_SECTOR_BYTES <= UINT32_MAX);
        ret_change->first_sector = (uint64_t)(start / FVD_SECTOR_BYTES);
        ret_change->n_sectors = (uint32_t)((end - start) / FVD_SECTOR_BYTES);
    }
}

static void log_add(FvdMap *m, const LogRun *run)
{
    if (!queue_is_empty(&m->log)) {
        LogRun *last = &g_array_index(m->log.array, LogRun, m->log.array->len - 1);
        uint32_t next = last->chunk == FVD_TABLE_EMPTY ? last->chunk : last->chunk + last->count;

        if (last->sequence == run->sequence && last->half == run->half &&
            last->is_blocks == run->is_blocks && last->first + last->count == run->first &&
            (run->is_blocks || next == run->chunk)) {
            last->count += run->count;
            return;
        }
    }
    g_array_append_val(m->log.array, *run);
}

void fvd_map_journaled(FvdMap *m, uint32_t first_chunk, uint32_t n_chunks, uint32_t first_block,
                       uint32_t n_blocks, unsigned half, uint64_t sequence)
{
    LogRun run = {.sequence = sequence, .half = (uint8_t)half};

    assert(half < FVD_MAP_HALVES && sequence >= m->last_sequence);
    check_chunks(m, first_chunk, n_chunks);
    check_blocks(m, first_block, n_blocks);
    m->last_sequence = sequence;
    for (uint32_t i = first_chunk; i < first_chunk + n_chunks; i++) {
        uint32_t value = entry(m, i);

        run.chunk = is_dirty(value) ? value & ~FVD_TABLE_DIRTY : value;
        run.first = i;
        run.count = 1;
        set_entry(m, i, run.chunk, committed(m, i));
        log_add(m, &run);
    }
    if (n_blocks) {
        run.is_blocks = true;
        run.chunk = FVD_TABLE_EMPTY;
        run.first = first_block;
        run.count = n_blocks;
        log_add(m, &run);
        for (uint64_t i = first_block; i < (uint64_t)first_block + n_blocks; i++) {
            if (!bit_get(m->stale, i)) {
                bit_set(m->fresh, i);
                bit_set(m->recorded, i);
            }
        }
    }
}

static void mark(FvdMap *m, unsigned half, int64_t page)
{
    bit_set(m->marks[half], (uint64_t)page);
}

static void commit_entry(FvdMap *m, uint32_t i, uint32_t value, unsigned half)
{
    uint32_t old = committed(m, i);

    if (old == value) {
        return;
    }
    set_entry(m, i, entry(m, i), value);
    if (old != FVD_TABLE_EMPTY) {
        release(m, old);
    }
    mark(m, half, (int64_t)i * FVD_TABLE_ENTRY_BYTES / FVD_MAP_PAGE);
}

static void commit_block(FvdMap *m, uint64_t i, unsigned half)
{
    if (bit_get(m->stale, i)) {
        return;
    }
    bit_set(m->stale, i);
    bit_clear(m->fresh, i);
    bit_clear(m->recorded, i);
    mark(m, half, m->table_pages + (int64_t)(i / 8 / FVD_MAP_PAGE));
}

void fvd_map_durable(FvdMap *m, uint64_t sequence)
{
    while (!queue_is_empty(&m->log)) {
        LogRun run = g_array_index(m->log.array, LogRun, m->log.head);

        if (run.sequence > sequence) {
            break;
        }
        for (uint32_t i = 0; i < run.count; i++) {
            if (run.is_blocks) {
                commit_block(m, (uint64_t)run.first + i, run.half);
            } else {
                commit_entry(m, run.first + i,
                             run.chunk == FVD_TABLE_EMPTY ? run.chunk : run.chunk + i, run.half);
            }
        }
        queue_drop(&m->log);
    }
}

/* Checkpoint */

int64_t fvd_map_pages(const FvdMap *m)
{
    return m->table_pages + m->bitmap_pages;
}

int64_t fvd_map_next_page(const FvdMap *m, unsigned half, int64_t from)
{
    uint64_t pages = (uint64_t)fvd_map_pages(m);
    uint64_t page;

    assert(half < FVD_MAP_HALVES && from >= 0);
    page = bits_find(m->marks[half], m->marks[half], (uint64_t)from, pages, true);
    return page < pages ? (int64_t)page : -1;
}

void fvd_map_mark_page(FvdMap *m, unsigned half, int64_t page)
{
    assert(half < FVD_MAP_HALVES && page >= 0 && page < fvd_map_pages(m));
    mark(m, half, page);
}

/* Of @total bytes those of the page, padded as every region is. */
static size_t page_bytes(int64_t page, uint64_t total)
{
    uint64_t left = total - (uint64_t)page * FVD_MAP_PAGE;

    return MIN(ROUND_UP(left, FVD_REGION_ALIGN_OLD), FVD_MAP_PAGE);
}

size_t fvd_map_copy_page(FvdMap *m, unsigned half, int64_t page, uint8_t *buf, int64_t *ret_offset)
{
    assert(half < FVD_MAP_HALVES && page >= 0 && page < fvd_map_pages(m));
    bit_clear(m->marks[half], (uint64_t)page);
    if (page < m->table_pages) {
        uint32_t first = (uint32_t)(page * (FVD_MAP_PAGE / FVD_TABLE_ENTRY_BYTES));
        uint32_t n = MIN(m->chunks - first, FVD_MAP_PAGE / FVD_TABLE_ENTRY_BYTES);

        memset(buf, 0xff, FVD_MAP_PAGE); /* behind the last entry: EMPTY */
        for (uint32_t i = 0; i < n; i++) {
            uint32_t value = committed(m, first + i);

            assert(!is_dirty(value)); /* MP1 */
            stl_le_p(buf + i * FVD_TABLE_ENTRY_BYTES, value);
        }
        *ret_offset = m->table_offset + page * FVD_MAP_PAGE;
        return page_bytes(page, (uint64_t)m->chunks * FVD_TABLE_ENTRY_BYTES);
    }
    page -= m->table_pages;
    {
        uint64_t total = DIV_ROUND_UP((uint64_t)m->blocks, 8);
        uint64_t at = (uint64_t)page * FVD_MAP_PAGE;

        memset(buf, 0, FVD_MAP_PAGE);
        memcpy(buf, m->stale + at, MIN(total - at, FVD_MAP_PAGE));
        *ret_offset = m->bitmap_offset + page * FVD_MAP_PAGE;
        return page_bytes(page, total);
    }
}
