/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See sector-model.h. */
#include <glib.h>
#include <string.h>
#include "tests/lib/sector-model.h"
#include "util/osdep.h"

#define WORDS (SECTOR_MODEL_BYTES / sizeof(uint64_t))
#define NEVER UINT32_MAX

/* One of those who may have written a sector. */
typedef struct Writer {
    uint32_t id;
    uint32_t began, ended; /* ended: NEVER, as long as it is in flight */
    bool ends_nothing;     /* M5 */
} Writer;

typedef struct Sector {
    Writer *writers;
    unsigned n, room;
    uint32_t zeros; /* when zeroes or a discard began here last */
} Sector;

struct SectorModel {
    int64_t n;
    Sector *sectors;
    uint32_t now, next_id;
    uint32_t flushed; /* when the last flush that succeeded began */
};

/* A sector's numbers, one after the other; sector i's end at ends[i]. */
typedef struct Sets {
    int64_t n;
    GArray *ids;
    unsigned *ends;
} Sets;

struct SectorModelCut {
    Sets sets;
};

struct SectorModelRead {
    Sets sets;
    int64_t first;
    uint32_t began, next_id;
};

/* --------------------------------------------------------------------------------------------- contents */

static uint64_t word_of(uint32_t id, int64_t sector, size_t i)
{
    uint64_t v = (uint64_t)id << 32 | (uint32_t)sector;

    return v + i * UINT64_C(0x9e3779b97f4a7c15);
}

void sector_model_fill(void *buf, uint32_t id, int64_t sector, int64_t n_sectors)
{
    uint8_t *p = buf;

    for (int64_t s = 0; s < n_sectors; s++, p += SECTOR_MODEL_BYTES) {
        for (size_t i = 0; i < WORDS; i++) {
            uint64_t v = id == SECTOR_MODEL_ZEROS ? 0 : word_of(id, sector + s, i);

            memcpy(p + i * sizeof(v), &v, sizeof(v));
        }
    }
}

uint32_t sector_model_id(const void *buf, int64_t sector)
{
    uint8_t want[SECTOR_MODEL_BYTES];
    uint64_t first;
    uint32_t id;

    memcpy(&first, buf, sizeof(first));
    id = first >> 32;
    sector_model_fill(want, id, sector, 1);
    return memcmp(want, buf, sizeof(want)) ? SECTOR_MODEL_GARBAGE : id;
}

/* -------------------------------------------------------------------------------------------- the model */

static void add_writer(Sector *s, Writer w)
{
    if (s->n == s->room) {
        s->room = MAX(4, 2 * s->room);
        s->writers = g_renew(Writer, s->writers, s->room);
    }
    s->writers[s->n++] = w;
}

SectorModel *sector_model_new(int64_t n_sectors, int64_t base_sectors)
{
    SectorModel *m = g_new0(SectorModel, 1);

    m->n = n_sectors;
    m->sectors = g_new0(Sector, n_sectors);
    m->now = 1;
    m->next_id = SECTOR_MODEL_FIRST;
    for (int64_t i = 0; i < n_sectors; i++) {
        uint32_t id = i < base_sectors ? SECTOR_MODEL_BASE : SECTOR_MODEL_ZEROS;

        add_writer(&m->sectors[i], (Writer){.id = id});
    }
    return m;
}

void sector_model_free(SectorModel *m)
{
    for (int64_t i = 0; i < m->n; i++) {
        g_free(m->sectors[i].writers);
    }
    g_free(m->sectors);
    g_free(m);
}

int64_t sector_model_sectors(const SectorModel *m)
{
    return m->n;
}

/* M2, M5: @b had come after @a when it was @by. */
static bool is_over(const Writer *a, const Writer *b, uint32_t by)
{
    return !b->ends_nothing && b->ended <= by && a->ended < b->began;
}

static bool is_over_by_any(const Sector *s, const Writer *a, uint32_t by)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (&s->writers[i] != a && is_over(a, &s->writers[i], by)) {
            return true;
        }
    }
    return false;
}

