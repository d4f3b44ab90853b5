/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drivers for tests of the open room, under names that the schema knows.
 *
 * "null-co": the end of a tree; latency-ns: TOY_REFUSE_OPEN and TOY_REFUSE_REOPEN make it fail.
 * "raw": has one child "file", which it shows unchanged; with size TOY_TWO_CHILDREN also the node "second".
 * "file", "host_device": a disk of one block that begins with the last part of its file name.
 * "nbd": has the server and the export that it was opened with as its file name.
 */
#ifndef TESTS_UNIT_OPEN_TOY_H
#define TESTS_UNIT_OPEN_TOY_H

#include "tests/lib/block-test.h"

enum { TOY_TWO_CHILDREN = 2048 };
enum { TOY_REFUSE_OPEN = 1, TOY_REFUSE_REOPEN = 2 };

typedef struct Toy {
    int64_t latency; /* as opened or reopened last */
    unsigned prepared, committed, aborted, flushes;
} Toy;

void toy_register(void);
Toy *toy_of(BlockDriverState *bs);
/* Calls of co_close so far. */
unsigned toy_closed(void);
unsigned toy_count_nodes(void);

void toy_expect_error(Error **errp, const char *part);

#endif
