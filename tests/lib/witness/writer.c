/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * writer.c - the numbered writes of the witness
 *
 *      writer 0 --connection--\        area of a disk
 *      writer 1 --connection---+--->  [ stripe 0 | stripe 1 | stripe 2 | ... ]
 *      writer 2 --connection--/
 *
 * W1  A writer has one request in flight: its writes happen in the order of their numbers.
 * W2  Stripes do not overlap, so that what a sector should hold depends on one writer alone.
 * W3  The time "sent" is taken before the request leaves, "acknowledged" after its answer came.  Taken
 *     the other way round, the log would claim an order that nobody promised.
 *
 * The program writes until its standard input ends.  It prints "acked N" as it goes, and at the end
 * one line of JSON; the log is written to the file then.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <libnbd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "witness.h"

/* The longest write: more than four 64 KiB clusters, so that a request crosses several. */
#define WRITE_BYTES_DEFAULT (320 * 1024)
/* How often the count is printed; a reader waits for a count, never for a time. */
#define REPORT_NS           UINT64_C(2000000)

typedef struct Options {
    const char *log;
    const char *uris[WITNESS_DISKS_MAX];
    uint64_t disks;
    uint64_t seed;
    uint64_t writers;
    uint64_t area_offset;
    uint64_t area_bytes;
    uint64_t bytes_max;
    uint64_t zero_percent;
    uint64_t discard_percent;
    uint64_t rate; /* writes a second of each writer; 0: as fast as they are answered */
    bool alternate;
    bool survive; /* a connection that breaks ends its writer, not the run */
} Options;

typedef struct Writer {
    const Options *options;
    const WitnessLog *log;
    pthread_t thread;
    uint32_t index;
    struct nbd_handle *nbd[WITNESS_DISKS_MAX];
    uint8_t *buffer;
    uint64_t random;
    WitnessOp *ops;
    uint64_t count, room;
    uint64_t longest_ns;
    bool broken;
    char error[256];
} Writer;

static _Atomic bool stopping;
static _Atomic uint64_t acked_total;

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static WitnessOp *writer_next(Writer *w)
{
    const Options *o = w->options;
    uint64_t sectors = w->log->stripe_bytes / WITNESS_SECTOR, first, length, most, dice;
    WitnessOp *op;

    if (w->count == w->room) {
        w->room = w->room ? w->room * 2 : 4096;
        w->ops = realloc(w->ops, w->room * sizeof(*w->ops));
        if (!w->ops) {
            witness_die("out of memory for the log");
        }
    }
    op = &w->ops[w->count];
    first = witness_random(&w->random) % sectors;
    most = o->bytes_max / WITNESS_SECTOR;
    /* Half of the writes are small: 4 KiB and less is what a guest mostly sends. */
    most = witness_random(&w->random) % 2 && most > 8 ? 8 : most;
    length = 1 + witness_random(&w->random) % most;
    length = length < sectors - first ? length : sectors - first;
    dice = witness_random(&w->random) % 100;
    *op = (WitnessOp){
        .offset = w->log->area_offset + w->index * w->log->stripe_bytes + first * WITNESS_SECTOR,
        .bytes = length * WITNESS_SECTOR,
        .disk =
            (uint32_t)(o->alternate ? w->count % o->disks : witness_random(&w->random) % o->disks),
        .kind = dice < o->zero_percent                        ? WITNESS_ZERO
                : dice < o->zero_percent + o->discard_percent ? WITNESS_DISCARD
                                                              : WITNESS_WRITE,
    };
    return op;
}

static int writer_send(Writer *w, WitnessOp *op)
{
    struct nbd_handle *nbd = w->nbd[op->disk];

    switch (op->kind) {
    case WITNESS_ZERO:
        return nbd_zero(nbd, op->bytes, op->offset,
                        witness_random(&w->random) % 2 ? LIBNBD_CMD_FLAG_NO_HOLE : 0);
    case WITNESS_DISCARD:
        return nbd_trim(nbd, op->bytes, op->offset, 0);
    default:
        for (uint64_t i = 0; i < op->bytes; i += WITNESS_SECTOR) {
            witness_sector(w->buffer + i, w->index, op->disk, w->count + 1, op->offset + i);
        }
        op->sent_ns = now_ns(); /* numbering the sectors took a while */
        return nbd_pwrite(nbd, w->buffer, op->bytes, op->offset, 0);
    }
}

