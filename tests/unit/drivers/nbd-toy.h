/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An NBD server that tests command: a RAM disk, served by threads of the test, that can be slow, away,
 * another or plainly wrong.  All functions from the main thread; knobs may be turned while it serves.
 */
#ifndef TESTS_UNIT_DRIVERS_NBD_TOY_H
#define TESTS_UNIT_DRIVERS_NBD_TOY_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Transmission flags of the protocol. */
enum {
    TOY_HAS_FLAGS = 1 << 0,
    TOY_READ_ONLY = 1 << 1,
    TOY_FLUSH = 1 << 2,
    TOY_FUA = 1 << 3,
    TOY_TRIM = 1 << 5,
    TOY_ZEROES = 1 << 6,
    TOY_MULTI_CONN = 1 << 8,
    TOY_FAST_ZERO = 1 << 11,
    TOY_ALL = TOY_HAS_FLAGS | TOY_FLUSH | TOY_FUA | TOY_TRIM | TOY_ZEROES | TOY_MULTI_CONN |
              TOY_FAST_ZERO,
};
enum {
    TOY_CMD_READ,
    TOY_CMD_WRITE,
    TOY_CMD_DISC,
    TOY_CMD_FLUSH,
    TOY_CMD_TRIM,
    TOY_CMD_CACHE,
    TOY_CMD_ZERO,
    TOY_CMD_STATUS,
    TOY_CMD_MAX
};

typedef struct ToyNbd {
    /* Before toy_start(), or while nobody connects. */
    int64_t size;
    unsigned flags;
    uint32_t min_block, max_block; /* 0: not said */
    bool structured;

    /* Atomic knobs. */
    int silent;       /* takes what comes and answers nothing */
    int slow;         /* answers a byte now and then */
    int silent_hello; /* the same from the first byte on */
    int refuse_hello; /* closes what it has accepted */
    int lose_at; /* the connection is closed in place of the answer to the Nth request; 0: never, -1: always */
    int error;      /* NBD error for each answer but reads of status */
    int bad_status; /* 1: an empty extent, 2: one off the blocks, 3: far beyond the end */

    /* Atomic, seen. */
    int live, connected, requests, seen[TOY_CMD_MAX];
    int last_flags, longest, hellos;

    /* The server's. */
    char *path;
    uint8_t *disk;
    GMutex disk_lock; /* the threads of several connections share it */
    int64_t room;
    int listen_fd;
    GThread *acceptor;
    GMutex lock;
    GPtrArray *clients;
} ToyNbd;

/* Begin to serve at toy->path; the disk's contents stay over stop and start. */
void toy_start(ToyNbd *toy);
/* Close all connections and listen no more. */
void toy_stop(ToyNbd *toy);
/* Close all connections. */
void toy_kick(ToyNbd *toy);
void toy_free(ToyNbd *toy); /* stopped */

static inline int toy_get(int *knob)
{
    return __atomic_load_n(knob, __ATOMIC_SEQ_CST);
}

static inline void toy_set(int *knob, int value)
{
    __atomic_store_n(knob, value, __ATOMIC_SEQ_CST);
}

#endif
