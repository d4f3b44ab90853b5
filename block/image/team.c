/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small things that all files of this room use: coroutines that work together, buffers compared, a cancel. */
#include <errno.h>
#include <string.h>
#include "block/image/image-int.h"
#include "util/osdep.h"

/* memcmp() tells no place: pieces of this are compared whole, and only the one that differs by sectors. */
#define COMPARE_STEP (64 * KiB)

int image_cancelled(Error **errp)
{
    error_setg(errp, "Interrupted");
    return -ECANCELED;
}

void coroutine_fn image_team_start(ImageTeam *team, CoroutineEntry *member, void *opaque)
{
    team->running++;
    qemu_coroutine_enter(qemu_coroutine_create(member, opaque));
}

void coroutine_fn image_team_leave(ImageTeam *team)
{
    assert(team->running > 0);
    if (--team->running == 0 && team->waiter) {
        aio_co_wake(team->waiter);
    }
}

void coroutine_fn image_team_wait(ImageTeam *team)
{
    while (team->running > 0) {
        team->waiter = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    team->waiter = NULL;
}

int64_t image_equal_bytes(const uint8_t *a, const uint8_t *b, int64_t bytes)
{
    int64_t step = COMPARE_STEP;

    for (int64_t pos = 0; pos < bytes; pos += step) {
        int64_t n = MIN(step, bytes - pos);

        if (memcmp(a + pos, b + pos, n) != 0) {
            if (step == BDRV_SECTOR_SIZE) {
                return pos;
            }
            step = BDRV_SECTOR_SIZE;
            pos -= step; /* the same piece again, by sectors */
        }
    }
    return bytes;
}

int64_t image_zero_bytes(const uint8_t *a, int64_t bytes)
{
    int64_t step = COMPARE_STEP;

    for (int64_t pos = 0; pos < bytes; pos += step) {
        if (!buffer_is_zero(a + pos, MIN(step, bytes - pos))) {
            if (step == BDRV_SECTOR_SIZE) {
                return pos;
            }
            step = BDRV_SECTOR_SIZE;
            pos -= step;
        }
    }
    return bytes;
}