static void writer_pace(const Writer *w, uint64_t start_ns)
{
    uint64_t due;
    struct timespec ts;

    if (!w->options->rate) {
        return;
    }
    due = start_ns + w->count * 1000000000 / w->options->rate;
    ts = (struct timespec){(time_t)(due / 1000000000), (long)(due % 1000000000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void *writer_run(void *opaque)
{
    Writer *w = opaque;
    uint64_t start_ns = now_ns();

    while (!stopping) {
        WitnessOp *op = writer_next(w);
        int r;

        op->sent_ns = now_ns(); /* W3 */
        r = writer_send(w, op);
        w->count++;
        if (r < 0) {
            snprintf(w->error, sizeof(w->error), "writer %u: %s", w->index, nbd_get_error());
            w->broken = true;
            break;
        }
        op->acked_ns = now_ns();
        if (op->acked_ns - op->sent_ns > w->longest_ns) {
            w->longest_ns = op->acked_ns - op->sent_ns;
        }
        atomic_fetch_add(&acked_total, 1);
        writer_pace(w, start_ns);
    }
    return NULL;
}

static void options_parse(Options *o, int argc, char **argv)
{
    static const struct option names[] = {
        {"log", 1, NULL, 'l'},       {"uri", 1, NULL, 'u'},     {"seed", 1, NULL, 's'},
        {"writers", 1, NULL, 'w'},   {"area", 1, NULL, 'a'},    {"bytes-max", 1, NULL, 'b'},
        {"zero", 1, NULL, 'z'},      {"discard", 1, NULL, 'd'}, {"rate", 1, NULL, 'r'},
        {"alternate", 0, NULL, 'A'}, {"survive", 0, NULL, 'S'}, {NULL, 0, NULL, 0},
    };
    int c;
    char *colon;

    *o = (Options){.writers = 1, .bytes_max = WRITE_BYTES_DEFAULT};
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (c) {
        case 'l':
            o->log = optarg;
            break;
        case 'u':
            if (o->disks == WITNESS_DISKS_MAX) {
                witness_die("more than %d disks", WITNESS_DISKS_MAX);
            }
            o->uris[o->disks++] = optarg;
            break;
        case 's':
            o->seed = witness_number("--seed", optarg);
            break;
        case 'w':
            o->writers = witness_number("--writers", optarg);
            break;
        case 'a':
            colon = strchr(optarg, ':');
            if (!colon) {
                witness_die("--area wants OFFSET:BYTES");
            }
            *colon = '\0';
            o->area_offset = witness_number("--area", optarg);
            o->area_bytes = witness_number("--area", colon + 1);
            break;
        case 'b':
            o->bytes_max = witness_number("--bytes-max", optarg);
            break;
        case 'z':
            o->zero_percent = witness_number("--zero", optarg);
            break;
        case 'd':
            o->discard_percent = witness_number("--discard", optarg);
            break;
        case 'r':
            o->rate = witness_number("--rate", optarg);
            break;
        case 'A':
            o->alternate = true;
            break;
        case 'S':
            o->survive = true;
            break;
        default:
            exit(1);
        }
    }
    if (!o->log || !o->disks || !o->writers || o->writers > WITNESS_WRITERS_MAX ||
        o->bytes_max < WITNESS_SECTOR || o->area_offset % WITNESS_SECTOR) {
        witness_die("usage: witness write --log FILE --uri URI [--uri URI...] [--seed N] "
                    "[--writers N] [--area OFFSET:BYTES] [--bytes-max N] [--zero PERCENT] "
                    "[--discard PERCENT] [--rate N] [--alternate] [--survive]");
    }
}

static void writer_connect(Writer *w, uint64_t *smallest)
{
    for (uint64_t i = 0; i < w->options->disks; i++) {
        int64_t size;

        w->nbd[i] = nbd_create();
        if (!w->nbd[i] || nbd_connect_uri(w->nbd[i], w->options->uris[i]) < 0) {
            witness_die("%s", nbd_get_error());
        }
        size = nbd_get_size(w->nbd[i]);
        if (size >= 0 && (uint64_t)size < *smallest) {
            *smallest = (uint64_t)size;
        }
    }
    w->buffer = malloc(w->options->bytes_max);
    if (!w->buffer) {
        witness_die("out of memory");
    }
}

static void log_save(const WitnessLog *log, const Writer *writers, const char *path)
{
    FILE *f = fopen(path, "wb");
    bool bad = !f || fwrite(log, WITNESS_LOG_HEAD, 1, f) != 1;

    for (uint64_t i = 0; !bad && i < log->writers; i++) {
        bad = fwrite(writers[i].ops, sizeof(WitnessOp), writers[i].count, f) != writers[i].count;
    }
    if (bad || fclose(f)) {
        witness_die("cannot write the log '%s': %s", path, strerror(errno));
    }
}

static void report_until_stdin_ends(void)
{
    struct pollfd in = {.fd = 0, .events = POLLIN};
    struct timespec pause = {0, (long)REPORT_NS};
    uint64_t last = UINT64_MAX;
    char byte;

    for (;;) {
        uint64_t total = acked_total;

        if (total != last) {
            printf("acked %" PRIu64 "\n", total);
            fflush(stdout);
            last = total;
        }
        if (ppoll(&in, 1, &pause, NULL) > 0 && read(0, &byte, 1) <= 0) {
            return;
        }
    }
}

static int finish(Writer *writers, WitnessLog *log, const Options *o)
{
    uint64_t longest = 0;
    bool broken = false;

    for (uint64_t i = 0; i < log->writers; i++) {
        Writer *w = &writers[i];

        pthread_join(w->thread, NULL);
        log->counts[i] = w->count;
        longest = w->longest_ns > longest ? w->longest_ns : longest;
        if (w->broken) {
            broken = true;
            fprintf(stderr, "witness: %s\n", w->error);
        }
    }
    log_save(log, writers, o->log);
    for (uint64_t i = 0; i < log->writers; i++) {
        for (uint64_t d = 0; d < o->disks; d++) {
            nbd_close(writers[i].nbd[d]);
        }
        free(writers[i].buffer);
        free(writers[i].ops);
    }
    printf("{\"acked\": %" PRIu64 ", \"longest_us\": %" PRIu64 ", \"broken\": %s}\n",
           (uint64_t)acked_total, longest / 1000, broken ? "true" : "false");
    return broken && !o->survive;
}

int witness_write(int argc, char **argv)
{
    static Writer writers[WITNESS_WRITERS_MAX];
    static WitnessLog log;
    Options o;
    uint64_t smallest = UINT64_MAX;

    options_parse(&o, argc, argv);
    for (uint64_t i = 0; i < o.writers; i++) {
        writers[i] = (Writer){
            .options = &o,
            .log = &log,
            .index = (uint32_t)i,
            .random = (o.seed + 1) * UINT64_C(0x9e3779b97f4a7c15) + (i + 1) * UINT64_C(0x85ebca6b),
        };
        writer_connect(&writers[i], &smallest);
    }
    if (!o.area_bytes) {
        o.area_bytes = smallest > o.area_offset ? smallest - o.area_offset : 0;
    }
    if (o.area_offset > smallest || o.area_bytes > smallest - o.area_offset) {
        witness_die("the area ends behind the disk");
    }
    log = (WitnessLog){
        .magic = WITNESS_LOG_MAGIC,
        .disks = o.disks,
        .writers = o.writers,
        .area_offset = o.area_offset,
        .area_bytes = o.area_bytes,
        .stripe_bytes = o.area_bytes / o.writers / WITNESS_SECTOR * WITNESS_SECTOR,
    };
    if (!log.stripe_bytes) {
        witness_die("the area is too small for %" PRIu64 " writers", o.writers);
    }
    for (uint64_t i = 0; i < o.writers; i++) {
        if (pthread_create(&writers[i].thread, NULL, writer_run, &writers[i])) {
            witness_die("cannot start a thread");
        }
    }
    report_until_stdin_ends();
    stopping = true;
    return finish(writers, &log, &o);
}
