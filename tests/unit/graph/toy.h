/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * toy: a node without data for tests of the graph.  It has any children, counts what the graph asks of
 * it, and refuses permissions when told.
 */
#ifndef TESTS_UNIT_GRAPH_TOY_H
#define TESTS_UNIT_GRAPH_TOY_H

#include "tests/lib/block-test.h"

typedef struct Toy {
    bool refuse; /* check_perm fails */
    unsigned checks, sets, aborts;
    uint64_t perm, shared; /* as last set */
    int drained;
    AioContext *told;     /* of aio_context_changed */
    int64_t max_transfer; /* its limit; 0: none */
    int *ret_closed;      /* counted up at close; may be NULL */
    bool hold_close;      /* close waits for toy_release_close() */
    CoQueue close_queue;
} Toy;

/* One reference for the caller.  toy_new has backing files; toy_filter_new is a filter. */
BlockDriverState *toy_new(const char *node_name);
BlockDriverState *toy_filter_new(const char *node_name);
Toy *toy_of(BlockDriverState *bs);
void toy_release_close(BlockDriverState *bs);

/* A user with its own idea of what it shares; toy_co_user_free() it. */
BdrvChild *toy_user(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp);
void coroutine_fn toy_co_user_free(BdrvChild *user);
/* How often its node is quiesced now; how often it was told of a new length. */
int toy_user_drained(const BdrvChild *user);
int toy_user_resized(const BdrvChild *user);
/* Says that requests are still to come (true), or no longer. */
void toy_user_set_busy(BdrvChild *user, bool busy);
/* Where it was told that its node went; NULL: not told. */
AioContext *toy_user_context(const BdrvChild *user);
/* Refuse to follow from now on, with this reason. */
void toy_user_stay(BdrvChild *user, const char *reason);

/* bdrv_co_drained_begin(), bdrv_co_drained_end() beside the test. */
typedef struct ToyDrain ToyDrain;
ToyDrain *coroutine_fn toy_co_drain_start(BlockDriverState **list, size_t n);
bool toy_drain_begun(const ToyDrain *d);
/* Waits for the begin, ends it and frees. */
void coroutine_fn toy_co_drain_finish(ToyDrain *d);

void toy_expect_error(Error **errp, const char *part);

#endif
