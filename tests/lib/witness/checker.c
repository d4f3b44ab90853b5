/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checker.c - finds after how many writes the source looked like the copy, and when that was
 *
 *      writes of one writer      1    2    3    4    5            each sector of the copy names
 *      sent .. acknowledged     [--] [-]  [---] [-] [--]          the write it came from
 *                                          ^     ^
 *      after the first k = 3               |     |                all its sectors agree with k
 *                                        sent(3) acked(4)         the instant lies in between
 *
 * The writes are played back on a model of the disk, one at a time.  After each, the number of
 * sectors in which model and copy differ is known; k fits where it is zero.  For several writers, on
 * any number of disks, some fitting k of each must leave one common instant:
 *
 * I1  write k of every writer was sent before the instant,
 * I2  write k + 1 of every writer was acknowledged after it,
 * I3  the instant lies between the sending of the command (--from) and its reply (--to).
 *
 * A discard leaves the choice of zeros or the old bytes; everything else is exact.
 * With --final the image must be what all acknowledged writes left, and a write without an answer may
 * have happened in any of its sectors or in none.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "witness.h"

/* What a sector holds.  A number above INITIAL is the write that left it. */
#define HOLDS_ZERO    UINT64_C(0)
#define HOLDS_FOREIGN (UINT64_MAX)
#define HOLDS_INITIAL (UINT64_MAX - 1)

#define READ_BYTES (1024 * 1024)

typedef struct Sector {
    uint64_t found;    /* HOLDS_* or the number of a write of the sector's owner */
    uint64_t expected; /* the same, in the model */
    bool initial_zero; /* the disk had zeros here to begin with */
    bool zero_too;     /* a discard has left the choice */
} Sector;

typedef struct Span {
    uint64_t from, to, k;
} Span;

typedef struct SpanList {
    Span *spans;
    size_t count, room;
} SpanList;

typedef struct Checker {
    WitnessLog log;
    const char *images[WITNESS_DISKS_MAX];
    const char *initials[WITNESS_DISKS_MAX];
    Sector *sectors[WITNESS_DISKS_MAX]; /* of the area */
    uint64_t from, to;
    bool final;
} Checker;

static bool all_zero(const uint8_t *p, size_t bytes)
{
    return !p[0] && !memcmp(p, p + 1, bytes - 1);
}

static void log_load(WitnessLog *log, const char *path)
{
    FILE *f = fopen(path, "rb");

    if (!f || fread(log, WITNESS_LOG_HEAD, 1, f) != 1 || log->magic != WITNESS_LOG_MAGIC) {
        witness_die("'%s' is not a log of the witness", path);
    }
    for (uint64_t i = 0; i < log->writers; i++) {
        log->ops[i] = calloc(log->counts[i] + 1, sizeof(WitnessOp));
        if (!log->ops[i] ||
            fread(log->ops[i], sizeof(WitnessOp), log->counts[i], f) != log->counts[i]) {
            witness_die("the log '%s' is shorter than it says", path);
        }
    }
    fclose(f);
}

/* One sector of the area: which write of its owner left it there? */
static void sector_find(Checker *c, uint32_t disk, uint64_t offset, const uint8_t *is,
                        const uint8_t *was)
{
    uint64_t index = (offset - c->log.area_offset) / WITNESS_SECTOR;
    uint64_t owner = (offset - c->log.area_offset) / c->log.stripe_bytes;
    Sector *sector = &c->sectors[disk][index];
    uint32_t writer;
    uint64_t number;

    *sector = (Sector){.found = HOLDS_FOREIGN,
                       .expected = HOLDS_INITIAL,
                       .initial_zero = all_zero(was, WITNESS_SECTOR)};
    if (all_zero(is, WITNESS_SECTOR)) {
        sector->found = HOLDS_ZERO;
    } else if (!memcmp(is, was, WITNESS_SECTOR)) {
        sector->found = HOLDS_INITIAL;
    } else if (witness_sector_parse(is, disk, offset, &writer, &number) && writer == owner &&
               number) {
        sector->found = number;
    }
}

static int open_or_die(const char *path, uint64_t *ret_bytes)
{
    struct stat st;
    int fd = open(path, O_RDONLY);

    if (fd < 0 || fstat(fd, &st) < 0) {
        witness_die("cannot open '%s': %s", path, strerror(errno));
    }
    *ret_bytes = (uint64_t)lseek(fd, 0, SEEK_END);
    return fd;
}

static void read_or_die(int fd, const char *path, uint8_t *buffer, size_t bytes, uint64_t offset)
{
    if (pread(fd, buffer, bytes, (off_t)offset) != (ssize_t)bytes) {
        witness_die("cannot read '%s'", path);
    }
}