/* M4: those who are not found any more, whatever happens, are forgotten. */
static void forget(SectorModel *m, int64_t sector, uint32_t durable)
{
    Sector *s = &m->sectors[sector];

    for (unsigned i = s->n; i > 0; i--) {
        if (is_over_by_any(s, &s->writers[i - 1], durable)) {
            s->writers[i - 1] = s->writers[--s->n];
        }
    }
}

void sector_model_write_begin(SectorModel *m, SectorModelKind kind, int64_t first, int64_t n,
                              SectorModelOp *ret_op)
{
    *ret_op = (SectorModelOp){
        .kind = kind,
        .first = first,
        .n = n,
        .id = kind == SECTOR_MODEL_WRITE ? m->next_id++ : SECTOR_MODEL_ZEROS,
        .began = ++m->now,
    };
    for (int64_t i = first; i < first + n; i++) {
        add_writer(&m->sectors[i], (Writer){.id = ret_op->id,
                                            .began = ret_op->began,
                                            .ended = NEVER,
                                            .ends_nothing = kind == SECTOR_MODEL_DISCARD});
        if (kind != SECTOR_MODEL_WRITE) {
            m->sectors[i].zeros = ret_op->began;
        }
    }
}

void sector_model_write_end(SectorModel *m, const SectorModelOp *op, int ret, bool fua)
{
    uint32_t now = ++m->now;

    for (int64_t i = op->first; i < op->first + op->n; i++) {
        Sector *s = &m->sectors[i];

        for (unsigned k = 0; k < s->n; k++) {
            if (s->writers[k].began == op->began) {
                s->writers[k].ended = now;
                s->writers[k].ends_nothing |= ret < 0;
            }
        }
        for (unsigned k = s->n; ret == 0 && fua && k > 0; k--) {
            if (s->writers[k - 1].ended < op->began) { /* this one is durable, if no other */
                s->writers[k - 1] = s->writers[--s->n];
            }
        }
    }
}

uint32_t sector_model_flush_begin(SectorModel *m)
{
    return ++m->now;
}

void sector_model_flush_end(SectorModel *m, uint32_t began, int ret)
{
    if (ret < 0) {
        return;
    }
    m->flushed = MAX(m->flushed, began);
    for (int64_t i = 0; i < m->n; i++) {
        forget(m, i, m->flushed);
    }
}

/* -------------------------------------------------------------------------------------------------- sets */

static void sets_init(Sets *sets, int64_t n)
{
    sets->n = n;
    sets->ids = g_array_new(false, false, sizeof(uint32_t));
    sets->ends = g_new(unsigned, n);
}

static void sets_destroy(Sets *sets)
{
    g_array_free(sets->ids, true);
    g_free(sets->ends);
}

static bool sets_have(const Sets *sets, int64_t i, uint32_t id)
{
    for (unsigned k = i ? sets->ends[i - 1] : 0; k < sets->ends[i]; k++) {
        if (g_array_index(sets->ids, uint32_t, k) == id) {
            return true;
        }
    }
    return false;
}

SectorModelRead *sector_model_read_begin(SectorModel *m, int64_t first, int64_t n)
{
    SectorModelRead *read = g_new0(SectorModelRead, 1);

    read->first = first;
    read->began = ++m->now;
    read->next_id = m->next_id;
    sets_init(&read->sets, n);
    for (int64_t i = 0; i < n; i++) {
        const Sector *s = &m->sectors[first + i];

        for (unsigned k = 0; k < s->n; k++) {
            if (!is_over_by_any(s, &s->writers[k], read->began)) { /* M3 */
                g_array_append_val(read->sets.ids, s->writers[k].id);
            }
        }
        read->sets.ends[i] = read->sets.ids->len;
    }
    return read;
}

/* M1: who began while it was read, be he forgotten already. */
static bool began_since(const SectorModel *m, const SectorModelRead *read, int64_t sector,
                        uint32_t id)
{
    if (id == SECTOR_MODEL_ZEROS) {
        return m->sectors[sector].zeros > read->began;
    }
    return id >= read->next_id && id < m->next_id;
}

