/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share. */
#ifndef BLOCK_IMAGE_INT_H
#define BLOCK_IMAGE_INT_H

#include "block/image/image.h"

static inline bool image_is_cancelled(const ImageWatch *watch)
{
    return watch->is_cancelled && watch->is_cancelled(watch->opaque);
}

static inline void image_progress(const ImageWatch *watch, int64_t done, int64_t total)
{
    if (watch->progress) {
        watch->progress(watch->opaque, done, total);
    }
}

/* -ECANCELED, with its words. */
int image_cancelled(Error **errp);

/* Several coroutines of one thread, and one that waits until all have ended. */
typedef struct ImageTeam {
    unsigned running;
    Coroutine *waiter;
} ImageTeam;

/* Runs @member(@opaque) until it first yields; it is to call image_team_leave() as the last thing it does. */
void coroutine_fn image_team_start(ImageTeam *team, CoroutineEntry *member, void *opaque);
void coroutine_fn image_team_leave(ImageTeam *team);
void coroutine_fn image_team_wait(ImageTeam *team);

/*
 * image_equal_bytes() - how much of two buffers is the same
 *
 * Return: @bytes, if all; else where the first difference is, cut down to a sector counted from the start.
 */
int64_t image_equal_bytes(const uint8_t *a, const uint8_t *b, int64_t bytes);
/* The same against zeros. */
int64_t image_zero_bytes(const uint8_t *a, int64_t bytes);

#endif
