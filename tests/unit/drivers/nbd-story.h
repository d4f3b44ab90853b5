/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of the nbd driver share: one server, short times, a node and its user. */
#ifndef TESTS_UNIT_DRIVERS_NBD_STORY_H
#define TESTS_UNIT_DRIVERS_NBD_STORY_H

#include "block/drivers/nbd/nbd-int.h"
#include "tests/lib/block-test.h"
#include "tests/unit/drivers/nbd-toy.h"

#define TOY_SIZE (16 * MiB)

/* Between two looks at what a thread of the server does; each has a deadline of its own. */
#define LOOK_NS     (1 * SCALE_MS)
#define DEADLINE_NS (60 * NANOSECONDS_PER_SECOND)

/* The server of the story; serves between begin and close (or end, where no node is left). */
extern ToyNbd toy;
void toy_begin(unsigned flags);
void toy_end(void);

/* Options of a node of it, with @more members; good until the next call. */
const char *toy_options(const char *more);
BlockDriverState *coroutine_fn toy_open(const char *more, BdrvChild **ret_user);
void coroutine_fn toy_close(BlockDriverState *bs, BdrvChild *user);
/* Until the server has come to @value. */
void coroutine_fn toy_wait(int *seen, int value);

/* Serve this one in place of the last; NULL: none. */
void toy_serve(ToyNbd *server);

/* nbd-outage.c, nbd-events.c, nbd-window.c */
void nbd_outage_tests(void);
void nbd_event_tests(void);
void nbd_window_tests(void);

#endif
