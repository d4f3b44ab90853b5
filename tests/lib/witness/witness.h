/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * witness.h - what the three halves of the witness share: the log and the look of a sector
 *
 * Every sector a writer writes names its writer, the number of the write and its own place, and the
 * rest of it follows from those three.  A sector that is found later therefore says which write it
 * came from, and a torn or misplaced one says that it came from none.
 */
#ifndef TESTS_LIB_WITNESS_H
#define TESTS_LIB_WITNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The unit of every write: the smallest block a disk has, so every finer mistake shows. */
#define WITNESS_SECTOR      512
/* The writers of one run.  Each is a thread and a connection; more prove nothing further. */
#define WITNESS_WRITERS_MAX 64
/* The disks of one run: a transaction of more is no different. */
#define WITNESS_DISKS_MAX   8
/* The writer's number of a sector that `witness fill` made. */
#define WITNESS_FILLER      UINT32_MAX

typedef enum { WITNESS_WRITE, WITNESS_ZERO, WITNESS_DISCARD } WitnessKind;

/* One request of one writer.  Times are CLOCK_MONOTONIC in ns; acked 0: no answer came, or an error. */
typedef struct WitnessOp {
    uint64_t sent_ns;
    uint64_t acked_ns;
    uint64_t offset; /* bytes, a multiple of WITNESS_SECTOR */
    uint64_t bytes;  /* likewise */
    uint32_t disk;
    uint32_t kind; /* WitnessKind */
} WitnessOp;

/* The log of one run, in memory and (in this order, each array after its count) in the file. */
typedef struct WitnessLog {
    uint64_t magic;
    uint64_t disks;
    uint64_t writers;
    uint64_t area_offset; /* the bytes of every disk that are written to */
    uint64_t area_bytes;
    uint64_t stripe_bytes; /* writer w owns [area_offset + w * stripe_bytes, + stripe_bytes) */
    uint64_t counts[WITNESS_WRITERS_MAX];
    WitnessOp *ops[WITNESS_WRITERS_MAX]; /* op i of a writer is write number i + 1 */
} WitnessLog;

#define WITNESS_LOG_MAGIC UINT64_C(0x7769746e6c6f6731)
#define WITNESS_LOG_HEAD  offsetof(WitnessLog, ops)

/* Fills one sector as write @number of @writer leaves it at @offset of @disk. */
void witness_sector(uint8_t *sector, uint32_t writer, uint32_t disk, uint64_t number,
                    uint64_t offset);

/* Whether @sector is one that was written whole at this place; says by which write. */
bool witness_sector_parse(const uint8_t *sector, uint32_t disk, uint64_t offset,
                          uint32_t *ret_writer, uint64_t *ret_number);

/* Ends the program with one line on standard error. */
void witness_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Reads a number from the command line; dies on anything else. */
uint64_t witness_number(const char *option, const char *text);

/* The next number of a xorshift generator; *state must not be 0. */
uint64_t witness_random(uint64_t *state);

int witness_write(int argc, char **argv);
int witness_check(int argc, char **argv);

#endif