/* Reads a disk: outside of the area nothing may have changed, inside every sector is looked up. */
static void disk_load(Checker *c, uint32_t disk)
{
    static uint8_t is[READ_BYTES], was[READ_BYTES];
    const WitnessLog *log = &c->log;
    uint64_t used = log->stripe_bytes * log->writers, bytes, before;
    int fd = open_or_die(c->images[disk], &bytes), old = open_or_die(c->initials[disk], &before);

    if (bytes < before) {
        witness_die("'%s' has %" PRIu64 " bytes, the source %" PRIu64, c->images[disk], bytes,
                    before);
    }
    c->sectors[disk] = calloc(used / WITNESS_SECTOR, sizeof(Sector));
    if (!c->sectors[disk]) {
        witness_die("out of memory");
    }
    for (uint64_t at = 0; at < before; at += READ_BYTES) {
        size_t length = before - at < READ_BYTES ? before - at : READ_BYTES;

        read_or_die(fd, c->images[disk], is, length, at);
        read_or_die(old, c->initials[disk], was, length, at);
        for (size_t i = 0; i < length; i += WITNESS_SECTOR) {
            size_t rest = length - i < WITNESS_SECTOR ? length - i : WITNESS_SECTOR;
            uint64_t offset = at + i;

            if (offset >= log->area_offset && offset < log->area_offset + used) {
                sector_find(c, disk, offset, is + i, was + i);
            } else if (memcmp(is + i, was + i, rest)) {
                witness_die("byte %" PRIu64 " of '%s' and on: changed, and nobody wrote there",
                            offset, c->images[disk]);
            }
        }
    }
    close(fd);
    close(old);
}

static bool sector_agrees(const Sector *s)
{
    if (s->found == HOLDS_ZERO) {
        return s->expected == HOLDS_ZERO || s->zero_too ||
               (s->expected == HOLDS_INITIAL && s->initial_zero);
    }
    return s->found == s->expected;
}

static void sector_apply(Sector *s, const WitnessOp *op, uint64_t number)
{
    switch (op->kind) {
    case WITNESS_WRITE:
        s->expected = number;
        s->zero_too = false;
        break;
    case WITNESS_ZERO:
        s->expected = HOLDS_ZERO;
        s->zero_too = false;
        break;
    default:
        s->zero_too = true;
        break;
    }
}

/* Plays write @number of a writer on the model; returns how much the number of differences grew. */
static int64_t op_apply(Checker *c, const WitnessOp *op, uint64_t number)
{
    Sector *s = c->sectors[op->disk] + (op->offset - c->log.area_offset) / WITNESS_SECTOR;
    int64_t grown = 0;

    for (uint64_t i = 0; i < op->bytes / WITNESS_SECTOR; i++) {
        grown += sector_agrees(&s[i]);
        sector_apply(&s[i], op, number);
        grown -= sector_agrees(&s[i]);
    }
    return grown;
}

static int64_t stripe_differences(const Checker *c, uint64_t writer)
{
    uint64_t sectors = c->log.stripe_bytes / WITNESS_SECTOR;
    int64_t differences = 0;

    for (uint64_t d = 0; d < c->log.disks; d++) {
        for (uint64_t i = 0; i < sectors; i++) {
            differences += !sector_agrees(&c->sectors[d][writer * sectors + i]);
        }
    }
    return differences;
}

static void span_add(SpanList *list, uint64_t from, uint64_t to, uint64_t k)
{
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 64;
        list->spans = realloc(list->spans, list->room * sizeof(Span));
        if (!list->spans) {
            witness_die("out of memory");
        }
    }
    list->spans[list->count++] = (Span){from, to, k};
}

/* All k of one writer that fit its sectors, each with the time it was true (I1, I2). */
static void writer_fit(Checker *c, uint64_t writer, SpanList *fits)
{
    uint64_t count = c->log.counts[writer], best_k = 0;
    const WitnessOp *ops = c->log.ops[writer];
    int64_t differences = stripe_differences(c, writer), best = differences;

    for (uint64_t k = 0;; k++) {
        if (!differences) {
            span_add(fits, k ? ops[k - 1].sent_ns : 0,
                     k < count && ops[k].acked_ns ? ops[k].acked_ns : UINT64_MAX, k);
        } else if (differences < best) {
            best = differences;
            best_k = k;
        }
        if (k == count) {
            break;
        }
        differences += op_apply(c, &ops[k], k + 1);
    }
    if (!fits->count) {
        witness_die("writer %" PRIu64 ": the copy is a mix. The closest is after %" PRIu64
                    " of %" PRIu64 " writes, and %" PRId64 " sectors differ even there",
                    writer, best_k, count, best);
    }
}

/* Keeps of @all what some span of @fits overlaps; the k of the last writer stays with it. */
static SpanList spans_join(const SpanList *all, const SpanList *fits)
{
    SpanList joined = {0};

    for (size_t i = 0; i < all->count; i++) {
        for (size_t j = 0; j < fits->count; j++) {
            uint64_t from = all->spans[i].from, to = all->spans[i].to;

            from = fits->spans[j].from > from ? fits->spans[j].from : from;
            to = fits->spans[j].to < to ? fits->spans[j].to : to;
            if (from <= to) {
                span_add(&joined, from, to, fits->spans[j].k);
            }
        }
    }
    return joined;
}