void sector_model_read_drop(SectorModelRead *read)
{
    sets_destroy(&read->sets);
    g_free(read);
}

int64_t sector_model_read_end(SectorModel *m, SectorModelRead *read, const void *buf)
{
    int64_t bad = -1;

    for (int64_t i = 0; i < read->sets.n && bad < 0; i++) {
        const uint8_t *sector = (const uint8_t *)buf + i * SECTOR_MODEL_BYTES;
        uint32_t id = sector_model_id(sector, read->first + i);

        if (!sets_have(&read->sets, i, id) && !began_since(m, read, read->first + i, id)) {
            bad = read->first + i;
        }
    }
    sector_model_read_drop(read);
    return bad;
}

void sector_model_seen(SectorModel *m, const void *buf)
{
    for (int64_t i = 0; i < m->n; i++) {
        const uint8_t *sector = (const uint8_t *)buf + i * SECTOR_MODEL_BYTES;
        uint32_t id = sector_model_id(sector, i);
        Sector *s = &m->sectors[i];
        Writer *last = NULL;

        for (unsigned k = 0; k < s->n; k++) {
            Writer *w = &s->writers[k];

            if (w->id == id && (!last || w->began > last->began) && !is_over_by_any(s, w, m->now)) {
                last = w;
            }
        }
        if (last && !last->ends_nothing) {
            last->began = ++m->now;
            forget(m, i, m->flushed);
        }
    }
}

SectorModelCut *sector_model_cut(const SectorModel *m)
{
    SectorModelCut *cut = g_new0(SectorModelCut, 1);

    sets_init(&cut->sets, m->n);
    for (int64_t i = 0; i < m->n; i++) {
        const Sector *s = &m->sectors[i];

        for (unsigned k = 0; k < s->n; k++) {
            g_array_append_val(cut->sets.ids, s->writers[k].id);
        }
        cut->sets.ends[i] = cut->sets.ids->len;
    }
    return cut;
}

void sector_model_cut_free(SectorModelCut *cut)
{
    sets_destroy(&cut->sets);
    g_free(cut);
}

int64_t sector_model_cut_check(const SectorModelCut *cut, const void *buf)
{
    for (int64_t i = 0; i < cut->sets.n; i++) {
        const uint8_t *sector = (const uint8_t *)buf + i * SECTOR_MODEL_BYTES;

        if (!sets_have(&cut->sets, i, sector_model_id(sector, i))) {
            return i;
        }
    }
    return -1;
}

char *sector_model_cut_describe(const SectorModelCut *cut, int64_t sector)
{
    GString *text = g_string_new(NULL);

    for (unsigned k = sector ? cut->sets.ends[sector - 1] : 0; k < cut->sets.ends[sector]; k++) {
        g_string_append_printf(text, "%s%u", text->len ? " " : "",
                               g_array_index(cut->sets.ids, uint32_t, k));
    }
    return g_string_free(text, false);
}

void sector_model_reopen(SectorModel *m, const void *buf)
{
    m->now++;
    for (int64_t i = 0; i < m->n; i++) {
        const uint8_t *sector = (const uint8_t *)buf + i * SECTOR_MODEL_BYTES;
        uint32_t id = sector_model_id(sector, i);
        Sector *s = &m->sectors[i];

        for (unsigned k = 0; k < s->n; k++) {
            if (s->writers[k].id == id) {
                s->writers[k] = (Writer){.id = id, .began = m->now, .ended = m->now};
                break;
            }
        }
    }
}

void sector_model_restart(SectorModel *m, const void *buf)
{
    m->now++;
    for (int64_t i = 0; i < m->n; i++) {
        const uint8_t *sector = (const uint8_t *)buf + i * SECTOR_MODEL_BYTES;

        m->sectors[i].n = 0;
        add_writer(&m->sectors[i], (Writer){.id = sector_model_id(sector, i), .ended = m->now});
    }
}
