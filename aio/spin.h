/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spin.h - look at the ring for a while before sleeping; for this room's files only.  Chapter in spin.c. */
#ifndef AIO_SPIN_H
#define AIO_SPIN_H

#include <stdbool.h>
#include <stdint.h>

typedef struct AioSpin {
    int64_t burst_end; /* ns; spinning is allowed until then */
    int64_t next;      /* the earliest start of the next burst */
} AioSpin;

/*
 * aio_spin_wanted() - is this a time to spin rather than sleep?
 * @in_flight: requests whose completion could be seen
 *
 * Context: home thread, as for all of this.  May begin a burst.
 */
bool aio_spin_wanted(AioSpin *spin, int in_flight);

/*
 * aio_spin() - ask @seen(@opaque) again and again
 * @timeout_ns: not longer than this; -1: no limit of the caller's
 *
 * Neither sleeps nor makes a system call; bounded (P3).
 * Return: whether it was seen.
 */
bool aio_spin(AioSpin *spin, int64_t timeout_ns, bool (*seen)(void *opaque), void *opaque);

#endif