static int check_instant(Checker *c)
{
    SpanList all = {0};
    char list[WITNESS_WRITERS_MAX * 24] = "";
    size_t used = 0;

    span_add(&all, c->from, c->to, 0); /* I3 */
    for (uint64_t w = 0; w < c->log.writers; w++) {
        SpanList fits = {0}, joined;
        uint64_t first, last;

        writer_fit(c, w, &fits);
        first = fits.spans[0].k;
        last = fits.spans[fits.count - 1].k;
        joined = spans_join(&all, &fits);
        if (!joined.count) {
            uint64_t acked = 0, sent = 0;

            while (acked < c->log.counts[w] && c->log.ops[w][acked].acked_ns &&
                   c->log.ops[w][acked].acked_ns <= c->from) {
                acked++;
            }
            while (sent < c->log.counts[w] && c->log.ops[w][sent].sent_ns <= c->to) {
                sent++;
            }
            witness_die("writer %" PRIu64 ": the copy is its disk after %" PRIu64 " to %" PRIu64
                        " writes, which is no common instant: %" PRIu64
                        " were acknowledged before the command, %" PRIu64 " sent before its reply",
                        w, first, last, acked, sent);
        }
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%" PRIu64, w ? ", " : "",
                                 joined.spans[0].k);
        free(fits.spans);
        free(all.spans);
        all = joined;
    }
    printf("{\"k\": [%s], \"from\": %" PRIu64 ", \"to\": %" PRIu64 "}\n", list, all.spans[0].from,
           all.spans[0].to);
    free(all.spans);
    return 0;
}

static int check_final(Checker *c)
{
    for (uint64_t w = 0; w < c->log.writers; w++) {
        uint64_t count = c->log.counts[w];
        const WitnessOp *last = count ? &c->log.ops[w][count - 1] : NULL;
        int64_t differences;

        for (uint64_t k = 0; k < count; k++) {
            const WitnessOp *op = &c->log.ops[w][k];

            if (op->acked_ns) {
                op_apply(c, op, k + 1);
            }
        }
        if (last && !last->acked_ns) {
            /* Nobody promised anything about its sectors: accept the new bytes where they are. */
            Sector *s =
                c->sectors[last->disk] + (last->offset - c->log.area_offset) / WITNESS_SECTOR;

            for (uint64_t i = 0; i < last->bytes / WITNESS_SECTOR; i++) {
                if (!sector_agrees(&s[i])) {
                    sector_apply(&s[i], last, count);
                }
            }
        }
        differences = stripe_differences(c, w);
        if (differences) {
            witness_die("writer %" PRIu64 ": %" PRId64
                        " sectors of the disk are not what the acknowledged writes left",
                        w, differences);
        }
    }
    printf("{\"final\": true}\n");
    return 0;
}

int witness_check(int argc, char **argv)
{
    static const struct option names[] = {
        {"log", 1, NULL, 'l'},  {"image", 1, NULL, 'i'}, {"initial", 1, NULL, 'o'},
        {"from", 1, NULL, 'f'}, {"to", 1, NULL, 't'},    {"final", 0, NULL, 'F'},
        {NULL, 0, NULL, 0},
    };
    static Checker c;
    const char *log = NULL;
    uint64_t images = 0, initials = 0;
    int option, r;

    c.to = UINT64_MAX;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'l':
            log = optarg;
            break;
        case 'i':
            c.images[images++ % WITNESS_DISKS_MAX] = optarg;
            break;
        case 'o':
            c.initials[initials++ % WITNESS_DISKS_MAX] = optarg;
            break;
        case 'f':
            c.from = witness_number("--from", optarg);
            break;
        case 't':
            c.to = witness_number("--to", optarg);
            break;
        case 'F':
            c.final = true;
            break;
        default:
            return 1;
        }
    }
    if (!log || !images || images > WITNESS_DISKS_MAX || images != initials) {
        witness_die("usage: witness check --log FILE (--image FILE --initial FILE)... "
                    "[--from NS --to NS | --final]");
    }
    log_load(&c.log, log);
    if (images != c.log.disks) {
        witness_die("the log has %" PRIu64 " disks", c.log.disks);
    }
    for (uint32_t d = 0; d < images; d++) {
        disk_load(&c, d);
    }
    r = c.final ? check_final(&c) : check_instant(&c);
    for (uint64_t w = 0; w < c.log.writers; w++) {
        free(c.log.ops[w]);
    }
    for (uint64_t d = 0; d < images; d++) {
        free(c.sectors[d]);
    }
    return r;
}
